//! The transparency log of a whole small world: every commit is in it, whoever meddles with it is caught, and a proof needs
//! nothing but the anchor and the charter.

use bytes::Bytes;
use exclave_engine::{
    AgentState, Archive, LogStanding, RunOutcome,
    audit::{
        self, Audit, AuditRequest, Mode,
        report::{report_of, seal_report, verify_report},
    },
    log::{Evidence, LogFinding, Logs, check_proof, read_logs},
    repair::repair,
    survey::survey,
};
use exclave_log::{
    Checkpoint, EntryKind, LogEntry, LogId, SignedCheckpoint, TileId, TileLevel, TreeHash, pair, tile::bundle,
    tree::root_of,
};
use exclave_model::{ObjectName, PublicKey, Record as _, RecordHash, Tag, report::Verdict};
use exclave_plan::audit::Nonce;
use exclave_seal::{NoTokens, SigningKey};
use exclave_site::{Crash, SimulatedSite};
use exclave_tests::{
    tree,
    world::{Whatever, World, WorldPlan},
};

/// A world with that many commits.
fn committed(commits: u8) -> Result<World, Whatever> {
    let world = World::found(WorldPlan::new(2, 1))?;
    for number in 0..commits {
        commit(&world, number)?;
    }
    Ok(world)
}

fn commit(world: &World, number: u8) -> Result<LogStanding, Whatever> {
    tree::plant(&world.source, number + 1)?;
    world.clock.advance(3600);
    let report = world.replicate()??;
    assert_eq!(report.outcome, RunOutcome::Committed);
    Ok(report.log)
}

fn logs(world: &World) -> Result<(Archive, Logs), Whatever> {
    let archive = world.archive_without(&[])?;
    let survey = survey(&archive, &world.surroundings)?;
    let mut logs = world.surroundings.runtime.block_on(read_logs(&archive));
    logs.compare(&archive, &survey);
    Ok((archive, logs))
}

fn findings(world: &World) -> Result<Vec<LogFinding>, Whatever> {
    Ok(logs(world)?.1.findings().map(|(_, finding)| finding.clone()).collect())
}

fn look(world: &World) -> Result<(Archive, Audit), Whatever> {
    let archive = world.archive_without(&[])?;
    let survey = survey(&archive, &world.surroundings)?;
    let request = request();
    let audit = audit::audit(&archive, &survey, &request, &world.surroundings);
    Ok((archive, audit))
}

fn request() -> AuditRequest {
    AuditRequest {
        mode: Mode::Full,
        datasets: None,
        nonce: Nonce::from_bytes([3; 32]),
        deadline: std::time::Duration::from_secs(5),
        forecast_only: false,
        troubles: Vec::new(),
    }
}

fn writer(world: &World) -> Result<SigningKey, Whatever> {
    Ok(AgentState::open(&world.state_folder())?.writer_key(&NoTokens)?)
}

fn objects_below(site: &SimulatedSite, part: &str) -> Vec<ObjectName> {
    let names = site.disk().objects().into_iter().map(|(name, _)| name);
    names.filter(|name| name.as_str().contains(part)).collect()
}

#[test]
fn every_commit_is_in_the_log_at_every_site() -> Result<(), Whatever> {
    let world = committed(2)?;
    let standing = commit(&world, 2)?;
    assert_eq!(standing, LogStanding::Logged { size: 4, sites: 3 });
    let (archive, logs) = logs(&world)?;
    assert_eq!(logs.findings().count(), 0);
    let [log] = logs.logs.as_slice() else {
        return Err("one log was written".into());
    };
    let kinds: Vec<EntryKind> = log.read_entries().map(|(_, entry)| entry.kind).collect();
    assert_eq!(
        kinds,
        [EntryKind::Charter, EntryKind::Head, EntryKind::Head, EntryKind::Head]
    );
    assert_eq!(log.checkpoints.len(), 3);
    assert_eq!(
        log.read_entries().next().map(|(_, entry)| *entry.hash.as_bytes()),
        Some(*world.anchor.as_bytes())
    );
    for (_, entry) in log.read_entries() {
        let (_, proof) = log.proof(entry.hash).ok_or("no proof")?;
        let bytes = proof.to_bytes();
        let checked = check_proof(&bytes, archive.anchor, &archive.charters)?;
        assert_eq!((checked.entry, checked.size), (entry, 4));
        refuse_altered(&archive, &String::from_utf8(bytes)?);
    }
    // Two objects for each commit at each site.
    let log_objects = objects_below(&world.sites[0], "/log/");
    assert_eq!(log_objects.len(), 6, "{log_objects:?}");
    Ok(())
}

