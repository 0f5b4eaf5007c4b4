//! Which numbers belong to a statement's text: one hash and one look-up for a text seen before.

use super::entry::Entry;
use super::stats::Core;
use crate::{Fingerprint, fingerprint, normalize};
use std::cell::Cell;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

const SHARDS: usize = 16;
/// Texts remembered per statement on average; literals in the text make many texts of one statement.
const TEXTS_PER_STATEMENT: usize = 4;
/// Longer texts are read each time instead of being remembered, so that memory stays bounded by the statements.
const MAX_EXAMPLE: usize = 16 * 1024;

/// Texts each thread remembers by itself: what it sends over and over costs it no look-up and no shared counter. A
/// statement that left the table stays in memory until its place here is taken, by the next text or the thread's end.
const RECENT: usize = 64;

/// A text's hash and its entry, while no query under way has it.
type Place = Cell<Option<(u64, Arc<Entry>)>>;

thread_local! {
    static RECENT_TEXTS: [Place; RECENT] =
        const { [const { Cell::new(None) }; RECENT] };
}

/// Takes the entry of a text out of this thread's memory; [`keep`] puts it back.
#[inline]
fn recent(hash: u64) -> Option<Arc<Entry>> {
    let known = RECENT_TEXTS.try_with(|places| {
        let place = &places[hash as usize % RECENT];
        let (known, entry) = place.take()?;
        if known != hash {
            place.set(Some((known, entry)));
            return None;
        }
        (!entry.evicted.load(Relaxed)).then_some(entry)
    });
    // A thread that is ending remembers nothing.
    known.ok().flatten()
}

/// Remembers the entry of a text for this thread.
#[inline]
pub(super) fn keep(hash: u64, entry: Arc<Entry>) {
    let _ = RECENT_TEXTS.try_with(|places| places[hash as usize % RECENT].set(Some((hash, entry))));
}

type Texts = HashMap<u64, Arc<Entry>, BuildHasherDefault<AsIs>>;

/// The statements by text and by fingerprint.
#[derive(Debug)]
pub(super) struct Table {
    core: Arc<Core>,
    max: usize,
    seed: u64,
    /// Look-ups so far, by which it is known which statement was not looked up for longest.
    ticks: AtomicU64,
    /// Read locks on the hot path are shared; only a text never seen before takes the write lock.
    texts: Box<[RwLock<Texts>]>,
    statements: Mutex<HashMap<Fingerprint, Arc<Entry>>>,
}

/// The entry of a statement, and how many others had to leave for it.
pub(super) struct Found {
    pub(super) entry: Arc<Entry>,
    /// The text's hash, for [`keep`].
    pub(super) hash: u64,
    pub(super) evicted: usize,
}

