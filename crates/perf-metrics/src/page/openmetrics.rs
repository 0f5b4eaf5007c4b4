//! OpenMetrics 1.0.0.

use super::text::{Bound, sample};
use super::{Distribution, Line, Note, Page, Value, classic, number};
use perf_core::{Kind, Unit};

impl Page {
    /// Appends the page as OpenMetrics 1.0.0, exemplars and the end mark included.
    pub(crate) fn write_openmetrics(&self, out: &mut Vec<u8>) {
        let mut as_counter = false;
        for line in self.lines() {
            let base = line.name.strip_suffix("_total").unwrap_or(line.name);
            if line.opens_family {
                // `x_total` is a sample of the family `x` here. Where there is another `x`, it keeps its name and loses its type.
                as_counter = line.kind == Kind::Counter && (base == line.name || !self.has_family(base));
                header(out, &line, if as_counter { base } else { line.name }, as_counter);
            }
            match line.value {
                Value::Count(total) => {
                    counter(out, &line, base, as_counter);
                    number::whole(out, *total);
                    out.push(b'\n');
                }
                Value::Number(value) => {
                    counter(out, &line, base, as_counter);
                    number::float(out, *value);
                    out.push(b'\n');
                }
                Value::Distribution(distribution) => self.distribution_lines(out, &line, distribution),
            }
        }
        out.extend_from_slice(b"# EOF\n");
    }

    fn distribution_lines(&self, out: &mut Vec<u8>, line: &Line<'_>, distribution: &Distribution) {
        let buckets = self.buckets(&distribution.buckets);
        let notes = self.notes(distribution);
        let mut above = i32::MIN;
        for (exponent, at_most) in
            classic::cumulative(line.unit, distribution.schema, distribution.zeros, buckets)
        {
            sample(out, line.name, "_bucket", line.labels, Some(Bound::Canonical(exponent)));
            number::whole(out, at_most);
            self.exemplar(out, notes.iter().find(|note| note.octave > above && note.octave <= exponent));
            above = exponent;
        }
        let count = classic::count(distribution.zeros, buckets);
        sample(out, line.name, "_bucket", line.labels, Some(Bound::All));
        number::whole(out, count);
        self.exemplar(out, notes.iter().find(|note| note.octave > above));
        sample(out, line.name, "_sum", line.labels, None);
        number::float(out, distribution.sum);
        out.push(b'\n');
        sample(out, line.name, "_count", line.labels, None);
        number::whole(out, count);
        out.push(b'\n');
    }

    /// Ends a bucket's line, with its exemplar where there is one.
    fn exemplar(&self, out: &mut Vec<u8>, note: Option<&Note>) {
        if let Some(note) = note {
            out.extend_from_slice(b" # {");
            out.extend_from_slice(self.note_labels(note).as_bytes());
            out.extend_from_slice(b"} ");
            number::float(out, note.value);
        }
        out.push(b'\n');
    }
}

fn counter(out: &mut Vec<u8>, line: &Line<'_>, base: &str, as_counter: bool) {
    if as_counter {
        sample(out, base, "_total", line.labels, None);
    } else {
        sample(out, line.name, "", line.labels, None);
    }
}

fn header(out: &mut Vec<u8>, line: &Line<'_>, family: &str, as_counter: bool) {
    let mut meta = |word: &str, text: &[&str]| {
        out.extend_from_slice(word.as_bytes());
        out.extend_from_slice(family.as_bytes());
        text.iter().for_each(|text| out.extend_from_slice(text.as_bytes()));
        out.push(b'\n');
    };
    let kind = match line.kind {
        Kind::Counter if as_counter => " counter",
        Kind::Counter => " unknown",
        Kind::Gauge => " gauge",
        Kind::Histogram => " histogram",
    };
    meta("# TYPE ", &[kind]);
    let unit = match line.unit {
        Unit::Seconds => "seconds",
        Unit::Bytes => "bytes",
        Unit::Ratio => "ratio",
        _ => "",
    };
    // The unit must end the family's name; where it does not, it is left out.
    if !unit.is_empty() && family.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_')) {
        meta("# UNIT ", &[" ", unit]);
    }
    out.extend_from_slice(b"# HELP ");
    out.extend_from_slice(family.as_bytes());
    out.push(b' ');
    for byte in line.help.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'"' => out.extend_from_slice(b"\\\""),
            b'\n' => out.extend_from_slice(b"\\n"),
            byte => out.push(byte),
        }
    }
    out.push(b'\n');
}
