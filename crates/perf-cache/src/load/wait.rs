//! The caller's side of a load: join it or start it, and wait as long as is allowed.

use super::failures::Remembered;
use super::flight::Seat;
use super::land::Landed;
use super::run::Probe;
use super::{Landing, LoadOptions, Start, chain};
use crate::Key;
use crate::cache::Inner;
use crate::clock::tick;
use crate::engine::Held;
use crate::error::Failure;
use crate::hit::{Freshness, Hit};
use perf_core::{Deadline, Reason, time};
use std::sync::Arc;
use std::time::Duration;

/// What a caller finds when it comes to load.
pub(super) enum Step<K: Key, V: Send + Sync + 'static> {
    /// It is there by now.
    Ready(Held<K, V>, Freshness),
    /// It failed a moment ago, and that is remembered.
    Failed(Failure),
    /// Someone else's flight, and the newest fence when it was joined.
    Join { seat: Seat<K, V>, joined_at: u64 },
    /// A flight of its own, not yet launched.
    Lead { seat: Seat<K, V>, landed: Landed<K, V> },
}

/// How often a caller joins a flight that turns out to be overtaken before it insists on one of its own.
pub(super) const JOINS: u32 = 2;

impl<K: Key, V: Send + Sync + 'static> Inner<K, V> {
    /// Waits for the value of a key: for the flight of someone else, or for one that `start` begins.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the flight to itself; it goes on and stores its value.
    pub(crate) async fn wait_for(
        self: &Arc<Self>,
        hash: u64,
        key: K,
        mut start: Start<K, V>,
        options: LoadOptions,
    ) -> Result<Option<Hit<K, V>>, Failure> {
        if chain::is_loading(self.id, hash) {
            return Err(Failure::Recursive);
        }
        if tokio::runtime::Handle::try_current().is_err() {
            // Neither a load nor a timer can run here.
            return Err(Failure::Shutdown(self.refused(Reason::Closed)));
        }
        let deadline = self.patience(&options);
        let mut joins = 0;
        loop {
            let (step, stale) = self.join_or_lead(hash, &key, &options, joins >= JOINS);
            let (seat, again) = match step {
                Step::Ready(held, freshness) => return Ok(Hit::new(held, freshness)),
                Step::Failed(failure) => return Err(failure),
                Step::Join { seat, joined_at } => (seat, Some((joined_at, start))),
                Step::Lead { seat, landed } => {
                    let soft = self.soft(stale.is_some()).earliest(deadline);
                    if self.outlasts_the_store(soft) {
                        Departing::new(landed, start).depart().await;
                    } else {
                        // Out of time: the flight goes on by itself, and the wait below ends at once.
                        let _ = Box::pin(soft.run(Departing::new(landed, start).depart())).await;
                    }
                    (seat, None)
                }
            };
            let landing = match seat.landed() {
                Some(landing) => Some(landing),
                // In a box, so that a call that finds its value in the second tier stays small.
                None => Box::pin(self.landing(&seat, stale.is_some(), deadline)).await,
            };
            let Some(landing) = landing else { return self.late(&seat, stale, &options) };
            let (entry, freshness) = landing?;
            match again {
                // Whoever joined after an invalidation that overtook the flight must not be given its value.
                Some((joined_at, loader)) if self.is_overtaken_for(joined_at, &seat, &entry.tags) => {
                    joins += 1;
                    start = loader;
                }
                _ => {
                    if matches!(freshness, Freshness::StaleError(_)) {
                        self.numbers.stale_error.increment();
                    }
                    return Ok(Hit::new(entry.into(), freshness));
                }
            }
        }
    }

    /// Whether the second tier's own limit ends a read before this does, so that no second timer is needed.
    fn outlasts_the_store(&self, deadline: Deadline) -> bool {
        let limit = self.space.remote.as_ref().map_or(Duration::ZERO, |remote| remote.timeout);
        // A dictionary may have to be fetched as well, in the same time again.
        deadline.allows(time::now(), limit * 3)
    }

    /// When the caller gives up.
    pub(super) fn patience(&self, options: &LoadOptions) -> Deadline {
        Deadline::within(self.config.hard_timeout).earliest(options.deadline)
    }

    pub(super) fn is_overtaken_for(&self, joined_at: u64, seat: &Seat<K, V>, tags: &[u64]) -> bool {
        let as_of = seat.flight().as_of;
        joined_at > as_of && !self.space.fences.allow(as_of, tags)
    }

    /// Joins the flight of this key or makes one, and says which stale value there is. Under the lock of the key's shard,
    /// so there is never a second flight.
    pub(super) fn join_or_lead(
        self: &Arc<Self>,
        hash: u64,
        key: &K,
        options: &LoadOptions,
        insist: bool,
    ) -> (Step<K, V>, Option<Held<K, V>>) {
        let mut shard = self.flights.shard(hash);
        let stale = match self.look(hash, key) {
            Probe::Ready(held, freshness) | Probe::Refresh(held, freshness) => {
                return (Step::Ready(held, freshness), None);
            }
            Probe::Load(stale) => stale,
        };
        let joined_at = self.space.fences.newest();
        let cancel = options.cancel.unwrap_or(self.config.cancel);
        if let Some(flight) = shard.get(key)
            && !(insist && flight.as_of < joined_at)
            && let Some(seat) = flight.board(cancel)
        {
            self.numbers.joined.increment();
            return (Step::Join { seat, joined_at }, stale);
        }
        if let Some(failure) = self.remembered(key) {
            return (Step::Failed(failure), stale);
        }
        let base = stale.clone().or_else(|| self.invalidated_base(hash, key));
        let landed = self.depart(&mut shard, hash, key.clone(), options.clone(), base, false);
        match landed.flight.board(cancel) {
            Some(seat) => (Step::Lead { seat, landed }, stale),
            // Nobody has left a flight that nobody has boarded.
            None => (Step::Failed(Failure::Shutdown(self.refused(Reason::Closed))), stale),
        }
    }

    /// The value that a tag or a clear has invalidated, for loaders that may still confirm it.
    fn invalidated_base(&self, hash: u64, key: &K) -> Option<Held<K, V>> {
        if !self.config.allow_invalidated_base {
            return None;
        }
        self.held(hash, key).filter(|held| held.value.is_some())
    }

    /// The error of the last load of a key, if it is to be remembered still.
    fn remembered(&self, key: &K) -> Option<Failure> {
        let is_valid = |error: &Remembered| {
            error.as_of >= self.cleared_at() && self.space.fences.allow(error.as_of, &error.tags)
        };
        let failure = self.failures.get(key, tick(), is_valid)?;
        self.numbers.errors_served.increment();
        Some(failure)
    }

    /// The landing, or `None` when the caller's patience ends first.
    pub(super) async fn landing(
        &self,
        seat: &Seat<K, V>,
        has_stale: bool,
        deadline: Deadline,
    ) -> Option<Landing<K, V>> {
        seat.landed_by(deadline.earliest(self.soft(has_stale))).await
    }

    /// When a caller makes do with a stale value.
    fn soft(&self, has_stale: bool) -> Deadline {
        match self.config.soft_timeout {
            Some(limit) if has_stale => Deadline::within(limit),
            _ => Deadline::NEVER,
        }
    }

    /// What a caller gets whose patience has ended.
    pub(super) fn late(
        &self,
        seat: &Seat<K, V>,
        stale: Option<Held<K, V>>,
        options: &LoadOptions,
    ) -> Result<Option<Hit<K, V>>, Failure> {
        self.numbers.timeouts.increment();
        if let Some((held, freshness)) = stale.and_then(|held| self.left_of(seat, held)) {
            if freshness == Freshness::StaleTimeout {
                self.numbers.stale_timeout.increment();
            }
            return Ok(Hit::new(held, freshness));
        }
        let by_caller = options.deadline.has_passed(time::now());
        let reason = if by_caller { Reason::DeadlineExceeded } else { Reason::Timeout };
        Err(Failure::Timeout(self.refused(reason)))
    }

    /// What may be served of a value that was stale when the wait began. If its key was invalidated or written since, that
    /// is what memory has by now.
    fn left_of(&self, seat: &Seat<K, V>, held: Held<K, V>) -> Option<(Held<K, V>, Freshness)> {
        if !seat.flight().is_superseded() {
            return self.is_allowed(&held).then_some((held, Freshness::StaleTimeout));
        }
        match self.look(held.hash, &held.key) {
            Probe::Ready(held, freshness) | Probe::Refresh(held, freshness) => Some((held, freshness)),
            Probe::Load(left) => left.map(|held| (held, Freshness::StaleTimeout)),
        }
    }
}

