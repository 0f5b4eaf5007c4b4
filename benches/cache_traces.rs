//! How many requests of recorded and of generated traces each cache answers: hit ratios in percent, not times. Ours is the
//! lowest of three runs, each with a hash seed of its own.
//!
//! `cargo bench --bench cache_traces -- loop` runs only those whose names contain `loop`. The recorded traces are read from `$PERFKIT_TRACES`, `../shared/data/traces` beside the workspace by default.
#![expect(clippy::print_stdout, reason = "the table is what a benchmark is for")]

use flate2::read::GzDecoder;
use perf_cache::{Cache, CacheSpace, EngineKind, Entries};
use perf_core::{Rng, Zipf};
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
    for (name, keys) in shapes() {
        [100, 500, 2000].iter().for_each(|&size| compare(name, size, &keys));
    }
}

/// Traffic of the kinds that caches meet, in its pure forms.
fn shapes() -> [(&'static str, Vec<u64>); 8] {
    const REQUESTS: u64 = 150_000;
    let mut rng = Rng::seeded(7);
    let (flat, steep) = (Zipf::new(10_000, 0.7), Zipf::new(5_000, 1.0));
    let mut of = |key: &mut dyn FnMut(&mut Rng, u64) -> u64| -> Vec<u64> {
        (0..REQUESTS).map(|n| key(&mut rng, n)).collect()
    };
    [
        ("zipf0.7", of(&mut |rng, _| flat.sample(rng))),
        ("zipf1.0", of(&mut |rng, _| steep.sample(rng))),
        // Every other request is for something that never comes again.
        ("one_offs", of(&mut |rng, n| if n % 2 == 0 { steep.sample(rng) } else { 1 << 40 | n })),
        ("scans", of(&mut |rng, n| if n % 7_000 < 5_000 { steep.sample(rng) } else { 1 << 40 | n })),
        ("loop_600", of(&mut |_, n| n % 600)),
        // The popular keys change one by one, and all at once.
        ("drift", of(&mut |rng, n| steep.sample(rng) + n / 20)),
        ("shift", of(&mut |rng, n| steep.sample(rng) + n / 20_000 * 100_000)),
        // Each key twice, with 150 requests in between.
        ("twice", of(&mut |_, n| if n % 2 == 0 { n / 2 } else { (n / 2).saturating_sub(75) })),
    ]
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
    let name = format!("{name}@{size}");
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    if wanted.is_some_and(|wanted| !name.contains(&wanted)) {
        return;
    }
    let ratio = |hits: usize| hits as f64 * 100.0 / keys.len() as f64;
    let ours = (0..3).map(|_| ratio(ours(EngineKind::Adaptive, size, keys))).fold(100.0, f64::min);
    let lru = ratio(lru(size, keys));
    let moka = ratio(moka(size, keys));
    let quick = ratio(quick_cache(size, keys));
    let foyer = ratio(foyer(size, keys));
    let best = lru.max(moka).max(quick).max(foyer);
    println!(
        "hits {name} ours={ours:.2} lru={lru:.2} moka={moka:.2} quick_cache={quick:.2} foyer={foyer:.2} ours-best={:+.2}",
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

/// foyer with the LFU eviction, the best of its policies on the recorded traces, in one shard.
fn foyer(size: usize, keys: &[u64]) -> usize {
    let cache: foyer_memory::Cache<u64, ()> = foyer_memory::CacheBuilder::new(size)
        .with_shards(1)
        .with_eviction_config(foyer_memory::LfuConfig::default())
        .build();
    let hits = keys.iter().filter(|&key| {
        let hit = cache.get(key).is_some();
        if !hit {
            cache.insert(*key, ());
        }
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
