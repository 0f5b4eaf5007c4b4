//! Warm-up: keys that are loaded before the first caller comes, from a list or from what the last run held.

use crate::Key;
use crate::cache::{Cache, Inner};
use crate::entry::Entry;
use crate::load::Loaded;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashSet;
use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use tokio::task::JoinSet;
use xxhash_rust::xxh3::xxh3_64;

/// How a warm-up ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Warmed {
    /// Keys that were loaded.
    pub loaded: u64,
    /// Keys that were there already.
    pub present: u64,
    /// Keys whose load failed.
    pub failed: u64,
}

/// A file of keys could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The file itself.
    #[error("could not {action} the key file {path}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What is in it is not a list of keys of this cache's type, or was cut off.
    #[error("the key file {path} is damaged or of another kind: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// What a key file begins with; the last byte is its version.
const MAGIC: &[u8; 5] = b"PKHK\x01";
/// 64 MiB: a million keys of usual length. A larger file is not one of ours.
const LARGEST: u64 = 64 << 20;

impl<K: Key, V: Send + Sync + 'static> Cache<K, V> {
    /// Loads keys before anyone asks for them, `parallel` at a time, which are at least one. What is there already is not
    /// loaded again; a load that fails is counted, and does not end the warm-up. Values may come as `V` or as [`Loaded`],
    /// with tags and a life of their own; [`Loaded::nothing`] is remembered for the negative life, and counts as loaded.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use perf_cache::{Cache, CacheSpace, Loaded, tag};
    /// # use std::convert::Infallible;
    /// let space = CacheSpace::in_process("shop");
    /// let users: Cache<u64, String> = space.cache("users").build()?;
    /// let loader = |id| async move {
    ///     Ok::<_, Infallible>(Loaded::new(format!("user {id}")).tag(tag!("org", id % 2)))
    /// };
    /// let warmed = users.warm(1..=100, 8, loader).await;
    /// assert_eq!((warmed.loaded, users.stats().entries), (100, 100));
    /// space.invalidate_tags([tag!("org", 1)]).await;
    /// assert!(users.get(&1).is_none() && users.get(&2).is_some());
    /// # Ok(()) }
    /// ```
    ///
    /// # Cancel safety
    /// Dropping the future starts no further loads; those under way go on and store their values.
    pub async fn warm<F, Fut, T, E>(
        &self,
        keys: impl IntoIterator<Item = K>,
        parallel: usize,
        loader: F,
    ) -> Warmed
    where
        F: Fn(K) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Loaded<V>> + Send + 'static,
        E: fmt::Display + Send + Sync + 'static,
    {
        let (mut warmed, mut loads) = (Warmed::default(), JoinSet::new());
        for key in keys {
            if self.contains(&key) {
                warmed.present += 1;
                continue;
            }
            while loads.len() >= parallel.max(1) {
                warmed.count(loads.join_next().await);
            }
            let (cache, loader) = (self.clone(), loader.clone());
            loads.spawn(async move {
                let own = key.clone();
                let load = move |_| async move { loader(own).await.map(Into::into) };
                cache.find_with(&key, load).await.is_ok()
            });
        }
        while let Some(ended) = loads.join_next().await {
            warmed.count(Some(ended));
        }
        warmed
    }

    /// [`Cache::warm`] with the keys of a file that [`Cache::save_keys`] wrote, in its order. No file is no keys: a first
    /// run has none.
    ///
    /// # Errors
    /// [`KeyFileError`] when there is a file that cannot be read, or that is not one of keys of this type.
    ///
    /// # Cancel safety
    /// As for [`Cache::warm`].
    pub async fn warm_from<F, Fut, T, E>(
        &self,
        path: impl AsRef<Path>,
        parallel: usize,
        loader: F,
    ) -> Result<Warmed, KeyFileError>
    where
        K: DeserializeOwned,
        F: Fn(K) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Loaded<V>> + Send + 'static,
        E: fmt::Display + Send + Sync + 'static,
    {
        let path = path.as_ref().to_owned();
        let keys = unblocked(path.clone(), "read", move || read_keys(&path)).await?;
        Ok(self.warm(keys, parallel, loader).await)
    }

    /// Writes the keys of what is held to a file, for the next run to warm up from: those read most first, `most` at most.
    /// The file is replaced as a whole, or not at all. Returns how many were written.
    ///
    /// # Errors
    /// [`KeyFileError`] when the file cannot be written.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the file as it was, or replaced.
    pub async fn save_keys(&self, path: impl AsRef<Path>, most: usize) -> Result<usize, KeyFileError>
    where
        K: Serialize,
    {
        let mut seen = HashSet::new();
        let hot = self.hot_keys(most).into_iter().map(|hot| hot.key);
        let mut keys: Vec<K> = hot.filter(|key| seen.insert(key.clone())).collect();
        self.0.engine.visit(&mut |entry| {
            let is_worth = keys.len() < most && entry.value.is_some() && self.0.is_in_use(entry);
            if is_worth && seen.insert(entry.key.clone()) {
                keys.push(entry.key.clone());
            }
        });
        let path = path.as_ref().to_owned();
        let encoded = postcard::to_stdvec(&keys);
        let payload = encoded
            .map_err(|error| KeyFileError::Damaged { path: path.clone(), reason: error.to_string() })?;
        unblocked(path.clone(), "write", move || write_keys(&path, &payload)).await?;
        Ok(keys.len())
    }
}

