//! Tokens by what they are to a reader.

use crate::TokenKind;

/// A token with its text.
pub(super) struct Word<'a> {
    pub(super) kind: TokenKind,
    pub(super) text: &'a str,
}

impl Word<'_> {
    pub(super) fn is(&self, keyword: &str) -> bool {
        self.kind == TokenKind::Word && self.text.eq_ignore_ascii_case(keyword)
    }

    pub(super) fn is_any(&self, keywords: &[&str]) -> bool {
        keywords.iter().any(|keyword| self.is(keyword))
    }

    pub(super) fn is_name(&self) -> bool {
        match self.kind {
            TokenKind::Quoted => true,
            TokenKind::Word => !crate::sql::is_reserved(&self.text.to_ascii_lowercase()),
            _ => false,
        }
    }

    /// The name without quotes.
    pub(super) fn name(&self) -> String {
        if self.kind != TokenKind::Quoted {
            return self.text.to_owned();
        }
        let inner = self.text.get(1..self.text.len() - 1).unwrap_or_default();
        match self.text.as_bytes().first() {
            Some(b'"') => inner.replace("\"\"", "\""),
            Some(b'`') => inner.replace("``", "`"),
            _ => inner.to_owned(),
        }
    }

    pub(super) fn is_value(&self) -> bool {
        matches!(self.kind, TokenKind::Number | TokenKind::Text | TokenKind::Parameter)
    }
}
