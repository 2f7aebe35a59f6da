//! Sets, shares, texts and files together.

use exclave_model::{Body, ShareSet};
use proptest::prelude::*;

use super::*;
use crate::{
    KeyFile, KeyFileError, Passphrase, RecoveryIdentity,
    entropy::{Entropy as _, SeededEntropy},
    key_file::Cost,
};

fn group(name: &str, threshold: u8, of: u8) -> GroupPlan {
    GroupPlan {
        name: name.to_owned(),
        threshold,
        custodians: (1..=of).map(|x| (format!("{name} {x}"), Body::National)).collect(),
    }
}

fn plan(threshold: u8, groups: Vec<GroupPlan>) -> SplitPlan {
    SplitPlan {
        threshold,
        groups,
        previous: None,
    }
}

/// 2 of 3 national offices and 2 of 4 allied embassies.
fn embassies(entropy: &mut SeededEntropy) -> (RecoveryIdentity, ShareSet, Vec<Share>) {
    let identity = RecoveryIdentity::generate(entropy).unwrap();
    let plan = plan(2, vec![group("offices", 2, 3), group("embassies", 2, 4)]);
    let (set, shares) = split(&identity, &plan, entropy).unwrap();
    (identity, set, shares)
}

fn combined(set: &ShareSet, shares: &[&Share]) -> Result<RecoveryIdentity, CombineError> {
    check(set, shares).combine()
}

#[test]
fn every_subset_opens_exactly_when_both_levels_have_enough() {
    let mut entropy = SeededEntropy::new(80);
    let (identity, set, shares) = embassies(&mut entropy);
    assert_eq!(shares.len(), 7);
    for mask in 0u32..1 << shares.len() {
        let chosen: Vec<&Share> = shares
            .iter()
            .enumerate()
            .filter(|(at, _)| mask >> at & 1 == 1)
            .map(|(_, share)| share)
            .collect();
        let enough = (mask & 0b111).count_ones() >= 2 && (mask >> 3).count_ones() >= 2;
        match combined(&set, &chosen) {
            Ok(found) => assert!(enough && found.public() == identity.public(), "{mask:b}"),
            Err(error) => assert!(
                !enough && matches!(error, CombineError::TooFew { .. }),
                "{mask:b}: {error}"
            ),
        }
    }
}

#[test]
fn one_of_several_groups_may_be_enough_to_replace_another() {
    let mut entropy = SeededEntropy::new(81);
    let identity = RecoveryIdentity::generate(&mut entropy).unwrap();
    let groups = ["a", "b", "c"].map(|name| group(name, 2, 2)).to_vec();
    let (set, shares) = split(&identity, &plan(2, groups), &mut entropy).unwrap();
    for lost in 0..3 {
        let left: Vec<&Share> = shares
            .iter()
            .filter(|share| share.header().place.group != lost)
            .collect();
        assert_eq!(combined(&set, &left).ok().unwrap().public(), identity.public());
        let error = combined(&set, &left[..3]).err().unwrap().to_string();
        assert!(
            error.contains("2 groups are needed") && error.contains("1 of the 2 needed"),
            "{error}"
        );
    }
}

#[test]
fn each_flaw_is_named_with_its_custodian() {
    let mut entropy = SeededEntropy::new(82);
    let (identity, set, shares) = embassies(&mut entropy);
    let again = SplitPlan {
        previous: Some((set.id, set.epoch)),
        ..plan(2, vec![group("offices", 2, 3), group("embassies", 2, 4)])
    };
    let (newer_set, newer) = split(&identity, &again, &mut entropy).unwrap();
    assert_eq!((newer_set.id, newer_set.epoch), (set.id, set.epoch + 1));
    let (_, _, foreign) = embassies(&mut entropy);
    let flaw = |set: &ShareSet, shares: &[&Share]| {
        let checked = check(set, shares);
        let finding = checked.findings()[0].clone();
        assert_eq!(checked.findings().len(), 1);
        (finding.share, finding.custodian, finding.flaw)
    };
    let two = || Some("offices 2".to_owned());
    assert_eq!(flaw(&set, &[&shares[1], &shares[1]]), (1, two(), Flaw::Repeated));
    assert_eq!(flaw(&set, &[&shares[0], &foreign[1]]), (1, None, Flaw::Foreign));
    let outdated = Flaw::Outdated { found: 0, wanted: 1 };
    assert_eq!(flaw(&newer_set, &[&shares[1]]), (0, two(), outdated));
    assert_eq!(
        flaw(&set, &[&newer[1]]),
        (0, two(), Flaw::Newer { found: 1, wanted: 0 })
    );
    // Another's value under our place, and the other way round.
    let swapped = Share::new(shares[1].header, Secret::new(*shares[2].value.expose()));
    assert_eq!(flaw(&set, &[&swapped]), (0, two(), Flaw::Altered));
    let mut header = shares[1].header;
    header.threshold = 3;
    let other_threshold = Share::new(header, Secret::new(*shares[1].value.expose()));
    assert_eq!(flaw(&set, &[&other_threshold]), (0, two(), Flaw::Wrong));
    header.place.x = 4;
    let no_such_place = Share::new(header, Secret::new(*shares[1].value.expose()));
    assert_eq!(flaw(&set, &[&no_such_place]), (0, None, Flaw::Wrong));
    // The good ones open in spite of all the bad ones beside them.
    let mut all: Vec<&Share> = vec![&swapped, &newer[0], &foreign[3], &other_threshold];
    all.extend([&shares[0], &shares[2], &shares[6], &shares[3], &shares[3]]);
    let checked = check(&set, &all);
    assert_eq!(checked.findings().len(), 5);
    assert_eq!(checked.combine().ok().unwrap().public(), identity.public());
}

