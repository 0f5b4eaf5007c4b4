//! What surrounds a value in the second tier: enough to refuse whatever is not exactly ours.
//!
//! ```text
//! magic 3 · version 1 · checksum 8 · flags 1 · as-of major, minor · tail · raw length · tags · [dictionary 4] · payload
//! ```
//! Numbers after the flags are written in seven-bit groups, lowest first; a tag takes 8 bytes. The checksum covers
//! everything behind it and is seeded with the name of the value, which contains the cache and the schema: bytes that
//! were moved to another key, or written for another type, do not open.

use super::compress::{Compressor, Method};
use super::port::{LEASE, Position};
use std::borrow::Cow;
use xxhash_rust::xxh3::xxh3_64_with_seed;

const MAGIC: [u8; 3] = *b"PKC";
const VERSION: u8 = 2;
const NOTHING: u8 = 0x80;
/// Magic, version and checksum: what tells one set of bytes under a key from another.
pub(crate) const MARK: usize = 12;
/// More tags than this are not stored in the second tier.
const MAX_TAGS: usize = 1024;

/// What an envelope says about its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
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
    /// An envelope of another version, or compressed with a dictionary that is not known here.
    Other,
    /// One of ours, damaged, too large, or under another name.
    Damaged,
    /// Not a value, but somebody's lease.
    Leased,
}

/// Writes an envelope for the value of the name that hashes to `name`.
pub(crate) fn seal(name: u64, header: &Header, compressor: &Compressor, payload: &[u8]) -> Option<Vec<u8>> {
    let raw = u32::try_from(payload.len()).ok()?;
    if header.tags.len() > MAX_TAGS {
        return None;
    }
    let (method, payload) = compressor.compress(payload);
    let mut out = Vec::with_capacity(48 + header.tags.len() * 8 + payload.len());
    out.extend_from_slice(&MAGIC);
    out.push(VERSION);
    out.extend_from_slice(&[0; 8]);
    out.push(method.code() | if header.nothing { NOTHING } else { 0 });
    for number in
        [header.as_of.major, header.as_of.minor, header.tail_millis, u64::from(raw), header.tags.len() as u64]
    {
        write_number(number, &mut out);
    }
    header.tags.iter().for_each(|tag| out.extend_from_slice(&tag.to_be_bytes()));
    if let Method::Dictionary(id) = method {
        out.extend_from_slice(&id.to_be_bytes());
    }
    out.extend_from_slice(&payload);
    let sum = xxh3_64_with_seed(&out[MARK..], name);
    out[4..MARK].copy_from_slice(&sum.to_be_bytes());
    Some(out)
}

/// Opens the envelope found under the name that hashes to `name`. `limit` bounds the payload after decompression.
pub(crate) fn open<'b>(
    name: u64,
    bytes: &'b [u8],
    compressor: &Compressor,
    limit: usize,
) -> Result<(Header, Cow<'b, [u8]>), Refusal> {
    let mut reader = Reader(bytes);
    if reader.take::<3>() != Some(MAGIC) {
        return Err(if bytes.starts_with(LEASE) { Refusal::Leased } else { Refusal::Foreign });
    }
    if reader.take() != Some([VERSION]) {
        return Err(Refusal::Other);
    }
    let sum = reader.take().map(u64::from_be_bytes).ok_or(Refusal::Damaged)?;
    if xxh3_64_with_seed(reader.0, name) != sum {
        return Err(Refusal::Damaged);
    }
    let (header, raw, method) = parse(&mut reader).ok_or(Refusal::Damaged)?;
    if raw > limit {
        return Err(Refusal::Damaged);
    }
    let payload = compressor.decompress(method, reader.0, raw)?;
    Ok((header, payload))
}

/// The dictionary that bytes need, if they need one.
#[cfg(feature = "zstd")]
pub(crate) fn dictionary_of(bytes: &[u8]) -> Option<u32> {
    let body = bytes.get(MARK..)?;
    // Most values need none, and their flags say so.
    if !Method::is_dictionary(body.first()? & !NOTHING) {
        return None;
    }
    match parse(&mut Reader(body))?.2 {
        Method::Dictionary(id) => Some(id),
        _ => None,
    }
}

fn parse(reader: &mut Reader<'_>) -> Option<(Header, usize, Method)> {
    let [flags] = reader.take()?;
    let as_of = Position { major: reader.number()?, minor: reader.number()? };
    let tail_millis = reader.number()?;
    let raw = usize::try_from(reader.number()?).ok()?;
    let tags = usize::try_from(reader.number()?).ok().filter(|&tags| tags <= MAX_TAGS)?;
    let mut found = Vec::new();
    // Room for the two that the reader adds; no more than there are bytes for is taken on trust.
    found.reserve_exact(tags.min(reader.0.len() / 8) + 2);
    for _ in 0..tags {
        found.push(reader.take().map(u64::from_be_bytes)?);
    }
    let method = Method::read(flags & !NOTHING, || reader.take().map(u32::from_be_bytes))?;
    Some((Header { nothing: flags & NOTHING != 0, as_of, tail_millis, tags: found }, raw, method))
}

