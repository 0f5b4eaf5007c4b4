use super::delivery::Delivery;
use super::error::Ended;
use super::intake::Stream;
use super::pool::WebSocketPool;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// What arrives of one topic. Dropping it ends the subscription at the server.
#[must_use = "a subscription that is dropped at once is ended at once"]
pub struct Subscription {
    pool: WebSocketPool,
    stream: Arc<Stream>,
}

impl Subscription {
    pub(super) const fn new(pool: WebSocketPool, stream: Arc<Stream>) -> Self {
        Self { pool, stream }
    }

    /// The next message, or what has to be known about those that are missing.
    ///
    /// # Errors
    /// [`Ended`] once there is nothing more, and why; again and again.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn next(&mut self) -> Result<Delivery, Ended> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.stream.topic
    }

    /// The number of the last message that came out or is known to be missing: the bookmark for
    /// [`Topic::after`](super::Topic::after).
    #[must_use]
    pub fn last_number(&self) -> Option<u64> {
        self.stream.lock().after()
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Delivery, Ended>> {
        let (delivery, resume) = ready!(self.stream.lock().poll(context));
        if resume {
            self.pool.shared.with_hub(|hub| hub.resume(self.stream.id));
        }
        Poll::Ready(delivery)
    }
}

impl futures_util::Stream for Subscription {
    type Item = Delivery;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Delivery>> {
        self.poll(context).map(Result::ok)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // What still arrives until the server has been told is not kept.
        self.stream.lock().end(Ended::Closed);
        self.pool.shared.with_hub(|hub| hub.unsubscribe(self.stream.id));
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("topic", &self.stream.topic).finish_non_exhaustive()
    }
}
