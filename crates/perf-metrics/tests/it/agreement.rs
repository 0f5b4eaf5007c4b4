//! The engine and Prometheus, on the rules the engine exports and the numbers the engine saw: the same states at each tick.

use crate::tools::{promtool, said};
use perf_core::time::{self, Duration};
use perf_core::{Component, ComponentId, Desc, Histogram, Rng, Sink, Unit};
use perf_metrics::{AlertState, Alerts, Metrics, Missing, Rule, Signal, Slo};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

const MINUTE: Duration = Duration::from_secs(60);
const LEVEL: Desc = Desc::gauge("perf_test_level", "A level", Unit::Count);
const EVENTS: Desc = Desc::counter("perf_test_events_total", "Events", Unit::Count);
const BAD: Desc = Desc::counter("perf_test_bad_total", "Events that went wrong", Unit::Count);
const SIZES: Desc = Desc::histogram("perf_test_size", "Sizes", Unit::Count);

/// What the component shows: for each series a level, a total that may start anew, bad events, and a distribution.
#[derive(Default)]
struct Shown {
    levels: Vec<Option<f64>>,
    totals: Vec<u64>,
    bad: Vec<u64>,
    sizes: Vec<Histogram>,
}

#[derive(Clone, Default)]
struct Numbers(Arc<Mutex<Shown>>);

impl Component for Numbers {
    fn id(&self) -> ComponentId {
        ComponentId::new("test", "numbers")
    }

    fn collect(&self, sink: &mut dyn Sink) {
        let shown = self.0.lock().unwrap();
        let label = |n: usize| n.to_string();
        for (n, level) in shown.levels.iter().enumerate() {
            sink.gauge(&LEVEL, &[("series", &label(n))], level.unwrap_or(f64::NAN));
        }
        for (n, total) in shown.totals.iter().enumerate() {
            sink.counter(&EVENTS, &[("series", &label(n))], *total);
        }
        for (n, total) in shown.bad.iter().enumerate() {
            sink.counter(&BAD, &[("series", &label(n))], *total);
        }
        for (n, sizes) in shown.sizes.iter().enumerate() {
            sink.histogram(&SIZES, &[("series", &label(n))], sizes);
        }
    }
}

/// A promtool test: what came in, and what is expected at each tick.
#[derive(Default)]
struct Script {
    series: Vec<(String, Vec<String>)>,
    expected: Vec<String>,
    firing: usize,
    pending: usize,
}

impl Script {
    fn sample(&mut self, series: &str, value: impl ToString) {
        match self.series.iter_mut().find(|(known, _)| known == series) {
            Some((_, values)) => values.push(value.to_string()),
            None => self.series.push((series.to_owned(), vec![value.to_string()])),
        }
    }

    fn expect(&mut self, alerts: &Alerts, selector: &str, labels: impl Fn(&str) -> String) {
        let tick = self.expected.len();
        let mut samples = String::new();
        for view in alerts.views() {
            let state = match view.state {
                AlertState::Inactive => continue,
                AlertState::Pending => "pending",
                AlertState::Firing => "firing",
            };
            if !labels(&view.name).is_empty() {
                self.pending += usize::from(state == "pending");
                self.firing += usize::from(state == "firing");
                let _ = writeln!(
                    samples,
                    "          - labels: 'ALERTS{{alertname=\"{}\",alertstate=\"{state}\",{}}}'\n            value: 1",
                    view.name,
                    labels(&view.name)
                );
            }
        }
        let samples = if samples.is_empty() { samples } else { format!("        exp_samples:\n{samples}") };
        self.expected.push(format!("      - expr: {selector}\n        eval_time: {tick}m\n{samples}"));
    }

    fn check(&self, rules: &str) {
        let mut test = String::from(
            "rule_files: [rules.yml]\nevaluation_interval: 1m\ntests:\n  - interval: 1m\n    input_series:\n",
        );
        for (series, values) in &self.series {
            let _ = writeln!(test, "      - series: '{series}'\n        values: {:?}", values.join(" "));
        }
        test += "    promql_expr_test:\n";
        self.expected.iter().for_each(|expected| test += expected);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("rules.yml"), rules).unwrap();
        let file = folder.path().join("test.yml");
        std::fs::write(&file, test).unwrap();
        let output = promtool(&["test", "rules", &file.display().to_string()], b"");
        let text = said(&output);
        assert!(output.status.success(), "{}\n{rules}", &text[..text.floor_char_boundary(3_000)]);
    }
}

