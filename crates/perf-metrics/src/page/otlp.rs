//! OpenTelemetry's metrics (`ExportMetricsServiceRequest`), with exponential histograms of the same buckets.

use super::labels::each;
use super::wire::{double, end, fixed, message, open, signed, text, unsigned, varint};
use super::{Distribution, Line, Page, Value, classic};
use perf_core::{HistogramSnapshot, Kind, Unit};

/// Buckets a histogram may span; beyond it the scale is lowered, as OpenTelemetry's own SDKs do.
const SPAN_LIMIT: i32 = 160;

/// Totals since the start, not since the last export.
const CUMULATIVE: u64 = 2;

/// When the totals started and when they were read, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) start: u64,
    pub(crate) now: u64,
}

impl Page {
    /// Appends the page as one export request of a resource with these attributes.
    pub(crate) fn write_otlp(&self, resource: &[(&str, &str)], times: Times, out: &mut Vec<u8>) {
        message(out, 1, |out| {
            message(out, 1, |out| resource.iter().for_each(|(key, value)| attribute(out, 1, key, value)));
            message(out, 2, |out| {
                message(out, 1, |out| text(out, 1, "perf-metrics"));
                self.otlp_metrics(out, times);
            });
        });
    }

    /// One metric for each family, with a data point for each of its series.
    fn otlp_metrics(&self, out: &mut Vec<u8>, times: Times) {
        let mut open = None;
        for line in self.lines() {
            if line.opens_family {
                if let Some(opened) = open.take() {
                    close(out, opened);
                }
                open = Some(begin_metric(out, &line));
            }
            match line.value {
                Value::Distribution(distribution) => {
                    message(out, 1, |out| self.otlp_histogram(out, &line, distribution, times));
                }
                _ => message(out, 1, |out| number(out, &line, times)),
            }
        }
        if let Some(opened) = open {
            close(out, opened);
        }
    }

    fn otlp_histogram(&self, out: &mut Vec<u8>, line: &Line<'_>, distribution: &Distribution, times: Times) {
        let buckets = self.buckets(&distribution.buckets);
        each(line.labels, |key, value| attribute(out, 1, key, value));
        fixed(out, 2, times.start);
        fixed(out, 3, times.now);
        fixed(out, 4, classic::count(distribution.zeros, buckets));
        double(out, 5, distribution.sum);
        let mut thinned =
            HistogramSnapshot::from_parts(distribution.schema, distribution.zeros, distribution.sum, buckets);
        while span(&thinned) > SPAN_LIMIT && thinned.schema() > -4 {
            thinned.downscale(thinned.schema() - 1);
        }
        signed(out, 6, i64::from(thinned.schema()));
        fixed(out, 7, thinned.zeros());
        message(out, 8, |out| dense(out, &thinned));
    }
}

/// A metric that is being written: where it and its data begin, and what kind of data they are.
struct Opened {
    metric: usize,
    data: usize,
    kind: Kind,
}

fn begin_metric(out: &mut Vec<u8>, line: &Line<'_>) -> Opened {
    let metric = open(out, 2);
    text(out, 1, line.name);
    text(out, 2, line.help);
    text(out, 3, unit(line.unit));
    let field = match line.kind {
        Kind::Gauge => 5,
        Kind::Counter => 7,
        Kind::Histogram => 10,
    };
    Opened { metric, data: open(out, field), kind: line.kind }
}

/// Fields may come in any order: what describes the data follows it.
fn close(out: &mut Vec<u8>, opened: Opened) {
    if opened.kind != Kind::Gauge {
        unsigned(out, 2, CUMULATIVE);
    }
    if opened.kind == Kind::Counter {
        unsigned(out, 3, 1);
    }
    end(out, opened.data);
    end(out, opened.metric);
}

fn number(out: &mut Vec<u8>, line: &Line<'_>, times: Times) {
    fixed(out, 2, times.start);
    fixed(out, 3, times.now);
    match line.value {
        Value::Count(total) => fixed(out, 6, *total),
        Value::Number(value) => double(out, 4, *value),
        Value::Distribution(_) => {}
    }
    each(line.labels, |key, value| attribute(out, 7, key, value));
}

pub(crate) fn attribute(out: &mut Vec<u8>, field: u32, key: &str, value: &str) {
    message(out, field, |out| {
        text(out, 1, key);
        message(out, 2, |out| text(out, 1, value));
    });
}

/// From the first bucket to the last.
fn span(snapshot: &HistogramSnapshot) -> i32 {
    let first = snapshot.buckets().next().map_or(0, |(index, _)| index);
    let last = snapshot.buckets().last().map_or(0, |(index, _)| index);
    last - first + 1
}

/// Every count from the first bucket to the last. OpenTelemetry numbers a bucket by its lower bound, we by its upper.
fn dense(out: &mut Vec<u8>, snapshot: &HistogramSnapshot) {
    let Some((first, _)) = snapshot.buckets().next() else { return };
    signed(out, 1, i64::from(first - 1));
    message(out, 2, |out| {
        let mut next = first;
        for (index, count) in snapshot.buckets() {
            (next..index).for_each(|_| varint(out, 0));
            varint(out, count);
            next = index + 1;
        }
    });
}

/// The unit as UCUM spells it.
const fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Seconds => "s",
        Unit::Bytes => "By",
        _ => "1",
    }
}
