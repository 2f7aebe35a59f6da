//! Which heads there are: lists them at every site, fetches each once, keeps what verifies.
//!
//! A head is believed when its object's tag and place are those of its name, its anchor is ours, and its one signature is
//! that of the writer it names, who is a writer under the charter version that it obeys. Of a writer that the newest
//! charter revokes, only what the revocation pins counts. A head that obeys a charter that no site shows can't be judged:
//! the sites hide a charter. Everything else below `heads/` is counted and ignored: a
//! site may invent names, and can waste a request for each, up to a cap that holds for each site alone.
//!
//! **Freshness.** A committed head lies at q sites of its layout. When the sites of the charter that did not answer
//! completely, and the b that may lie, are fewer than q, no committed head can hide: grade F2. Otherwise F3. For an archive
//! whose sites are all in one layout this is DESIGN's r = n - q + b + 1 answers. F1 needs the logs and the word of witnesses
//! beside that ([`crate::witness::cosign::word`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use exclave_log::LogId;
use exclave_model::{
    Class, Head, KeyId, ObjectName, Pin, Record, RecordHash, SignedObject, SiteId, Tag, charter::Act,
    limit::HEAD_BYTES_MAX,
};
pub use exclave_plan::heads::Grade;
use exclave_plan::{
    heads::{Cosigned, Finding, HeadFact, Heads, grade, pinned},
    quorum::Quorums,
};
use exclave_seal::verify_one;
use futures::stream::{self, StreamExt};

use crate::{
    archive::{Archive, CharterFork, SiteTrouble},
    fetch::{Problem, race::first_good},
    surroundings::Surroundings,
    witness::{Standing, Watched},
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
    /// What came of writers that were revoked, when they left heads.
    pub revoked: Vec<RevokedWriter>,
    /// The newest charter that a head obeys and no site shows, when there is one.
    pub hidden_charter: Option<u32>,
    /// What witnesses say of the logs, where somebody looked.
    pub watched: Option<Watched>,
}

/// A writer that was revoked, and what it left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedWriter {
    /// The writer.
    pub writer: KeyId,
    /// Its heads that don't count.
    pub void: usize,
    /// Pins whose head no site shows: what they hold is lost or hidden.
    pub missing: Vec<Pin>,
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

/// How fresh what was found is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Freshness {
    /// The grade.
    pub grade: Grade,
    /// Sites of the charter that answered completely.
    pub answered: usize,
    /// How many must, for F2.
    pub needed: usize,
    /// What witnesses say: F1 takes F2 and their word.
    pub standing: Standing,
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

pub(crate) async fn survey_async(archive: &Archive) -> Result<Survey, SurveyError> {
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
        revoked: Vec::new(),
        hidden_charter: None,
        watched: None,
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
    let facts = survey.found.values().map(|found| {
        let known = found.sites.iter().filter_map(|site| archive.sites.get(*site)?.id);
        HeadFact::of(found.hash, &found.head, known)
    });
    let mut facts: Vec<HeadFact> = facts.collect();
    survey.revoked = void_revoked(archive, &mut facts);
    let counted: BTreeSet<RecordHash> = facts.iter().map(|fact| fact.hash).collect();
    survey.found.retain(|hash, _| counted.contains(hash));
    survey.heads = Heads::new(facts);
    survey.findings = survey.heads.findings();
    Ok(survey)
}

