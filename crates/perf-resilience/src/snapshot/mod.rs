//! Backup and restore, with the one part that counts: finding out that a backup can be restored.
//!
//! A [`SnapshotTarget`] knows how to capture, check and restore one database; [`Snapshots`] keeps what it captured in a
//! directory, sealed with checksums, verifies it, rehearses restoring it, and forgets what is old, but never the last one
//! that is known to be good. Restoring takes two steps and a snapshot of what is about to be overwritten.
//!
//! Not offered: replication, recovery to a point in time, consistency across several databases.

#[cfg(feature = "encryption")]
mod cipher;
mod error;
mod lock;
mod manifest;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
mod restore;
mod retention;
mod schedule;
#[cfg(feature = "sqlite")]
mod sqlite;
mod wrap;

#[cfg(feature = "encryption")]
pub use cipher::SnapshotKey;
pub use error::SnapshotError;
pub use manifest::{Drill, FileEntry, Manifest};
#[cfg(feature = "postgres")]
pub use postgres::PostgresTarget;
#[cfg(feature = "redis")]
pub use redis::RedisTarget;
pub use restore::{Confirm, RestorePlan, UnfinishedRestore};
pub use retention::Retention;
pub use schedule::{DEFAULT_DRILL_EVERY, DEFAULT_EVERY, Schedule};
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteTarget;
#[cfg(feature = "zstd")]
pub use wrap::DEFAULT_LEVEL;
pub use wrap::{Wrapped, Wrapping};

use crate::stats::stats;
use crate::sync::{AtomicU64, Ordering};
use async_trait::async_trait;
use lock::{Lock, Partial};
use perf_core::time;
use perf_core::{Component, ComponentId, Desc, Health, Name, Sink, Unit};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a target says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// What it is: `sqlite`, `postgres`, `redis`.
    pub kind: &'static str,
    /// What it is called; to be repeated by whoever wants to overwrite it.
    pub name: String,
}

/// What a capture says about what it wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// The files it wrote, relative to the directory it was given.
    pub files: Vec<String>,
    /// How many of what are in them.
    pub counts: BTreeMap<String, u64>,
    /// Versions of tools and server.
    pub versions: BTreeMap<String, String>,
}

/// How thoroughly a snapshot is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The content is read and is whole.
    Read,
    /// The content is restored into a place of its own, counted, and removed again.
    Restore,
}

/// A database that can be captured and restored.
#[async_trait]
pub trait SnapshotTarget: Send + Sync {
    /// What it is.
    fn describe(&self) -> Description;

    /// Writes everything into `directory`, which is empty.
    ///
    /// # Cancel safety
    /// Dropping the future ends what it started; the directory is then removed by its owner.
    async fn capture(&self, directory: &Path) -> Result<Captured, SnapshotError>;

    /// Looks at what `directory` holds, and gives its counts.
    async fn verify(&self, directory: &Path, depth: Depth) -> Result<BTreeMap<String, u64>, SnapshotError>;

    /// Puts the content of `directory` in place of what the target holds. Without `overwrite` the target must be empty.
    async fn restore(&self, directory: &Path, overwrite: bool) -> Result<(), SnapshotError>;

    /// Whether a restore that fails or is killed leaves what was there before, so that the target is whole at any time.
    /// Of other targets a restore that does not end well is remembered, and nothing is captured until that is mended.
    fn restores_at_once(&self) -> bool {
        false
    }
}

stats! {
    /// What has been done with the snapshots of a target.
    SnapshotStats from Counters {
        /// Snapshots taken.
        captured,
        /// Captures that failed.
        capture_failed,
        /// Snapshots found to be good.
        verified,
        /// Snapshots found to be damaged.
        verify_failed,
        /// Restores rehearsed.
        drilled,
        /// Rehearsals that failed.
        drill_failed,
        /// Restores done.
        restored,
    }
}

/// The snapshots of one target in a directory. Cheap to clone; clones share the numbers.
#[derive(Clone)]
pub struct Snapshots(Arc<Shared>);

struct Shared {
    name: Name,
    target: Arc<dyn SnapshotTarget>,
    root: PathBuf,
    retention: Retention,
    wrapping: Wrapping,
    counters: Counters,
    /// Milliseconds since 1970, and durations in milliseconds; 0 while unknown.
    last_good_ms: AtomicU64,
    restore_ms: AtomicU64,
    drill_broken: AtomicU64,
    /// 1 once a restore is known not to have ended well.
    unfinished: AtomicU64,
}

