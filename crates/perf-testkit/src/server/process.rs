//! One run of a server's program.

use super::account::Account;
use super::real_time::poll_until;
use super::{ServerError, tree};
use rustix::process::Signal;
use std::fs::{self, File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// How much of a log an error shows.
const TAIL: usize = 4000;

/// A running program that writes to a log file and leads a process group of its own.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts `command` under `account`, with a clean environment, appending its output to `log`.
    pub(crate) fn spawn(
        mut command: Command,
        account: Option<Account>,
        log: &Path,
    ) -> Result<Self, ServerError> {
        let name = display_name(&command);
        let opened = OpenOptions::new().create(true).append(true).open(log);
        let output = opened.map_err(ServerError::io(|| format!("could not open {}", log.display())))?;
        prepare(&mut command, account, output)?;
        command.process_group(0);
        let program = PathBuf::from(command.get_program());
        let child = command.spawn().map_err(|source| ServerError::Spawn { program, source })?;
        Ok(Self { child, name, log: log.to_owned() })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits until `ready` holds.
    pub(crate) fn wait_ready(
        &mut self,
        limit: Duration,
        mut ready: impl FnMut() -> bool,
    ) -> Result<(), ServerError> {
        let mut status = None;
        let done = poll_until(limit, || {
            status = self.ended();
            status.is_some() || ready()
        });
        match status {
            Some(status) => {
                Err(ServerError::Exited { program: self.name.clone(), status, output: tail(&self.log) })
            }
            None if done => Ok(()),
            None => Err(self.slow("ready", limit)),
        }
    }

    /// Sends `signal` to the server itself and waits until it has ended, however it does.
    pub(crate) fn end(&mut self, signal: Signal, limit: Duration) -> Result<ExitStatus, ServerError> {
        let mut status = self.ended();
        if status.is_none() {
            tree::send(self.pid(), signal);
        }
        poll_until(limit, || {
            status = self.ended();
            status.is_some()
        });
        status.ok_or_else(|| self.slow("stopped", limit))
    }

    /// Kills the server and all its descendants, and reaps it. The number of one that has ended may be another's by now.
    pub(crate) fn kill(&mut self) {
        if self.ended().is_none() {
            tree::kill(self.pid());
            let _reaped = self.child.wait();
        }
    }

    pub(crate) fn pause(&mut self) {
        if self.ended().is_none() {
            tree::pause(self.pid());
        }
    }

    pub(crate) fn resume(&mut self) {
        if self.ended().is_none() {
            tree::resume(self.pid());
        }
    }

    fn slow(&self, state: &'static str, limit: Duration) -> ServerError {
        ServerError::Slow { program: self.name.clone(), state, limit, output: tail(&self.log) }
    }
}

/// Runs a command of short life to its end and returns what it printed.
pub(crate) fn run(
    mut command: Command,
    account: Option<Account>,
    directory: &Path,
) -> Result<String, ServerError> {
    let name = display_name(&command);
    let written = tempfile::tempfile_in(directory);
    let output =
        written.map_err(ServerError::io(|| format!("could not open a file for the output of {name}")))?;
    let lost = || format!("could not read the output of {name}");
    let mut reader = output.try_clone().map_err(ServerError::io(lost))?;
    prepare(&mut command, account, output)?;
    let program = PathBuf::from(command.get_program());
    let status = command.status().map_err(|source| ServerError::Spawn { program, source })?;
    let mut bytes = Vec::new();
    std::io::Seek::rewind(&mut reader).map_err(ServerError::io(lost))?;
    std::io::Read::read_to_end(&mut reader, &mut bytes).map_err(ServerError::io(lost))?;
    let output = String::from_utf8_lossy(&bytes).into_owned();
    if status.success() { Ok(output) } else { Err(ServerError::Exited { program: name, status, output }) }
}

/// The parts that servers and their tools share: no inherited settings, an account, and output to a file, never to the
/// pipes of the test runner, which would then wait for the server.
fn prepare(command: &mut Command, account: Option<Account>, output: File) -> Result<(), ServerError> {
    let errors = output.try_clone().map_err(ServerError::io(|| "could not share an output file"))?;
    let set: Vec<_> = command.get_envs().filter_map(|(k, v)| Some((k.to_owned(), v?.to_owned()))).collect();
    command.env_clear().envs(set).env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.stdin(Stdio::null()).stdout(output).stderr(errors);
    if let Some(account) = account {
        account.apply(command);
    }
    Ok(())
}

fn display_name(command: &Command) -> String {
    let program = Path::new(command.get_program());
    program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned()
}

/// The end of a log, for an error.
pub(crate) fn tail(log: &Path) -> String {
    let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
    let from = text.len().saturating_sub(TAIL);
    let from = (from..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(from);
    text[from..].to_owned()
}
