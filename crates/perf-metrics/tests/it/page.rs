//! The page: §4 of the design.

use perf_core::{Component, ComponentId, Counter, Desc, Health, Sink, Unit};
use perf_metrics::{Format, Metrics, OVERFLOW, RegisterError, ValueView};
use std::sync::Arc;

const HITS: Desc = Desc::counter("perf_cache_hits_total", "Reads answered from memory", Unit::Count);
const AGE: Desc = Desc::histogram("perf_cache_age_seconds", "Age of answers", Unit::Seconds);
const ENTRIES: Desc = Desc::gauge("perf_cache_entries", "Entries held", Unit::Count);

#[derive(Default)]
struct Cache {
    name: &'static str,
    hits: Counter,
    age: perf_core::Histogram,
}

impl Component for Cache {
    fn id(&self) -> ComponentId {
        ComponentId::new("cache", self.name)
    }

    fn collect(&self, sink: &mut dyn Sink) {
        sink.counter(&HITS, &[("tier", "l2")], 0);
        sink.counter(&HITS, &[("tier", "l1")], self.hits.get());
        sink.gauge(&ENTRIES, &[], f64::NAN);
        sink.histogram(&AGE, &[], &self.age);
    }

    fn health(&self) -> Health {
        Health::degraded("cold")
    }
}

struct Broken;

impl Component for Broken {
    fn id(&self) -> ComponentId {
        ComponentId::new("broken", "one")
    }

    fn collect(&self, sink: &mut dyn Sink) {
        sink.counter(&HITS, &[], 1);
        panic!("a bug of the component");
    }
}

fn metrics() -> Metrics {
    Metrics::builder().process(false).build().unwrap()
}

/// The lines of a page that belong to families whose name starts with `prefix`.
fn lines(metrics: &Metrics, prefix: &str) -> Vec<String> {
    metrics.text().lines().filter(|line| line.starts_with(prefix)).map(str::to_owned).collect()
}

#[test]
fn components_are_on_the_page_at_zero_sorted_and_with_their_names() {
    let metrics = metrics();
    for name in ["users", "orders"] {
        metrics.register(Arc::new(Cache { name, ..Cache::default() })).unwrap().keep();
    }
    assert_eq!(
        lines(&metrics, "perf_cache_hits_total"),
        [
            r#"perf_cache_hits_total{name="orders",tier="l1"} 0"#,
            r#"perf_cache_hits_total{name="orders",tier="l2"} 0"#,
            r#"perf_cache_hits_total{name="users",tier="l1"} 0"#,
            r#"perf_cache_hits_total{name="users",tier="l2"} 0"#,
        ]
    );
    // A level that is not known is left out.
    assert!(!metrics.text().contains("perf_cache_entries"));
}

#[test]
fn two_renders_without_writes_are_byte_identical() {
    let metrics = metrics();
    let family = metrics.counter("calls", "Calls").family(["route"]).unwrap();
    for n in 0..200 {
        family.with([&format!("/{n}")]).add(n);
    }
    let first = metrics.text();
    assert_eq!(first, metrics.text());
    assert!(!first.contains("# EOF"));
}

#[test]
fn histogram_buckets_are_exact_and_the_count_is_their_sum() {
    let metrics = metrics();
    let timer = metrics.timer("query", "Queries").get().unwrap();
    for seconds in [0.25, 0.250_001, 3.0, 100.0] {
        timer.record(std::time::Duration::from_secs_f64(seconds));
    }
    let text = metrics.text();
    for line in [
        r#"query_seconds_bucket{le="0.125"} 0"#,
        r#"query_seconds_bucket{le="0.25"} 1"#,
        r#"query_seconds_bucket{le="0.5"} 2"#,
        r#"query_seconds_bucket{le="4"} 3"#,
        r#"query_seconds_bucket{le="16"} 3"#,
        r#"query_seconds_bucket{le="+Inf"} 4"#,
        "query_seconds_count 4",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
}

#[test]
fn while_threads_record_every_page_is_consistent_and_counters_only_rise() {
    let metrics = metrics();
    let timer = metrics.timer("query", "Queries").get().unwrap();
    let mut last = 0;
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (timer, stop) = (timer.clone(), &stop);
            scope.spawn(move || {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    timer.record(std::time::Duration::from_micros(100 << thread));
                }
            });
        }
        for _ in 0..50 {
            let text = metrics.text();
            let value = |line: &str| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
            let buckets: Vec<u64> =
                text.lines().filter(|l| l.starts_with("query_seconds_bucket")).map(value).collect();
            let count = text.lines().find(|l| l.starts_with("query_seconds_count")).map(value).unwrap();
            assert!(buckets.is_sorted() && buckets.last() == Some(&count));
            assert!(count >= last);
            last = count;
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn beyond_the_limit_samples_go_to_the_overflow_series_and_the_sum_is_exact() {
    let metrics = Metrics::builder().process(false).series_limit(50).build().unwrap();
    let family = metrics.counter("calls", "Calls").family(["route"]).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let family = family.clone();
            scope.spawn(move || {
                for n in 0..500 {
                    family.with([&format!("/{}", thread * 500 + n)]).increment();
                }
            });
        }
    });
    let lines = lines(&metrics, "calls_total");
    let total: u64 = lines.iter().map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!((lines.len(), total), (51, 4_000));
    assert!(lines.contains(&format!("calls_total{{route=\"{OVERFLOW}\"}} 3950")));
    assert!(metrics.text().contains("perf_metrics_rejected_total{reason=\"cardinality\"} 3950"));
}

