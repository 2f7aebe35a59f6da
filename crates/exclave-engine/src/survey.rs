//! Which heads there are: lists them at every site, fetches each once, keeps what verifies.
//!
//! A head is believed when its object's tag and place are those of its name, its anchor is ours, and its one signature is
//! that of the writer it names, who is a writer in the charter. Everything else below `heads/` is counted and ignored: a
//! site may invent names, and can waste a request for each, up to a cap that holds for each site alone.
//!
//! **Freshness.** A committed head lies at q sites of its layout. When the sites of the charter that did not answer
//! completely, and the b that may lie, are fewer than q, no committed head can hide: grade F2. Otherwise F3. For an archive
//! whose sites are all in one layout this is DESIGN's r = n - q + b + 1 answers. F1 needs cosignatures of witnesses, which
//! do not exist yet, and is never claimed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use exclave_model::{
    Class, Head, KeyId, ObjectName, Record, RecordHash, SignedObject, SiteId, Tag, limit::HEAD_BYTES_MAX,
};
use exclave_plan::{
    heads::{Finding, HeadFact, Heads},
    quorum::Quorums,
};
use exclave_seal::verify_one;
use futures::stream::{self, StreamExt};

use crate::{
    archive::{Archive, SiteTrouble},
    fetch::{Problem, race::first_good},
    surroundings::Surroundings,
};

/// Heads that one site may list. A daily heartbeat of a hundred datasets fills it in a year and nine months; older
/// heads are collected long before.
pub const HEADS_PER_SITE_MAX: usize = 65_536;

/// Different head names over all sites. One site alone can't reach it.
pub const HEADS_MAX: usize = 4 * HEADS_PER_SITE_MAX;

/// Heads that are fetched at the same time.
const FETCHES_MAX: usize = 32;

/// How long a site may take for a head before another one that lists it is asked too.
const HEDGE: Duration = Duration::from_secs(2);

/// How well a site answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    /// It listed everything.
    Complete,
    /// It lists more than a reader takes.
    Partial,
    /// It did not answer.
    None,
}

/// A verified head and who shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundHead {
    /// The hash of its record.
    pub hash: RecordHash,
    /// The head.
    pub head: Head,
    /// The sites that list it, by their position in the archive.
    pub sites: BTreeSet<usize>,
}

/// What all sites together show.
#[derive(Debug)]
pub struct Survey {
    /// The verified heads.
    pub found: BTreeMap<RecordHash, FoundHead>,
    /// How they follow each other.
    pub heads: Heads,
    /// Forks, gaps and the like.
    pub findings: Vec<Finding>,
    /// How each site of the archive answered, in order.
    pub answers: Vec<Answer>,
    /// What sites said instead of answering.
    pub troubles: Vec<SiteTrouble>,
    /// Heads that a site lists and could not give, or gave wrongly.
    pub problems: Vec<HeadProblem>,
    /// Things below `heads/` that are no valid heads of this archive.
    pub ignored: usize,
}

/// A site that listed a head and did not give it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{site}: {object}: {problem}")]
pub struct HeadProblem {
    /// The site.
    pub site: String,
    /// The head's name.
    pub object: String,
    /// What it answered.
    pub problem: Problem,
}

/// Why heads could not be surveyed at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SurveyError {
    /// More names than a reader takes.
    #[error("the sites list {found} different heads, the cap is {HEADS_MAX}")]
    TooManyHeads {
        /// Names listed.
        found: usize,
    },
}

/// How sure it is that no newer head exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Grade {
    /// Enough sites answered: a newer committed head could not have hidden.
    F2,
    /// Too few answered: there may be a newer one.
    F3,
}

/// How fresh what was found is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Freshness {
    /// The grade.
    pub grade: Grade,
    /// Sites of the charter that answered completely.
    pub answered: usize,
    /// How many must, for F2.
    pub needed: usize,
}

/// A site that the archive was not opened with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no site named {name:?}")]
pub struct NoSuchSite {
    /// The name.
    pub name: String,
}

/// The archive as it would be without these sites: nothing is asked of them.
pub fn without(archive: &Archive, names: &[String]) -> Result<Archive, NoSuchSite> {
    let mut left = archive.clone();
    for name in names {
        let before = left.sites.len();
        left.sites.retain(|handle| handle.name != *name);
        if left.sites.len() == before {
            return Err(NoSuchSite { name: name.clone() });
        }
    }
    Ok(left)
}

/// Lists heads at every site and verifies them.
pub fn survey(archive: &Archive, surroundings: &Surroundings) -> Result<Survey, SurveyError> {
    surroundings.runtime.block_on(survey_async(archive))
}

