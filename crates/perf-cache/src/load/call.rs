//! The future of one read-through call.

use super::{LoadOptions, Loader, Start};
use crate::cache::Cache;
use crate::config::CancelPolicy;
use crate::error::{Failure, LoadError};
use crate::hit::{Freshness, Hit};
use crate::tag::Tag;
use crate::{Key, load::run::Probe};
use perf_core::{Deadline, time};
use std::borrow::Borrow;
use std::hash::Hash;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// What a waiting caller gets: a hit that may stand for "there is nothing".
type Slow<'c, K, V> = Pin<Box<dyn Future<Output = Result<Option<Hit<K, V>>, Failure>> + Send + 'c>>;

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
    options: LoadOptions,
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

    #[doc(hidden)]
    fn finish(hit: Option<Hit<K, V>>) -> Result<Self::Output, Failure>;
}

impl<K, V> Finish<K, V> for Value {
    type Output = Hit<K, V>;

    fn finish(hit: Option<Hit<K, V>>) -> Result<Hit<K, V>, Failure> {
        hit.ok_or(Failure::Missing)
    }
}

impl<K, V> Finish<K, V> for Find {
    type Output = Option<Hit<K, V>>;

    fn finish(hit: Option<Hit<K, V>>) -> Result<Option<Hit<K, V>>, Failure> {
        Ok(hit)
    }
}

impl<'c, K, V, Q: ?Sized, L, O> LoadCall<'c, K, V, Q, L, O> {
    pub(crate) const fn new(cache: &'c Cache<K, V>, key: &'c Q, loader: L) -> Self {
        Self { cache, key, loader: Some(loader), options: LoadOptions::NONE, slow: None, output: PhantomData }
    }

    /// Tags of the value if this call loads it; the loader may add more. A hit keeps the tags it was stored with.
    pub fn tags(mut self, tags: impl IntoIterator<Item = Tag>) -> Self {
        self.options.tags.extend(tags);
        self
    }

    /// The life of the value if this call loads it, instead of the configured one.
    pub const fn fresh(mut self, life: Duration) -> Self {
        self.options.fresh = Some(life);
        self
    }

    /// The caller waits no longer than this. The load itself goes on.
    pub fn deadline(mut self, deadline: impl Into<Deadline>) -> Self {
        self.options.deadline = deadline.into();
        self
    }

    /// What becomes of the load when this caller gives up and nobody else waits, instead of what is configured.
    pub const fn on_cancel(mut self, policy: CancelPolicy) -> Self {
        self.options.cancel = Some(policy);
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

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.slow.is_none() {
            let Some(loader) = this.loader.take() else { return Poll::Pending };
            match this.probe(loader) {
                Ok(hit) => return Poll::Ready(O::finish(hit).map_err(Failure::typed)),
                Err(slow) => this.slow = Some(slow),
            }
        }
        let Some(slow) = &mut this.slow else { return Poll::Pending };
        let ended = std::task::ready!(slow.as_mut().poll(context));
        this.slow = None;
        Poll::Ready(ended.and_then(O::finish).map_err(Failure::typed))
    }
}

impl<'c, K, V, Q, L, O> LoadCall<'c, K, V, Q, L, O>
where
    K: Key + Borrow<Q>,
    V: Send + Sync + 'static,
    Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    L: Loader<K, V>,
{
    /// Looks into memory; what is not there is a future that waits for a load.
    #[inline]
    fn probe(&mut self, loader: L) -> Result<Option<Hit<K, V>>, Slow<'c, K, V>> {
        let inner = &self.cache.0;
        let hash = inner.hash(self.key);
        if let Some(shadow) = &inner.shadow
            && shadow.is_due()
            && let Some(held) = inner.fresh(hash, self.key)
        {
            inner.verify(boxed(loader), &held);
            return Ok(Hit::new(held, Freshness::Fresh));
        }
        match inner.probe(hash, self.key) {
            Probe::Ready(held, freshness) => Ok(Hit::new(held, freshness)),
            Probe::Refresh(held, freshness) => {
                let options = std::mem::replace(&mut self.options, LoadOptions::NONE);
                inner.refresh(hash, self.key.to_owned(), boxed(loader), options, &held);
                Ok(Hit::new(held, freshness))
            }
            Probe::Load(_) => {
                let options = std::mem::replace(&mut self.options, LoadOptions::NONE);
                Err(Box::pin(inner.wait_for(hash, self.key.to_owned(), boxed(loader), options)))
            }
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
