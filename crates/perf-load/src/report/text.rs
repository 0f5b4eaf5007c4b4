//! The report as people read it in a terminal.

use super::{LatencyReport, LoadModel, RunReport, StepReport};
use std::fmt;

/// The percentiles shown, with their place.
type Pick = fn(&LatencyReport) -> f64;
const COLUMNS: [(&str, f64, Pick); 5] = [
    ("p50", 0.5, |l| l.p50_ms),
    ("p90", 0.9, |l| l.p90_ms),
    ("p95", 0.95, |l| l.p95_ms),
    ("p99", 0.99, |l| l.p99_ms),
    ("p99.9", 0.999, |l| l.p999_ms),
];

impl fmt::Display for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stopped = if self.interrupted { ", stopped early" } else { "" };
        writeln!(f, "{}  {}{stopped}", self.target, self.describe_load())?;
        writeln!(f, "generator: {}", self.health.verdict)?;
        for reason in &self.health.reasons {
            writeln!(f, "  {reason}")?;
        }
        let total = &self.total;
        writeln!(
            f,
            "{} requests in {:.1} s, {:.1} ok/s, {} errors ({:.3} %), {} sent, {} received, {} connections",
            total.requests,
            self.duration_s,
            total.rps,
            total.errors,
            total.error_rate() * 100.0,
            bytes(total.bytes_sent),
            bytes(total.bytes_received),
            self.connections,
        )?;
        if self.keep_alive_races > 0 {
            writeln!(f, "{} requests repeated after an idle connection was closed", self.keep_alive_races)?;
        }
        self.write_latencies(f)?;
        for outage in self.outages() {
            let end = if outage.over { "" } else { ", to the end" };
            writeln!(f, "outage from {} s to {} s{end}", outage.from_s, outage.to_s)?;
        }
        for error in &self.errors {
            writeln!(
                f,
                "{:>10} {}  ({:.1} s to {:.1} s)  {}",
                error.count, error.kind, error.first_s, error.last_s, error.sample
            )?;
        }
        Ok(())
    }
}

impl RunReport {
    /// The load in words.
    #[must_use]
    pub fn describe_load(&self) -> String {
        let load = &self.load;
        match load.model {
            LoadModel::Closed => format!(
                "{} users for {} s (closed: latencies do not describe an open population)",
                load.peak, load.length_s
            ),
            LoadModel::Open => {
                let arrivals = load.arrivals.map_or_else(String::new, |a| format!("{a:?}").to_lowercase());
                format!("{} requests/s, {arrivals} arrivals, for {} s", load.peak, load.length_s)
            }
        }
    }

    fn write_latencies(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<28}{:>10}{:>11}", "milliseconds", "requests", "mean")?;
        for (name, _, _) in COLUMNS {
            write!(f, "{name:>11}")?;
        }
        writeln!(f, "{:>11}", "max")?;
        row(f, "response", &self.total.response)?;
        row(f, "service", &self.total.service)?;
        if self.load.model == LoadModel::Open {
            row(f, "lag", &self.total.lag)?;
        }
        if self.steps.len() > 1 {
            for StepReport { name, response, .. } in &self.steps {
                row(f, &format!("  {name}"), response)?;
            }
        }
        Ok(())
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, latency: &LatencyReport) -> fmt::Result {
    write!(f, "{name:<28}{:>10}{:>11.3}", latency.count + latency.censored, latency.mean_ms)?;
    for (_, q, pick) in COLUMNS {
        let above = if latency.is_lower_bound(q) { ">" } else { "" };
        // A percentile with fewer than ten requests beyond it is not shown as if it were known.
        let thin = if latency.is_thin(q) { "~" } else { "" };
        write!(f, "{:>11}", format!("{above}{thin}{:.3}", pick(latency)))?;
    }
    writeln!(f, "{:>11.3}", latency.max_ms)
}

pub(crate) fn bytes(count: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", units[unit]) }
}
