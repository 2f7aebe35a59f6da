//! S3's versions of objects: listed page by page, deleted, asked for their lock.
//!
//! A page holds versions and delete markers in one order, by key and then the newest first. Whoever may put can make a list
//! of any length, so it ends at a cap of pages, and what is kept of it is the caller's to bound.

use std::ops::ControlFlow;

use http::{Method, StatusCode};
use jiff::Timestamp;
use serde::Deserialize;
use url::form_urlencoded::byte_serialize;

use super::{Answer, Bucket, Refusal, Signs, malformed, refused};
use crate::error::Failure;
use crate::retention::LockMode;
use crate::versions::{Locked, Version, VersionId};

/// Most pages of one list of versions: 10^7 at 1,000 a page.
const PAGES_MAX: usize = 10_000;

/// One version in a list.
pub(crate) struct Line {
    pub(crate) key: String,
    pub(crate) version: Version,
}

/// Documents by their root, so that another document isn't taken for an empty one.
#[derive(Deserialize)]
enum Document {
    ListVersionsResult(Page),
    /// What a server that doesn't know the request makes of it.
    ListBucketResult(Ignored),
    Retention(Retention),
    Error(Error),
}

/// Its children in the order in which they stand.
#[derive(Deserialize)]
struct Page {
    #[serde(rename = "$value", default)]
    items: Vec<Item>,
}

#[derive(Deserialize)]
enum Item {
    Version(Listed),
    DeleteMarker(Listed),
    IsTruncated(String),
    NextKeyMarker(String),
    NextVersionIdMarker(String),
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    key: String,
    version_id: String,
    is_latest: String,
    size: Option<String>,
}

#[derive(Deserialize)]
struct Ignored {}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Retention {
    mode: Option<String>,
    retain_until_date: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Error {
    code: String,
}

/// Where the next page begins.
#[derive(Clone, PartialEq, Eq)]
struct Marker {
    key: String,
    version: Option<String>,
}

impl Bucket {
    /// True for a store whose versions can be listed.
    pub(in crate::store) fn lists_versions(&self) -> bool {
        matches!(self.signs, Signs::S3 { .. })
    }

    /// Hands over the versions of everything whose key begins with `prefix`, until `each` has enough.
    pub(in crate::store) async fn versions(
        &self,
        prefix: &str,
        mut each: impl FnMut(Line) -> ControlFlow<()>,
    ) -> Result<(), Refusal> {
        let mut marker: Option<Marker> = None;
        for _ in 0..PAGES_MAX {
            let answer = self.ask(&query(prefix, marker.as_ref())).await?;
            let (lines, next) = page(&answer)?;
            for line in lines {
                if each(line).is_break() {
                    return Ok(());
                }
            }
            if next.is_none() {
                return Ok(());
            }
            if next == marker {
                return Err(wrong("it repeats its page"));
            }
            marker = next;
        }
        Err(wrong(&format!("it has more than {PAGES_MAX} pages")))
    }

    /// Deletes one version.
    pub(in crate::store) async fn delete_version(&self, key: &str, version: &VersionId) -> Result<(), Refusal> {
        let query = format!("versionId={}", encoded(version.as_str()));
        let answer = self
            .request(Method::DELETE, &format!("/{key}"), &query, String::new())
            .await?;
        match answer.status {
            status if status.is_success() => Ok(()),
            StatusCode::NOT_FOUND if code(&answer).is_some_and(|code| code != "NoSuchBucket") => Ok(()),
            _ => Err(refused(&answer)),
        }
    }

    /// Until when an object or a version of it is locked.
    pub(in crate::store) async fn lock_of(
        &self,
        key: &str,
        version: Option<&VersionId>,
    ) -> Result<Option<Locked>, Refusal> {
        let version = version.map_or_else(String::new, |version| {
            format!("&versionId={}", encoded(version.as_str()))
        });
        let query = format!("retention{version}");
        let answer = self
            .request(Method::GET, &format!("/{key}"), &query, String::new())
            .await;
        match answer {
            // A bucket that locks nothing says that the question is wrong.
            Err((Failure::Other, why)) if asks_in_vain(&why) => Ok(None),
            answer => retention(&answer?),
        }
    }