/// Takes out what revoked writers signed and no pin holds.
fn void_revoked(archive: &Archive, facts: &mut Vec<HeadFact>) -> Vec<RevokedWriter> {
    let mut revoked = Vec::new();
    for revocation in archive.charter().revocations() {
        let writer = revocation.key;
        let pinned = pinned(writer, &revocation.pins, facts.iter());
        let before = facts.len();
        facts.retain(|fact| fact.writer != writer || pinned.counted.contains(&fact.hash));
        let void = before - facts.len();
        if void > 0 || !pinned.missing.is_empty() {
            revoked.push(RevokedWriter {
                writer,
                void,
                missing: pinned.missing,
            });
        }
    }
    revoked
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
            Some(Judged::Unknown(version)) => survey.hidden_charter = survey.hidden_charter.max(Some(version)),
            Some(Judged::Valid(hash, head)) => {
                // Signatures are not part of the record: one head may lie under two names.
                let found = survey.found.entry(hash).or_insert_with(|| FoundHead {
                    hash,
                    head: *head,
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
) -> (Option<Judged>, Vec<(usize, Problem)>) {
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
        .is_some_and(|writer| archive.charters.writer_key(writer).is_some())
}

/// A head's object that a writer of the archive signed.
enum Judged {
    /// A head.
    Valid(RecordHash, Box<Head>),
    /// One that obeys a charter version that no site shows.
    Unknown(u32),
}

/// The hash of the head that an object is in its place, when it obeys a charter version that is known.
pub(crate) fn is_head(archive: &Archive, name: &ObjectName, bytes: &Bytes) -> Option<RecordHash> {
    match verify_head(archive, name, bytes)? {
        Judged::Valid(hash, _) => Some(hash),
        Judged::Unknown(_) => None,
    }
}

/// The head, when the object is one of this archive's in its place.
fn verify_head(archive: &Archive, name: &ObjectName, bytes: &Bytes) -> Option<Judged> {
    let object = SignedObject::from_bytes(bytes, HEAD_BYTES_MAX).ok()?;
    // Who must have signed is read from the record before the signature is checked, and used for nothing else.
    let claimed = Head::from_bytes(object.record_bytes()).ok()?.writer;
    let head = verify_one::<Head>(&object, archive.charters.writer_key(claimed)?).ok()?;
    let place = archive
        .names
        .head(head.writer, head.incarnation, head.seq, Tag::of(bytes));
    if head.anchor != archive.anchor || place != *name {
        return None;
    }
    match archive.charters.obeyed(head.charter_version) {
        Ok(charter) => {
            charter.permit(claimed, Act::Commit).ok()?;
            Some(Judged::Valid(object.record_hash(), Box::new(head)))
        }
        // Someone who was a writer once can claim any number; the newest charter says whether that one is revoked.
        Err(_) => archive
            .charter()
            .permit(claimed, Act::Commit)
            .ok()
            .map(|()| Judged::Unknown(head.charter_version)),
    }
}

/// What charters and the heads that obey them give away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CharterFinding {
    /// The roots signed twice.
    #[error(transparent)]
    Fork(CharterFork),
    /// A head obeys a charter that no site shows.
    #[error(
        "a head obeys charter version {version}, and the sites show version {newest} at most: one is hidden or lost"
    )]
    Hidden {
        /// The version that it obeys.
        version: u32,
        /// The newest that is shown.
        newest: u32,
    },
    /// What a pin of a revocation holds is not there.
    #[error("the last accepted head of revoked writer {writer}, {} in place {}, is shown by no site", pin.head, pin.seq)]
    PinMissing {
        /// The writer.
        writer: KeyId,
        /// The pin.
        pin: Pin,
    },
    /// A revoked writer's heads that don't count.
    #[error("{count} heads of revoked writer {writer} are void")]
    Void {
        /// The writer.
        writer: KeyId,
        /// How many.
        count: usize,
    },
}

impl CharterFinding {
    /// True for what must not happen with honest people and honest sites. Void heads are what a revocation is for.
    pub fn is_alarm(&self) -> bool {
        !matches!(self, Self::Void { .. })
    }
}

impl Survey {
    /// What the archive's charters and the heads that obey them give away.
    pub fn charter_findings(&self, archive: &Archive) -> Vec<CharterFinding> {
        let newest = archive.charter().version;
        let fork = archive.fork.clone().map(CharterFinding::Fork);
        let hidden = self
            .hidden_charter
            .map(|version| CharterFinding::Hidden { version, newest });
        let revoked = self.revoked.iter().flat_map(|revoked| {
            let writer = revoked.writer;
            let void = (revoked.void > 0).then_some(CharterFinding::Void {
                writer,
                count: revoked.void,
            });
            let missing = revoked.missing.iter();
            void.into_iter()
                .chain(missing.map(move |pin| CharterFinding::PinMissing { writer, pin: *pin }))
        });
        fork.into_iter().chain(hidden).chain(revoked).collect()
    }

    /// How fresh snapshots of a class are.
    pub fn freshness(&self, archive: &Archive, class: &Class) -> Option<Freshness> {
        let policy = class.policy().ok()?;
        let quorums = Quorums::new(policy.geometry, Some(policy.losses), policy.liars).ok()?;
        let answered = self.answered(archive).len();
        let sites = archive.charter().sites.len().max(usize::from(quorums.sites()));
        let hidden_by = usize::from(quorums.heads()).saturating_sub(usize::from(policy.liars));
        let needed = (sites + 1).saturating_sub(hidden_by);
        Some(Freshness {
            grade: grade(answered, needed, Cosigned::No),
            answered,
            needed,
            standing: Standing::Unwatched,
        })
    }

    /// How fresh a snapshot of a class is that this head committed.
    pub fn freshness_of(&self, archive: &Archive, class: &Class, found: &FoundHead) -> Option<Freshness> {
        let counted = self.freshness(archive, class)?;
        let log = LogId::new(archive.anchor, found.head.writer, found.head.incarnation);
        let standing = self
            .watched
            .as_ref()
            .map_or(Standing::Unwatched, |watched| watched.standing(&log, found.hash));
        let cosigned = match standing {
            Standing::Vouched { .. } => Cosigned::Recently,
            _ => Cosigned::No,
        };
        Some(Freshness {
            grade: grade(counted.answered, counted.needed, cosigned),
            standing,
            ..counted
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
