//! Places that hold an entry or nothing, readable without a lock, without a count and without a fence.
//!
//! The one module of this crate with `unsafe`; ARCHITECTURE.md gives the reason and the figures.
#![expect(unsafe_code, reason = "ARCHITECTURE.md, section `unsafe`")]

use super::lane::{self, Lane, Slot};
use super::sync::{AtomicPtr, Ordering};
use crate::hit::Freshness;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};

/// Something taken out of a [`Place`] for reading: it is not dropped before this is.
///
/// Two words, so that it travels in registers: a hit is made, tested and dropped without touching the stack.
pub(crate) struct Held<T> {
    it: NonNull<T>,
    how: How,
    owns: PhantomData<Arc<T>>,
}

/// What keeps it: the hazard slot that announces it, or else a count, told by the lowest bit, to which a note may be pinned
/// (the address of its `Arc` in the other bits).
#[derive(Clone, Copy, PartialEq)]
struct How(*const ());

const COUNTED: usize = 1;
const _: () =
    assert!(align_of::<Slot>() > COUNTED && align_of::<Freshness>() > COUNTED, "the lowest bit must be free");

impl How {
    const COUNTED: Self = Self(ptr::without_provenance(COUNTED));

    fn announced(slot: &'static Slot) -> Self {
        Self(ptr::from_ref(slot).cast())
    }

    fn noted(note: Arc<Freshness>) -> Self {
        Self(Arc::into_raw(note).cast::<()>().map_addr(|address| address | COUNTED))
    }

    #[inline]
    fn is_counted(self) -> bool {
        self.0.addr() & COUNTED != 0
    }

    #[inline]
    fn note(self) -> Option<*const Freshness> {
        let is_noted = self.is_counted() && self != Self::COUNTED;
        is_noted.then(|| self.0.map_addr(|address| address & !COUNTED).cast())
    }
}

// SAFETY: a `Held` gives shared access to the `T` and may be the last to drop it, exactly like an `Arc`. The slot is an
// atomic that any thread may clear; the note is an `Arc` of something that is `Send` and `Sync`.
unsafe impl<T: Send + Sync> Send for Held<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Held<T> {}

impl<T> Held<T> {
    pub(crate) fn to_arc(&self) -> Arc<T> {
        // SAFETY: `it` came from `Arc::into_raw`, and its count cannot reach zero while this `Held` exists: either one
        // count is ours, or it is announced, and no count of a place is given up while it is (`Bin::sweep`).
        unsafe {
            Arc::increment_strong_count(self.it.as_ptr());
            Arc::from_raw(self.it.as_ptr())
        }
    }

    /// The same with a note pinned to it, which makes it counted.
    pub(crate) fn with_note(self, note: Arc<Freshness>) -> Self {
        let mut held = Self::from(self.to_arc());
        held.how = How::noted(note);
        held
    }

    pub(crate) fn note(&self) -> Option<&Freshness> {
        // SAFETY: the note's count is ours until we are dropped, and nobody has exclusive access to what is in an `Arc`.
        self.how.note().map(|note| unsafe { &*note })
    }
}

/// Gives back what a `Held` without a slot owns. By value, so that the address of a `Held` is never needed.
#[cold]
#[inline(never)]
fn give_back<T>(it: NonNull<T>, how: How) {
    if let Some(note) = how.note() {
        // SAFETY: from `Arc::into_raw` in `How::noted`, given back once.
        drop(unsafe { Arc::from_raw(note) });
    }
    // SAFETY: without a slot one count was the `Held`'s, from `Arc::into_raw`; it is given back once.
    drop(unsafe { Arc::from_raw(it.as_ptr()) });
}

impl<T> From<Arc<T>> for Held<T> {
    fn from(arc: Arc<T>) -> Self {
        // SAFETY: `Arc::into_raw` is never null.
        let it = unsafe { NonNull::new_unchecked(Arc::into_raw(arc).cast_mut()) };
        Self { it, how: How::COUNTED, owns: PhantomData }
    }
}

impl<T> Deref for Held<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: as in `to_arc`, it is alive as long as this `Held`; nobody has exclusive access to what is in an `Arc`.
        unsafe { self.it.as_ref() }
    }
}