/// Levels with hysteresis and gaps, rates with restarts, means with silences: 240 random series.
#[test]
fn promtool_agrees_with_the_engine_on_its_own_export_tick_by_tick() {
    const EACH: usize = 80;
    const TICKS: u32 = 50;
    let mut rng = Rng::seeded(11);
    let (metrics, numbers) = (Metrics::builder().process(false).build().unwrap(), Numbers::default());
    metrics.register(Arc::new(numbers.clone())).unwrap().keep();
    let mut builder = Alerts::builder();
    for n in 0..EACH {
        let series = n.to_string();
        let level = Signal::level("perf_test_level").matching("series", &series);
        let rate = Signal::rate("perf_test_events_total", MINUTE * 5).matching("series", &series);
        let mean = Signal::mean("perf_test_size", MINUTE * 12).matching("series", &series);
        let rules = [
            if n.is_multiple_of(2) {
                Rule::above(format!("Level{n}"), level, 6.0).clear(4.0)
            } else {
                Rule::below(format!("Level{n}"), level, 3.0).clear(5.0)
            },
            Rule::above(format!("Rate{n}"), rate, 0.51),
            Rule::above(format!("Mean{n}"), mean, 5.01),
        ];
        for rule in rules {
            let (hold, keep) = (MINUTE * rng.below(4) as u32, MINUTE * rng.below(4) as u32);
            builder = builder.rule(rule.hold(hold).keep_firing(keep).missing(Missing::Resolve));
        }
    }
    let alerts = builder.build(&metrics).unwrap();
    {
        let mut shown = numbers.0.lock().unwrap();
        (shown.levels, shown.totals) = (vec![None; EACH], vec![0; EACH]);
        shown.sizes.resize_with(EACH, Histogram::new);
    }
    let (mut script, start) = (Script::default(), time::now());
    for tick in 0..TICKS {
        {
            let mut shown = numbers.0.lock().unwrap();
            for n in 0..EACH {
                shown.levels[n] = (!rng.chance(0.1)).then(|| rng.below(10) as f64);
                let level = shown.levels[n].map_or_else(|| "stale".to_owned(), |level| level.to_string());
                script.sample(&format!("perf_test_level{{series=\"{n}\"}}"), level);
                // Until a window is full a rate is unknown here and guessed by Prometheus: nothing happens until then.
                if tick >= 6 {
                    let restart = rng.chance(0.05);
                    let more = rng.below(70);
                    shown.totals[n] = if restart { more } else { shown.totals[n] + more };
                }
                script.sample(&format!("perf_test_events_total{{series=\"{n}\"}}"), shown.totals[n]);
                if tick >= 13 && rng.chance(0.4) {
                    let size = rng.below(11) as f64;
                    (0..rng.below(4)).for_each(|_| shown.sizes[n].record(size));
                }
                let sizes = shown.sizes[n].snapshot();
                script.sample(&format!("perf_test_size_sum{{series=\"{n}\"}}"), sizes.sum());
                script.sample(&format!("perf_test_size_count{{series=\"{n}\"}}"), sizes.count());
            }
        }
        alerts.tick(start + MINUTE * tick);
        script.expect(&alerts, "ALERTS", |_| "severity=\"ticket\"".to_owned());
    }
    assert!(script.firing > 2_000 && script.pending > 1_000, "{} {}", script.firing, script.pending);
    script.check(&alerts.rules_yaml());
}

/// Fast burns that come and go, of ten services, after an hour of history.
#[test]
fn promtool_agrees_with_the_engine_on_burn_rates() {
    const SERVICES: usize = 10;
    let mut rng = Rng::seeded(5);
    let (metrics, numbers) = (Metrics::builder().process(false).build().unwrap(), Numbers::default());
    metrics.register(Arc::new(numbers.clone())).unwrap().keep();
    let slos = (0..SERVICES).map(|n| {
        Slo::new(format!("Service{n}"), "perf_test_bad_total", "perf_test_events_total")
            .matching("series", &n.to_string())
            .objective(0.99)
    });
    let alerts = slos.fold(Alerts::builder(), |builder, slo| builder.slo(&slo)).build(&metrics).unwrap();
    {
        let mut shown = numbers.0.lock().unwrap();
        (shown.totals, shown.bad) = (vec![0; SERVICES], vec![0; SERVICES]);
    }
    let (mut script, start, mut burning) = (Script::default(), time::now(), [false; SERVICES]);
    for tick in 0..200_u32 {
        {
            let mut shown = numbers.0.lock().unwrap();
            for (n, burns) in burning.iter_mut().enumerate() {
                *burns = if rng.chance(0.05) { !*burns } else { *burns };
                let calls = 500 + rng.below(100);
                shown.totals[n] += calls;
                shown.bad[n] += if tick > 60 && *burns { calls * 3 / 10 } else { 0 };
                script.sample(&format!("perf_test_events_total{{series=\"{n}\"}}"), shown.totals[n]);
                script.sample(&format!("perf_test_bad_total{{series=\"{n}\"}}"), shown.bad[n]);
            }
        }
        alerts.tick(start + MINUTE * tick);
        script.expect(&alerts, "ALERTS{alertname=~\".*_1h\"}", |name| {
            let service = name.strip_suffix("Burns_1h");
            service.map_or_else(String::new, |service| format!("severity=\"page\",slo=\"{service}\""))
        });
    }
    assert!(script.firing > 100, "{}", script.firing);
    script.check(&alerts.rules_yaml());
}
