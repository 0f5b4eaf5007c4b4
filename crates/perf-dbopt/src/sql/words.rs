//! Words in lower case, eight bytes at a time.

/// The first eight bytes of a word, ASCII letters in lower case, as one number. Digits, `_` and `$` stay distinct from
/// every letter; bytes beyond ASCII are left alone.
#[inline]
pub(super) fn head(bytes: &[u8], at: usize, len: usize) -> u64 {
    fold(raw(bytes, at)) & MASKS[len.min(8)]
}

/// The lowest bytes of a number, by how many.
static MASKS: [u64; 9] = [
    0,
    0xff,
    0xffff,
    0xff_ffff,
    0xffff_ffff,
    0xff_ffff_ffff,
    0xffff_ffff_ffff,
    0xff_ffff_ffff_ffff,
    u64::MAX,
];

/// Up to eight bytes as they are, as one number; after the end there are zeros.
#[inline]
pub(super) fn load(bytes: &[u8], at: usize, len: usize) -> u64 {
    raw(bytes, at) & MASKS[len.min(8)]
}

#[inline]
fn raw(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..).and_then(<[u8]>::first_chunk) {
        Some(eight) => u64::from_le_bytes(*eight),
        None => last(bytes, at),
    }
}

/// What is left of a text, when that is less than eight bytes.
#[inline(never)]
fn last(bytes: &[u8], at: usize) -> u64 {
    let left = bytes.get(at..).unwrap_or_default();
    match bytes.last_chunk() {
        Some(eight) => u64::from_le_bytes(*eight).checked_shr(8 * (8 - left.len() as u32)).unwrap_or(0),
        None => left.iter().rev().fold(0, |number, byte| (number << 8) | u64::from(*byte)),
    }
}

const ASCII: u64 = 0x8080_8080_8080_8080;

/// Sets the lower-case bit of every ASCII byte. Only words are folded, in which no other byte shares that bit with a
/// letter: digits and `$` have it already, and `_` turns into a byte no word contains.
#[inline]
const fn fold(raw: u64) -> u64 {
    raw | ((!raw & ASCII) >> 2)
}

/// The folded form of a keyword of at most eight letters, as [`load`] and [`fold`] yield it for that length.
pub(super) const fn key(word: &[u8]) -> u64 {
    let mut value = 0_u64;
    let mut index = 0;
    while index < word.len() {
        value |= (word[index] as u64) << (8 * index);
        index += 1;
    }
    value
}

/// Words that cannot name a table or column without quotes in at least one of the dialects. Sorted.
const RESERVED: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "between",
    "binary",
    "both",
    "by",
    "case",
    "cast",
    "check",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "delete",
    "desc",
    "distinct",
    "div",
    "do",
    "drop",
    "else",
    "end",
    "escape",
    "except",
    "exists",
    "explain",
    "false",
    "fetch",
    "for",
    "force",
    "foreign",
    "freeze",
    "from",
    "full",
    "fulltext",
    "glob",
    "grant",
    "group",
    "groups",
    "having",
    "if",
    "ignore",
    "ilike",
    "in",
    "index",
    "initially",
    "inner",
    "insert",
    "intersect",
    "interval",
    "into",
    "is",
    "isnull",
    "join",
    "key",
    "keys",
    "lateral",
    "leading",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "lock",
    "match",
    "mod",
    "natural",
    "not",
    "notnull",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "outer",
    "over",
    "overlaps",
    "partition",
    "placing",
    "primary",
    "range",
    "rank",
    "recursive",
    "references",
    "regexp",
    "rename",
    "replace",
    "returning",
    "right",
    "row",
    "rows",
    "select",
    "session_user",
    "set",
    "show",
    "similar",
    "some",
    "symmetric",
    "system",
    "table",
    "tablesample",
    "then",
    "to",
    "trailing",
    "transaction",
    "trigger",
    "true",
    "union",
    "unique",
    "update",
    "usage",
    "use",
    "user",
    "using",
    "values",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
    "xor",
];

/// Whether a word in lower case needs quotes to be a name.
pub(crate) fn is_reserved(word: &str) -> bool {
    RESERVED.binary_search(&word).is_ok()
}

/// Whether a statement in normal form changes rows, as its words tell.
pub(crate) fn writes(text: &str) -> bool {
    let verbs = ["insert", "update", "delete", "replace", "merge"];
    let first = text.split([' ', '(']).next().unwrap_or_default();
    verbs.contains(&first)
        || (first == "with"
            && text.split(['(', ')', ' ']).zip(text.split(['(', ')', ' ']).skip(1)).any(|(verb, next)| {
                verbs[..3].contains(&verb) && (["into", "from"].contains(&next) || verb == "update")
            }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted() {
        assert!(RESERVED.is_sorted());
    }

    #[test]
    fn folding_keeps_different_words_different() {
        let word = |text: &str| head(text.as_bytes(), 0, text.len());
        assert_eq!(word("SeLeCt"), word("select"));
        assert_eq!(word("select"), key(b"select"));
        assert_ne!(word("a_b"), word("a1b"));
        assert_ne!(word("é"), word("É"));
    }

    #[test]
    fn bytes_are_loaded_alike_wherever_the_text_ends() {
        let text = b"abcdefghijklmnop";
        for end in 0..=text.len() {
            for at in 0..=end {
                for len in 0..=end - at {
                    let expected = text[at..at + len]
                        .iter()
                        .take(8)
                        .rev()
                        .fold(0, |all, byte| (all << 8) | u64::from(*byte));
                    assert_eq!(load(&text[..end], at, len), expected, "{at} {len} of {end}");
                }
            }
        }
    }
}
