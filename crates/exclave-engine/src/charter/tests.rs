//! Charters that follow each other: published, hidden, forked; writers that are revoked.

use std::collections::BTreeSet;

use exclave_model::{
    CharterFile, Hosting, LedgerPart, Member, MemberRole, ObjectName, Pace, Pin, Record as _, RecordHash, Revocation,
    RunId, RunObject, SignedObject, Writer, charter::Reason, limit::RECORD_BYTES_MAX,
};
use exclave_plan::heads::Finding;
use exclave_seal::{RecoveryIdentity, SigningKey};
use exclave_site::{Fault, Operation, SimulatedSite, Site, Steps, When};

use super::*;
use crate::{
    archive::charter_objects,
    grant::{self, GrantError, Granting},
    rewrap::{RewrapError, rewrap},
    snapshot::{Depth, Snapshots, Which},
    survey::{CharterFinding, Grade},
    testing::{Forged, ROOT, WRITER, World, directory, file, noise, signing_key},
};

fn world() -> World {
    let mut world = World::new(2, 1, 1);
    commit(&mut world, 0);
    commit(&mut world, 1);
    world
}

fn commit(world: &mut World, number: u64) -> Forged {
    world.commit(vec![directory(""), file("a", &noise(number, 5000))])
}

fn published(world: &mut World, proposal: &Proposal) {
    publish_charter(&world.archive, proposal, FOR_REAL, &world.surroundings).unwrap();
    world.reopen();
}

const FOR_REAL: Publishing = Publishing {
    dry_run: false,
    accept_loss: false,
};

const DRY: Publishing = Publishing {
    dry_run: true,
    ..FOR_REAL
};

fn newest_head(world: &World) -> RecordHash {
    let snapshots = world.snapshots(Depth::Newest);
    let which = Which::Newest { dataset: String::new() };
    snapshots.choose(&which).unwrap().info.head
}

fn restorer_of(key: &SigningKey) -> Member {
    Member {
        role: MemberRole::Restorer,
        key: key.public().clone(),
        classes: Vec::new(),
    }
}

/// Places of the snapshots that an identity opens, and how many it doesn't.
fn opened(world: &World, identity: &RecoveryIdentity) -> (Vec<u64>, usize) {
    let survey = world.survey();
    let snapshots = Snapshots::open(
        &world.archive,
        &survey,
        identity,
        Depth::All,
        World::settings(),
        &world.surroundings,
    );
    let seqs = snapshots.list().iter().map(|snapshot| snapshot.info.seq);
    (seqs.collect(), snapshots.passed_over().len())
}

/// A new site that holds nothing.
fn new_site(world: &mut World, name: &str, id: u8) -> SiteRecord {
    world
        .sites
        .push(SimulatedSite::simulated(name, 1, &Steps::new()).unwrap());
    world.reopen();
    assert_eq!(world.archive.sites.last().unwrap().name, name);
    SiteRecord {
        id: SiteId::from_bytes([id; 16]),
        name: name.to_owned(),
        hosting: Hosting::Embassy,
        pace: Pace::Primary,
        country: None,
        region: None,
        operator: None,
        legal_reach: None,
        iam_realm: None,
    }
}

fn revoke(next: &mut Charter, old: &SigningKey, new: &SigningKey, reason: Reason, pins: Vec<Pin>) {
    next.writers = vec![Writer {
        key: new.public().clone(),
        classes: vec![0],
    }];
    next.revocations = Some(vec![Revocation {
        key: old.id(),
        reason,
        pins,
    }]);
    if reason == Reason::Compromised {
        next.recipient_sets[0].crypto_epoch += 1;
    }
}

