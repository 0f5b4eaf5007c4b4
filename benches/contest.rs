use perf_core::time::{self, Duration};

/// One contestant: runs the given number of operations.
type Work<'a> = Box<dyn FnMut(u64) + 'a>;

/// A comparison of several ways to do the same thing.
///
/// ```
/// use perfkit_benches::Contest;
/// use std::hint::black_box;
///
/// let medians = Contest::new("add")
///     .rounds(3)
///     .entry("ours", |n| (0..n).for_each(|i| { black_box(i + 1); }))
///     .entry("theirs", |n| (0..n).for_each(|i| { black_box(i + 2); }))
///     .run();
/// assert_eq!(medians.len(), 2);
/// ```
#[must_use = "a contest measures nothing until it is run"]
pub struct Contest<'a> {
    name: String,
    rounds: usize,
    round_time: Duration,
    entries: Vec<(String, Work<'a>)>,
}

impl<'a> Contest<'a> {
    /// Rounds each contestant runs unless said otherwise (or by the environment variable `PERF_BENCH_ROUNDS`).
    pub const DEFAULT_ROUNDS: usize = 31;

    /// A contest; the name says what is measured and, when it is not nanoseconds per operation, the unit.
    pub fn new(name: impl Into<String>) -> Self {
        let rounds = std::env::var("PERF_BENCH_ROUNDS").ok().and_then(|n| n.parse().ok());
        Self {
            name: name.into(),
            rounds: rounds.unwrap_or(Self::DEFAULT_ROUNDS),
            round_time: Duration::from_millis(8),
            entries: Vec::new(),
        }
    }

    /// How many rounds are run; the median of them is reported.
    pub fn rounds(mut self, rounds: usize) -> Self {
        self.rounds = rounds.max(1);
        self
    }

    /// How long one round of one contestant should take.
    pub fn round_time(mut self, time: Duration) -> Self {
        self.round_time = time;
        self
    }

    /// Adds a contestant; ours comes first. `work` runs as many operations as it is told.
    pub fn entry(mut self, name: impl Into<String>, work: impl FnMut(u64) + 'a) -> Self {
        self.entries.push((name.into(), Box::new(work)));
        self
    }

    /// Runs all rounds, prints the `ratio` line and returns each contestant's median in nanoseconds per operation.
    #[expect(clippy::must_use_candidate, reason = "most benchmarks are done once the line is printed")]
    #[expect(clippy::print_stdout, reason = "the table is what a benchmark is for")]
    pub fn run(mut self) -> Vec<(String, f64)> {
        let operations: Vec<u64> =
            self.entries.iter_mut().map(|(_, work)| calibrate(work, self.round_time)).collect();
        let mut samples = vec![Vec::with_capacity(self.rounds); self.entries.len()];
        for round in 0..self.rounds {
            for turn in 0..self.entries.len() {
                let index = (round + turn) % self.entries.len();
                let taken = timed(&mut self.entries[index].1, operations[index]);
                samples[index].push(taken.as_nanos() as f64 / operations[index] as f64);
            }
        }
        let medians: Vec<(String, f64)> = self
            .entries
            .iter()
            .zip(&mut samples)
            .map(|((name, _), taken)| (name.clone(), median(taken)))
            .collect();
        println!("{}", line(&self.name, &medians));
        medians
    }
}

/// The line that the tables are made from: figures, then the ratio of the first contestant to each other one.
fn line(name: &str, medians: &[(String, f64)]) -> String {
    let mut line = format!("ratio {name}");
    for (entry, median) in medians {
        line += &format!(" {entry}={}", rounded(*median));
    }
    if let Some(((ours, own), others)) = medians.split_first() {
        for (other, theirs) in others {
            line += &format!(" {ours}/{other}={:.2}", own / theirs);
        }
    }
    line
}

fn rounded(figure: f64) -> String {
    if figure < 100.0 { format!("{figure:.1}") } else { format!("{figure:.0}") }
}

fn timed(work: &mut Work<'_>, operations: u64) -> Duration {
    let start = time::now();
    work(operations);
    start.elapsed()
}

/// Doubles the number of operations until they take long enough to be timed well; this is also the warm-up.
fn calibrate(work: &mut Work<'_>, target: Duration) -> u64 {
    let mut operations = 1_u64;
    loop {
        let taken = timed(work, operations);
        if taken >= target / 2 || operations >= 1 << 40 {
            let scale = target.as_secs_f64() / taken.as_secs_f64().max(1e-9);
            return ((operations as f64 * scale) as u64).max(1);
        }
        operations *= 2;
    }
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}
