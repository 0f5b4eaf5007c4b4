use super::{Stack, StackError};
use crate::config::{Config, SnapshotConfig, scheme};
use perf_core::InvalidConfig;
use perf_resilience::snapshot::{SnapshotKey, SnapshotTarget, Snapshots, Wrapping};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::task::JoinSet;

/// The backups of a stack, and the tasks that take them; dropped, they end.
pub(super) struct Backups {
    pub(super) by_name: BTreeMap<String, Snapshots>,
    tasks: JoinSet<()>,
}

impl Backups {
    /// What `config` describes. Nothing is captured yet.
    pub(super) fn open(config: &Config) -> Result<Self, StackError> {
        let mut by_name = BTreeMap::new();
        for (name, section) in &config.snapshots {
            let target = target(config, section.database(name), section)?;
            let wrapping = wrapping(name, section)?;
            let (directory, keep) = (section.directory.clone(), section.keep);
            by_name.insert(name.clone(), Snapshots::wrapped(name.clone(), target, directory, keep, wrapping));
        }
        Ok(Self { by_name, tasks: JoinSet::new() })
    }

    /// Begins to take them, each on its own schedule.
    pub(super) fn start(&mut self, config: &Config) {
        for (name, section) in &config.snapshots {
            if let Some(snapshots) = self.by_name.get(name).cloned() {
                let schedule = section.schedule();
                self.tasks.spawn(async move { snapshots.run(schedule).await });
            }
        }
    }

    /// Ends them; a capture under way is given up and leaves nothing.
    pub(super) async fn end(self) {
        let mut tasks = self.tasks;
        tasks.shutdown().await;
    }
}

fn wrapping(name: &str, section: &SnapshotConfig) -> Result<Wrapping, StackError> {
    let mut wrapping = Wrapping::none();
    if let Some(level) = section.compress {
        wrapping = wrapping.compress(level);
    }
    if let Some(path) = &section.key_file {
        let text = std::fs::read_to_string(path)
            .map_err(|source| StackError::SnapshotKey { path: path.clone(), source })?;
        let wrong = || InvalidConfig::new("key_file", path.display(), "a file of 64 hexadecimal digits");
        let key = SnapshotKey::from_hex(text.trim());
        wrapping = wrapping.encrypt(key.ok_or_else(|| wrong().within(name).within("snapshots"))?);
    }
    Ok(wrapping)
}

fn target(
    config: &Config,
    database: &str,
    section: &SnapshotConfig,
) -> Result<Arc<dyn SnapshotTarget>, StackError> {
    let url = config.databases.get(database).map_or("", |database| database.url.expose());
    match scheme(url) {
        #[cfg(feature = "sqlite")]
        "sqlite" => {
            let options: sqlx::sqlite::SqliteConnectOptions =
                url.parse().map_err(|source| StackError::Url { database: database.to_owned(), source })?;
            Ok(Arc::new(perf_resilience::snapshot::SqliteTarget::new(options.get_filename())))
        }
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => {
            let target = perf_resilience::snapshot::PostgresTarget::from_url(url)
                .map_err(|error| error.within(database).within("databases"))?;
            Ok(Arc::new(match &section.programs {
                Some(programs) => target.programs(programs),
                None => target,
            }))
        }
        scheme => {
            let _ = section;
            Err(StackError::Scheme {
                database: database.to_owned(),
                scheme: scheme.to_owned(),
                allowed: "sqlite, postgres".to_owned(),
            })
        }
    }
}

impl Stack {
    /// The backups that the section `snapshots.NAME` describes, which are taken on their schedule: to capture one more, to
    /// look at them, and to restore from them.
    ///
    /// # Errors
    /// [`StackError::NoSnapshots`] when there is no such section.
    pub fn snapshots(&self, name: &str) -> Result<Snapshots, StackError> {
        let known = &self.backups.by_name;
        known.get(name).cloned().ok_or_else(|| StackError::NoSnapshots {
            snapshots: name.to_owned(),
            known: known.keys().cloned().collect::<Vec<_>>().join(", "),
        })
    }
}
