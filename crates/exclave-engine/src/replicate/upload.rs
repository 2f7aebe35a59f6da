//! One stripe's shards to their sites, driven by the machine of `exclave-plan`.
//!
//! The machine says put or read back; this module does it and tells what happened. A site's reply is never what counts:
//! only bytes that were read back are.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use exclave_model::{ArchiveNames, ObjectName, ReadBack, ShardName, SiteId, Tag};
use exclave_plan::{
    FailureClass, Health, HealthLimits, Quorums, StripeAction, StripeCommit, StripeEvent, StripeState,
    commit::stripe::Finding,
};
use exclave_site::{Body, Class, PutMode, Site, SiteError, Stored};
use exclave_stripe::{SealedStripe, Shard};
use futures::{StreamExt, stream::FuturesUnordered};

use crate::{
    archive::SiteHandle,
    surroundings::{Progress, Surroundings},
};

/// How the sites have behaved in this run.
#[derive(Debug, Default)]
pub(super) struct Standing {
    state: Mutex<StandingState>,
}

#[derive(Debug, Default)]
struct StandingState {
    health: BTreeMap<SiteId, Health>,
    /// The last thing each failing site said, for the report.
    said: BTreeMap<SiteId, String>,
    alarms: BTreeSet<String>,
}

/// The machine's time: it measures rests of half a minute and longer.
fn now(surroundings: &Surroundings) -> Duration {
    Duration::from_secs(u64::try_from(surroundings.clock.now_unix_seconds()).unwrap_or(0))
}

impl Standing {
    pub(super) fn failed(&self, site: SiteId, error: &SiteError, surroundings: &Surroundings) {
        let now = now(surroundings);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let health = state.health.entry(site);
        health
            .or_insert_with(|| Health::new(HealthLimits::OPERATIONS))
            .failed(now, now);
        state.said.insert(site, chain_text(error));
    }

    fn worked(&self, site: SiteId) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(health) = state.health.get_mut(&site) {
            health.answered();
        }
    }

    /// Sites that are left alone for now.
    pub(super) fn down(&self) -> BTreeSet<SiteId> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let down = state.health.iter().filter(|(_, health)| health.is_down());
        down.map(|(site, _)| *site).collect()
    }

    /// True when something may be asked of a site; after a rest that holds for one operation, whose answer decides.
    fn may_begin(&self, site: SiteId, surroundings: &Surroundings) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let health = state.health.get_mut(&site);
        health.is_none_or(|health| health.may_begin(now(surroundings)))
    }

    /// What failing sites said last.
    pub(super) fn said(&self) -> BTreeMap<SiteId, String> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).said.clone()
    }

    fn alarm(&self, text: String) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.alarms.len() < super::pack::FINDINGS_MAX {
            state.alarms.insert(text);
        }
    }

    /// Things that must not happen at an honest site.
    pub(super) fn alarms(&self) -> Vec<String> {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .alarms
            .iter()
            .cloned()
            .collect()
    }
}

/// An error and its causes in one line.
pub(crate) fn chain_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Where one stripe's shards go.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) names: ArchiveNames,
    pub(crate) quorums: Quorums,
    pub(crate) read_back: ReadBack,
    /// The i-th takes shard i; `None` when that site is not at hand.
    pub(crate) sites: Vec<(SiteId, Option<SiteHandle>)>,
    pub(crate) create_only: BTreeSet<SiteId>,
}

/// How a stripe ended: what was read back, though not yet flushed.
#[derive(Debug)]
pub(crate) struct Uploaded {
    pub(crate) state: StripeState,
    /// Index and attempt of each verified shard.
    pub(crate) verified: Vec<(u8, u32)>,
}

/// Puts a stripe's shards, reads them back, and says how many count.
pub(super) async fn upload(
    stripe: &SealedStripe,
    route: &Route,
    standing: &Standing,
    surroundings: &Surroundings,
    random: u64,
) -> Uploaded {
    let modes: Vec<_> = route.sites.iter().map(|(site, _)| mode_of(route, *site)).collect();
    let (mut machine, mut actions) = StripeCommit::new(route.quorums, route.read_back, &modes, &[]);
    let mut under_way = FuturesUnordered::new();
    let state = loop {
        let mut settled = None;
        for action in actions.drain(..) {
            match action {
                StripeAction::Settled(state) => settled = Some(state),
                StripeAction::Put { .. } | StripeAction::ReadBack { .. } => {
                    under_way.push(act(action, stripe, route, standing, surroundings, random));
                }
            }
        }
        if let Some(state) = settled {
            break state;
        }
        let Some(event) = under_way.next().await else {
            break machine.standing();
        };
        // Each shard has one action under way, so every event is expected.
        actions = machine.handle(event).unwrap_or_default();
    };
    for finding in machine.findings() {
        let (index, what) = match finding {
            Finding::OtherBytes { index, .. } => (index, "answers with other bytes than were put"),
            Finding::Torn { index, .. } => (index, "kept a put in part"),
        };
        if let Some((_, Some(handle))) = route.sites.get(usize::from(index)) {
            standing.alarm(format!("{} {what} (stripe {})", handle.name, stripe.context.ordinal));
        }
    }
    let verified = (0..route.quorums.sites())
        .filter_map(|index| Some((index, machine.attempt_of(index)?)))
        .collect();
    Uploaded { state, verified }
}

fn mode_of(route: &Route, site: SiteId) -> exclave_plan::PutMode {
    if route.create_only.contains(&site) {
        exclave_plan::PutMode::CreateOnly
    } else {
        exclave_plan::PutMode::Overwrites
    }
}

