//! The file: who may read it, what is refused, what a crash leaves.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use sqlx::{Connection as _, SqliteConnection};
use tempfile::TempDir;

use super::*;
use crate::{CatalogError, RunState};

async fn open(folder: &TempDir) -> Result<Catalog, CatalogError> {
    Catalog::open(&folder.path().join("catalog.db")).await
}

async fn plain_connection(path: &Path) -> SqliteConnection {
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true);
    SqliteConnection::connect_with(&options).await.unwrap()
}

#[tokio::test]
async fn file_and_log_are_private() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("catalog.db");
    fs::write(&path, b"").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let catalog = open(&folder).await.unwrap();
    catalog.begin_run(&record(1)).await.unwrap();
    let mut names = Vec::new();
    for entry in fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(
            entry.metadata().unwrap().permissions().mode() & 0o777,
            0o600,
            "{entry:?}"
        );
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(names, ["catalog.db", "catalog.db-shm", "catalog.db-wal"]);
    catalog.close().await;
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        1,
        "closing folds the log in"
    );
}

#[tokio::test]
async fn what_was_committed_outlives_a_crash_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let crashed = TempDir::new().unwrap();
    let catalog = open(&folder).await.unwrap();
    catalog.begin_run(&record(1)).await.unwrap();
    catalog.note_stripes(run_id(1), &[note(0)], 5).await.unwrap();
    catalog.insert_chunks(&[chunk(1, 0, 0)]).await.unwrap();
    let mut transaction = catalog.write().await.unwrap();
    sqlx::query("DELETE FROM chunks")
        .execute(&mut *transaction)
        .await
        .unwrap();
    sqlx::query("DELETE FROM stripes")
        .execute(&mut *transaction)
        .await
        .unwrap();
    // What a killed process leaves: file and log as they are now. The shared memory file is never trusted then.
    for name in ["catalog.db", "catalog.db-wal"] {
        fs::copy(folder.path().join(name), crashed.path().join(name)).unwrap();
    }
    drop(transaction);
    assert_eq!(found_by(&catalog, 1).await, 1, "dropped means undone");
    drop(catalog);
    for place in [&folder, &crashed] {
        let reopened = open(place).await.unwrap();
        assert_eq!(found_by(&reopened, 1).await, 1);
        reopened.verify().await.unwrap();
    }
}

