use perf_core::Rng;
use perf_core::time::{Duration, Instant};

/// What a connection needs to prove that its other end lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// Nothing, until then.
    Wait(Instant),
    /// A ping, now.
    Ping,
    /// Nothing helps: no frame came in time.
    Dead,
}

/// Tells silence from death. Any frame proves life; after `interval` without one a ping is sent, and after `timeout`
/// without an answer the connection is dead. Pure: it takes `now`.
#[derive(Clone, Debug)]
pub(super) struct Heartbeat {
    interval: Duration,
    timeout: Duration,
    /// This connection's own interval, so that many do not ping at the same moment.
    drawn: Duration,
    heard: Instant,
    pinged: Option<Instant>,
}

impl Heartbeat {
    /// Intervals are drawn from 80 to 100 % of what is configured.
    pub(super) fn new(interval: Duration, timeout: Duration, now: Instant, rng: &mut Rng) -> Self {
        let drawn = interval.mul_f64(1.0 - 0.2 * rng.unit());
        Self { interval, timeout, drawn, heard: now, pinged: None }
    }

    /// A frame came in, whatever it says.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = self.heard.max(now);
        self.pinged = None;
    }

    pub(super) fn next(&mut self, now: Instant, rng: &mut Rng) -> Beat {
        match self.pinged {
            Some(at) if now >= at + self.timeout => Beat::Dead,
            Some(at) => Beat::Wait(at + self.timeout),
            None if now >= self.heard + self.drawn => {
                self.pinged = Some(now);
                self.drawn = self.interval.mul_f64(1.0 - 0.2 * rng.unit());
                Beat::Ping
            }
            None => Beat::Wait(self.heard + self.drawn),
        }
    }
}
