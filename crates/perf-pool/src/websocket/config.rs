use crate::checks;
use perf_core::time::Duration;
use perf_core::{Backoff, InvalidConfig};

/// What a configuration file can say about a [`WebSocketPool`](super::WebSocketPool). The defaults are the constants of
/// this type.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct WebSocketConfig {
    /// Connections kept open. 1 to `max`.
    pub min: usize,
    /// Connections at most, but for one more while one is being replaced.
    pub max: usize,
    /// Subscriptions for which a connection is added, up to `max` of these. 1 to `max_streams`.
    pub streams_per_connection: usize,
    /// Subscriptions on one connection at most, where the server has a limit.
    pub max_streams: usize,
    /// Messages per second for which a connection is added. None: their number does not matter.
    pub messages_per_connection: Option<u32>,
    /// A connection is given up when fewer would have done for this long.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub shrink_after: Duration,
    /// How long making one connection may take.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub connect_timeout: Duration,
    /// Silence after which a ping is sent, drawn between 80 and 100 % of this.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub heartbeat_interval: Duration,
    /// A connection that says nothing for this long after a ping is dead.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub heartbeat_timeout: Duration,
    /// First wait before connecting again; it doubles, with full jitter, up to `retry_cap`.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub retry_base: Duration,
    /// Longest wait before connecting again, but for what the server asks for.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub retry_cap: Duration,
    /// A connection that lived this long lets earlier failures be forgotten.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub stable_after: Duration,
    /// How long the server may take to acknowledge a subscription before it is asked again.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub ack_timeout: Duration,
    /// Subscriptions asked for and not yet acknowledged, on one connection, at most.
    pub max_unacknowledged: usize,
    /// How long a caller waits for a new subscription, an answer or room to send, unless it says otherwise.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub call_timeout: Duration,
    /// Messages waiting to be sent on one connection at most.
    pub send_queue: usize,
    /// Messages waiting for the reader of one subscription, unless it says otherwise.
    pub capacity: usize,
    /// Messages that came before their turn, per subscription, while an earlier one is awaited. 0: gaps are told at once.
    pub reorder: usize,
    /// How long an earlier message is awaited.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub reorder_wait: Duration,
    /// A connection is replaced, before the old one is closed, when it is 90 to 100 % of this old. None: never.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration::option"))]
    pub max_age: Option<Duration>,
    /// How long closing may take.
    #[cfg_attr(feature = "serde", serde(with = "perf_core::duration"))]
    pub close_timeout: Duration,
}

impl WebSocketConfig {
    /// One connection carries most of what a service needs.
    pub const DEFAULT_MIN: usize = 1;
    /// A few: servers limit connections per address to five or ten.
    pub const DEFAULT_MAX: usize = 4;
    /// Half of what servers with a limit commonly allow.
    pub const DEFAULT_STREAMS_PER_CONNECTION: usize = 500;
    /// The limit of the strictest among the large servers is 1,024.
    pub const DEFAULT_MAX_STREAMS: usize = 1_000;
    /// A peak is over by then.
    pub const DEFAULT_SHRINK_AFTER: Duration = Duration::from_secs(60);
    /// Ten times what a slow handshake with TLS needs.
    pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
    /// Half of the minute after which the strictest proxies cut a silent connection.
    pub const DEFAULT_HEARTBEAT_INTERVAL: Duration = Duration::from_secs(30);
    /// An answer that takes longer than any network is not coming.
    pub const DEFAULT_HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(10);
    /// Fast enough for a hiccup.
    pub const DEFAULT_RETRY_BASE: Duration = Duration::from_millis(100);
    /// Slow enough not to stampede a server that restarts.
    pub const DEFAULT_RETRY_CAP: Duration = Duration::from_secs(30);
    /// A server that accepts and then cuts is still ill.
    pub const DEFAULT_STABLE_AFTER: Duration = Duration::from_secs(10);
    /// One round trip; five seconds are a very long one.
    pub const DEFAULT_ACK_TIMEOUT: Duration = Duration::from_secs(5);
    /// Enough to fill a round trip, little enough not to flood.
    pub const DEFAULT_MAX_UNACKNOWLEDGED: usize = 256;
    /// The customary limit of a request.
    pub const DEFAULT_CALL_TIMEOUT: Duration = Duration::from_secs(30);
    /// More than a round trip's worth of commands.
    pub const DEFAULT_SEND_QUEUE: usize = 1_024;
    /// A second of a busy stream.
    pub const DEFAULT_CAPACITY: usize = 1_024;
    /// A late message is a hundred milliseconds late, not a second.
    pub const DEFAULT_REORDER_WAIT: Duration = Duration::from_millis(200);
    /// Less than the 30 s orchestrators give a process to stop.
    pub const DEFAULT_CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

