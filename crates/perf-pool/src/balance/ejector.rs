use perf_core::time::{Duration, Instant};
use perf_core::{Backoff, InvalidConfig, Jitter};

/// When an endpoint is taken out, and for how long. The defaults are those of gRPC (proposal A50).
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct EjectorConfig {
    /// How often success rates are compared: 10 s.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub interval: Duration,
    /// The first ejection lasts this long, the n-th in a row n times: 30 s.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub base: Duration,
    /// No ejection lasts longer: 300 s.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub cap: Duration,
    /// Share of the endpoints ejected at most, though always one: 0.1.
    pub most: f64,
    /// Standard deviations below the mean success rate: 1.9.
    pub deviations: f64,
    /// Calls an endpoint needs in an interval to be compared: 100.
    pub volume: u64,
    /// Endpoints with that many calls needed for a comparison: 5.
    pub hosts: usize,
    /// Share of failures that ejects by itself: 0.85, from 50 calls on.
    pub failure_share: f64,
    /// Failures in a row that eject at once: 5.
    pub consecutive: u32,
    /// When a larger share is ejected, the list is ignored: better some ill endpoints than none: 0.5.
    pub panic_threshold: f64,
}

impl EjectorConfig {
    /// Calls from which a share of failures means something.
    const FAILURE_VOLUME: u64 = 50;

    /// Checks every field.
    ///
    /// # Errors
    /// [`InvalidConfig`] naming the first share outside 0 to 1.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let shares = [
            ("most", self.most),
            ("failure_share", self.failure_share),
            ("panic_threshold", self.panic_threshold),
        ];
        for (field, share) in shares {
            if !(0.0..=1.0).contains(&share) {
                return Err(InvalidConfig::new(field, share, "0 to 1"));
            }
        }
        if self.consecutive == 0 {
            return Err(InvalidConfig::new("consecutive", 0, "at least 1"));
        }
        if self.interval.is_zero() {
            return Err(InvalidConfig::new("interval", "0s", "longer than that"));
        }
        Ok(())
    }
}

impl Default for EjectorConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            base: Duration::from_secs(30),
            cap: Duration::from_secs(300),
            most: 0.1,
            deviations: 1.9,
            volume: 100,
            hosts: 5,
            failure_share: 0.85,
            consecutive: 5,
            panic_threshold: 0.5,
        }
    }
}

/// Calls of one interval.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    good: u64,
    bad: u64,
}

impl Bucket {
    const fn calls(self) -> u64 {
        self.good + self.bad
    }

