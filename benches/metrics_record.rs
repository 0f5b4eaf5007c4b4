//! What one increment and one record cost, beside the rivals, on the same values, by one and by two threads.

#![expect(clippy::expect_used, reason = "a benchmark that cannot be set up has nothing to measure")]

use fastmetrics::metrics::{counter::Counter as FastCounter, histogram::Histogram as FastHistogram};
use metrics::{Key, Label, Level, Metadata, Recorder as _};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use perf_core::Rng;
use perf_metrics::Metrics;
use perfkit_benches::{Contest, CountingAllocator, allocations_during};
use prometheus_client::metrics::{
    counter::Counter as ClientCounter, histogram::Histogram as ClientHistogram,
};
use std::hint::black_box;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const BUCKETS: [f64; 12] = [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0];

fn main() {
    let metrics = Metrics::builder().build().expect("the defaults are valid");
    let recorder =
        PrometheusBuilder::new().set_buckets(&BUCKETS).expect("there are buckets").build_recorder();
    let handle = recorder.handle();
    let values = latencies();
    counters(&metrics, &recorder);
    labels(&metrics, &recorder);
    histograms(&metrics, &recorder, &handle, &values);
    two_threads(&metrics, &recorder, &handle, &values);
    allocations(&metrics, &values);
}

/// Latencies around a millisecond, log-normal as real ones are.
fn latencies() -> Vec<f64> {
    let mut rng = Rng::seeded(7);
    (0..4096)
        .map(|_| {
            let normal: f64 = (0..12).map(|_| rng.unit()).sum::<f64>() - 6.0;
            0.001 * normal.exp()
        })
        .collect()
}

const METADATA: Metadata<'static> = Metadata::new("bench", Level::INFO, None);

fn counters(metrics: &Metrics, recorder: &metrics_exporter_prometheus::PrometheusRecorder) {
    let ours = metrics.counter("bench", "Increments").get().expect("a legal name");
    let theirs = recorder.register_counter(&Key::from_name("bench"), &METADATA);
    let client: ClientCounter = ClientCounter::default();
    let tikv = prometheus::IntCounter::new("bench", "Increments").expect("a legal name");
    let fast: FastCounter = FastCounter::default();
    Contest::new("metrics_counter_1_thread")
        .entry("ours", |n| (0..n).for_each(|_| black_box(&ours).increment()))
        .entry("metrics", |n| (0..n).for_each(|_| black_box(&theirs).increment(1)))
        .entry("prometheus-client", |n| {
            (0..n).for_each(|_| {
                black_box(&client).inc();
            });
        })
        .entry("prometheus", |n| (0..n).for_each(|_| black_box(&tikv).inc()))
        .entry("fastmetrics", |n| {
            (0..n).for_each(|_| {
                black_box(&fast).inc();
            });
        })
        .run();
}

fn labels(metrics: &Metrics, recorder: &metrics_exporter_prometheus::PrometheusRecorder) {
    const ROUTES: [&str; 8] = ["/a", "/orders", "/orders/{id}", "/users", "/users/{id}", "/b", "/c", "/d"];
    let ours = metrics.counter("calls", "Calls").family(["route", "method", "status"]).expect("legal names");
    let opts = prometheus::Opts::new("calls", "Calls");
    let tikv = prometheus::IntCounterVec::new(opts, &["route", "method", "status"]).expect("legal names");
    let route = |i: u64| black_box(ROUTES[(i & 7) as usize]);
    Contest::new("metrics_counter_3_labels")
        .entry("ours", |n| (0..n).for_each(|i| ours.with([route(i), "GET", "2xx"]).increment()))
        .entry("metrics", |n| {
            (0..n).for_each(|i| {
                let labels = vec![
                    Label::new("route", route(i)),
                    Label::new("method", "GET"),
                    Label::new("status", "2xx"),
                ];
                recorder.register_counter(&Key::from_parts("calls", labels), &METADATA).increment(1);
            });
        })
        .entry("prometheus", |n| {
            (0..n).for_each(|i| tikv.with_label_values(&[route(i), "GET", "2xx"]).inc());
        })
        .run();
}

