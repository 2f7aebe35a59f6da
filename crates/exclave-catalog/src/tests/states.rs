//! File states: order, long entries, and swaps of generations.

use exclave_model::EntryPath;

use super::*;
use crate::{CatalogError, ENTRY_BYTES_MAX, FileState};

fn state(path: &[u8], entry: Vec<u8>) -> FileState {
    let path = EntryPath::parse(path).unwrap();
    FileState {
        path,
        size: u64::MAX,
        mtime_ns: -1,
        ctime_ns: i64::MAX,
        inode: u64::MAX - 1,
        device: 3,
        entry,
    }
}

async fn read_all(catalog: &Catalog, page: usize) -> Vec<FileState> {
    let mut cursor = catalog.states(DATASET).await.unwrap();
    let mut all = Vec::new();
    loop {
        let states = cursor.next_page(page).await.unwrap();
        assert!(states.len() <= page);
        if states.is_empty() {
            return all;
        }
        all.extend(states);
    }
}

async fn write(catalog: &Catalog, run: u8, states: &[FileState]) {
    let mut writer = catalog.write_states(DATASET, run_id(run)).await.unwrap();
    writer.push(states).await.unwrap();
    writer.commit().await.unwrap();
}

#[tokio::test]
async fn states_come_back_in_the_order_of_a_walk() {
    let catalog = Catalog::in_memory().await.unwrap();
    let paths: [&[u8]; 14] = [
        b"",
        b"a",
        b"a/b",
        b"a/b/c",
        b"a/\xff\xfe",
        b"a\x01",
        b"a b",
        b"a-",
        b"a.b",
        b"a.b/x",
        b"a0",
        b"b",
        b"\xc3\x28/z",
        b"\xff",
    ];
    let sorted: Vec<_> = paths.iter().map(|path| state(path, path.to_vec())).collect();
    assert!(
        sorted.is_sorted_by(|left, right| left.path < right.path),
        "the order of the model"
    );
    let mut writer = catalog.write_states(DATASET, run_id(1)).await.unwrap();
    let mut mixed = sorted.clone();
    mixed.reverse();
    mixed.swap(2, 9);
    for batch in mixed.chunks(3) {
        writer.push(batch).await.unwrap();
    }
    writer.commit().await.unwrap();
    for page in [1, 2, 5, 1000] {
        assert_eq!(read_all(&catalog, page).await, sorted, "pages of {page}");
    }
    assert_eq!(catalog.states(DATASET).await.unwrap().run(), Some(run_id(1)));
    assert_eq!(
        catalog.states(DatasetId::from_bytes([0; 16])).await.unwrap().run(),
        None
    );
}

#[tokio::test]
async fn long_entries_are_split_and_joined() {
    let catalog = Catalog::in_memory().await.unwrap();
    let long = |byte: u8, bytes: usize| (0..bytes).map(|at| (at / 1000) as u8 ^ byte).collect::<Vec<_>>();
    let states = [
        state(b"a", Vec::new()),
        state(b"b", long(1, 64 << 10)),
        state(b"b/c", long(2, (64 << 10) + 1)),
        state(b"d", long(3, 20 << 20)),
        state(b"e", long(4, 5)),
    ];
    write(&catalog, 1, &states).await;
    for page in [1, 2, 100] {
        assert!(read_all(&catalog, page).await == states, "pages of {page}");
    }
    let mut cursor = catalog.states(DATASET).await.unwrap();
    for expected in [3, 1, 1, 0] {
        let page = cursor.next_page(100).await.unwrap();
        assert_eq!(page.len(), expected, "a page ends when it is heavy");
    }

    let mut writer = catalog.write_states(DATASET, run_id(2)).await.unwrap();
    let too_long = state(b"x", vec![0; ENTRY_BYTES_MAX + 1]);
    assert!(matches!(
        writer.push(&[too_long]).await,
        Err(CatalogError::EntryTooLong { .. })
    ));
    writer.abandon().await.unwrap();
}

#[tokio::test]
async fn a_state_that_decayed_is_damage() {
    for text in [
        "UPDATE states SET size = size + 1",
        "UPDATE states SET modified_ns = modified_ns - 1",
        "UPDATE states SET inode = inode + 1",
        "UPDATE states SET path = x'62'",
        "UPDATE states SET entry = x'02'",
        "UPDATE states SET sum = sum + 1",
    ] {
        let catalog = Catalog::in_memory().await.unwrap();
        write(&catalog, 1, &[state(b"a", vec![1])]).await;
        sqlx::query(text).execute(catalog.writer()).await.unwrap();
        let page = catalog.states(DATASET).await.unwrap().next_page(10).await;
        assert!(matches!(page, Err(CatalogError::Damaged { .. })), "{text}: {page:?}");
    }
}

