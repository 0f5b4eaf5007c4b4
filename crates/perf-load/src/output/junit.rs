//! JUnit XML: what build servers show as tests.

use super::escape;
use crate::report::{RunReport, Verdict};
use std::fmt::Write as _;

/// One test case per expectation, and one for the generator: an invalid run is an error, not a failure.
pub(super) fn suite(report: &RunReport) -> String {
    let failures = report.expectations.iter().filter(|checked| !checked.kept).count();
    let invalid = report.health.verdict == Verdict::Invalid;
    let name = escape(&format!("perf-load {}", report.target));
    let time = report.duration_s;
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite name=\"{name}\" tests=\"{}\" failures=\"{failures}\" errors=\"{}\" skipped=\"0\" time=\"{time:.3}\">\n",
        report.expectations.len() + 1,
        u8::from(invalid),
    );
    // Writing to a string cannot fail.
    for checked in &report.expectations {
        let case = escape(&checked.expectation);
        let _ = write!(xml, "<testcase classname=\"{name}\" name=\"{case}\" time=\"{time:.3}\">");
        if !checked.kept {
            let actual = escape(&checked.actual);
            let _ = write!(xml, "<failure message=\"{case} was {actual}\" type=\"expectation\"/>");
        }
        xml.push_str("</testcase>\n");
    }
    let _ = write!(xml, "<testcase classname=\"{name}\" name=\"the generator kept up\" time=\"{time:.3}\">");
    if invalid {
        let reasons = escape(&report.health.reasons.join("; "));
        let _ = write!(xml, "<error message=\"{reasons}\" type=\"invalid\"/>");
    }
    let _ = write!(xml, "</testcase>\n<system-out>{}</system-out>\n", escape(&report.to_string()));
    xml.push_str("</testsuite>\n</testsuites>\n");
    xml
}

#[cfg(test)]
mod tests {
    use crate::output::Format;
    use crate::report::Expectations;
    use crate::report::tests::report;

    #[test]
    fn each_expectation_is_a_test_case() {
        let mut report = report(985, 15);
        let limits: Expectations = "p50<1s, p99<1s, errors<0.1%".parse().unwrap();
        assert!(!report.expect(&limits));
        let xml = report.render(Format::Junit).unwrap();
        assert!(xml.contains("tests=\"4\" failures=\"2\" errors=\"0\""), "{xml}");
        assert!(xml.contains("<failure message=\"p99&lt;1s was &gt;2000"), "{xml}");
        assert_eq!(xml.matches("<testcase").count(), xml.matches("</testcase>").count());
        assert!(!xml.contains("?a=1&b"), "the target's ampersand is escaped");
    }

    #[test]
    fn an_invalid_run_is_an_error() {
        let xml = report(0, 0).render(Format::Junit).unwrap();
        assert!(xml.contains("errors=\"1\"") && xml.contains("no request was measured"), "{xml}");
    }
}
