//! One limit divided among kinds of callers, so that none of them can starve the others.

use super::{Adaptive, AdaptiveBuilder};
use crate::gate::{Gate, Leaving, Now, Token};
use crate::stats::stats;
use crate::sync::{AtomicU64, Ordering};
use perf_core::{Component, ComponentId, Desc, Evidence, InvalidConfig, Name, Reason, Rejected, Sink, Unit};
use std::sync::Arc;

/// The partition of callers that belong to none of the named ones.
pub const UNKNOWN: &str = "unknown";

/// The whole, in the unit that shares are counted in.
const WHOLE: u64 = 1_000_000;
/// More partitions are a mistake: each is a label in the numbers.
const MOST: usize = 100;

stats! {
    /// What a partition has seen since it was made.
    PartitionStats from Counters {
        /// Calls let through.
        admitted,
        /// Those of them that were beyond the share, in room that others left.
        borrowed,
        /// Calls refused.
        refused,
    }
}

/// A limit on concurrency with a share for each kind of caller. Cheap to clone; clones are the same limit.
///
/// While fewer calls are in flight than the limit allows, everybody is let in. At the limit a call is let in only if its
/// partition has fewer in flight than its share of the limit, rounded up and at least one. What others have borrowed
/// meanwhile is not taken back, so at worst the shares are in flight on top of the limit. Callers of no partition share
/// one called [`UNKNOWN`], whose share is nothing.
///
/// ```
/// use perf_resilience::{Pass, adaptive::{Adaptive, Method}};
///
/// let limit = Adaptive::builder("search").method(Method::Fixed).initial(10);
/// let limit = limit.partitions([("live", 0.7), ("batch", 0.3)])?;
/// let (live, batch) = (limit.partition("live"), limit.partition("batch"));
/// assert_eq!((live.limit(), batch.limit()), (7, 3));
///
/// let borrowed: Vec<_> = (0..10).map(|_| Pass::enter(&batch).unwrap()).collect();
/// assert!(Pass::enter(&batch).is_err());
/// assert!(Pass::enter(&live).is_ok(), "its share is safe");
/// # drop(borrowed);
/// # Ok::<(), perf_core::InvalidConfig>(())
/// ```
#[derive(Clone, Debug)]
pub struct Partitioned(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: Adaptive,
    /// The named ones in their order, and the unknown one.
    parts: Box<[Part]>,
}

#[derive(Debug)]
struct Part {
    name: Name,
    /// What refusals call it: the limit and the partition.
    full_name: Name,
    /// Its share, in parts of [`WHOLE`]; `None` for the unknown one, which has none.
    share: Option<u64>,
    in_flight: AtomicU64,
    counters: Counters,
}

impl Part {
    /// Its share of so large a limit.
    fn share_of(&self, limit: u32) -> u64 {
        self.share.map_or(0, |share| (u64::from(limit) * share).div_ceil(WHOLE).max(1))
    }

    /// Takes a place within the share; gives what it met if there is none.
    fn try_enter(&self, share: u64) -> Result<(), u64> {
        let mut in_flight = self.in_flight.load(Ordering::Relaxed);
        while in_flight < share {
            match self.in_flight.compare_exchange_weak(
                in_flight,
                in_flight + 1,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(()),
                Err(seen) => in_flight = seen,
            }
        }
        Err(in_flight)
    }
}

impl AdaptiveBuilder {
    /// The limit, divided: a name and a share in `[0, 1]` for each partition, all shares together at most 1. A map read
    /// from a configuration file will do.
    ///
    /// # Errors
    /// As [`AdaptiveBuilder::build`], and for no partition or more than a hundred, two of one name, one called
    /// [`UNKNOWN`], or shares that cannot be.
    pub fn partitions<N: Into<Name>>(
        self,
        shares: impl IntoIterator<Item = (N, f64)>,
    ) -> Result<Partitioned, InvalidConfig> {
        let limit = self.build()?;
        let mut parts: Vec<Part> = Vec::new();
        let mut total = 0;
        for (name, share) in shares {
            let name = name.into();
            if !(0.0..=1.0).contains(&share) {
                return Err(InvalidConfig::new("partitions", format!("{name} = {share}"), "0 to 1"));
            }
            if name == UNKNOWN || parts.iter().any(|part| part.name == name) {
                return Err(InvalidConfig::new("partitions", name, "a name of its own"));
            }
            let share = (share * WHOLE as f64).round() as u64;
            total += share;
            parts.push(Part::new(&limit, name, Some(share)));
        }
        // Each share may have been rounded up.
        if total > WHOLE + parts.len() as u64 {
            let sum = total as f64 / WHOLE as f64;
            return Err(InvalidConfig::new("partitions", sum, "shares of at most 1 together"));
        }
        if !(1..=MOST).contains(&parts.len()) {
            return Err(InvalidConfig::new("partitions", parts.len(), format!("1 to {MOST}")));
        }
        parts.push(Part::new(&limit, Name::from_static(UNKNOWN), None));
        Ok(Partitioned(Arc::new(Inner { limit, parts: parts.into() })))
    }
}

