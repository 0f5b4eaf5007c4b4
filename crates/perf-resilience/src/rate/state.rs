//! The generic cell rate algorithm: one number, the theoretical arrival time of the next permit.

/// Rate and burst in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    /// Between two permits.
    pub(super) interval: u64,
    /// What a whole burst takes: how far the next permit may lie in the future.
    pub(super) window: u64,
}

impl Pace {
    pub(super) const fn new(interval: u64, burst: u32) -> Self {
        Self { interval, window: interval.saturating_mul(burst as u64) }
    }
}

/// What a request for permits leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// The arrival time after this request.
    pub(super) tail: u64,
    /// How long to wait for the turn; 0 for at once.
    pub(super) wait: u64,
}

/// The turn of a request for `permits` at `now`, with the arrival time at `tail`; `None` when they are more than a burst.
#[inline]
pub(super) const fn turn(pace: Pace, tail: u64, now: u64, permits: u32) -> Option<Turn> {
    // One permit costs no multiplication, and is never more than a burst.
    let cost = if permits == 1 { pace.interval } else { pace.interval.saturating_mul(permits as u64) };
    if cost > pace.window {
        return None;
    }
    let from = if tail > now { tail } else { now };
    let tail = from.saturating_add(cost);
    Some(Turn { tail, wait: tail.saturating_sub(pace.window).saturating_sub(now) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// A9: over any interval, what is admitted is at most the burst plus the rate times the interval.
        #[test]
        fn a09_never_admits_more_than_burst_and_rate_allow(
            interval in 1..50_u64,
            burst in 1..20_u32,
            steps in prop::collection::vec((0..60_u64, 1..5_u32), 1..200),
        ) {
            let pace = Pace::new(interval, burst);
            let (mut now, mut tail) = (0, 0);
            let mut admitted: Vec<(u64, u64)> = Vec::new();
            for (pause, permits) in steps {
                now += pause;
                match turn(pace, tail, now, permits) {
                    Some(turn) if turn.wait == 0 => {
                        tail = turn.tail;
                        admitted.push((now, u64::from(permits)));
                    }
                    Some(_) => {}
                    None => prop_assert!(permits > burst),
                }
            }
            for first in 0..admitted.len() {
                let mut total = 0;
                for (at, permits) in &admitted[first..] {
                    total += permits;
                    prop_assert!(total <= u64::from(burst) + (at - admitted[first].0) / interval);
                }
            }
        }

        #[test]
        fn a_request_made_after_its_wait_is_admitted(interval in 1..1000_u64, burst in 1..9_u32, tail in 0..10_000_u64, now in 0..10_000_u64, permits in 1..9_u32) {
            let pace = Pace::new(interval, burst);
            if let Some(first) = turn(pace, tail, now, permits) {
                let later = turn(pace, tail, now + first.wait, permits).unwrap();
                prop_assert_eq!(later.wait, 0);
                if first.wait > 0 {
                    prop_assert!(turn(pace, tail, now + first.wait - 1, permits).unwrap().wait > 0, "not a moment earlier");
                }
            }
        }
    }
}
