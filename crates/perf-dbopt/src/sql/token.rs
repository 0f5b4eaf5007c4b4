//! What a statement is cut into.

/// What a [`Token`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenKind {
    /// A keyword or an identifier without quotes.
    Word,
    /// An identifier in quotes, the quotes included.
    Quoted,
    /// A string, blob or bit literal, prefix and quotes included.
    Text,
    /// A number without its sign.
    Number,
    /// A placeholder for a bound value.
    Parameter,
    /// One operator.
    Operator,
    /// `(`
    Open,
    /// `)`
    Close,
    /// `,`
    Comma,
    /// `.`
    Dot,
    /// `;`
    Semicolon,
}

/// One token, as a range of bytes of the statement. Its ends always lie between characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Offset of its first byte.
    pub start: usize,
    /// Offset past its last byte.
    pub end: usize,
}

impl Token {
    /// The token's text in the statement it was read from; empty when `sql` is another, shorter one.
    #[must_use]
    pub fn text<'a>(&self, sql: &'a str) -> &'a str {
        sql.get(self.start..self.end).unwrap_or_default()
    }
}
