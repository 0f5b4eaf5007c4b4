//! Compares the table of series in a crate's documentation with what its components report.

use crate::Recorder;
use perf_core::{Component, Kind};
use std::collections::{BTreeMap, BTreeSet};

/// Fails unless the tables in `docs` name exactly the families of series that `component` reports.
///
/// See [`assert_all_metrics_documented`], which takes the components of a whole page.
///
/// # Panics
/// With every difference, when there is one.
#[track_caller]
pub fn assert_metrics_documented(component: &dyn Component, docs: &str) {
    assert_all_metrics_documented(&[component], docs);
}

/// Fails unless the tables in `docs` name exactly the families of series that `components` report together.
///
/// `docs` is Markdown, or Rust source with Markdown in its doc comments. A row counts when its first cell has a name in
/// backticks that begins with `perf_`; the cell may have several. What else the table says is compared as well:
///
/// * the labels, in braces after the name (`` `perf_pool_rejected_total{reason}` ``) or in a column headed *labels*, without
///   the label `name`, which every series has;
/// * the kind, in a column headed *kind* or *type*: `counter`, `gauge` or `histogram`.
///
/// A row that contains the words *left out* may be missing from the report: a gauge that is not known yet.
///
/// ```
/// # use perf_core::{Component, ComponentId, Counter, Desc, Sink, Unit};
/// # const HITS: Desc = Desc::counter("perf_example_hits_total", "Hits", Unit::Count);
/// # struct Cache(Counter);
/// # impl Component for Cache {
/// #     fn id(&self) -> ComponentId { ComponentId::new("cache", "users") }
/// #     fn collect(&self, sink: &mut dyn Sink) { sink.counter(&HITS, &[("tier", "l1")], self.0.get()) }
/// # }
/// # let cache = Cache(Counter::new());
/// perf_testkit::assert_metrics_documented(&cache, "
///     | series | kind | labels | what it counts |
///     |---|---|---|---|
///     | `perf_example_hits_total` | counter | `tier` | reads answered from memory |
/// ");
/// ```
///
/// # Panics
/// With every difference, when there is one.
#[track_caller]
pub fn assert_all_metrics_documented(components: &[&dyn Component], docs: &str) {
    let documented = read_tables(docs);
    let mut problems = Vec::new();
    if documented.is_empty() {
        problems.push("the documentation has no table of series".to_owned());
    }
    let reported = report(components);
    for (name, (kind, labels)) in &reported {
        match documented.get(name) {
            None => problems.push(format!("`{name}` is reported and not documented")),
            Some(row) => row.compare(name, *kind, labels, &mut problems),
        }
    }
    for (name, row) in &documented {
        if !row.may_be_missing && !reported.contains_key(name) {
            problems.push(format!("`{name}` is documented and not reported"));
        }
    }
    assert!(problems.is_empty(), "documentation and report differ:\n  {}", problems.join("\n  "));
}

/// Each family with its kind and the labels of its series.
type Families = BTreeMap<String, (Kind, BTreeSet<String>)>;

fn report(components: &[&dyn Component]) -> Families {
    let mut families = Families::new();
    for component in components {
        for sample in Recorder::of(*component).samples() {
            let (kind, name) = (sample.desc.kind, sample.desc.name.to_owned());
            let (_, labels) = families.entry(name).or_insert_with(|| (kind, BTreeSet::new()));
            labels.extend(sample.labels.iter().map(|(key, _)| (*key).to_owned()));
        }
    }
    families
}

/// What the documentation says about one family.
#[derive(Debug, Default, PartialEq, Eq)]
struct Row {
    kind: Option<String>,
    labels: Option<BTreeSet<String>>,
    may_be_missing: bool,
}

impl Row {
    fn compare(&self, name: &str, kind: Kind, labels: &BTreeSet<String>, problems: &mut Vec<String>) {
        let word = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        if let Some(documented) = self.kind.as_deref().filter(|documented| *documented != word) {
            problems.push(format!("`{name}` is reported as a {word} and documented as a {documented}"));
        }
        if let Some(documented) = self.labels.as_ref().filter(|documented| *documented != labels) {
            let problem = format!("has the labels {labels:?} and is documented with {documented:?}");
            problems.push(format!("`{name}` {problem}"));
        }
    }
}

