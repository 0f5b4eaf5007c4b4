use crate::failure::ErrorKind;
use crate::http::Request;
use crate::scenario::Answer;
use perf_core::time::Instant;
use std::future::Future;

/// How a request travels. Pacing, timing and statistics belong to the engine, so that no protocol can measure its own latency.
pub(crate) trait Protocol: Send + Sync + 'static {
    /// What carries one request at a time: a connection, made when it is first needed and again when it broke.
    type Carrier: Send + 'static;

    /// A carrier that is not connected yet.
    fn carrier(&self) -> Self::Carrier;

    /// An empty request.
    fn request(&self) -> Request;

    /// Sends a request and reads the whole answer. Bounded by the plan's timeouts.
    fn fire(&self, carrier: &mut Self::Carrier, request: &mut Request) -> impl Future<Output = Fired> + Send;

    /// The answer last read.
    fn answer<'a>(&self, carrier: &'a Self::Carrier) -> Answer<'a>;
}

/// What became of a request that was fired.
#[derive(Debug)]
pub(crate) struct Fired {
    /// When its first byte was written; `None` when it never was.
    pub(crate) started: Option<Instant>,
    pub(crate) done: Instant,
    pub(crate) failure: Option<Failure>,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// Connections opened for it.
    pub(crate) connects: u32,
    /// Whether it was sent a second time because an idle connection had been closed.
    pub(crate) raced: bool,
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    pub(crate) detail: String,
}

impl Failure {
    pub(crate) fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }
}
