//! What a byte can be part of: looked up in a table, and for 64 bytes at once whether they are part of words.

pub(super) const SPACE: u8 = 1;
pub(super) const WORD: u8 = 2;
pub(super) const DIGIT: u8 = 4;
pub(super) const OPERATOR: u8 = 8;
/// What can begin a word: neither a digit nor `$`.
pub(super) const LETTER: u8 = 16;
/// White space, and what can begin a comment.
pub(super) const BLANK: u8 = 32;
/// What is an operator of its own in every dialect when no other part of an operator follows, and no sign of a number.
pub(super) const ALONE: u8 = 64;

/// The classes of each byte. Bytes of characters beyond ASCII count as letters, as all three servers take them.
static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        table[byte] = match b {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => SPACE | BLANK,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80..=0xff => WORD | LETTER,
            b'0'..=b'9' => WORD | DIGIT,
            b'$' => WORD,
            b'/' | b'*' => OPERATOR | ALONE | BLANK,
            b'-' | b'#' => OPERATOR | BLANK,
            b'<' | b'>' | b'=' | b'~' | b'!' | b'%' | b'^' | b'&' | b'|' => OPERATOR | ALONE,
            b'+' | b'@' | b'?' => OPERATOR,
            _ => 0,
        };
        byte += 1;
    }
    table
}

#[inline]
pub(super) fn class_of(byte: u8) -> u8 {
    CLASS[byte as usize]
}

#[inline]
pub(super) fn is(byte: u8, class: u8) -> bool {
    class_of(byte) & class != 0
}

/// How many bytes [`words_of`] classes at once.
pub(super) const WINDOW: usize = 64;

/// Which of 64 bytes belong to words, the first in the lowest bit. The first loop has no branch and no table, so that it
/// becomes a few vector instructions for sixteen bytes on every processor that has such.
#[inline]
pub(super) fn words_of(block: &[u8; WINDOW]) -> u64 {
    // Only the top bit of each flag counts.
    let mut flags = [0_u8; WINDOW];
    for (flag, &byte) in flags.iter_mut().zip(block) {
        let letter = (byte | 0x20).wrapping_sub(b'a') < 26;
        let digit = byte.wrapping_sub(b'0') < 10;
        let sign = (byte == b'_') | (byte == b'$');
        *flag = if letter | digit | sign { 0xff } else { byte };
    }
    let (eights, _) = flags.as_chunks::<8>();
    eights.iter().rev().fold(0, |words, eight| (words << 8) | top_bits(u64::from_le_bytes(*eight)))
}

/// The top bits of eight bytes, the first in the lowest bit: each is moved to its place in the top byte by one of eight
/// shifted additions, none of which meets another.
#[inline]
const fn top_bits(eight: u64) -> u64 {
    (eight & 0x8080_8080_8080_8080).wrapping_mul(0x0002_0408_1020_4081) >> 56
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_classed_together_as_one_by_one() {
        for byte in 0..=255_u8 {
            for filler in [b'a', b'Z', b'0', b'_', b'$', b' ', b'@', 0xff] {
                for place in 0..WINDOW {
                    let mut block = [filler; WINDOW];
                    block[place] = byte;
                    let expected =
                        (0..WINDOW).filter(|at| is(block[*at], WORD)).fold(0, |words, at| words | 1 << at);
                    assert_eq!(words_of(&block), expected, "{byte} at {place} among {filler}");
                }
            }
        }
    }
}
