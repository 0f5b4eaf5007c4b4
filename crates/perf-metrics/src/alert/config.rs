//! What a configuration file can say about alerts, objectives and the webhook.

use super::rule::{DEFAULT_FLAP_WINDOW, DEFAULT_FLAPS, Missing, Rule, Severity};
use super::signal::Signal;
use super::slo::{DEFAULT_MIN_BAD, Slo};
use crate::names;
use perf_core::time::Duration;
use perf_core::{InvalidConfig, duration};
use std::collections::{BTreeMap, BTreeSet};

/// The window of a rate, a quantile or a mean that says nothing else: four scrapes of a quarter of a minute.
pub const DEFAULT_WINDOW: Duration = Duration::from_secs(60);

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// What is made of the series of a metric.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Measured {
    /// The level of a gauge.
    #[default]
    Level,
    /// The increase of a counter per second.
    Rate,
    /// A quantile of a histogram.
    Quantile,
    /// The mean of a histogram.
    Mean,
}

/// An alert as a configuration file describes it: [`Rule`] has the rest.
///
/// | field | default | why |
/// |---|---|---|
/// | `metric` | – | the metric's full name, as on the page |
/// | `measure` | `level` | what is made of it: `level`, `rate`, `quantile`, `mean` |
/// | `quantile` | – | which one, for `measure = "quantile"` |
/// | `window` | `60s` | see [`DEFAULT_WINDOW`]; of everything but levels |
/// | `matching` | none | only series with these labels |
/// | `above`, `below` | – | one of them: the threshold |
/// | `clear` | the threshold | where it resolves |
/// | `hold`, `keep_firing` | `0s` | as in Prometheus |
/// | `min_samples` | 0 | what it must rest on |
/// | `missing` | `keep` | not to see a fire is not to have put it out |
/// | `severity` | `ticket` | `page`, `ticket`, `info` |
/// | `labels`, `summary` | none | for whoever is told |
/// | `inhibited_by` | none | the alert, or `OBJECTIVEBurns_1h`, that says it already |
/// | `flaps`, `flap_window` | 5, `1800s` | see [`DEFAULT_FLAPS`] |
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize), serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct AlertConfig {
    /// The metric's full name.
    pub metric: String,
    /// What is made of its series.
    pub measure: Measured,
    /// Which quantile, above 0 and below 1.
    pub quantile: Option<f64>,
    /// Over how long, 1 s to 3 days.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration::option"))]
    pub window: Option<Duration>,
    /// Only series that carry these labels.
    pub matching: BTreeMap<String, String>,
    /// It fires above this.
    pub above: Option<f64>,
    /// It fires below this.
    pub below: Option<f64>,
    /// It resolves here.
    pub clear: Option<f64>,
    /// How long the condition must hold, at most a day.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub hold: Duration,
    /// How long it goes on firing after the condition ceased, at most a day.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub keep_firing: Duration,
    /// Samples the signal must rest on.
    pub min_samples: u64,
    /// What becomes of it without data.
    pub missing: Missing,
    /// Who should be told.
    pub severity: Severity,
    /// Labels of the alert.
    pub labels: BTreeMap<String, String>,
    /// One line for people.
    pub summary: String,
    /// Nobody is told of it while this alert fires.
    pub inhibited_by: Option<String>,
    /// How often it may fire within `flap_window`, 1 to 1,000.
    pub flaps: usize,
    /// The window in which flapping is looked for, 1 s to a day.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub flap_window: Duration,
}

impl Default for AlertConfig {
    fn default() -> Self {
        Self {
            metric: String::new(),
            measure: Measured::default(),
            quantile: None,
            window: None,
            matching: BTreeMap::new(),
            above: None,
            below: None,
            clear: None,
            hold: Duration::ZERO,
            keep_firing: Duration::ZERO,
            min_samples: 0,
            missing: Missing::default(),
            severity: Severity::default(),
            labels: BTreeMap::new(),
            summary: String::new(),
            inhibited_by: None,
            flaps: DEFAULT_FLAPS,
            flap_window: DEFAULT_FLAP_WINDOW,
        }
    }
}

