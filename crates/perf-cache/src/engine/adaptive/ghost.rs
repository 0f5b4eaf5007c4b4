//! What was refused lately: hashes without values.

use super::sketch::mix;

/// A table of refused hashes, in sets of four. A full set forgets its oldest, which only blunts an estimate.
#[derive(Debug, Default)]
pub(super) struct Ghosts {
    places: Vec<Place>,
    /// Weight refused so far.
    refused: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    hash: u64,
    /// Weight refused up to and with this one; 0 is an empty place.
    at: u64,
}

const SMALLEST: usize = 64;
const SET: usize = 4;

impl Ghosts {
    /// Remembers a refused entry; `entries` is how many the cache holds.
    pub(super) fn add(&mut self, hash: u64, weight: u64, entries: usize) {
        // Twice as many places as there are entries: few sets are full of what is still of interest.
        let wanted = (2 * entries).next_power_of_two().max(SMALLEST);
        if self.places.len() < wanted {
            let old = std::mem::replace(&mut self.places, vec![Place::default(); wanted]);
            old.into_iter().filter(|place| place.at > 0).for_each(|place| self.put(place));
        }
        self.refused += weight.max(1);
        self.put(Place { hash, at: self.refused });
    }

    /// How much weight was refused since this was, if it is remembered. It is forgotten with the answer.
    pub(super) fn take(&mut self, hash: u64) -> Option<u64> {
        let refused = self.refused;
        let place = self.set(hash).iter_mut().find(|place| place.at > 0 && place.hash == hash)?;
        Some(refused - std::mem::take(&mut place.at))
    }

    fn put(&mut self, new: Place) {
        if let Some(oldest) = self.set(new.hash).iter_mut().min_by_key(|place| place.at) {
            *oldest = new;
        }
    }

    fn set(&mut self, hash: u64) -> &mut [Place] {
        let first = (mix(hash) >> 20) as usize & self.places.len().saturating_sub(1) & !(SET - 1);
        self.places.get_mut(first..first + SET).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ghost_is_seen_once_and_knows_its_age() {
        let mut ghosts = Ghosts::default();
        assert_eq!(ghosts.take(1), None);
        ghosts.add(1, 1, 10);
        ghosts.add(2, 1, 10);
        assert_eq!((ghosts.take(1), ghosts.take(1)), (Some(1), None));
        (3..20).for_each(|hash| ghosts.add(hash, 1, 500));
        assert_eq!(ghosts.take(2), Some(17), "also after the table has grown");
    }
}
