//! Values that are put in by hand, and how they reach the second tier.

use crate::cache::Inner;
use crate::clock::tick;
use crate::entry::{Draft, Entry};
use crate::load::{Flights, Found, Loaded};
use crate::remote::port::Position;
use crate::remote::shared::{self, Outgoing};
use crate::{Invalidating, Key};
use perf_core::time;
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked whether the log has been followed to a value's own record, and how long until it is given up:
/// records come back within milliseconds.
const LOOK: Duration = Duration::from_millis(5);
const LOOKS: u32 = 200;

impl<K: Key, V: Send + Sync + 'static> Inner<K, V> {
    pub(crate) fn put(self: &Arc<Self>, key: K, loaded: Loaded<V>) {
        let hash = self.hash(&key);
        let now = tick();
        let lives = self.lives(loaded.fresh, matches!(loaded.found, Found::Nothing), 0);
        let value = match loaded.found {
            Found::Value(value) => Some(value),
            Found::Nothing | Found::NotModified => None,
        };
        let published = self.publish_key(&key);
        let mut tags = loaded.tags;
        self.identify(&key, &mut tags);
        let mut shard = self.flights.shard(hash);
        Flights::supersede(&mut shard, &key);
        self.failures.forget(&key);
        let draft = Draft {
            hash,
            weight: self.weigh(&key, value.as_ref()),
            key,
            value,
            tags: tags.to_boxed(),
            etag: loaded.etag,
            priority: self.rank(loaded.priority),
            as_of: self.space.fences.newest(),
        };
        let position = self.space.remote.as_ref().map_or(Position::ZERO, |remote| remote.applied());
        let entry = Arc::new(Entry::new(draft, lives, now).at(position));
        let discarded = self.store(&entry, now);
        drop(shard);
        drop(discarded);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if self.shared.is_some() && !lives.fresh.is_zero() => {
                drop(runtime.spawn(Arc::clone(self).write_through(entry, published)));
            }
            // Nobody to write for, or nobody to do it.
            _ => published.detach(),
        }
    }

    /// Gives the second tier a value that was put in.
    ///
    /// It is as new as its own record in the log, which ends what came before: it waits until this node has followed the
    /// log to there. Whatever ends the value by then, here or on another node, ends it here, and it is not written; what
    /// comes later is a newer fence than the value and makes every reader refuse it.
    async fn write_through(self: Arc<Self>, entry: Arc<Entry<K, V>>, published: Invalidating) {
        let (Some(remote), Some(shared), Some(identity)) = (&self.space.remote, &self.shared, &self.identity)
        else {
            return;
        };
        if !published.await.acked {
            // Other nodes load it, when they have heard of it.
            return;
        }
        for _ in 0..LOOKS {
            // Before the looks: what is applied later is newer.
            let as_of = remote.applied();
            if !self.is_current(&entry) {
                return;
            }
            if remote.allow(as_of, entry.tags.iter().copied()) {
                let outgoing = Outgoing {
                    value: entry.value.as_ref(),
                    tags: &entry.tags,
                    as_of,
                    fresh: entry.fresh_for(tick()),
                    tail: Duration::ZERO,
                };
                let named = shared.name(identity, &entry.key);
                let packed: Vec<_> = shared.pack(remote, named, &outgoing).into_iter().collect();
                shared::write(remote, &packed).await;
                return;
            }
            time::sleep(LOOK).await;
        }
    }

    /// Whether an entry is still what memory has of its key, and valid.
    fn is_current(&self, entry: &Arc<Entry<K, V>>) -> bool {
        let Some(held) = self.held(entry.hash, &entry.key) else { return false };
        let key = self.hold_of(entry.hash);
        std::ptr::eq(&raw const *held, Arc::as_ptr(entry))
            && self.is_allowed(&held)
            && !self.space.holds.holds(entry.stored_at(), entry.tags.iter().copied().chain([key]))
    }
}
