/// The exposition formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// Prometheus text 0.0.4: what a browser and every scraper reads.
    #[default]
    Text,
}

impl Format {
    /// The format to answer an `Accept` header with: the one it prefers, and text 0.0.4 when it names none we speak.
    #[must_use]
    pub fn negotiate(accept: Option<&str>) -> Self {
        let _ = accept;
        Self::Text
    }

    /// The value of the `Content-Type` header.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}
