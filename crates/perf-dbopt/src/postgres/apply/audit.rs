use perf_core::time::now;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// One change, before or after it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct AuditEntry {
    /// Who asked for it.
    pub actor: String,
    /// The statement.
    pub statement: String,
    /// What became of it: `started`, `done`, or the error.
    pub outcome: String,
}

impl AuditEntry {
    pub(super) fn new(actor: &str, statement: &str, outcome: impl Into<String>) -> Self {
        Self { actor: actor.to_owned(), statement: statement.to_owned(), outcome: outcome.into() }
    }
}

/// Where changes are written down. Each is recorded before it is made; when that fails, it is not made.
pub trait AuditSink: Send + Sync {
    /// Keeps an entry, durably if that matters to the host.
    ///
    /// # Errors
    /// Whatever keeps it from being kept.
    fn record(&self, entry: &AuditEntry) -> std::io::Result<()>;
}

/// Keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoAudit;

impl AuditSink for NoAudit {
    fn record(&self, _: &AuditEntry) -> std::io::Result<()> {
        Ok(())
    }
}

/// Appends one line of JSON per entry to a file.
#[derive(Debug)]
pub struct JsonLines {
    path: PathBuf,
    began: perf_core::time::Instant,
    /// Lines of concurrent changes do not mix.
    lock: Mutex<()>,
}

impl JsonLines {
    /// Entries go to the end of this file, which is made when it is missing.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), began: now(), lock: Mutex::new(()) }
    }
}

impl AuditSink for JsonLines {
    fn record(&self, entry: &AuditEntry) -> std::io::Result<()> {
        let line = serde_json::json!({
            "process": std::process::id(),
            "elapsed_ms": u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            "actor": entry.actor,
            "statement": entry.statement,
            "outcome": entry.outcome,
        });
        let _turn = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&self.path)?;
        file.write_all(format!("{line}\n").as_bytes())?;
        file.sync_data()
    }
}
