//! What a cache keeps of one value.

use crate::clock::{Tick, nanos};
use crate::engine::Priority;
use crate::remote::port::Position;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One value and everything that decides whether it may be served. The value never changes; the stamps do.
///
/// In this order what a hit reads lies side by side.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Entry<K, V> {
    pub(crate) key: K,
    /// The newest fence at which this entry is known to be valid.
    seen: AtomicU64,
    /// Before this tick a hit has nothing to decide.
    calm: AtomicU64,
    /// When the engine last noted a hit of it, in its own count.
    noted: AtomicU32,
    /// The engine's number for it.
    number: AtomicU32,
    /// `None` remembers that there is nothing.
    pub(crate) value: Option<V>,
    pub(crate) hash: u64,
    pub(crate) tags: Box<[u64]>,
    pub(crate) weight: u64,
    pub(crate) etag: Option<Box<str>>,
    fresh: AtomicU64,
    stored: AtomicU64,
    /// Expired by hand: kept for failures only.
    expired: AtomicBool,
    /// How the engine ranks it against others when there is no room.
    pub(crate) priority: Priority,
    /// Served this long after `fresh` while a refresh runs, and this long when loads fail.
    stale_for: u64,
    error_for: u64,
    /// Why it is served past its life without another load, and for how long; looked at past its life only.
    throttle: Mutex<Option<Box<Throttle>>>,
    /// How far the log had been followed when its load began: tells which of two copies is the older one.
    pub(crate) position: Position,
}

/// The next load of an entry waits.
#[derive(Debug)]
struct Throttle {
    until: Tick,
    /// What the last load failed with; nothing when it was not made.
    reason: Option<Arc<str>>,
}

/// What an entry is good for at some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    /// Serve it.
    Fresh,
    /// Serve it, and refresh it in the background.
    RefreshDue,
    /// Past its life, but to be served until the next load, which waits because the last one failed with this message, or
    /// because there was no room for it.
    Throttled(Option<Arc<str>>),
    /// Past its life, but to be served while a refresh runs.
    Stale,
    /// To be served only when the load fails or is late.
    ErrorOnly,
    /// Of no use any more.
    Dead,
}

/// The lives of a new entry, jitter included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lives {
    pub(crate) fresh: Duration,
    /// After this long a hit starts a refresh; later than `fresh` means never.
    pub(crate) refresh: Duration,
    pub(crate) stale: Duration,
    pub(crate) error: Duration,
}

/// The parts of an entry that are settled before it is stored.
#[derive(Debug)]
pub(crate) struct Draft<K, V> {
    pub(crate) hash: u64,
    pub(crate) key: K,
    pub(crate) value: Option<V>,
    pub(crate) tags: Box<[u64]>,
    pub(crate) weight: u64,
    pub(crate) etag: Option<Box<str>>,
    pub(crate) priority: Priority,
    pub(crate) as_of: u64,
}

impl<K, V> Entry<K, V> {
    pub(crate) fn new(draft: Draft<K, V>, lives: Lives, now: Tick) -> Self {
        let Draft { hash, key, value, tags, weight, etag, priority, as_of } = draft;
        let entry = Self {
            hash,
            key,
            value,
            tags,
            weight,
            etag,
            priority,
            position: Position::ZERO,
            seen: AtomicU64::new(as_of),
            calm: AtomicU64::new(0),
            fresh: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            stale_for: nanos(lives.stale),
            error_for: nanos(lives.error),
            expired: AtomicBool::new(false),
            throttle: Mutex::new(None),
            number: AtomicU32::new(0),
            noted: AtomicU32::new(0),
        };
        entry.renew(lives, as_of, now);
        entry
    }

