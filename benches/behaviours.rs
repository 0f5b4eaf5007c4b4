//! Who is right? Scenarios in which breakers and budgets differ, each run against ours and its rivals.

use perf_core::CallError;
use perf_resilience::{Breaker, Budget};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;
use tokio::sync::oneshot;
use tower::{Service, ServiceExt};

type Work = Pin<Box<dyn Future<Output = Result<(), ()>> + Send>>;
type Guarded = Pin<Box<dyn Future<Output = ()>>>;

/// A breaker under test: runs work if it lets it through. Opens at half of 100 calls, or as its settings come nearest;
/// stays open for 20 ms; lets one probe through; gives up on a silent probe after 40 ms where it can.
struct Contender {
    name: &'static str,
    run: Box<dyn Fn(Work) -> Guarded>,
}

const OPEN: Duration = Duration::from_millis(20);
const LEASE: Duration = Duration::from_millis(40);

#[expect(clippy::panic, reason = "a benchmark that cannot be set up has nothing to show")]
fn made<T, E: std::fmt::Debug>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("{error:?}"))
}

fn ours() -> Contender {
    let breaker =
        made(Breaker::builder("ours").open_for(OPEN).jitter(0.0).probes(1).probe_timeout(LEASE).build());
    Contender {
        name: "ours",
        run: Box::new(move |work| {
            let breaker = breaker.clone();
            Box::pin(async move {
                let _ = breaker.run(async { work.await.map_err(CallError::Failed) }).await;
            })
        }),
    }
}

fn recloser() -> Contender {
    let built =
        recloser::Recloser::custom().error_rate(0.5).closed_len(100).half_open_len(1).open_wait(OPEN).build();
    let breaker = recloser::AsyncRecloser::from(built);
    Contender {
        name: "recloser",
        run: Box::new(move |work| {
            let breaker = breaker.clone();
            Box::pin(async move {
                let _ = breaker.call(work).await;
            })
        }),
    }
}

fn failsafe() -> Contender {
    let policy = failsafe::failure_policy::success_rate_over_time_window(
        0.5,
        20,
        Duration::from_secs(30),
        failsafe::backoff::constant(OPEN),
    );
    let breaker = Arc::new(failsafe::Config::new().failure_policy(policy).build());
    Contender {
        name: "failsafe",
        run: Box::new(move |work| {
            let breaker = breaker.clone();
            Box::pin(async move {
                let _ = failsafe::futures::CircuitBreaker::call(&*breaker, work).await;
            })
        }),
    }
}

fn tower_resilience() -> Contender {
    let layer = made(
        tower_resilience_circuitbreaker::CircuitBreakerLayer::builder()
            .failure_rate_threshold(0.5)
            .sliding_window_size(100)
            .permitted_calls_in_half_open(1)
            .wait_duration_in_open(OPEN)
            .build(),
    );
    let service = layer.layer_fn(tower::service_fn(|work: Work| work));
    Contender {
        name: "tower-resilience",
        run: Box::new(move |work| {
            let mut service = service.clone();
            Box::pin(async move {
                if let Ok(ready) = ServiceExt::<Work>::ready(&mut service).await {
                    let _ = ready.call(work).await;
                }
            })
        }),
    }
}

fn seatbelt() -> Contender {
    use layered::Stack;
    let clock = tick::Clock::new_tokio();
    let context = seatbelt::ResilienceContext::new(&clock).name("bench");
    let service = (
        seatbelt::breaker::Breaker::layer("breaker", &context)
            .recovery_with(|result: &Result<(), ()>, _| match result {
                Ok(()) => seatbelt::RecoveryInfo::never(),
                Err(()) => seatbelt::RecoveryInfo::retry(),
            })
            .rejected_input_error(|_, _| ())
            .failure_threshold(0.5)
            .min_throughput(100)
            .sampling_duration(Duration::from_secs(30))
            .break_duration(OPEN)
            .half_open_mode(seatbelt::breaker::HalfOpenMode::quick()),
        layered::Execute::new(|work: Work| work),
    )
        .into_service();
    let service = Arc::new(service);
    Contender {
        name: "seatbelt",
        run: Box::new(move |work| {
            let service = service.clone();
            Box::pin(async move {
                let _ = layered::Service::execute(&*service, work).await;
            })
        }),
    }
}

