//! Restoring in two steps, and what is remembered of a restore until it has ended well.

use super::error::SnapshotError;
use super::lock::Lock;
use super::manifest::{self, Manifest};
use super::{Shared, Snapshots, now_ms};
use crate::sync::Ordering;
use serde::{Deserialize, Serialize};

/// The file that says what is being restored.
const JOURNAL: &str = ".restore.json";

/// What restoring a snapshot would do; made by [`Snapshots::plan_restore`].
#[derive(Debug)]
#[must_use = "nothing is restored until the plan is applied"]
pub struct RestorePlan {
    pub(super) snapshots: Snapshots,
    pub(super) manifest: Manifest,
}

/// Agreement to a restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirm {
    /// Only into an empty target.
    IntoEmpty,
    /// Over what the target holds, which is named here once more.
    Overwrite(String),
}

/// A restore that failed, was killed or was given up on the way: the target may hold part of the snapshot and part of what
/// was there before. Found by [`Snapshots::unfinished_restore`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnfinishedRestore {
    /// The snapshot that was being restored.
    pub snapshot: String,
    /// The snapshot of what was there before, if there was anything.
    pub safety: Option<String>,
    /// When it was begun, in milliseconds since 1970.
    pub began_ms: u64,
}

impl UnfinishedRestore {
    /// Whether it may be mended with this snapshot.
    pub(super) fn needs(&self, id: &str) -> bool {
        self.snapshot == id || self.safety.as_deref() == Some(id)
    }
}

impl From<UnfinishedRestore> for SnapshotError {
    fn from(UnfinishedRestore { snapshot, safety, .. }: UnfinishedRestore) -> Self {
        let way_out = match safety {
            Some(safety) => format!("restore it again, or `{safety}`, which is what was there before"),
            None => "restore it again".to_owned(),
        };
        Self::Unfinished { snapshot, way_out }
    }
}

impl RestorePlan {
    /// The snapshot that would be restored.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Restores. What is overwritten is captured first; the safety snapshot's manifest is returned, if one was taken.
    /// Nobody captures meanwhile.
    ///
    /// # Errors
    /// [`SnapshotError::Refused`] when the target is not empty and not named, or in use; [`SnapshotError::Busy`] while it is
    /// being captured; what goes wrong on the way.
    ///
    /// # Cancel safety
    /// Dropping the future ends the restore where it is. A target that [restores at once] is then as it was before or as
    /// it should be; of another it is remembered, see [`Snapshots::unfinished_restore`].
    ///
    /// [restores at once]: super::SnapshotTarget::restores_at_once
    pub async fn apply(self, confirm: Confirm) -> Result<Option<Manifest>, SnapshotError> {
        let shared = &*self.snapshots.0;
        let overwrite = match confirm {
            Confirm::IntoEmpty => false,
            Confirm::Overwrite(name) if name == shared.target.describe().name => true,
            Confirm::Overwrite(name) => {
                return Err(SnapshotError::Refused(format!("it is not called `{name}`")));
            }
        };
        let lock = match Lock::take(&shared.root) {
            // Nobody captures into a directory that nobody can write to.
            Err(error) if error.is_no_place() && !overwrite => None,
            lock => Some(lock?),
        };
        let safety = match &lock {
            Some(lock) if overwrite => Some(shared.counted(shared.capture_under(lock)).await?),
            _ => None,
        };
        let content = shared.content(&self.manifest).await?;
        let directory = shared.root.join(&self.manifest.id);
        let before = shared.begin_restore(&self.manifest, safety.as_ref())?;
        let restored = shared.target.restore(content.path(&directory), overwrite).await;
        // What refuses has touched nothing.
        let untouched = before.is_none() && matches!(restored, Err(SnapshotError::Refused(_)));
        if restored.is_ok() || untouched {
            shared.end_restore()?;
        }
        restored?;
        shared.counters.restored.increment();
        Ok(safety)
    }
}

impl Snapshots {
    /// The restore that did not end well, or is under way. It is forgotten once a restore ends well, whichever snapshot
    /// that restores.
    ///
    /// # Errors
    /// What is remembered could not be read.
    pub fn unfinished_restore(&self) -> Result<Option<UnfinishedRestore>, SnapshotError> {
        self.0.unfinished_restore()
    }

    /// Forgets a restore that did not end well, because somebody looked at the target and found it to be as it should be.
    ///
    /// # Errors
    /// [`SnapshotError::Busy`] while it is under way; what is remembered could not be removed.
    pub fn settle_restore(&self) -> Result<(), SnapshotError> {
        let _lock = Lock::take(&self.0.root)?;
        self.0.end_restore()
    }
}

impl Shared {
    pub(super) fn unfinished_restore(&self) -> Result<Option<UnfinishedRestore>, SnapshotError> {
        let path = self.root.join(JOURNAL);
        let found = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            text => {
                let text = text.map_err(SnapshotError::io("read", &path))?;
                let read = serde_json::from_slice(&text);
                Some(read.map_err(|error| SnapshotError::io("read", &path)(error.into()))?)
            }
        };
        self.unfinished.store(u64::from(found.is_some()), Ordering::Relaxed);
        Ok(found)
    }

    /// Writes down what is being restored before anything is touched, and says what was written there. Here and now: written
    /// on another thread it could appear after the lock has gone.
    fn begin_restore(
        &self,
        manifest: &Manifest,
        safety: Option<&Manifest>,
    ) -> Result<Option<UnfinishedRestore>, SnapshotError> {
        let before = self.unfinished_restore()?;
        if self.target.restores_at_once() {
            return Ok(before);
        }
        // Of several attempts the first one saw the target whole.
        let first = before.as_ref().and_then(|before| before.safety.clone());
        let journal = UnfinishedRestore {
            snapshot: manifest.id.clone(),
            safety: first.or_else(|| safety.map(|safety| safety.id.clone())),
            began_ms: now_ms(),
        };
        let text = serde_json::to_vec_pretty(&journal)
            .map_err(|error| SnapshotError::tool("writing down the restore", error))?;
        match manifest::replace(&self.root, JOURNAL, &text) {
            // Where nothing can be written nothing is overwritten either: the target is empty.
            Err(error) if error.is_no_place() && safety.is_none() => return Ok(before),
            written => written?,
        }
        self.unfinished.store(1, Ordering::Relaxed);
        Ok(before)
    }

    fn end_restore(&self) -> Result<(), SnapshotError> {
        let path = self.root.join(JOURNAL);
        // On a disk that can only be read, removing what is not there is an error.
        if path.try_exists().map_err(SnapshotError::io("look at", &path))? {
            std::fs::remove_file(&path).map_err(SnapshotError::io("remove", &path))?;
        }
        self.unfinished.store(0, Ordering::Relaxed);
        Ok(())
    }
}
