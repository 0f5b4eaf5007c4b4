//! Ports that stay a server's own across restarts.

use super::ServerError;
use perf_core::Rng;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

/// Below the range from which the kernel takes the ports of outgoing connections (32768 and up on Linux): while a server
/// is down, no client can end up on its port.
const RANGE: Range<u64> = 15_000..32_000;

/// How many ports are tried. The range is used by hardly anything, so the first is nearly always free.
const TRIES: usize = 500;

/// A port on the loopback interface, reserved among all test processes of this machine until dropped.
///
/// The reservation is a socket in the abstract namespace: it vanishes with the process, however that ends, and is no file.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _reservation: UnixListener,
}

impl Port {
    /// Reserves a port on which nothing listens.
    pub(crate) fn reserve() -> Result<Self, ServerError> {
        let mut rng = Rng::from_entropy();
        let candidates = std::iter::repeat_with(|| RANGE.start + rng.below(RANGE.end - RANGE.start));
        candidates.take(TRIES).find_map(|number| Self::claim(number as u16)).ok_or(ServerError::NoPort)
    }

    fn claim(number: u16) -> Option<Self> {
        let name = SocketAddr::from_abstract_name(format!("perf-testkit-port-{number}")).ok()?;
        let reservation = UnixListener::bind_addr(&name).ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        Some(Self { number, _reservation: reservation })
    }

    pub(crate) const fn number(&self) -> u16 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_port_is_given_to_nobody_else_until_dropped() {
        let port = Port::reserve().unwrap();
        assert!(Port::claim(port.number()).is_none());
        let number = port.number();
        drop(port);
        assert!(Port::claim(number).is_some());
    }

    #[test]
    fn a_port_in_use_is_not_claimed() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(Port::claim(taken.local_addr().unwrap().port()).is_none());
    }
}
