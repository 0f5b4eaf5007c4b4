//! Behaviour of perf-dbopt, one module per behaviour.

#[cfg(test)]
mod fingerprints;
#[cfg(all(test, feature = "mysql"))]
mod mariadb;
#[cfg(all(test, feature = "postgres"))]
mod nasty;
#[cfg(all(test, feature = "sqlite"))]
mod observing_sqlite;
#[cfg(all(test, feature = "postgres"))]
mod orders;
#[cfg(all(test, feature = "postgres"))]
mod postgres_advice;
#[cfg(all(test, feature = "postgres"))]
mod postgres_apply;
#[cfg(all(test, feature = "postgres"))]
mod postgres_crash;
#[cfg(all(test, feature = "postgres"))]
mod postgres_health;
#[cfg(all(test, feature = "postgres"))]
mod postgres_inspect;
#[cfg(all(test, feature = "postgres"))]
mod postgres_plans;
#[cfg(all(test, feature = "postgres"))]
mod postgres_standby;
#[cfg(all(test, feature = "postgres"))]
mod postgres_statements;
#[cfg(all(test, feature = "postgres"))]
mod postgres_trial;
#[cfg(test)]
mod search;
#[cfg(test)]
mod series;
#[cfg(all(test, feature = "postgres"))]
mod shop;
#[cfg(all(test, feature = "sqlite"))]
mod sqlite_advice;
#[cfg(all(test, feature = "sqlite"))]
mod sqlite_health;
#[cfg(all(test, feature = "sqlite", feature = "tracing"))]
mod tracing_route;
