//! The loads that a task is inside of, so that a loader that asks for its own key is told instead of waiting for itself.

use std::sync::Arc;

tokio::task_local! {
    static CHAIN: Arc<Link>;
}

/// One load, and the loads it runs for.
#[derive(Debug)]
pub(crate) struct Link {
    cache: u64,
    loads: Loads,
    outer: Option<Arc<Self>>,
}

/// What a load is of.
#[derive(Debug)]
enum Loads {
    One(u64),
    Many(Box<[u64]>),
}

impl Link {
    /// The load of this key, started by the present task.
    pub(crate) fn new(cache: u64, hash: u64) -> Arc<Self> {
        Arc::new(Self { cache, loads: Loads::One(hash), outer: current() })
    }

    /// The load of these keys, started by the present task.
    pub(crate) fn of_many(cache: u64, hashes: Box<[u64]>) -> Arc<Self> {
        Arc::new(Self { cache, loads: Loads::Many(hashes), outer: current() })
    }

    fn is_of(&self, hash: u64) -> bool {
        match &self.loads {
            Loads::One(one) => *one == hash,
            Loads::Many(many) => many.contains(&hash),
        }
    }

    /// Whether it runs for another load.
    pub(crate) const fn is_nested(&self) -> bool {
        self.outer.is_some()
    }

    /// Runs `work` as part of this load.
    pub(crate) async fn run<F: Future>(self: Arc<Self>, work: F) -> F::Output {
        CHAIN.scope(self, work).await
    }
}

/// Whether the present task is loading this key, directly or further out.
pub(crate) fn is_loading(cache: u64, hash: u64) -> bool {
    let mut link = current();
    while let Some(at) = link {
        if at.cache == cache && at.is_of(hash) {
            return true;
        }
        link = at.outer.clone();
    }
    false
}

fn current() -> Option<Arc<Link>> {
    CHAIN.try_with(Arc::clone).ok()
}
