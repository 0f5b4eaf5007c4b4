use crate::error::{Cause, Holder};
use crate::sizing::Advice;
use perf_core::time::Duration;
use std::panic::Location;

/// Something rare that happened to a pool, told to [`Builder::on_event`](crate::Builder::on_event).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PoolEvent {
    /// An attempt to connect failed.
    ConnectFailed {
        /// The manager's error.
        cause: Cause,
        /// Attempts that failed in a row, this one included.
        attempts: u32,
    },
    /// The manager panicked while connecting. The place it had is free again.
    ManagerPanicked,
    /// A lease has been held for longer than `leak_after`.
    HeldTooLong {
        /// Who holds it.
        holder: Holder,
    },
    /// A task waits on a full pool while it holds one of its connections: if enough tasks do, nobody goes on.
    NestedAcquire {
        /// Where the connection it holds was acquired.
        outer: &'static Location<'static>,
        /// Where it waits for the next.
        inner: &'static Location<'static>,
    },
    /// The sizing controller advises another size than the present one, for the first time or anew.
    Advised {
        /// The size, and why.
        advice: Advice,
        /// Whether the pool has taken it on.
        taken: bool,
    },
    /// The process stood still, so that nothing idle is trusted any more.
    Stalled {
        /// By how much maintenance was late.
        by: Duration,
    },
}
