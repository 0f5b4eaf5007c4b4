//! A Grafana dashboard for what is on the page.

use super::sink::quoted;
use crate::{FamilyView, View};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Panels per row of the dashboard's 24 columns.
const PER_ROW: usize = 2;

/// A dashboard of the families whose names start with `prefix` (`perf_cache_`): one panel each, a fixed uid, and a
/// variable for the data source, so that it loads anywhere.
///
/// ```
/// let metrics = perf_metrics::Metrics::builder().build().unwrap();
/// let json = perf_metrics::dashboard("Process", "process_", &metrics.view());
/// assert!(json.contains("\"uid\":\"perfkit-process\""));
/// ```
#[must_use]
pub fn dashboard(title: &str, prefix: &str, view: &View) -> String {
    board(title, prefix, view.families.iter().filter(|family| family.name.starts_with(prefix)))
}

/// A dashboard for each crate whose numbers are on the page (`cache`, `pool`, …), one for the `process`, and one for what
/// the `host` counts itself, by these names.
///
/// ```
/// let metrics = perf_metrics::Metrics::builder().build().unwrap();
/// metrics.counter("orders", "Orders placed").get().unwrap();
/// let boards = perf_metrics::dashboards(&metrics.view());
/// assert_eq!(boards.keys().collect::<Vec<_>>(), ["host", "metrics", "process"]);
/// ```
#[must_use]
pub fn dashboards(view: &View) -> BTreeMap<String, String> {
    let mut groups: BTreeMap<&str, Vec<&FamilyView>> = BTreeMap::new();
    for family in &view.families {
        groups.entry(group(&family.name)).or_default().push(family);
    }
    let board = |(group, families): (&str, Vec<&FamilyView>)| {
        (group.to_owned(), board(&format!("perfkit: {group}"), group, families.into_iter()))
    };
    groups.into_iter().map(board).collect()
}

/// `perf_cache_hits_total` belongs to the crate `cache`.
fn group(name: &str) -> &str {
    let crate_of = |rest: &str| CRATES.into_iter().find(|name| rest.starts_with(&format!("{name}_")));
    let own = name.strip_prefix("perf_").and_then(crate_of);
    own.unwrap_or(if name.starts_with("process_") { "process" } else { "host" })
}

/// The crates that have numbers.
const CRATES: [&str; 7] = ["cache", "pool", "resilience", "metrics", "dbopt", "http", "load"];

fn board<'a>(title: &str, prefix: &str, families: impl Iterator<Item = &'a FamilyView>) -> String {
    let uid: String = prefix.trim_end_matches('_').replace('_', "-").chars().take(30).collect();
    let mut json = format!(
        r#"{{"uid":"perfkit-{uid}","title":{},"schemaVersion":38,"version":1,"editable":true,"refresh":"10s","time":{{"from":"now-1h","to":"now"}},"templating":{{"list":[{{"name":"datasource","type":"datasource","query":"prometheus"}}]}},"tags":["perfkit"],"panels":["#,
        quoted(title)
    );
    for (position, family) in families.enumerate() {
        if position > 0 {
            json.push(',');
        }
        panel(&mut json, position, family);
    }
    json.push_str("]}");
    json
}

fn panel(json: &mut String, position: usize, family: &FamilyView) {
    let name = &family.name;
    let (expression, unit) = match family.kind {
        "counter" => (
            format!("rate({name}[$__rate_interval])"),
            if family.unit == "seconds" { "percentunit" } else { "ops" },
        ),
        "histogram" => {
            let rate = format!("sum by (le, name) (rate({name}_bucket[$__rate_interval]))");
            (format!("histogram_quantile(0.99, {rate})"), grafana_unit(family.unit))
        }
        _ => (name.clone(), grafana_unit(family.unit)),
    };
    let (x, y) = (12 * (position % PER_ROW), 8 * (position / PER_ROW));
    // Writing into a string cannot fail.
    let _ = write!(
        json,
        r#"{{"id":{},"type":"timeseries","title":{},"datasource":{{"type":"prometheus","uid":"${{datasource}}"}},"gridPos":{{"h":8,"w":12,"x":{x},"y":{y}}},"fieldConfig":{{"defaults":{{"unit":"{unit}"}},"overrides":[]}},"targets":[{{"refId":"A","expr":{}}}]}}"#,
        position + 1,
        quoted(&family.help),
        quoted(&expression)
    );
}

fn grafana_unit(unit: &str) -> &'static str {
    match unit {
        "seconds" => "s",
        "bytes" => "bytes",
        "ratio" => "percentunit",
        _ => "short",
    }
}
