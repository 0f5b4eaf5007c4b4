/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Why {
    /// It had lived long enough.
    Expired,
    /// Nobody needed it.
    Idle,
    /// It came back broken.
    Broken,
    /// It failed a check.
    CheckFailed,
    /// It could not be put in order.
    ResetFailed,
    /// There were more than allowed.
    Surplus,
    /// It was evicted by hand.
    Evicted,
    /// The pool closed.
    Shutdown,
}

/// Monotone totals, written under the lock; the two that every checkout writes are kept in the core itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) cancelled: u64,
    pub(crate) timed_out: u64,
    pub(crate) refused_full: u64,
    pub(crate) refused_hopeless: u64,
    pub(crate) connected: u64,
    pub(crate) connect_failed: u64,
    pub(crate) panicked: u64,
    pub(crate) checked: u64,
    pub(crate) reset: u64,
    pub(crate) detached: u64,
    pub(crate) leaked: u64,
    pub(crate) nested: u64,
    pub(crate) closed_expired: u64,
    pub(crate) closed_idle: u64,
    pub(crate) closed_broken: u64,
    pub(crate) closed_check_failed: u64,
    pub(crate) closed_reset_failed: u64,
    pub(crate) closed_surplus: u64,
    pub(crate) closed_evicted: u64,
    pub(crate) closed_shutdown: u64,
}

impl Totals {
    pub(crate) fn count_closed(&mut self, why: Why) {
        let total = match why {
            Why::Expired => &mut self.closed_expired,
            Why::Idle => &mut self.closed_idle,
            Why::Broken => &mut self.closed_broken,
            Why::CheckFailed => &mut self.closed_check_failed,
            Why::ResetFailed => &mut self.closed_reset_failed,
            Why::Surplus => &mut self.closed_surplus,
            Why::Evicted => &mut self.closed_evicted,
            Why::Shutdown => &mut self.closed_shutdown,
        };
        *total += 1;
    }
}
