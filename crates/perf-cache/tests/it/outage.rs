//! Redis killed, paused and restarted under load: no request fails, callers wait no longer than the soft timeout until the
//! second tier is left alone, and nothing stale is served once Redis is back.
//!
//! The pause takes 5 s here; `PERF_CACHE_PAUSE=30` makes it the half minute that is promised.

use perf_cache::{Cache, CacheSpace, CacheSpaceBuilder, Entries, Postcard, RedisConfig, tag};
use perf_core::{Rng, time};
use perf_testkit::RedisServer;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const MS: fn(u64) -> Duration = Duration::from_millis;
const KEYS: u64 = 100;
/// How long a load takes by itself.
const LOADER: Duration = Duration::from_millis(2);
/// On a machine that is busy with other tests a task may be this much late.
const SLACK: Duration = Duration::from_millis(600);

/// The truth, how much of it every node must know by now, and what was measured.
struct World {
    truth: Vec<AtomicU64>,
    known: Vec<AtomicU64>,
    phase: AtomicUsize,
    failed: AtomicU64,
    stale: AtomicU64,
    /// Waits of requests that missed, by phase.
    waits: Mutex<Vec<Vec<Duration>>>,
    done: AtomicBool,
}

impl World {
    fn new() -> Arc<Self> {
        let zeros = || (0..KEYS).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self {
            truth: zeros(),
            known: zeros(),
            phase: AtomicUsize::new(0),
            failed: AtomicU64::new(0),
            stale: AtomicU64::new(0),
            waits: Mutex::new(vec![Vec::new()]),
            done: AtomicBool::new(false),
        })
    }

    /// Runs for a while and returns the median and the longest wait of requests that missed.
    async fn phase(&self, name: &str, length: Duration) -> (Duration, Duration) {
        {
            let mut waits = self.waits.lock().unwrap();
            waits.push(Vec::new());
            self.phase.store(waits.len() - 1, Ordering::SeqCst);
        }
        time::sleep(length).await;
        let mut waits = self.waits.lock().unwrap()[self.phase.load(Ordering::SeqCst)].clone();
        waits.sort_unstable();
        assert!(!waits.is_empty(), "{name}: nothing was asked");
        (waits[waits.len() / 2], waits[waits.len() - 1])
    }
}

async fn node(server: &RedisServer) -> (CacheSpace, Cache<u64, u64>) {
    let space = CacheSpace::builder("shop").redis(RedisConfig::url(server.url())).build().await.unwrap();
    assert!(space.coherent(Duration::from_secs(10)).await);
    let cache = space.cache("a").capacity(Entries(10_000)).codec(Postcard);
    (space.clone(), cache.fresh(Duration::from_secs(600)).build().unwrap())
}

/// Reads: half of shared keys, which change, and half of keys that nobody has asked for, which miss.
async fn reader(world: Arc<World>, cache: Cache<u64, u64>, seed: u64) {
    let mut rng = Rng::seeded(seed);
    let mut fresh = 1_000_000 * (seed + 1);
    while !world.done.load(Ordering::SeqCst) {
        let shared = rng.chance(0.5);
        fresh += 1;
        let key = if shared { rng.below(KEYS) } else { fresh };
        let at_least = if shared { world.known[key as usize].load(Ordering::SeqCst) } else { 0 };
        let source = Arc::clone(&world);
        let loader = move || async move {
            let value = source.truth.get(key as usize).map_or(key, |truth| truth.load(Ordering::SeqCst));
            time::sleep(LOADER).await;
            Ok::<_, Infallible>(value)
        };
        let phase = world.phase.load(Ordering::SeqCst);
        let begun = time::now();
        match cache.get_or_load(&key, loader).tags([tag!("row", key)]).await {
            Ok(value) if *value < at_least => _ = world.stale.fetch_add(1, Ordering::SeqCst),
            Ok(_) if !shared => world.waits.lock().unwrap()[phase].push(begun.elapsed()),
            Ok(_) => {}
            Err(_) => _ = world.failed.fetch_add(1, Ordering::SeqCst),
        }
        time::sleep(MS(1)).await;
    }
}

