//! The detached side of a batch: what the second tier has lands, what other nodes load is waited for, and one call of the
//! loader gives the rest.

use super::batch::Start;
use super::chain::Link;
use super::gate::Permit;
use super::land::Landed;
use super::{Loaded, run};
use crate::Key;
use crate::cache::Inner;
use crate::clock::tick;
use crate::error::Failure;
use crate::remote::shared::{self, Answer, Fetched, Named};
use crate::remote::turns::{Turn, Turns};
use perf_core::{Backoff, Deadline, Reason, Rng, time};
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// A flight whose key this node may have to load.
struct Left<K: Key, V: Send + Sync + 'static> {
    landed: Landed<K, V>,
    named: Named,
    /// The beginning of bytes in the second tier that are of no use.
    known: Option<Vec<u8>>,
}

/// What of a batch is this node's to load, under the leases it has, and what others load.
struct Parts<K: Key, V: Send + Sync + 'static> {
    ours: Vec<Landed<K, V>>,
    turns: Option<Turns>,
    theirs: Vec<Left<K, V>>,
}

/// Starts the load of all these flights in a task of its own. With the task, if it cannot run, its flights are dropped,
/// and their drop tells those who wait.
pub(super) fn launch<K: Key, V: Send + Sync + 'static>(
    flights: Vec<Landed<K, V>>,
    start: &Start<K, V>,
    permit: Option<Permit>,
) {
    let Some(first) = flights.first() else { return };
    let inner = Arc::clone(&first.inner);
    let link = Link::of_many(inner.id, flights.iter().map(|landed| landed.hash).collect());
    // A batch goes on for all of its keys, whoever gives one of them up.
    flights.iter().for_each(|landed| landed.flight.detach());
    let crew = Crew { inner, start: Arc::clone(start), nested: link.is_nested() };
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        drop(runtime.spawn(link.run(async move { crew.fly(flights, permit).await })));
    }
}

/// Who loads a batch.
struct Crew<K: Key, V: Send + Sync + 'static> {
    inner: Arc<Inner<K, V>>,
    start: Start<K, V>,
    nested: bool,
}

/// How the wait for other nodes' values is spread.
const FIRST_LOOK: Duration = Duration::from_millis(3);
const LAST_LOOK: Duration = Duration::from_millis(100);
/// Lives of a lease after which this node loads without one, whoever died.
const PATIENCE: u32 = 3;

