//! What a cache counts, and how its numbers leave it.

use crate::engine::LaneCounter;
use crate::memory::Levels;
use crate::observe::{CurvePoint, ShadowNumbers};
use crate::remote::Remote;
use perf_core::{Counter, Desc, Histogram, Sink, Unit};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The counters of one cache. Hot paths touch nothing but these.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    pub(crate) hits: LaneCounter,
    pub(crate) stale: Counter,
    pub(crate) stale_timeout: Counter,
    pub(crate) stale_error: Counter,
    pub(crate) errors_served: Counter,
    pub(crate) nothing: Counter,
    pub(crate) misses: Counter,
    pub(crate) joined: Counter,
    /// Misses that the second tier had the value of.
    pub(crate) filled: Counter,
    pub(crate) loaded: Counter,
    pub(crate) missing: Counter,
    pub(crate) failed: Counter,
    pub(crate) panicked: Counter,
    pub(crate) abandoned: Counter,
    pub(crate) superseded: Counter,
    pub(crate) held: Counter,
    /// Loads that failed since the last one that did not.
    pub(crate) failing: AtomicU64,
    pub(crate) refreshes: Counter,
    pub(crate) refused: Counter,
    pub(crate) shed: Counter,
    pub(crate) timeouts: Counter,
    pub(crate) oversized: Counter,
    pub(crate) invalidated: Counter,
    pub(crate) shadow: ShadowNumbers,
    pub(crate) load_time: Histogram,
    /// The greatest estimate so far: a total must not fall when the mean does.
    saved_nanos: AtomicU64,
}

/// A snapshot of what a cache has done since it was made. All totals are monotone.
///
/// ```
/// # use perf_cache::{Cache, CacheSpace};
/// let users: Cache<u64, String> = CacheSpace::in_process("shop").cache("users").build().unwrap();
/// let before = users.stats();
/// users.get(&1);
/// assert_eq!(users.stats().since(&before).misses, 1);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Reads answered with a fresh value.
    pub hits: u64,
    /// Reads answered at once with a stale value, while a refresh runs or, after a failure, until the next attempt.
    pub stale: u64,
    /// Misses answered with a stale value because the load was late.
    pub stale_timeout: u64,
    /// Misses answered with a stale value because the load failed.
    pub stale_error: u64,
    /// Misses answered with a remembered error.
    pub errors_served: u64,
    /// Reads answered with the knowledge that there is nothing.
    pub nothing: u64,
    /// Reads that found nothing usable.
    pub misses: u64,
    /// Misses that joined a load already running.
    pub joined: u64,
    /// Misses answered from the second tier, without a load.
    pub filled: u64,
    /// Loads that gave a value.
    pub loaded: u64,
    /// Loads that found nothing.
    pub missing: u64,
    /// Loads that failed.
    pub failed: u64,
    /// Loads that panicked.
    pub panicked: u64,
    /// Loads dropped because they hung, or because the runtime ended.
    pub abandoned: u64,
    /// Loads overtaken by an invalidation: their values were returned but not kept.
    pub superseded: u64,
    /// Loads whose values were returned but not kept because of a hold-off.
    pub held: u64,
    /// Loads that failed since the last one that did not.
    pub failing: u64,
    /// Loads started in the background for a value that was still there.
    pub refreshes: u64,
    /// Loads refused because too many were running.
    pub refused: u64,
    /// Refreshes and other loads nobody waited for that were refused because places were scarce.
    pub shed: u64,
    /// Callers that stopped waiting for a load.
    pub timeouts: u64,
    /// Values not kept because they were too large.
    pub oversized: u64,
    /// Entries evicted for room.
    pub evicted: u64,
    /// Entries dropped because they were of no use any more.
    pub expired: u64,
    /// Invalidations asked for: keys and clears.
    pub invalidated: u64,
    /// Entries held.
    pub entries: u64,
    /// Entries held that remember that there is nothing.
    pub negative: u64,
    /// Their weight, in the unit of the capacity.
    pub weight: u64,
    /// Loader time that hits saved: each hit counts as the mean time of a load.
    pub saved: Duration,
    /// Bytes that hits gave from memory, estimated: from one in 256 where reads are sampled, or else from the mean weight of
    /// what is held. 0 when the capacity counts entries.
    pub saved_bytes: u64,
    /// Hits whose value was loaded again and was the same.
    pub verified: u64,
    /// Hits whose value was loaded again and was another: an invalidation is missing.
    pub different: u64,
}

