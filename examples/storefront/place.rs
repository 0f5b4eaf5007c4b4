//! Where the databases of the two runs are.

use crate::args::Args;
use crate::generate;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// One of the two runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Before,
    After,
}

impl Side {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

/// The databases, and the directory that holds what the run writes.
pub struct Place {
    directory: PathBuf,
    temporary: bool,
    server: Option<String>,
}

/// What is wrong with the place.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    #[error("cannot write in {0}")]
    Directory(PathBuf, #[source] std::io::Error),
    #[error("{0} is in the way: the storefront only writes new databases")]
    Occupied(PathBuf),
    #[error("`{0}` is not a PostgreSQL URL such as postgres://user@localhost/shop")]
    Url(String),
}

impl Place {
    /// Prepares the directory: a temporary one, or the one asked for, which is created if it is missing.
    pub fn new(args: &Args) -> Result<Self, PlaceError> {
        if let Some(url) = &args.database {
            let known = url.starts_with("postgres://") || url.starts_with("postgresql://");
            if !known || PgConnectOptions::from_str(url).is_err() {
                return Err(PlaceError::Url(without_password(url)));
            }
        }
        let temporary = args.dir.is_none();
        let directory = args.dir.clone().unwrap_or_else(|| {
            std::env::temp_dir().join(format!("perfkit-storefront-{}", std::process::id()))
        });
        let place = Self { directory, temporary, server: args.database.clone() };
        std::fs::create_dir_all(&place.directory).map_err(|error| place.refused(error))?;
        for side in [Side::Before, Side::After] {
            let file = place.file(side);
            if file.exists() {
                return Err(PlaceError::Occupied(file));
            }
        }
        let probe = place.directory.join(".writable");
        std::fs::write(&probe, b"")
            .and_then(|()| std::fs::remove_file(&probe))
            .map_err(|error| place.refused(error))?;
        Ok(place)
    }

    fn refused(&self, error: std::io::Error) -> PlaceError {
        PlaceError::Directory(self.directory.clone(), error)
    }

    /// The name of the database for the report.
    pub fn database(&self) -> &'static str {
        if self.server.is_some() { "PostgreSQL" } else { "SQLite" }
    }

    /// Where the statements of the first run are kept.
    pub fn workload(&self) -> PathBuf {
        self.directory.join("workload.json")
    }

    /// Generates both databases.
    pub async fn generate(&self, scale: f64) -> Result<(), Box<dyn Error + Send + Sync>> {
        match &self.server {
            Some(url) => {
                generate::postgres(url, &schema(Side::Before), scale).await?;
                generate::postgres(url, &schema(Side::After), scale).await?;
            }
            None => {
                let before = self.file(Side::Before);
                generate::sqlite(&before, scale).await?;
                std::fs::copy(&before, self.file(Side::After)).map_err(|error| self.refused(error))?;
            }
        }
        Ok(())
    }

    /// The URL of a run's database.
    pub fn url(&self, side: Side) -> String {
        match &self.server {
            Some(url) => {
                let separator = if url.contains('?') { '&' } else { '?' };
                format!("{url}{separator}options=-c%20search_path%3D{}", schema(side))
            }
            None => format!("sqlite:{}", self.file(side).display()),
        }
    }

    /// How the checker connects to a run's SQLite database: without ever writing.
    pub fn sqlite_options(&self, side: Side) -> SqliteConnectOptions {
        SqliteConnectOptions::new().filename(self.file(side)).read_only(true)
    }

    /// How the checker connects to a run's PostgreSQL database.
    pub fn postgres_options(&self, side: Side) -> Option<PgConnectOptions> {
        let url = self.server.as_ref()?;
        // The URL was checked when the place was made.
        PgConnectOptions::from_str(url).ok().map(|options| options.options([("search_path", schema(side))]))
    }

    fn file(&self, side: Side) -> PathBuf {
        self.directory.join(format!("{}.db", side.name()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let remove = |path: &Path| {
            // What cannot be removed was never written, or is in nobody's way.
            let _ = std::fs::remove_file(path);
        };
        if self.temporary {
            let _ = std::fs::remove_dir_all(&self.directory);
        } else {
            remove(&self.workload());
        }
    }
}

fn schema(side: Side) -> String {
    format!("perfkit_{}", side.name())
}

/// A URL for a message: what stands between `:` and `@` is left out.
fn without_password(url: &str) -> String {
    let Some((before, after)) = url.rsplit_once('@') else { return url.to_owned() };
    let user =
        before.rsplit_once(':').map_or(before, |(user, _)| if user.contains("//") { user } else { before });
    format!("{user}:***@{after}")
}
