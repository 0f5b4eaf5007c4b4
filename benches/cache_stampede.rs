//! A thousand callers of one key at once: how many loads, and how long the slowest callers wait.
#![expect(clippy::print_stdout, reason = "the table is what a benchmark is for")]

mod stampede_processes;

use perf_cache::{Cache, CacheSpace, Entries};
use perf_core::time;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

const LOADER: Duration = Duration::from_millis(10);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if let Some(url) = stampede_processes::is_node() {
        return stampede_processes::node(&url);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(one_process())?;
    stampede_processes::run(&runtime)
}

async fn one_process() -> Result<(), perf_core::InvalidConfig> {
    let cache: Cache<u64, u32> =
        CacheSpace::in_process("bench").cache("one").capacity(Entries(1000)).build()?;
    let loads = Arc::new(AtomicU32::new(0));
    // What the loader takes: a timer of 10 ms rings up to a millisecond and some later.
    let taken = Arc::new(AtomicU64::new(0));
    let mut waits = Vec::new();
    for round in 0..20_u64 {
        let callers: Vec<_> = (0..1000)
            .map(|_| {
                let (cache, loads, taken) = (cache.clone(), Arc::clone(&loads), Arc::clone(&taken));
                tokio::spawn(async move {
                    let begun = time::now();
                    let loader = move || async move {
                        loads.fetch_add(1, Ordering::Relaxed);
                        let begun = time::now();
                        time::sleep(LOADER).await;
                        taken.fetch_add(begun.elapsed().as_nanos() as u64, Ordering::Relaxed);
                        Ok::<_, Infallible>(1)
                    };
                    let answered = cache.get_or_load(&round, loader).await.is_ok();
                    answered.then(|| begun.elapsed())
                })
            })
            .collect();
        for caller in callers {
            waits.extend(caller.await.ok().flatten());
        }
    }
    waits.sort_unstable();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let (answered, loads) = (waits.len(), loads.load(Ordering::Relaxed));
    println!(
        "stampede rounds=20 callers=1000 answered={answered} loads_per_round={:.2} loader_ms={:.2} p50_ms={:.2} p99_ms={:.2} max_ms={:.2}",
        f64::from(loads) / 20.0,
        taken.load(Ordering::Relaxed) as f64 / f64::from(loads) / 1e6,
        at(0.5),
        at(0.99),
        at(1.0)
    );
    Ok(())
}