impl Snapshots {
    /// The snapshots of `target` in `root`, which is made when the first one is taken.
    pub fn new(
        name: impl Into<Name>,
        target: Arc<dyn SnapshotTarget>,
        root: impl Into<PathBuf>,
        retention: Retention,
    ) -> Self {
        Self::wrapped(name, target, root, retention, Wrapping::none())
    }

    /// The same with files that are compressed or encrypted. Snapshots taken with another wrapping stay readable, those
    /// with another key only as far as their checksums.
    pub fn wrapped(
        name: impl Into<Name>,
        target: Arc<dyn SnapshotTarget>,
        root: impl Into<PathBuf>,
        retention: Retention,
        wrapping: Wrapping,
    ) -> Self {
        Self(Arc::new(Shared {
            name: name.into(),
            target,
            root: root.into(),
            retention,
            wrapping,
            counters: Counters::default(),
            last_good_ms: AtomicU64::new(0),
            restore_ms: AtomicU64::new(0),
            drill_broken: AtomicU64::new(0),
            unfinished: AtomicU64::new(0),
        }))
    }

    /// Takes a snapshot.
    ///
    /// # Errors
    /// [`SnapshotError::Busy`] while another is being taken or a restore is under way; [`SnapshotError::Unfinished`] after a
    /// restore that did not end well; what the target or the disk says.
    ///
    /// # Cancel safety
    /// Dropping the future removes what was written so far.
    pub async fn capture(&self) -> Result<Manifest, SnapshotError> {
        self.0.counted(self.0.capture()).await
    }

    /// The snapshots there are, oldest first. What has no manifest is none.
    ///
    /// # Errors
    /// The directory could not be read.
    pub async fn list(&self) -> Result<Vec<Manifest>, SnapshotError> {
        let mut manifests = Vec::new();
        for directory in self.0.directories().await? {
            match Manifest::read(&directory).await {
                Ok(manifest) => manifests.push(manifest),
                // One that is damaged is found by `verify`, and must not hide the others.
                Err(SnapshotError::Missing(_) | SnapshotError::Manifest { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        manifests.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(manifests)
    }

    /// Checks a snapshot's manifest, files and content, and notes that it is good. Where nothing can be written, because the
    /// directory is full or read-only, it is not noted, and verified all the same.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn verify(&self, id: &str) -> Result<Manifest, SnapshotError> {
        let found = self.0.verify(id, Depth::Read).await;
        let counters = &self.0.counters;
        match &found {
            Ok(manifest) => {
                counters.verified.increment();
                self.0.last_good_ms.fetch_max(manifest.started_ms, Ordering::Relaxed);
            }
            Err(_) => counters.verify_failed.increment(),
        }
        found
    }

    /// Rehearses restoring the latest snapshot into a place of its own, and measures it.
    ///
    /// # Errors
    /// [`SnapshotError::Missing`] when there is none; what is wrong with it.
    pub async fn drill(&self) -> Result<Drill, SnapshotError> {
        let done = self.0.drill(self.list().await?.pop()).await;
        let counters = &self.0.counters;
        match &done {
            Ok(drill) => {
                counters.drilled.increment();
                self.0.restore_ms.store(drill.restore_ms.max(1), Ordering::Relaxed);
                self.0.drill_broken.store(0, Ordering::Relaxed);
            }
            Err(_) => {
                counters.drill_failed.increment();
                self.0.drill_broken.store(1, Ordering::Relaxed);
            }
        }
        done
    }

    /// Says what restoring a snapshot would do. Nothing is done yet.
    ///
    /// # Errors
    /// What is wrong with the snapshot.
    pub async fn plan_restore(&self, id: &str) -> Result<RestorePlan, SnapshotError> {
        let manifest = self.verify(id).await?;
        Ok(RestorePlan { snapshots: self.clone(), manifest })
    }

    /// Which snapshots retention would remove; none that a restore that did not end well is in need of.
    ///
    /// # Errors
    /// The directory could not be read.
    pub async fn plan_prune(&self) -> Result<Vec<String>, SnapshotError> {
        let mut superfluous = self.0.retention.superfluous(&self.list().await?);
        if let Some(unfinished) = self.unfinished_restore()? {
            superfluous.retain(|id| !unfinished.needs(id));
        }
        Ok(superfluous)
    }

    /// Removes what [`Snapshots::plan_prune`] says, and partial snapshots whose writer no longer lives.
    ///
    /// # Errors
    /// A directory could not be removed.
    pub async fn prune(&self) -> Result<Vec<String>, SnapshotError> {
        let superfluous = self.plan_prune().await?;
        for id in &superfluous {
            let path = self.0.root.join(id);
            tokio::fs::remove_dir_all(&path).await.map_err(SnapshotError::io("remove", path))?;
        }
        self.0.remove_abandoned().await?;
        Ok(superfluous)
    }

    /// The totals so far.
    #[must_use]
    pub fn stats(&self) -> SnapshotStats {
        self.0.counters.read()
    }
}

impl std::fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshots")
            .field("name", &self.0.name)
            .field("root", &self.0.root)
            .finish_non_exhaustive()
    }
}

impl Shared {
    async fn directories(&self) -> Result<Vec<PathBuf>, SnapshotError> {
        let mut reader = match tokio::fs::read_dir(&self.root).await {
            Ok(reader) => reader,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(SnapshotError::io("read", &self.root)(error)),
        };
        let mut found = Vec::new();
        while let Some(entry) = reader.next_entry().await.map_err(SnapshotError::io("read", &self.root))? {
            if !entry.file_name().to_string_lossy().starts_with('.') {
                found.push(entry.path());
            }
        }
        Ok(found)
    }

