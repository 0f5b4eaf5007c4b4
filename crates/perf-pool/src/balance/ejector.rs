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

#[derive(Clone, Copy, Debug, Default)]
struct Record {
    current: Bucket,
    in_a_row: u32,
    /// Ejections in a row; one is forgiven for each healthy interval.
    ejections: u32,
    out_until: Option<Instant>,
    /// Whether the one probe that decides on its return is under way.
    probing: bool,
}

/// Takes endpoints out that fail, and lets each come back through one probe. Pure: it takes `now`.
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

    /// Takes in the end of a call. Returns whether the endpoint is ejected by it.
    pub fn record(&mut self, endpoint: usize, good: bool, now: Instant) -> bool {
        let limit = self.config.consecutive;
        let Some(record) = self.records.get_mut(endpoint) else { return false };
        let probe = std::mem::take(&mut record.probing);
        if good {
            record.current.good += 1;
            record.in_a_row = 0;
            if probe {
                record.out_until = None;
            }
            return false;
        }
        record.current.bad += 1;
        record.in_a_row += 1;
        (probe || record.in_a_row >= limit) && self.eject(endpoint, now)
    }

    /// Whether an endpoint may get ordinary traffic. One whose time is over gets one probe first: the first question
    /// after that is answered with yes, the others with no until the probe has ended.
    pub fn admit(&mut self, endpoint: usize, now: Instant) -> bool {
        let Some(record) = self.records.get_mut(endpoint) else { return false };
        match record.out_until {
            None => true,
            Some(until) if until <= now && !record.probing => {
                record.probing = true;
                true
            }
            Some(_) => false,
        }
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

    /// Compares the endpoints when an interval is over. Returns those it ejects.
    pub fn sweep(&mut self, now: Instant) -> Vec<usize> {
        if now < self.next_sweep {
            return Vec::new();
        }
        self.next_sweep = now + self.config.interval;
        let suspects = self.outliers();
        let mut ejected = Vec::new();
        for index in 0..self.records.len() {
            if suspects.contains(&index) {
                if self.eject(index, now) {
                    ejected.push(index);
                }
            } else if self.records[index].out_until.is_none() {
                let forgiven = self.records[index].ejections.saturating_sub(1);
                self.records[index].ejections = forgiven;
            }
            self.records[index].current = Bucket::default();
        }
        ejected
    }

    fn outliers(&self) -> Vec<usize> {
        let rates: Vec<(usize, f64, u64)> = self
            .records
            .iter()
            .enumerate()
            .filter(|(_, record)| record.out_until.is_none())
            .map(|(index, Record { current: Bucket { good, bad }, .. })| (index, *good, good + bad))
            .filter(|(_, _, calls)| *calls > 0)
            .map(|(index, good, calls)| (index, good as f64 / calls as f64, calls))
            .collect();
        let compared: Vec<f64> = rates
            .iter()
            .filter(|(_, _, calls)| *calls >= self.config.volume)
            .map(|(_, rate, _)| *rate)
            .collect();
        let floor = if compared.len() >= self.config.hosts {
            let mean = compared.iter().sum::<f64>() / compared.len() as f64;
            let variance =
                compared.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / compared.len() as f64;
            mean - self.config.deviations * variance.sqrt()
        } else {
            f64::NEG_INFINITY
        };
        rates
            .into_iter()
            .filter(|(_, rate, calls)| {
                let compared = *calls >= self.config.volume && *rate < floor;
                let failing =
                    *calls >= EjectorConfig::FAILURE_VOLUME && 1.0 - rate >= self.config.failure_share;
                compared || failing
            })
            .map(|(index, _, _)| index)
            .collect()
    }

    fn eject(&mut self, endpoint: usize, now: Instant) -> bool {
        let out = self.records.iter().filter(|record| record.out_until.is_some()).count();
        let allowed = ((self.records.len() as f64 * self.config.most) as usize).max(1);
        let record = &mut self.records[endpoint];
        let already = record.out_until.is_some();
        if !already && out >= allowed {
            return false;
        }
        record.ejections = record.ejections.saturating_add(1);
        record.in_a_row = 0;
        let time = Backoff::linear(self.config.base).cap(self.config.cap).jitter(Jitter::None);
        record.out_until = Some(now + time.plain(record.ejections));
        !already
    }
}