impl<K: Key, V: Send + Sync + 'static> Crew<K, V> {
    async fn fly(&self, flights: Vec<Landed<K, V>>, permit: Option<Permit>) {
        let Parts { ours, turns, theirs } = self.approach(flights).await;
        if theirs.is_empty() {
            self.load(ours, permit, turns).await;
        } else {
            tokio::join!(self.load(ours, permit, turns), self.wait(theirs));
        }
    }

    /// Lands what the second tier has, and takes the leases of the rest where leases are wanted.
    async fn approach(&self, flights: Vec<Landed<K, V>>) -> Parts<K, V> {
        let inner = &*self.inner;
        let is_refresh = flights.first().is_some_and(|first| first.refresh);
        let (Some(remote), Some(shared), Some(identity), false) =
            (&inner.space.remote, &inner.shared, &inner.identity, is_refresh)
        else {
            return Parts { ours: flights, turns: None, theirs: Vec::new() };
        };
        let names: Vec<Named> = flights.iter().map(|landed| shared.name(identity, &landed.key)).collect();
        let answers = shared.read(remote, &names).await;
        let (mut ours, mut left) = (Vec::new(), Vec::new());
        for ((landed, named), answer) in flights.into_iter().zip(names).zip(answers) {
            match answer {
                Answer::Found(fetched) => ours.extend(refused(landed, fetched)),
                Answer::Miss(known) => left.push(Left { landed, named, known }),
                Answer::Leased => left.push(Left { landed, named, known: None }),
                Answer::Away => ours.push(landed),
            }
        }
        let Some(life) = inner.config.lease.filter(|_| !left.is_empty()) else {
            ours.extend(left.into_iter().map(|left| left.landed));
            return Parts { ours, turns: None, theirs: Vec::new() };
        };
        let mut turns = Turns::new(remote, life);
        let theirs = self.take(&mut turns, left, &mut ours).await;
        remote.numbers.lease_waits.add(theirs.len() as u64);
        Parts { ours, turns: Some(turns), theirs }
    }

    /// Takes the leases of these keys. Lands what is filled; the flights that others load.
    async fn take(
        &self,
        turns: &mut Turns,
        mut left: Vec<Left<K, V>>,
        ours: &mut Vec<Landed<K, V>>,
    ) -> Vec<Left<K, V>> {
        let Some(shared) = &self.inner.shared else { return left };
        let wanted = left.iter_mut().map(|left| (&left.named, &mut left.known));
        let taken = turns.take(shared, wanted).await;
        let mut theirs = Vec::new();
        for (left, turn) in left.into_iter().zip(taken) {
            match turn {
                Turn::Ours => ours.push(left.landed),
                Turn::Theirs => theirs.push(left),
                Turn::Done(fetched) => ours.extend(refused(left.landed, fetched)),
            }
        }
        theirs
    }

    /// Waits for what other nodes load, and loads what they have not loaded when their leases end.
    fn wait(&self, mut theirs: Vec<Left<K, V>>) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            let (Some(remote), Some(life)) = (&self.inner.space.remote, self.inner.config.lease) else {
                return;
            };
            let backoff = Backoff::exponential(FIRST_LOOK).cap(LAST_LOOK.min(life / 4));
            let mut delays = backoff.delays(Rng::from_entropy().next_u64());
            let give_up = Deadline::within(life.saturating_mul(PATIENCE));
            while !theirs.is_empty() {
                time::sleep(delays.next().unwrap_or(LAST_LOOK)).await;
                let (mut ours, mut turns) = (Vec::new(), Turns::new(remote, life));
                theirs = self.take(&mut turns, theirs, &mut ours).await;
                if give_up.has_passed(time::now()) {
                    ours.extend(theirs.drain(..).map(|left| left.landed));
                }
                if !ours.is_empty() {
                    // What this load takes must not keep the others from what is there by then.
                    tokio::join!(self.load(ours, None, Some(turns)), self.wait(theirs));
                    return;
                }
            }
        })
    }

    /// Loads keys with one call of the loader, and gives the second tier what that gave.
    async fn load(&self, flights: Vec<Landed<K, V>>, permit: Option<Permit>, turns: Option<Turns>) {
        let inner = &self.inner;
        if flights.is_empty() {
            return;
        }
        let permit = match permit {
            Some(permit) => Some(permit),
            None => inner.gate.enter(self.nested, inner.config.hard_timeout).await,
        };
        let Some(permit) = permit else {
            for landed in &flights {
                inner.numbers.refused.increment();
                landed.land(Err(Failure::Overloaded(inner.refused(Reason::Full))), 0);
            }
            return;
        };
        let keys: Vec<K> = flights.iter().map(|landed| landed.key.clone()).collect();
        let (began, start) = (tick(), Arc::clone(&self.start));
        let loading = run::caught_future(move || start(keys));
        let loaded = match time::timeout(inner.config.abandon_after, loading).await {
            Ok(loaded) => loaded,
            Err(_) => Err(Failure::Timeout(inner.refused(Reason::Timeout))),
        };
        drop(permit);
        let taken = tick().since(began);
        inner.numbers.load_time.record_duration(taken);
        let packed = land(&flights, loaded, crate::clock::nanos(taken));
        // Everyone has been told already; this only delays the end of the task.
        match (turns, &inner.space.remote) {
            (Some(turns), _) => turns.fill(packed).await,
            (None, Some(remote)) => shared::write(remote, &packed).await,
            (None, None) => {}
        }
    }
}

/// Lands with a value of the second tier; the flight again, if memory knows better.
fn refused<K: Key, V: Send + Sync + 'static>(
    landed: Landed<K, V>,
    fetched: Fetched<V>,
) -> Option<Landed<K, V>> {
    landed.take(fetched).is_none().then_some(landed)
}

/// Lands every flight with its part of what was loaded; what the second tier is to be given.
fn land<K: Key, V: Send + Sync + 'static>(
    flights: &[Landed<K, V>],
    loaded: Result<HashMap<K, Loaded<V>>, Failure>,
    nanos: u64,
) -> Vec<shared::Packed> {
    match loaded {
        Ok(mut values) => flights
            .iter()
            .filter_map(|landed| {
                let loaded = values.remove(&landed.key).unwrap_or_else(Loaded::nothing);
                landed.land(Ok(loaded), nanos)
            })
            .collect(),
        Err(failure) => {
            flights.iter().filter_map(|landed| landed.land(Err(failure.clone()), nanos)).collect()
        }
    }
}
