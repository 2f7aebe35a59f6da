//! What a site makes of every hostile behaviour at every step, in one table.

use std::sync::Arc;
use std::time::Duration;

use exclave_model::Prefix;
use exclave_site::{
    Body, Class, Patience, PutMode, Retrying, Site, SiteAddress, SiteError, SiteSettings, Span, Stored, open,
    open_destroy,
};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::proxy::{ALL, Behaviour, Bucket, Objects, Step};
use crate::support::{Reply, Server, reply};
use crate::{class, impatient, name};

const CONTENT: &str = "0123456789abcdef";
const OTHER: &str = "fedcba9876543210";

/// Plays at a time: clients are costly to set up, and the silence that is allowed is short.
const PLAYS_AT_ONCE: usize = 8;

const STEPS: [Step; 6] = [
    Step::Put,
    Step::Get,
    Step::Range,
    Step::Length,
    Step::List,
    Step::Delete,
];

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Right,
    /// An answer that isn't true. No site can know; the layers that hold digests must, and do (`tests/tests/hostile_sites.rs`).
    Lie,
    /// A failure that another try may heal.
    Passing(Class),
    /// A failure that another try won't.
    Lasting(Class),
}

/// In the order of [`STEPS`]. No arm for the rest: a new behaviour must say what it comes to.
fn expected(behaviour: Behaviour) -> [Outcome; 6] {
    use Behaviour as B;
    const OK: Outcome = Outcome::Right;
    const LIE: Outcome = Outcome::Lie;
    const SLOW: Outcome = Outcome::Passing(Class::Slow);
    const BROKEN: Outcome = Outcome::Passing(Class::Unreachable);
    const BUSY: Outcome = Outcome::Passing(Class::Throttled);
    const INSIDE: Outcome = Outcome::Passing(Class::Internal);
    const DENIED: Outcome = Outcome::Lasting(Class::Denied);
    const BAD: Outcome = Outcome::Lasting(Class::Malformed);
    const LONG: Outcome = Outcome::Lasting(Class::TooLong);
    const SHORT: Outcome = Outcome::Lasting(Class::ShortRead);
    const GONE: Outcome = Outcome::Lasting(Class::Missing);
    match behaviour {
        // Put, get, range, length, list, delete.
        B::WrongEtag => [OK, OK, OK, OK, OK, OK],
        // A deed's answer is its status alone; what was really done shows when it is read back.
        B::ErrorInside200 | B::LoginPage => [LIE, LIE, BAD, OK, BAD, LIE],
        B::BodyShort => [OK, BROKEN, BROKEN, OK, BROKEN, OK],
        B::BodyTruncated => [OK, LIE, SHORT, OK, BAD, OK],
        B::BodyExtra => [OK, OK, OK, OK, OK, OK],
        B::BodyHuge => [OK, LONG, BAD, OK, OK, OK],
        B::ReplyEndless => [OK, OK, OK, OK, OK, OK],
        B::OtherObject | B::BitFlipped => [OK, LIE, LIE, OK, OK, OK],
        B::ReplyLost => [BROKEN, OK, OK, OK, OK, BROKEN],
        B::PreconditionAfterSuccess | B::ConflictAfterSuccess => [LIE, OK, OK, OK, OK, OK],
        B::PutDropped | B::PutTorn => [LIE, OK, OK, OK, OK, OK],
        B::Busy | B::BusyAtFirst | B::RetryAfterCentury => [BUSY, BUSY, BUSY, BUSY, BUSY, BUSY],
        B::Internal => [INSIDE, INSIDE, INSIDE, INSIDE, INSIDE, INSIDE],
        B::Forbidden | B::Unauthorized | B::DeniedAtTimes | B::ClockSkew => {
            [DENIED, DENIED, DENIED, DENIED, DENIED, DENIED]
        }
        B::Redirect301 | B::Redirect302 | B::Redirect307 | B::Redirect308 => [BAD, BAD, BAD, BAD, BAD, BAD],
        B::Silent | B::SlowHead => [SLOW, SLOW, SLOW, SLOW, SLOW, SLOW],
        B::SilentMidway => [OK, SLOW, SLOW, OK, SLOW, OK],
        B::SlowBody => [OK, SLOW, BAD, OK, SLOW, OK],
        // What isn't HTTP is a broken connection to the client below.
        B::Garbage | B::EndlessHead | B::InterimStorm => [BROKEN, BROKEN, BROKEN, BROKEN, BROKEN, BROKEN],
        B::EndlessChunk => [OK, BAD, BAD, OK, BAD, OK],
        // Nothing is unpacked on the way: a body is what came.
        B::GzipClaimed => [OK, OK, OK, OK, OK, OK],
        B::GzipBomb => [OK, LIE, OK, OK, BAD, OK],
        B::RangeIgnored | B::RangeOther => [OK, OK, BAD, OK, OK, OK],
        B::RangeLies => [OK, OK, LIE, OK, OK, OK],
        B::LengthLies => [OK, OK, OK, LIE, OK, OK],
        B::HeadOnly => [OK, GONE, GONE, OK, OK, OK],
        B::GetOnly => [OK, OK, OK, GONE, OK, OK],
        B::DeleteMarker => [OK, GONE, GONE, GONE, OK, OK],
        B::DeleteIgnored => [OK, OK, OK, OK, OK, LIE],
        B::DeleteOther => [OK, OK, OK, OK, OK, OK],
        B::SameToken => [OK, OK, OK, OK, BAD, OK],
        B::FreshTokens => [OK, OK, OK, OK, SLOW, OK],
        B::ListOmits | B::ListStale => [OK, OK, OK, OK, LIE, OK],
        // A key that is none of ours, an undefined entity among them, is counted and passed over.
        B::ListDuplicates | B::ListStrays | B::ListEntityInKey => [OK, OK, OK, OK, OK, OK],
        B::ListGarbage | B::ListHuge | B::ListDoctype | B::ListEntityInToken | B::ListSizeHuge => {
            [OK, OK, OK, OK, BAD, OK]
        }
    }
}

