//! What a run asks the sites before it writes anything: who answers, and whether our own chain is as we left it.
//!
//! Names of heads are all that is fetched as long as there is one chain and it ends where the state folder says. When the
//! names say otherwise, the heads are fetched and verified, so that a site can't cry wolf with a name it made up:
//!
//! - sites show later heads of our own life than we know: this folder was rolled back or copied;
//! - two heads lie in one place of our own life: someone else signs with this key.
//!
//! That no site shows our last head any more is told too, and changes nothing: it is the sites that went back.
//!
//! In both cases the writer goes on as a new incarnation, whose first head names everything it has seen, and says so
//! aloud. Heads of other chains are verified too, so that ours can name them as seen.

use std::collections::{BTreeMap, BTreeSet};

use exclave_model::{KeyId, ObjectName, RecordHash, SiteId};
use exclave_plan::heads;
use exclave_seal::{Entropy, SigningKey};
use exclave_site::Listing;

use super::{ReplicateError, recover::chain_behind_journals, upload::chain_text};
use crate::{
    archive::Archive,
    charter::holders_needed,
    fetch::Problem,
    state::{AgentState, Chain},
    surroundings::Surroundings,
    survey::{HEADS_MAX, Survey, survey},
};

/// What was learnt from the sites before anything was written.
pub(super) struct Preflight {
    pub(super) reachable: BTreeSet<SiteId>,
    /// Sites that show none of this writer's heads, though others do: new or taken back ([`mod@crate::adopt`]). What was seen
    /// there before counts for nothing.
    pub(super) bare: BTreeSet<SiteId>,
    pub(super) troubles: Vec<(String, String)>,
    pub(super) new_incarnation: bool,
    /// Heads of other chains.
    pub(super) tips: Vec<RecordHash>,
    /// What must not happen with an honest writer and honest sites.
    pub(super) alarms: Vec<String>,
}

/// Asks every site for the names of its heads.
pub(super) fn preflight(
    archive: &Archive,
    state: &AgentState,
    key: &SigningKey,
    entropy: &mut dyn Entropy,
    surroundings: &Surroundings,
) -> Result<Preflight, ReplicateError> {
    let _chain_lock = state.lock_chain()?;
    let chain = chain_behind_journals(state, None)?;
    let own = archive.names.chain_prefix(key.id(), chain.incarnation);
    let (listings, troubles) = surroundings
        .runtime
        .block_on(archive.list_everywhere(&archive.names.heads_prefix(), HEADS_MAX));
    let mut preflight = Preflight {
        reachable: listings.keys().filter_map(|at| archive.sites.get(*at)?.id).collect(),
        troubles: troubles
            .iter()
            .map(|trouble| (trouble.site.clone(), chain_text(&trouble.error)))
            .chain(strangers(archive, &listings))
            .chain(archive.doubles().map(|(site, what)| (site, what.to_string())))
            .collect(),
        bare: bare(archive, key.id(), &listings),
        new_incarnation: false,
        tips: Vec::new(),
        alarms: Vec::new(),
    };
    let names: BTreeSet<&ObjectName> = listings
        .values()
        .flat_map(|listing| &listing.entries)
        .map(|entry| &entry.name)
        .collect();
    let shown = Shown::of(names.iter().copied().filter(|name| own.contains(name)), &chain);
    if !shown.has_end && preflight.reachable.len() >= answers_needed(archive) {
        preflight.alarms.push(format!(
            "no site shows head {} of this writer any more, its last: were they all put back to an earlier state?",
            chain.next_seq.saturating_sub(1)
        ));
    }
    if !shown.is_doubtful() && names.iter().all(|name| own.contains(name)) {
        return Ok(preflight);
    }
    let survey = survey(archive, surroundings)?;
    let mut life = chain.incarnation;
    if let Some(alarm) = shown.alarm(&survey, key, &chain) {
        life = state.begin_incarnation(entropy)?.incarnation;
        preflight.new_incarnation = true;
        preflight.alarms.push(alarm);
    }
    preflight.tips = survey.heads.tips_for(key.id(), life);
    Ok(preflight)
}

