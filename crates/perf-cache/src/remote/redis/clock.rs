//! What time it is in Redis, and when a value ends by that time.
//!
//! What is left of a value's life is asked for with every read. Asking Redis costs a second command each time, a fifth of a
//! round trip. So a value carries the moment of its end behind its bytes, in the server's own time, and the server is asked
//! for its time once a second, on the way of a read. The clocks of applications take no part: only the time that has passed
//! here since the server was asked is measured here.

use perf_core::time::{self, Instant};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

/// How long an answer about the time is used.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Bytes behind a value: six of the time, two that tell whether it is one.
const TRAILER: usize = 8;

/// The server's time, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct ServerClock(Mutex<Option<(u64, Instant)>>);

impl ServerClock {
    /// Milliseconds of the server; `None` when it is to be asked again.
    pub(super) fn now(&self) -> Option<u64> {
        let (millis, asked) = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        let passed = time::now().saturating_duration_since(asked);
        (passed < ASK_AGAIN).then(|| millis + millis_of(passed))
    }

    /// The answer to `TIME`, which was asked for at `asked`; what the way took is in doubt, and counts as passed.
    pub(super) fn learn(&self, seconds: u64, micros: u64, asked: Instant) -> u64 {
        let millis = seconds.saturating_mul(1_000).saturating_add(micros / 1_000);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((millis, asked));
        millis + millis_of(time::now().saturating_duration_since(asked))
    }

    /// Another server may answer from now on.
    pub(super) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn millis_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A value with the moment of its end behind it.
pub(super) fn with_end(bytes: &[u8], now: u64, life: u64) -> Vec<u8> {
    let [_, _, end @ ..] = now.saturating_add(life).min((1 << 48) - 1).to_be_bytes();
    [bytes, &end, &check(&end)].concat()
}

/// Takes the moment of its end from behind a value; `None`, and the bytes as they were, when there is none.
pub(super) fn take_end(bytes: &mut Vec<u8>) -> Option<u64> {
    let at = bytes.len().checked_sub(TRAILER)?;
    let (end, sum) = bytes.get(at..)?.split_at_checked(6)?;
    if sum != check(end) {
        return None;
    }
    let end = end.iter().fold(0, |millis, byte| millis << 8 | u64::from(*byte));
    bytes.truncate(at);
    Some(end)
}

/// Tells an end from whatever else lies there.
fn check(end: &[u8]) -> [u8; 2] {
    let [.., one, other] = xxh3_64(end).to_be_bytes();
    [one, other]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_end_comes_back_and_nothing_else_is_taken_for_one(
            bytes in prop::collection::vec(any::<u8>(), 0..40), now in 0..1_u64 << 45, life in any::<u32>(),
        ) {
            let mut written = with_end(&bytes, now, u64::from(life));
            prop_assert_eq!(take_end(&mut written), Some(now + u64::from(life)));
            prop_assert_eq!(&written, &bytes);
            if take_end(&mut written).is_none() {
                prop_assert_eq!(&written, &bytes);
            }
        }
    }

    #[test]
    fn a_life_without_end_ends_with_the_calendar() {
        let mut written = with_end(b"", u64::MAX, u64::MAX);
        assert_eq!(take_end(&mut written), Some((1 << 48) - 1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_passes_between_two_questions_and_is_asked_again() {
        let clock = ServerClock::default();
        assert_eq!(clock.now(), None);
        assert_eq!(clock.learn(7, 5_999, time::now()), 7_005);
        time::sleep(Duration::from_millis(400)).await;
        assert_eq!(clock.now(), Some(7_405));
        time::sleep(Duration::from_millis(700)).await;
        assert_eq!(clock.now(), None);
    }
}