fn read_tables(docs: &str) -> BTreeMap<String, Row> {
    let mut rows = BTreeMap::new();
    let mut header: Option<Vec<String>> = None;
    for line in docs.lines() {
        let line = line.trim_start().trim_start_matches("//!").trim_start_matches("///").trim();
        if !line.starts_with('|') {
            header = None;
            continue;
        }
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        match &header {
            None => header = Some(cells.iter().map(|cell| cell.to_lowercase()).collect()),
            Some(header) => read_row(header, &cells, &mut rows),
        }
    }
    rows
}

fn read_row(header: &[String], cells: &[&str], rows: &mut BTreeMap<String, Row>) {
    let column = |names: &[&str]| {
        let at = header.iter().position(|title| names.contains(&title.as_str()))?;
        cells.get(at).copied()
    };
    for code in quoted(cells.first().copied().unwrap_or_default()) {
        let (name, braces) = code.split_once('{').map_or((code, None), |(name, rest)| (name, Some(rest)));
        if !name.starts_with("perf_") {
            continue;
        }
        let in_braces = braces.map(|braces| words(braces.trim_end_matches('}')));
        let in_column = || column(&["labels", "label"]).map(|cell| quoted(cell).map(str::to_owned).collect());
        let row = Row {
            kind: column(&["kind", "type"]).map(|cell| cell.trim_matches('`').to_lowercase()),
            labels: in_braces.or_else(in_column).map(|mut labels: BTreeSet<String>| {
                labels.remove("name");
                labels
            }),
            may_be_missing: cells.iter().any(|cell| cell.contains("left out")),
        };
        rows.insert(name.to_owned(), row);
    }
}

/// The parts of a cell that are in backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Label names separated by commas; values after `=` do not matter.
fn words(list: &str) -> BTreeSet<String> {
    let names = list.split(',').map(|word| word.split('=').next().unwrap_or(word).trim());
    names.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use perf_core::{ComponentId, Desc, Sink, Unit};

    const HITS: Desc = Desc::counter("perf_example_hits_total", "Hits", Unit::Count);
    const SIZE: Desc = Desc::gauge("perf_example_size_bytes", "Size", Unit::Bytes);

    struct Example;

    impl Component for Example {
        fn id(&self) -> ComponentId {
            ComponentId::new("example", "one")
        }

        fn collect(&self, sink: &mut dyn Sink) {
            sink.counter(&HITS, &[("tier", "l1")], 1);
            sink.counter(&HITS, &[("tier", "l2")], 2);
            sink.gauge(&SIZE, &[], 3.0);
        }
    }

    #[test]
    fn a_complete_table_in_doc_comments_is_accepted() {
        let docs = "
            //! | series | type | meaning |
            //! |---|---|---|
            //! | `perf_example_hits_total{name, tier}` | counter | hits |
            //! | `perf_example_size_bytes` | gauge | bytes held |
            //! | `perf_example_age_seconds` | gauge | left out before the first write |
        ";
        assert_metrics_documented(&Example, docs);
    }

    fn complaint(docs: &str) -> String {
        let panic = std::panic::catch_unwind(|| assert_metrics_documented(&Example, docs)).unwrap_err();
        panic.downcast_ref::<String>().unwrap().clone()
    }

    #[test]
    fn every_difference_is_named() {
        let complaint = complaint(
            "| series | kind | labels |\n|---|---|---|\n\
             | `perf_example_hits_total` | gauge | `place` |\n| `perf_example_gone_total` | counter | |",
        );
        for part in [
            "`perf_example_hits_total` is reported as a counter and documented as a gauge",
            "`perf_example_hits_total` has the labels {\"tier\"} and is documented with {\"place\"}",
            "`perf_example_size_bytes` is reported and not documented",
            "`perf_example_gone_total` is documented and not reported",
        ] {
            assert!(complaint.contains(part), "{complaint}");
        }
    }

    #[test]
    fn a_page_without_a_table_is_not_accepted() {
        assert!(complaint("`perf_example_hits_total` is a counter.").contains("no table of series"));
    }
}
