//! The one walk behind fingerprints and normal forms, so that equal normal forms and equal fingerprints are one thing.
//!
//! What it evens out: case of words, white space, comments, values and their signs, the length of lists of values, the
//! number of rows after VALUES, and quotes that change nothing. What it keeps: the order of everything, names, numbers
//! after ORDER BY and GROUP BY (they name columns), and `IS NULL`.

use super::words::{fold_len, is_reserved, key, load};
use super::{Dialect, Lexer, Token, TokenKind};

/// One piece of a statement's normal form.
#[derive(Clone, Copy, Debug)]
pub(super) enum Piece<'a> {
    /// A word: equal in any case of its letters.
    Word(&'a [u8]),
    /// Bytes as they are: operators, punctuation, quoted names, column numbers.
    Exact(&'a [u8]),
    /// Any value: a literal or a placeholder.
    Value,
}

const NEVER: u32 = u32::MAX;

const BY: u64 = key(b"by");
const IN: u64 = key(b"in");
const VALUES: u64 = key(b"values");
const ARRAY: u64 = key(b"array");
const NULL: u64 = key(b"null");
const TRUE: u64 = key(b"true");
const FALSE: u64 = key(b"false");
const IS: u64 = key(b"is");
const NOT: u64 = key(b"not");
const LIMIT: u64 = key(b"limit");
const OFFSET: u64 = key(b"offset");
const HAVING: u64 = key(b"having");
const UNION: u64 = key(b"union");
const SELECT: u64 = key(b"select");
const WHERE: u64 = key(b"where");
const AND: u64 = key(b"and");
const OR: u64 = key(b"or");
const THEN: u64 = key(b"then");
const ELSE: u64 = key(b"else");
const WHEN: u64 = key(b"when");
const BETWEEN: u64 = key(b"between");
const RETURN: u64 = key(b"return");
const LIKE: u64 = key(b"like");
const CASE: u64 = key(b"case");
const ON: u64 = key(b"on");
const SET: u64 = key(b"set");
const DISTINCT: u64 = key(b"distinct");
const ALL: u64 = key(b"all");
const INTERVAL: u64 = key(b"interval");

/// A pattern for one `match`, which compiles to a binary search.
macro_rules! prefix_keywords {
    () => {
        SELECT
            | WHERE
            | AND
            | OR
            | THEN
            | ELSE
            | WHEN
            | BETWEEN
            | RETURN
            | LIKE
            | CASE
            | ON
            | SET
            | DISTINCT
            | ALL
            | INTERVAL
    };
}

/// What came before, as far as the next token's reading depends on it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Something a binary operator can follow.
    Operand,
    /// A value: it too can be followed by a binary operator.
    Value,
    /// A keyword, operator, comma or bracket: a sign here belongs to the value after it.
    Other,
    /// `BY`, or a comma in its list.
    By,
    /// `IS` or `NOT`: a NULL here is no value.
    Is,
    /// `IN`, `VALUES` or `ARRAY`: an opening bracket here opens a list.
    List(Opener),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Opener {
    Brackets,
    Rows,
    Array,
}

/// Visits the pieces of the normal form in order.
#[inline]
pub(super) fn walk<'a>(sql: &'a str, dialect: Dialect, emit: impl FnMut(Piece<'a>)) {
    let mut walk = Walk {
        bytes: sql.as_bytes(),
        before: Before::Other,
        depth: 0,
        list: NEVER,
        rows: NEVER,
        by: NEVER,
        semicolon: None,
        emit,
    };
    let mut lexer = Lexer::new(sql, dialect);
    while let Some(token) = lexer.next() {
        walk.token(token, &mut lexer);
    }
}

struct Walk<'a, F> {
    bytes: &'a [u8],
    before: Before,
    depth: u32,
    /// Depth inside the list of values being read, or [`NEVER`].
    list: u32,
    /// Depth at which the rows of VALUES or of an IN list of rows stand, or [`NEVER`].
    rows: u32,
    /// Depth of the present BY list, or [`NEVER`].
    by: u32,
    /// A semicolon is part of the form only when something follows it.
    semicolon: Option<Token>,
    emit: F,
}

