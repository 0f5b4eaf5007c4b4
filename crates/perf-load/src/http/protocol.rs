use super::connection::Connection;
use super::{Request, Target};
use crate::engine::{Failure, Fired, Protocol};
use crate::failure::ErrorKind;
use crate::scenario::Answer;
use perf_core::time::{self, Duration, Instant, Sleep};
use std::pin::Pin;
use std::sync::Arc;

/// HTTP/1.1 over TCP.
#[derive(Debug)]
pub(crate) struct Http {
    pub(super) target: Target,
    pub(super) timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) keep_alive: bool,
    pub(super) max_kept_body: usize,
    common: Arc<[u8]>,
}

impl Http {
    pub(crate) fn new(
        target: Target,
        timeout: Duration,
        connect_timeout: Duration,
        keep_alive: bool,
        max_kept_body: usize,
    ) -> Self {
        let close = if keep_alive { "" } else { "connection: close\r\n" };
        let agent = concat!("user-agent: perf-load/", env!("CARGO_PKG_VERSION"), "\r\n");
        let common = format!("host: {}\r\n{agent}{close}", target.authority()).into_bytes().into();
        Self { target, timeout, connect_timeout, keep_alive, max_kept_body, common }
    }

    /// Connects once, to learn whether anything is there.
    pub(crate) async fn probe(&self) -> Result<(), Failure> {
        Connection::default().connect(self).await
    }
}

/// A connection and the limit on its requests.
#[derive(Debug, Default)]
pub(crate) struct Carrier {
    connection: Connection,
    watchdog: Watchdog,
}

impl Protocol for Http {
    type Carrier = Carrier;

    fn carrier(&self) -> Carrier {
        Carrier::default()
    }

    fn request(&self) -> Request {
        Request::with_common(Arc::clone(&self.common), Arc::from(self.target.path()))
    }

    async fn fire(&self, carrier: &mut Carrier, request: &mut Request) -> Fired {
        let Carrier { connection, watchdog } = carrier;
        connection.begin();
        let limit = time::now() + self.timeout;
        let result = tokio::select! {
            biased;
            result = connection.exchange(self, request) => result,
            () = watchdog.expired_at(limit) => {
                Err(Failure::new(connection.timeout_kind(), "no complete answer within the timeout"))
            }
        };
        if result.is_err() {
            connection.close();
        }
        connection.finish(result.err())
    }

    fn answer<'a>(&self, carrier: &'a Carrier) -> Answer<'a> {
        carrier.connection.answer()
    }
}

/// A timer that is armed once per timeout and not once per request: requests that finish in time only move the limit it
/// compares with when it fires.
#[derive(Debug, Default)]
struct Watchdog(Option<Pin<Box<Sleep>>>);

impl Watchdog {
    async fn expired_at(&mut self, limit: Instant) {
        let sleep = self.0.get_or_insert_with(|| Box::pin(time::sleep_until(limit)));
        if sleep.is_elapsed() || sleep.deadline() > limit {
            sleep.as_mut().reset(limit);
        }
        loop {
            sleep.as_mut().await;
            if sleep.deadline() >= limit {
                return;
            }
            sleep.as_mut().reset(limit);
        }
    }
}

/// The kind of error behind a failure of the operating system to connect.
pub(super) fn connect_failure(error: &std::io::Error) -> Failure {
    use std::io::ErrorKind as Io;
    // The process's and the system's limit on open files have no kind of their own in the standard library.
    const OPEN_FILES: [i32; 2] = [23, 24];
    let kind = match error.kind() {
        Io::ConnectionRefused => ErrorKind::ConnectRefused,
        Io::AddrNotAvailable => ErrorKind::GeneratorPorts,
        Io::TimedOut => ErrorKind::TimeoutConnect,
        _ if error.raw_os_error().is_some_and(|code| OPEN_FILES.contains(&code)) => ErrorKind::GeneratorFd,
        _ => ErrorKind::Connect,
    };
    Failure::new(kind, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_moves_with_the_limit() {
        let mut watchdog = Watchdog::default();
        let start = time::now();
        let second = Duration::from_secs(1);
        // Given up early, as when the answer comes in time.
        let early = time::timeout(second / 2, watchdog.expired_at(start + second)).await;
        assert!(early.is_err());
        watchdog.expired_at(start + 3 * second).await;
        assert_eq!(time::now() - start, 3 * second);
        watchdog.expired_at(time::now() + second).await;
        assert_eq!(time::now() - start, 4 * second);
        // A shorter limit than the one armed.
        let far = time::timeout(second, watchdog.expired_at(time::now() + 60 * second)).await;
        assert!(far.is_err());
        watchdog.expired_at(time::now() + second).await;
        assert_eq!(time::now() - start, 6 * second);
    }

    #[test]
    fn the_generators_own_limits_are_told_from_the_targets_faults() {
        let kind = |code| connect_failure(&std::io::Error::from_raw_os_error(code)).kind;
        assert_eq!(kind(24), ErrorKind::GeneratorFd);
        assert_eq!(
            connect_failure(&std::io::ErrorKind::AddrNotAvailable.into()).kind,
            ErrorKind::GeneratorPorts
        );
        assert_eq!(
            connect_failure(&std::io::ErrorKind::ConnectionRefused.into()).kind,
            ErrorKind::ConnectRefused
        );
    }
}
