//! Looks at a page of a listing before `object_store` parses it.
//!
//! Its parser doesn't ask what the document is: a login page of a captive portal, or an `<Error>` with status 200, would be
//! a complete listing of nothing. So the root has to be a listing's ([`is_listing`]), and nothing but comments and processing
//! instructions may stand before it: no document type, so no entity of the server's own making is ever defined.
//!
//! One stray key must not hide a whole page. `object_store` 0.14 refuses a page when one of its keys isn't a path to it: `a//b`, `a/../b`, a control character. Whoever can
//! put one object into a bucket could so make every listing of it fail. No name of ours looks like that, so the page is
//! scanned before it is parsed, and such a key is replaced by [`STRAY`], which is a path to `object_store` and no object name
//! to us: it ends up among the ignored.

use bytes::Bytes;
use object_store::path::Path;

/// What a stray key becomes: it begins with a character that no object name and no prefix of a site's address begins with.
pub(crate) const STRAY: &str = "!stray";

/// Elements that hold a key: S3 and GCS (`Key`, `Prefix`), Azure (`Name`).
const ELEMENTS: [(&str, &str); 3] = [("<Key>", "</Key>"), ("<Prefix>", "</Prefix>"), ("<Name>", "</Name>")];

/// Roots of listings: S3 and GCS, S3's of versions, Azure, WebDAV (RFC 4918 section 14.16; with any prefix).
const ROOTS: [&[u8]; 4] = [
    b"ListBucketResult",
    b"ListVersionsResult",
    b"EnumerationResults",
    b"multistatus",
];

/// True when the document's root is a listing's and no document type stands before it. Whatever comes after that is the
/// parser's to judge.
pub(super) fn is_listing(page: &[u8]) -> bool {
    let mut rest = page.strip_prefix(b"\xef\xbb\xbf").unwrap_or(page);
    loop {
        rest = rest.trim_ascii_start();
        let after = match rest {
            [b'<', b'?', inner @ ..] => after(inner, b"?>"),
            [b'<', b'!', b'-', b'-', inner @ ..] => after(inner, b"-->"),
            [b'<', root @ ..] => return ROOTS.contains(&local_name(root)),
            _ => return false,
        };
        let Some(after) = after else { return false };
        rest = after;
    }
}

/// What follows the first `end`.
fn after<'a>(text: &'a [u8], end: &[u8]) -> Option<&'a [u8]> {
    let at = text.windows(end.len()).position(|window| window == end)?;
    text.get(at.checked_add(end.len())?..)
}

/// The name that a tag begins with, without its prefix.
fn local_name(tag: &[u8]) -> &[u8] {
    let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'>' | b'/');
    let name = tag.split(ends).next().unwrap_or_default();
    name.rsplit(|byte| *byte == b':').next().unwrap_or_default()
}

/// The page with every stray key replaced; the same bytes when there is none, or when it isn't text at all.
pub(super) fn without_strays(page: Bytes) -> Bytes {
    let Ok(text) = std::str::from_utf8(&page) else {
        return page;
    };
    let mut clean = String::new();
    let mut kept_to = 0;
    let mut at = 0;
    while let Some((start, end)) = next_key(text, at) {
        let key = text.get(start..end).unwrap_or_default();
        if !is_plain(key) {
            clean.push_str(text.get(kept_to..start).unwrap_or_default());
            clean.push_str(STRAY);
            kept_to = end;
        }
        at = end;
    }
    if kept_to == 0 {
        return page;
    }
    clean.push_str(text.get(kept_to..).unwrap_or_default());
    clean.into()
}

/// Where the next key's text begins and ends.
fn next_key(text: &str, from: usize) -> Option<(usize, usize)> {
    let mut at = from;
    loop {
        let opening = at.checked_add(text.get(at..)?.find('<')?)?;
        let rest = text.get(opening..)?;
        let element = ELEMENTS.iter().find(|(open, _)| rest.starts_with(open));
        if let Some((open, close)) = element {
            let start = opening + open.len();
            let length = text.get(start..)?.find(close)?;
            return Some((start, start + length));
        }
        at = opening + 1;
    }
}

/// True for a key that `object_store` takes as it stands. Escaped characters (`&`) are in no key of ours.
fn is_plain(key: &str) -> bool {
    !key.contains(['&', '<', '\r', '\n']) && Path::parse(key).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(page: &str) -> String {
        String::from_utf8(without_strays(Bytes::from(page.to_owned())).to_vec()).unwrap()
    }

    #[test]
    fn only_listings_are_listings() {
        for good in [
            "<ListBucketResult/>",
            "\u{feff}<?xml version=\"1.0\"?>\n<ListBucketResult xmlns=\"x\">",
            "<?xml version='1.0'?><!-- a > b --><EnumerationResults ContainerName=\"c\">",
            "<D:multistatus xmlns:D=\"DAV:\">",
            "<multistatus\n>",
            "<ListVersionsResult xmlns='x'>",
        ] {
            assert!(is_listing(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            " ",
            "plain",
            "<",
            "<!",
            "<?xml",
            "<!-- never closed <ListBucketResult>",
            "<Error><Code>InternalError</Code></Error>",
            "<html><body><ListBucketResult/></body></html>",
            "<ListBucketResultX/>",
            "</ListBucketResult>",
            "<!DOCTYPE l><ListBucketResult/>",
            "<?xml version='1.0'?><!-- --><!DOCTYPE l [<!ENTITY a \"b\">]><ListBucketResult/>",
        ] {
            assert!(!is_listing(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn stray_keys_are_blanked_and_the_rest_is_untouched() {
        let page = |a: &str, b: &str| {
            format!(
                "<List><Prefix>x/</Prefix><Contents><Key>{a}</Key><Size>1</Size></Contents><Contents><Key>{b}</Key></Contents></List>"
            )
        };
        assert_eq!(clean(&page("x/a", "x/b")), page("x/a", "x/b"));
        for stray in ["x//a", "x/../a", "x/&amp;", "x/&#47;", "/../", "x/a\nb", "x/\u{1}"] {
            assert_eq!(clean(&page("x/a", stray)), page("x/a", STRAY), "{stray:?}");
            assert_eq!(clean(&page(stray, "x/b")), page(STRAY, "x/b"), "{stray:?}");
        }
        assert_eq!(
            clean("<Blob><Name>a//b</Name></Blob>"),
            "<Blob><Name>!stray</Name></Blob>"
        );
    }

    #[test]
    fn what_is_no_page_passes_unchanged() {
        for text in ["", "<", "<Key>", "<Key>never closed", "plain", "</Key><Key></Key>"] {
            assert_eq!(clean(text), text);
        }
        assert_eq!(
            without_strays(Bytes::from_static(b"\xff<Key>a//b</Key>")),
            &b"\xff<Key>a//b</Key>"[..]
        );
        assert!(Path::parse(STRAY).is_ok() && exclave_model::ObjectName::parse(STRAY).is_err());
    }
}
