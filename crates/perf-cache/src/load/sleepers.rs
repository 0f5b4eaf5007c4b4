//! Those who sleep until something happens, and their waking: in batches, by anyone who is awake.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// How many are woken with one turn of the lock: few enough to hold it for a moment only.
const BATCH: usize = 32;

/// The wakers of those who sleep. Each sleeper has a [`Bed`] for as long as it may sleep.
#[derive(Debug, Default)]
pub(super) struct Sleepers {
    beds: Mutex<Beds>,
    /// Everybody has been woken for good.
    all_up: AtomicBool,
}

#[derive(Debug, Default)]
struct Beds {
    /// Empty while nobody sleeps there.
    wakers: Vec<Option<Waker>>,
    /// Those that are given back.
    free: Vec<u32>,
    /// The first that may still have to be woken for good.
    next: usize,
}

/// A sleeper's place. Give it back with [`Sleepers::rise`].
#[derive(Debug)]
#[must_use = "a bed that is not given back stays taken"]
pub(super) struct Bed(u32);

impl Sleepers {
    /// Lies down to be woken through this waker, unless `is_over` says, under the lock, that there is nothing to sleep for.
    /// What makes that so happens before the waking, so nobody lies down unseen. Whether it lies.
    pub(super) fn lie_down(&self, bed: &mut Option<Bed>, waker: &Waker, is_over: impl Fn() -> bool) -> bool {
        let waker = waker.clone();
        let mut beds = self.lock();
        if is_over() {
            return false;
        }
        let older = match bed {
            Some(Bed(at)) => beds.wakers.get_mut(*at as usize).and_then(|place| place.replace(waker)),
            None => {
                *bed = Some(beds.make(waker));
                None
            }
        };
        drop(beds);
        // A waker may be the last owner of a task, and what a task does when it is dropped is its own.
        drop(older);
        true
    }

    /// Gives a bed back.
    pub(super) fn rise(&self, Bed(at): Bed) {
        let mut beds = self.lock();
        let waker = beds.wakers.get_mut(at as usize).and_then(Option::take);
        beds.free.push(at);
        drop(beds);
        drop(waker);
    }

    /// Wakes all who sleep now; they may lie down again.
    pub(super) fn rouse(&self) {
        let sleeping: Vec<_> = self.lock().wakers.iter_mut().filter_map(Option::take).collect();
        sleeping.into_iter().for_each(Waker::wake);
    }

    /// Wakes everybody for good: nobody lies down any more.
    pub(super) fn wake_all(&self) {
        while !self.all_up.load(Ordering::Acquire) {
            self.wake_batch(self.lock());
        }
    }

    /// Wakes some of those that [`Sleepers::wake_all`] has not come to yet. A thousand are awake soon even if the thread that
    /// wakes them is taken off its processor in the middle of it.
    pub(super) fn help(&self) {
        if !self.all_up.load(Ordering::Acquire)
            && let Ok(beds) = self.beds.try_lock()
        {
            self.wake_batch(beds);
        }
    }

    fn wake_batch(&self, mut beds: MutexGuard<'_, Beds>) {
        let mut batch = [const { None }; BATCH];
        let mut places = batch.iter_mut();
        let mut next = beds.next;
        while let Some(place) = beds.wakers.get_mut(next) {
            if place.is_some() {
                let Some(free) = places.next() else { break };
                *free = place.take();
            }
            next += 1;
        }
        beds.next = next;
        if next == beds.wakers.len() {
            self.all_up.store(true, Ordering::Release);
        }
        drop(beds);
        batch.into_iter().flatten().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Beds> {
        self.beds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Beds {
    fn make(&mut self, waker: Waker) -> Bed {
        if let Some(at) = self.free.pop()
            && let Some(place) = self.wakers.get_mut(at as usize)
        {
            *place = Some(waker);
            return Bed(at);
        }
        self.wakers.push(Some(waker));
        // As many as there are callers at once, which are counted in 32 bits.
        Bed((self.wakers.len() - 1) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Woken {
        fn times(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn lies(sleepers: &Sleepers, bed: &mut Option<Bed>, woken: &Arc<Woken>) -> bool {
        sleepers.lie_down(bed, &Arc::clone(woken).into(), || false)
    }

    #[test]
    fn those_who_help_wake_everyone_once_when_the_first_has_stopped() {
        let sleepers = Sleepers::default();
        let all: Vec<_> = (0..100).map(|_| Arc::new(Woken::default())).collect();
        for woken in &all {
            assert!(lies(&sleepers, &mut None, woken));
        }
        for helped in [32, 64, 96, 100, 100] {
            sleepers.help();
            assert_eq!(all.iter().map(|woken| woken.times()).sum::<usize>(), helped);
        }
        sleepers.wake_all();
        assert!(all.iter().all(|woken| woken.times() == 1));
    }

    #[test]
    fn who_has_risen_is_not_woken_and_its_bed_is_used_again() {
        let (sleepers, gone, here) = (Sleepers::default(), Arc::new(Woken::default()), Arc::default());
        for _ in 0..1_000 {
            let mut bed = None;
            assert!(lies(&sleepers, &mut bed, &gone));
            sleepers.rise(bed.unwrap());
        }
        assert!(lies(&sleepers, &mut None, &here));
        assert_eq!(sleepers.lock().wakers.len(), 1);
        sleepers.wake_all();
        assert_eq!((gone.times(), here.times()), (0, 1));
        assert_eq!(Arc::strong_count(&gone), 1);
    }

    #[test]
    fn the_roused_lie_down_again_in_the_same_bed_with_their_newest_waker() {
        let (sleepers, older, newer) = (Sleepers::default(), Arc::default(), Arc::default());
        let mut bed = None;
        assert!(lies(&sleepers, &mut bed, &older));
        sleepers.rouse();
        assert!(lies(&sleepers, &mut bed, &older));
        assert!(lies(&sleepers, &mut bed, &newer));
        assert_eq!(sleepers.lock().wakers.len(), 1);
        sleepers.wake_all();
        assert_eq!((older.times(), newer.times()), (1, 1));
    }

    #[test]
    fn nobody_lies_down_when_it_is_over() {
        let (sleepers, woken) = (Sleepers::default(), Arc::new(Woken::default()));
        let mut bed = None;
        assert!(!sleepers.lie_down(&mut bed, &Arc::clone(&woken).into(), || true));
        assert!(bed.is_none());
        assert_eq!(Arc::strong_count(&woken), 1);
    }
}
