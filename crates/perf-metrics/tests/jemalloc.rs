//! What jemalloc says about itself and gives back when it is the allocator of the program.

use perf_metrics::{AllocatorWatch, Jemalloc, Metrics};

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

const BLOCK: usize = 16 * 1024;
const BLOCKS: usize = 4_096;

#[test]
fn a_purge_gives_back_what_was_freed_and_says_how_much() {
    let (metrics, watch) = (Metrics::builder().build().unwrap(), AllocatorWatch::new(Jemalloc));
    metrics.register(watch.clone()).unwrap().keep();
    let value = |name: &str| -> f64 {
        let text = metrics.text();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}{{name=\"global\"}} ")));
        line.unwrap_or("nan").parse().unwrap()
    };
    // 64 MiB in blocks, touched, so that they are really there.
    let blocks: Vec<Vec<u8>> = (0..BLOCKS).map(|n| vec![n as u8 | 1; BLOCK]).collect();
    let held = value("perf_metrics_allocator_resident_bytes");
    assert!(held >= (BLOCK * BLOCKS) as f64, "{held}");
    assert_eq!(blocks.iter().map(|block| usize::from(block[BLOCK / 2] != 0)).sum::<usize>(), BLOCKS);
    drop(blocks);
    let purged = watch.purge();
    assert!(purged.before.is_some() && purged.after.is_some());
    let after = value("perf_metrics_allocator_resident_bytes");
    assert!(after < held / 2.0, "{held} bytes before, {after} after, {purged:?}");
    assert_eq!(value("perf_metrics_allocator_purges_total"), 1.0);
    assert_eq!(value("perf_metrics_allocator_purged_bytes_total"), purged.freed() as f64);
}
