use crate::manager::{Condition, Manager};
use ::bb8::ManageConnection;
use std::error::Error;

/// A manager written for bb8, used as it is: `Pool::builder(Bb8(manager))`.
#[derive(Clone, Debug)]
pub struct Bb8<M>(pub M);

impl<M> Manager for Bb8<M>
where
    M: ManageConnection,
    M::Error: Error + Send + Sync,
{
    type Connection = M::Connection;
    type Error = M::Error;

    async fn connect(&self) -> Result<M::Connection, M::Error> {
        self.0.connect().await
    }

    async fn check(&self, connection: &mut M::Connection) -> Result<(), M::Error> {
        self.0.is_valid(connection).await
    }

    fn condition(&self, connection: &mut M::Connection) -> Condition {
        if self.0.has_broken(connection) { Condition::Broken } else { Condition::Clean }
    }
}
