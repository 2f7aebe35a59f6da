use std::collections::BTreeSet;

use super::*;
use crate::{
    context::PayloadLength,
    custody::{Body, Custodian, CustodianGroup},
    geometry::Geometry,
    id::{Anchor, Commitment, Incarnation, ShareSetId},
};

/// Class 9 with set 4, class 8 with set 5; the one writer may write class 9.
pub(crate) fn charter() -> Charter {
    let class = |id, set| {
        let policy = ClassPolicy {
            geometry: Geometry::new(2, 1).unwrap(),
            losses: 1,
            liars: 0,
            payload: PayloadLength::new(64 << 10, 2).unwrap(),
            read_back: ReadBack::Full,
        };
        Class::new(id, set, policy)
    };
    let site = |id: u8| SiteRecord {
        id: SiteId::from_bytes([id; 16]),
        name: format!("site-{id}"),
        hosting: Hosting::OnPrem,
        pace: Pace::Primary,
        country: None,
        region: None,
        operator: None,
        legal_reach: None,
        iam_realm: None,
    };
    let set = |id| RecipientSet {
        id,
        crypto_epoch: 0,
        keys: vec![RecipientKey::from_bytes([7; RECIPIENT_KEY_BYTES])],
    };
    let key = |byte| PublicKey::from_bytes([byte; crate::signed::PUBLIC_KEY_BYTES]);
    Charter {
        format: Version1,
        version: 1,
        previous: None,
        created: 0,
        roots: Roots {
            threshold: 1,
            keys: vec![key(2), key(1)],
        },
        writers: vec![Writer {
            key: key(3),
            classes: vec![9],
        }],
        recipient_sets: vec![set(5), set(4)],
        sites: vec![site(2), site(1)],
        classes: vec![class(9, 4), class(8, 5)],
        nonce: [0; 16],
        members: None,
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

pub(crate) fn kind_of(change: impl FnOnce(&mut Charter)) -> &'static str {
    let mut charter = charter();
    change(&mut charter);
    charter.law().unwrap_err().kind
}

#[test]
fn lists_stand_in_any_order() {
    let bytes = charter().to_bytes().unwrap();
    assert_eq!(Charter::from_bytes(&bytes).unwrap(), charter());
}

#[test]
fn nothing_is_doubled_empty_or_missing() {
    type Change = fn(&mut Charter);
    let doubled: [Change; 6] = [
        |charter| charter.roots.keys.push(charter.roots.keys[0].clone()),
        |charter| charter.writers.push(charter.writers[0].clone()),
        |charter| charter.recipient_sets[1].id = 5,
        |charter| charter.sites[1].id = charter.sites[0].id,
        |charter| charter.classes[1].id = 9,
        |charter| charter.recipient_sets[0].keys = vec![charter.recipient_sets[0].keys[0].clone(); 2],
    ];
    let empty: [Change; 6] = [
        |charter| charter.writers.clear(),
        |charter| charter.writers[0].classes.clear(),
        |charter| charter.recipient_sets[0].keys.clear(),
        |charter| charter.sites.clear(),
        |charter| charter.sites[0].legal_reach = Some(Vec::new()),
        |charter| charter.classes.clear(),
    ];
    for change in doubled.into_iter().chain(empty) {
        assert_eq!(kind_of(change), "bad-record");
    }
    assert_eq!(kind_of(|charter| charter.classes[0].recipient_set = 6), "bad-record");
    assert_eq!(kind_of(|charter| charter.roots.threshold = 3), "bad-record");
    assert_eq!(
        kind_of(|charter| charter.sites[0].name = "Site".to_owned()),
        "bad-record"
    );
    assert_eq!(kind_of(|charter| charter.version = 2), "bad-version");
    assert_eq!(kind_of(|charter| charter.version = 0), "bad-version");
    assert_eq!(
        kind_of(|charter| charter.previous = Some(RecordHash::from_bytes([1; 32]))),
        "bad-record"
    );
    assert_eq!(kind_of(|charter| charter.classes[0].code = 2), "bad-suite");
    let many = |byte: u8| RecipientKey::from_bytes([byte; RECIPIENT_KEY_BYTES]);
    assert_eq!(
        kind_of(|charter| charter.recipient_sets[0].keys = (0..33).map(many).collect()),
        "too-long"
    );
}

fn signing_key(byte: u8) -> PublicKey {
    PublicKey::from_bytes([byte; crate::signed::PUBLIC_KEY_BYTES])
}

fn member(role: MemberRole, key: u8, classes: &[u32]) -> Member {
    Member {
        role,
        key: signing_key(key),
        classes: classes.to_vec(),
    }
}

fn revocation(key: u8, reason: Reason) -> Revocation {
    Revocation {
        key: signing_key(key).id(),
        reason,
        pins: Vec::new(),
    }
}

#[test]
fn one_key_has_one_role_and_each_role_its_acts() {
    let mut charter = charter();
    charter.members = Some(
        MemberRole::ALL
            .iter()
            .zip(10..)
            .map(|(role, key)| member(*role, key, if role.has_classes() { &[9] } else { &[] }))
            .collect(),
    );
    let authority = |purpose, key: u8| Authority {
        purpose,
        threshold: 1,
        keys: vec![signing_key(key)],
    };
    charter.authorities = Some(vec![
        authority(Purpose::Collection, 20),
        authority(Purpose::Posture, 21),
    ]);
    let bytes = charter.to_bytes().unwrap();
    assert_eq!(Charter::from_bytes(&bytes).unwrap(), charter);

    // Every key x every act: the one role that may, and the rule that refuses all others.
    let held: Vec<(Role, KeyId)> = charter.keys().map(|(role, key)| (role, key.id())).collect();
    assert_eq!(
        held.iter().map(|(role, _)| *role).collect::<BTreeSet<_>>().len(),
        Role::ALL.len()
    );
    for (role, key) in held {
        for act in Act::ALL {
            let permitted = charter.permit(key, *act).map_err(|rule| rule.kind);
            let expected = if role.may(*act) { Ok(()) } else { Err("wrong-role") };
            assert_eq!(permitted, expected, "{role} {act:?}");
        }
    }
    for act in Act::ALL {
        assert_eq!(Role::ALL.iter().filter(|role| role.may(*act)).count(), 1, "{act:?}");
        let stranger = charter.permit(signing_key(99).id(), *act).unwrap_err();
        assert_eq!(stranger.kind, "unknown-signer");
    }

    // A key in two roles.
    let twice = |change: fn(&mut Charter)| {
        let mut changed = charter.clone();
        change(&mut changed);
        changed.law().unwrap_err().kind
    };
    let changes: [fn(&mut Charter); 7] = [
        |charter| charter.writers[0].key = charter.roots.keys[0].clone(),
        |charter| charter.members.as_mut().unwrap()[0].key = charter.writers[0].key.clone(),
        |charter| charter.authorities.as_mut().unwrap()[0].keys.push(signing_key(12)),
        |charter| charter.authorities.as_mut().unwrap()[0].threshold = 2,
        |charter| charter.authorities.as_mut().unwrap()[1].purpose = Purpose::Collection,
        |charter| charter.members.as_mut().unwrap()[0].classes.clear(),
        |charter| charter.members.as_mut().unwrap()[1].classes.push(9),
    ];
    for change in changes {
        assert_eq!(twice(change), "bad-record");
    }
    let emptied: [fn(&mut Charter); 3] = [
        |charter| charter.members = Some(Vec::new()),
        |charter| charter.authorities = Some(Vec::new()),
        |charter| charter.revocations = Some(Vec::new()),
    ];
    for change in emptied {
        assert_eq!(twice(change), "bad-record");
    }
}

#[test]
fn a_revoked_key_has_no_role() {
    assert_eq!(
        kind_of(|charter| charter.revocations = Some(vec![revocation(3, Reason::Retired)])),
        "bad-record"
    );
    let mut keys = [revocation(30, Reason::Retired), revocation(31, Reason::Compromised)];
    keys.sort_by_key(|revocation| std::cmp::Reverse(revocation.key));
    assert_eq!(
        kind_of(|charter| charter.revocations = Some(keys.to_vec())),
        "bad-order"
    );
    let pin = Pin {
        incarnation: Incarnation::from_bytes([1; 16]),
        seq: 0,
        head: RecordHash::from_bytes([2; 32]),
    };
    let mut doubled = revocation(30, Reason::Retired);
    doubled.pins = vec![pin, pin];
    assert_eq!(
        kind_of(|charter| charter.revocations = Some(vec![doubled])),
        "bad-order"
    );
}

/// A history of one version, and a second one that changes nothing.
fn history() -> (Charters, Charter) {
    let first = charter();
    let anchor = Anchor::from_bytes([5; 32]);
    let mut next = first.clone();
    next.version = 2;
    next.previous = Some(RecordHash::from_bytes([5; 32]));
    (Charters::begin(first, anchor).unwrap(), next)
}

fn refused(change: impl FnOnce(&mut Charter)) -> &'static str {
    let (charters, mut next) = history();
    change(&mut next);
    next.law().unwrap();
    charters.check_next(&next).unwrap_err().kind
}