impl<T> Clone for Held<T> {
    fn clone(&self) -> Self {
        let mut held = Self::from(self.to_arc());
        if let Some(note) = self.how.note() {
            // SAFETY: from `Arc::into_raw`, and alive as long as we are.
            unsafe { Arc::increment_strong_count(note) };
            held.how = self.how;
        }
        held
    }
}

impl<T> Drop for Held<T> {
    #[inline]
    fn drop(&mut self) {
        if self.how.is_counted() {
            give_back(self.it, self.how);
        } else {
            // SAFETY: not counted, so it is the address of a slot, which lives for ever.
            unsafe { &*self.how.0.cast::<Slot>() }.clear();
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Held<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// A place for one `Arc`, or nothing. It owns one count of what it holds; empty it before it goes, or that count is leaked.
pub(super) struct Place<T> {
    it: AtomicPtr<T>,
    owns: PhantomData<Arc<T>>,
}

impl<T> Place<T> {
    pub(super) fn empty() -> Self {
        Self { it: AtomicPtr::new(ptr::null_mut()), owns: PhantomData }
    }

    /// What is here, for reading.
    pub(super) fn load(&self) -> Option<Held<T>> {
        lane::with_lane(|lane| self.load_in(lane))
    }

    /// What is here, announced in this lane, which should be the calling thread's.
    #[inline(always)]
    pub(super) fn load_in(&self, lane: &'static Lane) -> Option<Held<T>> {
        let it = NonNull::new(self.it.load(Ordering::Acquire))?;
        let slot = lane.first();
        if slot.is_free() {
            lane.announce(slot, it.addr().get());
            // Still here after the announcement: whoever takes it away from now on sees the announcement.
            if self.it.load(Ordering::Acquire) == it.as_ptr() {
                return Some(Held { it, how: How::announced(slot), owns: PhantomData });
            }
            slot.clear();
        }
        self.load_closely(lane)
    }

    /// The first slot is taken, or what is here is being replaced.
    #[inline(never)]
    fn load_closely(&self, lane: &'static Lane) -> Option<Held<T>> {
        let (slot, is_ours) = lane.slot();
        let mut it = NonNull::new(self.it.load(Ordering::Acquire))?;
        loop {
            lane.announce(slot, it.addr().get());
            match NonNull::new(self.it.load(Ordering::Acquire)) {
                Some(same) if same == it => break,
                Some(other) => it = other,
                None => {
                    slot.clear();
                    return None;
                }
            }
        }
        let held = Held { it, how: How::announced(slot), owns: PhantomData };
        Some(if is_ours { held } else { held.to_arc().into() })
    }

    /// Puts something here, and returns what was here.
    pub(super) fn swap(&self, new: Option<Arc<T>>) -> Option<Removed<T>> {
        let new = new.map_or(ptr::null_mut(), |arc| Arc::into_raw(arc).cast_mut());
        NonNull::new(self.it.swap(new, Ordering::AcqRel)).map(|it| Removed { it, owns: PhantomData })
    }

    /// Puts something here; this place must be empty.
    pub(super) fn fill(&self, new: Arc<T>) {
        let older = self.swap(Some(new));
        debug_assert!(older.is_none(), "nothing is put over something else");
    }

    /// Puts back what was taken out of another place; this one must be empty.
    pub(super) fn put_back(&self, removed: Removed<T>) {
        let older = self.it.swap(removed.it.as_ptr(), Ordering::AcqRel);
        debug_assert!(older.is_null(), "nothing is put back over something else");
    }
}

/// Something that was taken out of its place, whose count readers may still rely on. Put it into a [`Bin`]: dropped by
/// itself it is leaked, since nobody can tell who still reads it.
#[must_use = "put it into a bin"]
pub(super) struct Removed<T> {
    it: NonNull<T>,
    owns: PhantomData<Arc<T>>,
}

// SAFETY: it owns one count, like an `Arc`.
unsafe impl<T: Send + Sync> Send for Removed<T> {}

impl<T> Deref for Removed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: one count is ours.
        unsafe { self.it.as_ref() }
    }
}

impl<T> Removed<T> {
    /// The same with a count of its own.
    pub(super) fn to_arc(&self) -> Arc<T> {
        // SAFETY: one count is ours, so there is at least one.
        unsafe {
            Arc::increment_strong_count(self.it.as_ptr());
            Arc::from_raw(self.it.as_ptr())
        }
    }