#[test]
fn a_panicking_collector_costs_its_own_series_only() {
    let metrics = metrics();
    metrics.register(Arc::new(Broken)).unwrap().keep();
    metrics.register(Arc::new(Cache { name: "users", ..Cache::default() })).unwrap().keep();
    let text = metrics.text();
    assert!(text.contains(r#"perf_cache_hits_total{name="users",tier="l1"} 0"#));
    assert!(!text.contains(r#"perf_cache_hits_total{name="one"}"#));
    assert!(text.contains(r#"perf_metrics_collector_errors_total{collector="one",kind="broken"} 1"#));
}

#[test]
fn a_panicking_callback_costs_its_own_series_only() {
    let metrics = metrics();
    metrics.gauge("depth", "Depth").read_with(|| panic!("a bug of the host")).unwrap();
    metrics.gauge("width", "Width").read_with(|| Some(2.0)).unwrap();
    metrics.gauge("height", "Height").read_with(|| None).unwrap();
    let text = metrics.text();
    assert!(text.contains("\nwidth 2\n") && !text.contains("depth") && !text.contains("height"));
    assert!(text.contains(r#"perf_metrics_collector_errors_total{collector="callback",kind="gauge"} 1"#));
}

#[test]
fn a_family_of_another_shape_is_refused_by_name() {
    let metrics = metrics();
    metrics.counter("calls", "Calls").get().unwrap();
    let error = metrics.counter("calls", "Calls").family(["route"]).unwrap_err();
    let expected =
        "`calls_total` is registered as a counter with labels [], not as a counter with labels [\"route\"]";
    assert_eq!(error.to_string(), expected);
    let error = metrics.gauge("calls_total", "Calls").get().unwrap_err();
    assert!(matches!(error, RegisterError::Clash { .. }));
    assert!(matches!(metrics.gauge("x", " ").get(), Err(RegisterError::NoHelp(_))));
    assert!(matches!(metrics.gauge("x", "X").label("le", "1").get(), Err(RegisterError::ReservedLabel(_))));
}

#[test]
fn a_counter_at_its_end_stays_there_and_says_so() {
    let metrics = metrics();
    let rejected = |count: u64| format!("perf_metrics_rejected_total{{reason=\"overflow\"}} {count}");
    let (large, small) =
        (metrics.counter("large", "Large").get().unwrap(), metrics.counter("small", "Small").get().unwrap());
    large.add(u64::MAX - 1);
    assert!(metrics.text().contains(&rejected(0)));
    large.add(u64::MAX);
    large.increment();
    assert_eq!(large.total(), u64::MAX);
    assert!(
        metrics.text().contains(&rejected(1))
            && metrics.text().contains("large_total 18446744073709551615\n")
    );
    // Small steps over the end are noticed by the next reading.
    small.add(u64::MAX - 10);
    (0..20).for_each(|_| small.increment());
    assert!(metrics.text().contains("small_total 18446744073709551615\n"));
    (0..20).for_each(|_| small.increment());
    assert_eq!(small.total(), u64::MAX);
    assert!(metrics.text().contains(&rejected(2)));
}

#[test]
fn asking_again_gives_the_same_series() {
    let metrics = metrics();
    let one = metrics.counter("calls", "Calls").label("route", "/").get().unwrap();
    let two = metrics.counter("calls", "Calls").label("route", "/").get().unwrap();
    one.increment();
    two.absolute(5);
    two.absolute(4);
    assert_eq!(one.total(), 6);
    assert!(metrics.text().contains("perf_metrics_rejected_total{reason=\"decrease\"} 1"));
    assert!(one.try_add_f64(f64::NAN).is_err() && one.try_add_f64(2.0).is_ok());
}

#[test]
fn the_view_has_what_the_page_has() {
    let metrics = metrics();
    metrics.register(Arc::new(Cache { name: "users", ..Cache::default() })).unwrap().keep();
    metrics.counter("calls", "Calls").label("route", "a\"\\\n").get().unwrap().add(3);
    let timer = metrics.timer("query", "Queries").get().unwrap();
    (0..20).for_each(|_| timer.record(std::time::Duration::from_millis(10)));
    let view = metrics.view();
    let family = |name: &str| view.families.iter().find(|family| family.name == name).unwrap();
    let calls = &family("calls_total").series[0];
    assert_eq!((calls.labels["route"].as_str(), &calls.value), ("a\"\\\n", &ValueView::Count(3)));
    assert_eq!(family("perf_cache_hits_total").series[0].component.as_deref(), Some("cache"));
    let ValueView::Distribution(query) = &family("query_seconds").series[0].value else {
        panic!("a histogram")
    };
    assert!((query.p95.unwrap().value - 0.01).abs() < 0.000_11);
    // 20 values say nothing about one in a hundred.
    assert_eq!((query.count, query.p99), (20, None));
    assert_eq!((view.components[0].name.as_str(), view.components[0].reason.as_str()), ("users", "cold"));
}

#[test]
fn the_process_is_on_the_page() {
    let metrics = Metrics::builder().build().unwrap();
    let text = metrics.text();
    let value = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("{name} is missing")).parse().unwrap()
    };
    assert!(value("process_resident_memory_bytes") > 1e5);
    assert!(value("process_open_fds") >= 3.0 && value("process_max_fds") >= value("process_open_fds"));
    assert!(value("process_threads") >= 1.0 && value("process_virtual_memory_bytes") > 1e6);
    assert!(value("process_cpu_seconds_total") >= 0.0 && value("process_start_time_seconds") > 1.6e9);
}

#[test]
fn the_format_falls_back_to_text() {
    assert_eq!(Format::negotiate(None), Format::Text);
    assert_eq!(Format::negotiate(Some("image/png")), Format::Text);
    assert!(Format::Text.content_type().starts_with("text/plain; version=0.0.4"));
}

#[test]
fn a_collector_that_is_slow_twice_is_left_out_of_one_page() {
    struct Slow;
    impl Component for Slow {
        fn id(&self) -> ComponentId {
            ComponentId::new("slow", "one")
        }

        fn collect(&self, sink: &mut dyn Sink) {
            let start = perf_core::time::now();
            while start.elapsed() < std::time::Duration::from_millis(60) {
                std::hint::spin_loop();
            }
            sink.counter(&HITS, &[], 1);
        }
    }
    let metrics = metrics();
    metrics.register(Arc::new(Slow)).unwrap().keep();
    let shown: Vec<bool> =
        (0..4).map(|_| metrics.text().contains("perf_cache_hits_total{name=\"one\"} 1")).collect();
    assert_eq!(shown, [true, true, false, true]);
    assert!(metrics.text().contains(r#"perf_metrics_collector_errors_total{collector="one",kind="slow"} 3"#));
}

#[test]
fn refused_values_are_counted_on_the_page() {
    let metrics = metrics();
    let sizes = metrics.histogram("sizes", "Sizes").get().unwrap();
    [f64::NAN, f64::INFINITY, -1.0].into_iter().for_each(|value| sizes.record(value));
    let text = metrics.text();
    assert!(
        text.contains("perf_metrics_rejected_total{reason=\"value\"} 3") && text.contains("sizes_count 0")
    );
}

#[test]
fn a_second_closure_for_one_level_is_refused() {
    let metrics = metrics();
    metrics.gauge("depth", "Depth").read_with(|| Some(1.0)).unwrap();
    let error = metrics.gauge("depth", "Depth").read_with(|| Some(2.0)).unwrap_err();
    assert_eq!(error, RegisterError::Exists("depth".into()));
}