fn allowed(change: impl FnOnce(&mut Charter)) {
    let (charters, mut next) = history();
    change(&mut next);
    next.law().unwrap();
    charters.check_next(&next).unwrap();
}

#[test]
fn nothing_is_forgotten_between_two_versions() {
    allowed(|_| {});
    assert_eq!(refused(|next| next.version = 3), "bad-version");
    assert_eq!(
        refused(|next| next.previous = Some(RecordHash::from_bytes([6; 32]))),
        "broken-chain"
    );
    // A writer or a root that leaves is revoked; a new one comes freely.
    let replaced = |next: &mut Charter| next.writers[0].key = signing_key(40);
    assert_eq!(refused(replaced), "bad-succession");
    allowed(|next| {
        replaced(next);
        next.revocations = Some(vec![revocation(3, Reason::Retired)]);
    });
    assert_eq!(refused(|next| next.roots.keys[0] = signing_key(41)), "bad-succession");
    allowed(|next| {
        next.roots.keys[0] = signing_key(41);
        next.revocations = Some(vec![revocation(2, Reason::Compromised)]);
    });
    assert_eq!(
        refused(|next| {
            // From root to auditor: its root's power must be taken by name.
            next.roots.keys.remove(0);
            next.members = Some(vec![member(MemberRole::Auditor, 2, &[])]);
        }),
        "bad-succession"
    );
    // Classes and sets stay.
    allowed(|next| next.classes[0].losses = 0);
    assert_eq!(refused(|next| next.classes[0].parity = 2), "bad-succession");
    assert_eq!(refused(|next| next.classes[0].recipient_set = 5), "bad-succession");
    assert_eq!(refused(|next| _ = next.classes.remove(1)), "bad-succession");
    // A recipient that leaves ends the epoch; one that comes does not have to.
    let other = RecipientKey::from_bytes([8; RECIPIENT_KEY_BYTES]);
    allowed(|next| next.recipient_sets[0].keys.push(other.clone()));
    assert_eq!(
        refused(|next| next.recipient_sets[0].keys = vec![other.clone()]),
        "bad-succession"
    );
    allowed(|next| {
        next.recipient_sets[0].keys = vec![other.clone()];
        next.recipient_sets[0].crypto_epoch = 1;
    });
}