async fn survey_async(archive: &Archive) -> Result<Survey, SurveyError> {
    let (listings, troubles) = archive
        .list_everywhere(&archive.names.heads_prefix(), HEADS_PER_SITE_MAX)
        .await;
    let mut survey = Survey {
        found: BTreeMap::new(),
        heads: Heads::new([]),
        findings: Vec::new(),
        answers: vec![Answer::None; archive.sites.len()],
        troubles,
        problems: Vec::new(),
        ignored: 0,
    };
    let mut listed: BTreeMap<ObjectName, BTreeSet<usize>> = BTreeMap::new();
    for (site, listing) in listings {
        survey.ignored += listing.ignored;
        if let Some(answer) = survey.answers.get_mut(site) {
            *answer = match listing.complete {
                true => Answer::Complete,
                false => Answer::Partial,
            };
        }
        for entry in listing.entries {
            match names_a_writer(archive, &entry.name) {
                true => _ = listed.entry(entry.name).or_default().insert(site),
                false => survey.ignored += 1,
            }
        }
    }
    if listed.len() > HEADS_MAX {
        return Err(SurveyError::TooManyHeads { found: listed.len() });
    }
    fetch_all(archive, listed, &mut survey).await;
    survey.heads = Heads::new(survey.found.values().map(|found| {
        let known = found.sites.iter().filter_map(|site| archive.sites.get(*site)?.id);
        HeadFact::of(found.hash, &found.head, known)
    }));
    survey.findings = survey.heads.findings();
    Ok(survey)
}

async fn fetch_all(archive: &Archive, listed: BTreeMap<ObjectName, BTreeSet<usize>>, survey: &mut Survey) {
    let fetches = stream::iter(listed).map(|(name, sites)| async move {
        let fetched = fetch_head(archive, &name, &sites).await;
        (name, sites, fetched)
    });
    let mut fetches = std::pin::pin!(fetches.buffer_unordered(FETCHES_MAX));
    while let Some((name, sites, (head, problems))) = fetches.next().await {
        survey.problems.extend(problems.into_iter().map(|(site, problem)| {
            HeadProblem {
                site: archive
                    .sites
                    .get(site)
                    .map_or_else(String::new, |handle| handle.name.clone()),
                object: name.to_string(),
                problem,
            }
        }));
        match head {
            Some((hash, head)) => {
                // Signatures are not part of the record: one head may lie under two names.
                let found = survey.found.entry(hash).or_insert_with(|| FoundHead {
                    hash,
                    head,
                    sites: BTreeSet::new(),
                });
                found.sites.extend(sites);
            }
            None => survey.ignored += 1,
        }
    }
}

/// Fetches a head from the sites that list it, the other ones when one's bytes don't verify.
async fn fetch_head(
    archive: &Archive,
    name: &ObjectName,
    sites: &BTreeSet<usize>,
) -> (Option<(RecordHash, Head)>, Vec<(usize, Problem)>) {
    let asked = first_good(sites.iter().copied().collect(), HEDGE, |site| async move {
        let handle = archive.sites.get(site).ok_or(Problem::Missing)?;
        let got = handle.site.get(name, HEAD_BYTES_MAX as u64).await;
        let bytes = got.map_err(|error| Problem::of(&error))?;
        verify_head(archive, name, &bytes).ok_or(Problem::Corrupt)
    });
    let (head, problems) = asked.await;
    (head.map(|(_, head)| head), problems)
}

/// True when a name could be that of a head by a writer of the charter.
fn names_a_writer(archive: &Archive, name: &ObjectName) -> bool {
    let below = name.as_str().strip_prefix(archive.names.heads_prefix().as_str());
    let writer = below.and_then(|below| below.split('/').next());
    writer
        .and_then(|writer| writer.parse::<KeyId>().ok())
        .is_some_and(|writer| archive.charter.writer(writer).is_some())
}

/// The head, when the object is one of this archive's in its place.
fn verify_head(archive: &Archive, name: &ObjectName, bytes: &Bytes) -> Option<(RecordHash, Head)> {
    let object = SignedObject::from_bytes(bytes, HEAD_BYTES_MAX).ok()?;
    // Who must have signed is read from the record before the signature is checked, and used for nothing else.
    let claimed = Head::from_bytes(object.record_bytes()).ok()?.writer;
    let writer = archive.charter.writer(claimed)?;
    let head = verify_one::<Head>(&object, &writer.key).ok()?;
    let place = archive
        .names
        .head(head.writer, head.incarnation, head.seq, Tag::of(bytes));
    (head.anchor == archive.anchor && head.charter_version == archive.charter.version && place == *name)
        .then(|| (object.record_hash(), head))
}

impl Survey {
    /// How fresh snapshots of a class are.
    pub fn freshness(&self, archive: &Archive, class: &Class) -> Option<Freshness> {
        let policy = class.policy().ok()?;
        let quorums = Quorums::new(policy.geometry, Some(policy.losses), policy.liars).ok()?;
        let answered = self.answered(archive).len();
        let sites = archive.charter.sites.len().max(usize::from(quorums.sites()));
        let hidden_by = usize::from(quorums.heads()).saturating_sub(usize::from(policy.liars));
        let needed = (sites + 1).saturating_sub(hidden_by);
        Some(Freshness {
            grade: match answered >= needed {
                true => Grade::F2,
                false => Grade::F3,
            },
            answered,
            needed,
        })
    }

    /// The sites of the charter that answered completely.
    pub fn answered(&self, archive: &Archive) -> BTreeSet<SiteId> {
        let complete = archive.sites.iter().zip(&self.answers);
        complete
            .filter(|(_, answer)| **answer == Answer::Complete)
            .filter_map(|(handle, _)| handle.id)
            .collect()
    }
}
