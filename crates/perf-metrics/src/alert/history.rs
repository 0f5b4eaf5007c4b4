//! What a total was: fine steps for the last minutes, coarse ones for the last days, in bounded memory.

use super::memory::TotalMemory;
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

    /// What it holds, as ages in seconds at `now`.
    pub(crate) fn memory(&self, now: Instant) -> TotalMemory {
        let age = |(at, total): &(Instant, f64)| (now.saturating_duration_since(*at).as_secs_f64(), *total);
        let levels = self.levels.iter().map(|level| level.samples.iter().map(age).collect()).collect();
        TotalMemory { total: self.total, levels }
    }

    /// Goes on after a restart `downtime` ago: the total begins at zero again, its past stays. What cannot be (ages that
    /// do not fall, totals that do, numbers that are none) and what a level has no room for is left out.
    pub(crate) fn restore(&mut self, memory: &TotalMemory, downtime: Duration, now: Instant) {
        if !memory.total.is_finite() {
            return;
        }
        (self.raw, self.total) = (0.0, memory.total);
        for (level, samples) in self.levels.iter_mut().zip(&memory.levels) {
            level.samples.clear();
            for (age, total) in &samples[samples.len().saturating_sub(level.capacity)..] {
                let age = Duration::try_from_secs_f64(*age).ok().and_then(|age| age.checked_add(downtime));
                let at = age.and_then(|age| now.checked_sub(age));
                let after =
                    |(before, lower): &(Instant, f64)| at.is_some_and(|at| at > *before) && total >= lower;
                if let Some(at) = at
                    && *total <= memory.total
                    && level.samples.back().is_none_or(after)
                {
                    level.samples.push_back((at, *total));
                }
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
    fn a_past_survives_a_restart_and_what_cannot_be_is_left_out() {
        let (mut rings, start) = (Rings::new(SECOND * 60), time::now() + SECOND * 1_000);
        rings.push(5.0, start);
        rings.push(45.0, start + SECOND * 40);
        let memory = rings.memory(start + SECOND * 40);
        let mut after = Rings::new(SECOND * 60);
        after.restore(&memory, SECOND * 10, start + SECOND * 50);
        // The process counts from zero again.
        after.push(3.0, start + SECOND * 60);
        assert_eq!(after.increase(SECOND * 60, start + SECOND * 60), Some((43.0, SECOND * 60)));
        let broken = TotalMemory {
            total: 9.0,
            levels: vec![vec![(5.0, 1.0), (6.0, 2.0), (f64::NAN, 1.0), (3.0, 99.0), (2.0, 0.5), (1.0, 4.0)]],
        };
        let mut after = Rings::new(SECOND * 60);
        after.restore(&broken, Duration::ZERO, start);
        let kept: Vec<f64> = after.levels[0].samples.iter().map(|(_, total)| *total).collect();
        assert_eq!(kept, [1.0, 4.0]);
        after.restore(&TotalMemory { total: f64::NAN, levels: Vec::new() }, Duration::MAX, start);
        after.restore(&broken, Duration::MAX, start);
        assert!(after.levels[0].samples.is_empty());
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
