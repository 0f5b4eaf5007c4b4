//! The published form of the machine: one word that a call in the closed state needs to read and nothing else.

/// The state of the breaker in three bits, its generation in 29, and flags below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

pub(super) const CLOSED: u64 = 0;
pub(super) const OPEN: u64 = 1;
pub(super) const HALF_OPEN: u64 = 2;
pub(super) const MANUAL: u64 = 3;

/// One more quick success would change nothing.
pub(super) const SETTLED: u64 = 1;
/// Closed, but not letting everything through yet.
pub(super) const RAMPING: u64 = 2;

/// Generations wrap after half a thousand million transitions.
pub(super) const GENERATIONS: u32 = (1 << 29) - 1;

impl Word {
    pub(super) const fn new(state: u64, generation: u32, flags: u64) -> Self {
        Self(state << 61 | (generation as u64) << 32 | flags)
    }

    pub(super) const fn state(self) -> u64 {
        self.0 >> 61
    }

    pub(super) const fn generation(self) -> u32 {
        (self.0 >> 32) as u32 & GENERATIONS
    }

    /// Open, by itself or by hand: calls are refused at least until the wait is over.
    pub(super) const fn refuses(self) -> bool {
        self.state() == OPEN
    }

    /// Closed and past its ramp: calls go through without a look at anything else.
    pub(super) const fn lets_all_through(self) -> bool {
        self.state() == CLOSED && self.0 & RAMPING == 0
    }
}

/// A token: the generation that admitted the call, and the number of the probe (0 for calls that are none).
pub(super) const fn token(generation: u32, probe: u32) -> u64 {
    (generation as u64) << 32 | probe as u64
}

pub(super) const fn token_parts(token: u64) -> (u32, u32) {
    ((token >> 32) as u32, token as u32)
}