impl<K: Key, V: Send + Sync + 'static> Inner<K, V> {
    /// Whether an entry is neither invalidated nor ended by hand: one that is only past its life is asked for again.
    fn is_in_use(&self, entry: &Entry<K, V>) -> bool {
        let seen = entry.seen();
        !entry.is_expired() && seen >= self.cleared_at() && self.space.fences.allow(seen, &entry.tags)
    }
}

impl Warmed {
    fn count(&mut self, ended: Option<Result<bool, tokio::task::JoinError>>) {
        match ended {
            Some(Ok(true)) => self.loaded += 1,
            Some(_) => self.failed += 1,
            None => {}
        }
    }
}

/// Runs file work where it holds up nobody.
async fn unblocked<T: Send + 'static>(
    path: PathBuf,
    action: &'static str,
    work: impl FnOnce() -> Result<T, KeyFileError> + Send + 'static,
) -> Result<T, KeyFileError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(KeyFileError::Io { action, path, source: io::Error::other(error) }),
    }
}

fn write_keys(path: &Path, payload: &[u8]) -> Result<(), KeyFileError> {
    let failed = |source| KeyFileError::Io { action: "write", path: path.to_owned(), source };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(name);
    let write = || {
        let mut file = std::fs::File::create(&beside)?;
        file.write_all(MAGIC)?;
        file.write_all(&xxh3_64(payload).to_le_bytes())?;
        file.write_all(payload)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().map_err(|error| {
        // What is left of the attempt is of no use; that it cannot be removed is no second failure.
        let _ = std::fs::remove_file(&beside);
        failed(error)
    })
}

fn read_keys<K: DeserializeOwned>(path: &Path) -> Result<Vec<K>, KeyFileError> {
    let failed = |source| KeyFileError::Io { action: "read", path: path.to_owned(), source };
    let damaged = |reason: &str| KeyFileError::Damaged { path: path.to_owned(), reason: reason.into() };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        return Err(damaged("it is larger than 64 MiB"));
    }
    let rest = bytes.strip_prefix(MAGIC.as_slice()).ok_or_else(|| damaged("it does not begin as one"))?;
    let (sum, payload) = rest.split_first_chunk().ok_or_else(|| damaged("it was cut off"))?;
    if xxh3_64(payload) != u64::from_le_bytes(*sum) {
        return Err(damaged("its checksum does not match"));
    }
    postcard::from_bytes(payload).map_err(|error| damaged(&error.to_string()))
}
