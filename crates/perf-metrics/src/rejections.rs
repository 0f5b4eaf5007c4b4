//! Every sample and series that was turned away is counted, by reason: a number that is missing must be visible as missing.

use perf_core::Counter;

/// Why a sample or a series was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Rejection {
    /// The family has as many series as it may; the sample went to its overflow series.
    Cardinality,
    /// A second series with the same name and labels.
    Duplicate,
    /// A family of the same name and another kind.
    Kind,
    /// A label set that is not legal.
    Labels,
    /// A name that is not legal.
    Name,
    /// A total that is lower than the one before.
    Decrease,
    /// A value that is negative or not finite where that has no meaning.
    Value,
    /// A counter at its end; it stays there.
    Overflow,
}

impl Rejection {
    pub(crate) const ALL: [Self; 8] = [
        Self::Cardinality,
        Self::Duplicate,
        Self::Kind,
        Self::Labels,
        Self::Name,
        Self::Decrease,
        Self::Value,
        Self::Overflow,
    ];

    /// The word used as label value.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Cardinality => "cardinality",
            Self::Duplicate => "duplicate",
            Self::Kind => "kind",
            Self::Labels => "labels",
            Self::Name => "name",
            Self::Decrease => "decrease",
            Self::Value => "value",
            Self::Overflow => "overflow",
        }
    }
}

/// The counts of one [`Metrics`](crate::Metrics).
#[derive(Debug, Default)]
pub struct Rejections([Counter; Rejection::ALL.len()]);

impl Rejections {
    pub(crate) fn count(&self, reason: Rejection) {
        self.0[reason as usize].increment();
    }

    pub(crate) fn get(&self, reason: Rejection) -> u64 {
        self.0[reason as usize].get()
    }
}
