//! Quantiles of response times when some are known only to be longer than something: Kaplan and Meier (1958).

use super::latencies::Latencies;

/// Response times, some of them right-censored: requests that timed out, were cut off or never sent took at least their age.
#[derive(Clone, Debug)]
pub(crate) struct Survival {
    /// Microseconds, and the share of all requests that finished by then; ascending, one entry per distinct time.
    finished: Vec<(u64, f64)>,
    largest: u64,
}

/// A quantile, or what is known of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Quantile {
    /// Microseconds.
    Known(f64),
    /// More than this many microseconds.
    Above(f64),
}

impl Survival {
    pub(crate) fn new(finished: &Latencies, censored: &Latencies) -> Self {
        let mut at_risk = finished.count() + censored.count();
        let largest = finished.recorded().chain(censored.recorded()).map(|(t, _)| t).max().unwrap_or(0);
        let mut censorings = censored.recorded().peekable();
        let (mut surviving, mut curve) = (1.0_f64, Vec::new());
        for (time, events) in finished.recorded() {
            // Requests censored before this time are no longer at risk; those censored at it still are.
            while let Some((_, gone)) = censorings.next_if(|(cut, _)| *cut < time) {
                at_risk -= gone;
            }
            surviving *= (at_risk - events) as f64 / at_risk as f64;
            at_risk -= events;
            curve.push((time, 1.0 - surviving));
        }
        Self { finished: curve, largest }
    }

    /// The smallest time by which the share `q` of all requests has finished.
    pub(crate) fn quantile(&self, q: f64) -> Quantile {
        // The product of many ratios is off by some units in the last place.
        let index = self.finished.partition_point(|(_, share)| *share < q - 1e-12);
        match self.finished.get(index) {
            Some((time, _)) => Quantile::Known(*time as f64),
            None => Quantile::Above(self.largest as f64),
        }
    }

    /// The largest quantile that is known.
    pub(crate) fn known_up_to(&self) -> f64 {
        self.finished.last().map_or(0.0, |(_, share)| *share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(micros: &[u64]) -> Latencies {
        let mut latencies = Latencies::new();
        micros.iter().for_each(|value| latencies.record_micros(*value, 1));
        latencies
    }

    // L4: the worked example of Kaplan and Meier's estimator: events at 1, 3, 4 and 6, censorings at 2 and 5.
    #[test]
    fn the_textbook_example_comes_out() {
        let survival = Survival::new(&of(&[1, 3, 4, 6]), &of(&[2, 5]));
        let shares: Vec<f64> = survival.finished.iter().map(|(_, share)| *share).collect();
        let expected = [1.0 - 5.0 / 6.0, 1.0 - 5.0 / 6.0 * 0.75, 1.0 - 5.0 / 6.0 * 0.75 * 2.0 / 3.0, 1.0];
        for (share, expected) in shares.iter().zip(expected) {
            assert!((share - expected).abs() < 1e-12, "{share} {expected}");
        }
        assert_eq!(survival.quantile(0.5), Quantile::Known(4.0));
        assert_eq!(survival.quantile(1.0), Quantile::Known(6.0));
    }

    #[test]
    fn a_quantile_beyond_the_last_answer_is_only_bounded() {
        // 98 answers of 5 ms and two timeouts of 10 s.
        let mut finished = Latencies::new();
        finished.record_micros(5_000, 98);
        let mut censored = Latencies::new();
        censored.record_micros(10_000_000, 2);
        let survival = Survival::new(&finished, &censored);
        assert!(matches!(survival.quantile(0.9), Quantile::Known(t) if (t - 5_000.0).abs() < 5.0));
        assert!(matches!(survival.quantile(0.99), Quantile::Above(t) if (t - 10_000_000.0).abs() < 10_000.0));
        assert!((survival.known_up_to() - 0.98).abs() < 1e-9);
    }

    #[test]
    fn nothing_recorded_means_nothing_known() {
        let survival = Survival::new(&Latencies::new(), &Latencies::new());
        assert_eq!(survival.quantile(0.5), Quantile::Above(0.0));
    }

    proptest! {
        #[test]
        fn without_censoring_it_is_the_histograms_own_quantile(
            micros in prop::collection::vec(1..100_000_u64, 1..200),
            q in 0.001..1.0_f64,
        ) {
            let finished = of(&micros);
            let Quantile::Known(time) = Survival::new(&finished, &Latencies::new()).quantile(q) else {
                return Err(TestCaseError::fail("every quantile is known"));
            };
            prop_assert!((time - finished.quantile_micros(q)).abs() <= time * 0.001 + 1.0);
        }

        #[test]
        fn censoring_never_flatters(
            micros in prop::collection::vec(1..100_000_u64, 1..100),
            cut in prop::collection::vec(1..100_000_u64, 1..100),
            q in 0.001..1.0_f64,
        ) {
            let value = |quantile| match quantile { Quantile::Known(t) => t, Quantile::Above(_) => f64::INFINITY };
            let plain = value(Survival::new(&of(&micros), &Latencies::new()).quantile(q));
            let honest = value(Survival::new(&of(&micros), &of(&cut)).quantile(q));
            prop_assert!(honest >= plain, "{honest} {plain}");
        }
    }
}
