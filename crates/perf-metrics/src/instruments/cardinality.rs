//! Which label has too many values, and which values they are: measured where samples overflow, in bounded memory.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError, TryLockError};

/// Registers of the estimate of distinct values: its standard error is 1.04/√1024 = 3.3 %.
const REGISTERS: usize = 1024;

/// Bits of the hash that choose a register.
const INDEX_BITS: u32 = REGISTERS.trailing_zeros();

/// Values remembered per label. The most frequent ones are among them as long as each makes up more than a 32nd.
const TOP: usize = 32;

/// Longest part of a value that is remembered, in bytes: enough to recognise it, whatever a client sends.
const LONGEST: usize = 128;

/// What overflowed under one label.
#[derive(Debug)]
pub(crate) struct Offence {
    registers: Box<[AtomicU8]>,
    top: Mutex<Vec<Counted>>,
}

#[derive(Clone, Debug)]
struct Counted {
    value: String,
    count: u64,
}

impl Default for Offence {
    fn default() -> Self {
        Self { registers: (0..REGISTERS).map(|_| AtomicU8::new(0)).collect(), top: Mutex::default() }
    }
}

impl Offence {
    /// Takes in one overflowing value and its hash. Never waits: when another thread holds the list, only the estimate
    /// sees the value.
    pub(crate) fn see(&self, value: &str, hash: u64) {
        // HyperLogLog: the longest run of zeros seen in a register grows with the logarithm of the distinct values.
        let register = &self.registers[(hash >> (64 - INDEX_BITS)) as usize];
        let zeros = ((hash << INDEX_BITS) | 1 << (INDEX_BITS - 1)).leading_zeros() as u8 + 1;
        if register.load(Ordering::Relaxed) < zeros {
            register.fetch_max(zeros, Ordering::Relaxed);
        }
        match self.top.try_lock() {
            Ok(mut top) => count(&mut top, value),
            Err(TryLockError::Poisoned(poisoned)) => count(&mut poisoned.into_inner(), value),
            Err(TryLockError::WouldBlock) => {}
        }
    }

    /// About how many distinct values overflowed.
    pub(crate) fn distinct(&self) -> f64 {
        let m = REGISTERS as f64;
        let (mut sum, mut empty) = (0.0, 0);
        for register in &self.registers {
            let zeros = register.load(Ordering::Relaxed);
            sum += f64::from(-i32::from(zeros)).exp2();
            empty += usize::from(zeros == 0);
        }
        let raw = 0.7213 / (1.0 + 1.079 / m) * m * m / sum;
        // While many registers are empty, counting those is the better estimate.
        if raw <= 2.5 * m && empty > 0 { m * (m / empty as f64).ln() } else { raw }
    }

    /// The most frequent values and how often they were seen, at most; most frequent first.
    pub(crate) fn top(&self) -> Vec<(String, u64)> {
        let top = self.top.lock().unwrap_or_else(PoisonError::into_inner);
        let mut top: Vec<(String, u64)> = top.iter().map(|c| (c.value.clone(), c.count)).collect();
        top.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        top
    }
}

/// Space-Saving: a new value takes the place of the least frequent one, and its count.
fn count(top: &mut Vec<Counted>, value: &str) {
    let value = &value[..value.floor_char_boundary(LONGEST)];
    if let Some(known) = top.iter_mut().find(|counted| counted.value == value) {
        known.count += 1;
    } else if top.len() < TOP {
        top.push(Counted { value: value.to_owned(), count: 1 });
    } else if let Some(least) = top.iter_mut().min_by_key(|counted| counted.count) {
        least.value.clear();
        least.value.push_str(value);
        least.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instruments::hash::Hasher;

    #[test]
    fn the_estimate_is_within_a_tenth_and_the_offender_is_found() {
        let (offence, hasher) = (Offence::default(), Hasher::default());
        for n in 0..400_000 {
            let value = if n % 10 == 0 { "/wp-login.php".to_owned() } else { format!("/scan/{n}") };
            offence.see(&value, hasher.hash(&[&value]));
        }
        let distinct = offence.distinct();
        assert!((distinct / 360_001.0 - 1.0).abs() < 0.1, "{distinct}");
        assert_eq!(offence.top()[0].0, "/wp-login.php");
        assert!(offence.top()[0].1 >= 40_000 && offence.top().len() == TOP);
    }

    #[test]
    fn few_values_are_counted_almost_exactly() {
        let (offence, hasher) = (Offence::default(), Hasher::default());
        for n in 0..50 {
            let value = format!("{n}{}", "é".repeat(200));
            offence.see(&value, hasher.hash(&[&value]));
        }
        assert!((offence.distinct() - 50.0).abs() < 3.0);
        assert!(offence.top().iter().all(|(value, _)| value.len() <= LONGEST));
    }
}