#[test]
fn a_stolen_key_neither_pushes_out_nor_blocks() {
    let mut world = world();
    let accepted = commit(&mut world, 2);
    let pin = Pin {
        incarnation: world.survey().found[&accepted.head].head.incarnation,
        seq: 2,
        head: accepted.head,
    };
    // The thief goes on in the chain, and begins lives of his own.
    commit(&mut world, 3);
    world.begin_life(Vec::new());
    commit(&mut world, 4);
    assert_ne!(newest_head(&world), accepted.head);

    let root = signing_key(ROOT);
    let (thief, heir) = (signing_key(WRITER), signing_key(3));
    let proposal = world.propose(&[&root], |next| {
        revoke(next, &thief, &heir, Reason::Compromised, vec![pin])
    });
    published(&mut world, &proposal);
    assert_eq!(world.archive.charter().version, 2);
    assert_eq!(newest_head(&world), accepted.head, "only what the pin holds counts");
    let survey = world.survey();
    assert_eq!(survey.found.len(), 3);
    let findings = survey.charter_findings(&world.archive);
    assert_eq!(
        findings,
        [CharterFinding::Void {
            writer: thief.id(),
            count: 2
        }]
    );
    assert!(!findings[0].is_alarm());

    // He signs more, under the old charter and under the new one: nothing of it counts.
    commit(&mut world, 5);
    assert_eq!(newest_head(&world), accepted.head);

    // The heir commits, and what was committed before him stays readable.
    world.writer = heir;
    world.begin_life(Vec::new());
    let next = commit(&mut world, 6);
    assert_eq!(newest_head(&world), next.head);
    let all = world.snapshots(Depth::All);
    assert_eq!(all.list().len(), 4);
    assert!(all.passed_over().is_empty());
}

#[test]
fn a_pin_that_no_site_shows_is_an_alarm() {
    let mut world = world();
    let gone = Pin {
        incarnation: world.survey().found.values().next().unwrap().head.incarnation,
        seq: 7,
        head: RecordHash::from_bytes([7; 32]),
    };
    let root = signing_key(ROOT);
    let (old, heir) = (signing_key(WRITER), signing_key(3));
    let proposal = world.propose(&[&root], |next| revoke(next, &old, &heir, Reason::Retired, vec![gone]));
    published(&mut world, &proposal);
    let findings = world.survey().charter_findings(&world.archive);
    assert!(
        matches!(&findings[..], [CharterFinding::Void { count: 2, .. }, CharterFinding::PinMissing { pin, .. }] if *pin == gone),
        "{findings:?}"
    );
    assert!(findings[1].is_alarm());
    assert!(world.survey().found.is_empty());
}

#[test]
fn a_hidden_charter_is_noticed_by_the_heads_that_obey_it() {
    let mut world = world();
    let before = newest_head(&world);
    let root = signing_key(ROOT);
    let proposal = world.propose(&[&root], |next| next.classes[0].losses = 0);
    published(&mut world, &proposal);
    commit(&mut world, 2);
    let bytes = proposal.object.to_bytes();
    let name = world.archive.names.charter(2, Tag::of(&bytes));
    for site in &world.sites {
        site.disk().remove(&name).unwrap();
    }
    world.reopen();
    assert_eq!(world.archive.charter().version, 1);
    let findings = world.survey().charter_findings(&world.archive);
    assert_eq!(findings, [CharterFinding::Hidden { version: 2, newest: 1 }]);
    assert_eq!(newest_head(&world), before, "what can be judged still opens");
    // One site that shows it is enough.
    world.sites[1].disk().plant(&name, bytes.into());
    world.reopen();
    assert!(world.survey().charter_findings(&world.archive).is_empty());
}

