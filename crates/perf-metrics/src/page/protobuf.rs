//! Prometheus' protobuf (`io.prometheus.client.MetricFamily`, each preceded by its length), native histograms included.

use super::labels::each;
use super::wire::{begin, double, end, message, pair, signed, text, unsigned, varint, zigzag};
use super::{Distribution, Line, Note, Page, Value, classic};
use perf_core::{HistogramSnapshot, Kind};

/// Native buckets a series may have; beyond it the schema is lowered, as Prometheus' own clients do.
const NATIVE_LIMIT: usize = 160;

/// Values at or below this are counted as zero: `2^-128`, as everywhere in perfkit.
const ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;

impl Page {
    /// Appends the page as length-delimited protobuf.
    pub(crate) fn write_protobuf(&self, out: &mut Vec<u8>) {
        let mut family: Option<usize> = None;
        for line in self.lines() {
            if line.opens_family {
                if let Some(start) = family {
                    end(out, start);
                }
                family = Some(begin(out));
                text(out, 1, line.name);
                text(out, 2, line.help);
                unsigned(out, 3, kind(line.kind));
            }
            message(out, 4, |out| self.metric(out, &line));
        }
        if let Some(start) = family {
            end(out, start);
        }
    }

    fn metric(&self, out: &mut Vec<u8>, line: &Line<'_>) {
        each(line.labels, |name, value| pair(out, 1, name, value));
        let number = match line.value {
            Value::Count(total) => *total as f64,
            Value::Number(value) => *value,
            Value::Distribution(distribution) => {
                return message(out, 7, |out| self.histogram(out, line, distribution));
            }
        };
        let field = if line.kind == Kind::Counter { 3 } else { 2 };
        message(out, field, |out| double(out, 1, number));
    }

    fn histogram(&self, out: &mut Vec<u8>, line: &Line<'_>, distribution: &Distribution) {
        let buckets = self.buckets(&distribution.buckets);
        let notes = self.notes(distribution);
        unsigned(out, 1, classic::count(distribution.zeros, buckets));
        double(out, 2, distribution.sum);
        let mut above = i32::MIN;
        for (exponent, at_most) in
            classic::cumulative(line.unit, distribution.schema, distribution.zeros, buckets)
        {
            let note = notes.iter().find(|note| note.octave > above && note.octave <= exponent);
            above = exponent;
            message(out, 3, |out| {
                unsigned(out, 1, at_most);
                double(out, 2, f64::from(exponent).exp2());
                self.exemplar_message(out, note);
            });
        }
        if buckets.len() <= NATIVE_LIMIT {
            native(out, distribution.schema, distribution.zeros, buckets);
        } else {
            let mut thinned = HistogramSnapshot::from_parts(
                distribution.schema,
                distribution.zeros,
                distribution.sum,
                buckets,
            );
            thinned.limit_buckets(NATIVE_LIMIT);
            let buckets: Vec<(i32, u64)> = thinned.buckets().collect();
            native(out, thinned.schema(), thinned.zeros(), &buckets);
        }
    }

    fn exemplar_message(&self, out: &mut Vec<u8>, note: Option<&Note>) {
        let Some(note) = note else { return };
        message(out, 3, |out| {
            each(self.note_labels(note), |name, value| pair(out, 1, name, value));
            double(out, 2, note.value);
        });
    }
}

const fn kind(kind: Kind) -> u64 {
    match kind {
        Kind::Counter => 0,
        Kind::Gauge => 1,
        Kind::Histogram => 4,
    }
}

/// The native part: spans of neighbouring buckets, and each bucket's count as the difference to the one before.
fn native(out: &mut Vec<u8>, schema: i8, zeros: u64, buckets: &[(i32, u64)]) {
    signed(out, 5, i64::from(schema));
    double(out, 6, ZERO_THRESHOLD);
    unsigned(out, 7, zeros);
    if buckets.is_empty() {
        // Without a span a scraper could not tell an empty native histogram from a classic one.
        return message(out, 12, |out| {
            signed(out, 1, 0);
            unsigned(out, 2, 0);
        });
    }
    let mut next = 0;
    for span in buckets.chunk_by(|a, b| b.0 == a.0 + 1) {
        if let Some((start, _)) = span.first() {
            message(out, 12, |out| {
                signed(out, 1, i64::from(start - next));
                unsigned(out, 2, span.len() as u64);
            });
            next = start + span.len() as i32;
        }
    }
    message(out, 13, |out| {
        let mut before = 0_i64;
        for (_, count) in buckets {
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            varint(out, zigzag(count - before));
            before = count;
        }
    });
}
