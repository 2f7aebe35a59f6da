use exclave_model::report::{AuditReport, Verdict};
use exclave_plan::audit::Nonce;
use serde_json::Value;

use super::*;
use crate::{
    audit::{AuditRequest, audit},
    testing::{AUDITOR, WRITER, World, file, noise, signing_key},
};

fn reported(mode: Mode) -> (World, AuditReport) {
    let mut world = World::new(2, 1, 2);
    world.commit(vec![file("first", &noise(1, 400_000))]);
    let request = AuditRequest {
        mode,
        datasets: None,
        nonce: Nonce::from_bytes([4; 32]),
        deadline: Duration::from_secs(5),
        forecast_only: false,
        troubles: Vec::new(),
    };
    let audit = audit(&world.archive, &world.survey(), &request, &world.surroundings);
    let report = report_of(&audit, &world.archive, "0.0.0", &world.surroundings).unwrap();
    (world, report)
}

fn sealed(world: &World, report: &AuditReport, key: Option<u8>) -> Vec<u8> {
    let key = key.map(signing_key);
    seal_report(report.clone(), key.as_ref(), &world.surroundings).unwrap()
}

#[test]
fn reports_of_every_mode_are_believed_with_the_anchor_alone() {
    for mode in [Mode::Heads, Mode::Sample(Detection::default()), Mode::Full, Mode::Deep] {
        let (world, report) = reported(mode);
        let bytes = sealed(&world, &report, Some(AUDITOR));
        let verified = verify_report(&bytes, Some(world.archive.anchor), None, false).unwrap();
        assert_eq!(verified.auditor, Some(signing_key(AUDITOR).id()));
        assert_eq!(verified.report, report);
        assert_eq!(report.verdict, Verdict::Whole);
        assert!(report.page.answer.starts_with("Yes"), "{}", report.page.answer);
    }
}

#[test]
fn only_an_auditor_is_believed() {
    let (world, report) = reported(Mode::Heads);
    let anchor = Some(world.archive.anchor);
    for (key, role) in [(WRITER, Some(Role::Writer)), (77, None)] {
        let refused = verify_report(&sealed(&world, &report, Some(key)), anchor, None, false).unwrap_err();
        assert!(
            matches!(&refused, Unbelievable::NotAnAuditor { role: found, .. } if *found == role),
            "{refused}"
        );
    }
    let unsigned = sealed(&world, &report, None);
    assert!(matches!(
        verify_report(&unsigned, anchor, None, false),
        Err(Unbelievable::Unsigned)
    ));
    assert_eq!(verify_report(&unsigned, anchor, None, true).unwrap().auditor, None);
    let other = Some(Anchor::from_bytes([1; 32]));
    assert!(matches!(
        verify_report(&sealed(&world, &report, Some(AUDITOR)), other, None, false),
        Err(Unbelievable::Archive { .. })
    ));
}

#[test]
fn a_changed_byte_breaks_the_signature() {
    let (world, report) = reported(Mode::Heads);
    let mut envelope = DsseEnvelope::from_bytes(&sealed(&world, &report, Some(AUDITOR))).unwrap();
    let text = String::from_utf8(envelope.payload).unwrap();
    envelope.payload = text.replacen("\"finished\":1000", "\"finished\":1001", 1).into_bytes();
    let refused = verify_report(&envelope.to_bytes().unwrap(), Some(world.archive.anchor), None, false).unwrap_err();
    assert!(matches!(refused, Unbelievable::Signature(_)), "{refused}");
}

/// Signed by the auditor, and not true by arithmetic: each is refused, and says why.
#[test]
fn a_report_that_contradicts_itself_is_refused() {
    type Change = fn(&mut AuditReport);
    let table: &[(&str, Change)] = &[
        ("seed", |report| report.seed.nonce = RecordHash::from_bytes([5; 32])),
        ("digest of heads", |report| report.heads[0].newest = false),
        ("adds up", |report| report.sites[0].shards.ok -= 1),
        ("another outcome", |report| {
            report.sites[0].shards.ok -= 1;
            report.sites[0].shards.missing += 1;
        }),
        ("sample", |report| {
            report.sites[1].sample = report.sites[1].sample.map(|size| size - 1)
        }),
        ("huge sample", |report| {
            report.sites[1].population = u64::MAX;
            report.sites[1].sample = Some(u64::MAX);
        }),
        ("other groups", |report| {
            report.sites[1].sample_digest = Some(RecordHash::from_bytes([1; 32]))
        }),
        ("power", |report| report.sites[1].power_ppm = Some(1_000_000 + 1)),
        ("confidence", |report| report.audit.confidence_ppm = Some(0)),
        ("mode", |report| report.audit.mode = AuditMode::Full),
        ("verdict", |report| report.verdict = Verdict::Findings),
        ("facts", |report| report.facts.alarms = 3),
        ("margin", |report| report.placement[0].faults[0].margin += 1),
        ("survivors", |report| report.placement[0].faults[0].survivors += 1),
        ("least", |report| report.placement[0].least_shown = 200),
        ("a site left out", |report| _ = report.sites.pop()),
        ("a site renamed", |report| report.sites[0].name = "elsewhere".to_owned()),
        ("a site twice", |report| report.sites.push(report.sites[0].clone())),
        ("stale", |report| report.freshness[0].answered = 0),
        ("findings", |report| report.findings_total = 1),
        ("time", |report| report.audit.finished = report.audit.started - 1),
    ];
    let (world, report) = reported(Mode::Sample(Detection::default()));
    for (what, change) in table {
        let mut changed = report.clone();
        change(&mut changed);
        changed.page = page(&changed);
        let bytes = sealed(&world, &changed, Some(AUDITOR));
        let refused = verify_report(&bytes, Some(world.archive.anchor), None, false);
        assert!(
            matches!(refused, Err(Unbelievable::Inconsistent(_))),
            "{what}: {refused:?}"
        );
    }
    let mut changed = report.clone();
    changed.page.answer = "Yes, and for ever.".to_owned();
    let refused = verify_report(&sealed(&world, &changed, Some(AUDITOR)), None, None, false).unwrap_err();
    assert!(refused.to_string().contains("page"), "{refused}");
    let mut changed = report;
    changed.charter.version = 2;
    let refused = verify_report(&sealed(&world, &changed, Some(AUDITOR)), None, None, false).unwrap_err();
    assert!(matches!(refused, Unbelievable::Charter), "{refused}");
}

