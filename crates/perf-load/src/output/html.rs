//! The report as one page that loads nothing.

use super::chart::{Chart, Line, number};
use super::escape;
use crate::report::{LatencyReport, LoadModel, RunReport, StepReport, bytes};
use std::fmt::Write as _;

const STYLE: &str = include_str!("report.css");

pub(super) fn page(report: &RunReport) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>Load test of {target}</title><style>{STYLE}</style></head><body>\n\
         <header><h1>Load test of {target}</h1><p>{load}</p></header>\n<main>\n",
        target = escape(&report.target),
        load = escape(&report.describe_load()),
    );
    page.push_str(&verdict(report));
    page.push_str(&expectations(report));
    page.push_str(&latencies(report));
    page.push_str(&charts(report));
    page.push_str(&errors(report));
    page.push_str(&steps(report));
    page.push_str(&environment(report));
    page.push_str("</main></body></html>\n");
    page
}

fn verdict(report: &RunReport) -> String {
    let total = &report.total;
    let stopped = if report.interrupted { " The run was stopped early." } else { "" };
    let failed = report.expectations.iter().filter(|checked| !checked.kept).count();
    let limits = match (report.expectations.len(), failed) {
        (0, _) => String::new(),
        (all, 0) => format!(" All {all} expectations were kept."),
        (all, failed) => format!(" {failed} of {all} expectations were not kept."),
    };
    let reasons: String =
        report.health.reasons.iter().map(|reason| format!("<li>{}</li>", escape(reason))).collect();
    let reasons = if reasons.is_empty() { reasons } else { format!("<ul>{reasons}</ul>") };
    format!(
        "<section><p class=\"verdict {class}\">{verdict}</p><p>{requests} requests in {duration} s: {rps} good answers per second, \
         {share} % errors, {sent} sent, {received} received.{limits}{stopped}</p>{reasons}</section>\n",
        class = report.health.verdict.to_string().to_lowercase(),
        verdict = report.health.verdict,
        requests = total.requests,
        duration = number(report.duration_s),
        rps = number(total.rps),
        share = number(total.error_rate() * 100.0),
        sent = bytes(total.bytes_sent),
        received = bytes(total.bytes_received),
    )
}

fn expectations(report: &RunReport) -> String {
    if report.expectations.is_empty() {
        return String::new();
    }
    let rows: String = report
        .expectations
        .iter()
        .map(|checked| {
            let (class, word) = if checked.kept { ("good", "kept") } else { ("bad", "not kept") };
            let (expected, actual) = (escape(&checked.expectation), escape(&checked.actual));
            format!("<tr><td>{expected}</td><td>{actual}</td><td class=\"{class}\">{word}</td></tr>")
        })
        .collect();
    format!(
        "<section><h2>Expectations</h2><table><thead><tr><th>expected</th><th>measured</th><th>result</th></tr></thead><tbody>{rows}</tbody></table></section>\n"
    )
}

const HEADINGS: &str = "<th>requests</th><th>mean</th><th>p50</th><th>p90</th><th>p95</th><th>p99</th><th>p99.9</th><th>max</th>";

fn latencies(report: &RunReport) -> String {
    let total = &report.total;
    let mut rows = latency_row("response, from the planned instant", &total.response);
    rows.push_str(&latency_row("service, from the first byte sent", &total.service));
    if report.load.model == LoadModel::Open {
        rows.push_str(&latency_row("lag of the generator", &total.lag));
    }
    if total.failed.count > 0 {
        rows.push_str(&latency_row("failed requests", &total.failed));
    }
    format!(
        "<section><h2>Latency, milliseconds</h2><table><thead><tr><th></th>{HEADINGS}</tr></thead><tbody>{rows}</tbody></table>\
         <p class=\"note\">A value after &gt; is a lower bound: requests that timed out or were cut off count as longer than their age. \
         A value after ~ rests on fewer than ten requests beyond it.</p></section>\n"
    )
}

fn latency_row(name: &str, latency: &LatencyReport) -> String {
    let mut row = format!(
        "<tr><th>{name}</th><td>{}</td><td>{}</td>",
        latency.count + latency.censored,
        number(latency.mean_ms)
    );
    for q in [0.5, 0.9, 0.95, 0.99, 0.999] {
        let above = if latency.is_lower_bound(q) { "&gt;" } else { "" };
        let thin = if latency.is_thin(q) { "~" } else { "" };
        let _ = write!(row, "<td>{above}{thin}{}</td>", number(latency.quantile_ms(q)));
    }
    let _ = write!(row, "<td>{}</td></tr>", number(latency.max_ms));
    row
}

