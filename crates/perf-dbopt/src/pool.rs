//! How many connections a host should hold, from what was measured (B8).

use std::time::Duration;

/// What was measured of a pool and its server.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct PoolEvidence {
    /// Connections the host holds at present.
    pub size: u32,
    /// Connections the server allows, those reserved for superusers not counted.
    pub max_connections: u32,
    /// Connections held by others than this application.
    pub others: u32,
    /// Hosts of this application.
    pub hosts: u32,
    /// The server's cores, and its disks where data does not fit memory.
    pub cores: u32,
    /// Queries a second, on this host.
    pub rate: f64,
    /// How long a connection is held, 95 of 100 times.
    pub hold_p95: Duration,
    /// How long a query takes, 99 of 100 times.
    pub query_p99: Duration,
    /// How long a caller waits for a connection, 95 of 100 times.
    pub wait_p95: Duration,
    /// Connections in use, 99 of 100 times.
    pub in_use_p99: f64,
    /// Sessions at work on the server on average.
    pub server_active: f64,
    /// The share of server sessions that wait for locks.
    pub lock_share: f64,
    /// The share of session time spent idle inside a transaction.
    pub idle_in_transaction: f64,
}

impl PoolEvidence {
    /// A quiet pool of this size on a server that allows `max_connections` and has `cores`; every other field is to be set.
    #[must_use]
    pub const fn new(size: u32, max_connections: u32, cores: u32) -> Self {
        Self {
            size,
            max_connections,
            others: 0,
            hosts: 1,
            cores,
            rate: 0.0,
            hold_p95: Duration::ZERO,
            query_p99: Duration::ZERO,
            wait_p95: Duration::ZERO,
            in_use_p99: 0.0,
            server_active: 0.0,
            lock_share: 0.0,
            idle_in_transaction: 0.0,
        }
    }
}

/// What the evidence says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum PoolVerdict {
    /// Less than half of it is ever used, or more connections than the server can serve get in each other's way.
    TooBig,
    /// Callers wait while the server has room.
    TooSmall,
    /// Connections are held ten times longer than queries take.
    Leak,
    /// Transactions are held open while nothing is asked.
    IdleInTransaction,
    /// Nothing speaks for a change.
    Right,
}

/// The advice for one host.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PoolAdvice {
    /// Connections this host should hold.
    pub recommended: u32,
    /// What the evidence says.
    pub verdict: PoolVerdict,
    /// The figures it rests on, in words.
    pub reason: String,
}

/// A pool smaller than this makes a single slow query everybody's problem.
const MIN_CONNECTIONS: u32 = 2;
/// A caller who waits longer than this notices.
const NOTICED_WAIT: Duration = Duration::from_millis(5);

/// Recommends a size.
///
/// By Little's law the connections in use are arrivals times holding time; a fifth is added for bursts. It is never more than the
/// host's share of what the server allows, nor than twice its cores and its disks shared among the hosts, beyond which more sessions
/// do the same work more slowly.
///
/// ```
/// use perf_dbopt::{PoolEvidence, PoolVerdict, advise_pool};
/// use std::time::Duration;
///
/// let mut evidence = PoolEvidence::new(100, 200, 8);
/// (evidence.rate, evidence.hold_p95, evidence.in_use_p99) = (500.0, Duration::from_millis(8), 6.0);
/// let advice = advise_pool(&evidence);
/// assert_eq!((advice.recommended, advice.verdict), (5, PoolVerdict::TooBig));
/// ```
#[must_use]
pub fn advise_pool(evidence: &PoolEvidence) -> PoolAdvice {
    let hosts = evidence.hosts.max(1);
    let left = f64::from(evidence.max_connections.saturating_sub(evidence.others)) * 0.9;
    let share = ((left / f64::from(hosts)).floor() as u32).max(1);
    let useful = (2 * evidence.cores + 1).div_ceil(hosts).max(MIN_CONNECTIONS);
    let needed = (evidence.rate * evidence.hold_p95.as_secs_f64() * 1.2).ceil().clamp(0.0, 1e6) as u32;
    let recommended = needed.clamp(MIN_CONNECTIONS.min(share), share).min(useful.max(1));
    let (verdict, reason) = judge(evidence);
    let recommended = match verdict {
        PoolVerdict::TooSmall => recommended.max(evidence.size + evidence.size.div_ceil(4)).min(share),
        PoolVerdict::Right | PoolVerdict::Leak | PoolVerdict::IdleInTransaction => evidence.size.min(share),
        PoolVerdict::TooBig => recommended.min(evidence.size),
    };
    PoolAdvice { recommended, verdict, reason }
}

