use super::LatencyReport;
use crate::failure::ErrorKind;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A lag above this share of the median response distorts what it measures.
const MAX_LAG_SHARE: f64 = 0.05;

/// A lag above this is felt in every latency.
const MAX_LAG_MS: f64 = 1.0;

/// A thread this busy can no longer read the clock on time.
const MAX_CPU: f64 = 0.8;

/// Less than this share of the plan achieved, without errors of the target, means that the generator was too slow.
const MIN_ACHIEVED: f64 = 0.99;

/// More of the generator's own errors than this share make a run worthless.
const MAX_GENERATOR_ERRORS: f64 = 0.001;

/// Whether a run can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// The generator disturbed nothing.
    Valid,
    /// The generator may have added to what it measured.
    Suspect,
    /// The numbers say more about the generator than about the target.
    Invalid,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Valid => "VALID",
            Self::Suspect => "SUSPECT",
            Self::Invalid => "INVALID",
        })
    }
}

/// How far the generator itself can be trusted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GeneratorHealth {
    /// The verdict on the whole run.
    pub verdict: Verdict,
    /// Why it is not [`Verdict::Valid`].
    pub reasons: Vec<String>,
    /// How late requests were taken up by the generator's own fault.
    pub lag: LatencyReport,
    /// How late a timer fired on the generator's threads, 50 times a second.
    pub canary: LatencyReport,
    /// The busiest generator thread's share of a core; `None` on the caller's runtime.
    pub cpu: Option<f64>,
    /// Requests sent, as a share of those planned.
    pub achieved: f64,
    /// How often a request had to wait, or was dropped, because the most requests allowed were in flight.
    pub saturated: u64,
}

/// What the verdict is made from.
pub(super) struct Evidence<'a> {
    pub(super) open: bool,
    pub(super) lag: LatencyReport,
    pub(super) canary: LatencyReport,
    pub(super) cpu: Option<f64>,
    pub(super) planned: u64,
    pub(super) sent: u64,
    pub(super) saturated: u64,
    pub(super) response_p50_ms: f64,
    pub(super) errors: &'a [(ErrorKind, u64)],
}

impl Evidence<'_> {
    fn share(&self, count: u64) -> f64 {
        if self.planned == 0 { 0.0 } else { count as f64 / self.planned as f64 }
    }

    /// Faults of the target that explain requests never sent.
    fn target_errors(&self) -> u64 {
        let target = |kind: ErrorKind| !kind.is_generator() && kind != ErrorKind::Cancelled;
        self.errors.iter().filter(|(kind, _)| target(*kind)).map(|(_, count)| count).sum()
    }

    pub(super) fn judge(self) -> GeneratorHealth {
        let mut reasons = Vec::new();
        let mut verdict = Verdict::Valid;
        let mut blame = |found: Verdict, why: String| {
            verdict = verdict.max(found);
            reasons.push(why);
        };
        let achieved = if self.planned == 0 { 1.0 } else { self.share(self.sent) };
        let own: u64 = self.errors.iter().filter(|(kind, _)| kind.is_generator()).map(|(_, n)| n).sum();
        if self.share(own) > MAX_GENERATOR_ERRORS {
            blame(Verdict::Invalid, format!("{own} requests failed by the generator's own fault"));
        }
        if self.open && achieved < MIN_ACHIEVED && self.target_errors() == 0 {
            blame(
                Verdict::Invalid,
                format!("only {:.1} % of the planned requests were sent", achieved * 100.0),
            );
        }
        if self.planned == 0 {
            blame(Verdict::Invalid, "no request was measured".to_owned());
        }
        if self.open && self.saturated > 0 {
            blame(
                Verdict::Suspect,
                format!("saturated: {} requests found no free connection", self.saturated),
            );
        }
        let lag = self.lag.p99_ms;
        let small = MAX_LAG_MS.min(MAX_LAG_SHARE * self.response_p50_ms);
        if self.open && lag > small.max(NOTICEABLE_MS) {
            blame(Verdict::Suspect, format!("1 % of the requests left {lag:.2} ms late or more"));
        }
        if !self.open && self.canary.p99_ms > MAX_LAG_MS.max(MAX_LAG_SHARE * self.response_p50_ms) {
            blame(
                Verdict::Suspect,
                format!("timers of the generator fired {:.2} ms late", self.canary.p99_ms),
            );
        }
        if let Some(cpu) = self.cpu.filter(|cpu| *cpu > MAX_CPU) {
            blame(Verdict::Suspect, format!("a generator thread was busy {:.0} % of the time", cpu * 100.0));
        }
        let Self { lag, canary, cpu, saturated, .. } = self;
        GeneratorHealth { verdict, reasons, lag, canary, cpu, achieved, saturated }
    }
}

/// A lag below this is the resolution of the machine's timers and of the histogram, whatever the target's speed.
const NOTICEABLE_MS: f64 = 0.1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Latencies;
    use perf_core::time::Duration;

    fn all(millis: f64) -> LatencyReport {
        let mut latencies = Latencies::new();
        (0..1_000).for_each(|_| latencies.record(Duration::from_secs_f64(millis / 1e3)));
        LatencyReport::new(&latencies, &Latencies::new())
    }

    fn healthy() -> Evidence<'static> {
        Evidence {
            open: true,
            lag: all(0.05),
            canary: all(0.05),
            cpu: Some(0.3),
            planned: 10_000,
            sent: 10_000,
            saturated: 0,
            response_p50_ms: 5.0,
            errors: &[],
        }
    }

    // L12: the verdict and its reasons.
    #[test]
    fn a_generator_on_time_is_valid() {
        let health = healthy().judge();
        assert_eq!((health.verdict, health.reasons.len()), (Verdict::Valid, 0));
    }

    #[test]
    fn a_late_or_busy_generator_is_suspect() {
        let verdict = |evidence: Evidence<'_>| evidence.judge().verdict;
        assert_eq!(verdict(Evidence { lag: all(1.2), ..healthy() }), Verdict::Suspect);
        assert_eq!(verdict(Evidence { lag: all(0.3), ..healthy() }), Verdict::Suspect);
        assert_eq!(verdict(Evidence { lag: all(0.3), response_p50_ms: 50.0, ..healthy() }), Verdict::Valid);
        assert_eq!(verdict(Evidence { cpu: Some(0.85), ..healthy() }), Verdict::Suspect);
        assert_eq!(verdict(Evidence { saturated: 1, ..healthy() }), Verdict::Suspect);
        assert_eq!(verdict(Evidence { open: false, canary: all(3.0), ..healthy() }), Verdict::Suspect);
        assert_eq!(verdict(Evidence { open: false, lag: all(3.0), ..healthy() }), Verdict::Valid);
    }

    #[test]
    fn a_generator_that_did_not_send_its_plan_is_invalid() {
        let verdict = |evidence: Evidence<'_>| evidence.judge().verdict;
        assert_eq!(verdict(Evidence { sent: 9_800, ..healthy() }), Verdict::Invalid);
        assert_eq!(verdict(Evidence { planned: 0, sent: 0, ..healthy() }), Verdict::Invalid);
        let refused = [(ErrorKind::ConnectRefused, 300)];
        assert_eq!(verdict(Evidence { sent: 9_700, errors: &refused, ..healthy() }), Verdict::Valid);
        let own = [(ErrorKind::GeneratorPorts, 11)];
        assert_eq!(verdict(Evidence { errors: &own, ..healthy() }), Verdict::Invalid);
        let few = [(ErrorKind::GeneratorPorts, 10)];
        assert_eq!(verdict(Evidence { errors: &few, ..healthy() }), Verdict::Valid);
    }
}
