//! The shop through perfkit: the same handlers and the same pages, behind a cache, a fair pool and a breaker, over the indexes
//! that perf-dbopt recommended from the statements of the first run; orders that wait are written together.

use crate::apart::Apart;
use crate::args::Serve;
use crate::chaos::Valve;
use crate::child::{Numbers, Ready};
use crate::follow::can_be_followed;
use crate::group::PlaceTogether;
use crate::queries::{self, Backend};
use crate::report::Index;
use crate::serve::{Control, converse};
use crate::service::{self, Shop};
use crate::shop::{Answer, NewOrder, Page, Receipt, ShopError};
use crate::writer::{Pages, Writer, tag};
use perfkit::cache::{Cache, CacheKey, Hit, Json, LoadError, Loaded};
use perfkit::pool::Manager;
use perfkit::resilience::Call;
use perfkit::{Config, Database, Stack};
use sqlx::Connection;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

type Failure = Box<dyn Error + Send + Sync>;

/// The configuration, as a file would hold it.
const CONFIG: &str = include_str!("storefront.toml");

/// The names of the databases in the configuration: one file, read through several connections and written through one.
const READS: &str = "shop";
const WRITES: &str = "orders";

/// The shop through perfkit.
pub struct Tuned<B: Backend, M: Manager<Connection = B::Connection>> {
    source: Arc<Source<B, M>>,
    pages: Cache<Page, Answer>,
    writer: Writer,
    apart: Arc<Apart>,
}

/// Where pages come from when they are not in the cache.
struct Source<B, M: Manager> {
    reads: Database<M>,
    valve: Arc<Valve>,
    backend: std::marker::PhantomData<fn() -> B>,
}

impl Tuned<queries::Sqlite, perfkit::pool::Sqlite> {
    /// Serves the shop over SQLite.
    pub async fn sqlite(serve: &Serve) -> Result<(), Failure> {
        let indexes = match &serve.workload {
            Some(workload) => crate::advise::sqlite(&serve.url, workload).await?,
            None => Vec::new(),
        };
        let stack = stack(serve).await?;
        let (reads, writes) = (stack.sqlite(READS)?, stack.sqlite(WRITES)?);
        Box::pin(Self::run(stack, serve.shared.is_some(), reads, writes, indexes)).await
    }
}

impl Tuned<queries::Postgres, perfkit::pool::Postgres> {
    /// Serves the shop over PostgreSQL.
    pub async fn postgres(serve: &Serve) -> Result<(), Failure> {
        let indexes = match &serve.workload {
            Some(workload) => crate::advise::postgres(&serve.url, workload).await?,
            None => Vec::new(),
        };
        let stack = stack(serve).await?;
        let (reads, writes) = (stack.postgres(READS)?, stack.postgres(WRITES)?);
        Box::pin(Self::run(stack, serve.shared.is_some(), reads, writes, indexes)).await
    }
}

async fn stack(serve: &Serve) -> Result<Stack, Failure> {
    let mut variables = vec![
        ("STOREFRONT_DATABASES__SHOP__URL".to_owned(), serve.url.clone()),
        ("STOREFRONT_DATABASES__ORDERS__URL".to_owned(), serve.url.clone()),
        ("STOREFRONT_MANAGEMENT__ADDRESS".to_owned(), format!("127.0.0.1:{}", serve.page)),
    ];
    if serve.url.starts_with("postgres") {
        // A server runs statements elsewhere.
        variables.push(("STOREFRONT_DATABASES__SHOP__POOL__MAX".to_owned(), "16".to_owned()));
    }
    if let Some(redis) = &serve.shared {
        variables.push(("STOREFRONT_CACHE__REDIS".to_owned(), redis.clone()));
        // Answers of an earlier run, about another database, have another name.
        variables.push(("STOREFRONT_NAME".to_owned(), format!("storefront-{}", std::process::id())));
    }
    let config = Config::from_toml_and_variables(CONFIG, "STOREFRONT", variables)?;
    Ok(Stack::builder(config).version(env!("CARGO_PKG_VERSION")).build().await?)
}

impl<B: PlaceTogether, M: Manager<Connection = B::Connection>> Tuned<B, M> {
    async fn run(
        stack: Stack,
        shared: bool,
        reads: Database<M>,
        writes: Database<M>,
        indexes: Vec<Index>,
    ) -> Result<(), Failure> {
        let cache: Cache<Page, Answer> = stack.cache_with("pages", |cache| {
            // The codec is used when there is a Redis server to share answers through.
            cache.weigher(weight).stale_if_error(STALE_IF_ERROR, ShopError::is_outage).codec(Json)
        })?;
        let valve = Arc::new(Valve::new());
        let source = Arc::new(Source {
            reads: reads.clone(),
            valve: Arc::clone(&valve),
            backend: std::marker::PhantomData,
        });
        let pages =
            Pages { cache: cache.clone(), space: stack.space().clone(), shared, own_reads: Arc::default() };
        let own_reads = Arc::clone(&pages.own_reads);
        let apart = Arc::new(Apart::start()?);
        let writer = Writer::start::<B, M>(&apart, writes.clone(), Arc::clone(&valve), pages);
        let shop = Self { source, pages: cache.clone(), writer, apart };
        let serving = stack.serve(([127, 0, 0, 1], 0).into(), service::routes(Arc::new(shop))).await?;
        let page = stack.management().map(perfkit::http::ManagementServer::login_url).transpose()?;
        let ready = Ready { shop: serving.address(), page, indexes };
        let control = Control {
            stats: vec![reads.queries().clone(), writes.queries().clone()],
            valve,
            more: Box::new(move |numbers| {
                count_pages(numbers, &cache, &own_reads);
                count_guard(numbers, &reads);
                count_guard(numbers, &writes);
            }),
        };
        converse(&ready, &control).await?;
        stack.shut_down(serving).await;
        Ok(())
    }
}

