//! The temporary directory of one server.

use super::ServerError;
use super::account::Account;
use super::guard::Guard;
use super::real_time::poll_until;
use rustix::process::Signal;
use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the removal is repeated when processes that are being killed still write.
const REMOVAL: Duration = Duration::from_secs(2);

/// A directory that belongs to the server's account. It is removed when dropped, and by its guard when this process is
/// killed, together with the server the guard was told to watch.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    guard: Guard,
}

impl Directory {
    /// Makes a directory in the system's temporary directory, open to `account` only. If this process is killed, the
    /// server in it is ended with `signal`.
    pub(crate) fn create(what: &str, account: Option<Account>, signal: Signal) -> Result<Self, ServerError> {
        let made = tempfile::Builder::new().prefix(&format!("perf-testkit-{what}-")).tempdir();
        let made = made.map_err(ServerError::io(|| format!("could not make a directory for {what}")))?;
        give(made.path(), account)?;
        let guard = Guard::start(made.path(), signal)?;
        Ok(Self { path: made.keep(), guard })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Tells the guard which process works in here, or that none does any more.
    pub(crate) fn watch(&self, server: Option<u32>) -> Result<(), ServerError> {
        self.guard.watch(server)
    }

    /// A new subdirectory, open to `account` only, as database servers insist.
    pub(crate) fn subdirectory(&self, name: &str, account: Option<Account>) -> Result<PathBuf, ServerError> {
        let path = self.path.join(name);
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(ServerError::io(|| format!("could not make {}", path.display())))?;
        give(&path, account)?;
        Ok(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        poll_until(REMOVAL, || match fs::remove_dir_all(&self.path) {
            Ok(()) => true,
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        });
    }
}

fn give(path: &Path, account: Option<Account>) -> Result<(), ServerError> {
    let Some(account) = account else { return Ok(()) };
    account.own(path).map_err(ServerError::io(|| format!("could not give away {}", path.display())))
}

/// Copies a tree of files, keeping permissions and giving everything to `account`.
pub(crate) fn copy_tree(from: &Path, to: &Path, account: Option<Account>) -> Result<(), ServerError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        ServerError::io(move || format!("could not copy {}", path.display()))
    };
    let mode = fs::metadata(from).map_err(failed(from))?.permissions().mode();
    if !to.exists() {
        fs::create_dir(to).map_err(failed(to))?;
    }
    fs::set_permissions(to, Permissions::from_mode(mode)).map_err(failed(to))?;
    give(to, account)?;
    for entry in fs::read_dir(from).map_err(failed(from))? {
        let entry = entry.map_err(failed(from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().map_err(failed(&source))?.is_dir() {
            copy_tree(&source, &target, account)?;
        } else {
            fs::copy(&source, &target).map_err(failed(&source))?;
            give(&target, account)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_goes_with_everything_in_it() {
        let directory = Directory::create("unit", None, Signal::TERM).unwrap();
        let path = directory.path().to_owned();
        let inner = directory.subdirectory("data", None).unwrap();
        fs::write(inner.join("file"), b"x").unwrap();
        assert_eq!(fs::metadata(&inner).unwrap().permissions().mode() & 0o777, 0o700);
        drop(directory);
        assert!(!path.exists());
    }

    #[test]
    fn a_copied_tree_has_the_same_files_and_permissions() {
        let directory = Directory::create("unit", None, Signal::TERM).unwrap();
        let from = directory.subdirectory("from", None).unwrap();
        fs::create_dir(from.join("inner")).unwrap();
        fs::write(from.join("inner/file"), b"content").unwrap();
        fs::set_permissions(from.join("inner/file"), Permissions::from_mode(0o600)).unwrap();
        let to = directory.path().join("to");
        copy_tree(&from, &to, None).unwrap();
        assert_eq!(fs::read(to.join("inner/file")).unwrap(), b"content");
        let mode = |path: &str| fs::metadata(to.join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(""), mode("inner/file")), (0o700, 0o600));
    }
}
