use perf_core::Name;

/// The caller's word that the database may be changed. Nothing in this crate changes one without it.
///
/// ```
/// use perf_dbopt::Apply;
///
/// let consent = Apply::confirmed_by("release 42");
/// assert_eq!(consent.actor(), "release 42");
/// ```
#[derive(Clone, Debug)]
#[must_use = "an Apply does nothing until it is given to an `apply` method"]
pub struct Apply {
    actor: Name,
    force: bool,
}

impl Apply {
    /// The change is wanted; `actor` says by whom, for the audit trail.
    pub fn confirmed_by(actor: impl Into<Name>) -> Self {
        Self { actor: actor.into(), force: false }
    }

    /// Also where size alone speaks against it: an index on a very large SQLite table blocks every writer while it is
    /// built. It overrides nothing else.
    pub fn even_if_large(mut self) -> Self {
        self.force = true;
        self
    }

    /// By whom.
    #[must_use]
    pub fn actor(&self) -> &str {
        &self.actor
    }

    /// Whether size alone is no reason to refuse.
    #[must_use]
    pub fn is_forced(&self) -> bool {
        self.force
    }
}
