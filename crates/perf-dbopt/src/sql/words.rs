//! Words in lower case, eight bytes at a time.

/// The first eight bytes of a word, ASCII letters in lower case, as one number. Digits, `_` and `$` stay distinct from
/// every letter; bytes beyond ASCII are left alone.
#[inline]
pub(super) fn load(bytes: &[u8], at: usize, len: usize) -> u64 {
    let raw = if let Some(chunk) = bytes.get(at..at + 8) {
        let mut eight = [0; 8];
        eight.copy_from_slice(chunk);
        u64::from_le_bytes(eight)
    } else {
        let mut eight = [0; 8];
        for (to, from) in eight.iter_mut().zip(bytes.get(at..).unwrap_or_default()) {
            *to = *from;
        }
        u64::from_le_bytes(eight)
    };
    if len >= 8 { raw } else { raw & ((1 << (8 * len)) - 1) }
}

const ASCII: u64 = 0x8080_8080_8080_8080;

/// Sets the lower-case bit of every ASCII byte. Only words are folded, in which no other byte shares that bit with a
/// letter: digits and `$` have it already, and `_` turns into a byte no word contains.
#[inline]
pub(super) const fn fold(raw: u64) -> u64 {
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

/// `fold` limited to the bytes of a word of this length.
#[inline]
pub(super) fn fold_len(raw: u64, len: usize) -> u64 {
    let folded = fold(raw);
    if len >= 8 { folded } else { folded & ((1 << (8 * len)) - 1) }
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
        let word = |text: &str| fold_len(load(text.as_bytes(), 0, text.len()), text.len());
        assert_eq!(word("SeLeCt"), word("select"));
        assert_eq!(word("select"), key(b"select"));
        assert_ne!(word("a_b"), word("a1b"));
        assert_ne!(word("é"), word("É"));
    }
}
