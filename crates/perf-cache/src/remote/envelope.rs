//! What surrounds a value in the second tier: enough to refuse whatever is not exactly ours.
//!
//! ```text
//! magic 4 · version 1 · codec 1 · compression 1 · flags 1 · schema 8 · key 8 · as-of 16 · tail 8 · raw length 4
//! · tags 2 + 8 each · checksum 8 · payload
//! ```
//! The checksum covers everything before and after it. Numbers are big-endian.

use super::codec::Compression;
use super::port::Position;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

const MAGIC: [u8; 4] = *b"PKC1";
const VERSION: u8 = 1;
const NOTHING: u8 = 1;
#[cfg(feature = "lz4")]
const LZ4: u8 = 1;
/// More tags than this are not stored in the second tier.
const MAX_TAGS: usize = 1024;

/// What an envelope says about its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) codec: u8,
    pub(crate) schema: u64,
    pub(crate) key: u64,
    /// The value is "there is nothing".
    pub(crate) nothing: bool,
    pub(crate) as_of: Position,
    /// How much of the stored life lies behind the end of freshness, in milliseconds.
    pub(crate) tail_millis: u64,
    pub(crate) tags: Vec<u64>,
}

/// Why bytes were refused. All of them are a miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Not one of our envelopes at all: left alone.
    Foreign,
    /// An envelope of another version, schema, codec or key.
    Other,
    /// One of ours, damaged or too large.
    Damaged,
}

pub(crate) fn seal(header: &Header, compression: Compression, payload: Vec<u8>) -> Option<Vec<u8>> {
    let raw = u32::try_from(payload.len()).ok()?;
    let (method, payload) = compress(compression, payload);
    let tags = u16::try_from(header.tags.len()).ok().filter(|&tags| usize::from(tags) <= MAX_TAGS)?;
    let mut out = Vec::with_capacity(64 + header.tags.len() * 8 + payload.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[VERSION, header.codec, method, if header.nothing { NOTHING } else { 0 }]);
    for number in [header.schema, header.key, header.as_of.major, header.as_of.minor, header.tail_millis] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out.extend_from_slice(&raw.to_be_bytes());
    out.extend_from_slice(&tags.to_be_bytes());
    header.tags.iter().for_each(|tag| out.extend_from_slice(&tag.to_be_bytes()));
    let sum = checksum(&out, &payload);
    out.extend_from_slice(&sum.to_be_bytes());
    out.extend_from_slice(&payload);
    Some(out)
}

/// Opens an envelope. `limit` bounds the payload after decompression.
pub(crate) fn open(bytes: &[u8], limit: usize) -> Result<(Header, Vec<u8>), Refusal> {
    let mut reader = Reader(bytes);
    if reader.take::<4>() != Some(MAGIC) {
        return Err(Refusal::Foreign);
    }
    let [version, codec, method, flags] = reader.take().ok_or(Refusal::Damaged)?;
    if version != VERSION {
        return Err(Refusal::Other);
    }
    parse(&mut reader, codec, flags)
        .and_then(|(header, raw)| {
            let head = bytes.len() - reader.0.len();
            let sum = u64::from_be_bytes(reader.take()?);
            if checksum(&bytes[..head], reader.0) != sum || raw > limit {
                return None;
            }
            Some((header, decompress(method, reader.0, raw)?))
        })
        .ok_or(Refusal::Damaged)
}

fn parse(reader: &mut Reader<'_>, codec: u8, flags: u8) -> Option<(Header, usize)> {
    let mut number = || reader.take().map(u64::from_be_bytes);
    let (schema, key) = (number()?, number()?);
    let as_of = Position { major: number()?, minor: number()? };
    let tail_millis = number()?;
    let raw = u32::from_be_bytes(reader.take()?) as usize;
    let tags = u16::from_be_bytes(reader.take()?);
    let tags = (0..tags).map(|_| reader.take().map(u64::from_be_bytes)).collect::<Option<Vec<_>>>()?;
    Some((Header { codec, schema, key, nothing: flags & NOTHING != 0, as_of, tail_millis, tags }, raw))
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }
}

fn checksum(head: &[u8], payload: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(head);
    hasher.update(&xxh3_64(payload).to_be_bytes());
    hasher.digest()
}

fn compress(compression: Compression, payload: Vec<u8>) -> (u8, Vec<u8>) {
    match compression {
        Compression::Off => (0, payload),
        #[cfg(feature = "lz4")]
        Compression::Lz4 { above } => {
            if payload.len() < above {
                return (0, payload);
            }
            let packed = lz4_flex::block::compress(&payload);
            if packed.len() < payload.len() { (LZ4, packed) } else { (0, payload) }
        }
    }
}

fn decompress(method: u8, payload: &[u8], raw: usize) -> Option<Vec<u8>> {
    match method {
        0 => (payload.len() == raw).then(|| payload.to_vec()),
        #[cfg(feature = "lz4")]
        LZ4 => lz4_flex::block::decompress(payload, raw).ok().filter(|out| out.len() == raw),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> Header {
        Header {
            codec: 1,
            schema: 2,
            key: 3,
            nothing: false,
            as_of: Position { major: 4, minor: 5 },
            tail_millis: 6,
            tags: vec![7, 8],
        }
    }

    #[test]
    fn what_is_sealed_opens_unchanged() {
        let payload = b"payload ".repeat(1000);
        let round = |compression| {
            let sealed = seal(&header(), compression, payload.clone()).unwrap();
            assert_eq!(open(&sealed, 1 << 20), Ok((header(), payload.clone())));
            assert_eq!(open(&sealed, 100), Err(Refusal::Damaged), "larger than allowed");
            sealed.len()
        };
        let plain = round(Compression::Off);
        #[cfg(feature = "lz4")]
        assert!(round(Compression::Lz4 { above: 10 }) < plain / 5);
        assert!(plain > payload.len());
    }

    proptest! {
        #[test]
        fn s33_any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(open(&bytes, 1000).is_err());
            let ours = [&MAGIC[..], &[VERSION], &bytes].concat();
            prop_assert!(open(&ours, 1000).is_err());
        }

        #[test]
        fn s33_a_single_changed_or_missing_byte_is_noticed(at in 0..100_usize, flip in 1..=255_u8) {
            let sealed = seal(&header(), Compression::Off, vec![9; 40]).unwrap();
            let at = at % sealed.len();
            let mut changed = sealed.clone();
            changed[at] ^= flip;
            prop_assert!(open(&changed, 1000).is_err());
            prop_assert!(open(&sealed[..at], 1000).is_err());
        }
    }
}
