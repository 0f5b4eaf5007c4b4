use super::Series;
use super::cardinality::Offence;
use super::hash::{HashMap, Hasher};
use super::store::{Meta, Readable};
use crate::MAX_LABELS;
use crate::page::{Globals, Page, render_labels};
use crate::rejections::{Rejection, Rejections};
use std::fmt;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

/// The value of every label of a family's overflow series: where samples go once the family is full.
pub const OVERFLOW: &str = "_overflow";

/// Series of one name that differ in `N` labels.
///
/// At most `series_limit` label sets get a series of their own. What comes after goes to one overflow series, whose
/// labels all read [`OVERFLOW`]: the sum over all series stays exact, and memory stays bounded whatever the values are.
/// Which label has too many values, and which ones, is told by [`Metrics::overflows`](crate::Metrics::overflows).
///
/// ```
/// let metrics = perf_metrics::Metrics::builder().series_limit(1).build().unwrap();
/// let requests = metrics.counter("requests", "Requests served").family(["route"]).unwrap();
/// requests.with(["/orders"]).increment();
/// requests.with(["/a-scanner-was-here"]).increment();
/// assert!(metrics.text().contains(r#"requests_total{route="_overflow"} 1"#));
/// assert_eq!(metrics.overflows()[0].label, "route");
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

/// A label with more values than its family may have series.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Overflow {
    /// The family.
    pub metric: String,
    /// The label.
    pub label: String,
    /// About how many distinct values overflowed; the standard error is 3.3 %.
    pub distinct: f64,
    /// The most frequent of them, cut to 128 bytes, with an upper bound of how often they came.
    pub top: Vec<(String, u64)>,
}

pub(crate) struct FamilyState<T> {
    meta: Meta,
    limit: usize,
    hasher: Hasher,
    series: RwLock<Labelled<T>>,
    overflow: OnceLock<(T, Box<str>)>,
    offences: OnceLock<Box<[Offence]>>,
    globals: Globals,
    rejections: Arc<Rejections>,
}

/// The series in the order in which they came, and where to find them by the hash of their label values.
struct Labelled<T> {
    entries: Vec<Entry<T>>,
    newest: HashMap<usize>,
}

struct Entry<T> {
    values: Box<[Box<str>]>,
    /// The whole label set as text, made once.
    rendered: Box<str>,
    series: T,
    /// An older entry with the same hash.
    older: Option<usize>,
}

impl<T: Series> FamilyState<T> {
    pub(super) fn new(meta: Meta, limit: usize, globals: Globals, rejections: Arc<Rejections>) -> Self {
        let series = RwLock::new(Labelled { entries: Vec::new(), newest: HashMap::default() });
        Self {
            meta,
            limit,
            hasher: Hasher::default(),
            series,
            overflow: OnceLock::new(),
            offences: OnceLock::new(),
            globals,
            rejections,
        }
    }

    pub(super) fn with(&self, values: &[&str]) -> T {
        let hash = self.hasher.hash(values);
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = series.find(hash, values) {
            return found.clone();
        }
        let full = series.entries.len() >= self.limit;
        drop(series);
        if full { self.overflowing(values) } else { self.create(hash, values) }
    }

    fn create(&self, hash: u64, values: &[&str]) -> T {
        if values.iter().all(|value| *value == OVERFLOW) && !values.is_empty() {
            return self.overflow().clone();
        }
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = series.find(hash, values) {
            return found.clone();
        }
        if series.entries.len() >= self.limit {
            drop(series);
            return self.overflowing(values);
        }
        let created = T::create(&self.rejections);
        let position = series.entries.len();
        let older = series.newest.insert(hash, position);
        let rendered = self.rendered(values);
        let values = values.iter().map(|value| Box::from(*value)).collect();
        series.entries.push(Entry { values, rendered, series: created.clone(), older });
        created
    }

    /// The overflow series, and a note of what overflowed.
    fn overflowing(&self, values: &[&str]) -> T {
        self.rejections.count(Rejection::Cardinality);
        let offences = || self.meta.keys.iter().map(|_| Offence::default()).collect();
        for (offence, value) in self.offences.get_or_init(offences).iter().zip(values) {
            offence.see(value, self.hasher.hash(&[value]));
        }
        self.overflow().clone()
    }

    fn overflow(&self) -> &T {
        let create = || (T::create(&self.rejections), self.rendered(&vec![OVERFLOW; self.meta.keys.len()]));
        &self.overflow.get_or_init(create).0
    }

    fn rendered(&self, values: &[&str]) -> Box<str> {
        let mut labels = [("", ""); MAX_LABELS];
        let labels = &mut labels[..self.meta.keys.len()];
        for ((label, key), value) in labels.iter_mut().zip(&self.meta.keys).zip(values) {
            *label = (key, value);
        }
        // Keys were checked when the family was made, so there is always a text.
        render_labels(&self.globals, labels).unwrap_or_default().into()
    }
}

impl<T> Labelled<T> {
    fn find(&self, hash: u64, values: &[&str]) -> Option<&T> {
        let mut position = self.newest.get(&hash).copied();
        while let Some(entry) = position.and_then(|position| self.entries.get(position)) {
            if entry.values.iter().map(|value| &**value).eq(values.iter().copied()) {
                return Some(&entry.series);
            }
            position = entry.older;
        }
        None
    }
}

impl<T: Series> Readable for FamilyState<T> {
    fn read(&self, page: &mut Page) {
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        for entry in &series.entries {
            entry.series.read(self.meta.on_page(), &entry.rendered, page);
        }
        if let Some((overflow, rendered)) = self.overflow.get() {
            overflow.read(self.meta.on_page(), rendered, page);
        }
    }

    fn overflows(&self, found: &mut Vec<Overflow>) {
        let offences = self.offences.get().into_iter().flatten();
        for (offence, label) in offences.zip(&self.meta.keys) {
            found.push(Overflow {
                metric: self.meta.name.clone(),
                label: label.clone(),
                distinct: offence.distinct(),
                top: offence.top(),
            });
        }
    }
}
