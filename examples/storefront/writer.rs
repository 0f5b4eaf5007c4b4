//! The shop's one writer: orders that wait for it are written together, and the cache follows them before anybody is told.
//!
//! A database has one place where commits queue (SQLite its write lock, PostgreSQL here the row of the month's version), and
//! an order's share of a transaction is far smaller than the transaction. So a group takes whatever waits: alone an order is
//! written at once, and under load the groups grow instead of the queue.

use crate::apart::Apart;
use crate::chaos::Valve;
use crate::follow;
use crate::group::PlaceTogether;
use crate::shop::{Answer, NewOrder, Page, Placed, Receipt, ShopError};
use perfkit::Database;
use perfkit::cache::{Cache, CacheSpace, Loaded, Tag};
use perfkit::core::{Reason, Rejected};
use perfkit::pool::Manager;
use sqlx::Connection;
use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Orders that may wait; more are refused at once.
const QUEUE: usize = 2000;

/// Orders in one transaction at most: more would keep those who wait longer than they save.
const LARGEST: usize = 256;

/// Between two groups. Who orders does not feel a pause this short, and under load it makes few large groups of many small ones.
const PAUSE: Duration = Duration::from_millis(20);

/// What is known of the pages in memory.
#[derive(Clone)]
pub struct Pages {
    pub cache: Cache<Page, Answer>,
    pub space: CacheSpace,
    /// Whether other processes hold pages too. Then pages are forgotten and never followed: what another process has
    /// forgotten must not come back.
    pub shared: bool,
    /// Reads of the cache that no user asked for.
    pub own_reads: Arc<AtomicU64>,
}

/// Places orders.
pub struct Writer(mpsc::Sender<Waiting>);

struct Waiting {
    order: NewOrder,
    told: oneshot::Sender<Result<Receipt, ShopError>>,
}

/// Where groups are written.
struct Book<B, M: Manager> {
    database: Database<M>,
    valve: Arc<Valve>,
    pages: Pages,
    backend: PhantomData<fn() -> B>,
}

impl Writer {
    /// Starts the writer, which ends when this is dropped.
    pub fn start<B, M>(apart: &Apart, database: Database<M>, valve: Arc<Valve>, pages: Pages) -> Self
    where
        B: PlaceTogether,
        M: Manager<Connection = B::Connection>,
    {
        let (sender, queue) = mpsc::channel(QUEUE);
        apart.spawn(Book { database, valve, pages, backend: PhantomData::<fn() -> B> }.keep(queue));
        Self(sender)
    }

    /// Places an order.
    ///
    /// # Cancel safety
    /// Dropping the future does not take the order back: it is written, and the cache follows it, all the same.
    pub async fn place(&self, order: NewOrder) -> Result<Receipt, ShopError> {
        order.validate()?;
        let (told, receipt) = oneshot::channel();
        self.0.try_send(Waiting { order, told }).map_err(|_| Rejected::new(Reason::Full, "orders"))?;
        receipt.await.map_err(|_| Rejected::new(Reason::Closed, "orders"))?
    }
}

impl<B: PlaceTogether, M: Manager<Connection = B::Connection>> Book<B, M> {
    async fn keep(self, mut queue: mpsc::Receiver<Waiting>) {
        let mut group = Vec::with_capacity(LARGEST);
        let mut pause = Instant::now();
        while let Some(first) = queue.recv().await {
            tokio::time::sleep_until(pause).await;
            group.push(first);
            while group.len() < LARGEST {
                let Ok(next) = queue.try_recv() else { break };
                group.push(next);
            }
            self.place(&mut group).await;
            pause = Instant::now() + PAUSE;
        }
    }

    /// Writes a group, lets the cache follow, and then tells everybody: what a user has been told, every page knows.
    async fn place(&self, group: &mut Vec<Waiting>) {
        let (orders, tell): (Vec<NewOrder>, Vec<_>) =
            group.drain(..).map(|waiting| (waiting.order, waiting.told)).unzip();
        let committing = AtomicBool::new(false);
        let ends: Vec<Result<Receipt, ShopError>> = match self.write(&orders, &committing).await {
            Ok(ends) => {
                let placed: Vec<&Placed> = ends.iter().filter_map(|end| end.as_ref().ok()).collect();
                self.pages.follow(&placed).await;
                ends.into_iter().map(|end| end.map(Receipt::from)).collect()
            }
            Err(error) => {
                // Cut off in a commit, the orders may have been placed: what they would have changed is forgotten.
                if committing.into_inner() {
                    let scopes: BTreeSet<String> = orders.iter().flat_map(NewOrder::scopes).collect();
                    self.pages.forget(scopes).await;
                }
                let error = Arc::new(error);
                orders.iter().map(|_| Err(ShopError::Shared(Arc::clone(&error)))).collect()
            }
        };
        for (told, end) in tell.into_iter().zip(ends) {
            // Whoever went away does not want to know.
            let _ = told.send(end);
        }
    }

    async fn write(
        &self,
        orders: &[NewOrder],
        committing: &AtomicBool,
    ) -> Result<Vec<Result<Placed, ShopError>>, ShopError> {
        let written = self.database.guard().run(|_| async {
            let mut lease = self.database.pool().acquire().await?;
            self.valve.pass().await?;
            // Dropped before its commit, a transaction rolls back.
            let mut transaction = lease.begin_with(B::WRITING).await?;
            let ends = B::place_together(&mut transaction, self.database.queries(), orders).await?;
            committing.store(true, Ordering::Relaxed);
            transaction.commit().await?;
            Ok(ends)
        });
        written.await
    }
}

impl Pages {
    /// Brings the cache up to date with the orders of one transaction.
    async fn follow(&self, placed: &[&Placed]) {
        let mut shown: BTreeMap<Page, Vec<&Placed>> = BTreeMap::new();
        for order in placed {
            for page in follow::shown_on(order) {
                shown.entry(page).or_default().push(order);
            }
        }
        let versions: BTreeMap<&str, i64> = placed
            .iter()
            .flat_map(|order| &order.versions)
            .map(|(scope, version)| (&**scope, *version))
            .collect();
        let mut followed: BTreeMap<String, (Page, Answer)> = BTreeMap::new();
        for (page, orders) in shown {
            let scope = page.scope();
            let version = versions.get(&*scope).copied();
            if let Some(answer) = version.and_then(|version| self.followed(&page, version, &orders)) {
                followed.insert(scope, (page, answer));
            }
        }
        // A page that is not held may be on its way from the database, from before the orders: that load is overtaken.
        let forgotten = versions.into_keys().filter(|scope| !followed.contains_key(*scope));
        self.forget(forgotten.map(str::to_owned)).await;
        for (scope, (page, answer)) in followed {
            self.cache.insert_with(page, Loaded::new(answer).tag(tag(&scope)));
        }
    }

    fn followed(&self, page: &Page, version: i64, orders: &[&Placed]) -> Option<Answer> {
        if self.shared || !self.cache.contains(page) {
            return None;
        }
        self.own_reads.fetch_add(1, Ordering::Relaxed);
        follow::followed(&*self.cache.get(page)?, version, orders)
    }

    async fn forget(&self, scopes: impl IntoIterator<Item = String>) {
        let tags: Vec<Tag> = scopes.into_iter().map(|scope| tag(&scope)).collect();
        if !tags.is_empty() {
            self.space.invalidate_tags(tags).await;
        }
    }
}

/// What a page is invalidated by.
pub fn tag(scope: &str) -> Tag {
    Tag::new(scope)
}
