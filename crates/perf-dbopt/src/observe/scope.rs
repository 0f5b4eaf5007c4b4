//! What one request asks of the database: repetitions that should be one query, and totals per route.

use crate::Fingerprint;
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

tokio::task_local! {
    static SCOPE: Arc<Scope>;
    static BATCH: ();
}

/// Statements told apart in one scope; a request that sends more different ones has other problems than a loop.
const MAX_PER_SCOPE: usize = 256;

/// The queries of one request.
#[derive(Debug)]
pub(super) struct Scope {
    /// Which observer opened it: a scope belongs to one.
    pub(super) owner: usize,
    pub(super) route: Arc<str>,
    state: Mutex<HashMap<Fingerprint, Repeated>>,
}

/// How often one statement ran in one scope.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Repeated {
    pub(super) calls: u32,
    /// Calls that returned at most one row, outside any [`batch`].
    pub(super) single: u32,
    pub(super) time: Duration,
}

impl Scope {
    pub(super) fn new(owner: usize, route: Arc<str>) -> Self {
        Self { owner, route, state: Mutex::default() }
    }

    pub(super) fn take(&self) -> HashMap<Fingerprint, Repeated> {
        std::mem::take(&mut *self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Runs `work` with `scope` around it.
pub(super) async fn within<F: Future>(scope: Arc<Scope>, work: F) -> F::Output {
    SCOPE.scope(scope, work).await
}

/// Notes a finished query in the scope of this task, when there is one of this observer.
#[inline]
pub(super) fn note(owner: usize, print: Fingerprint, rows: u64, time: Duration) {
    let _ = SCOPE.try_with(|scope| {
        if scope.owner != owner {
            return;
        }
        let mut state = scope.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.len() >= MAX_PER_SCOPE && !state.contains_key(&print) {
            return;
        }
        let repeated = state.entry(print).or_default();
        repeated.calls += 1;
        repeated.time += time;
        if rows <= 1 && BATCH.try_with(|()| ()).is_err() {
            repeated.single += 1;
        }
    });
}

/// Says that the repetitions inside `work` are meant: they do not count as N+1.
///
/// # Cancel safety
/// Exactly as cancel safe as `work`.
pub async fn batch<F: Future>(work: F) -> F::Output {
    BATCH.scope((), work).await
}

/// The route of this task's scope, when there is one of this observer.
pub(super) fn route(owner: usize) -> Option<Arc<str>> {
    SCOPE.try_with(|scope| (scope.owner == owner).then(|| Arc::clone(&scope.route))).ok().flatten()
}