#[tokio::test]
async fn rows_from_before_there_were_sums_are_read() {
    let catalog = Catalog::in_memory().await.unwrap();
    let states = [state(b"a", vec![1; 150 << 10]), state(b"b", vec![2])];
    write(&catalog, 1, &states).await;
    sqlx::query("UPDATE states SET sum = NULL")
        .execute(catalog.writer())
        .await
        .unwrap();
    assert!(read_all(&catalog, 10).await == states);
}

#[tokio::test]
async fn a_lost_part_of_a_long_entry_is_damage() {
    for lost in ["part = 0", "part = 1", "part = 2"] {
        let catalog = Catalog::in_memory().await.unwrap();
        write(&catalog, 1, &[state(b"a", vec![1; 150 << 10]), state(b"b", vec![2])]).await;
        let text = sqlx::AssertSqlSafe(format!("DELETE FROM states WHERE parts = 3 AND {lost}"));
        sqlx::query(text).execute(catalog.writer()).await.unwrap();
        let page = catalog.states(DATASET).await.unwrap().next_page(10).await;
        assert!(matches!(page, Err(CatalogError::Damaged { .. })), "{lost}: {page:?}");
    }
    let catalog = Catalog::in_memory().await.unwrap();
    write(&catalog, 1, &[state(b"a", vec![1; 150 << 10])]).await;
    sqlx::query("DELETE FROM states WHERE part = 2")
        .execute(catalog.writer())
        .await
        .unwrap();
    let page = catalog.states(DATASET).await.unwrap().next_page(10).await;
    assert!(
        matches!(page, Err(CatalogError::Damaged { .. })),
        "at the end: {page:?}"
    );
}

#[tokio::test]
async fn a_generation_replaces_the_old_one_whole_or_not_at_all() {
    let catalog = Catalog::in_memory().await.unwrap();
    let old: Vec<_> = (0..2500)
        .map(|at| state(format!("old/{at:05}").as_bytes(), vec![1]))
        .collect();
    write(&catalog, 1, &old).await;

    let mut writer = catalog.write_states(DATASET, run_id(2)).await.unwrap();
    writer.push(&[state(b"new", vec![2])]).await.unwrap();
    assert_eq!(read_all(&catalog, 1000).await, old, "not committed yet");
    writer.abandon().await.unwrap();
    assert_eq!(read_all(&catalog, 1000).await, old, "abandoned");

    let mut cursor = catalog.states(DATASET).await.unwrap();
    assert_eq!(cursor.next_page(10).await.unwrap(), old[..10]);
    let new = [state(b"new", vec![3])];
    write(&catalog, 3, &new).await;
    assert_eq!(read_all(&catalog, 1000).await, new);
    let mixed = cursor.next_page(10).await;
    assert!(
        matches!(mixed, Err(CatalogError::StatesReplaced(run)) if run == run_id(1)),
        "{mixed:?}"
    );
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM states")
        .fetch_one(catalog.readers())
        .await
        .unwrap();
    assert_eq!(left, 1, "old generations are deleted");
}

#[tokio::test]
async fn the_newer_writer_wins_and_one_path_stands_once() {
    let catalog = Catalog::in_memory().await.unwrap();
    let mut dead = catalog.write_states(DATASET, run_id(1)).await.unwrap();
    dead.push(&[state(b"a", vec![1])]).await.unwrap();
    let mut writer = catalog.write_states(DATASET, run_id(2)).await.unwrap();
    assert!(matches!(
        dead.push(&[state(b"b", vec![1])]).await,
        Err(CatalogError::StatesReplaced(_))
    ));
    assert!(matches!(dead.commit().await, Err(CatalogError::StatesReplaced(_))));
    writer.push(&[state(b"a", vec![2])]).await.unwrap();
    assert!(matches!(
        writer.push(&[state(b"a", vec![3])]).await,
        Err(CatalogError::StateTwice)
    ));
    writer.commit().await.unwrap();
    assert_eq!(read_all(&catalog, 10).await, [state(b"a", vec![2])]);
}
