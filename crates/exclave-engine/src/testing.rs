//! A tiny archive in memory, forged from model, seal, stripe and dataset alone: what readers are tested against, so that
//! they agree with the format and not with our own writer.

use std::{num::NonZeroUsize, sync::Arc};

use bytes::Bytes;
use exclave_dataset::{
    pack::{CompressionLevel, Compressor},
    page::{ContentWriter, PageWriter},
};
use exclave_model::BufferPool;
use exclave_model::{
    Anchor, ArchiveNames, Charter, ChunkKind, ChunkRef, Class, ClassPolicy, Codec, Commitment, Content, Counts,
    DatasetId, Entry, EntryKind, EntryPath, Envelope, Geometry, Grant, GrantedRun, Head, Hosting, Incarnation,
    LayoutFrom, LedgerPart, LiveSet, ManifestRoot, Member, MemberRole, ObjectName, Pace, PayloadLength, ReadBack,
    RecipientSet, Record, RecordHash, Roots, RunEntry, RunId, RunObject, RunPage, SealedHead, ShardName, SiteId,
    SitePlate, SiteRecord, SnapshotState, SourceKind, StripeRecord, Tag, Timestamp, Version1, Writer,
    limit::SEGMENT_BYTES,
};
use exclave_plan::quorum::Quorums;
use exclave_seal::{
    ChunkHasher, DatasetSecret, Entropy, RecoveryIdentity, RunKey, SeededEntropy, SigningKey, envelope, sealed_box,
    secret::Secret,
};
use exclave_site::{SimulatedSite, Site, Steps};
use exclave_stripe::{Sealer, StripeBuilder, StripeShape};

use crate::{
    Archive, Clock, EntropySource, Progress, Surroundings,
    charter::Proposal,
    fetch::ReadSettings,
    snapshot::{Depth, Snapshots},
    survey::{Survey, survey},
};

/// Raw bytes of a forged file's chunks.
pub(crate) const CHUNK_BYTES: usize = 20_000;

/// An archive, its keys and its sites.
pub(crate) struct World {
    pub(crate) sites: Vec<SimulatedSite>,
    /// Counts what is done at all of them.
    pub(crate) steps: Steps,
    pub(crate) archive: Archive,
    pub(crate) identity: RecoveryIdentity,
    pub(crate) surroundings: Surroundings,
    pub(crate) dataset: DatasetId,
    pub(crate) writer: SigningKey,
    pub(crate) entropy: SeededEntropy,
    shape: StripeShape,
    secret: DatasetSecret,
    incarnation: Incarnation,
    tips: Vec<RecordHash>,
    chain: Vec<RecordHash>,
    runs: Vec<RunEntry>,
    _runtime: tokio::runtime::Runtime,
}

/// One forged run.
pub(crate) struct Forged {
    pub(crate) head: RecordHash,
    pub(crate) head_name: ObjectName,
    pub(crate) run: RunId,
    pub(crate) entries: Vec<Entry>,
    /// Stripes of data; those behind them hold the manifest.
    pub(crate) data_stripes: u32,
    pub(crate) stripes: Vec<StripeRecord>,
}

/// The root's number in [`signing_key`].
pub(crate) const ROOT: u8 = 1;
/// The first writer's.
pub(crate) const WRITER: u8 = 2;
/// The restorer's.
pub(crate) const RESTORER: u8 = 200;
/// The auditor's.
pub(crate) const AUDITOR: u8 = 201;

/// The signing key of a number: whoever needs it again makes it again, since keys are never copied.
pub(crate) fn signing_key(number: u8) -> SigningKey {
    SigningKey::from_seeds(Secret::new([number; 64]))
}

struct Fixed;

impl Clock for Fixed {
    /// A clock that is wrong by decades: restores must not care.
    fn now_unix_seconds(&self) -> i64 {
        1_000
    }
}

impl EntropySource for Fixed {
    fn entropy(&self) -> Box<dyn Entropy> {
        Box::new(SeededEntropy::new(77))
    }
}

