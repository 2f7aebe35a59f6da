//! Receipts, health, debts and heads.

use exclave_model::{Counts, RecordHash, SnapshotState};

use super::*;
use crate::{CatalogError, ChainTip, Debt, Owed, Snapshot, StripeHealth};

#[tokio::test]
async fn shards_count_as_seen_only_while_that_is_fresh() {
    let catalog = one_run().await;
    catalog.note_stripes(run_id(1), &[note(1), note(2)], 5).await.unwrap();
    assert_eq!(
        catalog
            .set_seen(run_id(1), &ordinals([0, 1, 7]), SITE, 100)
            .await
            .unwrap(),
        2
    );
    assert_eq!(
        catalog.set_seen(run_id(1), &ordinals([0]), SITE, 50).await.unwrap(),
        0,
        "time does not go back"
    );
    let health = catalog.stripe_health(run_id(1), 0..10, 60).await.unwrap();
    let of = |ordinal, seen| StripeHealth {
        ordinal,
        verified: 2,
        seen,
        oldest_seen: Some(5),
        marked: false,
    };
    assert_eq!(health, [of(0, 1), of(1, 1), of(2, 0)]);
    assert_eq!(catalog.stripe_health(run_id(1), 1..2, 0).await.unwrap(), [of(1, 2)]);
    let receipts = catalog.receipts(run_id(1), 1..2).await.unwrap();
    assert_eq!(receipts, [(1, receipt(0, SITE, 100)), (1, receipt(1, OTHER_SITE, 5))]);
}

#[tokio::test]
async fn what_a_listing_does_not_show_is_owed_and_no_longer_verified() {
    let catalog = one_run().await;
    catalog
        .note_stripes(run_id(1), &[note(0), note(1), note(2)], 5)
        .await
        .unwrap();
    assert_eq!(catalog.forget_sightings(SITE).await.unwrap(), 3);
    assert_eq!(catalog.forget_sightings(SITE).await.unwrap(), 0);
    let health = catalog.stripe_health(run_id(1), 0..10, 1).await.unwrap();
    assert_eq!(health.iter().map(|stripe| stripe.seen).collect::<Vec<_>>(), [1, 1, 1]);

    let missing = ordinals([0, 1, 7]);
    assert_eq!(catalog.shards_missing(run_id(1), &missing, SITE, 60).await.unwrap(), 2);
    assert_eq!(
        catalog.shards_missing(run_id(1), &missing, SITE, 90).await.unwrap(),
        0,
        "what is owed is owed once"
    );
    let debts = catalog.debts(None, 10).await.unwrap();
    let told: Vec<_> = debts
        .iter()
        .map(|debt| (debt.ordinal, debt.index, debt.site, debt.since))
        .collect();
    assert_eq!(told, [(0, 0, SITE, 60), (1, 0, SITE, 60)]);
    let health = catalog.stripe_health(run_id(1), 0..10, 0).await.unwrap();
    let told: Vec<_> = health.iter().map(|stripe| (stripe.verified, stripe.seen)).collect();
    assert_eq!(told, [(1, 1), (1, 1), (2, 2)]);
    assert_eq!(catalog.receipts(run_id(1), 0..1).await.unwrap().len(), 1);
}

#[tokio::test]
async fn marked_and_unknown_stripes_are_told_apart_in_health() {
    let catalog = one_run().await;
    catalog.mark_stripes(run_id(1), &ordinals([0, 3])).await.unwrap();
    let health = catalog.stripe_health(run_id(1), 0..10, 0).await.unwrap();
    assert_eq!(health.len(), 1, "stripe 3 is not durable");
    assert!(health[0].marked);
    assert!(matches!(
        catalog.stripe_health(run_id(5), 0..1, 0).await,
        Err(CatalogError::UnknownRun(_))
    ));
}

