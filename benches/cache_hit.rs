//! What a hit costs, beside the rivals' hits: 1,000 keys asked for at random and 100,000 keys by Zipf's law, by one thread
//! and by two, through `get` and through `get_or_load`; how much it allocates, and what an entry takes.
//!
//! Every cache gives back something owned that keeps the value alive and lets it be read in place: ours a `Hit`, foyer an
//! entry, the others a clone of an `Arc`. Ours has a life, a refresh ahead of its end and three tags on every entry; the
//! rivals have neither. `cargo bench --bench cache_hit -- get` runs only the contests whose names contain `get`.
#![expect(clippy::print_stdout, reason = "the table is what a benchmark is for")]

use perf_cache::{Cache, CacheSpace, Entries, Loaded, Refresh, tag};
use perf_core::{Rng, time};
use perfkit_benches::{Contest, CountingAllocator, Zipf, allocations_during, bytes_kept_by};
use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

type Value = Arc<[u64; 8]>;

/// A cache in the contest. Those that answer at once do so in a future that is always ready.
trait Rival: Sync {
    fn put(&self, key: u64) -> impl Future<Output = ()>;
    fn get(&self, key: u64) -> impl Future<Output = u64>;
    fn get_or_load(&self, key: u64) -> impl Future<Output = u64>;
}

struct Ours(Cache<u64, [u64; 8]>);

impl Rival for Ours {
    async fn put(&self, key: u64) {
        let tags = [tag!("a", key), tag!("b", key % 7), tag!("c")];
        self.0.insert_with(key, Loaded::new([key; 8]).tags(tags));
    }
    async fn get(&self, key: u64) -> u64 {
        self.0.get(&key).map_or(0, |hit| hit[0])
    }
    async fn get_or_load(&self, key: u64) -> u64 {
        let hit = self.0.get_or_load(&key, || async { Ok::<_, Infallible>([0; 8]) });
        hit.await.map_or(0, |hit| hit[0])
    }
}

struct Quick(quick_cache::sync::Cache<u64, Value>);

impl Rival for Quick {
    async fn put(&self, key: u64) {
        self.0.insert(key, Arc::new([key; 8]));
    }
    async fn get(&self, key: u64) -> u64 {
        self.0.get(&key).map_or(0, |value| value[0])
    }
    async fn get_or_load(&self, key: u64) -> u64 {
        let value = self.0.get_or_insert_async(&key, async { Ok::<_, Infallible>(Arc::new([0; 8])) });
        value.await.map_or(0, |value| value[0])
    }
}

struct Moka(moka::sync::Cache<u64, Value>, moka::future::Cache<u64, Value>);

impl Rival for Moka {
    async fn put(&self, key: u64) {
        self.0.insert(key, Arc::new([key; 8]));
        self.1.insert(key, Arc::new([key; 8])).await;
    }
    async fn get(&self, key: u64) -> u64 {
        self.0.get(&key).map_or(0, |value| value[0])
    }
    async fn get_or_load(&self, key: u64) -> u64 {
        self.1.get_with(key, async { Arc::new([0; 8]) }).await[0]
    }
}

struct Mini(mini_moka::sync::Cache<u64, Value>);

impl Rival for Mini {
    async fn put(&self, key: u64) {
        self.0.insert(key, Arc::new([key; 8]));
    }
    async fn get(&self, key: u64) -> u64 {
        self.0.get(&key).map_or(0, |value| value[0])
    }
    /// It has no such door.
    async fn get_or_load(&self, key: u64) -> u64 {
        self.get(key).await
    }
}

struct Foyer(foyer_memory::Cache<u64, [u64; 8]>);

impl Rival for Foyer {
    async fn put(&self, key: u64) {
        self.0.insert(key, [key; 8]);
    }
    async fn get(&self, key: u64) -> u64 {
        self.0.get(&key).map_or(0, |entry| entry.value()[0])
    }
    async fn get_or_load(&self, key: u64) -> u64 {
        let entry = self.0.get_or_fetch(&key, || async { Ok::<_, Infallible>([0_u64; 8]) });
        entry.await.map_or(0, |entry| entry.value()[0])
    }
}

/// Plain where it only reads, and with its protection against stampedes where it loads, since ours always has that.
struct Cachet(cachet::Cache<u64, Value>, cachet::Cache<u64, Value>);

impl Rival for Cachet {
    async fn put(&self, key: u64) {
        for cache in [&self.0, &self.1] {
            // What it fails to keep shows in the sums of the answers.
            let _ = cache.insert(key, Arc::new([key; 8])).await;
        }
    }
    async fn get(&self, key: u64) -> u64 {
        self.0.get(&key).await.ok().flatten().map_or(0, |entry| entry.value()[0])
    }
    async fn get_or_load(&self, key: u64) -> u64 {
        let entry = self.1.get_or_insert(&key, || async { Arc::new([0; 8]) });
        entry.await.map_or(0, |entry| entry.value()[0])
    }
}

struct Caches {
    ours: Ours,
    quick: Quick,
    moka: Moka,
    mini: Mini,
    foyer: Foyer,
    cachet: Cachet,
}

fn main() {
    let runtime = runtime();
    let _within = runtime.enter();
    for (name, keys, zipf) in [("1k", 1_000_u64, false), ("zipf100k", 100_000, true)] {
        let requests = requests(keys, zipf);
        let caches = filled(keys, name);
        allocations(name, &caches.ours, &requests);
        for door in [Door::Get, Door::GetOrLoad] {
            contest(&format!("{door}.{name}.1thread"), door, &caches, &requests, false);
            contest(&format!("{door}.{name}.2threads"), door, &caches, &requests, true);
        }
    }
}