#[tokio::test]
async fn a_log_cut_anywhere_leaves_whole_transactions() {
    let folder = TempDir::new().unwrap();
    let catalog = open(&folder).await.unwrap();
    catalog.begin_run(&record(1)).await.unwrap();
    catalog.note_stripes(run_id(1), &[note(0)], 5).await.unwrap();
    for number in 0..5 {
        catalog
            .insert_chunks(&[chunk(1, 0, number * 2), chunk(1, 0, number * 2 + 1)])
            .await
            .unwrap();
    }
    let (file, log) = (folder.path().join("catalog.db"), folder.path().join("catalog.db-wal"));
    let whole = fs::read(&log).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for at in 0..40 {
        let cut = TempDir::new().unwrap();
        fs::copy(&file, cut.path().join("catalog.db")).unwrap();
        fs::write(cut.path().join("catalog.db-wal"), &whole[..whole.len() - at * 2000]).unwrap();
        let reopened = open(&cut).await.unwrap();
        let found = match reopened.run(run_id(1)).await.unwrap() {
            Some(_) => found_by(&reopened, 1).await,
            None => 0,
        };
        assert!(found.is_multiple_of(2), "{found} chunks of a transaction of two");
        seen.insert(found);
    }
    assert!(
        seen.contains(&10) && seen.contains(&0),
        "the cuts reach from end to start: {seen:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_never_wait_for_the_writer_nor_see_half_of_a_batch() {
    let folder = TempDir::new().unwrap();
    let catalog = open(&folder).await.unwrap();
    catalog.begin_run(&record(1)).await.unwrap();
    catalog.note_stripes(run_id(1), &[note(0)], 5).await.unwrap();
    let writer = tokio::spawn({
        let catalog = catalog.clone();
        async move {
            for batch in 0..20 {
                let chunks: Vec<_> = (batch * 1000..(batch + 1) * 1000)
                    .map(|number| chunk(1, 0, number))
                    .collect();
                catalog.insert_chunks(&chunks).await.unwrap();
            }
        }
    });
    let ids: Vec<_> = (0..20_000).step_by(40).map(chunk_id).collect();
    let mut last = 0;
    while last < ids.len() {
        let found = catalog.lookup(run_id(1), &ids).await.unwrap().iter().flatten().count();
        assert!(
            found >= last && found.is_multiple_of(25),
            "{found} after {last}: 25 ids of each batch are asked for"
        );
        last = found;
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
    // While a writer holds its lock, reading goes on.
    let held = catalog.write().await.unwrap();
    assert_eq!(
        catalog.lookup(run_id(1), &ids).await.unwrap().iter().flatten().count(),
        ids.len()
    );
    drop(held);
}

#[tokio::test]
async fn two_processes_open_one_file() {
    let folder = TempDir::new().unwrap();
    let (left, right) = tokio::join!(open(&folder), open(&folder));
    let (left, right) = (left.unwrap(), right.unwrap());
    left.begin_run(&record(1)).await.unwrap();
    right.finish_run(run_id(1), RunState::Committed).await.unwrap();
    assert_eq!(left.run(run_id(1)).await.unwrap().unwrap().state, RunState::Committed);
}

#[tokio::test]
async fn garbage_and_other_databases_are_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("catalog.db");
    fs::write(&path, [0x5A; 8192]).unwrap();
    let error = open(&folder).await.unwrap_err();
    assert!(matches!(error, CatalogError::NotACatalog { .. }), "{error:?}");
    assert!(error.to_string().contains("costs only time"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), [0x5A; 8192], "and left alone");

    fs::remove_file(&path).unwrap();
    let mut other = plain_connection(&path).await;
    sqlx::raw_sql("CREATE TABLE recipes (name TEXT)")
        .execute(&mut other)
        .await
        .unwrap();
    other.close().await.unwrap();
    let error = open(&folder).await.unwrap_err();
    assert!(matches!(error, CatalogError::NotACatalog { .. }), "{error:?}");
}

#[tokio::test]
async fn a_newer_schema_is_refused_with_a_hint() {
    let folder = TempDir::new().unwrap();
    open(&folder).await.unwrap().close().await;
    let path = folder.path().join("catalog.db");
    let mut newer = plain_connection(&path).await;
    sqlx::query("INSERT INTO catalog_schema (version) VALUES (99)")
        .execute(&mut newer)
        .await
        .unwrap();
    newer.close().await.unwrap();
    let error = open(&folder).await.unwrap_err();
    assert!(
        matches!(error, CatalogError::NewerSchema { found: 99, .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("exclave catalog rebuild"), "{error}");
}

#[tokio::test]
async fn damage_inside_is_typed_and_never_a_panic() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("catalog.db");
    let catalog = open(&folder).await.unwrap();
    catalog.begin_run(&record(1)).await.unwrap();
    catalog.note_stripes(run_id(1), &[note(0)], 5).await.unwrap();
    let chunks: Vec<_> = (0..2000).map(|number| chunk(1, 0, number)).collect();
    catalog.insert_chunks(&chunks).await.unwrap();
    catalog.verify().await.unwrap();
    catalog.close().await;
    let mut bytes = fs::read(&path).unwrap();
    let from = 40 * 4096;
    bytes[from..].fill(0xEE);
    fs::write(&path, &bytes).unwrap();
    let catalog = open(&folder).await.unwrap();
    assert!(matches!(catalog.verify().await, Err(CatalogError::Damaged { .. })));
    let ids: Vec<_> = (0..2000).map(chunk_id).collect();
    let error = catalog.lookup(run_id(1), &ids).await.unwrap_err();
    assert!(matches!(error, CatalogError::Damaged { .. }), "{error:?}");
    assert!(error.to_string().contains("costs only time"), "{error}");
}

#[tokio::test]
async fn values_out_of_their_law_are_damage() {
    for text in [
        "UPDATE chunks SET codec = 9",
        "UPDATE chunks SET stored = -1",
        "UPDATE chunks SET raw = 99999999",
        "UPDATE chunks SET ordinal = 4294967296",
        // These are lawful, and lead to the wrong bytes.
        "UPDATE chunks SET start = start + 1",
        "UPDATE chunks SET stored = stored - 1",
        "UPDATE chunks SET sum = sum + 1",
        "UPDATE runs SET run = x'01'",
    ] {
        let catalog = one_run().await;
        if text.contains("ordinal") {
            sqlx::query("UPDATE stripes SET ordinal = 4294967296")
                .execute(catalog.writer())
                .await
                .unwrap();
        }
        sqlx::query(text).execute(catalog.writer()).await.unwrap();
        let found = match catalog.lookup(run_id(1), &[chunk_id(0)]).await {
            Err(CatalogError::UnknownRun(_)) => catalog
                .debts(None, 1)
                .await
                .map(|_| ())
                .and(catalog.runs(DATASET, 0, 9).await.map(|_| ())),
            other => other.map(|_| ()),
        };
        assert!(matches!(found, Err(CatalogError::Damaged { .. })), "{text}: {found:?}");
    }
}

#[tokio::test]
async fn a_full_disk_is_typed_and_undoes_the_batch() {
    let folder = TempDir::new().unwrap();
    let catalog = open(&folder).await.unwrap();
    catalog.begin_run(&record(1)).await.unwrap();
    catalog.note_stripes(run_id(1), &[note(0)], 5).await.unwrap();
    // SQLite's own limit fails where a full disk does, with the same code.
    sqlx::raw_sql("PRAGMA max_page_count = 60")
        .execute(catalog.writer())
        .await
        .unwrap();
    let chunks: Vec<_> = (0..20_000).map(|number| chunk(1, 0, number)).collect();
    let error = catalog.insert_chunks(&chunks).await.unwrap_err();
    assert!(matches!(error, CatalogError::Full { .. }), "{error:?}");
    assert_eq!(found_by(&catalog, 1).await, 0);
    sqlx::raw_sql("PRAGMA max_page_count = 100000")
        .execute(catalog.writer())
        .await
        .unwrap();
    catalog.insert_chunks(&chunks).await.unwrap();
    assert_eq!(found_by(&catalog, 1).await, 10);
}

#[tokio::test]
async fn a_folder_that_can_not_be_written_is_an_error() {
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o500)).unwrap();
    // An administrator may write anyway; the kernel's own tree refuses even him.
    let privileged = fs::write(folder.path().join("probe"), b"").is_ok();
    let place = if privileged {
        Path::new("/proc/self/task")
    } else {
        folder.path()
    };
    let error = Catalog::open(&place.join("catalog.db")).await.unwrap_err();
    let typed = matches!(error, CatalogError::ReadOnly { .. } | CatalogError::Unreachable { .. });
    assert!(
        typed && (privileged || matches!(error, CatalogError::ReadOnly { .. })),
        "{error:?}"
    );
    let error = Catalog::open(&folder.path().join("missing/catalog.db"))
        .await
        .unwrap_err();
    assert!(matches!(error, CatalogError::Unreachable { .. }), "{error:?}");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
}

