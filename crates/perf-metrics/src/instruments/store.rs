//! The families of a host, by name.

use super::Series;
use super::family::{FamilyState, Overflow};
use crate::error::Shape;
use crate::page::{Family as FamilyOnPage, Globals, Page};
use crate::rejections::Rejections;
use crate::{RegisterError, names};
use perf_core::{Kind, Unit};
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What a family is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) name: String,
    pub(crate) help: String,
    pub(crate) unit: Unit,
    pub(crate) kind: Kind,
    pub(crate) keys: Vec<String>,
}

impl Meta {
    pub(crate) fn on_page(&self) -> FamilyOnPage<'_> {
        FamilyOnPage { name: &self.name, help: &self.help, unit: self.unit, kind: self.kind }
    }

    pub(crate) fn check(&self) -> Result<(), RegisterError> {
        names::check_metric(&self.name)?;
        if self.help.trim().is_empty() {
            return Err(RegisterError::NoHelp(self.name.clone()));
        }
        if self.keys.len() > crate::MAX_LABELS / 2 {
            return Err(RegisterError::TooManyLabels(self.keys.len()));
        }
        for (position, key) in self.keys.iter().enumerate() {
            names::check_label(key)?;
            if self.keys[..position].contains(key) {
                return Err(RegisterError::DuplicateLabel(key.clone()));
            }
        }
        Ok(())
    }

    fn shape(&self) -> Shape {
        let kind = match self.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        Shape { kind, keys: self.keys.clone() }
    }
}

/// Something of the host's that has series.
pub(crate) trait Readable: Send + Sync {
    fn read(&self, page: &mut Page);

    /// Adds what had more label values than it may have series.
    fn overflows(&self, found: &mut Vec<Overflow>) {
        let _ = found;
    }
}

struct Entry {
    meta: Meta,
    state: Arc<dyn Any + Send + Sync>,
    readable: Arc<dyn Readable>,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Instruments {
    families: Mutex<BTreeMap<String, Entry>>,
    globals: Globals,
    rejections: Arc<Rejections>,
}

impl Instruments {
    pub(crate) fn new(globals: Globals, rejections: Arc<Rejections>) -> Self {
        Self { families: Mutex::default(), globals, rejections }
    }

    #[cfg(feature = "facade")]
    pub(crate) fn globals(&self) -> Globals {
        Arc::clone(&self.globals)
    }

    /// The family described, made when it is not there yet.
    pub(crate) fn family<T: Series>(
        &self,
        meta: Meta,
        limit: usize,
    ) -> Result<Arc<FamilyState<T>>, RegisterError> {
        self.entry(meta, |meta| {
            let state = Arc::new(FamilyState::<T>::new(
                meta,
                limit,
                self.globals.clone(),
                Arc::clone(&self.rejections),
            ));
            (Arc::clone(&state), state)
        })
    }

    /// The entry described, made by `create` when it is not there yet.
    pub(crate) fn entry<S: Readable + 'static>(
        &self,
        meta: Meta,
        create: impl FnOnce(Meta) -> (Arc<S>, Arc<S>),
    ) -> Result<Arc<S>, RegisterError> {
        meta.check()?;
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(present) = families.get(&meta.name) {
            let same = present.meta.kind == meta.kind
                && present.meta.keys == meta.keys
                && present.meta.unit == meta.unit;
            let state = Arc::clone(&present.state).downcast::<S>().ok().filter(|_| same);
            return state.ok_or_else(|| {
                self.rejections.count(crate::rejections::Rejection::Kind);
                let (present, asked) = (present.meta.shape(), meta.shape());
                RegisterError::Clash { name: meta.name, present, asked }
            });
        }
        let (state, readable) = create(meta.clone());
        let entry = Entry { meta: meta.clone(), state: Arc::<S>::clone(&state), readable };
        families.insert(meta.name, entry);
        Ok(state)
    }

    /// The labels with more values than their families may have series.
    pub(crate) fn overflows(&self) -> Vec<Overflow> {
        let families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = Vec::new();
        for entry in families.values() {
            entry.readable.overflows(&mut found);
        }
        found
    }

    /// Reads every family. Writers are never kept waiting: the lock guards the list of families only.
    pub(crate) fn read(&self, page: &mut Page) {
        let families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in families.values() {
            entry.readable.read(page);
        }
    }
}
