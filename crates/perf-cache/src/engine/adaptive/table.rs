//! A hash table whose readers take no lock: buckets of one cache line, seven places and their tags each.
//!
//! All writers of a table hold one lock, which the owner keeps. An entry stays in its place until it is removed or the
//! table grows; while it grows a reader may overlook an entry, which the count of moves tells it, and it then asks under
//! the lock.

use crate::engine::Held;
use crate::engine::held::{Place, Removed, Versions};
use crate::engine::lane::Lane;
use crate::entry::Entry;
use std::borrow::Borrow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What fits into a cache line beside the tags.
const PLACES: usize = 7;

#[repr(align(64))]
struct Bucket<K, V> {
    /// A byte for each place: a piece of its entry's hash, or 0 when it is free. The highest byte counts the entries that
    /// found no place here and went on to the next bucket; at 255 it stays.
    tags: AtomicU64,
    places: [Place<Entry<K, V>>; PLACES],
}

type Buckets<K, V> = Box<[Bucket<K, V>]>;

/// What a reader found.
pub(super) enum Found<K, V> {
    Entry(Held<K, V>),
    Nothing,
    /// Entries were being moved: ask again under the lock.
    Unsure,
}

/// The table. Outgrown buckets stay allocated, though empty, since a reader may still be looking at them: together they are
/// as large as the present ones.
pub(super) struct Table<K, V> {
    buckets: Versions<Buckets<K, V>>,
    /// Odd while entries are being moved.
    moves: AtomicU64,
}

const SMALLEST: usize = 8;
/// The table grows when it holds more than this share of what it has places for: few entries then miss their bucket.
const FULLEST: (usize, usize) = (5, 8);

/// Every byte of a word.
const BYTES: u64 = 0x0101_0101_0101_0101;
/// The bytes of a word that belong to places.
const OF_PLACES: u64 = u64::MAX >> 8;
const PASSED: u32 = 56;

/// The tag of a hash in every byte. It uses bits that choose neither the bucket nor the shard.
#[inline]
fn tag(hash: u64) -> u64 {
    ((hash >> 48) & 0xFF | 1) * BYTES
}

/// The highest bit of every byte that belongs to a place and is zero in `word`.
#[inline]
const fn zeros(word: u64) -> u64 {
    const LOW: u64 = 0x7F * BYTES;
    !((((word & LOW) + LOW) | word) | LOW) & OF_PLACES
}

impl<K, V> Bucket<K, V> {
    fn new() -> Self {
        Self { tags: AtomicU64::new(0), places: std::array::from_fn(|_| Place::empty()) }
    }

    fn set_tag(&self, place: usize, tag: u64) {
        let byte = 0xFF << (place * 8);
        let tags = self.tags.load(Ordering::Relaxed);
        self.tags.store(tags & !byte | tag & byte, Ordering::Release);
    }

    /// One entry more, or one less, that went on to the next bucket.
    fn pass(&self, more: bool) {
        let tags = self.tags.load(Ordering::Relaxed);
        let passed = tags >> PASSED;
        if passed < 0xFF {
            let passed = if more { passed + 1 } else { passed.saturating_sub(1) };
            self.tags.store(tags & OF_PLACES | passed << PASSED, Ordering::Release);
        }
    }
}

impl<K, V> Table<K, V> {
    pub(super) fn new() -> Self {
        Self { buckets: Versions::new(Self::made(SMALLEST)), moves: AtomicU64::new(0) }
    }

    fn made(buckets: usize) -> Buckets<K, V> {
        (0..buckets).map(|_| Bucket::new()).collect()
    }

    #[inline]
    fn buckets(&self) -> &Buckets<K, V> {
        self.buckets.newest()
    }

    /// Takes out everything. Under the lock.
    pub(super) fn clear(&self) -> Vec<Removed<Entry<K, V>>> {
        let mut removed = Vec::new();
        for bucket in self.buckets() {
            bucket.tags.store(0, Ordering::Release);
            removed.extend(bucket.places.iter().filter_map(|place| place.swap(None)));
        }
        removed
    }
}

impl<K: Eq, V> Table<K, V> {
    /// The entry of a key, without a lock.
    #[inline(always)]
    pub(super) fn get<Q>(&self, lane: &'static Lane, hash: u64, key: &Q) -> Found<K, V>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let buckets = self.buckets();
        let bucket = &buckets[hash as usize & (buckets.len() - 1)];
        let matches = zeros(bucket.tags.load(Ordering::Acquire) ^ tag(hash));
        if let Some(place) = bucket.places.get(matches.trailing_zeros() as usize / 8)
            && let Some(held) = place.load_in(lane)
            && held.key.borrow() == key
        {
            return Found::Entry(held);
        }
        self.get_closely(lane, hash, key)
    }

    /// It is not where most entries are found: looks everywhere, in a way that tells whether it was overlooked.
    #[inline(never)]
    fn get_closely<Q>(&self, lane: &'static Lane, hash: u64, key: &Q) -> Found<K, V>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let moves = self.moves.load(Ordering::Acquire);
        if let Some(held) = Self::probe(self.buckets(), lane, hash, key) {
            return Found::Entry(held);
        }
        let unmoved = moves.is_multiple_of(2) && self.moves.load(Ordering::Acquire) == moves;
        if unmoved { Found::Nothing } else { Found::Unsure }
    }

