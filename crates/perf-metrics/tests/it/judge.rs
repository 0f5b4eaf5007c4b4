//! Judgement, what the process runs on, and spans: issue scope 6 to 9.

use perf_core::time::{self, Duration};
use perf_core::{Component, ComponentId, Health, Sink};
use perf_metrics::{
    Alerts, AlertsExaminer, Allocator, AllocatorStats, AllocatorWatch, ComponentsExaminer, Cycle, Diagnosis,
    Endpoints, EndpointsExaminer, LeakExaminer, Metrics, Proposal, Resource, Rule, RuntimeWatch, Severity,
    Signal, SlowThresholds, SystemMetrics, Tuner, TuningOutcome, find_leak,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn metrics() -> Metrics {
    Metrics::builder().process(false).build().unwrap()
}

struct Sick;

impl Component for Sick {
    fn id(&self) -> ComponentId {
        ComponentId::new("pool", "orders")
    }

    fn collect(&self, _: &mut dyn Sink) {}

    fn health(&self) -> Health {
        Health::down("connection refused")
    }
}

struct Grow(Arc<AtomicU64>);

impl Tuner for Grow {
    fn name(&self) -> &str {
        "pool"
    }

    fn propose(&self, diagnosis: &Diagnosis) -> Vec<Proposal> {
        let needed = diagnosis.findings.iter().any(|finding| finding.id.starts_with("slow_endpoint"));
        let proposal = |to: &str| Proposal {
            what: "pool.max".into(),
            from: "10".into(),
            to: to.into(),
            reason: "calls wait".into(),
            expected: "p95 falls".into(),
        };
        if needed { vec![proposal("20"), proposal("many")] } else { Vec::new() }
    }

    fn apply(&self, proposal: &Proposal) -> Result<(), String> {
        let size = proposal.to.parse::<u64>().map_err(|error| error.to_string())?;
        self.0.store(size, Ordering::Relaxed);
        Ok(())
    }
}

fn cycle(enabled: bool, size: &Arc<AtomicU64>) -> Cycle {
    let routes = Endpoints::new("http", SlowThresholds::HTTP);
    (0..50).for_each(|n| routes.record("/orders", Duration::from_millis(900), n % 10 == 0));
    (0..50).for_each(|_| routes.record("/ok", Duration::from_millis(1), false));
    Cycle::builder()
        .examiner(EndpointsExaminer(routes))
        .tuner(Grow(Arc::clone(size)))
        .enabled(enabled)
        .build()
}

#[test]
fn the_cycle_proposes_and_changes_nothing_until_the_host_enabled_it() {
    let size = Arc::new(AtomicU64::new(10));
    let careful = cycle(false, &size);
    let diagnosis = careful.run(time::now());
    assert!(diagnosis.score.unwrap() < 100.0 && diagnosis.judged == 2);
    assert!(careful.records().iter().all(|record| record.outcome == TuningOutcome::OnlyProposed));
    assert_eq!((careful.records().len(), size.load(Ordering::Relaxed)), (2, 10));
    let bold = cycle(true, &size);
    drop(bold.run(time::now()));
    let outcomes: Vec<TuningOutcome> = bold.records().into_iter().map(|record| record.outcome).collect();
    assert_eq!(outcomes[0], TuningOutcome::Applied);
    assert!(matches!(&outcomes[1], TuningOutcome::Failed(why) if why.contains("invalid digit")));
    assert_eq!(size.load(Ordering::Relaxed), 20);
}

#[tokio::test(start_paused = true)]
async fn the_cycle_runs_by_itself_until_its_guard_is_dropped() {
    let size = Arc::new(AtomicU64::new(10));
    let cycle = cycle(true, &size);
    let task = cycle.spawn(Duration::from_secs(1800));
    tokio::time::sleep(Duration::from_secs(1799)).await;
    assert!(cycle.records().is_empty());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(cycle.records()[0].round, 1);
    drop(task);
    let before = cycle.records().len();
    tokio::time::sleep(Duration::from_secs(18_000)).await;
    assert_eq!(cycle.records().len(), before);
}

#[test]
fn every_deduction_can_be_followed_back_to_evidence() {
    let metrics = metrics();
    metrics.register(Arc::new(Sick)).unwrap().keep();
    metrics.gauge("depth", "Depth").get().unwrap().set(9.0);
    let rule = Rule::above("Full", Signal::level("depth"), 1.0)
        .severity(Severity::Page)
        .summary("the queue is full");
    let alerts = Alerts::builder().rule(rule).build(&metrics).unwrap();
    alerts.tick(time::now());
    let growing: Vec<f64> = (0..600).map(|n| f64::from(n) * 1000.0).collect();
    let leak = find_leak(Resource::Heap, &growing, Duration::from_secs(60), Some(1e6)).unwrap();
    let leaks = LeakExaminer::default();
    leaks.set(vec![leak], 3);
    let cycle = Cycle::builder()
        .examiner(AlertsExaminer(alerts))
        .examiner(ComponentsExaminer(metrics.registry().clone()))
        .examiner(leaks)
        .build();
    let diagnosis = cycle.diagnose(time::now());
    let ids: Vec<&str> = diagnosis.findings.iter().map(|finding| finding.id.as_str()).collect();
    assert_eq!(ids, ["alert:Full", "leak:heap", "component:pool/orders"]);
    for finding in &diagnosis.findings {
        assert!(!finding.evidence.is_empty() && !finding.action.is_empty() && !finding.verify.is_empty());
    }
    let lost: f64 = diagnosis.deductions.iter().map(|deduction| deduction.points).sum();
    assert!((diagnosis.score.unwrap() - (100.0 - lost)).abs() < 1e-9);
    // Without data there is no score, not a perfect one.
    assert_eq!(Cycle::builder().build().diagnose(time::now()).score, None);
}

#[tokio::test(start_paused = true)]
async fn the_runtime_is_watched() {
    let metrics = metrics();
    let watch = RuntimeWatch::start("main");
    metrics.register(watch.component()).unwrap().keep();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let text = metrics.text();
    assert!(text.contains("perf_metrics_runtime_workers{name=\"main\"} 1"));
    assert!(text.contains("perf_metrics_runtime_stalls_total{name=\"main\"} 0") && watch.tasks() >= 1);
    let count = text
        .lines()
        .find_map(|line| line.strip_prefix("perf_metrics_runtime_lag_seconds_count{name=\"main\"} "));
    assert!(count.unwrap().parse::<u64>().unwrap() >= 90);
    drop(watch);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = metrics.text();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let lag = |text: &str| {
        text.lines()
            .find(|line| line.starts_with("perf_metrics_runtime_lag_seconds_count"))
            .map(str::to_owned)
    };
    assert_eq!(lag(&after), lag(&metrics.text()));
}

#[test]
fn a_purge_says_what_it_freed() {
    struct Fake(AtomicU64);
    impl Allocator for Fake {
        fn stats(&self) -> AllocatorStats {
            AllocatorStats {
                allocated: Some(10),
                active: None,
                resident: Some(self.0.load(Ordering::Relaxed)),
            }
        }
        fn purge(&self) {
            self.0.store(40, Ordering::Relaxed);
        }
    }
    let metrics = metrics();
    let watch = AllocatorWatch::new(Fake(AtomicU64::new(100)));
    metrics.register(Arc::clone(&watch) as Arc<dyn Component>).unwrap().keep();
    metrics.register(Arc::new(SystemMetrics::new())).unwrap().keep();
    let purged = watch.purge();
    assert_eq!((purged.before, purged.after, purged.freed()), (Some(100), Some(40), 60));
    let text = metrics.text();
    assert!(text.contains("perf_metrics_allocator_purged_bytes_total{name=\"global\"} 60"));
    assert!(
        text.contains("perf_metrics_allocator_resident_bytes{name=\"global\"} 40")
            && !text.contains("active_bytes")
    );
}

#[cfg(feature = "tracing")]
#[test]
fn spans_leave_their_times_and_their_trace() {
    use perf_metrics::{Format, SpanTimes, TraceParent};
    use tracing_subscriber::prelude::*;
    use tracing_subscriber::registry::LookupSpan;
    let metrics = metrics();
    let subscriber = tracing_subscriber::registry().with(SpanTimes::new(&metrics).unwrap());
    tracing::subscriber::with_default(subscriber, || {
        let span = tracing::info_span!("checkout");
        tracing::dispatcher::get_default(|dispatch| {
            let registry = dispatch.downcast_ref::<tracing_subscriber::Registry>().unwrap();
            let data = registry.span(&span.id().unwrap()).unwrap();
            data.extensions_mut().insert(TraceParent::new(0xabc, 1, true).unwrap());
        });
        drop(span);
        drop(tracing::debug_span!("detail"));
    });
    let mut page = Vec::new();
    metrics.render(Format::OpenMetrics, &mut page);
    let page = String::from_utf8(page).unwrap();
    assert!(page.contains("span_seconds_count{span=\"checkout\"} 1") && !page.contains("detail"));
    assert!(page.contains("# {trace_id=\"00000000000000000000000000000abc\"}"));
}
