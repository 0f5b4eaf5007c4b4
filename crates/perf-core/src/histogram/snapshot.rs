use super::bucket;

/// A quantile together with how much it can be trusted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The estimate: the point of the bucket with the smallest worst-case relative error.
    pub value: f64,
    /// The true quantile of the recorded values is above this …
    pub low: f64,
    /// … and at most this.
    pub high: f64,
    /// How many values were recorded.
    pub count: u64,
}

/// The counts of a [`Histogram`](super::Histogram) at one moment: plain data that can be merged, thinned and asked.
///
/// ```
/// use perf_core::Histogram;
///
/// let latency = Histogram::new();
/// for n in 1..=1000 {
///     latency.record(f64::from(n) / 1000.0);
/// }
/// let p99 = latency.snapshot().quantile(0.99).unwrap();
/// assert!((p99.value - 0.990).abs() / 0.990 < 0.01083);
/// assert!(p99.low < 0.990 && 0.990 <= p99.high);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramSnapshot {
    pub(super) schema: i8,
    pub(super) zeros: u64,
    pub(super) sum: f64,
    /// Not empty, in rising order of their indices.
    pub(super) buckets: Vec<(i32, u64)>,
}

impl Default for HistogramSnapshot {
    fn default() -> Self {
        Self { schema: bucket::SCHEMA as i8, zeros: 0, sum: 0.0, buckets: Vec::new() }
    }
}

impl HistogramSnapshot {
    /// A distribution from its parts, such as those another machine sent. Buckets of one index are added up; order does
    /// not matter. The schema is held within Prometheus' range of −4 to 8.
    #[must_use]
    pub fn from_parts(schema: i8, zeros: u64, sum: f64, buckets: &[(i32, u64)]) -> Self {
        let mut buckets: Vec<(i32, u64)> = buckets.iter().copied().filter(|(_, count)| *count > 0).collect();
        buckets.sort_by_key(|(index, _)| *index);
        sum_neighbours(&mut buckets);
        Self { schema: schema.clamp(-4, 8), zeros, sum, buckets }
    }

    /// The schema: each bucket is `2^(2^−schema)` times as wide as the one below it.
    #[must_use]
    pub const fn schema(&self) -> i8 {
        self.schema
    }

    /// The largest relative error of a quantile at this schema: 1.083 % at schema 5.
    #[must_use]
    pub fn relative_error(&self) -> f64 {
        let growth = bucket::upper_bound(1, self.schema);
        (growth - 1.0) / (growth + 1.0)
    }

