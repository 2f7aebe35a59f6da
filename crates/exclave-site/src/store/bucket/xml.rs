//! S3's documents about a bucket. Google's first one is the same.

use serde::Deserialize;

use super::{Answer, Refusal, malformed, refused};
use crate::retention::{LockMode, ObjectLock, Versioning};

/// A year of a lock, in days.
const YEAR_DAYS: u32 = 365;

/// Documents by their root, so that another document isn't taken for an empty one.
#[derive(Deserialize)]
enum Document {
    /// moto 5 names it after the operation.
    #[serde(alias = "GetBucketVersioningResponse")]
    VersioningConfiguration(VersioningConfiguration),
    ObjectLockConfiguration(ObjectLockConfiguration),
    Error(Error),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct VersioningConfiguration {
    status: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ObjectLockConfiguration {
    object_lock_enabled: Option<String>,
    rule: Option<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Rule {
    default_retention: Option<DefaultRetention>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DefaultRetention {
    mode: Option<String>,
    days: Option<u32>,
    years: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Error {
    code: String,
}

pub(super) fn versioning(answer: &Answer) -> Result<Versioning, Refusal> {
    if !answer.status.is_success() {
        return Err(refused(answer));
    }
    let Document::VersioningConfiguration(found) = read(&answer.text)? else {
        return Err(other_document("VersioningConfiguration"));
    };
    match found.status.as_deref() {
        Some("Enabled") => Ok(Versioning::Enabled),
        Some("Suspended") => Ok(Versioning::Suspended),
        None | Some("") => Ok(Versioning::Off),
        Some(other) => Err(malformed("a bucket's versioning", &format!("status {other:?}"))),
    }
}

pub(super) fn object_lock(answer: &Answer) -> Result<ObjectLock, Refusal> {
    if !answer.status.is_success() {
        return match read(&answer.text) {
            Ok(Document::Error(error)) if error.code == "ObjectLockConfigurationNotFoundError" => Ok(ObjectLock::None),
            _ => Err(refused(answer)),
        };
    }
    let Document::ObjectLockConfiguration(found) = read(&answer.text)? else {
        return Err(other_document("ObjectLockConfiguration"));
    };
    match found.object_lock_enabled.as_deref() {
        Some("Enabled") => {}
        None | Some("") => return Ok(ObjectLock::None),
        Some(other) => return Err(malformed("a bucket's lock", &format!("enabled: {other:?}"))),
    }
    match found.rule.and_then(|rule| rule.default_retention) {
        Some(retention) => by_default(&retention),
        None => Ok(ObjectLock::OnRequest),
    }
}

fn by_default(retention: &DefaultRetention) -> Result<ObjectLock, Refusal> {
    let wrong = |why: &str| malformed("a bucket's lock", &why);
    let mode = match retention.mode.as_deref() {
        Some("GOVERNANCE") => LockMode::Governance,
        Some("COMPLIANCE") => LockMode::Compliance,
        Some(_) | None => return Err(wrong("a default retention of no known mode")),
    };
    // moto 5 says "0 years" beside the days.
    let given = |length: Option<u32>| length.filter(|length| *length > 0);
    let days = match (given(retention.days), given(retention.years)) {
        (Some(days), None) => Some(days),
        (None, Some(years)) => years.checked_mul(YEAR_DAYS),
        (Some(_), Some(_)) | (None, None) => None,
    };
    match days {
        Some(days) => Ok(ObjectLock::ByDefault { mode, days }),
        None => Err(wrong("a default retention of no definite length")),
    }
}

fn read(text: &str) -> Result<Document, Refusal> {
    quick_xml::de::from_str(text).map_err(|error| malformed("the answer is no document that was asked for", &error))
}

fn other_document(wanted: &str) -> Refusal {
    malformed("the answer is no document that was asked for", &format!("{wanted} was"))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::*;
    use crate::error::Failure;

    fn answer(status: u16, text: &str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            text: text.to_owned(),
        }
    }

    fn lock(inner: &str) -> Result<ObjectLock, Refusal> {
        let head = r#"<?xml version="1.0" encoding="UTF-8"?>"#;
        let namespace = r#"xmlns="http://s3.amazonaws.com/doc/2006-03-01/""#;
        let text = format!("{head}\n<ObjectLockConfiguration {namespace}>{inner}</ObjectLockConfiguration>");
        object_lock(&answer(200, &text))
    }

    #[test]
    fn a_status_means_one_of_three_things() {
        let status = |inner: &str| {
            let text = format!("<VersioningConfiguration>{inner}</VersioningConfiguration>");
            versioning(&answer(200, &text)).ok()
        };
        assert_eq!(status("<Status>Enabled</Status>"), Some(Versioning::Enabled));
        let with_more = "\n <Status>Suspended</Status>\n <MfaDelete>Disabled</MfaDelete>\n";
        assert_eq!(status(with_more), Some(Versioning::Suspended));
        assert_eq!(status(""), Some(Versioning::Off));
        assert_eq!(status("<Status/>"), Some(Versioning::Off));
        let as_moto =
            r#"<GetBucketVersioningResponse xmlns="x"><Status>Enabled</Status></GetBucketVersioningResponse>"#;
        assert_eq!(versioning(&answer(200, as_moto)), Ok(Versioning::Enabled));
        for nonsense in [
            "<Status>enabled</Status>",
            "<Status>Enabled</Status><Status>Suspended</Status>",
            "<Status><Deep>Enabled</Deep></Status>",
            "<Status>Enabled",
        ] {
            assert_eq!(status(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn a_default_retention_has_a_mode_and_one_length() {
        let enabled = "<ObjectLockEnabled>Enabled</ObjectLockEnabled>";
        let rule = |inner: &str| {
            lock(&format!(
                "{enabled}<Rule><DefaultRetention>{inner}</DefaultRetention></Rule>"
            ))
            .ok()
        };
        let by_default = |mode, days| Some(ObjectLock::ByDefault { mode, days });
        assert_eq!(lock(enabled).unwrap(), ObjectLock::OnRequest);
        assert_eq!(lock(&format!("{enabled}<Rule/>")).unwrap(), ObjectLock::OnRequest);
        assert_eq!(lock("").unwrap(), ObjectLock::None);
        assert_eq!(
            rule("<Mode>COMPLIANCE</Mode><Days>30</Days>"),
            by_default(LockMode::Compliance, 30)
        );
        assert_eq!(
            rule("<Mode>COMPLIANCE</Mode><Days>1</Days><Years>0</Years>"),
            by_default(LockMode::Compliance, 1)
        );
        assert_eq!(
            rule("<Mode>GOVERNANCE</Mode><Years>2</Years>"),
            by_default(LockMode::Governance, 730)
        );
        for nonsense in [
            "<Days>30</Days>",
            "<Mode>COMPLIANCE</Mode>",
            "<Mode>COMPLIANCE</Mode><Days>0</Days>",
            "<Mode>COMPLIANCE</Mode><Days>-1</Days>",
            "<Mode>COMPLIANCE</Mode><Days>1</Days><Years>1</Years>",
            "<Mode>COMPLIANCE</Mode><Years>4294967295</Years>",
            "<Mode>compliance</Mode><Days>30</Days>",
        ] {
            assert_eq!(rule(nonsense), None, "{nonsense}");
        }
        assert!(lock("<ObjectLockEnabled>Perhaps</ObjectLockEnabled>").is_err());
    }

    #[test]
    fn only_the_proper_refusal_means_that_there_is_no_lock() {
        let error = |code: &str| format!("<Error><Code>{code}</Code><Message>none</Message></Error>");
        let none = answer(404, &error("ObjectLockConfigurationNotFoundError"));
        assert_eq!(object_lock(&none), Ok(ObjectLock::None));
        let failure = |status, text: &str| object_lock(&answer(status, text)).unwrap_err().0;
        assert_eq!(failure(404, &error("NoSuchBucket")), Failure::Unreachable);
        for (status, text) in [(404, ""), (404, "<html>"), (409, "busy"), (404, "<Error/>")] {
            assert!(
                matches!(failure(status, text), Failure::Unsupported { .. }),
                "{status} {text}"
            );
        }
    }

    #[test]
    fn another_document_is_no_answer() {
        for text in [
            "",
            "<html><body>Login</body></html>",
            "<ListBucketResult/>",
            "{}",
            "<Error><Code>x</Code></Error>",
            "<!DOCTYPE a [<!ENTITY x 'Enabled'>]><VersioningConfiguration><Status>&x;</Status></VersioningConfiguration>",
        ] {
            let answer = answer(200, text);
            assert!(
                matches!(versioning(&answer), Err((Failure::Malformed { .. }, _))),
                "{text}: {:?}",
                versioning(&answer)
            );
            assert!(
                matches!(object_lock(&answer), Err((Failure::Malformed { .. }, _))),
                "{text}"
            );
        }
    }
}
