//! A8: a rate shared through a real Redis, which is killed, stalled and restarted. Time is not paused: Redis has its own.

use perf_core::time::{self, Duration};
use perf_core::{Component as _, Reason, Status};
use perf_resilience::rate::{Quota, SharedRate, SharedRateConfig, WhenDown, per_second};
use perf_testkit::RedisServer;

/// On a busy machine an answer may take long, and then it is none of a Redis that hangs.
const PATIENT: Duration = Duration::from_secs(5);

fn limit(server: &RedisServer, quota: Quota, when_down: WhenDown, timeout: Duration) -> SharedRate {
    let client = redis::Client::open(format!("redis://{}/", server.address())).unwrap();
    let mut config = SharedRateConfig::default();
    (config.quota, config.when_down, config.timeout) = (quota, when_down, timeout);
    SharedRate::new("api", client, config).unwrap()
}

/// So many requests; how many went through.
async fn admitted(limit: &SharedRate, key: &str, requests: u32) -> u32 {
    let mut admitted = 0;
    for _ in 0..requests {
        admitted += u32::from(limit.try_acquire(key, 1).await.is_ok());
    }
    admitted
}

#[tokio::test]
async fn a08_instances_share_one_rate_by_the_clock_of_the_server() {
    let server = RedisServer::start().await.unwrap();
    let quota = per_second(100).burst(20);
    let instances: Vec<_> = (0..4).map(|_| limit(&server, quota, WhenDown::Closed, PATIENT)).collect();
    let share = async |key: &str| {
        let start = time::now();
        let mut total = 0;
        while start.elapsed() < Duration::from_millis(600) {
            for instance in &instances {
                total += admitted(instance, key, 3).await;
            }
        }
        let allowed = 20.0 + 100.0 * start.elapsed().as_secs_f64();
        assert!(f64::from(total) <= allowed + 1.0, "{total} of {allowed}");
        f64::from(total) / allowed
    };
    // What nobody asks for while the machine is busy elsewhere is lost, so not every try gets all that is allowed.
    let mut shares = vec![share("k").await];
    while shares.iter().all(|share| *share < 0.8) {
        assert!(shares.len() < 10, "{shares:?} of what is allowed");
        shares.push(share("k").await);
    }
    assert_eq!(admitted(&instances[0], "another", 30).await.min(20), 20, "keys do not share");
    let refused = loop {
        if let Err(refused) = instances[1].try_acquire("k", 1).await {
            break refused;
        }
    };
    assert_eq!(refused.reason(), Reason::RateLimited);
    assert!(refused.retry_hint().unwrap() <= Duration::from_millis(10), "{refused}");
}

#[tokio::test]
async fn a02_a05_a08_more_than_the_burst_is_an_error_and_refusals_take_nothing() {
    let server = RedisServer::start().await.unwrap();
    let limit = limit(
        &server,
        Quota { permits: 1, per: Duration::from_secs(3600), burst: 5 },
        WhenDown::Open,
        PATIENT,
    );
    let refused = limit.try_acquire("k", 6).await.unwrap_err();
    assert_eq!((refused.retry_hint(), refused.decided_by().unwrap().limit), (None, 5.0));
    assert!(limit.try_acquire("k", 3).await.is_ok());
    assert!(limit.try_acquire("k", 3).await.is_err(), "two are left");
    assert!(limit.try_acquire("k", 2).await.is_ok(), "the refusal took none of them");
}

#[tokio::test]
async fn a08_a_killed_redis_leaves_each_instance_its_share_and_a_restarted_one_takes_over() {
    let server = RedisServer::start().await.unwrap();
    let hourly = Quota { permits: 1, per: Duration::from_secs(3600), burst: 40 };
    let limit = limit(&server, hourly, WhenDown::Local { instances: 4 }, PATIENT);
    assert_eq!(admitted(&limit, "k", 10).await, 10);
    server.kill().await.unwrap();
    let start = time::now();
    assert_eq!(admitted(&limit, "k", 100).await, 10, "a quarter of the burst");
    assert!(start.elapsed() < Duration::from_secs(3), "Redis was given up after a few failures");
    assert!(!limit.is_shared() && limit.health().status() == Status::Degraded);
    let stats = limit.stats();
    assert_eq!((stats.admitted, stats.admitted_alone, stats.refused_alone), (10, 10, 90));
    assert!((3..=8).contains(&stats.failures), "{stats:?}");
    server.restart().await.unwrap();
    let shared = async {
        while !limit.is_shared() {
            let _ = limit.try_acquire("back", 1).await;
            time::sleep(Duration::from_millis(50)).await;
        }
    };
    time::timeout(Duration::from_secs(10), shared).await.unwrap();
    assert_eq!(limit.health().status(), Status::Up);
    assert_eq!(admitted(&limit, "fresh", 50).await, 40, "Redis decides again");
}

#[tokio::test]
async fn a08_a_redis_that_hangs_costs_its_timeout_and_open_or_closed_decides() {
    let server = RedisServer::start().await.unwrap();
    let with = |when_down| limit(&server, per_second(1), when_down, Duration::from_millis(250));
    let (open, closed) = (with(WhenDown::Open), with(WhenDown::Closed));
    for limit in [&open, &closed] {
        while limit.stats().admitted + limit.stats().refused == 0 {
            let _ = limit.try_acquire("k", 1).await;
        }
    }
    server.pause().await.unwrap();
    let start = time::now();
    assert_eq!(admitted(&open, "k", 20).await, 20);
    assert_eq!(admitted(&closed, "k", 20).await, 0);
    assert!(start.elapsed() < Duration::from_secs(8), "three timeouts each, and then none, not twenty");
    server.resume().await.unwrap();
}

#[tokio::test]
async fn a08_a_request_dropped_at_any_moment_leaves_the_limit_working() {
    let server = RedisServer::start().await.unwrap();
    let limit = limit(&server, per_second(1000).burst(1000), WhenDown::Closed, PATIENT);
    for micros in (0..2000).step_by(100) {
        let _ = time::timeout(Duration::from_micros(micros), limit.try_acquire("k", 1)).await;
    }
    assert!(limit.try_acquire("k", 1).await.is_ok() && limit.is_shared());
}

#[test]
fn impossible_settings_are_named() {
    let field = |change: fn(&mut SharedRateConfig)| {
        let mut config = SharedRateConfig::default();
        change(&mut config);
        config.validate().unwrap_err().field().to_owned()
    };
    assert_eq!(field(|config| config.timeout = Duration::ZERO), "timeout");
    assert_eq!(
        field(|config| config.when_down = WhenDown::Local { instances: 0 }),
        "when_down.local.instances"
    );
    assert_eq!(field(|config| config.quota.burst = 0), "quota.burst");
}