    /// How many values were recorded. It always equals the sum of all buckets.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.zeros + self.buckets.iter().map(|(_, count)| count).sum::<u64>()
    }

    /// The sum of the values recorded.
    #[must_use]
    pub const fn sum(&self) -> f64 {
        self.sum
    }

    /// How many values were zero (at most 2⁻¹²⁸).
    #[must_use]
    pub const fn zeros(&self) -> u64 {
        self.zeros
    }

    /// The values' mean, or `None` without values.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        let count = self.count();
        (count > 0).then(|| self.sum / count as f64)
    }

    /// The buckets that are not empty, as (index, count) in rising order. Bucket *i* covers `(γ^(i−1), γ^i]`.
    pub fn buckets(&self) -> impl Iterator<Item = (i32, u64)> + '_ {
        self.buckets.iter().copied()
    }

    /// The upper bound of a bucket.
    #[must_use]
    pub fn upper_bound(&self, index: i32) -> f64 {
        bucket::upper_bound(index, self.schema)
    }

    /// The value below or at which the share `q` of the values lies, or `None` when there are none or `q` is not in
    /// `[0, 1]`. The value reported is the nearest-rank quantile's bucket; its bounds are part of the answer.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<Estimate> {
        let count = self.count();
        if count == 0 || !(0.0..=1.0).contains(&q) {
            return None;
        }
        let rank = ((q * count as f64).ceil() as u64).clamp(1, count);
        if rank <= self.zeros {
            return Some(Estimate { value: 0.0, low: 0.0, high: bucket::ZERO_THRESHOLD, count });
        }
        let mut below = self.zeros;
        let index = self.buckets.iter().find_map(|(index, in_bucket)| {
            below += in_bucket;
            (below >= rank).then_some(*index)
        })?;
        let (low, high) = (self.upper_bound(index - 1), self.upper_bound(index));
        Some(Estimate { value: 2.0 * low * high / (low + high), low, high, count })
    }

    /// How many values are at most `bound`, as a lower and an upper count. They are equal when `bound` is a bucket edge.
    #[must_use]
    pub fn count_at_most(&self, bound: f64) -> (u64, u64) {
        if bound.is_nan() || bound < 0.0 {
            return (0, 0);
        }
        let mut counts = (self.zeros, self.zeros);
        for (index, count) in &self.buckets {
            if self.upper_bound(*index) <= bound {
                counts.0 += count;
                counts.1 += count;
            } else if self.upper_bound(index - 1) < bound {
                counts.1 += count;
            }
        }
        counts
    }

    /// Adds the counts of `other`. When the schemas differ, the finer one is thinned first, so merging is commutative
    /// and associative and no count is lost.
    pub fn merge(&mut self, other: &Self) {
        self.downscale(other.schema);
        self.zeros += other.zeros;
        self.sum += other.sum;
        if other.schema == self.schema {
            self.buckets = combined(&self.buckets, &other.buckets);
        } else {
            let mut thinned = other.clone();
            thinned.downscale(self.schema);
            self.buckets = combined(&self.buckets, &thinned.buckets);
        }
    }

    /// Lowers the schema, halving the number of buckets per step and doubling the relative error. A higher schema than
    /// the present one changes nothing. Allocates nothing.
    pub fn downscale(&mut self, schema: i8) {
        while self.schema > schema {
            for bucket in &mut self.buckets {
                bucket.0 = bucket::halved(bucket.0);
            }
            // Halving keeps the order, so buckets that became one are neighbours.
            sum_neighbours(&mut self.buckets);
            self.schema -= 1;
        }
    }

    /// Lowers the schema until at most `limit` buckets are left (or schema −4, Prometheus' coarsest, is reached).
    pub fn limit_buckets(&mut self, limit: usize) {
        while self.buckets.len() > limit && self.schema > -4 {
            self.downscale(self.schema - 1);
        }
    }

    /// What was recorded since `earlier`, a snapshot of the same histogram. A count that went down reads as a restart:
    /// the present counts are then all new.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let schema = self.schema.min(earlier.schema);
        let (mut now, mut before) = (self.clone(), earlier.clone());
        now.downscale(schema);
        before.downscale(schema);
        let restarted =
            now.zeros < before.zeros || before.buckets.iter().any(|(i, count)| now.at(*i) < *count);
        if restarted {
            return now;
        }
        now.zeros -= before.zeros;
        now.sum -= before.sum;
        for bucket in &mut now.buckets {
            bucket.1 -= before.at(bucket.0);
        }
        now.buckets.retain(|(_, count)| *count > 0);
        now
    }

    /// The count in bucket `index`.
    fn at(&self, index: i32) -> u64 {
        self.buckets.binary_search_by_key(&index, |(i, _)| *i).map_or(0, |position| self.buckets[position].1)
    }
}

/// Makes neighbours of one index into one bucket.
fn sum_neighbours(buckets: &mut Vec<(i32, u64)>) {
    buckets.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 += next.1;
        }
        same
    });
}

/// Two rising lists of buckets added up.
fn combined(a: &[(i32, u64)], b: &[(i32, u64)]) -> Vec<(i32, u64)> {
    let mut sum = Vec::with_capacity(a.len().max(b.len()));
    let (mut a, mut b) = (a.iter().copied().peekable(), b.iter().copied().peekable());
    loop {
        match (a.peek(), b.peek()) {
            (Some(x), Some(y)) if x.0 == y.0 => {
                sum.push((x.0, x.1 + y.1));
                a.next();
                b.next();
            }
            (Some(x), Some(y)) if x.0 < y.0 => sum.extend(a.next()),
            (Some(_), None) => sum.extend(a.next()),
            (_, Some(_)) => sum.extend(b.next()),
            (None, None) => return sum,
        }
    }
}
