//! Who may reuse what.

use exclave_model::{KeyId, LiveSet, RunId};

use super::*;
use crate::{CatalogError, RunState};

#[tokio::test]
async fn large_batches_answer_in_the_order_asked() {
    let catalog = Catalog::in_memory().await.unwrap();
    catalog.begin_run(&record(1)).await.unwrap();
    let notes: Vec<_> = (0..100).map(note).collect();
    catalog.note_stripes(run_id(1), &notes, 5).await.unwrap();
    let chunks: Vec<_> = (0..3000).map(|number| chunk(1, number / 30, number)).collect();
    catalog.insert_chunks(&chunks).await.unwrap();
    // Backwards, with strangers between and one id twice.
    let mut wanted: Vec<u32> = (0..3000)
        .rev()
        .flat_map(|number| [number, number + 1_000_000])
        .collect();
    wanted.push(17);
    let ids: Vec<_> = wanted.iter().copied().map(chunk_id).collect();
    let found = catalog.lookup(run_id(1), &ids).await.unwrap();
    let expected: Vec<_> = wanted
        .iter()
        .map(|number| chunks.get(*number as usize).copied())
        .collect();
    assert_eq!(found, expected);
    assert_eq!(catalog.lookup(run_id(1), &[]).await.unwrap(), []);
}

#[tokio::test]
async fn an_open_run_finds_its_own_stripes_and_others_wait_for_its_end() {
    for (end, visible) in [
        (None, 0),
        (Some(RunState::Committed), 10),
        (Some(RunState::Provisional), 10),
        (Some(RunState::Adopted), 10),
        (Some(RunState::Abandoned), 0),
    ] {
        let catalog = one_run().await;
        catalog.begin_run(&record(2)).await.unwrap();
        if let Some(state) = end {
            catalog.finish_run(run_id(1), state).await.unwrap();
        }
        assert_eq!(found_by(&catalog, 1).await, 10, "{end:?}");
        assert_eq!(found_by(&catalog, 2).await, visible, "{end:?}");
        let stripes = catalog.reusable_stripes(run_id(2), run_id(1)).await.unwrap();
        assert_eq!(stripes.len(), u64::from(visible > 0), "{end:?}");
    }
}

#[tokio::test]
async fn nothing_crosses_dataset_class_label_or_epoch() {
    let catalog = one_run().await;
    catalog.finish_run(run_id(1), RunState::Committed).await.unwrap();
    let strangers = [
        RunRecord {
            dataset: DatasetId::from_bytes([0; 16]),
            ..record(2)
        },
        RunRecord { class: 2, ..record(3) },
        RunRecord {
            label_digest: [2; 32],
            ..record(4)
        },
        RunRecord {
            crypto_epoch: 2,
            ..record(5)
        },
    ];
    for (stranger, number) in strangers.iter().zip(2..) {
        catalog.begin_run(stranger).await.unwrap();
        assert_eq!(found_by(&catalog, number).await, 0, "{stranger:?}");
        assert!(
            catalog
                .reusable_stripes(stranger.run, run_id(1))
                .await
                .unwrap()
                .is_empty()
        );
    }
    catalog.begin_run(&record(6)).await.unwrap();
    assert_eq!(found_by(&catalog, 6).await, 10);
}

#[tokio::test]
async fn chunks_of_a_stripe_that_is_not_durable_are_not_found() {
    let catalog = one_run().await;
    catalog.insert_chunks(&[chunk(1, 1, 500)]).await.unwrap();
    assert_eq!(catalog.lookup(run_id(1), &[chunk_id(500)]).await.unwrap(), [None]);
    catalog.note_stripes(run_id(1), &[note(1)], 5).await.unwrap();
    assert_eq!(
        catalog.lookup(run_id(1), &[chunk_id(500)]).await.unwrap(),
        [Some(chunk(1, 1, 500))]
    );
}

#[tokio::test]
async fn marks_hide_stripes_for_ever_and_in_any_order() {
    let catalog = one_run().await;
    assert_eq!(catalog.mark_stripes(run_id(1), &ordinals([0, 4])).await.unwrap(), 2);
    assert_eq!(catalog.mark_stripes(run_id(1), &ordinals([0])).await.unwrap(), 0);
    assert_eq!(catalog.mark_stripes(run_id(99), &ordinals([0])).await.unwrap(), 0);
    assert_eq!(found_by(&catalog, 1).await, 0);
    catalog.note_stripes(run_id(1), &[note(0), note(4)], 5).await.unwrap();
    catalog.insert_chunks(&[chunk(1, 4, 600)]).await.unwrap();
    assert_eq!(found_by(&catalog, 1).await, 0);
    assert_eq!(catalog.lookup(run_id(1), &[chunk_id(600)]).await.unwrap(), [None]);
    // Written anew into another stripe, the chunk is found there.
    catalog.note_stripes(run_id(1), &[note(5)], 5).await.unwrap();
    catalog.insert_chunks(&[chunk(1, 5, 0)]).await.unwrap();
    assert_eq!(found_by(&catalog, 1).await, 1);
}

