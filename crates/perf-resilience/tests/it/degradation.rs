use perf_core::Component as _;
use perf_core::time::{self, Duration};
use perf_core::{CallError, Health, Outcome, Reason, Status};
use perf_resilience::degradation::{Degradation, Level, LevelChanged, Signal};
use perf_resilience::fallback::{Fallback, FallbackEvent};
use perf_resilience::{Pass, Verdict, judge_with};
use std::sync::{Arc, Mutex};

const SECOND: Duration = Duration::from_secs(1);
type Answer = Result<u32, CallError<&'static str>>;

#[tokio::test]
async fn f01_the_fallback_sees_the_error_and_its_own_failure_is_only_a_note() {
    let fallback = Fallback::new("f");
    let seen = Mutex::new(None);
    let answer = fallback
        .run(async { Answer::Err(CallError::Failed("first")) }, |error| {
            *seen.lock().unwrap() = Some(error.clone());
            async { Err(CallError::Failed("second")) }
        })
        .await
        .unwrap_err();
    assert_eq!(seen.into_inner().unwrap(), Some(CallError::Failed("first")));
    assert_eq!(answer.error, CallError::Failed("first"));
    assert_eq!(answer.to_string(), "first; the fallback failed too: second");
}

#[tokio::test]
async fn f02_a_cancelled_call_has_no_fallback() {
    let judge = judge_with(|result: Result<&u32, &CallError<&'static str>>| {
        Verdict::of(if result.is_ok() { Outcome::Success } else { Outcome::Cancelled })
    });
    let fallback = Fallback::judged("f", judge, |_| {});
    let answer = fallback.run(async { Answer::Err(CallError::Failed("gone")) }, |_| async { Ok(1) }).await;
    assert_eq!(answer.unwrap_err().fallback, None);
    assert_eq!(fallback.stats().degraded, 0);
}

#[tokio::test]
async fn f03_a_second_best_answer_is_marked() {
    let events = Arc::new(Mutex::new(Vec::new()));
    let seen = events.clone();
    let fallback =
        Fallback::judged("f", perf_resilience::ByOutcome::default(), move |event: &FallbackEvent| {
            seen.lock().unwrap().push(event.clone());
        });
    let best = fallback.run(async { Answer::Ok(1) }, |_| async { Ok(2) }).await.unwrap();
    assert_eq!((best.value, best.degraded), (1, false));
    let second =
        fallback.run(async { Answer::Err(CallError::Failed("x")) }, |_| async { Ok(2) }).await.unwrap();
    assert_eq!((second.value, second.degraded), (2, true));
    assert_eq!(*events.lock().unwrap(), [FallbackEvent::Degraded]);
}

#[tokio::test(start_paused = true)]
async fn f04_the_level_rises_at_once_and_falls_after_a_calm_while() {
    let changes = Arc::new(Mutex::new(Vec::<LevelChanged>::new()));
    let seen = changes.clone();
    let shop = Degradation::builder("shop")
        .signal(Signal::new("queue wait", 0.1, 1.0))
        .signal(Signal::new("refused", 0.05, 0.5))
        .hold(SECOND * 10)
        .on_event(move |change| seen.lock().unwrap().push(change.clone()))
        .build()
        .unwrap();
    let start = time::now();
    let at = |second: u32, values: [f64; 2]| {
        shop.observe(&values, start + SECOND * second);
        shop.level()
    };
    assert_eq!(at(0, [0.01, 0.01]), Level::Full);
    assert_eq!(at(1, [0.01, 0.6]), Level::Essential, "at once, by the worst signal");
    assert_eq!(at(2, [0.0, 0.4]), Level::Essential, "still above 70 % of its limit");
    assert_eq!(at(3, [0.0, 0.0]), Level::Essential);
    assert_eq!(at(12, [0.0, 0.0]), Level::Essential, "calm for nine seconds only");
    assert_eq!(at(13, [0.0, 0.0]), Level::Reduced, "one level at a time");
    assert_eq!(at(14, [2.0, 0.0]), Level::Reduced, "at most one change in the while");
    assert_eq!(at(23, [2.0, 0.0]), Level::Essential);
    assert_eq!(at(33, [f64::NAN, 0.0]), Level::Essential);
    assert_eq!(at(43, [0.0, 0.0]), Level::Reduced);
    let because: Vec<_> =
        changes.lock().unwrap().iter().map(|c| c.because.as_deref().map(str::to_owned)).collect();
    assert_eq!(because[..2], [Some("refused".to_owned()), None]);
}

#[tokio::test(start_paused = true)]
async fn load_is_shed_by_level() {
    let shop = Degradation::builder("shop").signal(Signal::new("wait", 1.0, 2.0)).build().unwrap();
    let extras = shop.gate(Level::Full);
    assert!(Pass::enter(&extras).is_ok());
    shop.observe(&[1.5], time::now());
    assert_eq!(Pass::enter(&extras).unwrap_err().reason(), Reason::Shed);
    assert!(Pass::enter(shop.gate(Level::Reduced)).is_ok());
    let health: Health = shop.health();
    assert_eq!(health.status(), Status::Degraded);
}

#[test]
fn impossible_settings_are_named() {
    let field =
        |signal: Signal| Degradation::builder("d").signal(signal).build().unwrap_err().field().to_owned();
    assert_eq!(field(Signal::new("s", 0.0, 1.0)), "reduced");
    assert_eq!(field(Signal::new("s", 2.0, 1.0)), "essential");
    assert_eq!(Degradation::builder("d").release(0.0).build().unwrap_err().field(), "release");
}
