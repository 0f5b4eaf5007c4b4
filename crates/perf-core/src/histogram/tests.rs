use super::*;
use proptest::prelude::*;

fn recorded(values: &[f64]) -> HistogramSnapshot {
    let histogram = Histogram::new();
    for value in values {
        histogram.record(*value);
    }
    histogram.snapshot()
}

fn merged(mut a: HistogramSnapshot, b: &HistogramSnapshot) -> HistogramSnapshot {
    a.merge(b);
    a.sum = 0.0; // Floating-point addition is not associative; the counts are what merging promises.
    a
}

#[test]
fn the_error_of_schema_five_is_what_the_documentation_says() {
    assert!((HistogramSnapshot::default().relative_error() - 0.010_83).abs() < 1e-5);
}

#[test]
fn an_empty_histogram_has_no_quantile() {
    assert_eq!(recorded(&[]).quantile(0.5), None);
    assert_eq!(recorded(&[1.0]).quantile(1.5), None);
    assert_eq!(recorded(&[]).mean(), None);
}

#[test]
fn refused_values_enter_neither_count_nor_sum() {
    let histogram = Histogram::new();
    for value in [f64::NAN, f64::INFINITY, -1.0, f64::NEG_INFINITY] {
        histogram.record(value);
    }
    assert_eq!((histogram.snapshot(), histogram.refused()), (HistogramSnapshot::default(), 4));
}

#[test]
fn zero_and_the_extremes_are_counted() {
    let snapshot = recorded(&[0.0, f64::MIN_POSITIVE, 1e-30, f64::MAX]);
    assert_eq!((snapshot.count(), snapshot.zeros()), (4, 2));
    assert_eq!(snapshot.quantile(0.25).unwrap().value, 0.0);
}

#[test]
fn counts_at_a_bucket_edge_are_exact() {
    let snapshot = recorded(&[0.3, 0.5, 0.500_001, 4.0]);
    assert_eq!(snapshot.count_at_most(0.5), (2, 2));
    assert_eq!(snapshot.count_at_most(0.49), (1, 2));
}

#[test]
fn threads_lose_nothing() {
    let histogram = Histogram::new();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let histogram = &histogram;
            scope.spawn(move || (0..5000).for_each(|n| histogram.record(f64::from(n % 64 + thread) + 1.0)));
        }
    });
    assert_eq!(histogram.snapshot().count(), 20_000);
}

#[test]
fn a_histogram_that_becomes_hot_loses_nothing() {
    let histogram = Histogram::new();
    (1..COLD_WRITES).for_each(|_| histogram.record(0.5));
    assert!(histogram.stripes.get().is_none());
    // More threads than stripes: some have one to themselves, others share.
    std::thread::scope(|scope| {
        for _ in 0..24 {
            scope.spawn(|| (0..1000).for_each(|n| histogram.record(f64::from(n % 4) + 1.0)));
        }
    });
    assert!(histogram.stripes.get().is_some());
    let snapshot = histogram.snapshot();
    assert_eq!(snapshot.count(), COLD_WRITES - 1 + 24_000);
    assert_eq!(snapshot.count_at_most(2.0), (COLD_WRITES - 1 + 12_000, COLD_WRITES - 1 + 12_000));
    assert_eq!(snapshot.sum(), 0.5 * (COLD_WRITES - 1) as f64 + 24_000.0 * 2.5);
}

#[test]
fn what_was_reserved_is_there_before_and_after_the_histogram_becomes_hot() {
    let histogram = Histogram::new().reserve(1e-6..60.0);
    let room = |cells: &Cells| (0..bucket::OCTAVES).filter(|octave| cells.touched(*octave).is_some()).count();
    assert_eq!(room(&histogram.shared), 26, "2^-20 to 2^6 seconds");
    histogram.stripe(1);
    histogram.record_in(0, 0.5);
    let rooms: Vec<usize> = histogram.cells().map(room).collect();
    assert_eq!(rooms, [26, 26]);
    for value in [1e-6, 0.001, 59.9] {
        histogram.record_in(0, value);
    }
    assert_eq!(histogram.cells().map(room).sum::<usize>(), 52, "none of these needed more");
    histogram.record_in(0, 1e-9);
    let snapshot = histogram.snapshot();
    assert_eq!((snapshot.count(), histogram.refused()), (5, 0), "what lies outside counts as ever");
    assert!((snapshot.sum() - (0.5 + 1e-6 + 0.001 + 59.9 + 1e-9)).abs() < 1e-9);
}

#[test]
fn a_range_of_nothing_reserves_nothing() {
    for values in [0.0..0.0, 5.0..1.0, -2.0..-1.0, f64::NAN..1.0, 1.0..f64::NAN] {
        let histogram = Histogram::new().reserve(values.clone());
        assert!((0..bucket::OCTAVES).all(|octave| histogram.shared.touched(octave).is_none()), "{values:?}");
    }
    assert_eq!(Histogram::new().reserve(0.0..f64::INFINITY).reserved, 0..bucket::OCTAVES as u16);
}

#[test]
fn what_came_since_a_snapshot_is_their_difference() {
    let histogram = Histogram::new();
    histogram.record(1.0);
    let earlier = histogram.snapshot();
    histogram.record(1.0);
    histogram.record(8.0);
    let since = histogram.snapshot().since(&earlier);
    assert_eq!((since.count(), since.sum()), (2, 9.0));
    // A histogram that was replaced by a new one reads as a restart, not as negative counts.
    assert_eq!(earlier.since(&histogram.snapshot()).count(), 1);
}

proptest! {
    #[test]
    fn quantiles_stay_within_the_stated_error(mut values in prop::collection::vec(1e-9..1e9_f64, 1..200), q in 0.0..=1.0_f64) {
        let estimate = recorded(&values).quantile(q).unwrap();
        values.sort_by(f64::total_cmp);
        let rank = ((q * values.len() as f64).ceil() as usize).clamp(1, values.len());
        let truth = values[rank - 1];
        prop_assert!((estimate.value - truth).abs() / truth <= 0.010_83);
        prop_assert!(estimate.low < truth * (1.0 + 1e-12) && truth <= estimate.high * (1.0 + 1e-12));
    }

    #[test]
    fn merging_is_commutative_associative_and_exact(
        a in prop::collection::vec(1e-6..1e6_f64, 0..50),
        b in prop::collection::vec(1e-6..1e6_f64, 0..50),
        c in prop::collection::vec(1e-6..1e6_f64, 0..50),
        schema in 0..=5_i8,
    ) {
        let (a, mut b, c) = (recorded(&a), recorded(&b), recorded(&c));
        b.downscale(schema);
        prop_assert_eq!(merged(a.clone(), &b), merged(b.clone(), &a));
        prop_assert_eq!(merged(merged(a.clone(), &b), &c), merged(a.clone(), &merged(b.clone(), &c)));
        prop_assert_eq!(merged(a.clone(), &b).count(), a.count() + b.count());
    }

    #[test]
    fn thinning_loses_no_count_and_doubles_the_error_at_most(values in prop::collection::vec(1e-6..1e6_f64, 1..100), limit in 1..40_usize) {
        let mut thinned = recorded(&values);
        thinned.limit_buckets(limit);
        prop_assert_eq!(thinned.count(), values.len() as u64);
        prop_assert!(thinned.buckets().count() <= limit || thinned.schema() == -4);
    }
}
