//! The service runs in a process of its own, so that its memory is its own and the load tester's is not.
//!
//! The parent speaks to it in lines: a command on standard input, one line of JSON back. When standard input closes, the
//! service shuts down.

use crate::args::Serve;
use crate::report::Index;
use serde::{Deserialize, Serialize};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Opening the database, advising and building indexes must be done within this.
const START_LIMIT: Duration = Duration::from_secs(180);

/// An answer to a command must come within this.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// What the service says once it listens.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ready {
    pub shop: std::net::SocketAddr,
    /// Where the live page is, with its one-time login; only through perfkit.
    pub page: Option<String>,
    pub indexes: Vec<Index>,
}

/// The service's own numbers since it started.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Numbers {
    pub db_queries: u64,
    pub db_nanos: u64,
    pub hits: u64,
    pub misses: u64,
    /// Answers past their life that were shown because the database failed or was late.
    pub stale_if_error: u64,
    pub breaker_opened: u64,
    /// Calls that an open breaker refused.
    pub breaker_refused: u64,
    pub retries: u64,
    /// Calls refused because too many were running or waiting.
    pub limited: u64,
    pub peak_rss_kb: u64,
}

impl Numbers {
    /// What was added since `earlier`; the peak is the peak.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            db_queries: self.db_queries - earlier.db_queries,
            db_nanos: self.db_nanos - earlier.db_nanos,
            // Own reads are taken off what the cache counts, at another moment than the count: never below nothing.
            hits: self.hits.saturating_sub(earlier.hits),
            misses: self.misses - earlier.misses,
            stale_if_error: self.stale_if_error - earlier.stale_if_error,
            breaker_opened: self.breaker_opened - earlier.breaker_opened,
            breaker_refused: self.breaker_refused - earlier.breaker_refused,
            retries: self.retries - earlier.retries,
            limited: self.limited - earlier.limited,
            peak_rss_kb: self.peak_rss_kb,
        }
    }
}

/// What the parent can ask of the service.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// The numbers so far.
    Numbers,
    /// Write the observed statements to this file.
    Workload(std::path::PathBuf),
    /// Open, stall or cut the way to the database.
    Valve(crate::chaos::Position),
}

/// Why the service could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    #[error("could not start the service")]
    Start(#[source] std::io::Error),
    #[error("could not speak to the service")]
    Pipe(#[source] std::io::Error),
    #[error("the service did not answer within {0:?}")]
    Late(Duration),
    #[error("the service ended; what it said is above")]
    Ended,
    #[error("the service said something unexpected: {0}")]
    Unexpected(String),
}

/// A running service.
pub struct Service {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    pub ready: Ready,
}

impl Service {
    /// Starts the service and waits until it listens. Dropping it kills the process.
    pub async fn start(serve: &Serve) -> Result<Self, ChildError> {
        let program = std::env::current_exe().map_err(ChildError::Start)?;
        let mut command = Command::new(program);
        command.arg("serve").args(["--url", &serve.url]).args(["--page", &serve.page.to_string()]);
        if serve.perfkit {
            command.arg("--perfkit");
        }
        if let Some(url) = &serve.shared {
            command.args(["--shared", url]);
        }
        if let Some(path) = &serve.workload {
            command.arg("--workload").arg(path);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(ChildError::Start)?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(ChildError::Ended);
        };
        let mut output = BufReader::new(output).lines();
        let ready = line(&mut output, START_LIMIT).await?;
        Ok(Self { child, input, output, ready })
    }

    pub async fn numbers(&mut self) -> Result<Numbers, ChildError> {
        self.ask(&Ask::Numbers).await
    }

    /// Sends one command and reads its answer.
    pub async fn ask<T: for<'de> Deserialize<'de>>(&mut self, ask: &Ask) -> Result<T, ChildError> {
        let mut text =
            serde_json::to_string(ask).map_err(|error| ChildError::Unexpected(error.to_string()))?;
        text.push('\n');
        self.input.write_all(text.as_bytes()).await.map_err(ChildError::Pipe)?;
        self.input.flush().await.map_err(ChildError::Pipe)?;
        line(&mut self.output, ANSWER_LIMIT).await
    }

    /// Shuts the service down and waits for it.
    pub async fn stop(mut self) -> Result<(), ChildError> {
        drop(self.input);
        let ended = tokio::time::timeout(ANSWER_LIMIT, self.child.wait()).await;
        ended.map_err(|_| ChildError::Late(ANSWER_LIMIT))?.map_err(ChildError::Pipe)?;
        Ok(())
    }
}

async fn line<T: for<'de> Deserialize<'de>>(
    lines: &mut Lines<BufReader<ChildStdout>>,
    limit: Duration,
) -> Result<T, ChildError> {
    let line = tokio::time::timeout(limit, lines.next_line()).await.map_err(|_| ChildError::Late(limit))?;
    let text = line.map_err(ChildError::Pipe)?.ok_or(ChildError::Ended)?;
    serde_json::from_str(&text).map_err(|_| ChildError::Unexpected(text))
}
