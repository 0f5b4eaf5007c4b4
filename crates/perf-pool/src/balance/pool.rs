use super::{Balance, Ejector, EjectorConfig, EndpointView, P2c, slow_start};
use crate::error::Error;
use crate::manager::Manager;
use crate::pool::{Lease, Pool};
use perf_core::time::{self, Duration, Instant};
use perf_core::{Name, PeakEwma, Reason, Rejected, Rng};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// What is known of an endpoint.
#[derive(Debug)]
struct Known {
    latency: PeakEwma,
    in_flight: usize,
    joined: Instant,
}

struct State {
    known: Vec<Known>,
    ejector: Ejector,
    rng: Rng,
}

struct Inner<M: Manager> {
    name: Name,
    pools: Vec<Pool<M>>,
    balance: Box<dyn Balance>,
    state: Mutex<State>,
}

/// One pool for each endpoint behind one `acquire`.
///
/// Latency is the time a lease is held; a lease marked [`failed`](BalancedLease::failed) counts as a long one, and speaks
/// against its endpoint. An endpoint that is taken out loses its idle connections and comes back through one probe.
pub struct BalancedPool<M: Manager>(Arc<Inner<M>>);

/// How long a call to an endpoint nobody has tried is taken to last.
const FIRST_GUESS: f64 = 0.010;
/// Latencies are forgotten over this time.
const DECAY: Duration = Duration::from_secs(10);
/// What a failed call costs at least, so that failing fast does not look like being fast.
const PENALTY: f64 = 1.0;
/// A newcomer gets its full share after this time.
const SLOW_START: Duration = Duration::from_secs(30);

impl<M: Manager> BalancedPool<M> {
    /// Balances over `pools`, one for each endpoint, by [`P2c`].
    #[must_use]
    pub fn new(name: impl Into<Name>, pools: Vec<Pool<M>>) -> Self {
        Self::with(name, pools, P2c, EjectorConfig::default(), Rng::from_entropy())
    }

    /// The same with a balance, an ejector and randomness of one's own.
    #[must_use]
    pub fn with(
        name: impl Into<Name>,
        pools: Vec<Pool<M>>,
        balance: impl Balance,
        ejector: EjectorConfig,
        rng: Rng,
    ) -> Self {
        let now = time::now();
        // Those there from the start have nothing to start slowly against.
        let joined = now.checked_sub(SLOW_START).unwrap_or(now);
        let known = pools
            .iter()
            .map(|_| Known { latency: PeakEwma::new(FIRST_GUESS, DECAY, now), in_flight: 0, joined })
            .collect();
        let ejector = Ejector::new(ejector, pools.len(), now);
        let state = Mutex::new(State { known, ejector, rng });
        Self(Arc::new(Inner { name: name.into(), pools, balance: Box::new(balance), state }))
    }

    /// A connection of the endpoint that is the best choice now.
    ///
    /// # Errors
    /// As [`Pool::acquire`] of that endpoint, which then counts as failed; [`Reason::Closed`] without any endpoint.
    ///
    /// # Cancel safety
    /// As [`Pool::acquire`].
    pub async fn acquire(&self) -> Result<BalancedLease<M>, Error> {
        let began = time::now();
        let Some(endpoint) = self.0.choose(began) else {
            return Err(Rejected::new(Reason::Closed, self.0.name.clone()).into());
        };
        let mut call = Call { inner: Arc::clone(&self.0), endpoint, began, outcome: None };
        match self.0.pools[endpoint].acquire().await {
            Ok(lease) => {
                call.outcome = Some(true);
                Ok(BalancedLease { lease, call })
            }
            Err(error) => {
                call.outcome = Some(false);
                Err(error)
            }
        }
    }

    /// The pools, one for each endpoint.
    #[must_use]
    pub fn pools(&self) -> &[Pool<M>] {
        &self.0.pools
    }

    /// What choices are made from at this moment.
    #[must_use]
    pub fn endpoints(&self) -> Vec<EndpointView> {
        let now = time::now();
        self.0.lock().views(now)
    }

    /// Which endpoints are taken out.
    #[must_use]
    pub fn ejected(&self) -> Vec<usize> {
        let state = self.0.lock();
        (0..state.known.len()).filter(|endpoint| state.ejector.is_out(*endpoint)).collect()
    }
}

