use std::sync::Arc;
use std::time::Duration;

use exclave_model::{ObjectName, Prefix};
use tokio::time::Instant;

use crate::layer::retrying::{ATTEMPTS_MAX, RETRIES_MIN};
use crate::{
    Body, Class, Fault, Limited, Limits, Operation, Patience, PutMode, Retrying, SimulatedSite, Site, Steps, Stored,
    Timed, When,
};

fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).unwrap()
}

fn simulated() -> SimulatedSite {
    SimulatedSite::simulated("one", 1, &Steps::new()).unwrap()
}

fn retrying(site: &SimulatedSite) -> Retrying<SimulatedSite> {
    Retrying::new(site.clone(), Patience::default(), |most| most)
}

const UNLIMITED: Limits = Limits {
    requests_in_flight_max: 16,
    upload_per_second_max: None,
    download_per_second_max: None,
};

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_tried_again_with_growing_waits() {
    let site = simulated();
    site.disk().plant(&name("a"), bytes::Bytes::from_static(b"x"));
    site.inflict(When::any().times(3), Fault::Throttle);
    let start = Instant::now();
    assert_eq!(retrying(&site).get(&name("a"), 10).await.unwrap(), "x");
    // The jitter here is the longest: 200, 400, 800 ms of virtual time.
    assert_eq!(start.elapsed(), Duration::from_millis(1400));
    assert_eq!(site.count(Operation::Get), 4);
}

#[tokio::test(start_paused = true)]
async fn what_stays_is_not_tried_again() {
    for fault in [Fault::Deny, Fault::Fill, Fault::Stale { puts: 9 }] {
        let site = simulated();
        site.put(&name("a"), Body::default(), PutMode::Plain).await.unwrap();
        site.inflict(When::any(), fault);
        retrying(&site).length(&name("a")).await.unwrap_err();
        assert_eq!(site.count(Operation::Length), 1);
    }
    let site = simulated();
    site.put(&name("a"), Body::from(vec![0; 11]), PutMode::Plain)
        .await
        .unwrap();
    assert_eq!(
        retrying(&site).get(&name("a"), 10).await.unwrap_err().class(),
        Class::TooLong
    );
    assert_eq!(site.count(Operation::Get), 1);
}

#[tokio::test(start_paused = true)]
async fn attempts_and_the_budget_of_a_run_are_limited() {
    let site = simulated();
    site.inflict(When::any(), Fault::Fail);
    let retrying = retrying(&site);
    assert_eq!(retrying.length(&name("a")).await.unwrap_err().class(), Class::Internal);
    assert_eq!(site.count(Operation::Length), ATTEMPTS_MAX as usize);
    for _ in 0..199 {
        retrying.length(&name("a")).await.unwrap_err();
    }
    // 200 operations: 100 retries and 1 %.
    assert_eq!(retrying.retries(), RETRIES_MIN + 2);
    assert_eq!(site.count(Operation::Length), 200 + 102);
}

/// Gives a site up at the sixth failure.
#[derive(Clone, Default)]
struct Sixth(Arc<std::sync::atomic::AtomicU32>);

impl crate::layer::retrying::Watch for Sixth {
    fn may_begin(&self) -> bool {
        !self.is_down()
    }

    fn is_down(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::SeqCst) >= 6
    }

    fn answered(&self) {
        self.0.store(0, std::sync::atomic::Ordering::SeqCst);
    }

    fn failed(&self, _began: Instant) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn operations_share_that_a_site_is_down() {
    let inner = simulated();
    let site = retrying(&inner).watched(Sixth::default());
    inner.inflict(When::any(), Fault::LostBefore);
    let start = Instant::now();
    let names: Vec<ObjectName> = (0..4).map(|number| name(&format!("a/{number}"))).collect();
    let gets = names.iter().map(|name| site.get(name, 10));
    for outcome in futures::future::join_all(gets).await {
        assert_eq!(outcome.unwrap_err().class(), Class::Unreachable);
    }
    // Four first attempts, and as many second ones as it takes: nobody waits for an eighth.
    assert!((6..=8).contains(&inner.count(Operation::Get)));
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    let error = site.put(&name("b"), Body::default(), PutMode::Plain).await.unwrap_err();
    assert_eq!((error.class(), inner.count(Operation::Put)), (Class::Unreachable, 0));
}

