//! Compression of values on their way to the second tier.

use super::envelope::Refusal;
use std::borrow::Cow;

#[cfg(feature = "zstd")]
use super::dictionary::Dictionaries;

/// Whether values are compressed on their way to the second tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Compression {
    /// Not.
    #[default]
    Off,
    /// With LZ4: quick, and a third to a half of the bytes of larger values.
    #[cfg(feature = "lz4")]
    Lz4 {
        /// Smaller values are stored as they are. 1,024 is a good bound: below it little is won.
        above: usize,
    },
    /// With Zstandard, and with a dictionary trained on the cache's own values, which is what makes small values small.
    /// Values written before there is a dictionary, or with an older one, stay readable.
    #[cfg(feature = "zstd")]
    Zstd {
        /// 1 to 19; 3 is Zstandard's own default.
        level: i32,
        /// Smaller values are stored as they are.
        above: usize,
        /// Bytes of the dictionary; 0 does without one.
        dictionary: usize,
    },
}

impl Compression {
    /// Zstandard at level 3 for values from 64 bytes on, with a dictionary of 16 KiB.
    #[cfg(feature = "zstd")]
    #[must_use]
    pub const fn zstd() -> Self {
        Self::Zstd { level: 3, above: 64, dictionary: 16 << 10 }
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`InvalidConfig`](perf_core::InvalidConfig) naming the field that cannot be used.
    pub fn validate(&self) -> Result<(), perf_core::InvalidConfig> {
        match self {
            #[cfg(feature = "zstd")]
            Self::Zstd { level, .. } if !(1..=19).contains(level) => {
                Err(perf_core::InvalidConfig::new("compression.zstd.level", level, "1 to 19"))
            }
            #[cfg(feature = "zstd")]
            Self::Zstd { dictionary, .. } if *dictionary != 0 && !(256..=1 << 20).contains(dictionary) => {
                let allowed = "0, or 256 to 1048576";
                Err(perf_core::InvalidConfig::new("compression.zstd.dictionary", dictionary, allowed))
            }
            _ => Ok(()),
        }
    }
}

/// How the payload of one envelope is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Plain,
    Lz4,
    Zstd,
    /// Zstandard with the dictionary of this number.
    Dictionary(u32),
}

impl Method {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Plain => 0,
            Self::Lz4 => 1,
            Self::Zstd => 2,
            Self::Dictionary(_) => 3,
        }
    }

    #[cfg(feature = "zstd")]
    pub(crate) const fn is_dictionary(code: u8) -> bool {
        code == Self::Dictionary(0).code()
    }

    pub(crate) fn read(code: u8, dictionary: impl FnOnce() -> Option<u32>) -> Option<Self> {
        match code {
            0 => Some(Self::Plain),
            1 => Some(Self::Lz4),
            2 => Some(Self::Zstd),
            3 => dictionary().map(Self::Dictionary),
            _ => None,
        }
    }
}

/// Compresses in the way of one cache, and unpacks what any way has written.
#[derive(Debug)]
pub(crate) struct Compressor {
    compression: Compression,
    #[cfg(feature = "zstd")]
    pub(crate) dictionaries: std::sync::Arc<Dictionaries>,
}

impl Compressor {
    pub(crate) fn new(compression: Compression) -> Self {
        Self {
            compression,
            #[cfg(feature = "zstd")]
            dictionaries: match compression {
                Compression::Zstd { level, dictionary, .. } => Dictionaries::new(level, dictionary).into(),
                _ => Dictionaries::new(3, 0).into(),
            },
        }
    }

    /// One that has a dictionary, where there are dictionaries.
    #[cfg(test)]
    pub(crate) fn every() -> Self {
        #[cfg(feature = "zstd")]
        return Self::new(Compression::zstd());
        #[cfg(not(feature = "zstd"))]
        Self::new(Compression::Off)
    }

    /// The payload, smaller if that is possible.
    pub(crate) fn compress<'p>(&self, payload: &'p [u8]) -> (Method, Cow<'p, [u8]>) {
        let packed: Option<(Method, Vec<u8>)> = match self.compression {
            Compression::Off => None,
            #[cfg(feature = "lz4")]
            Compression::Lz4 { above } => {
                (payload.len() >= above).then(|| (Method::Lz4, lz4_flex::block::compress(payload)))
            }
            #[cfg(feature = "zstd")]
            Compression::Zstd { above, .. } => {
                if payload.len() < above {
                    None
                } else {
                    self.dictionaries.compress(payload)
                }
            }
        };
        match packed {
            Some((method, packed)) if packed.len() < payload.len() => (method, Cow::Owned(packed)),
            _ => (Method::Plain, Cow::Borrowed(payload)),
        }
    }

    /// The payload as it was; exactly `raw` bytes, which the caller has checked against its limit.
    pub(crate) fn decompress<'p>(
        &self,
        method: Method,
        payload: &'p [u8],
        raw: usize,
    ) -> Result<Cow<'p, [u8]>, Refusal> {
        let unpacked: Option<Cow<'p, [u8]>> = match method {
            Method::Plain => Some(Cow::Borrowed(payload)),
            #[cfg(feature = "lz4")]
            Method::Lz4 => lz4_flex::block::decompress(payload, raw).ok().map(Cow::Owned),
            #[cfg(feature = "zstd")]
            Method::Zstd => self.dictionaries.decompress(None, payload, raw).map(Cow::Owned),
            #[cfg(feature = "zstd")]
            Method::Dictionary(id) => {
                let dictionary = self.dictionaries.get(id).flatten().ok_or(Refusal::Other)?;
                self.dictionaries.decompress(Some(&dictionary), payload, raw).map(Cow::Owned)
            }
            #[cfg(not(all(feature = "lz4", feature = "zstd")))]
            _ => return Err(Refusal::Other),
        };
        unpacked.filter(|unpacked| unpacked.len() == raw).ok_or(Refusal::Damaged)
    }
}
