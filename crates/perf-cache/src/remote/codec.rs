//! How values become bytes.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;

/// A value could not be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CodecError(String);

impl CodecError {
    /// An error with this message.
    pub fn new(message: impl fmt::Display) -> Self {
        Self(message.to_string())
    }
}

/// Writes and reads values of one type.
pub trait Codec<V>: Send + Sync + 'static {
    /// Names the format in what is stored; unique among the formats of one cache. Ours use 1 to 15.
    fn id(&self) -> u8;

    /// Appends the bytes of a value.
    ///
    /// # Errors
    /// The value cannot be written in this format.
    fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<(), CodecError>;

    /// Reads a value. The bytes come from a store that others write to: they may be anything.
    ///
    /// # Errors
    /// The bytes are not a value in this format.
    fn decode(&self, bytes: &[u8]) -> Result<V, CodecError>;
}

/// postcard: compact and quick, the default. It does not describe itself, so a changed type needs a new
/// [`schema`](crate::CacheBuilder::schema).
#[derive(Clone, Copy, Debug, Default)]
pub struct Postcard;

impl<V: Serialize + DeserializeOwned> Codec<V> for Postcard {
    fn id(&self) -> u8 {
        1
    }

    fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let bytes = postcard::to_extend(value, std::mem::take(out)).map_err(CodecError::new)?;
        *out = bytes;
        Ok(())
    }

    fn decode(&self, bytes: &[u8]) -> Result<V, CodecError> {
        let (value, rest) = postcard::take_from_bytes(bytes).map_err(CodecError::new)?;
        if rest.is_empty() { Ok(value) } else { Err(CodecError::new("bytes are left over")) }
    }
}

/// JSON: larger, readable by people and by other languages.
#[cfg(feature = "json")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

#[cfg(feature = "json")]
impl<V: Serialize + DeserializeOwned> Codec<V> for Json {
    fn id(&self) -> u8 {
        2
    }

    fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<(), CodecError> {
        serde_json::to_writer(out, value).map_err(CodecError::new)
    }

    fn decode(&self, bytes: &[u8]) -> Result<V, CodecError> {
        serde_json::from_slice(bytes).map_err(CodecError::new)
    }
}

/// MessagePack with named fields: tolerates fields that were added.
#[cfg(feature = "messagepack")]
#[derive(Clone, Copy, Debug, Default)]
pub struct MessagePack;

#[cfg(feature = "messagepack")]
impl<V: Serialize + DeserializeOwned> Codec<V> for MessagePack {
    fn id(&self) -> u8 {
        3
    }

    fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<(), CodecError> {
        rmp_serde::encode::write_named(out, value).map_err(CodecError::new)
    }

    fn decode(&self, bytes: &[u8]) -> Result<V, CodecError> {
        rmp_serde::from_slice(bytes).map_err(CodecError::new)
    }
}

/// Whether values are compressed on their way to the second tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// Not.
    #[default]
    Off,
    /// With LZ4, from this many bytes on. 1,024 is a good bound: below it little is won.
    #[cfg(feature = "lz4")]
    Lz4 {
        /// Smaller values are stored as they are.
        above: usize,
    },
}
