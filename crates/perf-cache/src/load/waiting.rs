//! One caller that waits for a flight.

use super::Landing;
use super::flight::Seat;
use super::sleepers::Bed;
use perf_core::Deadline;
use perf_core::time::{self, Sleep};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The landing of a flight, or `None` when the caller's patience ends before.
///
/// A thousand of them may end at once. What one of them does then is therefore little: it reads no clock, gives back no
/// timer unless there were few callers, and takes no lock unless the one that landed the flight is still waking.
///
/// # Cancel safety
/// Dropping it loses nothing: the flight goes on, and its landing stays.
#[must_use = "nobody waits until it is awaited"]
pub(crate) struct Waiting<K, V> {
    seat: Seat<K, V>,
    patience: Deadline,
    bed: Option<Bed>,
    /// Its own timer, when there is no bell that rings in time.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<K, V> Waiting<K, V> {
    pub(super) const fn new(seat: Seat<K, V>, patience: Deadline) -> Self {
        Self { seat, patience, bed: None, alarm: None }
    }

    /// The caller's place.
    pub(crate) const fn seat(&self) -> &Seat<K, V> {
        &self.seat
    }
}

impl<K: Send + Sync + 'static, V: Send + Sync + 'static> Future for Waiting<K, V>
where
    Landing<K, V>: Clone,
{
    type Output = Option<Landing<K, V>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { seat, patience, bed, alarm } = &mut *self;
        if let Some(landing) = seat.landed() {
            return Poll::Ready(Some(landing));
        }
        if !seat.lies_down(bed, context.waker()) {
            return Poll::Ready(seat.landed());
        }
        let Some(end) = patience.instant() else { return Poll::Pending };
        // Asked after it lay down: a bell that rings from now on wakes it.
        if alarm.is_none() && seat.flight().has_bell_before(end) {
            return Poll::Pending;
        }
        let alarm = alarm.get_or_insert_with(|| Box::pin(time::sleep_until(end)));
        alarm.as_mut().poll(context).map(|()| None)
    }
}

impl<K, V> Drop for Waiting<K, V> {
    fn drop(&mut self) {
        if let Some(bed) = self.bed.take() {
            self.seat.rises(bed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CancelPolicy;
    use crate::error::Failure;
    use crate::load::flight::{CROWD, Flight};
    use perf_core::time;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::task::JoinSet;

    type Outcomes = JoinSet<(u64, bool, Duration)>;

    /// Callers that wait so many seconds each, and what becomes of them: their patience, whether they had the landing, when.
    fn crowd(flight: &Arc<Flight<u32, u32>>, patience: impl Iterator<Item = u64>) -> Outcomes {
        let began = time::now();
        let mut callers = JoinSet::new();
        for seconds in patience {
            let seat = flight.board(CancelPolicy::Detach).unwrap();
            callers.spawn(async move {
                let landed = seat.waits(Deadline::within(Duration::from_secs(seconds))).await;
                (seconds, landed.is_some(), began.elapsed())
            });
        }
        callers
    }

    #[tokio::test(start_paused = true)]
    async fn each_of_a_crowd_gives_up_when_its_own_patience_ends() {
        let flight = Arc::new(Flight::new(0));
        // Some are less patient than the bell that the first of them hang up, some much more.
        let callers = crowd(&flight, (0..60).map(|index| [10, 4, 11, 60, 10, 6][index % 6]));
        for (patience, landed, taken) in callers.join_all().await {
            assert!(!landed);
            assert_eq!(taken.as_secs(), patience);
        }
        assert_eq!(flight.waiting(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_gets_the_landing_before_and_after_the_bell_has_rung() {
        for lands_after in [1, 7] {
            let flight = Arc::new(Flight::new(0));
            // Others who are gone before it lands must not take the wakes of those who stay.
            let mut gone = crowd(&flight, (0..100).map(|_| 10));
            tokio::task::yield_now().await;
            gone.abort_all();
            let callers = crowd(&flight, (0..100).map(|_| 10));
            time::sleep(Duration::from_secs(lands_after)).await;
            flight.land(Err(Failure::Recursive));
            for (_, landed, taken) in callers.join_all().await {
                assert!(landed);
                assert_eq!(taken.as_secs(), lands_after);
            }
        }
    }

    #[test]
    fn a_crowd_whose_runtime_is_gone_keeps_time_by_itself() {
        let flight = Arc::new(Flight::<u32, u32>::new(0));
        let gone = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut seats: Vec<_> = (0..CROWD).map(|_| flight.board(CancelPolicy::Detach).unwrap()).collect();
        {
            let _inside = gone.enter();
            assert!(flight.has_bell_before(time::now() + Duration::from_secs(3600)));
        }
        drop(gone);
        let here =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let late = here.block_on(seats.pop().unwrap().waits(Deadline::within(Duration::from_secs(7200))));
        assert!(late.is_none());
    }
}
