use super::Shared;
use perf_core::Outcome;
use perf_core::time::Instant;

/// Why an extra call is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The request before it failed.
    #[default]
    Failure,
    /// The request before it ran out of time.
    Timeout,
    /// The dependency said that it is overloaded.
    Overload,
    /// The request before it is still under way.
    Hedge,
}

/// The account of one call with a [`Budget`](crate::Budget), opened when the call begins and closed when it is dropped.
///
/// Pipelines and [`Retry`](crate::Retry) keep it by themselves; it is for loops of your own.
///
/// ```
/// use perf_resilience::Budget;
/// use perf_resilience::retry::Cause;
/// use perf_core::time;
///
/// // One extra call for every five in flight, and always one.
/// let budget = Budget::builder("api").in_flight(0.2, 1).build()?;
/// let (mut first, mut second) = (budget.open(), budget.open());
/// assert!(first.withdraw(Cause::Failure, time::now()));
/// assert!(!second.withdraw(Cause::Failure, time::now()), "the only place is taken");
/// drop(first);
/// assert!(second.withdraw(Cause::Failure, time::now()));
/// # Ok::<(), perf_core::InvalidConfig>(())
/// ```
#[must_use = "the account is closed as soon as it is dropped"]
#[derive(Debug)]
pub struct Account<'b> {
    shared: &'b Shared,
    /// Whether the kind wants to know how the call goes on.
    followed: bool,
    /// The extra requests under way.
    extras: u32,
    /// What the latest extra request cost.
    spent: u64,
}

impl<'b> Account<'b> {
    #[inline]
    pub(super) const fn new(shared: &'b Shared, followed: bool) -> Self {
        Self { shared, followed, extras: 0, spent: 0 }
    }

    /// Pays for an extra request; `false` if the budget cannot.
    #[must_use = "an extra request that is not paid for must not be made"]
    pub fn withdraw(&mut self, cause: Cause, now: Instant) -> bool {
        let paid = self.shared.withdraw(cause, now);
        if let Some(cost) = paid {
            self.extras += 1;
            self.spent = cost;
        }
        paid.is_some()
    }

    /// A request of the call ended with this outcome. Only failures cost anything.
    pub fn failed(&mut self, outcome: Outcome) {
        if self.followed && outcome.is_failure() {
            self.shared.purse.failed();
        }
    }

    /// No extra request is under way any more, but the call goes on.
    pub fn release(&mut self) {
        let extras = std::mem::take(&mut self.extras);
        if self.followed && extras > 0 {
            self.shared.purse.release(extras);
        }
    }

    /// The call succeeded.
    #[inline]
    pub fn succeeded(&mut self) {
        if self.followed {
            self.rewarded();
        }
    }

    #[inline(never)]
    fn rewarded(&mut self) {
        self.shared.purse.succeeded(std::mem::take(&mut self.spent));
    }

    #[inline(never)]
    fn close(&mut self) {
        self.shared.purse.close(self.extras);
    }
}

impl Drop for Account<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.followed {
            self.close();
        }
    }
}
