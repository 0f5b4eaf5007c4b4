use perf_core::time::{Duration, Instant};
use perf_core::{Backoff, Rng};

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It broke, or never came to be.
    Cut,
    /// Its other end fell silent.
    Stalled,
    /// The server closed it, with a code and a reason.
    Closed(u16, String),
    /// It can never come to be, and why.
    Hopeless(String),
    /// We closed it.
    Ours,
}

/// What follows the end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Connect again after this time.
    After(Duration),
    /// Do not connect again: the server has said that it will not have us.
    Stop,
}

/// Decides when to connect again. Pure: it takes `now`.
#[derive(Clone, Debug)]
pub(super) struct Reconnect {
    backoff: Backoff,
    stable_after: Duration,
    /// Ends in a row without a stable time between them.
    ends: u32,
    previous: Duration,
    opened: Option<Instant>,
}

impl Reconnect {
    pub(super) const fn new(backoff: Backoff, stable_after: Duration) -> Self {
        Self { backoff, stable_after, ends: 0, previous: Duration::ZERO, opened: None }
    }

    /// The connection is there. What went before is forgiven only once it has lived for `stable_after`.
    pub(super) const fn opened(&mut self, now: Instant) {
        self.opened = Some(now);
    }

    /// The connection is gone, or could not be made. `hint` is how long the server asked us to stay away.
    pub(super) fn ended(&mut self, end: &End, hint: Option<Duration>, now: Instant, rng: &mut Rng) -> Next {
        let lived = self.opened.take().map(|at| now.saturating_duration_since(at));
        if lived.is_some_and(|lived| lived >= self.stable_after) {
            (self.ends, self.previous) = (0, Duration::ZERO);
        }
        self.ends = self.ends.saturating_add(1);
        match end {
            End::Hopeless(_) => return Next::Stop,
            End::Closed(code, _) if is_fatal(*code) => return Next::Stop,
            // Planned by the server: its neighbour waits for us, but a server that does only this is left in peace.
            End::Closed(1000 | 1001, _) | End::Ours if self.ends == 1 => return Next::After(Duration::ZERO),
            _ => {}
        }
        let jittered = self.backoff.delay(self.ends, self.previous, rng);
        self.previous = jittered;
        let wait = match (end, hint) {
            // A hint is a lower bound; the jitter on top keeps a fleet from coming back as one.
            (_, Some(hint)) => hint + jittered,
            (End::Closed(1012 | 1013, _), None) => ASKED_TO_WAIT.mul_f64(rng.unit()).max(jittered),
            _ => jittered,
        };
        Next::After(wait)
    }
}

/// A server that restarts or is overloaded and does not say for how long gets up to this much time.
const ASKED_TO_WAIT: Duration = Duration::from_secs(5);

/// Policy violation, and the range that applications use for "not you" (4400 to 4499, after HTTP).
const fn is_fatal(code: u16) -> bool {
    code == 1008 || (code >= 4400 && code <= 4499)
}

/// A duration in the text of a close reason: `retry after 3s`, or `250ms`.
pub(super) fn hint_in(reason: &str) -> Option<Duration> {
    reason.split_whitespace().rev().find_map(|word| perf_core::duration::parse(word).ok())
}