#[test]
fn two_versions_of_one_number_end_the_history_before_them() {
    let mut world = world();
    let root = signing_key(ROOT);
    let one = world.propose(&[&root], |next| next.nonce = [1; 16]);
    let other = world.propose(&[&root], |next| next.nonce = [2; 16]);
    published(&mut world, &one);
    let refused = publish_charter(&world.archive, &other, FOR_REAL, &world.surroundings).unwrap_err();
    assert!(matches!(refused, PublishError::Outdated { shown: 2 }), "{refused}");
    let bytes = other.object.to_bytes();
    let name = world.archive.names.charter(2, Tag::of(&bytes));
    world.sites[2].disk().plant(&name, bytes.into());
    world.reopen();
    let fork = world.archive.fork.clone().unwrap();
    assert_eq!(
        (fork.version, fork.hashes.len(), world.archive.charter().version),
        (2, 2, 1)
    );
    assert_eq!(world.snapshots(Depth::All).list().len(), 2);
    let findings = world.survey().charter_findings(&world.archive);
    assert!(findings[0].is_alarm());

    // Who knows one of them, or one that follows it, takes its side; the fork is told all the same.
    let mut later = one.before.clone();
    later.push(one.next.clone(), one.digest()).unwrap();
    let mut third = one.next.clone();
    (third.version, third.previous) = (3, Some(one.digest()));
    let third = root.sign(&third, &mut world.entropy).unwrap();
    let name = world.archive.names.charter(3, Tag::of(&third.to_bytes()));
    world.sites[0].disk().plant(&name, third.to_bytes().into());
    for (known, version) in [(one.digest(), 3), (third.record_hash(), 3), (other.digest(), 2)] {
        let stores = world
            .sites
            .iter()
            .map(|site| -> (String, Arc<dyn Site>) { (String::new(), Arc::new(site.clone())) });
        let opening = Archive::open_knowing(world.archive.anchor, stores.collect(), Some(known));
        let (archive, _) = world.surroundings.runtime.block_on(opening).unwrap();
        assert_eq!(archive.charter().version, version);
        let taken = archive.fork.unwrap().taken.unwrap();
        assert!(taken == if version == 3 { one.digest() } else { other.digest() });
    }
}

#[test]
fn no_version_is_published_before_the_one_that_it_follows() {
    let mut world = world();
    let root = signing_key(ROOT);
    let second = world.propose(&[&root], |next| next.nonce = [1; 16]);
    let mut before = second.before.clone();
    before.push(second.next.clone(), second.digest()).unwrap();
    let mut next = second.next.clone();
    (next.version, next.previous) = (3, Some(second.digest()));
    let object = root.sign(&next, &mut world.entropy).unwrap();
    let third = Proposal {
        before,
        next,
        object,
        plates: Vec::new(),
    };
    let refused = publish_charter(&world.archive, &third, FOR_REAL, &world.surroundings).unwrap_err();
    assert!(
        matches!(refused, PublishError::Skips { shown: 1, missing: 2 }),
        "{refused}"
    );
    published(&mut world, &second);
    published(&mut world, &third);
    assert_eq!(world.archive.charter().version, 3);
}

#[test]
fn junk_among_charters_is_no_charter_and_costs_no_memory() {
    let mut world = world();
    let anchor = world.archive.anchor;
    let signed = SignedObject::new(
        vec![0xa5; 12 << 20],
        signing_key(9)
            .sign(world.archive.charter(), &mut world.entropy)
            .unwrap()
            .signatures()
            .to_vec(),
    );
    let bytes = signed.to_bytes();
    for number in 0..3 {
        let name = world.archive.names.charter(number, Tag::of(&bytes));
        world.sites[0].disk().plant(&name, bytes.clone().into());
    }
    // A charter of someone else's, under our prefix, is none of ours either.
    let foreign = signing_key(9)
        .sign(world.archive.charter(), &mut world.entropy)
        .unwrap()
        .to_bytes();
    let name = world.archive.names.charter(7, Tag::of(&foreign));
    world.sites[0].disk().plant(&name, foreign.into());
    world.reopen();
    assert_eq!((world.archive.anchor, world.archive.charter().version), (anchor, 1));
    let names = world.archive.names;
    let kept = world
        .surroundings
        .runtime
        .block_on(charter_objects(&names, &world.sites[0]))
        .unwrap();
    assert_eq!(kept.len(), 1);
}

