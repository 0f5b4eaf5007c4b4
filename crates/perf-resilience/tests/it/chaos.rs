use perf_core::CallError;
use perf_core::time::{self, Duration};
use perf_resilience::chaos::{Chaos, ChaosConfig};
use perf_resilience::{Breaker, Pipeline};

type Answer = Result<u32, CallError<&'static str>>;

fn config(change: impl FnOnce(&mut ChaosConfig)) -> ChaosConfig {
    let mut config = ChaosConfig::default();
    config.allow_in_release = true;
    change(&mut config);
    config
}

#[tokio::test(start_paused = true)]
async fn each_disturbance_happens_as_often_as_asked_and_repeatably() {
    let config = config(|c| (c.error, c.delay, c.by) = (0.2, 0.3, Duration::from_millis(10)));
    let run = || async {
        let chaos = Chaos::new("c", config, 7).unwrap();
        let mut results = Vec::new();
        for _ in 0..1000 {
            let start = time::now();
            results.push((chaos.run(async { Answer::Ok(1) }).await.is_ok(), start.elapsed()));
        }
        (results, chaos.stats())
    };
    let (results, stats) = run().await;
    assert!((150..250).contains(&stats.failed) && (250..350).contains(&stats.delayed));
    assert_eq!(results, run().await.0);
}

#[tokio::test(start_paused = true)]
async fn g04_a_panic_is_a_failure_to_the_breaker_and_frees_everything_else() {
    let chaos = Chaos::new("c", config(|c| c.panic = 1.0), 1).unwrap();
    let breaker = Breaker::builder("p").build().unwrap();
    let guard = Pipeline::builder("p").breaker(&breaker).build().unwrap();
    let task = tokio::spawn({
        let guard = guard.clone();
        async move { guard.run(|_| chaos.run(async { Answer::Ok(1) })).await }
    });
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!((breaker.stats().failures, breaker.stats().cancelled), (1, 0));
    assert_eq!((guard.bulkhead().unwrap().in_flight(), guard.stats().cancelled), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn switched_off_it_does_nothing_and_nonsense_is_refused() {
    let chaos = Chaos::new("c", config(|c| c.hang = 1.0), 1).unwrap();
    chaos.switch(false);
    assert_eq!(chaos.run(async { Answer::Ok(1) }).await, Ok(1));
    assert_eq!(Chaos::new("c", config(|c| c.error = f64::NAN), 1).unwrap_err().field(), "error");
}
