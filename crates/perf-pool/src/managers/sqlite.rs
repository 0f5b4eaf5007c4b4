use super::sql;
use crate::manager::{Condition, Manager};
use perf_core::time::Duration;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use std::path::Path;

/// Makes SQLite connections: `sqlx::query(…).execute(&mut *lease)`.
///
/// Transactions are to be begun with sqlx's `begin`: one begun by the text `BEGIN` is not seen by the pool.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use perf_pool::{Pool, Sqlite};
///
/// let manager = Sqlite::memory().pragma("cache_size", "-8000").statement_cache(200);
/// let pool = Pool::builder(manager).build()?;
/// let mut lease = pool.acquire().await?;
/// let (size,): (i64,) = sqlx::query_as("PRAGMA cache_size").fetch_one(&mut *lease).await?;
/// assert_eq!(size, -8000);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Sqlite {
    options: SqliteConnectOptions,
}

impl Sqlite {
    /// How long a writer waits for another to finish before it fails: longer than any sane transaction.
    pub const DEFAULT_BUSY_TIMEOUT: Duration = Duration::from_secs(5);

    /// The database at `path`, made if it is not there, in write-ahead mode so that readers and a writer do not wait for
    /// each other, with foreign keys enforced.
    pub fn file(path: impl AsRef<Path>) -> Self {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .foreign_keys(true);
        Self { options }.busy_timeout(Self::DEFAULT_BUSY_TIMEOUT)
    }

    /// A database in memory. Each connection has its own: for more than one, use a file.
    #[must_use]
    pub fn memory() -> Self {
        Self { options: SqliteConnectOptions::new().in_memory(true) }
    }

    /// The database of a URL such as `sqlite://orders.db?mode=ro`, opened as the URL says.
    ///
    /// # Errors
    /// [`sqlx::Error::Configuration`] for a URL that is not one.
    pub fn new(url: &str) -> Result<Self, sqlx::Error> {
        Ok(Self { options: url.parse()? })
    }

    /// A database opened with exactly these options.
    #[must_use]
    pub const fn with_options(options: SqliteConnectOptions) -> Self {
        Self { options }
    }

    /// Sets a pragma on each connection: `pragma("mmap_size", "268435456")`.
    #[must_use]
    pub fn pragma(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.options = self.options.pragma(key, value.into());
        self
    }

    /// How long a writer waits for another.
    #[must_use]
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.options = self.options.busy_timeout(timeout);
        self
    }

    /// How pages are made safe: write-ahead for most.
    #[must_use]
    pub fn journal_mode(mut self, mode: SqliteJournalMode) -> Self {
        self.options = self.options.journal_mode(mode);
        self
    }

    /// Memory for pages, in KiB per connection.
    #[must_use]
    pub fn cache_kib(self, kib: u32) -> Self {
        self.pragma("cache_size", format!("-{kib}"))
    }

    /// Prepared statements kept per connection; 100 unless said otherwise.
    #[must_use]
    pub fn statement_cache(mut self, statements: usize) -> Self {
        self.options = self.options.statement_cache_capacity(statements);
        self
    }

    /// Refuses writes.
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.options = self.options.read_only(read_only);
        self
    }

    /// The options connections are made with.
    #[must_use]
    pub const fn options(&self) -> &SqliteConnectOptions {
        &self.options
    }
}

/// Cannot open the file; not a database.
const PERMANENT: [&str; 2] = ["14", "26"];

impl Manager for Sqlite {
    type Connection = SqliteConnection;
    type Error = sqlx::Error;

    async fn connect(&self) -> Result<SqliteConnection, sqlx::Error> {
        self.options.connect().await
    }

    async fn check(&self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        connection.ping().await
    }

    fn condition(&self, connection: &mut SqliteConnection) -> Condition {
        sql::condition(connection)
    }

    async fn reset(&self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        sql::reset(connection).await
    }

    async fn close(&self, connection: SqliteConnection) {
        sql::close(connection).await;
    }

    fn is_permanent(&self, error: &sqlx::Error) -> bool {
        sql::has_code(error, &PERMANENT)
    }
}