#[test]
fn every_flipped_bit_is_refused_and_named() {
    let mut entropy = SeededEntropy::new(83);
    let (_, set, shares) = embassies(&mut entropy);
    let good = shares[4].to_bytes();
    for bit in 0..SHARE_BYTES * 8 {
        let mut bytes = *good;
        bytes[bit / 8] ^= 1 << (bit % 8);
        let Ok(share) = Share::from_bytes(&bytes) else {
            assert!(
                [0, 13, 14, 15].contains(&(bit / 8)),
                "bit {bit}: only the header has a law"
            );
            continue;
        };
        let checked = check(&set, &[&share]);
        let [finding] = checked.findings() else {
            panic!("bit {bit} passed")
        };
        match bit / 8 {
            1..9 => assert_eq!(finding.flaw, Flaw::Foreign, "bit {bit}"),
            9..13 => assert!(matches!(finding.flaw, Flaw::Newer { .. }), "bit {bit}"),
            // Another's place is told as that one's altered share.
            13..16 => assert!(matches!(finding.flaw, Flaw::Wrong | Flaw::Altered), "bit {bit}"),
            _ => {
                assert_eq!(finding.flaw, Flaw::Altered, "bit {bit}");
                assert_eq!(finding.custodian.as_deref(), Some("embassies 2"));
            }
        }
        assert!(checked.combine().is_err());
    }
}

#[test]
fn a_set_that_lies_gives_no_key() {
    let mut entropy = SeededEntropy::new(84);
    let (_, set, shares) = embassies(&mut entropy);
    let all: Vec<&Share> = shares.iter().collect();
    let mut other_secret = set.clone();
    other_secret.groups[1].commitment = exclave_model::Commitment::from_bytes([3; 32]);
    assert!(matches!(combined(&other_secret, &all), Err(CombineError::Group(name)) if name == "embassies"));
    let mut other_key = set.clone();
    other_key.recipient = exclave_model::RecipientId::from_bytes([3; 32]);
    assert!(matches!(combined(&other_key, &all), Err(CombineError::WrongKey { .. })));
    // A lower threshold in the set alone fits no share.
    let mut lower = set;
    lower.groups[0].custodians.pop();
    assert!(
        check(&lower, &all)
            .findings()
            .iter()
            .any(|finding| finding.flaw == Flaw::Wrong)
    );
}

#[test]
fn plans_that_break_the_law_are_refused() {
    let mut entropy = SeededEntropy::new(85);
    let identity = RecoveryIdentity::generate(&mut entropy).unwrap();
    let mut cloud = plan(1, vec![group("all", 2, 3)]);
    cloud.groups[0].custodians[2].1 = Body::Hyperscale;
    for bad in [
        cloud,
        plan(1, vec![]),
        plan(1, vec![group("all", 1, 3)]),
        plan(1, vec![group("all", 4, 3)]),
    ] {
        assert!(matches!(
            split(&identity, &bad, &mut entropy),
            Err(SplitError::Unlawful(_))
        ));
    }
    let mut last = plan(1, vec![group("all", 2, 3)]);
    last.previous = Some((exclave_model::ShareSetId::from_bytes([1; 8]), u32::MAX));
    assert!(matches!(split(&identity, &last, &mut entropy), Err(SplitError::Epochs)));
}

