//! A thousand callers of one key at once: how many loads, and how long the slowest callers wait.
//!
//! Every wait is told twice: from the caller's first step, which contains the loader, and from the loader's real end in the
//! same round, which is what the cache adds. A timer of 10 ms rings one to two milliseconds late, so the loader's real
//! time is told as well. Beside ours run moka and a bare `OnceCell` of tokio, which has no keys, deadlines or expiry.
#![expect(clippy::print_stdout, reason = "the table is what a benchmark is for")]

mod stampede_processes;

use perf_cache::{Cache, CacheSpace, Entries};
use perf_core::time::{self, Instant};
use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::OnceCell;

const LOADER: Duration = Duration::from_millis(10);
const ROUNDS: u64 = 20;
const CALLERS: usize = 1000;

/// What the loaders of one round did.
#[derive(Debug, Default)]
struct Loads {
    count: AtomicU32,
    /// When the last of them began and ended.
    ran: Mutex<Option<(Instant, Instant)>>,
}

impl Loads {
    async fn load(&self) -> u32 {
        let begun = time::now();
        time::sleep(LOADER).await;
        self.count.fetch_add(1, Ordering::Relaxed);
        *self.ran.lock().unwrap_or_else(PoisonError::into_inner) = Some((begun, time::now()));
        1
    }
}

/// Something that loads a key once for everyone who asks.
trait Shared: Clone + Send + 'static {
    const NAME: &'static str;

    fn get(&self, key: u64, loads: Arc<Loads>) -> impl Future<Output = bool> + Send;
}

impl Shared for Cache<u64, u32> {
    const NAME: &'static str = "perf-cache";

    async fn get(&self, key: u64, loads: Arc<Loads>) -> bool {
        self.get_or_load(&key, move || async move { Ok::<_, Infallible>(loads.load().await) }).await.is_ok()
    }
}

impl Shared for moka::future::Cache<u64, u32> {
    const NAME: &'static str = "moka";

    async fn get(&self, key: u64, loads: Arc<Loads>) -> bool {
        self.get_with(key, async move { loads.load().await }).await == 1
    }
}

/// One cell for each key.
type Cells = Arc<Vec<OnceCell<u32>>>;

impl Shared for Cells {
    const NAME: &'static str = "OnceCell";

    async fn get(&self, key: u64, loads: Arc<Loads>) -> bool {
        *self[key as usize].get_or_init(|| async move { loads.load().await }).await == 1
    }
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
    let ours: Cache<u64, u32> =
        CacheSpace::in_process("bench").cache("one").capacity(Entries(1000)).build()?;
    // In a task of the two workers: the thread of `main` would be a third one on two cores.
    if let Ok(lines) = tokio::spawn(contest(ours)).await {
        println!("{lines}");
    }
    Ok(())
}

/// All of them in turn, round by round.
async fn contest(ours: Cache<u64, u32>) -> String {
    let moka = moka::future::Cache::new(1000);
    let cells: Cells = Arc::new((0..=ROUNDS).map(|_| OnceCell::new()).collect());
    let mut scores = [Score::default(), Score::default(), Score::default()];
    // The first round gets the memory that the others use again.
    for round in (0..=ROUNDS).rev() {
        let rounds =
            [stampede(&ours, round).await, stampede(&moka, round).await, stampede(&cells, round).await];
        if round < ROUNDS {
            scores.iter_mut().zip(rounds).for_each(|(score, round)| score.add(round));
        }
    }
    let [ours, moka, cells] = scores;
    let lines = [
        ours.line(<Cache<u64, u32> as Shared>::NAME),
        moka.line(<moka::future::Cache<u64, u32> as Shared>::NAME),
        cells.line(<Cells as Shared>::NAME),
    ];
    lines.join("\n")
}

/// One round.
#[derive(Debug)]
struct Round {
    loads: u32,
    ran: Option<(Instant, Instant)>,
    /// When each caller took its first step, and when it had its answer.
    callers: Vec<(Instant, Instant)>,
}

async fn stampede<C: Shared>(cache: &C, key: u64) -> Round {
    let loads = Arc::new(Loads::default());
    let call = |_| {
        let (cache, loads) = (cache.clone(), Arc::clone(&loads));
        tokio::spawn(async move {
            let begun = time::now();
            let answered = cache.get(key, loads).await;
            answered.then(|| (begun, time::now()))
        })
    };
    let tasks: Vec<_> = (0..CALLERS).map(call).collect();
    let mut callers = Vec::with_capacity(CALLERS);
    for task in tasks {
        callers.extend(task.await.ok().flatten());
    }
    let ran = *loads.ran.lock().unwrap_or_else(PoisonError::into_inner);
    Round { loads: loads.count.load(Ordering::Relaxed), ran, callers }
}

/// All rounds of one contestant, in milliseconds.
#[derive(Debug, Default)]
struct Score {
    loads: u32,
    loaders: Vec<f64>,
    /// From the first caller's first step until the loader began.
    starts: Vec<f64>,
    waits: Vec<f64>,
    /// From the loader's end.
    wakes: Vec<f64>,
    /// The 99th percentile of each round's.
    late: Vec<f64>,
}

impl Score {
    fn add(&mut self, round: Round) {
        let millis = |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f64() * 1e3;
        self.loads += round.loads;
        let (Some((begun, ended)), Some(first)) = (round.ran, round.callers.iter().map(|call| call.0).min())
        else {
            return;
        };
        self.loaders.push(millis(begun, ended));
        self.starts.push(millis(first, begun));
        self.waits.extend(round.callers.iter().map(|&(from, to)| millis(from, to)));
        let mut wakes: Vec<_> = round.callers.iter().map(|&(_, to)| millis(ended, to)).collect();
        self.late.push(at(&mut wakes, 0.99));
        self.wakes.append(&mut wakes);
    }

    fn line(mut self, name: &str) -> String {
        format!(
            "stampede.{name} rounds={ROUNDS} callers={CALLERS} answered={} loads_per_round={:.2} loader_ms={:.2} start_ms={:.2} p50_ms={:.2} p99_ms={:.2} max_ms={:.2} after_loader_p50_ms={:.2} after_loader_p99_ms={:.2} median_round_p99_ms={:.2}",
            self.waits.len(),
            f64::from(self.loads) / ROUNDS as f64,
            at(&mut self.loaders, 0.5),
            at(&mut self.starts, 0.5),
            at(&mut self.waits, 0.5),
            at(&mut self.waits, 0.99),
            at(&mut self.waits, 1.0),
            at(&mut self.wakes, 0.5),
            at(&mut self.wakes, 0.99),
            at(&mut self.late, 0.5),
        )
    }
}

fn at(values: &mut [f64], share: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get((values.len().saturating_sub(1) as f64 * share) as usize).copied().unwrap_or(f64::NAN)
}