impl<M: Manager> Inner<M> {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn choose(&self, now: Instant) -> Option<usize> {
        let mut state = self.lock();
        let swept = state.ejector.sweep(now);
        let mut views = state.views(now);
        let panicking = state.ejector.is_panicking();
        let State { ejector, rng, .. } = &mut *state;
        let probe =
            (0..views.len()).find(|endpoint| ejector.is_out(*endpoint) && ejector.admit(*endpoint, now));
        let chosen = probe.or_else(|| {
            if panicking {
                views.iter_mut().for_each(|view| view.available = true);
            }
            self.balance.pick(&views, rng).or_else(|| {
                // All are out: better an ill one than none.
                views.iter_mut().for_each(|view| view.available = true);
                self.balance.pick(&views, rng)
            })
        });
        if let Some(endpoint) = chosen {
            state.known[endpoint].in_flight += 1;
        }
        drop(state);
        for endpoint in swept {
            self.pools[endpoint].evict_all();
        }
        chosen
    }

    fn finish(&self, endpoint: usize, taken: Duration, outcome: Option<bool>, now: Instant) {
        let mut state = self.lock();
        let known = &mut state.known[endpoint];
        known.in_flight = known.in_flight.saturating_sub(1);
        let seconds = taken.as_secs_f64();
        match outcome {
            Some(true) => known.latency.observe(seconds, now),
            Some(false) => known.latency.observe(seconds.max(PENALTY), now),
            None => {}
        }
        let was_out = state.ejector.is_out(endpoint);
        let ejected = match outcome {
            Some(good) => state.ejector.record(endpoint, good, now),
            None => {
                state.ejector.release_probe(endpoint);
                false
            }
        };
        if was_out && !state.ejector.is_out(endpoint) {
            state.known[endpoint].joined = now;
        }
        drop(state);
        if ejected {
            self.pools[endpoint].evict_all();
        }
    }
}

impl State {
    fn views(&self, now: Instant) -> Vec<EndpointView> {
        let view = |(endpoint, known): (usize, &Known)| EndpointView {
            weight: slow_start(now.saturating_duration_since(known.joined), SLOW_START, 0.1, 1.0),
            // Never below the first guess by decay alone: silence is not speed.
            latency: known.latency.get(now).max(1e-6),
            in_flight: known.in_flight,
            available: !self.ejector.is_out(endpoint),
        };
        self.known.iter().enumerate().map(view).collect()
    }
}

/// A call under way, until it is dropped.
struct Call<M: Manager> {
    inner: Arc<Inner<M>>,
    endpoint: usize,
    began: Instant,
    /// How it ended; none for a caller that went away.
    outcome: Option<bool>,
}

impl<M: Manager> Drop for Call<M> {
    fn drop(&mut self) {
        let now = time::now();
        let taken = now.saturating_duration_since(self.began);
        self.inner.finish(self.endpoint, taken, self.outcome, now);
    }
}

/// A connection on loan from one of several endpoints.
#[must_use = "a lease that is dropped at once goes back at once"]
pub struct BalancedLease<M: Manager> {
    lease: Lease<M>,
    call: Call<M>,
}

impl<M: Manager> BalancedLease<M> {
    /// Which endpoint it belongs to.
    #[must_use]
    pub const fn endpoint(&self) -> usize {
        self.call.endpoint
    }

    /// Says that the call failed in a way that speaks against the endpoint.
    pub fn failed(&mut self) {
        self.call.outcome = Some(false);
    }
}

impl<M: Manager> Deref for BalancedLease<M> {
    type Target = M::Connection;

    fn deref(&self) -> &M::Connection {
        &self.lease
    }
}

impl<M: Manager> DerefMut for BalancedLease<M> {
    fn deref_mut(&mut self) -> &mut M::Connection {
        &mut self.lease
    }
}

impl<M: Manager> Clone for BalancedPool<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M: Manager> fmt::Debug for BalancedPool<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BalancedPool").field("name", &self.0.name).field("pools", &self.0.pools).finish()
    }
}

impl<M: Manager> fmt::Debug for BalancedLease<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BalancedLease").field("endpoint", &self.call.endpoint).finish_non_exhaustive()
    }
}
