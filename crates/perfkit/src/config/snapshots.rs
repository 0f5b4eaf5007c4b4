use super::{DatabaseConfig, scheme};
use perf_core::InvalidConfig;
use perf_resilience::snapshot::{DEFAULT_DRILL_EVERY, DEFAULT_EVERY, Retention, Schedule};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// The backup of a database: where to, how often, for how long, and how often a restore is rehearsed.
/// [`Stack::snapshots`] gives it out, to restore from.
///
/// ```
/// # #[cfg(feature = "postgres")] {
/// let config = perfkit::Config::from_toml(r#"
///     [databases.orders]
///     url = "postgres://db-1/orders"
///
///     [snapshots.orders]
///     directory = "/var/backups/orders"
///     every = "6h"
///     drill_every = "1d"
///     keep = { last = 4, daily = 14 }
///     compress = 3
///     key_file = "/run/secrets/snapshot.key"
/// "#)?;
/// assert_eq!(config.snapshots["orders"].keep.weekly, 4);
/// # }
/// # Ok::<(), perfkit::ConfigError>(())
/// ```
///
/// [`Stack::snapshots`]: crate::Stack::snapshots
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SnapshotConfig {
    /// Which database, a SQLite file or one of PostgreSQL. Default the one of the section's own name.
    #[serde(default)]
    pub database: Option<String>,
    /// Where snapshots are kept, each database in a directory of its own; it is made when the first one is taken.
    pub directory: PathBuf,
    /// Time between two captures. 1 second to 366 days, default [`DEFAULT_EVERY`].
    #[serde(default = "every", with = "perf_core::duration")]
    pub every: Duration,
    /// Time between two rehearsals of a restore, `0s` for none. 1 second to 366 days, default [`DEFAULT_DRILL_EVERY`]. Of a
    /// PostgreSQL database they need the right to make databases.
    #[serde(default = "drill_every", with = "perf_core::duration")]
    pub drill_every: Duration,
    /// How many are kept: the `last`, and one for each of so many days (`daily`), weeks (`weekly`) and months (`monthly`).
    #[serde(default)]
    pub keep: Retention,
    /// The level to compress with, 1 to 22; uncompressed by default.
    #[serde(default)]
    pub compress: Option<i32>,
    /// A file with the 64 hexadecimal digits of the key to encrypt with; unencrypted by default.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// Where `pg_dump`, `pg_restore` and `psql` are, when they are not on the path.
    #[serde(default)]
    pub programs: Option<PathBuf>,
}

const fn every() -> Duration {
    DEFAULT_EVERY
}

const fn drill_every() -> Duration {
    DEFAULT_DRILL_EVERY
}

impl SnapshotConfig {
    /// The name of the database, in the section `name`.
    pub(crate) fn database<'c>(&'c self, name: &'c str) -> &'c str {
        self.database.as_deref().unwrap_or(name)
    }

    /// When snapshots are taken and rehearsed.
    #[must_use]
    pub fn schedule(&self) -> Schedule {
        let mut schedule = Schedule::every(self.every);
        schedule.drill_every = Some(self.drill_every).filter(|every| !every.is_zero());
        schedule
    }

    fn validate(
        &self,
        name: &str,
        databases: &BTreeMap<String, DatabaseConfig>,
    ) -> Result<(), InvalidConfig> {
        let name = self.database(name);
        let Some(database) = databases.get(name) else {
            let known: Vec<_> = databases.keys().map(String::as_str).collect();
            return Err(InvalidConfig::new("database", name, format!("one of: {}", known.join(", "))));
        };
        let url = database.url.expose();
        let in_memory = url.contains(":memory:") || url.contains("mode=memory");
        let kept = match scheme(url) {
            "sqlite" => cfg!(feature = "sqlite") && !in_memory,
            "postgres" | "postgresql" => cfg!(feature = "postgres"),
            _ => false,
        };
        if !kept {
            let shown = format!("{name}, a {} database", scheme(url));
            return Err(InvalidConfig::new("database", shown, "a SQLite file or a PostgreSQL database"));
        }
        if self.directory.as_os_str().is_empty() {
            return Err(InvalidConfig::new("directory", "nothing", "a directory"));
        }
        if self.compress.is_some_and(|level| !(1..=22).contains(&level)) {
            return Err(InvalidConfig::new("compress", self.compress.unwrap_or_default(), "1 to 22"));
        }
        self.schedule().validate()
    }
}

/// Checks all sections: every field, and that no two share a directory.
pub(super) fn validate(
    snapshots: &BTreeMap<String, SnapshotConfig>,
    databases: &BTreeMap<String, DatabaseConfig>,
) -> Result<(), InvalidConfig> {
    let mut taken = Vec::new();
    for (name, config) in snapshots {
        let within = |error: InvalidConfig| error.within(name).within("snapshots");
        config.validate(name, databases).map_err(within)?;
        if taken.contains(&&config.directory) {
            let shown = config.directory.display();
            return Err(within(InvalidConfig::new("directory", shown, "one that no other section names")));
        }
        taken.push(&config.directory);
    }
    Ok(())
}
