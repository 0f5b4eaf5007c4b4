//! Behaviour of perf-dbopt, one module per behaviour.

#[cfg(test)]
mod fingerprints;
#[cfg(all(test, feature = "sqlite"))]
mod observing_sqlite;
#[cfg(test)]
mod series;
#[cfg(all(test, feature = "sqlite"))]
mod sqlite_advice;