fn charts(report: &RunReport) -> String {
    let timeline = &report.timeline;
    let width = timeline.interval_s;
    let to = width * timeline.planned.len() as f64;
    let warmup = report.load.warmup_s;
    let over_time = |values: &[f64]| -> Vec<(f64, f64)> {
        values.iter().enumerate().map(|(index, value)| ((index as f64 + 0.5) * width, *value)).collect()
    };
    let rate = |counts: &[u64]| -> Vec<f64> { counts.iter().map(|count| *count as f64 / width).collect() };
    let chart = |title, unit, lines| {
        let ticks =
            (0..=5).map(|n| to * f64::from(n) / 5.0).map(|at| (at, format!("{} s", number(at)))).collect();
        let shaded = (warmup > 0.0).then_some((0.0, warmup));
        Chart { title, unit, from: 0.0, to, ticks, lines, shaded }.svg()
    };
    let rates = vec![
        Line { name: "planned", class: "second", points: over_time(&rate(&timeline.planned)) },
        Line { name: "good answers", class: "first", points: over_time(&rate(&timeline.ok)) },
        Line { name: "errors", class: "third", points: over_time(&rate(&timeline.errors)) },
    ];
    let times = vec![
        Line { name: "max", class: "second", points: over_time(&timeline.max_ms) },
        Line { name: "p99", class: "third", points: over_time(&timeline.p99_ms) },
        Line { name: "p50", class: "first", points: over_time(&timeline.p50_ms) },
    ];
    let received =
        vec![Line { name: "received", class: "first", points: over_time(&rate(&timeline.bytes_received)) }];
    format!(
        "<section><h2>Over time</h2>{}{}{}</section>\n<section><h2>Distribution</h2>{}</section>\n",
        chart("Requests", "per second", rates),
        chart("Response time of good answers", "milliseconds", times),
        chart("Bytes", "per second", received),
        quantiles(&report.total)
    )
}

/// Times over 1/(1−q) on a logarithmic axis: the gap between the lines is time spent waiting to be sent.
fn quantiles(total: &StepReport) -> String {
    let line = |latency: &LatencyReport| -> Vec<(f64, f64)> {
        let all = (latency.count + latency.censored) as f64;
        let mut seen = 0;
        let points = latency.buckets.iter().filter_map(|bucket| {
            seen += bucket.count;
            let beyond = 1.0 - seen as f64 / all;
            (beyond > 0.0).then(|| (-beyond.log10(), bucket.le_ms))
        });
        points.collect()
    };
    let lines = vec![
        Line { name: "service", class: "second", points: line(&total.service) },
        Line { name: "response", class: "first", points: line(&total.response) },
    ];
    let to = lines.iter().flat_map(|line| &line.points).fold(1.0_f64, |to, (at, _)| to.max(*at));
    let named =
        [(0.0, "0"), (0.301, "50"), (1.0, "90"), (2.0, "99"), (3.0, "99.9"), (4.0, "99.99"), (5.0, "99.999")];
    let ticks =
        named.iter().filter(|(at, _)| *at <= to).map(|(at, text)| (*at, format!("{text} %"))).collect();
    let title = "Response and service time by percentile";
    Chart { title, unit: "milliseconds", from: 0.0, to, ticks, lines, shaded: None }.svg()
}

fn errors(report: &RunReport) -> String {
    if report.errors.is_empty() {
        return "<section><h2>Errors</h2><p>None.</p></section>\n".to_owned();
    }
    let rows: String = report
        .errors
        .iter()
        .map(|error| {
            format!(
                "<tr><th>{}</th><td>{}</td><td>{:.1} s</td><td>{:.1} s</td><td class=\"text\">{}</td></tr>",
                error.kind,
                error.count,
                error.first_s,
                error.last_s,
                escape(&error.sample)
            )
        })
        .collect();
    let outages: String = report
        .outages()
        .iter()
        .map(|outage| {
            let end = if outage.over { "" } else { ", to the end of the run" };
            format!(
                "<p>Nothing succeeded from {} s to {} s{end}.</p>",
                number(outage.from_s),
                number(outage.to_s)
            )
        })
        .collect();
    format!(
        "<section><h2>Errors</h2>{outages}<table><thead><tr><th>kind</th><th>count</th><th>first</th><th>last</th><th class=\"text\">the first one</th></tr></thead><tbody>{rows}</tbody></table></section>\n"
    )
}