#[test]
fn both_quorums_of_roots_must_sign() {
    let mut world = world();
    let (root, second) = (signing_key(ROOT), signing_key(3));
    let two = |next: &mut Charter| {
        next.roots.keys.push(second.public().clone());
        next.roots.threshold = 2;
    };
    for lone in [&root, &second] {
        let proposal = world.propose(&[lone], two);
        let refused = publish_charter(&world.archive, &proposal, FOR_REAL, &world.surroundings).unwrap_err();
        assert!(
            matches!(refused, PublishError::Signatures(VerifyError::Missing { .. })),
            "{refused}"
        );
    }
    let stranger = signing_key(4);
    let proposal = world.propose(&[&root, &second, &stranger], two);
    let refused = publish_charter(&world.archive, &proposal, FOR_REAL, &world.surroundings).unwrap_err();
    assert!(
        matches!(refused, PublishError::Signatures(VerifyError::Stranger(_))),
        "{refused}"
    );
    // A writer's key vouches for no charter.
    let writer = signing_key(WRITER);
    let proposal = world.propose(&[&root, &writer], |_| {});
    assert!(publish_charter(&world.archive, &proposal, FOR_REAL, &world.surroundings).is_err());
    let proposal = world.propose(&[&root, &second], two);
    published(&mut world, &proposal);
    assert_eq!(world.archive.charter().roots.threshold, 2);
    // From now on one alone is too few, also for what changes nothing.
    let proposal = world.propose(&[&root], |_| {});
    assert!(publish_charter(&world.archive, &proposal, FOR_REAL, &world.surroundings).is_err());
}

#[test]
fn a_new_site_has_every_small_record_before_the_charter_names_it() {
    let mut world = world();
    let root = signing_key(ROOT);
    let record = new_site(&mut world, "s3", 40);
    let added = record.clone();
    let mut proposal = world.propose(&[&root], move |next| next.sites.push(added));
    let dry = publish_charter(&world.archive, &proposal, DRY, &world.surroundings).unwrap();
    assert!(world.sites[3].disk().objects().is_empty(), "a dry run writes nothing");
    // Without a plate nobody would know which site it is.
    let plates = std::mem::take(&mut proposal.plates);
    let refused = publish_charter(&world.archive, &proposal, FOR_REAL, &world.surroundings).unwrap_err();
    assert!(matches!(refused, PublishError::NoPlate(name) if name == "s3"));
    proposal.plates = plates;
    let report = publish_charter(&world.archive, &proposal, FOR_REAL, &world.surroundings).unwrap();
    assert_eq!(
        (report.plates.as_slice(), report.holders.len()),
        (&["s3".to_owned()][..], 4)
    );
    assert_eq!((dry.records.copied, dry.records.junk), (report.records.copied, 0));
    assert_eq!(report.records.copied, report.records.records);
    // Small records alone: s3 and one old site are all a reader has; the shards of two are needed to restore.
    let newest = newest_head(&world);
    world.reopen();
    assert_eq!(world.archive.site(record.id).unwrap().name, "s3");
    world.sites[0].disk().clear();
    world.sites[1].disk().clear();
    world.sites[2].inflict(When::any().containing("heads/"), Fault::Deny);
    world.reopen();
    assert_eq!(world.archive.charter().version, 2);
    let snapshots = world.snapshots(Depth::Newest);
    assert_eq!(snapshots.list()[0].info.head, newest);
    assert_eq!(snapshots.list()[0].freshness.grade, Grade::F3);
    assert!(
        world
            .survey()
            .findings
            .iter()
            .all(|finding| !matches!(finding, Finding::Fork { .. }))
    );
}

