//! Prometheus text 0.0.4.

use super::{Distribution, Line, Page, Value, classic, number};
use perf_core::Kind;

impl Page {
    /// Appends the page as Prometheus text 0.0.4: families and label sets in order, byte-identical without writes.
    pub(crate) fn write_text(&self, out: &mut Vec<u8>) {
        for line in self.lines() {
            if line.opens_family {
                header(out, &line);
            }
            match line.value {
                Value::Count(total) => {
                    sample(out, line.name, "", line.labels, None);
                    number::whole(out, *total);
                    out.push(b'\n');
                }
                Value::Number(value) => {
                    sample(out, line.name, "", line.labels, None);
                    number::float(out, *value);
                    out.push(b'\n');
                }
                Value::Distribution(distribution) => {
                    histogram(out, &line, distribution, self.buckets(&distribution.buckets));
                }
            }
        }
    }
}

fn header(out: &mut Vec<u8>, line: &Line<'_>) {
    out.extend_from_slice(b"# HELP ");
    out.extend_from_slice(line.name.as_bytes());
    out.push(b' ');
    for byte in line.help.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            byte => out.push(byte),
        }
    }
    out.extend_from_slice(b"\n# TYPE ");
    out.extend_from_slice(line.name.as_bytes());
    out.extend_from_slice(match line.kind {
        Kind::Counter => b" counter\n",
        Kind::Gauge => b" gauge\n",
        Kind::Histogram => b" histogram\n",
    });
}

/// The bound of a bucket.
#[derive(Clone, Copy)]
pub(super) enum Bound {
    /// `2^exponent`, always with a decimal point, as OpenMetrics wants it.
    Canonical(i32),
    /// Everything.
    All,
}

/// Writes everything of a sample but its value.
pub(super) fn sample(out: &mut Vec<u8>, name: &str, suffix: &str, labels: &str, le: Option<Bound>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(suffix.as_bytes());
    if !labels.is_empty() || le.is_some() {
        out.push(b'{');
        out.extend_from_slice(labels.as_bytes());
        if let Some(bound) = le {
            out.extend_from_slice(if labels.is_empty() { b"le=\"" } else { b",le=\"" });
            match bound {
                Bound::Canonical(exponent) => {
                    out.extend_from_slice(classic::bound(exponent));
                    // Negative powers have decimals anyway.
                    if exponent >= 0 {
                        out.extend_from_slice(b".0");
                    }
                }
                Bound::All => out.extend_from_slice(b"+Inf"),
            }
            out.push(b'"');
        }
        out.push(b'}');
    }
    out.push(b' ');
}

fn histogram(out: &mut Vec<u8>, line: &Line<'_>, distribution: &Distribution, buckets: &[(i32, u64)]) {
    let count = classic::count(distribution.zeros, buckets);
    let values = classic::cumulative(line.unit, distribution.schema, distribution.zeros, buckets);
    bucket_lines(out, line, values, count);
    sample(out, line.name, "_sum", line.labels, None);
    number::float(out, distribution.sum);
    out.push(b'\n');
    sample(out, line.name, "_count", line.labels, None);
    number::whole(out, count);
    out.push(b'\n');
}

/// A page of histograms is mostly these lines, which differ in their ends only: what they share is put together once and
/// copied.
fn bucket_lines(out: &mut Vec<u8>, line: &Line<'_>, values: impl Iterator<Item = (i32, u64)>, count: u64) {
    let start = out.len();
    out.extend_from_slice(line.name.as_bytes());
    out.extend_from_slice(b"_bucket{");
    out.extend_from_slice(line.labels.as_bytes());
    out.extend_from_slice(if line.labels.is_empty() { b"le=\"" } else { b",le=\"" });
    let shared = start..out.len();
    for (exponent, at_most) in values {
        out.extend_from_slice(classic::bound_end(exponent));
        number::whole(out, at_most);
        out.push(b'\n');
        out.extend_from_within(shared.clone());
    }
    out.extend_from_slice(b"+Inf\"} ");
    number::whole(out, count);
    out.push(b'\n');
}