async fn act(
    action: StripeAction,
    stripe: &SealedStripe,
    route: &Route,
    standing: &Standing,
    surroundings: &Surroundings,
    random: u64,
) -> StripeEvent {
    let (index, attempt, extent) = match action {
        StripeAction::Put { index, attempt } => (index, attempt, None),
        StripeAction::ReadBack { index, attempt, extent } => (index, attempt, Some(extent)),
        StripeAction::Settled(_) => {
            return StripeEvent::Failed {
                index: 0,
                class: FailureClass::Lasting,
            };
        }
    };
    let lasting = StripeEvent::Failed {
        index,
        class: FailureClass::Lasting,
    };
    let (Some((site, Some(handle))), Some(shard)) = (
        route.sites.get(usize::from(index)),
        stripe.shards.get(usize::from(index)),
    ) else {
        return lasting;
    };
    if !standing.may_begin(*site, surroundings) {
        return lasting;
    }
    let name = route.names.shard(&ShardName {
        run: stripe.context.run,
        ordinal: stripe.context.ordinal,
        index,
        tag: Tag::of_hash(shard.hash.as_bytes()),
        attempt,
    });
    let event = match extent {
        None => put(handle, &name, shard, mode_of(route, *site), surroundings).await,
        Some(extent) => read_back(handle, &name, shard, extent, random).await,
    };
    match event {
        Ok(event) => {
            standing.worked(*site);
            event
        }
        Err((error, event)) => {
            standing.failed(*site, &error, surroundings);
            event
        }
    }
}

/// A put's event, or the error with the event that it means.
async fn put(
    handle: &SiteHandle,
    name: &ObjectName,
    shard: &Shard,
    mode: exclave_plan::PutMode,
    surroundings: &Surroundings,
) -> Result<StripeEvent, (SiteError, StripeEvent)> {
    let index = shard.index;
    let mode = match mode {
        exclave_plan::PutMode::CreateOnly => PutMode::Create,
        exclave_plan::PutMode::Overwrites => PutMode::Plain,
    };
    match handle
        .site
        .put(name, shard.slices().into_iter().collect::<Body>(), mode)
        .await
    {
        Ok(stored) => {
            Progress::add(&surroundings.progress.bytes_moved, shard.object_bytes() as u64);
            Ok(match stored {
                Stored::Created => StripeEvent::Stored { index },
                Stored::AlreadyExists => StripeEvent::Conflict { index },
                Stored::Unknown => StripeEvent::Failed {
                    index,
                    class: FailureClass::LostReply,
                },
            })
        }
        Err(error) => {
            // The site's layers have tried again already; what matters here is whether it may have arrived.
            let class = match error.class() {
                Class::Slow | Class::Unreachable | Class::Internal | Class::ShortRead | Class::Malformed => {
                    FailureClass::LostReply
                }
                Class::Denied
                | Class::Missing
                | Class::Untrusted
                | Class::Throttled
                | Class::Full
                | Class::TooLong
                | Class::Unsupported
                | Class::Crashed
                | Class::Other => FailureClass::Lasting,
            };
            Err((error, StripeEvent::Failed { index, class }))
        }
    }
}

async fn read_back(
    handle: &SiteHandle,
    name: &ObjectName,
    shard: &Shard,
    extent: ReadBack,
    random: u64,
) -> Result<StripeEvent, (SiteError, StripeEvent)> {
    let index = shard.index;
    let compared = match extent {
        ReadBack::Group => compare_group(&*handle.site, name, shard, random).await,
        ReadBack::Full => compare_whole(&*handle.site, name, shard).await,
    };
    match compared {
        Ok(event) => Ok(event),
        Err(error) if error.class() == Class::Missing => Ok(StripeEvent::Absent { index }),
        Err(error) => Err((
            error,
            StripeEvent::Failed {
                index,
                class: FailureClass::Lasting,
            },
        )),
    }
}

async fn compare_group(
    site: &dyn Site,
    name: &ObjectName,
    shard: &Shard,
    random: u64,
) -> Result<StripeEvent, SiteError> {
    let index = shard.index;
    let length = site.length(name).await?;
    if length != shard.object_bytes() as u64 {
        return Ok(if length < shard.object_bytes() as u64 {
            StripeEvent::Torn { index }
        } else {
            StripeEvent::Other { index }
        });
    }
    // Which group is read must not be foretold by the site.
    let group = (random.rotate_left(u32::from(index) * 7) % shard.groups() as u64) as usize;
    let (start, expected) = shard.group(group);
    let range = start as u64..(start + expected.len()) as u64;
    let found = site.get_range(name, range).await?;
    Ok(if found == expected {
        StripeEvent::Verified { index }
    } else {
        StripeEvent::Other { index }
    })
}

async fn compare_whole(site: &dyn Site, name: &ObjectName, shard: &Shard) -> Result<StripeEvent, SiteError> {
    let index = shard.index;
    let found = match site.get(name, shard.object_bytes() as u64).await {
        Err(error) if error.class() == Class::TooLong => return Ok(StripeEvent::Other { index }),
        answered => answered?,
    };
    Ok(if !starts_with(shard, &found) {
        StripeEvent::Other { index }
    } else if found.len() == shard.object_bytes() {
        StripeEvent::Verified { index }
    } else {
        StripeEvent::Torn { index }
    })
}

/// True when the shard's object begins with `found`.
fn starts_with(shard: &Shard, found: &Bytes) -> bool {
    let mut rest = &found[..];
    for slice in shard.slices() {
        let bytes = slice.len().min(rest.len());
        if rest[..bytes] != slice[..bytes] {
            return false;
        }
        rest = &rest[bytes..];
    }
    rest.is_empty()
}
