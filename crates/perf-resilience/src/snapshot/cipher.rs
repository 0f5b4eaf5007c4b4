//! Encryption of files piece by piece: each file has a key of its own, derived from the snapshot key and a random salt;
//! each piece is sealed with ChaCha20-Poly1305 under its number and whether it is the last, so pieces can be neither
//! changed, moved, dropped nor added.

use perf_core::Secret;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};
use std::io::{self, Read, Write};

const MAGIC: &[u8; 8] = b"perfseal";
const SALT: usize = 32;
/// Plain bytes in a piece.
const PIECE: usize = 64 * 1024;
const TAG: usize = 16;

/// The key that snapshots are encrypted with. Whoever loses it loses them.
#[derive(Clone, Debug)]
pub struct SnapshotKey {
    id: String,
    bytes: Secret<[u8; 32]>,
}

impl SnapshotKey {
    /// A key of 32 random bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        let digest = Sha256::new().chain_update(b"perf snapshot key").chain_update(bytes).finalize();
        let id = digest.iter().take(4).fold(String::new(), |id, byte| id + &format!("{byte:02x}"));
        Self { id, bytes: Secret::new(bytes) }
    }

    /// A key written as 64 hexadecimal digits, white space round it ignored; `None` for anything else.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let text = text.trim().as_bytes();
        let mut bytes = [0; 32];
        if text.len() != 64 {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(text.chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self::new(bytes))
    }

    /// What manifests call it; says nothing about it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    fn for_file(&self, salt: &[u8]) -> io::Result<LessSafeKey> {
        let extracted = Salt::new(HKDF_SHA256, salt).extract(self.bytes.expose());
        let expanded =
            extracted.expand(&[b"perf snapshot file"], &CHACHA20_POLY1305).map_err(|_| refused())?;
        Ok(LessSafeKey::new(UnboundKey::from(expanded)))
    }

    pub(super) fn sealer<W: Write>(&self, mut to: W) -> io::Result<Sealer<W>> {
        let mut salt = [0; SALT];
        SystemRandom::new().fill(&mut salt).map_err(|_| io::Error::other("no random numbers"))?;
        to.write_all(MAGIC)?;
        to.write_all(&salt)?;
        Ok(Sealer { to, key: self.for_file(&salt)?, piece: Vec::with_capacity(PIECE + TAG), number: 0 })
    }

    pub(super) fn opener<R: Read>(&self, mut from: R) -> io::Result<Opener<R>> {
        let (mut magic, mut salt) = ([0; MAGIC.len()], [0; SALT]);
        from.read_exact(&mut magic)?;
        from.read_exact(&mut salt)?;
        if magic != *MAGIC {
            return Err(io::Error::other("it is not an encrypted file"));
        }
        let key = self.for_file(&salt)?;
        Ok(Opener { from, key, plain: Vec::new(), read: 0, ahead: Vec::new(), number: 0, last: false })
    }
}

fn refused() -> io::Error {
    io::Error::other("the key does not fit, or it was changed")
}

/// The number of a piece and whether it is the last, which must never be used twice with one key.
fn nonce(number: u64, last: bool) -> Nonce {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes[11] = u8::from(last);
    Nonce::assume_unique_for_key(bytes)
}

/// Encrypts what is written to it.
pub(super) struct Sealer<W> {
    to: W,
    key: LessSafeKey,
    piece: Vec<u8>,
    number: u64,
}

impl<W: Write> Sealer<W> {
    fn seal(&mut self, last: bool) -> io::Result<()> {
        let nonce = nonce(self.number, last);
        self.number += 1;
        self.key.seal_in_place_append_tag(nonce, Aad::empty(), &mut self.piece).map_err(|_| refused())?;
        self.to.write_all(&self.piece)?;
        self.piece.clear();
        Ok(())
    }

