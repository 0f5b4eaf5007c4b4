//! A retry storm in virtual time, made of the real policies.
//!
//! Ten servers behind one queue answer in 10 ms on average (1,000 calls a second); clients make 800 calls a second and give
//! up after 100 ms, while the server goes on working for nobody. From the tenth to the twelfth second every answer takes
//! three times as long.

use perf_core::time::{self, Duration, Instant};
use perf_core::{CallError, Deadline, Rng};
use perf_resilience::{Budget, Bulkhead, Pipeline, Retry};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, oneshot};

const SERVERS: u32 = 10;
const ARRIVALS: f64 = 800.0;
const FAULT: std::ops::Range<f64> = 10.0..12.0;
const PATIENCE: Duration = Duration::from_millis(100);

/// What is compared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Variant {
    /// What the table calls it.
    pub(super) name: &'static str,
    /// Attempts in all.
    pub(super) attempts: u32,
    /// Extra calls each call pays for; `None` for no budget worth the name.
    pub(super) budget: Option<f64>,
    /// Whether the server bounds its queue to 50 and serves the newest first once the oldest is late.
    pub(super) bounded: bool,
}

/// The variants, from what causes the outage to what prevents it.
pub(super) const VARIANTS: [Variant; 4] = [
    Variant { name: "no retry", attempts: 1, budget: None, bounded: false },
    Variant { name: "3 attempts", attempts: 3, budget: None, bounded: false },
    Variant { name: "+ budget 10 %", attempts: 3, budget: Some(0.1), bounded: false },
    Variant { name: "+ bounded, newest first", attempts: 3, budget: Some(0.1), bounded: true },
];

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    /// The share of calls answered in time during the fault.
    pub(super) in_fault: f64,
    /// Seconds after the fault until three seconds in a row were 95 % good; `None` for never.
    pub(super) recovery: Option<u32>,
    /// The share of calls answered in time after the fault.
    pub(super) after: f64,
    /// The most requests per call in any second.
    pub(super) amplification: f64,
}

enum Door {
    Open(Semaphore),
    Bounded(Bulkhead),
}

struct Server {
    door: Door,
    rng: Mutex<Rng>,
    start: Instant,
    requests: Vec<AtomicU64>,
}

impl Server {
    fn second(&self) -> usize {
        (time::now() - self.start).as_secs() as usize
    }

    async fn work(&self) {
        let slow = FAULT.contains(&(time::now() - self.start).as_secs_f64());
        let mean = if slow { 0.030 } else { 0.010 };
        let takes = self.rng.lock().unwrap_or_else(PoisonError::into_inner).exponential(mean);
        // The timer rounds up to whole milliseconds, half of one on average.
        time::sleep(Duration::from_secs_f64(f64::max(takes - 0.0005, 0.0))).await;
    }

    /// The client may go away; what was begun is done all the same.
    async fn request(self: Arc<Self>) -> Result<(), CallError<&'static str>> {
        if let Some(count) = self.requests.get(self.second()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let (answer, answered) = oneshot::channel();
        tokio::spawn(async move {
            let result = match &self.door {
                Door::Open(servers) => match servers.acquire().await {
                    Ok(_permit) => {
                        self.work().await;
                        Ok(())
                    }
                    Err(_) => Err(CallError::Failed("closed")),
                },
                Door::Bounded(bulkhead) => match bulkhead.acquire(Deadline::NEVER).await {
                    Ok(_permit) => {
                        self.work().await;
                        Ok(())
                    }
                    Err(_) => Err(CallError::Failed("refused")),
                },
            };
            // Nobody may be waiting any more.
            let _ = answer.send(result);
        });
        answered.await.unwrap_or(Err(CallError::Failed("gone")))
    }
}

/// Runs a variant for so many seconds of virtual time. To be called in a runtime whose clock is paused.
///
/// # Errors
/// A policy that could not be made.
pub(super) async fn run(
    variant: Variant,
    seed: u64,
    seconds: usize,
) -> Result<Outcome, perf_core::InvalidConfig> {
    let door = if variant.bounded {
        Door::Bounded(Bulkhead::builder("server").limit(SERVERS).queue(50).max_wait(PATIENCE).build()?)
    } else {
        Door::Open(Semaphore::new(SERVERS as usize))
    };
    let server = Arc::new(Server {
        door,
        rng: Mutex::new(Rng::seeded(seed)),
        start: time::now(),
        requests: (0..seconds).map(|_| AtomicU64::new(0)).collect(),
    });
    let budget = match variant.budget {
        Some(ratio) => Budget::builder("client").ratio(ratio).min_per_sec(0).build()?,
        None => Budget::builder("client").ratio(10.0).cap(1_000_000).build()?,
    };
    let retry =
        Retry::builder("client").max_attempts(variant.attempts).base(Duration::from_millis(20)).seed(seed);
    let client = Pipeline::builder("client")
        .unbounded()
        .attempt_timeout(PATIENCE)
        .retry(retry.budget(&budget))
        .idempotent()
        .build()?;
    let good: Arc<Vec<AtomicU64>> = Arc::new((0..seconds).map(|_| AtomicU64::new(0)).collect());
    let mut calls = vec![0_u64; seconds];
    let mut rng = Rng::seeded(seed.wrapping_mul(31));
    let mut at = 0.0;
    loop {
        at += rng.exponential(1.0 / ARRIVALS);
        let second = at as usize;
        if second >= seconds {
            break;
        }
        calls[second] += 1;
        time::sleep_until(server.start + Duration::from_secs_f64(at)).await;
        let (client, server, good) = (client.clone(), server.clone(), good.clone());
        tokio::spawn(async move {
            let first = client.run(|_| server.clone().request()).await;
            if first.is_ok() {
                good[second].fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    time::sleep(Duration::from_secs(2)).await;
    let share = |range: std::ops::Range<usize>| {
        let answered: u64 = good[range.clone()].iter().map(|count| count.load(Ordering::Relaxed)).sum();
        answered as f64 / calls[range].iter().sum::<u64>().max(1) as f64
    };
    let recovery = (12..seconds.saturating_sub(2))
        .find(|second| (0..3).all(|next| share(second + next..second + next + 1) >= 0.95))
        .and_then(|second| u32::try_from(second - 12).ok());
    let amplification = server.requests.iter().zip(&calls);
    let amplification =
        amplification.map(|(sent, calls)| sent.load(Ordering::Relaxed) as f64 / (*calls).max(1) as f64);
    Ok(Outcome {
        in_fault: share(10..12),
        recovery,
        after: share(12..seconds),
        amplification: amplification.fold(0.0, f64::max),
    })
}
