//! A caller who goes from endpoint to endpoint.

use crate::fake::{Act, Fake, ms, settle};
use perf_core::{Reason, Rng, time};
use perf_pool::balance::{
    Alive, Balance, BalanceConfig, BalancedLease, BalancedPool, Endpoint, EndpointView, Role,
};
use perf_pool::{Error, Pool};
use perf_testkit::cancel_at_every_await;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

/// The first in the list that may be used.
struct First;

impl Balance for First {
    fn pick(&self, endpoints: &[EndpointView], _: &mut Rng) -> Option<usize> {
        endpoints.iter().position(|endpoint| endpoint.available)
    }
}

struct Fleet {
    fakes: Vec<Fake>,
    balanced: BalancedPool<Fake>,
}

impl Fleet {
    /// So many endpoints of one connection each, asked in order.
    fn of(count: usize, config: BalanceConfig) -> Self {
        Self::with(count, config, |pool| pool)
    }

    fn with(
        count: usize,
        config: BalanceConfig,
        pool: impl Fn(perf_pool::Builder<Fake>) -> perf_pool::Builder<Fake> + Send + Sync + 'static,
    ) -> Self {
        let fakes: Vec<_> = (0..count).map(|_| Fake::new()).collect();
        let own = Arc::new(Mutex::new(fakes.clone()));
        let balanced = BalancedPool::builder("reads", move |endpoint: &Endpoint| {
            let fake = own.lock().unwrap()[endpoint.name().parse::<usize>()?].clone();
            let builder = Pool::builder(fake).name(format!("reads/{}", endpoint.name())).max(1);
            Ok(pool(builder.acquire_timeout(ms(1_000))).build()?)
        })
        .endpoints((0..count).map(|index| Endpoint::new(index.to_string())))
        .config(config)
        .balance(First)
        .seed(1)
        .build()
        .unwrap();
        Self { fakes, balanced }
    }

    fn three() -> Self {
        Self::of(3, BalanceConfig::default())
    }

    async fn place(&self) -> String {
        self.balanced.acquire().await.unwrap().endpoint().unwrap()
    }

    fn waiting(&self) -> usize {
        self.balanced.pools().iter().map(|pool| pool.stats().waiting).sum()
    }

    fn retried(&self) -> Option<u64> {
        perf_testkit::Recorder::of(&self.balanced).counter("perf_pool_balance_retried_total", &[])
    }
}

fn tries(tries: u32) -> BalanceConfig {
    let mut config = BalanceConfig::default();
    config.tries = tries;
    config
}