#[tokio::test]
async fn exclusions_hold_for_runs_that_come_later_too() {
    let catalog = one_run().await;
    catalog.finish_run(run_id(1), RunState::Committed).await.unwrap();
    catalog.begin_run(&record(2)).await.unwrap();

    catalog.exclude_runs_before(DATASET, 1001).await.unwrap();
    assert_eq!(found_by(&catalog, 2).await, 10, "began exactly then");
    catalog.exclude_runs_before(DATASET, 1002).await.unwrap();
    catalog.exclude_runs_before(DATASET, 3).await.unwrap();
    assert_eq!(found_by(&catalog, 2).await, 0);

    let catalog = one_run().await;
    catalog.finish_run(run_id(1), RunState::Committed).await.unwrap();
    catalog.begin_run(&record(2)).await.unwrap();
    catalog.exclude_writer(KeyId::from_bytes([3; 32])).await.unwrap();
    assert_eq!(found_by(&catalog, 2).await, 10, "another writer");
    catalog
        .begin_run(&RunRecord {
            writer: KeyId::from_bytes([3; 32]),
            ..record(3)
        })
        .await
        .unwrap();
    assert!(catalog.run(run_id(3)).await.unwrap().unwrap().excluded);
    catalog.exclude_run(run_id(1)).await.unwrap();
    assert_eq!(found_by(&catalog, 2).await, 0);
    assert!(matches!(
        catalog.exclude_run(run_id(77)).await,
        Err(CatalogError::UnknownRun(_))
    ));
}

#[tokio::test]
async fn a_forgotten_run_leaves_nothing_that_can_be_found() {
    let catalog = one_run().await;
    catalog.finish_run(run_id(1), RunState::Committed).await.unwrap();
    let notes: Vec<_> = (1..2500).map(note).collect();
    catalog.note_stripes(run_id(1), &notes, 5).await.unwrap();
    catalog.begin_run(&record(2)).await.unwrap();
    catalog.note_stripes(run_id(2), &[note(0)], 5).await.unwrap();
    catalog.insert_chunks(&[chunk(2, 0, 3)]).await.unwrap();

    assert!(catalog.forget_run(run_id(1)).await.unwrap());
    assert!(!catalog.forget_run(run_id(1)).await.unwrap());
    assert_eq!(found_by(&catalog, 2).await, 1, "its own copy stays");
    assert_eq!(catalog.run(run_id(1)).await.unwrap(), None);
    // A new run must not inherit the number, and with it the rows, of the old one.
    catalog.begin_run(&record(1)).await.unwrap();
    catalog.note_stripes(run_id(1), &[note(0)], 5).await.unwrap();
    assert_eq!(found_by(&catalog, 1).await, 0);
    assert_eq!(catalog.sweep_chunks().await.unwrap(), 9);
    assert_eq!(found_by(&catalog, 2).await, 1);
}

#[tokio::test]
async fn sweeping_goes_over_many_steps() {
    let catalog = Catalog::in_memory().await.unwrap();
    for (run, first) in [(1, 0), (2, 10_000)] {
        catalog.begin_run(&record(run)).await.unwrap();
        catalog.note_stripes(run_id(run), &[note(0)], 5).await.unwrap();
        let chunks: Vec<_> = (first..first + 10_000).map(|number| chunk(run, 0, number)).collect();
        catalog.insert_chunks(&chunks).await.unwrap();
    }
    catalog.forget_run(run_id(1)).await.unwrap();
    assert_eq!(catalog.sweep_chunks().await.unwrap(), 10_000);
    assert_eq!(catalog.sweep_chunks().await.unwrap(), 0);
    let ids: Vec<_> = (0..20_000).map(chunk_id).collect();
    assert_eq!(
        catalog.lookup(run_id(2), &ids).await.unwrap().iter().flatten().count(),
        10_000
    );
}

#[tokio::test]
async fn runs_begin_once_and_end_lawfully() {
    let catalog = one_run().await;
    catalog.begin_run(&record(1)).await.unwrap();
    let other = RunRecord {
        crypto_epoch: 9,
        ..record(1)
    };
    assert!(matches!(
        catalog.begin_run(&other).await,
        Err(CatalogError::RunDiffers(_))
    ));
    assert_eq!(catalog.open_runs(record(1).incarnation).await.unwrap().len(), 1);
    catalog.finish_run(run_id(1), RunState::Provisional).await.unwrap();
    catalog.finish_run(run_id(1), RunState::Committed).await.unwrap();
    catalog.finish_run(run_id(1), RunState::Committed).await.unwrap();
    let back = catalog.finish_run(run_id(1), RunState::Abandoned).await;
    assert!(matches!(back, Err(CatalogError::BadTransition { .. })), "{back:?}");
    assert_eq!(catalog.open_runs(record(1).incarnation).await.unwrap(), []);
    catalog.begin_run(&record(2)).await.unwrap();
    let listed: Vec<RunId> = catalog
        .runs(DATASET, 0, 10)
        .await
        .unwrap()
        .iter()
        .map(|run| run.record.run)
        .collect();
    assert_eq!(listed, [run_id(2), run_id(1)]);
    assert!(matches!(
        catalog.lookup(run_id(3), &[chunk_id(0)]).await,
        Err(CatalogError::UnknownRun(_))
    ));
    assert!(matches!(
        catalog.insert_chunks(&[chunk(3, 0, 0)]).await,
        Err(CatalogError::UnknownRun(_))
    ));
}

#[tokio::test]
async fn reusable_stripes_leave_out_what_is_marked() {
    let catalog = one_run().await;
    let notes: Vec<_> = (0..100).map(note).collect();
    catalog.note_stripes(run_id(1), &notes, 5).await.unwrap();
    catalog.mark_stripes(run_id(1), &ordinals([3, 50])).await.unwrap();
    let expected: LiveSet = ordinals((0..100).filter(|ordinal| ![3, 50].contains(ordinal)));
    assert_eq!(catalog.reusable_stripes(run_id(1), run_id(1)).await.unwrap(), expected);
    assert_eq!(
        catalog.reusable_stripes(run_id(1), run_id(9)).await.unwrap(),
        LiveSet::new()
    );
}
