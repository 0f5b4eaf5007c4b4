//! What does each policy cost when nothing is wrong, and when it refuses? Every figure is for an operation that is ready at
//! once, so it is the cost of the policy alone.

use perf_core::CallError;
use perf_resilience::rate::{Quota, RateLimit};
use perf_resilience::{Breaker, Budget, Bulkhead, Now, Pass, Pipeline, Retry, Timeout};
use perfkit_benches::{Contest, CountingAllocator, allocations_during};
use std::convert::Infallible;
use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tower::{Service, ServiceExt};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

type Answer = Result<u64, CallError<u8>>;
type Question = (&'static str, fn(&Runtime));

/// Runs the contests named on the command line, or all of them.
fn main() {
    let runtime = Builder::new_current_thread().enable_time().build().unwrap_or_else(|error| fail(&error));
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let contests: [Question; 9] = [
        ("breaker", breaker),
        ("contended", breaker_contended),
        ("rate", rate),
        ("timeout", timeout),
        ("retry", retry),
        ("pipeline", pipeline),
        ("refusal", refusals),
        ("refused_pipeline", refused_pipeline),
        ("allocations", allocations),
    ];
    for (name, contest) in contests {
        if wanted.is_empty() || wanted.iter().any(|word| word == name) {
            contest(&runtime);
        }
    }
}

#[expect(clippy::panic, reason = "a benchmark that cannot be set up has nothing to measure")]
fn fail(error: &dyn std::fmt::Debug) -> ! {
    panic!("{error:?}")
}

fn made<T, E: std::fmt::Debug>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| fail(&error))
}

/// Slow calls and generations on, as in production, and the window full of successes.
fn our_breaker() -> Breaker {
    let breaker = made(Breaker::builder("bench").slow_call(Duration::from_secs(1)).build());
    (0..200).for_each(|_| made(breaker.enter()).leave(perf_core::Outcome::Success));
    breaker
}

fn many(n: u64) -> Quota {
    Quota { permits: 1_000_000_000, per: Duration::from_secs(1), burst: u32::try_from(n).unwrap_or(u32::MAX) }
}

fn breaker(runtime: &Runtime) {
    let (ours, sync) = (our_breaker(), our_breaker());
    let their = recloser::Recloser::custom().error_rate(0.5).closed_len(100).build();
    let their_async =
        recloser::AsyncRecloser::from(recloser::Recloser::custom().error_rate(0.5).closed_len(100).build());
    let safe = failsafe::Config::new().build();
    let mut guarded = made(tower_resilience_circuitbreaker::CircuitBreakerLayer::builder().build())
        .layer_fn(tower::service_fn(|n: u64| std::future::ready(Ok::<_, u8>(n))));
    let clock = runtime.block_on(async { tick::Clock::new_tokio() });
    let belt = belt(&clock);
    Contest::new("breaker")
        .entry("ours", |n| {
            for n in 0..n {
                let now = Now::lazy();
                if let Ok(pass) = Pass::enter_at(&sync, &now) {
                    black_box(n);
                    pass.leave_at(perf_core::Outcome::Success, &now);
                }
            }
        })
        .entry("recloser", |n| {
            for n in 0..n {
                let _ = black_box(their.call(|| Ok::<_, u8>(black_box(n))));
            }
        })
        .entry("failsafe", |n| {
            for n in 0..n {
                let _ = black_box(failsafe::CircuitBreaker::call(&safe, || Ok::<_, u8>(black_box(n))));
            }
        })
        .run();
    Contest::new("breaker_async")
        .entry("ours", |n| {
            runtime.block_on(async {
                for n in 0..n {
                    let _ = black_box(ours.run(async { Answer::Ok(black_box(n)) }).await);
                }
            });
        })
        .entry("recloser", |n| {
            runtime.block_on(async {
                for n in 0..n {
                    let _ = black_box(their_async.call(async { Ok::<_, u8>(black_box(n)) }).await);
                }
            });
        })
        .entry("failsafe", |n| {
            runtime.block_on(async {
                for n in 0..n {
                    let call = async { Ok::<_, u8>(black_box(n)) };
                    let _ = black_box(failsafe::futures::CircuitBreaker::call(&safe, call).await);
                }
            });
        })
        .entry("seatbelt", |n| {
            runtime.block_on(async {
                for n in 0..n {
                    let _ = black_box(layered::Service::execute(&belt, n).await);
                }
            });
        })
        .entry("tower-resilience", |n| {
            runtime.block_on(async {
                for n in 0..n {
                    if let Ok(ready) = ServiceExt::<u64>::ready(&mut guarded).await {
                        let _ = black_box(ready.call(n).await);
                    }
                }
            });
        })
        .run();
}

