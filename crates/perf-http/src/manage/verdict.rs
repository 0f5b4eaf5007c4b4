//! One sentence that says how the host is: what someone reads who was woken at three in the morning.

use super::overview::ComponentLine;
use super::reading::{Interval, Reading};
use crate::wallclock;
use perf_core::Status;
use perf_metrics::{Lifecycle, Report};
use serde::Serialize;

/// Share of failed requests from which the host counts as down.
const FAILING: f64 = 0.25;

/// Share of failed requests from which it counts as degraded: 1 %, ten times a usual budget.
const UNRELIABLE: f64 = 0.01;

/// Fewest requests of which a share means something.
const ENOUGH: u64 = 20;

/// Fullness from which something has no room left.
const FULL: f64 = 0.95;

/// How the host is, since when, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Verdict {
    pub(super) state: Status,
    pub(super) sentence: String,
    /// Milliseconds since 1970.
    pub(super) since: u64,
}

impl Verdict {
    pub(super) fn unknown() -> Self {
        Self {
            state: Status::Unknown,
            sentence: "Nothing is known yet.".into(),
            since: wallclock::unix_millis(),
        }
    }

    /// What is found now, with the time from which the state has been the same.
    pub(super) fn followed_by(self, (state, sentence): (Status, String)) -> Self {
        let since = if self.state == state { self.since } else { wallclock::unix_millis() };
        Self { state, sentence, since }
    }
}

impl Default for Verdict {
    fn default() -> Self {
        Self::unknown()
    }
}

/// Finds the worst that can be said, the cause before its effects.
pub(super) fn judge(
    window: &Interval,
    latest: &Reading,
    readiness: Option<&Report>,
    components: &[ComponentLine],
) -> (Status, String) {
    let mut found: Vec<(Status, String)> = Vec::new();
    if let Some(report) = readiness {
        match report.lifecycle {
            Lifecycle::Starting => return (Status::Unknown, "The service is starting.".into()),
            Lifecycle::Draining => {
                return (Status::Degraded, "The service is draining: it finishes what it has.".into());
            }
            Lifecycle::Stopped => return (Status::Down, "The service has stopped.".into()),
            Lifecycle::Ready => {}
        }
        if report.status != Status::Up {
            let state = if report.is_ok() { Status::Degraded } else { Status::Down };
            found.push((state, format!("A health check says: {}.", report.reason)));
        }
    }
    for component in components.iter().filter(|component| component.status != Status::Up) {
        let ComponentLine { kind, name, status, reason } = component;
        let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        // A part that is down leaves a host that still answers degraded.
        found.push((
            Status::Degraded.max((*status).min(Status::Degraded)),
            format!("{kind} “{name}” is {}{why}.", status.as_str()),
        ));
    }
    if let Some(ratio) = window.error_ratio().filter(|_| window.requests >= ENOUGH) {
        let sentence = format!("{} of requests fail.", percent(ratio));
        if ratio >= FAILING {
            found.push((Status::Down, sentence));
        } else if ratio >= UNRELIABLE {
            found.push((Status::Degraded, sentence));
        }
    }
    if let Some(fullest) = latest.fullest.as_ref().filter(|fullest| fullest.ratio >= FULL) {
        found.push((Status::Degraded, format!("{} is {} full.", fullest.what, percent(fullest.ratio))));
    }
    summed_up(found).unwrap_or_else(|| (Status::Up, all_is_well(window)))
}

/// The worst first, and how many more there are.
fn summed_up(found: Vec<(Status, String)>) -> Option<(Status, String)> {
    let others = found.len().checked_sub(1)?;
    let worst = found.iter().map(|(state, _)| *state).max()?;
    let (_, sentence) = found.into_iter().find(|(state, _)| *state == worst)?;
    let more = match others {
        0 => String::new(),
        1 => " There is one more problem.".to_owned(),
        others => format!(" There are {others} more problems."),
    };
    Some((worst, sentence + &more))
}

fn all_is_well(window: &Interval) -> String {
    match (window.requests, window.quantile(0.99)) {
        (0, _) | (_, None) => "All is well; no requests at the moment.".into(),
        (requests, Some(p99)) => {
            let share = if window.server_errors == 0 { "no errors" } else { "few errors" };
            format!("All is well: {} requests/s, p99 {}, {share}.", number(window.rate(requests)), time(p99))
        }
    }
}

fn percent(ratio: f64) -> String {
    format!("{} %", number(ratio * 100.0))
}

fn time(seconds: f64) -> String {
    if seconds < 0.001 {
        format!("{} µs", number(seconds * 1e6))
    } else if seconds < 1.0 {
        format!("{} ms", number(seconds * 1e3))
    } else {
        format!("{} s", number(seconds))
    }
}

/// Three significant digits are as many as anyone reads.
fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(status: Status, reason: &str) -> ComponentLine {
        ComponentLine { kind: "pool".into(), name: "orders".into(), status, reason: reason.into() }
    }

    fn traffic(requests: u64, server_errors: u64) -> Interval {
        Interval { seconds: 10.0, requests, server_errors, ..Interval::default() }
    }

    #[test]
    fn without_trouble_all_is_well() {
        let (state, sentence) = judge(&traffic(0, 0), &Reading::default(), None, &[line(Status::Up, "")]);
        assert_eq!((state, sentence.as_str()), (Status::Up, "All is well; no requests at the moment."));
    }

    #[test]
    fn a_component_that_is_down_is_named_with_its_reason() {
        let (state, sentence) =
            judge(&traffic(100, 0), &Reading::default(), None, &[line(Status::Down, "refused")]);
        assert_eq!((state, sentence.as_str()), (Status::Degraded, "pool “orders” is down: refused."));
    }

    #[test]
    fn the_worst_comes_first_and_the_rest_is_counted() {
        let lines = [line(Status::Degraded, "slow"), line(Status::Down, "")];
        let (state, sentence) = judge(&traffic(100, 50), &Reading::default(), None, &lines);
        assert_eq!(state, Status::Down);
        assert_eq!(sentence, "50.0 % of requests fail. There are 2 more problems.");
    }

    #[test]
    fn a_share_of_few_requests_says_nothing() {
        assert_eq!(judge(&traffic(19, 19), &Reading::default(), None, &[]).0, Status::Up);
        assert_eq!(judge(&traffic(1000, 9), &Reading::default(), None, &[]).0, Status::Up);
        assert_eq!(judge(&traffic(1000, 10), &Reading::default(), None, &[]).0, Status::Degraded);
    }

    #[test]
    fn what_is_full_is_named() {
        let mut latest = Reading::default();
        latest.offer(|| "pool `orders`".into(), 1.0);
        let (state, sentence) = judge(&traffic(0, 0), &latest, None, &[]);
        assert_eq!((state, sentence.as_str()), (Status::Degraded, "pool `orders` is 100 % full."));
    }

    #[test]
    fn the_time_is_that_of_the_change() {
        let first = Verdict { state: Status::Up, sentence: "a".into(), since: 7 };
        assert_eq!(first.clone().followed_by((Status::Up, "b".into())).since, 7);
        assert_ne!(first.followed_by((Status::Down, "c".into())).since, 7);
    }
}
