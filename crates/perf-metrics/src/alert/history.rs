//! What a total was: fine steps for the last minutes, coarse ones for the last days, in bounded memory.

use perf_core::time::{Duration, Instant};
use std::collections::VecDeque;

/// Step and number of samples of each level: 10 minutes of seconds, 2 hours of ten-second steps, 14 hours of minutes,
/// 3½ days of ten minutes.
const LEVELS: [(u64, usize); 4] = [(1, 610), (10, 730), (60, 850), (600, 510)];

/// The past of one total, at four resolutions. Resets of the total (a restart) are taken out, so it never goes down.
#[derive(Clone, Debug)]
pub struct Rings {
    levels: Vec<Level>,
    raw: f64,
    total: f64,
}

#[derive(Clone, Debug)]
struct Level {
    step: Duration,
    capacity: usize,
    samples: VecDeque<(Instant, f64)>,
}

impl Rings {
    /// A past of at least `span`; longer than 3½ days is cut to that.
    #[must_use]
    pub fn new(span: Duration) -> Self {
        let mut levels = Vec::new();
        for (seconds, capacity) in LEVELS {
            let step = Duration::from_secs(seconds);
            levels.push(Level { step, capacity, samples: VecDeque::new() });
            if step * (capacity as u32 - 10) >= span {
                break;
            }
        }
        Self { levels, raw: 0.0, total: 0.0 }
    }

    /// Takes in the total at `now`. One lower than the last is a restart: all of it is new.
    pub fn push(&mut self, raw: f64, now: Instant) {
        let first = self.levels.first().is_none_or(|level| level.samples.is_empty());
        if !first {
            self.total += if raw >= self.raw { raw - self.raw } else { raw };
        }
        self.raw = raw;
        for level in &mut self.levels {
            let due =
                level.samples.back().is_none_or(|(at, _)| now.saturating_duration_since(*at) >= level.step);
            if due {
                if level.samples.len() == level.capacity {
                    level.samples.pop_front();
                }
                level.samples.push_back((now, self.total));
            }
        }
    }

    /// The increase over the last `window`, and the time it really covers; `None` while the past is shorter than that.
    #[must_use]
    pub fn increase(&self, window: Duration, now: Instant) -> Option<(f64, Duration)> {
        let from = now.checked_sub(window)?;
        let covering =
            self.levels.iter().find(|level| level.samples.front().is_some_and(|(at, _)| *at <= from))?;
        let after = covering.samples.partition_point(|(at, _)| *at <= from);
        let (at, total) = covering.samples.get(after.checked_sub(1)?)?;
        Some((self.total - total, now.saturating_duration_since(*at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use perf_core::time;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_restart_is_not_a_decrease() {
        let (mut rings, start) = (Rings::new(SECOND * 60), time::now());
        for (second, raw) in [(0, 100.0), (10, 150.0), (20, 7.0), (30, 9.0)] {
            rings.push(raw, start + SECOND * second);
        }
        assert_eq!(rings.increase(SECOND * 30, start + SECOND * 30), Some((59.0, SECOND * 30)));
    }

    #[test]
    fn a_past_that_is_too_short_is_no_answer() {
        let (mut rings, start) = (Rings::new(SECOND * 60), time::now());
        rings.push(1.0, start);
        rings.push(2.0, start + SECOND * 10);
        assert_eq!(rings.increase(SECOND * 11, start + SECOND * 10), None);
    }

    #[test]
    fn three_days_are_kept_in_bounded_memory_within_a_step() {
        let (mut rings, start) = (Rings::new(SECOND * 259_200), time::now());
        let end = 300_000_u32;
        for second in (0..=end).step_by(5) {
            rings.push(f64::from(second), start + SECOND * second);
        }
        for window in [60_u32, 3_600, 21_600, 259_200] {
            let (increase, covered) = rings.increase(SECOND * window, start + SECOND * end).unwrap();
            assert!((increase - f64::from(window)).abs() <= 600.0 && increase == covered.as_secs_f64());
        }
        assert!(rings.levels.iter().map(|level| level.samples.len()).sum::<usize>() <= 2_700);
    }
}
