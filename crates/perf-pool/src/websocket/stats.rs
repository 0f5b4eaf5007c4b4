use perf_core::{Counter, Desc, Label, Unit};

macro_rules! stats {
    (
        levels { $($(#[$level_doc:meta])* $level:ident,)* }
        totals { $($(#[$total_doc:meta])* $total:ident: $desc:expr, $labels:expr;)* }
    ) => {
        /// How a [`WebSocketPool`](super::WebSocketPool) stands and what has happened to it.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct WebSocketStats {
            $($(#[$level_doc])* pub $level: usize,)*
            $($(#[$total_doc])* pub $total: u64,)*
        }

        impl WebSocketStats {
            /// What has happened since `earlier`: totals are subtracted, levels stay as they are now.
            #[must_use]
            pub const fn since(&self, earlier: &Self) -> Self {
                Self {
                    $($level: self.$level,)*
                    $($total: self.$total.saturating_sub(earlier.$total),)*
                }
            }
        }

        /// The totals as they are counted.
        #[derive(Debug, Default)]
        pub(super) struct Totals {
            $(pub(super) $total: Counter,)*
        }

        impl Totals {
            pub(super) fn read(&self) -> WebSocketStats {
                WebSocketStats { $($total: self.$total.get(),)* ..WebSocketStats::default() }
            }

            pub(super) fn each(&self, mut tell: impl FnMut(&'static Desc, &'static [Label<'static>], u64)) {
                $({
                    const LABELS: &[Label<'static>] = $labels;
                    tell(&$desc, LABELS, self.$total.get());
                })*
            }
        }
    };
}

const MESSAGES: Desc =
    Desc::counter("perf_pool_websocket_messages_total", "Messages received for a subscription", Unit::Count);
const DROPPED: Desc =
    Desc::counter("perf_pool_websocket_dropped_total", "Messages not handed out, by reason", Unit::Count);
const GAPS: Desc =
    Desc::counter("perf_pool_websocket_gaps_total", "Gaps told to a subscription", Unit::Count);
const MISSED: Desc =
    Desc::counter("perf_pool_websocket_missed_total", "Messages missing in gaps", Unit::Count);
const CONNECTED: Desc = Desc::counter("perf_pool_websocket_connected_total", "Connections made", Unit::Count);
const CONNECT_FAILED: Desc =
    Desc::counter("perf_pool_websocket_connect_failed_total", "Attempts to connect that failed", Unit::Count);
const ENDED: Desc =
    Desc::counter("perf_pool_websocket_ended_total", "Connections that ended, by reason", Unit::Count);
const SUBSCRIBED: Desc = Desc::counter(
    "perf_pool_websocket_subscribed_total",
    "Subscriptions that the server acknowledged, again after each loss",
    Unit::Count,
);
const ACK_TIMEOUTS: Desc = Desc::counter(
    "perf_pool_websocket_ack_timeouts_total",
    "Subscriptions asked for again because no acknowledgement came",
    Unit::Count,
);
const REFUSED: Desc =
    Desc::counter("perf_pool_websocket_refused_total", "Subscriptions the server refused", Unit::Count);
const PAUSED: Desc = Desc::counter(
    "perf_pool_websocket_paused_total",
    "Times a subscription was paused because nobody read it",
    Unit::Count,
);
const SENT: Desc = Desc::counter("perf_pool_websocket_sent_total", "Messages sent for callers", Unit::Count);
const LATE_REPLIES: Desc = Desc::counter(
    "perf_pool_websocket_late_replies_total",
    "Answers nobody waited for any more",
    Unit::Count,
);
const PINGS: Desc = Desc::counter("perf_pool_websocket_pings_total", "Pings sent into silence", Unit::Count);
const PANICKED: Desc =
    Desc::counter("perf_pool_websocket_panicked_total", "Panics of the protocol", Unit::Count);
pub(super) const MOVED: Desc = Desc::counter(
    "perf_pool_websocket_moved_total",
    "Subscriptions made on one connection before they ended on another",
    Unit::Count,
);
pub(super) const ROTATED: Desc =
    Desc::counter("perf_pool_websocket_rotated_total", "Connections replaced before they ended", Unit::Count);
pub(super) const CONNECTIONS: Desc =
    Desc::gauge("perf_pool_websocket_connections", "Connections, by state", Unit::Count);
pub(super) const SUBSCRIPTIONS: Desc =
    Desc::gauge("perf_pool_websocket_subscriptions", "Subscriptions, by state", Unit::Count);
pub(super) const ENDPOINTS: Desc =
    Desc::gauge("perf_pool_websocket_endpoints", "Endpoints, by state", Unit::Count);

/// Every series a [`WebSocketPool`](super::WebSocketPool) hands out. All carry the label `name`.
pub const METRICS: [Desc; 20] = [
    MESSAGES,
    DROPPED,
    GAPS,
    MISSED,
    CONNECTED,
    CONNECT_FAILED,
    ENDED,
    SUBSCRIBED,
    ACK_TIMEOUTS,
    REFUSED,
    PAUSED,
    SENT,
    LATE_REPLIES,
    PINGS,
    PANICKED,
    MOVED,
    ROTATED,
    CONNECTIONS,
    SUBSCRIPTIONS,
    ENDPOINTS,
];

stats! {
    levels {
        /// Connections that are open and carry subscriptions.
        open,
        /// Connections being made.
        connecting,
        /// Connections whose subscriptions are moving away.
        leaving,
        /// Subscriptions.
        subscriptions,
        /// Subscriptions that wait for a connection.
        waiting,
        /// Subscriptions moved, connection made before the old one ended.
        moved,
        /// Connections replaced before they ended.
        rotated,
        /// Endpoints that are connected to when there is need.
        endpoints_available,
        /// Endpoints passed over for a while because they could not be reached.
        endpoints_out,
        /// Endpoints that can never be connected to as things are configured.
        endpoints_given_up,
    }
    totals {
        /// Messages received for a subscription.
        messages: MESSAGES, &[];
        /// Messages dropped because nobody read them in time.
        dropped: DROPPED, &[("reason", "lagged")];
        /// Messages that were replaced by a later one of the same key.
        conflated: DROPPED, &[("reason", "conflated")];
        /// Messages that had been there before.
        duplicates: DROPPED, &[("reason", "duplicate")];
        /// Messages of topics that nobody has subscribed to.
        strays: DROPPED, &[("reason", "stray")];
        /// Gaps told.
        gaps: GAPS, &[];
        /// Messages missing in them.
        missed: MISSED, &[];
        /// Connections made.
        connected: CONNECTED, &[];
        /// Attempts to connect that failed.
        connect_failed: CONNECT_FAILED, &[];
        /// Connections that broke.
        ended_cut: ENDED, &[("reason", "cut")];
        /// Connections whose other end fell silent.
        ended_stalled: ENDED, &[("reason", "stalled")];
        /// Connections closed by the server.
        ended_by_server: ENDED, &[("reason", "server")];
        /// Connections closed by us.
        ended_by_us: ENDED, &[("reason", "ours")];
        /// Subscriptions acknowledged.
        subscribed: SUBSCRIBED, &[];
        /// Subscriptions asked for again because no acknowledgement came.
        ack_timeouts: ACK_TIMEOUTS, &[];
        /// Subscriptions refused.
        refused: REFUSED, &[];
        /// Times a subscription was paused.
        paused: PAUSED, &[];
        /// Messages sent for callers.
        sent: SENT, &[];
        /// Answers nobody waited for any more.
        late_replies: LATE_REPLIES, &[];
        /// Pings sent into silence.
        pings: PINGS, &[];
        /// Panics of the protocol.
        panicked: PANICKED, &[];
    }
}
