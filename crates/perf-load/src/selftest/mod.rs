//! Runs against servers whose answer is known, on the machine at hand: see what the load tester measures before you trust it.

mod cases;
mod server;

use crate::Error;
use perf_core::time::Duration;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How long each case runs unless said otherwise: 1 % of it is ten times the tolerance of the stall law.
pub const DEFAULT_SELF_TEST_LENGTH: Duration = Duration::from_secs(5);

/// What a self-test found: expected beside measured.
///
/// ```no_run
/// # async fn example() -> Result<(), perf_load::Error> {
/// let result = perf_load::SelfTest::run(perf_load::DEFAULT_SELF_TEST_LENGTH).await?;
/// println!("{result}");
/// assert!(result.passed());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SelfTest {
    /// Each number that was compared.
    pub checks: Vec<SelfCheck>,
}

/// One number of a self-test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SelfCheck {
    /// What the server does.
    pub case: String,
    /// The number.
    pub quantity: String,
    /// What it must be.
    pub expected: f64,
    /// What was measured.
    pub measured: f64,
    /// The largest difference allowed.
    pub tolerance: f64,
}

impl SelfCheck {
    /// Whether the measured number is near enough.
    #[must_use]
    pub fn passed(&self) -> bool {
        (self.measured - self.expected).abs() <= self.tolerance
    }
}

impl SelfTest {
    /// Runs every case for `length` against servers of its own on loopback. A length below a second is taken as one.
    ///
    /// # Errors
    /// Those of [`Load::run`](crate::Load::run), and [`Error::Generator`] when a server cannot be started.
    ///
    /// # Cancel safety
    /// Dropping the future stops the case that is running and its server.
    pub async fn run(length: Duration) -> Result<Self, Error> {
        let length = length.max(Duration::from_secs(1));
        let mut checks = Vec::new();
        for case in cases::all(length) {
            checks.extend(case.run().await?);
        }
        Ok(Self { checks })
    }

    /// Whether every number is near enough.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.checks.iter().all(SelfCheck::passed)
    }
}

impl fmt::Display for SelfTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<34}{:<24}{:>12}{:>12}{:>12}",
            "server", "number", "expected", "measured", "tolerance"
        )?;
        for check in &self.checks {
            let SelfCheck { case, quantity, expected, measured, tolerance } = check;
            let word = if check.passed() { "ok" } else { "WRONG" };
            writeln!(f, "{case:<34}{quantity:<24}{expected:>12.2}{measured:>12.2}{tolerance:>12.2}  {word}")?;
        }
        Ok(())
    }
}
