//! The report as one HTML file: no script, no network, charts as inline SVG.

use crate::report::{Index, Report, Row, Run, grouped, rows};
use std::fmt::Write as _;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 280.0;
const MARGIN: f64 = 56.0;

const STYLE: &str = "
:root { color-scheme: light dark; --before: #b45309; --after: #0e7490; --line: #8886; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .75rem; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
svg { width: 100%; height: auto; } svg text { font-size: 12px; fill: currentColor; }
.before { stroke: var(--before); color: var(--before); } .after { stroke: var(--after); color: var(--after); }
code { font-size: .9em; overflow-wrap: anywhere; } figure { margin: 1.5rem 0; } figcaption { font-weight: 600; }
";

/// The whole page.
pub fn page(report: &Report) -> String {
    let mut html = String::from("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">");
    html += "<meta name=\"viewport\" content=\"width=device-width\"><title>storefront: before and after perfkit</title>";
    let _ = write!(html, "<style>{STYLE}</style></head><body><main><h1>{}</h1>", escaped(&verdict(report)));
    let _ = write!(html, "<p><code>{}</code><br>{}</p>", escaped(&report.command), escaped(&report.machine));
    let closed = format!("Closed phase: {} users for {} s", report.users, report.seconds);
    push_phase(&mut html, &closed, &report.before, &report.after);
    let open = format!("Open phase: {} requests/s", report.open.rate);
    push_phase(&mut html, &open, &report.open.before, &report.open.after);
    push_indexes(&mut html, &report.indexes);
    if let Some(chaos) = &report.chaos {
        let _ = write!(
            html,
            "<h2>Chaos: the database stalled for {} s, then gone for {} s</h2>",
            chaos.stall_seconds, chaos.outage_seconds
        );
        push_table(&mut html, &chaos.rows());
    }
    let _ = write!(
        html,
        "<h2>Answers</h2><p>{} answers were checked against the database, {} of them by content: {} wrong, {} stale.</p>",
        report.checked, report.compared, report.wrong, report.stale
    );
    html += "</main></body></html>\n";
    html
}

fn verdict(report: &Report) -> String {
    let (before, after) = (&report.before, &report.after);
    format!(
        "{:.1} times the requests, mean {:.1} ms instead of {:.0} ms, {} wrong and {} stale answers",
        after.rps / before.rps.max(f64::MIN_POSITIVE),
        after.mean_ms,
        before.mean_ms,
        report.wrong,
        report.stale
    )
}

fn push_indexes(html: &mut String, indexes: &[Index]) {
    if indexes.is_empty() {
        return;
    }
    html.push_str("<h2>Indexes</h2><p>Recommended by perf-dbopt from the statements of the first run, and created.</p><ul>");
    for index in indexes {
        let _ =
            write!(html, "<li><code>{}</code><br>{}<ul>", escaped(&index.statement), escaped(&index.reason));
        for gain in &index.serves {
            let (calls, before, after) =
                (grouped(gain.calls as f64, 0), grouped(gain.cost_before, 0), grouped(gain.cost_after, 0));
            let _ = write!(
                html,
                "<li>{calls} calls, cost {before} to {after}: <code>{}</code></li>",
                escaped(&gain.statement)
            );
        }
        html.push_str("</ul></li>");
    }
    html.push_str("</ul>");
}

fn push_phase(html: &mut String, title: &str, before: &Run, after: &Run) {
    let _ = write!(html, "<h2>{}</h2>", escaped(title));
    push_table(html, &rows(before, after));
    html.push_str(&quantile_chart(before, after));
}

fn push_table(html: &mut String, rows: &[Row]) {
    html.push_str(
        "<table><thead><tr><th></th><th>before</th><th>after</th><th>change</th></tr></thead><tbody>",
    );
    for row in rows {
        let _ = write!(
            html,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            row.name, row.before, row.after, row.change
        );
    }
    html.push_str("</tbody></table>");
}

/// Latency over quantile, both axes logarithmic: the tail is as wide as the middle.
fn quantile_chart(before: &Run, after: &Run) -> String {
    let points = || before.quantiles.iter().chain(&after.quantiles);
    let lowest = points().map(|(_, ms)| *ms).filter(|ms| *ms > 0.0).fold(f64::INFINITY, f64::min);
    let highest = points().map(|(_, ms)| *ms).fold(0.0, f64::max);
    if !(lowest.is_finite() && highest > lowest) {
        return String::new();
    }
    let nines = |q: f64| -(1.0 - q.min(0.9999)).log10();
    let x = |q: f64| MARGIN + nines(q) / 4.0 * (WIDTH - 2.0 * MARGIN);
    let (bottom, top) = (lowest.log10().floor(), highest.log10().ceil());
    let y = |ms: f64| {
        HEIGHT - MARGIN / 2.0 - (ms.max(lowest).log10() - bottom) / (top - bottom) * (HEIGHT - MARGIN)
    };
    let mut svg = format!(
        "<figure><figcaption>Latency by quantile</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"latency by quantile, before and after\">"
    );
    let mut decade = bottom;
    while decade <= top {
        let ms = 10_f64.powf(decade);
        let _ = write!(
            svg,
            "<line x1=\"{MARGIN}\" x2=\"{}\" y1=\"{1}\" y2=\"{1}\" stroke=\"currentColor\" opacity=\".2\"/><text x=\"4\" y=\"{1}\">{ms} ms</text>",
            WIDTH - MARGIN,
            y(ms)
        );
        decade += 1.0;
    }
    for (q, label) in [(0.0, "0"), (0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9")] {
        let _ =
            write!(svg, "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{label}</text>", x(q), HEIGHT - 6.0);
    }
    for (class, run) in [("before", before), ("after", after)] {
        let line: Vec<String> =
            run.quantiles.iter().map(|(q, ms)| format!("{:.1},{:.1}", x(*q), y(*ms))).collect();
        let _ = write!(
            svg,
            "<polyline class=\"{class}\" fill=\"none\" stroke-width=\"2\" points=\"{}\"/>",
            line.join(" ")
        );
        if let Some((q, ms)) = run.quantiles.get(run.quantiles.len() / 3) {
            let _ = write!(
                svg,
                "<text class=\"{class}\" stroke=\"none\" x=\"{}\" y=\"{}\">{class}</text>",
                x(*q) + 6.0,
                y(*ms) - 6.0
            );
        }
    }
    svg += "</svg></figure>";
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