fn histograms(
    metrics: &Metrics,
    recorder: &metrics_exporter_prometheus::PrometheusRecorder,
    handle: &PrometheusHandle,
    values: &[f64],
) {
    let ours = metrics.histogram("bench_values", "Values").get().expect("a legal name");
    let theirs = recorder.register_histogram(&Key::from_name("bench_values"), &METADATA);
    let client = ClientHistogram::new(BUCKETS);
    let opts = prometheus::HistogramOpts::new("bench_values", "Values").buckets(BUCKETS.to_vec());
    let tikv = prometheus::Histogram::with_opts(opts).expect("a legal name");
    let fast = FastHistogram::new(BUCKETS);
    let value = |i: u64| black_box(values[(i & 4095) as usize]);
    Contest::new("metrics_histogram_1_thread")
        .entry("ours", |n| (0..n).for_each(|i| ours.record(value(i))))
        .entry("metrics", |n| {
            (0..n).for_each(|i| theirs.record(value(i)));
            // What was queued must be drained by somebody; leaving it out would only measure a queue.
            handle.run_upkeep();
        })
        .entry("prometheus-client", |n| (0..n).for_each(|i| client.observe(value(i))))
        .entry("prometheus", |n| (0..n).for_each(|i| tikv.observe(value(i))))
        .entry("fastmetrics", |n| (0..n).for_each(|i| fast.observe(value(i))))
        .run();
}

/// Runs `work` on two threads, half of the operations each.
fn on_two(n: u64, work: impl Fn(u64) + Sync) {
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..n / 2).for_each(&work));
        }
    });
}

fn two_threads(
    metrics: &Metrics,
    recorder: &metrics_exporter_prometheus::PrometheusRecorder,
    handle: &PrometheusHandle,
    values: &[f64],
) {
    let round = perf_core::time::Duration::from_millis(40);
    let ours = metrics.counter("pair", "Increments").get().expect("a legal name");
    let theirs = recorder.register_counter(&Key::from_name("pair"), &METADATA);
    let client: ClientCounter = ClientCounter::default();
    let tikv = prometheus::IntCounter::new("pair", "Increments").expect("a legal name");
    let fast: FastCounter = FastCounter::default();
    Contest::new("metrics_counter_2_threads")
        .round_time(round)
        .entry("ours", |n| on_two(n, |_| ours.increment()))
        .entry("metrics", |n| on_two(n, |_| theirs.increment(1)))
        .entry("prometheus-client", |n| {
            on_two(n, |_| {
                client.inc();
            });
        })
        .entry("prometheus", |n| on_two(n, |_| tikv.inc()))
        .entry("fastmetrics", |n| {
            on_two(n, |_| {
                fast.inc();
            });
        })
        .run();
    let ours = metrics.histogram("pair_values", "Values").get().expect("a legal name");
    let theirs = recorder.register_histogram(&Key::from_name("pair_values"), &METADATA);
    let client = ClientHistogram::new(BUCKETS);
    let opts = prometheus::HistogramOpts::new("pair_values", "Values").buckets(BUCKETS.to_vec());
    let tikv = prometheus::Histogram::with_opts(opts).expect("a legal name");
    let fast = FastHistogram::new(BUCKETS);
    let value = |i: u64| values[(i & 4095) as usize];
    Contest::new("metrics_histogram_2_threads")
        .round_time(round)
        .entry("ours", |n| on_two(n, |i| ours.record(value(i))))
        .entry("metrics", |n| {
            on_two(n, |i| theirs.record(value(i)));
            handle.run_upkeep();
        })
        .entry("prometheus-client", |n| on_two(n, |i| client.observe(value(i))))
        .entry("prometheus", |n| on_two(n, |i| tikv.observe(value(i))))
        .entry("fastmetrics", |n| on_two(n, |i| fast.observe(value(i))))
        .run();
}

/// Recording allocates nothing once the octaves have been touched and the counter is hot.
#[expect(clippy::print_stdout, reason = "the figures are what a benchmark is for")]
fn allocations(metrics: &Metrics, values: &[f64]) {
    let counter = metrics.counter("quiet", "Increments").family(["route"]).expect("a legal name");
    let histogram = metrics.histogram("quiet_values", "Values").get().expect("a legal name");
    values.iter().for_each(|value| histogram.record(*value));
    // A counter gets its stripes once it is hot.
    (0..512).for_each(|_| counter.with(["/"]).increment());
    let count = allocations_during(|| {
        values.iter().for_each(|value| histogram.record(*value));
        (0..4096).for_each(|_| counter.with(["/"]).increment());
    });
    println!("metrics_record_allocations ours={count} operations=8192");
    assert_eq!(count, 0);
}