#[test]
fn records_are_brought_over_and_junk_is_not() {
    let mut world = world();
    let root = signing_key(ROOT);
    let restorer = signing_key(5);
    let member = restorer_of(&restorer);
    let proposal = world.propose(&[&root], move |next| next.members = Some(vec![member]));
    published(&mut world, &proposal);
    let ally = RecoveryIdentity::generate(&mut world.entropy).unwrap();
    let snapshots = world.snapshots(Depth::All);
    let granting = Granting {
        snapshots: snapshots.list().iter().take(1).collect(),
        recipient: ally.public().clone(),
        until: None,
    };
    let granted = grant::give(&snapshots, &granting, &restorer, false, &world.surroundings).unwrap();
    let given = world.archive.names.grant(Tag::of(&granted.object));
    drop(snapshots);
    world.sites[0].disk().remove(&given);
    world.sites[2].disk().remove(&given);

    // What a hostile store lists, each under the name that its bytes give it: whatever can be told, is not carried on.
    let names = world.archive.names;
    let survey = world.survey();
    let head = &survey.found.values().next().unwrap().head;
    let (run, chain) = (head.run, (head.writer, head.incarnation));
    let objects = world.sites[1].disk().objects();
    let part = objects.iter().find(|(name, _)| name.as_str().contains("/ledger."));
    let mut part = LedgerPart::from_bytes(&part.unwrap().1).unwrap();
    part.part = 99;
    let part = part.to_bytes().unwrap();
    let thief = signing_key(9);
    let forged_head = thief.sign(head, &mut world.entropy).unwrap().to_bytes();
    let forged_charter = thief
        .sign(world.archive.charter(), &mut world.entropy)
        .unwrap()
        .to_bytes();
    let forged_grant = thief.sign(&granted.grant, &mut world.entropy).unwrap().to_bytes();
    let noise = noise(77, 3000);
    let tag = Tag::of(&noise);
    let mut junk = vec![
        (names.run_object(run, RunObject::Ledger, Tag::of(&part)), part),
        (names.head(chain.0, chain.1, 0, Tag::of(&forged_head)), forged_head),
        (names.charter(2, Tag::of(&forged_charter)), forged_charter),
        (names.grant(Tag::of(&forged_grant)), forged_grant),
        (names.grant(tag), noise.clone()),
        (
            names.run_object(RunId::from_bytes([7; 16]), RunObject::Envelope, tag),
            noise.clone(),
        ),
        (names.runs_prefix().join("x/y.0011223344556677").unwrap(), vec![1, 2, 3]),
    ];
    for object in [RunObject::Envelope, RunObject::Reuse, RunObject::Close, RunObject::Live] {
        junk.push((names.run_object(run, object, tag), noise.clone()));
    }
    for (name, bytes) in &junk {
        world.sites[0].disk().plant(name, bytes.clone().into());
    }
    let record = new_site(&mut world, "s3", 40);
    let proposal = world.propose(&[&root], move |next| next.sites.push(record));
    let report = publish_charter(&world.archive, &proposal, FOR_REAL, &world.surroundings).unwrap();
    assert_eq!(report.records.junk, junk.len());
    for (name, _) in &junk {
        let holders = world
            .sites
            .iter()
            .filter(|site| site.disk().read(name).is_some())
            .count();
        assert_eq!(holders, 1, "{name} was carried on");
    }
    assert!(world.sites.iter().all(|site| site.disk().read(&given).is_some()));
}

