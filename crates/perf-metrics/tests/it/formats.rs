//! OpenMetrics and protobuf, line by line and byte by byte.

use crate::protobuf::{fields, take, varint};
use perf_metrics::{Format, Metrics};
use std::time::Duration;

fn metrics() -> Metrics {
    Metrics::builder().process(false).build().unwrap()
}

fn openmetrics(metrics: &Metrics) -> String {
    let mut out = Vec::new();
    metrics.render(Format::OpenMetrics, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn openmetrics_names_families_without_total_and_ends_with_eof() {
    let metrics = metrics();
    metrics.counter("calls", "Calls of \"all\" kinds").get().unwrap().add(2);
    let text = openmetrics(&metrics);
    assert!(
        text.starts_with("# TYPE calls counter\n# HELP calls Calls of \\\"all\\\" kinds\ncalls_total 2\n")
    );
    assert!(text.ends_with("# EOF\n"));
    assert_eq!(text.matches("# EOF").count(), 1);
}

#[test]
fn a_gauge_of_the_counters_base_name_keeps_both_readable() {
    let metrics = metrics();
    metrics.counter("calls", "Calls").get().unwrap();
    metrics.gauge("calls", "Calls right now").get().unwrap();
    let text = openmetrics(&metrics);
    assert!(text.contains("# TYPE calls gauge\n") && text.contains("# TYPE calls_total unknown\n"));
}

#[test]
fn exemplars_are_in_openmetrics_only_and_one_per_bucket() {
    let metrics = metrics();
    let timer = metrics.timer("query", "Queries").get().unwrap();
    timer.record_with(Duration::from_millis(200), &[("trace_id", "first")]);
    timer.record_with(Duration::from_millis(201), &[("trace_id", "too soon")]);
    timer.record_with(Duration::from_secs(100), &[("trace_id", "beyond")]);
    timer.record_with(Duration::from_secs(1), &[("trace_id", &"x".repeat(129))]);
    let text = openmetrics(&metrics);
    assert!(text.contains("query_seconds_bucket{le=\"0.25\"} 2 # {trace_id=\"first\"} 0.2\n"), "{text}");
    assert!(text.contains("query_seconds_bucket{le=\"+Inf\"} 4 # {trace_id=\"beyond\"} 100\n"));
    assert_eq!(text.matches(" # {").count(), 2);
    assert!(
        text.contains("query_seconds_bucket{le=\"1.0\"} 3\n")
            && text.contains("# UNIT query_seconds seconds\n")
    );
    assert!(!metrics.text().contains("trace_id"));
}

#[tokio::test(start_paused = true)]
async fn the_newest_exemplar_wins_after_a_second() {
    let metrics = metrics();
    let timer = metrics.timer("query", "Queries").get().unwrap();
    timer.record_with(Duration::from_millis(200), &[("trace_id", "old")]);
    tokio::time::sleep(Duration::from_millis(1001)).await;
    timer.record_with(Duration::from_millis(201), &[("trace_id", "new")]);
    let text = openmetrics(&metrics);
    assert!(text.contains("trace_id=\"new\"") && !text.contains("trace_id=\"old\""));
}

#[test]
fn values_hidden_by_a_stall_are_recorded_when_the_interval_is_known() {
    let metrics = metrics();
    let sizes = metrics.histogram("stall", "Stalls").get().unwrap();
    sizes.record_corrected(10.0, 1.0);
    // 10, 9, 8 … 1.
    assert_eq!(sizes.snapshot().count(), 10);
    sizes.record_corrected(5.0, 0.0);
    sizes.record_corrected(f64::INFINITY, 1.0);
    assert_eq!(sizes.snapshot().count(), 11);
    let timer = metrics.timer("late", "Late starts").get().unwrap();
    timer.record_from(perf_core::time::now());
    assert_eq!(timer.snapshot().count(), 1);
}

#[test]
fn protobuf_families_decode_and_native_buckets_sum_to_the_count() {
    let metrics = metrics();
    metrics.counter("calls", "Calls").label("route", "a\"b").get().unwrap().add(7);
    let timer = metrics.timer("query", "Queries").get().unwrap();
    for n in 1..=5000_u64 {
        timer.record(Duration::from_nanos(n * n * n));
    }
    timer.record(Duration::ZERO);
    let mut out = Vec::new();
    metrics.render(Format::Protobuf, &mut out);
    let mut rest = out.as_slice();
    let mut families = std::collections::BTreeMap::new();
    while !rest.is_empty() {
        let length = varint(&mut rest) as usize;
        let family = fields(&take(&mut rest, length));
        families.insert(String::from_utf8(family[0].1.clone()).unwrap(), family);
    }
    let metric = |name: &str| fields(&families[name].iter().find(|(field, _)| *field == 4).unwrap().1);
    let calls = metric("calls_total");
    assert_eq!(fields(&calls[0].1)[1].1, b"a\"b");
    assert_eq!(fields(&calls[1].1)[0].1, 7.0_f64.to_le_bytes());
    let histogram = fields(&metric("query_seconds")[0].1);
    let number = |field| {
        u64::from_le_bytes(histogram.iter().find(|(f, _)| *f == field).unwrap().1[..].try_into().unwrap())
    };
    let deltas = &histogram.iter().find(|(field, _)| *field == 13).unwrap().1;
    let (mut rest, mut count, mut sum, mut buckets) = (deltas.as_slice(), 0_i64, 0_i64, 0);
    while !rest.is_empty() {
        let zigzag = varint(&mut rest);
        count += (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
        sum += count;
        buckets += 1;
    }
    let spans: u64 = histogram
        .iter()
        .filter(|(field, _)| *field == 12)
        .map(|(_, span)| {
            let fields = fields(span);
            u64::from_le_bytes(fields[1].1[..].try_into().unwrap())
        })
        .sum();
    // 37 octaves at schema 5 would be more than 160 buckets: the schema was lowered.
    assert!(buckets <= 160 && spans == buckets && number(5) >> 1 < 5);
    assert_eq!((number(1), sum as u64 + number(7)), (5001, 5001));
}

#[cfg(feature = "otlp")]
#[test]
fn an_export_request_decodes_and_its_buckets_are_opentelemetrys() {
    let metrics = metrics();
    metrics.counter("calls", "Calls").label("route", "/").get().unwrap().add(7);
    let timer = metrics.timer("query", "Queries").get().unwrap();
    // One value on the closing bound of a bucket, one just above the next.
    timer.record(Duration::from_secs(1));
    timer.record(Duration::from_secs(2));
    timer.record(Duration::from_secs(2));
    let mut out = Vec::new();
    metrics.otlp("shop", 5, 9, &mut out);
    let resource_metrics = fields(&fields(&out)[0].1);
    let scope = fields(&resource_metrics[1].1);
    let named = |name: &str| {
        let mut found = scope.iter().filter(|(field, _)| *field == 2).map(|(_, metric)| fields(metric));
        found.find(|metric| metric[0].1 == name.as_bytes()).unwrap()
    };
    let calls = fields(&fields(&named("calls_total")[3].1)[0].1);
    assert_eq!(
        (calls[0].1.clone(), calls[2].1.clone()),
        (5_u64.to_le_bytes().to_vec(), 7_u64.to_le_bytes().to_vec())
    );
    let query = named("query_seconds");
    assert_eq!((query[2].1.as_slice(), query[3].0), (b"s".as_slice(), 10));
    let point = fields(&fields(&query[3].1)[0].1);
    let buckets = fields(&point.iter().find(|(field, _)| *field == 8).unwrap().1);
    // At scale 5 a second closes bucket −1, which ends at 2⁰; two seconds close bucket 31.
    assert_eq!(buckets[0].1[..8], 1_u64.to_le_bytes());
    let counts = &buckets[1].1;
    assert_eq!(
        (counts.len(), counts[0], counts[32], counts.iter().map(|c| u64::from(*c)).sum::<u64>()),
        (33, 1, 2, 3)
    );
}