fn write_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.take()?;
            let part = u64::from(byte & 0x7f);
            number |= part.checked_shl(shift).filter(|&shifted| shifted >> shift == part)?;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::compress::Compression;
    use super::*;
    use proptest::prelude::*;

    const NAME: u64 = 77;

    fn header() -> Header {
        Header {
            nothing: false,
            as_of: Position { major: 1_764_000_000_000, minor: 5 },
            tail_millis: 6,
            tags: vec![7, 8],
        }
    }

    fn plain() -> Compressor {
        Compressor::new(Compression::Off)
    }

    #[test]
    fn what_is_sealed_opens_unchanged_and_only_under_its_own_name() {
        let payload = b"payload ".repeat(1000);
        let round = |compression: Compression| {
            let compressor = Compressor::new(compression);
            let sealed = seal(NAME, &header(), &compressor, &payload).unwrap();
            let (opened, bytes) = open(NAME, &sealed, &compressor, 1 << 20).unwrap();
            assert_eq!((opened, &*bytes), (header(), &payload[..]));
            assert_eq!(open(NAME, &sealed, &compressor, 100), Err(Refusal::Damaged), "larger than allowed");
            assert_eq!(open(NAME + 1, &sealed, &compressor, 1 << 20), Err(Refusal::Damaged), "moved");
            sealed.len()
        };
        let plain = round(Compression::Off);
        assert!(plain > payload.len() && plain < payload.len() + 48, "{plain}");
        #[cfg(feature = "lz4")]
        assert!(round(Compression::Lz4 { above: 10 }) < plain / 5);
        #[cfg(feature = "zstd")]
        assert!(round(Compression::zstd()) < plain / 5);
    }

    #[test]
    fn leases_versions_and_strangers_are_told_apart() {
        let open = |bytes: &[u8]| open(NAME, bytes, &plain(), 100).map(drop);
        assert_eq!(open(&super::super::port::lease_mark(9)), Err(Refusal::Leased));
        assert_eq!(open(b"PKC\x01 what an older version wrote"), Err(Refusal::Other));
        assert_eq!(open(b"PKC\x02"), Err(Refusal::Damaged));
        assert_eq!(open(b"{}"), Err(Refusal::Foreign));
        assert_eq!(open(b""), Err(Refusal::Foreign));
    }

    #[test]
    fn s33_a_bomb_is_refused_before_it_is_unpacked() {
        #[cfg(feature = "lz4")]
        {
            let compressor = Compressor::new(Compression::Lz4 { above: 0 });
            let bomb = seal(NAME, &header(), &compressor, &vec![0; 64 << 20]).unwrap();
            assert!(bomb.len() < 1 << 20);
            assert_eq!(open(NAME, &bomb, &compressor, 1 << 20), Err(Refusal::Damaged));
        }
        #[cfg(feature = "zstd")]
        {
            let compressor = Compressor::new(Compression::zstd());
            let bomb = seal(NAME, &header(), &compressor, &vec![0; 64 << 20]).unwrap();
            assert!(bomb.len() < 1 << 20);
            assert_eq!(open(NAME, &bomb, &compressor, 1 << 20), Err(Refusal::Damaged));
        }
    }

    /// An envelope with these bytes behind the checksum, which is right.
    fn forged(body: &[u8]) -> Vec<u8> {
        let sum = xxh3_64_with_seed(body, NAME);
        [&MAGIC[..], &[VERSION], &sum.to_be_bytes(), body].concat()
    }

    proptest! {
        #[test]
        fn s33_any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(open(NAME, &bytes, &plain(), 1000).is_err());
            let ours = [&MAGIC[..], &[VERSION], &bytes].concat();
            prop_assert!(open(NAME, &ours, &plain(), 1000).is_err());
        }

        /// With a right checksum anything may be inside, also what decompressors choke on.
        #[test]
        fn s33_forged_envelopes_never_panic_nor_exceed_the_limit(
            flags in any::<u8>(), raw in 0..2000_u64, bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut body = vec![flags, 1, 1, 0];
            write_number(raw, &mut body);
            body.push(0);
            body.extend_from_slice(&bytes);
            for compressor in [plain(), Compressor::every()] {
                if let Ok((_, payload)) = open(NAME, &forged(&body), &compressor, 1000) {
                    prop_assert!(payload.len() as u64 == raw && raw <= 1000);
                }
                let _ = open(NAME, &forged(&bytes), &compressor, 1000);
            }
        }

        #[test]
        fn s33_a_single_changed_or_missing_byte_is_noticed(at in 0..100_usize, flip in 1..=255_u8) {
            let sealed = seal(NAME, &header(), &plain(), &[9; 40]).unwrap();
            let at = at % sealed.len();
            let mut changed = sealed.clone();
            changed[at] ^= flip;
            prop_assert!(open(NAME, &changed, &plain(), 1000).is_err());
            prop_assert!(open(NAME, &sealed[..at], &plain(), 1000).is_err());
        }

        #[test]
        fn numbers_read_back(number in any::<u64>()) {
            let mut out = Vec::new();
            write_number(number, &mut out);
            prop_assert_eq!(Reader(&out).number(), Some(number));
        }
    }
}