#[test]
fn dropped_sites_must_leave_enough_shards() {
    let mut world = world();
    let root = signing_key(ROOT);
    let records: Vec<SiteRecord> = [("s3", 40), ("s4", 41)]
        .map(|(name, id)| new_site(&mut world, name, id))
        .into();
    // 2+1 over three sites: of two dropped ones, one shard is left of each stripe.
    let dropping = |world: &mut World, count: usize| {
        let records = records.clone();
        world.propose(&[&root], move |next| {
            next.sites.drain(..count);
            next.sites.extend(records);
        })
    };
    let proposal = dropping(&mut world, 2);
    let dry = publish_charter(&world.archive, &proposal, DRY, &world.surroundings).unwrap();
    assert!(dry.records.unrestorable > 0);
    let refused = publish_charter(&world.archive, &proposal, FOR_REAL, &world.surroundings).unwrap_err();
    assert!(
        matches!(refused, PublishError::Unrestorable { stripes } if stripes == dry.records.unrestorable),
        "{refused}"
    );
    let proposal = dropping(&mut world, 1);
    let dry = publish_charter(&world.archive, &proposal, DRY, &world.surroundings).unwrap();
    assert_eq!(dry.records.unrestorable, 0);
    let proposal = dropping(&mut world, 2);
    let lost = Publishing {
        accept_loss: true,
        ..FOR_REAL
    };
    let report = publish_charter(&world.archive, &proposal, lost, &world.surroundings).unwrap();
    assert!(report.records.unrestorable > 0);
}

#[test]
fn too_few_sites_refuse_and_the_next_try_goes_on() {
    let mut world = world();
    let root = signing_key(ROOT);
    let record = new_site(&mut world, "s3", 40);
    let added = record.clone();
    let proposal = world.propose(&[&root], move |next| next.sites.push(added));
    // The new site takes its plate and nothing else: three of four must hold each record, and do.
    // A second site that gives nothing makes it too few.
    let writes = || When::any().only(&[Operation::Put]).containing("/runs/");
    world.sites[3].inflict(writes(), Fault::Deny);
    let lost: Vec<ObjectName> = world.sites[2]
        .disk()
        .objects()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    for name in lost.iter().filter(|name| name.as_str().contains("/runs/")) {
        world.sites[2].disk().remove(name);
    }
    world.sites[2].inflict(writes(), Fault::Deny);
    let refused = publish_charter(&world.archive, &proposal, FOR_REAL, &world.surroundings).unwrap_err();
    assert!(
        matches!(
            refused,
            PublishError::Records {
                needed: 3,
                found: 2,
                ..
            }
        ),
        "{refused}"
    );
    world.reopen();
    assert_eq!(world.archive.charter().version, 1, "nothing was published");
    world.sites[2].calm();
    world.sites[3].calm();
    world.reopen();
    published(&mut world, &proposal);
    assert_eq!(world.archive.charter().version, 2);
    // Once more is no harm.
    let again = publish_charter(&world.archive, &proposal, FOR_REAL, &world.surroundings).unwrap();
    assert_eq!((again.records.copied, again.plates.len()), (0, 0));
}

#[test]
fn a_file_tells_history_proposal_and_who_signed() {
    let mut world = world();
    let root = signing_key(ROOT);
    let proposal = world.propose(&[&root], |next| next.nonce = [9; 16]);
    let first = world.sites[0].disk().objects();
    let first = first
        .iter()
        .find(|(name, _)| name.as_str().contains("/charter/00000001."))
        .unwrap();
    let first = SignedObject::from_bytes(&first.1, RECORD_BYTES_MAX).unwrap();
    let file = CharterFile {
        charters: vec![first.clone(), proposal.object.clone()],
        plates: Vec::new(),
    };
    let read = Proposal::read(&CharterFile::from_bytes(&file.to_bytes()).unwrap()).unwrap();
    assert_eq!(
        (read.digest(), read.signatures()),
        (proposal.digest(), [(1, 1), (1, 1)])
    );
    assert_eq!(read.before.anchor(), world.archive.anchor);
    let alone = CharterFile {
        charters: vec![first],
        plates: Vec::new(),
    };
    assert!(matches!(Proposal::read(&alone), Err(ProposalError::NothingProposed)));
    let backwards = CharterFile {
        charters: vec![proposal.object.clone(), proposal.object],
        plates: Vec::new(),
    };
    assert!(Proposal::read(&backwards).is_err());
    assert!(proposal.next.to_bytes().is_ok());
}

