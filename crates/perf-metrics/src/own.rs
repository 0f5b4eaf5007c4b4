//! The numbers of the page about itself.

use crate::page::{Page, Value};
use crate::rejections::{Rejection, Rejections};
use perf_core::time::{self, Duration};
use perf_core::{ComponentId, Counter, Desc, Registry, Sink, Unit};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

/// Samples and series turned away, by reason.
const REJECTED: Desc =
    Desc::counter("perf_metrics_rejected_total", "Samples and series turned away, by reason", Unit::Count);

/// Readings in which a component panicked or overran its budget.
const COLLECTOR_ERRORS: Desc = Desc::counter(
    "perf_metrics_collector_errors_total",
    "Readings in which a collector panicked or took more than 50 ms",
    Unit::Count,
);

/// Time a component may take to hand over its numbers.
const BUDGET: Duration = Duration::from_millis(50);

/// A component that overran its budget as often in a row is left out of one reading. Once may be the machine's fault.
const LATE_IN_A_ROW: u32 = 2;

/// What happened in the reading of components so far.
#[derive(Debug)]
pub(crate) struct Own {
    rejections: Arc<Rejections>,
    callback_errors: Arc<Counter>,
    troubled: Mutex<BTreeMap<ComponentId, Trouble>>,
}

#[derive(Debug, Default)]
struct Trouble {
    errors: u64,
    /// How often in a row it overran its budget.
    late: u32,
    /// Left out once.
    skip: bool,
}

impl Own {
    pub(crate) fn new(rejections: Arc<Rejections>) -> Self {
        Self { rejections, callback_errors: Arc::default(), troubled: Mutex::default() }
    }

    #[cfg(feature = "facade")]
    pub(crate) fn rejections(&self) -> &Arc<Rejections> {
        &self.rejections
    }

    pub(crate) fn callback_errors(&self) -> Arc<Counter> {
        Arc::clone(&self.callback_errors)
    }

    /// Reads every component. One that panics is left out of this reading, one that overran its budget twice in a row out of the next:
    /// the others are on the page all the same.
    pub(crate) fn read_components(&self, registry: &Registry, page: &mut Page) {
        let mut troubled = self.troubled.lock().unwrap_or_else(PoisonError::into_inner);
        for component in registry.components() {
            let id = component.id();
            if let Some(trouble) = troubled.get_mut(&id)
                && std::mem::take(&mut trouble.skip)
            {
                continue;
            }
            let mark = page.mark();
            let started = time::now();
            page.begin(&id);
            let outcome = catch_unwind(AssertUnwindSafe(|| component.collect(page)));
            let late = time::now().saturating_duration_since(started) > BUDGET;
            if outcome.is_err() {
                page.cut_back(mark);
            }
            if outcome.is_err() || late {
                let trouble = troubled.entry(id).or_default();
                trouble.errors += 1;
                trouble.late = if late { trouble.late + 1 } else { 0 };
                trouble.skip = trouble.late >= LATE_IN_A_ROW;
            } else if let Some(trouble) = troubled.get_mut(&id) {
                trouble.late = 0;
            }
        }
    }

    /// Adds the numbers about the page itself.
    pub(crate) fn read(&self, page: &mut Page) {
        for reason in Rejection::ALL {
            // Distributions count what they refuse themselves.
            let refused = if reason == Rejection::Value { page.refused() } else { 0 };
            let total = Value::Count(self.rejections.get(reason) + refused);
            page.push((&REJECTED).into(), &[("reason", reason.as_str())], total);
        }
        let callbacks = Value::Count(self.callback_errors.get());
        page.push((&COLLECTOR_ERRORS).into(), &[("collector", "callback"), ("kind", "gauge")], callbacks);
        let troubled = self.troubled.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, trouble) in &*troubled {
            let labels = [("collector", id.name().as_str()), ("kind", id.kind())];
            page.push((&COLLECTOR_ERRORS).into(), &labels, Value::Count(trouble.errors));
        }
    }
}