impl Table {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self {
            max: core.config.max_statements,
            core,
            ticks: AtomicU64::new(1),
            seed: RandomState::new().hash_one(0x7061_7065_u64),
            texts: (0..SHARDS).map(|_| RwLock::default()).collect(),
            statements: Mutex::default(),
        }
    }

    #[inline]
    pub(super) fn find(&self, sql: &str) -> Found {
        let hash = hash_text(sql.as_bytes(), self.seed);
        match recent(hash) {
            Some(entry) => Found { entry, hash, evicted: 0 },
            None => self.look_up(sql, hash),
        }
    }

    #[inline(never)]
    fn look_up(&self, sql: &str, hash: u64) -> Found {
        let shard = &self.texts[(hash >> 60) as usize % SHARDS];
        let tick = self.ticks.fetch_add(1, Relaxed);
        let known = shard.read().unwrap_or_else(PoisonError::into_inner).get(&hash).map(Arc::clone);
        match known {
            Some(entry) if !entry.evicted.load(Relaxed) => {
                entry.used.store(tick, Relaxed);
                Found { entry, hash, evicted: 0 }
            }
            _ => self.learn(sql, hash, shard),
        }
    }

    #[cold]
    fn learn(&self, sql: &str, hash: u64, shard: &RwLock<Texts>) -> Found {
        let found = self.by_fingerprint(sql, hash);
        let mut texts = shard.write().unwrap_or_else(PoisonError::into_inner);
        if texts.len() < (self.max * TEXTS_PER_STATEMENT).div_ceil(SHARDS) || texts.contains_key(&hash) {
            texts.insert(hash, Arc::clone(&found.entry));
        }
        found
    }

    fn by_fingerprint(&self, sql: &str, hash: u64) -> Found {
        let dialect = self.core.dialect;
        let print = fingerprint(sql, dialect);
        let mut statements = self.statements.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = statements.get(&print) {
            return Found { entry: Arc::clone(entry), hash, evicted: 0 };
        }
        let evicted = if statements.len() >= self.max { self.make_room(&mut statements) } else { 0 };
        let mut text = normalize(sql, dialect);
        if text.len() > MAX_EXAMPLE {
            text.truncate(text.floor_char_boundary(MAX_EXAMPLE));
        }
        let entry = Arc::new(Entry::new(Arc::clone(&self.core), print, text, cut(sql)));
        statements.insert(print, Arc::clone(&entry));
        Found { entry, hash, evicted }
    }

    /// Lets go the tenth of the statements that took the least time, those not used for longest first among equals.
    fn make_room(&self, statements: &mut HashMap<Fingerprint, Arc<Entry>>) -> usize {
        let mut order: Vec<_> = statements
            .values()
            .map(|entry| (entry.latency.snapshot().sum(), entry.used.load(Relaxed), entry.fingerprint))
            .collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let leaving = (self.max / 10).max(1);
        for (_, _, print) in order.iter().take(leaving) {
            if let Some(entry) = statements.remove(print) {
                entry.evicted.store(true, Relaxed);
            }
        }
        // Texts of statements that left would only be in the way; those that stay come back with their next call.
        for shard in &self.texts {
            shard
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .retain(|_, entry| !entry.evicted.load(Relaxed));
        }
        leaving.min(order.len())
    }

    pub(super) fn entries(&self) -> Vec<Arc<Entry>> {
        self.statements.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(super) fn get(&self, print: Fingerprint) -> Option<Arc<Entry>> {
        self.statements.lock().unwrap_or_else(PoisonError::into_inner).get(&print).cloned()
    }

    pub(super) fn len(&self) -> usize {
        self.statements.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(super) fn clear(&self) {
        for (_, entry) in self.statements.lock().unwrap_or_else(PoisonError::into_inner).drain() {
            entry.evicted.store(true, Relaxed);
        }
        for shard in &self.texts {
            shard.write().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }
}

fn cut(sql: &str) -> &str {
    if sql.len() <= MAX_EXAMPLE { sql } else { &sql[..sql.floor_char_boundary(MAX_EXAMPLE)] }
}

/// A hash of the whole text, in two lanes of sixteen bytes that do not wait for each other. The seed is random per table, so
/// nobody outside the process can choose texts that collide; by chance two of a million texts do so with probability 3 × 10⁻⁸.
#[inline]
fn hash_text(bytes: &[u8], seed: u64) -> u64 {
    const FACTOR: u64 = 0x9fb2_1c65_1e98_df25;
    const OTHER: u64 = 0xa076_1d64_78bd_642f;
    let fold = |a: u64, b: u64| {
        let product = u128::from(a).wrapping_mul(u128::from(b));
        (product as u64) ^ ((product >> 64) as u64)
    };
    let (mut left, mut right) = (fold(seed ^ bytes.len() as u64, FACTOR), seed ^ OTHER);
    let mut short = [0; 16];
    let last = if bytes.len() >= 16 {
        let mut rest = bytes;
        while rest.len() > 32 {
            left = fold(half(rest) ^ left, half(&rest[8..]) ^ FACTOR ^ seed);
            right = fold(half(&rest[16..]) ^ right, half(&rest[24..]) ^ OTHER ^ seed);
            rest = &rest[32..];
        }
        if rest.len() > 16 {
            left = fold(half(rest) ^ left, half(&rest[8..]) ^ FACTOR ^ seed);
        }
        // The end, whatever its length: bytes read twice do no harm.
        &bytes[bytes.len() - 16..]
    } else {
        short[..bytes.len()].copy_from_slice(bytes);
        &short[..]
    };
    right = fold(half(last) ^ right, half(&last[8..]) ^ OTHER ^ seed);
    fold(left ^ OTHER, right ^ FACTOR)
}

#[inline]
fn half(bytes: &[u8]) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[..8]);
    u64::from_le_bytes(eight)
}

/// The keys are hashes already.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dialect, ObserverConfig};

    fn table(max_statements: usize) -> Table {
        let config = ObserverConfig { max_statements, ..ObserverConfig::default() };
        Table::new(Arc::new(Core::new("test".into(), Dialect::Sqlite, config, None)))
    }

    #[test]
    fn a_thread_s_own_memory_forgets_what_left_the_table() {
        let table = table(10);
        let found = table.find("select 1 from t");
        keep(found.hash, Arc::clone(&found.entry));
        let again = table.find("select 1 from t");
        assert!(Arc::ptr_eq(&again.entry, &found.entry));
        // Taken, not copied: a second query at the same time looks in the table.
        assert!(recent(found.hash).is_none());
        keep(found.hash, again.entry);
        table.clear();
        assert!(!Arc::ptr_eq(&table.find("select 1 from t").entry, &found.entry));
    }

    #[test]
    fn texts_of_one_statement_share_its_numbers() {
        let table = table(10);
        let a = table.find("select 1 from t where a = 5").entry;
        let b = table.find("SELECT 2 FROM t WHERE a = ?").entry;
        assert!(Arc::ptr_eq(&a, &b));
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn the_table_stays_within_its_bound_and_keeps_what_takes_time() {
        let table = table(20);
        let heavy = table.find("select heavy from t").entry;
        heavy.latency.record(9.0);
        let mut evicted = 0;
        for index in 0..1000 {
            evicted += table.find(&format!("select c{index} from t")).evicted;
        }
        assert!(table.len() <= 20);
        assert_eq!(evicted + table.len(), 1001);
        assert!(Arc::ptr_eq(&heavy, &table.find("select heavy from t").entry));
        let texts: usize = table.texts.iter().map(|shard| shard.read().unwrap().len()).sum();
        assert!(texts <= 96, "{texts}");
    }

    #[test]
    fn one_differing_byte_anywhere_changes_the_hash() {
        let text: Vec<u8> = (0..70).collect();
        for len in [1, 8, 15, 16, 17, 31, 32, 33, 48, 64, 70] {
            for index in 0..len {
                let mut other = text[..len].to_vec();
                other[index] ^= 1;
                assert_ne!(hash_text(&text[..len], 7), hash_text(&other, 7), "{index} of {len}");
            }
        }
        assert_ne!(hash_text(&text[..64], 7), hash_text(&text[..65], 7));
    }
}
