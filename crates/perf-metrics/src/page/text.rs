//! Prometheus text 0.0.4.

use super::{Line, Page, Value, classic, number};
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
                    sample(out, &line, "", None);
                    number::whole(out, *total);
                    out.push(b'\n');
                }
                Value::Number(value) => {
                    sample(out, &line, "", None);
                    number::float(out, *value);
                    out.push(b'\n');
                }
                Value::Distribution { zeros, sum, schema, buckets } => {
                    distribution(out, &line, *zeros, *sum, *schema, self.buckets(buckets));
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

/// The bound of a bucket: `2^exponent`, or everything.
#[derive(Clone, Copy)]
enum Bound {
    Power(i32),
    All,
}

/// Writes everything of a sample but its value.
fn sample(out: &mut Vec<u8>, line: &Line<'_>, suffix: &str, le: Option<Bound>) {
    out.extend_from_slice(line.name.as_bytes());
    out.extend_from_slice(suffix.as_bytes());
    if !line.labels.is_empty() || le.is_some() {
        out.push(b'{');
        out.extend_from_slice(line.labels.as_bytes());
        if let Some(bound) = le {
            out.extend_from_slice(if line.labels.is_empty() { b"le=\"" } else { b",le=\"" });
            match bound {
                Bound::Power(exponent) => out.extend_from_slice(classic::bound(exponent)),
                Bound::All => out.extend_from_slice(b"+Inf"),
            }
            out.push(b'"');
        }
        out.push(b'}');
    }
    out.push(b' ');
}

fn distribution(
    out: &mut Vec<u8>,
    line: &Line<'_>,
    zeros: u64,
    sum: f64,
    schema: i8,
    buckets: &[(i32, u64)],
) {
    for (exponent, at_most) in classic::cumulative(line.unit, schema, zeros, buckets) {
        sample(out, line, "_bucket", Some(Bound::Power(exponent)));
        number::whole(out, at_most);
        out.push(b'\n');
    }
    let count = classic::count(zeros, buckets);
    sample(out, line, "_bucket", Some(Bound::All));
    number::whole(out, count);
    out.push(b'\n');
    sample(out, line, "_sum", None);
    number::float(out, sum);
    out.push(b'\n');
    sample(out, line, "_count", None);
    number::whole(out, count);
    out.push(b'\n');
}
