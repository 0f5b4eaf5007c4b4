//! Dictionaries for Zstandard, trained on the values of one cache while they are written.

use super::compress::Method;
use arc_swap::ArcSwapOption;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use xxhash_rust::xxh3::xxh3_64;
use zstd::zstd_safe::{CCtx, CDict, DCtx, DDict};

/// A trained dictionary.
pub(crate) struct Dictionary {
    /// Made from its bytes, so that bytes that changed in the store are not taken for it.
    pub(crate) id: u32,
    pub(crate) bytes: Vec<u8>,
    encode: CDict<'static>,
    decode: DDict<'static>,
}

impl Dictionary {
    pub(crate) fn new(bytes: Vec<u8>, level: i32) -> Option<Arc<Self>> {
        let encode = CDict::try_create(&bytes, level)?;
        let decode = DDict::try_create(&bytes)?;
        Some(Arc::new(Self { id: id_of(&bytes), bytes, encode, decode }))
    }
}

pub(crate) fn id_of(bytes: &[u8]) -> u32 {
    xxh3_64(bytes) as u32
}

impl fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dictionary").field("id", &self.id).field("bytes", &self.bytes.len()).finish()
    }
}

/// What one cache knows of dictionaries.
#[derive(Debug)]
pub(crate) struct Dictionaries {
    level: i32,
    /// Bytes of a trained dictionary; 0 trains none.
    size: usize,
    current: ArcSwapOption<Dictionary>,
    /// By number; `None` for those that the store does not have.
    known: RwLock<HashMap<u32, Option<Arc<Dictionary>>>>,
    samples: Mutex<Samples>,
}

#[derive(Debug, Default)]
struct Samples {
    bytes: Vec<u8>,
    sizes: Vec<usize>,
    done: bool,
}

/// Values to train on. Zstandard's authors advise a hundred times the size of the dictionary; it is the fewer of both.
const MOST_SAMPLES: usize = 1_000;
const BYTES_PER_BYTE: usize = 100;
/// Numbers remembered; more can only come from damage or from malice.
const MOST_KNOWN: usize = 64;

impl Dictionaries {
    /// A dictionary in the store is not larger.
    pub(crate) const MOST_BYTES: usize = 1 << 20;

    pub(crate) fn new(level: i32, size: usize) -> Self {
        Self {
            level,
            size,
            current: ArcSwapOption::empty(),
            known: RwLock::default(),
            samples: Mutex::default(),
        }
    }

