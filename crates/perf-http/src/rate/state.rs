use super::config::validate;
use super::fields::policy_field;
use super::table::{Place, Table};
use super::{DEFAULT_MAX_KEYS, Quota, RateLimitConfig, RateLimitLayer};
use crate::{Head, TrustedProxies};
use http::HeaderValue;
use perf_core::time::{self, Duration, Instant};
use perf_core::{
    Component, ComponentId, Counter, Desc, Evidence, InvalidConfig, Name, Reason, Rejected, Sink, Unit,
};
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

/// The families of series that [`RateLimit`] collects.
pub mod families {
    use super::{Desc, Unit};

    /// Requests let through.
    pub const ALLOWED: Desc =
        Desc::counter("perf_http_rate_allowed_total", "Requests within the rate limit", Unit::Count);
    /// Requests refused.
    pub const REFUSED: Desc =
        Desc::counter("perf_http_rate_refused_total", "Requests refused by the rate limit", Unit::Count);
    /// Clients forgotten early.
    pub const EVICTED: Desc = Desc::counter(
        "perf_http_rate_evicted_total",
        "Clients forgotten before their bucket was full, because the table was",
        Unit::Count,
    );
    /// Requests of nobody known.
    pub const UNKEYED: Desc = Desc::counter(
        "perf_http_rate_unkeyed_total",
        "Requests whose client could not be told: they share one bucket",
        Unit::Count,
    );
    /// Clients with a bucket that is not full.
    pub const KEYS: Desc =
        Desc::gauge("perf_http_rate_keys", "Clients whose bucket is not full", Unit::Count);

    /// All of them.
    pub const ALL: [Desc; 5] = [ALLOWED, REFUSED, EVICTED, UNKEYED, KEYS];
}

/// A client, as the limiter tells it apart: an address, or the hash of whatever else names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RateKey(u64);

impl RateKey {
    /// All whose client cannot be told.
    pub const UNKNOWN: Self = Self(u64::MAX);

    /// An IPv4 address, or the /64 of an IPv6 address: one customer usually has at least that many.
    #[must_use]
    pub fn address(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(u64::from(address.to_bits())),
            // The upper half is the network. It meets an IPv4 address only in 0::/32, which nobody owns.
            IpAddr::V6(address) => Self((address.to_bits() >> 64) as u64),
        }
    }
}

