use crate::manager::{Condition, Manager};
use ::deadpool::managed;
use std::error::Error;

/// A manager written for deadpool, used as it is: `Pool::builder(Deadpool(manager))`.
///
/// deadpool recycles a connection before each use, and its managers count on it. Here that is done by the pool's own task
/// when the connection comes back, so that no caller waits for it.
#[derive(Clone, Debug)]
pub struct Deadpool<M>(pub M);

/// Why a deadpool manager could not make or recycle a connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeadpoolError<E: Error + 'static> {
    /// The manager's own error.
    #[error(transparent)]
    Backend(E),
    /// The connection is not to be used again, for the reason given.
    #[error("the connection cannot be recycled: {0}")]
    Recycle(String),
}

impl<M> Manager for Deadpool<M>
where
    M: managed::Manager + 'static,
    M::Type: 'static,
    M::Error: Error + Send + Sync + 'static,
{
    type Connection = M::Type;
    type Error = DeadpoolError<M::Error>;

    async fn connect(&self) -> Result<M::Type, Self::Error> {
        self.0.create().await.map_err(DeadpoolError::Backend)
    }

    async fn check(&self, connection: &mut M::Type) -> Result<(), Self::Error> {
        match self.0.recycle(connection, &managed::Metrics::default()).await {
            Ok(()) => Ok(()),
            Err(managed::RecycleError::Backend(error)) => Err(DeadpoolError::Backend(error)),
            Err(error) => Err(DeadpoolError::Recycle(error.to_string())),
        }
    }

    fn condition(&self, _: &mut M::Type) -> Condition {
        Condition::Dirty
    }
}
