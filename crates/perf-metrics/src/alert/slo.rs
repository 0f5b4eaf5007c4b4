//! Service level objectives: multi-window, multi-burn-rate alerts.

use super::rule::{Condition, Rule, Severity};
use super::signal::{Measure, Signal};
use perf_core::time::Duration;

/// Bad events the long window must hold before a burn rate means anything.
pub const DEFAULT_MIN_BAD: u64 = 10;

const HOUR: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);

/// Long window, short window, share of the period's budget, severity: the table of the SRE workbook.
const WINDOWS: [(Duration, Duration, f64, Severity); 4] = [
    (HOUR, Duration::from_secs(300), 0.02, Severity::Page),
    (Duration::from_secs(6 * 3_600), Duration::from_secs(1_800), 0.05, Severity::Page),
    (Duration::from_secs(24 * 3_600), Duration::from_secs(2 * 3_600), 0.10, Severity::Ticket),
    (Duration::from_secs(72 * 3_600), Duration::from_secs(6 * 3_600), 0.10, Severity::Ticket),
];

/// An objective: of all events, at most a share of `1 − objective` may be bad over a period.
///
/// It becomes four alerts. Each asks whether the budget burns so fast that a given share of it would be gone within its
/// long window, and whether it still does in a short one, which resolves the alert soon after the trouble ends.
///
/// ```
/// use perf_metrics::{Severity, Slo};
///
/// let slo = Slo::new("Checkout", "shop_failures_total", "shop_requests_total").objective(0.999);
/// let rules = slo.rules();
/// assert_eq!(rules.len(), 4);
/// assert_eq!(rules[0].name(), "CheckoutBurns_1h");
/// ```
#[derive(Clone, Debug)]
#[must_use = "an objective is watched once it is added to an `AlertsBuilder`"]
pub struct Slo {
    name: String,
    bad: Signal,
    total: Signal,
    objective: f64,
    period: Duration,
    min_bad: u64,
}

/// The condition of one of the alerts.
#[derive(Clone, Debug)]
pub(crate) struct Burn {
    pub(crate) bad: Signal,
    pub(crate) total: Signal,
    pub(crate) objective: f64,
    pub(crate) long: Duration,
    pub(crate) short: Duration,
    pub(crate) factor: f64,
    pub(crate) min_bad: u64,
}

impl Burn {
    pub(crate) fn is_valid(&self) -> bool {
        self.objective > 0.0 && self.objective < 1.0 && self.factor.is_finite()
    }

    /// The same in Prometheus' language.
    pub(crate) fn promql(&self) -> String {
        let ratio = |window: Duration| {
            let seconds = window.as_secs();
            let (bad, total) = (self.bad.selector(""), self.total.selector(""));
            format!("sum(rate({bad}[{seconds}s])) / sum(rate({total}[{seconds}s]))")
        };
        let threshold = self.factor * (1.0 - self.objective);
        let events =
            format!("sum(increase({}[{}s])) >= {}", self.bad.selector(""), self.long.as_secs(), self.min_bad);
        format!(
            "({} > {threshold}) and ({} > {threshold}) and ({events})",
            ratio(self.long),
            ratio(self.short)
        )
    }
}

impl Slo {
    /// An objective of 99.9 % over 30 days, of two counters: the bad events and all events.
    pub fn new(name: impl Into<String>, bad: impl Into<String>, total: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            bad: Signal::rate(bad, MINUTE),
            total: Signal::rate(total, MINUTE),
            objective: 0.999,
            period: HOUR * 24 * 30,
            min_bad: DEFAULT_MIN_BAD,
        }
    }

    /// The share of good events, above 0 and below 1.
    pub fn objective(mut self, objective: f64) -> Self {
        self.objective = objective;
        self
    }

    /// The period of the budget.
    pub fn period(mut self, period: Duration) -> Self {
        self.period = period;
        self
    }

    /// Bad events the long window must hold; below that there is no verdict, because one failure of three is no trend.
    pub fn min_bad(mut self, min_bad: u64) -> Self {
        self.min_bad = min_bad;
        self
    }

    /// Only series that carry this label with this value.
    pub fn matching(mut self, label: &str, value: &str) -> Self {
        self.bad = self.bad.matching(label, value);
        self.total = self.total.matching(label, value);
        self
    }

    /// Its alerts.
    #[must_use]
    pub fn rules(&self) -> Vec<Rule> {
        WINDOWS
            .iter()
            .map(|(long, short, share, severity)| self.rule(*long, *short, *share, *severity))
            .collect()
    }

    fn rule(&self, long: Duration, short: Duration, share: f64, severity: Severity) -> Rule {
        let over = |signal: &Signal| Signal { measure: Measure::Rate(long), ..signal.clone() };
        // Thresholds are not constants: the share of the budget, times how much longer the period is than the window.
        let factor = share * self.period.as_secs_f64() / long.as_secs_f64();
        let burn = Burn {
            bad: over(&self.bad),
            total: over(&self.total),
            objective: self.objective,
            long,
            short,
            factor,
            min_bad: self.min_bad,
        };
        let name = format!("{}Burns_{}h", self.name, long.as_secs() / 3_600);
        let summary = format!("{} burns its error budget {factor:.1} times too fast", self.name);
        Rule::with_condition(name, Condition::Burn(burn))
            .severity(severity)
            .summary(summary)
            .label("slo", &self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factors_of_thirty_days_are_those_of_the_workbook() {
        let rules = Slo::new("x", "bad_total", "all_total").rules();
        let factors: Vec<f64> = rules
            .iter()
            .map(|rule| match &rule.condition {
                Condition::Burn(burn) => burn.factor,
                _ => f64::NAN,
            })
            .collect();
        for (factor, expected) in factors.iter().zip([14.4, 6.0, 3.0, 1.0]) {
            assert!((factor - expected).abs() < 1e-9);
        }
    }
}
