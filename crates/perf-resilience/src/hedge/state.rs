//! How long calls take, learnt without bias from calls that were cut short.
//!
//! A hedge that wins cuts the first call short. Leaving those calls out would make the slow ones disappear from the
//! statistics, the quantile would sink, and ever more calls would be hedged. They are *censored* observations: all that
//! is known is that they took longer. The Kaplan–Meier estimate takes exactly that into account.

use perf_core::time::Duration;

/// Buckets per doubling: quantiles are at most 9 % too high.
const PER_OCTAVE: u32 = 8;
/// The first bucket ends at a microsecond, the last at half an hour.
const BUCKETS: usize = 250;
/// Counts are halved at this total, so that the estimate follows changes.
const LIMIT: u32 = 4096;

#[derive(Clone, Debug)]
pub(super) struct Durations {
    ended: [u32; BUCKETS],
    cut_short: [u32; BUCKETS],
    total: u32,
}

impl Durations {
    pub(super) const fn new() -> Self {
        Self { ended: [0; BUCKETS], cut_short: [0; BUCKETS], total: 0 }
    }

    pub(super) fn record(&mut self, took: Duration, ended: bool) {
        let counts = if ended { &mut self.ended } else { &mut self.cut_short };
        counts[bucket(took)] += 1;
        self.total += 1;
        if self.total >= LIMIT {
            self.halve();
        }
    }

    pub(super) const fn total(&self) -> u32 {
        self.total
    }

    fn halve(&mut self) {
        self.total = 0;
        for count in self.ended.iter_mut().chain(&mut self.cut_short) {
            *count /= 2;
            self.total += *count;
        }
    }

    /// The time that this share of calls does not exceed; the longest seen if so many were cut short that it is unknown.
    pub(super) fn quantile(&self, share: f64) -> Option<Duration> {
        let mut at_risk = f64::from(self.total);
        let mut lasting = 1.0;
        let mut longest = None;
        for (index, (ended, cut)) in self.ended.iter().zip(&self.cut_short).enumerate() {
            if *ended + *cut == 0 {
                continue;
            }
            longest = Some(upper(index));
            lasting *= 1.0 - f64::from(*ended) / at_risk;
            at_risk -= f64::from(*ended + *cut);
            if 1.0 - lasting >= share {
                return longest;
            }
        }
        longest
    }
}

fn bucket(took: Duration) -> usize {
    let micros = took.as_secs_f64() * 1e6;
    if micros <= 1.0 {
        return 0;
    }
    ((micros.log2() * f64::from(PER_OCTAVE)).ceil() as usize).min(BUCKETS - 1)
}

fn upper(bucket: usize) -> Duration {
    Duration::from_secs_f64(2.0_f64.powf(bucket as f64 / f64::from(PER_OCTAVE)) / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use perf_core::Rng;

    #[test]
    fn h04_cutting_slow_calls_short_does_not_lower_the_quantile() {
        let mut rng = Rng::seeded(5);
        let (mut all, mut hedged, mut survivors) = (Durations::new(), Durations::new(), Durations::new());
        for _ in 0..4000 {
            let took = Duration::from_secs_f64(rng.exponential(0.010));
            all.record(took, true);
            // A hedge after 20 ms always wins at once.
            let cut = Duration::from_millis(20);
            hedged.record(took.min(cut), took < cut);
            if took < cut {
                survivors.record(took, true);
            }
        }
        let p80 = |durations: &Durations| durations.quantile(0.8).unwrap().as_secs_f64();
        assert!((p80(&hedged) / p80(&all) - 1.0).abs() < 0.1, "{} {}", p80(&hedged), p80(&all));
        assert!(p80(&survivors) < 0.9 * p80(&all), "what leaving them out would do");
    }

    #[test]
    fn a_quantile_is_at_most_nine_percent_too_high() {
        let mut durations = Durations::new();
        for ms in 1..=1000 {
            durations.record(Duration::from_millis(ms), true);
        }
        let p90 = durations.quantile(0.9).unwrap().as_secs_f64();
        assert!((0.9..0.9 * 1.095).contains(&p90), "{p90}");
    }

    #[test]
    fn old_times_are_forgotten() {
        let mut durations = Durations::new();
        for _ in 0..4000 {
            durations.record(Duration::from_secs(1), true);
        }
        for _ in 0..20_000 {
            durations.record(Duration::from_millis(1), true);
        }
        assert!(durations.quantile(0.9).unwrap() < Duration::from_millis(2));
    }
}
