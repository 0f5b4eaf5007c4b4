//! WebSocket connections, shared and exclusive.
//!
//! A [`WebSocketPool`] carries subscriptions and requests over a few connections. A connection may be cut, fall silent,
//! be closed by its server or be rotated away: its subscriptions go on elsewhere, in their order, and what a reader
//! missed meanwhile it is told exactly, if the server numbers its messages. For exclusive use, [`WebSocket`] is a
//! [`Manager`](crate::Manager) like any other.
//!
//! ```no_run
//! # use perf_pool::websocket::{Delivery, Message, Policy, Protocol, Topic, WebSocketPool};
//! # async fn example(lines: impl Protocol) -> Result<(), Box<dyn std::error::Error>> {
//! let pool = WebSocketPool::builder(["wss://a.example/feed", "wss://b.example/feed"], lines).build()?;
//! let mut trades = pool.subscribe(Topic::new("trades").policy(Policy::DropOldest)).await?;
//! while let Ok(delivery) = trades.next().await {
//!     match delivery {
//!         Delivery::Message(message) => println!("{message}"),
//!         Delivery::Gap { last_seen, next } => println!("missing between {last_seen} and {next}"),
//!         other => println!("{other:?}"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Where a subscription is
//!
//! ```text
//!  subscribe ─► waiting ─► at home on a connection ─► acknowledged ─► messages ─► queue ─► reader
//!                  ▲            │        │                                           │
//!                  │      cut, stalled   │ rotation, rebalancing                     │ full
//!                  └────────────┘        ▼                                           ▼
//!                             made on the new connection before it ends on     Block pauses it at the server,
//!                             the old one; what both send arrives once         the others drop, conflate or end
//! ```

mod call;
mod config;
mod connect;
mod delivery;
mod endpoints;
mod error;
mod exclusive;
mod heartbeat;
mod hub;
mod intake;
mod link;
mod overlap;
mod place;
mod pool;
mod protocol;
mod reconnect;
mod sequence;
mod session;
mod shared;
mod stats;
mod subscription;
#[cfg(all(test, not(perf_loom)))]
mod tests;
#[cfg(feature = "websocket-tls")]
mod tls;
mod topic;
mod transport;

pub use config::WebSocketConfig;
pub use connect::{Connect, Tungstenite};
pub use delivery::{Delivery, Key, Policy};
pub use error::{Ended, Error, Waiting};
pub use exclusive::{ConnectionEnded, WebSocket, WebSocketConnection};
pub use pool::{WebSocketBuilder, WebSocketPool};
pub use protocol::{Incoming, Position, Protocol};
pub use stats::{METRICS, WebSocketStats};
pub use subscription::Subscription;
#[cfg(feature = "websocket-tls")]
pub use tls::Tls;
pub use tokio_tungstenite::tungstenite::Message;
pub use topic::Topic;
pub use transport::Transport;
