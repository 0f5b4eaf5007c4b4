//! The guard process that cleans up when the test process is killed.

use super::ServerError;
use rustix::process::Signal;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

/// A shell that holds the reading end of a pipe. When the writing end closes because this process died, it ends the
/// server and removes its directory. A death signal set between fork and exec would do the same for the server alone,
/// but needs `unsafe` and is tied to the thread that started it.
#[derive(Debug)]
pub(crate) struct Guard {
    shell: Child,
    pipe: ChildStdin,
}

impl Guard {
    /// Guards `directory`. The shell leads a process group of its own, so that Ctrl-C does not end it with the tests.
    pub(crate) fn start(directory: &Path, signal: Signal) -> Result<Self, ServerError> {
        let mut shell = Command::new("sh");
        shell.args(["-c", include_str!("guard.sh"), "guard"]).arg(directory);
        shell.arg(signal.as_raw().to_string()).current_dir("/").process_group(0);
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let failed = |source| ServerError::Spawn { program: "sh".into(), source };
        let mut shell = shell.spawn().map_err(failed)?;
        let pipe = shell.stdin.take().ok_or_else(|| failed(std::io::ErrorKind::BrokenPipe.into()))?;
        Ok(Self { shell, pipe })
    }

    /// Tells the guard which process to end, or that there is none.
    pub(crate) fn watch(&self, server: Option<u32>) -> Result<(), ServerError> {
        let line = server.map_or_else(|| "\n".to_owned(), |pid| format!("{pid}\n"));
        let written = (&self.pipe).write_all(line.as_bytes());
        written.map_err(ServerError::io(|| "the guard of a server has gone"))
    }
}

impl Drop for Guard {
    /// The owner has cleaned up already, so the shell is killed before the pipe closes.
    fn drop(&mut self) {
        let _already_gone = self.shell.kill();
        let _reaped = self.shell.wait();
    }
}
