//! The host's own counters, gauges, histograms and timers, and families of them with labels.

mod builder;
mod callback;
mod cardinality;
mod counter;
mod exemplars;
mod family;
mod gauge;
mod hash;
mod histogram;
mod store;

pub use builder::Instrument;
pub use counter::{Counter, NotAnIncrease};
pub use family::{Family, OVERFLOW, Overflow};
pub use gauge::Gauge;
pub use histogram::{Histogram, Timer, Timing};

pub(crate) use callback::Callback;
#[cfg(feature = "facade")]
pub(crate) use store::Readable;
pub(crate) use store::{Instruments, Meta};

use crate::page::{Family as FamilyOnPage, Page};
use crate::rejections::Rejections;
use perf_core::Kind;
use std::sync::Arc;

/// What a family may consist of: sealed, because the page knows how to write exactly these.
pub trait Series: sealed::Sealed + Clone + Send + Sync + 'static {}

impl<T: sealed::Sealed + Clone + Send + Sync + 'static> Series for T {}

mod sealed {
    use super::{Arc, FamilyOnPage, Kind, Page, Rejections};

    pub trait Sealed {
        const KIND: Kind;

        fn create(rejections: &Arc<Rejections>) -> Self;

        fn read(&self, family: FamilyOnPage<'_>, labels: &str, page: &mut Page);
    }
}