    /// Gives up the count.
    ///
    /// # Safety
    /// No `Held` may announce it, and none may come to: it is in no place, and it is not in a list of announcements that
    /// was collected after it had been taken out of its place.
    unsafe fn into_arc(self) -> Arc<T> {
        // SAFETY: the count is ours, and, says the caller, nobody relies on it.
        unsafe { Arc::from_raw(self.it.as_ptr()) }
    }
}

/// Something of which there are newer versions from time to time. Readers may still be looking at older ones, so all stay
/// until the end.
pub(super) struct Versions<T> {
    newest: AtomicPtr<T>,
    all: Mutex<Vec<NonNull<T>>>,
    owns: PhantomData<T>,
}

// SAFETY: it owns its versions, and hands out shared references to them.
unsafe impl<T: Send + Sync> Send for Versions<T> {}
// SAFETY: as above; the list is only touched under its lock.
unsafe impl<T: Send + Sync> Sync for Versions<T> {}

impl<T> Versions<T> {
    pub(super) fn new(first: T) -> Self {
        let versions =
            Self { newest: AtomicPtr::new(ptr::null_mut()), all: Mutex::default(), owns: PhantomData };
        versions.push(first);
        versions
    }

    #[inline]
    pub(super) fn newest(&self) -> &T {
        // SAFETY: `new` and `push` store the address of a box that only `drop` frees.
        unsafe { &*self.newest.load(Ordering::Acquire) }
    }

    pub(super) fn push(&self, next: T) {
        // SAFETY: the address of a box is never null.
        let next = unsafe { NonNull::new_unchecked(Box::into_raw(Box::new(next))) };
        self.all.lock().unwrap_or_else(PoisonError::into_inner).push(next);
        self.newest.store(next.as_ptr(), Ordering::Release);
    }
}

impl<T> Drop for Versions<T> {
    fn drop(&mut self) {
        for version in std::mem::take(&mut *self.all.lock().unwrap_or_else(PoisonError::into_inner)) {
            // SAFETY: from `Box::into_raw`, freed once; references to it do not outlive `self`.
            drop(unsafe { Box::from_raw(version.as_ptr()) });
        }
    }
}

/// What was removed and may still be in use.
pub(super) struct Bin<T>(Vec<Removed<T>>);

impl<T> Default for Bin<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Bin<T> {
    pub(super) fn put(&mut self, removed: Removed<T>) {
        self.0.push(removed);
    }

    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    /// Leaves what is still being read to whoever sweeps next, anywhere: its owner goes.
    pub(super) fn abandon(mut self)
    where
        T: Send + Sync + 'static,
    {
        self.sweep(drop);
        if !self.0.is_empty() {
            let mut abandoned = ABANDONED.lock().unwrap_or_else(PoisonError::into_inner);
            abandoned.push(Box::new(self));
            ABANDONED_BINS.store(abandoned.len(), Ordering::Relaxed);
        }
    }

    /// Hands over what nobody uses any more.
    pub(super) fn sweep(&mut self, free: impl FnMut(Arc<T>)) {
        if !self.0.is_empty()
            && let Some(in_use) = lane::in_use()
        {
            self.sweep_all_but(&in_use, free);
        }
    }

