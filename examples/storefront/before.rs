//! The shop as a competent developer writes it first: sqlx's pool with its defaults, no cache, no extra index.

use crate::chaos::Valve;
use crate::queries::Backend;
use crate::service::Shop;
use crate::shop::{Answer, NewOrder, Page, Receipt, ShopError};
use perfkit::dbopt::QueryStats;
use std::ops::Deref;
use std::sync::Arc;

pub struct Plain<B: Backend> {
    pool: sqlx::Pool<B::Db>,
    /// Counts queries and their time, so that both runs are measured with the same instrument.
    stats: QueryStats,
    /// Open unless faults are injected, which both runs then suffer at the same place.
    valve: Arc<Valve>,
}

/// An answer nobody else holds.
pub struct Owned(Answer);

impl Deref for Owned {
    type Target = Answer;

    fn deref(&self) -> &Answer {
        &self.0
    }
}

impl<B: Backend> Plain<B> {
    pub async fn connect(url: &str, stats: QueryStats, valve: Arc<Valve>) -> Result<Self, ShopError> {
        Ok(Self { pool: sqlx::Pool::connect(url).await?, stats, valve })
    }
}

impl<B: Backend> Shop for Plain<B> {
    type Held = Owned;

    async fn page(&self, page: Page) -> Result<Owned, ShopError> {
        let mut connection = self.pool.acquire().await?;
        self.valve.pass().await?;
        B::page(&mut connection, &self.stats, &page).await.map(Owned)
    }

    async fn place(&self, order: NewOrder) -> Result<Receipt, ShopError> {
        let mut connection = self.pool.acquire().await?;
        self.valve.pass().await?;
        B::place(&mut connection, &self.stats, &order).await
    }
}
