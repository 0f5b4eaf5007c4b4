//! What a run must keep to: `p99<300ms, errors<0.1%`.

use super::{LatencyReport, RunReport, Verdict};
use crate::Error;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The limits a run must keep, in the words of the command line.
///
/// Separated by commas; each is `[STEP:]METRIC OPERATOR VALUE`, and `valid` asks for [`Verdict::Valid`]. Metrics: `mean`, `min`, `p50`,
/// `p90`, `p95`, `p99`, `p99.9`, `p99.99`, `max` (response time; `service.p99` for the service time), `errors` (a share with `%`,
/// otherwise a count), `rps`, `requests`. Operators: `<`, `<=`, `>`, `>=`.
///
/// ```
/// use perf_load::Expectations;
///
/// let limits: Expectations = "p99 < 300ms, errors < 0.1%, checkout:p95 <= 1s, valid".parse().unwrap();
/// assert_eq!(limits.to_string(), "p99<300ms, errors<0.1%, checkout:p95<=1s, valid");
/// assert!("p99 < fast".parse::<Expectations>().is_err());
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expectations(Vec<Expectation>);

#[derive(Clone, Debug, PartialEq)]
enum Expectation {
    Valid,
    Limit { step: Option<String>, metric: Metric, comparison: Comparison, limit: f64, text: String },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Metric {
    Response(Point),
    Service(Point),
    ErrorShare,
    Errors,
    Rate,
    Requests,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Point {
    Mean,
    Min,
    Quantile(f64),
    Max,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Below,
    AtMost,
    Above,
    AtLeast,
}

/// Longer operators first, because `<` begins `<=`.
const COMPARISONS: [(&str, Comparison); 4] = [
    ("<=", Comparison::AtMost),
    (">=", Comparison::AtLeast),
    ("<", Comparison::Below),
    (">", Comparison::Above),
];

const POINTS: [(&str, Point); 9] = [
    ("mean", Point::Mean),
    ("min", Point::Min),
    ("p50", Point::Quantile(0.5)),
    ("p90", Point::Quantile(0.9)),
    ("p95", Point::Quantile(0.95)),
    ("p99", Point::Quantile(0.99)),
    ("p99.9", Point::Quantile(0.999)),
    ("p99.99", Point::Quantile(0.9999)),
    ("max", Point::Max),
];

/// What became of one expectation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Checked {
    /// The expectation, as it was written.
    pub expectation: String,
    /// What was measured, with its unit; `>` before a value that is only a lower bound.
    pub actual: String,
    /// Whether it was kept.
    pub kept: bool,
}

impl Expectations {
    /// Whether nothing is expected.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Compares a run with every expectation. A lower bound keeps no upper limit, and a step that never ran keeps nothing.
    #[must_use]
    pub fn check(&self, report: &RunReport) -> Vec<Checked> {
        self.0.iter().map(|expectation| expectation.check(report)).collect()
    }
}

impl Expectation {
    fn check(&self, report: &RunReport) -> Checked {
        let expectation = self.to_string();
        let (step, metric, comparison, limit) = match self {
            Self::Valid => {
                let verdict = report.health.verdict;
                let kept = verdict == Verdict::Valid;
                return Checked { expectation, actual: verdict.to_string(), kept };
            }
            Self::Limit { step, metric, comparison, limit, .. } => (step, metric, comparison, *limit),
        };
        let found = step.as_ref().map_or(Some(&report.total), |name| report.step(name));
        let Some(found) = found else {
            return Checked { expectation, actual: "no such step".to_owned(), kept: false };
        };
        let (value, lower_bound, unit) = match metric {
            Metric::Response(point) => point.of(&found.response),
            Metric::Service(point) => point.of(&found.service),
            Metric::ErrorShare => (found.error_rate() * 100.0, false, "%"),
            Metric::Errors => (found.errors as f64, false, ""),
            Metric::Rate => (found.rps, false, "/s"),
            Metric::Requests => (found.requests as f64, false, ""),
        };
        let measured = found.requests > 0 && !value.is_nan();
        let kept = measured && comparison.holds(value, limit) && !(lower_bound && comparison.is_upper());
        let sign = if lower_bound { ">" } else { "" };
        let actual =
            if measured { format!("{sign}{}{unit}", short(value)) } else { "nothing measured".into() };
        Checked { expectation, actual, kept }
    }
}

impl Point {
    fn of(self, latency: &LatencyReport) -> (f64, bool, &'static str) {
        let all = latency.count + latency.censored;
        let (value, q) = match self {
            Self::Mean => (latency.mean_ms, 1.0),
            Self::Min => (latency.min_ms, 0.0),
            Self::Max => (latency.max_ms, 1.0),
            Self::Quantile(q) => (latency.quantile_ms(q), q),
        };
        (if all == 0 { f64::NAN } else { value }, latency.is_lower_bound(q), "ms")
    }
}

impl Comparison {
    fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::Below => value < limit,
            Self::AtMost => value <= limit,
            Self::Above => value > limit,
            Self::AtLeast => value >= limit,
        }
    }

    const fn is_upper(self) -> bool {
        matches!(self, Self::Below | Self::AtMost)
    }
}