#[tokio::test]
async fn clearing_forgets_everything_and_goes_on() {
    let folder = TempDir::new().unwrap();
    let catalog = open(&folder).await.unwrap();
    catalog.begin_run(&record(1)).await.unwrap();
    catalog.note_stripes(run_id(1), &[note(0)], 5).await.unwrap();
    let chunks: Vec<_> = (0..5000).map(|number| chunk(1, 0, number)).collect();
    catalog.insert_chunks(&chunks).await.unwrap();
    let before = catalog.stats().await.unwrap();
    let rows = |stats: &crate::Stats, name| stats.tables.iter().find(|table| table.table == name).unwrap().rows;
    assert_eq!(
        (
            rows(&before, "chunks"),
            rows(&before, "stripes"),
            rows(&before, "receipts")
        ),
        (5000, 1, 2)
    );
    catalog.clear().await.unwrap();
    let after = catalog.stats().await.unwrap();
    assert!(after.tables.iter().all(|table| table.rows == 0));
    assert!(after.file_bytes < before.file_bytes);
    assert!(matches!(
        catalog.lookup(run_id(1), &[chunk_id(0)]).await,
        Err(CatalogError::UnknownRun(_))
    ));
    catalog.begin_run(&record(1)).await.unwrap();
    catalog.note_stripes(run_id(1), &[note(0)], 5).await.unwrap();
    catalog.insert_chunks(&chunks).await.unwrap();
    assert_eq!(found_by(&catalog, 1).await, 10);
    catalog.verify().await.unwrap();
}

/// A plan that reads a whole table would make every look-up as slow as the catalog is large.
#[tokio::test]
async fn look_ups_go_through_the_index() {
    let catalog = one_run().await;
    let text = crate::chunk::lookup_text(512);
    let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {text}")))
        .fetch_all(catalog.readers())
        .await
        .unwrap();
    let steps: Vec<_> = plan.iter().map(|step| step.3.as_str()).collect();
    assert!(
        steps[0].starts_with("SEARCH c USING PRIMARY KEY (scope=? AND id=?)"),
        "{steps:?}"
    );
    assert!(steps.iter().all(|step| !step.starts_with("SCAN")), "{steps:?}");
}
