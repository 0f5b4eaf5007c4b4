//! The numbers as a tree: for pages and programs that want no text format.

use crate::page::{Page, Value, parse_labels};
use perf_core::{Component, Estimate, HistogramSnapshot, Kind, Status};
use std::collections::BTreeMap;

/// Every number of a host and the health of its components at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct View {
    /// The families of series, by name.
    pub families: Vec<FamilyView>,
    /// The components, by kind and name.
    pub components: Vec<ComponentView>,
}

/// A family of series.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct FamilyView {
    /// The full name.
    pub name: String,
    /// One line for people.
    pub help: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// `seconds`, `bytes`, `ratio`, or nothing for a plain number.
    pub unit: &'static str,
    /// The series, by label set.
    pub series: Vec<SeriesView>,
}

/// One series.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct SeriesView {
    /// The kind of the component it belongs to; its name is the label `name`.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub component: Option<String>,
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: ValueView,
}

/// The value of a series.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(untagged))]
pub enum ValueView {
    /// A total of things.
    Count(u64),
    /// A level, or a total in seconds.
    Number(f64),
    /// A distribution.
    Distribution(Box<DistributionView>),
}

/// A distribution, since the start of the process.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct DistributionView {
    /// How many values.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// Their mean; absent without values.
    pub mean: Option<f64>,
    /// The median; absent with too few values.
    pub p50: Option<QuantileView>,
    /// Nine of ten are at most this; absent with too few values.
    pub p90: Option<QuantileView>,
    /// 95 of 100 are at most this; absent with too few values.
    pub p95: Option<QuantileView>,
    /// 99 of 100 are at most this; absent with too few values.
    pub p99: Option<QuantileView>,
    /// 999 of 1,000 are at most this; absent with too few values.
    pub p999: Option<QuantileView>,
    /// The distribution itself, for merging and for charts.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub snapshot: HistogramSnapshot,
}

/// A quantile and its bounds: the true value is above `low` and at most `high`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct QuantileView {
    /// The estimate.
    pub value: f64,
    /// Lower bound.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
}

impl From<Estimate> for QuantileView {
    fn from(estimate: Estimate) -> Self {
        Self { value: estimate.value, low: estimate.low, high: estimate.high }
    }
}

impl From<HistogramSnapshot> for DistributionView {
    fn from(snapshot: HistogramSnapshot) -> Self {
        let quantile = |q| quantile(&snapshot, q);
        Self {
            count: snapshot.count(),
            sum: snapshot.sum(),
            mean: snapshot.mean(),
            p50: quantile(0.5),
            p90: quantile(0.9),
            p95: quantile(0.95),
            p99: quantile(0.99),
            p999: quantile(0.999),
            snapshot,
        }
    }
}

/// A quantile that can be trusted: with fewer than `1/(1−q)` values it would merely be the maximum, so there is none.
fn quantile(snapshot: &HistogramSnapshot, q: f64) -> Option<QuantileView> {
    let needed = (1.0 / (1.0 - q)).round();
    (snapshot.count() as f64 >= needed).then(|| snapshot.quantile(q)).flatten().map(QuantileView::from)
}

/// A component and its health.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ComponentView {
    /// What it is: `cache`, `pool`.
    pub kind: String,
    /// Its name among its kind.
    pub name: String,
    /// How it is.
    pub status: Status,
    /// Why; empty when all is well.
    pub reason: String,
}

pub(crate) fn component(component: &dyn Component) -> ComponentView {
    let (id, health) = (component.id(), component.health());
    ComponentView {
        kind: id.kind().to_owned(),
        name: id.name().to_string(),
        status: health.status(),
        reason: health.reason().to_owned(),
    }
}

pub(crate) fn families(page: &Page) -> Vec<FamilyView> {
    let mut families: Vec<FamilyView> = Vec::new();
    for line in page.lines() {
        if line.opens_family {
            families.push(FamilyView {
                name: line.name.to_owned(),
                help: line.help.to_owned(),
                kind: match line.kind {
                    Kind::Counter => "counter",
                    Kind::Gauge => "gauge",
                    Kind::Histogram => "histogram",
                },
                unit: match line.unit {
                    perf_core::Unit::Seconds => "seconds",
                    perf_core::Unit::Bytes => "bytes",
                    perf_core::Unit::Ratio => "ratio",
                    _ => "",
                },
                series: Vec::new(),
            });
        }
        let value = match line.value {
            Value::Count(total) => ValueView::Count(*total),
            Value::Number(number) => ValueView::Number(*number),
            Value::Distribution(_) => {
                let distribution = DistributionView::from(page.snapshot(line.value));
                ValueView::Distribution(Box::new(distribution))
            }
        };
        let component = (!line.component.is_empty()).then(|| line.component.to_owned());
        let series = SeriesView { component, labels: parse_labels(line.labels).into_iter().collect(), value };
        if let Some(family) = families.last_mut() {
            family.series.push(series);
        }
    }
    families
}
