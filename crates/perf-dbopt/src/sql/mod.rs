//! Statements as bytes: tokens, fingerprints, normal forms, and where one statement ends.

mod canon;
mod class;
mod fingerprint;
mod keyword;
mod lexer;
mod normalize;
mod split;
mod token;
mod words;

pub use fingerprint::{FINGERPRINT_VERSION, Fingerprint, fingerprint};
pub use lexer::Lexer;
pub use normalize::normalize;
pub use split::statements;
pub use token::{Token, TokenKind};
pub(crate) use words::{is_reserved, writes};

/// Whose SQL a statement is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Dialect {
    /// PostgreSQL: `$1`, `$tag$ … $tag$`, `E'…'`, `::`, nested comments; `?` is an operator.
    Postgres,
    /// MySQL and MariaDB: backticks, `"…"` is a string, `#` comments, `/*! … */` is code.
    MySql,
    /// SQLite: `?`, `?1`, `:name`, `@name`, `$name`; `[name]` and backticks quote names.
    Sqlite,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Self; 3] = [Self::Postgres, Self::MySql, Self::Sqlite];

    /// Its name in lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::MySql => "mysql",
            Self::Sqlite => "sqlite",
        }
    }

    /// Quotes a name so that the server reads exactly this name, whatever it contains.
    ///
    /// ```
    /// use perf_dbopt::Dialect;
    ///
    /// assert_eq!(Dialect::Sqlite.quote(r#"a"b"#), r#""a""b""#);
    /// assert_eq!(Dialect::MySql.quote("a`b"), "`a``b`");
    /// ```
    #[must_use]
    pub fn quote(self, name: &str) -> String {
        let mark = if self == Self::MySql { '`' } else { '"' };
        let mut quoted = String::with_capacity(name.len() + 2);
        quoted.push(mark);
        for c in name.chars() {
            if c == mark {
                quoted.push(mark);
            }
            quoted.push(c);
        }
        quoted.push(mark);
        quoted
    }

    /// Writes a text as a string literal of this dialect.
    #[must_use]
    pub fn literal(self, text: &str) -> String {
        let doubled = text.replace('\'', "''");
        match self {
            Self::Postgres if text.contains('\\') => format!("E'{}'", doubled.replace('\\', "\\\\")),
            Self::MySql => format!("'{}'", doubled.replace('\\', "\\\\")),
            _ => format!("'{doubled}'"),
        }
    }
}
