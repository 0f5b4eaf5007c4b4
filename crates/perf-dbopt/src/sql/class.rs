//! What a byte can be part of, looked up in a table, and eight at a time within words.

pub(super) const SPACE: u8 = 1;
pub(super) const WORD: u8 = 2;
pub(super) const DIGIT: u8 = 4;
pub(super) const OPERATOR: u8 = 8;
/// What can begin a word: neither a digit nor `$`.
pub(super) const LETTER: u8 = 16;
/// White space, and what can begin a comment.
pub(super) const BLANK: u8 = 32;
/// Brackets and commas.
pub(super) const PUNCTUATION: u8 = 64;

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
            b'(' | b')' | b',' => PUNCTUATION,
            b'-' | b'#' | b'/' | b'*' => OPERATOR | BLANK,
            b'+' | b'<' | b'>' | b'=' | b'~' | b'!' | b'@' | b'%' | b'^' | b'&' | b'|' | b'?' => OPERATOR,
            _ => 0,
        };
        byte += 1;
    }
    table
}

#[inline]
pub(super) fn is(byte: u8, class: u8) -> bool {
    CLASS[byte as usize] & class != 0
}

/// How many of eight bytes, from the first, belong to a word: all eight classes at once, each in the top bit of its byte.
/// No sum here carries into the next byte, because every part is below 128.
#[inline]
pub(super) const fn word_len(eight: u64) -> usize {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const TOP: u64 = 0x80 * EACH;
    let ascii = eight & !TOP;
    let lower = ascii | (0x20 * EACH);
    let letter = (lower + (0x80 - b'a' as u64) * EACH) & !(lower + (0x7f - b'z' as u64) * EACH);
    let digit = (ascii + (0x80 - b'0' as u64) * EACH) & !(ascii + (0x7f - b'9' as u64) * EACH);
    let underscore = !((ascii ^ (b'_' as u64 * EACH)) + 0x7f * EACH);
    let dollar = !((ascii ^ (b'$' as u64 * EACH)) + 0x7f * EACH);
    let other = !(letter | digit | underscore | dollar | eight) & TOP;
    (other.trailing_zeros() / 8) as usize
}