fn steps(report: &RunReport) -> String {
    let rows: String = report
        .steps
        .iter()
        .map(|step| {
            let row = latency_row(&escape(&step.name), &step.response);
            let cells = format!(
                "<td>{}</td><td>{}</td><td>{}</td></tr>",
                number(step.rps),
                step.errors,
                bytes(step.bytes_received)
            );
            format!("{}{cells}", row.trim_end_matches("</tr>"))
        })
        .collect();
    format!(
        "<section><h2>Steps, response time in milliseconds</h2><table><thead><tr><th>step</th>{HEADINGS}<th>per second</th><th>errors</th><th>received</th></tr></thead><tbody>{rows}</tbody></table></section>\n"
    )
}

fn environment(report: &RunReport) -> String {
    let (load, health) = (&report.load, &report.health);
    let cpu = health.cpu.map_or_else(|| "not known".to_owned(), |cpu| format!("{:.0} %", cpu * 100.0));
    let rows = [
        ("seed", load.seed.to_string()),
        ("warm-up", format!("{} s, {} requests", number(load.warmup_s), report.warmup_requests)),
        ("timeout", format!("{} ms", number(load.timeout_ms))),
        ("most in flight", load.max_in_flight.to_string()),
        ("connections opened", report.connections.to_string()),
        ("requests repeated after an idle connection was closed", report.keep_alive_races.to_string()),
        ("generator threads", load.threads.to_string()),
        ("busiest generator thread", cpu),
        ("generator's timers late, p99", format!("{} ms", number(health.canary.p99_ms))),
        ("sent of planned", format!("{:.2} %", health.achieved * 100.0)),
        ("perf-load", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    let rows: String =
        rows.iter().map(|(name, value)| format!("<tr><th>{name}</th><td>{value}</td></tr>")).collect();
    format!("<section><h2>Generator</h2><table><tbody>{rows}</tbody></table></section>\n")
}

#[cfg(test)]
mod tests {
    use crate::output::Format;
    use crate::report::tests::report;

    #[test]
    fn the_page_loads_nothing_and_runs_nothing() {
        let mut report = report(985, 15);
        report.expect(&"p99<1s, errors<5%".parse().unwrap());
        let page = report.render(Format::Html).unwrap();
        for forbidden in ["<script", "src=", "<link", "@import", "url(", "<shop>", "onload"] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        assert!(page.contains("http://shop.example/?a=1&amp;b=2"));
        assert!(page.contains("GET /&lt;shop&gt;"), "the sample of an error is shown, harmless");
        assert!(page.contains("1 of 2 expectations were not kept"));
        assert!(!page.contains("NaN") && !page.contains("inf"));
        for tag in ["section", "table", "svg", "figure", "tr", "td", "p"] {
            let (open, close) = (
                page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count(),
                page.matches(&format!("</{tag}>")).count(),
            );
            assert_eq!(open, close, "{tag}");
        }
    }

    #[test]
    fn an_empty_run_has_a_page_too() {
        let page = report(0, 0).render(Format::Html).unwrap();
        assert!(page.contains("INVALID") && page.contains("no request was measured"));
        assert!(!page.contains("NaN") && page.len() < 60_000);
    }

    #[test]
    fn the_page_of_an_hour_stays_small() {
        let mut report = report(1_000, 0);
        let hour = 3_600;
        let timeline = &mut report.timeline;
        timeline.planned = vec![20_000; hour];
        timeline.ok = vec![20_000; hour];
        timeline.errors = vec![0; hour];
        timeline.bytes_received = vec![1 << 20; hour];
        timeline.p50_ms = vec![1.25; hour];
        timeline.p99_ms = vec![9.75; hour];
        timeline.max_ms = vec![99.5; hour];
        assert!(report.render(Format::Html).unwrap().len() < 400_000);
    }
}
