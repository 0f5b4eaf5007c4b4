//! What can go wrong with a private server.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// A private server could not do what a test asked of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The server's program is not installed.
    #[error("`{binary}` is not installed: on Debian, install the package {package}")]
    MissingBinary {
        /// The program looked for.
        binary: &'static str,
        /// The Debian package that contains it.
        package: &'static str,
    },
    /// The tests run as root, the server refuses root, and the account it should run as does not exist.
    #[error("`{binary}` refuses to run as root and there is no account `{account}` to run it as")]
    MissingAccount {
        /// The program.
        binary: &'static str,
        /// The account its Debian package makes.
        account: &'static str,
    },
    /// A program could not be run at all.
    #[error("could not run {}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program ended when it should have kept running, or said that it failed.
    #[error("`{program}` ended with {status}:\n{output}")]
    Exited {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it wrote.
        output: String,
    },
    /// The server did not answer in time.
    #[error("`{program}` was not {state} after {limit:?}:\n{output}")]
    Slow {
        /// The program.
        program: String,
        /// What was waited for.
        state: &'static str,
        /// How long.
        limit: Duration,
        /// The end of its log.
        output: String,
    },
    /// A verb that needs a running server met one that is not.
    #[error("`{0}` is not running")]
    NotRunning(String),
    /// A verb that needs a stopped server met a running one.
    #[error("`{0}` is running already")]
    Running(String),
    /// No free port was found.
    #[error("no free port on the loopback interface")]
    NoPort,
    /// The server answered with an error, or with something else than was expected.
    #[error("`{request}` was answered by: {answer}")]
    Refused {
        /// What was asked.
        request: String,
        /// The answer.
        answer: String,
    },
    /// A file or socket operation failed.
    #[error("{doing}")]
    Io {
        /// What was attempted.
        doing: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl ServerError {
    /// For `map_err`: the operation that failed, in words.
    pub(crate) fn io<D: Into<String>>(doing: impl FnOnce() -> D) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing: doing().into(), source }
    }
}