    fn probe<Q>(buckets: &Buckets<K, V>, lane: &'static Lane, hash: u64, key: &Q) -> Option<Held<K, V>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let (tag, mask) = (tag(hash), buckets.len() - 1);
        let mut at = hash as usize & mask;
        for _ in 0..buckets.len() {
            let bucket = &buckets[at];
            let tags = bucket.tags.load(Ordering::Acquire);
            let mut matches = zeros(tags ^ tag);
            while matches != 0 {
                if let Some(place) = bucket.places.get(matches.trailing_zeros() as usize / 8)
                    && let Some(held) = place.load_in(lane)
                    && held.key.borrow() == key
                {
                    return Some(held);
                }
                matches &= matches - 1;
            }
            if tags >> PASSED == 0 {
                break;
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// The entry of this hash for which `is` holds. Under the lock.
    pub(super) fn find(&self, hash: u64, is: impl Fn(&Entry<K, V>) -> bool) -> Option<Held<K, V>> {
        let buckets = self.buckets();
        let (bucket, place) = Self::position(buckets, hash, is)?;
        buckets[bucket].places[place].load()
    }

    /// Puts an entry where there is none of its key; `held` is how many there are. Under the lock.
    pub(super) fn insert(&self, entry: Arc<Entry<K, V>>, held: usize) {
        let (share, of) = FULLEST;
        if (held + 1) * of > self.buckets().len() * PLACES * share {
            self.grow();
        }
        Self::place(self.buckets(), entry.hash, |place| place.fill(entry));
    }

    /// Puts an entry in the place of another with the same key, which it returns. Under the lock.
    pub(super) fn replace(
        &self,
        entry: Arc<Entry<K, V>>,
        is: impl Fn(&Entry<K, V>) -> bool,
    ) -> Option<Removed<Entry<K, V>>> {
        let buckets = self.buckets();
        let (bucket, place) = Self::position(buckets, entry.hash, is)?;
        buckets[bucket].places[place].swap(Some(entry))
    }

    /// Takes out the entry of this hash for which `is` holds. Under the lock.
    pub(super) fn remove(
        &self,
        hash: u64,
        is: impl Fn(&Entry<K, V>) -> bool,
    ) -> Option<Removed<Entry<K, V>>> {
        let buckets = self.buckets();
        let (bucket, place) = Self::position(buckets, hash, is)?;
        buckets[bucket].set_tag(place, 0);
        let removed = buckets[bucket].places[place].swap(None);
        let (mask, mut at) = (buckets.len() - 1, hash as usize & (buckets.len() - 1));
        while at != bucket {
            buckets[at].pass(false);
            at = (at + 1) & mask;
        }
        removed
    }

    /// Everything that is in it. Under the lock.
    pub(super) fn all(&self) -> Vec<Arc<Entry<K, V>>> {
        let places = self.buckets().iter().flat_map(|bucket| &bucket.places);
        places.filter_map(|place| place.load().map(|held| held.to_arc())).collect()
    }

    /// The bucket and the place of an entry.
    fn position(
        buckets: &Buckets<K, V>,
        hash: u64,
        is: impl Fn(&Entry<K, V>) -> bool,
    ) -> Option<(usize, usize)> {
        let (tag, mask) = (tag(hash), buckets.len() - 1);
        for step in 0..buckets.len() {
            let at = (hash as usize).wrapping_add(step) & mask;
            let tags = buckets[at].tags.load(Ordering::Relaxed);
            let mut matches = zeros(tags ^ tag);
            while matches != 0 {
                let place = matches.trailing_zeros() as usize / 8;
                if buckets[at].places[place].load().is_some_and(|entry| is(&entry)) {
                    return Some((at, place));
                }
                matches &= matches - 1;
            }
            if tags >> PASSED == 0 {
                return None;
            }
        }
        None
    }

    /// Takes the first free place for this hash. `fill` puts the entry into it first: a reader that sees the tag finds it.
    fn place(buckets: &Buckets<K, V>, hash: u64, fill: impl FnOnce(&Place<Entry<K, V>>)) {
        let mask = buckets.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let bucket = &buckets[at];
            let free = zeros(bucket.tags.load(Ordering::Relaxed));
            if free != 0 {
                let place = free.trailing_zeros() as usize / 8;
                fill(&bucket.places[place]);
                bucket.set_tag(place, tag(hash));
                return;
            }
            bucket.pass(true);
            at = (at + 1) & mask;
        }
    }

    fn grow(&self) {
        let old = self.buckets();
        let new = Self::made(old.len() * 2);
        self.moves.fetch_add(1, Ordering::AcqRel);
        for entry in old.iter().flat_map(|bucket| &bucket.places).filter_map(|place| place.swap(None)) {
            Self::place(&new, entry.hash, |place| place.put_back(entry));
        }
        self.buckets.push(new);
        self.moves.fetch_add(1, Ordering::AcqRel);
        old.iter().for_each(|bucket| bucket.tags.store(0, Ordering::Release));
    }
}
