//! A retry storm in virtual time, made of the real policies.
//!
//! Ten servers behind one queue answer in 10 ms on average (1,000 calls a second); clients make 800 calls a second and give
//! up after 100 ms, while the server goes on working for nobody. From the tenth to the twelfth second every answer takes
//! three times as long.

use perf_core::time::{self, Duration, Instant};
use perf_core::{CallError, Deadline, InvalidConfig, Rng};
use perf_resilience::breaker::Window;
use perf_resilience::throttle::Throttle;
use perf_resilience::{Breaker, Budget, Bulkhead, Pipeline, Retry};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, oneshot};

const SERVERS: u32 = 10;
const ARRIVALS: f64 = 800.0;
const FAULT: std::ops::Range<f64> = 10.0..12.0;
const PATIENCE: Duration = Duration::from_millis(100);
/// What a refusal at the server's door takes.
const REFUSAL: Duration = Duration::from_millis(1);

/// How the server keeps those who wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Door {
    /// In order of arrival, without end; work is done for clients that have left, too.
    Open,
    /// The same, but what nobody waits for any more is thrown away.
    KnowsDeadline,
    /// So many in all, in order of arrival; the others are refused.
    Limit(u32),
    /// So many in all, and the newest first once the oldest have nearly waited in vain.
    NewestFirst(u32),
}

/// What the client does besides retrying.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Guard {
    None,
    /// Window in seconds, and the largest share held back.
    Throttle(u64, f64),
    /// The ramp after closing, in seconds.
    Breaker(Option<u64>),
}

/// What is compared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Variant {
    /// What the table calls it.
    pub(super) name: &'static str,
    /// Attempts in all.
    pub(super) attempts: u32,
    /// Extra calls each call pays for; `None` for no budget worth the name.
    pub(super) budget: Option<f64>,
    pub(super) door: Door,
    pub(super) guard: Guard,
    /// How long it is watched, in seconds.
    pub(super) seconds: usize,
}

const fn variant(name: &'static str, budget: Option<f64>, door: Door, guard: Guard) -> Variant {
    Variant { name, attempts: 3, budget, door, guard, seconds: 60 }
}

const fn watched(seconds: usize, variant: Variant) -> Variant {
    Variant { seconds, ..variant }
}

/// The variants, from what causes the outage to what prevents it.
pub(super) const VARIANTS: [Variant; 15] = [
    Variant { attempts: 1, ..variant("no retry", None, Door::Open, Guard::None) },
    variant("3 attempts", None, Door::Open, Guard::None),
    variant("+ budget 20 %", Some(0.2), Door::Open, Guard::None),
    variant("+ budget 10 %", Some(0.1), Door::Open, Guard::None),
    variant("+ server knows deadline", None, Door::KnowsDeadline, Guard::None),
    variant("+ deadline, budget 10 %", Some(0.1), Door::KnowsDeadline, Guard::None),
    watched(240, variant("+ throttle 10 s, unbounded", None, Door::Open, Guard::Throttle(10, 1.0))),
    watched(120, variant("+ throttle 10 s, <= 0.9", None, Door::Open, Guard::Throttle(10, 0.9))),
    variant("+ throttle 2 s, <= 0.9", None, Door::Open, Guard::Throttle(2, 0.9)),
    variant("+ breaker", None, Door::Open, Guard::Breaker(None)),
    variant("+ breaker, ramp 2 s", None, Door::Open, Guard::Breaker(Some(2))),
    variant("+ newest first", None, Door::NewestFirst(1_000_000), Guard::None),
    variant("+ limit 60", None, Door::Limit(60), Guard::None),
    variant("+ limit 20", None, Door::Limit(20), Guard::None),
    variant("default: limit 60, newest first, budget 10 %", Some(0.1), Door::NewestFirst(60), Guard::None),
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

enum Entrance {
    Open(Semaphore),
    Bounded(Bulkhead),
}

struct Server {
    door: Door,
    entrance: Entrance,
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
        let leaves_at = time::now() + PATIENCE;
        tokio::spawn(async move {
            let result = match &self.entrance {
                Entrance::Open(servers) => match servers.acquire().await {
                    Ok(_) if self.door == Door::KnowsDeadline && time::now() >= leaves_at => {
                        Err(CallError::Failed("nobody waits"))
                    }
                    Ok(_permit) => {
                        self.work().await;
                        Ok(())
                    }
                    Err(_) => Err(CallError::Failed("closed")),
                },
                Entrance::Bounded(bulkhead) => match bulkhead.acquire(Deadline::NEVER).await {
                    Ok(_permit) => {
                        self.work().await;
                        Ok(())
                    }
                    Err(_) => {
                        time::sleep(REFUSAL).await;
                        Err(CallError::Failed("refused"))
                    }
                },
            };
            // Nobody may be waiting any more.
            let _ = answer.send(result);
        });
        answered.await.unwrap_or(Err(CallError::Failed("gone")))
    }
}

fn entrance(door: Door) -> Result<Entrance, InvalidConfig> {
    let bulkhead = |places: u32| Bulkhead::builder("server").limit(SERVERS).queue(places - SERVERS);
    Ok(match door {
        Door::Open | Door::KnowsDeadline => Entrance::Open(Semaphore::new(SERVERS as usize)),
        // It does not know when its clients leave, so it keeps them for as long as it takes.
        Door::Limit(places) => Entrance::Bounded(
            bulkhead(places).max_wait(Duration::from_secs(60)).newest_first_when_late(false).build()?,
        ),
        Door::NewestFirst(places) => Entrance::Bounded(bulkhead(places).max_wait(PATIENCE).build()?),
    })
}

fn client(variant: Variant, seed: u64) -> Result<Pipeline, InvalidConfig> {
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
        .idempotent();
    match variant.guard {
        Guard::None => client.build(),
        Guard::Throttle(window, max_reject) => {
            let throttle = Throttle::builder("client").window(Duration::from_secs(window));
            client.per_attempt(throttle.max_reject(max_reject).seed(seed).build()?).build()
        }
        Guard::Breaker(ramp) => {
            let second = Duration::from_secs(1);
            let mut breaker =
                Breaker::builder("client").window(Window::Time(second)).open_for(second).seed(seed);
            if let Some(ramp) = ramp {
                breaker = breaker.ramp(Duration::from_secs(ramp));
            }
            client.breaker(&breaker.build()?).build()
        }
    }
}

/// Runs a variant for so many seconds of virtual time. To be called in a runtime whose clock is paused.
///
/// # Errors
/// A policy that could not be made.
pub(super) async fn run(variant: Variant, seed: u64, seconds: usize) -> Result<Outcome, InvalidConfig> {
    let server = Arc::new(Server {
        door: variant.door,
        entrance: entrance(variant.door)?,
        rng: Mutex::new(Rng::seeded(seed)),
        start: time::now(),
        requests: (0..seconds).map(|_| AtomicU64::new(0)).collect(),
    });
    let client = client(variant, seed)?;
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
