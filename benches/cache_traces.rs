//! How many requests of recorded traces each cache answers, at the sizes of the design page: hit ratios, not times.
//!
//! The traces are read from `$PERFKIT_TRACES`, `../shared/data/traces` beside the workspace by default.
#![expect(clippy::print_stdout, reason = "the table is what a benchmark is for")]

use flate2::read::GzDecoder;
use perf_cache::{Cache, CacheSpace, EngineKind, Entries};
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::time::Duration;

const RUNS: [(&str, &[usize]); 5] = [
    ("oltp", &[500, 1000, 2000]),
    ("corda", &[512, 2048]),
    ("loop", &[256, 512]),
    ("multi3", &[400, 800, 1600]),
    ("cpp", &[100, 300]),
];

fn main() {
    let folder = std::env::var_os("PERFKIT_TRACES").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/traces")),
        PathBuf::from,
    );
    for (name, sizes) in RUNS {
        match trace(&folder, name) {
            Ok(keys) => sizes.iter().for_each(|&size| compare(name, size, &keys)),
            Err(error) => println!("absent {name}: {} ({error})", folder.display()),
        }
    }
}

fn trace(folder: &std::path::Path, name: &str) -> io::Result<Vec<u64>> {
    let file = File::open(folder.join(format!("{name}.txt.gz")))?;
    BufReader::new(GzDecoder::new(file)).lines().map(|line| Ok(key(line?.trim()))).collect()
}

/// Most keys are 64-bit numbers; longer ones are hashed.
fn key(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| {
        let mut hasher = std::collections::hash_map::DefaultHasher::new();
        hasher.write(text.as_bytes());
        hasher.finish()
    })
}

fn compare(name: &str, size: usize, keys: &[u64]) {
    let ratio = |hits: usize| hits as f64 * 100.0 / keys.len() as f64;
    let ours = ratio(ours(EngineKind::Adaptive, size, keys));
    let lru = ratio(lru(size, keys));
    let moka = ratio(moka(size, keys));
    let quick = ratio(quick_cache(size, keys));
    let best = lru.max(moka).max(quick);
    println!(
        "hits {name}@{size} ours={ours:.2} lru={lru:.2} moka={moka:.2} quick_cache={quick:.2} ours-best={:+.2}",
        ours - best
    );
}

fn ours(engine: EngineKind, size: usize, keys: &[u64]) -> usize {
    let space = CacheSpace::in_process("bench");
    let builder = space.cache("trace").capacity(Entries(size as u64)).engine(engine).fresh(Duration::MAX);
    let Ok(cache): Result<Cache<u64, ()>, _> = builder.build() else { return 0 };
    let hits = keys.iter().filter(|&key| {
        let hit = cache.get(key).is_some();
        if !hit {
            cache.insert(*key, ());
        }
        hit
    });
    hits.count()
}

fn moka(size: usize, keys: &[u64]) -> usize {
    let cache = moka::sync::Cache::new(size as u64);
    let hits = keys.iter().filter(|&key| {
        let hit = cache.get(key).is_some();
        if !hit {
            cache.insert(*key, ());
        }
        // Without it the hit ratio depends on when moka's own maintenance happens to run.
        cache.run_pending_tasks();
        hit
    });
    hits.count()
}

fn quick_cache(size: usize, keys: &[u64]) -> usize {
    let cache = quick_cache::unsync::Cache::new(size);
    quick_run(cache, keys)
}

fn quick_run<We, B, L>(mut cache: quick_cache::unsync::Cache<u64, (), We, B, L>, keys: &[u64]) -> usize
where
    We: quick_cache::Weighter<u64, ()>,
    B: BuildHasher,
    L: quick_cache::Lifecycle<u64, ()>,
{
    let mut hits = 0;
    for key in keys {
        if cache.get(key).is_some() {
            hits += 1;
        } else {
            cache.insert(*key, ());
        }
    }
    hits
}

/// Exact LRU by time stamps.
fn lru(size: usize, keys: &[u64]) -> usize {
    let (mut used, mut order) = (std::collections::HashMap::new(), std::collections::BTreeMap::new());
    let mut hits = 0;
    for (now, key) in keys.iter().enumerate() {
        if let Some(before) = used.insert(*key, now) {
            hits += 1;
            order.remove(&before);
        } else if used.len() > size
            && let Some((_, oldest)) = order.pop_first()
        {
            used.remove(&oldest);
        }
        order.insert(now, *key);
    }
    hits
}
