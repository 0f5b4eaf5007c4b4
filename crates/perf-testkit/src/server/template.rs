//! Data directories made once per build directory and copied from then on.

use super::ServerError;
use super::account::Account;
use super::directory::{Directory, copy_tree};
use rustix::process::Signal;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Fills `target`, which exists and is empty, with a fresh data directory.
///
/// The first caller of a build directory makes it with `create` and keeps a copy under `<build directory>/tmp`; all others
/// copy that. `key` names the layout: what makes and what is made. Outside a build directory, or where that cannot be written
/// to, nothing is kept.
pub(crate) fn fill(
    key: &str,
    target: &Path,
    account: Option<Account>,
    create: impl FnOnce(&Path) -> Result<(), ServerError>,
) -> Result<(), ServerError> {
    let failed = || format!("could not prepare the template {key}");
    let Some((store, lock)) = open_store(key) else { return create(target) };
    let template = store.join(key);
    if !template.exists() {
        lock.lock().map_err(ServerError::io(failed))?;
    }
    if !template.exists() {
        // Made in the temporary directory, which the server's account can reach, and moved by whoever runs the tests.
        let scratch = Directory::create("template", account, Signal::TERM)?;
        let made = scratch.subdirectory("data", account)?;
        create(&made)?;
        let partial = tempfile::tempdir_in(&store).map_err(ServerError::io(failed))?;
        copy_tree(&made, &partial.path().join("data"), None)?;
        fs::rename(partial.path().join("data"), &template).map_err(ServerError::io(failed))?;
    }
    drop(lock);
    copy_tree(&template, target, account)
}

/// The folder for templates and the lock file of `key` in it, where there is such a folder and it can be written to.
fn open_store(key: &str) -> Option<(PathBuf, File)> {
    let store = store()?;
    fs::create_dir_all(&store).ok()?;
    let lock = File::create(store.join(format!("{key}.lock"))).ok()?;
    Some((store, lock))
}

/// The folder for templates in cargo's build directory, which is where the test program itself is.
fn store() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    Some(build_directory(&program)?.join("tmp").join("perf-testkit"))
}

/// The build directory has a tag, unless somebody made it before cargo did. Then its place is known from the folder of the
/// program: `<build directory>/<profile>/deps`, or `examples` in place of `deps`.
fn build_directory(program: &Path) -> Option<&Path> {
    let tagged = program.ancestors().find(|directory| directory.join("CACHEDIR.TAG").is_file());
    let folder = program.parent()?;
    let by_place = || {
        let known = folder.file_name().is_some_and(|name| name == "deps" || name == "examples");
        if known { folder.parent()?.parent() } else { None }
    };
    tagged.or_else(by_place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_made_once_and_copied_from_then_on() {
        let directory = Directory::create("unit", None, Signal::TERM).unwrap();
        let key = format!("unit-{}", std::process::id());
        for name in ["first", "second"] {
            let target = directory.subdirectory(name, None).unwrap();
            fill(&key, &target, None, |path| {
                assert_eq!(name, "first", "made only once");
                fs::write(path.join("content"), b"made").map_err(ServerError::io(|| "write"))
            })
            .unwrap();
            assert_eq!(fs::read(target.join("content")).unwrap(), b"made");
        }
        let store = store().expect("tests run from a build directory");
        fs::remove_dir_all(store.join(&key)).unwrap();
        fs::remove_file(store.join(format!("{key}.lock"))).unwrap();
    }

    #[test]
    fn the_build_directory_is_known_by_its_tag_or_by_the_place_of_the_program() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("debug/deps/it-1");
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        assert_eq!(build_directory(&program), Some(directory.path()));
        assert_eq!(build_directory(&directory.path().join("elsewhere/it-1")), None);
        fs::write(directory.path().join("CACHEDIR.TAG"), "").unwrap();
        assert_eq!(build_directory(&directory.path().join("any/where/it-1")), Some(directory.path()));
    }

    #[test]
    fn a_failure_leaves_no_template_behind() {
        let directory = Directory::create("unit", None, Signal::TERM).unwrap();
        let key = format!("unit-failed-{}", std::process::id());
        let result = fill(&key, directory.path(), None, |_| Err(ServerError::NoPort));
        assert!(matches!(result, Err(ServerError::NoPort)));
        let store = store().expect("tests run from a build directory");
        assert!(!store.join(&key).exists());
        fs::remove_file(store.join(format!("{key}.lock"))).unwrap();
    }
}
