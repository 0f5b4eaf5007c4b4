//! The rules as a Prometheus rule file.

use super::rule::{Condition, Rule};
use super::sink::quoted;
use std::fmt::Write as _;

/// Writes the rules for Prometheus 2.42 and later (`keep_firing_for`).
pub(crate) fn export_rules(rules: &[Rule]) -> String {
    let mut yaml = String::from("groups:\n  - name: perfkit\n    rules:\n");
    if rules.is_empty() {
        return "groups: []\n".to_owned();
    }
    for rule in rules {
        // Writing into a string cannot fail. JSON strings are YAML strings.
        let _ = writeln!(yaml, "      - alert: {}", rule.name);
        let _ = writeln!(yaml, "        expr: {}", quoted(&promql(rule)));
        if !rule.hold.is_zero() {
            let _ = writeln!(yaml, "        for: {}", milliseconds(rule.hold));
        }
        if !rule.keep_firing.is_zero() {
            let _ = writeln!(yaml, "        keep_firing_for: {}", milliseconds(rule.keep_firing));
        }
        let _ = writeln!(yaml, "        labels:\n          severity: {}", rule.severity.as_str());
        for (key, value) in &rule.labels {
            let _ = writeln!(yaml, "          {key}: {}", quoted(value));
        }
        if !rule.summary.is_empty() {
            let _ = writeln!(yaml, "        annotations:\n          summary: {}", quoted(&rule.summary));
        }
    }
    yaml
}

/// A rule's expression. One with a threshold for resolving asks whether it fires already.
fn promql(rule: &Rule) -> String {
    let compared = |signal: &str, operator: &str, raise: f64, clear: f64| {
        if raise == clear {
            return format!("{signal} {operator} {raise}");
        }
        let firing = format!("count(ALERTS{{alertname={:?},alertstate=\"firing\"}}) > 0", rule.name);
        format!("({signal} {operator} {raise}) or (({signal} {operator} {clear}) and on() ({firing}))")
    };
    match &rule.condition {
        Condition::Above { signal, raise, clear } => compared(&signal.promql(), ">", *raise, *clear),
        Condition::Below { signal, raise, clear } => compared(&signal.promql(), "<", *raise, *clear),
        Condition::Burn(burn) => burn.promql(),
    }
}

fn milliseconds(duration: perf_core::time::Duration) -> String {
    let seconds = duration.as_secs();
    if seconds >= 1 && duration.subsec_millis() == 0 {
        format!("{seconds}s")
    } else {
        format!("{}ms", duration.as_millis().max(1))
    }
}
