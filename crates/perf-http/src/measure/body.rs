use super::state::Flight;
use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use perf_core::time;
use pin_project_lite::pin_project;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

pin_project! {
    /// A body that tells the metrics when its last byte was handed out, when it broke off, and when it was dropped before.
    #[derive(Debug)]
    pub struct MeasuredBody<B> {
        #[pin]
        inner: B,
        flight: Option<Flight>,
    }
}

impl<B> MeasuredBody<B> {
    pub(super) const fn new(inner: B, flight: Option<Flight>) -> Self {
        Self { inner, flight }
    }
}

impl<B: Body> Body for MeasuredBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.inner.as_mut().poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(flight), Some(data)) = (this.flight.as_mut(), frame.data_ref()) {
                    flight.sent(data.remaining());
                }
                // The server may not poll again after the last frame.
                if this.inner.is_end_stream()
                    && let Some(flight) = this.flight.take()
                {
                    flight.complete(time::now());
                }
            }
            Some(Err(_)) => {
                if let Some(flight) = this.flight.take() {
                    flight.failed(time::now());
                }
            }
            None => {
                if let Some(flight) = this.flight.take() {
                    flight.complete(time::now());
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B: Default> Default for MeasuredBody<B> {
    fn default() -> Self {
        Self::new(B::default(), None)
    }
}