    /// Gives the same value a new life: it was confirmed by a load that began at fence `as_of`.
    pub(crate) fn renew(&self, lives: Lives, as_of: u64, now: Tick) {
        let fresh = now.after(lives.fresh);
        self.stored.store(now.0, Ordering::Relaxed);
        self.seen.fetch_max(as_of, Ordering::AcqRel);
        self.expired.store(false, Ordering::Relaxed);
        *self.throttled() = None;
        self.fresh.store(fresh.0, Ordering::Relaxed);
        self.calm.store(now.after(lives.refresh).min(fresh).0, Ordering::Release);
    }

    /// Ends the life by hand; what is left is only for failures.
    pub(crate) fn expire(&self, now: Tick) {
        self.expired.store(true, Ordering::Relaxed);
        self.fresh.fetch_min(now.0, Ordering::Relaxed);
        self.calm.store(0, Ordering::Release);
    }

    /// Moves the end of the life to `fresh` and the next decision to `calm`, never back.
    pub(crate) fn prolong(&self, fresh: Tick, calm: Tick) {
        self.fresh.fetch_max(fresh.0, Ordering::Relaxed);
        self.calm.fetch_max(calm.0, Ordering::AcqRel);
    }

    /// When the life ends, windows for failures and refreshes not counted.
    pub(crate) fn fresh_until(&self) -> Tick {
        Tick(self.fresh.load(Ordering::Relaxed))
    }

    /// Whether its life was ended by hand.
    pub(crate) fn is_expired(&self) -> bool {
        self.expired.load(Ordering::Relaxed)
    }

    /// A load failed, with this message, or was not made: the next one waits until then. The life is extended for as long,
    /// without jitter, and never beyond the windows in which a value past its life may be served.
    pub(crate) fn throttle(&self, until: Tick, reason: Option<Arc<str>>) {
        if self.is_expired() {
            return;
        }
        let window = if reason.is_some() {
            self.dead_at()
        } else {
            Tick(self.fresh_until().0.saturating_add(self.stale_for))
        };
        let until = until.min(window);
        *self.throttled() = Some(Box::new(Throttle { until, reason }));
        self.calm.fetch_max(until.min(self.fresh_until()).0, Ordering::AcqRel);
    }