    /// Locks a version for longer.
    pub(in crate::store) async fn extend(&self, key: &str, version: &VersionId, locked: Locked) -> Result<(), Refusal> {
        let query = format!("retention&versionId={}", encoded(version.as_str()));
        let body = retention_document(locked)?;
        let answer = self.request(Method::PUT, &format!("/{key}"), &query, body).await?;
        match answer.status {
            status if status.is_success() => Ok(()),
            StatusCode::NOT_FOUND if code(&answer).is_some_and(|code| code != "NoSuchBucket") => {
                Err((Failure::Missing, String::new()))
            }
            _ => Err(refused(&answer)),
        }
    }
}

fn retention_document(locked: Locked) -> Result<String, Refusal> {
    let mode = match locked.mode {
        LockMode::Governance => "GOVERNANCE",
        LockMode::Compliance => "COMPLIANCE",
    };
    let until = Timestamp::from_second(locked.until).map_err(|error| (Failure::Other, error.to_string()))?;
    Ok(format!(
        "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>{mode}</Mode>\
         <RetainUntilDate>{until}</RetainUntilDate></Retention>"
    ))
}

fn query(prefix: &str, marker: Option<&Marker>) -> String {
    let mut query = format!("versions&prefix={}", encoded(prefix));
    if let Some(Marker { key, version }) = marker {
        query.push_str(&format!("&key-marker={}", encoded(key)));
        if let Some(version) = version {
            query.push_str(&format!("&version-id-marker={}", encoded(version)));
        }
    }
    query
}

fn encoded(text: &str) -> String {
    byte_serialize(text.as_bytes()).collect()
}

/// The versions on a page, and where the next one begins.
fn page(answer: &Answer) -> Result<(Vec<Line>, Option<Marker>), Refusal> {
    if !answer.status.is_success() {
        return Err(refused(answer));
    }
    let items = match read(&answer.text)? {
        Document::ListVersionsResult(page) => page.items,
        Document::ListBucketResult(_) => return Err(super::unsupported("listing versions")),
        Document::Retention(_) | Document::Error(_) => return Err(wrong("the answer is another document")),
    };
    let (mut lines, mut more) = (Vec::with_capacity(items.len().min(1000)), false);
    let (mut next_key, mut next_version) = (None, None);
    for item in items {
        match item {
            Item::Version(listed) => {
                let size = listed.size.as_deref().map(str::parse::<u64>);
                let Some(Ok(size)) = size else {
                    return Err(wrong("a version without a length"));
                };
                lines.push(line(listed, Some(size))?);
            }
            Item::DeleteMarker(listed) => lines.push(line(listed, None)?),
            Item::IsTruncated(text) => more = truth(&text)?,
            Item::NextKeyMarker(text) => next_key = Some(text),
            Item::NextVersionIdMarker(text) => next_version = Some(text).filter(|text| !text.is_empty()),
            Item::Other => {}
        }
    }
    match (more, next_key) {
        (false, _) => Ok((lines, None)),
        (true, Some(key)) if !key.is_empty() => Ok((
            lines,
            Some(Marker {
                key,
                version: next_version,
            }),
        )),
        (true, _) => Err(wrong("there is more, and nothing says where")),
    }
}

fn line(listed: Listed, length: Option<u64>) -> Result<Line, Refusal> {
    let id = VersionId::parse(&listed.version_id).ok_or_else(|| wrong("a version without a name"))?;
    let is_newest = truth(&listed.is_latest)?;
    Ok(Line {
        key: listed.key,
        version: Version { id, length, is_newest },
    })
}

fn truth(text: &str) -> Result<bool, Refusal> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err(wrong(&format!("{other:?} is neither true nor false"))),
    }
}