#[test]
fn who_joins_opens_what_came_before_once_it_is_wrapped_for_him() {
    let mut world = world();
    let root = signing_key(ROOT);
    let (restorer, stranger) = (signing_key(5), signing_key(6));
    let joiner = RecoveryIdentity::generate(&mut world.entropy).unwrap();
    let member = restorer_of(&restorer);
    let joins = joiner.public().clone();
    let proposal = world.propose(&[&root], move |next| {
        next.members = Some(vec![member]);
        next.recipient_sets[0].keys.push(joins);
    });
    published(&mut world, &proposal);
    let opens = |world: &World, identity: &RecoveryIdentity| {
        let (seqs, passed_over) = opened(world, identity);
        (seqs.len(), passed_over)
    };
    assert_eq!(opens(&world, &joiner), (0, 2));
    let run = |world: &World, key: &SigningKey, dry_run| {
        let snapshots = world.snapshots(Depth::All);
        rewrap(&snapshots, key, dry_run, &world.surroundings)
    };
    for key in [&stranger, &root, &world.writer] {
        assert!(matches!(run(&world, key, false), Err(RewrapError::NotARestorer { .. })));
    }
    let before: usize = world.sites.iter().map(|site| site.disk().objects().len()).sum();
    let dry = run(&world, &restorer, true).unwrap();
    assert_eq!((dry.runs, dry.wrapped, dry.current), (2, 2, 0));
    let after: usize = world.sites.iter().map(|site| site.disk().objects().len()).sum();
    assert_eq!(before, after);
    // One site takes nothing: two of three are enough, and the next try has nothing to do.
    world.sites[2].inflict(When::any().only(&[Operation::Put]), Fault::Deny);
    let done = run(&world, &restorer, false).unwrap();
    assert_eq!((done.wrapped, done.short.len(), done.unopened.len()), (2, 0, 0));
    assert_eq!(opens(&world, &joiner), (2, 0));
    let again = run(&world, &restorer, false).unwrap();
    assert_eq!((again.wrapped, again.current), (0, 2));
    assert!(again.left_open.is_empty());

    // Whoever may put, buries them under others, and one site loses them: they are found, and completed as they are.
    let envelopes = |world: &World| -> BTreeSet<ObjectName> {
        let objects = world.sites.iter().flat_map(|site| site.disk().objects());
        let names = objects.map(|(name, _)| name);
        names.filter(|name| name.as_str().contains("/envelope.")).collect()
    };
    let all = envelopes(&world);
    assert_eq!(all.len(), 4);
    let runs: BTreeSet<RunId> = all
        .iter()
        .filter_map(|name| Some(world.archive.names.read_run_object(name)?.0))
        .collect();
    let new: Vec<ObjectName> = all
        .iter()
        .filter(|name| world.sites[2].disk().read(name).is_none())
        .cloned()
        .collect();
    assert_eq!((runs.len(), new.len()), (2, 2));
    for name in &new {
        world.sites[1].disk().remove(name);
    }
    for (run, number) in runs
        .iter()
        .flat_map(|run| (0..100u64).map(move |number| (*run, number)))
    {
        let bytes = noise(number, 100);
        let name = world
            .archive
            .names
            .run_object(run, RunObject::Envelope, Tag::of(&bytes));
        for site in &world.sites {
            site.disk().plant(&name, bytes.clone().into());
        }
    }
    assert_eq!(opens(&world, &joiner), (2, 0));
    let junk = envelopes(&world).len();
    let again = run(&world, &restorer, false).unwrap();
    assert_eq!((again.wrapped, again.short.len()), (2, 0));
    assert_eq!(envelopes(&world).len(), junk, "the same envelopes, not new ones");
    assert_eq!(run(&world, &restorer, false).unwrap().current, 2);

    // The first identity leaves: the epoch ends, and what was wrapped for it stays open to it.
    world.sites[2].calm();
    let left = world.identity.public().id();
    let proposal = world.propose(&[&root], move |next| {
        next.recipient_sets[0].keys.remove(0);
        next.recipient_sets[0].crypto_epoch = 1;
    });
    published(&mut world, &proposal);
    let first = std::mem::replace(&mut world.identity, joiner);
    let done = run(&world, &restorer, false).unwrap();
    assert_eq!((done.wrapped, done.left_open.get(&left)), (2, Some(&2)));
    assert_eq!(opens(&world, &first), (2, 0), "nothing is taken back");
    // What comes later is closed to it. The runs before keep their epoch.
    commit(&mut world, 7);
    assert_eq!(opens(&world, &first), (2, 1));
    assert_eq!(opens(&world, &world.identity), (3, 0));
}

