//! What is unusual, since when, and what comes next: assistance for people who look, not a pager.

mod change;
mod detector;
mod evidence;
#[cfg(test)]
mod families;
mod forecast;

pub use change::{ChangePoint, change_points};
pub use detector::{Detector, DetectorConfig, Observation, Onset};
pub use forecast::{Forecast, NoForecast, forecast};
