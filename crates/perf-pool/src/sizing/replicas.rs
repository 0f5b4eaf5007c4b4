use crate::error::Cause;
use perf_core::time::{self, Duration, Instant};
use perf_core::{InvalidConfig, duration};
use std::collections::VecDeque;
use std::fmt;

/// What a configuration file can say about the number of replicas of a service. The defaults are the constants of this
/// type.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct ReplicaConfig {
    /// Never fewer. At least 1.
    pub min: usize,
    /// Never more.
    pub max: usize,
    /// The share of its processor time a replica should use. Above 0, to 1.
    pub cpu_goal: f64,
    /// The share of its memory a replica should use at most. Above 0, to 1.
    pub memory_goal: f64,
    /// Waiting requests per replica that are too many. Above 0.
    pub queue_goal: f64,
    /// How far a number may be off its goal, as a share of it, before anything is done. 0 to 0.5.
    pub tolerance: f64,
    /// At most this many times the replicas there are after one step up. Above 1.
    pub most_growth: f64,
    /// Time between two steps up.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub up_cooldown: Duration,
    /// Time between two steps down, each by one.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub down_cooldown: Duration,
    /// Replicas are given up only if fewer would have done for this long.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub stabilize: Duration,
}

impl ReplicaConfig {
    /// Room for a replica to be lost and a new one to start.
    pub const DEFAULT_CPU_GOAL: f64 = 0.6;
    /// Above it, the next peak meets the limit.
    pub const DEFAULT_MEMORY_GOAL: f64 = 0.8;
    /// What a replica works off before anybody notices.
    pub const DEFAULT_QUEUE_GOAL: f64 = 10.0;
    /// Kubernetes' number.
    pub const DEFAULT_TOLERANCE: f64 = 0.1;
    /// A doubling is the most that a cold cache and a database take.
    pub const DEFAULT_MOST_GROWTH: f64 = 2.0;
    /// About as long as a replica takes to start.
    pub const DEFAULT_UP_COOLDOWN: Duration = Duration::from_secs(30);
    /// Each step down is seen to have done no harm before the next.
    pub const DEFAULT_DOWN_COOLDOWN: Duration = Duration::from_secs(60);
    /// Kubernetes' number.
    pub const DEFAULT_STABILIZE: Duration = Duration::from_secs(300);

    /// Checks every field.
    ///
    /// # Errors
    /// [`InvalidConfig`] naming the first field that cannot be used.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        if self.min == 0 || self.min > self.max {
            return Err(InvalidConfig::new("min", self.min, format!("1 to max, {}", self.max)));
        }
        for (field, goal) in [("cpu_goal", self.cpu_goal), ("memory_goal", self.memory_goal)] {
            if !(goal > 0.0 && goal <= 1.0) {
                return Err(InvalidConfig::new(field, goal, "above 0, to 1"));
            }
        }
        if !(self.queue_goal > 0.0 && self.queue_goal.is_finite()) {
            return Err(InvalidConfig::new("queue_goal", self.queue_goal, "above 0"));
        }
        if !(0.0..=0.5).contains(&self.tolerance) {
            return Err(InvalidConfig::new("tolerance", self.tolerance, "0 to 0.5"));
        }
        if !(self.most_growth > 1.0 && self.most_growth <= 100.0) {
            return Err(InvalidConfig::new("most_growth", self.most_growth, "above 1, to 100"));
        }
        if self.stabilize > Duration::from_secs(86_400) {
            return Err(InvalidConfig::new("stabilize", duration::format(self.stabilize), "a day at most"));
        }
        Ok(())
    }
}

impl Default for ReplicaConfig {
    fn default() -> Self {
        Self {
            min: 1,
            max: 10,
            cpu_goal: Self::DEFAULT_CPU_GOAL,
            memory_goal: Self::DEFAULT_MEMORY_GOAL,
            queue_goal: Self::DEFAULT_QUEUE_GOAL,
            tolerance: Self::DEFAULT_TOLERANCE,
            most_growth: Self::DEFAULT_MOST_GROWTH,
            up_cooldown: Self::DEFAULT_UP_COOLDOWN,
            down_cooldown: Self::DEFAULT_DOWN_COOLDOWN,
            stabilize: Self::DEFAULT_STABILIZE,
        }
    }
}

/// What the controller is shown at each observation. What is not known is left out and decides nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReplicaSample {
    /// Replicas asked for.
    pub replicas: usize,
    /// Replicas of these that serve.
    pub ready: usize,
    /// The share of their processor time that the ready ones use, on average.
    pub cpu: Option<f64>,
    /// The share of their memory that they use, on average.
    pub memory: Option<f64>,
    /// Requests that wait, all together.
    pub queue: Option<f64>,
    /// The load expected by the time a new replica serves, as a multiple of the present one: 1.5 is half as much again.
    pub forecast: Option<f64>,
}

