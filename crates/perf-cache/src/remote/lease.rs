//! Distributed leases: of all nodes that miss a key, one loads it and the others wait for what it stores.

use super::Remote;
use super::port::{Leases, StoreError, Taken};
use super::shared::{Answer, Fetched, Named, Packed, Shared};
use perf_core::{Backoff, Rng, time};
use std::sync::Arc;
use std::time::Duration;

/// The right to load, or what makes it unnecessary.
pub(crate) enum Right<V> {
    /// There are no leases, or they cannot be reached: this node loads for itself.
    Free,
    /// This node loads; nobody else does for as long as the lease lives.
    Held(Lease),
    /// Somebody else has loaded it meanwhile.
    Filled(Fetched<V>),
}

/// A lease of this node. Dropped before the key is filled, it is given back, so that others need not wait for its end.
#[must_use = "the lease is given back when this is dropped"]
pub(crate) struct Lease {
    remote: Arc<Remote>,
    key: Vec<u8>,
    token: u64,
    ended: bool,
}

/// How the wait for somebody else's value is spread: first as long as a quick load takes, at last a tenth of a second.
const FIRST_LOOK: Duration = Duration::from_millis(3);
const LAST_LOOK: Duration = Duration::from_millis(100);
/// Holders in a row that may die before a node loads without a lease.
const PATIENCE: u32 = 3;

/// Takes the lease of a key, or waits for the value of the node that has it. `known` is the beginning of bytes that lie
/// there already and are of no use.
pub(crate) async fn acquire<V: Send + Sync + 'static>(
    remote: &Arc<Remote>,
    shared: &Shared<V>,
    named: &Named,
    mut known: Option<Vec<u8>>,
    life: Duration,
) -> Right<V> {
    let token = Rng::from_entropy().next_u64();
    let mut delays = Backoff::exponential(FIRST_LOOK).cap(LAST_LOOK.min(life / 4)).delays(token);
    let give_up = perf_core::Deadline::within(life.saturating_mul(PATIENCE));
    let mut waits = false;
    loop {
        let Some(taken) = take(remote, &named.name, known.as_deref(), token, life).await else {
            return Right::Free;
        };
        match taken {
            Taken::Granted => {
                remote.numbers.leases.increment();
                let (remote, key) = (Arc::clone(remote), named.name.clone());
                return Right::Held(Lease { remote, key, token, ended: false });
            }
            Taken::Filled(stored) => match shared.believe(remote, named, stored) {
                Answer::Found(fetched) => return Right::Filled(fetched),
                Answer::Miss(mark) if mark.is_some() && mark != known => {
                    known = mark;
                    continue;
                }
                _ => return Right::Free,
            },
            Taken::Held => {}
        }
        if !waits {
            waits = true;
            remote.numbers.lease_waits.increment();
        }
        if give_up.has_passed(time::now()) {
            return Right::Free;
        }
        time::sleep(delays.next().unwrap_or(LAST_LOOK)).await;
    }
}

/// One attempt; `None` when leases cannot be had.
async fn take(
    remote: &Arc<Remote>,
    key: &[u8],
    known: Option<&[u8]>,
    token: u64,
    life: Duration,
) -> Option<Taken> {
    let leases = remote.store.as_ref()?.leases()?;
    let asked = remote.ask(1, async { vec![leases.take(key, known, token, life).await] }).await;
    let taken = asked?.pop()?;
    if taken.is_err() {
        remote.numbers.errors.increment();
    }
    taken.ok()
}

impl Lease {
    /// Puts the value in the place of the lease; if that has ended, the store refuses.
    pub(crate) async fn fill(mut self, packed: &Packed) {
        self.ended = true;
        let remote = Arc::clone(&self.remote);
        let (key, bytes, life) = packed;
        let (token, mut refused) = (self.token, false);
        let Some(leases) = leases(&remote) else { return };
        let filled = remote
            .tell(1, async {
                let filled = leases.fill(key, token, bytes, *life).await;
                refused = filled == Ok(false);
                vec![filled.map(drop)]
            })
            .await;
        match filled.first() {
            Some(Ok(())) if refused => remote.numbers.lease_refusals.increment(),
            Some(Ok(())) => remote.numbers.written.increment(),
            Some(Err(_)) => remote.numbers.write_errors.increment(),
            // It was not asked, which is counted.
            None => {}
        }
    }
}

fn leases(remote: &Remote) -> Option<&dyn Leases> {
    remote.store.as_ref()?.leases()
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let (remote, key, token) = (Arc::clone(&self.remote), std::mem::take(&mut self.key), self.token);
        // Without a runtime the lease ends by itself.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            drop(runtime.spawn(async move {
                if let Some(leases) = leases(&remote) {
                    let release = async { vec![leases.release(&key, token).await] };
                    let _: Vec<Result<(), StoreError>> = remote.tell(1, release).await;
                }
            }));
        }
    }
}
