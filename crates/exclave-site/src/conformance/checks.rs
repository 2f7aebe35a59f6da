//! The checks, each on objects of its own.

use std::collections::BTreeSet;

use bytes::Bytes;
use exclave_model::{ObjectName, Prefix};
use futures::stream::{self, StreamExt, TryStreamExt};

use super::Deviation;
use crate::contract::{PutMode, Site, Stored};
use crate::{Body, Class, SiteError};

/// More than one page of any vendor's listing but Azure's.
const MANY: usize = 1100;

/// Puts at the same time when there are many.
const AT_ONCE: usize = 16;

type Checked = Result<(), Deviation>;

pub(super) async fn put_and_get(site: &dyn Site, below: &Prefix) -> Checked {
    let name = name(below, "put_and_get/a-b_c.0");
    // Three slices, one of them empty, must arrive as one object.
    let slices = [Bytes::from_static(b"one "), Bytes::new(), Bytes::from_static(b"two")];
    let stored = site.put(&name, slices.into_iter().collect(), PutMode::Plain).await?;
    expect(stored == Stored::Created, || format!("put says {stored:?}"))?;
    same(&site.get(&name, 7).await?, b"one two")
}

pub(super) async fn empty_object(site: &dyn Site, below: &Prefix) -> Checked {
    let name = name(below, "empty/a");
    site.put(&name, Body::default(), PutMode::Plain).await?;
    same(&site.get(&name, 0).await?, b"")?;
    let length = site.length(&name).await?;
    expect(length == 0, || format!("length {length}"))
}

pub(super) async fn odd_lengths(site: &dyn Site, below: &Prefix) -> Checked {
    for length in [1, 15, 4095, 4097, 65_535, 65_536, 65_537, 1_000_003] {
        let (name, bytes) = (name(below, &format!("odd/{length}")), pattern(length));
        let halves = [bytes.slice(..length / 2), bytes.slice(length / 2..)];
        site.put(&name, halves.into_iter().collect(), PutMode::Plain).await?;
        same(&site.get(&name, length as u64).await?, &bytes)?;
    }
    Ok(())
}

pub(super) async fn ranges(site: &dyn Site, below: &Prefix) -> Checked {
    let (name, bytes) = (name(below, "ranges/a"), pattern(100_000));
    site.put(&name, bytes.clone().into(), PutMode::Plain).await?;
    for range in [0..1, 0..100_000, 65_536..100_000, 99_999..100_000, 1..65_537] {
        let read = site.get_range(&name, range.start as u64..range.end as u64).await?;
        same(&read, bytes.get(range).unwrap_or_default())?;
    }
    same(&site.get_range(&name, 5..5).await?, b"")
}

pub(super) async fn ranges_beyond_the_end(site: &dyn Site, below: &Prefix) -> Checked {
    let name = name(below, "beyond/a");
    site.put(&name, pattern(100).into(), PutMode::Plain).await?;
    for range in [0..101, 99..200, 100..101, 500..600] {
        refused(site.get_range(&name, range.clone()).await, Class::ShortRead, || {
            format!("range {range:?} of 100 B")
        })?;
    }
    Ok(())
}

pub(super) async fn lengths(site: &dyn Site, below: &Prefix) -> Checked {
    for length in [1, 70_000] {
        let name = name(below, &format!("lengths/{length}"));
        site.put(&name, pattern(length).into(), PutMode::Plain).await?;
        let said = site.length(&name).await?;
        expect(said == length as u64, || format!("length {said} of {length} B"))?;
    }
    Ok(())
}

pub(super) async fn missing_objects(site: &dyn Site, below: &Prefix) -> Checked {
    for nothing in ["missing", "missing/a/b"] {
        let name = name(below, nothing);
        refused(site.get(&name, 10).await, Class::Missing, || "get of nothing".into())?;
        refused(site.get_range(&name, 0..1).await, Class::Missing, || {
            "range of nothing".into()
        })?;
        refused(site.length(&name).await, Class::Missing, || "length of nothing".into())?;
    }
    Ok(())
}