/// seatbelt's breaker.
fn belt(clock: &tick::Clock) -> impl layered::Service<u64, Out = Result<u64, u8>> {
    use layered::Stack;
    let context = seatbelt::ResilienceContext::new(clock).name("bench");
    (
        seatbelt::breaker::Breaker::layer("breaker", &context)
            .recovery_with(|result: &Result<u64, u8>, _| match result {
                Ok(_) => seatbelt::RecoveryInfo::never(),
                Err(_) => seatbelt::RecoveryInfo::retry(),
            })
            .rejected_input_error(|_, _| 0),
        layered::Execute::new(|n: u64| async move { Ok::<_, u8>(black_box(n)) }),
    )
        .into_service()
}

/// seatbelt's breaker inside its retry and round its timeout.
fn belts(clock: &tick::Clock) -> impl layered::Service<u64, Out = Result<u64, u8>> {
    use layered::Stack;
    let context = seatbelt::ResilienceContext::new(clock).name("bench");
    let judge = |result: &Result<u64, u8>| match result {
        Ok(_) => seatbelt::RecoveryInfo::never(),
        Err(_) => seatbelt::RecoveryInfo::retry(),
    };
    (
        seatbelt::retry::Retry::layer("retry", &context)
            .clone_input()
            .recovery_with(move |result, _| judge(result)),
        seatbelt::breaker::Breaker::layer("breaker", &context)
            .recovery_with(move |result, _| judge(result))
            .rejected_input_error(|_, _| 0),
        seatbelt::timeout::Timeout::layer("timeout", &context)
            .timeout_error(|_| 1)
            .timeout(Duration::from_secs(1)),
        layered::Execute::new(|n: u64| async move { Ok::<_, u8>(black_box(n)) }),
    )
        .into_service()
}

fn breaker_contended(_: &Runtime) {
    let runtime = Builder::new_multi_thread().worker_threads(2).build().unwrap_or_else(|error| fail(&error));
    let ours = our_breaker();
    let their = std::sync::Arc::new(recloser::Recloser::custom().error_rate(0.5).closed_len(100).build());
    let spread = |n: u64, work: std::sync::Arc<dyn Fn(u64) + Send + Sync>| {
        runtime.block_on(async {
            let tasks: Vec<_> = (0..64)
                .map(|_| {
                    let work = work.clone();
                    tokio::spawn(async move { work(n.div_ceil(64)) })
                })
                .collect();
            for task in tasks {
                made(task.await);
            }
        });
    };
    let one = std::sync::Arc::new(move |n: u64| {
        for n in 0..n {
            let now = Now::lazy();
            if let Ok(pass) = Pass::enter_at(&ours, &now) {
                black_box(n);
                pass.leave_at(perf_core::Outcome::Success, &now);
            }
        }
    });
    let two = std::sync::Arc::new(move |n: u64| {
        for n in 0..n {
            let _ = black_box(their.call(|| Ok::<_, u8>(black_box(n))));
        }
    });
    Contest::new("breaker_64_tasks_2_workers")
        .entry("ours", |n| spread(n, one.clone()))
        .entry("recloser", |n| spread(n, two.clone()))
        .run();
}

