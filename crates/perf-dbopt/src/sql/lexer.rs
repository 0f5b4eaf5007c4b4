use super::Dialect;
use super::class::{BLANK, DIGIT, LETTER, OPERATOR, SPACE, WINDOW, WORD, is, words_of};
use super::token::{Token, TokenKind};

/// No text reaches as far as this.
const NOWHERE: usize = isize::MAX as usize;
/// So few bytes are classed one by one.
const FEW: usize = 12;

/// Cuts a statement into tokens, leaving out white space and comments.
///
/// It accepts every input: a string or comment that does not end reaches to the end of the text. It never allocates.
///
/// ```
/// use perf_dbopt::{Dialect, Lexer};
///
/// let sql = "SELECT a -- why\n FROM t WHERE b = $1";
/// let words: Vec<_> = Lexer::new(sql, Dialect::Postgres).map(|token| token.text(sql)).collect();
/// assert_eq!(words, ["SELECT", "a", "FROM", "t", "WHERE", "b", "=", "$1"]);
/// ```
#[derive(Clone, Debug)]
pub struct Lexer<'a> {
    bytes: &'a [u8],
    at: usize,
    dialect: Dialect,
    /// Where the 64 bytes begin of which `words` says whether they belong to words, the first in the lowest bit.
    window: usize,
    words: u64,
}

impl<'a> Lexer<'a> {
    /// A lexer at the start of `sql`.
    #[must_use]
    pub const fn new(sql: &'a str, dialect: Dialect) -> Self {
        Self { bytes: sql.as_bytes(), at: 0, dialect, window: NOWHERE, words: 0 }
    }

    #[inline]
    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    #[inline]
    fn skip_while(&mut self, class: u8) {
        while self.at < self.bytes.len() && is(self.bytes[self.at], class) {
            self.at += 1;
        }
    }

    /// Where the word ends that a byte is part of.
    #[inline(always)]
    pub(super) fn word_end(&mut self, at: usize) -> usize {
        let into = at.wrapping_sub(self.window);
        if into < WINDOW {
            let len = (!(self.words >> into)).trailing_zeros() as usize;
            // A word that reaches the end of the window may go on.
            if into + len < WINDOW {
                return at + len;
            }
        }
        self.word_end_beyond(at)
    }

    /// The same with windows that begin in the word.
    #[inline(never)]
    fn word_end_beyond(&mut self, mut at: usize) -> usize {
        loop {
            let left = self.bytes.get(at..).unwrap_or_default();
            if left.len() < FEW {
                return at + left.iter().take_while(|byte| is(**byte, WORD)).count();
            }
            self.window = at;
            self.words = match left.first_chunk() {
                Some(block) => words_of(block),
                None => {
                    let mut block = [0; WINDOW];
                    block[..left.len()].copy_from_slice(left);
                    words_of(&block)
                }
            };
            let len = (!self.words).trailing_zeros() as usize;
            at += len;
            if len < WINDOW {
                return at;
            }
        }
    }

    /// Skips white space and comments.
    fn skip_blanks(&mut self) {
        while self.at < self.bytes.len() {
            match self.bytes[self.at] {
                byte if is(byte, SPACE) => self.at += 1,
                b'-' if self.peek(1) == b'-' && self.dashes_open_a_comment() => self.skip_line(),
                b'#' if self.dialect == Dialect::MySql => self.skip_line(),
                b'/' if self.peek(1) == b'*' => self.skip_block_comment(),
                // The end of a MySQL version comment, whose content counts as code.
                b'*' if self.dialect == Dialect::MySql && self.peek(1) == b'/' => self.at += 2,
                _ => return,
            }
        }
    }

    /// MySQL takes `--` as a comment only when white space follows, so that `a--1` stays arithmetic.
    fn dashes_open_a_comment(&self) -> bool {
        self.dialect != Dialect::MySql || self.at + 2 >= self.bytes.len() || self.peek(2) <= b' '
    }

    fn skip_line(&mut self) {
        while self.at < self.bytes.len() && self.bytes[self.at] != b'\n' {
            self.at += 1;
        }
    }

    fn skip_block_comment(&mut self) {
        if self.dialect == Dialect::MySql && self.peek(2) == b'!' {
            self.at += 3;
            self.skip_while(DIGIT);
            return;
        }
        self.at += 2;
        let mut depth = 1;
        while self.at < self.bytes.len() && depth > 0 {
            match (self.bytes[self.at], self.peek(1)) {
                (b'*', b'/') => {
                    depth -= 1;
                    self.at += 2;
                }
                (b'/', b'*') if self.dialect == Dialect::Postgres => {
                    depth += 1;
                    self.at += 2;
                }
                _ => self.at += 1,
            }
        }
    }

