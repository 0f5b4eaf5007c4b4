use crate::core::{Core, Counts, Totals};
use perf_core::time::Duration;
use perf_core::{Desc, Unit};

macro_rules! stats {
    (
        levels { $($(#[$level_doc:meta])* $level:ident,)* }
        totals { $($(#[$total_doc:meta])* $total:ident: $desc:expr,)* }
    ) => {
        /// How a pool stands and what has happened to it, read at one moment under one lock.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct PoolStats {
            $($(#[$level_doc])* pub $level: usize,)*
            $($(#[$total_doc])* pub $total: u64,)*
            /// How long leases are held, on average over the latest; zero before the first came back.
            pub mean_hold: Duration,
            /// How long connecting takes, on average over the latest; zero before the first.
            pub mean_connect: Duration,
        }

        impl PoolStats {
            /// What has happened since `earlier`: totals are subtracted, levels and averages stay as they are now.
            #[must_use]
            pub const fn since(&self, earlier: &Self) -> Self {
                Self {
                    $($level: self.$level,)*
                    $($total: self.$total.saturating_sub(earlier.$total),)*
                    mean_hold: self.mean_hold,
                    mean_connect: self.mean_connect,
                }
            }

            pub(super) fn totals(&self) -> [(&'static Desc, &'static [perf_core::Label<'static>], u64); TOTALS] {
                [$({
                    let (desc, labels): (&'static Desc, &'static [perf_core::Label<'static>]) = $desc;
                    (desc, labels, self.$total)
                },)*]
            }
        }

        const TOTALS: usize = [$(stringify!($total),)*].len();
    };
}

const ACQUIRED: Desc = Desc::counter("perf_pool_acquired_total", "Leases given out", Unit::Count);
const WAITED: Desc = Desc::counter("perf_pool_waited_total", "Callers that had to wait", Unit::Count);
const CANCELLED: Desc =
    Desc::counter("perf_pool_cancelled_total", "Callers that went away while waiting", Unit::Count);
const TIMED_OUT: Desc =
    Desc::counter("perf_pool_timed_out_total", "Callers whose time ran out while waiting", Unit::Count);
const REFUSED: Desc =
    Desc::counter("perf_pool_refused_total", "Callers refused without waiting, by reason", Unit::Count);
const CONNECTED: Desc = Desc::counter("perf_pool_connected_total", "Connections made", Unit::Count);
const CONNECT_FAILED: Desc =
    Desc::counter("perf_pool_connect_failed_total", "Attempts to connect that failed", Unit::Count);
const PANICKED: Desc = Desc::counter("perf_pool_panicked_total", "Panics of the manager", Unit::Count);
const CHECKED: Desc = Desc::counter("perf_pool_checked_total", "Connections checked", Unit::Count);
const RESET: Desc = Desc::counter("perf_pool_reset_total", "Dirty connections put in order", Unit::Count);
const DETACHED: Desc =
    Desc::counter("perf_pool_detached_total", "Connections taken out of the pool", Unit::Count);
const LEAKED: Desc =
    Desc::counter("perf_pool_held_too_long_total", "Leases held longer than leak_after", Unit::Count);
const NESTED: Desc = Desc::counter(
    "perf_pool_nested_acquires_total",
    "Tasks that waited on a full pool while holding one of its connections",
    Unit::Count,
);
const CLOSED: Desc = Desc::counter("perf_pool_closed_total", "Connections closed, by reason", Unit::Count);

pub(super) const CONNECTIONS: Desc =
    Desc::gauge("perf_pool_connections", "Connections, by state", Unit::Count);
pub(super) const MAX: Desc = Desc::gauge("perf_pool_max_connections", "Connections allowed", Unit::Count);
pub(super) const ADVISED: Desc = Desc::gauge(
    "perf_pool_advised_connections",
    "Connections that the sizing controller advises; those allowed where there is none",
    Unit::Count,
);
pub(super) const WAITING: Desc = Desc::gauge("perf_pool_waiting", "Callers waiting", Unit::Count);
pub(super) const WAIT: Desc = Desc::histogram(
    "perf_pool_wait_seconds",
    "Time spent in the queue, by those who had to wait",
    Unit::Seconds,
);
pub(super) const HOLD: Desc =
    Desc::histogram("perf_pool_hold_seconds", "Time a lease was held", Unit::Seconds);
pub(super) const CONNECT: Desc =
    Desc::histogram("perf_pool_connect_seconds", "Time it took to make a connection", Unit::Seconds);

/// Every series a pool hands out. All carry the label `name`; the state of `perf_pool_connections` and the reason of
/// `perf_pool_closed_total` and `perf_pool_refused_total` are labels too.
pub const METRICS: [Desc; 21] = [
    ACQUIRED,
    WAITED,
    CANCELLED,
    TIMED_OUT,
    REFUSED,
    CONNECTED,
    CONNECT_FAILED,
    PANICKED,
    CHECKED,
    RESET,
    DETACHED,
    LEAKED,
    NESTED,
    CLOSED,
    CONNECTIONS,
    MAX,
    ADVISED,
    WAITING,
    WAIT,
    HOLD,
    CONNECT,
];

stats! {
    levels {
        /// Connections allowed.
        max,
        /// Connections in any state.
        size,
        /// Connections nobody uses.
        idle,
        /// Connections out on lease.
        leased,
        /// Connections being made.
        connecting,
        /// Connections being checked.
        checking,
        /// Connections being put in order.
        resetting,
        /// Connections being closed.
        closing,
        /// Callers waiting.
        waiting,
    }
    totals {
        /// Leases given out.
        acquired: (&ACQUIRED, &[]),
        /// Callers that had to wait.
        waited: (&WAITED, &[]),
        /// Callers that went away while they waited.
        cancelled: (&CANCELLED, &[]),
        /// Callers whose time ran out while they waited.
        timed_out: (&TIMED_OUT, &[]),
        /// Callers refused because the queue was full.
        refused_full: (&REFUSED, &[("reason", "full")]),
        /// Callers refused because the wait would have outlasted their deadline.
        refused_hopeless: (&REFUSED, &[("reason", "wont_make_it")]),
        /// Connections made.
        connected: (&CONNECTED, &[]),
        /// Attempts to connect that failed.
        connect_failed: (&CONNECT_FAILED, &[]),
        /// Panics of the manager.
        panicked: (&PANICKED, &[]),
        /// Connections checked.
        checked: (&CHECKED, &[]),
        /// Dirty connections put in order.
        reset: (&RESET, &[]),
        /// Connections taken out of the pool.
        detached: (&DETACHED, &[]),
        /// Leases held longer than `leak_after`.
        leaked: (&LEAKED, &[]),
        /// Tasks that waited on a full pool while holding one of its connections.
        nested: (&NESTED, &[]),
        /// Connections closed because they had lived long enough.
        closed_expired: (&CLOSED, &[("reason", "expired")]),
        /// Connections closed because nobody needed them.
        closed_idle: (&CLOSED, &[("reason", "idle")]),
        /// Connections that came back broken.
        closed_broken: (&CLOSED, &[("reason", "broken")]),
        /// Connections that failed a check.
        closed_check_failed: (&CLOSED, &[("reason", "check_failed")]),
        /// Connections that could not be put in order.
        closed_reset_failed: (&CLOSED, &[("reason", "reset_failed")]),
        /// Connections closed because there were more than allowed.
        closed_surplus: (&CLOSED, &[("reason", "surplus")]),
        /// Connections evicted by hand.
        closed_evicted: (&CLOSED, &[("reason", "evicted")]),
        /// Connections closed with the pool.
        closed_shutdown: (&CLOSED, &[("reason", "shutdown")]),
    }
}

impl PoolStats {
    pub(super) fn read<C>(core: &Core<C>) -> Self {
        let Counts { leased, connecting, checking, resetting, closing } = core.counts;
        let [leased, connecting, checking, resetting, closing] =
            [leased, connecting, checking, resetting, closing].map(|count| count as usize);
        let Totals {
            cancelled,
            timed_out,
            refused_full,
            refused_hopeless,
            connected,
            connect_failed,
            panicked,
            checked,
            reset,
            detached,
            leaked,
            nested,
            closed_expired,
            closed_idle,
            closed_broken,
            closed_check_failed,
            closed_reset_failed,
            closed_surplus,
            closed_evicted,
            closed_shutdown,
        } = core.totals;
        Self {
            max: core.config.max,
            size: core.size(),
            idle: core.idle(),
            leased,
            connecting,
            checking,
            resetting,
            closing,
            waiting: core.waiting(),
            acquired: core.acquired,
            waited: core.waited,
            cancelled,
            timed_out,
            refused_full,
            refused_hopeless,
            connected,
            connect_failed,
            panicked,
            checked,
            reset,
            detached,
            leaked,
            nested,
            closed_expired,
            closed_idle,
            closed_broken,
            closed_check_failed,
            closed_reset_failed,
            closed_surplus,
            closed_evicted,
            closed_shutdown,
            mean_hold: core.mean_hold().unwrap_or_default(),
            mean_connect: core.mean_connect().unwrap_or_default(),
        }
    }

    /// Connections closed, for whatever reason.
    #[must_use]
    pub const fn closed(&self) -> u64 {
        self.closed_expired
            + self.closed_idle
            + self.closed_broken
            + self.closed_check_failed
            + self.closed_reset_failed
            + self.closed_surplus
            + self.closed_evicted
            + self.closed_shutdown
    }
}
