//! Takes a dataset abroad: one run, from the walk to the committed head.
//!
//! ```text
//! intake ─ batches ─> workers (name, look up, compress) ─> packer ─ full stripes ─> sealing ─ uploads ─> settling
//! one thread          one per core                         one        in order      one per core   tokio   one: journal, catalog
//! ```
//!
//! All channels are bounded; stripes between packer and settling share one in-flight budget, so memory is bounded whatever
//! the source. Around the pipeline stands the commit protocol of DESIGN section 6: recovery of dead runs and debts first,
//! then the envelope, then shards, then the reuse claim, the ledger and the run table, and the head last.

mod activity;
mod chunks;
mod error;
mod finish;
mod flow;
mod forgotten;
mod intake;
mod look;
mod pack;
mod preflight;
mod recover;
mod remembered;
mod report;
mod ship;
mod tenant;
mod upload;

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    sync::{Arc, Mutex, mpsc},
};

use bytes::Bytes;
use exclave_catalog::{Catalog, RunRecord, RunState};
use exclave_dataset::{
    cut::{ChunkSizes, Cutter, GearTable},
    pack::{CompressionLevel, Compressor},
};
use exclave_model::{
    BufferPool, ChunkRef, ClassPolicy, Envelope, LiveSet, RecordError, RunId, RunObject, SiteId, Tag, Timestamp,
    Version1,
};
use exclave_plan::{Candidate, Layout, Quorums, RunCommit, RunEvent, Verdict, layout::Reachability};
use exclave_seal::{RunKey, SigningKey, entropy::draw, envelope::wrap, sealed_box::seal_label};
use exclave_stripe::{Sealer, StripeShape};

pub(crate) use self::upload::chain_text;
use self::{
    activity::Judged,
    chunks::Workers,
    finish::{Described, Finish, Said},
    flow::Flow,
    intake::Intake,
    pack::{ChunkStore, OnTheWay, Packed, Packer, StoreParts},
    preflight::{Preflight, preflight},
    recover::{DeadRun, Recovered},
    ship::{Settled, Settling, Shipping},
    upload::Standing,
};
pub use self::{
    activity::Tripwires,
    error::ReplicateError,
    intake::{NamedStream, Source, SourceError, StreamInput},
    report::{ReplicateReport, RunOutcome},
};
use crate::{
    archive::Archive,
    collect::Marks,
    debt::{Paid, pay_debts},
    journal::{Begun, Journal, JournalEntry},
    local,
    log::{LogStanding, Logged, write::log_head},
    publish::publish,
    state::{AgentState, Dataset, RunNote, StreamLengths},
    surroundings::Surroundings,
};

/// Stripes that may be in flight at once, in bytes of shards.
pub const IN_FLIGHT_BYTES_DEFAULT: usize = 256 << 20;

/// The version of the format that this program writes.
pub const FORMAT_VERSION: u32 = 1;

/// What to replicate, and how.
pub struct ReplicateRequest {
    /// Name of the dataset.
    pub dataset: String,
    /// Its class.
    pub class: u32,
    /// Its label.
    pub label: String,
    /// Where it comes from.
    pub source: Source,
    /// Digest of the source's definition, so that a restorer sees when it changed.
    pub source_digest: [u8; 32],
    /// Bounds of its chunks.
    pub chunk_sizes: ChunkSizes,
    /// How hard chunks are compressed.
    pub compression: CompressionLevel,
    /// How often a file that changes is read.
    pub read_attempts: NonZeroU32,
    /// In-flight budget.
    pub in_flight_bytes: usize,
    /// Sites that were probed and keep what they have when a name is taken.
    pub create_only: BTreeSet<SiteId>,
    /// Sites whose bucket was seen to lock by itself what is put, and for how many days.
    pub locks: BTreeMap<SiteId, u32>,
    /// What to do when the dataset is new here, and the sites hold others of this writer that are not known here.
    pub if_forgotten: IfForgotten,
    /// When a change of the source is told.
    pub tripwires: Tripwires,
}

/// What to do when the state folder has forgotten datasets and a new one is to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfForgotten {
    /// Say so, and begin none: the new one may be one of the forgotten.
    Refuse,
    /// Begin it: it is another one.
    BeginAnew,
}

