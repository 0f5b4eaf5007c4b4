//! Compressed and encrypted snapshots (features `zstd` and `encryption`).
//!
//! Files are wrapped as they are put into the snapshot and unwrapped beside it when their content is needed. Checksums are
//! those of the wrapped files, so damage is found without the key; the content is looked at only with it.

use super::error::SnapshotError;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// The level used unless said otherwise: most of the gain for little time.
#[cfg(feature = "zstd")]
pub const DEFAULT_LEVEL: i32 = 3;

/// What is done to the files of a snapshot.
#[derive(Clone, Debug, Default)]
pub struct Wrapping {
    #[cfg(feature = "zstd")]
    level: Option<i32>,
    #[cfg(feature = "encryption")]
    key: Option<super::cipher::SnapshotKey>,
}

impl Wrapping {
    /// Files stay as the target wrote them.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Compresses with zstd at this level, 1 to 22; others are brought into that range.
    #[cfg(feature = "zstd")]
    #[must_use]
    pub fn compress(mut self, level: i32) -> Self {
        self.level = Some(level.clamp(1, 22));
        self
    }

    /// Encrypts with this key, after compressing.
    #[cfg(feature = "encryption")]
    #[must_use]
    pub fn encrypt(mut self, key: super::cipher::SnapshotKey) -> Self {
        self.key = Some(key);
        self
    }

    /// What the manifest says about it.
    pub(super) fn label(&self) -> Option<Wrapped> {
        let wrapped = Wrapped { compression: self.compression(), key: self.key_id() };
        (wrapped != Wrapped::default()).then_some(wrapped)
    }

    fn compression(&self) -> Option<String> {
        #[cfg(feature = "zstd")]
        return self.level.map(|_| "zstd".to_owned());
        #[cfg(not(feature = "zstd"))]
        None
    }

    fn key_id(&self) -> Option<String> {
        #[cfg(feature = "encryption")]
        return self.key.as_ref().map(|key| key.id().to_owned());
        #[cfg(not(feature = "encryption"))]
        None
    }

    /// Whether it can look inside a snapshot that was wrapped like this.
    pub(super) fn opens(&self, wrapped: &Wrapped) -> bool {
        wrapped.key.is_none() || wrapped.key == self.key_id()
    }

    /// Replaces the file by its wrapped form.
    pub(super) fn wrap(&self, path: &Path) -> Result<(), SnapshotError> {
        let wrapped = path.with_extension("wrapped");
        let mut from = File::open(path).map_err(SnapshotError::io("open", path))?;
        let to = File::create(&wrapped).map_err(SnapshotError::io("write", &wrapped))?;
        self.copy_in(&mut from, to).map_err(SnapshotError::io("write", &wrapped))?;
        std::fs::rename(&wrapped, path).map_err(SnapshotError::io("write", path))
    }

    #[cfg_attr(
        not(feature = "encryption"),
        expect(clippy::unused_self, reason = "the key is behind a feature")
    )]
    fn copy_in(&self, from: &mut File, to: File) -> io::Result<()> {
        #[cfg(feature = "encryption")]
        if let Some(key) = &self.key {
            let mut sealer = key.sealer(to)?;
            self.compress_into(from, &mut sealer)?;
            return sealer.finish()?.sync_all();
        }
        let mut to = to;
        self.compress_into(from, &mut to)?;
        to.sync_all()
    }

    fn compress_into(&self, from: &mut File, to: &mut impl Write) -> io::Result<()> {
        #[cfg(feature = "zstd")]
        if let Some(level) = self.level {
            let mut encoder = zstd::stream::Encoder::new(to, level)?;
            io::copy(from, &mut encoder)?;
            return encoder.finish().map(|_| ());
        }
        let _ = self;
        io::copy(from, to).map(|_| ())
    }

    /// Writes the content of a wrapped file to another.
    pub(super) fn unwrap(&self, wrapped: &Wrapped, from: &Path, to: &Path) -> Result<(), SnapshotError> {
        let source = File::open(from).map_err(SnapshotError::io("open", from))?;
        let mut target = File::create(to).map_err(SnapshotError::io("write", to))?;
        let damaged = |error: io::Error| {
            let name = from.file_name().unwrap_or_default().to_string_lossy();
            SnapshotError::Damaged(format!("`{name}` cannot be unwrapped: {error}"))
        };
        let mut reader = self.reader(wrapped, source).map_err(damaged)?;
        io::copy(&mut reader, &mut target).map_err(damaged)?;
        Ok(())
    }

    fn reader(&self, wrapped: &Wrapped, source: File) -> io::Result<Box<dyn Read>> {
        let mut reader: Box<dyn Read> = Box::new(source);
        if let Some(id) = &wrapped.key {
            reader = self.opener(id, reader)?;
        }
        match wrapped.compression.as_deref() {
            None => Ok(reader),
            #[cfg(feature = "zstd")]
            Some("zstd") => Ok(Box::new(zstd::stream::Decoder::new(reader)?)),
            Some(other) => Err(io::Error::other(format!("compression `{other}` is not built in"))),
        }
    }

    fn opener(&self, id: &str, reader: Box<dyn Read>) -> io::Result<Box<dyn Read>> {
        #[cfg(feature = "encryption")]
        if let Some(key) = self.key.as_ref().filter(|key| key.id() == id) {
            return Ok(Box::new(key.opener(reader)?));
        }
        let _ = (self, reader);
        Err(io::Error::other(format!("it needs the key `{id}`")))
    }
}

/// What was done to the files of a snapshot, as its manifest says.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wrapped {
    /// The compression, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<String>,
    /// The id of the key, if it is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}
