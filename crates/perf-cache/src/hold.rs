//! Hold-offs: after a write, what the touched tags and keys depend on is for a while returned but not kept, because a
//! replica may still answer with what was there before.

use crate::clock::Tick;
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Until when loads that begin are not kept, by tag or key.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    /// The latest end of any of them: what begins later need not look.
    latest: AtomicU64,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    until: HashMap<u64, Tick, RandomState>,
    /// When there are too many to tell apart, everything is held until this tick.
    all: Option<Tick>,
}

/// Tags and keys held one by one.
const LIMIT: usize = 16_384;

impl Holds {
    pub(crate) fn hold(&self, what: impl IntoIterator<Item = u64>, now: Tick, until: Tick) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.all = table.all.filter(|end| *end > now);
        for held in what {
            if table.until.len() >= LIMIT {
                table.until.retain(|_, end| *end > now);
            }
            if table.until.len() >= LIMIT {
                let latest = table.until.values().copied().max().unwrap_or(until).max(until);
                table.all = Some(table.all.map_or(latest, |end| end.max(latest)));
                table.until.clear();
            }
            let end = table.until.entry(held).or_insert(until);
            *end = (*end).max(until);
        }
        self.latest.fetch_max(until.0, Ordering::AcqRel);
    }

    /// Whether a load that began at this tick must not be kept.
    pub(crate) fn holds(&self, began: Tick, mut what: impl Iterator<Item = u64>) -> bool {
        if began.0 >= self.latest.load(Ordering::Acquire) {
            return false;
        }
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.all.is_some_and(|end| began < end)
            || what.any(|held| table.until.get(&held).is_some_and(|end| began < *end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_before_the_end_of_a_hold_is_held() {
        let holds = Holds::default();
        assert!(!holds.holds(Tick(0), [1].into_iter()));
        holds.hold([1], Tick(0), Tick(10));
        holds.hold([1], Tick(0), Tick(5));
        assert!(holds.holds(Tick(9), [2, 1].into_iter()) && !holds.holds(Tick(9), [2].into_iter()));
        assert!(!holds.holds(Tick(10), [1].into_iter()));
    }

    #[test]
    fn too_many_holds_hold_everything_until_the_last_of_them_ends() {
        let holds = Holds::default();
        holds.hold(0..LIMIT as u64 + 10, Tick(0), Tick(10));
        assert!(holds.holds(Tick(9), [u64::MAX].into_iter()));
        assert!(!holds.holds(Tick(10), [1].into_iter()));
        holds.hold([1], Tick(20), Tick(30));
        assert!(!holds.holds(Tick(25), [2].into_iter()), "the hold of everything ends with its time");
    }
}
