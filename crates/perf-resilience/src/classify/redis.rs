use crate::judge::{Again, Verdict};
use perf_core::Outcome;
use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Knows [`redis::RedisError`]: a server that loads its data or is asked too much is overloaded, a refused connection sent
/// nothing, wrong commands and types say nothing about the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RedisErrors;

fn verdict(error: &RedisError) -> Verdict {
    if error.is_connection_refusal() {
        return Verdict::of(Outcome::Failure).again(Again::Always);
    }
    if error.is_timeout() || error.is_connection_dropped() {
        return Verdict::of(Outcome::Failure);
    }
    match error.kind() {
        ErrorKind::Server(
            ServerErrorKind::BusyLoading | ServerErrorKind::TryAgain | ServerErrorKind::MasterDown,
        ) => Verdict::of(Outcome::Overload).again(Again::Always),
        ErrorKind::Server(ServerErrorKind::ClusterDown | ServerErrorKind::ReadOnly) => {
            Verdict::of(Outcome::Failure).again(Again::Always)
        }
        // A script that runs too long answers everybody else with BUSY.
        _ if error.code() == Some("BUSY") || error.code() == Some("OOM") => {
            Verdict::of(Outcome::Overload).again(Again::Always)
        }
        ErrorKind::Io
        | ErrorKind::ClusterConnectionNotFound
        | ErrorKind::MasterNameNotFoundBySentinel
        | ErrorKind::NoValidReplicasFoundBySentinel => Verdict::of(Outcome::Failure),
        _ => Verdict::of(Outcome::Ignored),
    }
}

super::knows!(RedisErrors, RedisError, verdict);

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: ErrorKind) -> (Outcome, Again) {
        let found = verdict(&RedisError::from((kind, "test")));
        (found.outcome, found.again)
    }

    #[test]
    fn kinds_are_told_apart() {
        assert_eq!(of(ErrorKind::Server(ServerErrorKind::BusyLoading)), (Outcome::Overload, Again::Always));
        assert_eq!(of(ErrorKind::Server(ServerErrorKind::ReadOnly)), (Outcome::Failure, Again::Always));
        assert_eq!(of(ErrorKind::UnexpectedReturnType), (Outcome::Ignored, Again::No));
        let refused = RedisError::from(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
        assert_eq!(verdict(&refused).again, Again::Always);
        let reset = RedisError::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        assert_eq!((verdict(&reset).outcome, verdict(&reset).again), (Outcome::Failure, Again::IfIdempotent));
    }
}