pub(super) async fn too_long_objects(site: &dyn Site, below: &Prefix) -> Checked {
    let name = name(below, "long/a");
    site.put(&name, pattern(1001).into(), PutMode::Plain).await?;
    refused(site.get(&name, 1000).await, Class::TooLong, || {
        "1,001 B where 1,000 B are accepted".into()
    })?;
    same(&site.get(&name, 1001).await?, &pattern(1001))
}

pub(super) async fn put_again(site: &dyn Site, below: &Prefix) -> Checked {
    let name = name(below, "put_again/a");
    for _ in 0..3 {
        site.put(&name, pattern(1000).into(), PutMode::Plain).await?;
    }
    same(&site.get(&name, 1000).await?, &pattern(1000))
}

pub(super) async fn overwrite(site: &dyn Site, below: &Prefix) -> Checked {
    let name = name(below, "overwrite/a");
    for length in [2000, 10] {
        site.put(&name, pattern(length).into(), PutMode::Plain).await?;
    }
    same(&site.get(&name, 2000).await?, &pattern(10))
}

pub(super) async fn create_only(site: &dyn Site, below: &Prefix) -> Checked {
    let name = name(below, "create_only/a");
    let first = site.put(&name, pattern(100).into(), PutMode::Create).await?;
    expect(first == Stored::Created, || {
        format!("create of a free name says {first:?}")
    })?;
    let second = site.put(&name, pattern(50).into(), PutMode::Create).await?;
    let kept = site.get(&name, 100).await? == pattern(100);
    match (second, kept) {
        (Stored::AlreadyExists, true) => Ok(()),
        (Stored::Created, false) => Err(Deviation::Silent("create of a taken name overwrites".into())),
        (Stored::Created, true) => Err(Deviation::Silent(
            "create of a taken name says created, stores nothing".into(),
        )),
        (said, kept) => fail(format!(
            "create of a taken name says {said:?}, first object kept: {kept}"
        )),
    }
}

pub(super) async fn create_race(site: &dyn Site, below: &Prefix) -> Checked {
    for round in 0..3 {
        let name = name(below, &format!("create_race/{round}"));
        let creates = (0..AT_ONCE).map(|length| site.put(&name, pattern(length + 1).into(), PutMode::Create));
        let said: Vec<Stored> = futures::future::try_join_all(creates).await?;
        let winners: Vec<usize> = (1..)
            .zip(&said)
            .filter(|(_, said)| **said == Stored::Created)
            .map(|(l, _)| l)
            .collect();
        let stored = site.get(&name, AT_ONCE as u64).await?;
        match winners.as_slice() {
            [length] if stored == pattern(*length) => {}
            [length] => return fail(format!("the winner put {length} B, stored are {} B", stored.len())),
            [] => return fail(format!("{AT_ONCE} creates at once, nobody won")),
            several => {
                return Err(Deviation::Silent(format!(
                    "{AT_ONCE} creates at once, {} say they won",
                    several.len()
                )));
            }
        }
    }
    Ok(())
}

pub(super) async fn new_directory_race(site: &dyn Site, below: &Prefix) -> Checked {
    // Deep and unused: where directories are real, all puts have to make the same ones.
    let names: Vec<ObjectName> = (0..AT_ONCE)
        .map(|i| name(below, &format!("dirs/a/b/c/d/{i}")))
        .collect();
    futures::future::try_join_all(names.iter().map(|n| site.put(n, pattern(10).into(), PutMode::Plain))).await?;
    for name in &names {
        same(&site.get(name, 10).await?, &pattern(10))?;
    }
    Ok(())
}

pub(super) async fn flush(site: &dyn Site, below: &Prefix) -> Checked {
    site.put(&name(below, "durable/a"), pattern(10).into(), PutMode::Plain)
        .await?;
    site.flush().await?;
    Ok(site.flush().await?)
}

