use crate::error::Error;
use crate::manager::Manager;
use crate::pool::{Lease, Pool};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tower_service::Service;

type Acquiring<M> = Pin<Box<dyn Future<Output = Result<Lease<M>, Error>> + Send>>;

/// Gives each request a lease: the inner service is called with `(lease, request)`.
///
/// `poll_ready` reserves the connection, so a service that is ready does not wait again; dropping the service, or a clone
/// of it, gives back what it had reserved.
pub struct PooledService<M: Manager, S> {
    pool: Pool<M>,
    inner: S,
    acquiring: Option<Acquiring<M>>,
    reserved: Option<Lease<M>>,
}

impl<M: Manager, S> PooledService<M, S> {
    /// Calls `inner` with leases of `pool`.
    pub const fn new(pool: Pool<M>, inner: S) -> Self {
        Self { pool, inner, acquiring: None, reserved: None }
    }
}

impl<M, S, R> Service<R> for PooledService<M, S>
where
    M: Manager,
    S: Service<(Lease<M>, R)>,
    S::Error: From<Error>,
    S::Future: Send + 'static,
    S::Response: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        if self.reserved.is_none() {
            let acquiring = self.acquiring.get_or_insert_with(|| {
                let pool = self.pool.clone();
                Box::pin(async move { pool.acquire().await })
            });
            let lease = ready!(acquiring.as_mut().poll(context));
            self.acquiring = None;
            self.reserved = Some(lease?);
        }
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        match self.reserved.take() {
            Some(lease) => Box::pin(self.inner.call((lease, request))),
            None => {
                let refusal = perf_core::Rejected::new(perf_core::Reason::Full, self.pool.name().clone());
                Box::pin(async move { Err(Error::from(refusal).into()) })
            }
        }
    }
}

impl<M: Manager, S: Clone> Clone for PooledService<M, S> {
    fn clone(&self) -> Self {
        Self::new(self.pool.clone(), self.inner.clone())
    }
}

impl<M: Manager, S: fmt::Debug> fmt::Debug for PooledService<M, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PooledService")
            .field("pool", &self.pool)
            .field("inner", &self.inner)
            .field("reserved", &self.reserved.is_some())
            .finish_non_exhaustive()
    }
}