/// Why a number of replicas is advised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplicaReason {
    /// Nothing has to change, or nothing is known.
    Steady,
    /// Processors are busier than they should be.
    Cpu,
    /// Memory is fuller than it should be.
    Memory,
    /// Too many requests wait.
    Queue,
    /// More load is expected.
    Forecast,
    /// Fewer have been enough for long.
    Idle,
    /// The number was outside of its bounds.
    Bounds,
    /// Something should be done, and the last step is too recent.
    CoolingDown,
    /// Something should be done, and replicas are still starting.
    Starting,
}

/// What the controller advises, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplicaAdvice {
    /// Replicas there should be.
    pub target: usize,
    /// Why.
    pub reason: ReplicaReason,
}

impl fmt::Display for ReplicaAdvice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.reason {
            ReplicaReason::Steady => "the number fits",
            ReplicaReason::Cpu => "processors are busier than they should be",
            ReplicaReason::Memory => "memory is fuller than it should be",
            ReplicaReason::Queue => "too many requests wait",
            ReplicaReason::Forecast => "more load is expected",
            ReplicaReason::Idle => "fewer have been enough for long",
            ReplicaReason::Bounds => "the number was outside of its bounds",
            ReplicaReason::CoolingDown => "the last step is too recent",
            ReplicaReason::Starting => "replicas are still starting",
        };
        write!(f, "{} replicas: {why}", self.target)
    }
}

/// Decides on the number of replicas. Pure: it takes `now`, keeps numbers and does nothing.
///
/// Each number known is compared with its goal, as Kubernetes' autoscaler does, and the one that asks for most wins. Steps
/// up are taken at once, bounded and with a pause between them; steps down one by one, and only to what would have been
/// enough for the whole of `stabilize`.
#[derive(Clone, Debug)]
pub struct ReplicaController {
    config: ReplicaConfig,
    /// What was wanted lately, newest last.
    wanted: VecDeque<(Instant, usize)>,
    began: Option<Instant>,
    last_up: Option<Instant>,
    last_down: Option<Instant>,
}

impl ReplicaController {
    /// A controller that knows nothing yet.
    ///
    /// # Errors
    /// As [`ReplicaConfig::validate`].
    pub fn new(config: ReplicaConfig) -> Result<Self, InvalidConfig> {
        config.validate()?;
        Ok(Self { config, wanted: VecDeque::new(), began: None, last_up: None, last_down: None })
    }

    /// Takes in what was seen at `now` and advises a number.
    pub fn observe(&mut self, sample: ReplicaSample, now: Instant) -> ReplicaAdvice {
        let began = *self.began.get_or_insert(now);
        let have = sample.replicas;
        let bounded = have.clamp(self.config.min, self.config.max);
        if bounded != have {
            return ReplicaAdvice { target: bounded, reason: ReplicaReason::Bounds };
        }
        let Some((wanted, reason)) = self.wanted(sample) else { return steady(have) };
        let wanted = wanted.clamp(self.config.min, self.config.max);
        self.remember(wanted, now);
        if wanted > have {
            return self.up(sample, wanted, reason, now);
        }
        // The most that was wanted lately would still have to be served.
        let enough = self.wanted.iter().map(|(_, wanted)| *wanted).max().unwrap_or(have);
        let known_for = now.saturating_duration_since(began);
        if enough >= have || known_for < self.config.stabilize {
            return steady(have);
        }
        let rested = |last: Option<Instant>| {
            last.is_none_or(|at| now.saturating_duration_since(at) >= self.config.down_cooldown)
        };
        if !(rested(self.last_down) && rested(self.last_up)) {
            return ReplicaAdvice { target: have, reason: ReplicaReason::CoolingDown };
        }
        self.last_down = Some(now);
        ReplicaAdvice { target: have - 1, reason: ReplicaReason::Idle }
    }

    fn up(
        &mut self,
        sample: ReplicaSample,
        wanted: usize,
        reason: ReplicaReason,
        now: Instant,
    ) -> ReplicaAdvice {
        let have = sample.replicas;
        if self.last_up.is_some_and(|at| now.saturating_duration_since(at) < self.config.up_cooldown) {
            return ReplicaAdvice { target: have, reason: ReplicaReason::CoolingDown };
        }
        // What is starting may be all that is missing.
        if sample.ready < have && wanted <= have + (have - sample.ready) {
            return ReplicaAdvice { target: have, reason: ReplicaReason::Starting };
        }
        let most = ((have as f64 * self.config.most_growth) as usize).max(have + 1);
        self.last_up = Some(now);
        ReplicaAdvice { target: wanted.min(most), reason }
    }

