//! How often each key was asked for lately, in half a byte per counter.

/// A count-min sketch of 4-bit counters (Cormode and Muthukrishnan, 2005), halved at intervals so that the past fades
/// (Einziger, Friedman and Manes, "TinyLFU", 2017).
///
/// Only the smallest of a key's counters are raised ("conservative update", Estan and Varghese, 2002): with the plain
/// update, collisions make keys that are asked for equally often look different, and a loop wider than the cache then
/// churns.
#[derive(Debug)]
pub(super) struct Sketch {
    table: Vec<u64>,
    additions: u64,
}

const ROWS: u32 = 4;
const HIGHEST: u64 = 15;
/// Words of sixteen counters, of which a row uses a fourth. With fewer, the keys of a small cache are mistaken for each
/// other.
const SMALLEST: usize = 256;
/// A cache of fewer entries counts as long as one of so many: the past would fade before it says anything.
const FEWEST: u64 = 200;
/// Additions per entry between two halvings.
const PERIOD: u64 = 10;

impl Sketch {
    pub(super) fn new() -> Self {
        Self { table: vec![0; SMALLEST], additions: 0 }
    }

    /// Makes room for this many entries. What was counted stays counted.
    pub(super) fn reserve(&mut self, entries: usize) {
        while self.table.len() < entries {
            // One more bit of the hash chooses between two copies of what was one word.
            self.table.extend_from_within(..);
        }
    }

    /// How often this key was asked for, 15 at most.
    pub(super) fn frequency(&self, hash: u64) -> u64 {
        (0..ROWS).map(|row| self.counter(hash, row)).min().unwrap_or(0)
    }

    /// Counts one request; `entries` is how many the cache holds, which sets how fast the past fades.
    pub(super) fn add(&mut self, hash: u64, entries: usize) {
        let lowest = self.frequency(hash);
        if lowest == HIGHEST {
            return;
        }
        for row in 0..ROWS {
            if self.counter(hash, row) == lowest {
                let (word, shift) = self.place(hash, row);
                self.table[word] += 1 << shift;
            }
        }
        self.additions += 1;
        if self.additions >= PERIOD * (entries as u64).max(FEWEST) {
            self.halve();
        }
    }

    fn counter(&self, hash: u64, row: u32) -> u64 {
        let (word, shift) = self.place(hash, row);
        (self.table[word] >> shift) & HIGHEST
    }

    /// The word and the bit offset of a key's counter in one row: each row has its own four of a word's sixteen counters.
    fn place(&self, hash: u64, row: u32) -> (usize, u32) {
        let mixed = mix(hash.wrapping_add(u64::from(row + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)));
        let word = (mixed >> 8) as usize & (self.table.len() - 1);
        (word, ((mixed & 3) as u32 + row * 4) * 4)
    }

    fn halve(&mut self) {
        for word in &mut self.table {
            *word = (*word >> 1) & 0x7777_7777_7777_7777;
        }
        self.additions /= 2;
    }
}

pub(super) const fn mix(mut bits: u64) -> u64 {
    bits ^= bits >> 32;
    bits = bits.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    bits ^= bits >> 29;
    bits = bits.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits ^ (bits >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_counted_too_low_and_fades() {
        let mut sketch = Sketch::new();
        (0..5).for_each(|_| sketch.add(7, 1000));
        sketch.add(8, 1000);
        assert!(sketch.frequency(7) >= 5 && sketch.frequency(8) >= 1);
        sketch.halve();
        assert!((2..5).contains(&sketch.frequency(7)));
    }

    #[test]
    fn growing_keeps_what_was_counted() {
        let mut sketch = Sketch::new();
        for key in 0..50 {
            (0..=key % 10).for_each(|_| sketch.add(mix(key), 10_000));
        }
        let before: Vec<_> = (0..50).map(|key| sketch.frequency(mix(key))).collect();
        sketch.reserve(5_000);
        assert_eq!(before, (0..50).map(|key| sketch.frequency(mix(key))).collect::<Vec<_>>());
    }
}
