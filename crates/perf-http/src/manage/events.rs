//! The event stream: a snapshot first, then a tick a second, the newest only for whoever is slow.

use super::Shared;
use crate::Problem;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use http_body::Frame;
use perf_core::time::{self, Duration};
use serde::Serialize;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::sync::{OwnedSemaphorePermit, watch};

/// Streams open at once. The page needs one; more than this are not people.
pub(super) const MAX_STREAMS: usize = 32;

/// Silence after which a comment is sent, so that proxies keep the stream open and a dead one is noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// One event as the stream carries it.
pub(super) fn frame(kind: &str, sequence: u64, data: &impl Serialize) -> Bytes {
    // JSON holds no line break outside of strings, and none inside: it is one line of data.
    let json =
        serde_json::to_string(data).unwrap_or_else(|error| format!("{{\"error\":{:?}}}", error.to_string()));
    Bytes::from(format!("event: {kind}\nid: {sequence}\ndata: {json}\n\n"))
}

pub(super) async fn events(State(shared): State<Arc<Shared>>) -> Response {
    let Ok(permit) = Arc::clone(&shared.streams).try_acquire_owned() else {
        let detail = "as many pages are watching as may";
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(HEARTBEAT).into_response();
    };
    // Subscribed first: a tick between the two is seen after the snapshot.
    let ticks = shared.sampler.subscribe();
    let snapshot = shared.sampler.snapshot(&shared);
    let first = frame("snapshot", snapshot.sequence(), &snapshot);
    let body = EventBody {
        first: Some(first),
        next: Some(Box::pin(next(ticks, shared.stopped()))),
        _permit: permit,
    };
    let mut response = Response::new(Body::new(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

type Ticks = watch::Receiver<Bytes>;
type Stopped = watch::Receiver<bool>;

/// Waits for the next tick, or for long enough that a comment is due; `None` when the server stops.
async fn next(mut ticks: Ticks, mut stopped: Stopped) -> Option<(Bytes, Ticks, Stopped)> {
    let event = tokio::select! {
        changed = ticks.changed() => {
            changed.ok()?;
            ticks.borrow_and_update().clone()
        }
        () = crate::server::until(&mut stopped) => return None,
        () = time::sleep(HEARTBEAT) => Bytes::from_static(b": still here\n\n"),
    };
    Some((event, ticks, stopped))
}

type Next = Pin<Box<dyn Future<Output = Option<(Bytes, Ticks, Stopped)>> + Send>>;

struct EventBody {
    first: Option<Bytes>,
    /// `None` once the stream has ended.
    next: Option<Next>,
    _permit: OwnedSemaphorePermit,
}

impl http_body::Body for EventBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let Some(waiting) = self.next.as_mut() else { return Poll::Ready(None) };
        let Some((event, ticks, stopped)) = ready!(waiting.as_mut().poll(context)) else {
            self.next = None;
            return Poll::Ready(None);
        };
        self.next = Some(Box::pin(next(ticks, stopped)));
        Poll::Ready(Some(Ok(Frame::data(event))))
    }
}