/// Takes a dataset abroad.
pub fn replicate(
    archive: &Archive,
    state: &AgentState,
    catalog: &Catalog,
    request: ReplicateRequest,
    surroundings: &Surroundings,
) -> Result<ReplicateReport, ReplicateError> {
    let mut entropy = surroundings.entropy.entropy();
    let key = state.writer_key(&*surroundings.tokens)?;
    let terms = Terms::of(archive, &key, &request)?;
    forgotten::refuse_forgotten(archive, state, &key, &request, surroundings)?;
    let (dataset, _dataset_lock) = state.lock_dataset(&request.dataset, request.class, &mut *entropy)?;
    let tenant = tenant::standing(archive, state, &dataset, surroundings)?;
    let terms = terms.under(&tenant)?;
    let recovered = recover::recover(archive, state, catalog, dataset.id, &key, surroundings)?;
    let mut preflight = preflight(archive, state, &key, &mut *entropy, surroundings)?;
    preflight.alarms.extend(tenant.alarms);
    for site in &preflight.bare {
        surroundings.runtime.block_on(catalog.forget_sightings(*site))?;
    }
    let (candidates, layout) = choose_layout(archive, &preflight, terms.quorums)?;
    let mut notes: BTreeMap<RunId, RunNote> = state
        .run_notes(dataset.id)?
        .into_iter()
        .map(|note| (note.run, note))
        .collect();
    notes.extend(recovered.dead.iter().map(|dead| (dead.note.run, dead.note.clone())));
    finish::note_marks(
        catalog,
        surroundings,
        &surroundings.runtime.block_on(Marks::read(archive)),
    )?;
    let debts = pay_debts(archive, catalog, &notes, surroundings)?;
    notes.retain(|_, note| terms.can_be_met(note, archive));
    tenant::keep_trusted(&mut notes, archive, catalog, key.id(), surroundings)?;
    let run = begin(
        archive,
        state,
        catalog,
        &dataset,
        &request,
        &terms,
        &key,
        layout,
        surroundings,
    )?;
    Job {
        archive,
        state,
        catalog,
        surroundings,
        dataset,
        key,
        terms,
        notes,
        candidates,
        recovered,
        preflight,
        debts,
        locks: request.locks.clone(),
    }
    .run(run, request)
}

/// What the charter demands of the dataset's class.
struct Terms {
    policy: ClassPolicy,
    quorums: Quorums,
    recipients: exclave_model::RecipientSet,
}

impl Terms {
    fn of(archive: &Archive, key: &SigningKey, request: &ReplicateRequest) -> Result<Self, ReplicateError> {
        let charter = archive.charter();
        if !charter.allows_format(FORMAT_VERSION) {
            return Err(ReplicateError::Format {
                version: FORMAT_VERSION,
                charter: charter.version,
            });
        }
        let class = charter
            .class(request.class)
            .ok_or(ReplicateError::NoSuchClass(request.class))?;
        let writer = charter
            .writer(key.id())
            .filter(|writer| writer.classes.contains(&request.class));
        writer.ok_or(ReplicateError::NotAWriter { class: request.class })?;
        let policy = class
            .policy()
            .map_err(|rule| RecordError::Unlawful { kind: "charter", rule })?;
        let quorums = Quorums::new(policy.geometry, Some(policy.losses), policy.liars).map_err(|source| {
            ReplicateError::Class {
                class: request.class,
                source,
            }
        })?;
        let recipients = charter
            .recipients_of(class)
            .ok_or(ReplicateError::NoSuchClass(request.class))?
            .clone();
        let shape = StripeShape {
            geometry: policy.geometry,
            payload: policy.payload,
        };
        let (chunk, stripe) = (request.chunk_sizes.max(), shape.chunk_bytes_max());
        if chunk > stripe {
            return Err(ReplicateError::ChunkTooLarge { chunk, stripe });
        }
        Ok(Self {
            policy,
            quorums,
            recipients,
        })
    }

    /// The same for a dataset for which an administrator may demand more.
    fn under(mut self, tenant: &tenant::Standing) -> Result<Self, ReplicateError> {
        self.policy = tenant.policy;
        self.quorums =
            Quorums::new(self.policy.geometry, Some(self.policy.losses), self.policy.liars).map_err(|source| {
                ReplicateError::Class {
                    class: tenant.class,
                    source,
                }
            })?;
        Ok(self)
    }

