//! The shop through perfkit: the same handlers and the same SQL, behind a cache, a fair pool and a breaker, over the indexes that
//! perf-dbopt recommended from the statements of the first run.

use crate::args::Serve;
use crate::chaos::Valve;
use crate::child::Ready;
use crate::queries::{self, Backend};
use crate::serve::{Control, converse};
use crate::service::{self, Shop};
use crate::shop::{Answer, NewOrder, Page, Receipt, ShopError};
use perfkit::cache::{Cache, CacheKey, CacheSpace, Hit, Json, LoadError, Loaded, Tag};
use perfkit::pool::Manager;
use perfkit::resilience::Call;
use perfkit::{Config, Database, Stack};
use std::error::Error;
use std::sync::Arc;

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
    space: CacheSpace,
}

/// Where pages come from when they are not in the cache.
struct Source<B, M: Manager> {
    reads: Database<M>,
    writes: Database<M>,
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
        Self::run(stack, reads, writes, indexes).await
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
        Self::run(stack, reads, writes, indexes).await
    }
}

async fn stack(serve: &Serve) -> Result<Stack, Failure> {
    let mut variables = vec![
        ("STOREFRONT_DATABASES__SHOP__URL".to_owned(), serve.url.clone()),
        ("STOREFRONT_DATABASES__ORDERS__URL".to_owned(), serve.url.clone()),
        ("STOREFRONT_MANAGEMENT__ADDRESS".to_owned(), format!("127.0.0.1:{}", serve.page)),
    ];
    if serve.url.starts_with("postgres") {
        // A server runs statements elsewhere, and takes several writers.
        variables.push(("STOREFRONT_DATABASES__SHOP__POOL__MAX".to_owned(), "16".to_owned()));
        variables.push(("STOREFRONT_DATABASES__ORDERS__POOL__MAX".to_owned(), "8".to_owned()));
    }
    if let Some(redis) = &serve.shared {
        variables.push(("STOREFRONT_CACHE__REDIS".to_owned(), redis.clone()));
        // Answers of an earlier run, about another database, have another name.
        variables.push(("STOREFRONT_NAME".to_owned(), format!("storefront-{}", std::process::id())));
    }
    let config = Config::from_toml_and_variables(CONFIG, "STOREFRONT", variables)?;
    Ok(Stack::builder(config).version(env!("CARGO_PKG_VERSION")).build().await?)
}

impl<B: Backend, M: Manager<Connection = B::Connection>> Tuned<B, M> {
    async fn run(
        stack: Stack,
        reads: Database<M>,
        writes: Database<M>,
        indexes: Vec<(String, String)>,
    ) -> Result<(), Failure> {
        let pages: Cache<Page, Answer> = stack.cache_with("pages", |cache| {
            // The codec is used when there is a Redis server to share answers through.
            cache.weigher(weight).stale_if_error(STALE_IF_ERROR, ShopError::is_outage).codec(Json)
        })?;
        let valve = Arc::new(Valve::new());
        let source = Arc::new(Source {
            reads: reads.clone(),
            writes: writes.clone(),
            valve: Arc::clone(&valve),
            backend: std::marker::PhantomData,
        });
        let shop = Self { source, pages: pages.clone(), space: stack.space().clone() };
        let serving = stack.serve(([127, 0, 0, 1], 0).into(), service::routes(Arc::new(shop))).await?;
        let page = stack.management().map(perfkit::http::ManagementServer::login_url).transpose()?;
        let ready = Ready { shop: serving.address(), page, indexes };
        let control = Control {
            stats: vec![reads.queries().clone(), writes.queries().clone()],
            valve: Some(valve),
            hits_and_misses: Box::new(move || {
                let stats = pages.stats();
                (stats.hits, stats.misses)
            }),
        };
        converse(&ready, &control).await?;
        stack.shut_down(serving).await;
        Ok(())
    }
}

impl<B: Backend, M: Manager<Connection = B::Connection>> Shop for Tuned<B, M> {
    type Held = Hit<Page, Answer>;

    async fn page(&self, page: Page) -> Result<Hit<Page, Answer>, ShopError> {
        let source = Arc::clone(&self.source);
        let tags = [scope_tag(&page.scope())];
        let load = self.pages.load_with(&page, |context| async move { source.load(context.key()).await });
        load.tags(tags).await.map_err(ShopError::from)
    }

    async fn place(&self, order: NewOrder) -> Result<Receipt, ShopError> {
        let (source, space) = (Arc::clone(&self.source), self.space.clone());
        // In a task of its own: a client that goes away between commit and invalidation must not leave old pages behind.
        let placing = tokio::spawn(async move {
            let placed = source.place(&order).await;
            let changed = match &placed {
                Ok(receipt) => receipt.versions.iter().map(|(scope, _)| scope_tag(scope)).collect(),
                // An error may come after the commit: what the order may have changed is forgotten all the same.
                Err(_) => order.scopes().iter().map(|scope| scope_tag(scope)).collect::<Vec<_>>(),
            };
            space.invalidate_tags(changed).await;
            placed
        });
        placing.await.map_err(|_| ShopError::Unavailable("placing the order was cut off".to_owned()))?
    }
}

impl<B: Backend, M: Manager<Connection = B::Connection>> Source<B, M> {
    async fn load(&self, page: &Page) -> Result<Loaded<Answer>, ShopError> {
        // Reading may be done twice.
        let reading = Call::new().idempotent(true);
        let answer = self.reads.guard().run_with(reading, |_| async {
            let mut lease = self.reads.pool().acquire().await?;
            self.valve.pass().await?;
            B::page(&mut lease, self.reads.queries(), page).await
        });
        Ok(Loaded::new(answer.await?))
    }

    async fn place(&self, order: &NewOrder) -> Result<Receipt, ShopError> {
        let placed = self.writes.guard().run(|_| async {
            let mut lease = self.writes.pool().acquire().await?;
            self.valve.pass().await?;
            B::place(&mut lease, self.writes.queries(), order).await
        });
        placed.await
    }
}

/// How long an answer is still shown when the database is gone.
const STALE_IF_ERROR: std::time::Duration = std::time::Duration::from_secs(600);

fn scope_tag(scope: &str) -> Tag {
    Tag::new(scope)
}

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