#[tokio::test]
async fn debts_are_paged_counted_and_paid() {
    let catalog = one_run().await;
    let owed = |index, site| Owed { index, site };
    for ordinal in 0..5 {
        catalog
            .owe(run_id(1), ordinal, &[owed(2, SITE), owed(3, OTHER_SITE)], 40)
            .await
            .unwrap();
    }
    catalog.owe(run_id(1), 4, &[owed(2, OTHER_SITE)], 90).await.unwrap();
    let counts = catalog.debt_counts().await.unwrap();
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), [(OTHER_SITE, 6), (SITE, 4)]);

    let mut all = Vec::new();
    loop {
        let page = catalog.debts(all.last(), 3).await.unwrap();
        if page.is_empty() {
            break;
        }
        all.extend(page);
    }
    let places: Vec<_> = all.iter().map(|debt| (debt.ordinal, debt.index)).collect();
    assert_eq!(
        places,
        (0..5)
            .flat_map(|ordinal| [(ordinal, 2), (ordinal, 3)])
            .collect::<Vec<_>>()
    );
    assert_eq!(
        all[8],
        Debt {
            run: run_id(1),
            ordinal: 4,
            index: 2,
            site: OTHER_SITE,
            since: 40
        }
    );

    assert!(catalog.paid(run_id(1), 0, &receipt(2, SITE, 99), 3).await.unwrap());
    assert!(!catalog.paid(run_id(1), 0, &receipt(2, SITE, 99), 3).await.unwrap());
    assert_eq!(catalog.debts(None, 100).await.unwrap().len(), 9);
    assert_eq!(catalog.stripe_health(run_id(1), 0..1, 99).await.unwrap()[0].verified, 3);
    // A stripe noted again with the missing receipt pays too.
    let whole = StripeNote {
        verified: 3,
        receipts: vec![receipt(2, SITE, 99)],
        ..note(1)
    };
    catalog.note_stripes(run_id(1), &[whole], 99).await.unwrap();
    assert_eq!(catalog.debts(None, 100).await.unwrap().len(), 8);
    let poor = StripeNote {
        owed: vec![owed(2, SITE)],
        ..note(9)
    };
    catalog.note_stripes(run_id(1), &[poor], 99).await.unwrap();
    assert_eq!(catalog.debts(None, 100).await.unwrap()[8].since, 99);
}

#[tokio::test]
async fn heads_are_listed_newest_first_and_chains_have_tips() {
    let catalog = one_run().await;
    let counts = Counts {
        files: 3,
        bytes: u64::MAX,
        changed: 1,
        ..Counts::default()
    };
    let snapshot = |seq: u64, taken| Snapshot {
        head: RecordHash::from_bytes([seq as u8; 32]),
        dataset: DATASET,
        run: run_id(1),
        incarnation: record(1).incarnation,
        seq,
        taken,
        state: if seq == 1 {
            SnapshotState::Provisional
        } else {
            SnapshotState::Durable
        },
        verified_min: 4,
        debt: seq,
        counts,
    };
    assert_eq!(catalog.newest_snapshot(DATASET).await.unwrap(), None);
    for (seq, taken) in [(2, 300), (0, 100), (1, 200), (1, 200)] {
        catalog.note_snapshot(&snapshot(seq, taken)).await.unwrap();
    }
    assert_eq!(catalog.newest_snapshot(DATASET).await.unwrap(), Some(snapshot(2, 300)));
    assert_eq!(
        catalog.snapshots(DATASET, 1, 5).await.unwrap(),
        [snapshot(1, 200), snapshot(0, 100)]
    );
    let tip = ChainTip {
        seq: 2,
        head: RecordHash::from_bytes([2; 32]),
    };
    assert_eq!(catalog.chain_tip(record(1).incarnation).await.unwrap(), Some(tip));
    assert!(catalog.forget_snapshot(tip.head).await.unwrap());
    assert!(!catalog.forget_snapshot(tip.head).await.unwrap());
    assert_eq!(catalog.chain_tip(record(1).incarnation).await.unwrap().unwrap().seq, 1);
}

#[tokio::test]
async fn a_receipt_that_is_lost_is_damage_and_no_unsafe_stripe() {
    let catalog = one_run().await;
    let health = catalog.stripe_health(run_id(1), 0..9, 0).await;
    assert!(health.is_ok_and(|health| !health.is_empty()));
    sqlx::query("DELETE FROM receipts WHERE shard = 0")
        .execute(catalog.writer())
        .await
        .unwrap();
    let health = catalog.stripe_health(run_id(1), 0..9, 0).await;
    assert!(matches!(health, Err(CatalogError::Damaged { .. })), "{health:?}");
}
