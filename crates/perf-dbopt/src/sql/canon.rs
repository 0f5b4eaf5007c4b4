//! The one walk behind fingerprints and normal forms, so that equal normal forms and equal fingerprints are one thing.
//!
//! What it evens out: case of words, white space, comments, values and their signs, the length of lists of values, the
//! number of rows after VALUES, and quotes that change nothing. What it keeps: the order of everything, names, numbers
//! after ORDER BY and GROUP BY (they name columns), and `IS NULL`.

use super::class::{ALONE, LETTER, OPERATOR, SPACE, class_of};
use super::keyword::{Keyword, keyword_of};
use super::words::{head, is_reserved};
use super::{Dialect, Lexer, Token, TokenKind};
use std::ops::Range;

/// Receives the pieces of a statement's normal form, in order.
pub(super) trait Emit<'a> {
    /// A word, as a part of the statement: equal in any case of its letters. `head` is its first eight bytes, folded.
    fn word(&mut self, sql: &'a [u8], word: Range<usize>, head: u64);
    /// Bytes as they are: operators, punctuation, quoted names, column numbers.
    fn exact(&mut self, bytes: &'a [u8]);
    /// Any value: a literal or a placeholder.
    fn value(&mut self);
}

const NEVER: u32 = u32::MAX;

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
pub(super) fn walk<'a, E: Emit<'a>>(sql: &'a str, dialect: Dialect, emit: E) -> E {
    let mut walk = Walk {
        bytes: sql.as_bytes(),
        before: Before::Other,
        depth: 0,
        list: NEVER,
        rows: NEVER,
        by: NEVER,
        emit,
    };
    let mut lexer = Lexer::new(sql, dialect);
    let mut at = 0;
    loop {
        at = walk.plain(at, &mut lexer);
        let Some(token) = lexer.next_from(at) else { break };
        walk.token(token, &mut lexer);
        at = lexer.at();
    }
    walk.emit
}

struct Walk<'a, E> {
    bytes: &'a [u8],
    before: Before,
    depth: u32,
    /// Depth inside the list of values being read, or [`NEVER`].
    list: u32,
    /// Depth at which the rows of VALUES or of an IN list of rows stand, or [`NEVER`].
    rows: u32,
    /// Depth of the present BY list, or [`NEVER`].
    by: u32,
    emit: E,
}

impl<'a, E: Emit<'a>> Walk<'a, E> {
    /// Visits tokens that look the same in every dialect, as long as they come: words, punctuation, single signs. Nine
    /// tenths of all tokens are such, so this is the loop that decides how long a statement takes. What it does is what
    /// [`Self::token`] would do. Returns the place of the first token it leaves to that.
    #[inline(always)]
    fn plain(&mut self, mut at: usize, lexer: &mut Lexer<'a>) -> usize {
        let bytes = self.bytes;
        while let Some(&byte) = bytes.get(at) {
            let class = class_of(byte);
            if class & LETTER != 0 {
                let end = lexer.word_end(at);
                let next = bytes.get(end).copied().unwrap_or(0);
                if matches!(next, b'\'' | b'&') {
                    break;
                }
                self.word(at, end);
                at = end + usize::from(next == b' ');
                continue;
            }
            if class & SPACE == 0 {
                let next = class_of(bytes.get(at + 1).copied().unwrap_or(0));
                let before = match byte {
                    b'0'..=b'9' | b'$' if self.by == NEVER => {
                        let end = lexer.plain_value_end(at, byte);
                        if end == at {
                            break;
                        }
                        self.value();
                        at = end;
                        continue;
                    }
                    b',' if self.in_no_list() => Before::Other,
                    b'.' if next & LETTER != 0 => Before::Other,
                    b'(' if !matches!(self.before, Before::List(_)) => {
                        self.depth += 1;
                        Before::Other
                    }
                    b')' if self.in_no_list() => {
                        self.depth = self.depth.saturating_sub(1);
                        Before::Operand
                    }
                    _ if class & ALONE != 0 && next & OPERATOR == 0 => Before::Other,
                    _ => break,
                };
                self.emit.exact(&bytes[at..=at]);
                self.before = before;
            }
            at += 1;
        }
        at
    }

    #[inline(always)]
    fn in_no_list(&self) -> bool {
        self.list & self.rows & self.by == NEVER
    }

    /// A semicolon is part of the form only when something follows it.
    fn semicolon(&mut self, token: Token, lexer: &mut Lexer<'a>) {
        loop {
            let ahead = lexer.clone();
            match lexer.next() {
                None => return,
                Some(next) if next.kind == TokenKind::Semicolon => {}
                Some(_) => {
                    *lexer = ahead;
                    break;
                }
            }
        }
        (self.list, self.rows, self.by) = (NEVER, NEVER, NEVER);
        self.exact(token, Before::Other);
    }

    #[inline(never)]
    fn token(&mut self, token: Token, lexer: &mut Lexer<'a>) {
        match token.kind {
            TokenKind::Word => self.word(token.start, token.end),
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
            TokenKind::Semicolon => self.semicolon(token, lexer),
        }
    }

    #[inline(always)]
    fn exact(&mut self, token: Token, before: Before) {
        self.emit.exact(&self.bytes[token.start..token.end]);
        self.before = before;
    }

    #[inline(always)]
    fn value(&mut self) {
        self.emit.value();
        self.before = Before::Value;
    }

    #[inline(always)]
    fn word(&mut self, start: usize, end: usize) {
        let len = end - start;
        let head = head(self.bytes, start, len);
        // A longer word begins like a keyword at most.
        let keyword = if len <= 8 { keyword_of(head) } else { Keyword::None };
        match self.after(keyword) {
            Some(after) => {
                self.emit.word(self.bytes, start..end, head);
                self.before = after;
            }
            None => self.value(),
        }
    }

    /// What may follow this keyword, or `None` when it is a value itself.
    #[inline(always)]
    fn after(&mut self, keyword: Keyword) -> Option<Before> {
        Some(match keyword {
            Keyword::None => Before::Operand,
            Keyword::Prefix => Before::Other,
            Keyword::By => {
                self.by = self.depth;
                Before::By
            }
            Keyword::In => Before::List(Opener::Brackets),
            Keyword::Values => Before::List(Opener::Rows),
            Keyword::Array => Before::List(Opener::Array),
            Keyword::Value if self.before != Before::Is => return None,
            // What follows a NULL that is no value is read as after a name.
            Keyword::Value => Before::Operand,
            Keyword::IsOrNot => Before::Is,
            Keyword::EndsBy => {
                self.by = NEVER;
                Before::Other
            }
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
            let head = head(inner, 0, inner.len());
            self.emit.word(self.bytes, token.start + 1..token.end - 1, head);
            self.before = Before::Operand;
        } else {
            self.exact(token, Before::Operand);
        }
    }

    /// Whether a name without its quotes would still be read as a name by this walk.
    fn keyword_free(&self, name: &[u8]) -> bool {
        name.len() > 8 || !matches!(keyword_of(head(name, 0, name.len())), Keyword::Prefix | Keyword::EndsBy)
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