    async fn remove_abandoned(&self) -> Result<(), SnapshotError> {
        let root = self.root.clone();
        blocking(move || Partial::remove_abandoned(&root)).await
    }

    async fn counted(
        &self,
        capture: impl Future<Output = Result<Manifest, SnapshotError>>,
    ) -> Result<Manifest, SnapshotError> {
        let taken = capture.await;
        let counter = if taken.is_ok() { &self.counters.captured } else { &self.counters.capture_failed };
        counter.increment();
        taken
    }

    async fn capture(&self) -> Result<Manifest, SnapshotError> {
        tokio::fs::create_dir_all(&self.root).await.map_err(SnapshotError::io("make", &self.root))?;
        let lock = Lock::take(&self.root)?;
        if let Some(unfinished) = self.unfinished_restore()? {
            return Err(unfinished.into());
        }
        self.capture_under(&lock).await
    }

    async fn capture_under(&self, _lock: &Lock) -> Result<Manifest, SnapshotError> {
        let started_ms = now_ms();
        self.remove_abandoned().await?;
        let partial = Partial::make(&self.root)?;
        let Captured { files, counts, versions } = self.target.capture(&partial.path).await?;
        let mut entries = Vec::new();
        for name in files {
            if self.wrapping.label().is_some() {
                let (wrapping, path) = (self.wrapping.clone(), partial.path.join(&name));
                blocking(move || wrapping.wrap(&path)).await?;
            }
            manifest::sync(&partial.path.join(&name)).await?;
            entries.push(manifest::entry(&partial.path, &name).await?);
        }
        let Description { kind, name } = self.target.describe();
        let manifest = Manifest {
            id: partial.id.clone(),
            kind: kind.to_owned(),
            target: name,
            started_ms,
            finished_ms: now_ms(),
            versions,
            files: entries,
            counts,
            wrapped: self.wrapping.label(),
            verified_ms: None,
            drill: None,
            seal: String::new(),
        }
        .sealed();
        manifest.write(&partial.path).await?;
        let path = self.root.join(&partial.id);
        // Here and now: renamed on another thread it could be half removed by the guard.
        std::fs::rename(&partial.path, &path).map_err(SnapshotError::io("write", &path))?;
        manifest::sync(&self.root).await?;
        Ok(manifest)
    }

    async fn verify(&self, id: &str, depth: Depth) -> Result<Manifest, SnapshotError> {
        let directory = self.root.join(id);
        let mut manifest = Manifest::read(&directory).await?;
        manifest.check_files(&directory).await?;
        // Without the key only the checksums can be compared, which is all that reading asks for.
        let readable = manifest.wrapped.as_ref().is_none_or(|wrapped| self.wrapping.opens(wrapped));
        if readable || depth == Depth::Restore {
            let content = self.content(&manifest).await?;
            let counts = self.target.verify(content.path(&directory), depth).await?;
            for (what, expected) in &manifest.counts {
                let found = counts.get(what).copied().unwrap_or(0);
                if found != *expected {
                    return Err(SnapshotError::Damaged(format!("{found} {what} instead of {expected}")));
                }
            }
        }
        manifest.verified_ms = Some(now_ms());
        self.note(manifest).await
    }

