use crate::error::Cause;
use perf_core::{Name, Rejected, duration};
use std::time::Duration;

/// What a caller was waiting for when its time ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Waiting {
    /// A connection.
    Connection,
    /// The server's word that it has subscribed.
    Acknowledgement,
    /// The answer to a request.
    Reply,
    /// Room in the queue of messages to send.
    Room,
}

impl Waiting {
    const fn in_words(self) -> &'static str {
        match self {
            Self::Connection => "for a connection",
            Self::Acknowledgement => "for the server to acknowledge a subscription",
            Self::Reply => "for the answer to a request",
            Self::Room => "for room in the send queue",
        }
    }
}

/// Why something asked of a [`WebSocketPool`](super::WebSocketPool) was not done.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The pool refused without waiting: it is closed, or full.
    #[error("{0}")]
    Rejected(#[from] Rejected),
    /// The time ran out.
    #[error("`{pool}` timed out after {} waiting {}", duration::format(*.waited), .waiting.in_words())]
    Timeout {
        /// The pool.
        pool: Name,
        /// How long the caller waited.
        waited: Duration,
        /// For what.
        waiting: Waiting,
        /// The last error of connecting, if that is what it waited for.
        source: Option<Cause>,
    },
    /// The server refused.
    #[error("the server refused: {reason}")]
    Refused {
        /// Its words.
        reason: String,
    },
    /// The connection ended before the answer came, or before the message had been sent.
    #[error("a connection of `{pool}` ended before it was done")]
    Disconnected {
        /// The pool.
        pool: Name,
    },
    /// The server closed the connection with a code that says not to come back.
    #[error("the server closed the connection for good: {code} {reason}")]
    Fatal {
        /// The close code.
        code: u16,
        /// The reason it gave.
        reason: String,
    },
    /// No endpoint can ever be connected to as things are configured: its certificate is another's, for example.
    #[error("`{pool}` has no endpoint that can be connected to")]
    Unreachable {
        /// The pool.
        pool: Name,
        /// What was wrong with the last of them.
        source: Option<Cause>,
    },
    /// There is no tokio runtime to run the connections in.
    #[error("there is no tokio runtime for the connections of `{pool}`")]
    NoRuntime {
        /// The pool.
        pool: Name,
    },
}

impl Error {
    /// Whether a time ran out.
    #[must_use]
    pub const fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout { .. })
    }

    /// The refusal behind the error, if it is one.
    #[must_use]
    pub fn rejected(&self) -> Option<&Rejected> {
        Rejected::find(self).or(match self {
            Self::Rejected(refusal) => Some(refusal),
            _ => None,
        })
    }
}

/// Why a subscription has nothing more to hand out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Ended {
    /// Its queue was full, and its policy is to end then.
    #[error("the subscription was not read in time")]
    Overrun,
    /// The server refused to go on with it.
    #[error("the server refused: {0}")]
    Refused(String),
    /// The server closed the last connection with a code that says not to come back.
    #[error("the server closed the connection for good: {code} {reason}")]
    Fatal {
        /// The close code.
        code: u16,
        /// The reason it gave.
        reason: String,
    },
    /// No endpoint can ever be connected to as things are configured, and why the last of them cannot.
    #[error("no endpoint can be connected to: {0}")]
    Unreachable(String),
    /// The pool was closed.
    #[error("the pool is closed")]
    Closed,
}