#[test]
fn a_stolen_key_ends_the_epoch_and_a_revocation_stays() {
    let stolen = |next: &mut Charter, reason| {
        next.writers[0].key = signing_key(40);
        next.revocations = Some(vec![revocation(3, reason)]);
    };
    // The writer's class is 9, its set 4 (the second one).
    assert_eq!(refused(|next| stolen(next, Reason::Compromised)), "bad-succession");
    assert_eq!(
        refused(|next| {
            stolen(next, Reason::Compromised);
            next.recipient_sets[0].crypto_epoch = 1;
        }),
        "bad-succession"
    );
    let raised = |next: &mut Charter| {
        stolen(next, Reason::Compromised);
        next.recipient_sets[1].crypto_epoch = 1;
    };
    allowed(raised);

    let (mut charters, mut second) = history();
    raised(&mut second);
    let hash = RecordHash::from_bytes([6; 32]);
    charters.push(second.clone(), hash).unwrap();
    assert_eq!((charters.newest().version, charters.newest_hash()), (2, hash));
    let mut third = second;
    (third.version, third.previous) = (3, Some(hash));
    charters.check_next(&third).unwrap();
    let mut forgiven = third.clone();
    forgiven.revocations = None;
    assert_eq!(charters.check_next(&forgiven).unwrap_err().kind, "bad-succession");
    let mut fallen = third.clone();
    fallen.recipient_sets[1].crypto_epoch = 0;
    assert_eq!(charters.check_next(&fallen).unwrap_err().kind, "bad-succession");
    assert_eq!(charters.version(1).unwrap().version, 1);
    assert!(charters.version(0).is_none() && charters.version(3).is_none());
    assert!(charters.writer_key(signing_key(3).id()).is_some());
    assert_eq!(charters.obeyed(3).unwrap_err().kind, "wrong-charter");
}