/// Every character of a proof counts, but for signatures of others, of which there are none.
fn refuse_altered(archive: &Archive, proof: &str) {
    for (at, character) in proof.char_indices().step_by(7) {
        let other = if character == 'A' { 'B' } else { 'A' };
        let mut altered = proof.to_owned();
        altered.replace_range(at..at + character.len_utf8(), &other.to_string());
        let checked = check_proof(altered.as_bytes(), archive.anchor, &archive.charters);
        assert!(checked.is_err(), "character {at} of {proof}");
    }
}

/// A machine without the log's file, or one that was set back, writes the same log again or begins another: never a fork.
#[test]
fn a_log_that_the_folder_forgot_goes_on_as_it_was() -> Result<(), Whatever> {
    let world = committed(3)?;
    std::fs::remove_file(world.state_folder().join("log"))?;
    assert_eq!(commit(&world, 3)?, LogStanding::Logged { size: 5, sites: 3 });
    assert_eq!(findings(&world)?, []);
    Ok(())
}

#[test]
fn a_machine_that_was_set_back_begins_another_log() -> Result<(), Whatever> {
    let world = committed(1)?;
    let kept: Vec<(&str, Vec<u8>)> = ["chain", "log"]
        .into_iter()
        .map(|name| Ok((name, std::fs::read(world.state_folder().join(name))?)))
        .collect::<Result<_, std::io::Error>>()?;
    commit(&world, 1)?;
    for (name, bytes) in kept {
        std::fs::write(world.state_folder().join(name), bytes)?;
    }
    tree::plant(&world.source, 9)?;
    let report = world.replicate()??;
    assert!(report.new_incarnation);
    let (_, logs) = logs(&world)?;
    assert_eq!(logs.logs.len(), 2);
    assert_eq!(logs.findings().count(), 0, "{:?}", logs.findings().collect::<Vec<_>>());
    Ok(())
}

/// Deaths while the log is written: the commit stands, and the next run makes up for what is missing.
#[test]
fn a_commit_is_one_without_its_log() -> Result<(), Whatever> {
    let world = committed(1)?;
    let before = world.steps.taken();
    commit(&world, 1)?;
    let steps = world.steps.taken() - before;
    let mut unlogged = 0;
    for back in 1..30 {
        let world = committed(1)?;
        tree::plant(&world.source, 2)?;
        world.clock.advance(3600);
        world.steps.crash_at(world.steps.taken() + steps - back, Crash::Before);
        let died = world.replicate()?;
        world.steps.restart();
        if let Ok(report) = died {
            unlogged += u64::from(matches!(report.log, LogStanding::NotYet(_)));
        }
        commit(&world, 5)?;
        assert_eq!(findings(&world)?, [], "{back} steps before the end");
    }
    assert!(unlogged > 0, "no death fell into the log");
    Ok(())
}

/// A checkpoint of these entries, signed with the writer's key.
fn signed(world: &World, log: LogId, key: &SigningKey, entries: &[Vec<u8>]) -> Result<SignedCheckpoint, Whatever> {
    let root = root_of(entries.iter().map(|entry| TreeHash::of_leaf(entry)));
    let mut signed = SignedCheckpoint::unsigned(Checkpoint::new(log.origin(), entries.len() as u64, root))?;
    let signature = key.sign_note(signed.note.text(), &mut *world.surroundings.entropy.entropy())?;
    signed.note.signatures = pair::lines(&log.key_name()?, key.public(), &signature).to_vec();
    Ok(signed)
}