    /// Writes down what was found out about a snapshot. A directory that is full or read-only can still be verified and
    /// restored from: then it is only not written down.
    async fn note(&self, manifest: Manifest) -> Result<Manifest, SnapshotError> {
        let manifest = manifest.sealed();
        match manifest.write(&self.root.join(&manifest.id)).await {
            Err(error) if !error.is_no_place() => Err(error),
            _ => Ok(manifest),
        }
    }

    /// The files as the target wrote them: where they are, or unwrapped beside the snapshot.
    async fn content(&self, manifest: &Manifest) -> Result<Content, SnapshotError> {
        let Some(wrapped) = manifest.wrapped.clone() else { return Ok(Content(None)) };
        let beside = Partial::make(&self.root)?;
        for file in &manifest.files {
            let (from, to) = (self.root.join(&manifest.id).join(&file.name), beside.path.join(&file.name));
            let (wrapping, wrapped) = (self.wrapping.clone(), wrapped.clone());
            blocking(move || wrapping.unwrap(&wrapped, &from, &to)).await?;
        }
        Ok(Content(Some(beside)))
    }

    async fn drill(&self, latest: Option<Manifest>) -> Result<Drill, SnapshotError> {
        let latest = latest.ok_or_else(|| SnapshotError::Missing("latest".to_owned()))?;
        let start = time::now();
        let mut manifest = self.verify(&latest.id, Depth::Restore).await?;
        let restore_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let at_ms = now_ms();
        let drill = Drill { at_ms, restore_ms, age_ms: at_ms.saturating_sub(manifest.started_ms) };
        manifest.drill = Some(drill.clone());
        self.note(manifest).await?;
        Ok(drill)
    }
}

/// The files of a snapshot to be looked at; what was unwrapped for that is removed when dropped.
struct Content(Option<Partial>);

impl Content {
    fn path<'p>(&'p self, directory: &'p Path) -> &'p Path {
        self.0.as_ref().map_or(directory, |beside| &beside.path)
    }
}

/// Runs work on files where it holds nobody up.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SnapshotError> + Send + 'static,
) -> Result<T, SnapshotError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(SnapshotError::tool("working on files", error)),
    }
}

#[expect(clippy::disallowed_types, reason = "a snapshot carries its date; nothing is decided by it")]
fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

const RUNS: Desc =
    Desc::counter("perf_resilience_snapshot_runs_total", "Work done, by kind and result", Unit::Count);
const AGE: Desc =
    Desc::gauge("perf_resilience_snapshot_age_seconds", "Age of the newest good snapshot", Unit::Seconds);
const RESTORE: Desc =
    Desc::gauge("perf_resilience_snapshot_restore_seconds", "Measured time of a restore", Unit::Seconds);

impl Component for Snapshots {
    fn id(&self) -> ComponentId {
        ComponentId::new("snapshot", self.0.name.clone())
    }

    fn collect(&self, sink: &mut dyn Sink) {
        let stats = self.stats();
        for (work, result, total) in [
            ("capture", "success", stats.captured),
            ("capture", "failure", stats.capture_failed),
            ("verify", "success", stats.verified),
            ("verify", "failure", stats.verify_failed),
            ("drill", "success", stats.drilled),
            ("drill", "failure", stats.drill_failed),
            ("restore", "success", stats.restored),
        ] {
            sink.counter(&RUNS, &[("work", work), ("result", result)], total);
        }
        let good = self.0.last_good_ms.load(Ordering::Relaxed);
        if good > 0 {
            sink.gauge(&AGE, &[], now_ms().saturating_sub(good) as f64 / 1000.0);
        }
        let restore = self.0.restore_ms.load(Ordering::Relaxed);
        if restore > 0 {
            sink.gauge(&RESTORE, &[], restore as f64 / 1000.0);
        }
    }

    fn health(&self) -> Health {
        if self.0.unfinished.load(Ordering::Relaxed) == 1 {
            return Health::degraded("a restore did not end well");
        }
        if self.0.drill_broken.load(Ordering::Relaxed) == 1 {
            return Health::degraded("the last rehearsal of a restore failed");
        }
        if self.0.last_good_ms.load(Ordering::Relaxed) == 0 {
            return Health::unknown("no snapshot has been verified yet");
        }
        Health::up()
    }
}
