//! The WebSocket pool: statements of section 4, in paused time against a server in memory.

mod exclusive;
mod journey;
mod lines;
mod shared;
#[cfg(feature = "websocket-tls")]
mod tls;
