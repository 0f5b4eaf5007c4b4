use std::io;
use std::path::PathBuf;

/// What can go wrong with a snapshot. After any of these the snapshots that were there before are as good as they were.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// Reading or writing a file failed: the disk is full, the directory read-only, the file not there.
    #[error("could not {what} `{}`", path.display())]
    Io {
        /// What was attempted.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Another capture or a restore of this target is under way.
    #[error("target is being captured or restored by process {0}")]
    Busy(u32),
    /// A restore that did not end well may have left the target with part of what it should hold: nothing is captured until
    /// that is mended.
    #[error("target may hold half of snapshot `{snapshot}`: its restore did not end well; {way_out}")]
    Unfinished {
        /// The snapshot that was being restored.
        snapshot: String,
        /// What can be done.
        way_out: String,
    },
    /// There is no snapshot of that name, or it has no manifest and therefore does not exist.
    #[error("there is no snapshot `{0}`")]
    Missing(String),
    /// The manifest was changed, or belongs to another snapshot.
    #[error("manifest of snapshot `{id}` is not the one that was written: {why}")]
    Manifest {
        /// The snapshot.
        id: String,
        /// What is wrong.
        why: String,
    },
    /// A file of the snapshot is not there.
    #[error("file `{0}` is missing from the snapshot")]
    FileMissing(String),
    /// A file has another length than when it was written.
    #[error("file `{name}` has {found} bytes instead of {expected}")]
    FileLength {
        /// The file.
        name: String,
        /// Its length when it was written.
        expected: u64,
        /// Its length now.
        found: u64,
    },
    /// A file has the right length and other content than when it was written.
    #[error("file `{0}` is not what was written")]
    FileContent(String),
    /// There is a file that was not written.
    #[error("file `{0}` does not belong to the snapshot")]
    FileUnexpected(String),
    /// The files are intact, but what is in them is not.
    #[error("content of the snapshot is damaged: {0}")]
    Damaged(String),
    /// The target is in use, or holds data that nobody agreed to lose.
    #[error("target cannot be overwritten: {0}")]
    Refused(String),
    /// The database refused or failed.
    #[error("{what} failed: {why}")]
    Tool {
        /// What was run.
        what: &'static str,
        /// What it said.
        why: String,
    },
}

impl SnapshotError {
    pub(super) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }

    /// Whether there is no room for what was to be written, or no leave to write it.
    pub(super) fn is_no_place(&self) -> bool {
        use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        let kinds = [PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull];
        matches!(self, Self::Io { source, .. } if kinds.contains(&source.kind()))
    }

    pub(super) fn tool(what: &'static str, why: impl std::fmt::Display) -> Self {
        Self::Tool { what, why: why.to_string() }
    }
}