    /// Moves past a quoted run whose opening quote is at the present place.
    fn skip_quoted(&mut self, close: u8, backslash: bool) {
        self.at += 1;
        while self.at < self.bytes.len() {
            let byte = self.bytes[self.at];
            let doubled = byte == close && close != b']' && self.peek(1) == close;
            if doubled || (backslash && byte == b'\\') {
                self.at += 2;
            } else if byte == close {
                self.at += 1;
                return;
            } else {
                self.at += 1;
            }
        }
        // A backslash at the very end would have moved past it, and the next byte may continue a character.
        self.at = self.bytes.len();
    }

    /// A word, or what a prefix makes of a text.
    fn word(&mut self) -> TokenKind {
        let start = self.at;
        self.at = self.word_end(start);
        match self.peek(0) {
            b'\'' if self.is_text_prefix(start) => {
                let escapes = matches!(self.bytes[start], b'e' | b'E') || self.dialect == Dialect::MySql;
                self.skip_quoted(b'\'', escapes);
                TokenKind::Text
            }
            b'&' if self.dialect == Dialect::Postgres && self.is_unicode_prefix(start) => {
                self.at += 1;
                let quote = self.bytes[self.at];
                self.skip_quoted(quote, false);
                if quote == b'"' { TokenKind::Quoted } else { TokenKind::Text }
            }
            _ => TokenKind::Word,
        }
    }

    fn is_text_prefix(&self, start: usize) -> bool {
        let prefix = &self.bytes[start..self.at];
        match self.dialect {
            Dialect::Postgres => matches!(prefix, [b'e' | b'E' | b'b' | b'B' | b'x' | b'X' | b'n' | b'N']),
            Dialect::Sqlite => matches!(prefix, [b'x' | b'X']),
            Dialect::MySql => {
                matches!(prefix, [b'b' | b'B' | b'x' | b'X' | b'n' | b'N']) || prefix.first() == Some(&b'_')
            }
        }
    }

    fn is_unicode_prefix(&self, start: usize) -> bool {
        matches!(self.bytes[start..self.at], [b'u' | b'U']) && matches!(self.peek(1), b'\'' | b'"')
    }

    fn number(&mut self) -> TokenKind {
        let start = self.at;
        if self.bytes[self.at] == b'0' && matches!(self.peek(1), b'x' | b'X' | b'b' | b'B' | b'o' | b'O') {
            self.skip_while(WORD);
            return TokenKind::Number;
        }
        self.skip_while(DIGIT);
        if self.peek(0) == b'_' && is(self.peek(1), DIGIT) {
            self.skip_while(WORD);
        }
        let whole = self.at;
        if self.peek(0) == b'.' {
            self.at += 1;
            self.skip_while(DIGIT);
        }
        if matches!(self.peek(0), b'e' | b'E') {
            let signed = usize::from(matches!(self.peek(1), b'+' | b'-'));
            if is(self.peek(1 + signed), DIGIT) {
                self.at += 1 + signed;
                self.skip_while(DIGIT);
            }
        }
        // `2024_sales` is a name in MySQL; elsewhere what follows digits is an error the server will report.
        if self.at == whole && self.at > start && self.at < self.bytes.len() && is(self.bytes[self.at], WORD)
        {
            self.skip_while(WORD);
            return TokenKind::Word;
        }
        TokenKind::Number
    }

    /// `$1`, `$tag$ … $tag$`, `$name`.
    fn dollar(&mut self) -> TokenKind {
        let start = self.at;
        match self.dialect {
            Dialect::MySql => return self.word(),
            Dialect::Sqlite => {
                self.at += 1;
                self.skip_while(WORD);
                return TokenKind::Parameter;
            }
            Dialect::Postgres => {}
        }
        self.at += 1;
        if is(self.peek(0), DIGIT) {
            self.skip_while(DIGIT);
            return TokenKind::Parameter;
        }
        while self.at < self.bytes.len() && is(self.bytes[self.at], WORD) && self.bytes[self.at] != b'$' {
            self.at += 1;
        }
        if self.peek(0) != b'$' {
            return if self.at == start + 1 { TokenKind::Operator } else { TokenKind::Word };
        }
        self.at += 1;
        let tag = &self.bytes[start..self.at];
        while self.at < self.bytes.len() {
            if self.bytes[self.at] == b'$' && self.bytes[self.at..].starts_with(tag) {
                self.at += tag.len();
                return TokenKind::Text;
            }
            self.at += 1;
        }
        TokenKind::Text
    }

