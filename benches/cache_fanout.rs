//! How long an invalidation takes to reach every node: from the call on one node to the moment when it holds on three
//! others, each with its own connections to one real Redis on the loopback interface.
#![expect(clippy::print_stdout, reason = "the table is what a benchmark is for")]

use perf_cache::{Cache, CacheSpace, Entries, Invalidation, RedisConfig};
use perf_core::time;
use perf_testkit::RedisServer;
use std::error::Error;
use std::time::Duration;

const NODES: usize = 3;
const ROUNDS: u64 = 3_000;

// One thread, so that the other core is left to Redis: the clock must not measure who waits for a core.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    for (name, invalidation) in
        [("log", Invalidation::Log), ("pub_sub", Invalidation::PubSub), ("tracking", Invalidation::Tracking)]
    {
        let server = RedisServer::start().await?;
        let config = RedisConfig::url(server.url()).invalidation(invalidation);
        let (_space, publisher) = node(&config).await?;
        let mut nodes = Vec::new();
        for _ in 0..NODES {
            nodes.push(node(&config).await?);
        }
        let mut taken = Vec::with_capacity(ROUNDS as usize);
        let mut acked = Vec::with_capacity(ROUNDS as usize);
        for round in 0..ROUNDS {
            taken.push(reach(round, &publisher, &nodes).await?);
            let begun = time::now();
            if !publisher.invalidate(&(round + ROUNDS)).await.acked {
                return Err("Redis did not take the invalidation".into());
            }
            acked.push(begun.elapsed());
        }
        report(&format!("fanout_{name}_applied_on_{NODES}_nodes"), taken);
        report(&format!("fanout_{name}_acknowledged"), acked);
    }
    Ok(())
}

type Node = (CacheSpace, Cache<u64, u64>);

async fn node(config: &RedisConfig) -> Result<Node, Box<dyn Error>> {
    let space = CacheSpace::builder("fanout").redis(config.clone()).build().await?;
    if !space.coherent(Duration::from_secs(10)).await {
        return Err("Redis is not reached".into());
    }
    let cache = space.cache("a").capacity(Entries(1_000)).fresh(Duration::from_secs(3_600)).build()?;
    Ok((space, cache))
}

/// From the call until no node serves the value any more.
async fn reach(key: u64, publisher: &Cache<u64, u64>, nodes: &[Node]) -> Result<Duration, Box<dyn Error>> {
    for (_, cache) in nodes {
        // Loaded, not put in: putting a value in tells the others as well.
        let loaded =
            cache.get_or_load(&key, move || async move { Ok::<_, std::convert::Infallible>(key) }).await?;
        if *loaded != key || cache.get(&key).is_none() {
            return Err("the value is not held".into());
        }
    }
    let begun = time::now();
    publisher.invalidate(&key).detach();
    while nodes.iter().any(|(_, cache)| cache.get(&key).is_some()) {
        tokio::task::yield_now().await;
        if begun.elapsed() > Duration::from_secs(5) {
            return Err("the invalidation does not arrive".into());
        }
    }
    Ok(begun.elapsed())
}

fn report(name: &str, mut taken: Vec<Duration>) {
    taken.sort_unstable();
    let at = |share: f64| taken[((taken.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "ratio {name}_ms rounds={} p50={:.3} p90={:.3} p99={:.3} max={:.3}",
        taken.len(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
}
