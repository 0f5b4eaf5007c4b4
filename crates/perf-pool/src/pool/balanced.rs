//! What a balanced pool asks of the pool of each of its endpoints.

use super::Pool;
use super::acquire::{Acquire, Patience};
use crate::error::Error;
use crate::manager::Manager;
use perf_core::time::Duration;
use perf_core::{Deadline, Reason, Rejected};
use std::panic::Location;
use tokio::sync::futures::Notified;

impl<M: Manager> Pool<M> {
    /// A connection for a caller at `site`: as long as configured, or until `deadline`.
    pub(crate) const fn acquire_from(
        &self,
        site: &'static Location<'static>,
        deadline: Option<Deadline>,
    ) -> Acquire<'_, M> {
        let patience = match deadline {
            None => Patience::Configured,
            Some(deadline) => Patience::Until(deadline),
        };
        Acquire::new(&self.shared, site, patience)
    }

    /// How long a caller waits here unless it says otherwise.
    pub(crate) fn acquire_timeout(&self) -> Duration {
        self.shared.acquire_timeout
    }

    /// Lets those who wait here and may go elsewhere think again.
    pub(crate) fn stir(&self) {
        self.shared.stirred.notify_waiters();
    }

    /// When the next [`stir`](Self::stir) comes, or an attempt to connect has failed, or the pool was paused.
    pub(crate) fn stirred(&self) -> Notified<'_> {
        self.shared.stirred.notified()
    }

    /// Why nobody is served here at this moment, if so: it is closed, it is paused, or the server cannot be reached and no
    /// connection is left. A `patient` caller waits for the attempt that is under way.
    pub(crate) fn outage(&self, patient: bool, waited: Duration) -> Option<Error> {
        let core = self.shared.lock();
        let pool = self.shared.name.clone();
        if core.closed {
            return Some(Rejected::new(Reason::Closed, pool).into());
        }
        if core.paused {
            return Some(Error::Paused { waited, refusal: Rejected::new(Reason::Paused, pool) });
        }
        let attempts = core.attempts.failed;
        if attempts == 0 || core.has_live() || (patient && core.counts.connecting > 0) {
            return None;
        }
        Some(match core.attempts.last_error.clone() {
            None => Error::ManagerPanicked { pool },
            source => Error::Connecting { pool, waited, attempts, source },
        })
    }
}
