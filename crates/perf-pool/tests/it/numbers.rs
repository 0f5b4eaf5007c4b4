//! Numbers and configuration.

use crate::fake::{Act, Fake, ms, settle};
use perf_core::time::{self, Duration};
use perf_core::{Component, Desc, Histogram, Label, Sink, Status};
use perf_pool::sizing::{SizingConfig, SizingMode};
use perf_pool::{Condition, METRICS, Pool, PoolConfig, PoolEvent};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
struct Seen {
    names: BTreeSet<&'static str>,
    levels: BTreeMap<String, f64>,
    counts: BTreeMap<&'static str, u64>,
}

impl Sink for Seen {
    fn counter(&mut self, desc: &Desc, labels: &[Label<'_>], total: u64) {
        self.names.insert(desc.name);
        self.levels.insert(format!("{}{labels:?}", desc.name), total as f64);
    }

    fn gauge(&mut self, desc: &Desc, labels: &[Label<'_>], value: f64) {
        self.names.insert(desc.name);
        self.levels.insert(format!("{}{labels:?}", desc.name), value);
    }

    fn histogram(&mut self, desc: &Desc, _: &[Label<'_>], histogram: &Histogram) {
        self.names.insert(desc.name);
        self.counts.insert(desc.name, histogram.snapshot().count());
    }

    fn seconds(&mut self, desc: &Desc, _: &[Label<'_>], _: Duration) {
        self.names.insert(desc.name);
    }
}

#[tokio::test(start_paused = true)]
async fn every_series_of_the_table_is_collected_from_the_first_time_on() {
    let pool = Pool::builder(Fake::new()).name("orders").build().unwrap();
    let mut seen = Seen::default();
    pool.collect(&mut seen);
    let table: BTreeSet<_> = METRICS.iter().map(|desc| desc.name).collect();
    assert_eq!(seen.names, table);
    assert_eq!(pool.id().to_string(), "pool `orders`");
    let page = include_str!("../../../../docs/pool.md");
    for name in table {
        assert!(page.contains(name), "docs/pool.md does not list {name}");
    }
}

#[tokio::test(start_paused = true)]
async fn statistics_count_waits_holds_and_connects() {
    let pool = Pool::builder(Fake::new().slow(ms(30))).max(1).build().unwrap();
    let before = pool.stats();
    let held = pool.acquire().await.unwrap();
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { drop(pool.acquire().await.unwrap()) }
    });
    settle().await;
    assert_eq!(pool.stats().waiting, 1, "exact, not a difference of counters");
    time::sleep(ms(200)).await;
    drop(held);
    waiting.await.unwrap();
    let stats = pool.stats().since(&before);
    assert_eq!((stats.acquired, stats.waited, stats.connected), (2, 2, 1));
    assert_eq!(stats.mean_connect, ms(30));
    let mut seen = Seen::default();
    pool.collect(&mut seen);
    assert_eq!(seen.counts["perf_pool_wait_seconds"], 2);
    assert!(seen.counts["perf_pool_hold_seconds"] >= 1);
    assert_eq!(seen.levels["perf_pool_connections[(\"state\", \"idle\")]"], 1.0);
}

/// The line on statistics: each reason for closing is counted apart, so that one death is one of one kind.
#[tokio::test(start_paused = true)]
async fn every_closing_is_counted_under_its_own_reason() {
    let build =
        |fake: &Fake| Pool::builder(fake.clone()).max(1).maintenance_interval(ms(10)).replace_overlap(0);
    for reason in
        ["expired", "idle", "broken", "check_failed", "reset_failed", "surplus", "evicted", "shutdown"]
    {
        let fake = Fake::new();
        let builder = match reason {
            "expired" => build(&fake).max_lifetime(ms(50)),
            "idle" => build(&fake).idle_timeout(ms(50)),
            "check_failed" => build(&fake).keepalive(ms(50)),
            "surplus" => build(&fake).keep(0).overflow_linger(ms(50)),
            _ => build(&fake),
        };
        let pool = builder.build().unwrap();
        let mut lease = pool.acquire().await.unwrap();
        match reason {
            "broken" => lease.condition = Condition::Broken,
            "reset_failed" => {
                fake.set_reset(Act::Fail);
                lease.taint();
            }
            _ => {}
        }
        drop(lease);
        fake.kill_all();
        match reason {
            "evicted" => pool.evict_all(),
            "shutdown" => drop(pool.close()),
            _ => time::sleep(ms(100)).await,
        }
        settle().await;
        let mut seen = Seen::default();
        pool.collect(&mut seen);
        let series = |reason: &str| seen.levels[&format!("perf_pool_closed_total[(\"reason\", {reason:?})]")];
        assert_eq!((series(reason), pool.stats().closed(), fake.alive()), (1.0, 1, 0), "{reason}");
    }
}

/// The line on statistics: whoever does not get a connection is counted once, by what became of it.
#[tokio::test(start_paused = true)]
async fn callers_that_get_nothing_are_counted_by_what_became_of_them() {
    let pool = Pool::builder(Fake::new()).max(1).max_waiters(1).acquire_timeout(ms(50)).build().unwrap();
    let held = pool.acquire().await.unwrap();
    let before = pool.stats();
    assert!(pool.acquire().await.is_err());
    assert!(time::timeout(ms(10), pool.acquire()).await.is_err());
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire().await.map(drop) }
    });
    settle().await;
    assert!(pool.acquire().await.is_err());
    drop(held);
    waiting.await.unwrap().unwrap();
    let stats = pool.stats().since(&before);
    assert_eq!((stats.timed_out, stats.cancelled, stats.refused_full, stats.acquired), (1, 1, 1, 1));
    assert_eq!(
        (stats.waited, stats.waiting, pool.waits().count()),
        (3, 0, 3),
        "and one waited for the connect"
    );
}