impl<'a, F: FnMut(Piece<'a>)> Walk<'a, F> {
    #[inline]
    fn token(&mut self, token: Token, lexer: &mut Lexer<'a>) {
        if let Some(semicolon) = self.semicolon.take() {
            if token.kind != TokenKind::Semicolon {
                self.exact(semicolon, Before::Other);
            }
            (self.list, self.rows, self.by) = (NEVER, NEVER, NEVER);
        }
        match token.kind {
            TokenKind::Word => self.word(token),
            TokenKind::Number if self.before == Before::By && self.by == self.depth => {
                self.exact(token, Before::Operand);
            }
            TokenKind::Number | TokenKind::Text | TokenKind::Parameter => self.value(),
            TokenKind::Operator => self.operator(token, lexer),
            TokenKind::Open => self.open(token),
            TokenKind::Close => self.close(token),
            TokenKind::Comma => self.comma(token, lexer),
            TokenKind::Dot => self.exact(token, Before::Other),
            TokenKind::Quoted => self.quoted(token),
            TokenKind::Semicolon => self.semicolon = Some(token),
        }
    }

    #[inline]
    fn exact(&mut self, token: Token, before: Before) {
        (self.emit)(Piece::Exact(&self.bytes[token.start..token.end]));
        self.before = before;
    }

    #[inline]
    fn value(&mut self) {
        (self.emit)(Piece::Value);
        self.before = Before::Value;
    }

    #[inline]
    fn word(&mut self, token: Token) {
        let len = token.end - token.start;
        let after = match len {
            2..=8 => self.keyword(fold_len(load(self.bytes, token.start, len), len)),
            _ => Some(Before::Operand),
        };
        match after {
            Some(after) => {
                (self.emit)(Piece::Word(&self.bytes[token.start..token.end]));
                self.before = after;
            }
            None => self.value(),
        }
    }

    /// What may follow this keyword, or `None` when it is a value itself.
    #[inline]
    fn keyword(&mut self, word: u64) -> Option<Before> {
        Some(match word {
            BY => {
                self.by = self.depth;
                Before::By
            }
            IN => Before::List(Opener::Brackets),
            VALUES => Before::List(Opener::Rows),
            ARRAY => Before::List(Opener::Array),
            NULL | TRUE | FALSE if self.before != Before::Is => return None,
            IS | NOT => Before::Is,
            LIMIT | OFFSET | HAVING | UNION => {
                self.by = NEVER;
                Before::Other
            }
            prefix_keywords!() => Before::Other,
            _ => Before::Operand,
        })
    }

    #[inline]
    fn operator(&mut self, token: Token, lexer: &mut Lexer<'a>) {
        let first = self.bytes[token.start];
        let alone = token.end == token.start + 1;
        if alone && matches!(first, b'-' | b'+') && !matches!(self.before, Before::Operand | Before::Value) {
            let mut ahead = lexer.clone();
            if ahead.next().is_some_and(|next| next.kind == TokenKind::Number) {
                *lexer = ahead;
                self.value();
                return;
            }
        }
        match (first, self.before) {
            (b'[', Before::List(Opener::Array)) if alone => {
                self.depth += 1;
                self.list = self.depth;
                self.exact(token, Before::Other);
            }
            (b'[', _) if alone => {
                self.depth += 1;
                self.exact(token, Before::Other);
            }
            (b']', _) if alone => self.close(token),
            _ => self.exact(token, Before::Other),
        }
    }

    #[inline]
    fn open(&mut self, token: Token) {
        match self.before {
            Before::List(Opener::Brackets) => {
                self.list = self.depth + 1;
                self.rows = self.depth + 1;
            }
            Before::List(Opener::Rows) => self.rows = self.depth,
            _ => {}
        }
        self.depth += 1;
        self.exact(token, Before::Other);
    }

    #[inline]
    fn close(&mut self, token: Token) {
        if self.list == self.depth {
            self.list = NEVER;
        }
        self.depth = self.depth.saturating_sub(1);
        if self.rows != NEVER && self.rows > self.depth {
            self.rows = NEVER;
        }
        if self.by != NEVER && self.by > self.depth {
            self.by = NEVER;
        }
        self.exact(token, Before::Operand);
    }

    /// Drops what repeats in a list: further values after a value, further rows after a row.
    #[inline]
    fn comma(&mut self, token: Token, lexer: &mut Lexer<'a>) {
        if self.list == self.depth && self.before == Before::Value && self.skip_value(lexer) {
            return;
        }
        if self.rows == self.depth && self.before == Before::Operand && skip_row(lexer) {
            return;
        }
        let by = self.by == self.depth;
        self.exact(token, if by { Before::By } else { Before::Other });
    }

    /// Moves the lexer past one value, sign included, when that is what comes next.
    #[inline]
    fn skip_value(&self, lexer: &mut Lexer<'a>) -> bool {
        let mut ahead = lexer.clone();
        let mut next = ahead.next();
        if next.is_some_and(|t| {
            t.kind == TokenKind::Operator && matches!(&self.bytes[t.start..t.end], b"-" | b"+")
        }) {
            next = ahead.next();
            if next.is_none_or(|t| t.kind != TokenKind::Number) {
                return false;
            }
        }
        let is_value = next.is_some_and(|t| match t.kind {
            TokenKind::Number | TokenKind::Text | TokenKind::Parameter => true,
            TokenKind::Word => {
                let word = &self.bytes[t.start..t.end];
                [&b"null"[..], b"true", b"false"].iter().any(|value| word.eq_ignore_ascii_case(value))
            }
            _ => false,
        });
        if is_value {
            *lexer = ahead;
        }
        is_value
    }

    /// Quotes that change nothing are dropped.
    fn quoted(&mut self, token: Token) {
        let bytes = &self.bytes[token.start..token.end];
        let inner = bytes.get(1..bytes.len() - 1).unwrap_or_default();
        let plain = bytes.len() > 2
            && matches!(inner[0], b'a'..=b'z' | b'_')
            && inner.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
            && std::str::from_utf8(inner).is_ok_and(|name| !is_reserved(name));
        if plain && self.keyword_free(inner) {
            (self.emit)(Piece::Word(inner));
            self.before = Before::Operand;
        } else {
            self.exact(token, Before::Operand);
        }
    }

    /// Whether a name without its quotes would still be read as a name by this walk.
    fn keyword_free(&self, name: &[u8]) -> bool {
        !is_prefix_keyword(fold_len(load(name, 0, name.len()), name.len()))
    }
}

/// Moves the lexer past one row in brackets, when that is what comes next.
fn skip_row(lexer: &mut Lexer<'_>) -> bool {
    let mut ahead = lexer.clone();
    if ahead.next().is_none_or(|token| token.kind != TokenKind::Open) {
        return false;
    }
    let mut depth = 1;
    for token in ahead.by_ref() {
        match token.kind {
            TokenKind::Open => depth += 1,
            TokenKind::Close => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            *lexer = ahead;
            return true;
        }
    }
    false
}

/// Whether an expression begins after this keyword, so that a sign belongs to the value that follows.
const fn is_prefix_keyword(word: u64) -> bool {
    matches!(word, prefix_keywords!() | LIMIT | OFFSET | HAVING)
}
