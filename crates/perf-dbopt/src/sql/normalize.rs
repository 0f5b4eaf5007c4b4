use super::Dialect;
use super::canon::{Emit, walk};
use std::fmt::Write;
use std::ops::Range;

/// The normal form of a statement: words in lower case, one space between tokens, no comments, and every value a
/// placeholder (`$1, $2, …` for PostgreSQL, `?` otherwise). Lists of values are one value long, VALUES has one row.
///
/// Two statements have the same normal form exactly when they have the same [`fingerprint`](crate::fingerprint()). The normal form contains
/// no value, so it may be logged and shown. It is a statement its server can prepare.
///
/// ```
/// use perf_dbopt::{Dialect, normalize};
///
/// assert_eq!(
///     normalize("SELECT count(*) FROM t WHERE a=-1 AND b IN ('x','y')", Dialect::Postgres),
///     "select count(*) from t where a = $1 and b in ($2)"
/// );
/// ```
#[must_use]
pub fn normalize(sql: &str, dialect: Dialect) -> String {
    let form = Form { text: String::with_capacity(sql.len()), last: Last::Start, values: 0, dialect };
    walk(sql, dialect, form).text
}

impl<'a> Emit<'a> for Form {
    fn word(&mut self, sql: &'a [u8], word: Range<usize>, _: u64) {
        self.lower(&lossless(&sql[word]));
    }

    fn exact(&mut self, bytes: &'a [u8]) {
        self.as_it_is(&lossless(bytes));
    }

    fn value(&mut self) {
        self.placeholder();
    }
}

/// Pieces end between characters, so this borrows.
fn lossless(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Start,
    /// A name: an opening bracket after it opens its arguments.
    Name,
    Keyword,
    /// Nothing stands between this and what follows: `(`, `.`, `::`.
    Tight,
    Other,
}

struct Form {
    text: String,
    last: Last,
    values: usize,
    dialect: Dialect,
}

impl Form {
    fn space(&mut self) {
        if !matches!(self.last, Last::Start | Last::Tight) {
            self.text.push(' ');
        }
    }

    fn lower(&mut self, word: &str) {
        self.space();
        let start = self.text.len();
        self.text.push_str(word);
        self.text[start..].make_ascii_lowercase();
        self.last = if super::is_reserved(&self.text[start..]) { Last::Keyword } else { Last::Name };
    }

    fn placeholder(&mut self) {
        self.space();
        self.values += 1;
        match self.dialect {
            Dialect::Postgres => {
                // Writing to a text cannot fail.
                let _ = write!(self.text, "${}", self.values);
            }
            Dialect::MySql | Dialect::Sqlite => self.text.push('?'),
        }
        self.last = Last::Other;
    }

    fn as_it_is(&mut self, text: &str) {
        let next = match text {
            "(" | "[" => {
                if self.last != Last::Name {
                    self.space();
                }
                Last::Tight
            }
            "." | "::" => {
                // A number before a dot would swallow it.
                if self.last == Last::Other && self.text.ends_with(|c: char| c.is_ascii_digit()) {
                    self.space();
                }
                Last::Tight
            }
            ")" | "]" | "," | ";" => Last::Other,
            quoted if quoted.starts_with(['"', '`', '[']) => {
                self.space();
                Last::Name
            }
            _ => {
                self.space();
                Last::Other
            }
        };
        self.text.push_str(text);
        self.last = next;
    }
}