#[test]
fn the_list_is_the_well_known_one() {
    let list = bip39::Language::English.word_list();
    let joined = list.iter().fold(String::new(), |text, word| text + word + "\n");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, joined.as_bytes());
    let expected = "2f5eed53a4727b4bf8880d8f3f199efc90e58503646d9ff8eff3a2ed3b24dbda";
    assert_eq!(exclave_model::hex(digest.as_ref()), expected);
    let format = include_str!("../../../../FORMAT.md");
    let (_, rest) = format.split_once("### The word list").unwrap();
    let words: Vec<&str> = rest
        .split("```")
        .nth(1)
        .unwrap()
        .split_whitespace()
        .filter(|word| *word != "text")
        .collect();
    // "text" is a word of the list and the name of the block's language.
    let ours: Vec<&str> = list.iter().copied().filter(|word| *word != "text").collect();
    assert_eq!(words, ours);
    for pair in list.windows(2) {
        assert_ne!(pair[0].get(..4).unwrap_or(pair[0]), pair[1].get(..4).unwrap_or(pair[1]));
    }
}

fn tokens(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn lines(tokens: &[String], form: Form) -> String {
    tokens
        .chunks(form.width())
        .fold(String::new(), |text, line| text + &line.join(" ") + "\n")
}

/// Every word replaced, every two exchanged, every two lines exchanged: each is told with its line.
#[test]
fn a_typing_error_is_told_with_its_line() {
    let mut entropy = SeededEntropy::new(86);
    let (_, _, shares) = embassies(&mut entropy);
    for form in [Form::Words, Form::Digits] {
        let text = shares[5].to_text(form);
        assert_eq!(text.lines().count(), form.lines());
        let good = tokens(&text);
        let width = form.width();
        let refused = |changed: &[String]| Share::from_text(&lines(changed, form)).err();
        assert_eq!(refused(&good), None);
        let replacements: Vec<String> = match form {
            Form::Words => bip39::Language::English
                .word_list()
                .iter()
                .map(|word| (*word).to_owned())
                .collect(),
            Form::Digits => (0..65536).step_by(13).map(|group| format!("{group:05}")).collect(),
        };
        for at in 0..good.len() {
            for replacement in replacements.iter().filter(|word| **word != good[at]) {
                let mut changed = good.clone();
                changed[at] = replacement.clone();
                assert_eq!(
                    refused(&changed),
                    Some(TextError::Line { line: at / width + 1 }),
                    "{at}"
                );
            }
            for other in 0..at {
                if good[at] == good[other] {
                    continue;
                }
                let mut changed = good.clone();
                changed.swap(at, other);
                // The first of the lines that are hit.
                let line = other / width + 1;
                let told = refused(&changed).unwrap();
                let expected = matches!(told, TextError::Line { line: found } | TextError::Group { line: found, .. } if found == line);
                assert!(expected, "{other} and {at}: {told:?}");
            }
        }
        for line in 0..form.lines() {
            for other in 0..line {
                let mut changed: Vec<&[String]> = good.chunks(width).collect();
                changed.swap(line, other);
                assert_eq!(refused(&changed.concat()), Some(TextError::Line { line: other + 1 }));
            }
        }
        let count = |tokens: &[String]| refused(tokens).unwrap();
        assert_eq!(count(&good[..width]), TextError::TooShort(1));
        let missing = TextError::Count {
            line: 2,
            found: width - 1,
            wanted: width,
        };
        assert_eq!(count(&good[..2 * width - 1]), missing);
        assert_eq!(count(&[&good[..], &good[..width]].concat()), TextError::TooLong);
    }
}

#[test]
fn words_are_read_as_people_type_them() {
    let mut entropy = SeededEntropy::new(87);
    let (_, _, shares) = embassies(&mut entropy);
    let share = &shares[0];
    let words = share.to_text(Form::Words);
    let same = |text: &str| Share::from_text(text).unwrap().to_bytes() == share.to_bytes();
    assert!(same(&words.to_uppercase()));
    assert!(same(&words.replace('\n', "  ")));
    let short: Vec<&str> = words
        .split_whitespace()
        .map(|word| word.get(..4).unwrap_or(word))
        .collect();
    assert!(same(&short.join(" ")));
    let digits = share.to_text(Form::Digits);
    assert!(same(&digits.split_whitespace().collect::<String>()));

    let mut entry = Entry::default();
    entry.add("  \n").unwrap();
    assert_eq!(
        entry.add("abandom x"),
        Err(TextError::Count {
            line: 1,
            found: 2,
            wanted: 6
        })
    );
    let mut typed = tokens(words.lines().next().unwrap());
    typed[2] = "abandom".to_owned();
    let expected = TextError::Word {
        line: 1,
        word: 3,
        near: vec!["abandon"],
    };
    assert_eq!(
        expected.to_string(),
        "line 1, word 3: not a word of the list; perhaps abandon"
    );
    assert_eq!(entry.add(&typed.join(" ")), Err(expected));
    typed[2] = "qqqqqqqq".to_owned();
    assert_eq!(
        entry.add(&typed.join(" ")),
        Err(TextError::Word {
            line: 1,
            word: 3,
            near: vec![]
        })
    );
    // Nothing was good so far, so the other form may be tried; what was good stays while lines are tried again.
    for (at, line) in digits.lines().enumerate() {
        assert_eq!(entry.lines(), at);
        assert!(entry.add("12a45 12345 12345 12345 12345").is_err());
        assert_eq!(
            entry.add("65536 0 0 0 0").unwrap_err().to_string(),
            format!("line {}: it has 2 words or groups instead of 5", at + 1)
        );
        entry.add(line).unwrap();
    }
    assert!(entry.is_complete());
    assert_eq!(entry.add("12345"), Err(TextError::TooLong));
    assert!(entry.finish().unwrap().to_bytes() == share.to_bytes());
    assert_eq!(Entry::default().finish().err(), Some(TextError::TooShort(0)));
}

#[test]
fn a_share_file_opens_with_its_passphrase_and_holds_to_its_commitment() {
    let mut entropy = SeededEntropy::new(88);
    let (_, _, shares) = embassies(&mut entropy);
    let passphrase = Passphrase::new("correct horse".to_owned()).unwrap();
    let file = KeyFile::for_share(&shares[2], &passphrase, Cost::TEST, &mut entropy).unwrap();
    let text = file.to_text().unwrap();
    let read = KeyFile::parse(&text).unwrap();
    assert_eq!(read.share_header().unwrap(), *shares[2].header());
    assert!(read.open_share(Some(&passphrase)).unwrap().to_bytes() == shares[2].to_bytes());
    let open = |text: &str| {
        KeyFile::parse(text)
            .and_then(|file| file.open_share(Some(&passphrase)))
            .err()
    };
    let other = Passphrase::new("wrong".to_owned()).unwrap();
    assert!(matches!(
        read.open_share(Some(&other)),
        Err(KeyFileError::WrongPassphrase)
    ));
    assert!(matches!(read.open_share(None), Err(KeyFileError::PassphraseNeeded)));
    assert!(matches!(
        read.open_recovery(Some(&passphrase)),
        Err(KeyFileError::Kind { .. })
    ));
    assert!(read.public_key().is_err());
    // Another share's header over this share's value.
    let public = |share: &Share| exclave_model::hex(&share.header().to_bytes());
    assert!(matches!(
        open(&text.replace(&public(&shares[2]), &public(&shares[1]))),
        Some(KeyFileError::Mismatch)
    ));
    assert!(matches!(
        open(&text.replace("public = \"01", "public = \"02")),
        Some(KeyFileError::Malformed(_))
    ));
    assert!(matches!(
        read.public_part().open_share(Some(&passphrase)),
        Err(KeyFileError::PublicOnly)
    ));
}

proptest! {
    #[test]
    fn headers_have_one_spelling(bytes: [u8; HEADER_BYTES]) {
        let mut bytes = bytes;
        bytes[0] = 1;
        if let Ok(header) = ShareHeader::from_bytes(&bytes) {
            prop_assert_eq!(header.to_bytes(), bytes);
        }
    }

    #[test]
    fn any_text_is_a_share_or_an_error(text in "\\PC{0,300}", seed: u64) {
        let _ = Share::from_text(&text);
        // Nearly good text.
        let mut entropy = SeededEntropy::new(seed);
        let mut bytes = [0u8; SHARE_BYTES];
        entropy.fill(&mut bytes).unwrap();
        bytes[0] = 1;
        bytes[13..16].copy_from_slice(&[0x00, 0x01, 0x12]);
        let share = Share::from_bytes(&bytes).unwrap();
        for form in [Form::Words, Form::Digits] {
            let written = share.to_text(form);
            prop_assert!(Share::from_text(&written).unwrap().to_bytes() == share.to_bytes());
            let cut = written.len() * usize::from(bytes[20]) / 256;
            // Four letters name a word: what is cut behind them is still the share, and nothing else is one.
            let read = Share::from_text(&written[..cut]);
            prop_assert!(read.map_or(true, |read| read.to_bytes() == share.to_bytes()));
        }
    }
}
