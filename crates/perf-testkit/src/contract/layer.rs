//! The rules for tower middleware.

use crate::{Script, ScriptedService};
use std::fmt::Debug;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use tower_service::Service;

/// How often a dropped call must give back what it took.
const DROPS: usize = 100;

type Inner<E> = ScriptedService<u32, u32, E>;

/// Fails unless the middleware that `wrap` puts round a service keeps tower's contract. Its policy must let through what is
/// asked here: at least two calls at a time and some 110 calls in all, one of which fails.
///
/// 1. Request and answer pass unchanged.
/// 2. So does the fact that the call failed.
/// 3. It is ready only when the inner service is, and wakes its caller then.
/// 4. A failed readiness is passed on.
/// 5. It calls the very service that said it was ready, also when it was cloned in between.
/// 6. Calls of two clones overlap.
/// 7. A dropped call ends the inner call, and what it took is free again.
///
/// # Panics
/// With the number of the broken rule.
pub async fn layer<S, E>(wrap: impl Fn(Inner<E>) -> S, error: fn() -> E)
where
    S: Service<u32, Response = u32> + Clone,
    S::Error: Debug,
    E: Send + 'static,
{
    let make = || {
        let inner = ScriptedService::new(Script::new());
        (inner.clone(), wrap(inner))
    };
    answers_pass(make(), error).await;
    readiness_passes(make(), error).await;
    the_ready_service_is_called(make()).await;
    calls_overlap(make()).await;
    dropped_calls_give_back_what_they_took(make()).await;
}

/// Waits for readiness, makes the call and waits for its answer.
async fn ask<S: Service<u32>>(service: &mut S, request: u32) -> Result<S::Response, S::Error> {
    poll_fn(|context| service.poll_ready(context)).await?;
    service.call(request).await
}

/// Asks for readiness without waiting for it.
fn poll_once<S: Service<u32>>(service: &mut S) -> Poll<Result<(), S::Error>> {
    service.poll_ready(&mut Context::from_waker(Waker::noop()))
}

/// Gives tasks that the middleware may have spawned a few turns.
async fn let_others_run() {
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
}

async fn answers_pass<S, E>((inner, mut service): (Inner<E>, S), error: fn() -> E)
where
    S: Service<u32, Response = u32>,
    S::Error: Debug,
    E: Send + 'static,
{
    inner.script().answer_with(std::time::Duration::ZERO, |request| Ok(request + 1));
    let answer = ask(&mut service, 7).await;
    assert!(matches!(answer, Ok(8)), "rule 1: the answer was {answer:?}");
    assert_eq!(inner.script().requests(), [7], "rule 1: the request changed");
    inner.script().answer(Err(error()));
    // A policy may ask again, and gets the same error then.
    let answer = {
        inner.script().otherwise(move |_| Err(error()));
        ask(&mut service, 7).await
    };
    assert!(answer.is_err(), "rule 2: a failure became {answer:?}");
}

async fn readiness_passes<S, E>((inner, mut service): (Inner<E>, S), error: fn() -> E)
where
    S: Service<u32, Response = u32>,
    S::Error: Debug,
    E: Send + 'static,
{
    inner.set_pending();
    assert!(poll_once(&mut service).is_pending(), "rule 3: ready before the inner service");
    let mut ready = pin!(poll_fn(|context| service.poll_ready(context)));
    let woken = poll_fn(|context| {
        assert!(ready.as_mut().poll(context).is_pending(), "rule 3: ready before the inner service");
        Poll::Ready(context.waker().clone())
    });
    woken.await;
    inner.set_ready();
    let became_ready = ready.await;
    assert!(became_ready.is_ok(), "rule 3: {became_ready:?}");
    inner.set_failed(error);
    let failed = match poll_once(&mut service) {
        Poll::Ready(result) => result.is_err(),
        Poll::Pending => false,
    };
    // A layer that already holds a promise of readiness may keep it and learns of the failure with the next one.
    let failed = failed || {
        inner.script().otherwise(|_| Ok(0));
        let _spent = service.call(0);
        matches!(poll_once(&mut service), Poll::Ready(Err(_)))
    };
    assert!(failed, "rule 4: a failed readiness was not passed on");
}

async fn the_ready_service_is_called<S, E>((inner, mut service): (Inner<E>, S))
where
    S: Service<u32, Response = u32> + Clone,
    S::Error: Debug,
    E: Send + 'static,
{
    inner.script().otherwise(|request| Ok(*request));
    let ready = poll_fn(|context| service.poll_ready(context)).await;
    assert!(ready.is_ok(), "rule 5: {ready:?}");
    let mut clone = service.clone();
    // The scripted service panics when it is called without having been asked.
    let (first, second) = (service.call(1).await, ask(&mut clone, 2).await);
    assert!(matches!((&first, &second), (Ok(1), Ok(2))), "rule 5: {first:?} and {second:?}");
}

async fn calls_overlap<S, E>((inner, mut service): (Inner<E>, S))
where
    S: Service<u32, Response = u32> + Clone,
    S::Error: Debug,
    E: Send + 'static,
{
    inner.script().hold().hold();
    let mut clone = service.clone();
    let script = inner.script().clone();
    let answer_both = async move {
        let (first, second) = (script.held().await, script.held().await);
        assert_eq!(script.in_flight(), 2, "rule 6: the calls do not overlap");
        second.answer(Ok(2));
        first.answer(Ok(1));
    };
    let (a, b, ()) = tokio::join!(ask(&mut service, 1), ask(&mut clone, 2), answer_both);
    assert!(a.is_ok() && b.is_ok(), "rule 6: {a:?} and {b:?}");
}

async fn dropped_calls_give_back_what_they_took<S, E>((inner, mut service): (Inner<E>, S))
where
    S: Service<u32, Response = u32>,
    S::Error: Debug,
    E: Send + 'static,
{
    for _ in 0..DROPS {
        inner.script().never();
        let ready = poll_fn(|context| service.poll_ready(context)).await;
        assert!(ready.is_ok(), "rule 7: after dropped calls: {ready:?}");
        let mut call = Box::pin(service.call(0));
        let first = poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await;
        assert!(first.is_pending(), "rule 7: a call without an answer was answered");
        let_others_run().await;
        drop(call);
        let_others_run().await;
        assert_eq!(inner.script().in_flight(), 0, "rule 7: a dropped call goes on");
    }
    inner.script().otherwise(|_| Ok(7));
    let answer = ask(&mut service, 0).await;
    assert!(matches!(answer, Ok(7)), "rule 7: after dropped calls: {answer:?}");
}