/// A call under way, begun by polling it once.
struct Call {
    guarded: Guarded,
    made: Arc<AtomicBool>,
    answer: oneshot::Sender<Result<(), ()>>,
}

impl Contender {
    fn begin(&self) -> Call {
        let made = Arc::new(AtomicBool::new(false));
        let (answer, answered) = oneshot::channel();
        let seen = made.clone();
        let mut guarded = (self.run)(Box::pin(async move {
            seen.store(true, Ordering::Relaxed);
            answered.await.unwrap_or(Err(()))
        }));
        let _ = guarded.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        Call { guarded, made, answer }
    }

    /// Makes a call that ends at once; whether it was let through.
    async fn call(&self, result: Result<(), ()>) -> bool {
        let made = Arc::new(AtomicBool::new(false));
        let seen = made.clone();
        (self.run)(Box::pin(async move {
            seen.store(true, Ordering::Relaxed);
            result
        }))
        .await;
        made.load(Ordering::Relaxed)
    }

    async fn trip(&self) -> bool {
        for _ in 0..20_000 {
            if !self.call(Err(())).await {
                return true;
            }
        }
        false
    }
}

impl Call {
    fn was_made(&self) -> bool {
        self.made.load(Ordering::Relaxed)
    }

    async fn end(self, result: Result<(), ()>) {
        let _ = self.answer.send(result);
        self.guarded.await;
    }
}

/// After 10,000 successes, how many failures in a row does it take to open? A window of 100 opens after 50.
async fn ring(contender: &Contender) -> (bool, String) {
    for _ in 0..10_000 {
        contender.call(Ok(())).await;
    }
    let mut failures = 0;
    while contender.call(Err(())).await && failures < 20_000 {
        failures += 1;
    }
    (failures <= 100, format!("opened after {failures} failures"))
}

/// A call from before the opening succeeds while the only probe is still out: nothing may change.
async fn late_success(contender: &Contender) -> (bool, String) {
    let early = contender.begin();
    contender.trip().await;
    tokio::time::sleep(OPEN * 2).await;
    let probe = contender.begin();
    early.end(Ok(())).await;
    let admitted = contender.begin().was_made();
    let text = if admitted { "the late success let calls through" } else { "nothing changed" };
    (probe.was_made() && !admitted, text.to_owned())
}

/// A call from before the opening fails while the probe is out, and the probe then succeeds: the breaker closes.
async fn late_failure(contender: &Contender) -> (bool, String) {
    let early = contender.begin();
    contender.trip().await;
    tokio::time::sleep(OPEN * 2).await;
    let probe = contender.begin();
    early.end(Err(())).await;
    probe.end(Ok(())).await;
    let admitted = contender.call(Ok(())).await;
    let text = if admitted { "the probe decided" } else { "the late failure reopened it" };
    (admitted, text.to_owned())
}

/// The probe is cancelled: the next call takes its place, and only that one.
async fn cancelled_probe(contender: &Contender) -> (bool, String) {
    contender.trip().await;
    tokio::time::sleep(OPEN * 2).await;
    drop(contender.begin());
    let calls: Vec<_> = (0..10).map(|_| contender.begin()).collect();
    let through = calls.iter().filter(|call| call.was_made()).count();
    (through == 1, format!("{through} of the next 10 calls went through"))
}

/// While a probe hangs nobody else goes through, and after a while one does.
async fn hung_probe(contender: &Contender) -> (bool, String) {
    contender.trip().await;
    tokio::time::sleep(OPEN * 2).await;
    let _hung = contender.begin();
    let calls: Vec<_> = (0..10).map(|_| contender.begin()).collect();
    let meanwhile = calls.iter().filter(|call| call.was_made()).count();
    drop(calls);
    tokio::time::sleep(LEASE * 5).await;
    let calls: Vec<_> = (0..10).map(|_| contender.begin()).collect();
    let later = calls.iter().filter(|call| call.was_made()).count();
    (meanwhile == 0 && later == 1, format!("{meanwhile} of 10 calls meanwhile, {later} of 10 after the wait"))
}

