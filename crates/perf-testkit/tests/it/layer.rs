//! The contract for middleware accepts what keeps it and finds what does not.

use perf_testkit::{ScriptedService, contract};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::Semaphore;
use tower_service::Service;

type Inner = ScriptedService<u32, u32, &'static str>;
type Answer = Pin<Box<dyn Future<Output = Result<u32, &'static str>> + Send>>;

/// Middleware that may break the rules in one way.
#[derive(Clone)]
struct Middleware {
    inner: Inner,
    permits: Arc<Semaphore>,
    fault: Option<Broken>,
}

#[derive(Clone, Copy)]
enum Broken {
    AlwaysReady,
    CallsTheClone,
    OneAtATime,
    LeaksPermits,
    HidesFailures,
    Detaches,
}

impl Service<u32> for Middleware {
    type Response = u32;
    type Error = &'static str;
    type Future = Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        match self.fault {
            Some(Broken::AlwaysReady) => Poll::Ready(Ok(())),
            _ => self.inner.poll_ready(context),
        }
    }

    fn call(&mut self, request: u32) -> Answer {
        let (fault, permits) = (self.fault, Arc::clone(&self.permits));
        let clone = self.inner.clone();
        let mut inner = match fault {
            Some(Broken::CallsTheClone) => clone,
            _ => std::mem::replace(&mut self.inner, clone),
        };
        Box::pin(async move {
            let permit = permits.acquire_owned().await.unwrap();
            let call = inner.call(request);
            match fault {
                Some(Broken::LeaksPermits) => {
                    permit.forget();
                    call.await
                }
                Some(Broken::HidesFailures) => Ok(call.await.unwrap_or_default()),
                Some(Broken::Detaches) => tokio::spawn(call).await.unwrap(),
                _ => call.await,
            }
        })
    }
}

async fn contract_of(fault: Option<Broken>) {
    let wrap = move |inner| {
        let permits = match fault {
            Some(Broken::OneAtATime) => 1,
            _ => 2,
        };
        Middleware { inner, permits: Arc::new(Semaphore::new(permits)), fault }
    };
    let check = contract::layer(wrap, || "down");
    let waiting = "the contract waits for something that never comes";
    tokio::time::timeout(std::time::Duration::from_secs(60), check).await.expect(waiting);
}

#[tokio::test(start_paused = true)]
async fn good_middleware_passes() {
    contract_of(None).await;
}

#[tokio::test(start_paused = true)]
async fn every_broken_rule_is_found() {
    for (fault, message) in [
        (Broken::AlwaysReady, "poll_ready that said yes"),
        (Broken::CallsTheClone, "poll_ready that said yes"),
        (Broken::OneAtATime, "never comes"),
        (Broken::LeaksPermits, "never comes"),
        (Broken::HidesFailures, "rule 2"),
        (Broken::Detaches, "rule 7"),
    ] {
        let error = tokio::spawn(contract_of(Some(fault))).await.unwrap_err();
        let panic = error.into_panic();
        let found = panic.downcast_ref::<String>().cloned();
        let found = found.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap();
        assert!(found.contains(message), "{message}: {found}");
    }
}