#[test]
fn a_grant_opens_what_was_meant_and_says_what_else() {
    let mut world = world();
    let root = signing_key(ROOT);
    let restorer = signing_key(5);
    let member = restorer_of(&restorer);
    let proposal = world.propose(&[&root], move |next| next.members = Some(vec![member]));
    published(&mut world, &proposal);
    let ally = RecoveryIdentity::generate(&mut world.entropy).unwrap();
    let other = RecoveryIdentity::generate(&mut world.entropy).unwrap();
    let opens = |world: &World, identity: &RecoveryIdentity| opened(world, identity).0;
    let give = |world: &World, seq: u64, key: &SigningKey, dry_run| {
        let snapshots = world.snapshots(Depth::All);
        let meant = snapshots
            .list()
            .iter()
            .filter(|snapshot| snapshot.info.seq == seq)
            .collect();
        let granting = Granting {
            snapshots: meant,
            recipient: ally.public().clone(),
            until: Some(5),
        };
        grant::give(&snapshots, &granting, key, dry_run, &world.surroundings)
    };
    assert!(opens(&world, &ally).is_empty());
    for key in [&root, &world.writer, &signing_key(6)] {
        assert!(matches!(
            give(&world, 0, key, false),
            Err(GrantError::NotARestorer { .. })
        ));
    }
    // The first snapshot's run is the only one it needs; the second one's table names it too.
    let dry = give(&world, 0, &restorer, true).unwrap();
    assert_eq!((dry.grant.runs.len(), dry.sites), (1, 0));
    assert!(opens(&world, &ally).is_empty());
    let granted = give(&world, 0, &restorer, false).unwrap();
    assert_eq!(granted.sites, 3);
    let also: Vec<_> = granted
        .also_open
        .iter()
        .map(|also| (also.snapshot.seq, also.whole))
        .collect();
    assert_eq!(also, [(1, false)]);
    assert_eq!(opens(&world, &ally), [0]);
    assert!(opens(&world, &other).is_empty(), "a grant is for its recipient alone");
    // From a file alone, when no site shows it; and not when it is altered.
    let name = world.archive.names.grant(Tag::of(&granted.object));
    for site in &world.sites {
        site.disk().remove(&name).unwrap();
    }
    assert!(opens(&world, &ally).is_empty());
    world.archive.grants = vec![granted.object.to_vec()];
    assert_eq!(opens(&world, &ally), [0]);
    for at in (0..granted.object.len()).step_by(97) {
        let mut altered = granted.object.to_vec();
        altered[at] ^= 1;
        assert!(grant::verify(&world.archive, &altered).is_none(), "byte {at}");
    }
    // The newest snapshot needs both runs: given, it opens, and the older one with it.
    let granted = give(&world, 1, &restorer, true).unwrap();
    assert_eq!(granted.grant.runs.len(), 2);
    let also: Vec<_> = granted
        .also_open
        .iter()
        .map(|also| (also.snapshot.seq, also.whole))
        .collect();
    assert_eq!(also, [(0, true)]);
}