    /// `in_use` was collected after everything in here had been removed, and is sorted.
    fn sweep_all_but(&mut self, in_use: &[usize], mut free: impl FnMut(Arc<T>)) {
        for removed in std::mem::take(&mut self.0) {
            if in_use.binary_search(&removed.it.addr().get()).is_ok() {
                self.0.push(removed);
            } else {
                // SAFETY: it is in no place any more, and the list, collected after it was taken out, does not name it.
                free(unsafe { removed.into_arc() });
            }
        }
    }
}

/// Bins of caches that are gone, while there are hits that outlived them.
static ABANDONED: Mutex<Vec<Box<dyn Sweep>>> = Mutex::new(Vec::new());
static ABANDONED_BINS: AtomicUsize = AtomicUsize::new(0);

trait Sweep: Send {
    /// Drops what nobody uses any more; whether something is left.
    fn sweep_and_keep(&mut self) -> bool;
}

impl<T: Send + Sync> Sweep for Bin<T> {
    fn sweep_and_keep(&mut self) -> bool {
        self.sweep(drop);
        !self.0.is_empty()
    }
}

/// Drops what caches left behind that are gone, as far as nobody uses it any more. Not to be called under a lock.
pub(super) fn sweep_abandoned() {
    if ABANDONED_BINS.load(Ordering::Relaxed) == 0 {
        return;
    }
    let lock = || ABANDONED.lock().unwrap_or_else(PoisonError::into_inner);
    // Values are dropped outside of the lock: they may hold caches themselves.
    let mut bins = std::mem::take(&mut *lock());
    bins.retain_mut(|bin| bin.sweep_and_keep());
    let mut abandoned = lock();
    abandoned.append(&mut bins);
    ABANDONED_BINS.store(abandoned.len(), Ordering::Relaxed);
}

#[cfg(all(test, not(perf_loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_kept_and_what_is_not_goes() {
        let (place, value) = (Place::empty(), Arc::new(7_u64));
        place.fill(Arc::clone(&value));
        let held = place.load().unwrap();
        let mut bin = Bin::default();
        bin.put(place.swap(None).unwrap());
        bin.sweep(|_| panic!("it is being read"));
        assert_eq!((*held, bin.len(), Arc::strong_count(&value)), (7, 1, 2));
        drop(held);
        bin.sweep(drop);
        assert_eq!((bin.len(), Arc::strong_count(&value)), (0, 1));
    }

    #[test]
    fn more_than_there_are_slots_is_counted_and_a_note_travels_with_its_copy() {
        let (place, value) = (Place::empty(), Arc::new(7_u64));
        place.fill(Arc::clone(&value));
        let held: Vec<_> = (0..lane::SLOTS + 5).map(|_| place.load().unwrap()).collect();
        assert!(Arc::strong_count(&value) >= 2 + 5);
        let note = Arc::new(Freshness::Refreshing);
        let noted = held[0].clone().with_note(Arc::clone(&note));
        let copy = noted.clone();
        drop(noted);
        assert_eq!((copy.note(), held[1].note()), (Some(&Freshness::Refreshing), None));
        drop((copy, held));
        let mut bin = Bin::default();
        bin.put(place.swap(None).unwrap());
        bin.sweep(drop);
        assert_eq!((Arc::strong_count(&value), Arc::strong_count(&note)), (1, 1));
    }

    #[test]
    fn a_hit_may_be_dropped_by_another_thread() {
        let (place, value) = (Place::empty(), Arc::new(7_u64));
        place.fill(Arc::clone(&value));
        let held = place.load().unwrap();
        std::thread::spawn(move || drop(held)).join().unwrap();
        let mut bin = Bin::default();
        bin.put(place.swap(None).unwrap());
        bin.sweep(drop);
        assert_eq!(Arc::strong_count(&value), 1);
    }
}

#[cfg(all(test, perf_loom))]
mod loom_tests {
    use super::*;
    use loom::thread;

    /// A value that notices being used after it was dropped.
    struct Guarded(loom::sync::Arc<loom::sync::atomic::AtomicUsize>);

    impl Drop for Guarded {
        fn drop(&mut self) {
            self.0.store(1, Ordering::SeqCst);
        }
    }

    /// One thread reads while another replaces, sweeps and frees: what is held was not dropped, in every interleaving.
    #[test]
    fn nothing_is_freed_while_it_is_read() {
        loom::model(|| {
            let dropped = loom::sync::Arc::new(loom::sync::atomic::AtomicUsize::new(0));
            let place: &'static Place<Guarded> = Box::leak(Box::new(Place::empty()));
            let lane: &'static Lane = Box::leak(Box::new(Lane::new(0, false)));
            place.fill(Arc::new(Guarded(loom::sync::Arc::clone(&dropped))));
            let reader = thread::spawn(move || {
                if let Some(held) = place.load_in(lane) {
                    assert_eq!(held.0.load(Ordering::SeqCst), 0, "freed while it was read");
                }
            });
            let mut bin = Bin::default();
            bin.put(place.swap(None).unwrap());
            let sweep = |bin: &mut Bin<Guarded>| {
                super::super::sync::fence(Ordering::SeqCst);
                let mut in_use = Vec::new();
                lane.collect(&mut in_use);
                in_use.sort_unstable();
                bin.sweep_all_but(&in_use, drop);
            };
            sweep(&mut bin);
            reader.join().unwrap();
            sweep(&mut bin);
            assert_eq!((bin.len(), dropped.load(Ordering::SeqCst)), (0, 1));
        });
    }
}