/// A flight that has not been launched. Its caller asks the second tier itself, which saves a task for what is found
/// there; a caller that gives up meanwhile leaves the flight to a task of its own.
struct Departing<K: Key, V: Send + Sync + 'static> {
    landed: Option<Landed<K, V>>,
    start: Option<Start<K, V>>,
}

impl<K: Key, V: Send + Sync + 'static> Departing<K, V> {
    const fn new(landed: Landed<K, V>, start: Start<K, V>) -> Self {
        Self { landed: Some(landed), start: Some(start) }
    }

    /// Lands with what the second tier has, or launches the flight.
    async fn depart(mut self) {
        let asks = self.landed.as_ref().filter(|landed| landed.asks_alone());
        let found = match asks {
            Some(landed) => Some(landed.ask().await),
            None => None,
        };
        if let (Some(landed), Some(start)) = (self.landed.take(), self.start.take()) {
            match found {
                Some(true) => {}
                Some(false) => landed.launch_asked(start),
                None => landed.launch(start, None),
            }
        }
    }
}

impl<K: Key, V: Send + Sync + 'static> Drop for Departing<K, V> {
    fn drop(&mut self) {
        if let (Some(landed), Some(start)) = (self.landed.take(), self.start.take()) {
            landed.launch(start, None);
        }
    }
}