type Extract = Arc<dyn Fn(Head<'_>) -> Option<RateKey> + Send + Sync>;
type Cost = Arc<dyn Fn(Head<'_>) -> u32 + Send + Sync>;

/// How the client of a request is told.
#[derive(Clone)]
#[must_use]
pub struct Key(Extract);

impl Key {
    /// By the address of the connection, IPv6 by /64. The default.
    pub fn peer() -> Self {
        Self::behind(TrustedProxies::default())
    }

    /// By the address that trusted proxies vouch for in `X-Forwarded-For`.
    pub fn behind(proxies: TrustedProxies) -> Self {
        Self(Arc::new(move |head| proxies.client_of(head).map(RateKey::address)))
    }

    /// By anything that can be hashed: an API key, a tenant. `None` is a client that cannot be told; those share a bucket.
    ///
    /// Keys are told apart by a seeded 64-bit hash: two of a million clients share a bucket with odds of 1 in 37 million.
    pub fn from_fn<K: Hash>(extract: impl Fn(Head<'_>) -> Option<K> + Send + Sync + 'static) -> Self {
        let state = RandomState::new();
        Self(Arc::new(move |head| extract(head).map(|key| RateKey(state.hash_one(key)))))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// What the limiter says to one request, seen from its most restrictive quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    pub(super) allowed: bool,
    pub(super) quota: usize,
    pub(super) remaining: u32,
    pub(super) wait: Duration,
}

impl Decision {
    /// Whether the request may pass.
    #[must_use]
    pub const fn is_allowed(&self) -> bool {
        self.allowed
    }

    /// Whole units left in the most restrictive quota.
    #[must_use]
    pub const fn remaining(&self) -> u32 {
        self.remaining
    }

    /// Refused: when the same request would pass. Allowed: when the next unit comes back.
    #[must_use]
    pub const fn wait(&self) -> Duration {
        self.wait
    }
}

#[derive(Debug)]
pub(super) struct Limit {
    nanos_per_unit: u64,
    nanos_to_fill: u64,
}

impl Limit {
    fn new(quota: &Quota) -> Self {
        Self { nanos_per_unit: quota.nanos_per_unit(), nanos_to_fill: quota.nanos_to_fill() }
    }

    /// The arrival time after taking `cost` units at `now`, or how long it is too early (GCRA, ITU-T I.371).
    fn take(&self, arrival: u64, cost: u32, now: u64) -> Result<u64, u64> {
        let after = arrival.max(now).saturating_add(self.nanos_per_unit.saturating_mul(u64::from(cost)));
        let allowed_until = now.saturating_add(self.nanos_to_fill);
        if after <= allowed_until { Ok(after) } else { Err(after - allowed_until) }
    }

    /// Whole units left, and the time until one more is there.
    fn left(&self, arrival: u64, now: u64) -> (u32, u64) {
        let owed = arrival.saturating_sub(now);
        let room = self.nanos_to_fill.saturating_sub(owed);
        let units = room / self.nanos_per_unit.max(1);
        let next = ((units + 1) * self.nanos_per_unit).saturating_sub(room).min(owed);
        (u32::try_from(units).unwrap_or(u32::MAX), next)
    }
}

/// Decides for all quotas at once: either every one of them is charged, or none.
fn decide(limits: &[Limit], arrivals: &mut [u64], cost: u32, now: u64) -> Decision {
    let mut after = [0_u64; super::MAX_QUOTAS];
    let mut refused: Option<(usize, u64)> = None;
    for (index, (limit, arrival)) in limits.iter().zip(arrivals.iter()).enumerate() {
        match limit.take(*arrival, cost, now) {
            Ok(at) => after[index] = at,
            Err(wait) if refused.is_none_or(|(_, longest)| wait > longest) => refused = Some((index, wait)),
            Err(_) => {}
        }
    }
    if let Some((quota, wait)) = refused {
        let (remaining, _) = limits[quota].left(arrivals[quota], now);
        return Decision { allowed: false, quota, remaining, wait: Duration::from_nanos(wait) };
    }
    arrivals.copy_from_slice(&after[..arrivals.len()]);
    let left = limits.iter().zip(arrivals.iter()).map(|(limit, arrival)| limit.left(*arrival, now));
    let tightest = left.enumerate().min_by_key(|(_, (units, _))| *units);
    let (quota, (remaining, next)) = tightest.unwrap_or((0, (u32::MAX, 0)));
    Decision { allowed: true, quota, remaining, wait: Duration::from_nanos(next) }
}

struct Shared {
    name: Name,
    quotas: Vec<Quota>,
    limits: Vec<Limit>,
    key: Key,
    cost: Option<Cost>,
    table: Table,
    epoch: Instant,
    policy: HeaderValue,
    allowed: Counter,
    refused: Counter,
    evicted: Counter,
    unkeyed: Counter,
}

/// A rate limit by client. Cheap to clone; clones share the buckets.
///
/// | family | meaning |
/// |---|---|
/// | `perf_http_rate_allowed_total` | requests let through |
/// | `perf_http_rate_refused_total` | requests refused |
/// | `perf_http_rate_evicted_total` | clients forgotten before their bucket was full |
/// | `perf_http_rate_unkeyed_total` | requests whose client could not be told |
/// | `perf_http_rate_keys` | clients whose bucket is not full |
///
/// ```
/// use perf_http::rate::{Quota, RateKey, RateLimit};
///
/// let limit = RateLimit::builder("api").quota(Quota::per_second(1).burst(2)).build().unwrap();
/// let now = perf_core::time::now();
/// let client = RateKey::address("192.0.2.1".parse().unwrap());
/// assert!(limit.check(client, 1, now).is_allowed());
/// assert!(limit.check(client, 1, now).is_allowed());
/// let refused = limit.check(client, 1, now);
/// assert!(!refused.is_allowed());
/// assert_eq!(refused.wait(), std::time::Duration::from_secs(1));
/// ```
#[derive(Clone)]
pub struct RateLimit(Arc<Shared>);

impl RateLimit {
    /// A limit without quotas yet.
    pub fn builder(name: impl Into<Name>) -> RateLimitBuilder {
        RateLimitBuilder {
            name: name.into(),
            quotas: Vec::new(),
            max_keys: DEFAULT_MAX_KEYS,
            key: Key::peer(),
            cost: None,
        }
    }

    /// Charges `cost` units to `key`, if it has them in every quota. With a cost of 0 it only asks.
    #[must_use]
    pub fn check(&self, key: RateKey, cost: u32, now: Instant) -> Decision {
        let shared = &*self.0;
        // One later than the epoch, so that the zero of an unused slot is always in the past.
        let nanos = now.saturating_duration_since(shared.epoch).as_nanos();
        let now = u64::try_from(nanos).unwrap_or(u64::MAX / 2).saturating_add(1);
        let decide = |arrivals: &mut [u64]| decide(&shared.limits, arrivals, cost, now);
        let (decision, place) = shared.table.with(key.0, now, decide);
        if decision.allowed { &shared.allowed } else { &shared.refused }.increment();
        if place == Place::Evicted {
            shared.evicted.increment();
        }
        decision
    }

    /// The same for a request: tells its client and cost, and reads the clock.
    #[must_use]
    pub fn check_request(&self, head: Head<'_>) -> Decision {
        let shared = &*self.0;
        let key = (shared.key.0)(head).unwrap_or_else(|| {
            shared.unkeyed.increment();
            RateKey::UNKNOWN
        });
        let cost = shared.cost.as_ref().map_or(1, |cost| cost(head));
        self.check(key, cost, time::now())
    }

    /// The refusal that a decision stands for.
    #[must_use]
    pub fn rejected(&self, decision: &Decision) -> Rejected {
        let limit = f64::from(self.quota(decision).burst);
        let evidence = Evidence { what: "units left", observed: f64::from(decision.remaining), limit };
        Rejected::new(Reason::RateLimited, self.0.name.clone()).retry_after(decision.wait).evidence(evidence)
    }

    /// The layer that limits: 429 with `Retry-After`, `RateLimit`, `RateLimit-Policy` and problem+json.
    #[must_use]
    pub fn layer(&self) -> RateLimitLayer {
        RateLimitLayer::new(self.clone())
    }

    /// Totals so far.
    #[must_use]
    pub fn stats(&self) -> RateLimitStats {
        let Shared { allowed, refused, evicted, unkeyed, .. } = &*self.0;
        RateLimitStats {
            allowed: allowed.get(),
            refused: refused.get(),
            evicted: evicted.get(),
            unkeyed: unkeyed.get(),
        }
    }

    pub(super) fn quota(&self, decision: &Decision) -> &Quota {
        &self.0.quotas[decision.quota]
    }

    pub(super) fn policy(&self) -> &HeaderValue {
        &self.0.policy
    }
}

impl Component for RateLimit {
    fn id(&self) -> ComponentId {
        ComponentId::new("rate-limit", self.0.name.clone())
    }

    fn collect(&self, sink: &mut dyn Sink) {
        let RateLimitStats { allowed, refused, evicted, unkeyed } = self.stats();
        sink.counter(&families::ALLOWED, &[], allowed);
        sink.counter(&families::REFUSED, &[], refused);
        sink.counter(&families::EVICTED, &[], evicted);
        sink.counter(&families::UNKEYED, &[], unkeyed);
        let nanos = time::now().saturating_duration_since(self.0.epoch).as_nanos();
        let active = self.0.table.active(u64::try_from(nanos).unwrap_or(u64::MAX));
        sink.gauge(&families::KEYS, &[], active as f64);
    }
}

impl fmt::Debug for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit")
            .field("name", &self.0.name)
            .field("quotas", &self.0.quotas)
            .finish_non_exhaustive()
    }
}

/// Settings of a [`RateLimit`].
#[derive(Clone)]
#[must_use]
pub struct RateLimitBuilder {
    name: Name,
    quotas: Vec<Quota>,
    max_keys: usize,
    key: Key,
    cost: Option<Cost>,
}

impl RateLimitBuilder {
    /// Takes over what a configuration file says.
    ///
    /// # Errors
    /// [`InvalidConfig`] when a trusted proxy is neither an address nor a block.
    pub fn config(mut self, config: &RateLimitConfig) -> Result<Self, InvalidConfig> {
        let proxies = TrustedProxies::parse(config.trusted_proxies.iter().map(String::as_str))?;
        self.quotas = config.quotas.iter().map(Quota::from).collect();
        self.max_keys = config.max_keys;
        self.key = Key::behind(proxies);
        Ok(self)
    }

    /// Adds a quota. All of them apply to every client; at most [`MAX_QUOTAS`](super::MAX_QUOTAS).
    pub fn quota(mut self, quota: Quota) -> Self {
        self.quotas.push(quota);
        self
    }

    /// How the client of a request is told; by the address of its connection unless said otherwise.
    pub fn key(mut self, key: Key) -> Self {
        self.key = key;
        self
    }

    /// What a request costs; 1 unless said otherwise. A request that costs 0 always passes.
    pub fn cost(mut self, cost: impl Fn(Head<'_>) -> u32 + Send + Sync + 'static) -> Self {
        self.cost = Some(Arc::new(cost));
        self
    }

    /// How many clients are told apart; [`DEFAULT_MAX_KEYS`] unless said otherwise.
    pub const fn max_keys(mut self, limit: usize) -> Self {
        self.max_keys = limit;
        self
    }

    /// Makes the limit. Its memory is taken here: with one quota 48 bytes for each of `max_keys`, 24 more
    /// for each other.
    ///
    /// # Errors
    /// [`InvalidConfig`] when there is no quota, or a value is outside its range.
    pub fn build(self) -> Result<RateLimit, InvalidConfig> {
        validate(&self.quotas, self.max_keys)?;
        if self.quotas.is_empty() {
            return Err(InvalidConfig::new("quotas", 0, "at least 1"));
        }
        Ok(RateLimit(Arc::new(Shared {
            limits: self.quotas.iter().map(Limit::new).collect(),
            table: Table::new(self.max_keys, self.quotas.len()),
            policy: policy_field(&self.quotas)?,
            name: self.name,
            quotas: self.quotas,
            key: self.key,
            cost: self.cost,
            epoch: time::now(),
            allowed: Counter::new(),
            refused: Counter::new(),
            evicted: Counter::new(),
            unkeyed: Counter::new(),
        })))
    }
}

impl fmt::Debug for RateLimitBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitBuilder")
            .field("name", &self.name)
            .field("quotas", &self.quotas)
            .finish_non_exhaustive()
    }
}

/// Totals of a [`RateLimit`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateLimitStats {
    /// Requests let through.
    pub allowed: u64,
    /// Requests refused.
    pub refused: u64,
    /// Clients forgotten before their bucket was full.
    pub evicted: u64,
    /// Requests whose client could not be told.
    pub unkeyed: u64,
}

impl RateLimitStats {
    /// What came since `earlier`.
    #[must_use]
    pub const fn since(&self, earlier: &Self) -> Self {
        let Self { allowed, refused, evicted, unkeyed } = *self;
        Self {
            allowed: allowed.saturating_sub(earlier.allowed),
            refused: refused.saturating_sub(earlier.refused),
            evicted: evicted.saturating_sub(earlier.evicted),
            unkeyed: unkeyed.saturating_sub(earlier.unkeyed),
        }
    }
}

#[cfg(test)]
mod tests;
