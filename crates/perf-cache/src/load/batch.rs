//! Many keys at once: one round trip to the second tier and one load for all that are missing, in the same flights that
//! single callers join.

use super::flight::Seat;
use super::together::launch;
use super::wait::{JOINS, Patience, Step};
use super::{Erased, LoadOptions, Loaded, Probe, chain};
use crate::Key;
use crate::cache::{Cache, Inner};
use crate::clock::tick;
use crate::engine::Held;
use crate::error::{Failure, LoadError};
use crate::hit::Hit;
use crate::tag::Tag;
use perf_core::{Deadline, Reason, time};
use std::collections::HashMap;
use std::fmt;
use std::future::IntoFuture;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// What a loader of many keys gave, its error's type erased.
type Loads<K, V> = Result<HashMap<K, Loaded<V>>, Erased>;
type Loading<K, V> = Pin<Box<dyn Future<Output = Loads<K, V>> + Send>>;
/// A loader of many keys; it may be asked again for those whose loads were overtaken.
pub(super) type Start<K, V> = Arc<dyn Fn(Vec<K>) -> Loading<K, V> + Send + Sync>;
type Outcome<K, V> = Result<Option<Hit<K, V>>, Failure>;

/// A call of [`Cache::load_many`] that has not ended: options first, then `.await`.
#[must_use = "nothing is read until the call is awaited"]
pub struct LoadMany<'c, K, V, E> {
    cache: &'c Cache<K, V>,
    keys: Vec<K>,
    start: Start<K, V>,
    options: LoadOptions,
    error: PhantomData<fn() -> E>,
}

impl<K: Key, V: Send + Sync + 'static> Cache<K, V> {
    /// The values of many keys: from memory, from the second tier in one round trip, and those that neither has from
    /// `loader`, which is asked once for all of them.
    ///
    /// The result has one place for each key, in their order: the value, `None` when the loader gave nothing for the key
    /// (which is remembered for the negative life), or why there is no value. A key that somebody loads already, alone or
    /// in another batch, is waited for and not asked for again. Values may come as `V` or as [`Loaded`], with tags and a
    /// life of their own; values of keys that were not asked for are dropped.
    ///
    /// With a [lease](crate::CacheBuilder::lease) keys that another node loads are waited for. Should that node die, this one
    /// asks `loader` a second time, for them. Refreshes of a batch take no lease.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perf_cache::{Cache, CacheSpace, tag};
    /// # use std::convert::Infallible;
    /// # let users: Cache<u64, String> = CacheSpace::in_process("shop").cache("users").build()?;
    /// users.insert(2, String::from("Grace"));
    /// let found = users
    ///     .load_many(&[1, 2, 3], |missing| async move {
    ///         assert_eq!(missing, [1, 3]);
    ///         Ok::<_, Infallible>(vec![(1, String::from("Ada"))])
    ///     })
    ///     .tags([tag!("people")])
    ///     .await;
    /// let names: Vec<_> = found.iter().map(|hit| hit.as_ref().unwrap().as_deref().map(String::as_str)).collect();
    /// assert_eq!(names, [Some("Ada"), Some("Grace"), None]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Key by key, as for [`Cache::get_or_load`]. When the loader fails, all the keys that it was asked for have its error.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: loads that have started go on, and their values are stored.
    pub fn load_many<'c, F, Fut, I, T, E>(&'c self, keys: &[K], loader: F) -> LoadMany<'c, K, V, E>
    where
        F: Fn(Vec<K>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<I, E>> + Send + 'static,
        I: IntoIterator<Item = (K, T)>,
        T: Into<Loaded<V>>,
        E: fmt::Display + Send + Sync + 'static,
    {
        let start = move |keys| -> Loading<K, V> {
            let loading = loader(keys);
            Box::pin(async move {
                let values = loading.await.map_err(Erased::new)?;
                Ok(values.into_iter().map(|(key, value)| (key, value.into())).collect())
            })
        };
        let (keys, start): (_, Start<K, V>) = (keys.to_vec(), Arc::new(start));
        LoadMany { cache: self, keys, start, options: LoadOptions::NONE, error: PhantomData }
    }

    /// Reads many keys from memory alone, each as [`Cache::get`] does.
    #[must_use]
    pub fn get_many(&self, keys: &[K]) -> Vec<Option<Hit<K, V>>> {
        keys.iter().map(|key| self.get(key)).collect()
    }
}

impl<K, V, E> LoadMany<'_, K, V, E> {
    /// Tags of the values that this call loads; the loader may add more to each.
    pub fn tags(mut self, tags: impl IntoIterator<Item = Tag>) -> Self {
        self.options.tags.extend(tags);
        self
    }

    /// The life of the values that this call loads, instead of the configured one.
    pub const fn fresh(mut self, life: Duration) -> Self {
        self.options.fresh = Some(life);
        self
    }

    /// The caller waits no longer than this. The load itself goes on.
    pub fn deadline(mut self, deadline: impl Into<Deadline>) -> Self {
        self.options.deadline = deadline.into();
        self
    }

    /// The caller waits at most this long from now. The load itself goes on.
    pub fn timeout(self, limit: Duration) -> Self {
        let now = time::now();
        self.deadline(Deadline::after(now, limit))
    }
}