impl AlertConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`InvalidConfig`] names the first field that cannot be used, its value and what is allowed.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        self.signal()?;
        self.threshold()?;
        within("hold", self.hold, Duration::ZERO, DAY)?;
        within("keep_firing", self.keep_firing, Duration::ZERO, DAY)?;
        within("flap_window", self.flap_window, SECOND, DAY)?;
        if !(1..=1_000).contains(&self.flaps) {
            return Err(InvalidConfig::new("flaps", self.flaps, "1 to 1000"));
        }
        labels("labels", &self.labels)
    }

    /// The rule it describes.
    ///
    /// # Errors
    /// As [`AlertConfig::validate`]; a name that is none is refused as `name`.
    pub fn rule(&self, name: &str) -> Result<Rule, InvalidConfig> {
        self.validate()?;
        metric("name", name)?;
        let (above, threshold) = self.threshold()?;
        let new = if above { Rule::above } else { Rule::below };
        let rule = new(name, self.signal()?, threshold)
            .clear(self.clear.unwrap_or(threshold))
            .hold(self.hold)
            .keep_firing(self.keep_firing)
            .min_samples(self.min_samples)
            .missing(self.missing)
            .severity(self.severity)
            .summary(&self.summary)
            .flapping(self.flaps, self.flap_window);
        let rule = self.labels.iter().fold(rule, |rule, (key, value)| rule.label(key, value));
        Ok(match &self.inhibited_by {
            Some(by) => rule.inhibited_by(by),
            None => rule,
        })
    }

    fn signal(&self) -> Result<Signal, InvalidConfig> {
        metric("metric", &self.metric)?;
        labels("matching", &self.matching)?;
        let window = self.window.unwrap_or(DEFAULT_WINDOW);
        within("window", window, SECOND, 3 * DAY)?;
        let signal = match (self.measure, self.quantile) {
            (Measured::Quantile, Some(q)) if q > 0.0 && q < 1.0 => Signal::quantile(&self.metric, q, window),
            (Measured::Quantile, q) => {
                let value = q.map_or_else(|| "nothing".to_owned(), |q| q.to_string());
                return Err(InvalidConfig::new("quantile", value, "above 0 and below 1"));
            }
            (_, Some(q)) => {
                return Err(InvalidConfig::new("quantile", q, "only with measure = \"quantile\""));
            }
            (Measured::Level, None) if self.window.is_some() => {
                let value = duration::format(window);
                return Err(InvalidConfig::new("window", value, "none: a level is what it is now"));
            }
            (Measured::Level, None) => Signal::level(&self.metric),
            (Measured::Rate, None) => Signal::rate(&self.metric, window),
            (Measured::Mean, None) => Signal::mean(&self.metric, window),
        };
        Ok(self.matching.iter().fold(signal, |signal, (label, value)| signal.matching(label, value)))
    }

    /// Whether it fires above, and the threshold.
    fn threshold(&self) -> Result<(bool, f64), InvalidConfig> {
        let (above, field, threshold) = match (self.above, self.below) {
            (Some(above), None) => (true, "above", above),
            (None, Some(below)) => (false, "below", below),
            (None, None) => {
                return Err(InvalidConfig::new("above", "nothing", "a number here or as `below`"));
            }
            (Some(_), Some(below)) => {
                return Err(InvalidConfig::new("below", below, "nothing beside `above`"));
            }
        };
        if !threshold.is_finite() {
            return Err(InvalidConfig::new(field, threshold, "a finite number"));
        }
        let clear = self.clear.unwrap_or(threshold);
        if !clear.is_finite() || (above && clear > threshold) || (!above && clear < threshold) {
            let side = if above { "at most" } else { "at least" };
            return Err(InvalidConfig::new("clear", clear, format!("{side} {threshold}, as `{field}`")));
        }
        Ok((above, threshold))
    }
}

