//! What a hit costs, beside the rivals' hits: 1,000 keys, and 100,000 keys asked for by Zipf's law, by one thread and two.

use perf_cache::{Cache, CacheSpace, Entries, Loaded, Refresh, tag};
use perf_core::{Rng, time};
use perfkit_benches::{Contest, CountingAllocator, Zipf, allocations_during};
use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

type Value = Arc<[u64; 8]>;

struct Caches {
    ours: Cache<u64, [u64; 8]>,
    moka: moka::sync::Cache<u64, Value>,
    mini: mini_moka::sync::Cache<u64, Value>,
    quick: quick_cache::sync::Cache<u64, Value>,
}

fn main() {
    for (name, keys, zipf) in [("1k", 1_000_u64, false), ("100k_zipf", 100_000, true)] {
        let caches = filled(keys);
        let requests = requests(keys, zipf);
        single(name, &caches, &requests);
        allocations(name, &caches, &requests);
        awaited(name, &caches, &requests);
        double(name, &caches, &requests);
    }
}

/// Caches twice as large as what is put into them, ours with a life, a refresh and three tags on every entry.
fn filled(keys: u64) -> Caches {
    let space = CacheSpace::in_process("bench");
    let room = keys * 2;
    let ours = space
        .cache("hits")
        .capacity(Entries(room))
        .fresh(Duration::from_secs(3600))
        .refresh(Refresh::Fraction(0.9))
        .build();
    #[expect(clippy::panic, reason = "a benchmark without its cache measures nothing")]
    let Ok(ours) = ours else { panic!("the settings are valid") };
    let (moka, mini) = (moka::sync::Cache::new(room), mini_moka::sync::Cache::new(room));
    let quick = quick_cache::sync::Cache::new(room as usize);
    for key in 0..keys {
        let tags = [tag!("a", key), tag!("b", key % 7), tag!("c")];
        ours.insert_with(key, Loaded::new([key; 8]).tags(tags));
        let value = Arc::new([key; 8]);
        moka.insert(key, Arc::clone(&value));
        mini.insert(key, Arc::clone(&value));
        quick.insert(key, value);
    }
    moka.run_pending_tasks();
    Caches { ours, moka, mini, quick }
}

fn requests(keys: u64, zipf: bool) -> Vec<u64> {
    let mut rng = Rng::seeded(42);
    let law = Zipf::new(keys, 0.99);
    let mut spread: Vec<u64> = (0..keys).collect();
    rng.shuffle(&mut spread);
    let draw = |rng: &mut Rng| if zipf { law.sample(rng).min(keys - 1) } else { rng.below(keys) };
    (0..1 << 15).map(|_| spread[draw(&mut rng) as usize]).collect()
}

/// Runs `read` for the next `n` of the requests, from `at` on.
fn run(requests: &[u64], at: &mut usize, n: u64, read: impl Fn(u64) -> u64) {
    let mask = requests.len() - 1;
    let mut sum = 0_u64;
    for _ in 0..n {
        *at = (*at + 1) & mask;
        sum = sum.wrapping_add(read(requests[*at]));
    }
    black_box(sum);
}

impl Caches {
    fn ours(&self, key: u64) -> u64 {
        self.ours.get(&key).map_or(0, |hit| hit[0])
    }
    fn quick(&self, key: u64) -> u64 {
        self.quick.get(&key).map_or(0, |value| value[0])
    }
    fn moka(&self, key: u64) -> u64 {
        self.moka.get(&key).map_or(0, |value| value[0])
    }
    fn mini(&self, key: u64) -> u64 {
        self.mini.get(&key).map_or(0, |value| value[0])
    }
}

fn single(name: &str, caches: &Caches, requests: &[u64]) {
    let (mut a, mut b, mut c, mut d) = (0, 0, 0, 0);
    Contest::new(format!("get_{name}_1_thread"))
        .entry("ours", move |n| run(requests, &mut a, n, |key| caches.ours(key)))
        .entry("quick_cache", move |n| run(requests, &mut b, n, |key| caches.quick(key)))
        .entry("moka", move |n| run(requests, &mut c, n, |key| caches.moka(key)))
        .entry("mini_moka", move |n| run(requests, &mut d, n, |key| caches.mini(key)))
        .run();
}

/// `get_or_load` and hits through the runtime, beside the plain `get`.
fn awaited(name: &str, caches: &Caches, requests: &[u64]) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    let mut at = 0;
    let (runtime, mut b) = (&runtime, 0);
    Contest::new(format!("get_or_load_{name}_1_thread"))
        .entry("ours", move |n| {
            let mask = requests.len() - 1;
            runtime.block_on(async {
                for _ in 0..n {
                    at = (at + 1) & mask;
                    let hit =
                        caches.ours.get_or_load(&requests[at], || async { Ok::<_, Infallible>([0; 8]) });
                    black_box(hit.await.map_or(0, |hit| hit[0]));
                }
            });
        })
        .entry("quick_cache", move |n| run(requests, &mut b, n, |key| caches.quick(key)))
        .run();
}

fn allocations(name: &str, caches: &Caches, requests: &[u64]) {
    let mut at = 0;
    let during = allocations_during(|| run(requests, &mut at, 10_000, |key| caches.ours(key)));
    #[expect(clippy::print_stdout, reason = "the table is what a benchmark is for")]
    {
        println!("allocations get_{name} {during} in 10000 hits");
    }
}

/// The same with a second thread reading all the while.
fn double(name: &str, caches: &Caches, requests: &[u64]) {
    let beside = |read: fn(&Caches, u64) -> u64| {
        move |n: u64| {
            let done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut at = 7_777;
                    while !done.load(Ordering::Relaxed) {
                        run(requests, &mut at, 1_000, |key| read(caches, key));
                    }
                });
                let mut at = 0;
                run(requests, &mut at, n, |key| read(caches, key));
                done.store(true, Ordering::Relaxed);
            });
        }
    };
    Contest::new(format!("get_{name}_2_threads"))
        .round_time(time::Duration::from_millis(20))
        .entry("ours", beside(Caches::ours))
        .entry("quick_cache", beside(Caches::quick))
        .entry("moka", beside(Caches::moka))
        .entry("mini_moka", beside(Caches::mini))
        .run();
}
