//! Behaviour of the load tester, against servers of its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod answers;
mod server;
mod stopping;
