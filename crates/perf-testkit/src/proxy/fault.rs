//! What can be wrong with a connection.

use std::time::Duration;

/// What the proxy does to the bytes of one direction, or to connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Passes everything on.
    #[default]
    Pass,
    /// Everything arrives later by this much, in order, without loss of throughput: a longer line.
    Delay(Duration),
    /// Nothing arrives until another fault is set; then all of it does: a partition that heals.
    Stall,
    /// Bytes disappear for good, and nobody is told: a broken middlebox.
    Drop,
    /// The lowest bit of the first byte of each piece is flipped.
    Corrupt,
    /// At most this many bytes arrive in a second; 0 counts as 1.
    Throttle(u32),
    /// Connections are reset after this many further bytes; 0 resets on the next one. What comes before arrives.
    CutAfter(u64),
    /// The server's side is closed and the client is not told: its connection stays open, swallows what it is sent and
    /// never answers, also after the fault is cleared. Direction makes no difference.
    HalfOpen,
    /// New connections are refused by the kernel; open ones go on. Direction makes no difference.
    Refuse,
}

/// Which way bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Requests.
    ToServer,
    /// Answers.
    ToClient,
}

/// The faults in force.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    pub(super) to_server: Fault,
    pub(super) to_client: Fault,
    pub(super) version: u64,
}

impl Faults {
    pub(super) const fn toward(&self, direction: Direction) -> Fault {
        match direction {
            Direction::ToServer => self.to_server,
            Direction::ToClient => self.to_client,
        }
    }

    pub(super) const fn toward_mut(&mut self, direction: Direction) -> &mut Fault {
        match direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        }
    }

    /// Whether either direction has this fault.
    pub(super) fn any(&self, fault: Fault) -> bool {
        self.to_server == fault || self.to_client == fault
    }
}
