//! HdrHistogram's own formats.

use crate::Error;
use crate::report::{LatencyReport, RunReport};
use crate::stats::Latencies;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;
use perf_core::time::Duration;
use std::fmt::Write as _;

/// How many lines each halving of the distance to 100 % has.
const LINES_PER_HALVING: u32 = 5;

/// The percentile table of the response times, in milliseconds. Requests that were censored are named in the last comment, because
/// the format has no place for them.
pub(super) fn percentiles(report: &RunReport) -> String {
    let response = &report.total.response;
    let measured = report.recorded.response.clone().unwrap_or_else(|| from_buckets(response));
    let mut text =
        format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut seen = 0;
    // Writing to a string cannot fail.
    if let Some(histogram) = measured.histogram() {
        for step in histogram.iter_quantiles(LINES_PER_HALVING) {
            seen += step.count_since_last_iteration();
            let (value, q) = (step.value_iterated_to() as f64 / 1e3, step.quantile_iterated_to());
            let _ = if q < 1.0 {
                writeln!(text, "{value:12.3} {q:2.12} {seen:10} {:14.2}", 1.0 / (1.0 - q))
            } else {
                writeln!(text, "{value:12.3} {q:2.12} {seen:10}")
            };
        }
        let _ = writeln!(
            text,
            "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]\n#[Max     = {:12.3}, Total count    = {:12}]\n#[Buckets = {:12}, SubBuckets     = {:12}]",
            response.mean_ms,
            response.stdev_ms,
            measured.max().as_secs_f64() * 1e3,
            measured.count(),
            histogram.buckets(),
            2048,
        );
    }
    if response.censored > 0 {
        let _ = writeln!(text, "#[Censored: {} requests took longer than their age]", response.censored);
    }
    text
}

/// The log of all intervals that have answers.
pub(super) fn log(report: &RunReport) -> Result<String, Error> {
    let refused = |detail: String| Error::Text { what: "the interval log", detail };
    let (mut bytes, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("[Histogram log format version 1.3]")
        .add_comment(&format!("[Response times in microseconds, {}]", report.target))
        .with_max_value_divisor(1_000.0)
        .begin_log_with(&mut bytes, &mut serializer)
        .map_err(|error| refused(error.to_string()))?;
    let width = Duration::from_secs_f64(report.timeline.interval_s);
    for (index, cells) in (0_u32..).zip(&report.recorded.intervals) {
        let mut interval = Latencies::with_digits(2);
        cells.iter().for_each(|(micros, count)| interval.record_micros(*micros, *count));
        if let Some(histogram) = interval.histogram() {
            log.write_histogram(histogram, width * index, width, None)
                .map_err(|error| refused(error.to_string()))?;
        }
    }
    String::from_utf8(bytes).map_err(|error| refused(error.to_string()))
}

/// A report that was read from JSON has its buckets only.
fn from_buckets(response: &LatencyReport) -> Latencies {
    let mut measured = Latencies::with_digits(2);
    for bucket in &response.buckets {
        measured.record_micros((bucket.le_ms * 1e3).round() as u64, bucket.count);
    }
    measured
}

#[cfg(test)]
mod tests {
    use crate::output::Format;
    use crate::report::RunReport;
    use crate::report::tests::report;
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    fn rows(text: &str) -> Vec<Vec<f64>> {
        text.lines()
            .filter(|line| line.trim_start().starts_with(|c: char| c.is_ascii_digit()))
            .map(|line| line.split_whitespace().map(|cell| cell.parse().unwrap()).collect())
            .collect()
    }

    #[test]
    fn the_percentile_table_agrees_with_the_report() {
        let report = report(1_000, 3);
        let text = report.render(Format::Hgrm).unwrap();
        let rows = rows(&text);
        assert!(rows.windows(2).all(|pair| pair[0][0] <= pair[1][0] && pair[0][2] <= pair[1][2]));
        let median = rows.iter().find(|row| (row[1] - 0.5).abs() < 1e-9).unwrap();
        assert!((median[0] - 500.0).abs() <= 1.0 && (median[2] - 500.0).abs() <= 1.0, "{median:?}");
        let last = rows.last().unwrap();
        assert_eq!((last[1], last[2]), (1.0, 1_000.0));
        assert!(text.contains("#[Max     =     1000.000, Total count    =         1000]"), "{text}");
        assert!(text.contains("#[Censored: 3 requests"), "{text}");
    }

    #[test]
    fn a_stored_report_still_has_a_percentile_table() {
        let report = report(1_000, 0);
        let stored = RunReport::from_json(&report.render(Format::Json).unwrap()).unwrap();
        let last = rows(&stored.render(Format::Hgrm).unwrap()).pop().unwrap();
        assert!((last[0] - 1_000.0).abs() < 10.0 && last[2] == 1_000.0, "{last:?}");
    }

    #[test]
    fn the_log_is_read_back_by_the_formats_own_reader() {
        let log = report(1_000, 0).render(Format::Hlog).unwrap();
        let mut total = 0;
        for entry in IntervalLogIterator::new(log.as_bytes()) {
            if let LogEntry::Interval(interval) = entry.unwrap() {
                let bytes = base64_of(interval.encoded_histogram());
                let histogram: Histogram<u64> =
                    Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
                total += histogram.len();
            }
        }
        assert_eq!(total, 1_000, "{log}");
    }

    /// Decodes standard base64, which the log's reader leaves to its caller.
    fn base64_of(text: &str) -> Vec<u8> {
        let value = |byte| match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
        for byte in text.bytes().filter(|byte| *byte != b'=') {
            held = held << 6 | u32::from(value(byte));
            bits += 6;
            if bits >= 8 {
                bits -= 8;
                bytes.push((held >> bits) as u8);
                held &= (1 << bits) - 1;
            }
        }
        bytes
    }
}
