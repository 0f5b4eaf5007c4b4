//! The future of one read-through call.

use super::wait::{Departing, Patience, Ride, Step};
use super::{LoadOptions, Loader, Start};
use crate::cache::Cache;
use crate::clock::{Tick, tick};
use crate::config::CancelPolicy;
use crate::error::{Failure, LoadError};
use crate::hit::{Freshness, Hit};
use crate::tag::Tag;
use crate::{
    Key,
    load::run::{Glance, Probe},
};
use perf_core::{Deadline, time};
use std::borrow::Borrow;
use std::hash::Hash;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// What a waiting caller gets: a hit that may stand for "there is nothing".
type Slow<'c, K, V> = Pin<Box<dyn Future<Output = Ride<K, V>> + Send + 'c>>;

/// The future of [`Cache::get_or_load`]: options first, then `.await`.
///
/// It looks into memory when it is first polled. A hit is ready at once and allocates nothing; only a miss makes a task.
///
/// # Cancel safety
/// Dropping it loses nothing: a load that has started goes on, and its value is stored. With
/// [`CancelPolicy::Abort`] it ends when the last caller that waits for it is dropped.
pub type GetOrLoad<'c, K, V, Q, F> = LoadCall<'c, K, V, Q, super::Plain<F>, Value>;

/// A read-through call that has not ended. See [`GetOrLoad`].
#[must_use = "nothing is read until the call is awaited"]
pub struct LoadCall<'c, K, V, Q: ?Sized, L, O> {
    cache: &'c Cache<K, V>,
    key: &'c Q,
    loader: Option<L>,
    /// `None` is as good as none said: a call without options is small to make and to move.
    options: Option<LoadOptions>,
    slow: Option<Slow<'c, K, V>>,
    output: PhantomData<fn() -> O>,
}

/// The call gives a value; that there is none is an error.
#[derive(Debug)]
pub enum Value {}

/// The call gives a value or `None`.
#[derive(Debug)]
pub enum Find {}

/// How the end of a call is told. Sealed: [`Value`] and [`Find`].
pub trait Finish<K, V> {
    #[doc(hidden)]
    type Output;

    /// What a call gives that ends with this.
    #[doc(hidden)]
    fn finish(hit: Option<Hit<K, V>>) -> Option<Self::Output>;

    /// What a call gives that has a value.
    #[doc(hidden)]
    fn with(hit: Hit<K, V>) -> Self::Output;
}

impl<K, V> Finish<K, V> for Value {
    type Output = Hit<K, V>;

    #[inline]
    fn finish(hit: Option<Hit<K, V>>) -> Option<Hit<K, V>> {
        hit
    }

    #[inline]
    fn with(hit: Hit<K, V>) -> Hit<K, V> {
        hit
    }
}

impl<K, V> Finish<K, V> for Find {
    type Output = Option<Hit<K, V>>;

    #[inline]
    fn finish(hit: Option<Hit<K, V>>) -> Option<Option<Hit<K, V>>> {
        Some(hit)
    }

    #[inline]
    fn with(hit: Hit<K, V>) -> Option<Hit<K, V>> {
        Some(hit)
    }
}

impl<'c, K, V, Q: ?Sized, L, O> LoadCall<'c, K, V, Q, L, O> {
    #[inline]
    pub(crate) const fn new(cache: &'c Cache<K, V>, key: &'c Q, loader: L) -> Self {
        Self { cache, key, loader: Some(loader), options: None, slow: None, output: PhantomData }
    }

    fn options_mut(&mut self) -> &mut LoadOptions {
        self.options.get_or_insert(LoadOptions::NONE)
    }

    /// Tags of the value if this call loads it; the loader may add more. A hit keeps the tags it was stored with.
    pub fn tags(mut self, tags: impl IntoIterator<Item = Tag>) -> Self {
        self.options_mut().tags.extend(tags);
        self
    }

    /// The life of the value if this call loads it, instead of the configured one.
    pub fn fresh(mut self, life: Duration) -> Self {
        self.options_mut().fresh = Some(life);
        self
    }

    /// The caller waits no longer than this. The load itself goes on.
    pub fn deadline(mut self, deadline: impl Into<Deadline>) -> Self {
        self.options_mut().deadline = deadline.into();
        self
    }

    /// What becomes of the load when this caller gives up and nobody else waits, instead of what is configured.
    pub fn on_cancel(mut self, policy: CancelPolicy) -> Self {
        self.options_mut().cancel = Some(policy);
        self
    }

    /// The caller waits at most this long from now. The load itself goes on.
    pub fn timeout(self, limit: Duration) -> Self {
        let now = time::now();
        self.deadline(Deadline::after(now, limit))
    }
}

// Nothing in it is ever pinned except the box, which is pinned for itself.
impl<K, V, Q: ?Sized, L, O> Unpin for LoadCall<'_, K, V, Q, L, O> {}