#[tokio::test(start_paused = true)]
async fn health_follows_what_the_pool_knows() {
    let fake = Fake::new();
    let pool = Pool::builder(fake.clone()).max(1).acquire_timeout(ms(100)).build().unwrap();
    assert_eq!(pool.health().status(), Status::Up);
    fake.set_connect(Act::Fail);
    assert!(pool.acquire().await.is_err());
    assert_eq!(pool.health().status(), Status::Down);
    fake.set_connect(Act::Ok);
    let held = pool.acquire_until(perf_core::Deadline::within(ms(10_000))).await.unwrap();
    assert_eq!(pool.health().status(), Status::Up);
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire().await.map(drop) }
    });
    settle().await;
    assert_eq!(pool.health().status(), Status::Degraded);
    drop(held);
    waiting.await.unwrap().unwrap();
    pool.pause();
    assert_eq!(pool.health().status(), Status::Degraded);
    drop(pool.close());
    assert_eq!(pool.health().status(), Status::Down);
}

#[test]
fn configurations_that_cannot_work_are_refused_by_field() {
    let refused = |change: fn(&mut PoolConfig)| {
        let mut config = PoolConfig::default();
        change(&mut config);
        config.validate().unwrap_err().field().to_owned()
    };
    assert_eq!(refused(|c| c.max = 0), "max");
    assert_eq!(refused(|c| c.max = 1_000_000), "max");
    assert_eq!(refused(|c| c.min_idle = 17), "min_idle");
    assert_eq!(refused(|c| c.keep = Some(17)), "keep");
    assert_eq!(refused(|c| c.max_connecting = 0), "max_connecting");
    assert_eq!(refused(|c| c.replace_overlap = 17), "replace_overlap");
    assert_eq!(refused(|c| c.connect_timeout = ms(0)), "connect_timeout");
    assert_eq!(refused(|c| c.max_lifetime = Some(ms(0))), "max_lifetime");
    assert_eq!(refused(|c| c.maintenance_interval = ms(0)), "maintenance_interval");
    assert_eq!(refused(|c| c.retry_cap = ms(1)), "retry_cap");
    assert!(Pool::builder(Fake::new()).max(0).build().is_err());
}

#[test]
fn the_variables_of_sqlalchemy_are_understood() {
    let read = |pairs: &'static [(&str, &str)]| {
        let find =
            |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        PoolConfig::from_variables("DB_POOL", find)
    };
    let config = read(&[
        ("DB_POOL_SIZE", "20"),
        ("DB_MAX_OVERFLOW", "10"),
        ("DB_POOL_TIMEOUT", "30"),
        ("DB_POOL_RECYCLE", "3600"),
        ("DB_POOL_OVERFLOW_LINGER", "250ms"),
        ("DB_POOL_SIZING", "act"),
    ])
    .unwrap();
    assert_eq!(config.sizing.as_ref().map(|sizing| (sizing.mode, sizing.max)), Some((SizingMode::Act, 30)));
    assert_eq!((config.keep, config.max), (Some(20), 30));
    assert_eq!(config.acquire_timeout, Duration::from_secs(30));
    assert_eq!(config.max_lifetime, Some(Duration::from_secs(3600)));
    assert_eq!(config.overflow_linger, ms(250));
    let unlimited = read(&[("DB_POOL_SIZE", "0"), ("DB_POOL_RECYCLE", "-1")]).unwrap();
    assert_eq!(
        (unlimited.max, unlimited.keep, unlimited.max_lifetime),
        (PoolConfig::LARGEST_MAX, None, None)
    );
    assert_eq!(read(&[("DB_MAX_OVERFLOW", "-1")]).unwrap().max, PoolConfig::LARGEST_MAX);
    assert_eq!(read(&[]).unwrap(), PoolConfig::default());
    for (name, value) in [
        ("DB_POOL_SIZE", "many"),
        ("DB_POOL_TIMEOUT", "-3"),
        ("DB_POOL_RECYCLE", "soon"),
        ("DB_POOL_SIZING", "yes"),
    ] {
        let error =
            PoolConfig::from_variables("DB_POOL", |n| (n == name).then(|| value.to_owned())).unwrap_err();
        assert_eq!(error.field(), name);
    }
}

