//! One cache's part in the second tier: keys, bytes, and what may be believed of them.

use super::Remote;
use super::codec::Codec;
use super::compress::{Compression, Compressor};
use super::envelope::{self, Header, Refusal};
#[cfg(feature = "zstd")]
use super::port::Store;
use super::port::{Position, StoreError, Stored};
use crate::key::CacheKey;
use perf_core::time;
use std::sync::Arc;
use std::time::Duration;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Keeps the fences of keys and namespaces apart from those of tags.
const KEYS: u64 = 0x6b65_7973;
const NAMESPACES: u64 = 0x6e61_6d65;
/// What the names of all values begin with.
const PREFIX: &[u8] = b"pk:";
/// Bytes of the schema in a name.
const SCHEMA: usize = 8;

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
        let mut bytes = Vec::with_capacity(self.prefix.len() + 32);
        bytes.extend_from_slice(&self.prefix);
        key.write_key(&mut bytes);
        xxh3_64_with_seed(&bytes, KEYS)
    }

    /// What the names of all its values begin with.
    pub(crate) fn names(&self) -> Vec<u8> {
        [PREFIX, &self.prefix].concat()
    }

    /// The bytes of the key whose value has this name, which begins as all names of this cache do.
    pub(crate) fn key_in<'n>(&self, name: &'n [u8]) -> Option<&'n [u8]> {
        name.get(PREFIX.len() + self.prefix.len() + SCHEMA..)
    }

    /// The same as [`key`](Self::key) from the bytes of a key, without an allocation where they are few.
    pub(crate) fn key_of_bytes(&self, key: &[u8]) -> u64 {
        let mut few = [0; 128];
        let (prefix, length) = (self.prefix.len(), self.prefix.len() + key.len());
        match few.get_mut(..length) {
            Some(bytes) => {
                bytes[..prefix].copy_from_slice(&self.prefix);
                bytes[prefix..].copy_from_slice(key);
                xxh3_64_with_seed(bytes, KEYS)
            }
            None => xxh3_64_with_seed(&[&self.prefix, key].concat(), KEYS),
        }
    }
}

/// What the names of all values of a space begin with.
#[cfg(feature = "redis")]
pub(crate) fn names_of(space: &str) -> Vec<u8> {
    let mut name = PREFIX.to_vec();
    space.write_key(&mut name);
    name
}

/// The fence of the key whose value has this name.
#[cfg(feature = "redis")]
pub(crate) fn fence_of_name(name: &[u8]) -> Option<u64> {
    let rest = name.strip_prefix(PREFIX)?;
    let part = |at: usize| {
        let length: [u8; 8] = rest.get(at..at.checked_add(8)?)?.try_into().ok()?;
        at.checked_add(8)?.checked_add(usize::try_from(u64::from_be_bytes(length)).ok()?)
    };
    let end = part(part(0)?)?;
    let key = rest.get(end.checked_add(8)?..)?;
    Some(xxh3_64_with_seed(&[&rest[..end], key].concat(), KEYS))
}

/// A value's name in the store, and its key's fence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) name: Vec<u8>,
    pub(crate) fence: u64,
}

/// How values of one cache go to the second tier and come back.
pub(crate) struct Shared<V> {
    codec: Box<dyn Codec<V>>,
    schema: u64,
    compressor: Compressor,
    limit: usize,
    namespace: u64,
    /// What the names of this cache's dictionaries begin with.
    #[cfg(feature = "zstd")]
    dictionaries: Vec<u8>,
}

/// A value from the second tier that may be believed.
#[derive(Debug)]
pub(crate) struct Fetched<V> {
    pub(crate) value: Option<V>,
    /// Its tags, and the fences of its namespace and its key.
    pub(crate) tags: Vec<u64>,
    pub(crate) fresh: Duration,
    pub(crate) as_of: Position,
}

