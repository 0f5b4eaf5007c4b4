//! The behaviour of perf-pool, one module for each part.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the way tests do")]

mod accounts;
mod acquire;
mod adapters;
mod admin;
mod age;
mod balanced;
mod cases;
mod create;
mod fake;
#[cfg(feature = "mysql")]
mod mysql;
mod numbers;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
mod returns;
#[cfg(feature = "postgres")]
mod roles;
mod scenarios;
#[cfg(feature = "sqlite")]
mod sqlite;
mod tries;
mod validate;
#[cfg(feature = "websocket")]
mod websocket;