impl CacheStats {
    /// What happened after `earlier`; the levels (`entries`, `negative`, `weight`, `failing`) are the present ones.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            hits: self.hits.saturating_sub(earlier.hits),
            stale: self.stale.saturating_sub(earlier.stale),
            stale_timeout: self.stale_timeout.saturating_sub(earlier.stale_timeout),
            stale_error: self.stale_error.saturating_sub(earlier.stale_error),
            errors_served: self.errors_served.saturating_sub(earlier.errors_served),
            nothing: self.nothing.saturating_sub(earlier.nothing),
            misses: self.misses.saturating_sub(earlier.misses),
            joined: self.joined.saturating_sub(earlier.joined),
            filled: self.filled.saturating_sub(earlier.filled),
            loaded: self.loaded.saturating_sub(earlier.loaded),
            missing: self.missing.saturating_sub(earlier.missing),
            failed: self.failed.saturating_sub(earlier.failed),
            panicked: self.panicked.saturating_sub(earlier.panicked),
            abandoned: self.abandoned.saturating_sub(earlier.abandoned),
            superseded: self.superseded.saturating_sub(earlier.superseded),
            held: self.held.saturating_sub(earlier.held),
            failing: self.failing,
            refreshes: self.refreshes.saturating_sub(earlier.refreshes),
            refused: self.refused.saturating_sub(earlier.refused),
            shed: self.shed.saturating_sub(earlier.shed),
            timeouts: self.timeouts.saturating_sub(earlier.timeouts),
            oversized: self.oversized.saturating_sub(earlier.oversized),
            evicted: self.evicted.saturating_sub(earlier.evicted),
            expired: self.expired.saturating_sub(earlier.expired),
            invalidated: self.invalidated.saturating_sub(earlier.invalidated),
            entries: self.entries,
            negative: self.negative,
            weight: self.weight,
            saved: self.saved.saturating_sub(earlier.saved),
            saved_bytes: self.saved_bytes.saturating_sub(earlier.saved_bytes),
            verified: self.verified.saturating_sub(earlier.verified),
            different: self.different.saturating_sub(earlier.different),
        }
    }

    /// Share of reads answered without waiting for a load, in [0, 1]; `None` before the first read.
    #[must_use]
    pub fn hit_ratio(&self) -> Option<f64> {
        let answered = self.hits + self.stale + self.nothing;
        let reads = answered + self.misses;
        (reads > 0).then(|| answered as f64 / reads as f64)
    }
}

const READS: Desc = Desc::counter("perf_cache_reads_total", "Reads, by what they found", Unit::Count);
const JOINED: Desc =
    Desc::counter("perf_cache_joined_total", "Misses that joined a load already running", Unit::Count);
const FILLED: Desc =
    Desc::counter("perf_cache_filled_total", "Misses answered from the second tier", Unit::Count);
const LOADS: Desc = Desc::counter("perf_cache_loads_total", "Loads, by how they ended", Unit::Count);
const REFRESHES: Desc =
    Desc::counter("perf_cache_refreshes_total", "Loads started in the background", Unit::Count);
const REFUSED: Desc =
    Desc::counter("perf_cache_refused_total", "Loads refused because too many were running", Unit::Count);
const STALE: Desc = Desc::counter("perf_cache_stale_total", "Stale values served, by reason", Unit::Count);
const ERRORS_SERVED: Desc =
    Desc::counter("perf_cache_errors_served_total", "Misses answered with a remembered error", Unit::Count);
const NEGATIVE: Desc = Desc::gauge(
    "perf_cache_negative_entries",
    "Entries held that remember that there is nothing",
    Unit::Count,
);
const FAILING: Desc =
    Desc::gauge("perf_cache_failing_loads", "Loads that failed since the last that did not", Unit::Count);
const TIMEOUTS: Desc =
    Desc::counter("perf_cache_timeouts_total", "Callers that stopped waiting for a load", Unit::Count);
const OVERSIZED: Desc =
    Desc::counter("perf_cache_oversized_total", "Values too large to be kept", Unit::Count);
const EVICTIONS: Desc = Desc::counter("perf_cache_evictions_total", "Entries dropped, by cause", Unit::Count);
const INVALIDATIONS: Desc =
    Desc::counter("perf_cache_invalidations_total", "Keys invalidated and clears", Unit::Count);
const SAVED: Desc =
    Desc::counter("perf_cache_saved_seconds_total", "Loader time that hits saved", Unit::Seconds);
const LOAD_TIME: Desc = Desc::histogram("perf_cache_load_seconds", "Time that loads took", Unit::Seconds);
const ENTRIES: Desc = Desc::gauge("perf_cache_entries", "Entries held", Unit::Count);
const WEIGHT: Desc =
    Desc::gauge("perf_cache_weight", "Weight held, in the unit of the capacity", Unit::Count);
