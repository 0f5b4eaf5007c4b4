//! The forms of loaders and of their results, for those who must write the type of a call. Nobody else needs them.

pub use crate::error::{Erased, Failure};
pub use crate::load::{Adaptive, Find, Finish, LoadFuture, Loader, Optional, Plain, Value};
