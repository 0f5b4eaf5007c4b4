//! How many loads run at once, and what happens to those that are too many.

use crate::config::WhenFull;
use perf_core::time;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places for loads of one cache, and beyond them those of its space.
#[derive(Debug)]
pub(crate) struct Gate {
    own: Arc<Semaphore>,
    space: Option<Arc<Semaphore>>,
    /// Places that loads nobody waits for must leave free.
    spare: usize,
    when_full: WhenFull,
}

/// A place among the loads that run, given back when it is dropped.
#[derive(Debug)]
#[must_use = "the place is given back when this is dropped"]
pub(crate) struct Permit {
    _own: Option<OwnedSemaphorePermit>,
    _space: Option<OwnedSemaphorePermit>,
}

impl Gate {
    pub(crate) fn new(places: u32, when_full: WhenFull, space: Option<Arc<Semaphore>>) -> Self {
        Self { own: Arc::new(Semaphore::new(places as usize)), space, spare: places as usize / 8, when_full }
    }

    /// A place for a load that somebody waits for; `None` when it is refused.
    ///
    /// A load within another load never waits: the place that it would wait for may be the outer one's.
    pub(crate) async fn enter(&self, nested: bool, patience: Duration) -> Option<Permit> {
        if let Some(permit) = self.take(0) {
            return Some(permit);
        }
        match self.when_full {
            _ if nested => Some(Permit { _own: None, _space: None }),
            WhenFull::Shed => None,
            WhenFull::Wait => time::timeout(patience, self.wait()).await.ok().flatten(),
        }
    }

    /// A place for a load that nobody waits for, unless places are scarce.
    pub(crate) fn enter_unasked(&self) -> Option<Permit> {
        self.take(self.spare)
    }

    fn take(&self, spare: usize) -> Option<Permit> {
        if self.own.available_permits() <= spare {
            return None;
        }
        let own = Arc::clone(&self.own).try_acquire_owned().ok()?;
        let space = match &self.space {
            Some(space) => Some(Arc::clone(space).try_acquire_owned().ok()?),
            None => None,
        };
        Some(Permit { _own: Some(own), _space: space })
    }

    /// Always in this order, so that no two loads wait for each other.
    async fn wait(&self) -> Option<Permit> {
        let own = Arc::clone(&self.own).acquire_owned().await.ok()?;
        let space = match &self.space {
            Some(space) => Some(Arc::clone(space).acquire_owned().await.ok()?),
            None => None,
        };
        Some(Permit { _own: Some(own), _space: space })
    }
}