const CAPACITY: Desc = Desc::gauge("perf_cache_capacity", "Weight that may be held", Unit::Count);

const SAVED_BYTES: Desc =
    Desc::counter("perf_cache_saved_bytes_total", "Bytes that hits gave from memory, estimated", Unit::Bytes);
const SHADOW: Desc =
    Desc::counter("perf_cache_shadow_total", "Hits loaded again to verify them, by result", Unit::Count);
const CURVE: Desc = Desc::gauge(
    "perf_cache_curve_hit_ratio",
    "What the hit ratio would be at a multiple of the capacity",
    Unit::Ratio,
);
const HOT: Desc = Desc::gauge(
    "perf_cache_hot_keys_ratio",
    "Share of the reads that the ten hottest keys have",
    Unit::Ratio,
);

/// What observation has to say. The curve is there from the first scrape on, at zero while nothing is known.
pub(crate) fn collect_observed(curve: &[CurvePoint], hot: f64, sink: &mut dyn Sink) {
    for (at, factor) in ["0.5", "1", "2", "4"].into_iter().enumerate() {
        let ratio = curve.get(at).map_or(0.0, |point| point.hit_ratio);
        sink.gauge(&CURVE, &[("factor", factor)], ratio);
    }
    sink.gauge(&HOT, &[], hot);
}

impl Numbers {
    /// Reads so far.
    pub(crate) fn reads(&self) -> u64 {
        self.hits.get() + self.stale.get() + self.nothing.get() + self.misses.get()
    }

    pub(crate) fn snapshot(&self, levels: Levels, saved_bytes: u64) -> CacheStats {
        let Levels { entries, nothing, weight, evicted, expired } = levels;
        CacheStats {
            hits: self.hits.get(),
            stale: self.stale.get(),
            stale_timeout: self.stale_timeout.get(),
            stale_error: self.stale_error.get(),
            errors_served: self.errors_served.get(),
            nothing: self.nothing.get(),
            misses: self.misses.get(),
            joined: self.joined.get(),
            filled: self.filled.get(),
            loaded: self.loaded.get(),
            missing: self.missing.get(),
            failed: self.failed.get(),
            panicked: self.panicked.get(),
            abandoned: self.abandoned.get(),
            superseded: self.superseded.get(),
            held: self.held.get(),
            failing: self.failing.load(Ordering::Relaxed),
            refreshes: self.refreshes.get(),
            refused: self.refused.get(),
            shed: self.shed.get(),
            timeouts: self.timeouts.get(),
            oversized: self.oversized.get(),
            evicted,
            expired,
            invalidated: self.invalidated.get(),
            entries,
            negative: nothing,
            weight,
            saved: self.saved(),
            saved_bytes,
            verified: self.shadow.same.get(),
            different: self.shadow.different.get(),
        }
    }

    /// An estimate, so that a hit has nothing more to count than itself.
    fn saved(&self) -> Duration {
        let mean = self.load_time.snapshot().mean().unwrap_or(0.0);
        let hits = self.hits.get() + self.stale.get();
        let estimate = (mean * hits as f64 * 1e9) as u64;
        Duration::from_nanos(self.saved_nanos.fetch_max(estimate, Ordering::Relaxed).max(estimate))
    }