    /// The number that would bring everything known to its goal, and what asks for it. None if nothing is known.
    fn wanted(&self, sample: ReplicaSample) -> Option<(usize, ReplicaReason)> {
        let config = &self.config;
        let serving = sample.ready.max(1) as f64;
        let growth = sample.forecast.filter(|forecast| forecast.is_finite()).unwrap_or(1.0).max(1.0);
        let per_replica = |queue: f64| queue / serving;
        let ratios = [
            (sample.cpu.map(|cpu| cpu / config.cpu_goal), ReplicaReason::Cpu),
            (sample.memory.map(|memory| memory / config.memory_goal), ReplicaReason::Memory),
            (sample.queue.map(|queue| per_replica(queue) / config.queue_goal), ReplicaReason::Queue),
            // What is expected is expected of the processors: memory and queues follow from other things.
            (
                sample.cpu.filter(|_| growth > 1.0).map(|cpu| cpu * growth / config.cpu_goal),
                ReplicaReason::Forecast,
            ),
        ];
        let number = |ratio: f64| {
            let near = (ratio - 1.0).abs() <= config.tolerance && sample.ready == sample.replicas;
            if near { sample.replicas } else { (serving * ratio - 1e-9).ceil().max(1.0) as usize }
        };
        ratios
            .into_iter()
            .filter_map(|(ratio, reason)| {
                Some((ratio.filter(|ratio| ratio.is_finite() && *ratio >= 0.0)?, reason))
            })
            .map(|(ratio, reason)| (number(ratio), reason))
            // The first of equals: what is, before what is expected.
            .fold(None, |best: Option<(usize, ReplicaReason)>, next| match best {
                Some(best) if best.0 >= next.0 => Some(best),
                _ => Some(next),
            })
    }

    fn remember(&mut self, wanted: usize, now: Instant) {
        self.wanted.push_back((now, wanted));
        let keep = self.config.stabilize;
        while self.wanted.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > keep) {
            self.wanted.pop_front();
        }
        // Observed more often than anybody needs: what is dropped is the oldest.
        if self.wanted.len() > MOST_REMEMBERED {
            self.wanted.pop_front();
        }
    }
}

/// A day at one observation every ten seconds.
const MOST_REMEMBERED: usize = 8_640;

const fn steady(target: usize) -> ReplicaAdvice {
    ReplicaAdvice { target, reason: ReplicaReason::Steady }
}

/// Whoever can change the number of replicas: an orchestrator, usually.
#[async_trait::async_trait]
pub trait ScaleTarget: Send + Sync + 'static {
    /// How many replicas are asked for now.
    async fn replicas(&self) -> Result<usize, Cause>;

    /// Asks for another number.
    async fn scale(&self, replicas: usize) -> Result<(), Cause>;
}

const _: Option<&dyn ScaleTarget> = None;

/// What a step of [`autoscale`] came to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ReplicaEvent {
    /// This is advised, and has been asked for if that was the mode.
    Advised(ReplicaAdvice),
    /// The target could not be asked or told; it is tried again at the next step.
    Failed(Cause),
}

/// Observes a service every `interval` and scales it, or only tells, until it is dropped. `measure` is given the number of
/// replicas asked for and fills in what it knows. Each call to the target is bounded by `interval`.
///
/// # Cancel safety
/// The number of replicas stays as it is.
pub async fn autoscale(
    target: &dyn ScaleTarget,
    mut controller: ReplicaController,
    mode: super::SizingMode,
    interval: Duration,
    mut measure: impl FnMut(usize) -> ReplicaSample + Send,
    mut told: impl FnMut(&ReplicaEvent) + Send,
) {
    loop {
        time::sleep(interval).await;
        let event = match bounded(interval, target.replicas()).await {
            Err(cause) => ReplicaEvent::Failed(cause),
            Ok(replicas) => {
                let sample = ReplicaSample { replicas, ..measure(replicas) };
                let advice = controller.observe(sample, time::now());
                let scaled = match mode {
                    super::SizingMode::Act if advice.target != replicas => {
                        bounded(interval, target.scale(advice.target)).await
                    }
                    _ => Ok(()),
                };
                scaled.map_or_else(ReplicaEvent::Failed, |()| ReplicaEvent::Advised(advice))
            }
        };
        told(&event);
    }
}

async fn bounded<T>(limit: Duration, call: impl Future<Output = Result<T, Cause>>) -> Result<T, Cause> {
    time::timeout(limit, call).await.unwrap_or_else(|_| Err(Cause::new(time::Elapsed)))
}
