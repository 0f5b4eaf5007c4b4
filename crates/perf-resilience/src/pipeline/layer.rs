use super::Pipeline;
use crate::judge::{ByOutcome, Judge};
use crate::sync::lock;
use perf_core::Rejected;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};
use tower_layer::Layer;
use tower_service::Service;

/// Puts a [`Pipeline`] round a service; made by [`Pipeline::layer`].
#[derive(Debug)]
pub struct PipelineLayer<J = ByOutcome>(Pipeline<J>);

impl<J> Pipeline<J> {
    /// The pipeline as a tower layer. Requests are cloned for further attempts, each of which asks a clone of the service
    /// for readiness anew. The future of a call is boxed: one allocation per call.
    #[must_use]
    pub fn layer(&self) -> PipelineLayer<J> {
        PipelineLayer(self.clone())
    }
}

impl<J> Clone for PipelineLayer<J> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S, J> Layer<S> for PipelineLayer<J> {
    type Service = Guarded<S, J>;

    fn layer(&self, inner: S) -> Guarded<S, J> {
        Guarded { inner, pipeline: self.0.clone() }
    }
}

/// A service behind a pipeline; made by [`PipelineLayer`].
#[derive(Debug)]
pub struct Guarded<S, J = ByOutcome> {
    inner: S,
    pipeline: Pipeline<J>,
}

impl<S: Clone, J> Clone for Guarded<S, J> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), pipeline: self.pipeline.clone() }
    }
}

impl<S, Q, J> Service<Q> for Guarded<S, J>
where
    S: Service<Q> + Clone + Send + 'static,
    S::Future: Send,
    S::Response: Send,
    S::Error: From<Rejected> + Send,
    Q: Clone + Send + Sync + 'static,
    J: Judge<S::Response, S::Error> + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Q) -> Self::Future {
        let spare = self.inner.clone();
        // The service that said it was ready makes the first attempt.
        let ready = std::mem::replace(&mut self.inner, spare.clone());
        let services = Mutex::new((Some(ready), spare));
        let pipeline = self.pipeline.clone();
        Box::pin(async move {
            let attempt = |_| {
                let (mut service, is_ready) = {
                    let mut services = lock(&services);
                    let ready = services.0.take();
                    let is_ready = ready.is_some();
                    (ready.unwrap_or_else(|| services.1.clone()), is_ready)
                };
                let request = request.clone();
                async move {
                    if !is_ready {
                        poll_fn(|context| service.poll_ready(context)).await?;
                    }
                    service.call(request).await
                }
            };
            pipeline.run(attempt).await
        })
    }
}