/// What the cache did for users.
fn count_pages(numbers: &mut Numbers, cache: &Cache<Page, Answer>, own_reads: &AtomicU64) {
    let stats = cache.stats();
    numbers.hits = stats.hits.saturating_sub(own_reads.load(Ordering::Relaxed));
    numbers.misses = stats.misses;
    numbers.stale_if_error = stats.stale_error + stats.stale_timeout;
}

/// What the policies in front of a database did.
fn count_guard<M: Manager>(numbers: &mut Numbers, database: &Database<M>) {
    let guard = database.guard();
    if let Some(breaker) = guard.breaker() {
        let stats = breaker.stats();
        numbers.breaker_opened += stats.opened;
        numbers.breaker_refused += stats.refused;
    }
    if let Some(retry) = guard.retry() {
        numbers.retries += retry.stats().retries;
    }
    if let Some(bulkhead) = guard.bulkhead() {
        let stats = bulkhead.stats();
        numbers.limited += stats.refused_full + stats.refused_wait + stats.displaced;
    }
}

impl<B: Backend, M: Manager<Connection = B::Connection>> Shop for Tuned<B, M> {
    type Held = Hit<Page, Answer>;

    async fn page(&self, page: Page) -> Result<Hit<Page, Answer>, ShopError> {
        let (source, apart) = (Arc::clone(&self.source), Arc::clone(&self.apart));
        let tags = [tag(&page.scope())];
        let load = self.pages.load_with(&page, |context| async move {
            apart.run(async move { source.load(context.key()).await }).await
        });
        load.tags(tags).await.map_err(ShopError::from)
    }

    async fn place(&self, order: NewOrder) -> Result<Receipt, ShopError> {
        self.writer.place(order).await
    }
}

impl<B: Backend, M: Manager<Connection = B::Connection>> Source<B, M> {
    async fn load(&self, page: &Page) -> Result<Loaded<Answer>, ShopError> {
        // Reading may be done twice.
        let reading = Call::new().idempotent(true);
        let answer = self.reads.guard().run_with(reading, |_| async {
            let mut lease = self.reads.pool().acquire().await?;
            self.valve.pass().await?;
            if !can_be_followed(page) {
                return B::page(&mut lease, self.reads.queries(), page).await;
            }
            let mut snapshot = lease.begin_with(B::SNAPSHOT).await?;
            let answer = B::page(&mut snapshot, self.reads.queries(), page).await?;
            snapshot.commit().await?;
            Ok(answer)
        });
        let loaded = Loaded::new(answer.await?);
        Ok(match page {
            Page::Search { .. } => loaded.fresh(SEARCH_FRESH),
            _ => loaded,
        })
    }
}

/// Life of a page of search results: nothing says when the catalogue changes, so it is read again now and then, ahead of its
/// end, and shown beyond it only when the database is gone.
const SEARCH_FRESH: Duration = Duration::from_secs(10);

/// How long an answer is still shown when the database is gone.
const STALE_IF_ERROR: Duration = Duration::from_secs(600);

/// A page's path names it, in this process and in a shared store.
impl CacheKey for Page {
    fn write_key(&self, out: &mut Vec<u8>) {
        self.path().write_key(out);
    }
}

/// About the bytes an answer takes in memory.
fn weight(page: &Page, answer: &Answer) -> u64 {
    use crate::shop::Content;
    let rows = match &answer.content {
        Content::Product(product) => 1 + product.suppliers.len(),
        Content::Search(search) => 1 + search.products.len(),
        Content::History(orders) => 1 + orders.len(),
        Content::Order(order) => 1 + order.lines.len(),
        Content::BestSellers(parts) => 1 + parts.len(),
        Content::Revenue(days) => 1 + days.len(),
    };
    (std::mem::size_of::<Page>() + page.path().len() + rows * 160) as u64
}

impl From<LoadError<ShopError>> for ShopError {
    fn from(error: LoadError<ShopError>) -> Self {
        match error {
            LoadError::Load(error) => Self::Shared(error),
            LoadError::Timeout(refusal) | LoadError::Overloaded(refusal) | LoadError::Shutdown(refusal) => {
                Self::Rejected(refusal)
            }
            other => Self::Unavailable(other.to_string()),
        }
    }
}