/// What a read of one value gave.
#[derive(Debug)]
pub(crate) enum Answer<V> {
    Found(Fetched<V>),
    /// Nothing to be used; the beginning of what lies there, if something does.
    Miss(Option<Vec<u8>>),
    /// Somebody is loading it.
    Leased,
    /// The tier could not be asked.
    Away,
}

impl<V> Answer<V> {
    pub(crate) fn found(self) -> Option<Fetched<V>> {
        match self {
            Self::Found(fetched) => Some(fetched),
            _ => None,
        }
    }
}

/// What is to be stored.
pub(crate) struct Outgoing<'a, V> {
    pub(crate) value: Option<&'a V>,
    pub(crate) tags: &'a [u64],
    pub(crate) as_of: Position,
    pub(crate) fresh: Duration,
    pub(crate) tail: Duration,
}

/// A value ready for the store: its name, its bytes and its life.
pub(crate) type Packed = (Vec<u8>, Vec<u8>, Duration);

impl<V: Send + Sync + 'static> Shared<V> {
    pub(crate) fn new(
        identity: &Identity,
        codec: Box<dyn Codec<V>>,
        schema: u32,
        compression: Compression,
        limit: usize,
    ) -> Self {
        let type_name = std::any::type_name::<V>();
        let schema = xxh3_64(&(type_name, schema, codec.id()).key_bytes());
        Self {
            codec,
            schema,
            compressor: Compressor::new(compression),
            limit,
            namespace: identity.namespace,
            #[cfg(feature = "zstd")]
            dictionaries: [b"pkd:", &identity.prefix[..], &schema.to_be_bytes()].concat(),
        }
    }

    /// The name of a value in the store. The schema is part of it, so that two versions of a service do not overwrite each
    /// other's values.
    pub(crate) fn name<K: CacheKey>(&self, identity: &Identity, key: &K) -> Named {
        let mut name = Vec::with_capacity(PREFIX.len() + identity.prefix.len() + 40);
        name.extend_from_slice(PREFIX);
        name.extend_from_slice(&identity.prefix);
        self.schema.write_key(&mut name);
        let at = name.len();
        key.write_key(&mut name);
        let fence = identity.key_of_bytes(&name[at..]);
        Named { name, fence }
    }

    /// Reads one value. Never fails: what goes wrong is counted.
    pub(crate) async fn read_one(&self, remote: &Arc<Remote>, named: &Named) -> Answer<V> {
        let Some(store) = &remote.store else { return Answer::Miss(None) };
        let Some(result) = remote.ask_one(store.get(&named.name)).await else { return Answer::Away };
        #[cfg(feature = "zstd")]
        if self.lacks_dictionary(&result) {
            Box::pin(self.fetch_dictionaries(remote, &**store, std::slice::from_ref(&result))).await;
        }
        self.answer(remote, named, Some(result))
    }

    /// Reads values. Never fails: what goes wrong is counted.
    pub(crate) async fn read(&self, remote: &Arc<Remote>, names: &[Named]) -> Vec<Answer<V>> {
        let Some(store) = &remote.store else { return names.iter().map(|_| Answer::Miss(None)).collect() };
        let keys: Vec<Vec<u8>> = names.iter().map(|named| named.name.clone()).collect();
        let Some(results) = remote.ask(names.len(), store.get_many(&keys)).await else {
            return names.iter().map(|_| Answer::Away).collect();
        };
        #[cfg(feature = "zstd")]
        self.fetch_dictionaries(remote, &**store, &results).await;
        let mut results = results.into_iter();
        names.iter().map(|named| self.answer(remote, named, results.next())).collect()
    }

    /// What the store gave for one name, `None` when it left it out.
    fn answer(
        &self,
        remote: &Remote,
        named: &Named,
        result: Option<Result<Option<Stored>, StoreError>>,
    ) -> Answer<V> {
        match result {
            Some(Ok(Some(stored))) => self.believe(remote, named, stored),
            Some(Ok(None)) => {
                remote.numbers.misses.increment();
                Answer::Miss(None)
            }
            Some(Err(_)) | None => {
                remote.numbers.errors.increment();
                Answer::Away
            }
        }
    }

    /// Makes what lies in the store a value, if it is one, ours, and still valid.
    pub(crate) fn believe(&self, remote: &Remote, named: &Named, stored: Stored) -> Answer<V> {
        let bytes = stored.bytes;
        remote.numbers.bytes_read.add(bytes.len() as u64);
        let opened = envelope::open(xxh3_64(&named.name), &bytes, &self.compressor, self.limit);
        let fetched =
            opened.and_then(|(header, payload)| self.decode(header, &payload, named, stored.remaining));
        let mark = || bytes.get(..envelope::MARK).map_or_else(|| bytes.clone(), <[u8]>::to_vec);
        match fetched {
            Ok(fetched) if remote.allow(fetched.as_of, fetched.tags.iter().copied()) => {
                if fetched.fresh.is_zero() {
                    remote.numbers.misses.increment();
                    return Answer::Miss(Some(mark()));
                }
                remote.numbers.hits.increment();
                Answer::Found(fetched)
            }
            Ok(_) => {
                remote.numbers.outdated.increment();
                Answer::Miss(Some(mark()))
            }
            Err(Refusal::Leased) => {
                remote.numbers.misses.increment();
                Answer::Leased
            }
            Err(refusal) => {
                remote.numbers.refused.increment();
                self.discard(remote, &named.name, refusal);
                Answer::Miss(Some(mark()))
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
        named: &Named,
        remaining: Duration,
    ) -> Result<Fetched<V>, Refusal> {
        let value = match header.nothing {
            true => None,
            false => Some(self.codec.decode(payload).map_err(|_| Refusal::Damaged)?),
        };
        let fresh = remaining.saturating_sub(Duration::from_millis(header.tail_millis));
        let mut tags = header.tags;
        tags.extend([self.namespace, named.fence]);
        Ok(Fetched { value, tags, fresh, as_of: header.as_of })
    }

    /// The bytes and the life of a value, or `None` when it cannot be stored.
    pub(crate) fn pack(&self, remote: &Arc<Remote>, named: Named, out: &Outgoing<'_, V>) -> Option<Packed> {
        let mut payload = Vec::new();
        let encoded = out.value.map_or(Ok(()), |value| self.codec.encode(value, &mut payload));
        if encoded.is_err() || payload.len() > self.limit {
            remote.numbers.unencodable.increment();
            return None;
        }
        #[cfg(feature = "zstd")]
        self.train(remote, &payload);
        let implied = [self.namespace, named.fence];
        let header = Header {
            nothing: out.value.is_none(),
            as_of: out.as_of,
            tail_millis: u64::try_from(out.tail.as_millis()).unwrap_or(u64::MAX),
            tags: out.tags.iter().copied().filter(|tag| !implied.contains(tag)).collect(),
        };
        let sealed = envelope::seal(xxh3_64(&named.name), &header, &self.compressor, &payload);
        let Some(bytes) = sealed else {
            remote.numbers.unencodable.increment();
            return None;
        };
        remote.numbers.bytes_raw.add(payload.len() as u64);
        remote.numbers.bytes_written.add(bytes.len() as u64);
        // A year is endless for a cache, and within what stores accept.
        let life = out
            .fresh
            .saturating_add(out.tail)
            .clamp(Duration::from_millis(1), Duration::from_secs(31_536_000));
        Some((named.name, bytes, life))
    }
}

#[cfg(feature = "zstd")]
impl<V: Send + Sync + 'static> Shared<V> {
    fn dictionary_name(&self, id: u32) -> Vec<u8> {
        [&self.dictionaries[..], &id.to_be_bytes()].concat()
    }

    /// Whether this value needs a dictionary that is not known yet.
    fn lacks_dictionary(&self, result: &Result<Option<Stored>, StoreError>) -> bool {
        let id =
            result.as_ref().ok().and_then(Option::as_ref).and_then(|s| envelope::dictionary_of(&s.bytes));
        id.is_some_and(|id| self.compressor.dictionaries.get(id).is_none())
    }

    /// Gets the dictionaries that these values need and that are not known yet.
    async fn fetch_dictionaries(
        &self,
        remote: &Remote,
        store: &dyn Store,
        results: &[Result<Option<Stored>, StoreError>],
    ) {
        let known = &self.compressor.dictionaries;
        let mut ids: Vec<u32> = results
            .iter()
            .filter_map(|result| envelope::dictionary_of(&result.as_ref().ok()?.as_ref()?.bytes))
            .filter(|&id| known.get(id).is_none())
            .collect();
        ids.sort_unstable();
        ids.dedup();
        // A value whose dictionary is not there in time is a miss; the next read asks again.
        if ids.is_empty() {
            return;
        }
        let names: Vec<Vec<u8>> = ids.iter().map(|&id| self.dictionary_name(id)).collect();
        let Ok(found) = time::timeout(remote.timeout, store.get_many(&names)).await else { return };
        for (id, found) in ids.into_iter().zip(found) {
            if let Ok(found) = found {
                known.learn(id, found.map(|stored| stored.bytes));
            }
        }
    }

    /// Keeps the value to learn from; when there are enough, trains a dictionary in the background, stores it, and uses
    /// it from then on.
    fn train(&self, remote: &Arc<Remote>, payload: &[u8]) {
        let Some((bytes, sizes)) = self.compressor.dictionaries.sample(payload) else { return };
        let (remote, dictionaries) = (Arc::clone(remote), Arc::clone(&self.compressor.dictionaries));
        let prefix = self.dictionaries.clone();
        drop(tokio::spawn(async move {
            let trainer = Arc::clone(&dictionaries);
            let trained = tokio::task::spawn_blocking(move || trainer.train(&bytes, &sizes)).await;
            let (Ok(Some(dictionary)), Some(store)) = (trained, &remote.store) else { return };
            let name = [&prefix[..], &dictionary.id.to_be_bytes()].concat();
            // Longer than any value that will need it.
            let life = Duration::from_secs(2 * 31_536_000);
            let stored = time::timeout(remote.timeout * 10, store.set(&name, &dictionary.bytes, life)).await;
            if matches!(stored, Ok(Ok(()))) {
                dictionaries.install(&dictionary);
                remote.numbers.dictionaries.increment();
            }
        }));
    }
}