/// A service level objective as a configuration file describes it: see [`Slo`].
///
/// | field | default | why |
/// |---|---|---|
/// | `bad`, `total` | – | two counters: the bad events, and all events |
/// | `objective` | 0.999 | the share of good events |
/// | `period` | 30 days | a month, as most contracts have it |
/// | `min_bad` | 10 | see [`DEFAULT_MIN_BAD`] |
/// | `matching` | none | only series with these labels |
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize), serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct ObjectiveConfig {
    /// The counter of bad events.
    pub bad: String,
    /// The counter of all events.
    pub total: String,
    /// The share of good events, above 0 and below 1.
    pub objective: f64,
    /// The period of the budget, 1 to 366 days.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub period: Duration,
    /// Bad events the long window must hold.
    pub min_bad: u64,
    /// Only series that carry these labels.
    pub matching: BTreeMap<String, String>,
}

impl Default for ObjectiveConfig {
    fn default() -> Self {
        Self {
            bad: String::new(),
            total: String::new(),
            objective: 0.999,
            period: 30 * DAY,
            min_bad: DEFAULT_MIN_BAD,
            matching: BTreeMap::new(),
        }
    }
}

impl ObjectiveConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`InvalidConfig`] names the first field that cannot be used, its value and what is allowed.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        metric("bad", &self.bad)?;
        metric("total", &self.total)?;
        if !(self.objective > 0.0 && self.objective < 1.0) {
            return Err(InvalidConfig::new("objective", self.objective, "above 0 and below 1"));
        }
        within("period", self.period, DAY, 366 * DAY)?;
        labels("matching", &self.matching)
    }

    /// The objective it describes.
    ///
    /// # Errors
    /// As [`ObjectiveConfig::validate`]; a name that is none is refused as `name`.
    pub fn slo(&self, name: &str) -> Result<Slo, InvalidConfig> {
        self.validate()?;
        metric("name", name)?;
        let slo = Slo::new(name, &self.bad, &self.total)
            .objective(self.objective)
            .period(self.period)
            .min_bad(self.min_bad);
        Ok(self.matching.iter().fold(slo, |slo, (label, value)| slo.matching(label, value)))
    }
}

/// The rules of a configuration's sections `alerts` and `objectives`, objectives first, checked as a whole: names that are
/// taken twice, or that inhibit and do not exist, are refused.
///
/// ```
/// use perf_metrics::{AlertConfig, configured_rules};
/// use std::collections::BTreeMap;
///
/// let mut full = AlertConfig::default();
/// full.metric = "queue_depth".to_owned();
/// full.above = Some(100.0);
/// let alerts = BTreeMap::from([("queue_full".to_owned(), full)]);
/// assert_eq!(configured_rules(&alerts, &BTreeMap::new()).unwrap()[0].name(), "queue_full");
/// ```
///
/// # Errors
/// [`InvalidConfig`] with the path of the field.
pub fn configured_rules(
    alerts: &BTreeMap<String, AlertConfig>,
    objectives: &BTreeMap<String, ObjectiveConfig>,
) -> Result<Vec<Rule>, InvalidConfig> {
    let mut rules = Vec::new();
    for (name, objective) in objectives {
        let slo = objective.slo(name).map_err(|error| error.within(name).within("objectives"))?;
        rules.extend(slo.rules());
    }
    for (name, alert) in alerts {
        rules.push(alert.rule(name).map_err(|error| error.within(name).within("alerts"))?);
    }
    let names: Vec<&str> = rules.iter().map(Rule::name).collect();
    let mut known = BTreeSet::new();
    if let Some(twice) = names.iter().find(|name| !known.insert(**name)) {
        return Err(InvalidConfig::new(format!("alerts.{twice}"), twice, "a name no objective has taken"));
    }
    for (name, alert) in alerts {
        if let Some(by) = alert.inhibited_by.as_deref().filter(|by| !known.contains(by)) {
            let field = format!("alerts.{name}.inhibited_by");
            return Err(InvalidConfig::new(field, by, names.join(", ")));
        }
    }
    Ok(rules)
}

fn metric(field: &str, name: &str) -> Result<(), InvalidConfig> {
    let allowed = "letters, digits, `_` and `:`, not starting with a digit";
    names::is_metric(name)
        .then_some(())
        .ok_or_else(|| InvalidConfig::new(field, format!("\"{name}\""), allowed))
}

