use perf_core::time::{self, Duration};
use perf_core::{CallError, Deadline, Reason};
use perf_resilience::{Pipeline, ResilienceExt, Timeout, current_deadline, with_deadline};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

const MS: Duration = Duration::from_millis(1);
type Answer = Result<u32, CallError<&'static str>>;

fn refusal(answer: Answer) -> (Reason, String) {
    let error = answer.unwrap_err();
    let rejected = error.rejected().unwrap();
    (rejected.reason(), rejected.policy().to_string())
}

#[tokio::test(start_paused = true)]
async fn t01_nested_deadlines_take_the_earliest_and_say_whose_it_was() {
    let inner = Pipeline::builder("inner").deadline(MS * 100).build().unwrap();
    let never = |_| std::future::pending::<Answer>();
    assert_eq!(refusal(inner.run(never).await), (Reason::DeadlineExceeded, "inner".to_owned()));
    let start = time::now();
    let soon = Deadline::within(MS * 40);
    let answer = with_deadline(soon, inner.run(never)).await;
    assert_eq!(refusal(answer), (Reason::DeadlineExceeded, "caller".to_owned()));
    assert_eq!(start.elapsed(), MS * 40);
}

#[tokio::test(start_paused = true)]
async fn t02_a_result_that_is_ready_with_the_timer_wins() {
    let timeout = Timeout::new("t", MS * 50).unwrap();
    let work = async {
        time::sleep(MS * 50).await;
        Answer::Ok(7)
    };
    assert_eq!(timeout.run(work).await, Ok(7));
    let late = async {
        time::sleep(MS * 51).await;
        Answer::Ok(7)
    };
    assert_eq!(refusal(timeout.run(late).await).0, Reason::Timeout);
    assert_eq!(timeout.stats().timed_out, 1);
}

#[tokio::test(start_paused = true)]
async fn t03_a_deadline_that_has_passed_refuses_without_polling() {
    let polled = AtomicBool::new(false);
    let work = || async {
        polled.store(true, Ordering::Relaxed);
        Answer::Ok(1)
    };
    let past = Deadline::within(MS);
    time::sleep(MS * 2).await;
    assert_eq!(refusal(work().before(past).await).0, Reason::DeadlineExceeded);
    let timeout = Timeout::new("t", MS * 50).unwrap();
    assert_eq!(refusal(with_deadline(past, timeout.run(work())).await).0, Reason::DeadlineExceeded);
    let guard = Pipeline::builder("p").build().unwrap();
    assert_eq!(refusal(with_deadline(past, guard.run(|_| work())).await).0, Reason::DeadlineExceeded);
    assert!(!polled.into_inner());
}

#[test]
fn t04_work_that_never_waits_needs_no_timer() {
    // A runtime without time would panic as soon as a timer is made.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let timeout = Timeout::new("t", MS).unwrap();
        assert_eq!(timeout.run(async { Answer::Ok(1) }).await, Ok(1));
        let guard = Pipeline::database("p").unwrap().build().unwrap();
        assert_eq!(guard.run(|_| async { Answer::Ok(2) }).await, Ok(2));
    });
}

#[tokio::test(start_paused = true)]
async fn t05_the_deadline_travels_to_children_and_not_to_neighbours() {
    let guard = Pipeline::builder("p").deadline(MS * 100).build().unwrap();
    let start = time::now();
    let seen = AtomicU32::new(0);
    let outer = guard.run(|attempt| {
        let seen = &seen;
        async move {
            assert_eq!(current_deadline(), attempt.deadline);
            time::sleep(MS * 10).await;
            assert_eq!(current_deadline(), Deadline::at(start + MS * 100));
            seen.fetch_add(1, Ordering::Relaxed);
            Answer::Ok(1)
        }
    });
    let neighbour = async {
        for _ in 0..5 {
            assert_eq!(current_deadline(), Deadline::NEVER);
            time::sleep(MS * 3).await;
        }
    };
    let (answer, ()) = tokio::join!(outer, neighbour);
    assert_eq!((answer, seen.into_inner()), (Ok(1), 1));
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_nothing_is_refused_at_build_time() {
    assert_eq!(Timeout::new("t", Duration::ZERO).unwrap_err().field(), "limit");
    let built = Pipeline::builder("p").deadline(MS).attempt_timeout(MS * 2).build();
    assert_eq!(built.unwrap_err().field(), "attempt_timeout");
}

#[tokio::test(start_paused = true)]
async fn a_limit_beyond_the_clock_never_ends() {
    let timeout = Timeout::new("t", Duration::MAX).unwrap();
    let work = async {
        time::sleep(MS * 1000).await;
        Answer::Ok(1)
    };
    assert_eq!(timeout.run(work).await, Ok(1));
}