/// Reproducible bytes that don't compress.
pub(crate) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut out);
    out
}

/// A file entry, its content still to be stored.
pub(crate) fn file(path: &str, content: &[u8]) -> (Entry, Vec<u8>) {
    let mut entry = Entry::new(EntryPath::parse(path.as_bytes()).unwrap(), EntryKind::File);
    entry.mode = 0o640;
    entry.size = content.len() as u64;
    entry.modified = Timestamp {
        secs: 1_700_000_000,
        nanos: 5,
    };
    (entry, content.to_vec())
}

/// A directory entry.
pub(crate) fn directory(path: &str) -> (Entry, Vec<u8>) {
    let mut entry = Entry::new(EntryPath::parse(path.as_bytes()).unwrap(), EntryKind::Directory);
    entry.mode = 0o750;
    (entry, Vec::new())
}

impl World {
    /// An archive of `data + parity` sites named s0, s1, ...; stripes of `groups` groups a shard.
    pub(crate) fn new(data: u8, parity: u8, groups: usize) -> Self {
        let mut entropy = SeededEntropy::new(u64::from(data) << 8 | u64::from(parity));
        let geometry = Geometry::new(data, parity).unwrap();
        let payload = PayloadLength::new(groups * SEGMENT_BYTES, data).unwrap();
        let root = signing_key(ROOT);
        let writer = signing_key(WRITER);
        let identity = RecoveryIdentity::generate(&mut entropy).unwrap();
        let charter = charter(geometry, payload, &root, &writer, &identity);
        let signed = root.sign(&charter, &mut entropy).unwrap();
        let anchor = Anchor::from_bytes(*signed.record_hash().as_bytes());
        let names = ArchiveNames::new(anchor);
        let steps = Steps::new();
        let mut sites = Vec::new();
        for record in &charter.sites {
            let site = SimulatedSite::simulated(&record.name, 1, &steps).unwrap();
            let bytes: Bytes = signed.to_bytes().into();
            site.disk().plant(&names.charter(1, Tag::of(&bytes)), bytes);
            let plate = SitePlate {
                format: Version1,
                anchor,
                site: record.id,
            };
            let bytes: Bytes = root.sign(&plate, &mut entropy).unwrap().to_bytes().into();
            site.disk().plant(&names.plate(record.id, Tag::of(&bytes)), bytes);
            sites.push(site);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let stores = sites
            .iter()
            .map(|site| (String::new(), Arc::new(site.clone()) as Arc<dyn Site>));
        let (archive, troubles) = runtime.block_on(Archive::open(anchor, stores.collect())).unwrap();
        assert!(troubles.is_empty());
        Self {
            archive,
            surroundings: Surroundings {
                runtime: runtime.handle().clone(),
                clock: Arc::new(Fixed),
                entropy: Arc::new(Fixed),
                tokens: Arc::new(exclave_seal::NoTokens),
                threads: NonZeroUsize::new(2).unwrap(),
                progress: Arc::new(Progress::default()),
            },
            _runtime: runtime,
            sites,
            steps,
            identity,
            dataset: DatasetId::from_bytes([9; 16]),
            shape: StripeShape { geometry, payload },
            writer,
            secret: DatasetSecret::generate(&mut entropy).unwrap(),
            entropy,
            incarnation: Incarnation::from_bytes([5; 16]),
            tips: Vec::new(),
            chain: Vec::new(),
            runs: Vec::new(),
        }
    }

    /// Reader's settings for tests: impatient, and with little memory.
    pub(crate) fn settings() -> ReadSettings {
        ReadSettings {
            hedge: std::time::Duration::from_millis(200),
            memory_bytes_max: 4 << 20,
            files_open_max: 4,
        }
    }

    pub(crate) fn survey(&self) -> Survey {
        survey(&self.archive, &self.surroundings).unwrap()
    }

    pub(crate) fn snapshots(&self, depth: Depth) -> Snapshots<'_> {
        self.snapshots_in(&self.archive, depth)
    }