fn rate(_: &Runtime) {
    let ours = made(RateLimit::builder("bench").quota(many(1_000_000)).build());
    let quota = governor::Quota::per_second(NonZeroU32::MAX).allow_burst(NonZeroU32::MAX);
    let direct = governor::RateLimiter::direct(quota);
    Contest::new("rate_direct")
        .entry("ours", |n| (0..n).for_each(|_| drop(black_box(ours.try_acquire()))))
        .entry("governor", |n| (0..n).for_each(|_| drop(black_box(direct.check()))))
        .run();
    let keyed = made(RateLimit::builder("bench").quota(many(1_000_000)).build_keyed::<u64>());
    let their = governor::RateLimiter::keyed(quota);
    Contest::new("rate_keyed")
        .entry("ours", |n| (0..n).for_each(|n| drop(black_box(keyed.try_acquire(&(n & 1023))))))
        .entry("governor", |n| (0..n).for_each(|n| drop(black_box(their.check_key(&(n & 1023))))))
        .run();
}

fn timeout(runtime: &Runtime) {
    let ours = made(Timeout::new("bench", Duration::from_secs(1)));
    let inner = tower::service_fn(|n: u64| std::future::ready(Ok::<_, Infallible>(n)));
    let mut their = tower::timeout::Timeout::new(inner, Duration::from_secs(1));
    Contest::new("timeout")
        .entry("ours", |n| {
            runtime.block_on(async {
                for n in 0..n {
                    let _ = black_box(ours.run(async { Answer::Ok(black_box(n)) }).await);
                }
            });
        })
        .entry("tower", |n| {
            runtime.block_on(async {
                for n in 0..n {
                    let _ = black_box(their.call(n).await);
                }
            });
        })
        .entry("tokio", |n| {
            runtime.block_on(async {
                for n in 0..n {
                    let _ =
                        black_box(tokio::time::timeout(Duration::from_secs(1), async { black_box(n) }).await);
                }
            });
        })
        .run();
}

fn retry(runtime: &Runtime) {
    use backon::Retryable;
    let ours = made(Retry::builder("bench").build());
    let judge = perf_resilience::ByOutcome::default();
    Contest::new("retry")
        .entry("ours", |n| {
            runtime.block_on(async {
                for n in 0..n {
                    let _ = black_box(ours.run(&judge, |_| async { Answer::Ok(black_box(n)) }).await);
                }
            });
        })
        .entry("backon", |n| {
            runtime.block_on(async {
                for n in 0..n {
                    let call = || async { Answer::Ok(black_box(n)) };
                    let _ = black_box(call.retry(backon::ExponentialBuilder::default()).await);
                }
            });
        })
        .run();
}

fn three() -> Pipeline {
    made(
        Pipeline::builder("bench")
            .unbounded()
            .retry(Retry::builder("bench"))
            .breaker(&our_breaker())
            .attempt_timeout(Duration::from_secs(1))
            .idempotent()
            .build(),
    )
}

fn five() -> Pipeline {
    made(
        Pipeline::builder("bench")
            .deadline(Duration::from_secs(2))
            .rate(&made(RateLimit::builder("bench").quota(many(1_000_000)).build()))
            .bulkhead(&made(Bulkhead::builder("bench").build()))
            .retry(Retry::builder("bench"))
            .breaker(&our_breaker())
            .attempt_timeout(Duration::from_secs(1))
            .idempotent()
            .build(),
    )
}

fn pipeline(runtime: &Runtime) {
    let (three, five) = (three(), five());
    let clock = runtime.block_on(async { tick::Clock::new_tokio() });
    let belts = belts(&clock);
    Contest::new("pipeline_retry_breaker_timeout")
        .entry("ours", |n| {
            runtime.block_on(async {
                for n in 0..n {
                    let _ = black_box(three.run(|_| async { Answer::Ok(black_box(n)) }).await);
                }
            });
        })
        .entry("seatbelt", |n| {
            runtime.block_on(async {
                for n in 0..n {
                    let _ = black_box(layered::Service::execute(&belts, n).await);
                }
            });
        })
        .run();
    // Polly v8 publishes 766 ns and 40 bytes for its five policies (another machine: a comparison of orders).
    Contest::new("pipeline_five_policies")
        .entry("ours", |n| {
            runtime.block_on(async {
                for n in 0..n {
                    let _ = black_box(five.run(|_| async { Answer::Ok(black_box(n)) }).await);
                }
            });
        })
        .run();
}

