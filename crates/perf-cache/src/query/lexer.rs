//! SQL as tokens: enough to tell names from strings and comments in three dialects, and no more.

use super::Dialect;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A keyword or a name without quotes.
    Word,
    /// A name in quotes.
    Quoted,
    /// A string, with its quotes and whatever stands before them.
    Text,
    /// A number, a placeholder, an operator or punctuation.
    Other,
}

/// A token and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'s> {
    pub(super) kind: Kind,
    pub(super) text: &'s str,
}

impl Token<'_> {
    /// Whether it is this keyword, given in capitals.
    pub(super) fn is(&self, keyword: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(keyword)
    }

    pub(super) fn is_symbol(&self, symbol: &str) -> bool {
        self.kind == Kind::Other && self.text == symbol
    }
}

/// The tokens of a statement, comments and spaces left out.
pub(super) struct Lexer<'s> {
    rest: &'s str,
    dialect: Dialect,
}

/// Runs of these are one operator: `a <- b` is not `a < -b`.
const OPERATORS: &[char] = &['+', '-', '*', '/', '<', '>', '=', '~', '!', '%', '^', '&', '|'];

impl<'s> Lexer<'s> {
    pub(super) const fn new(sql: &'s str, dialect: Dialect) -> Self {
        Self { rest: sql, dialect }
    }

    /// Takes the first bytes off; `length` falls on a boundary, or else everything is taken.
    fn take(&mut self, length: usize) -> &'s str {
        let (taken, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    /// Skips spaces and comments. What starts like a comment and is a hint or code to MySQL stays.
    fn skip_blank(&mut self) {
        loop {
            let before = self.rest.len();
            self.rest = self.rest.trim_start();
            if self.starts_line_comment() {
                let end = self.rest.find('\n').unwrap_or(self.rest.len());
                self.take(end);
            } else if self.rest.starts_with("/*")
                && !self.rest.starts_with("/*!")
                && !self.rest.starts_with("/*+")
            {
                let end = self.block_comment();
                self.take(end);
            }
            if self.rest.len() == before {
                return;
            }
        }
    }

    fn starts_line_comment(&self) -> bool {
        match self.rest.strip_prefix("--") {
            // To MySQL `5--3` is a subtraction.
            Some(after) if self.dialect == Dialect::MySql => {
                after.chars().next().is_none_or(char::is_whitespace)
            }
            Some(_) => true,
            None => self.dialect == Dialect::MySql && self.rest.starts_with('#'),
        }
    }

    /// The length of a block comment; in PostgreSQL they nest.
    fn block_comment(&self) -> usize {
        let (bytes, mut depth, mut at) = (self.rest.as_bytes(), 0_usize, 0);
        while at < bytes.len() {
            if bytes[at..].starts_with(b"/*") && (depth == 0 || self.dialect == Dialect::Postgres) {
                depth += 1;
                at += 2;
            } else if bytes[at..].starts_with(b"*/") {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            } else {
                at += 1;
            }
        }
        bytes.len()
    }

    /// The length of what is quoted from `open` bytes on, to the closing quote, doubled ones inside.
    fn quoted(&self, open: usize, quote: u8, backslashes: bool) -> usize {
        let bytes = self.rest.as_bytes();
        let mut at = open;
        while at < bytes.len() {
            let escaped = bytes[at] == b'\\' && backslashes;
            if escaped || (bytes[at] == quote && bytes.get(at + 1) == Some(&quote)) {
                at += 2;
            } else if bytes[at] == quote {
                return at + 1;
            } else {
                at += 1;
            }
        }
        bytes.len()
    }

    /// The length of a string in dollar quotes, `$$…$$` or `$tag$…$tag$`, if one begins here.
    fn dollar_quoted(&self) -> Option<usize> {
        let tag_end = self.rest.get(1..)?.find('$')? + 2;
        let tag = self.rest.get(..tag_end)?;
        let name = &tag[1..tag_end - 1];
        let is_name = name.chars().all(|c| c.is_alphanumeric() || c == '_');
        if !is_name || name.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        let close = self.rest[tag_end..].find(tag).map(|at| tag_end + at + tag_end);
        Some(close.unwrap_or(self.rest.len()))
    }

    /// The length of a word that is the prefix of a string, such as `E` or `U&`, quote included.
    fn text_prefix(&self) -> Option<usize> {
        let end = self.rest.find('\'').filter(|end| (1..=2).contains(end))?;
        let prefix = self.rest.get(..end)?.to_ascii_uppercase();
        matches!(prefix.as_str(), "E" | "B" | "X" | "N" | "U&").then_some(end + 1)
    }

    fn text(&mut self, open: usize, backslashes: bool) -> Token<'s> {
        let end = self.quoted(open, b'\'', backslashes);
        Token { kind: Kind::Text, text: self.take(end) }
    }
}

impl<'s> Iterator for Lexer<'s> {
    type Item = Token<'s>;

