//! Leases for a batch: it takes those it can have, in one round trip, and learns of the others when they are filled.

use super::Remote;
use super::port::{Leases, StoreError, Taken, Wanted};
use super::shared::{self, Answer, Fetched, Named, Packed, Shared};
use perf_core::Rng;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// Whose turn it is to load a key.
pub(crate) enum Turn<V> {
    /// This node's, under a lease unless there is none to be had.
    Ours,
    /// Another node's.
    Theirs,
    /// Nobody's any more: this is its value.
    Done(Fetched<V>),
}

/// The leases that a batch holds. Those that are not filled are given back when it is dropped.
#[must_use = "the leases are given back when this is dropped"]
pub(crate) struct Turns {
    remote: Arc<Remote>,
    token: u64,
    life: Duration,
    held: HashSet<Vec<u8>>,
}

impl Turns {
    pub(crate) fn new(remote: &Arc<Remote>, life: Duration) -> Self {
        let token = Rng::from_entropy().next_u64();
        Self { remote: Arc::clone(remote), token, life, held: HashSet::new() }
    }

    /// Asks for the leases of these keys. What turns out to be of no use under a key is noted in `known`, and asked for
    /// again by the next call.
    pub(crate) async fn take<'w, V: Send + Sync + 'static>(
        &mut self,
        shared: &Shared<V>,
        wanted: impl Iterator<Item = (&'w Named, &'w mut Option<Vec<u8>>)>,
    ) -> Vec<Turn<V>> {
        let mut wanted: Vec<_> = wanted.collect();
        let keys: Vec<Wanted> = wanted
            .iter()
            .map(|(named, known)| Wanted { key: named.name.clone(), known: Option::clone(known) })
            .collect();
        let ours = |_| Turn::Ours;
        let Some(leases) = leases(&self.remote) else { return keys.iter().map(ours).collect() };
        let asked = self.remote.ask(keys.len(), leases.take_many(&keys, self.token, self.life)).await;
        let Some(taken) = asked else { return keys.iter().map(ours).collect() };
        let mut taken = taken.into_iter();
        wanted
            .iter_mut()
            .map(|(named, known)| match taken.next() {
                Some(Ok(Taken::Granted)) => {
                    if self.held.insert(named.name.clone()) {
                        self.remote.numbers.leases.increment();
                    }
                    Turn::Ours
                }
                Some(Ok(Taken::Held)) => Turn::Theirs,
                Some(Ok(Taken::Filled(stored))) => match shared.believe(&self.remote, named, stored) {
                    Answer::Found(fetched) => Turn::Done(fetched),
                    Answer::Miss(mark) if mark.is_some() && mark != **known => {
                        **known = mark;
                        Turn::Theirs
                    }
                    _ => Turn::Ours,
                },
                Some(Err(_)) | None => {
                    self.remote.numbers.errors.increment();
                    Turn::Ours
                }
            })
            .collect()
    }

    /// Gives the second tier what was loaded: in the place of the leases where there are, which may have ended.
    pub(crate) async fn fill(mut self, packed: Vec<Packed>) {
        let remote = Arc::clone(&self.remote);
        let is_held = |packed: &Packed| self.held.remove(&packed.0);
        let (leased, free): (Vec<Packed>, Vec<Packed>) = packed.into_iter().partition(is_held);
        if let Some(leases) = leases(&remote).filter(|_| !leased.is_empty()) {
            // Others wait for these.
            let mut refused = 0;
            let call = async {
                let filled = leases.fill_many(&leased, self.token).await;
                refused = filled.iter().filter(|filled| **filled == Ok(false)).count() as u64;
                filled.into_iter().map(|filled| filled.map(drop)).collect()
            };
            let told = remote.tell(leased.len(), call).await;
            let arrived = told.iter().filter(|told| told.is_ok()).count() as u64;
            remote.numbers.lease_refusals.add(refused);
            remote.numbers.written.add(arrived.saturating_sub(refused));
            remote.numbers.write_errors.add(told.len() as u64 - arrived);
        }
        shared::write(&remote, &free).await;
    }
}

fn leases(remote: &Remote) -> Option<&dyn Leases> {
    remote.store.as_ref()?.leases()
}

impl Drop for Turns {
    fn drop(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let (remote, keys, token) = (Arc::clone(&self.remote), std::mem::take(&mut self.held), self.token);
        // Without a runtime the leases end by themselves.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            drop(runtime.spawn(async move {
                let Some(leases) = leases(&remote) else { return };
                let release = async {
                    let mut released: Vec<Result<(), StoreError>> = Vec::with_capacity(keys.len());
                    for key in &keys {
                        released.push(leases.release(key, token).await);
                    }
                    released
                };
                // What could not be given back ends by itself.
                drop(remote.tell(keys.len(), release).await);
            }));
        }
    }
}
