//! The words that change how what follows them is read, found by one multiplication.

use super::words::key;

/// A word that changes how the next token is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyword {
    None,
    By,
    In,
    Values,
    Array,
    /// `NULL`, `TRUE`, `FALSE`: values, but not after `IS` or `NOT`.
    Value,
    IsOrNot,
    /// Ends a list after `BY`.
    EndsBy,
    /// An expression follows, so that a sign belongs to the value after it.
    Prefix,
}

const KEYWORDS: [(&[u8], Keyword); 29] = [
    (b"by", Keyword::By),
    (b"in", Keyword::In),
    (b"values", Keyword::Values),
    (b"array", Keyword::Array),
    (b"null", Keyword::Value),
    (b"true", Keyword::Value),
    (b"false", Keyword::Value),
    (b"is", Keyword::IsOrNot),
    (b"not", Keyword::IsOrNot),
    (b"limit", Keyword::EndsBy),
    (b"offset", Keyword::EndsBy),
    (b"having", Keyword::EndsBy),
    (b"union", Keyword::EndsBy),
    (b"select", Keyword::Prefix),
    (b"where", Keyword::Prefix),
    (b"and", Keyword::Prefix),
    (b"or", Keyword::Prefix),
    (b"then", Keyword::Prefix),
    (b"else", Keyword::Prefix),
    (b"when", Keyword::Prefix),
    (b"between", Keyword::Prefix),
    (b"return", Keyword::Prefix),
    (b"like", Keyword::Prefix),
    (b"case", Keyword::Prefix),
    (b"on", Keyword::Prefix),
    (b"set", Keyword::Prefix),
    (b"distinct", Keyword::Prefix),
    (b"all", Keyword::Prefix),
    (b"interval", Keyword::Prefix),
];

const SLOTS: usize = 256;

/// Every keyword in a slot of its own, found by one multiplication: a chain of comparisons took a third of the whole walk.
static SLOT_OF: ([(u64, Keyword); SLOTS], u64) = place_keywords();

const fn slot(word: u64, factor: u64) -> usize {
    (word.wrapping_mul(factor) >> 56) as usize
}

/// Tries factors until no two keywords share a slot.
const fn place_keywords() -> ([(u64, Keyword); SLOTS], u64) {
    let mut factor = 0x9e37_79b9_7f4a_7c15_u64;
    loop {
        let mut table = [(0, Keyword::None); SLOTS];
        let mut index = 0;
        while index < KEYWORDS.len() {
            let word = key(KEYWORDS[index].0);
            let place = slot(word, factor);
            if table[place].0 != 0 {
                break;
            }
            table[place] = (word, KEYWORDS[index].1);
            index += 1;
        }
        if index == KEYWORDS.len() {
            return (table, factor);
        }
        factor = factor.wrapping_mul(0xd129_8f3c_55a1_2b4d).wrapping_add(2) | 1;
    }
}

#[inline]
pub(super) fn keyword_of(word: u64) -> Keyword {
    let (known, keyword) = SLOT_OF.0[slot(word, SLOT_OF.1)];
    if known == word { keyword } else { Keyword::None }
}