    fn next(&mut self) -> Option<Token<'s>> {
        self.skip_blank();
        let first = self.rest.chars().next()?;
        let mysql = self.dialect == Dialect::MySql;
        if let Some(open) = self.text_prefix() {
            let escapes = mysql || first.eq_ignore_ascii_case(&'E');
            return Some(self.text(open, escapes));
        }
        let (kind, length) = match first {
            '\'' => return Some(self.text(1, mysql)),
            // MySQL takes it for a string unless told otherwise; either way nothing in it is a keyword.
            '"' => (if mysql { Kind::Text } else { Kind::Quoted }, self.quoted(1, b'"', mysql)),
            '`' => (Kind::Quoted, self.quoted(1, b'`', false)),
            '$' if self.dialect == Dialect::Postgres && self.dollar_quoted().is_some() => {
                (Kind::Text, self.dollar_quoted().unwrap_or(1))
            }
            '/' if self.rest.starts_with("/*") => (Kind::Other, self.block_comment()),
            c if c.is_alphabetic() || c == '_' => (Kind::Word, length_while(self.rest, is_word)),
            c if c.is_ascii_digit() || c == '$' => {
                (Kind::Other, length_while(self.rest, |c| is_word(c) || c == '.'))
            }
            c if self.is_operator(c) => (Kind::Other, self.operator()),
            c => (Kind::Other, c.len_utf8()),
        };
        Some(Token { kind, text: self.take(length) })
    }
}

impl Lexer<'_> {
    /// In PostgreSQL these are operators too; elsewhere they begin placeholders and variables.
    fn is_operator(&self, c: char) -> bool {
        OPERATORS.contains(&c) || (self.dialect == Dialect::Postgres && matches!(c, '@' | '#' | '?' | ':'))
    }

    /// The length of a run of operator characters, which a comment ends.
    fn operator(&self) -> usize {
        let run = length_while(self.rest, |c| self.is_operator(c));
        let comment = ["--", "/*"].into_iter().filter_map(|start| self.rest[..run].find(start));
        comment.filter(|at| *at > 0).min().unwrap_or(run)
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

fn length_while(text: &str, is: impl Fn(char) -> bool) -> usize {
    text.find(|c| !is(c)).unwrap_or(text.len()).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(sql: &str, dialect: Dialect) -> Vec<&str> {
        Lexer::new(sql, dialect).map(|token| token.text).collect()
    }

    #[test]
    fn strings_names_and_comments_are_told_apart_in_each_dialect() {
        use Dialect::{MySql, Postgres, Sqlite};
        assert_eq!(words("a/* b /* c */ d */e--f\n;", Postgres), ["a", "e", ";"]);
        assert_eq!(words("a/* b /* c */ d", Sqlite), ["a", "d"]);
        assert_eq!(words(r"'a\' b", Postgres), [r"'a\'", "b"]);
        assert_eq!(words(r"'a\' b' c", MySql), [r"'a\' b'", "c"]);
        assert_eq!(words(r"E'a\' b' c", Postgres), [r"E'a\' b'", "c"]);
        assert_eq!(words("'it''s' x", Sqlite), ["'it''s'", "x"]);
        assert_eq!(words("$x$ from t $x$ y $1", Postgres), ["$x$ from t $x$", "y", "$1"]);
        assert_eq!(words("5--3 # c\nx -- y", MySql), ["5", "--", "3", "x"]);
        assert_eq!(words("a #> b", Postgres), ["a", "#>", "b"]);
        assert_eq!(words("a <- b < -c*/* d */2", Postgres), ["a", "<-", "b", "<", "-", "c", "*", "2"]);
        assert_eq!(words("/*+ hint */ x", MySql), ["/*+ hint */", "x"]);
        assert_eq!(words("\"a \"\"from\"\" b\".c", Postgres), ["\"a \"\"from\"\" b\"", ".", "c"]);
    }

    #[test]
    fn what_is_never_closed_ends_with_the_statement() {
        for sql in ["'a", "\"a", "`a", "/* a", "$$ a", "$a$ b $", "E'a\\", "é'", "--", "'\\"] {
            for dialect in [Dialect::Postgres, Dialect::MySql, Dialect::Sqlite] {
                let _ = words(sql, dialect).len();
            }
        }
    }

    proptest! {
        /// Nothing panics, every token is part of the statement, in order, and nothing but blanks and comments is lost.
        #[test]
        fn any_text_is_taken_apart(sql in r#"[a-z' "`$\\/*#?é\n:<>.,;()-]{0,60}"#, at in 0..3_usize) {
            let dialect = [Dialect::Postgres, Dialect::MySql, Dialect::Sqlite][at];
            let mut rest = sql.as_str();
            for token in words(&sql, dialect) {
                prop_assert!(!token.is_empty());
                let found = rest.find(token);
                prop_assert!(found.is_some());
                rest = &rest[found.unwrap_or_default() + token.len()..];
            }
        }
    }
}
