//! Several endpoints behind one pool.

use crate::fake::{Act, Fake, ms};
use perf_core::{Rng, time};
use perf_pool::Pool;
use perf_pool::balance::{BalancedPool, EjectorConfig, LeastLoaded, P2c, RoundRobin};

fn endpoints(count: usize) -> (Vec<Fake>, Vec<Pool<Fake>>) {
    let fakes: Vec<_> = (0..count).map(|_| Fake::new()).collect();
    let build = |fake: &Fake| Pool::builder(fake.clone()).max(8).acquire_timeout(ms(50)).build().unwrap();
    let pools = fakes.iter().map(build).collect();
    (fakes, pools)
}

#[tokio::test(start_paused = true)]
async fn leases_are_spread_over_the_endpoints() {
    let (_, pools) = endpoints(4);
    let config = EjectorConfig::default();
    let balanced = BalancedPool::with("reads", pools, LeastLoaded, config, Rng::seeded(1));
    let mut leases = Vec::new();
    for _ in 0..8 {
        leases.push(balanced.acquire().await.unwrap());
    }
    let mut counts = [0; 4];
    leases.iter().for_each(|lease| counts[lease.endpoint()] += 1);
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
    assert_eq!(balanced.ejected(), [1]);
    assert_eq!(errors, 5, "five failures in a row, then nobody else");
    fakes[1].set_connect(Act::Ok);
    time::sleep(ms(31_000)).await;
    for _ in 0..20 {
        drop(balanced.acquire().await.unwrap());
    }
    assert_eq!(balanced.ejected(), Vec::<usize>::new());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_said_to_have_failed_speaks_against_its_endpoint() {
    let (_, pools) = endpoints(2);
    let balanced = BalancedPool::with("reads", pools, P2c, EjectorConfig::default(), Rng::seeded(1));
    for _ in 0..60 {
        let mut lease = balanced.acquire().await.unwrap();
        if lease.endpoint() == 0 {
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
    let balanced = BalancedPool::with("reads", pools, P2c, EjectorConfig::default(), Rng::seeded(1));
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
