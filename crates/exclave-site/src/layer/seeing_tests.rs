//! What a thief lays on top, and what is seen all the same.

use exclave_model::{Anchor, ArchiveNames, Tag};

use super::*;
use crate::contract::Destroy;
use crate::{Fault, MemorySite, MemoryStore, Operation, SimulatedSite, Steps, When};

const OURS: &[u8] = b"ours";

fn name_of(bytes: &[u8]) -> ObjectName {
    ArchiveNames::new(Anchor::from_bytes([7; 32])).grant(Tag::of(bytes))
}

fn prefix() -> Prefix {
    ArchiveNames::new(Anchor::from_bytes([7; 32])).grants_prefix()
}

/// A site whose store keeps versions, and what is seen through it.
fn site(store: MemoryStore) -> (SimulatedSite, Seeing<SimulatedSite>) {
    let memory = MemorySite::over(SiteAddress::parse("memory://one").unwrap(), store);
    let site = SimulatedSite::new(memory, 1, &Steps::new());
    (site.clone(), Seeing::new(site))
}

async fn put(site: &dyn Site, name: &ObjectName, bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    site.put(name, bytes.into(), PutMode::Plain).await.unwrap();
}

#[tokio::test]
async fn delete_markers_and_garbage_are_seen_through() {
    let name = name_of(OURS);
    // How many pieces of garbage come before ours, and what comes on top of it.
    for (squatted, on_top, garbage) in [
        (0, 1, &b"gone"[..]),
        (0, 3, b"gone"),
        (0, 40, b"gone"),
        (3, 3, b"gone"),
        (0, 2, b"more than we would read of it"),
        (0, 2, b""),
    ] {
        for hidden in [false, true] {
            let (raw, seeing) = site(MemoryStore::with_versions());
            for _ in 0..squatted {
                put(&raw, &name, b"squat").await;
            }
            put(&raw, &name, OURS).await;
            for _ in 0..on_top {
                put(&raw, &name, garbage).await;
            }
            if hidden {
                raw.delete(&name).await.unwrap();
            }
            let case = format!("{squatted} {on_top} {garbage:?} {hidden}");
            assert_eq!(seeing.get(&name, 10).await.unwrap(), OURS, "{case}");
            assert_eq!(seeing.get_range(&name, 1..3).await.unwrap(), OURS[1..3], "{case}");
            let listed = seeing.list(&prefix(), 10).await.unwrap();
            assert!(
                listed.complete && listed.entries.iter().any(|entry| entry.name == name),
                "{case}"
            );
            let buried = seeing.sight().buried();
            let [found] = buried.as_slice() else {
                panic!("{case}: {buried:?}")
            };
            assert_eq!(
                (found.on_top, found.is_hidden),
                (on_top + u64::from(hidden), hidden),
                "{case}"
            );
            assert_eq!(raw.get(&name, 100).await.is_ok(), !hidden, "{case}");
        }
    }
}

#[tokio::test]
async fn a_range_of_a_hidden_object_is_read_from_the_only_version() {
    let (raw, seeing) = site(MemoryStore::with_versions());
    let name = name_of(OURS);
    put(&raw, &name, OURS).await;
    raw.delete(&name).await.unwrap();
    raw.delete(&name).await.unwrap();
    assert_eq!(seeing.length(&name).await.unwrap(), 4);
    assert_eq!(seeing.get_range(&name, 0..2).await.unwrap(), OURS[..2]);
    // The second range needs no list.
    assert_eq!(seeing.get_range(&name, 2..4).await.unwrap(), OURS[2..]);
    assert_eq!(raw.count(Operation::GetVersion), 0);
    assert_eq!(raw.count(Operation::ListVersions), 2);
    assert_eq!(seeing.sight().buried()[0].on_top, 2);
}

