use super::blocking;
use super::error::SnapshotError;
use perf_core::Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write as _;
use std::path::{Component, Path, PathBuf};
use tokio::io::AsyncReadExt;

/// A file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its name inside the snapshot.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// The SHA-256 of its content, in hexadecimal.
    pub sha256: String,
}

/// What a drill found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drill {
    /// When it ended, in milliseconds since 1970.
    pub at_ms: u64,
    /// How long a restore takes: the measured recovery time.
    pub restore_ms: u64,
    /// How old the data was: what would have been lost.
    pub age_ms: u64,
}

/// What a snapshot is. It lies beside the data and is written last: a snapshot without a manifest does not exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The snapshot's name, which is also its directory's.
    pub id: String,
    /// What kind of target it is of.
    pub kind: String,
    /// The target's name.
    pub target: String,
    /// When it was begun, in milliseconds since 1970: the data is at least this fresh.
    pub started_ms: u64,
    /// When it was complete.
    pub finished_ms: u64,
    /// Versions of the tools and the server.
    pub versions: BTreeMap<String, String>,
    /// The files.
    pub files: Vec<FileEntry>,
    /// How many of what are in it.
    pub counts: BTreeMap<String, u64>,
    /// What was done to the files; nothing if this is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrapped: Option<super::Wrapped>,
    /// When it was last verified.
    pub verified_ms: Option<u64>,
    /// The last drill with it.
    pub drill: Option<Drill>,
    /// The SHA-256 of everything above.
    pub seal: String,
}

/// The manifest's file name.
pub(super) const NAME: &str = "manifest.json";

impl Manifest {
    pub(super) fn sealed(mut self) -> Self {
        self.seal = self.compute_seal();
        self
    }

    fn compute_seal(&self) -> String {
        let open = Self { seal: String::new(), ..self.clone() };
        hex(&Sha256::digest(serde_json::to_vec(&open).unwrap_or_default()))
    }

    /// Reads the manifest of the snapshot in `directory` and checks that it is the one that was written there.
    pub(super) async fn read(directory: &Path) -> Result<Self, SnapshotError> {
        let id = directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let wrong = |why: String| SnapshotError::Manifest { id: id.clone(), why };
        let text = match tokio::fs::read(directory.join(NAME)).await {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(SnapshotError::Missing(id));
            }
            Err(error) => return Err(SnapshotError::io("read", directory.join(NAME))(error)),
        };
        let manifest: Self = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        if manifest.id != id {
            return Err(wrong(format!("it is of `{}`", manifest.id)));
        }
        if manifest.seal != manifest.compute_seal() {
            return Err(wrong("its seal is broken".to_owned()));
        }
        // Files are read and unwrapped by these names, so none may lead out of the snapshot.
        if let Some(file) = manifest.files.iter().find(|file| !stays_inside(&file.name)) {
            return Err(wrong(format!("`{}` is not the name of a file in it", file.name)));
        }
        Ok(manifest)
    }

    /// Writes the manifest so that it is there in full or not at all.
    pub(super) async fn write(&self, directory: &Path) -> Result<(), SnapshotError> {
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| SnapshotError::tool("writing the manifest", error))?;
        let directory = directory.to_owned();
        // In one go: whoever stops waiting for it cannot leave half of it to be done.
        blocking(move || replace(&directory, NAME, &text)).await
    }

    /// Checks every file against what was written, and that there are no others.
    pub(super) async fn check_files(&self, directory: &Path) -> Result<(), SnapshotError> {
        self.check_names(directory).await?;
        for expected in &self.files {
            let found = match entry(directory, &expected.name).await {
                Err(SnapshotError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    return Err(SnapshotError::FileMissing(expected.name.clone()));
                }
                found => found?,
            };
            if found.bytes != expected.bytes {
                let (name, expected, found) = (expected.name.clone(), expected.bytes, found.bytes);
                return Err(SnapshotError::FileLength { name, expected, found });
            }
            if found.sha256 != expected.sha256 {
                return Err(SnapshotError::FileContent(expected.name.clone()));
            }
        }
        Ok(())
    }
}

impl Manifest {
    /// Hidden files do not count: they are what a verification or a drill that was killed left, and are never read.
    async fn check_names(&self, directory: &Path) -> Result<(), SnapshotError> {
        let read = || SnapshotError::io("read", directory);
        let known: BTreeSet<_> =
            self.files.iter().filter_map(|file| Path::new(&file.name).iter().next()).collect();
        let mut reader = tokio::fs::read_dir(directory).await.map_err(read())?;
        while let Some(entry) = reader.next_entry().await.map_err(read())? {
            let name = entry.file_name();
            let text = name.to_string_lossy();
            if !text.starts_with('.') && text != NAME && !known.contains(name.as_os_str()) {
                return Err(SnapshotError::FileUnexpected(text.into_owned()));
            }
        }
        Ok(())
    }
}

fn stays_inside(name: &str) -> bool {
    !name.is_empty() && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

/// A file being written; removed when dropped. Once renamed there is nothing left to remove.
struct Fresh(PathBuf);

impl Drop for Fresh {
    fn drop(&mut self) {
        // What cannot be removed is hidden, and goes with the snapshot.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Writes a file so that it is there in full or not at all.
pub(super) fn replace(directory: &Path, name: &str, text: &[u8]) -> Result<(), SnapshotError> {
    let path = directory.join(name);
    // A name of its own: a verification and a drill at the same time must not write into one file.
    let other = format!(".{}.{:016x}.new", name.trim_start_matches('.'), Rng::from_entropy().next_u64());
    let fresh = Fresh(directory.join(other));
    let write = || SnapshotError::io("write", &fresh.0);
    let mut file = File::create_new(&fresh.0).map_err(write())?;
    file.write_all(text).map_err(write())?;
    file.sync_all().map_err(write())?;
    std::fs::rename(&fresh.0, &path).map_err(SnapshotError::io("write", &path))?;
    let flush = || SnapshotError::io("flush", directory);
    File::open(directory).map_err(flush())?.sync_all().map_err(flush())
}

/// Length and digest of a file, read piece by piece.
pub(super) async fn entry(directory: &Path, name: &str) -> Result<FileEntry, SnapshotError> {
    let path = directory.join(name);
    let mut file = tokio::fs::File::open(&path).await.map_err(SnapshotError::io("open", &path))?;
    let (mut digest, mut bytes, mut piece) = (Sha256::new(), 0, vec![0; 64 * 1024]);
    loop {
        let read = file.read(&mut piece).await.map_err(SnapshotError::io("read", &path))?;
        if read == 0 {
            break;
        }
        digest.update(&piece[..read]);
        bytes += read as u64;
    }
    Ok(FileEntry { name: name.to_owned(), bytes, sha256: hex(&digest.finalize()) })
}

/// Brings a file or directory safely to disk.
pub(super) async fn sync(path: &Path) -> Result<(), SnapshotError> {
    let file = tokio::fs::File::open(path).await.map_err(SnapshotError::io("open", path))?;
    file.sync_all().await.map_err(SnapshotError::io("flush", path))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