pub(super) async fn list_nothing(site: &dyn Site, below: &Prefix) -> Checked {
    let nothing = Prefix::below(&name(below, "nothing/at/all"));
    let listing = site.list(&nothing, 10).await?;
    let children = site.list_children(&nothing, 10).await?;
    expect(listing.entries.is_empty() && listing.complete, || {
        format!("{listing:?}")
    })?;
    expect(
        children.prefixes.is_empty() && children.entries.is_empty() && children.complete,
        || format!("{children:?}"),
    )
}

pub(super) async fn list_within_prefix(site: &dyn Site, below: &Prefix) -> Checked {
    // `1/` must not find `10`, and sorting is by the whole name's bytes: '-' < '.' < '/' < '0'.
    for text in [
        "within/1/b",
        "within/1/a/z",
        "within/1/a.b",
        "within/1/a-b",
        "within/10/c",
        "within/1.x",
    ] {
        site.put(&name(below, text), pattern(text.len()).into(), PutMode::Plain)
            .await?;
    }
    let listing = site.list(&Prefix::below(&name(below, "within/1")), 100).await?;
    let names: Vec<&str> = listing.entries.iter().map(|entry| entry.name.as_str()).collect();
    let wanted = ["a-b", "a.b", "a/z", "b"].map(|text| format!("{below}within/1/{text}"));
    expect(names == wanted && listing.complete, || format!("{names:?}"))?;
    let length_wanted = |name: &str| (name.len() - below.as_str().len()) as u64;
    expect(
        listing
            .entries
            .iter()
            .all(|e| e.length == length_wanted(e.name.as_str())),
        || "lengths are wrong".into(),
    )
}

pub(super) async fn list_children(site: &dyn Site, below: &Prefix) -> Checked {
    for text in [
        "children/b/1",
        "children/b/2",
        "children/a/x/y",
        "children/file",
        "children/a.b/1",
    ] {
        site.put(&name(below, text), pattern(3).into(), PutMode::Plain).await?;
    }
    let children = site
        .list_children(&Prefix::below(&name(below, "children")), 100)
        .await?;
    let prefixes: Vec<&str> = children.prefixes.iter().map(Prefix::as_str).collect();
    let wanted = ["a.b", "a", "b"].map(|text| format!("{below}children/{text}/"));
    expect(prefixes == wanted, || format!("{prefixes:?}"))?;
    let entries: Vec<&str> = children.entries.iter().map(|entry| entry.name.as_str()).collect();
    expect(
        entries == [format!("{below}children/file")] && children.complete,
        || format!("{entries:?}"),
    )
}

pub(super) async fn list_many(site: &dyn Site, below: &Prefix) -> Checked {
    let names: BTreeSet<ObjectName> = (0..MANY).map(|i| name(below, &format!("many/{i:04}"))).collect();
    let puts = stream::iter(&names).map(|name| site.put(name, pattern(1).into(), PutMode::Plain));
    puts.buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
    let listing = site.list(&Prefix::below(&name(below, "many")), 2 * MANY).await?;
    let found: Vec<&ObjectName> = listing.entries.iter().map(|entry| &entry.name).collect();
    let wanted: Vec<&ObjectName> = names.iter().collect();
    expect(found.is_sorted(), || "listing isn't sorted".into())?;
    expect(found == wanted && listing.complete, || {
        format!("{} of {MANY} names listed, complete: {}", found.len(), listing.complete)
    })
}