#[test]
fn an_auditor_that_a_later_charter_dropped_is_not_believed() {
    let (mut world, report) = reported(Mode::Heads);
    let bytes = sealed(&world, &report, Some(AUDITOR));
    let root = signing_key(crate::testing::ROOT);
    let proposal = world.propose(&[&root], |charter| {
        charter.members = charter
            .members
            .take()
            .map(|members| members.into_iter().take(1).collect());
    });
    let mut later = world.archive.charters.clone();
    later
        .push(proposal.next.clone(), proposal.object.record_hash())
        .unwrap();
    let refused = verify_report(&bytes, None, Some(&later), false).unwrap_err();
    assert!(
        matches!(refused, Unbelievable::NotAnAuditor { role: None, .. }),
        "{refused}"
    );
}

#[test]
fn percents_are_exact() {
    let written: Vec<String> = [10_000, 1_000, 990_000, 1, 1_000_000, 12_345]
        .map(super::page::percent)
        .into();
    assert_eq!(written, ["1 %", "0.1 %", "99 %", "0.0001 %", "100 %", "1.2345 %"]);
}

/// Whether a value has the form that a schema gives: the few words of JSON Schema that ours uses, any other is a mistake.
fn fits(schema: &Value, root: &Value, value: &Value, at: &str) {
    for (word, rule) in schema.as_object().unwrap() {
        match word.as_str() {
            "$schema" | "title" | "description" | "$defs" | "pattern" => {}
            "$ref" => {
                let name = rule.as_str().unwrap().strip_prefix("#/$defs/").unwrap();
                fits(&root["$defs"][name], root, value, at);
            }
            "type" => {
                let found = match value {
                    Value::Null => "null",
                    Value::Bool(_) => "boolean",
                    Value::Number(number) => {
                        assert!(number.is_i64() || number.is_u64(), "{at}");
                        "integer"
                    }
                    Value::String(_) => "string",
                    Value::Array(_) => "array",
                    Value::Object(_) => "object",
                };
                assert_eq!(rule, found, "{at}");
            }
            "const" => assert_eq!(rule, value, "{at}"),
            "enum" => assert!(rule.as_array().unwrap().contains(value), "{at}: {value}"),
            "minimum" => assert!(value.as_i64().unwrap() >= rule.as_i64().unwrap(), "{at}"),
            "maximum" => assert!(value.as_i64().unwrap() <= rule.as_i64().unwrap(), "{at}"),
            "minItems" => assert!(value.as_array().unwrap().len() as u64 >= rule.as_u64().unwrap(), "{at}"),
            "maxItems" => assert!(value.as_array().unwrap().len() as u64 <= rule.as_u64().unwrap(), "{at}"),
            "additionalProperties" => assert_eq!(rule, &Value::Bool(false)),
            "anyOf" if value.is_null() => {}
            "anyOf" => fits(&rule[0], root, value, at),
            "required" => {
                let names: BTreeSet<&str> = rule
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|name| name.as_str().unwrap())
                    .collect();
                let found: BTreeSet<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
                assert_eq!(names, found, "{at}");
            }
            "properties" => {
                for (name, field) in value.as_object().unwrap() {
                    fits(&rule[name], root, field, &format!("{at}/{name}"));
                }
            }
            "items" => {
                for item in value.as_array().unwrap() {
                    fits(rule, root, item, at);
                }
            }
            other => panic!("{at}: the schema uses {other}"),
        }
    }
}

#[test]
fn reports_have_the_form_of_the_schema() {
    let schema = include_str!("../../../../../docs/schema/audit-report-v1.json");
    let schema: Value = serde_json::from_str(schema).unwrap();
    for mode in [Mode::Heads, Mode::Sample(Detection::default()), Mode::Full] {
        let (world, mut report) = reported(mode);
        report.findings.push(exclave_model::report::FindingSeen {
            kind: "shard".to_owned(),
            site: "s0".to_owned(),
            object: "x".to_owned(),
            outcome: Some(exclave_model::report::Outcome::Missing),
            detail: String::new(),
        });
        let envelope = DsseEnvelope::from_bytes(&sealed(&world, &report, None)).unwrap();
        let value: Value = serde_json::from_slice(&envelope.payload).unwrap();
        fits(&schema, &schema, &value, "");
    }
}
