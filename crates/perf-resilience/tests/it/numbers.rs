use perf_core::{Component, Desc, Histogram, Label, Sink};
use perf_resilience::adaptive::Adaptive;
use perf_resilience::degradation::Degradation;
use perf_resilience::fallback::Fallback;
use perf_resilience::hedge::Hedge;
use perf_resilience::rate::RateLimit;
use perf_resilience::throttle::Throttle;
use perf_resilience::{Breaker, Pipeline, Retry, Timeout};
use std::collections::BTreeSet;
use std::time::Duration;

#[derive(Default)]
struct Names(BTreeSet<&'static str>);

impl Sink for Names {
    fn counter(&mut self, desc: &Desc, labels: &[Label<'_>], _: u64) {
        assert!(desc.name.ends_with("_total") && labels.len() <= 2, "{}", desc.name);
        self.0.insert(desc.name);
    }

    fn gauge(&mut self, desc: &Desc, labels: &[Label<'_>], value: f64) {
        assert!(value.is_finite() && labels.len() <= 2, "{}", desc.name);
        self.0.insert(desc.name);
    }

    fn histogram(&mut self, desc: &Desc, _: &[Label<'_>], _: &Histogram) {
        self.0.insert(desc.name);
    }

    fn seconds(&mut self, desc: &Desc, _: &[Label<'_>], _: Duration) {
        self.0.insert(desc.name);
    }
}

fn collected() -> BTreeSet<&'static str> {
    let mut names = Names::default();
    let hedge = Hedge::builder("n").delay(Duration::from_millis(1)).build().unwrap();
    let breaker = Breaker::builder("n").min_calls(1).failure_rate(1.0).build().unwrap();
    breaker.enter().unwrap().leave(perf_core::Outcome::Success);
    let rate = RateLimit::builder("n").build().unwrap();
    let guard = Pipeline::builder("n")
        .breaker(&breaker)
        .rate(&rate)
        .retry(Retry::builder("n"))
        .hedge(&hedge)
        .build()
        .unwrap();
    let mut components = guard.components();
    components.push(std::sync::Arc::new(RateLimit::builder("n").build_keyed::<u8>().unwrap()));
    components.push(std::sync::Arc::new(Adaptive::builder("n").partitions([("p", 1.0)]).unwrap()));
    components.push(std::sync::Arc::new(Throttle::builder("n").build().unwrap()));
    components.push(std::sync::Arc::new(Degradation::builder("n").build().unwrap()));
    components.push(std::sync::Arc::new(Fallback::new("n")));
    components.push(std::sync::Arc::new(Timeout::new("n", Duration::from_secs(1)).unwrap()));
    #[cfg(feature = "redis")]
    {
        let client = redis::Client::open("redis://127.0.0.1/").unwrap();
        let limit = perf_resilience::rate::SharedRate::new("n", client, Default::default()).unwrap();
        components.push(std::sync::Arc::new(limit));
    }
    #[cfg(feature = "chaos")]
    {
        let mut config = perf_resilience::chaos::ChaosConfig::default();
        config.allow_in_release = true;
        components.push(std::sync::Arc::new(perf_resilience::chaos::Chaos::new("n", config, 1).unwrap()));
    }
    for component in &components {
        component.collect(&mut names);
    }
    names.0
}

#[tokio::test]
async fn the_table_of_the_documentation_lists_exactly_what_is_collected() {
    let page = include_str!("../../../../docs/resilience.md");
    let listed: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `perf_resilience_").map(|_| line))
        .filter_map(|line| line.split('`').nth(1))
        .filter(|name| cfg!(feature = "chaos") || !name.contains("_chaos_"))
        .filter(|name| cfg!(feature = "redis") || !name.contains("_alone_") && !name.contains("_store_"))
        .filter(|name| !name.contains("_snapshot_"))
        .collect();
    assert_eq!(listed, collected());
}

#[tokio::test]
async fn series_exist_from_the_first_scrape_on() {
    let names = collected();
    assert!(names.contains("perf_resilience_breaker_calls_total"));
    assert!(names.contains("perf_resilience_pipeline_calls_total"));
}
