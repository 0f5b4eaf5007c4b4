use super::error::SnapshotError;
use super::now_ms;
use perf_core::Rng;
use perf_core::time::Duration;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where a file system knows no locks, a partial snapshot this old belongs to nobody any more.
pub(super) const STALE_PARTIAL: Duration = Duration::from_secs(24 * 3600);

/// One capture or restore at a time: a file that is locked, and says who locked it. The operating system takes the lock
/// from whoever dies; his process number would not do, for in a container every process has the same.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    /// Takes the lock.
    pub(super) fn take(root: &Path) -> Result<Self, SnapshotError> {
        let path = root.join(".lock");
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            let file = options.open(&path).map_err(SnapshotError::io("lock", &path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(SnapshotError::Busy(owner(&path).unwrap_or(0))),
                Err(TryLockError::Error(error)) => return Err(SnapshotError::io("lock", path)(error)),
            }
            // Its last owner may have removed it after it was opened here.
            if !is_at(&file, &path).map_err(SnapshotError::io("lock", &path))? {
                continue;
            }
            let mut lock = Self { path, file };
            let written = lock.file.set_len(0).and_then(|()| write!(lock.file, "{}", std::process::id()));
            written.map_err(SnapshotError::io("write", &lock.path))?;
            return Ok(lock);
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while it is still held, so that nobody else's can be removed. One that stays is locked by nobody.
        let _ = std::fs::remove_file(&self.path);
        // A process being started may hold the file open for another moment; without this it would hold the lock as well.
        let _ = self.file.unlock();
    }
}

fn owner(path: &Path) -> Option<u32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Whether `file` is what is found at `path` now.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (held.dev(), held.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A directory being written, locked by its owner; removed when dropped. Once renamed there is nothing left to remove.
pub(super) struct Partial {
    pub(super) id: String,
    pub(super) path: PathBuf,
    _held: File,
}

impl Partial {
    /// Makes one under a new name. Here and now: made on another thread it could appear after the guard has gone.
    pub(super) fn make(root: &Path) -> Result<Self, SnapshotError> {
        loop {
            let id = format!("{:013}-{:08x}", now_ms(), Rng::from_entropy().next_u64() >> 32);
            let path = root.join(format!(".{id}.partial"));
            std::fs::create_dir(&path).map_err(SnapshotError::io("make", &path))?;
            if let Some(held) = hold(&path).map_err(SnapshotError::io("lock", &path))? {
                return Ok(Self { id, path, _held: held });
            }
        }
    }

    /// Removes those in `root` whose owner no longer lives.
    pub(super) fn remove_abandoned(root: &Path) -> Result<(), SnapshotError> {
        let read = || SnapshotError::io("read", root);
        for entry in std::fs::read_dir(root).map_err(read())? {
            let entry = entry.map_err(read())?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(began) = name.strip_prefix('.').filter(|name| name.ends_with(".partial")) else {
                continue;
            };
            let began = began.split('-').next().and_then(|ms| ms.parse::<u64>().ok()).unwrap_or(0);
            let old = u128::from(now_ms().saturating_sub(began)) > STALE_PARTIAL.as_millis();
            if let Some(_held) = abandoned(&entry.path(), old) {
                match std::fs::remove_dir_all(entry.path()) {
                    Err(error) if error.kind() != ErrorKind::NotFound => {
                        return Err(SnapshotError::io("remove", entry.path())(error));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // A write that was under way on another thread may put a file back while this goes on. What cannot be removed now
        // is removed by the next capture.
        for _ in 0..10 {
            match std::fs::remove_dir_all(&self.path) {
                Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {}
                _ => return,
            }
        }
    }
}

/// Locks what was just made at `path` for as long as its owner lives; nothing if it was taken for abandoned meanwhile, and
/// removed. Where the file system knows no locks it is merely opened.
pub(super) fn hold(path: &Path) -> io::Result<Option<File>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Ok(None),
        Ok(()) | Err(TryLockError::Error(_)) => Ok(is_at(&file, path)?.then_some(file)),
    }
}

/// Locks what somebody left at `path`; nothing if he still lives, or it cannot be known and is not `old`.
pub(super) fn abandoned(path: &Path, old: bool) -> Option<File> {
    let file = File::open(path).ok()?;
    match file.try_lock() {
        Ok(()) => Some(file),
        Err(TryLockError::WouldBlock) => None,
        Err(TryLockError::Error(_)) => old.then_some(file),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_its_owner_holds_is_not_abandoned_and_what_the_dead_left_is() {
        let root = tempfile::tempdir().unwrap();
        let mine = Partial::make(root.path()).unwrap();
        let left = root.path().join(format!(".{:013}-aa.partial", now_ms()));
        std::fs::create_dir(&left).unwrap();
        Partial::remove_abandoned(root.path()).unwrap();
        assert!(mine.path.exists() && !left.exists());
        let path = mine.path.clone();
        drop(mine);
        assert!(!path.exists());
    }

    #[test]
    fn what_was_taken_for_abandoned_before_it_was_locked_is_not_held() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("partial");
        std::fs::create_dir(&path).unwrap();
        let tidying = abandoned(&path, false).unwrap();
        assert!(hold(&path).unwrap().is_none(), "somebody is about to remove it");
        std::fs::remove_dir(&path).unwrap();
        assert!(hold(&path).unwrap().is_none());
        // Another of the same name is another.
        std::fs::create_dir(&path).unwrap();
        assert!(!is_at(&tidying, &path).unwrap());
        assert!(hold(&path).unwrap().is_some());
    }

    #[test]
    fn the_lock_goes_from_hand_to_hand() {
        let root = tempfile::tempdir().unwrap();
        let count = std::sync::atomic::AtomicU32::new(0);
        let holders = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while count.load(std::sync::atomic::Ordering::Relaxed) < 400 {
                        let Ok(_lock) = Lock::take(root.path()) else { continue };
                        assert_eq!(
                            holders.fetch_add(1, std::sync::atomic::Ordering::SeqCst),
                            0,
                            "one at a time"
                        );
                        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        holders.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(!root.path().join(".lock").exists());
    }
}