/// Stores values in the background of a load. It never fails: what goes wrong is counted.
pub(crate) async fn write(remote: &Arc<Remote>, packed: &[Packed]) {
    let Some(store) = &remote.store else { return };
    if packed.is_empty() {
        return;
    }
    let written = match packed {
        [(name, bytes, life)] => {
            let one = async { vec![store.set(name, bytes, *life).await] };
            remote.tell(packed.len(), one).await
        }
        many => remote.tell(many.len(), store.set_many(many)).await,
    };
    for written in written {
        if written.is_ok() {
            remote.numbers.written.increment();
        } else {
            remote.numbers.write_errors.increment();
        }
    }
}

#[cfg(all(test, feature = "redis"))]
mod tests {
    use super::*;

    #[test]
    fn the_fence_of_a_key_can_be_told_from_its_name() {
        let identity = Identity::new("shop", "users");
        let codec: Box<dyn Codec<u32>> = Box::new(crate::Postcard);
        let shared = Shared::new(&identity, codec, 7, Compression::Off, 100);
        let named = shared.name(&identity, &(5_u64, "x"));
        assert_eq!(fence_of_name(&named.name), Some(identity.key(&(5_u64, "x"))));
        assert!(named.name.starts_with(&names_of("shop")));
        for cut in 0..named.name.len() - 11 {
            let _ = fence_of_name(&named.name[..cut]);
        }
        assert_eq!(fence_of_name(b"pk:\xff\xff\xff\xff\xff\xff\xff\xff"), None);
    }
}
