//! Prometheus itself as the judge: promtool's lint, and a real scrape in both negotiated formats.

use crate::tools::{Server, promtool, said, serve};
use perf_core::{Component, ComponentId, Desc, Gauge, Sink, Unit};
use perf_metrics::{Check, Format, HealthChecks, Metrics};
use std::sync::Arc;
use std::time::Duration;

struct Pool(Gauge);

impl Component for Pool {
    fn id(&self) -> ComponentId {
        ComponentId::new("pool", "orders \"quoted\"\n\\")
    }

    fn collect(&self, sink: &mut dyn Sink) {
        const IN_USE: Desc = Desc::gauge("perf_pool_in_use", "Connections in use", Unit::Count);
        const BUSY: Desc = Desc::counter("perf_pool_busy_seconds_total", "Time in use", Unit::Seconds);
        sink.gauge(&IN_USE, &[], self.0.get() as f64);
        sink.seconds(&BUSY, &[], Duration::from_millis(1500));
    }
}

fn busy() -> (Metrics, HealthChecks) {
    let metrics = Metrics::builder().label("env", "test").build().unwrap();
    metrics.register(Arc::new(Pool(Gauge::new()))).unwrap().keep();
    let health = HealthChecks::builder()
        .check(Check::new("db", || async { perf_core::Health::up() }))
        .start()
        .unwrap();
    metrics.register(health.component()).unwrap().keep();
    let requests = metrics.counter("requests", "Requests served").family(["route"]).unwrap();
    requests.with(["/\u{e9}\"\\\n"]).add(3);
    let latency = metrics.timer("latency", "Latency").get().unwrap();
    for n in 1..=2000_u32 {
        let trace = format!("{n:032x}");
        latency.record_with(Duration::from_micros(u64::from(n) * 50), &[("trace_id", &trace)]);
    }
    metrics.histogram("reply", "Size of replies").unit(Unit::Bytes).get().unwrap().record(5000.0);
    (metrics, health)
}

#[tokio::test]
async fn promtool_accepts_every_line() {
    let (metrics, health) = busy();
    health.settled().await;
    let page = metrics.text();
    let output = promtool(&["check", "metrics"], page.as_bytes());
    assert!(output.status.success(), "{}\n{page}", said(&output));
    assert_eq!(said(&output), "");
}

#[tokio::test]
async fn a_real_prometheus_reads_both_formats_and_agrees_on_quantiles() {
    let (metrics, _health) = busy();
    let target = serve(metrics.clone());
    let native = Server::start(target, "native-histograms");
    let classic = Server::start(target, "exemplar-storage");
    // The native histogram: one series, whose quantiles are within the stated bound of ours and of the truth.
    assert_eq!(native.value("histogram_count(latency_seconds)").await, 2000.0);
    for q in [0.5, 0.9, 0.99] {
        let theirs = native.value(&format!("histogram_quantile({q}, latency_seconds)")).await;
        let view = metrics.view();
        let family = view.families.iter().find(|family| family.name == "latency_seconds").unwrap();
        let perf_metrics::ValueView::Distribution(ours) = &family.series[0].value else {
            panic!("a histogram")
        };
        let ours = ours.snapshot.quantile(q).unwrap();
        let truth = q * 0.1;
        assert!((ours.value / truth - 1.0).abs() <= 0.010_831, "{q}: {ours:?}");
        // Prometheus interpolates within the bucket, so it is in the same bucket: two estimates differ by one width.
        assert!((theirs / truth - 1.0).abs() <= 0.021_9, "{q}: {theirs} instead of {truth}");
    }
    // OpenMetrics: classic buckets, counters, escapes and exemplars.
    assert_eq!(classic.value("latency_seconds_bucket{le=\"0.0625\"}").await, 1250.0);
    assert_eq!(classic.value("requests_total{env=\"test\"}").await, 3.0);
    assert_eq!(classic.value("perf_pool_busy_seconds_total").await, 1.5);
    assert_eq!(classic.value("reply_bytes_bucket{le=\"4096.0\"}").await, 0.0);
    let exemplars = classic.exemplars("latency_seconds_bucket").to_string();
    assert!(exemplars.contains("trace_id") && exemplars.contains(&format!("{:032x}", 1)), "{exemplars}");
    assert_eq!(native.value("up").await + classic.value("up").await, 2.0);
}

#[test]
fn a_restart_of_the_scrape_changes_nothing() {
    let metrics = Metrics::builder().process(false).build().unwrap();
    metrics.timer("latency", "Latency").get().unwrap().record(Duration::from_millis(3));
    for format in [Format::Text, Format::OpenMetrics, Format::Protobuf] {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        metrics.render(format, &mut first);
        metrics.render(format, &mut second);
        assert!(!first.is_empty() && first == second, "{format:?}");
    }
}