impl Part {
    fn new(limit: &Adaptive, name: Name, share: Option<u64>) -> Self {
        let full_name = Name::from(format!("{}/{name}", limit.name()));
        Self { name, full_name, share, in_flight: AtomicU64::new(0), counters: Counters::default() }
    }
}

impl Partitioned {
    /// The limit that is divided.
    #[must_use]
    pub fn limit(&self) -> &Adaptive {
        &self.0.limit
    }

    /// The partition of this name, or [`UNKNOWN`]. Look it up once for each kind of caller, or for each call: nothing is
    /// allocated.
    #[must_use]
    pub fn partition(&self, name: &str) -> Partition {
        let found = self.0.parts.iter().position(|part| part.name.as_str() == name);
        self.at(found.unwrap_or(self.0.parts.len()))
    }

    /// The partition of this number, in the order they were named in from 0; beyond them [`UNKNOWN`].
    #[must_use]
    pub fn at(&self, index: usize) -> Partition {
        Partition { inner: self.0.clone(), index: index.min(self.0.parts.len() - 1) }
    }
}

/// What one kind of caller enters; made by [`Partitioned::partition`]. Use it as a gate of a pipeline, by hand
/// ([`Pass`](crate::Pass)) or as a tower layer. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Partition {
    inner: Arc<Inner>,
    index: usize,
}

impl Partition {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.part().name
    }

    /// How many calls it is sure of, at the present limit.
    #[must_use]
    pub fn limit(&self) -> u32 {
        u32::try_from(self.part().share_of(self.inner.limit.limit())).unwrap_or(u32::MAX)
    }

    /// How many calls it has in flight.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        u32::try_from(self.part().in_flight.load(Ordering::Relaxed)).unwrap_or(u32::MAX)
    }

    /// The totals so far.
    #[must_use]
    pub fn stats(&self) -> PartitionStats {
        self.part().counters.read()
    }

    fn part(&self) -> &Part {
        &self.inner.parts[self.index]
    }
}

impl Gate for Partition {
    fn enter(&self, _: &Now) -> Result<Token, Rejected> {
        let (whole, part) = (&*self.inner.limit.0, self.part());
        let share = part.share_of(self.inner.limit.limit());
        let in_flight = match part.try_enter(share) {
            // Within the share there is nothing to ask: the call is let in even if others have borrowed the room.
            Ok(()) => whole.enter_beyond(),
            Err(mine) => match whole.try_enter() {
                Ok(in_flight) => {
                    part.in_flight.fetch_add(1, Ordering::Relaxed);
                    part.counters.borrowed.increment();
                    in_flight
                }
                Err(_) => {
                    part.counters.refused.increment();
                    whole.counters.refused.increment();
                    let (observed, limit) = (mine as f64, share as f64);
                    let evidence = Evidence { what: "calls of its share in flight", observed, limit };
                    return Err(Rejected::new(Reason::Full, part.full_name.clone()).evidence(evidence));
                }
            },
        };
        part.counters.admitted.increment();
        whole.counters.admitted.increment();
        Ok(Token(u64::from(in_flight)))
    }

    fn leave(&self, token: Token, leaving: &Leaving<'_>) {
        self.part().in_flight.fetch_sub(1, Ordering::Relaxed);
        self.inner.limit.leave(token, leaving);
    }
}

const ADMITTED: Desc = Desc::counter(
    "perf_resilience_partition_admitted_total",
    "Calls of a partition let through",
    Unit::Count,
);
const BORROWED: Desc = Desc::counter(
    "perf_resilience_partition_borrowed_total",
    "Calls let through beyond the share of their partition",
    Unit::Count,
);
const REFUSED: Desc =
    Desc::counter("perf_resilience_partition_refused_total", "Calls of a partition refused", Unit::Count);
const LIMIT: Desc =
    Desc::gauge("perf_resilience_partition_limit", "Calls a partition is sure of", Unit::Count);
const IN_FLIGHT: Desc =
    Desc::gauge("perf_resilience_partition_in_flight", "Calls of a partition in flight", Unit::Count);

/// The numbers of the limit, and those of each partition.
impl Component for Partitioned {
    fn id(&self) -> ComponentId {
        self.0.limit.id()
    }

    fn collect(&self, sink: &mut dyn Sink) {
        self.0.limit.collect(sink);
        for index in 0..self.0.parts.len() {
            let partition = self.at(index);
            let labels = [("partition", partition.name().as_str())];
            let stats = partition.stats();
            sink.counter(&ADMITTED, &labels, stats.admitted);
            sink.counter(&BORROWED, &labels, stats.borrowed);
            sink.counter(&REFUSED, &labels, stats.refused);
            sink.gauge(&LIMIT, &labels, f64::from(partition.limit()));
            sink.gauge(&IN_FLIGHT, &labels, f64::from(partition.in_flight()));
        }
    }
}