pub(super) async fn list_capped(site: &dyn Site, below: &Prefix) -> Checked {
    let several: Vec<ObjectName> = (0..5).map(|i| name(below, &format!("capped/{i}"))).collect();
    for name in &several {
        site.put(name, pattern(1).into(), PutMode::Plain).await?;
    }
    let prefix = Prefix::below(&name(below, "capped"));
    for (entries_max, complete) in [(3, false), (5, true)] {
        let listing = site.list(&prefix, entries_max).await?;
        let as_wanted = listing.entries.len() == entries_max && listing.complete == complete;
        expect(as_wanted, || {
            format!("{} entries of at most {entries_max}", listing.entries.len())
        })?;
        let children = site.list_children(&prefix, entries_max).await?;
        let as_wanted = children.entries.len() == entries_max && children.complete == complete;
        expect(as_wanted, || {
            format!("{} children of at most {entries_max}", children.entries.len())
        })?;
    }
    Ok(())
}

/// Where a store keeps versions, what was overwritten is found beneath. One that keeps none has nothing to show.
pub(super) async fn versions(site: &dyn Site, below: &Prefix) -> Checked {
    let Some(versions) = site.versions() else { return Ok(()) };
    if !versions.are_kept().await? {
        return Ok(());
    }
    let prefix = Prefix::below(&name(below, "versions"));
    let (one, beside) = (name(&prefix, "a"), name(&prefix, "a.b"));
    for bytes in ["first", "second one"] {
        site.put(&one, Bytes::from_static(bytes.as_bytes()).into(), PutMode::Plain)
            .await?;
    }
    site.put(&beside, Bytes::from_static(b"beside").into(), PutMode::Plain)
        .await?;
    let found = versions.versions_of(&one, 10).await?;
    let lengths: Vec<_> = found
        .kept
        .iter()
        .map(|version| (version.length, version.is_newest))
        .collect();
    expect(lengths == [(Some(10), true), (Some(5), false)], || {
        format!("versions {lengths:?}")
    })?;
    let [newest, oldest] = found.kept.as_slice() else {
        return Err(Deviation::Fail(format!("{} versions of 2", found.total)));
    };
    same(&versions.get_version(&one, &oldest.id, 5).await?, b"first")?;
    same(&versions.get_version(&one, &newest.id, 10).await?, b"second one")?;
    same(&versions.get_version_range(&one, &oldest.id, 1..3).await?, b"ir")?;
    refused(versions.get_version(&one, &newest.id, 9).await, Class::TooLong, || {
        "a version of 10 B".into()
    })?;
    let all = versions.list_versions(&prefix, 10, 10).await?;
    let totals: Vec<_> = all.names.iter().map(|found| (&found.name, found.total)).collect();
    expect(totals == [(&one, 2), (&beside, 1)] && all.complete, || {
        format!("a list of versions has {totals:?}")
    })?;
    let capped = versions.list_versions(&prefix, 1, 1).await?;
    expect(capped.names.len() == 1 && !capped.complete, || {
        "a list of versions ignores its cap".into()
    })
}

/// Bytes that no two positions or lengths share for long.
fn pattern(length: usize) -> Bytes {
    (0..length)
        .map(|i| (i.wrapping_mul(31) ^ (i >> 8) ^ length) as u8)
        .collect::<Vec<_>>()
        .into()
}

#[expect(clippy::expect_used, reason = "the texts are this file's own and short")]
fn name(below: &Prefix, text: &str) -> ObjectName {
    below.join(text).expect("a check's name is an object name")
}

fn expect(holds: bool, why: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { fail(why()) }
}

fn fail(why: String) -> Checked {
    Err(Deviation::Fail(why))
}

fn same(read: &[u8], wanted: &[u8]) -> Checked {
    expect(read == wanted, || {
        format!("read {} B that aren't the {} B that were put", read.len(), wanted.len())
    })
}

fn refused<T>(outcome: Result<T, SiteError>, class: Class, what: impl FnOnce() -> String) -> Checked {
    match outcome {
        Err(error) if error.class() == class => Ok(()),
        Err(error) => {
            let Deviation::Fail(why) = Deviation::from(error) else {
                return fail(format!("{}: unsupported, {class:?} wanted", what()));
            };
            fail(format!("{}: {why}, {class:?} wanted", what()))
        }
        Ok(_) => fail(format!("{} succeeds", what())),
    }
}
