//! A valve between the shop and its database, closed on purpose.

use crate::shop::ShopError;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// How the valve stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// Statements reach the database.
    Open,
    /// Statements wait: the database hangs.
    Stalled,
    /// Statements fail at once as on a cut connection: the database is gone.
    Gone,
}

/// Lets statements pass, or not.
pub struct Valve(watch::Sender<Position>);

impl Valve {
    pub fn new() -> Self {
        Self(watch::Sender::new(Position::Open))
    }

    pub fn turn(&self, position: Position) {
        self.0.send_replace(position);
    }

    /// Waits while the valve is stalled; the caller bounds the wait.
    pub async fn pass(&self) -> Result<(), ShopError> {
        if *self.0.borrow() == Position::Open {
            return Ok(());
        }
        let mut position = self.0.subscribe();
        // The sender lives as long as the valve, so waiting ends only with a position.
        let reached =
            position.wait_for(|position| *position != Position::Stalled).await.map(|position| *position);
        match reached {
            Ok(Position::Open | Position::Stalled) => Ok(()),
            Ok(Position::Gone) | Err(_) => {
                Err(sqlx::Error::Io(std::io::Error::from(std::io::ErrorKind::ConnectionReset)).into())
            }
        }
    }
}
