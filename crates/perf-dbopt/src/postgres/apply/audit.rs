use perf_core::time::now;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// One change, before or after it was made.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct AuditEntry {
    /// Who asked for it.
    pub actor: String,
    /// The statement.
    pub statement: String,
    /// What became of it: `started`, `done`, `reverted`, or the error.
    pub outcome: String,
    /// Set when an index was taken back because it did not help.
    pub reverted: Option<Reverted>,
}

/// An index that was taken back.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Reverted {
    /// Its name, which follows from its definition.
    pub index: String,
    /// When, in seconds since 1970 by the server's clock.
    pub at: f64,
}

impl Reverted {
    /// An index and when it was taken back.
    pub fn new(index: impl Into<String>, at: f64) -> Self {
        Self { index: index.into(), at }
    }
}

impl AuditEntry {
    pub(super) fn new(actor: &str, statement: &str, outcome: impl Into<String>) -> Self {
        Self {
            actor: actor.to_owned(),
            statement: statement.to_owned(),
            outcome: outcome.into(),
            reverted: None,
        }
    }
}

/// Where changes are written down. Each is recorded before it is made; when that fails, it is not made.
pub trait AuditSink: Send + Sync {
    /// Keeps an entry, durably if that matters to the host.
    ///
    /// # Errors
    /// Whatever keeps it from being kept.
    fn record(&self, entry: &AuditEntry) -> std::io::Result<()>;

    /// The indexes that were taken back, from the trail of earlier processes, in any order. By default none is known, and
    /// suppression lasts as long as the process.
    ///
    /// # Errors
    /// Whatever keeps the trail from being read.
    fn reverted(&self) -> std::io::Result<Vec<Reverted>> {
        Ok(Vec::new())
    }
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
            "reverted": entry.reverted.as_ref().map(|it| serde_json::json!({ "index": it.index, "at": it.at })),
        });
        let _turn = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&self.path)?;
        file.write_all(format!("{line}\n").as_bytes())?;
        file.sync_data()
    }

    fn reverted(&self) -> std::io::Result<Vec<Reverted>> {
        let text = match std::fs::read_to_string(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            text => text?,
        };
        // A line that was cut off by a crash says nothing, and the statement it announced was not run.
        let lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        Ok(lines
            .filter_map(|line| {
                let reverted = line.get("reverted")?;
                Some(Reverted::new(reverted.get("index")?.as_str()?, reverted.get("at")?.as_f64()?))
            })
            .collect())
    }
}