/// Statement of §6: 25 steady callers over 20 kept connections reconnect constantly only where that is asked for.
#[tokio::test(start_paused = true)]
async fn overflow_lingers_instead_of_reconnecting() {
    for (linger, at_least, at_most) in [(Duration::from_secs(30), 25, 25), (Duration::ZERO, 1000, u32::MAX)] {
        let fake = Fake::new();
        let pool = Pool::builder(fake.clone())
            .max(30)
            .keep(20)
            .overflow_linger(linger)
            .max_connecting(30)
            .build()
            .unwrap();
        let callers: Vec<_> = (0..25_u64)
            .map(|number| {
                let pool = pool.clone();
                tokio::spawn(async move {
                    let end = time::now() + Duration::from_secs(60);
                    while time::now() < end {
                        let lease = pool.acquire().await.unwrap();
                        time::sleep(ms(40 + number % 3)).await;
                        drop(lease);
                        time::sleep(ms(40 - number % 3)).await;
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
        let connects = fake.connects();
        assert!((at_least..=at_most).contains(&connects), "{connects} connects with {linger:?}");
    }
}

#[cfg(feature = "serde")]
#[test]
fn a_configuration_reads_as_text_and_refuses_unknown_fields() {
    let config: PoolConfig =
        serde_json::from_str(r#"{"max": 8, "acquire_timeout": "250ms", "order": "fifo"}"#).unwrap();
    assert_eq!((config.max, config.acquire_timeout), (8, ms(250)));
    assert!(serde_json::from_str::<PoolConfig>(r#"{"maximum": 8}"#).is_err());
    let text = serde_json::to_string(&PoolConfig::default()).unwrap();
    assert_eq!(serde_json::from_str::<PoolConfig>(&text).unwrap(), PoolConfig::default());
}

/// §6: the pool observes itself. Twenty callers on four connections make it grow where it may act; otherwise it tells, or
/// only shows, what it would do.
#[tokio::test(start_paused = true)]
async fn a_pool_with_sizing_acts_advises_or_only_shows() {
    for mode in [SizingMode::Act, SizingMode::Advise, SizingMode::Shadow] {
        let told = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = std::sync::Arc::clone(&told);
        let mut sizing = SizingConfig::default();
        (sizing.mode, sizing.max) = (mode, 40);
        let pool = Pool::builder(Fake::new())
            .max(4)
            .refuse_hopeless(false)
            .sizing(sizing)
            .on_event(move |event| {
                if let PoolEvent::Advised { advice, taken } = event {
                    seen.lock().unwrap().push((advice.target, *taken));
                }
            })
            .build()
            .unwrap();
        let callers: Vec<_> = (0..20)
            .map(|_| {
                let pool = pool.clone();
                tokio::spawn(async move {
                    let end = time::now() + Duration::from_secs(20);
                    while time::now() < end {
                        let _lease = pool.acquire().await.unwrap();
                        time::sleep(ms(50)).await;
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
        let mut seen = Seen::default();
        pool.collect(&mut seen);
        let advised = seen.levels["perf_pool_advised_connections[]"];
        let told = told.lock().unwrap();
        match mode {
            SizingMode::Act => {
                assert!((20..=40).contains(&pool.stats().max), "{:?}", pool.stats());
                assert!(told.iter().all(|(_, taken)| *taken) && !told.is_empty());
            }
            SizingMode::Advise => {
                assert_eq!(pool.stats().max, 4);
                assert!(told.iter().any(|(target, taken)| *target > 4 && !taken), "{told:?}");
            }
            _ => assert!(told.is_empty() && pool.stats().max == 4, "{told:?}"),
        }
        assert!(advised > 4.0, "{advised}");
    }
}