/// Plants a whole log at a site: one bundle and a checkpoint.
fn plant(
    world: &World,
    archive: &Archive,
    site: usize,
    log: LogId,
    entries: &[Vec<u8>],
    note: &SignedCheckpoint,
) -> Result<(), Whatever> {
    let tile = TileId::new(TileLevel::Entries, 0, u16::try_from(entries.len())?).ok_or("no tile")?;
    let bytes: Bytes = bundle(entries.iter().map(Vec::as_slice))?.into();
    let name = archive
        .names
        .log_tile(log.key, log.incarnation, &tile.path(), Tag::of(&bytes));
    world.sites[site].disk().plant(&name.ok_or("no name")?, bytes);
    let bytes = Bytes::from(note.to_bytes());
    let name = archive
        .names
        .log_checkpoint(log.key, log.incarnation, entries.len() as u64, Tag::of(&bytes));
    world.sites[site].disk().plant(&name, bytes);
    Ok(())
}

fn evidence_of(world: &World, key: &PublicKey) -> Result<Evidence, Whatever> {
    let findings = findings(world)?;
    let found = findings.iter().find_map(|finding| match finding {
        LogFinding::Fork { evidence, .. } => evidence.clone(),
        _ => None,
    });
    let evidence = found.ok_or_else(|| format!("no evidence: {findings:?}"))?;
    // As a file, for someone else.
    let read = Evidence::from_bytes(&serde_json::to_vec(&evidence)?)?;
    read.check(key)?;
    Ok(read)
}

/// Entries of the writer's log with another head at the end.
fn other_entries(log: &exclave_engine::log::LogView, more: usize) -> Result<Vec<Vec<u8>>, Whatever> {
    let mut entries = log.entries.clone();
    entries.pop();
    for number in 0..more {
        let hash = RecordHash::of(&number.to_be_bytes());
        entries.push(LogEntry::new(EntryKind::Head, hash).to_bytes()?);
    }
    Ok(entries)
}

#[test]
fn a_split_view_is_caught_and_kept() -> Result<(), Whatever> {
    let world = committed(2)?;
    let key = writer(&world)?;
    let (archive, shown) = logs(&world)?;
    let log = &shown.logs[0];
    let entries = other_entries(log, 1)?;
    assert_eq!(entries.len(), log.entries.len());
    let other = signed(&world, log.id, &key, &entries)?;
    // At a site of its own, whose honest view is taken away.
    for name in objects_below(&world.sites[2], "/log/") {
        world.sites[2].disk().remove(&name);
    }
    plant(&world, &archive, 2, log.id, &entries, &other)?;
    let evidence = evidence_of(&world, key.public())?;
    assert_eq!(evidence.prefix_root, None);
    let mut same = evidence.clone();
    same.second.clone_from(&same.first);
    assert!(same.check(key.public()).is_err());
    assert!(evidence.check(world.root.public()).is_err());
    let (_, audit) = look(&world)?;
    assert_eq!(audit.verdict, Verdict::Disputed);
    Ok(())
}

#[test]
fn a_fork_is_caught_and_kept() -> Result<(), Whatever> {
    let world = committed(2)?;
    let key = writer(&world)?;
    let (archive, shown) = logs(&world)?;
    let log = &shown.logs[0];
    let entries = other_entries(log, 3)?;
    let other = signed(&world, log.id, &key, &entries)?;
    plant(&world, &archive, 1, log.id, &entries, &other)?;
    let evidence = evidence_of(&world, key.public())?;
    assert!(evidence.prefix_root.is_some());
    let mut wrong = evidence.clone();
    wrong.proof.pop();
    assert!(wrong.check(key.public()).is_err());
    let mut true_root = evidence.clone();
    true_root.prefix_root = Some(log.proven.ok_or("nothing proven")?.1.to_string());
    assert!(true_root.check(key.public()).is_err());
    assert_eq!(look(&world)?.1.verdict, Verdict::Disputed);
    Ok(())
}

