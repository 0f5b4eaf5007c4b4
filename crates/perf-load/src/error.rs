use perf_core::InvalidConfig;

/// Why a run could not be made, or its results not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The plan says something that cannot be done.
    #[error(transparent)]
    Plan(#[from] InvalidConfig),
    /// The target is not a URL this load tester can drive.
    #[error("cannot use the target `{url}`: {reason}")]
    Target {
        /// The text given.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Nothing answered at the target before the run began.
    #[error("cannot reach the target {authority}: {detail}")]
    Unreachable {
        /// Host and port.
        authority: String,
        /// What the operating system said.
        detail: String,
    },
    /// A thread or runtime of the load generator could not be started, or ended before its report.
    #[error("the load generator failed: {0}")]
    Generator(String),
    /// A results file could not be read or written.
    #[error("cannot use the file {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A text is not what it should be: a threshold, a rate, a stored report.
    #[error("cannot read {what}: {detail}")]
    Text {
        /// What was being read.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
}

impl Error {
    /// Whether the target did not answer at the start: exit code 4 of the binary.
    #[must_use]
    pub const fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// Whether the caller asked for something impossible: exit code 2 of the binary.
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::Plan(_) | Self::Target { .. } | Self::Text { .. })
    }
}
