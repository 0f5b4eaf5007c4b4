//! What one evaluation of 10,000 alert rules costs: over levels, over rates, and over quantiles, on one core.

#![expect(clippy::expect_used, reason = "a benchmark that cannot be set up has nothing to measure")]

use perf_core::time::{self, Duration};
use perf_metrics::{Alerts, Metrics, Rule, Signal};
use std::time::Duration as Time;

const RULES: usize = 10_000;
const SECOND: Duration = Duration::from_secs(1);
/// What an evaluation every second may cost.
const BAR: Duration = Duration::from_millis(5);
const TICKS: u32 = 200;

fn main() {
    // Ten thousand rules of a large host look at some hundreds of signals; the worst case has a series for each rule.
    levels("metrics_alerts_10k_rules_100_levels", 100);
    levels("metrics_alerts_10k_rules_10k_levels", RULES);
    mixed("metrics_alerts_10k_rules_mixed");
}

fn levels(name: &str, series: usize) {
    let metrics = metrics();
    let depths = metrics.gauge("depth", "Depth").family(["queue"]).expect("legal");
    let queues: Vec<String> = (0..series).map(|n| format!("q{n}")).collect();
    let rules = (0..RULES).map(|n| {
        let signal = Signal::level("depth").matching("queue", &queues[n % series]);
        Rule::above(format!("Rule{n}"), signal, 50.0).hold(SECOND * 5)
    });
    let alerts = built(&metrics, rules);
    run(name, &alerts, |tick| {
        for (n, queue) in queues.iter().enumerate() {
            depths.with([queue]).set(f64::from((n as u32 + tick) % 100));
        }
    });
}

/// Half levels, a third rates, the rest quantiles, over 300 series.
fn mixed(name: &str) {
    let metrics = metrics();
    let depths = metrics.gauge("depth", "Depth").family(["queue"]).expect("legal");
    let calls = metrics.counter("calls", "Calls").family(["queue"]).expect("legal");
    let waits = metrics.timer("wait", "Waits").family(["queue"]).expect("legal");
    let queues: Vec<String> = (0..100).map(|n| format!("q{n}")).collect();
    let rules = (0..RULES).map(|n| {
        let signal = match n % 6 {
            0..3 => Signal::level("depth"),
            3..5 => Signal::rate("calls_total", SECOND * 60),
            _ => Signal::quantile("wait_seconds", 0.99, SECOND * 60),
        };
        Rule::above(format!("Rule{n}"), signal.matching("queue", &queues[n / 6 % 100]), 0.5)
    });
    let alerts = built(&metrics, rules);
    run(name, &alerts, |tick| {
        for (n, queue) in queues.iter().enumerate() {
            depths.with([queue]).set(f64::from((n as u32 + tick) % 2));
            calls.with([queue]).add(u64::from(tick % 3));
            waits.with([queue]).record(Time::from_micros(100 + n as u64 * u64::from(tick)));
        }
    });
}

fn metrics() -> Metrics {
    Metrics::builder().process(false).series_limit(RULES).build().expect("the settings are valid")
}

fn built(metrics: &Metrics, rules: impl Iterator<Item = Rule>) -> Alerts {
    rules
        .fold(Alerts::builder(), |builder, rule| builder.rule(rule))
        .build(metrics)
        .expect("the rules are legal")
}

#[expect(clippy::print_stdout, reason = "the figures are what a benchmark is for")]
fn run(name: &str, alerts: &Alerts, mut work: impl FnMut(u32)) {
    let start = time::now();
    let mut taken: Vec<Duration> = (0..TICKS)
        .map(|tick| {
            work(tick);
            let began = time::now();
            alerts.tick(start + SECOND * tick);
            began.elapsed()
        })
        .collect();
    taken.sort_unstable();
    let (median, worst) = (taken[taken.len() / 2], taken[taken.len() * 99 / 100]);
    println!(
        "{name} median_us={} p99_us={} bar_us={} median/bar={:.2}",
        median.as_micros(),
        worst.as_micros(),
        BAR.as_micros(),
        median.as_secs_f64() / BAR.as_secs_f64()
    );
}
