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
use std::borrow::Borrow;
use std::hash::Hash;
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

/// How long a caller waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// When it gives up.
    pub(super) end: Deadline,
    /// What it has set itself.
    pub(super) of_caller: Deadline,
    /// How often it has joined a flight that turned out to be overtaken.
    joins: u32,
}

impl Patience {
    /// Whether the caller has joined such flights often enough to insist on one of its own.
    pub(super) const fn insists(&self) -> bool {
        self.joins >= JOINS
    }
}

/// How a caller's wait ended.
pub(super) enum Ride<K, V> {
    /// With this.
    Over(Result<Option<Hit<K, V>>, Failure>),
    /// The flight that was joined had been overtaken before: it has to come again.
    Again(Patience),
}

/// How often a caller joins a flight that turns out to be overtaken before it insists on one of its own.
pub(super) const JOINS: u32 = 2;

impl<K: Key, V: Send + Sync + 'static> Inner<K, V> {
    /// Comes for a key that is not there: joins someone else's flight, or begins one.
    pub(super) fn come<Q>(
        self: &Arc<Self>,
        hash: u64,
        key: &Q,
        options: &LoadOptions,
        insist: bool,
    ) -> (Step<K, V>, Option<Held<K, V>>)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        if chain::is_loading(self.id, hash) {
            return (Step::Failed(Failure::Recursive), None);
        }
        if tokio::runtime::Handle::try_current().is_err() {
            // Neither a load nor a timer can run here.
            return (Step::Failed(Failure::Shutdown(self.refused(Reason::Closed))), None);
        }
        self.join_or_lead(hash, key, options, insist)
    }

    /// Waits for the flight of someone else.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the flight to itself; it goes on and stores its value.
    pub(super) async fn ride(
        &self,
        seat: Seat<K, V>,
        joined_at: u64,
        stale: Option<Held<K, V>>,
        patience: Patience,
    ) -> Ride<K, V> {
        let mut waiting = seat.waits(patience.end.earliest(self.soft(stale.is_some())));
        match (&mut waiting).await {
            // Whoever joined after an invalidation that overtook the flight must not be given its value.
            Some(Ok((entry, _))) if self.is_overtaken_for(joined_at, waiting.seat(), &entry.tags) => {
                Ride::Again(Patience { joins: patience.joins + 1, ..patience })
            }
            Some(landing) => Ride::Over(self.arrived(landing)),
            None => Ride::Over(self.late(waiting.seat(), stale, patience.of_caller)),
        }
    }

    /// Launches a flight and waits for it.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the flight to itself; it goes on and stores its value.
    pub(super) async fn lead(
        &self,
        seat: Seat<K, V>,
        departing: Departing<K, V>,
        stale: Option<Held<K, V>>,
        patience: Patience,
    ) -> Ride<K, V> {
        let soft = self.soft(stale.is_some()).earliest(patience.end);
        if self.outlasts_the_store(soft) {
            departing.depart().await;
        } else {
            // Out of time: the flight goes on by itself, and the wait below ends at once.
            let _ = Box::pin(soft.run(departing.depart())).await;
        }
        let mut waiting = seat.waits(patience.end.earliest(self.soft(stale.is_some())));
        Ride::Over(match (&mut waiting).await {
            Some(landing) => self.arrived(landing),
            None => self.late(waiting.seat(), stale, patience.of_caller),
        })
    }

    /// What a landing gives a caller.
    fn arrived(&self, landing: Landing<K, V>) -> Result<Option<Hit<K, V>>, Failure> {
        let (entry, freshness) = landing?;
        if matches!(freshness, Freshness::StaleError(_)) {
            self.numbers.stale_error.increment();
        }
        Ok(Hit::new(entry.into(), freshness))
    }

    /// Whether the second tier's own limit ends a read before this does, so that no second timer is needed.
    fn outlasts_the_store(&self, deadline: Deadline) -> bool {
        let limit = self.space.remote.as_ref().map_or(Duration::ZERO, |remote| remote.timeout);
        // A dictionary may have to be fetched as well, in the same time again.
        deadline.allows(time::now(), limit * 3)
    }

    /// When the caller gives up.
    pub(super) fn patience(&self, options: &LoadOptions) -> Patience {
        let end = Deadline::within(self.config.hard_timeout).earliest(options.deadline);
        Patience { end, of_caller: options.deadline, joins: 0 }
    }

    pub(super) fn is_overtaken_for(&self, joined_at: u64, seat: &Seat<K, V>, tags: &[u64]) -> bool {
        let as_of = seat.flight().as_of;
        joined_at > as_of && !self.space.fences.allow(as_of, tags)
    }

    /// Joins the flight of this key or makes one, and says which stale value there is. Under the lock of the key's shard,
    /// so there is never a second flight.
    pub(super) fn join_or_lead<Q>(
        self: &Arc<Self>,
        hash: u64,
        key: &Q,
        options: &LoadOptions,
        insist: bool,
    ) -> (Step<K, V>, Option<Held<K, V>>)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
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
        let landed = self.depart(&mut shard, hash, key.to_owned(), options.clone(), base, false);
        match landed.flight.board(cancel) {
            Some(seat) => (Step::Lead { seat, landed }, stale),
            // Nobody has left a flight that nobody has boarded.
            None => (Step::Failed(Failure::Shutdown(self.refused(Reason::Closed))), stale),
        }
    }

    /// The value that a tag or a clear has invalidated, for loaders that may still confirm it.
    fn invalidated_base<Q>(&self, hash: u64, key: &Q) -> Option<Held<K, V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        if !self.config.allow_invalidated_base {
            return None;
        }
        self.held(hash, key).filter(|held| held.value.is_some())
    }

    /// The error of the last load of a key, if it is to be remembered still.
    fn remembered<Q>(&self, key: &Q) -> Option<Failure>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let is_valid = |error: &Remembered| {
            error.as_of >= self.cleared_at() && self.space.fences.allow(error.as_of, &error.tags)
        };
        let failure = self.failures.get(key, tick(), is_valid)?;
        self.numbers.errors_served.increment();
        Some(failure)
    }

    /// When a caller makes do with a stale value.
    pub(super) fn soft(&self, has_stale: bool) -> Deadline {
        match self.config.soft_timeout {
            Some(limit) if has_stale => Deadline::within(limit),
            _ => Deadline::NEVER,
        }
    }

    /// What a caller gets whose patience has ended; `deadline` is what it has set itself.
    pub(super) fn late(
        &self,
        seat: &Seat<K, V>,
        stale: Option<Held<K, V>>,
        deadline: Deadline,
    ) -> Result<Option<Hit<K, V>>, Failure> {
        self.numbers.timeouts.increment();
        if let Some((held, freshness)) = stale.and_then(|held| self.left_of(seat, held)) {
            if freshness == Freshness::StaleTimeout {
                self.numbers.stale_timeout.increment();
            }
            return Ok(Hit::new(held, freshness));
        }
        let by_caller = deadline.has_passed(time::now());
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
pub(super) struct Departing<K: Key, V: Send + Sync + 'static> {
    landed: Option<Landed<K, V>>,
    start: Option<Start<K, V>>,
}

impl<K: Key, V: Send + Sync + 'static> Departing<K, V> {
    pub(super) const fn new(landed: Landed<K, V>, start: Start<K, V>) -> Self {
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