/// A bucket with `a` and `b`, to which `late` came later, behind a behaviour.
struct Play {
    bucket: Arc<Bucket>,
    server: Server,
    trap: Server,
}

impl Play {
    async fn new(behaviour: Behaviour) -> Self {
        let trap = Server::start(|_| reply(200, "ETag: \"x\"\r\n", OTHER)).await;
        let object = |(key, body): (&str, &str)| (key.to_owned(), body.as_bytes().to_vec());
        let beginnings = Objects::from([("in/a", CONTENT), ("in/b", OTHER)].map(object));
        let mut objects = beginnings.clone();
        objects.extend([("in/late", CONTENT)].map(object));
        let bucket = Arc::new(Bucket::new(beginnings, objects));
        let (played, trap_url) = (Arc::clone(&bucket), trap.url());
        let server = Server::start(move |request| played.play(behaviour, &trap_url, request)).await;
        Self { bucket, server, trap }
    }

    fn address() -> SiteAddress {
        SiteAddress::parse("s3://bucket/in").unwrap()
    }

    /// What an endless page is read up to takes its time.
    fn settings(&self) -> SiteSettings {
        SiteSettings {
            silence_max: Span(Duration::from_millis(500)),
            listing_max: Span(Duration::from_secs(5)),
            ..impatient(&self.server)
        }
    }

    /// Does a step through `site` and compares what it says with what is so.
    async fn truth(&self, step: Step, site: &dyn Site) -> Result<bool, SiteError> {
        let a = name("a");
        match step {
            Step::Put => {
                let body = Body::from(bytes::Bytes::from(OTHER));
                let stored = site.put(&name("c"), body, PutMode::Create).await?;
                let kept = self.bucket.objects().get("in/c").map(Vec::as_slice) == Some(OTHER.as_bytes());
                Ok(stored != Stored::AlreadyExists && kept)
            }
            Step::Get => Ok(site.get(&a, 1000).await? == CONTENT),
            Step::Range => Ok(site.get_range(&a, 2..5).await? == CONTENT[2..5]),
            Step::Length => Ok(site.length(&a).await? == 16),
            Step::List => {
                let listing = site.list(&Prefix::all(), 10).await?;
                let names: Vec<_> = listing.entries.iter().map(|entry| entry.name.as_str()).collect();
                Ok(names == ["a", "b", "late"] && listing.complete)
            }
            Step::Delete => {
                let power = open_destroy(&Self::address(), &self.settings())?;
                power.delete(&a).await?;
                Ok(!self.bucket.objects().contains_key("in/a"))
            }
        }
    }