#[tokio::test]
async fn what_is_healthy_costs_no_request() {
    let (raw, seeing) = site(MemoryStore::with_versions());
    let name = name_of(OURS);
    put(&raw, &name, OURS).await;
    for _ in 0..3 {
        assert_eq!(seeing.get(&name, 10).await.unwrap(), OURS);
        assert_eq!(seeing.get_range(&name, 0..2).await.unwrap(), OURS[..2]);
    }
    let counts = [Operation::Get, Operation::Versioning, Operation::ListVersions].map(|kind| raw.count(kind));
    assert_eq!(counts, [3, 0, 0]);
    assert_eq!(seeing.sight().count(), 0);
    // A store without versions isn't asked at all.
    let (raw, seeing) = site(MemoryStore::default());
    assert_eq!(seeing.get(&name, 10).await.unwrap_err().class(), Class::Missing);
    put(&raw, &name, b"else").await;
    assert_eq!(seeing.get(&name, 10).await.unwrap(), &b"else"[..]);
    assert_eq!(raw.count(Operation::Versioning) + raw.count(Operation::ListVersions), 0);
}

#[tokio::test]
async fn what_never_was_and_what_was_collected_stay_missing() {
    let (raw, seeing) = site(MemoryStore::with_versions());
    let name = name_of(OURS);
    assert_eq!(seeing.get(&name, 10).await.unwrap_err().class(), Class::Missing);
    put(&raw, &name, OURS).await;
    let found = raw.versions().unwrap().versions_of(&name, 9).await.unwrap();
    raw.delete(&name).await.unwrap();
    raw.delete_version(&name, &found.kept[0].id).await.unwrap();
    assert_eq!(seeing.get(&name, 10).await.unwrap_err().class(), Class::Missing);
    assert_eq!(seeing.list(&prefix(), 10).await.unwrap().entries, []);
    // Only garbage: the caller gets it, and judges it.
    put(&raw, &name, b"else").await;
    put(&raw, &name, b"more").await;
    assert_eq!(seeing.get(&name, 10).await.unwrap(), &b"more"[..]);
    assert_eq!(seeing.sight().count(), 0);
}

#[tokio::test]
async fn where_versions_may_not_be_listed_that_is_told() {
    let (raw, seeing) = site(MemoryStore::with_versions());
    let name = name_of(OURS);
    put(&raw, &name, OURS).await;
    raw.delete(&name).await.unwrap();
    raw.inflict(When::any().only(&[Operation::ListVersions]), Fault::Deny);
    assert_eq!(seeing.get(&name, 10).await.unwrap_err().class(), Class::Missing);
    assert_eq!(seeing.list(&prefix(), 10).await.unwrap().entries, []);
    assert_eq!(seeing.sight().blind().unwrap().0, Class::Denied);
    assert_eq!(raw.count(Operation::ListVersions), 1);
}

#[tokio::test]
async fn a_locked_version_can_not_be_deleted_before_its_time() {
    let day = 86_400;
    let store = MemoryStore::locked(30, 0);
    let (raw, seeing) = site(store.clone());
    let name = name_of(OURS);
    put(&raw, &name, OURS).await;
    raw.delete(&name).await.unwrap();
    let found = raw.versions().unwrap().versions_of(&name, 9).await.unwrap();
    let [marker, ours] = found.kept.as_slice() else {
        panic!("{found:?}")
    };
    let locked = raw
        .versions()
        .unwrap()
        .lock_of(&name, Some(&ours.id))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(locked.until, 30 * day);
    let denied = raw.delete_version(&name, &ours.id).await.unwrap_err();
    assert_eq!(denied.class(), Class::Denied);
    assert_eq!(seeing.get(&name, 10).await.unwrap(), OURS);
    // Taking the marker away undoes the theft.
    raw.delete_version(&name, &marker.id).await.unwrap();
    assert_eq!(raw.get(&name, 10).await.unwrap(), OURS);
    store.set_clock(30 * day);
    raw.delete_version(&name, &ours.id).await.unwrap();
    assert_eq!(seeing.get(&name, 10).await.unwrap_err().class(), Class::Missing);
}
