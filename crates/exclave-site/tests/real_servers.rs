//! The conformance suite and the probe against real servers.
//!
//! Runs only when `EXCLAVE_TEST_SITES` names a TOML file; prints a line and passes otherwise. The file lists sites:
//!
//! ```toml
//! [[site]]
//! name = "garage"
//! address = "s3://test/exclave"
//! # what this server is known to do differently: check = "fail", "silent" or "unsupported"
//! deviations = { create_only = "silent", create_race = "silent" }
//! # what the probe has to find
//! create_only = "silently-overwrites"
//! versioning = "off"
//! object_lock = "none"                  # or { by-default = { mode = "compliance", days = 1 } }
//! [site.settings]
//! endpoint = "http://127.0.0.1:3900"
//! region = "garage"
//! credentials = { s3 = { access_key = "k", secret_key = "s" } }
//! ```
//!
//! A site with `refused = "untrusted"` (or another class) isn't checked but has to fail so: a server whose certificate isn't
//! signed by the authority in `ca_pem`, for example.
//!
//! When `EXCLAVE_TEST_REPORT` names a file, all that was found is written there as JSON lines.

#![expect(clippy::unwrap_used, reason = "a test may stop at its first surprise")]

use std::collections::BTreeMap;
use std::time::Instant;

use exclave_model::ObjectName;
use exclave_site::conformance::{self, Outcome};
use exclave_site::probe::{Finding, Kept, Power};
use exclave_site::{ProbeInputs, ProbeReport, SiteAddress, SiteSettings, open, open_destroy, open_retention, probe};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sites {
    site: Vec<Server>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Server {
    name: String,
    address: SiteAddress,
    #[serde(default)]
    deviations: BTreeMap<String, String>,
    create_only: Option<toml::Value>,
    versioning: Option<toml::Value>,
    object_lock: Option<toml::Value>,
    refused: Option<String>,
    settings: SiteSettings,
}

#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "a test that the caller's environment switches on"
)]
async fn real_servers_conform_but_for_what_is_known_of_them() {
    let Ok(file) = std::env::var("EXCLAVE_TEST_SITES") else {
        println!("skipped: EXCLAVE_TEST_SITES names no file");
        return;
    };
    let sites: Sites = toml::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert!(!sites.site.is_empty());
    let (mut wrong, mut found) = (Vec::new(), String::new());
    for server in &sites.site {
        wrong.extend(check(server, &mut found).await);
    }
    if let Ok(file) = std::env::var("EXCLAVE_TEST_REPORT") {
        std::fs::write(file, found).unwrap();
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// What was found at a server, as a line of the report.
#[derive(Serialize)]
struct Found<'a> {
    name: &'a str,
    conformance: &'a conformance::Report,
    probe: &'a ProbeReport,
}

/// What of a server isn't as expected.
async fn check(server: &Server, lines: &mut String) -> Vec<String> {
    let Server {
        name,
        address,
        deviations,
        create_only,
        versioning,
        object_lock,
        refused,
        settings,
    } = server;
    let site = open(address, settings).unwrap();
    if let Some(wanted) = refused {
        let error = site.length(&ObjectName::parse("a").unwrap()).await.unwrap_err();
        println!("{name}: {error}: {}", std::error::Error::source(&error).unwrap());
        let class = toml::Value::try_from(error.class()).unwrap();
        let as_wanted = class.as_str() == Some(wanted);
        return if as_wanted {
            Vec::new()
        } else {
            vec![format!("{name}: refused as {class}, known is {wanted}")]
        };
    }
    let destroy = open_destroy(address, settings).unwrap();
    let retention = open_retention(address, settings).unwrap();
    // The servers are fresh for each run; the process number keeps runs by hand apart.
    let root = ObjectName::parse(&format!("conformance/{}", std::process::id())).unwrap();
    let start = Instant::now();
    let conformance = conformance::run(&*site, &root).await;
    println!("{name}: {conformance}  ({:.1} s)", start.elapsed().as_secs_f32());
    let kind = |outcome: &Outcome| match outcome {
        Outcome::Ok => "ok",
        Outcome::Fail { .. } => "fail",
        Outcome::Silent { .. } => "silent",
        Outcome::Unsupported { .. } => "unsupported",
    };
    let found: BTreeMap<String, String> = conformance
        .deviations()
        .map(|check| (check.name.to_owned(), kind(&check.outcome).to_owned()))
        .collect();
    let mut wrong = Vec::new();
    if found != *deviations {
        wrong.push(format!("{name}: deviates in {found:?}, known is {deviations:?}"));
    }
    let elapsed = || start.elapsed();
    let nonce = u128::from(std::process::id()).to_be_bytes();
    let report = probe(
        &*site,
        &ProbeInputs {
            nonce,
            elapsed: &elapsed,
            destroy: Some(&*destroy),
            retention: Some(&*retention),
        },
    )
    .await;
    println!("{name}: {report:#?}");
    let line = Found {
        name,
        conformance: &conformance,
        probe: &report,
    };
    lines.push_str(&serde_json::to_string(&line).unwrap());
    lines.push('\n');
    let right = Finding::Known(Kept::Right);
    if report.put_and_get != right || report.ranges != right || report.listing != right {
        wrong.push(format!("{name}: the probe finds reads or listings wrong"));
    }
    if report.delete != Finding::Known(Power::Can) || report.overwrite != Finding::Known(Power::Can) {
        wrong.push(format!("{name}: the probe can't delete or overwrite"));
    }
    wrong.extend(differs(name, "create-only", create_only.as_ref(), &report.create_only));
    wrong.extend(differs(name, "versioning", versioning.as_ref(), &report.versioning));
    wrong.extend(differs(name, "object lock", object_lock.as_ref(), &report.object_lock));
    wrong
}

/// A finding that isn't what is known of the server.
fn differs<T: Serialize>(name: &str, what: &str, wanted: Option<&toml::Value>, found: &Finding<T>) -> Option<String> {
    let wanted = wanted?;
    let found = match found {
        Finding::Known(found) => toml::Value::try_from(found).unwrap(),
        Finding::Failed { class, .. } => format!("a failure ({})", class.as_str()).into(),
        Finding::Unknown => "unknown".into(),
    };
    (found != *wanted).then(|| format!("{name}: {what} is {found}, known is {wanted}"))
}
