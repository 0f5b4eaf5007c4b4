//! Identifiers and tokens: random numbers for the first, the system's randomness for the second.

use perf_core::Rng;
use std::cell::RefCell;
use std::fmt::Write;

/// A UUID of version 7 (RFC 9562): sortable by the millisecond it was made in, random otherwise. Not for secrets.
pub(crate) fn uuid_v7(unix_millis: u64) -> String {
    thread_local! {
        static RNG: RefCell<Rng> = RefCell::new(Rng::from_entropy());
    }
    let (a, b) = RNG.with_borrow_mut(|rng| (rng.next_u64(), rng.next_u64()));
    let time = unix_millis & 0xFFFF_FFFF_FFFF;
    let high = time << 16 | 0x7000 | (a & 0x0FFF);
    let low = 0x8000_0000_0000_0000 | (b & 0x3FFF_FFFF_FFFF_FFFF);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xFFFF,
        high & 0xFFFF,
        low >> 48,
        low & 0xFFFF_FFFF_FFFF
    )
}

/// 256 bits of the system's randomness as 64 hexadecimal digits: nobody guesses it.
///
/// # Errors
/// That of the system, when it has no randomness to give.
pub(crate) fn token() -> Result<String, getrandom::Error> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes)?;
    let mut text = String::with_capacity(64);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_have_their_version_variant_and_time() {
        let id = uuid_v7(0x0123_4567_89AB);
        assert_eq!(id.len(), 36);
        assert!(id.starts_with("01234567-89ab-7"), "{id}");
        assert!(matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{id}");
        assert_ne!(uuid_v7(1), uuid_v7(1));
    }

    #[test]
    fn tokens_differ() {
        let (a, b) = (token().unwrap(), token().unwrap());
        assert_eq!(a.len(), 64);
        assert_ne!(a, b);
    }
}
