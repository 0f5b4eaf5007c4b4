//! The WebSocket pool: statements of section 4, in paused time against a server in memory.

mod connections;
mod delivery;
mod exclusive;
mod journey;
mod lines;
mod requests;
mod shared;
mod subscriptions;
#[cfg(feature = "websocket-tls")]
mod tls;
