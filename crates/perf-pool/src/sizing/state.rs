use super::SizingConfig;
use super::guard::{Guard, Seen};
use perf_core::InvalidConfig;
use perf_core::time::{Duration, Instant};
use std::collections::VecDeque;
use std::fmt;

/// What the controller is shown at each observation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Leases given out so far.
    pub acquired: u64,
    /// How long leases were held, on average since the last observation.
    pub mean_hold: Duration,
    /// The 95th percentile of waits since the last observation, over all callers: zero if fewer than one in twenty waited.
    pub wait_p95: Duration,
    /// Connections allowed now.
    pub size: usize,
    /// Connections of these that nobody uses.
    pub idle: usize,
    /// Tasks so far that waited on a full pool while they held one of its connections.
    pub nested: u64,
}

/// Why a size is advised.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum SizingReason {
    /// Nothing has to change, or nothing is known yet.
    Steady,
    /// The load asks for more.
    Load,
    /// Callers wait for too long.
    Waits,
    /// Much has been idle for the whole window.
    Idle,
    /// More connections made leases longer and served nobody: the server is the bottleneck, whatever the load asks for.
    ServerIsTheBottleneck,
    /// Tasks that hold a connection wait for a second one: with enough of them a smaller pool stands still.
    NestedAcquires,
}

/// What the controller advises, and from which numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Advice {
    /// Connections the pool should allow.
    pub target: usize,
    /// Why.
    pub reason: SizingReason,
    /// The load at the 95th percentile of the window, in connections in use.
    pub load: f64,
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.reason {
            SizingReason::Steady => "the size fits",
            SizingReason::Load => "the load asks for more",
            SizingReason::Waits => "callers wait for too long",
            SizingReason::Idle => "much has been idle for the whole window",
            SizingReason::NestedAcquires => "tasks that hold a connection wait for a second one",
            SizingReason::ServerIsTheBottleneck => "more made leases longer and served nobody",
        };
        write!(f, "{} connections for a load of {:.1}: {why}", self.target, self.load)
    }
}

/// Decides sizes from samples. Pure: it takes `now`, keeps numbers and does nothing.
///
/// * The pool grows to *L + β√L* connections, or beyond it when callers wait for too long. Up to a size that has proved good
///   it does so at once, into the unknown by a sixth at a time: a load four times as high is met within ten observations.
/// * It shrinks by one at a time, when enough has been idle for a whole window in which it did not grow. With a window of
///   sixty observations the direction changes twice a minute at most, whatever the noise.
/// * A growth that made leases longer and served nobody more is taken back at the next observation. That size, the knee of
///   the server, is exceeded only by one connection for one observation, after a window, then two, up to sixteen.
#[derive(Clone, Debug)]
pub struct Controller {
    config: SizingConfig,
    last: Option<(Sample, Instant)>,
    loads: VecDeque<f64>,
    /// Observations in a row that saw much idle, and since the last growth.
    idle_for: usize,
    guard: Guard,
    /// The smallest size at which no task has been seen to wait for a second connection.
    floor: usize,
}

/// A pool of which so much is in use has nothing left to give.
const BUSY: f64 = 0.9;

impl Controller {
    /// A controller that knows nothing yet.
    ///
    /// # Errors
    /// As [`SizingConfig::validate`].
    pub fn new(config: SizingConfig) -> Result<Self, InvalidConfig> {
        config.validate()?;
        let guard = Guard::new(config.window);
        Ok(Self { config, last: None, loads: VecDeque::new(), idle_for: 0, guard, floor: 0 })
    }

    /// Takes in what was seen at `now`, about a second after the last time, and advises a size.
    pub fn observe(&mut self, sample: Sample, now: Instant) -> Advice {
        let Some((last, at)) = self.last.replace((sample, now)) else {
            self.guard.found(sample.size);
            return self.advise(sample.size, SizingReason::Steady, 0.0);
        };
        let elapsed = now.saturating_duration_since(at).as_secs_f64();
        if elapsed <= 0.0 {
            return self.advise(sample.size, SizingReason::Steady, self.load());
        }
        let leases = sample.acquired.saturating_sub(last.acquired) as f64;
        let (hold, rate) = (sample.mean_hold.as_secs_f64(), leases / elapsed);
        let load = rate * hold;
        let seen = Seen {
            size: sample.size,
            hold,
            rate,
            leases,
            full: sample.wait_p95 > self.config.wait_goal,
            busy: load > BUSY * sample.size as f64,
        };
        self.remember(load);
        self.idle_for = if self.is_idle(seen, load) { self.idle_for + 1 } else { 0 };
        if sample.nested > last.nested {
            self.floor = self.floor.max((sample.size + 1).min(self.config.max));
        }
        let (mut target, mut reason) = self.decide(seen, seen.busy || sample.idle == 0);
        if target < self.floor {
            (target, reason) = (self.floor, SizingReason::NestedAcquires);
        }
        self.advise(target, reason, self.load())
    }

    fn decide(&mut self, seen: Seen, none_idle: bool) -> (usize, SizingReason) {
        if self.guard.settles() {
            return (seen.size, SizingReason::ServerIsTheBottleneck);
        }
        if let Some(size) = self.guard.judge(seen) {
            // The load that was measured beyond the knee is the server's slowness, not anybody's demand.
            self.loads.clear();
            self.idle_for = 0;
            return (size, SizingReason::ServerIsTheBottleneck);
        }
        let load = self.load();
        let staffed = (load + self.config.beta * load.sqrt()).ceil() as usize;
        let (mut wanted, mut reason) = (staffed, SizingReason::Load);
        if seen.full && none_idle {
            let more = if seen.busy { self.guard.next(seen.size) } else { seen.size + 1 };
            if more > wanted {
                (wanted, reason) = (more, SizingReason::Waits);
            }
        }
        if wanted > seen.size {
            let Some(target) = self.guard.grow(seen, wanted) else {
                return (seen.size, SizingReason::ServerIsTheBottleneck);
            };
            self.idle_for = 0;
            return (target, reason);
        }
        // A tenth of slack keeps the noise of a steady load from moving the size to and fro.
        let slack = (seen.size / 10).max(1);
        if self.idle_for >= self.config.window && staffed + slack < seen.size {
            return (seen.size - 1, SizingReason::Idle);
        }
        (seen.size, SizingReason::Steady)
    }

    fn remember(&mut self, load: f64) {
        if self.loads.len() == self.config.window {
            self.loads.pop_front();
        }
        self.loads.push_back(load);
    }

    /// The 95th percentile of the loads in the window.
    fn load(&self) -> f64 {
        let mut sorted: Vec<f64> = self.loads.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() as f64 * 0.95).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
    }

    fn is_idle(&self, seen: Seen, load: f64) -> bool {
        let unused = 1.0 - load / seen.size.max(1) as f64;
        unused > self.config.idle_share && !seen.full
    }

    fn advise(&self, target: usize, reason: SizingReason, load: f64) -> Advice {
        Advice { target: target.clamp(self.config.min, self.config.max), reason, load }
    }
}
