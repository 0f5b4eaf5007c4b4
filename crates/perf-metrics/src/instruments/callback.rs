use super::store::{Meta, Readable};
use crate::page::{Page, Value};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A level that is asked for when the page is read.
pub(crate) struct Callback {
    pub(super) meta: Meta,
    pub(super) read: Box<dyn Fn() -> Option<f64> + Send + Sync>,
    pub(super) errors: std::sync::Arc<perf_core::Counter>,
}

impl Readable for Callback {
    fn read(&self, page: &mut Page) {
        // A panic in the host's closure costs this one series, not the page.
        match catch_unwind(AssertUnwindSafe(|| (self.read)())) {
            Ok(Some(value)) if !value.is_nan() => page.push(self.meta.on_page(), &[], Value::Number(value)),
            Ok(_) => {}
            Err(_) => self.errors.increment(),
        }
    }
}
