//! To and from `hdrhistogram`, whose V2 encoding other tools and machines read.

use hdrhistogram::Histogram as Hdr;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2Serializer};
use perf_core::{Histogram, HistogramSnapshot};

/// A distribution that cannot be converted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the distribution cannot be converted: {0}")]
pub struct HdrError(String);

impl HdrError {
    fn from(error: &impl ToString) -> Self {
        Self(error.to_string())
    }
}

/// The distribution in `hdrhistogram`'s V2 encoding, with values multiplied by `scale` and rounded: 10⁹ for times in
/// seconds, which become nanoseconds. Counts are exact; values move by at most 1.083 % here and 0.1 % there.
///
/// ```
/// let latency = perf_core::Histogram::new();
/// latency.record(0.020);
/// let bytes = perf_metrics::to_hdr_v2(&latency.snapshot(), 1e9).unwrap();
/// let back = perf_metrics::from_hdr_v2(&bytes, 1e9).unwrap();
/// assert_eq!(back.count(), 1);
/// assert!((back.quantile(0.5).unwrap().value - 0.020).abs() / 0.020 < 0.023);
/// ```
///
/// # Errors
/// [`HdrError`] when a scaled value does not fit into 63 bits.
pub fn to_hdr_v2(snapshot: &HistogramSnapshot, scale: f64) -> Result<Vec<u8>, HdrError> {
    let mut hdr = Hdr::<u64>::new(3).map_err(|error| HdrError::from(&error))?;
    hdr.auto(true);
    hdr.record_n(0, snapshot.zeros()).map_err(|error| HdrError::from(&error))?;
    for (index, count) in snapshot.buckets() {
        let (low, high) = (snapshot.upper_bound(index - 1), snapshot.upper_bound(index));
        let value = (2.0 * low * high / (low + high) * scale).round();
        if value >= i64::MAX as f64 {
            return Err(HdrError(format!("{value} does not fit into 63 bits")));
        }
        hdr.record_n(value as u64, count).map_err(|error| HdrError::from(&error))?;
    }
    let mut bytes = Vec::new();
    V2Serializer::new().serialize(&hdr, &mut bytes).map_err(|error| HdrError(format!("{error:?}")))?;
    Ok(bytes)
}

/// A distribution from `hdrhistogram`'s encoding, with values divided by `scale`.
///
/// # Errors
/// [`HdrError`] when the bytes are not such an encoding.
pub fn from_hdr_v2(mut bytes: &[u8], scale: f64) -> Result<HistogramSnapshot, HdrError> {
    let hdr: Hdr<u64> =
        Deserializer::new().deserialize(&mut bytes).map_err(|error| HdrError(format!("{error:?}")))?;
    let mut merged = HistogramSnapshot::default();
    for value in hdr.iter_recorded() {
        let one = Histogram::new();
        let middle = hdr.median_equivalent(value.value_iterated_to()) as f64 / scale;
        one.record(middle);
        let one = one.snapshot();
        let count = value.count_at_value();
        let buckets: Vec<(i32, u64)> = one.buckets().map(|(index, _)| (index, count)).collect();
        let zeros = if buckets.is_empty() { count } else { 0 };
        let sum = middle * count as f64;
        merged.merge(&HistogramSnapshot::from_parts(one.schema(), zeros, sum, &buckets));
    }
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use perf_core::Rng;

    #[test]
    fn counts_survive_and_quantiles_move_by_a_bucket_at_most() {
        let (histogram, mut rng) = (Histogram::new(), Rng::seeded(1));
        (0..10_000).for_each(|_| histogram.record(rng.exponential(0.05)));
        histogram.record(0.0);
        let ours = histogram.snapshot();
        let back = from_hdr_v2(&to_hdr_v2(&ours, 1e9).unwrap(), 1e9).unwrap();
        assert_eq!((back.count(), back.zeros()), (ours.count(), ours.zeros()));
        for q in [0.1, 0.5, 0.99, 0.999] {
            let (a, b) = (ours.quantile(q).unwrap().value, back.quantile(q).unwrap().value);
            assert!((a / b - 1.0).abs() < 0.025, "{q}: {a} {b}");
        }
        assert!((back.sum() / ours.sum() - 1.0).abs() < 0.012);
    }

    #[test]
    fn bytes_that_are_no_histogram_and_values_too_large_are_refused() {
        assert!(from_hdr_v2(&[], 1.0).is_err() && from_hdr_v2(&[7; 100], 1.0).is_err());
        let histogram = Histogram::new();
        histogram.record(1e20);
        assert!(to_hdr_v2(&histogram.snapshot(), 1e9).is_err());
    }
}
