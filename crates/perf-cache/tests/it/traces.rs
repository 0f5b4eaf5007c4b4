//! Hit ratios on recorded traces, against the best of LRU, moka, quick_cache and foyer (`benches/cache_traces.rs` runs
//! the rivals). The traces are read from `$PERFKIT_TRACES`, `../shared/data/traces` beside the workspace by default.

use flate2::read::GzDecoder;
use perf_cache::{Cache, CacheSpace, Entries};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::time::Duration;

/// Trace, size, and the hit ratio in percent below which something has become worse: the best rival's less 0.3, or a
/// little less where the hash seed of a run can make that much of a difference.
const BARS: [(&str, u64, f64); 12] = [
    ("oltp", 500, 30.91),
    ("oltp", 1000, 38.48),
    ("oltp", 2000, 44.63),
    ("corda", 512, 33.03),
    ("corda", 2048, 33.03),
    ("loop", 256, 24.8),
    ("loop", 512, 50.1),
    ("multi3", 400, 40.31),
    ("multi3", 800, 48.1),
    ("multi3", 1600, 56.9),
    ("cpp", 100, 77.6),
    ("cpp", 300, 84.8),
];

#[test]
fn the_engine_keeps_its_hit_ratio_on_recorded_traces() {
    let folder = std::env::var_os("PERFKIT_TRACES").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/traces")),
        PathBuf::from,
    );
    for (name, size, bar) in BARS {
        let path = folder.join(format!("{name}.txt.gz"));
        let Ok(file) = File::open(&path) else {
            println!("{name}@{size} was not run: {} is absent", path.display());
            continue;
        };
        let keys: Vec<String> = BufReader::new(GzDecoder::new(file)).lines().map(Result::unwrap).collect();
        let ratio = hit_ratio(size, &keys);
        println!("{name}@{size} {ratio:.2} (bar {bar})");
        assert!(ratio >= bar, "{name}@{size}: {ratio:.2} is below {bar}");
    }
}

fn hit_ratio(size: u64, keys: &[String]) -> f64 {
    let space = CacheSpace::in_process("traces");
    let cache: Cache<String, ()> =
        space.cache("t").capacity(Entries(size)).fresh(Duration::MAX).build().unwrap();
    let hits = keys.iter().filter(|key| {
        let hit = cache.get(key.as_str()).is_some();
        if !hit {
            cache.insert((*key).clone(), ());
        }
        hit
    });
    hits.count() as f64 * 100.0 / keys.len() as f64
}
