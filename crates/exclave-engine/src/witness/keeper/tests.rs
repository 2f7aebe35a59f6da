use std::sync::Barrier;

use exclave_model::{Charters, Revocation, charter::Reason};
use exclave_seal::{SeededEntropy, SigningKey};

use super::*;
use crate::{
    local::LocalError,
    testing::{ROOT, WRITER, World, signing_key},
    witness::{
        cosign::word,
        testing::{ForgedLog, cosigning_key, policy},
    },
};

const NOW: i64 = 1_790_000_000;

struct Here {
    folder: tempfile::TempDir,
    charters: Charters,
}

impl Here {
    fn new() -> Self {
        let here = Self {
            folder: tempfile::tempdir().unwrap(),
            charters: World::new(2, 1, 1).archive.charters.clone(),
        };
        Store::create(
            here.folder.path(),
            here.charters.anchor(),
            cosigning_key(1).public().id(),
        )
        .unwrap();
        here
    }

    fn open(&self) -> Result<Keeper, KeeperError> {
        Keeper::open(self.folder.path(), cosigning_key(1), self.charters.clone())
    }

    fn log(&self, key: u8) -> ForgedLog {
        ForgedLog::new(self.charters.anchor(), signing_key(key), 1)
    }
}

fn ask(keeper: &Keeper, request: &AddCheckpoint) -> Result<[NoteSignature; 2], Refusal> {
    keeper.add_checkpoint(&request.to_bytes(), NOW, &mut SeededEntropy::new(8))
}

#[test]
fn a_growing_log_is_cosigned_and_again_on_request() {
    let here = Here::new();
    let keeper = here.open().unwrap();
    let mut log = here.log(WRITER);
    log.grow(0, 9);
    for (old, new) in [(0, 3), (3, 3), (3, 7), (7, 8), (8, 9), (9, 9)] {
        let request = log.request(old, new);
        let lines = ask(&keeper, &request).unwrap();
        let mut cosigned = request.checkpoint.clone();
        cosigned.note.signatures.extend(lines);
        let policy = policy();
        let vouching = vouching(&cosigned, &policy.witnesses);
        assert_eq!(vouching.len(), 1);
        assert_eq!(
            (vouching[0].witness.name.as_str(), vouching[0].at),
            ("w1.example/w", NOW)
        );
        let word = word(&policy, &vouching);
        assert_eq!((word.ever.counting, word.quorum_at), (1, None));
    }
    // Another life of the key has a log of its own; so has another key of the charter.
    let mut other = ForgedLog::new(here.charters.anchor(), signing_key(WRITER), 2);
    ask(&keeper, &other.grow(1, 2).request(0, 2)).unwrap();
    ask(&keeper, &here.log(ROOT).grow(1, 1).request(0, 1)).unwrap();
    assert_eq!(keeper.logs(), 3);
    drop(keeper);
    // What was cosigned is remembered.
    let keeper = here.open().unwrap();
    assert!(matches!(
        ask(&keeper, &log.request(0, 9)),
        Err(Refusal::OtherSize { known: 9 })
    ));
    assert!(ask(&keeper, &log.request(9, 9)).is_ok());
}

#[test]
fn whoever_is_no_log_of_the_archive_is_refused() {
    let here = Here::new();
    let keeper = here.open().unwrap();
    let stranger = here.log(77).grow(0, 1).request(0, 1);
    assert!(matches!(ask(&keeper, &stranger), Err(Refusal::UnknownLog)));
    let other = exclave_model::Anchor::from_bytes([9; 32]);
    let elsewhere = ForgedLog::new(other, signing_key(WRITER), 1).grow(0, 1).request(0, 1);
    assert!(matches!(ask(&keeper, &elsewhere), Err(Refusal::UnknownLog)));
    let mut log = here.log(WRITER);
    log.grow(0, 4);
    let mut half = log.request(0, 4);
    half.checkpoint.note.signatures.pop();
    assert!(matches!(ask(&keeper, &half), Err(Refusal::Unsigned)));
    let mut bad = log.request(0, 4);
    bad.checkpoint.note.signatures[1].bytes[50] ^= 1;
    assert!(matches!(ask(&keeper, &bad), Err(Refusal::Unsigned)));
    // Signed by another key of the charter under this log's name.
    let forger = ForgedLog {
        key: signing_key(ROOT),
        id: log.id,
        leaves: log.leaves.clone(),
    };
    assert!(matches!(ask(&keeper, &forger.request(0, 4)), Err(Refusal::Unsigned)));
    let larger = AddCheckpoint {
        old: 5,
        ..log.request(4, 4)
    };
    assert!(matches!(ask(&keeper, &larger), Err(Refusal::OldLarger { .. })));
    assert!(matches!(
        keeper.add_checkpoint(b"old 0\n", NOW, &mut SeededEntropy::new(8)),
        Err(Refusal::Malformed(_))
    ));
    assert_eq!(keeper.logs(), 0);
}