fn labels(field: &str, labels: &BTreeMap<String, String>) -> Result<(), InvalidConfig> {
    let allowed = "letters, digits and `_`, not `le`, `quantile` or `__…`";
    let bad = labels.keys().find(|label| !names::is_label(label));
    bad.map_or(Ok(()), |label| Err(InvalidConfig::new(field, label, allowed)))
}

fn within(field: &str, value: Duration, least: Duration, most: Duration) -> Result<(), InvalidConfig> {
    let allowed = || format!("{} to {}", duration::format(least), duration::format(most));
    let refused = || InvalidConfig::new(field, duration::format(value), allowed());
    (least..=most).contains(&value).then_some(()).ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> AlertConfig {
        AlertConfig { metric: "depth".into(), above: Some(2.0), ..AlertConfig::default() }
    }

    fn refused(config: &AlertConfig) -> String {
        config.rule("full").unwrap_err().to_string()
    }

    #[test]
    fn a_described_rule_is_the_one_written_in_code() {
        let config = AlertConfig {
            measure: Measured::Quantile,
            quantile: Some(0.99),
            matching: BTreeMap::from([("name".into(), "orders".into())]),
            clear: Some(1.0),
            hold: SECOND,
            ..full()
        };
        let signal = Signal::quantile("depth", 0.99, DEFAULT_WINDOW).matching("name", "orders");
        let written = Rule::above("full", signal, 2.0).clear(1.0).hold(SECOND);
        assert_eq!(format!("{:?}", config.rule("full").unwrap()), format!("{written:?}"));
    }

    #[test]
    fn what_cannot_be_is_refused_by_field_and_value() {
        let quantile = |q| AlertConfig { measure: Measured::Quantile, quantile: q, ..full() };
        for (config, words) in [
            (AlertConfig::default(), "metric = \"\""),
            (AlertConfig { above: None, ..full() }, "above = nothing"),
            (AlertConfig { below: Some(1.0), ..full() }, "below = 1"),
            (AlertConfig { above: Some(f64::NAN), ..full() }, "above = NaN"),
            (AlertConfig { clear: Some(3.0), ..full() }, "clear = 3, allowed: at most 2"),
            (AlertConfig { window: Some(SECOND), ..full() }, "window = 1s"),
            (AlertConfig { hold: 2 * DAY, ..full() }, "hold"),
            (AlertConfig { flaps: 0, ..full() }, "flaps = 0, allowed: 1 to 1000"),
            (quantile(None), "quantile = nothing"),
            (quantile(Some(1.0)), "quantile = 1, allowed: above 0 and below 1"),
        ] {
            assert!(refused(&config).contains(words), "{words}: {}", refused(&config));
        }
        let objective = ObjectiveConfig { bad: "b".into(), total: "t".into(), ..ObjectiveConfig::default() };
        assert!(objective.slo("checkout").is_ok());
        let said = ObjectiveConfig { objective: 1.0, ..objective }.slo("checkout").unwrap_err().to_string();
        assert!(said.contains("objective = 1"), "{said}");
    }

    #[test]
    fn names_taken_twice_and_unknown_inhibitors_are_refused_with_their_path() {
        let objective = ObjectiveConfig { bad: "b".into(), total: "t".into(), ..ObjectiveConfig::default() };
        let objectives = BTreeMap::from([("checkout".to_owned(), objective)]);
        let said = |name: &str, by: Option<&str>| {
            let alert = AlertConfig { inhibited_by: by.map(Into::into), ..full() };
            configured_rules(&BTreeMap::from([(name.to_owned(), alert)]), &objectives)
                .map(|rules| rules.len())
        };
        assert_eq!(said("full", Some("checkoutBurns_1h")), Ok(5));
        assert_eq!(said("full", Some("nobody")).unwrap_err().field(), "alerts.full.inhibited_by");
        assert_eq!(said("checkoutBurns_1h", None).unwrap_err().field(), "alerts.checkoutBurns_1h");
    }
}
