//! Where Debian and its relatives put server programs, some of them outside the search path.

use super::ServerError;
use std::fs;
use std::path::{Path, PathBuf};

/// Directories searched after those of `PATH`; unprivileged accounts often lack the last two.
const SYSTEM: [&str; 4] = ["/usr/bin", "/usr/local/bin", "/usr/sbin", "/usr/local/sbin"];

/// A program of a Debian package.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binary {
    pub(crate) name: &'static str,
    pub(crate) package: &'static str,
}

impl Binary {
    /// Finds the program on the search path or in the system's directories.
    ///
    /// # Errors
    /// [`ServerError::MissingBinary`], naming the package.
    pub(crate) fn find(self) -> Result<PathBuf, ServerError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let directories = std::env::split_paths(&path).chain(SYSTEM.map(PathBuf::from));
        self.find_in(directories)
    }

    /// Finds the program in the first of `directories` that has it.
    pub(crate) fn find_in(
        self,
        directories: impl IntoIterator<Item = PathBuf>,
    ) -> Result<PathBuf, ServerError> {
        let mut candidates = directories.into_iter().map(|directory| directory.join(self.name));
        let missing = ServerError::MissingBinary { binary: self.name, package: self.package };
        candidates.find(|path| path.is_file()).ok_or(missing)
    }
}

/// The program directories of PostgreSQL: version 15 first, which the tests are written against, then newer ones.
pub(crate) fn postgres_directories(root: &Path) -> Vec<PathBuf> {
    let versions = fs::read_dir(root).into_iter().flatten().flatten();
    let mut versions: Vec<u32> =
        versions.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|v| *v >= 15).collect();
    versions.sort_unstable();
    versions.iter().map(|version| root.join(version.to_string()).join("bin")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_names_its_package() {
        let binary = Binary { name: "no-such-server", package: "no-such-package" };
        let message = binary.find().unwrap_err().to_string();
        assert_eq!(
            message,
            "`no-such-server` is not installed: on Debian, install the package no-such-package"
        );
    }

    #[test]
    fn version_15_of_postgresql_comes_before_newer_ones_and_older_ones_are_left_out() {
        let root = tempfile::tempdir().unwrap();
        for version in ["17", "13", "15", "notes"] {
            fs::create_dir(root.path().join(version)).unwrap();
        }
        let found = postgres_directories(root.path());
        assert_eq!(found, [root.path().join("15/bin"), root.path().join("17/bin")]);
    }
}