fn short(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl FromStr for Expectations {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(parse_one).collect::<Result<Vec<_>, _>>().map(Self)
    }
}

fn parse_one(text: &str) -> Result<Expectation, Error> {
    let refused = |why: &str| Error::Text {
        what: "the expectation",
        detail: format!("`{text}`: {why} (such as p99<300ms, errors<0.1%, rps>500, valid)"),
    };
    if text == "valid" {
        return Ok(Expectation::Valid);
    }
    let (at, sign, comparison) = COMPARISONS
        .iter()
        .filter_map(|(sign, comparison)| Some((text.find(sign)?, *sign, *comparison)))
        .min_by_key(|(at, sign, _)| (*at, usize::MAX - sign.len()))
        .ok_or_else(|| refused("it has no <, <=, > or >="))?;
    let (left, value) = (text[..at].trim(), text[at + sign.len()..].trim());
    let (step, name) = match left.rsplit_once(':') {
        Some((step, name)) => (Some(step.trim().to_owned()), name.trim()),
        None => (None, left),
    };
    let metric = metric(name, value).ok_or_else(|| refused("the metric is not known"))?;
    let limit = match metric {
        Metric::Response(_) | Metric::Service(_) => {
            perf_core::duration::parse(value).ok().map(|time| time.as_secs_f64() * 1e3)
        }
        Metric::ErrorShare => value.trim_end_matches('%').trim_end().parse().ok(),
        Metric::Errors | Metric::Rate | Metric::Requests => value.parse().ok(),
    };
    let limit = limit.filter(|limit: &f64| limit.is_finite() && *limit >= 0.0);
    let limit = limit.ok_or_else(|| refused("the value is not a number with a fitting unit"))?;
    let prefix = step.as_ref().map_or_else(String::new, |step| format!("{step}:"));
    let text = format!("{prefix}{name}{sign}{value}");
    Ok(Expectation::Limit { step, metric, comparison, limit, text })
}

fn metric(name: &str, value: &str) -> Option<Metric> {
    let point = |name: &str| POINTS.iter().find(|(known, _)| *known == name).map(|(_, point)| *point);
    match name {
        "errors" if value.ends_with('%') => Some(Metric::ErrorShare),
        "errors" => Some(Metric::Errors),
        "rps" => Some(Metric::Rate),
        "requests" => Some(Metric::Requests),
        _ => match name.strip_prefix("service.") {
            Some(name) => point(name).map(Metric::Service),
            None => point(name).map(Metric::Response),
        },
    }
}

impl fmt::Display for Expectations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, expectation) in self.0.iter().enumerate() {
            write!(f, "{}{expectation}", if index > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Valid => f.write_str("valid"),
            Self::Limit { text, .. } => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::report;
    use super::*;

    fn kept(text: &str, report: &RunReport) -> Vec<bool> {
        text.parse::<Expectations>().unwrap().check(report).iter().map(|outcome| outcome.kept).collect()
    }

    #[test]
    fn limits_are_compared_with_what_was_measured() {
        // 985 answers of 1 to 985 ms and 15 timeouts at 2 s.
        let report = report(985, 15);
        assert_eq!(
            kept("p50<501ms, p50<500ms, p90<=910ms, errors<2%, errors<1%, errors<=15, errors<15", &report),
            [true, false, true, true, false, true, false]
        );
        assert_eq!(kept("requests>=1000, rps>98, rps>99, shop:p50<1s", &report), [true, true, false, true]);
        assert_eq!(kept("service.p50<1s, min<2ms, valid", &report), [true, true, true]);
    }

    #[test]
    fn a_lower_bound_keeps_no_upper_limit() {
        let report = report(985, 15);
        // The 99th percentile is only known to be above 2 s.
        assert_eq!(kept("p99<10s, p99>1s, max<1h", &report), [false, true, false]);
        let outcome = &"p99<10s".parse::<Expectations>().unwrap().check(&report)[0];
        assert!(outcome.actual.starts_with(">2000"), "{outcome:?}");
    }

    #[test]
    fn what_was_not_measured_keeps_nothing() {
        let report = report(0, 0);
        assert_eq!(kept("p99<1h, errors<1%, requests>=0", &report), [false, false, false]);
        let outcome = &"basket:p99<1s".parse::<Expectations>().unwrap().check(&report)[0];
        assert_eq!((outcome.kept, outcome.actual.as_str()), (false, "no such step"));
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_an_example() {
        for text in
            ["p99", "p98<1s", "p99<1", "p99<fast", "errors<x%", "rps>-1", "rps>inf", "<1s", "service.x<1s"]
        {
            let error = text.parse::<Expectations>().unwrap_err();
            assert!(error.is_usage() && error.to_string().contains("such as"), "{text}: {error}");
        }
        assert!("".parse::<Expectations>().unwrap().is_empty());
    }
}
