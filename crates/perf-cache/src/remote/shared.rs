//! One cache's part in the second tier: keys, bytes, and what may be believed of them.

use super::Remote;
use super::codec::{Codec, Compression};
use super::envelope::{self, Header, Refusal};
use super::port::{Position, Stored};
use crate::key::CacheKey;
use perf_core::time;
use std::sync::Arc;
use std::time::Duration;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Keeps the fences of keys and namespaces apart from those of tags.
const KEYS: u64 = 0x6b65_7973;
const NAMESPACES: u64 = 0x6e61_6d65;

/// Names a cache among all nodes.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    prefix: Vec<u8>,
    /// The fence of the whole cache.
    pub(crate) namespace: u64,
}

impl Identity {
    pub(crate) fn new(space: &str, cache: &str) -> Self {
        // Self-delimiting, so that no name can run into another or into a key.
        let prefix = (space, cache).key_bytes();
        let namespace = xxh3_64_with_seed(&prefix, NAMESPACES);
        Self { prefix, namespace }
    }

    /// The fence of one key.
    pub(crate) fn key<Q: CacheKey + ?Sized>(&self, key: &Q) -> u64 {
        let mut bytes = self.prefix.clone();
        key.write_key(&mut bytes);
        xxh3_64_with_seed(&bytes, KEYS)
    }
}

/// How values of one cache go to the second tier and come back.
pub(crate) struct Shared<V> {
    codec: Box<dyn Codec<V>>,
    schema: u64,
    compression: Compression,
    limit: usize,
}

/// A value from the second tier that may be believed.
pub(crate) struct Fetched<V> {
    pub(crate) value: Option<V>,
    pub(crate) tags: Vec<u64>,
    pub(crate) fresh: Duration,
}

/// What is to be stored.
pub(crate) struct Outgoing<'a, V> {
    pub(crate) value: Option<&'a V>,
    pub(crate) tags: &'a [u64],
    pub(crate) as_of: Position,
    pub(crate) fresh: Duration,
    pub(crate) tail: Duration,
}

