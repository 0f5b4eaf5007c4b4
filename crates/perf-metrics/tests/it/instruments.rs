//! What counters and gauges promise: §4 of the design.

use perf_metrics::Metrics;

fn metrics() -> Metrics {
    Metrics::builder().process(false).build().unwrap()
}

#[test]
fn a_total_kept_by_somebody_else_never_falls_and_what_would_lower_it_is_counted() {
    let metrics = metrics();
    let sent = metrics.counter("sent", "Bytes the kernel has sent").get().unwrap();
    for total in [7, 12, 11, 12, 13] {
        sent.absolute(total);
    }
    assert_eq!(sent.total(), 13);
    let text = metrics.text();
    assert!(text.contains("\nsent_total 13\n"), "{text}");
    assert!(text.contains("perf_metrics_rejected_total{reason=\"decrease\"} 1\n"), "{text}");
}

#[test]
fn an_amount_that_is_no_increase_is_refused_and_counted() {
    let metrics = metrics();
    let bytes = metrics.counter("bytes", "Bytes").get().unwrap();
    let refused = [-1.0, -0.5, 0.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    for amount in refused {
        assert!(bytes.try_add_f64(amount).is_err(), "{amount}");
    }
    bytes.try_add_f64(3.0).unwrap();
    bytes.try_add_f64(0.0).unwrap();
    assert_eq!(bytes.total(), 3);
    let counted = format!("perf_metrics_rejected_total{{reason=\"value\"}} {}\n", refused.len());
    assert!(metrics.text().contains(&counted), "{}", metrics.text());
}

#[test]
fn an_unknown_level_is_left_out_and_never_shown_as_zero() {
    let metrics = metrics();
    let depth = metrics.gauge("depth", "Orders waiting").get().unwrap();
    depth.set(4.0);
    assert!(metrics.text().contains("\ndepth 4\n"));
    depth.set_unknown();
    assert!(!metrics.text().contains("\ndepth "));
    depth.add(1.0);
    assert!(!metrics.text().contains("\ndepth "), "what is unknown cannot be raised");
    depth.set(0.0);
    assert!(metrics.text().contains("\ndepth 0\n"));
}

/// A page that is being made holds nothing that a writer needs: it is written from inside of it, where a lock that both
/// share would never be given.
#[test]
fn writers_go_on_while_a_page_of_ten_thousand_series_is_made() {
    let metrics = metrics();
    let by_route = metrics.counter("calls", "Calls").family(["route"]).unwrap();
    for route in 0..1_999 {
        by_route.with([&route.to_string()]).increment();
    }
    let times = metrics.histogram("times", "Times").get().unwrap();
    let (calls, recorded) = (by_route.with(["7"]), times.clone());
    metrics
        .gauge("inside", "Set while the page is made")
        .read_with(move || {
            calls.increment();
            by_route.with(["8"]).increment();
            recorded.record(0.5);
            Some(1.0)
        })
        .unwrap();
    for _ in 0..3 {
        assert!(metrics.text().contains("\ninside 1\n"));
    }
    assert_eq!(times.snapshot().count(), 3);
}