/// Changes a row and says so, as a service does after its commit.
async fn writer(world: Arc<World>, spaces: [CacheSpace; 2], caches: [Cache<u64, u64>; 2]) {
    let mut rng = Rng::seeded(99);
    while !world.done.load(Ordering::SeqCst) {
        let (key, who) = (rng.below(KEYS), rng.below(2) as usize);
        world.truth[key as usize].fetch_add(1, Ordering::SeqCst);
        if rng.chance(0.5) {
            caches[who].invalidate(&key).detach();
        } else {
            spaces[who].invalidate_tags([tag!("row", key)]).detach();
        }
        time::sleep(MS(3)).await;
    }
}

/// Waits until both nodes follow the log and have sent what they had to; from then on what was true before must be known.
async fn recovered(world: &World, spaces: &[CacheSpace; 2]) {
    for space in spaces {
        assert!(space.coherent(Duration::from_secs(20)).await, "it comes back by itself");
    }
    let truth: Vec<u64> = world.truth.iter().map(|truth| truth.load(Ordering::SeqCst)).collect();
    let sent: Vec<u64> = spaces.iter().map(|space| space.stats().published).collect();
    for _ in 0..1_000 {
        let arrived = spaces.iter().zip(&sent).all(|(space, sent)| space.stats().published > sent + 10);
        if arrived && spaces.iter().all(CacheSpace::is_coherent) {
            break;
        }
        time::sleep(MS(10)).await;
    }
    // What was sent is applied everywhere within milliseconds; a busy machine gets more.
    time::sleep(MS(500)).await;
    for (known, truth) in world.known.iter().zip(truth) {
        known.fetch_max(truth, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn s32_no_request_fails_while_redis_is_killed_paused_and_restarted_under_load() {
    let pause = std::env::var("PERF_CACHE_PAUSE").ok().and_then(|n| n.parse().ok()).unwrap_or(5);
    let server = RedisServer::start().await.unwrap();
    let ((space_a, a), (space_b, b)) = (node(&server).await, node(&server).await);
    let (spaces, world) = ([space_a, space_b], World::new());
    let mut tasks = vec![tokio::spawn(writer(Arc::clone(&world), spaces.clone(), [a.clone(), b.clone()]))];
    for n in 0..8 {
        let cache = if n % 2 == 0 { a.clone() } else { b.clone() };
        tasks.push(tokio::spawn(reader(Arc::clone(&world), cache, n)));
    }
    let (usual, _) = world.phase("Redis is up", Duration::from_secs(1)).await;
    recovered(&world, &spaces).await;
    let soft = CacheSpaceBuilder::STORE_TIMEOUT;
    let down = async |what: &str, length: u64| {
        let (_, longest) = world.phase(&format!("{what}, noticed"), Duration::from_secs(1)).await;
        assert!(longest <= LOADER + soft + SLACK, "{what}: {longest:?} while it is being noticed");
        let (median, longest) =
            world.phase(&format!("{what}, left alone"), Duration::from_secs(length - 1)).await;
        assert!(median <= usual + MS(20), "{what}: {median:?} instead of {usual:?}");
        assert!(longest <= LOADER + SLACK, "{what}: {longest:?} though it is left alone");
    };
    server.kill().await.unwrap();
    down("killed", 3).await;
    server.restart().await.unwrap();
    recovered(&world, &spaces).await;
    world.phase("back from the kill", Duration::from_secs(1)).await;

    server.pause().await.unwrap();
    down("paused", pause).await;
    server.resume().await.unwrap();
    recovered(&world, &spaces).await;
    world.phase("back from the pause", Duration::from_secs(1)).await;

    server.restart().await.unwrap();
    recovered(&world, &spaces).await;
    let written = spaces[0].stats().written;
    world.phase("back from the restart", Duration::from_secs(4)).await;
    assert!(spaces[0].stats().written > written, "the second tier is used again");

    world.done.store(true, Ordering::SeqCst);
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(world.failed.load(Ordering::SeqCst), 0, "failed requests");
    assert_eq!(world.stale.load(Ordering::SeqCst), 0, "stale answers after recovery");
    assert!(spaces.iter().all(|space| space.stats().skipped > 0), "the second tier was left alone");
}
