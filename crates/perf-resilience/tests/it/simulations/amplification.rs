use perf_core::time::Duration;
use perf_core::{CallError, Rejected};
use perf_resilience::{Budget, ByOutcome, Retry};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const CALLS: u32 = 2000;

type Answer = Result<(), CallError<&'static str>>;
type Boxed = Pin<Box<dyn Future<Output = Answer> + Send>>;
type Layer = Arc<dyn Fn() -> Boxed + Send + Sync>;

/// Puts a retry of three attempts round `inner`. A layer in another process does not hear what the one below says about
/// trying again; one in the same process does.
fn layer(inner: Layer, ratio: f64, another_process: bool) -> Layer {
    let budget = Budget::builder("l").ratio(ratio).cap(1_000_000).min_per_sec(0).build().unwrap();
    let retry =
        Retry::builder("l").max_attempts(3).base(Duration::from_millis(1)).budget(&budget).build().unwrap();
    Arc::new(move || {
        let (inner, retry) = (inner.clone(), retry.clone());
        Box::pin(async move {
            retry
                .run(&ByOutcome::default(), |_| {
                    let work = inner();
                    async move {
                        if another_process {
                            tokio::spawn(work).await.unwrap_or_else(|_| Err(gone()))
                        } else {
                            work.await
                        }
                    }
                })
                .await
        })
    })
}

fn gone() -> CallError<&'static str> {
    Rejected::new(perf_core::Reason::Closed, "l").into()
}

/// Requests that reach a dependency that is down, per call.
async fn amplification(layers: u32, ratio: f64, other_processes: bool) -> f64 {
    let requests = Arc::new(AtomicU32::new(0));
    let count = requests.clone();
    let mut call: Layer = Arc::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Err(CallError::Failed("down")) })
    });
    for _ in 0..layers {
        call = layer(call, ratio, other_processes);
    }
    for _ in 0..CALLS {
        assert!(call().await.is_err());
    }
    f64::from(requests.load(Ordering::Relaxed)) / f64::from(CALLS)
}

#[tokio::test(start_paused = true)]
async fn in_a_full_outage_layers_multiply_only_what_their_budgets_allow() {
    for (ratio, expected) in [(10.0, [3.0, 9.0, 27.0]), (0.1, [1.1, 1.21, 1.331]), (0.2, [1.2, 1.44, 1.728])]
    {
        for (layers, expected) in (1..).zip(expected) {
            let found = amplification(layers, ratio, true).await;
            assert!((found / expected - 1.0).abs() < 0.02, "{layers} layers, ratio {ratio}: {found}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn within_a_process_the_signal_keeps_them_from_multiplying_at_all() {
    for layers in 1..=3 {
        let found = amplification(layers, 0.1, false).await;
        assert!((found / 1.1 - 1.0).abs() < 0.02, "{layers} layers: {found}");
    }
}
