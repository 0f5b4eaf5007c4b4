//! Our numbers in somebody else's recorder.

use crate::page::{Page, Value, parse_labels};
use crate::{Metrics, QuantileView};
use metrics::{Key, Label, Level, Metadata, Recorder};
use perf_core::Kind;

const METADATA: Metadata<'static> = Metadata::new("perf_metrics", Level::INFO, None);

impl Metrics {
    /// Hands every number to a recorder of the `metrics` facade: totals as absolute counters, levels as gauges, and of a
    /// distribution its count, its sum and its quantiles. Call it every few seconds, or before the recorder is read.
    ///
    /// Do not hand it this page's own [`Facade`](crate::Facade): the numbers would appear twice.
    ///
    /// ```
    /// let ours = perf_metrics::Metrics::builder().process(false).build().unwrap();
    /// ours.counter("orders", "Orders").get().unwrap().add(3);
    /// let theirs = perf_metrics::Metrics::builder().process(false).build().unwrap();
    /// ours.bridge(&theirs.facade());
    /// assert!(theirs.text().contains("\norders_total 3"));
    /// ```
    pub fn bridge(&self, recorder: &dyn Recorder) {
        self.read(|page| hand_over(page, recorder));
    }
}

fn hand_over(page: &Page, recorder: &dyn Recorder) {
    for line in page.lines() {
        let labels: Vec<Label> =
            parse_labels(line.labels).into_iter().map(|(k, v)| Label::new(k, v)).collect();
        let key = |suffix: &str| Key::from_parts(format!("{}{suffix}", line.name), labels.clone());
        let gauge = |key: &Key, value: f64| recorder.register_gauge(key, &METADATA).set(value);
        match line.value {
            Value::Count(total) => recorder.register_counter(&key(""), &METADATA).absolute(*total),
            // The facade's counters are whole numbers; a total of seconds keeps its fraction as a gauge.
            Value::Number(value) if line.kind == Kind::Counter => gauge(&key(""), *value),
            Value::Number(value) => gauge(&key(""), *value),
            Value::Distribution(_) => {
                let view = crate::DistributionView::from(page.snapshot(line.value));
                recorder.register_counter(&key("_count"), &METADATA).absolute(view.count);
                gauge(&key("_sum"), view.sum);
                let quantiles = [("_p50", view.p50), ("_p95", view.p95), ("_p99", view.p99)];
                for (suffix, QuantileView { value, .. }) in
                    quantiles.iter().filter_map(|(s, q)| Some((s, (*q)?)))
                {
                    gauge(&key(suffix), value);
                }
            }
        }
    }
}
