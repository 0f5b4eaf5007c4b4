use super::diagnosis::{Diagnosis, Examiner, diagnose};
use perf_core::time::{self, Duration, Instant};
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::JoinHandle;

/// Time between two rounds: long enough for the effect of the last change to show.
pub const DEFAULT_CYCLE: Duration = Duration::from_secs(30 * 60);

/// Records that are kept: three weeks of rounds.
pub const MAX_RECORDS: usize = 1_000;

/// A change a tuner would make.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Proposal {
    /// What would be changed: `pool.orders.max`.
    pub what: String,
    /// From which value.
    pub from: String,
    /// To which.
    pub to: String,
    /// Why.
    pub reason: String,
    /// What should become better, and by how much.
    pub expected: String,
}

/// Knows how to tune something: a pool's size, a cache's capacity. Registered by the host.
pub trait Tuner: Send + Sync {
    /// Its name in the records.
    fn name(&self) -> &str;

    /// What it would change, given what was found. Must not change anything, and must not block.
    fn propose(&self, diagnosis: &Diagnosis) -> Vec<Proposal>;

    /// Makes one of its changes. Only called when the host enabled it.
    ///
    /// # Errors
    /// A sentence that says why the change was not made.
    fn apply(&self, proposal: &Proposal) -> Result<(), String>;
}

/// What became of a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum TuningOutcome {
    /// The host did not enable changes.
    OnlyProposed,
    /// It was made.
    Applied,
    /// It was tried, and why it failed.
    Failed(String),
}

/// One line of the record.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct AuditRecord {
    /// The round, counted from 1.
    pub round: u64,
    /// The score of that round.
    pub score: Option<f64>,
    /// Who proposed.
    pub tuner: String,
    /// What.
    pub proposal: Proposal,
    /// What became of it.
    pub outcome: TuningOutcome,
}

/// Diagnoses, asks the tuners, and writes down what they said. It changes nothing unless the host
/// [enabled](CycleBuilder::enabled) it.
///
/// ```
/// let cycle = perf_metrics::Cycle::builder().build();
/// let diagnosis = cycle.run(perf_core::time::now());
/// assert!(diagnosis.findings.is_empty() && cycle.records().is_empty());
/// ```
#[derive(Clone)]
pub struct Cycle(Arc<Shared>);

struct Shared {
    examiners: Vec<Box<dyn Examiner>>,
    tuners: Vec<Box<dyn Tuner>>,
    enabled: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rounds: u64,
    records: VecDeque<AuditRecord>,
}

impl Cycle {
    /// Starts without examiners and tuners, and not enabled.
    pub fn builder() -> CycleBuilder {
        CycleBuilder::default()
    }

    /// Asks every examiner, without asking the tuners.
    #[must_use]
    pub fn diagnose(&self, now: Instant) -> Diagnosis {
        let examiners: Vec<&dyn Examiner> = self.0.examiners.iter().map(|examiner| &**examiner).collect();
        diagnose(&examiners, now)
    }

    /// One round.
    #[must_use = "the round's findings are what it is for; drop them to say that its record is enough"]
    pub fn run(&self, now: Instant) -> Diagnosis {
        let diagnosis = self.diagnose(now);
        let mut made = Vec::new();
        for tuner in &self.0.tuners {
            for proposal in tuner.propose(&diagnosis) {
                let outcome = match self.0.enabled.then(|| tuner.apply(&proposal)) {
                    None => TuningOutcome::OnlyProposed,
                    Some(Ok(())) => TuningOutcome::Applied,
                    Some(Err(why)) => TuningOutcome::Failed(why),
                };
                made.push((tuner.name().to_owned(), proposal, outcome));
            }
        }
        let mut state = self.state();
        state.rounds += 1;
        for (tuner, proposal, outcome) in made {
            if state.records.len() >= MAX_RECORDS {
                state.records.pop_front();
            }
            let round = state.rounds;
            state.records.push_back(AuditRecord { round, score: diagnosis.score, tuner, proposal, outcome });
        }
        diagnosis
    }

    /// What was proposed and done, oldest first; at most [`MAX_RECORDS`].
    #[must_use]
    pub fn records(&self) -> Vec<AuditRecord> {
        self.state().records.iter().cloned().collect()
    }

    /// Runs a round every `interval` on the present tokio runtime until the returned guard is dropped.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn(&self, interval: Duration) -> CycleTask {
        let cycle = self.clone();
        CycleTask(tokio::spawn(async move {
            loop {
                time::sleep(interval.max(Duration::from_secs(1))).await;
                drop(cycle.run(time::now()));
            }
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cycle").field("enabled", &self.0.enabled).finish_non_exhaustive()
    }
}

/// Runs rounds until it is dropped.
#[must_use = "dropping the guard stops the cycle"]
#[derive(Debug)]
pub struct CycleTask(JoinHandle<()>);

impl Drop for CycleTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Builds a [`Cycle`].
#[derive(Default)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct CycleBuilder {
    examiners: Vec<Box<dyn Examiner>>,
    tuners: Vec<Box<dyn Tuner>>,
    enabled: bool,
}

impl CycleBuilder {
    /// Adds a side to look at.
    pub fn examiner(mut self, examiner: impl Examiner + 'static) -> Self {
        self.examiners.push(Box::new(examiner));
        self
    }

    /// Adds somebody to ask.
    pub fn tuner(mut self, tuner: impl Tuner + 'static) -> Self {
        self.tuners.push(Box::new(tuner));
        self
    }

    /// Lets proposals be carried out. Off by default.
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }

    /// Builds it.
    #[must_use]
    pub fn build(self) -> Cycle {
        let Self { examiners, tuners, enabled } = self;
        Cycle(Arc::new(Shared { examiners, tuners, enabled, state: Mutex::default() }))
    }
}

impl fmt::Debug for CycleBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CycleBuilder").field("enabled", &self.enabled).finish_non_exhaustive()
    }
}