#[expect(clippy::print_stdout, reason = "the table is what a benchmark is for")]
fn show(scenario: &str, name: &str, (right, what): (bool, String)) {
    println!("behaviour {scenario:<16} {name:<18} {} {what}", if right { "right" } else { "WRONG" });
}

fn budgets() {
    for ratio in [0.1_f32, 0.2, 0.3, 0.5, 0.75, 0.9, 0.99, 0.9999] {
        let wanted = f64::from(ratio) * 10_000.0;
        let verdict = |allowed: u32| {
            (
                (f64::from(allowed) - wanted).abs() <= 1.5,
                format!("ratio {ratio}: {allowed} retries for 10,000 calls"),
            )
        };
        let ours =
            made(Budget::builder("ours").ratio(f64::from(ratio)).cap(1_000_000).min_per_sec(0).build());
        let now = perf_core::time::now();
        (0..10_000).for_each(|_| ours.deposit());
        let allowed = (0..30_000).map(|_| u32::from(ours.withdraw(now))).sum();
        show("budget", "ours", verdict(allowed));
        let tower = tower::retry::budget::TpsBudget::new(Duration::from_secs(60), 0, ratio);
        (0..10_000).for_each(|_| tower::retry::budget::Budget::deposit(&tower));
        let allowed = (0..30_000).map(|_| u32::from(tower::retry::budget::Budget::withdraw(&tower))).sum();
        show("budget", "tower", verdict(allowed));
        show("budget", "tower-resilience", verdict(tower_resilience_budget(ratio)));
    }
}

/// Its budget knows no ratio, but amounts to pay in and to take out. It begins full, so it is emptied first, without asking
/// once too often, which would lower its limit.
fn tower_resilience_budget(ratio: f32) -> u32 {
    const RETRY: usize = 10_000;
    let budget =
        tower_resilience_retry::RetryBudgetBuilder::new().aimd().min_budget(1).max_budget(10_000 * RETRY);
    let budget = made(
        budget
            .deposit_amount((f64::from(ratio) * RETRY as f64).round() as usize)
            .withdraw_amount(RETRY)
            .build(),
    );
    (0..10_000).for_each(|_| _ = budget.try_withdraw());
    (0..10_000).for_each(|_| budget.deposit());
    (0..30_000).take_while(|_| budget.try_withdraw()).map(|_| 1).sum()
}

/// Peers that have nothing of what is judged here.
const ABSENT: [(&str, &str); 7] = [
    ("governor", "limits rates"),
    ("backon", "retries without a budget"),
    ("backoff", "retries without a budget"),
    ("tokio-retry, tokio-retry2", "retry without a budget"),
    ("again", "retries without a budget"),
    ("little-loadshedder", "sheds load"),
    ("congestion-limiter", "limits concurrency"),
];

#[expect(clippy::print_stdout, reason = "the table is what a benchmark is for")]
fn absent() {
    for (name, what) in ABSENT {
        println!("behaviour {:<16} {name:<18} absent {what}: no breaker, no budget", "all");
    }
}

fn main() {
    let runtime = made(tokio::runtime::Builder::new_current_thread().enable_time().build());
    runtime.block_on(async {
        let contenders = [ours, recloser, failsafe, tower_resilience, seatbelt];
        for make in contenders {
            show("ring", make().name, ring(&make()).await);
        }
        for make in contenders {
            show("late success", make().name, late_success(&make()).await);
        }
        for make in contenders {
            show("late failure", make().name, late_failure(&make()).await);
        }
        for make in contenders {
            show("cancelled probe", make().name, cancelled_probe(&make()).await);
        }
        for make in contenders {
            show("hung probe", make().name, hung_probe(&make()).await);
        }
    });
    budgets();
    absent();
}
