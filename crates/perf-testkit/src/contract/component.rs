//! The rules for numbers.

use crate::{Recorder, Sample, Value};
use perf_core::{Component, Kind, Unit};
use std::collections::{BTreeMap, BTreeSet};

/// Fails unless `component` keeps the rules for numbers; returns what it reports.
///
/// Its identity does not change · the same series are there at every report · no series is reported twice · names begin with
/// `perf_`, are in snake case and end in their unit, and in `_total` for totals only · every value is of the kind that was
/// described · no gauge is NaN or infinite · one family has one description · at most two labels, none of them `name`.
///
/// Call it right after the component was made and again after it was used, and compare [`Recorder::series`] to see that every
/// series exists from the first time on.
///
/// # Panics
/// With every broken rule.
#[track_caller]
pub fn component(component: &dyn Component) -> Recorder {
    let mut problems = Vec::new();
    let id = component.id();
    let first = Recorder::of(component);
    let second = Recorder::of(component);
    if component.id() != id {
        problems.push(format!("{id} changed its identity to {}", component.id()));
    }
    for series in first.series().symmetric_difference(&second.series()) {
        problems.push(format!("{series} is not in every report"));
    }
    let mut seen = BTreeSet::new();
    let mut described = BTreeMap::new();
    for sample in second.samples() {
        if !seen.insert(sample.series()) {
            problems.push(format!("{} is reported twice", sample.series()));
        }
        if *described.entry(sample.desc.name).or_insert(sample.desc) != sample.desc {
            problems.push(format!("{} has two descriptions", sample.desc.name));
        }
        problems.extend(broken_rules(sample).into_iter().map(|rule| format!("{}: {rule}", sample.series())));
    }
    assert!(problems.is_empty(), "{id} breaks the rules for numbers:\n  {}", problems.join("\n  "));
    second
}

fn broken_rules(sample: &Sample) -> Vec<String> {
    let desc = &sample.desc;
    let mut broken = Vec::new();
    let mut rule = |kept: bool, text: &str| {
        if !kept {
            broken.push(text.to_owned());
        }
    };
    let snake = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    rule(desc.name.starts_with("perf_") && snake(desc.name), "the name is not perf_ and snake case");
    let stem = desc.name.strip_suffix("_total");
    rule(stem.is_some() == (desc.kind == Kind::Counter), "totals, and only they, end in _total");
    let unit = match desc.unit {
        Unit::Seconds => "_seconds",
        Unit::Bytes => "_bytes",
        Unit::Ratio => "_ratio",
        _ => "",
    };
    rule(stem.unwrap_or(desc.name).ends_with(unit), "the name does not end in its unit");
    rule(!desc.help.trim().is_empty(), "there is no help text");
    let kind = match &sample.value {
        Value::Counter(_) | Value::Seconds(_) => Kind::Counter,
        Value::Gauge(_) => Kind::Gauge,
        Value::Histogram(_) => Kind::Histogram,
    };
    rule(kind == desc.kind, "the value is not of the kind described");
    let timed = matches!(sample.value, Value::Seconds(_));
    rule(!timed || desc.unit == Unit::Seconds, "a total of time is not described in seconds");
    let finite = !matches!(sample.value, Value::Gauge(value) if !value.is_finite());
    rule(finite, "the level is not a number: a level that is not known is left out");
    rule(sample.labels.len() <= 2, "more than two labels");
    let keys: BTreeSet<_> = sample.labels.iter().map(|(key, _)| *key).collect();
    rule(keys.len() == sample.labels.len(), "a label is there twice");
    rule(!keys.contains("name"), "the label `name` is the component's own");
    rule(keys.iter().all(|key| snake(key)), "a label is not in snake case");
    broken
}

#[cfg(test)]
mod tests {
    use super::*;
    use perf_core::{ComponentId, Desc, Sink};
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Example<F>(F);

    impl<F: Fn(&mut dyn Sink) + Send + Sync> Component for Example<F> {
        fn id(&self) -> ComponentId {
            ComponentId::new("example", "one")
        }

        fn collect(&self, sink: &mut dyn Sink) {
            (self.0)(sink);
        }
    }

    const HITS: Desc = Desc::counter("perf_example_hits_total", "Hits", Unit::Count);

    fn complaint(report: impl Fn(&mut dyn Sink) + Send + Sync) -> String {
        let check = std::panic::AssertUnwindSafe(|| drop(component(&Example(report))));
        let panic = std::panic::catch_unwind(check).unwrap_err();
        panic.downcast_ref::<String>().unwrap().clone()
    }

    #[test]
    fn a_component_that_keeps_the_rules_passes() {
        let recorder = component(&Example(|sink: &mut dyn Sink| sink.counter(&HITS, &[("tier", "l1")], 7)));
        assert_eq!(recorder.counter("perf_example_hits_total", &[("tier", "l1")]), Some(7));
    }

    #[test]
    fn a_series_that_comes_late_or_twice_is_found() {
        let reports = AtomicU32::new(0);
        let late = complaint(|sink| {
            if reports.fetch_add(1, Ordering::Relaxed) > 0 {
                sink.counter(&HITS, &[], 1);
                sink.counter(&HITS, &[], 1);
            }
        });
        assert!(late.contains("perf_example_hits_total is not in every report"), "{late}");
        assert!(late.contains("perf_example_hits_total is reported twice"), "{late}");
    }

    #[test]
    fn names_units_kinds_and_labels_are_checked() {
        let bad_name = Desc::counter("perf_example_Size", "Size", Unit::Bytes);
        let level = Desc::gauge("perf_example_share_ratio", "", Unit::Ratio);
        let complaint = complaint(move |sink| {
            sink.counter(&bad_name, &[("name", "x"), ("a", "x"), ("b", "x")], 1);
            sink.gauge(&level, &[], f64::NAN);
            sink.counter(&level, &[("A", "x")], 1);
        });
        for part in [
            "not perf_ and snake case",
            "totals, and only they, end in _total",
            "does not end in its unit",
            "more than two labels",
            "the label `name` is the component's own",
            "the level is not a number",
            "no help text",
            "not of the kind described",
            "a label is not in snake case",
        ] {
            assert!(complaint.contains(part), "{part}: {complaint}");
        }
    }
}
