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
const ROUNDS: u64 = 20;
const CALLERS: usize = 1000;

/// What the loaders did.
#[derive(Debug, Default)]
struct Loads {
    count: AtomicU32,
    /// A timer of 10 ms rings up to a millisecond and some later.
    nanos: AtomicU64,
}

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
    // In a task of the two workers: the thread of `main` would be a third one on two cores.
    if let Ok(line) = tokio::spawn(rounds(cache)).await {
        println!("{line}");
    }
    Ok(())
}

async fn rounds(cache: Cache<u64, u32>) -> String {
    // The first round gets the memory that the others use again.
    stampede(&cache, ROUNDS, &Arc::default()).await;
    let loads = Arc::new(Loads::default());
    let mut waits = Vec::new();
    for round in 0..ROUNDS {
        waits.extend(stampede(&cache, round, &loads).await);
    }
    waits.sort_unstable();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let (answered, count) = (waits.len(), f64::from(loads.count.load(Ordering::Relaxed)));
    format!(
        "stampede rounds={ROUNDS} callers={CALLERS} answered={answered} loads_per_round={:.2} loader_ms={:.2} p50_ms={:.2} p99_ms={:.2} max_ms={:.2}",
        count / ROUNDS as f64,
        loads.nanos.load(Ordering::Relaxed) as f64 / count / 1e6,
        at(0.5),
        at(0.99),
        at(1.0)
    )
}

/// How long each of the callers waited, from its first step on.
async fn stampede(cache: &Cache<u64, u32>, key: u64, loads: &Arc<Loads>) -> Vec<Duration> {
    let call = |_| {
        let (cache, loads) = (cache.clone(), Arc::clone(loads));
        tokio::spawn(async move {
            let begun = time::now();
            let loader = move || async move {
                let begun = time::now();
                time::sleep(LOADER).await;
                loads.count.fetch_add(1, Ordering::Relaxed);
                loads.nanos.fetch_add(begun.elapsed().as_nanos() as u64, Ordering::Relaxed);
                Ok::<_, Infallible>(1)
            };
            let answered = cache.get_or_load(&key, loader).await.is_ok();
            answered.then(|| begun.elapsed())
        })
    };
    let callers: Vec<_> = (0..CALLERS).map(call).collect();
    let mut waits = Vec::with_capacity(CALLERS);
    for caller in callers {
        waits.extend(caller.await.ok().flatten());
    }
    waits
}