    /// The dictionary of this number: `None` when it was never asked for, `Some(None)` when the store does not have it.
    pub(crate) fn get(&self, id: u32) -> Option<Option<Arc<Dictionary>>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// Learns what the store has under a number. The first dictionary found is also the one to compress with.
    pub(crate) fn learn(&self, id: u32, bytes: Option<Vec<u8>>) {
        let bytes = bytes.filter(|bytes| bytes.len() <= Self::MOST_BYTES && id_of(bytes) == id);
        let dictionary = bytes.and_then(|bytes| Dictionary::new(bytes, self.level));
        if let Some(dictionary) = &dictionary {
            self.adopt(dictionary);
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_KNOWN {
            known.retain(|_, dictionary| dictionary.is_some());
        }
        if known.len() < MOST_KNOWN {
            known.insert(id, dictionary);
        }
    }

    fn adopt(&self, dictionary: &Arc<Dictionary>) {
        if self.size > 0 && self.current.load().is_none() {
            self.current.store(Some(Arc::clone(dictionary)));
            let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
            *samples = Samples { done: true, ..Samples::default() };
        }
    }

    /// Keeps a value to train on. Returns all of them, once, when they are enough.
    pub(crate) fn sample(&self, payload: &[u8]) -> Option<(Vec<u8>, Vec<usize>)> {
        if self.size == 0 || self.current.load().is_some() {
            return None;
        }
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.done || payload.is_empty() || payload.len() > self.size * 4 {
            return None;
        }
        samples.bytes.extend_from_slice(payload);
        samples.sizes.push(payload.len());
        if samples.sizes.len() < MOST_SAMPLES && samples.bytes.len() < self.size * BYTES_PER_BYTE {
            return None;
        }
        samples.done = true;
        Some((std::mem::take(&mut samples.bytes), std::mem::take(&mut samples.sizes)))
    }

    /// Trains a dictionary. Takes some hundred milliseconds of one core.
    pub(crate) fn train(&self, bytes: &[u8], sizes: &[usize]) -> Option<Arc<Dictionary>> {
        let trained = zstd::dict::from_continuous(bytes, sizes, self.size).ok()?;
        Dictionary::new(trained, self.level)
    }

    /// From now on values are compressed with this one. The store must have it by now, so that others can read them.
    pub(crate) fn install(&self, dictionary: &Arc<Dictionary>) {
        self.known
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(dictionary.id, Some(Arc::clone(dictionary)));
        self.adopt(dictionary);
    }

    pub(crate) fn compress(&self, payload: &[u8]) -> Option<(Method, Vec<u8>)> {
        let mut out = Vec::with_capacity(zstd::zstd_safe::compress_bound(payload.len()));
        let dictionary = self.current.load();
        let method = CODERS.with_borrow_mut(|(encoder, _)| match &*dictionary {
            Some(dictionary) => encoder
                .compress_using_cdict(&mut out, payload, &dictionary.encode)
                .map(|_| Method::Dictionary(dictionary.id)),
            None => encoder.compress(&mut out, payload, self.level).map(|_| Method::Zstd),
        });
        // A value that cannot be compressed is stored as it is.
        method.ok().map(|method| (method, out))
    }

    pub(crate) fn decompress(
        &self,
        dictionary: Option<&Dictionary>,
        payload: &[u8],
        raw: usize,
    ) -> Option<Vec<u8>> {
        // The capacity is what bounds the output.
        let mut out = Vec::with_capacity(raw);
        let done = CODERS.with_borrow_mut(|(_, decoder)| match dictionary {
            Some(dictionary) => decoder.decompress_using_ddict(&mut out, payload, &dictionary.decode),
            None => decoder.decompress(&mut out, payload),
        });
        done.ok().map(|_| out)
    }
}

thread_local! {
    /// A context takes longer to make than a small value to compress.
    static CODERS: RefCell<(CCtx<'static>, DCtx<'static>)> = RefCell::new((CCtx::create(), DCtx::create()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(n: usize) -> Vec<u8> {
        format!(
            r#"{{"id":{n},"name":"user {n}","email":"user{n}@example.org","role":"member","active":true}}"#
        )
        .into_bytes()
    }

    /// Trained as a cache does it.
    fn trained() -> (Dictionaries, Arc<Dictionary>) {
        let dictionaries = Dictionaries::new(3, 4096);
        let samples = (0..=MOST_SAMPLES).find_map(|n| dictionaries.sample(&user(n * 7919))).unwrap();
        let dictionary = dictionaries.train(&samples.0, &samples.1).unwrap();
        dictionaries.install(&dictionary);
        (dictionaries, dictionary)
    }

    #[test]
    fn small_values_shrink_by_what_they_have_in_common() {
        let (dictionaries, dictionary) = trained();
        let value = user(424_242);
        let (method, packed) = dictionaries.compress(&value).unwrap();
        assert_eq!(method, Method::Dictionary(dictionary.id));
        assert!(packed.len() * 2 < value.len(), "{} of {}", packed.len(), value.len());
        assert_eq!(dictionaries.decompress(Some(&dictionary), &packed, value.len()), Some(value));
        assert!(dictionaries.sample(b"more").is_none(), "it is trained once");
    }

    #[test]
    fn a_node_adopts_the_dictionary_it_finds_and_no_other_bytes() {
        let (_, dictionary) = trained();
        let other = Dictionaries::new(3, 4096);
        other.learn(dictionary.id, Some(b"not the dictionary".to_vec()));
        assert!(matches!(other.get(dictionary.id), Some(None)));
        other.learn(dictionary.id, Some(dictionary.bytes.clone()));
        let (method, _) = other.compress(&user(5)).unwrap();
        assert_eq!(method, Method::Dictionary(dictionary.id));
    }
}