impl<V: Send + Sync + 'static> Shared<V> {
    pub(crate) fn new(codec: Box<dyn Codec<V>>, schema: u32, compression: Compression, limit: usize) -> Self {
        let type_name = std::any::type_name::<V>();
        let schema = xxh3_64(&(type_name, schema, codec.id()).key_bytes());
        Self { codec, schema, compression, limit }
    }

    /// The name of a value in the store. The schema is part of it, so that two versions of a service do not overwrite each
    /// other's values.
    pub(crate) fn name<K: CacheKey>(&self, identity: &Identity, key: &K) -> Vec<u8> {
        let mut name = b"pk:".to_vec();
        name.extend_from_slice(&identity.prefix);
        self.schema.write_key(&mut name);
        key.write_key(&mut name);
        name
    }

    /// Reads values; `None` for each that is not there or not to be believed. Never fails: what goes wrong is counted.
    pub(crate) async fn read(&self, remote: &Remote, names: &[Vec<u8>]) -> Vec<Option<Fetched<V>>> {
        let none = || names.iter().map(|_| None).collect::<Vec<_>>();
        let Some(store) = &remote.store else { return none() };
        if !remote.guard.allow() {
            remote.numbers.skipped.add(names.len() as u64);
            return none();
        }
        let mut outcome = Outcome { guard: &*remote.guard, succeeded: None };
        let Ok(results) = time::timeout(remote.timeout, store.get_many(names)).await else {
            outcome.succeeded = Some(false);
            remote.numbers.errors.add(names.len() as u64);
            return none();
        };
        outcome.succeeded = Some(results.iter().any(Result::is_ok));
        let mut found = Vec::with_capacity(names.len());
        for (name, result) in names.iter().zip(results) {
            found.push(match result {
                Ok(Some(stored)) => self.believe(remote, name, &stored),
                Ok(None) => {
                    remote.numbers.misses.increment();
                    None
                }
                Err(_) => {
                    remote.numbers.errors.increment();
                    None
                }
            });
        }
        found.resize_with(names.len(), || None);
        found
    }

    fn believe(&self, remote: &Remote, name: &[u8], stored: &Stored) -> Option<Fetched<V>> {
        let opened = envelope::open(&stored.bytes, self.limit);
        let ours = |header: &Header| {
            header.codec == self.codec.id() && header.schema == self.schema && header.key == xxh3_64(name)
        };
        let fetched = match opened {
            Ok((header, payload)) if ours(&header) => self.decode(header, &payload, stored.remaining),
            Ok(_) => Err(Refusal::Other),
            Err(refusal) => Err(refusal),
        };
        match fetched {
            Ok((as_of, fetched)) if remote.allow(as_of, fetched.tags.iter().copied()) => {
                remote.numbers.hits.increment();
                (!fetched.fresh.is_zero()).then_some(fetched)
            }
            Ok(_) => {
                remote.numbers.outdated.increment();
                None
            }
            Err(refusal) => {
                remote.numbers.refused.increment();
                self.discard(remote, name, refusal);
                None
            }
        }
    }

    /// Removes what carries our magic and is of no use to anyone; everything else belongs to somebody.
    fn discard(&self, remote: &Remote, name: &[u8], refusal: Refusal) {
        if refusal != Refusal::Damaged {
            return;
        }
        let (Some(store), name) = (remote.store.clone(), name.to_vec()) else { return };
        let limit = remote.timeout;
        drop(tokio::spawn(async move {
            // If it cannot be removed now, the next read finds it again.
            let _ = time::timeout(limit, store.remove(&name)).await;
        }));
    }

    fn decode(
        &self,
        header: Header,
        payload: &[u8],
        remaining: Duration,
    ) -> Result<(Position, Fetched<V>), Refusal> {
        let value = match header.nothing {
            true => None,
            false => Some(self.codec.decode(payload).map_err(|_| Refusal::Damaged)?),
        };
        let fresh = remaining.saturating_sub(Duration::from_millis(header.tail_millis));
        Ok((header.as_of, Fetched { value, tags: header.tags, fresh }))
    }

    /// The bytes and the life of a value, or `None` when it cannot be stored.
    pub(crate) fn pack(
        &self,
        remote: &Remote,
        name: &[u8],
        out: &Outgoing<'_, V>,
    ) -> Option<(Vec<u8>, Duration)> {
        let mut payload = Vec::new();
        let encoded = out.value.map_or(Ok(()), |value| self.codec.encode(value, &mut payload));
        if encoded.is_err() || payload.len() > self.limit {
            remote.numbers.unencodable.increment();
            return None;
        }
        let header = Header {
            codec: self.codec.id(),
            schema: self.schema,
            key: xxh3_64(name),
            nothing: out.value.is_none(),
            as_of: out.as_of,
            tail_millis: u64::try_from(out.tail.as_millis()).unwrap_or(u64::MAX),
            tags: out.tags.to_vec(),
        };
        let bytes = envelope::seal(&header, self.compression, payload)?;
        // A year is endless for a cache, and within what stores accept.
        let life = out
            .fresh
            .saturating_add(out.tail)
            .clamp(Duration::from_millis(1), Duration::from_secs(31_536_000));
        Some((bytes, life))
    }
}

/// Stores bytes in the background of a load. It never fails: what goes wrong is counted.
pub(crate) async fn write(remote: Arc<Remote>, name: Vec<u8>, bytes: Vec<u8>, life: Duration) {
    let Some(store) = &remote.store else { return };
    if !remote.guard.allow() {
        remote.numbers.skipped.increment();
        return;
    }
    let mut outcome = Outcome { guard: &*remote.guard, succeeded: None };
    let written = time::timeout(remote.timeout, store.set(&name, &bytes, life)).await;
    let succeeded = matches!(written, Ok(Ok(())));
    outcome.succeeded = Some(succeeded);
    if succeeded { remote.numbers.written.increment() } else { remote.numbers.write_errors.increment() }
}

/// Tells the guard how a call ended, once; a call that was dropped says nothing.
struct Outcome<'a> {
    guard: &'a dyn super::guard::StoreGuard,
    succeeded: Option<bool>,
}

impl Drop for Outcome<'_> {
    fn drop(&mut self) {
        if let Some(succeeded) = self.succeeded {
            self.guard.record(succeeded);
        }
    }
}