/// What does a call cost that is refused, beside one that goes through the same policy?
macro_rules! refused_and_let_through {
    ($runtime:expr, $name:expr, $refusing:expr, $letting:expr, |$policy:ident: &$type:ty, $n:ident| $call:expr) => {{
        let (refusing, letting) = ($refusing, $letting);
        let all = |$policy: &$type, n: u64| {
            $runtime.block_on(async {
                for $n in 0..n {
                    let _ = black_box($call.await);
                }
            });
        };
        Contest::new(concat!("refusal_", $name))
            .entry("refused", |n| all(&refusing, n))
            .entry("success", |n| all(&letting, n))
            .run();
    }};
}

/// Open for an hour.
fn waiting() -> Breaker {
    let breaker = Breaker::builder("bench").consecutive(1).open_for(Duration::from_secs(3600));
    let breaker = made(breaker.open_cap(Duration::from_secs(3600)).build());
    made(breaker.enter()).leave(perf_core::Outcome::Failure);
    breaker
}

fn refusals(runtime: &Runtime) {
    refused_and_let_through!(runtime, "breaker", waiting(), our_breaker(), |breaker: &Breaker, n| breaker
        .run(async { Answer::Ok(black_box(n)) }));
    let (full, free) =
        (made(Bulkhead::builder("bench").limit(1).queue(0).build()), Bulkhead::builder("bench"));
    let _held = full.try_acquire();
    refused_and_let_through!(runtime, "bulkhead", full, made(free.build()), |bulkhead: &Bulkhead, n| {
        bulkhead.run(async { Answer::Ok(black_box(n)) })
    });
    let spent =
        RateLimit::builder("bench").quota(perf_resilience::rate::per_minute(1)).max_wait(Duration::ZERO);
    let spent = made(spent.build());
    let _ = spent.try_acquire();
    let rich = made(RateLimit::builder("bench").quota(many(1_000_000)).build());
    refused_and_let_through!(runtime, "rate", spent, rich, |rate: &RateLimit, n| rate
        .run(async { Answer::Ok(black_box(n)) }));
}

fn refused_pipeline(runtime: &Runtime) {
    let three = |breaker: &Breaker| {
        let pipeline = Pipeline::builder("bench").unbounded().retry(Retry::builder("bench")).breaker(breaker);
        made(pipeline.attempt_timeout(Duration::from_secs(1)).idempotent().build())
    };
    refused_and_let_through!(
        runtime,
        "pipeline",
        three(&waiting()),
        three(&our_breaker()),
        |three: &Pipeline, n| three.run(|_| async { Answer::Ok(black_box(n)) })
    );
}

#[expect(clippy::print_stdout, reason = "the figures are what a benchmark is for")]
fn allocations(runtime: &Runtime) {
    let (five, breaker) = (five(), our_breaker());
    let budget = made(Budget::builder("bench").ratio(1.0).build());
    let open = our_breaker();
    open.force_open("bench");
    let calls = 1000;
    let count = |what: &str, work: &dyn Fn()| {
        work();
        println!("allocations {what}={}", allocations_during(work));
    };
    count("breaker", &|| {
        runtime.block_on(async {
            for n in 0..calls {
                let _ = breaker.run(async { Answer::Ok(n) }).await;
            }
        });
    });
    count("five_policies", &|| {
        runtime.block_on(async {
            for n in 0..calls {
                let _ = five.run(|_| async { Answer::Ok(n) }).await;
            }
        });
    });
    count("refusals", &|| (0..calls).for_each(|_| drop(Pass::enter_at(&open, &Now::lazy()).err())));
    count("budget", &|| {
        let now = perf_core::time::now();
        for _ in 0..calls {
            budget.deposit();
            let _ = budget.withdraw(now);
        }
    });
    let future = five.run(|_| async { Answer::Ok(1) });
    println!("size five_policies_future={} bytes over the operation", std::mem::size_of_val(&future));
}