impl<'c, K: Key, V: Send + Sync + 'static, E: Send + Sync + 'static> IntoFuture for LoadMany<'c, K, V, E> {
    type Output = Vec<Result<Option<Hit<K, V>>, LoadError<E>>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'c>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { cache, keys, start, options, .. } = self;
        Box::pin(async move {
            let outcomes = cache.0.load_many(&keys, &start, &options).await;
            outcomes.into_iter().map(|outcome| outcome.map_err(Failure::typed)).collect()
        })
    }
}

impl<K, V, E> fmt::Debug for LoadMany<'_, K, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadMany").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

/// One key whose flight the caller waits for.
struct Waiting<K, V> {
    index: usize,
    seat: Seat<K, V>,
    /// The newest fence when somebody else's flight was joined.
    joined_at: Option<u64>,
    stale: Option<Held<K, V>>,
}

impl<K: Key, V: Send + Sync + 'static> Inner<K, V> {
    async fn load_many(
        self: &Arc<Self>,
        keys: &[K],
        start: &Start<K, V>,
        options: &LoadOptions,
    ) -> Vec<Outcome<K, V>> {
        let mut outcomes: Vec<Option<Outcome<K, V>>> = keys.iter().map(|_| None).collect();
        let mut left = self.read_many(keys, start, options, &mut outcomes);
        if !left.is_empty() && tokio::runtime::Handle::try_current().is_err() {
            // Neither a load nor a timer can run here.
            for index in std::mem::take(&mut left) {
                outcomes[index] = Some(Err(Failure::Shutdown(self.refused(Reason::Closed))));
            }
        }
        let patience = self.patience(options);
        for round in 0.. {
            let waiting = self.depart_many(keys, &left, start, options, round >= JOINS, &mut outcomes);
            left.clear();
            for one in waiting {
                let index = one.index;
                match self.arrive(one, patience).await {
                    Some(outcome) => outcomes[index] = Some(outcome),
                    None => left.push(index),
                }
            }
            if left.is_empty() {
                break;
            }
        }
        let lost = || Err(Failure::Shutdown(self.refused(Reason::Closed)));
        outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(lost)).collect()
    }

    /// What memory has; the places of the keys that are to be loaded.
    fn read_many(
        self: &Arc<Self>,
        keys: &[K],
        start: &Start<K, V>,
        options: &LoadOptions,
        outcomes: &mut [Option<Outcome<K, V>>],
    ) -> Vec<usize> {
        let (mut left, mut due) = (Vec::new(), Vec::new());
        for (index, key) in keys.iter().enumerate() {
            let hash = self.hash(key);
            if self.observer.is_sampled(hash) {
                self.observe(hash, key);
            }
            match self.probe(self.held(hash, key), tick()) {
                Probe::Ready(held, freshness) => outcomes[index] = Some(Ok(Hit::new(held, freshness))),
                Probe::Refresh(held, freshness) => {
                    due.extend(self.depart_refresh(hash, key, options, &held));
                    outcomes[index] = Some(Ok(Hit::new(held, freshness)));
                }
                Probe::Load(_) if chain::is_loading(self.id, hash) => {
                    outcomes[index] = Some(Err(Failure::Recursive));
                }
                Probe::Load(_) => left.push(index),
            }
        }
        if let Some(permit) = (!due.is_empty()).then(|| self.gate.enter_unasked()).flatten() {
            self.numbers.refreshes.add(due.len() as u64);
            launch(due, start, Some(permit));
        } else {
            // Refreshes are shed first; the next hit after the throttle asks again.
            for landed in &due {
                self.numbers.shed.increment();
                landed.forgo();
            }
        }
        left
    }

    /// Joins the flights of these keys or makes them, and launches together those it has made.
    fn depart_many(
        self: &Arc<Self>,
        keys: &[K],
        left: &[usize],
        start: &Start<K, V>,
        options: &LoadOptions,
        insist: bool,
        outcomes: &mut [Option<Outcome<K, V>>],
    ) -> Vec<Waiting<K, V>> {
        let (mut waiting, mut led) = (Vec::with_capacity(left.len()), Vec::new());
        for &index in left {
            let key = &keys[index];
            let (step, stale) = self.join_or_lead(self.hash(key), key, options, insist);
            match step {
                Step::Ready(held, freshness) => outcomes[index] = Some(Ok(Hit::new(held, freshness))),
                Step::Failed(failure) => outcomes[index] = Some(Err(failure)),
                Step::Join { seat, joined_at } => {
                    waiting.push(Waiting { index, seat, joined_at: Some(joined_at), stale });
                }
                Step::Lead { seat, landed } => {
                    waiting.push(Waiting { index, seat, joined_at: None, stale });
                    led.push(landed);
                }
            }
        }
        if !led.is_empty() {
            launch(led, start, None);
        }
        waiting
    }

    /// The outcome of one key; `None` when the flight that was joined had been overtaken before.
    async fn arrive(&self, one: Waiting<K, V>, patience: Patience) -> Option<Outcome<K, V>> {
        let Waiting { seat, joined_at, stale, .. } = one;
        let mut waiting = seat.waits(patience.end.earliest(self.soft(stale.is_some())));
        let Some(landing) = (&mut waiting).await else {
            return Some(self.late(waiting.seat(), stale, patience.of_caller));
        };
        let (entry, freshness) = match landing {
            Ok(landed) => landed,
            Err(failure) => return Some(Err(failure)),
        };
        if joined_at.is_some_and(|joined_at| self.is_overtaken_for(joined_at, waiting.seat(), &entry.tags)) {
            return None;
        }
        Some(Ok(Hit::new(entry.into(), freshness)))
    }
}
