//! OpenTelemetry's metrics (`ExportMetricsServiceRequest`), with exponential histograms of the same buckets.

use super::labels::each;
use super::wire::{double, fixed, message, signed, text, unsigned, varint};
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
    /// Appends the page as one export request.
    pub(crate) fn write_otlp(&self, service: &str, times: Times, out: &mut Vec<u8>) {
        message(out, 1, |out| {
            message(out, 1, |out| attribute(out, 1, "service.name", service));
            message(out, 2, |out| {
                message(out, 1, |out| text(out, 1, "perf-metrics"));
                for line in self.lines() {
                    message(out, 2, |out| self.otlp_metric(out, &line, times));
                }
            });
        });
    }

    fn otlp_metric(&self, out: &mut Vec<u8>, line: &Line<'_>, times: Times) {
        text(out, 1, line.name);
        text(out, 2, line.help);
        text(out, 3, unit(line.unit));
        match line.value {
            Value::Distribution(distribution) => message(out, 10, |out| {
                message(out, 1, |out| self.otlp_histogram(out, line, distribution, times));
                unsigned(out, 2, CUMULATIVE);
            }),
            _ if line.kind == Kind::Counter => message(out, 7, |out| {
                message(out, 1, |out| number(out, line, times));
                unsigned(out, 2, CUMULATIVE);
                unsigned(out, 3, 1);
            }),
            _ => message(out, 5, |out| message(out, 1, |out| number(out, line, times))),
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

fn attribute(out: &mut Vec<u8>, field: u32, key: &str, value: &str) {
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
