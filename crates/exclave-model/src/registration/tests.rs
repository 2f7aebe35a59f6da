use super::*;
use crate::{
    charter::{Charter, Member, MemberRole, Role, tests::charter},
    signed::{PUBLIC_KEY_BYTES, PublicKey},
};

fn key(byte: u8) -> PublicKey {
    PublicKey::from_bytes([byte; PUBLIC_KEY_BYTES])
}

/// Key 50 administers class 9, whose 2+1 stripes may lose one site; key 51 class 8.
fn charters(change: impl FnOnce(&mut Charter)) -> Charters {
    let mut first = charter();
    let administrator = |byte, class| Member {
        role: MemberRole::Administrator,
        key: key(byte),
        classes: vec![class],
    };
    first.members = Some(vec![administrator(50, 9), administrator(51, 8)]);
    change(&mut first);
    Charters::begin(first, Anchor::from_bytes([1; 32])).unwrap()
}

fn registration(version: u32) -> Registration {
    Registration {
        format: Version1,
        anchor: Anchor::from_bytes([1; 32]),
        dataset: DatasetId::from_bytes([2; 16]),
        version,
        previous: (version > 1).then(|| RecordHash::from_bytes([3; 32])),
        charter_version: 1,
        class: 9,
        created: 5,
        losses: None,
        liars: None,
        read_back: None,
    }
}

#[test]
fn records_read_back_and_obey_their_law() {
    for version in [1, 2] {
        let good = Registration {
            losses: Some(1),
            read_back: Some(ReadBack::Full),
            ..registration(version)
        };
        assert_eq!(Registration::from_bytes(&good.to_bytes().unwrap()).unwrap(), good);
    }
    let kind = |change: fn(&mut Registration)| {
        let mut bad = registration(2);
        change(&mut bad);
        bad.law().unwrap_err().kind
    };
    assert_eq!(kind(|record| record.version = 0), "bad-version");
    assert_eq!(kind(|record| record.version = 1), "bad-record");
    assert_eq!(kind(|record| record.previous = None), "bad-version");
    assert_eq!(kind(|record| record.charter_version = 0), "wrong-charter");
}

#[test]
fn only_an_administrator_of_the_class_adds_and_tightens() {
    let charters = charters(|charter| {
        let others = MemberRole::ALL.iter().zip(60..).filter(|(role, _)| !role.has_classes());
        let others = others.map(|(role, byte)| Member {
            role: *role,
            key: key(byte),
            classes: Vec::new(),
        });
        charter.members.as_mut().unwrap().extend(others);
    });
    let mut refused = 0;
    for (role, key) in charters.newest().keys() {
        let may = registration(1).check_charter(&charters, key.id());
        let is_ours = role == Role::Administrator && key.id() == super::tests::key(50).id();
        assert_eq!(may.is_ok(), is_ours, "{role}");
        refused += u32::from(!is_ours);
    }
    assert_eq!(
        refused, 10,
        "two roots, the writer, the other administrator, six members"
    );
    let kind = |result: Result<(), Rule>| result.unwrap_err().kind;
    assert_eq!(
        kind(registration(1).check_charter(&charters, key(51).id())),
        "unknown-signer"
    );
    assert_eq!(
        kind(registration(1).check_charter(&charters, key(60).id())),
        "unknown-signer"
    );
    let later = Registration {
        charter_version: 2,
        ..registration(1)
    };
    assert_eq!(kind(later.check_charter(&charters, key(50).id())), "wrong-charter");
}

#[test]
fn tightens_never_loosens() {
    let charters = charters(|_| {});
    let administrator = key(50).id();
    type Change = fn(&mut Registration);
    let cases: [(Option<&str>, Change); 7] = [
        (None, |record| record.losses = Some(1)),
        (None, |record| record.read_back = Some(ReadBack::Full)),
        (Some("loosens"), |record| record.losses = Some(0)),
        (Some("loosens"), |record| record.read_back = Some(ReadBack::Group)),
        // 2+1 can lose one site, and then nobody may lie.
        (Some("bad-geometry"), |record| record.losses = Some(2)),
        (Some("bad-geometry"), |record| record.liars = Some(1)),
        (Some("wrong-charter"), |record| record.charter_version = 9),
    ];
    for (kind, change) in cases {
        let mut record = registration(1);
        change(&mut record);
        let found = record
            .check_charter(&charters, administrator)
            .err()
            .map(|rule| rule.kind);
        assert_eq!(found, kind, "{record:?}");
    }
    let rule = Registration {
        losses: Some(0),
        ..registration(1)
    }
    .check_charter(&charters, administrator);
    let text = rule.unwrap_err().text;
    assert_eq!(text, "tightens-never-loosens: losses 0 where 1 was demanded");
}

#[test]
fn demands_hold_together_each_at_its_strictest() {
    let policy = ClassPolicy {
        geometry: crate::Geometry::new(4, 5).unwrap(),
        losses: 2,
        liars: 0,
        payload: crate::PayloadLength::new(64 << 10, 4).unwrap(),
        read_back: ReadBack::Group,
    };
    let with = |losses, liars, read_back| Registration {
        losses,
        liars,
        read_back,
        ..registration(1)
    };
    let under = |records: &[Registration]| Registration::policy_under(&policy, records).unwrap();
    assert_eq!(under(&[]), policy);
    let (one, other) = (with(Some(3), None, None), with(None, Some(1), Some(ReadBack::Full)));
    let both = under(&[one.clone(), other.clone()]);
    assert_eq!(both, under(&[other.clone(), one.clone(), one.clone()]));
    assert_eq!((both.losses, both.liars, both.read_back), (3, 1, ReadBack::Full));
    // A charter that demands more later is not undone by an older record.
    let stricter = ClassPolicy { losses: 4, ..policy };
    assert_eq!(Registration::policy_under(&stricter, [&one]).unwrap().losses, 4);
    let impossible = Registration::policy_under(&stricter, [&other]).map(|policy| policy.losses);
    assert_eq!(impossible, Ok(4));
    let too_much = Registration::policy_under(&stricter, [&with(Some(5), Some(1), None)]);
    assert_eq!(too_much.unwrap_err().kind, "bad-geometry");
}

#[test]
fn a_dataset_keeps_its_class_and_its_demands() {
    let charters = charters(|charter| {
        let policy = ClassPolicy {
            geometry: crate::Geometry::new(2, 3).unwrap(),
            losses: 1,
            liars: 0,
            payload: crate::PayloadLength::new(64 << 10, 2).unwrap(),
            read_back: ReadBack::Group,
        };
        charter.classes[0] = crate::Class::new(9, 4, policy);
    });
    let before = Registration {
        losses: Some(2),
        ..registration(1)
    };
    let after = |change: fn(&mut Registration)| {
        let mut next = Registration {
            losses: Some(2),
            ..registration(2)
        };
        change(&mut next);
        next.check_after(&before, &charters).err().map(|rule| rule.kind)
    };
    assert_eq!(after(|_| {}), None);
    assert_eq!(after(|record| record.losses = Some(3)), None);
    assert_eq!(after(|record| record.read_back = Some(ReadBack::Full)), None);
    assert_eq!(after(|record| record.losses = None), Some("loosens"));
    assert_eq!(after(|record| record.class = 8), Some("loosens"));
    assert_eq!(after(|record| record.version = 3), Some("bad-version"));
    assert_eq!(
        after(|record| record.dataset = DatasetId::from_bytes([7; 16])),
        Some("bad-record")
    );
}
