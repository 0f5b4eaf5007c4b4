use perf_testkit::Script;
use std::time::Duration;
use tokio::time::{Instant, timeout};

#[tokio::test(start_paused = true)]
async fn calls_are_answered_in_order_with_their_delays() {
    let script = Script::new();
    script.answer_after(Duration::from_secs(2), "slow").answer("quick").otherwise(|request| *request);
    let start = Instant::now();
    let (slow, quick) = tokio::join!(script.call("a"), script.call("b"));
    assert_eq!((slow, quick, start.elapsed()), ("slow", "quick", Duration::from_secs(2)));
    assert_eq!(script.call("echo").await, "echo");
    assert_eq!((script.requests(), script.most_in_flight()), (vec!["a", "b", "echo"], 2));
    assert_eq!((script.calls(), script.finished(), script.steps_left()), (3, 3, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_without_answer_waits_and_is_counted_when_dropped() {
    let script = Script::<_, ()>::new();
    script.never();
    assert!(timeout(Duration::from_secs(3600), script.call(1)).await.is_err());
    assert_eq!((script.in_flight(), script.cancelled(), script.finished()), (0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_held_call_is_answered_through_its_handle() {
    let script = Script::new();
    script.hold().hold();
    let call = tokio::spawn(script.call("a"));
    let dropped = tokio::spawn(script.call("b"));
    let (first, second) = (script.held().await, script.held().await);
    dropped.abort();
    assert!(dropped.await.unwrap_err().is_cancelled());
    assert!(second.is_cancelled() && !second.answer(2));
    assert!(first.answer(1));
    assert_eq!(call.await.unwrap(), 1);
}

#[tokio::test]
async fn a_script_panics_when_told_to_and_at_its_end() {
    let script = Script::<_, ()>::new();
    script.panic("as told");
    for message in ["as told", "the script has no step for this call"] {
        let error = tokio::spawn(script.call(1)).await.unwrap_err();
        let panic = error.into_panic();
        let found = panic.downcast_ref::<String>().unwrap();
        assert_eq!(found, message);
    }
    assert_eq!(script.cancelled(), 2);
}
