//! Families whose label names are not known in advance.

use super::Descriptions;
use crate::instruments::{Meta, Readable};
use crate::page::{Family, Globals, Page, render_labels};
use crate::rejections::{Rejection, Rejections};
use crate::{MAX_LABELS, Metrics, OVERFLOW, Series};
use perf_core::Unit;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

const NO_HELP: &str = "Recorded through the metrics facade; its author gave no description.";

/// The series of one name, by their label sets as text.
pub(super) struct FacadeFamily<T> {
    name: String,
    limit: usize,
    series: Mutex<HashMap<Box<str>, T>>,
    overflow: OnceLock<(T, String)>,
    globals: Globals,
    rejections: Arc<Rejections>,
    descriptions: Descriptions,
}

impl<T: Series> FacadeFamily<T> {
    /// The family `name`, made when it is not there yet; `None` when the name belongs to something else.
    pub(super) fn of(metrics: &Metrics, name: &str, descriptions: &Descriptions) -> Option<Arc<Self>> {
        // Label names differ from call to call, which one impossible name stands for.
        let keys = Vec::new();
        let meta =
            Meta { name: name.to_owned(), help: NO_HELP.to_owned(), unit: Unit::Count, kind: T::KIND, keys };
        let create = |meta: Meta| {
            let family = Arc::new(Self {
                name: meta.name,
                limit: metrics.series_limit(),
                series: Mutex::default(),
                overflow: OnceLock::new(),
                globals: metrics.globals(),
                rejections: Arc::clone(metrics.rejections()),
                descriptions: Arc::clone(descriptions),
            });
            (Arc::clone(&family), family)
        };
        metrics.instruments().entry(meta, create).ok()
    }

    /// The series with these labels and whether it is its own; `None` when the label set is not legal.
    pub(super) fn with(&self, labels: &[(String, &str)]) -> Option<(T, bool)> {
        let mut set = [("", ""); MAX_LABELS];
        for (place, (key, value)) in set.iter_mut().zip(labels) {
            *place = (key, value);
        }
        let rendered = render_labels(&self.globals, &set[..labels.len()])?;
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = series.get(rendered.as_str()) {
            return Some((found.clone(), true));
        }
        if series.len() < self.limit {
            let created = T::create(&self.rejections);
            series.insert(rendered.into(), created.clone());
            return Some((created, true));
        }
        drop(series);
        self.rejections.count(Rejection::Cardinality);
        let create = || {
            let rendered = render_labels(&self.globals, &[("overflow", OVERFLOW)]).unwrap_or_default();
            (T::create(&self.rejections), rendered)
        };
        Some((self.overflow.get_or_init(create).0.clone(), false))
    }
}

impl<T: Series> Readable for FacadeFamily<T> {
    fn read(&self, page: &mut Page) {
        let descriptions = self.descriptions.lock().unwrap_or_else(PoisonError::into_inner);
        let described = descriptions.get(&self.name);
        let help = described.map_or(NO_HELP, |(help, _)| if help.is_empty() { NO_HELP } else { help });
        let unit = described.map_or_else(|| described_unit(None, &self.name), |(_, unit)| *unit);
        let family = Family { name: &self.name, help, unit, kind: T::KIND };
        for (labels, series) in self.series.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            series.read(family, labels, page);
        }
        if let Some((overflow, labels)) = self.overflow.get() {
            overflow.read(family, labels, page);
        }
    }
}

/// Our unit for what a library said, or for what its metric's name says.
pub(super) fn described_unit(unit: Option<metrics::Unit>, name: &str) -> Unit {
    match unit {
        Some(metrics::Unit::Seconds) => Unit::Seconds,
        Some(metrics::Unit::Bytes) => Unit::Bytes,
        Some(_) => Unit::Count,
        None if name.ends_with("_seconds") || name.ends_with("duration") || name.ends_with("latency") => {
            Unit::Seconds
        }
        None if name.ends_with("_bytes") => Unit::Bytes,
        None => Unit::Count,
    }
}
