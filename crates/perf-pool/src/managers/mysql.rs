use super::sql;
use crate::manager::{Condition, Manager};
use sqlx::mysql::MySqlConnectOptions;
use sqlx::{ConnectOptions, Connection, MySqlConnection};

/// Makes MySQL and MariaDB connections: `sqlx::query(…).execute(&mut *lease)`.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use perf_pool::{MySql, Pool};
///
/// let pool = Pool::builder(MySql::new("mysql://app:secret@localhost/orders")?).max(16).build()?;
/// let mut lease = pool.acquire().await?;
/// sqlx::query("UPDATE orders SET paid = true WHERE id = ?").bind(7_i64).execute(&mut *lease).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct MySql {
    options: MySqlConnectOptions,
}

impl MySql {
    /// The server and database of a URL.
    ///
    /// # Errors
    /// [`sqlx::Error::Configuration`] for a URL that is not one.
    pub fn new(url: &str) -> Result<Self, sqlx::Error> {
        Ok(Self { options: url.parse()? })
    }

    /// Connects with exactly these options.
    #[must_use]
    pub const fn with_options(options: MySqlConnectOptions) -> Self {
        Self { options }
    }

    /// Prepared statements kept per connection; 100 unless said otherwise.
    #[must_use]
    pub fn statement_cache(mut self, statements: usize) -> Self {
        self.options = self.options.statement_cache_capacity(statements);
        self
    }

    /// The options connections are made with.
    #[must_use]
    pub const fn options(&self) -> &MySqlConnectOptions {
        &self.options
    }
}

/// SQLSTATEs: access denied, no such database.
const PERMANENT: [&str; 2] = ["28000", "42000"];

impl Manager for MySql {
    type Connection = MySqlConnection;
    type Error = sqlx::Error;

    async fn connect(&self) -> Result<MySqlConnection, sqlx::Error> {
        self.options.connect().await
    }

    async fn check(&self, connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
        connection.ping().await
    }

    fn condition(&self, connection: &mut MySqlConnection) -> Condition {
        sql::condition(connection)
    }

    async fn reset(&self, connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
        sql::reset(connection).await
    }

    async fn close(&self, connection: MySqlConnection) {
        sql::close(connection).await;
    }

    fn is_permanent(&self, error: &sqlx::Error) -> bool {
        sql::has_code(error, &PERMANENT)
    }
}
