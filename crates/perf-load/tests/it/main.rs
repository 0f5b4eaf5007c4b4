//! Behaviour of the load tester, against servers of its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod answers;
#[cfg(feature = "cli")]
mod binary;
mod outages;
mod selftest;
mod server;
mod stopping;
