use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Slots that are looked at for one key: keys and times of a set with one quota fill two cache lines.
const WAYS: usize = 8;

/// Slots for each key the table is made for. At a third of the load, one set in 400 overflows.
const SLOTS_PER_KEY: usize = 3;

/// Sets that share a lock: enough locks that two threads rarely meet.
const SHARDS: usize = 64;

/// The theoretical arrival times of bounded many clients: a set-associative table that never grows.
///
/// An arrival time in the past means a full bucket, which is what an unknown client has. So a slot whose time has passed
/// *is* free, nothing has to be cleaned up, and forgetting such a client changes no decision.
#[derive(Debug)]
pub(super) struct Table {
    shards: Box<[Shard]>,
    sets_per_shard: usize,
    times_per_key: usize,
    seed: u64,
}

/// The sets under one lock, each the keys of its ways and then their times. Aligned, so that two locks never share a line.
#[derive(Debug)]
#[repr(align(64))]
struct Shard(Mutex<Box<[u64]>>);

impl Shard {
    fn lock(&self) -> MutexGuard<'_, Box<[u64]>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What happened to the slot of a key besides the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It had one, or took a free one.
    Kept,
    /// It took the place of a client whose bucket was not full yet.
    Evicted,
}

impl Table {
    pub(super) fn new(max_keys: usize, times_per_key: usize) -> Self {
        Self::seeded(max_keys, times_per_key, RandomState::new().hash_one(0_u8))
    }

    fn seeded(max_keys: usize, times_per_key: usize, seed: u64) -> Self {
        let sets = (max_keys * SLOTS_PER_KEY).div_ceil(WAYS);
        let shard_count = SHARDS.min(sets.next_power_of_two());
        let sets_per_shard = sets.div_ceil(shard_count);
        let words = sets_per_shard * WAYS * (1 + times_per_key);
        Self {
            shards: (0..shard_count).map(|_| Shard(Mutex::new(vec![0; words].into()))).collect(),
            sets_per_shard,
            times_per_key,
            seed,
        }
    }

    /// Gives the arrival times of `key` to `decide`, all at once; a time in the past reads as any other.
    pub(super) fn with<R>(&self, key: u64, now: u64, decide: impl FnOnce(&mut [u64]) -> R) -> (R, Place) {
        // Mixed with a seed of its own, so that nobody can choose clients that share a set.
        let mixed = mix(key ^ self.seed);
        let shard = &self.shards[(mixed >> 58) as usize % self.shards.len()];
        let set = ((u128::from(mixed & 0xFFFF_FFFF) * self.sets_per_shard as u128) >> 32) as usize;
        let per_key = self.times_per_key;
        let mut words = shard.lock();
        let (keys, times) = words[set * self.set_words()..][..self.set_words()].split_at_mut(WAYS);
        let (way, place) = match keys.iter().position(|known| *known == key) {
            Some(way) => (way, Place::Kept),
            None => {
                let (way, latest) = first_to_be_full(times, per_key);
                keys[way] = key;
                times[way * per_key..][..per_key].fill(0);
                (way, if latest > now { Place::Evicted } else { Place::Kept })
            }
        };
        (decide(&mut times[way * per_key..][..per_key]), place)
    }

    const fn set_words(&self) -> usize {
        WAYS * (1 + self.times_per_key)
    }

    /// How many clients can be told apart at most.
    #[cfg(test)]
    pub(super) fn slots(&self) -> usize {
        self.shards.len() * self.sets_per_shard * WAYS
    }

    /// How many clients have a bucket that is not full.
    pub(super) fn active(&self, now: u64) -> usize {
        let in_set = |set: &[u64]| {
            set[WAYS..]
                .chunks_exact(self.times_per_key)
                .filter(|times| times.iter().any(|at| *at > now))
                .count()
        };
        let active = |shard: &Shard| shard.lock().chunks_exact(self.set_words()).map(in_set).sum::<usize>();
        self.shards.iter().map(active).sum()
    }
}

/// The way whose bucket is full first, and when that is.
fn first_to_be_full(times: &[u64], per_key: usize) -> (usize, u64) {
    let full_at = times.chunks_exact(per_key).map(|times| times.iter().copied().max().unwrap_or(0));
    full_at.enumerate().min_by_key(|(_, at)| *at).unwrap_or((0, 0))
}

/// The finaliser of SplitMix64.
const fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_finds_its_times_again() {
        let table = Table::seeded(1000, 2, 7);
        for key in 0..500 {
            let ((), place) = table.with(key, 1, |times| times.copy_from_slice(&[key + 10, key + 20]));
            assert_eq!(place, Place::Kept);
        }
        for key in 0..500 {
            assert_eq!(table.with(key, 1, |times| times.to_vec()).0, [key + 10, key + 20]);
        }
        assert_eq!(table.active(1), 500);
        assert_eq!(table.active(10_000), 0);
    }

    #[test]
    fn as_many_keys_as_the_table_is_made_for_nearly_all_find_a_place() {
        let table = Table::seeded(100_000, 1, 7);
        let place = |key| table.with(key, 1, |times| times[0] = 100).1;
        let evicted = (0..100_000).filter(|key| place(*key) == Place::Evicted).count();
        assert!(evicted < 200, "{evicted}");
    }

    #[test]
    fn a_million_keys_take_no_more_room_than_the_table_has() {
        let table = Table::new(1000, 1);
        let mut evicted = 0;
        for key in 1..=1_000_000 {
            let (_, place) = table.with(key, 1, |times| times[0] = 100);
            evicted += usize::from(place == Place::Evicted);
        }
        assert_eq!(table.active(1), table.slots());
        assert_eq!(evicted, 1_000_000 - table.slots());
        assert!(table.slots() <= 4096, "{}", table.slots());
    }

    #[test]
    fn the_client_nearest_to_a_full_bucket_is_forgotten_first() {
        let table = Table::new(1, 1);
        let slots = table.slots() as u64;
        for key in 1..=slots {
            table.with(key, 1, |times| times[0] = 100 + key);
        }
        assert_eq!(table.with(9999, 1, |times| times[0] = 500).1, Place::Evicted);
        assert_eq!(table.with(slots, 1, |times| times[0]).0, 100 + slots);
    }

    #[test]
    fn a_full_bucket_is_a_free_place() {
        let table = Table::new(1, 1);
        for key in 1..=1000 {
            assert_eq!(table.with(key, key * 10, |times| times[0] = key * 10 + 5).1, Place::Kept);
        }
    }
}