fn retention(answer: &Answer) -> Result<Option<Locked>, Refusal> {
    if !answer.status.is_success() {
        return match code(answer).as_deref() {
            Some("NoSuchObjectLockConfiguration" | "ObjectLockConfigurationNotFoundError") => Ok(None),
            Some("NoSuchKey" | "NoSuchVersion") => Err((Failure::Missing, String::new())),
            _ => Err(refused(answer)),
        };
    }
    let wrong = |why: &str| malformed("an object's lock", &why);
    let Document::Retention(found) = read(&answer.text)? else {
        return Err(wrong("the answer is another document"));
    };
    let mode = match found.mode.as_deref() {
        Some("GOVERNANCE") => LockMode::Governance,
        Some("COMPLIANCE") => LockMode::Compliance,
        None | Some("") => return Ok(None),
        Some(_) => return Err(wrong("it has no known mode")),
    };
    let until = found.retain_until_date.as_deref().map(str::parse::<Timestamp>);
    match until {
        Some(Ok(until)) => Ok(Some(Locked {
            until: until.as_second(),
            mode,
        })),
        Some(Err(_)) | None => Err(wrong("it has no end")),
    }
}

/// True for the refusal of a bucket without a lock: HTTP 400, in AWS's words "Bucket is missing Object Lock Configuration", in
/// Ceph's "bucket object lock not configured".
fn asks_in_vain(why: &str) -> bool {
    why.contains("InvalidRequest") && why.to_ascii_lowercase().contains("object lock")
}

/// The code of an error's document.
fn code(answer: &Answer) -> Option<String> {
    match read(&answer.text) {
        Ok(Document::Error(error)) => Some(error.code),
        Ok(_) | Err(_) => None,
    }
}

fn read(text: &str) -> Result<Document, Refusal> {
    quick_xml::de::from_str(text).map_err(|error| malformed("the answer is no document that was asked for", &error))
}