    fn operator(&mut self) -> TokenKind {
        if self.dialect == Dialect::Postgres {
            self.postgres_operator();
        } else {
            let first = self.bytes[self.at];
            self.at += 1;
            if first == b'-' && self.peek(0) == b'>' {
                self.at += 1 + usize::from(self.peek(1) == b'>');
            } else if matches!(first, b'<' | b'>' | b'=' | b'!' | b'|' | b'&') {
                while matches!(self.peek(0), b'<' | b'>' | b'=' | b'|' | b'&') {
                    self.at += 1;
                }
            }
        }
        TokenKind::Operator
    }

    /// PostgreSQL takes the longest run, but a run without `~!@#%^&|?` gives back the signs at its end: `a=-5`.
    fn postgres_operator(&mut self) {
        let start = self.at;
        let mut rich = false;
        while self.at < self.bytes.len() && is(self.bytes[self.at], OPERATOR) {
            let byte = self.bytes[self.at];
            let opens_comment =
                (byte == b'-' && self.peek(1) == b'-') || (byte == b'/' && self.peek(1) == b'*');
            if opens_comment && self.at > start {
                break;
            }
            rich |= matches!(byte, b'~' | b'!' | b'@' | b'#' | b'%' | b'^' | b'&' | b'|' | b'?');
            self.at += 1;
        }
        while !rich && self.at > start + 1 && matches!(self.bytes[self.at - 1], b'+' | b'-') {
            self.at -= 1;
        }
    }

    /// `::`, `:=`, `:name`.
    fn colon(&mut self) -> TokenKind {
        self.at += 1;
        match (self.dialect, self.peek(0)) {
            (_, b':' | b'=') => self.at += 1,
            (Dialect::Sqlite, next) if is(next, WORD) => {
                self.skip_while(WORD);
                return TokenKind::Parameter;
            }
            _ => {}
        }
        TokenKind::Operator
    }

    /// `@name` binds a value in SQLite and names a variable in MySQL.
    fn at_sign(&mut self) -> TokenKind {
        if self.dialect == Dialect::Postgres {
            return self.operator();
        }
        self.at += 1;
        if self.peek(0) == b'@' {
            self.at += 1;
        }
        self.skip_while(WORD);
        if self.dialect == Dialect::Sqlite { TokenKind::Parameter } else { TokenKind::Word }
    }

    fn question_mark(&mut self) -> TokenKind {
        if self.dialect == Dialect::Postgres {
            return self.operator();
        }
        self.at += 1;
        self.skip_while(DIGIT);
        TokenKind::Parameter
    }

    fn single(&mut self, kind: TokenKind) -> TokenKind {
        self.at += 1;
        kind
    }

    #[inline]
    fn kind(&mut self, byte: u8) -> TokenKind {
        let mysql = self.dialect == Dialect::MySql;
        match byte {
            byte if is(byte, LETTER) => self.word(),
            b'(' => self.single(TokenKind::Open),
            b')' => self.single(TokenKind::Close),
            b',' => self.single(TokenKind::Comma),
            b';' => self.single(TokenKind::Semicolon),
            b'.' if is(self.peek(1), DIGIT) && (self.at == 0 || !is(self.bytes[self.at - 1], WORD)) => {
                self.number()
            }
            b'.' => self.single(TokenKind::Dot),
            b'0'..=b'9' => self.number(),
            b'\'' => {
                self.skip_quoted(b'\'', mysql);
                TokenKind::Text
            }
            b'"' => {
                self.skip_quoted(b'"', mysql);
                if mysql { TokenKind::Text } else { TokenKind::Quoted }
            }
            b'`' if self.dialect != Dialect::Postgres => {
                self.skip_quoted(b'`', false);
                TokenKind::Quoted
            }
            b'[' if self.dialect == Dialect::Sqlite => {
                self.skip_quoted(b']', false);
                TokenKind::Quoted
            }
            b'$' => self.dollar(),
            b':' => self.colon(),
            b'@' => self.at_sign(),
            b'?' => self.question_mark(),
            byte if is(byte, OPERATOR) => self.operator(),
            // Brackets, and bytes no server accepts.
            _ => self.single(TokenKind::Operator),
        }
    }
}