#[test]
fn charter_files_read_back() {
    let object = crate::signed::SignedObject::new(
        charter().to_bytes().unwrap(),
        vec![crate::signed::Signature {
            key: KeyId::from_bytes([1; 32]),
            ed25519: [1; 64],
            ml_dsa: Box::new([1; crate::signed::ML_DSA_65_SIGNATURE_BYTES]),
        }],
    );
    let file = CharterFile {
        charters: vec![object.clone(), object],
        plates: Vec::new(),
    };
    let bytes = file.to_bytes();
    assert_eq!(CharterFile::from_bytes(&bytes).unwrap(), file);
    for length in 0..bytes.len() {
        assert!(CharterFile::from_bytes(&bytes[..length]).is_err());
    }
    let empty = CharterFile {
        charters: Vec::new(),
        plates: Vec::new(),
    };
    assert!(CharterFile::from_bytes(&empty.to_bytes()).is_err());
}

#[test]
fn a_retired_key_that_turns_out_stolen_ends_the_epoch_then() {
    let (mut charters, mut second) = history();
    second.writers[0].key = signing_key(40);
    second.revocations = Some(vec![revocation(3, Reason::Retired)]);
    let hash = RecordHash::from_bytes([6; 32]);
    charters.push(second.clone(), hash).unwrap();
    let mut third = second;
    (third.version, third.previous) = (3, Some(hash));
    third.revocations = Some(vec![revocation(3, Reason::Compromised)]);
    assert_eq!(charters.check_next(&third).unwrap_err().kind, "bad-succession");
    third.recipient_sets[1].crypto_epoch = 1;
    charters.check_next(&third).unwrap();
}

#[test]
fn retention_is_of_classes_and_keeps_its_floors() {
    let class = charter().classes[0].id;
    let other = charter().classes[1].id;
    let rules = Retention::proposed;
    let mut both = vec![rules(class), rules(other)];
    both.sort_by_key(|rules| rules.class);
    let mut good = charter();
    good.retention = Some(both.clone());
    assert_eq!(Charter::from_bytes(&good.to_bytes().unwrap()).unwrap(), good);
    assert_eq!(good.retention(class), Some(&rules(class)));
    let kind = |rules| kind_of(|charter| charter.retention = Some(rules));
    assert_eq!(kind(vec![]), "bad-record");
    both.reverse();
    assert_eq!(kind(both), "bad-order");
    assert_eq!(kind(vec![rules(class); 2]), "bad-order");
    assert_eq!(kind(vec![rules(4_000_000_000)]), "bad-record");
    let changed = |change: fn(&mut Retention)| {
        let mut rules = rules(class);
        change(&mut rules);
        kind(vec![rules])
    };
    assert_eq!(changed(|rules| rules.last = LAST_MIN - 1), "bad-retention");
    assert_eq!(changed(|rules| rules.verified = 0), "bad-retention");
    assert_eq!(changed(|rules| rules.age_days_min = AGE_DAYS_MIN - 1), "bad-retention");
    assert_eq!(changed(|rules| rules.yearly = u32::MAX), "bad-retention");
}

