//! What all private servers share: a directory, a port, a process that comes and goes, and a guard.

use super::ServerError;
use super::account::Account;
use super::directory::Directory;
use super::port::Port;
use super::process::{Process, tail};
use rustix::process::Signal;
use std::fmt;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a server may take to start: recovery after a kill on a busy machine included.
const START: Duration = Duration::from_secs(60);
/// How long an orderly stop may take before it counts as failed.
const STOP: Duration = Duration::from_secs(30);
/// How long a server that nobody needs any more may take to clean up by itself.
const GOODBYE: Duration = Duration::from_secs(2);

/// What one kind of server needs.
pub(crate) trait Spec: Send + Sync {
    /// The kind, in one word.
    fn name(&self) -> &'static str;
    /// The command that runs the server in the foreground.
    fn command(&self, directory: &Path, port: u16) -> Command;
    /// The account to run as, unless it is the tests' own.
    fn account(&self) -> Option<Account>;
    /// Whether the process `id` accepts work. Only asked while it runs.
    fn is_ready(&self, directory: &Path, port: u16, id: u32) -> bool;
    /// Asks for an orderly stop that keeps the data and does not wait for clients.
    fn stop_signal(&self) -> Signal;
    /// Asks for the quickest end that leaves nothing behind in the system; the data goes anyway.
    fn quit_signal(&self) -> Signal {
        self.stop_signal()
    }
    /// Removes what a killed server leaves outside its directory.
    fn clean(&self, directory: &Path) {
        let _ = directory;
    }
}

/// A private server. Every method blocks; see [`super::real_time::blocking`].
pub(crate) struct Instance {
    spec: Box<dyn Spec>,
    process: Mutex<Option<Process>>,
    directory: Directory,
    port: Port,
}

