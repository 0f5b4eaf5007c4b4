//! What was refused lately: hashes without values.

use super::sketch::mix;

/// A direct-mapped table of refused hashes. A collision forgets the older one, which only blunts an estimate.
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

impl Ghosts {
    /// Remembers a refused entry; `entries` is how many the cache holds.
    pub(super) fn add(&mut self, hash: u64, weight: u64, entries: usize) {
        let wanted = entries.next_power_of_two().max(SMALLEST);
        if self.places.len() < wanted {
            let old = std::mem::replace(&mut self.places, vec![Place::default(); wanted]);
            for place in old.into_iter().filter(|place| place.at > 0) {
                let index = self.index(place.hash);
                self.places[index] = place;
            }
        }
        self.refused += weight.max(1);
        let index = self.index(hash);
        self.places[index] = Place { hash, at: self.refused };
    }

    /// How much weight was refused since this was, if it is remembered. It is forgotten with the answer.
    pub(super) fn take(&mut self, hash: u64) -> Option<u64> {
        let index = self.index(hash);
        let place = self.places.get_mut(index).filter(|place| place.at > 0 && place.hash == hash)?;
        Some(self.refused - std::mem::take(&mut place.at))
    }

    fn index(&self, hash: u64) -> usize {
        (mix(hash) >> 20) as usize & self.places.len().saturating_sub(1)
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