fn judge(evidence: &PoolEvidence) -> (PoolVerdict, String) {
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    if evidence.idle_in_transaction > 0.05 {
        let share = evidence.idle_in_transaction * 100.0;
        return (
            PoolVerdict::IdleInTransaction,
            format!("{share:.0} % of session time is idle in a transaction"),
        );
    }
    if !evidence.query_p99.is_zero() && evidence.hold_p95 > evidence.query_p99 * 10 {
        let (hold, query) = (millis(evidence.hold_p95), millis(evidence.query_p99));
        return (
            PoolVerdict::Leak,
            format!("connections are held {hold:.1} ms while queries take {query:.1} ms"),
        );
    }
    let room = evidence.server_active < f64::from(evidence.cores);
    if evidence.wait_p95 > NOTICED_WAIT && room {
        let wait = millis(evidence.wait_p95);
        return (PoolVerdict::TooSmall, format!("callers wait {wait:.1} ms while the server has idle cores"));
    }
    let used = evidence.in_use_p99 / f64::from(evidence.size.max(1));
    if evidence.size > MIN_CONNECTIONS && used < 0.5 && (evidence.in_use_p99 > 0.0 || evidence.rate > 0.0) {
        return (
            PoolVerdict::TooBig,
            format!("{:.1} of {} connections are in use", evidence.in_use_p99, evidence.size),
        );
    }
    let crowded = evidence.server_active > 2.0 * f64::from(evidence.cores) && evidence.lock_share > 0.1;
    if crowded {
        let active = evidence.server_active;
        return (PoolVerdict::TooBig, format!("{active:.0} sessions compete for {} cores", evidence.cores));
    }
    (PoolVerdict::Right, "nothing speaks for a change".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn b8_each_verdict_rests_on_its_evidence() {
        let mut small = PoolEvidence::new(4, 100, 8);
        (small.wait_p95, small.in_use_p99, small.server_active) = (Duration::from_millis(40), 4.0, 3.0);
        (small.rate, small.hold_p95) = (900.0, Duration::from_millis(9));
        assert_eq!(advise_pool(&small).verdict, PoolVerdict::TooSmall);
        assert!(advise_pool(&small).recommended > 4);
        let mut leak = PoolEvidence::new(10, 100, 8);
        (leak.hold_p95, leak.query_p99) = (Duration::from_secs(2), Duration::from_millis(20));
        assert_eq!(advise_pool(&leak).verdict, PoolVerdict::Leak);
        let mut idle = PoolEvidence::new(10, 100, 8);
        idle.idle_in_transaction = 0.2;
        assert_eq!(advise_pool(&idle).verdict, PoolVerdict::IdleInTransaction);
        let mut crowd = PoolEvidence::new(100, 200, 4);
        (crowd.server_active, crowd.lock_share, crowd.in_use_p99) = (60.0, 0.4, 90.0);
        assert_eq!(advise_pool(&crowd).verdict, PoolVerdict::TooBig);
        assert_eq!(advise_pool(&PoolEvidence::new(10, 100, 8)).verdict, PoolVerdict::Right);
    }

    proptest! {
        #[test]
        fn all_hosts_together_never_exceed_the_server(size in 1..500_u32, max in 10..1000_u32, hosts in 1..20_u32, others in 0..100_u32, rate in 0.0..1e5_f64, hold in 0..10_000_u64, wait in 0..100_u64) {
            let mut evidence = PoolEvidence::new(size, max, 8);
            (evidence.hosts, evidence.others, evidence.rate) = (hosts, others, rate);
            (evidence.hold_p95, evidence.wait_p95) = (Duration::from_millis(hold), Duration::from_millis(wait));
            let advice = advise_pool(&evidence);
            prop_assert!(advice.recommended >= 1);
            let room = max.saturating_sub(others);
            prop_assert!(advice.recommended * hosts <= room.max(hosts), "{:?}", advice);
        }
    }
}
