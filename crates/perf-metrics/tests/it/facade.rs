//! The `metrics` facade: §0 and §4 of the design.

use metrics::{Key, Label, Level, Metadata, Recorder, SharedString, Unit};
use perf_metrics::{Facade, Metrics, OVERFLOW};

const METADATA: Metadata<'static> = Metadata::new("test", Level::INFO, None);

fn pair() -> (Metrics, Facade) {
    let metrics = Metrics::builder().process(false).series_limit(10).build().unwrap();
    let facade = metrics.facade();
    (metrics, facade)
}

fn labelled(name: &'static str, key: &'static str, value: impl Into<SharedString>) -> Key {
    Key::from_parts(name, vec![Label::new(key, value)])
}

#[test]
fn a_burst_of_old_samples_is_in_the_quantiles() {
    // metrics-exporter-prometheus 0.18.3 reports p99 = 0.001 for this: its default summary keeps the newest 64 samples
    // of a series' first drain. The truth is 1.
    let (metrics, facade) = pair();
    let histogram = facade.register_histogram(&Key::from_name("latency_seconds"), &METADATA);
    (0..1024).for_each(|_| histogram.record(1.0));
    (0..64).for_each(|_| histogram.record(0.001));
    let view = metrics.view();
    let family = view.families.iter().find(|family| family.name == "latency_seconds").unwrap();
    let perf_metrics::ValueView::Distribution(ours) = &family.series[0].value else { panic!("a histogram") };
    assert!((ours.p99.unwrap().value - 1.0).abs() <= 0.010_831);
    assert!(metrics.text().contains("latency_seconds_bucket{le=\"0.5\"} 64\n"));
}

#[test]
fn names_that_collide_are_refused_and_counted_not_overwritten() {
    let (metrics, facade) = pair();
    facade.register_counter(&Key::from_name("a.b"), &METADATA).increment(1);
    facade.register_counter(&Key::from_name("a_b"), &METADATA).increment(10);
    let text = metrics.text();
    assert!(text.contains("\na_b_total 1\n") && text.contains("rejected_total{reason=\"name\"} 1"));
}

#[test]
fn a_name_keeps_its_kind_and_labels_are_checked() {
    let (metrics, facade) = pair();
    facade.register_histogram(&Key::from_name("size"), &METADATA).record(1.0);
    facade.register_gauge(&Key::from_name("size"), &METADATA).set(7.0);
    facade.register_gauge(&labelled("depth", "le", "1"), &METADATA).set(7.0);
    facade.register_gauge(&labelled("depth", "queue.name", "a"), &METADATA).set(3.0);
    let text = metrics.text();
    assert!(
        !text.contains("size 7")
            && text.contains("reason=\"kind\"} 1")
            && text.contains("reason=\"labels\"} 1")
    );
    assert!(text.contains("depth{queue_name=\"a\"} 3"));
}

#[test]
fn a_nan_sample_harms_nothing() {
    let (metrics, facade) = pair();
    let histogram = facade.register_histogram(&Key::from_name("latency_seconds"), &METADATA);
    histogram.record(f64::NAN);
    histogram.record(0.5);
    assert!(metrics.text().contains("latency_seconds_sum 0.5\n"));
}

#[test]
fn cached_handles_count_for_ever() {
    let (metrics, facade) = pair();
    let handle = facade.register_counter(&Key::from_name("calls"), &METADATA);
    let again = facade.register_counter(&Key::from_name("calls"), &METADATA);
    handle.increment(1);
    (0..10).for_each(|_| drop(metrics.text()));
    handle.increment(7);
    again.increment(1);
    assert!(metrics.text().contains("calls_total 9\n"));
}

#[test]
fn label_sets_beyond_the_limit_overflow_exactly() {
    let (metrics, facade) = pair();
    for n in 0..1000 {
        facade.register_counter(&labelled("calls", "path", format!("/{n}")), &METADATA).increment(1);
    }
    let text = metrics.text();
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("calls_total")).collect();
    assert_eq!(lines.len(), 11);
    assert!(text.contains(&format!("calls_total{{overflow=\"{OVERFLOW}\"}} 990")));
}

#[test]
fn descriptions_may_come_before_or_after() {
    let (metrics, facade) = pair();
    facade.register_histogram(&Key::from_name("db.time"), &METADATA).record(0.3);
    facade.describe_histogram("db.time".into(), Some(Unit::Seconds), "Time in the database".into());
    let text = metrics.text();
    assert!(
        text.contains("# HELP db_time Time in the database\n")
            && text.contains("db_time_bucket{le=\"0.25\"} 0")
    );
}