#[tokio::test(start_paused = true)]
async fn a_put_that_took_two_attempts_is_unknown() {
    let site = simulated();
    let retrying = retrying(&site);
    assert_eq!(
        retrying
            .put(&name("a"), Body::default(), PutMode::Create)
            .await
            .unwrap(),
        Stored::Created
    );
    // Applied, reply lost: the second attempt hears "already exists" of our own object.
    site.inflict(When::any().writes().times(1), Fault::ReplyLost);
    assert_eq!(
        retrying
            .put(&name("b"), Body::default(), PutMode::Create)
            .await
            .unwrap(),
        Stored::Unknown
    );
    assert!(site.disk().read(&name("b")).is_some());
    site.calm();
    site.inflict(When::any().writes().times(1), Fault::Torn { bytes: 1 });
    let body = Body::from(vec![1, 2, 3]);
    assert_eq!(
        retrying.put(&name("c"), body, PutMode::Create).await.unwrap(),
        Stored::Unknown
    );
    assert_eq!(site.disk().read(&name("c")).unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_flush_is_not_repeated() {
    let site = simulated();
    site.inflict(When::any().times(1), Fault::Fail);
    assert_eq!(retrying(&site).flush().await.unwrap_err().class(), Class::Internal);
    assert_eq!(site.count(Operation::Flush), 1);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_what_hangs() {
    let site = simulated();
    site.inflict(When::any(), Fault::Hang);
    let timed = Timed::new(site, Duration::from_secs(3), Duration::from_secs(9));
    let start = Instant::now();
    assert_eq!(timed.length(&name("a")).await.unwrap_err().class(), Class::Slow);
    assert_eq!(start.elapsed(), Duration::from_secs(3));
    let error = timed.list(&Prefix::all(), 1).await.unwrap_err();
    assert_eq!(start.elapsed(), Duration::from_secs(12));
    assert_eq!(error.to_string(), "list / at memory://one: no answer within 9 s");
}

#[tokio::test(start_paused = true)]
async fn requests_in_flight_are_limited() {
    let site = simulated();
    site.inflict(
        When::any(),
        Fault::Slow {
            wait: Duration::from_secs(1),
        },
    );
    let limited = Limited::new(
        site,
        &Limits {
            requests_in_flight_max: 3,
            ..UNLIMITED
        },
    );
    let start = Instant::now();
    let names: Vec<_> = (0..10).map(|i| name(&format!("a{i}"))).collect();
    futures::future::join_all(names.iter().map(|n| limited.length(n))).await;
    // Ten requests of a second, three at a time.
    assert_eq!(start.elapsed(), Duration::from_secs(4));
}

#[tokio::test(start_paused = true)]
async fn what_is_read_back_goes_before_puts_that_wait() {
    let inner = simulated();
    inner.disk().plant(&name("there"), bytes::Bytes::from_static(b"x"));
    // Each operation takes a second, and one goes at a time.
    inner.inflict(
        When::any(),
        Fault::Slow {
            wait: Duration::from_secs(1),
        },
    );
    let limits = Limits {
        requests_in_flight_max: 1,
        ..UNLIMITED
    };
    let site = Arc::new(Limited::new(inner.clone(), &limits));
    let puts: Vec<_> = (0..8)
        .map(|number| {
            let site = Arc::clone(&site);
            tokio::spawn(async move {
                site.put(&name(&format!("a/{number}")), Body::default(), PutMode::Plain)
                    .await
                    .unwrap();
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let start = Instant::now();
    for _ in 0..2 {
        site.length(&name("there")).await.unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    // One that stops waiting stands in nobody's way.
    let cancelled = tokio::time::timeout(Duration::from_millis(10), site.length(&name("there"))).await;
    assert!(cancelled.is_err());
    for put in puts {
        put.await.unwrap();
    }
    assert_eq!(inner.count(Operation::Put), 8);
}

#[tokio::test(start_paused = true)]
async fn bandwidth_holds_on_average_and_large_objects_pass() {
    let limits = Limits {
        upload_per_second_max: Some(1000),
        download_per_second_max: Some(500),
        ..UNLIMITED
    };
    let limited = Arc::new(Limited::new(simulated(), &limits));
    let start = Instant::now();
    for i in 0..4 {
        limited
            .put(&name(&format!("a{i}")), Body::from(vec![0; 5000]), PutMode::Plain)
            .await
            .unwrap();
    }
    // The first second's worth was there; the last put leaves a debt for who comes next.
    let virtual_s = start.elapsed().as_secs_f64();
    assert!((14.0..14.1).contains(&virtual_s), "{virtual_s}");
    let start = Instant::now();
    for _ in 0..2 {
        limited.get(&name("a0"), 5000).await.unwrap();
    }
    let virtual_s = start.elapsed().as_secs_f64();
    assert!((9.0..9.1).contains(&virtual_s), "{virtual_s}");
}
