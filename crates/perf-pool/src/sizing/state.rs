use super::SizingConfig;
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
    /// The 95th percentile of waits since the last observation; zero if nobody waited.
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
    /// The last growth made leases longer and served nobody: the server is the bottleneck.
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
            SizingReason::ServerIsTheBottleneck => "the last growth made leases longer and served nobody",
        };
        write!(f, "{} connections for a load of {:.1}: {why}", self.target, self.load)
    }
}

/// The state before the last growth, until it is judged.
#[derive(Clone, Copy, Debug)]
struct Growth {
    from: usize,
    hold: Duration,
    rate: f64,
}

/// Decides sizes from samples. Pure: it takes `now`, keeps numbers and does nothing.
#[derive(Clone, Debug)]
pub struct Controller {
    config: SizingConfig,
    last: Option<(Sample, Instant)>,
    loads: VecDeque<f64>,
    idle_for: usize,
    growth: Option<Growth>,
    /// The smallest size at which no task has been seen to wait for a second connection.
    floor: usize,
    /// The size beyond which the server gets slower, and for how many observations that is believed.
    knee: Option<(usize, usize)>,
}

/// Holds this much longer after a growth…
const LONGER: f64 = 1.2;
/// …with a throughput not even this much higher mean that the server is the bottleneck.
const GAIN: f64 = 1.05;

impl Controller {
    /// A controller that knows nothing yet.
    ///
    /// # Errors
    /// As [`SizingConfig::validate`].
    pub fn new(config: SizingConfig) -> Result<Self, InvalidConfig> {
        config.validate()?;
        Ok(Self {
            config,
            last: None,
            loads: VecDeque::new(),
            idle_for: 0,
            growth: None,
            floor: 0,
            knee: None,
        })
    }

    /// Takes in what was seen at `now`, about a second after the last time, and advises a size.
    pub fn observe(&mut self, sample: Sample, now: Instant) -> Advice {
        let Some((last, at)) = self.last.replace((sample, now)) else {
            return self.advise(sample.size, SizingReason::Steady, 0.0);
        };
        let elapsed = now.saturating_duration_since(at).as_secs_f64();
        if elapsed <= 0.0 {
            return self.advise(sample.size, SizingReason::Steady, self.load());
        }
        let rate = sample.acquired.saturating_sub(last.acquired) as f64 / elapsed;
        self.remember(rate * sample.mean_hold.as_secs_f64());
        self.idle_for = if self.is_idle(sample) { self.idle_for + 1 } else { 0 };
        if sample.nested > last.nested {
            self.floor = self.floor.max((sample.size + 1).min(self.config.max));
        }
        let (mut target, mut reason) = self.decide(sample, rate);
        if target < self.floor {
            (target, reason) = (self.floor, SizingReason::NestedAcquires);
        }
        if target > sample.size && self.growth.is_none() {
            self.growth = Some(Growth { from: sample.size, hold: sample.mean_hold, rate });
        }
        self.advise(target, reason, self.load())
    }

    fn decide(&mut self, sample: Sample, rate: f64) -> (usize, SizingReason) {
        if let Some(size) = self.judge(sample, rate) {
            return (size, SizingReason::ServerIsTheBottleneck);
        }
        let load = self.load();
        let wanted = (load + self.config.beta * load.sqrt()).ceil() as usize;
        if wanted > sample.size {
            return (wanted, SizingReason::Load);
        }
        if sample.wait_p95 > self.config.wait_goal && sample.idle == 0 {
            return (sample.size + (sample.size / 4).max(1), SizingReason::Waits);
        }
        // A tenth of slack keeps the noise of a steady load from moving the size to and fro.
        let slack = (sample.size / 10).max(1);
        if self.idle_for >= self.config.window && wanted + slack < sample.size {
            return (sample.size - 1, SizingReason::Idle);
        }
        (sample.size, SizingReason::Steady)
    }

    /// Looks back at the last growth. Returns the size to go back to if it did harm.
    fn judge(&mut self, sample: Sample, rate: f64) -> Option<usize> {
        if let Some((_, believed)) = &mut self.knee {
            *believed -= 1;
        }
        self.knee = self.knee.filter(|(_, believed)| *believed > 0);
        // Judged at the next observation: a pool that went on growing meanwhile would hide the harm behind sheer number.
        let Growth { from, hold, rate: before } = self.growth.take()?;
        let slower = sample.mean_hold.as_secs_f64() > hold.as_secs_f64() * LONGER;
        if !(slower && rate < before * GAIN) {
            return None;
        }
        self.knee = Some((from, self.config.window));
        // The load that was measured beyond the knee is the server's slowness, not anybody's demand.
        self.loads.clear();
        Some(from)
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

    fn is_idle(&self, sample: Sample) -> bool {
        let latest = self.loads.back().copied().unwrap_or(0.0);
        let unused = 1.0 - latest / sample.size.max(1) as f64;
        unused > self.config.idle_share && sample.wait_p95 <= self.config.wait_goal
    }

    fn advise(&self, target: usize, reason: SizingReason, load: f64) -> Advice {
        let most = self.knee.map_or(self.config.max, |(size, _)| size.min(self.config.max));
        Advice { target: target.clamp(self.config.min.min(most), most), reason, load }
    }
}
