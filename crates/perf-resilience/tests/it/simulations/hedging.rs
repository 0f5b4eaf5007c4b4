use perf_core::time::{self, Duration};
use perf_core::{CallError, Rng};
use perf_resilience::hedge::Hedge;
use perf_resilience::{Attempt, Budget, Pipeline};
use std::sync::Mutex;

const CALLS: usize = 20_000;

/// The 50th, 99th and 99.9th percentile in milliseconds, and the requests per call.
async fn tail(quantile: Option<f64>) -> ([f64; 3], f64) {
    let budget = Budget::builder("h").ratio(1.0).cap(1000).build().unwrap();
    let mut pipeline = Pipeline::builder("h").unbounded().budget(&budget).idempotent();
    if let Some(quantile) = quantile {
        pipeline = pipeline.hedge(&Hedge::builder("h").quantile(quantile).build().unwrap());
    }
    let pipeline = pipeline.build().unwrap();
    let rng = Mutex::new(Rng::seeded(7));
    let requests = std::sync::atomic::AtomicU32::new(0);
    let mut times = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let start = time::now();
        let call = |_: Attempt| {
            requests.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let mut rng = rng.lock().unwrap();
            let takes =
                if rng.chance(0.01) { 200.0 + 1600.0 * rng.unit() } else { 1.0 + rng.exponential(5.0) };
            async move {
                // The timer rounds up to whole milliseconds, half of one on average.
                time::sleep(Duration::from_secs_f64((takes - 0.5) / 1e3)).await;
                Ok::<_, CallError<()>>(())
            }
        };
        pipeline.run(call).await.unwrap();
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((CALLS as f64 * share) as usize).min(CALLS - 1)];
    ([at(0.5), at(0.99), at(0.999)], f64::from(requests.into_inner()) / CALLS as f64)
}

#[tokio::test(start_paused = true)]
async fn a_hedge_removes_the_tail_for_the_requests_its_quantile_allows() {
    // Quantile, the largest 99th and 99.9th percentile, and the most requests per call; computed: 20.0 and 28.1 for
    // 10 % more calls, 22.4 and 31.2 for 5 %. Of the slow ones there is exactly one in a hundred, so a learnt 99th
    // percentile lies anywhere at the foot of their hump, and only half of the end is cut off for certain.
    let table = [(0.9, 22.5, 33.0, 1.11), (0.95, 25.0, 36.0, 1.06), (0.99, f64::MAX, 820.0, 1.02)];
    let ([median, _, end], requests) = tail(None).await;
    assert!((4.0..=5.5).contains(&median) && end > 1300.0 && requests == 1.0, "{median} {end} {requests}");
    for (quantile, p99, p999, most) in table {
        let (found, requests) = tail(Some(quantile)).await;
        assert!((4.0..=5.5).contains(&found[0]), "{quantile}: {found:?}");
        assert!(found[1] <= p99 && found[2] <= p999, "{quantile}: {found:?}");
        assert!((1.0..=most).contains(&requests), "{quantile}: {requests}");
    }
}