    async fn outcome(&self, step: Step) -> Outcome {
        let site = open(&Self::address(), &self.settings()).unwrap();
        match self.truth(step, &*site).await {
            Ok(true) => Outcome::Right,
            Ok(false) => Outcome::Lie,
            Err(error) if error.is_retryable() => Outcome::Passing(error.class()),
            Err(error) => Outcome::Lasting(error.class()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_behaviour_has_its_outcome_at_every_step() {
    let turns = Arc::new(Semaphore::new(PLAYS_AT_ONCE));
    let mut plays = JoinSet::new();
    for behaviour in ALL {
        for (step, wanted) in STEPS.into_iter().zip(expected(*behaviour)) {
            let turns = Arc::clone(&turns);
            plays.spawn(async move {
                let _turn = turns.acquire().await.unwrap();
                let play = Play::new(*behaviour).await;
                // Far beyond the settings' own limits, so that a hang is told by name.
                let found = tokio::time::timeout(Duration::from_secs(30), play.outcome(step)).await;
                assert!(
                    play.trap.requests().is_empty(),
                    "{behaviour:?}: {step:?} asked the trap"
                );
                (found != Ok(wanted)).then(|| format!("{behaviour:?} {step:?}: {found:?}, not {wanted:?}"))
            });
        }
    }
    let wrong: Vec<_> = plays.join_all().await.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_storm_that_passes_costs_retries_alone() {
    for step in STEPS.into_iter().filter(|step| *step != Step::Delete) {
        let play = Play::new(Behaviour::BusyAtFirst).await;
        let site = open(&Play::address(), &play.settings()).unwrap();
        let site = Retrying::new(site, Patience::default(), |_| 0);
        assert!(play.truth(step, &site).await.unwrap(), "{step:?}");
        assert_eq!((site.retries(), play.server.requests().len()), (3, 4), "{step:?}");
    }
}

#[tokio::test]
async fn no_retry_is_spent_on_what_is_denied() {
    let play = Play::new(Behaviour::DeniedAtTimes).await;
    let site = open(&Play::address(), &play.settings()).unwrap();
    let site = Retrying::new(site, Patience::default(), |_| 0);
    for _ in 0..2 {
        assert_eq!(class(site.get(&name("a"), 1000).await), Class::Denied);
    }
    assert_eq!(site.get(&name("a"), 1000).await.unwrap(), CONTENT);
    assert_eq!((site.retries(), play.server.requests().len()), (0, 3));
}

#[tokio::test]
async fn an_azure_batch_that_answers_for_another_request_is_refused() {
    let answers = |id: &str, status: &str| {
        let part = format!("Content-Type: application/http\r\nContent-ID: {id}\r\n\r\nHTTP/1.1 {status}\r\n\r\n");
        format!("--batch\r\n{part}\r\n--batch--\r\n")
    };
    for (id, status, wanted) in [
        ("0", "202 Accepted", None),
        ("7", "404 Not Found", Some(Class::Malformed)),
        ("+1", "500 Oops", Some(Class::Malformed)),
    ] {
        let body = answers(id, status);
        let headers = "Content-Type: multipart/mixed; boundary=batch\r\n";
        let server = Server::start(move |_| reply(202, headers, &body)).await;
        let address = SiteAddress::parse("az://bucket/in").unwrap();
        let deleted = open_destroy(&address, &impatient(&server))
            .unwrap()
            .delete(&name("a"))
            .await;
        assert_eq!(deleted.err().map(|error| error.class()), wanted, "{id}");
    }
    let endless = Server::start(|_| {
        let head = "HTTP/1.1 202 Accepted\r\nContent-Type: multipart/mixed; boundary=batch\r\n\r\n";
        Reply::Endless(head.into())
    })
    .await;
    let address = SiteAddress::parse("az://bucket/in").unwrap();
    let power = open_destroy(&address, &impatient(&endless)).unwrap();
    assert_eq!(class(power.delete(&name("a")).await), Class::Malformed);
}