    pub(crate) fn collect(&self, stats: &CacheStats, capacity: u64, sink: &mut dyn Sink) {
        for (result, total) in
            [("hit", stats.hits), ("stale", stats.stale), ("nothing", stats.nothing), ("miss", stats.misses)]
        {
            sink.counter(&READS, &[("result", result)], total);
        }
        for (result, total) in [
            ("ok", stats.loaded),
            ("missing", stats.missing),
            ("error", stats.failed),
            ("panic", stats.panicked),
            ("abandoned", stats.abandoned),
            ("superseded", stats.superseded),
            ("held", stats.held),
        ] {
            sink.counter(&LOADS, &[("result", result)], total);
        }
        for (reason, total) in
            [("revalidate", stats.stale), ("timeout", stats.stale_timeout), ("error", stats.stale_error)]
        {
            sink.counter(&STALE, &[("reason", reason)], total);
        }
        for (kind, total) in [("asked", stats.refused), ("unasked", stats.shed)] {
            sink.counter(&REFUSED, &[("kind", kind)], total);
        }
        for (cause, total) in [("room", stats.evicted), ("expired", stats.expired)] {
            sink.counter(&EVICTIONS, &[("cause", cause)], total);
        }
        for (desc, total) in [
            (&JOINED, stats.joined),
            (&FILLED, stats.filled),
            (&REFRESHES, stats.refreshes),
            (&ERRORS_SERVED, stats.errors_served),
            (&TIMEOUTS, stats.timeouts),
            (&OVERSIZED, stats.oversized),
            (&INVALIDATIONS, stats.invalidated),
        ] {
            sink.counter(desc, &[], total);
        }
        for (result, total) in [
            ("same", self.shadow.same.get()),
            ("different", self.shadow.different.get()),
            ("failed", self.shadow.failed.get()),
            ("skipped", self.shadow.skipped.get()),
            ("overtaken", self.shadow.overtaken.get()),
        ] {
            sink.counter(&SHADOW, &[("result", result)], total);
        }
        sink.counter(&SAVED_BYTES, &[], stats.saved_bytes);
        sink.seconds(&SAVED, &[], stats.saved);
        sink.histogram(&LOAD_TIME, &[], &self.load_time);
        sink.gauge(&ENTRIES, &[], stats.entries as f64);
        sink.gauge(&NEGATIVE, &[], stats.negative as f64);
        sink.gauge(&FAILING, &[], stats.failing as f64);
        sink.gauge(&WEIGHT, &[], stats.weight as f64);
        sink.gauge(&CAPACITY, &[], capacity as f64);
    }
}

/// What the second tier and the log of a space have done. All totals are monotone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpaceStats {
    /// Values that the second tier had and that were valid.
    pub hits: u64,
    /// Values that the second tier did not have.
    pub misses: u64,
    /// Reads of the second tier that failed or took too long.
    pub errors: u64,
    /// Calls to the second tier that the guard refused.
    pub skipped: u64,
    /// Bytes from the second tier that were not exactly ours.
    pub refused: u64,
    /// Values from the second tier that were invalidated after they were loaded.
    pub outdated: u64,
    /// Values written to the second tier.
    pub written: u64,
    /// Writes to the second tier that failed or took too long.
    pub write_errors: u64,
    /// Values that could not be encoded or were too large for the second tier.
    pub unencodable: u64,
    /// Bytes of values read from the second tier, as they travelled.
    pub bytes_read: u64,
    /// Bytes of values written to the second tier, before compression.
    pub bytes_raw: u64,
    /// The same as they travelled, compressed and with their envelopes.
    pub bytes_written: u64,
    /// Dictionaries trained for compression.
    pub dictionaries: u64,
    /// Leases taken.
    pub leases: u64,
    /// Loads that waited for the value of another node.
    pub lease_waits: u64,
    /// Values not written because the lease they were loaded under had ended.
    pub lease_refusals: u64,
    /// Records of the log that were applied.
    pub applied: u64,
    /// Times that records of the log may have been lost, and everything was loaded again.
    pub gaps: u64,
    /// Fences sent to the log.
    pub published: u64,
    /// Attempts to send fences that failed.
    pub publish_errors: u64,
    /// Fences that wait to be sent.
    pub waiting: u64,
}

const REMOTE_READS: Desc =
    Desc::counter("perf_cache_remote_reads_total", "Reads of the second tier, by result", Unit::Count);
const REMOTE_WRITES: Desc =
    Desc::counter("perf_cache_remote_writes_total", "Writes to the second tier, by result", Unit::Count);
const REMOTE_BYTES: Desc = Desc::counter(
    "perf_cache_remote_bytes_total",
    "Bytes of values to and from the second tier",
    Unit::Bytes,
);
const DICTIONARIES: Desc = Desc::counter(
    "perf_cache_remote_dictionaries_total",
    "Dictionaries trained for compression",
    Unit::Count,
);
const LEASES: Desc = Desc::counter(
    "perf_cache_remote_leases_total",
    "Leases between nodes, by what came of them",
    Unit::Count,
);
const LOG_APPLIED: Desc =
    Desc::counter("perf_cache_log_applied_total", "Records of the invalidation log applied", Unit::Count);
const LOG_GAPS: Desc =
    Desc::counter("perf_cache_log_gaps_total", "Times that records may have been lost", Unit::Count);
const LOG_LAG: Desc = Desc::histogram(
    "perf_cache_log_lag_seconds",
    "Time from an invalidation until this node has read it back from the log",
    Unit::Seconds,
);
const LOG_PUBLISHED: Desc =
    Desc::counter("perf_cache_log_published_total", "Fences sent, by result", Unit::Count);