/// Sites of the charter that must answer for a committed head of any class to be among what they show.
fn answers_needed(archive: &Archive) -> usize {
    let sites = archive.charter().sites.len();
    holders_needed(archive.charter()).map_or(sites, |holders| (sites + 1).saturating_sub(holders))
}

/// Sites whose complete listing of heads has none of this writer's, when any site has one.
fn bare(archive: &Archive, writer: KeyId, listings: &BTreeMap<usize, Listing>) -> BTreeSet<SiteId> {
    let ours = archive.names.writer_prefix(writer);
    let shows = |listing: &Listing| listing.entries.iter().any(|entry| ours.contains(&entry.name));
    if !listings.values().any(shows) {
        return BTreeSet::new();
    }
    let without = listings
        .iter()
        .filter(|(_, listing)| listing.complete && !shows(listing));
    without.filter_map(|(at, _)| archive.sites.get(*at)?.id).collect()
}

/// Stores that answer and count as no site. What is owed to their sites can't be paid there.
fn strangers<'a>(
    archive: &'a Archive,
    listings: &'a BTreeMap<usize, Listing>,
) -> impl Iterator<Item = (String, String)> + 'a {
    let answering = listings.keys().filter_map(|at| archive.sites.get(*at));
    answering.filter_map(|handle| Some((handle.name.clone(), handle.plate.complaint()?.to_owned())))
}

/// What the names below our own chain say, before anything is believed.
struct Shown {
    /// Names that lie behind the end of the chain as we know it.
    ahead: Vec<ObjectName>,
    /// Whether several names claim one place.
    twice: bool,
    /// Whether the end of the chain as we know it is there; a chain without a head has none to miss.
    has_end: bool,
}

impl Shown {
    fn of<'a>(names: impl Iterator<Item = &'a ObjectName>, chain: &Chain) -> Self {
        let (mut ahead, mut places) = (Vec::new(), BTreeMap::new());
        for name in names {
            let Some(seq) = seq_of(name) else { continue };
            *places.entry(seq).or_insert(0) += 1;
            if seq >= chain.next_seq {
                ahead.push(name.clone());
            }
        }
        let end = chain.next_seq.checked_sub(1);
        Self {
            has_end: end.is_none_or(|end| places.contains_key(&end)),
            ahead,
            twice: places.values().any(|names| *names > 1),
        }
    }

    fn is_doubtful(&self) -> bool {
        self.twice || !self.ahead.is_empty()
    }

    /// Why this life of the writer is over; `None` when verified heads contradict the names.
    fn alarm(&self, survey: &Survey, key: &SigningKey, chain: &Chain) -> Option<String> {
        let journalled = chain
            .previous
            .and_then(|hash| Some((chain.next_seq.checked_sub(1)?, hash)));
        match survey.heads.preflight(key.id(), chain.incarnation, journalled) {
            heads::Preflight::Ahead { seq, .. } => Some(format!(
                "the sites show head {seq} of this writer's life, its own journal ends before {}: was the machine restored \
                 or cloned?",
                chain.next_seq
            )),
            heads::Preflight::OtherBytes { seq, shown } => Some(format!(
                "head {shown} was signed with this writer's key for place {seq} of its chain, and not by this machine: was \
                 it cloned, or is the key stolen?"
            )),
            heads::Preflight::Continue { .. } => self.unseen(survey).map(|name| {
                format!("{name} lies at a site behind the end of this writer's chain and can't be read: to be safe, a new life begins")
            }),
        }
    }

    /// A name ahead of us whose bytes no site gave and none gave wrongly: it may be what its name says.
    fn unseen(&self, survey: &Survey) -> Option<&ObjectName> {
        self.ahead.iter().find(|name| {
            let mut answers = survey.problems.iter().filter(|problem| problem.object == name.as_str());
            answers.any(|answer| answer.problem != Problem::Corrupt)
        })
    }
}

fn seq_of(name: &ObjectName) -> Option<u64> {
    name.file_name().split('.').next()?.parse().ok()
}