    fn throttled(&self) -> MutexGuard<'_, Option<Box<Throttle>>> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The look of the engine's policy at which a hit was last noted; 0 before the first.
    #[inline]
    pub(crate) fn noted(&self) -> u32 {
        self.noted.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn set_noted(&self, look: u32) {
        self.noted.store(look, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn number(&self) -> u32 {
        self.number.load(Ordering::Relaxed)
    }

    pub(crate) fn set_number(&self, number: u32) {
        self.number.store(number, Ordering::Relaxed);
    }

    /// The newest fence at which the entry is known to be valid.
    #[inline]
    pub(crate) fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// The entry was found valid at this fence; later hits need not look before a newer one.
    pub(crate) fn confirm(&self, fence: u64) {
        self.seen.fetch_max(fence, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn is_calm(&self, now: Tick) -> bool {
        now.0 < self.calm.load(Ordering::Acquire)
    }

    pub(crate) fn age(&self, now: Tick) -> Age {
        if self.is_calm(now) {
            return Age::Fresh;
        }
        let fresh = self.fresh.load(Ordering::Relaxed);
        if now.0 < fresh {
            return Age::RefreshDue;
        }
        let expired = self.is_expired();
        if let Some(throttle) = self.throttled().as_ref().filter(|throttle| !expired && now < throttle.until)
        {
            return Age::Throttled(throttle.reason.clone());
        }
        if !expired && now.0 < fresh.saturating_add(self.stale_for) {
            Age::Stale
        } else if now.0 < fresh.saturating_add(self.error_for) {
            Age::ErrorOnly
        } else {
            Age::Dead
        }
    }

    /// When the entry is of no use to anyone any more.
    pub(crate) fn dead_at(&self) -> Tick {
        Tick(self.fresh.load(Ordering::Relaxed).saturating_add(self.stale_for.max(self.error_for)))
    }

    /// Loaded when the log had been followed to this position.
    pub(crate) const fn at(mut self, position: Position) -> Self {
        self.position = position;
        self
    }

    /// What is left of its life.
    pub(crate) fn fresh_for(&self, now: Tick) -> std::time::Duration {
        Tick(self.fresh.load(Ordering::Relaxed)).since(now)
    }

    pub(crate) fn stored_at(&self) -> Tick {
        Tick(self.stored.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(lives: Lives) -> Entry<u8, u8> {
        let draft = Draft {
            hash: 0,
            key: 1,
            value: Some(2),
            tags: Box::default(),
            weight: 1,
            etag: None,
            priority: Priority::Normal,
            as_of: 0,
        };
        Entry::new(draft, lives, Tick(0))
    }

    const fn at(nanos: u64) -> Duration {
        Duration::from_nanos(nanos)
    }

    const LIVES: Lives = Lives { fresh: at(100), refresh: at(80), stale: at(20), error: at(50) };

    #[test]
    fn an_entry_passes_through_its_ages_in_order() {
        let entry = entry(LIVES);
        let ages = [0, 79, 80, 99, 100, 119, 120, 149, 150].map(|now| entry.age(Tick(now)));
        let expected = [
            Age::Fresh,
            Age::Fresh,
            Age::RefreshDue,
            Age::RefreshDue,
            Age::Stale,
            Age::Stale,
            Age::ErrorOnly,
            Age::ErrorOnly,
            Age::Dead,
        ];
        assert_eq!(ages, expected);
        assert_eq!(entry.dead_at(), Tick(150));
    }

    #[test]
    fn s11_an_entry_expired_by_hand_is_kept_for_failures_only() {
        let entry = entry(LIVES);
        entry.expire(Tick(10));
        assert_eq!(entry.age(Tick(10)), Age::ErrorOnly);
        assert_eq!(entry.age(Tick(60)), Age::Dead);
        entry.throttle(Tick(90), None);
        assert_eq!(entry.age(Tick(20)), Age::ErrorOnly, "throttling never undoes an expiry");
    }

    #[test]
    fn s20_a_throttle_extends_the_life_says_why_and_ends_with_the_windows() {
        let (throttled, why) = (entry(LIVES), Some(Arc::from("down")));
        throttled.throttle(Tick(110), why.clone());
        let ages = [80, 99, 100, 109, 110].map(|now| throttled.age(Tick(now)));
        let extended = Age::Throttled(why.clone());
        assert_eq!(ages, [Age::Fresh, Age::Fresh, extended.clone(), extended.clone(), Age::Stale]);
        throttled.throttle(Tick(u64::MAX), why.clone());
        assert_eq!((throttled.age(Tick(149)), throttled.age(Tick(150))), (extended, Age::Dead));
        throttled.renew(LIVES, 0, Tick(200));
        assert_eq!(throttled.age(Tick(300)), Age::Stale, "a load that succeeds ends it");
        let bare = entry(Lives { stale: at(0), error: at(0), ..LIVES });
        bare.throttle(Tick(110), why);
        assert_eq!((bare.age(Tick(99)), bare.age(Tick(100))), (Age::Fresh, Age::Dead));
        let shed = entry(LIVES);
        shed.throttle(Tick(140), None);
        assert_eq!((shed.age(Tick(119)), shed.age(Tick(120))), (Age::Throttled(None), Age::ErrorOnly));
    }

    #[test]
    fn s26_endless_lives_do_not_overflow() {
        let forever = Duration::MAX;
        let entry = entry(Lives { fresh: forever, refresh: forever, stale: forever, error: forever });
        assert_eq!(entry.age(Tick(u64::MAX - 1)), Age::Fresh);
        assert_eq!(entry.dead_at(), Tick(u64::MAX));
    }

    #[test]
    fn a_renewed_entry_starts_again() {
        let entry = entry(LIVES);
        entry.expire(Tick(10));
        entry.renew(LIVES, 3, Tick(200));
        assert_eq!((entry.age(Tick(279)), entry.seen(), entry.stored_at()), (Age::Fresh, 3, Tick(200)));
    }
}
