//! The second tier on the way of a load: what it has, who else is loading, and what it is given in the end.

use super::land::{Landed, Packed};
use crate::Key;
use crate::remote::lease::{self, Lease, Right};
use crate::remote::shared::{self, Answer, Fetched, Named};
use std::sync::Arc;

/// What the second tier leaves to do.
pub(crate) enum Step {
    /// Nothing: the flight has landed with its value.
    Landed,
    /// Load, under the lease if there is one.
    Load(Option<Lease>),
}

/// What is behind the name of a key for the lease of its refresh: the value itself stays where it is.
const REFRESH: &[u8] = b"/refresh";

impl<K: Key, V: Send + Sync + 'static> Landed<K, V> {
    /// Whether the second tier can be asked by whoever waits: the answer comes within its time, and nobody else's load
    /// is waited for.
    pub(super) fn asks_alone(&self) -> bool {
        self.inner.shared.is_some() && self.inner.config.lease.is_none() && !self.refresh
    }

    /// Lands with the value of the second tier; false when it has none.
    pub(super) async fn ask(&self) -> bool {
        let inner = &self.inner;
        let (Some(remote), Some(shared), Some(identity)) =
            (&inner.space.remote, &inner.shared, &inner.identity)
        else {
            return false;
        };
        let named = shared.name(identity, &self.key);
        let fetched = shared.read_one(remote, &named).await.found();
        fetched.is_some_and(|fetched| self.take(fetched).is_some())
    }

    /// Lands with the value of the second tier, if it has one that is valid; otherwise takes the lease of the key, where
    /// leases are wanted, which may take as long as another node's load.
    pub(crate) async fn approach(&self) -> Step {
        let inner = &self.inner;
        let (Some(remote), Some(shared), Some(identity)) =
            (&inner.space.remote, &inner.shared, &inner.identity)
        else {
            return Step::Load(None);
        };
        let named = shared.name(identity, &self.key);
        if self.refresh {
            return match inner.config.lease {
                Some(life) => self.approach_refresh(&named, life).await,
                None => Step::Load(None),
            };
        }
        let known = match shared.read_one(remote, &named).await {
            Answer::Found(fetched) => match self.take(fetched) {
                Some(landed) => return landed,
                None => return Step::Load(None),
            },
            Answer::Miss(mark) => mark,
            Answer::Leased => None,
            Answer::Away => return Step::Load(None),
        };
        let Some(life) = inner.config.lease else { return Step::Load(None) };
        match lease::acquire(remote, shared, &named, known, life).await {
            Right::Free => Step::Load(None),
            Right::Held(lease) => Step::Load(Some(lease)),
            Right::Filled(fetched) => self.take(fetched).unwrap_or(Step::Load(None)),
        }
    }

    /// One refresh per key and cluster: whoever comes second waits, and takes what the first one stored.
    async fn approach_refresh(&self, named: &Named, life: std::time::Duration) -> Step {
        let inner = &self.inner;
        let (Some(remote), Some(shared)) = (&inner.space.remote, &inner.shared) else {
            return Step::Load(None);
        };
        let marker = Named { name: [&named.name[..], REFRESH].concat(), ..named.clone() };
        let Right::Held(lease) = lease::acquire(remote, shared, &marker, None, life).await else {
            return Step::Load(None);
        };
        let left = self.base.as_ref().map(|base| base.fresh_for(crate::clock::tick())).unwrap_or_default();
        let newer = left.saturating_add(inner.config.fresh / 4);
        let found = shared.read_one(remote, named).await.found();
        // Its life began later than that of the value in memory: another node has refreshed it since.
        match found.filter(|fetched| fetched.fresh > newer) {
            Some(fetched) => self.take(fetched).unwrap_or(Step::Load(Some(lease))),
            None => Step::Load(Some(lease)),
        }
    }

    /// Lands with a value of the second tier, unless memory knows better.
    pub(super) fn take(&self, fetched: Fetched<V>) -> Option<Step> {
        // What is held off may come from a node that does not know of it.
        if self.is_held(&fetched.tags) {
            return None;
        }
        // What memory holds, past its life as it is, was loaded later: going back would be worse than loading.
        if self.base.as_ref().is_some_and(|base| base.position > fetched.as_of) {
            if let Some(remote) = &self.inner.space.remote {
                remote.numbers.outdated.increment();
            }
            return None;
        }
        self.land_fetched(fetched);
        Some(Step::Landed)
    }

    /// Gives the second tier what was loaded. Everyone has been told already; this only delays the end of the task.
    pub(crate) async fn give(&self, packed: Option<Packed>, lease: Option<Lease>) {
        let Some(remote) = &self.inner.space.remote else { return };
        match (packed, lease) {
            (Some(packed), Some(lease)) if !self.refresh => lease.fill(&packed).await,
            (Some(packed), lease) => {
                shared::write(&Arc::clone(remote), &[packed]).await;
                // The next refresh may begin.
                drop(lease);
            }
            (None, lease) => drop(lease),
        }
    }
}