    /// As seen through an archive that lacks sites.
    pub(crate) fn snapshots_in(&self, archive: &Archive, depth: Depth) -> Snapshots<'_> {
        let survey = survey(archive, &self.surroundings).unwrap();
        Snapshots::open(
            archive,
            &survey,
            &self.identity,
            depth,
            Self::settings(),
            &self.surroundings,
        )
    }

    /// Commits a snapshot of these entries, in order. Content is cut into chunks of [`CHUNK_BYTES`]; blocks of zeros
    /// become holes. Everything lies at every site of the layout, shard i at site i.
    pub(crate) fn commit(&mut self, tree: Vec<(Entry, Vec<u8>)>) -> Forged {
        self.commit_with(tree, |_| {})
    }

    /// The same, with a last change to the entries before they are written: what a hostile writer would do.
    pub(crate) fn commit_with(&mut self, tree: Vec<(Entry, Vec<u8>)>, twist: impl Fn(&mut Entry)) -> Forged {
        self.commit_twisted(tree, twist, |_, _| {})
    }

    /// The same, with a last change to the stripes too, before the ledger names them.
    pub(crate) fn commit_twisted(
        &mut self,
        tree: Vec<(Entry, Vec<u8>)>,
        twist: impl Fn(&mut Entry),
        twist_stripes: impl FnOnce(&Self, &mut Vec<StripeRecord>),
    ) -> Forged {
        let number = self.runs.len() as u64;
        let run_key = RunKey::generate(&mut self.entropy).unwrap();
        let run = RunId::from_bytes([number as u8 + 1; 16]);
        let boundary = self.secret.page_boundary_key();
        let mut packing = Packing::new(self, run, &run_key);
        let (mut entries, mut counts) = (Vec::new(), Counts::default());
        for (mut entry, content) in tree {
            if entry.kind == EntryKind::File {
                let mut writer = ContentWriter::new(boundary.as_bytes(), 1 << 17);
                for (at, chunk) in content.chunks(CHUNK_BYTES).enumerate() {
                    if chunk.iter().any(|byte| *byte != 0) {
                        let reference = packing.put(ChunkKind::Data, chunk);
                        let mut store = |page: &[u8]| Ok::<_, std::io::Error>(packing.put(ChunkKind::Page, page));
                        writer.push((at * CHUNK_BYTES) as u64, reference, &mut store).unwrap();
                    }
                }
                let mut store = |page: &[u8]| Ok::<_, std::io::Error>(packing.put(ChunkKind::Page, page));
                entry.content = writer.finish(&mut store).unwrap();
                counts.files += 1;
                counts.bytes += entry.size;
            }
            twist(&mut entry);
            entries.push(entry);
        }
        packing.flush();
        let data_stripes = packing.stripes.len() as u32;
        let mut pages = PageWriter::new(boundary.as_bytes(), 1 << 17);
        let mut store = |page: &[u8]| Ok::<_, std::io::Error>(packing.put(ChunkKind::Page, page));
        for entry in &entries {
            pages.append(entry.clone(), &mut store).unwrap();
        }
        let root = pages.finish(&mut store).unwrap();
        packing.flush();
        let mut stripes = std::mem::take(&mut packing.stripes);
        drop(packing);
        twist_stripes(self, &mut stripes);
        let root = ManifestRoot {
            level: root.level,
            page: root.page,
        };
        let (head, head_name) = self.publish(run, &run_key, &stripes, root, counts);
        Forged {
            head,
            head_name,
            run,
            entries,
            data_stripes,
            stripes,
        }
    }

    /// Forgets the last head, as a state folder from an older copy would: the next commit forks the chain.
    pub(crate) fn roll_back(&mut self) {
        self.chain.pop();
    }

    /// Another life of the writer, which has seen nothing of the others unless it is told `tips`.
    pub(crate) fn begin_life(&mut self, tips: Vec<RecordHash>) {
        let life = self.incarnation.as_bytes()[0] + 1;
        self.incarnation = Incarnation::from_bytes([life; 16]);
        self.tips = tips;
        self.chain.clear();
    }

    /// A proposal for the next charter, changed and signed by these roots.
    pub(crate) fn propose(&mut self, roots: &[&SigningKey], change: impl FnOnce(&mut Charter)) -> Proposal {
        let before = self.archive.charters.clone();
        let mut next = before.newest().clone();
        next.version += 1;
        next.previous = Some(before.newest_hash());
        change(&mut next);
        let mut object = roots[0].sign(&next, &mut self.entropy).unwrap();
        for root in &roots[1..] {
            object = root.cosign::<Charter>(&object, &mut self.entropy).unwrap();
        }
        let plates = next.sites.iter().filter(|site| before.newest().site(site.id).is_none());
        let plates = plates.map(|site| SitePlate {
            format: Version1,
            anchor: before.anchor(),
            site: site.id,
        });
        let plates: Vec<SitePlate> = plates.collect();
        let plates = plates
            .iter()
            .map(|plate| roots[0].sign(plate, &mut self.entropy).unwrap())
            .collect();
        Proposal {
            before,
            next,
            object,
            plates,
        }
    }

    /// Opens the archive anew, as its sites show it now.
    pub(crate) fn reopen(&mut self) {
        let stores = self.sites.iter().map(|site| {
            let shared: Arc<dyn Site> = Arc::new(site.clone());
            let address = site.address().to_string();
            (address.rsplit('/').next().unwrap().to_owned(), shared)
        });
        let opened = self
            .surroundings
            .runtime
            .block_on(Archive::open(self.archive.anchor, stores.collect()));
        self.archive = opened.unwrap().0;
    }

    /// Where a shard lies.
    pub(crate) fn shard_name(&self, stripe: &StripeRecord, index: u8) -> ObjectName {
        self.archive.names.shard(&ShardName {
            run: stripe.context.run,
            ordinal: stripe.context.ordinal,
            index,
            tag: Tag::of_hash(stripe.payloads[usize::from(index)].as_bytes()),
            attempt: 0,
        })
    }

    /// A grant that a restorer signed, at every site. What it gives opens to nobody.
    pub(crate) fn plant_grant(&self) -> ObjectName {
        let grant = Grant {
            format: Version1,
            anchor: self.archive.anchor,
            charter_version: 1,
            recipient: self.identity.public().clone(),
            heads: vec![RecordHash::from_bytes([1; 32])],
            runs: vec![GrantedRun {
                run: RunId::from_bytes([1; 16]),
                commitment: Commitment::from_bytes([1; 32]),
                enc: vec![1; 1120],
                ciphertext: vec![1; 48],
            }],
            created: 0,
            until: None,
        };
        let signed = signing_key(RESTORER).sign(&grant, &mut SeededEntropy::new(3)).unwrap();
        let bytes = signed.to_bytes();
        let name = self.archive.names.grant(Tag::of(&bytes));
        self.plant_everywhere(&name, bytes);
        name
    }

    fn plant_everywhere(&self, name: &ObjectName, bytes: Vec<u8>) {
        let bytes = Bytes::from(bytes);
        for site in &self.sites {
            site.disk().plant(name, bytes.clone());
        }
    }

    fn publish(
        &mut self,
        run: RunId,
        run_key: &RunKey,
        stripes: &[StripeRecord],
        root: ManifestRoot,
        counts: Counts,
    ) -> (RecordHash, ObjectName) {
        let (anchor, names) = (self.archive.anchor, self.archive.names);
        let recipients = [self.identity.public().clone()];
        let incarnation = self.incarnation;
        let envelope = Envelope {
            format: Version1,
            anchor,
            run,
            dataset: self.dataset,
            class: 0,
            charter_version: self.archive.charter().version,
            recipient_set: 0,
            crypto_epoch: self.archive.charter().recipient_sets[0].crypto_epoch,
            commitment: run_key.commitment(),
            label: sealed_box::seal_label(run_key, "", &mut self.entropy).unwrap(),
            stanzas: envelope::wrap(run_key, &anchor, &run, &recipients, &mut self.entropy).unwrap(),
            incarnation,
        };
        let bytes = self.writer.sign(&envelope, &mut self.entropy).unwrap().to_bytes();
        self.plant_everywhere(&names.run_object(run, RunObject::Envelope, Tag::of(&bytes)), bytes);
        let part = LedgerPart {
            format: Version1,
            anchor,
            run,
            part: 0,
            layouts: vec![LayoutFrom {
                first_ordinal: 0,
                sites: self.archive.charter().sites.iter().map(|site| site.id).collect(),
            }],
            stripes: stripes.to_vec(),
        };
        let bytes = part.to_bytes().unwrap();
        let ledger = RecordHash::of(&bytes);
        self.plant_everywhere(&names.run_object(run, RunObject::Ledger, Tag::of(&bytes)), bytes);
        self.runs.push(RunEntry {
            run,
            commitment: run_key.commitment(),
            live: stripes.iter().map(|stripe| stripe.context.ordinal).collect::<LiveSet>(),
            ledgers: vec![ledger],
        });
        let page = RunPage {
            format: Version1,
            anchor,
            runs: self.runs.clone(),
        };
        let bytes = page.to_bytes().unwrap();
        let page = RecordHash::of(&bytes);
        self.plant_everywhere(&names.run_object(run, RunObject::Live, Tag::of(&bytes)), bytes);
        let seq = self.chain.len() as u64;
        let sealed = SealedHead {
            name: "register".into(),
            label: String::new(),
            started: 1_699_999_900 + self.runs.len() as i64 * 100,
            finished: 1_699_999_950 + self.runs.len() as i64 * 100,
            source: SourceKind::Tree,
            source_digest: [0; 32],
            counts,
            root,
            dataset_secret: *self.secret.to_bytes(),
            cutter: "fixed/20000".into(),
        };
        let head = Head {
            format: Version1,
            anchor,
            dataset: self.dataset,
            writer: self.writer.id(),
            incarnation,
            seq,
            previous: self.chain.last().copied(),
            tips: self.tips.clone(),
            charter_version: self.archive.charter().version,
            verified_min: self.shape.geometry.total(),
            state: SnapshotState::Durable,
            debt: 0,
            run,
            run_pages: vec![page],
            sealed: sealed_box::seal_head(run_key, &sealed, &mut self.entropy).unwrap(),
            tripwires: None,
        };
        let object = self.writer.sign(&head, &mut self.entropy).unwrap();
        let bytes = object.to_bytes();
        let name = names.head(head.writer, incarnation, seq, Tag::of(&bytes));
        self.plant_everywhere(&name, bytes);
        self.chain.push(object.record_hash());
        (object.record_hash(), name)
    }
}

