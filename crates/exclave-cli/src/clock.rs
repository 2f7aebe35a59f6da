//! Whether this machine's clock can be believed: each site tells its own time with its answers.
//!
//! Nothing is decided by a clock: heads are ordered by their links, and a request refused for its time is signed again by
//! the site's. But people read dates, and a writer whose clock is wrong writes wrong ones into heads. So it is said.

use exclave_engine::Archive;

use crate::{format, surroundings::Edge};

/// Clocks that differ by less are as good as equal (THREATS D5).
const SKEW_S: u64 = 300;

/// What to say when most of the sites that tell their time differ from this machine by the same doubt; nothing else.
pub fn doubt(archive: &Archive, edge: &Edge) -> Option<String> {
    let ours = edge.surroundings.clock.now_unix_seconds();
    let theirs: Vec<i64> = edge.block_on(async {
        let mut dates = Vec::new();
        for handle in &archive.sites {
            dates.extend(handle.site.date().await);
        }
        dates
    });
    said(ours, theirs)
}

fn said(ours: i64, mut theirs: Vec<i64>) -> Option<String> {
    theirs.sort_unstable();
    let median = *theirs.get(theirs.len() / 2)?;
    let off = theirs.iter().filter(|time| time.abs_diff(ours) > SKEW_S).count();
    (off * 2 > theirs.len() && median.abs_diff(ours) > SKEW_S).then(|| {
        format!(
            "this machine's clock says {}, {off} of {} sites that tell their time say about {}; nothing depends on it but \
             the dates that people read",
            format::rfc3339(ours),
            theirs.len(),
            format::rfc3339(median)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_doubted_when_most_sites_do() {
        const NOW: i64 = 1_800_000_000;
        assert_eq!(said(NOW, Vec::new()), None);
        assert_eq!(said(NOW, vec![NOW + 299, NOW - 299]), None);
        // One site alone may be the one that is wrong.
        assert_eq!(said(NOW, vec![NOW, NOW + 1, 784_111_777]), None);
        assert_eq!(said(NOW, vec![NOW, 784_111_777]), None);
        let text = said(NOW, vec![784_111_777, NOW, 784_111_779]).unwrap();
        assert!(
            text.contains("2 of 3 sites") && text.contains("1994-11-06T08:49:39Z"),
            "{text}"
        );
        assert!(said(784_111_777, vec![NOW]).is_some());
    }
}