#[test]
fn a_revoked_keys_log_is_cosigned_no_more() {
    let here = Here::new();
    let mut world = World::new(2, 1, 1);
    let second: SigningKey = signing_key(9);
    let proposal = world.propose(&[&signing_key(ROOT)], |charter| {
        let writer = charter.writers[0].key.id();
        charter.writers[0].key = second.public().clone();
        charter.revocations = Some(vec![Revocation {
            key: writer,
            reason: Reason::Retired,
            pins: Vec::new(),
        }]);
    });
    let mut charters = here.charters.clone();
    charters.push(proposal.next, proposal.object.record_hash()).unwrap();
    let keeper = Keeper::open(here.folder.path(), cosigning_key(1), charters).unwrap();
    assert!(matches!(
        ask(&keeper, &here.log(WRITER).grow(0, 1).request(0, 1)),
        Err(Refusal::Unsigned)
    ));
    assert!(ask(&keeper, &here.log(9).grow(0, 1).request(0, 1)).is_ok());
    drop(keeper);
    // Older charters than before would let a revoked key in again.
    assert!(matches!(
        here.open(),
        Err(KeeperError::Store(StoreError::OlderCharter { seen: 2, given: 1 }))
    ));
}

#[test]
fn forks_and_rollbacks_are_refused_and_a_fork_is_kept() {
    let here = Here::new();
    let keeper = here.open().unwrap();
    let (mut log, mut fork) = (here.log(WRITER), here.log(WRITER));
    log.grow(0, 6);
    fork.grow(0, 4).grow(1, 8);
    ask(&keeper, &log.request(0, 6)).unwrap();
    // A rollback: the witness knows more.
    assert!(matches!(
        ask(&keeper, &log.request(0, 5)),
        Err(Refusal::OtherSize { known: 6 })
    ));
    assert!(matches!(
        ask(&keeper, &log.request(5, 5)),
        Err(Refusal::OtherSize { known: 6 })
    ));
    // Another history that is longer.
    assert!(matches!(
        ask(&keeper, &fork.request(6, 12)),
        Err(Refusal::Proof(BadProof::Root))
    ));
    // A proof where none belongs, none where one does, one of another size.
    let mut odd = log.request(6, 6);
    odd.proof.push(TreeHash::empty());
    assert!(matches!(ask(&keeper, &odd), Err(Refusal::Proof(_))));
    log.grow(0, 1);
    let mut bare = log.request(6, 7);
    bare.proof.clear();
    assert!(matches!(ask(&keeper, &bare), Err(Refusal::Proof(_))));
    // Another history of the same length convicts its signer.
    let refused = ask(&keeper, &fork.request(6, 6)).unwrap_err();
    let Refusal::OtherRoot {
        known: 6,
        evidence: Some(path),
    } = refused
    else {
        panic!("{refused}");
    };
    let evidence = Evidence::from_bytes(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(evidence.check(signing_key(WRITER).public()).unwrap(), log.id);
    assert!(evidence.check(signing_key(ROOT).public()).is_err());
    // The same again is the same file, and the right history goes on.
    assert!(matches!(
        ask(&keeper, &fork.request(6, 6)),
        Err(Refusal::OtherRoot { .. })
    ));
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    assert!(ask(&keeper, &log.request(6, 7)).is_ok());
}

#[test]
fn one_of_many_at_once_wins() {
    let here = Here::new();
    let keeper = here.open().unwrap();
    // Eight histories of the same key that have nothing in common, all at once, again and again.
    let requests: Vec<AddCheckpoint> = (0..8)
        .map(|history| here.log(WRITER).grow(history, 5).request(0, 5))
        .collect();
    let start = Barrier::new(requests.len());
    let cosigned: Vec<bool> = std::thread::scope(|scope| {
        let threads: Vec<_> = requests
            .iter()
            .map(|request| {
                scope.spawn(|| {
                    start.wait();
                    ask(&keeper, request).is_ok()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(cosigned.iter().filter(|cosigned| **cosigned).count(), 1, "{cosigned:?}");
    let won = cosigned.iter().position(|cosigned| *cosigned).unwrap();
    drop(keeper);
    let keeper = here.open().unwrap();
    for (number, request) in requests.iter().enumerate() {
        let again = AddCheckpoint {
            old: 5,
            ..request.clone()
        };
        assert_eq!(ask(&keeper, &again).is_ok(), number == won);
    }
}

#[test]
fn a_witness_that_lost_something_does_not_start() {
    let here = Here::new();
    let keeper = here.open().unwrap();
    // Two at a time would each remember half.
    assert!(matches!(here.open(), Err(KeeperError::Store(StoreError::Local(_)))));
    ask(&keeper, &here.log(WRITER).grow(0, 3).request(0, 3)).unwrap();
    drop(keeper);
    let folder = here.folder.path();
    let file = std::fs::read_dir(folder.join("logs"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let bytes = std::fs::read(&file).unwrap();
    // A byte of it changed, or its end is missing.
    for bad in [
        &bytes[..bytes.len() - 1],
        &[&bytes[..200], b"x", &bytes[201..]].concat(),
        b"",
    ] {
        std::fs::write(&file, bad).unwrap();
        assert!(matches!(
            here.open(),
            Err(KeeperError::Store(StoreError::Local(LocalError::Damaged { .. })))
        ));
    }
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(
        here.open(),
        Err(KeeperError::Store(StoreError::Forgotten { .. }))
    ));
    std::fs::write(&file, &bytes).unwrap();
    here.open().unwrap();
    // Another key, another archive, a folder that is none; and nothing is begun anew over what is there.
    assert!(matches!(
        Keeper::open(folder, cosigning_key(2), here.charters.clone()),
        Err(KeeperError::Store(StoreError::Other { .. }))
    ));
    assert!(matches!(
        Store::create(folder, here.charters.anchor(), cosigning_key(1).public().id()),
        Err(StoreError::There(_))
    ));
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(
        Keeper::open(empty.path(), cosigning_key(1), here.charters.clone()),
        Err(KeeperError::Store(StoreError::None(_)))
    ));
}

#[test]
fn what_can_not_be_written_is_not_cosigned() {
    use std::os::unix::fs::PermissionsExt as _;
    let here = Here::new();
    let keeper = here.open().unwrap();
    let mut log = here.log(WRITER);
    ask(&keeper, &log.grow(0, 3).request(0, 3)).unwrap();
    // A folder in the place of the file that is to be written: no user may write there, root neither.
    let logs = here.folder.path().join("logs");
    let file = std::fs::read_dir(&logs).unwrap().next().unwrap().unwrap().path();
    let beside = file.with_extension("new");
    std::fs::create_dir(&beside).unwrap();
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o700)).unwrap();
    log.grow(0, 2);
    assert!(matches!(ask(&keeper, &log.request(3, 5)), Err(Refusal::Store(_))));
    std::fs::remove_dir(&beside).unwrap();
    // What the disk holds is in doubt, whatever is asked.
    assert!(matches!(ask(&keeper, &log.request(3, 5)), Err(Refusal::Halted)));
    assert!(matches!(ask(&keeper, &log.request(3, 3)), Err(Refusal::Halted)));
    drop(keeper);
    let keeper = here.open().unwrap();
    assert!(ask(&keeper, &log.request(3, 5)).is_ok());
}

#[test]
fn a_backup_catches_up_with_its_own_word_only() {
    let here = Here::new();
    let keeper = here.open().unwrap();
    let mut log = here.log(WRITER);
    ask(&keeper, &log.grow(0, 3).request(0, 3)).unwrap();
    drop(keeper);
    let backup = tempfile::tempdir().unwrap();
    let copy = |from: &Path, to: &Path| {
        for name in ["witness", "origins"] {
            std::fs::copy(from.join(name), to.join(name)).unwrap();
        }
        for folder in ["logs", "evidence"] {
            std::fs::create_dir_all(to.join(folder)).unwrap();
            for entry in std::fs::read_dir(from.join(folder)).unwrap() {
                let entry = entry.unwrap();
                std::fs::copy(entry.path(), to.join(folder).join(entry.file_name())).unwrap();
            }
        }
    };
    copy(here.folder.path(), backup.path());
    let keeper = here.open().unwrap();
    let request = log.grow(0, 4).request(3, 7);
    let lines = ask(&keeper, &request).unwrap();
    drop(keeper);
    copy(backup.path(), here.folder.path());
    let keeper = here.open().unwrap();
    // Others' word is none.
    assert!(matches!(
        keeper.take_over(&request.checkpoint),
        Err(KeeperError::NotOurs { .. })
    ));
    let mut cosigned = request.checkpoint.clone();
    cosigned.note.signatures.extend(lines);
    keeper.take_over(&cosigned).unwrap();
    keeper.take_over(&cosigned).unwrap();
    let mut fork = here.log(WRITER);
    fork.grow(0, 3).grow(1, 9);
    assert!(matches!(
        ask(&keeper, &fork.request(3, 12)),
        Err(Refusal::OtherSize { known: 7 })
    ));
    assert!(ask(&keeper, &log.request(7, 7)).is_ok());
}