/// Chunks into stripes, stripes to sites.
struct Packing<'a> {
    shape: StripeShape,
    names: ArchiveNames,
    sites: Vec<SimulatedSite>,
    hasher: ChunkHasher,
    compressor: Compressor,
    pool: BufferPool,
    sealer: Sealer,
    run: RunId,
    run_key: &'a RunKey,
    entropy: SeededEntropy,
    open: StripeBuilder,
    stripes: Vec<StripeRecord>,
}

impl<'a> Packing<'a> {
    fn new(world: &World, run: RunId, run_key: &'a RunKey) -> Self {
        let pool = BufferPool::new(4);
        Self {
            shape: world.shape,
            names: world.archive.names,
            sites: world.sites.clone(),
            hasher: world.secret.chunk_hasher(),
            compressor: Compressor::new(CompressionLevel::DEFAULT).unwrap(),
            sealer: Sealer::new(
                world.archive.anchor,
                run,
                run_key.label_tag(""),
                world.shape,
                pool.clone(),
            ),
            open: StripeBuilder::new(world.shape, &pool),
            pool,
            run,
            run_key,
            entropy: SeededEntropy::new(u64::from(run.as_bytes()[0])),
            stripes: Vec::new(),
        }
    }

    fn put(&mut self, kind: ChunkKind, raw: &[u8]) -> ChunkRef {
        let id = self.hasher.id(raw);
        let encoded = self.compressor.encode(raw.to_vec()).unwrap();
        if !self.open.has_room(encoded.stored.len()) {
            self.flush();
        }
        let entry = self
            .open
            .push(kind, encoded.codec, &encoded.stored, raw.len() as u32, id);
        ChunkRef {
            run: self.run,
            ordinal: self.stripes.len() as u32,
            offset: entry.offset,
            stored: entry.stored,
            raw: entry.raw,
            codec: entry.codec,
            id,
        }
    }

