//! The table of metrics in docs/metrics.md is what is collected.

use perf_core::time::Duration;
use perf_metrics::{
    Alerts, Allocator, AllocatorStats, AllocatorWatch, Check, Endpoints, HealthChecks, Metrics, RuntimeWatch,
    SlowThresholds,
};
use std::collections::BTreeMap;
use std::sync::Arc;

struct Known;

impl Allocator for Known {
    fn stats(&self) -> AllocatorStats {
        AllocatorStats { allocated: Some(1), active: Some(1), resident: Some(1) }
    }

    fn purge(&self) {}
}

/// Metrics a machine may not have: pressure and cgroup files.
const OPTIONAL: [&str; 3] = [
    "perf_metrics_pressure_ratio",
    "perf_metrics_cgroup_memory_bytes",
    "perf_metrics_cgroup_memory_limit_bytes",
];

#[tokio::test(start_paused = true)]
async fn the_documented_metrics_are_the_collected_ones() {
    let metrics = Metrics::builder().build().unwrap();
    let health = HealthChecks::builder()
        .check(Check::new("db", || async { perf_core::Health::up() }))
        .start()
        .unwrap();
    health.settled().await;
    let alerts = Alerts::builder().build(&metrics).unwrap();
    let watch = RuntimeWatch::start("main");
    let endpoints = Endpoints::new("http", SlowThresholds::HTTP);
    endpoints.record("/", Duration::from_millis(1), false);
    for component in [
        health.component(),
        alerts.component(),
        watch.component(),
        endpoints,
        AllocatorWatch::new(Known),
        Arc::new(perf_metrics::SystemMetrics::new()),
    ] {
        metrics.register(component).unwrap().keep();
    }
    #[cfg(feature = "otlp")]
    metrics
        .register(perf_metrics::Otlp::builder(&metrics, "shop").build().unwrap().component())
        .unwrap()
        .keep();
    let collected: BTreeMap<String, String> = metrics
        .view()
        .families
        .into_iter()
        .filter(|family| !OPTIONAL.contains(&family.name.as_str()))
        .map(|family| (family.name, family.kind.to_owned()))
        .collect();
    let documented: BTreeMap<String, String> = include_str!("../../../../docs/metrics.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .filter(|(name, _)| name.starts_with("perf_metrics_") || name.starts_with("process_"))
        .filter(|(name, _)| !OPTIONAL.contains(name))
        .filter(|(name, _)| cfg!(feature = "otlp") || !name.starts_with("perf_metrics_otlp_"))
        .map(|(name, rest)| (name.to_owned(), rest.split(' ').next().unwrap().to_owned()))
        .collect();
    assert_eq!(documented, collected);
}
