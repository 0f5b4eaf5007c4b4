//! Which reads are looked at: a countdown of each thread, long enough to cost next to nothing.

use std::cell::Cell;

/// One read in so many is looked at, on average.
pub(crate) const PERIOD: u64 = 256;

struct Sampler {
    /// Reads of this thread until the next one is looked at.
    left: Cell<u32>,
    /// Whether the present one is.
    due: Cell<bool>,
    random: Cell<u64>,
    /// The key that was last read and sampled for a curve, and how often it was read again since.
    last: Cell<u64>,
    repeats: Cell<u32>,
}

thread_local! {
    static SAMPLER: Sampler = const {
        Sampler {
            left: Cell::new(1),
            due: Cell::new(false),
            random: Cell::new(0),
            last: Cell::new(0),
            repeats: Cell::new(0),
        }
    };
}

/// Counts a read of this thread; whether it is one to look at.
#[inline]
pub(crate) fn is_due() -> bool {
    SAMPLER.with(|sampler| {
        let left = sampler.left.get() - 1;
        sampler.left.set(left);
        left == 0 && sampler.start_over()
    })
}

/// Whether the read that is being looked at is so for the countdown's sake.
pub(crate) fn take_due() -> bool {
    SAMPLER.with(|sampler| sampler.due.replace(false))
}

/// Whether a read of this thread happens to fall within a share in [0, 1].
pub(crate) fn falls_within(share: f64) -> bool {
    SAMPLER.with(|sampler| (sampler.next() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64) < share)
}

/// Notes a read of a key sampled for a curve. `None` when it is the one that was read before: a hot key is then counted
/// here, and not under a lock at each of its reads. Otherwise how often the one before was read again.
pub(crate) fn repeats(key: u64) -> Option<u32> {
    SAMPLER.with(|sampler| {
        let repeats = sampler.repeats.get();
        if sampler.last.get() == key && repeats < 1000 {
            sampler.repeats.set(repeats + 1);
            return None;
        }
        sampler.last.set(key);
        sampler.repeats.set(0);
        Some(repeats)
    })
}

impl Sampler {
    /// Draws the next interval at random, so that no rhythm of the reads goes unseen.
    #[cold]
    fn start_over(&self) -> bool {
        let first = self.random.get() == 0;
        let interval = 1 + (self.next() >> 32) % (2 * PERIOD - 1);
        self.left.set(u32::try_from(interval).unwrap_or(1));
        // The first read of a thread only starts the countdown.
        self.due.set(!first);
        !first
    }

    /// SplitMix64, started from where this thread's sampler lies.
    fn next(&self) -> u64 {
        let mut state = self.random.get();
        if state == 0 {
            state = std::ptr::from_ref(self).addr() as u64 | 1;
        }
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.random.set(state);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_read_in_a_period_is_looked_at_on_average() {
        let due = (0..1_000_000).filter(|_| is_due()).count() as u64;
        let expected = 1_000_000 / PERIOD;
        assert!((expected * 9 / 10..expected * 11 / 10).contains(&due), "{due} for {expected}");
    }

    #[test]
    fn a_key_read_again_and_again_is_counted_without_a_lock() {
        assert_eq!(repeats(7), Some(0));
        assert!((0..5).all(|_| repeats(7).is_none()));
        assert_eq!(repeats(8), Some(5));
    }
}