    fn flush(&mut self) {
        let full = std::mem::replace(&mut self.open, StripeBuilder::new(self.shape, &self.pool));
        let Some(packed) = full.close() else { return };
        let ordinal = self.stripes.len() as u32;
        let sealed = self
            .sealer
            .seal(packed, ordinal, self.run_key, &mut self.entropy)
            .unwrap();
        for (shard, site) in sealed.shards.iter().zip(&self.sites) {
            let name = self.names.shard(&ShardName {
                run: self.run,
                ordinal,
                index: shard.index,
                tag: Tag::of_hash(shard.hash.as_bytes()),
                attempt: 0,
            });
            site.disk().plant(&name, shard.slices().concat().into());
        }
        self.stripes.push(sealed.record());
    }
}

fn charter(
    geometry: Geometry,
    payload: PayloadLength,
    root: &SigningKey,
    writer: &SigningKey,
    identity: &RecoveryIdentity,
) -> Charter {
    let losses = Quorums::new(geometry, None, 0).unwrap().tolerance().losses;
    let policy = ClassPolicy {
        geometry,
        losses,
        liars: 0,
        payload,
        read_back: ReadBack::Group,
    };
    let sites = (0..geometry.total()).map(|number| SiteRecord {
        id: SiteId::from_bytes([number + 1; 16]),
        name: format!("s{number}"),
        hosting: Hosting::OnPrem,
        pace: Pace::Primary,
        country: None,
        region: None,
        operator: None,
        legal_reach: None,
        iam_realm: None,
    });
    Charter {
        format: Version1,
        version: 1,
        previous: None,
        created: 1_700_000_000,
        roots: Roots {
            threshold: 1,
            keys: vec![root.public().clone()],
        },
        writers: vec![Writer {
            key: writer.public().clone(),
            classes: vec![0],
        }],
        recipient_sets: vec![RecipientSet {
            id: 0,
            crypto_epoch: 0,
            keys: vec![identity.public().clone()],
        }],
        sites: sites.collect(),
        classes: vec![Class::new(0, 0, policy)],
        nonce: [7; 16],
        members: Some(vec![
            member(MemberRole::Restorer, RESTORER),
            member(MemberRole::Auditor, AUDITOR),
        ]),
        authorities: None,
        revocations: None,
        share_sets: None,
        retention: None,
        registered_classes: None,
        trust_groups: None,
        format_versions: None,
        witnesses: None,
    }
}

fn member(role: MemberRole, key: u8) -> Member {
    Member {
        role,
        key: signing_key(key).public().clone(),
        classes: Vec::new(),
    }
}

/// A content of entries that a test may twist.
pub(crate) fn first_ref(entry: &mut Entry) -> Option<&mut ChunkRef> {
    match &mut entry.content {
        Content::Extents(extents) => extents.first_mut()?.refs.first_mut(),
        Content::Paged(_) => None,
    }
}

#[test]
fn codecs_are_both_used() {
    let mut world = World::new(2, 1, 2);
    let forged = world.commit(vec![
        directory(""),
        file("noise", &noise(1, 30_000)),
        file("text", &b"register ".repeat(3000)),
    ]);
    let codecs: Vec<Codec> = forged
        .entries
        .iter()
        .filter_map(|entry| first_ref(&mut entry.clone()).map(|chunk| chunk.codec))
        .collect();
    assert_eq!(codecs, [Codec::Raw, Codec::Zstd]);
}
