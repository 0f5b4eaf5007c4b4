use super::config::{BreakerConfig, Window};
use crate::gate::Now;
use perf_core::time::Instant;
use perf_core::{CountWindow, Tally, TimeWindow};

/// Buckets of a time window.
const BUCKETS: usize = 10;

/// What the window adds up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Calls {
    pub(super) total: u32,
    pub(super) failed: u32,
    pub(super) slow: u32,
}

impl Calls {
    pub(super) fn one(failed: bool, slow: bool) -> Self {
        Self { total: 1, failed: u32::from(failed), slow: u32::from(slow) }
    }
}

impl Tally for Calls {
    fn add(&mut self, other: Self) {
        self.total += other.total;
        self.failed += other.failed;
        self.slow += other.slow;
    }

    fn subtract(&mut self, other: Self) {
        self.total -= other.total;
        self.failed -= other.failed;
        self.slow -= other.slow;
    }
}

/// The calls that the rates are taken over.
#[derive(Clone, Debug)]
pub(super) enum Seen {
    Last(CountWindow<Calls>),
    Recent(Box<TimeWindow<Calls>>),
}

impl Seen {
    pub(super) fn new(config: &BreakerConfig, now: Instant) -> Self {
        match config.window {
            Window::Count(size) => Self::Last(CountWindow::new(size as usize)),
            Window::Time(span) => Self::Recent(Box::new(TimeWindow::new(span, BUCKETS, now))),
        }
    }

    /// Takes in a call and gives the totals with it.
    pub(super) fn record(&mut self, call: Calls, now: &Now) -> Calls {
        match self {
            Self::Last(window) => {
                window.record(call);
                window.total()
            }
            Self::Recent(window) => {
                window.record(call, now.get());
                window.total(now.get())
            }
        }
    }

    pub(super) fn total(&mut self, now: Instant) -> Calls {
        match self {
            Self::Last(window) => window.total(),
            Self::Recent(window) => window.total(now),
        }
    }

    pub(super) fn clear(&mut self) {
        match self {
            Self::Last(window) => window.clear(),
            Self::Recent(window) => window.clear(),
        }
    }

    /// Whether one more quick success would change nothing: the ring is full of them.
    pub(super) fn is_settled(&self) -> bool {
        match self {
            Self::Last(window) => {
                let Calls { failed, slow, .. } = window.total();
                window.len() == window.capacity() && failed == 0 && slow == 0
            }
            Self::Recent(_) => false,
        }
    }

    pub(super) const fn counts_calls(&self) -> bool {
        matches!(self, Self::Last(_))
    }
}
