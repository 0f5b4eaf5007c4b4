use crate::plan::Pacing;
use perf_core::time::{self, Instant};

/// Waits for planned instants.
///
/// tokio's timer wheel has a resolution of 1 ms and rounds up, which would make every request up to a millisecond late.
/// On Linux the last stretch is waited for with a high-resolution timer that the same reactor watches.
#[derive(Debug)]
pub(crate) struct Pacer {
    #[cfg(target_os = "linux")]
    precise: Option<precise::Timer>,
}

impl Pacer {
    /// A pacer; without a high-resolution timer (none left, another system) it uses tokio's.
    pub(crate) fn new(pacing: Pacing) -> Self {
        #[cfg(not(target_os = "linux"))]
        let _ = pacing;
        Self {
            #[cfg(target_os = "linux")]
            precise: match pacing {
                Pacing::Precise => precise::Timer::new().ok(),
                Pacing::Timer => None,
            },
        }
    }

    /// Returns at `at` or right after, and says when; at once when it has passed.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub(crate) async fn wait_until(&mut self, at: Instant) -> Instant {
        loop {
            let now = time::now();
            if now >= at {
                return now;
            }
            #[cfg(target_os = "linux")]
            if let Some(timer) = &mut self.precise {
                if timer.wait(at - now).await.is_err() {
                    self.precise = None;
                }
                continue;
            }
            time::sleep_until(at).await;
        }
    }
}

#[cfg(target_os = "linux")]
mod precise {
    use perf_core::time::Duration;
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use std::io;
    use std::os::fd::OwnedFd;
    use tokio::io::unix::AsyncFd;

    /// A timer of the system as a file the reactor watches.
    #[derive(Debug)]
    pub(super) struct Timer(AsyncFd<OwnedFd>);

    impl Timer {
        pub(super) fn new() -> io::Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            #[expect(
                deprecated,
                reason = "its successor is unsafe; an `OwnedFd` gives what it asks for: it is neither closed nor replaced"
            )]
            AsyncFd::new(timerfd_create(TimerfdClockId::Monotonic, flags)?).map(Self)
        }

        /// Waits this long. May return early when an earlier wait was dropped; the caller looks at the clock.
        pub(super) async fn wait(&mut self, length: Duration) -> io::Result<()> {
            const ZERO: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
            // Zero would disarm the timer.
            let length = length.max(Duration::from_nanos(1));
            let tv_sec = i64::try_from(length.as_secs()).unwrap_or(i64::MAX);
            let it_value = Timespec { tv_sec, tv_nsec: length.subsec_nanos().into() };
            let spec = Itimerspec { it_interval: ZERO, it_value };
            timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &spec)?;
            loop {
                let mut ready = self.0.readable().await?;
                match ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut [0_u8; 8])?)) {
                    Ok(fired) => return fired.map(|_| ()),
                    Err(_would_block) => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use perf_core::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn the_coarse_pacer_follows_the_paused_clock() {
        let mut pacer = Pacer::new(Pacing::Timer);
        let start = time::now();
        let woken = pacer.wait_until(start + Duration::from_millis(250)).await;
        assert_eq!(woken - start, Duration::from_millis(250));
        assert_eq!(pacer.wait_until(start).await, woken);
    }

    #[tokio::test]
    async fn the_precise_pacer_is_never_early_and_survives_dropped_waits() {
        let mut pacer = Pacer::new(Pacing::Precise);
        for micros in [50, 300, 1_500, 4_000] {
            let at = time::now() + Duration::from_micros(micros);
            let dropped = time::timeout(Duration::ZERO, pacer.wait_until(at + Duration::from_secs(9))).await;
            assert!(dropped.is_err());
            assert!(pacer.wait_until(at).await >= at);
        }
    }
}
