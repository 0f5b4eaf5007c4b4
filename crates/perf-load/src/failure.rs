//! The taxonomy of what can go wrong with a request.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// What went wrong with a request. Written as text in reports: `reset_mid_body`, `status_503`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The host name could not be resolved.
    Dns,
    /// Nothing listens at the address.
    ConnectRefused,
    /// The connection could not be made for another reason.
    Connect,
    /// The connection was not made within the connect timeout.
    TimeoutConnect,
    /// The connection ended before the first byte of the answer.
    ResetBeforeBytes,
    /// The connection ended inside the answer.
    ResetMidBody,
    /// The request could not be written.
    Write,
    /// The answer is not HTTP/1.1.
    Protocol,
    /// No byte of the answer came within the timeout.
    TimeoutFirstByte,
    /// The answer began but did not end within the timeout.
    TimeoutTotal,
    /// The answer has a status the scenario does not accept.
    Status(u16),
    /// The scenario's check refused the answer.
    CheckFailed,
    /// The request was dropped because the most requests allowed were in flight already.
    GeneratorOverflow,
    /// The generator ran out of file descriptors.
    GeneratorFd,
    /// The generator ran out of local ports.
    GeneratorPorts,
    /// The scenario made a request that cannot be sent.
    GeneratorRequest,
    /// The run ended before the answer, or before the request could be sent.
    Cancelled,
}

/// The kinds with a fixed name.
const NAMES: [(ErrorKind, &str); 16] = [
    (ErrorKind::Dns, "dns"),
    (ErrorKind::ConnectRefused, "connect_refused"),
    (ErrorKind::Connect, "connect"),
    (ErrorKind::TimeoutConnect, "timeout_connect"),
    (ErrorKind::ResetBeforeBytes, "reset_before_bytes"),
    (ErrorKind::ResetMidBody, "reset_mid_body"),
    (ErrorKind::Write, "write"),
    (ErrorKind::Protocol, "protocol"),
    (ErrorKind::TimeoutFirstByte, "timeout_ttfb"),
    (ErrorKind::TimeoutTotal, "timeout_total"),
    (ErrorKind::CheckFailed, "check_failed"),
    (ErrorKind::GeneratorOverflow, "generator_overflow"),
    (ErrorKind::GeneratorFd, "generator_fd"),
    (ErrorKind::GeneratorPorts, "generator_ports"),
    (ErrorKind::GeneratorRequest, "generator_request"),
    (ErrorKind::Cancelled, "cancelled"),
];

impl ErrorKind {
    /// Whether the generator, not the target, is to blame. Such errors taint a run.
    #[must_use]
    pub const fn is_generator(self) -> bool {
        matches!(
            self,
            Self::GeneratorOverflow | Self::GeneratorFd | Self::GeneratorPorts | Self::GeneratorRequest
        )
    }

    /// Whether all that is known of the response time is that it is longer than the request's age: the request is
    /// right-censored, and percentiles account for it.
    #[must_use]
    pub const fn is_censored(self) -> bool {
        matches!(
            self,
            Self::TimeoutConnect
                | Self::TimeoutFirstByte
                | Self::TimeoutTotal
                | Self::GeneratorOverflow
                | Self::Cancelled
        )
    }

    /// Whether no connection was made.
    #[must_use]
    pub const fn is_connect(self) -> bool {
        matches!(self, Self::Dns | Self::ConnectRefused | Self::Connect | Self::TimeoutConnect)
    }

    /// The kind with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        if let Some(status) = name.strip_prefix("status_") {
            return status.parse().ok().map(Self::Status);
        }
        NAMES.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status_{status}"),
            kind => f.write_str(NAMES.iter().find(|(known, _)| known == kind).map_or("unknown", |(_, n)| n)),
        }
    }
}

impl Serialize for ErrorKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ErrorKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::from_name(&name)
            .ok_or_else(|| serde::de::Error::custom(format_args!("`{name}` is not a kind of error")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_back_from_its_name() {
        for (kind, name) in NAMES {
            assert_eq!(kind.to_string(), name);
            assert_eq!(ErrorKind::from_name(name), Some(kind));
        }
        assert_eq!(ErrorKind::from_name("status_503"), Some(ErrorKind::Status(503)));
        assert_eq!(ErrorKind::Status(404).to_string(), "status_404");
        assert_eq!(ErrorKind::from_name("status_x"), None);
        assert_eq!(ErrorKind::from_name("bad luck"), None);
    }

    #[test]
    fn only_the_generators_own_faults_taint_a_run() {
        assert!(ErrorKind::GeneratorFd.is_generator() && !ErrorKind::Status(500).is_generator());
        assert!(ErrorKind::TimeoutTotal.is_censored() && !ErrorKind::ConnectRefused.is_censored());
    }
}