    /// Whether a commit that refers to a run can be met: its layouts still have enough sites in the charter. A run that
    /// lies at sites that the charter dropped is not referred to, and what it holds is sent anew.
    fn can_be_met(&self, note: &RunNote, archive: &Archive) -> bool {
        let needed = self.quorums.heads().max(self.quorums.shards_at_commit());
        note.layouts.iter().all(|layout| {
            let kept = layout
                .sites
                .iter()
                .filter(|site| archive.charter().site(**site).is_some());
            kept.count() >= usize::from(needed)
        })
    }

    fn shape(&self) -> StripeShape {
        StripeShape {
            geometry: self.policy.geometry,
            payload: self.policy.payload,
        }
    }
}

fn choose_layout(
    archive: &Archive,
    preflight: &Preflight,
    quorums: Quorums,
) -> Result<(Vec<Candidate>, Layout), ReplicateError> {
    let candidates: Vec<Candidate> = archive
        .charter()
        .sites
        .iter()
        .map(|site| {
            let reachable = preflight.reachable.contains(&site.id);
            Candidate::of(
                site,
                if reachable {
                    Reachability::Reachable
                } else {
                    Reachability::Unreachable
                },
            )
        })
        .collect();
    let layout = Layout::choose(&candidates, quorums.sites())?;
    Ok((candidates, layout))
}

/// A run that has its key, its journal and its envelope at the sites.
struct Run {
    id: RunId,
    key: RunKey,
    started: i64,
    journal: Journal,
    commit: RunCommit,
    layout: Layout,
}

#[expect(
    clippy::too_many_arguments,
    reason = "each is a part of the world that a run begins in, used once"
)]
fn begin(
    archive: &Archive,
    state: &AgentState,
    catalog: &Catalog,
    dataset: &Dataset,
    request: &ReplicateRequest,
    terms: &Terms,
    key: &SigningKey,
    layout: Layout,
    surroundings: &Surroundings,
) -> Result<Run, ReplicateError> {
    let mut entropy = surroundings.entropy.entropy();
    let id = RunId::from_bytes(draw(&mut *entropy)?);
    let run_key = RunKey::generate(&mut *entropy)?;
    let started = surroundings.clock.now_unix_seconds();
    let incarnation = state.chain()?.incarnation;
    let envelope = Envelope {
        format: Version1,
        anchor: archive.anchor,
        run: id,
        dataset: dataset.id,
        class: request.class,
        charter_version: archive.charter().version,
        recipient_set: terms.recipients.id,
        crypto_epoch: terms.recipients.crypto_epoch,
        commitment: run_key.commitment(),
        label: seal_label(&run_key, &request.label, &mut *entropy)?,
        stanzas: wrap(&run_key, &archive.anchor, &id, &terms.recipients.keys, &mut *entropy)?,
        incarnation,
    };
    let object = Bytes::from(key.sign(&envelope, &mut *entropy)?.to_bytes());
    let record = RunRecord {
        run: id,
        dataset: dataset.id,
        class: request.class,
        label_digest: *blake3::hash(request.label.as_bytes()).as_bytes(),
        crypto_epoch: terms.recipients.crypto_epoch,
        writer: key.id(),
        incarnation,
        started,
    };
    let mut journal = Journal::create(&state.journal_path(id))?;
    journal.append(&JournalEntry::Begun(Begun {
        run: id,
        dataset: dataset.id,
        incarnation,
        class: request.class,
        crypto_epoch: record.crypto_epoch,
        label_digest: record.label_digest,
        commitment: envelope.commitment,
        started,
        envelope: object.to_vec(),
    }))?;
    surroundings.runtime.block_on(catalog.begin_run(&record))?;
    let mut commit = RunCommit::new(layout.clone(), terms.quorums);
    let name = archive.names.run_object(id, RunObject::Envelope, Tag::of(&object));
    for site in surroundings
        .runtime
        .block_on(publish(&archive.sites, &name, &object))
        .sites
    {
        commit.handle(RunEvent::EnvelopeAt(site))?;
    }
    commit.allows(exclave_plan::RunStep::PutShards(RunCommit::FIRST_LAYOUT))?;
    Ok(Run {
        id,
        key: run_key,
        started,
        journal,
        commit,
        layout,
    })
}