const LOG_WAITING: Desc = Desc::gauge("perf_cache_log_waiting", "Fences that wait to be sent", Unit::Count);
const COHERENT: Desc = Desc::gauge("perf_cache_coherent", "Whether the log is followed, 1 or 0", Unit::Count);

impl SpaceStats {
    pub(crate) fn of(remote: &Remote) -> Self {
        let numbers = &remote.numbers;
        Self {
            hits: numbers.hits.get(),
            misses: numbers.misses.get(),
            errors: numbers.errors.get(),
            skipped: numbers.skipped.get(),
            refused: numbers.refused.get(),
            outdated: numbers.outdated.get(),
            written: numbers.written.get(),
            write_errors: numbers.write_errors.get(),
            unencodable: numbers.unencodable.get(),
            bytes_read: numbers.bytes_read.get(),
            bytes_raw: numbers.bytes_raw.get(),
            bytes_written: numbers.bytes_written.get(),
            dictionaries: numbers.dictionaries.get(),
            leases: numbers.leases.get(),
            lease_waits: numbers.lease_waits.get(),
            lease_refusals: numbers.lease_refusals.get(),
            applied: numbers.applied.get(),
            gaps: numbers.gaps.get(),
            published: numbers.published.get(),
            publish_errors: numbers.publish_errors.get(),
            waiting: remote.outbox.len() as u64,
        }
    }

    /// What happened after `earlier`; the level `waiting` is the present one.
    #[must_use]
    pub const fn since(&self, earlier: &Self) -> Self {
        Self {
            hits: self.hits.saturating_sub(earlier.hits),
            misses: self.misses.saturating_sub(earlier.misses),
            errors: self.errors.saturating_sub(earlier.errors),
            skipped: self.skipped.saturating_sub(earlier.skipped),
            refused: self.refused.saturating_sub(earlier.refused),
            outdated: self.outdated.saturating_sub(earlier.outdated),
            written: self.written.saturating_sub(earlier.written),
            write_errors: self.write_errors.saturating_sub(earlier.write_errors),
            unencodable: self.unencodable.saturating_sub(earlier.unencodable),
            bytes_read: self.bytes_read.saturating_sub(earlier.bytes_read),
            bytes_raw: self.bytes_raw.saturating_sub(earlier.bytes_raw),
            bytes_written: self.bytes_written.saturating_sub(earlier.bytes_written),
            dictionaries: self.dictionaries.saturating_sub(earlier.dictionaries),
            leases: self.leases.saturating_sub(earlier.leases),
            lease_waits: self.lease_waits.saturating_sub(earlier.lease_waits),
            lease_refusals: self.lease_refusals.saturating_sub(earlier.lease_refusals),
            applied: self.applied.saturating_sub(earlier.applied),
            gaps: self.gaps.saturating_sub(earlier.gaps),
            published: self.published.saturating_sub(earlier.published),
            publish_errors: self.publish_errors.saturating_sub(earlier.publish_errors),
            waiting: self.waiting,
        }
    }

    pub(crate) fn collect(&self, coherent: bool, lag: &Histogram, sink: &mut dyn Sink) {
        for (result, total) in [
            ("hit", self.hits),
            ("miss", self.misses),
            ("error", self.errors),
            ("skipped", self.skipped),
            ("refused", self.refused),
            ("outdated", self.outdated),
        ] {
            sink.counter(&REMOTE_READS, &[("result", result)], total);
        }
        for (result, total) in
            [("ok", self.written), ("error", self.write_errors), ("unencodable", self.unencodable)]
        {
            sink.counter(&REMOTE_WRITES, &[("result", result)], total);
        }
        for (result, total) in [("ok", self.published), ("error", self.publish_errors)] {
            sink.counter(&LOG_PUBLISHED, &[("result", result)], total);
        }
        for (way, total) in
            [("read", self.bytes_read), ("raw", self.bytes_raw), ("written", self.bytes_written)]
        {
            sink.counter(&REMOTE_BYTES, &[("way", way)], total);
        }
        for (result, total) in
            [("taken", self.leases), ("waited", self.lease_waits), ("refused", self.lease_refusals)]
        {
            sink.counter(&LEASES, &[("result", result)], total);
        }
        sink.counter(&DICTIONARIES, &[], self.dictionaries);
        sink.counter(&LOG_APPLIED, &[], self.applied);
        sink.counter(&LOG_GAPS, &[], self.gaps);
        sink.histogram(&LOG_LAG, &[], lag);
        sink.gauge(&LOG_WAITING, &[], self.waiting as f64);
        sink.gauge(&COHERENT, &[], f64::from(u8::from(coherent)));
    }
}
