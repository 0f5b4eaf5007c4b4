//! What a scrape costs, beside the rivals: 10,000 counters, 10,000 histograms; allocations of a second scrape; memory
//! while samples arrive and nobody scrapes.

#![expect(clippy::expect_used, reason = "a benchmark that cannot be set up has nothing to measure")]

use metrics::{Key, Label, Level, Metadata, Recorder as _};
use metrics_exporter_prometheus::PrometheusBuilder;
use perf_metrics::{Format, Metrics};
use perfkit_benches::{Contest, CountingAllocator, allocations_during};
use prometheus_client::encoding::{EncodeLabel as _, EncodeLabelSet};
use prometheus_client::metrics::{counter::Counter, family::Family, histogram::Histogram};
use std::hint::black_box;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const SERIES: usize = 10_000;
const BUCKETS: [f64; 12] = [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0];
const METADATA: Metadata<'static> = Metadata::new("bench", Level::INFO, None);

fn main() {
    counters();
    histograms();
    unscraped();
    flood();
}

fn ours() -> Metrics {
    Metrics::builder().process(false).series_limit(100_000).build().expect("the settings are valid")
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct Route(String);

impl EncodeLabelSet for Route {
    fn encode(
        &self,
        encoder: &mut prometheus_client::encoding::LabelSetEncoder<'_>,
    ) -> Result<(), std::fmt::Error> {
        ("route", self.0.as_str()).encode(encoder.encode_label())
    }
}

/// Renders again and again and reports milliseconds per page through the contest's nanoseconds.
fn contest(
    name: &str,
    metrics: &Metrics,
    theirs: impl Fn() -> usize,
    client: impl Fn() -> usize,
    tikv: impl Fn() -> usize,
) {
    let mut page = Vec::new();
    Contest::new(name)
        .rounds(9)
        .entry("ours", |n| {
            for _ in 0..n {
                page.clear();
                metrics.render(Format::Text, &mut page);
                black_box(page.len());
            }
        })
        .entry("metrics", |n| (0..n).for_each(|_| assert!(black_box(theirs()) > 0)))
        .entry("prometheus-client", |n| (0..n).for_each(|_| assert!(black_box(client()) > 0)))
        .entry("prometheus", |n| (0..n).for_each(|_| assert!(black_box(tikv()) > 0)))
        .run();
}

fn encoded(registry: &prometheus::Registry) -> usize {
    let mut out = Vec::new();
    prometheus::Encoder::encode(&prometheus::TextEncoder::new(), &registry.gather(), &mut out)
        .expect("memory");
    out.len()
}

fn counters() {
    let metrics = ours();
    let recorder = PrometheusBuilder::new().build_recorder();
    let mut client_registry = prometheus_client::registry::Registry::default();
    let client = Family::<Route, Counter>::default();
    client_registry.register("calls", "Calls", client.clone());
    let registry = prometheus::Registry::new();
    let tikv =
        prometheus::IntCounterVec::new(prometheus::Opts::new("calls", "Calls"), &["route"]).expect("legal");
    registry.register(Box::new(tikv.clone())).expect("new");
    let family = metrics.counter("calls", "Calls").family(["route"]).expect("legal");
    for n in 0..SERIES {
        let route = format!("/route/{n}");
        family.with([&route]).add(n as u64);
        let key = Key::from_parts("calls", vec![Label::new("route", route.clone())]);
        recorder.register_counter(&key, &METADATA).increment(n as u64);
        tikv.with_label_values(&[&route]).inc_by(n as u64);
        client.get_or_create(&Route(route)).inc_by(n as u64);
    }
    let handle = recorder.handle();
    let client_page = || {
        let mut out = String::new();
        prometheus_client::encoding::text::encode(&mut out, &client_registry).expect("memory");
        out.len()
    };
    contest(
        "metrics_render_10k_counters",
        &metrics,
        || handle.render().len(),
        client_page,
        || encoded(&registry),
    );
    quiet("metrics_render_counters_allocations", &metrics);
}

fn histograms() {
    let metrics = ours();
    let recorder =
        PrometheusBuilder::new().set_buckets(&BUCKETS).expect("there are buckets").build_recorder();
    let mut client_registry = prometheus_client::registry::Registry::default();
    let client =
        Family::<Route, Histogram, fn() -> Histogram>::new_with_constructor(|| Histogram::new(BUCKETS));
    client_registry.register("calls_seconds", "Calls", client.clone());
    let registry = prometheus::Registry::new();
    let opts = prometheus::HistogramOpts::new("calls_seconds", "Calls").buckets(BUCKETS.to_vec());
    let tikv = prometheus::HistogramVec::new(opts, &["route"]).expect("legal");
    registry.register(Box::new(tikv.clone())).expect("new");
    let family = metrics.timer("calls", "Calls").family(["route"]).expect("legal");
    for n in 0..SERIES {
        let route = format!("/route/{n}");
        let key = Key::from_parts("calls_seconds", vec![Label::new("route", route.clone())]);
        let theirs = recorder.register_histogram(&key, &METADATA);
        for k in 0..100_u32 {
            let value = 0.0002 * f64::from(1 + (k * k + n as u32) % 997);
            family.with([&route]).record(std::time::Duration::from_secs_f64(value));
            theirs.record(value);
            tikv.with_label_values(&[&route]).observe(value);
            client.get_or_create(&Route(route.clone())).observe(value);
        }
    }
    let handle = recorder.handle();
    handle.run_upkeep();
    let client_page = || {
        let mut out = String::new();
        prometheus_client::encoding::text::encode(&mut out, &client_registry).expect("memory");
        out.len()
    };
    contest(
        "metrics_render_10k_histograms",
        &metrics,
        || handle.render().len(),
        client_page,
        || encoded(&registry),
    );
    quiet("metrics_render_histograms_allocations", &metrics);
}

/// The second scrape allocates nothing.
#[expect(clippy::print_stdout, reason = "the figures are what a benchmark is for")]
fn quiet(name: &str, metrics: &Metrics) {
    let mut page = Vec::new();
    for _ in 0..2 {
        page.clear();
        metrics.render(Format::Text, &mut page);
    }
    let count = allocations_during(|| {
        page.clear();
        metrics.render(Format::Text, &mut page);
    });
    println!("{name} ours={count} bytes={}", page.len());
    // A page without components and process metrics allocates nothing; the list of components is empty here.
    assert_eq!(count, 0);
}

/// 60 s × 100,000 samples/s without a scrape: as many samples as fast as they go; memory must not grow.
#[expect(clippy::print_stdout, reason = "the figures are what a benchmark is for")]
fn unscraped() {
    let metrics = ours();
    let timer = metrics.timer("calls", "Calls").get().expect("legal");
    let record = |samples: u64| {
        for n in 0..samples {
            timer.record(std::time::Duration::from_nanos(100_000 + (n * 7919) % 50_000_000));
        }
    };
    record(100_000);
    let before = resident();
    let count = allocations_during(|| record(6_000_000));
    let grown = resident().saturating_sub(before);
    println!("metrics_unscraped_6M_samples allocations={count} grown_kib={}", grown / 1024);
    assert!(count == 0 && grown < 1 << 20);
}

/// Ten million distinct label values from eight threads: series and memory stay bounded, the total exact.
#[expect(clippy::print_stdout, reason = "the figures are what a benchmark is for")]
fn flood() {
    const THREADS: u64 = 8;
    const EACH: u64 = 1_250_000;
    let metrics = Metrics::builder().process(false).build().expect("the defaults are valid");
    let family = metrics.counter("calls", "Calls").family(["path"]).expect("legal");
    family.with(["/warm-up"]).increment();
    let (before, began) = (resident(), perf_core::time::now());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let family = family.clone();
            scope.spawn(move || (0..EACH).for_each(|n| family.with([&format!("/{thread}/{n}")]).increment()));
        }
    });
    let taken = began.elapsed();
    let text = metrics.text();
    let values = text.lines().filter(|line| line.starts_with("calls_total{"));
    let values: Vec<u64> = values.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
    let (series, total) = (values.len(), values.iter().sum::<u64>());
    let grown = resident().saturating_sub(before) / 1024;
    let distinct = metrics.overflows()[0].distinct;
    println!(
        "metrics_flood series={series} total={total} grown_kib={grown} distinct={distinct:.0} ms={}",
        taken.as_millis()
    );
    assert_eq!((series, total), (2_001, THREADS * EACH + 1));
    assert!(grown < 16 * 1024);
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = statm.split_ascii_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("statm has two fields") * 4096
}
