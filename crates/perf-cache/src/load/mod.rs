//! Loading: one flight per key, detached from its callers, and what happens when it is late or fails.

mod batch;
mod bell;
mod call;
mod chain;
mod failures;
mod fetch;
mod flight;
mod gate;
mod land;
mod loader;
mod options;
mod remote;
mod run;
mod sleepers;
mod together;
mod wait;
mod waiting;

use crate::error::Erased;
use std::pin::Pin;

pub use batch::LoadMany;
pub use call::{Find, Finish, GetOrLoad, LoadCall, Value};
pub use loader::{Adaptive, LoadContext, Loaded, Loader, Optional, Plain};

pub(crate) use failures::Failures;
pub(crate) use flight::{Flights, Landing};
pub(crate) use gate::Gate;
pub(crate) use loader::Found;
pub(crate) use options::LoadOptions;
pub(crate) use run::{Glance, Probe, caught};

/// A load under way, its error's type erased so that different call sites can share it.
pub type LoadFuture<V> = Pin<Box<dyn Future<Output = Result<Loaded<V>, Erased>> + Send>>;

/// A load not yet started.
pub(crate) type Start<K, V> = Box<dyn FnOnce(LoadContext<K, V>) -> LoadFuture<V> + Send>;