impl<'c, K, V, Q, L, O> Future for LoadCall<'c, K, V, Q, L, O>
where
    K: Key + Borrow<Q>,
    V: Send + Sync + 'static,
    Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    L: Loader<K, V>,
    O: Finish<K, V>,
{
    type Output = Result<O::Output, LoadError<L::Error>>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.slow.is_some() {
            return unboxed(this.wait(context));
        }
        let inner = &*this.cache.0;
        let (now, hash) = (tick(), inner.hash(this.key));
        match inner.glance(hash, this.key, now) {
            Glance::Hit(hit) => {
                this.loader = None;
                Poll::Ready(Ok(O::with(hit)))
            }
            other => unboxed(this.begin(other, hash, now, context)),
        }
    }
}

/// How a call ends. An error is large, and boxed where that keeps hits small.
type Ended<O, K, V, E> = Poll<Result<<O as Finish<K, V>>::Output, Box<LoadError<E>>>>;

fn finish<O: Finish<K, V>, K, V, E>(hit: Option<Hit<K, V>>) -> Ended<O, K, V, E> {
    Poll::Ready(O::finish(hit).ok_or_else(|| Box::new(LoadError::Missing)))
}

#[inline]
fn unboxed<T, E>(ended: Poll<Result<T, Box<E>>>) -> Poll<Result<T, E>> {
    ended.map(|ended| ended.map_err(|error| *error))
}

impl<'c, K, V, Q, L, O> LoadCall<'c, K, V, Q, L, O>
where
    K: Key + Borrow<Q>,
    V: Send + Sync + 'static,
    Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    L: Loader<K, V>,
    O: Finish<K, V>,
{
    /// Answers with what memory has, or begins to wait for a load.
    #[inline(never)]
    fn begin(
        &mut self,
        glance: Glance<K, V>,
        hash: u64,
        now: Tick,
        context: &mut Context<'_>,
    ) -> Ended<O, K, V, L::Error> {
        let inner = &self.cache.0;
        let found = inner.found(glance, hash, self.key);
        if self.loader.is_none() {
            // It has ended before.
            return Poll::Pending;
        }
        if let Some(shadow) = &inner.shadow
            && shadow.is_due()
            && let Some(held) = inner.fresh(hash, self.key)
            && let Some(loader) = self.loader.take()
        {
            inner.verify(boxed(loader), &held);
            return finish::<O, _, _, _>(Hit::new(held, Freshness::Fresh));
        }
        match inner.probe(found, now) {
            Probe::Ready(held, freshness) => {
                self.loader = None;
                finish::<O, _, _, _>(Hit::new(held, freshness))
            }
            Probe::Refresh(held, freshness) => {
                if let Some(loader) = self.loader.take() {
                    let options = self.options.take().unwrap_or(LoadOptions::NONE);
                    inner.refresh(hash, self.key.to_owned(), boxed(loader), options, &held);
                }
                finish::<O, _, _, _>(Hit::new(held, freshness))
            }
            Probe::Load(_) => {
                let patience = inner.patience(self.options.as_ref().unwrap_or(&LoadOptions::NONE));
                match self.come(hash, patience) {
                    Some(ended) => self.over(ended),
                    None => self.wait(context),
                }
            }
        }
    }

    /// Boards a flight, its own or another's, or ends at once.
    fn come(&mut self, hash: u64, patience: Patience) -> Option<Result<Option<Hit<K, V>>, Failure>> {
        let inner = &self.cache.0;
        let options = self.options.get_or_insert(LoadOptions::NONE);
        let (step, stale) = inner.come(hash, self.key, options, patience.insists());
        self.slow = Some(match step {
            Step::Ready(held, freshness) => return Some(Ok(Hit::new(held, freshness))),
            Step::Failed(failure) => return Some(Err(failure)),
            Step::Join { seat, joined_at } => Box::pin(inner.ride(seat, joined_at, stale, patience)),
            Step::Lead { seat, landed } => {
                let departing = Departing::new(landed, boxed(self.loader.take()?));
                Box::pin(inner.lead(seat, departing, stale, patience))
            }
        });
        None
    }

    #[inline(never)]
    fn wait(&mut self, context: &mut Context<'_>) -> Ended<O, K, V, L::Error> {
        loop {
            let Some(slow) = &mut self.slow else { return Poll::Pending };
            let ride = std::task::ready!(slow.as_mut().poll(context));
            self.slow = None;
            match ride {
                Ride::Over(ended) => return self.over(ended),
                Ride::Again(patience) => {
                    let hash = self.cache.0.hash(self.key);
                    if let Some(ended) = self.come(hash, patience) {
                        return self.over(ended);
                    }
                }
            }
        }
    }

    /// Tells the caller, who is not to ask again.
    fn over(&mut self, ended: Result<Option<Hit<K, V>>, Failure>) -> Ended<O, K, V, L::Error> {
        self.loader = None;
        match ended {
            Ok(hit) => finish::<O, _, _, _>(hit),
            Err(failure) => Poll::Ready(Err(Box::new(failure.typed()))),
        }
    }
}

fn boxed<K, V, L: Loader<K, V>>(loader: L) -> Start<K, V>
where
    K: 'static,
    V: 'static,
{
    Box::new(move |context| loader.start(context))
}
