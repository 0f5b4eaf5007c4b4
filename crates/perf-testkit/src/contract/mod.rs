//! Rules that every implementation of a shared contract keeps, as functions a crate calls with its own types.

mod component;
#[cfg(feature = "tower")]
mod layer;

pub use component::component;
#[cfg(feature = "tower")]
pub use layer::layer;
