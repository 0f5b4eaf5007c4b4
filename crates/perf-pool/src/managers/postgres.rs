use super::sql;
use crate::manager::{Condition, Manager};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};

/// Makes PostgreSQL connections: `sqlx::query(…).execute(&mut *lease)`.
///
/// In steady use a lease costs no round trip: what state a connection is in is read from the connection itself. A query
/// that was dropped half-way or failed with the connection is noticed when the lease is dropped. Transactions are to be
/// begun with sqlx's `begin`: one begun by the text `BEGIN` is not seen by the pool.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use perf_pool::{Pool, Postgres};
///
/// let pool = Pool::builder(Postgres::new("postgres://app:secret@localhost/orders")?).max(16).build()?;
/// let mut lease = pool.acquire().await?;
/// sqlx::query("UPDATE orders SET paid = true WHERE id = $1").bind(7_i64).execute(&mut *lease).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Postgres {
    options: PgConnectOptions,
}

impl Postgres {
    /// The server and database of a URL.
    ///
    /// # Errors
    /// [`sqlx::Error::Configuration`] for a URL that is not one, or one of another database.
    pub fn new(url: &str) -> Result<Self, sqlx::Error> {
        // The driver reads any scheme, and would talk PostgreSQL to whatever answers.
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
            let allowed = "a URL of PostgreSQL begins with postgres:// or postgresql://";
            return Err(sqlx::Error::Configuration(allowed.into()));
        }
        Ok(Self { options: url.parse()? })
    }

    /// Connects with exactly these options.
    #[must_use]
    pub const fn with_options(options: PgConnectOptions) -> Self {
        Self { options }
    }

    /// Prepared statements kept per connection; 100 unless said otherwise. Zero for a proxy that shares connections
    /// between transactions.
    #[must_use]
    pub fn statement_cache(mut self, statements: usize) -> Self {
        self.options = self.options.statement_cache_capacity(statements);
        self
    }

    /// The options connections are made with.
    #[must_use]
    pub const fn options(&self) -> &PgConnectOptions {
        &self.options
    }
}

/// Wrong password, refused by the server's rules, no such database, not allowed to connect.
const PERMANENT: [&str; 4] = ["28P01", "28000", "3D000", "42501"];

impl Manager for Postgres {
    type Connection = PgConnection;
    type Error = sqlx::Error;

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        self.options.connect().await
    }

    async fn check(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        connection.ping().await
    }

    fn condition(&self, connection: &mut PgConnection) -> Condition {
        sql::condition(connection)
    }

    async fn reset(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        sql::reset(connection).await
    }

    async fn close(&self, connection: PgConnection) {
        sql::close(connection).await;
    }

    fn is_permanent(&self, error: &sqlx::Error) -> bool {
        sql::has_code(error, &PERMANENT)
    }
}