impl Instance {
    /// Starts the server in a directory that is prepared already.
    pub(crate) fn start(spec: Box<dyn Spec>, directory: Directory, port: Port) -> Result<Self, ServerError> {
        let instance = Self { spec, process: Mutex::new(None), directory, port };
        instance.run()?;
        Ok(instance)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn account(&self) -> Option<Account> {
        self.spec.account()
    }

    pub(crate) fn log(&self) -> String {
        tail(&self.directory.path().join("log"))
    }

    /// The number of the server's main process while it runs.
    pub(crate) fn id(&self) -> Option<u32> {
        self.process().as_ref().map(Process::id)
    }

    /// Starts the server again on the same port and data.
    pub(crate) fn run(&self) -> Result<(), ServerError> {
        let mut slot = self.process();
        if slot.as_mut().is_some_and(|process| process.ended().is_none()) {
            return Err(ServerError::Running(self.spec.name().to_owned()));
        }
        let (directory, port) = (self.directory.path(), self.port.number());
        let command = self.spec.command(directory, port);
        let mut process = Process::spawn(command, self.spec.account(), &directory.join("log"))?;
        let id = process.id();
        let watched = self.directory.watch(Some(id));
        let started =
            watched.and_then(|()| process.wait_ready(START, || self.spec.is_ready(directory, port, id)));
        if started.is_err() {
            process.kill();
        }
        started?;
        *slot = Some(process);
        Ok(())
    }

    /// Stops the server in order; a paused one goes on first.
    pub(crate) fn stop(&self) -> Result<(), ServerError> {
        let mut slot = self.process();
        let process = self.running(&mut slot)?;
        process.resume();
        let ended = process.end(self.spec.stop_signal(), STOP);
        process.kill();
        *slot = None;
        self.directory.watch(None)?;
        ended.map(drop)
    }

    /// Kills the server and its children without warning.
    pub(crate) fn kill(&self) -> Result<(), ServerError> {
        let mut slot = self.process();
        self.running(&mut slot)?.kill();
        *slot = None;
        self.directory.watch(None)
    }

    /// Stops the server where it stands: connections stay open and nothing answers.
    pub(crate) fn pause(&self) -> Result<(), ServerError> {
        self.running(&mut self.process())?.pause();
        Ok(())
    }

    /// Lets a paused server go on.
    pub(crate) fn resume(&self) -> Result<(), ServerError> {
        self.running(&mut self.process())?.resume();
        Ok(())
    }

    /// Stops the server if it runs, and starts it again on the same port and data.
    pub(crate) fn restart(&self) -> Result<(), ServerError> {
        if self.id().is_some() {
            self.stop()?;
        }
        self.run()
    }

    fn running<'s>(&self, slot: &'s mut Option<Process>) -> Result<&'s mut Process, ServerError> {
        slot.as_mut().ok_or_else(|| ServerError::NotRunning(self.spec.name().to_owned()))
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the verbs of a server handle, which has its [`Instance`] in the field `instance`.
macro_rules! verbs {
    ($server:ident) => {
        impl $server {
            /// The server's port on the loopback interface, the same for as long as this handle lives.
            #[must_use]
            pub fn port(&self) -> u16 {
                self.instance.port()
            }

            /// The server's address.
            #[must_use]
            pub fn address(&self) -> std::net::SocketAddr {
                (std::net::Ipv4Addr::LOCALHOST, self.port()).into()
            }

            /// The number of the server's main process, while it runs.
            #[must_use]
            pub fn process_id(&self) -> Option<u32> {
                self.instance.id()
            }

            /// The temporary directory that holds the server's data and log.
            #[must_use]
            pub fn directory(&self) -> &std::path::Path {
                self.instance.directory()
            }

            /// The end of the server's log.
            #[must_use]
            pub fn log(&self) -> String {
                self.instance.log()
            }

            /// Stops the server in order, without waiting for clients to leave. Connections are refused afterwards.
            ///
            /// # Errors
            /// [`ServerError::NotRunning`](crate::ServerError::NotRunning), or
            /// [`ServerError::Slow`](crate::ServerError::Slow) after 30 s; it has been killed then.
            ///
            /// # Cancel safety
            /// Dropping the future lets the verb finish in the background.
            pub async fn stop(&self) -> Result<(), $crate::ServerError> {
                self.verb($crate::server::instance::Instance::stop).await
            }

            /// Kills the server and its children (SIGKILL), as a crash does.
            ///
            /// # Errors
            /// [`ServerError::NotRunning`](crate::ServerError::NotRunning).
            ///
            /// # Cancel safety
            /// Dropping the future lets the verb finish in the background.
            pub async fn kill(&self) -> Result<(), $crate::ServerError> {
                self.verb($crate::server::instance::Instance::kill).await
            }

            /// Stops the server and its children where they stand (SIGSTOP): the kernel still accepts connections, and
            /// nothing answers.
            ///
            /// # Errors
            /// [`ServerError::NotRunning`](crate::ServerError::NotRunning).
            ///
            /// # Cancel safety
            /// Dropping the future lets the verb finish in the background.
            pub async fn pause(&self) -> Result<(), $crate::ServerError> {
                self.verb($crate::server::instance::Instance::pause).await
            }

            /// Lets a paused server go on (SIGCONT).
            ///
            /// # Errors
            /// [`ServerError::NotRunning`](crate::ServerError::NotRunning).
            ///
            /// # Cancel safety
            /// Dropping the future lets the verb finish in the background.
            pub async fn resume(&self) -> Result<(), $crate::ServerError> {
                self.verb($crate::server::instance::Instance::resume).await
            }

            /// Starts the server on the same port and data, after stopping it if it runs. Waits until it accepts
            /// connections.
            ///
            /// # Errors
            /// Whatever keeps the server from starting.
            ///
            /// # Cancel safety
            /// Dropping the future lets the verb finish in the background.
            pub async fn restart(&self) -> Result<(), $crate::ServerError> {
                self.verb($crate::server::instance::Instance::restart).await
            }

            async fn verb(
                &self,
                verb: impl FnOnce(&$crate::server::instance::Instance) -> Result<(), $crate::ServerError>
                + Send
                + 'static,
            ) -> Result<(), $crate::ServerError> {
                let instance = std::sync::Arc::clone(&self.instance);
                $crate::server::real_time::blocking(move || verb(&instance)).await
            }
        }
    };
}
pub(crate) use verbs;

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(mut process) = self.process().take() {
            process.resume();
            let _slow_ones_are_killed = process.end(self.spec.quit_signal(), GOODBYE);
            process.kill();
        }
        self.spec.clean(self.directory.path());
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(self.spec.name())
            .field("port", &self.port.number())
            .field("directory", &self.directory.path())
            .finish()
    }
}