/// One replication with everything it stands on.
struct Job<'a> {
    archive: &'a Archive,
    state: &'a AgentState,
    catalog: &'a Catalog,
    surroundings: &'a Surroundings,
    dataset: Dataset,
    key: SigningKey,
    terms: Terms,
    notes: BTreeMap<RunId, RunNote>,
    candidates: Vec<Candidate>,
    recovered: Recovered,
    preflight: Preflight,
    debts: Paid,
    locks: BTreeMap<SiteId, u32>,
}

impl Job<'_> {
    fn run(mut self, mut run: Run, request: ReplicateRequest) -> Result<ReplicateReport, ReplicateError> {
        let ReplicateRequest {
            label,
            source,
            source_digest,
            chunk_sizes,
            tripwires,
            ..
        } = &request;
        let (label, source_kind, source_digest) = (label.clone(), source.kind(), *source_digest);
        let tripwires = *tripwires;
        let cutter = Cutter::content_defined(
            &GearTable::from_le_bytes(self.dataset.secret.gear_bytes().as_bytes()),
            *chunk_sizes,
        );
        let cutter_text = cutter.to_string();
        let standing = Arc::new(Standing::default());
        let (packed, settled, streams) = self.pipeline(&mut run, request, cutter, &standing)?;
        let Settled {
            mut commit,
            mut ledger,
            stripes,
        } = settled;
        ledger.publish(self.archive, self.surroundings, Some(&mut commit))?;
        let own = RunNote {
            run: run.id,
            commitment: run.key.commitment(),
            ledgers: ledger.parts,
            layouts: if ledger.layouts.is_empty() {
                vec![first_layout(&run.layout)]
            } else {
                ledger.layouts
            },
        };
        let finish = Finish {
            archive: self.archive,
            state: self.state,
            catalog: self.catalog,
            surroundings: self.surroundings,
            dataset: &self.dataset,
            key: &self.key,
            run: run.id,
            run_key: &run.key,
            quorums: self.terms.quorums,
            notes: &self.notes,
            tips: self.preflight.tips.clone(),
            reachable: &self.preflight.reachable,
            locks: &self.locks,
        };
        finish.claim_reused(&mut commit, &packed.live)?;
        finish.refresh_records(&mut commit, &packed.live)?;
        let (run_pages, notes) = finish.write_run_table(&mut commit, &packed.live, own)?;
        let described = Described {
            label: &label,
            started: run.started,
            source: source_kind,
            source_digest,
            cutter: cutter_text,
        };
        let judged = Judged::of(
            self.state,
            self.dataset.id,
            &source_digest,
            &packed.activity,
            &tripwires,
        )?;
        let said = Said {
            sealed: finish.seal(&packed, described)?,
            run_pages,
            tripwires: judged.trips.iter().map(|trip| trip.wire).collect(),
        };
        let finished = finish.put_head(&mut commit, &mut run.journal, said, &notes)?;
        let (outcome, verified_min, debt) = match &finished.verdict {
            Verdict::Committed { debt } => (
                RunOutcome::Committed,
                commit.safety().map_or(0, |s| s.verified_min),
                *debt,
            ),
            Verdict::Provisional { debt, verified_min } => (RunOutcome::Provisional, *verified_min, *debt),
            Verdict::HeadBelowQuorum(_) => (
                RunOutcome::BelowQuorum,
                commit.safety().map_or(0, |s| s.verified_min),
                0,
            ),
            Verdict::NoHead(missing) => return Err((*missing).into()),
        };
        let (counts, bytes_new) = (packed.counts, packed.bytes_new);
        let (findings, findings_total) = (packed.findings, packed.findings_total);
        if outcome != RunOutcome::BelowQuorum {
            self.settle_locally(&mut run, outcome, &notes, packed.states)?;
            self.state.save_stream_lengths(self.dataset.id, &streams)?;
            judged.remember(self.state, self.dataset.id)?;
        }
        let (log, logged) = self.log(outcome, finished.logged);
        let mut site_troubles = std::mem::take(&mut self.preflight.troubles);
        site_troubles.extend(
            standing
                .said()
                .into_iter()
                .map(|(site, said)| (self.archive.site_name(site), said)),
        );
        let poisoned = self.archive.poisoned();
        let poisoned = poisoned
            .iter()
            .map(ToString::to_string)
            .chain(finished.unlocked)
            .collect();
        Ok(ReplicateReport {
            outcome,
            dataset: self.dataset.id,
            run: run.id,
            head: finished.hash,
            seq: finished.seq,
            head_sites: finished.sites,
            counts,
            bytes_new,
            stripes,
            verified_min,
            debt,
            debts_paid: self.debts.shards,
            debts_unpaid: std::mem::take(&mut self.debts.unpaid),
            recovered_stripes: self.recovered.stripes,
            recovered_heads: self.recovered.heads_completed,
            new_incarnation: self.preflight.new_incarnation,
            findings,
            findings_total,
            trips: judged.trips,
            site_troubles,
            alarms: [std::mem::take(&mut self.preflight.alarms), standing.alarms(), poisoned].concat(),
            log,
            logged,
        })
    }

    /// After the commit, which no longer depends on anything: the head goes into this writer's log.
    fn log(&self, outcome: RunOutcome, head: crate::log::write::CommittedHead) -> (LogStanding, Option<Logged>) {
        if outcome == RunOutcome::BelowQuorum {
            return (LogStanding::NotYet("the head is not committed".to_owned()), None);
        }
        let written = log_head(
            self.archive,
            self.state,
            &self.key,
            head,
            &self.preflight.bare,
            self.surroundings,
        );
        (LogStanding::of(&written), written.ok())
    }

    /// After the commit: what the next run will want to know, and last words for the runs that are over.
    fn settle_locally(
        &mut self,
        run: &mut Run,
        outcome: RunOutcome,
        notes: &[RunNote],
        states: Option<exclave_catalog::StateWriter>,
    ) -> Result<(), ReplicateError> {
        run.journal.append(&JournalEntry::Committed)?;
        self.state.save_run_notes(self.dataset.id, &notes.to_vec())?;
        let state = match outcome {
            RunOutcome::Committed => RunState::Committed,
            RunOutcome::Provisional | RunOutcome::BelowQuorum => RunState::Provisional,
        };
        self.surroundings.runtime.block_on(async {
            self.catalog.finish_run(run.id, state).await?;
            match states {
                Some(states) => states.commit().await,
                None => Ok(()),
            }
        })?;
        let dead: Vec<DeadRun> = std::mem::take(&mut self.recovered.dead);
        for dead in dead {
            dead.close(self.archive, &self.key, self.surroundings)?;
        }
        let incarnation = self.state.chain()?.incarnation;
        recover::close(self.archive, run.id, incarnation, &self.key, self.surroundings)?;
        Ok(local::remove(&self.state.journal_path(run.id))?)
    }

    /// Stripes of earlier runs that an unchanged file may go on lying in: those of this run's own scope, as for look-ups.
    fn reusable_stripes(&self, own: RunId) -> Result<BTreeMap<RunId, LiveSet>, ReplicateError> {
        let stripes_of = |run: &RunId| {
            let asked = self.catalog.reusable_stripes(own, *run);
            Ok((*run, self.surroundings.runtime.block_on(asked)?))
        };
        self.notes.keys().map(stripes_of).collect()
    }

    /// Runs the threads of the module's picture.
    fn pipeline(
        &self,
        run: &mut Run,
        request: ReplicateRequest,
        cutter: Cutter,
        standing: &Arc<Standing>,
    ) -> Result<(Packed, Settled, StreamLengths), ReplicateError> {
        let threads = self.surroundings.threads.get();
        let flow = Flow::new(request.in_flight_bytes);
        let shape = self.terms.shape();
        let pool = BufferPool::new(8);
        let on_the_way = Mutex::new(OnTheWay::default());
        let hasher = self.dataset.secret.chunk_hasher();
        let label_tag = run.key.label_tag(&request.label);
        let sealer = Sealer::new(self.archive.anchor, run.id, label_tag, shape, pool.clone());
        let layout = Mutex::new(run.layout.clone());
        let (own, notes) = (run.id, &self.notes);
        let reusable = move |chunk: &ChunkRef| chunk.run == own || notes.contains_key(&chunk.run);
        let states = match &request.source {
            Source::Tree { .. } => Some(
                self.surroundings
                    .runtime
                    .block_on(self.catalog.write_states(self.dataset.id, run.id))?,
            ),
            Source::File(_) | Source::Image { .. } | Source::Streams(_) => None,
        };
        let reusable_stripes = self.reusable_stripes(run.id)?;
        let anew = reusable_stripes.values().all(LiveSet::is_empty);
        let (batches_out, batches) = mpsc::sync_channel(2);
        let (named_out, named) = mpsc::sync_channel(2);
        let (full_out, full) = mpsc::sync_channel(1);
        let (shipped_out, shipped) = mpsc::channel();
        let (batches, full) = (Mutex::new(batches), Mutex::new(full));
        let workers = Workers {
            flow: &flow,
            surroundings: self.surroundings,
            catalog: self.catalog,
            run: run.id,
            hasher: &hasher,
            level: request.compression,
            reusable: &reusable,
        };
        let intake = Intake {
            flow: &flow,
            surroundings: self.surroundings,
            catalog: self.catalog,
            dataset: self.dataset.id,
            cutter,
            attempts: request.read_attempts,
            reusable: reusable_stripes,
            started: Timestamp {
                secs: run.started,
                nanos: 0,
            },
            previous_streams: self.state.stream_lengths(self.dataset.id)?,
            out: batches_out,
        };
        let shipping = Shipping {
            flow: &flow,
            surroundings: self.surroundings,
            archive: self.archive,
            sealer: &sealer,
            run_key: &run.key,
            quorums: self.terms.quorums,
            read_back: self.terms.policy.read_back,
            create_only: &request.create_only,
            layout: &layout,
            candidates: &self.candidates,
            standing,
        };
        let settling = Settling {
            flow: &flow,
            surroundings: self.surroundings,
            archive: self.archive,
            catalog: self.catalog,
            on_the_way: &on_the_way,
            quorums: self.terms.quorums,
            run: run.id,
            standing,
        };
        let store = ChunkStore::new(StoreParts {
            flow: &flow,
            surroundings: self.surroundings,
            catalog: self.catalog,
            run: run.id,
            shape,
            pool,
            on_the_way: &on_the_way,
            hasher: &hasher,
            compressor: Compressor::new(request.compression)?,
            reusable: &reusable,
            out: full_out,
        });
        let page_bytes_max = shape.chunk_bytes_max().min(exclave_model::limit::PAGE_BYTES_MAX);
        let packer = Packer::new(store, &self.dataset.secret.page_boundary_key(), page_bytes_max, states);
        let (commit, journal) = (run.commit.clone(), &mut run.journal);
        let (taken, packed, settled) = std::thread::scope(|scope| {
            let settled = scope.spawn(|| settling.work(shipped, journal, commit));
            for _ in 0..threads {
                let out = shipped_out.clone();
                scope.spawn(|| shipping.work(&full, out));
                let out = named_out.clone();
                scope.spawn(|| workers.work(&batches, out));
            }
            drop((shipped_out, named_out));
            let taken = scope.spawn(|| intake.run(request.source));
            let packed = packer.run(named);
            (taken.join(), packed, settled.join())
        });
        let durable_stripes = settled
            .as_ref()
            .ok()
            .and_then(|s| s.as_ref().ok())
            .map_or(0, |s| s.stripes);
        match flow.into_failure() {
            Some(ReplicateError::Interrupted { .. }) => return Err(ReplicateError::Interrupted { durable_stripes }),
            Some(failure) => return Err(failure),
            None => {}
        }
        match (taken, packed, settled) {
            (Ok(Ok(taken)), Ok(mut packed), Ok(Ok(settled))) => {
                packed.counts.excluded = taken.excluded;
                packed.activity.gone_files = taken.gone_files;
                packed.activity.anew = anew;
                Ok((packed, settled, taken.streams.into_iter().collect()))
            }
            _ => Err(ReplicateError::ThreadLost),
        }
    }
}

fn first_layout(layout: &Layout) -> exclave_model::LayoutFrom {
    exclave_model::LayoutFrom {
        first_ordinal: 0,
        sites: layout.sites().to_vec(),
    }
}
