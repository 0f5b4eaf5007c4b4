use super::subset::rank;
use std::hash::Hash;

/// A table from keys to endpoints that sends equal keys to the same one, spreads keys by weight, and moves few of them
/// when an endpoint comes or goes: Google's Maglev (NSDI 2016). Looking up is one step.
///
/// ```
/// use perf_pool::balance::Ring;
///
/// let ring = Ring::new(&[("a", 1.0), ("b", 1.0), ("c", 2.0)]);
/// assert_eq!(ring.owner("user 7"), ring.owner("user 7"));
/// assert_eq!(Ring::new::<&str>(&[]).owner("user 7"), None);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Ring {
    table: Vec<u32>,
}

/// A prime far above the number of endpoints, so that shares are even within a percent.
const SIZE: u64 = 65_537;

impl Ring {
    /// A table for endpoints and their weights.
    #[must_use]
    pub fn new<E: Hash>(endpoints: &[(E, f64)]) -> Self {
        let heaviest = endpoints.iter().map(|(_, weight)| *weight).fold(0.0, f64::max);
        if heaviest <= 0.0 {
            return Self::default();
        }
        // Each endpoint has its own order of preference; they take turns to choose, the lighter ones less often.
        let mut seats: Vec<Seat> = endpoints
            .iter()
            .map(|(name, weight)| Seat {
                offset: rank("offset", name) % SIZE,
                skip: rank("skip", name) % (SIZE - 1) + 1,
                turn: 0,
                credit: 0.0,
                pace: (weight / heaviest).max(0.0),
            })
            .collect();
        let mut table = vec![u32::MAX; SIZE as usize];
        let mut free = table.len();
        while free > 0 {
            for (index, seat) in seats.iter_mut().enumerate() {
                seat.credit += seat.pace;
                if seat.credit < 1.0 || free == 0 {
                    continue;
                }
                seat.credit -= 1.0;
                let place = seat.next_free(&table);
                table[place] = index as u32;
                free -= 1;
            }
        }
        Self { table }
    }

    /// The endpoint of a key, by index.
    #[must_use]
    pub fn owner(&self, key: impl Hash) -> Option<usize> {
        let at = rank("key", key) % SIZE;
        self.table.get(at as usize).map(|index| *index as usize)
    }
}

struct Seat {
    offset: u64,
    skip: u64,
    turn: u64,
    credit: f64,
    pace: f64,
}

impl Seat {
    fn next_free(&mut self, table: &[u32]) -> usize {
        loop {
            let place = ((self.offset + self.turn * self.skip) % SIZE) as usize;
            self.turn += 1;
            if table[place] == u32::MAX {
                return place;
            }
        }
    }
}
