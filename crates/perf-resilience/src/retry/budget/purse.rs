//! What is counted, in one word: every change is a single step from one word to the next, so nothing is lost between
//! threads.

use super::account::Cause;
use super::config::{BudgetConfig, BudgetKind, InFlight, Tokens};
use crate::sync::{AtomicU64, Ordering};

/// A token in the smallest unit that is counted.
pub(super) const TOKEN: u64 = 1_000_000;

fn tokens(amount: f64) -> u64 {
    (amount * TOKEN as f64).round() as u64
}

/// What a word means, and what changes it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rules {
    /// The word is a balance.
    Ratio,
    /// The word is the calls in flight in its low half and the extra ones among them in its high half.
    InFlight { share: u64, floor: u64 },
    /// The word is a balance.
    Tokens { costs: [u64; 4], failure: u64, success: u64, refund: bool, stop_at: u64 },
}

/// The word, and the rules of its kind.
#[derive(Debug)]
pub(super) struct Purse {
    word: AtomicU64,
    /// From here on a call need not pay in; never for kinds that follow each call.
    full: u64,
    deposit: u64,
    /// What the balance never exceeds.
    cap: u64,
    pub(super) rules: Rules,
}

/// One extra call in the word of [`Rules::InFlight`].
const EXTRA: u64 = 1 << 32;

fn calls(word: u64) -> u64 {
    word & (EXTRA - 1)
}

impl Purse {
    pub(super) fn new(config: &BudgetConfig) -> Self {
        let (word, cap, rules) = match config.kind {
            BudgetKind::Ratio => (0, u64::from(config.cap) * TOKEN, Rules::Ratio),
            BudgetKind::InFlight(InFlight { share, floor }) => {
                (0, 0, Rules::InFlight { share: tokens(share), floor: u64::from(floor) })
            }
            BudgetKind::Tokens(Tokens {
                capacity,
                retry,
                timeout,
                overload,
                failure,
                success,
                refund,
                stop_at,
            }) => {
                let cap = u64::from(capacity) * TOKEN;
                // In the order of `Cause`.
                let costs = [retry, timeout, overload, retry].map(tokens);
                let stop_at = (stop_at * cap as f64).round() as u64;
                let (failure, success) = (tokens(failure), tokens(success));
                (cap, cap, Rules::Tokens { costs, failure, success, refund, stop_at })
            }
        };
        let full = if matches!(rules, Rules::Ratio) { cap } else { u64::MAX };
        Self { word: AtomicU64::new(word), full, deposit: tokens(config.ratio), cap, rules }
    }

    /// Takes in a call; `true` if its way must be followed.
    #[inline]
    pub(super) fn open(&self) -> bool {
        let mut balance = self.word.load(Ordering::Relaxed);
        while balance < self.full {
            if !matches!(self.rules, Rules::Ratio) {
                return self.open_followed();
            }
            let next = (balance + self.deposit).min(self.full);
            match self.word.compare_exchange_weak(balance, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return false,
                Err(seen) => balance = seen,
            }
        }
        false
    }

    #[inline(never)]
    fn open_followed(&self) -> bool {
        if let Rules::InFlight { .. } = self.rules {
            self.word.fetch_add(1, Ordering::Relaxed);
        }
        true
    }

    /// Ends a call that was followed, with the extra ones it has under way.
    pub(super) fn close(&self, extras: u32) {
        if let Rules::InFlight { .. } = self.rules {
            self.word.fetch_sub(1 + u64::from(extras) * EXTRA, Ordering::Relaxed);
        }
    }

    /// Ends extra calls whose call goes on.
    pub(super) fn release(&self, extras: u32) {
        if let Rules::InFlight { .. } = self.rules {
            self.word.fetch_sub(u64::from(extras) * EXTRA, Ordering::Relaxed);
        }
    }

    /// Pays for an extra call; gives what it cost.
    pub(super) fn take(&self, cause: Cause) -> Option<u64> {
        let cost = match self.rules {
            Rules::Ratio => TOKEN,
            Rules::InFlight { .. } => 0,
            Rules::Tokens { costs, .. } => costs[cause as usize],
        };
        self.update(|word| match self.rules {
            Rules::Ratio => word.checked_sub(cost),
            Rules::InFlight { .. } => (word / EXTRA < self.allowed(calls(word))).then(|| word + EXTRA),
            Rules::Tokens { stop_at, .. } if word <= stop_at => None,
            Rules::Tokens { .. } => word.checked_sub(cost),
        })
        .then_some(cost)
    }

    /// A request failed.
    pub(super) fn failed(&self) {
        if let Rules::Tokens { failure: loss @ 1.., .. } = self.rules {
            self.update(|word| Some(word.saturating_sub(loss)));
        }
    }

    /// A call succeeded, after paying `spent` for the request that did if that was an extra one.
    pub(super) fn succeeded(&self, spent: u64) {
        if let Rules::Tokens { success, refund, .. } = self.rules {
            let gain = if refund && spent > 0 { spent } else { success };
            self.update(|word| (word < self.cap).then(|| (word + gain).min(self.cap)));
        }
    }

    /// How many extra calls may be under way beside so many calls.
    fn allowed(&self, calls: u64) -> u64 {
        match self.rules {
            Rules::InFlight { share, floor } => (calls * share / TOKEN).max(floor),
            _ => 0,
        }
    }

    /// What is left: tokens, or places for extra calls.
    pub(super) fn left(&self) -> f64 {
        let word = self.word.load(Ordering::Relaxed);
        match self.rules {
            Rules::InFlight { .. } => self.allowed(calls(word)).saturating_sub(word / EXTRA) as f64,
            _ => word as f64 / TOKEN as f64,
        }
    }

    /// Which share is gone; `None` where nothing can be saved up.
    pub(super) fn spent(&self) -> Option<f64> {
        let word = self.word.load(Ordering::Relaxed);
        match self.rules {
            Rules::InFlight { .. } => {
                let (extras, allowed) = (word / EXTRA, self.allowed(calls(word)));
                Some(if extras == 0 { 0.0 } else { extras as f64 / allowed.max(extras) as f64 })
            }
            _ => (self.cap > 0).then(|| 1.0 - word as f64 / self.cap as f64),
        }
    }

    /// Changes the word until it sticks; `false` once `change` says no.
    fn update(&self, change: impl Fn(u64) -> Option<u64>) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while let Some(next) = change(word) {
            match self.word.compare_exchange_weak(word, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(seen) => word = seen,
            }
        }
        false
    }
}
