//! Whether something leaks: a trend in the lower envelope that does not level off, with its slope and the time it leaves.

mod trend;

use crate::math::median;
use perf_core::time::Duration;
use trend::{lower_envelope, mann_kendall, theil_sen};

/// Buckets a verdict needs: fewer cannot tell a trend from luck.
pub const MIN_BUCKETS: usize = 30;

/// How improbable a trend must be when nothing grows. Strict, because a false alarm costs more trust than a day's delay.
const SIGNIFICANCE: f64 = 0.0005;

/// How many standard errors the mean rise is above zero. Four in a thousand random walks that look like a leak to every
/// other test get so far; of leaks that the other tests see in 600 samples, hardly one in thirty does not.
const STEADINESS: f64 = 4.0;

/// The resource that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Resource {
    /// Bytes the allocator handed out.
    Heap,
    /// Bytes the process holds from the system.
    Resident,
    /// Open file descriptors.
    Descriptors,
    /// Tasks that are alive.
    Tasks,
    /// Things checked out of a pool.
    PoolInUse,
}

/// What a leak is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum LeakClass {
    /// The program keeps what it allocates.
    Heap,
    /// The allocator keeps what the program freed.
    Fragmentation,
    /// Files and sockets are not closed.
    Descriptors,
    /// Tasks do not end.
    Tasks,
    /// What is checked out is not given back.
    Pool,
}

/// A verdict on one resource.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Leak {
    /// The resource.
    pub resource: Resource,
    /// What it is made of.
    pub class: LeakClass,
    /// Growth per hour.
    pub slope: f64,
    /// The true slope is within these bounds nineteen times of twenty.
    pub bounds: (f64, f64),
    /// How probable such a trend is when nothing grows.
    pub p: f64,
    /// Time until the limit is reached, where there is one.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration::option"))]
    pub time_to_limit: Option<Duration>,
}

/// Looks for growth in equally spaced samples, oldest first, `step` apart, after the host's warm-up. `None` when there is
/// none, when it levels off as a filling cache does, or when there are too few samples to say.
///
/// Where load follows the time of day the samples should cover at least a day: half a wave is a rise.
///
/// The samples are cut into at least [`MIN_BUCKETS`] buckets and the smallest of each is looked at, which a sawtooth of
/// garbage or traffic does not move.
///
/// ```
/// use perf_metrics::{Resource, find_leak};
/// use std::time::Duration;
///
/// let growing: Vec<f64> = (0..600).map(|minute| 1e8 + 2e4 * f64::from(minute) + 1e6 * f64::from(minute % 7)).collect();
/// let leak = find_leak(Resource::Heap, &growing, Duration::from_secs(60), Some(2e8)).unwrap();
/// assert!((leak.slope - 1.2e6).abs() < 1e5);
/// ```
#[must_use]
pub fn find_leak(resource: Resource, samples: &[f64], step: Duration, limit: Option<f64>) -> Option<Leak> {
    let (envelope, per_bucket) = lower_envelope(samples);
    if envelope.len() < MIN_BUCKETS || step.is_zero() {
        return None;
    }
    // What costs least decides first: most of what does not leak ends here.
    if !goes_on(&envelope) || !is_steady(&envelope) || saturates(&envelope) {
        return None;
    }
    let p = mann_kendall(&envelope);
    let (slope, bounds) = theil_sen(&envelope);
    if p >= SIGNIFICANCE || bounds.0 <= 0.0 {
        return None;
    }
    let per_hour = 3_600.0 / (step.as_secs_f64() * per_bucket as f64);
    let (slope, bounds) = (slope * per_hour, (bounds.0 * per_hour, bounds.1 * per_hour));
    let left = limit.map(|limit| (limit - envelope[envelope.len() - 1]).max(0.0) / slope * 3_600.0);
    let time_to_limit = left.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let class = match resource {
        Resource::Heap => LeakClass::Heap,
        Resource::Resident => LeakClass::Fragmentation,
        Resource::Descriptors => LeakClass::Descriptors,
        Resource::Tasks => LeakClass::Tasks,
        Resource::PoolInUse => LeakClass::Pool,
    };
    Some(Leak { resource, class, slope, bounds, p, time_to_limit })
}

/// The verdict on memory from both sides: what the allocator handed out, and what the process holds. Growth of both is
/// a heap leak; growth of what is held alone is fragmentation.
#[must_use]
pub fn find_memory_leak(
    allocated: &[f64],
    resident: &[f64],
    step: Duration,
    limit: Option<f64>,
) -> Option<Leak> {
    let held = find_leak(Resource::Resident, resident, step, limit);
    match (find_leak(Resource::Heap, allocated, step, limit), held) {
        (Some(heap), held) => {
            Some(Leak { time_to_limit: held.and_then(|h| h.time_to_limit).or(heap.time_to_limit), ..heap })
        }
        (None, held) => held,
    }
}

/// A cache fills and then stands still; a leak goes on. The last third must grow at least
/// 0.6 times as much as the others.
fn saturates(envelope: &[f64]) -> bool {
    let third = envelope.len() / 3;
    let slope = |part: &[f64]| theil_sen(part).0;
    let parts = [&envelope[..third], &envelope[third..2 * third], &envelope[2 * third..]].map(slope);
    let half = envelope.len() / 2;
    let (first, last) = (slope(&envelope[..half]), slope(&envelope[half..]));
    last < 0.5 * first || parts.iter().any(|slope| *slope <= 0.0) || parts[2] < 0.6 * parts[0].max(parts[1])
}

/// A leak is everywhere: each sixth of the time adds something, and none adds half of it. A few steps, or a wander that
/// happens to end high, do not grow so.
fn goes_on(envelope: &[f64]) -> bool {
    const PARTS: usize = 6;
    let size = envelope.len() / PARTS;
    let levels: Vec<f64> =
        envelope.chunks_exact(size).take(PARTS).map(|part| median(&mut part.to_vec())).collect();
    let total = levels[PARTS - 1] - levels[0];
    levels.windows(2).map(|pair| pair[1] - pair[0]).all(|rise| rise > 0.05 * total && rise < 0.5 * total)
}

/// A leak has one speed, a random walk has none: its steps go up by chance and differ as much as they are large. The rises
/// between tenths of the time must be so alike that their mean is [`STEADINESS`] standard errors above zero.
///
/// Mann–Kendall cannot tell the two apart, because a walk is correlated over its whole length, beyond any lag that the
/// correction for correlation sees.
fn is_steady(envelope: &[f64]) -> bool {
    const PARTS: usize = 10;
    let size = envelope.len();
    let level = |part: usize| {
        let part = &envelope[part * size / PARTS..(part + 1) * size / PARTS];
        part.iter().sum::<f64>() / part.len() as f64
    };
    let levels: Vec<f64> = (0..PARTS).map(level).collect();
    let rises: Vec<f64> = levels.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let count = rises.len() as f64;
    let mean = rises.iter().sum::<f64>() / count;
    let variance = rises.iter().map(|rise| (rise - mean).powi(2)).sum::<f64>() / (count - 1.0);
    mean > STEADINESS * (variance / count).sqrt()
}

#[cfg(test)]
mod tests;