fn runtime() -> Runtime {
    #[expect(clippy::panic, reason = "a benchmark without a runtime measures nothing")]
    Builder::new_current_thread().enable_all().build().unwrap_or_else(|error| panic!("no runtime: {error}"))
}

/// Caches twice as large as what is put into them.
fn filled(keys: u64, name: &str) -> Caches {
    let room = keys * 2;
    let cachet = || cachet::Cache::builder(tick::Clock::new_tokio()).memory_with(|b| b.max_capacity(room));
    let (ours, ours_bytes) = fill(keys, || Ours(ours(room)));
    let (quick, quick_bytes) = fill(keys, || Quick(quick_cache::sync::Cache::new(room as usize)));
    let caches = Caches {
        ours,
        quick,
        moka: fill(keys, || Moka(moka::sync::Cache::new(room), moka::future::Cache::new(room))).0,
        mini: fill(keys, || Mini(mini_moka::sync::Cache::new(room))).0,
        foyer: fill(keys, || Foyer(foyer_memory::CacheBuilder::new(room as usize).build())).0,
        cachet: fill(keys, || Cachet(cachet().build(), cachet().stampede_protection().build())).0,
    };
    caches.moka.0.run_pending_tasks();
    println!(
        "bytes_per_entry.{name} ours={} quick_cache={} (of which key and value 72; ours with three tags)",
        ours_bytes / keys as i64,
        quick_bytes / keys as i64
    );
    caches
}

fn fill<R: Rival>(keys: u64, make: impl FnOnce() -> R) -> (R, i64) {
    bytes_kept_by(|| {
        let rival = make();
        futures_now(async {
            for key in 0..keys {
                rival.put(key).await;
            }
        });
        rival
    })
}

/// Runs a future to its end on this thread.
fn futures_now<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Handle::current().block_on(future)
}

fn ours(room: u64) -> Cache<u64, [u64; 8]> {
    let cache = CacheSpace::in_process("bench")
        .cache("hits")
        .capacity(Entries(room))
        .fresh(Duration::from_secs(3600))
        .refresh(Refresh::Fraction(0.9))
        .build();
    #[expect(clippy::panic, reason = "a benchmark without its cache measures nothing")]
    cache.unwrap_or_else(|error| panic!("the settings are valid: {error}"))
}

fn requests(keys: u64, zipf: bool) -> Vec<u64> {
    let mut rng = Rng::seeded(42);
    let law = Zipf::new(keys, 0.99);
    let mut spread: Vec<u64> = (0..keys).collect();
    rng.shuffle(&mut spread);
    let draw = |rng: &mut Rng| if zipf { law.sample(rng).min(keys - 1) } else { rng.below(keys) };
    (0..1 << 15).map(|_| spread[draw(&mut rng) as usize]).collect()
}

#[derive(Clone, Copy, PartialEq)]
enum Door {
    Get,
    GetOrLoad,
}

impl std::fmt::Display for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if *self == Self::Get { "get" } else { "get_or_load" })
    }
}

/// Sends the next `n` of the requests, from `at` on, through a door.
fn run(rival: &impl Rival, door: Door, requests: &[u64], at: &mut usize, n: u64) {
    let mask = requests.len() - 1;
    let from = *at;
    *at = (from + n as usize) & mask;
    let keys = (from..from + n as usize).map(|at| requests[at & mask]);
    let sum = futures_now(async {
        let mut sum = 0_u64;
        match door {
            Door::Get => {
                for key in keys {
                    sum = sum.wrapping_add(rival.get(key).await);
                }
            }
            Door::GetOrLoad => {
                for key in keys {
                    sum = sum.wrapping_add(rival.get_or_load(key).await);
                }
            }
        }
        sum
    });
    black_box(sum);
}

fn contest(name: &str, door: Door, caches: &Caches, requests: &[u64], double: bool) {
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    if wanted.is_some_and(|wanted| !name.contains(&wanted)) {
        return;
    }
    let round = time::Duration::from_millis(if double { 20 } else { 8 });
    let contest = Contest::new(name)
        .round_time(round)
        .entry("ours", work(&caches.ours, door, requests, double))
        .entry("quick_cache", work(&caches.quick, door, requests, double))
        .entry("moka", work(&caches.moka, door, requests, double))
        .entry("foyer", work(&caches.foyer, door, requests, double))
        .entry("cachet", work(&caches.cachet, door, requests, double));
    let contest = match door {
        Door::Get => contest.entry("mini_moka", work(&caches.mini, door, requests, double)),
        Door::GetOrLoad => contest,
    };
    contest.run();
}

/// What one contestant does; with a second thread that reads all the while, if it is to be double.
fn work<'a>(rival: &'a impl Rival, door: Door, requests: &'a [u64], double: bool) -> impl FnMut(u64) + 'a {
    let mut at = 0;
    move |n| {
        let done = AtomicBool::new(!double);
        std::thread::scope(|scope| {
            if double {
                scope.spawn(|| {
                    let runtime = runtime();
                    let _within = runtime.enter();
                    let mut at = 7_777;
                    while !done.load(Ordering::Relaxed) {
                        run(rival, door, requests, &mut at, 1_000);
                    }
                });
            }
            run(rival, door, requests, &mut at, n);
            done.store(true, Ordering::Relaxed);
        });
    }
}

fn allocations(name: &str, ours: &Ours, requests: &[u64]) {
    for door in [Door::Get, Door::GetOrLoad] {
        let mut at = 0;
        run(ours, door, requests, &mut at, 10_000);
        let during = allocations_during(|| run(ours, door, requests, &mut at, 10_000));
        println!("allocations {door}.{name} {during} in 10000 hits");
    }
}
