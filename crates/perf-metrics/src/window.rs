use perf_core::time::{Duration, Instant};
use perf_core::{Estimate, HistogramSnapshot};
use std::collections::VecDeque;

/// The last stretch of a distribution that only ever grows: differences of snapshots, so that a value is in exactly one
/// part of the window, whoever was writing while the window moved on.
///
/// ```
/// use perf_metrics::SlidingWindow;
/// use std::time::Duration;
///
/// let (latency, now) = (perf_core::Histogram::new(), perf_core::time::now());
/// let mut window = SlidingWindow::new(Duration::from_secs(60), 6);
/// window.observe(latency.snapshot(), now);
/// (0..100).for_each(|_| latency.record(0.5));
/// window.observe(latency.snapshot(), now + Duration::from_secs(10));
/// let p90 = window.quantile(0.9).unwrap();
/// assert!((p90.value - 0.5).abs() < 0.006 && p90.count == 100);
/// // Ten values in a hundred are above the 90th percentile; of 100 values nothing can be said about one in a thousand.
/// assert_eq!(window.quantile(0.999), None);
/// ```
#[derive(Clone, Debug)]
pub struct SlidingWindow {
    span: Duration,
    step: Duration,
    past: VecDeque<(Instant, HistogramSnapshot)>,
    present: Option<(Instant, HistogramSnapshot)>,
}

impl SlidingWindow {
    /// A window of `span`, whose far end is exact to one of its `parts`.
    #[must_use]
    pub fn new(span: Duration, parts: u32) -> Self {
        Self { span, step: span / parts.max(1), past: VecDeque::new(), present: None }
    }

    /// Takes in the distribution as it is at `now`.
    pub fn observe(&mut self, snapshot: HistogramSnapshot, now: Instant) {
        if self.past.back().is_none_or(|(at, _)| now.saturating_duration_since(*at) >= self.step) {
            self.past.push_back((now, snapshot.clone()));
        }
        // One snapshot older than the window is kept to count from.
        while self.past.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= self.span) {
            self.past.pop_front();
        }
        self.present = Some((now, snapshot));
    }

    /// What came in within the window, or since it is watched; `None` before anything was observed.
    #[must_use]
    pub fn snapshot(&self) -> Option<HistogramSnapshot> {
        let (now, present) = self.present.as_ref()?;
        let old = |(at, _): &&(Instant, HistogramSnapshot)| now.saturating_duration_since(*at) >= self.span;
        let (_, before) = self.past.iter().rev().find(old).or_else(|| self.past.front())?;
        Some(present.since(before))
    }

    /// A quantile of what came in within the window; `None` with fewer than `1/(1−q)` values, when it would merely be
    /// the largest.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<Estimate> {
        let recent = self.snapshot()?;
        let needed = (1.0 / (1.0 - q)).round();
        (recent.count() as f64 >= needed).then(|| recent.quantile(q)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use perf_core::{Histogram, time};
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_empty_window_has_no_quantile() {
        let mut window = SlidingWindow::new(SECOND * 60, 6);
        assert_eq!((window.snapshot(), window.quantile(0.5)), (None, None));
        window.observe(HistogramSnapshot::default(), time::now());
        assert_eq!(window.quantile(0.5), None);
    }

    proptest! {
        #[test]
        fn holds_what_came_within_its_span_to_a_part(counts in prop::collection::vec(0..20_u64, 1..120)) {
            let (histogram, start) = (Histogram::new(), time::now());
            let mut window = SlidingWindow::new(SECOND * 30, 6);
            window.observe(histogram.snapshot(), start);
            for (second, count) in counts.iter().enumerate() {
                (0..*count).for_each(|_| histogram.record(1.0));
                window.observe(histogram.snapshot(), start + SECOND * (second as u32 + 1));
                let held = window.snapshot().unwrap().count();
                let newest = |seconds: usize| counts[..=second].iter().rev().take(seconds).sum::<u64>();
                prop_assert!(newest(30) <= held && held <= newest(36), "{held} of {second}");
            }
        }
    }
}