fn place(lease: &BalancedLease<Fake>) -> String {
    lease.endpoint().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_caller_goes_on_from_an_endpoint_that_cannot_be_reached() {
    for act in [Act::Fail, Act::Refuse, Act::Panic] {
        crate::fake::hush_scripted_panics();
        let fleet = Fleet::three();
        fleet.fakes[0].set_connect(act);
        let began = time::now();
        assert_eq!(fleet.place().await, "1", "{act:?}");
        assert!(began.elapsed() < ms(5), "it does not wait for the endpoint to recover: {act:?}");
        assert!(fleet.balanced.endpoints()[0].latency >= 1.0, "a failed call, which costs the penalty");
        assert_eq!(fleet.retried(), Some(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_goes_on_from_an_endpoint_that_is_closed_or_paused() {
    let fleet = Fleet::three();
    drop(fleet.balanced.pools()[0].close());
    fleet.balanced.pools()[1].pause();
    let began = time::now();
    assert_eq!(fleet.place().await, "2");
    assert_eq!(began.elapsed(), ms(0));
    assert!(
        fleet.balanced.endpoints().iter().all(|endpoint| endpoint.latency < 1.0),
        "what was done to our own pools says nothing against the servers"
    );
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_waits_goes_on_when_the_pool_is_paused() {
    let fleet = Fleet::three();
    let _held = fleet.balanced.acquire().await.unwrap();
    let (lease, ()) = tokio::join!(fleet.balanced.acquire(), async {
        time::sleep(ms(10)).await;
        assert_eq!(fleet.waiting(), 1);
        fleet.balanced.pools()[0].pause();
    });
    assert_eq!((place(&lease.unwrap()), fleet.waiting()), ("1".to_owned(), 0));
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_waits_goes_on_when_the_endpoint_is_ejected() {
    let fleet = Fleet::with(2, BalanceConfig::default(), |pool| pool.max(5));
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(fleet.balanced.acquire().await.unwrap());
    }
    let began = time::now();
    let (lease, ()) = tokio::join!(fleet.balanced.acquire(), async {
        time::sleep(ms(10)).await;
        assert_eq!(fleet.waiting(), 1);
        // Their users find them broken; the pool would make another for the one who waits, but not at once.
        fleet.fakes[0].connect_ms.store(500, Ordering::SeqCst);
        for mut lease in held {
            lease.failed();
            lease.condition = perf_pool::Condition::Broken;
        }
    });
    assert_eq!(fleet.balanced.ejected(), ["0"]);
    assert_eq!((place(&lease.unwrap()), began.elapsed()), ("1".to_owned(), ms(10)));
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_waits_goes_on_when_probes_find_the_endpoint_down() {
    let fakes = [Fake::new(), Fake::new()];
    let own = fakes.clone();
    let balanced = BalancedPool::builder("reads", move |endpoint: &Endpoint| {
        let fake = own[endpoint.name().parse::<usize>()?].clone();
        Ok(Pool::builder(fake).max(1).acquire_timeout(ms(60_000)).build()?)
    })
    .endpoints(["0", "1"].map(Endpoint::new))
    .balance(First)
    .probe(Alive)
    .build()
    .unwrap();
    let held = balanced.acquire().await.unwrap();
    assert_eq!(place(&held), "0");
    fakes[0].set_check(Act::Hang);
    let began = time::now();
    let lease = balanced.acquire().await.unwrap();
    assert_eq!(place(&lease), "1");
    assert!((ms(15_000)..ms(30_000)).contains(&began.elapsed()), "three probes: {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn with_no_other_available_a_caller_waits_for_the_server_to_come_back() {
    // Otherwise an attempt after the server came back may be drawn for after the caller's deadline.
    let fleet = Fleet::with(1, BalanceConfig::default(), |pool| pool.retry_cap(ms(100)));
    fleet.fakes[0].set_connect(Act::Fail);
    let (lease, ()) = tokio::join!(fleet.balanced.acquire(), async {
        time::sleep(ms(300)).await;
        fleet.fakes[0].set_connect(Act::Ok);
    });
    assert_eq!(place(&lease.unwrap()), "0");
}

#[tokio::test(start_paused = true)]
async fn the_error_lists_every_endpoint_tried_and_the_deadline_is_one() {
    let fleet = Fleet::of(5, BalanceConfig::default());
    for (fake, act) in fleet.fakes.iter().zip([Act::Refuse, Act::Fail, Act::Fail, Act::Ok, Act::Ok]) {
        fake.set_connect(act);
    }
    let began = time::now();
    let error = fleet.balanced.acquire().await.unwrap_err();
    assert!((ms(1_000)..ms(1_005)).contains(&began.elapsed()), "{:?}", began.elapsed());
    let Error::Exhausted(all) = &error else { panic!("{error}") };
    let tried: Vec<_> = all.tried.iter().map(|tried| tried.endpoint.as_str()).collect();
    assert_eq!(tried, ["0", "1", "2"], "three by default");
    assert!(all.tried.iter().all(|tried| matches!(tried.error, Error::Connecting { .. })));
    assert_eq!(
        error.to_string().split(": ").next(),
        Some("none of 3 endpoints of `reads` gave a connection"),
        "{error}"
    );
    assert!(error.to_string().contains("0: no connection of `reads/0`"), "{error}");
    assert!(error.to_string().contains("wrong password; 1: no connection of `reads/1`"), "{error}");
    assert!(error.is_timeout() && !error.is_closed());
    assert_eq!(fleet.fakes[3].connects() + fleet.fakes[4].connects(), 0);
    assert_eq!(fleet.balanced.endpoints().iter().map(|endpoint| endpoint.in_flight).sum::<usize>(), 0);
}

#[tokio::test(start_paused = true)]
async fn tries_say_how_many_endpoints_are_asked() {
    for (limit, served) in [(1, false), (2, false), (3, true), (9, true)] {
        let fleet = Fleet::of(3, tries(limit));
        fleet.fakes[0].set_connect(Act::Fail);
        fleet.fakes[1].set_connect(Act::Refuse);
        let answer = fleet.balanced.acquire().await;
        assert_eq!(answer.is_ok(), served, "{limit}: {answer:?}");
        if limit == 1 {
            assert!(matches!(answer, Err(Error::Connecting { .. })), "the endpoint's own error: {answer:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn overload_is_not_passed_on_to_the_other_endpoints() {
    let fleet = Fleet::with(2, BalanceConfig::default(), |pool| pool.max_waiters(0).min_idle(1));
    for pool in fleet.balanced.pools() {
        pool.warm_up().await.unwrap();
    }
    let held = fleet.balanced.acquire().await.unwrap();
    for _ in 0..20 {
        let full = fleet.balanced.acquire().await.unwrap_err();
        assert_eq!(full.rejected().map(perf_core::Rejected::reason), Some(Reason::Full), "{full}");
    }
    assert_eq!(fleet.balanced.pools()[1].stats().acquired, 0);
    assert!(fleet.balanced.ejected().is_empty(), "a full pool is no failure of the server");
    drop(held);

    let fleet = Fleet::three();
    let held = fleet.balanced.acquire().await.unwrap();
    time::sleep(ms(600)).await;
    drop(held);
    let held = fleet.balanced.acquire().await.unwrap();
    let mut waiters = Vec::new();
    for _ in 0..2 {
        waiters.push(tokio::spawn(fleet.balanced.acquire()));
        settle().await;
    }
    let hopeless = fleet.balanced.acquire().await.unwrap_err();
    assert_eq!(hopeless.rejected().map(perf_core::Rejected::reason), Some(Reason::WontMakeIt), "{hopeless}");
    assert_eq!(fleet.fakes[1].connects() + fleet.fakes[2].connects(), 0);
    drop(held);
    for waiter in waiters {
        drop(waiter.await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_went_on_stops_where_the_pool_is_full() {
    let fleet = Fleet::with(3, BalanceConfig::default(), |pool| pool.max_waiters(1));
    let second = fleet.balanced.pools()[1].clone();
    let held = second.acquire().await.unwrap();
    let waiter = tokio::spawn(async move { drop(second.acquire().await.unwrap()) });
    settle().await;
    fleet.fakes[0].set_connect(Act::Fail);
    let error = fleet.balanced.acquire().await.unwrap_err();
    let Error::Exhausted(all) = &error else { panic!("{error}") };
    assert_eq!(all.tried.len(), 2);
    assert_eq!(error.rejected().map(perf_core::Rejected::reason), Some(Reason::Full), "{error}");
    assert_eq!(fleet.fakes[2].connects(), 0);
    drop(held);
    waiter.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_write_is_not_tried_on_a_reader() {
    let fakes = [Fake::new(), Fake::new()];
    let own = fakes.clone();
    let balanced = BalancedPool::builder("orders", move |endpoint: &Endpoint| {
        let fake = own[usize::from(endpoint.name() == "r")].clone();
        Ok(Pool::builder(fake).max(1).acquire_timeout(ms(100)).build()?)
    })
    .endpoints([Endpoint::new("w").role(Role::Writer), Endpoint::new("r").role(Role::Reader)])
    .build()
    .unwrap();
    fakes[0].set_connect(Act::Refuse);
    let error = balanced.acquire_as(Role::Writer).await.unwrap_err();
    assert!(matches!(error, Error::Connecting { .. }), "{error}");
    assert_eq!(fakes[1].connects(), 0);
    fakes[1].set_connect(Act::Refuse);
    fakes[0].set_connect(Act::Ok);
    let reader = balanced.acquire_as(Role::Reader).await.unwrap();
    assert_eq!(place(&reader), "w", "but a read may go to the writer");
}

/// On a way over one endpoint that cannot be reached after 3 ms, one that is full and paused after 9 ms, and one that
/// connects in 5 ms.
#[tokio::test(start_paused = true)]
async fn a_caller_dropped_at_any_await_leaves_nothing_behind() {
    let make = || {
        let fleet = Arc::new(Fleet::three());
        fleet.fakes[0].connect_ms.store(3, Ordering::SeqCst);
        fleet.fakes[0].set_connect(Act::Fail);
        fleet.fakes[2].connect_ms.store(5, Ordering::SeqCst);
        let caller = Arc::clone(&fleet);
        let way = async move {
            let full = caller.balanced.pools()[1].clone();
            let _held = full.acquire().await.unwrap();
            let pause = async {
                time::sleep(ms(9)).await;
                full.pause();
            };
            let (lease, ()) = tokio::join!(caller.balanced.acquire(), pause);
            place(&lease.unwrap())
        };
        (fleet, perf_testkit::step_by_step(way))
    };
    let check = async |fleet: Arc<Fleet>, served: Option<String>| {
        assert!(served.is_none_or(|endpoint| endpoint == "2"));
        assert!(fleet.balanced.endpoints().iter().all(|endpoint| endpoint.in_flight == 0));
        assert_eq!(fleet.waiting(), 0);
        fleet.fakes[0].set_connect(Act::Ok);
        fleet.balanced.pools()[1].resume();
        time::sleep(ms(100)).await;
        let mut all = Vec::new();
        for pool in fleet.balanced.pools() {
            all.push(pool.acquire().await.unwrap());
        }
        assert_eq!(all.len(), 3, "the full capacity is usable");
    };
    let awaits = cancel_at_every_await(make, check).await;
    assert!(awaits >= 4, "one wait at each endpoint, and one to set the scene: {awaits}");
}

#[tokio::test(start_paused = true)]
async fn leases_are_said_to_be_held_where_they_were_acquired() {
    let fleet = Fleet::three();
    let _held = fleet.balanced.acquire().await.unwrap();
    let site = fleet.balanced.pools()[0].holders()[0].site;
    assert!(site.file().ends_with("tries.rs"), "{site}");
}

#[tokio::test(start_paused = true)]
async fn s2_25_an_endpoint_can_be_evicted_by_name() {
    let fleet = Fleet::with(2, BalanceConfig::default(), |pool| pool.max(3));
    let mut leases = Vec::new();
    for _ in 0..2 {
        leases.push(fleet.balanced.acquire().await.unwrap());
    }
    let other = fleet.balanced.pools()[1].acquire().await.unwrap();
    drop(other);
    leases.pop();
    let stats = || fleet.balanced.pools()[0].stats();
    assert_eq!((stats().idle, stats().leased), (1, 1));
    fleet.balanced.evict("0").unwrap();
    settle().await;
    assert_eq!((stats().idle, stats().closed_evicted, fleet.fakes[0].alive()), (0, 1, 1), "idle: now");
    leases.clear();
    settle().await;
    assert_eq!((stats().closed_evicted, fleet.fakes[0].alive()), (2, 0), "leased: when it comes back");
    assert_eq!(fleet.fakes[1].alive(), 1, "the others are left alone");
    assert_eq!(fleet.place().await, "0", "and it stays in use");
    let unknown = fleet.balanced.evict("nowhere").unwrap_err();
    assert!(unknown.to_string().contains("endpoint = nowhere"), "{unknown}");
}
