//! Several endpoints behind one pool.

use crate::fake::{Act, Fake, ms, settle};
use perf_core::{Component, Rng, Status, time};
use perf_pool::Pool;
use perf_pool::balance::{
    Alive, BalancedLease, BalancedPool, Dns, EjectorConfig, Endpoint, LeastLoaded, METRICS, P2c, RoundRobin,
    Static,
};
use std::collections::BTreeMap;
use std::sync::Arc;

fn endpoints(count: usize) -> (Vec<Fake>, Vec<Pool<Fake>>) {
    let fakes: Vec<_> = (0..count).map(|_| Fake::new()).collect();
    let build = |fake: &Fake| Pool::builder(fake.clone()).max(8).acquire_timeout(ms(50)).build().unwrap();
    let pools = fakes.iter().map(build).collect();
    (fakes, pools)
}

fn place(lease: &BalancedLease<Fake>) -> usize {
    lease.endpoint().unwrap().parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn leases_are_spread_over_the_endpoints() {
    let (_, pools) = endpoints(4);
    let config = EjectorConfig::default();
    let balanced = BalancedPool::with("reads", pools, LeastLoaded::default(), config, Rng::seeded(1));
    let mut leases = Vec::new();
    for _ in 0..8 {
        leases.push(balanced.acquire().await.unwrap());
    }
    let mut counts = [0; 4];
    leases.iter().for_each(|lease| counts[place(lease)] += 1);
    assert_eq!(counts, [2; 4]);
    drop(leases);
    assert!(balanced.endpoints().iter().all(|endpoint| endpoint.in_flight == 0));
}

#[tokio::test(start_paused = true)]
async fn a_failing_endpoint_is_left_alone_and_comes_back_through_one_probe() {
    let (fakes, pools) = endpoints(3);
    let config = EjectorConfig::default();
    let balanced = BalancedPool::with("reads", pools, RoundRobin::default(), config, Rng::seeded(1));
    fakes[1].set_connect(Act::Fail);
    let mut errors = 0;
    for _ in 0..200 {
        errors += u32::from(balanced.acquire().await.is_err());
    }
    assert_eq!(balanced.ejected(), ["1"]);
    assert_eq!(errors, 0, "those who met it went on to the next");
    assert_eq!(fakes[1].connects(), 1, "and did not crowd it");
    fakes[1].set_connect(Act::Ok);
    time::sleep(ms(31_000)).await;
    for _ in 0..20 {
        drop(balanced.acquire().await.unwrap());
    }
    assert_eq!(balanced.ejected(), Vec::<String>::new());
    assert_eq!(fakes[1].connects(), 2, "one probe was enough");
}

/// By five failures in a row, and by a sweep that finds too many of them.
#[tokio::test(start_paused = true)]
async fn s3_an_endpoint_that_is_taken_out_loses_its_idle_connections() {
    for consecutive in [5, 1_000] {
        let (fakes, pools) = endpoints(2);
        let mut config = EjectorConfig::default();
        config.consecutive = consecutive;
        let balanced = BalancedPool::with("reads", pools, RoundRobin::default(), config, Rng::seeded(1));
        let mut leases = Vec::new();
        for _ in 0..6 {
            leases.push(balanced.acquire().await.unwrap());
        }
        let on_loan = leases.swap_remove(0);
        assert_eq!(place(&on_loan), 0);
        drop(leases);
        assert_eq!(balanced.pools().iter().map(|pool| pool.stats().idle).collect::<Vec<_>>(), [2, 3]);
        for _ in 0..100 {
            let mut lease = balanced.acquire().await.unwrap();
            if place(&lease) == 0 {
                lease.failed();
            }
        }
        time::sleep(ms(10_000)).await;
        drop(balanced.acquire().await.unwrap());
        assert_eq!(balanced.ejected(), ["0"]);
        settle().await;
        assert_eq!((fakes[0].alive(), fakes[1].alive()), (1, 3), "what is on loan is not cut");
        drop(on_loan);
        settle().await;
        let stats = balanced.pools()[0].stats();
        assert_eq!((fakes[0].alive(), stats.closed_evicted), (0, 3), "but not used again");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_said_to_have_failed_speaks_against_its_endpoint() {
    let (_, pools) = endpoints(2);
    let balanced =
        BalancedPool::with("reads", pools, P2c::default(), EjectorConfig::default(), Rng::seeded(1));
    for _ in 0..60 {
        let mut lease = balanced.acquire().await.unwrap();
        if place(&lease) == 0 {
            lease.failed();
        }
        time::sleep(ms(1)).await;
    }
    let latency: Vec<_> = balanced.endpoints().iter().map(|endpoint| endpoint.latency).collect();
    assert!(latency[0] > 10.0 * latency[1], "failing is not fast: {latency:?}");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_says_nothing_about_the_endpoint() {
    let (fakes, pools) = endpoints(1);
    let balanced =
        BalancedPool::with("reads", pools, P2c::default(), EjectorConfig::default(), Rng::seeded(1));
    fakes[0].set_connect(Act::Hang);
    for _ in 0..20 {
        assert!(time::timeout(ms(5), balanced.acquire()).await.is_err());
    }
    assert_eq!((balanced.ejected().len(), balanced.endpoints()[0].in_flight), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn without_endpoints_there_is_nothing_to_acquire() {
    let balanced = BalancedPool::<Fake>::new("reads", Vec::new());
    assert!(balanced.acquire().await.unwrap_err().is_closed());
}

/// Pools over fakes by name, made before or when they are asked for.
#[derive(Clone, Default)]
struct Fleet(Arc<std::sync::Mutex<BTreeMap<String, Fake>>>);

impl Fleet {
    fn get(&self, name: &str) -> Fake {
        self.0.lock().unwrap().entry(name.to_owned()).or_default().clone()
    }

    fn build(
        &self,
    ) -> impl Fn(&Endpoint) -> Result<Pool<Fake>, Box<dyn std::error::Error + Send + Sync>> + use<> {
        let fleet = self.clone();
        move |endpoint| Ok(Pool::builder(fleet.get(endpoint.name())).max(4).build()?)
    }
}

fn named(names: &[&str]) -> Vec<Endpoint> {
    names.iter().map(|name| Endpoint::new(*name)).collect()
}

#[tokio::test(start_paused = true)]
async fn s3_an_endpoint_that_leaves_the_list_is_drained_not_cut() {
    let fleet = Fleet::default();
    let list = Arc::new(Static::new(named(&["a", "b"])));
    let balanced =
        BalancedPool::builder("reads", fleet.build()).discovery(Arc::clone(&list)).seed(1).build().unwrap();
    settle().await;
    assert_eq!(balanced.pools().len(), 2);
    let mut leases = Vec::new();
    for _ in 0..6 {
        leases.push(balanced.acquire().await.unwrap());
    }
    assert!(fleet.get("a").alive() > 0 && fleet.get("b").alive() > 0);
    list.replace(named(&["b", "c"]));
    time::sleep(ms(31_000)).await;
    assert!(fleet.get("a").alive() > 0, "what is on loan lives on");
    for _ in 0..6 {
        assert_ne!(balanced.acquire().await.unwrap().endpoint().unwrap(), "a");
    }
    assert!(leases.iter().any(|lease| lease.endpoint().is_none()), "its endpoint has left");
    drop(leases);
    settle().await;
    assert_eq!(fleet.get("a").alive(), 0);
    list.replace(Vec::new());
    time::sleep(ms(31_000)).await;
    assert_eq!(balanced.pools().len(), 2, "an empty list is taken for a mistake");
}

#[tokio::test(start_paused = true)]
async fn s3_probes_take_a_dead_endpoint_out_and_bring_it_back() {
    let fleet = Fleet::default();
    let balanced = BalancedPool::builder("reads", fleet.build())
        .endpoints(named(&["a", "b"]))
        .probe(Alive)
        .seed(1)
        .build()
        .unwrap();
    time::sleep(ms(1)).await;
    fleet.get("a").set_check(Act::Hang);
    time::sleep(ms(30_000)).await;
    assert_eq!(balanced.health().to_string(), "degraded: 1 of 2 endpoints are out");
    for _ in 0..20 {
        assert_eq!(balanced.acquire().await.unwrap().endpoint().unwrap(), "b");
    }
    fleet.get("a").set_check(Act::Ok);
    time::sleep(ms(15_000)).await;
    assert_eq!(balanced.health().status(), Status::Up);
    let alive = fleet.get("a").alive() + fleet.get("b").alive();
    drop(balanced);
    time::sleep(ms(1_000)).await;
    assert!(alive > 0);
    assert_eq!(
        fleet.get("a").alive() + fleet.get("b").alive(),
        0,
        "the probes' connections end with the pool"
    );
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn s3_equal_keys_get_connections_of_one_endpoint() {
    let fleet = Fleet::default();
    let balanced =
        BalancedPool::builder("reads", fleet.build()).endpoints(named(&["a", "b", "c"])).build().unwrap();
    let mut owners = BTreeMap::new();
    for round in 0..3 {
        for user in 0..30 {
            let owner = balanced.acquire_for(("user", user)).await.unwrap().endpoint().unwrap();
            assert_eq!(*owners.entry(user).or_insert_with(|| owner.clone()), owner, "round {round}");
        }
    }
    let distinct: std::collections::BTreeSet<_> = owners.values().collect();
    assert_eq!(distinct.len(), 3);
}

#[tokio::test]
async fn s3_dns_names_an_endpoint_for_each_address() {
    use perf_pool::balance::Discovery;
    let dns =
        Dns::new("localhost", 5432, |address| Endpoint::new(format!("postgres://app@{address}/orders")));
    let found = dns.discover().await.unwrap();
    assert!(
        found.iter().any(|endpoint| endpoint.name() == "postgres://app@127.0.0.1:5432/orders"),
        "{found:?}"
    );
    let nowhere = Dns::new("nowhere.invalid", 1, |address| Endpoint::new(address.to_string()));
    assert!(nowhere.discover().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn s3_bad_endpoints_are_named() {
    let fleet = Fleet::default();
    let none = BalancedPool::builder("reads", fleet.build()).build().unwrap_err();
    assert!(none.to_string().contains("endpoints = none"), "{none}");
    let broken = BalancedPool::<Fake>::builder("reads", |_| Err("no such host".into()))
        .endpoints(named(&["a"]))
        .build()
        .unwrap_err();
    assert_eq!(std::error::Error::source(&broken).unwrap().to_string(), "no such host");
}

#[tokio::test(start_paused = true)]
async fn every_series_of_the_balance_table_is_collected_from_the_first_time_on() {
    let (_, pools) = endpoints(2);
    let balanced = BalancedPool::new("reads", pools);
    assert_eq!(balanced.id().to_string(), "balanced_pool `reads`");
    let page = include_str!("../../../../docs/pool.md");
    assert!(METRICS.iter().all(|desc| page.contains(&format!("`{}", desc.name))));
    let series = perf_testkit::Recorder::of(&balanced).series();
    assert!(METRICS.iter().all(|desc| series.iter().any(|name| name.starts_with(desc.name))), "{series:?}");
}
