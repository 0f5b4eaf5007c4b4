use std::fmt;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Worth doing something about.
    Warning,
    /// Will hurt soon, or hurts already.
    Critical,
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum FindingKind {
    /// An index that costs every write and serves no read: left by a failed build.
    InvalidIndex,
    /// Two indexes are equal in everything.
    DuplicateIndex,
    /// An index is the beginning of another.
    RedundantIndex,
    /// An index was not used for a long time.
    UnusedIndex,
    /// A foreign key whose referencing columns have no index: each delete or key update of the parent reads the whole child.
    MissingForeignKeyIndex,
    /// So many dead rows that VACUUM is due.
    NeedsVacuum,
    /// So many changes that ANALYZE is due.
    NeedsAnalyze,
    /// A table's oldest transaction number nears the age at which autovacuum runs regardless.
    FreezeAge,
    /// A sequence nears its end.
    SequenceEnd,
    /// A session holds a transaction open and does nothing.
    IdleInTransaction,
    /// Something keeps VACUUM from removing dead rows: an old transaction, a prepared one, a slot, a query on a standby.
    VacuumHeldBack,
    /// A replication slot nobody reads holds back the log.
    InactiveSlot,
    /// A constraint that was never checked for the rows that were there.
    InvalidConstraint,
    /// The write-ahead log is large and not written back.
    Checkpoint,
    /// Much of the file is unused.
    FreePages,
    /// The file is damaged.
    Corruption,
    /// A setting should be another.
    Setting,
    /// Much of a table is empty.
    TableBloat,
    /// Much of an index is empty.
    IndexBloat,
}

/// Something found in a database, and what could be done about it. Nothing is done by finding it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Finding {
    /// What it is about.
    pub kind: FindingKind,
    /// How much it matters.
    pub severity: Severity,
    /// The table, index or other object, quoted for SQL where it can be used there.
    pub object: String,
    /// What was seen, in words and figures.
    pub message: String,
    /// A statement that would change it, when one statement does.
    pub action: Option<String>,
}

impl Finding {
    /// Something found, of which nothing can be done by one statement.
    pub fn new(
        kind: FindingKind,
        severity: Severity,
        object: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { kind, severity, object: object.into(), message: message.into(), action: None }
    }

    /// The same with the statement that would change it.
    #[must_use]
    pub fn with_action(mut self, action: impl Into<String>) -> Self {
        self.action = Some(action.into());
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}: {}", self.severity, self.object, self.message)?;
        self.action.iter().try_for_each(|action| write!(f, " ({action})"))
    }
}
