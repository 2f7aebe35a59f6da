use super::*;
use crate::Class;
use crate::SimulatedSite;

fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).unwrap()
}

fn body(text: &'static str) -> Body {
    Bytes::from_static(text.as_bytes()).into()
}

fn site() -> SimulatedSite {
    SimulatedSite::simulated("one", 1, &Steps::new()).unwrap()
}

async fn put(site: &SimulatedSite, text: &str) -> Result<Stored, SiteError> {
    site.put(&name(text), body("0123456789"), PutMode::Create).await
}

#[tokio::test]
async fn a_put_may_be_lost_torn_spoilt_or_done_unheard() {
    let site = site();
    site.inflict(When::any().containing("lost"), Fault::LostBefore);
    site.inflict(When::any().writes().containing("reply"), Fault::ReplyLost);
    site.inflict(When::any().containing("torn").times(1), Fault::Torn { bytes: 3 });
    site.inflict(When::any().writes().containing("vanish"), Fault::Vanish);
    site.inflict(When::any().writes().containing("spoil"), Fault::Spoil);
    assert_eq!(put(&site, "lost").await.unwrap_err().class(), Class::Unreachable);
    assert_eq!(put(&site, "reply").await.unwrap_err().class(), Class::Slow);
    assert_eq!(put(&site, "torn").await.unwrap_err().class(), Class::Unreachable);
    assert_eq!(put(&site, "vanish").await.unwrap(), Stored::Created);
    assert_eq!(put(&site, "spoil").await.unwrap(), Stored::Created);
    let on_disk = |text: &str| site.disk().read(&name(text));
    assert_eq!(on_disk("lost"), None);
    assert_eq!(on_disk("reply").unwrap(), "0123456789");
    assert_eq!(on_disk("torn").unwrap(), "012");
    assert_eq!(on_disk("vanish"), None);
    let spoilt = on_disk("spoil").unwrap();
    assert_eq!((spoilt.len(), spoilt == "0123456789"), (10, false));
    // The torn name is taken now, and the rule is used up.
    assert_eq!(put(&site, "torn").await.unwrap(), Stored::AlreadyExists);
}

#[tokio::test]
async fn answers_may_be_stale_wrong_or_incomplete() {
    let site = site();
    for text in ["a", "b", "c"] {
        put(&site, text).await.unwrap();
    }
    site.inflict(When::any().reads(), Fault::Stale { puts: 1 });
    let names = |listing: Listing| listing.entries.iter().map(|e| e.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(site.list(&Prefix::all(), 9).await.unwrap()), ["a", "b"]);
    assert_eq!(site.get(&name("c"), 99).await.unwrap_err().class(), Class::Missing);
    site.calm();
    site.inflict(When::any(), Fault::Omit { containing: "a".into() });
    assert_eq!(names(site.list(&Prefix::all(), 9).await.unwrap()), ["b", "c"]);
    site.calm();
    site.inflict(When::any(), Fault::WrongBytes);
    let wrong = site.get(&name("a"), 99).await.unwrap();
    assert_eq!((wrong.len(), wrong == "0123456789"), (10, false));
}

#[tokio::test]
async fn create_only_may_be_a_lie_either_way() {
    let site = site();
    site.disk().plant(&name("a"), Bytes::from_static(b"theirs"));
    site.inflict(When::any().containing("a"), Fault::Overwrite);
    site.inflict(When::any().containing("b"), Fault::SayExists);
    assert_eq!(put(&site, "a").await.unwrap(), Stored::Created);
    assert_eq!(site.disk().read(&name("a")).unwrap(), "0123456789");
    assert_eq!(put(&site, "b").await.unwrap(), Stored::AlreadyExists);
    assert_eq!(site.disk().read(&name("b")), None);
}

#[tokio::test]
async fn a_crash_ends_everything_everywhere_until_the_restart() {
    for (how, left) in [
        (Crash::Before, None),
        (Crash::After, Some(10)),
        (Crash::Torn { bytes: 4 }, Some(4)),
    ] {
        let steps = Steps::new();
        let one = SimulatedSite::simulated("one", 1, &steps).unwrap();
        let two = SimulatedSite::simulated("two", 1, &steps).unwrap();
        steps.crash_at(2, how);
        put(&one, "a").await.unwrap();
        put(&two, "a").await.unwrap();
        assert!(!steps.has_crashed());
        assert_eq!(put(&one, "b").await.unwrap_err().class(), Class::Crashed);
        assert_eq!(two.length(&name("a")).await.unwrap_err().class(), Class::Crashed);
        assert!(steps.has_crashed());
        steps.restart();
        assert_eq!(one.length(&name("b")).await.ok(), left, "{how:?}");
        assert_eq!(two.length(&name("a")).await.unwrap(), 10);
        assert_eq!(steps.taken(), 6);
    }
}

#[tokio::test]
async fn the_same_seed_gives_the_same_faults_and_the_log_tells_them() {
    let run = async |seed| {
        let site = SimulatedSite::simulated("one", seed, &Steps::new()).unwrap();
        site.inflict(When::any().one_in(3), Fault::Throttle);
        for number in 0..50 {
            let _ = put(&site, &format!("a{number}")).await;
        }
        site.log()
    };
    let log = run(7).await;
    assert_eq!(log, run(7).await);
    assert_ne!(log, run(8).await);
    let struck = log
        .iter()
        .filter(|record| record.failure == Some(Class::Throttled))
        .count();
    assert!((5..30).contains(&struck), "{struck}");
    assert!(
        log.iter()
            .all(|record| record.failure.is_some() != record.faults.is_empty())
    );
}

#[tokio::test(start_paused = true)]
async fn a_hanging_site_is_ended_by_a_deadline_only() {
    let site = site();
    site.inflict(When::any().containing("hang"), Fault::Hang);
    site.inflict(
        When::any().containing("slow"),
        Fault::Slow {
            wait: Duration::from_secs(100),
        },
    );
    assert!(
        tokio::time::timeout(Duration::from_secs(1000), put(&site, "hang"))
            .await
            .is_err()
    );
    let before = tokio::time::Instant::now();
    put(&site, "slow").await.unwrap();
    assert!(before.elapsed() >= Duration::from_secs(100));
}