fn wrong(why: &str) -> Refusal {
    malformed("a list of versions", &why)
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn answer(status: u16, text: &str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            text: text.to_owned(),
        }
    }

    fn listed(inner: &str) -> Result<(Vec<Line>, Option<Marker>), Refusal> {
        let text = format!(
            "<?xml version=\"1.0\"?>\n<ListVersionsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\n\
             <Name>b</Name>\n<Prefix>a/</Prefix><KeyMarker/><MaxKeys>1000</MaxKeys>{inner}</ListVersionsResult>"
        );
        page(&answer(200, &text))
    }

    fn version(element: &str, key: &str, id: &str, latest: &str, rest: &str) -> String {
        format!(
            "<{element}><Key>{key}</Key><VersionId>{id}</VersionId><IsLatest>{latest}</IsLatest>\
             <LastModified>2026-11-30T00:00:00.000Z</LastModified>{rest}<Owner><ID>o</ID></Owner></{element}>\n"
        )
    }

    #[test]
    fn versions_and_markers_come_in_the_order_of_the_page() {
        let inner = [
            "<IsTruncated>false</IsTruncated>".to_owned(),
            version("DeleteMarker", "a/x", "4", "true", ""),
            version("Version", "a/x", "3+/=", "false", "<ETag>\"e\"</ETag><Size>7</Size>"),
            version("DeleteMarker", "a/x", "2", "false", ""),
            version("Version", "a/y", "null", "true", "<Size>0</Size>"),
        ]
        .concat();
        let (lines, next) = listed(&inner).ok().unwrap();
        let seen: Vec<_> = lines
            .iter()
            .map(|line| {
                (
                    line.key.as_str(),
                    line.version.id.as_str(),
                    line.version.length,
                    line.version.is_newest,
                )
            })
            .collect();
        let wanted = [
            ("a/x", "4", None, true),
            ("a/x", "3+/=", Some(7), false),
            ("a/x", "2", None, false),
            ("a/y", "null", Some(0), true),
        ];
        assert_eq!(seen, wanted);
        assert!(next.is_none());
    }

    #[test]
    fn a_page_says_where_the_next_one_begins_or_is_malformed() {
        let more = "<IsTruncated>true</IsTruncated>";
        let (_, next) = listed(&format!(
            "{more}<NextKeyMarker>a/x&amp;</NextKeyMarker><NextVersionIdMarker>2+</NextVersionIdMarker>"
        ))
        .ok()
        .unwrap();
        let next = next.unwrap();
        assert_eq!((next.key.as_str(), next.version.as_deref()), ("a/x&", Some("2+")));
        assert_eq!(
            query("a/", Some(&next)),
            "versions&prefix=a%2F&key-marker=a%2Fx%26&version-id-marker=2%2B"
        );
        for bad in [
            more.to_owned(),
            format!("{more}<NextKeyMarker/>"),
            "<IsTruncated>perhaps</IsTruncated>".to_owned(),
            version("Version", "a/x", "1", "true", ""),
            version("Version", "a/x", "1", "true", "<Size>-1</Size>"),
            version("Version", "a/x", "", "true", "<Size>1</Size>"),
            version("Version", "a/x", "1", "yes", "<Size>1</Size>"),
            "<Version><Key>a</Key></Version>".to_owned(),
        ] {
            let failure = listed(&bad).err().unwrap().0;
            assert!(matches!(failure, Failure::Malformed { .. }), "{bad}: {failure:?}");
        }
    }

    #[test]
    fn a_server_that_lists_without_versions_is_told_from_one_that_errs() {
        let failure = |status, text: &str| page(&answer(status, text)).err().unwrap().0;
        assert!(matches!(
            failure(200, "<ListBucketResult><Contents/></ListBucketResult>"),
            Failure::Unsupported { .. }
        ));
        for text in ["", "<html/>", "<Error><Code>x</Code></Error>", "<Retention/>"] {
            assert!(matches!(failure(200, text), Failure::Malformed { .. }), "{text}");
        }
        let no_bucket = "<Error><Code>NoSuchBucket</Code></Error>";
        assert_eq!(failure(404, no_bucket), Failure::Unreachable);
    }

    #[test]
    fn a_lock_has_a_mode_and_an_end() {
        let lock = |inner: &str| retention(&answer(200, &format!("<Retention xmlns=\"x\">{inner}</Retention>"))).ok();
        let until = "<RetainUntilDate>2027-01-02T03:04:05.678Z</RetainUntilDate>";
        assert_eq!(
            lock(&format!("<Mode>COMPLIANCE</Mode>{until}")),
            Some(Some(Locked {
                until: 1_798_859_045,
                mode: LockMode::Compliance
            }))
        );
        assert_eq!(lock(""), Some(None));
        let (until, mode) = (1_798_859_045, LockMode::Governance);
        let document = retention_document(Locked { until, mode }).unwrap();
        assert!(
            document.ends_with(
                "<Mode>GOVERNANCE</Mode><RetainUntilDate>2027-01-02T03:04:05Z</RetainUntilDate></Retention>"
            )
        );
        assert_eq!(retention(&answer(200, &document)), Ok(Some(Locked { until, mode })));
        for bad in [
            "<Mode>COMPLIANCE</Mode>".to_owned(),
            format!("<Mode>NONE</Mode>{until}"),
        ] {
            assert_eq!(lock(&bad), None);
        }
        let error = |status, code: &str| {
            let text = format!("<Error><Code>{code}</Code></Error>");
            retention(&answer(status, &text)).map_err(|(failure, _)| failure)
        };
        assert_eq!(error(404, "NoSuchObjectLockConfiguration"), Ok(None));
        assert_eq!(error(404, "NoSuchKey"), Err(Failure::Missing));
        assert_eq!(error(404, "NoSuchBucket"), Err(Failure::Unreachable));
        assert!(matches!(error(400, "x"), Err(Failure::Unsupported { .. })));
    }
}
