use super::Series;
use super::store::{Meta, Readable};
use crate::MAX_LABELS;
use crate::page::Page;
use crate::rejections::{Rejection, Rejections};
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, PoisonError, RwLock};

/// The value of every label of a family's overflow series: where samples go once the family is full.
pub const OVERFLOW: &str = "_overflow";

/// Series of one name that differ in `N` labels.
///
/// At most `series_limit` label sets get a series of their own. What comes after goes to one overflow series, whose
/// labels all read [`OVERFLOW`]: the sum over all series stays exact, and memory stays bounded whatever the values are.
///
/// ```
/// let metrics = perf_metrics::Metrics::builder().series_limit(1).build().unwrap();
/// let requests = metrics.counter("requests", "Requests served").family(["route"]).unwrap();
/// requests.with(["/orders"]).increment();
/// requests.with(["/a-scanner-was-here"]).increment();
/// assert!(metrics.text().contains(r#"requests_total{route="_overflow"} 1"#));
/// ```
pub struct Family<T: Series, const N: usize>(Arc<FamilyState<T>>);

impl<T: Series, const N: usize> Family<T, N> {
    pub(super) fn new(state: Arc<FamilyState<T>>) -> Self {
        Self(state)
    }

    /// The series with these label values, in the order of the family's labels. Finding one that exists takes a shared
    /// lock and allocates nothing; keep the handle where even that is too much.
    #[must_use]
    pub fn with(&self, values: [&str; N]) -> T {
        self.0.with(&values)
    }
}

impl<T: Series, const N: usize> Clone for Family<T, N> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Series, const N: usize> fmt::Debug for Family<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Family").field("name", &self.0.meta.name).field("labels", &self.0.meta.keys).finish()
    }
}

/// The series of a family by the hash of their label values; values that hash alike share a list.
pub(crate) struct FamilyState<T> {
    meta: Meta,
    limit: usize,
    hasher: RandomState,
    series: RwLock<ByHash<T>>,
    rejections: Arc<Rejections>,
}

struct ByHash<T> {
    lists: HashMap<u64, Vec<Labelled<T>>>,
    length: usize,
    overflow: Option<T>,
}

struct Labelled<T> {
    values: Box<[Box<str>]>,
    series: T,
}

impl<T: Series> FamilyState<T> {
    pub(super) fn new(meta: Meta, limit: usize, rejections: Arc<Rejections>) -> Self {
        let series = RwLock::new(ByHash { lists: HashMap::new(), length: 0, overflow: None });
        Self { meta, limit, hasher: RandomState::new(), series, rejections }
    }

    pub(super) fn with(&self, values: &[&str]) -> T {
        let hash = self.hasher.hash_one(values);
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = series.find(hash, values) {
            return found.clone();
        }
        drop(series);
        self.create(hash, values)
    }

    fn create(&self, hash: u64, values: &[&str]) -> T {
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = series.find(hash, values) {
            return found.clone();
        }
        let full = series.length >= self.limit;
        if full || values.iter().all(|value| *value == OVERFLOW) {
            if full {
                self.rejections.count(Rejection::Cardinality);
            }
            return series.overflow.get_or_insert_with(|| T::create(&self.rejections)).clone();
        }
        let created = T::create(&self.rejections);
        let values = values.iter().map(|value| Box::from(*value)).collect();
        series.lists.entry(hash).or_default().push(Labelled { values, series: created.clone() });
        series.length += 1;
        created
    }
}

impl<T> ByHash<T> {
    fn find(&self, hash: u64, values: &[&str]) -> Option<&T> {
        let same = |l: &&Labelled<T>| l.values.iter().map(|v| &**v).eq(values.iter().copied());
        self.lists.get(&hash)?.iter().find(same).map(|labelled| &labelled.series)
    }
}

impl<T: Series> Readable for FamilyState<T> {
    fn read(&self, page: &mut Page) {
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        let mut labels = [("", ""); MAX_LABELS];
        let labels = &mut labels[..self.meta.keys.len()];
        for (label, key) in labels.iter_mut().zip(&self.meta.keys) {
            *label = (key, OVERFLOW);
        }
        if let Some(overflow) = &series.overflow {
            overflow.read(self.meta.on_page(), labels, page);
        }
        for labelled in series.lists.values().flatten() {
            for (label, value) in labels.iter_mut().zip(&labelled.values) {
                label.1 = value;
            }
            labelled.series.read(self.meta.on_page(), labels, page);
        }
    }
}
