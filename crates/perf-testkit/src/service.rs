//! A tower service that answers by script.

use crate::Script;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tower_service::Service;

/// A tower service over a [`Script`] that insists on the contract of [`Service`]: each call needs a `poll_ready` of its own
/// that said yes, on the same clone. Clones share script and readiness, but no promise of it.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use perf_testkit::{Script, ScriptedService};
/// use std::future::poll_fn;
/// use tower_service::Service;
///
/// let script = Script::<_, Result<_, &str>>::new();
/// script.answer(Ok("world"));
/// let mut service = ScriptedService::new(script);
/// poll_fn(|context| service.poll_ready(context)).await.unwrap();
/// assert_eq!(service.call("hello").await, Ok("world"));
/// # });
/// ```
pub struct ScriptedService<Q, T, E> {
    script: Script<Q, Result<T, E>>,
    gate: Arc<Mutex<Gate<E>>>,
    promised: bool,
}

struct Gate<E> {
    readiness: Readiness<E>,
    waiting: Vec<Waker>,
}

enum Readiness<E> {
    Ready,
    Pending,
    Failed(Box<dyn Fn() -> E + Send>),
}

impl<Q, T, E> ScriptedService<Q, T, E> {
    /// A service that is ready, with the answers of `script`.
    #[must_use]
    pub fn new(script: Script<Q, Result<T, E>>) -> Self {
        let gate = Gate { readiness: Readiness::Ready, waiting: Vec::new() };
        Self { script, gate: Arc::new(Mutex::new(gate)), promised: false }
    }

    /// The script, which is also the handle to what was called.
    #[must_use]
    pub const fn script(&self) -> &Script<Q, Result<T, E>> {
        &self.script
    }

    /// From now on `poll_ready` waits, in all clones.
    pub fn set_pending(&self) {
        self.set(Readiness::Pending);
    }

    /// From now on `poll_ready` says yes, in all clones; those that wait are woken.
    pub fn set_ready(&self) {
        self.set(Readiness::Ready);
    }

    /// From now on `poll_ready` fails, in all clones; those that wait are woken.
    pub fn set_failed(&self, error: impl Fn() -> E + Send + 'static) {
        self.set(Readiness::Failed(Box::new(error)));
    }

    fn set(&self, readiness: Readiness<E>) {
        let waiting = {
            let mut gate = self.gate();
            gate.readiness = readiness;
            std::mem::take(&mut gate.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    fn gate(&self) -> MutexGuard<'_, Gate<E>> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Q, T, E> Service<Q> for ScriptedService<Q, T, E>
where
    Q: Clone + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    type Response = T;
    type Error = E;
    type Future = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), E>> {
        let mut gate = self.gate();
        match &gate.readiness {
            Readiness::Ready => {}
            Readiness::Failed(error) => return Poll::Ready(Err(error())),
            Readiness::Pending => {
                gate.waiting.push(context.waker().clone());
                return Poll::Pending;
            }
        }
        drop(gate);
        self.promised = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Q) -> Self::Future {
        assert!(std::mem::take(&mut self.promised), "call without a poll_ready that said yes on this clone");
        Box::pin(self.script.call(request))
    }
}

impl<Q, T, E> Clone for ScriptedService<Q, T, E> {
    /// The clone has to ask for readiness itself.
    fn clone(&self) -> Self {
        Self { script: self.script.clone(), gate: Arc::clone(&self.gate), promised: false }
    }
}

impl<Q, T, E> fmt::Debug for ScriptedService<Q, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedService").field("script", &self.script).finish_non_exhaustive()
    }
}