#[test]
fn share_sets_are_of_recipients_and_stand_once() {
    let custodian = |number: u8| Custodian {
        name: format!("office {number}"),
        body: Body::National,
        commitment: Commitment::from_bytes([number; 32]),
    };
    let set = |recipient| ShareSet {
        format: Version1,
        id: ShareSetId::from_bytes([1; 8]),
        epoch: 0,
        recipient,
        threshold: 1,
        groups: vec![CustodianGroup {
            name: "offices".to_owned(),
            threshold: 2,
            commitment: Commitment::from_bytes([9; 32]),
            custodians: vec![custodian(1), custodian(2), custodian(3)],
        }],
    };
    let recipient = charter().recipient_sets[0].keys[0].id();
    let mut good = charter();
    good.share_sets = Some(vec![set(recipient)]);
    assert_eq!(Charter::from_bytes(&good.to_bytes().unwrap()).unwrap(), good);
    let kind = |sets| kind_of(|charter| charter.share_sets = Some(sets));
    assert_eq!(kind(vec![]), "bad-record");
    assert_eq!(kind(vec![set(recipient), set(recipient)]), "bad-record");
    assert_eq!(
        kind(vec![set(crate::id::RecipientId::from_bytes([3; 32]))]),
        "bad-record"
    );
    let mut other_split = set(recipient);
    other_split.id = ShareSetId::from_bytes([2; 8]);
    assert_eq!(kind(vec![set(recipient), other_split]), "bad-record");
    let mut hyperscale = set(recipient);
    hyperscale.groups[0].custodians[1].body = Body::Hyperscale;
    assert_eq!(kind(vec![hyperscale]), "bad-custodian");
}

#[test]
fn rules_for_writers_name_what_there_is() {
    let mut good = charter();
    good.registered_classes = Some(vec![8, 9]);
    let id = |key| signing_key(key).id();
    good.trust_groups = Some(vec![vec![id(3), id(40)], vec![id(41)]]);
    good.format_versions = Some(vec![1, 2]);
    assert_eq!(Charter::from_bytes(&good.to_bytes().unwrap()).unwrap(), good);
    assert!(good.demands_registration(9) && !charter().demands_registration(9));
    assert!(good.allows_format(2) && !good.allows_format(3));
    assert!(charter().allows_format(1) && !charter().allows_format(2));
    assert!(good.trusts(id(3), id(40)) && good.trusts(id(41), id(41)));
    assert!(!good.trusts(id(3), id(41)) && !good.trusts(id(41), id(50)));
    assert!(
        good.trusts(id(50), id(51)),
        "who stands in no group is with the others that do not"
    );
    assert!(charter().trusts(id(3), id(41)), "without groups there is one");
    assert_eq!(
        kind_of(|charter| charter.registered_classes = Some(vec![])),
        "bad-record"
    );
    assert_eq!(
        kind_of(|charter| charter.registered_classes = Some(vec![9, 8])),
        "bad-order"
    );
    assert_eq!(
        kind_of(|charter| charter.registered_classes = Some(vec![7])),
        "bad-record"
    );
    assert_eq!(
        kind_of(|charter| charter.trust_groups = Some(vec![vec![]])),
        "bad-record"
    );
    let twice = Some(vec![vec![id(3)], vec![id(3)]]);
    assert_eq!(kind_of(|charter| charter.trust_groups = twice), "bad-record");
    assert_eq!(
        kind_of(|charter| charter.format_versions = Some(vec![2, 1])),
        "bad-order"
    );
    assert_eq!(kind_of(|charter| charter.format_versions = Some(vec![0])), "bad-record");
}