impl Lexer<'_> {
    /// Where it stands.
    #[inline]
    pub(super) const fn at(&self) -> usize {
        self.at
    }

    /// The end of an integer, or of `$` and an integer, that begins at `at` and is a value whatever the dialect makes of what
    /// follows; `at` when that is not sure.
    #[inline(always)]
    pub(super) fn plain_value_end(&self, at: usize, first: u8) -> usize {
        let dollar = first == b'$';
        let mut end = at + 1;
        while let Some(byte) = self.bytes.get(end)
            && is(*byte, DIGIT)
        {
            end += 1;
        }
        let next = self.bytes.get(end).copied().unwrap_or(0);
        let other =
            is(next, WORD) || next == b'.' || dollar && (end == at + 1 || self.dialect == Dialect::MySql);
        if other { at } else { end }
    }

    /// The next token from a place that lies between two tokens.
    #[inline(never)]
    pub(super) fn next_from(&mut self, at: usize) -> Option<Token> {
        self.at = at;
        self.next()
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        if is(self.peek(0), BLANK) {
            self.skip_blanks();
        }
        let start = self.at;
        let byte = *self.bytes.get(start)?;
        let kind = self.kind(byte);
        Some(Token { kind, start, end: self.at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(sql: &str, dialect: Dialect) -> Vec<&str> {
        Lexer::new(sql, dialect).map(|token| token.text(sql)).collect()
    }

    #[test]
    fn each_dialect_has_its_own_strings_names_and_comments() {
        let pg = Dialect::Postgres;
        assert_eq!(words("a/* x /* y */ z */b", pg), ["a", "b"]);
        assert_eq!(words(r"E'it\'s; ' || $q$a;'b$q$", pg), [r"E'it\'s; '", "||", "$q$a;'b$q$"]);
        assert_eq!(words("a::int=-5", pg), ["a", "::", "int", "=", "-", "5"]);
        assert_eq!(words("j ?| x @> y", pg), ["j", "?|", "x", "@>", "y"]);
        assert_eq!(words(r#"U&"d\0061t" U&'x'"#, pg), [r#"U&"d\0061t""#, "U&'x'"]);
        let my = Dialect::MySql;
        assert_eq!(words("a--1 # note\n-- note\n`b``c`", my), ["a", "-", "-", "1", "`b``c`"]);
        assert_eq!(words(r#""it\"s" /*!40100 SET */ x"#, my), [r#""it\"s""#, "SET", "x"]);
        assert_eq!(words("2024_sales @@a := ?", my), ["2024_sales", "@@a", ":=", "?"]);
        let lite = Dialect::Sqlite;
        assert_eq!(
            words("[a b] :n @m $k ?12 x->>'y'", lite),
            ["[a b]", ":n", "@m", "$k", "?12", "x", "->>", "'y'"]
        );
    }

    #[test]
    fn numbers_keep_their_exponents_and_names_their_digits() {
        assert_eq!(
            words("1.5e-3 .5 0xFF t1.c2 1e", Dialect::Sqlite),
            ["1.5e-3", ".5", "0xFF", "t1", ".", "c2", "1e"]
        );
    }

    #[test]
    fn what_does_not_end_reaches_to_the_end() {
        for sql in ["'abc", "\"abc", "/* abc", "$x$ abc", "E'abc\\", "-- abc"] {
            for dialect in Dialect::ALL {
                let last = Lexer::new(sql, dialect).last();
                assert!(last.is_none_or(|token| token.end == sql.len()), "{sql} {dialect:?}");
            }
        }
    }

    #[test]
    fn words_may_be_of_any_length_at_any_place() {
        for before in 0..70 {
            for len in 1..150 {
                for after in ["", " ", ",", "  b = 1 and c in (2)"] {
                    let (blank, word) = (" ".repeat(before), "w".repeat(len));
                    let sql = format!("{blank}{word}{after}");
                    assert_eq!(
                        words(&sql, Dialect::Postgres).first(),
                        Some(&word.as_str()),
                        "{before} {len}"
                    );
                }
            }
        }
    }

    fn any_dialect() -> impl Strategy<Value = Dialect> {
        prop::sample::select(Dialect::ALL.to_vec())
    }

    /// Texts full of what lexers trip over.
    fn sqlish() -> impl Strategy<Value = String> {
        let pieces = prop::sample::select(vec![
            "'", "\"", "`", "$", "$1", "$a$", "/*", "*/", "--", "\n", "\\", "E'", "U&'", "x'", "é", "名",
            "1.", ".5", "e-", "0x", ":", "::", ":=", "@", "@@", "?", "(", ")", ",", ";", "[", "]", "select",
            "in", "values", "by", " ", "-", "+", "#", "/*!", "null", "_utf8'", "\0", "😀",
        ]);
        prop::collection::vec(pieces, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn tokens_are_in_order_not_empty_and_between_characters(sql in prop_oneof![sqlish(), any::<String>()], dialect in any_dialect()) {
            let mut end = 0;
            for token in Lexer::new(&sql, dialect) {
                prop_assert!(token.start >= end && token.end > token.start && token.end <= sql.len());
                prop_assert!(sql.get(token.start..token.end).is_some());
                end = token.end;
            }
        }
    }
}
