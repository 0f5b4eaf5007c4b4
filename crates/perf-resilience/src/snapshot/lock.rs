use super::error::SnapshotError;
use std::io::Write;
use std::path::{Path, PathBuf};

/// One capture at a time: a file that says who captures.
#[derive(Debug)]
pub(super) struct Lock(PathBuf);

impl Lock {
    /// Takes the lock, also from an owner that no longer lives.
    pub(super) fn take(root: &Path) -> Result<Self, SnapshotError> {
        let path = root.join(".lock");
        for _ in 0..2 {
            match std::fs::File::create_new(&path) {
                Ok(mut file) => {
                    let lock = Self(path.clone());
                    write!(file, "{}", std::process::id()).map_err(SnapshotError::io("write", path))?;
                    return Ok(lock);
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => match owner(&path) {
                    Some(owner) if lives(owner) => return Err(SnapshotError::Busy(owner)),
                    _ => {
                        let removed = std::fs::remove_file(&path);
                        if let Err(error) = removed
                            && error.kind() != std::io::ErrorKind::NotFound
                        {
                            return Err(SnapshotError::io("remove", path)(error));
                        }
                    }
                },
                Err(error) => return Err(SnapshotError::io("lock", path)(error)),
            }
        }
        Err(SnapshotError::Busy(owner(&path).unwrap_or(0)))
    }
}

fn owner(path: &Path) -> Option<u32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Where processes cannot be looked up, an owner is taken to live.
fn lives(process: u32) -> bool {
    !Path::new("/proc/self").exists() || Path::new(&format!("/proc/{process}")).exists()
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A lock that cannot be removed is taken over once this process is gone.
        let _ = std::fs::remove_file(&self.0);
    }
}