    /// Writes the last piece, which may be empty.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.seal(true)?;
        Ok(self.to)
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.len() == PIECE {
            self.seal(false)?;
        }
        let taken = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Decrypts what is read through it.
pub(super) struct Opener<R> {
    from: R,
    key: LessSafeKey,
    plain: Vec<u8>,
    read: usize,
    /// The sealed piece after the present one: a piece is the last when nothing comes after it.
    ahead: Vec<u8>,
    number: u64,
    last: bool,
}

impl<R: Read> Opener<R> {
    fn fetch(&mut self) -> io::Result<Vec<u8>> {
        let mut sealed = Vec::new();
        self.from.by_ref().take((PIECE + TAG) as u64).read_to_end(&mut sealed)?;
        Ok(sealed)
    }

    fn open(&mut self) -> io::Result<()> {
        if self.number == 0 {
            self.ahead = self.fetch()?;
        }
        let next = self.fetch()?;
        let mut sealed = std::mem::replace(&mut self.ahead, next);
        self.last = self.ahead.is_empty();
        let nonce = nonce(self.number, self.last);
        self.number += 1;
        let length = self.key.open_in_place(nonce, Aad::empty(), &mut sealed).map_err(|_| refused())?.len();
        sealed.truncate(length);
        (self.plain, self.read) = (sealed, 0);
        Ok(())
    }
}

impl<R: Read> Read for Opener<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.read == self.plain.len() {
            if self.last {
                return Ok(0);
            }
            self.open()?;
        }
        let given = to.len().min(self.plain.len() - self.read);
        to[..given].copy_from_slice(&self.plain[self.read..self.read + given]);
        self.read += given;
        Ok(given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(key: &SnapshotKey, plain: &[u8]) -> Vec<u8> {
        let mut sealer = key.sealer(Vec::new()).unwrap();
        sealer.write_all(plain).unwrap();
        sealer.finish().unwrap()
    }

    fn opened(key: &SnapshotKey, sealed: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        key.opener(sealed)?.read_to_end(&mut plain)?;
        Ok(plain)
    }

    #[test]
    fn what_is_sealed_opens_with_its_key_only_at_every_length() {
        let (key, another) = (SnapshotKey::new([7; 32]), SnapshotKey::new([8; 32]));
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 3 * PIECE + 5] {
            let plain: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            let sealed = sealed(&key, &plain);
            assert_eq!(opened(&key, &sealed).unwrap(), plain, "{length}");
            assert!(opened(&another, &sealed).is_err(), "{length}");
        }
    }

    #[test]
    fn every_change_is_found() {
        let key = SnapshotKey::new([7; 32]);
        let whole = sealed(&key, &vec![1; 3 * PIECE]);
        let head = MAGIC.len() + SALT;
        let piece = PIECE + TAG;
        for at in [0, MAGIC.len(), head, head + piece + 5, whole.len() - 1] {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(opened(&key, &changed).is_err(), "a flipped bit at {at}");
        }
        for length in [0, head, head + 1, head + piece, head + 2 * piece, whole.len() - 1] {
            assert!(opened(&key, &whole[..length]).is_err(), "cut to {length}");
        }
        let mut swapped = whole.clone();
        swapped[head..head + piece].swap_with_slice(&mut whole.clone()[head + piece..head + 2 * piece]);
        assert!(opened(&key, &swapped).is_err(), "pieces in another order");
        assert!(opened(&key, &[&whole[..], &whole[head..]].concat()).is_err(), "pieces added");
    }

    #[test]
    fn a_key_is_read_from_hexadecimal_and_never_shown() {
        let key = SnapshotKey::from_hex(&format!(" {}\n", "07".repeat(32))).unwrap();
        assert_eq!(key.id(), SnapshotKey::new([7; 32]).id());
        assert!(!format!("{key:?}").contains("7, 7"), "{key:?}");
        for wrong in ["", "07", &"zz".repeat(32), &"07".repeat(33)] {
            assert!(SnapshotKey::from_hex(wrong).is_none(), "{wrong}");
        }
    }
}
