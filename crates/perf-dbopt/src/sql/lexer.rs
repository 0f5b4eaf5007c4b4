use super::Dialect;
use super::class::{BLANK, DIGIT, LETTER, OPERATOR, PUNCTUATION, SPACE, WORD, is, word_len};
use super::token::{Token, TokenKind};

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
}

impl<'a> Lexer<'a> {
    /// A lexer at the start of `sql`.
    #[must_use]
    pub const fn new(sql: &'a str, dialect: Dialect) -> Self {
        Self { bytes: sql.as_bytes(), at: 0, dialect }
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

    /// Moves past the rest of a word, eight bytes at a time while there are eight.
    #[inline]
    fn skip_word(&mut self) {
        while let Some(eight) = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk) {
            let len = word_len(u64::from_le_bytes(*eight));
            self.at += len;
            if len < 8 {
                return;
            }
        }
        self.skip_while(WORD);
    }

    /// Skips white space and comments.
    #[inline]
    fn skip_blank(&mut self) {
        // Between most tokens there is one space or nothing.
        if self.at < self.bytes.len() && self.bytes[self.at] == b' ' {
            self.at += 1;
        }
        if self.at < self.bytes.len() && is(self.bytes[self.at], BLANK) {
            self.skip_blanks();
        }
    }

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
    #[inline(always)]
    fn word(&mut self) -> TokenKind {
        let start = self.at;
        self.skip_word();
        match self.bytes.get(self.at) {
            Some(b'\'' | b'&') => self.perhaps_prefixed(start),
            _ => TokenKind::Word,
        }
    }

    #[inline(never)]
    fn perhaps_prefixed(&mut self, start: usize) -> TokenKind {
        if self.at < self.bytes.len() {
            match self.bytes[self.at] {
                b'\'' if self.is_text_prefix(start) => {
                    let escapes = matches!(self.bytes[start], b'e' | b'E') || self.dialect == Dialect::MySql;
                    self.skip_quoted(b'\'', escapes);
                    return TokenKind::Text;
                }
                b'&' if self.dialect == Dialect::Postgres && self.is_unicode_prefix(start) => {
                    self.at += 1;
                    let quote = self.bytes[self.at];
                    self.skip_quoted(quote, false);
                    return if quote == b'"' { TokenKind::Quoted } else { TokenKind::Text };
                }
                _ => {}
            }
        }
        TokenKind::Word
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

    /// Any token but words and punctuation.
    #[inline(never)]
    fn token(&mut self) -> TokenKind {
        let byte = self.bytes[self.at];
        let mysql = self.dialect == Dialect::MySql;
        match byte {
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
    /// The next token. Words and punctuation, three quarters of all tokens, are read in line.
    #[inline(always)]
    pub(super) fn step(&mut self) -> Option<Token> {
        self.skip_blank();
        let start = self.at;
        let byte = *self.bytes.get(start)?;
        let kind = if is(byte, LETTER) {
            self.word()
        } else if is(byte, PUNCTUATION) {
            self.at += 1;
            match byte {
                b'(' => TokenKind::Open,
                b')' => TokenKind::Close,
                _ => TokenKind::Comma,
            }
        } else {
            self.token()
        };
        Some(Token { kind, start, end: self.at })
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        self.step()
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
    fn eight_bytes_at_once_are_classed_as_one_by_one() {
        for byte in 0..=255_u8 {
            for place in 0..8 {
                for filler in [b'a', b'Z', b'0', b'_', b'$', 0xff] {
                    let mut eight = [filler; 8];
                    eight[place] = byte;
                    let expected = if is(byte, WORD) { 8 } else { place };
                    assert_eq!(
                        word_len(u64::from_le_bytes(eight)),
                        expected,
                        "{byte} at {place} among {filler}"
                    );
                }
            }
        }
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