    fn success_rate(self) -> f64 {
        self.good as f64 / self.calls().max(1) as f64
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Record {
    /// The interval under way, and the last one that is over: a sweep swaps them and judges by the latter.
    current: Bucket,
    last: Bucket,
    in_a_row: u32,
    /// Ejections in a row; one is forgiven for each healthy interval.
    ejections: u32,
    out_until: Option<Instant>,
    /// Whether the one probe that decides on its return is under way.
    probing: bool,
}

/// Takes endpoints out that fail, and lets each come back through one probe. Pure: it takes `now`.
///
/// ```
/// use perf_core::time::{self, Duration};
/// use perf_pool::balance::{Ejector, EjectorConfig};
///
/// let now = time::now();
/// let mut ejector = Ejector::new(EjectorConfig::default(), 3, now);
/// let ejected = (0..5).any(|_| ejector.record(0, false, now));
/// assert!(ejected && ejector.is_out(0));
/// let later = now + Duration::from_secs(30);
/// assert!(ejector.admit(0, later), "one call may find out");
/// ejector.record_probe(0, true, later);
/// assert!(!ejector.is_out(0));
/// ```
#[derive(Clone, Debug)]
pub struct Ejector {
    config: EjectorConfig,
    records: Vec<Record>,
    next_sweep: Instant,
}

impl Ejector {
    /// Watches over `endpoints` endpoints.
    #[must_use]
    pub fn new(config: EjectorConfig, endpoints: usize, now: Instant) -> Self {
        let next_sweep = now + config.interval;
        Self { config, records: vec![Record::default(); endpoints], next_sweep }
    }

    /// Takes in the end of an ordinary call. Returns whether the endpoint is ejected by it. While an endpoint is out, what
    /// calls come to that began earlier changes nothing.
    pub fn record(&mut self, endpoint: usize, good: bool, now: Instant) -> bool {
        let limit = self.config.consecutive;
        let Some(record) = self.records.get_mut(endpoint) else { return false };
        record.count(good);
        record.in_a_row = if good || record.out_until.is_some() { 0 } else { record.in_a_row + 1 };
        record.in_a_row >= limit && self.eject(endpoint, now)
    }

    /// Takes in the end of the call that [`admit`](Self::admit) let through to an endpoint whose time was over: it is back,
    /// or out again for longer.
    pub fn record_probe(&mut self, endpoint: usize, good: bool, now: Instant) {
        let Some(record) = self.records.get_mut(endpoint).filter(|record| record.probing) else { return };
        record.probing = false;
        record.count(good);
        if good {
            (record.out_until, record.in_a_row) = (None, 0);
        } else {
            self.put_out(endpoint, now);
        }
    }

    /// Whether an endpoint may get ordinary traffic. One whose time is over gets one probe first: the first question
    /// after that is answered with yes, the others with no until the probe has ended.
    pub fn admit(&mut self, endpoint: usize, now: Instant) -> bool {
        let due = self.is_due(endpoint, now);
        let Some(record) = self.records.get_mut(endpoint) else { return false };
        record.probing |= due;
        due || record.out_until.is_none()
    }

    /// Whether an endpoint is out, its time is over, and nobody is finding out yet whether it is well.
    pub(super) fn is_due(&self, endpoint: usize, now: Instant) -> bool {
        let record = self.records.get(endpoint).filter(|record| !record.probing);
        record.and_then(|record| record.out_until).is_some_and(|until| until <= now)
    }

    /// Whether an endpoint is out, or about to be probed.
    #[must_use]
    pub fn is_out(&self, endpoint: usize) -> bool {
        self.records.get(endpoint).is_some_and(|record| record.out_until.is_some())
    }

    /// Whether so many are out that being out means nothing.
    #[must_use]
    pub fn is_panicking(&self) -> bool {
        let out = self.records.iter().filter(|record| record.out_until.is_some()).count();
        out as f64 > self.config.panic_threshold * self.records.len() as f64
    }

    /// Follows a change of the list: for each endpoint of the new one, where it was in the old one.
    pub(super) fn rearrange(&mut self, before: &[Option<usize>]) {
        let old = std::mem::take(&mut self.records);
        let kept = |place: &Option<usize>| place.and_then(|place| old.get(place).copied());
        self.records = before.iter().map(|place| kept(place).unwrap_or_default()).collect();
    }

    /// Lets an endpoint back in at once.
    pub fn forgive(&mut self, endpoint: usize) {
        if let Some(record) = self.records.get_mut(endpoint) {
            (record.out_until, record.in_a_row, record.probing) = (None, 0, false);
        }
    }

    /// A probe was given up without an answer.
    pub fn release_probe(&mut self, endpoint: usize) {
        if let Some(record) = self.records.get_mut(endpoint) {
            record.probing = false;
        }
    }

    /// Compares the endpoints when an interval is over. Returns those it ejects. One that comes late forgives for each
    /// interval that has passed.
    pub fn sweep(&mut self, now: Instant) -> Vec<usize> {
        if now < self.next_sweep {
            return Vec::new();
        }
        let late = now.saturating_duration_since(self.next_sweep).as_nanos();
        let missed = late / self.config.interval.as_nanos().max(1);
        let intervals = u32::try_from(missed).unwrap_or(u32::MAX).saturating_add(1);
        self.next_sweep = now + self.config.interval;
        for record in &mut self.records {
            record.last = std::mem::take(&mut record.current);
        }
        let floor = self.floor();
        // Judged before any of them is ejected: an ejection must not change what the next one is compared with.
        let mut ejected = Vec::new();
        for index in 0..self.records.len() {
            if self.records[index].out_until.is_some() {
                continue;
            }
            if !self.is_outlier(self.records[index].last, floor) {
                self.records[index].ejections = self.records[index].ejections.saturating_sub(intervals);
            } else if self.eject(index, now) {
                ejected.push(index);
            }
        }
        ejected
    }

    /// The success rate below which an endpoint is an outlier; none when too few can be compared.
    fn floor(&self) -> Option<f64> {
        let compared = || {
            let inside = self.records.iter().filter(|record| record.out_until.is_none());
            inside.map(|record| record.last).filter(|bucket| bucket.calls() >= self.config.volume.max(1))
        };
        let count = compared().count();
        if count < self.config.hosts.max(1) {
            return None;
        }
        let mean = compared().map(Bucket::success_rate).sum::<f64>() / count as f64;
        let squares = compared().map(|bucket| (bucket.success_rate() - mean).powi(2)).sum::<f64>();
        Some(mean - self.config.deviations * (squares / count as f64).sqrt())
    }

    fn is_outlier(&self, bucket: Bucket, floor: Option<f64>) -> bool {
        let below = bucket.calls() >= self.config.volume.max(1)
            && floor.is_some_and(|floor| bucket.success_rate() < floor);
        let failing = bucket.calls() >= EjectorConfig::FAILURE_VOLUME
            && bucket.bad as f64 >= self.config.failure_share * bucket.calls() as f64;
        below || failing
    }

    fn eject(&mut self, endpoint: usize, now: Instant) -> bool {
        let out = self.records.iter().filter(|record| record.out_until.is_some()).count();
        let allowed = ((self.records.len() as f64 * self.config.most) as usize).max(1);
        if out >= allowed {
            return false;
        }
        self.put_out(endpoint, now);
        true
    }

    fn put_out(&mut self, endpoint: usize, now: Instant) {
        let record = &mut self.records[endpoint];
        record.ejections = record.ejections.saturating_add(1);
        record.in_a_row = 0;
        let time = Backoff::linear(self.config.base).cap(self.config.cap).jitter(Jitter::None);
        record.out_until = Some(now + time.plain(record.ejections));
    }
}

impl Record {
    const fn count(&mut self, good: bool) {
        if good {
            self.current.good += 1;
        } else {
            self.current.bad += 1;
        }
    }
}