    /// Checks every field.
    ///
    /// # Errors
    /// [`InvalidConfig`] naming the first field that cannot be used.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        checks::sizes(&[
            ("max", self.max, 1, 10_000),
            ("min", self.min, 1, self.max),
            ("max_streams", self.max_streams, 1, 10_000_000),
            ("streams_per_connection", self.streams_per_connection, 1, self.max_streams),
            ("max_unacknowledged", self.max_unacknowledged, 1, 1_000_000),
            ("send_queue", self.send_queue, 1, 1_000_000),
            ("capacity", self.capacity, 1, 10_000_000),
            ("reorder", self.reorder, 0, 100_000),
        ])?;
        if self.messages_per_connection == Some(0) {
            return Err(InvalidConfig::new("messages_per_connection", 0, "at least 1"));
        }
        checks::times(&[
            ("connect_timeout", Some(self.connect_timeout)),
            ("heartbeat_interval", Some(self.heartbeat_interval)),
            ("heartbeat_timeout", Some(self.heartbeat_timeout)),
            ("retry_base", Some(self.retry_base)),
            ("ack_timeout", Some(self.ack_timeout)),
            ("call_timeout", Some(self.call_timeout)),
            ("reorder_wait", Some(self.reorder_wait)),
            ("max_age", self.max_age),
            ("close_timeout", Some(self.close_timeout)),
        ])?;
        checks::retries(self.retry_base, self.retry_cap)
    }

    pub(super) fn backoff(&self) -> Backoff {
        Backoff::exponential(self.retry_base).cap(self.retry_cap)
    }
}

impl Default for WebSocketConfig {
    fn default() -> Self {
        Self {
            min: Self::DEFAULT_MIN,
            max: Self::DEFAULT_MAX,
            streams_per_connection: Self::DEFAULT_STREAMS_PER_CONNECTION,
            max_streams: Self::DEFAULT_MAX_STREAMS,
            messages_per_connection: None,
            shrink_after: Self::DEFAULT_SHRINK_AFTER,
            connect_timeout: Self::DEFAULT_CONNECT_TIMEOUT,
            heartbeat_interval: Self::DEFAULT_HEARTBEAT_INTERVAL,
            heartbeat_timeout: Self::DEFAULT_HEARTBEAT_TIMEOUT,
            retry_base: Self::DEFAULT_RETRY_BASE,
            retry_cap: Self::DEFAULT_RETRY_CAP,
            stable_after: Self::DEFAULT_STABLE_AFTER,
            ack_timeout: Self::DEFAULT_ACK_TIMEOUT,
            max_unacknowledged: Self::DEFAULT_MAX_UNACKNOWLEDGED,
            call_timeout: Self::DEFAULT_CALL_TIMEOUT,
            send_queue: Self::DEFAULT_SEND_QUEUE,
            capacity: Self::DEFAULT_CAPACITY,
            reorder: 0,
            reorder_wait: Self::DEFAULT_REORDER_WAIT,
            max_age: None,
            close_timeout: Self::DEFAULT_CLOSE_TIMEOUT,
        }
    }
}