#[test]
fn a_site_that_was_set_back_is_named_and_mended() -> Result<(), Whatever> {
    let world = committed(2)?;
    for name in objects_below(&world.sites[1], "/checkpoint/") {
        if name.as_str().contains("/00000000000000000003.") {
            world.sites[1].disk().remove(&name);
        }
    }
    let behind = LogFinding::Behind {
        site: "s1".to_owned(),
        shown: 2,
        newest: 3,
    };
    assert_eq!(findings(&world)?, [behind]);
    let (archive, audit) = look(&world)?;
    assert_eq!(audit.verdict, Verdict::Findings);
    let survey = survey(&archive, &world.surroundings)?;
    let repaired = repair(&archive, &survey, &request(), false, &world.surroundings);
    drop(repaired);
    assert_eq!(findings(&world)?, []);
    assert_eq!(look(&world)?.1.verdict, Verdict::Whole);
    Ok(())
}

#[test]
fn a_head_that_all_sites_hide_is_missed() -> Result<(), Whatever> {
    let world = committed(2)?;
    let newest: Vec<_> = objects_below(&world.sites[0], "/heads/")
        .into_iter()
        .max()
        .into_iter()
        .collect();
    for site in &world.sites {
        newest.iter().for_each(|name| _ = site.disk().remove(name));
    }
    let findings = findings(&world)?;
    assert!(
        matches!(findings.as_slice(), [LogFinding::HiddenHead { index: 2, .. }]),
        "{findings:?}"
    );
    let (_, audit) = look(&world)?;
    assert!(audit.facts.alarms > 0);
    assert!(audit.findings.first.iter().any(|finding| finding.kind == "head-hidden"));
    Ok(())
}

#[test]
fn entries_that_nobody_shows_are_missed() -> Result<(), Whatever> {
    let world = committed(2)?;
    for site in &world.sites {
        for name in objects_below(site, "/tile/entries/000.p/3") {
            site.disk().remove(&name);
        }
    }
    assert_eq!(findings(&world)?.first(), Some(&LogFinding::Unproven { size: 3 }));
    Ok(())
}

/// What strangers put beside a log changes nothing: other entries under its names, checkpoints of their own keys.
#[test]
fn what_strangers_put_there_changes_nothing() -> Result<(), Whatever> {
    let world = committed(2)?;
    let (archive, shown) = logs(&world)?;
    let log = &shown.logs[0];
    let stranger = SigningKey::generate(&mut *world.surroundings.entropy.entropy())?;
    for (site, more) in [(0, 1), (1, 3), (2, 200)] {
        let entries = other_entries(log, more)?;
        let mut note = signed(&world, log.id, &stranger, &entries)?;
        plant(&world, &archive, site, log.id, &entries, &note)?;
        // Half of the right pair is none.
        let good = signed(&world, log.id, &writer(&world)?, &entries)?;
        note.note.signatures = good.note.signatures[..1].to_vec();
        plant(&world, &archive, site, log.id, &entries, &note)?;
    }
    assert_eq!(findings(&world)?, []);
    let (_, again) = logs(&world)?;
    assert_eq!(again.logs[0].entries, log.entries);
    Ok(())
}

#[test]
fn a_report_vouches_for_the_logs() -> Result<(), Whatever> {
    let world = committed(2)?;
    let (archive, audit) = look(&world)?;
    assert_eq!(audit.verdict, Verdict::Whole, "{:?}", audit.findings.first);
    let report = report_of(&audit, &archive, "test", &world.surroundings).ok_or("no report")?;
    assert_eq!(
        (report.logs.len(), report.logs[0].size, report.logs[0].sites),
        (1, 3, 3)
    );
    let verify = |report| -> Result<bool, Whatever> {
        let sealed = seal_report(report, None, &world.surroundings)?;
        Ok(verify_report(&sealed, Some(world.anchor), None, true).is_ok())
    };
    assert!(verify(report.clone())?);
    let mut other = report.clone();
    other.logs[0].size += 1;
    assert!(!verify(other)?);
    let mut none = report.clone();
    none.logs.clear();
    assert!(!verify(none.clone())?);
    none.seed.logs_digest = None;
    assert!(!verify(none)?);
    Ok(())
}
