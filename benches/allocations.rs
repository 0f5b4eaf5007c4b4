use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Counts the allocations of each thread. Install it in a benchmark with
/// `#[global_allocator] static ALLOCATOR: CountingAllocator = CountingAllocator;`.
#[derive(Debug)]
pub struct CountingAllocator;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<i64> = const { Cell::new(0) };
}

fn count() {
    // While a thread ends its counter may be gone already; what it allocates then belongs to no measurement.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

fn weigh(taken: usize, given_back: usize) {
    let _ = BYTES.try_with(|bytes| bytes.set(bytes.get() + taken as i64 - given_back as i64));
}

#[expect(
    unsafe_code,
    reason = "counting allocations needs a global allocator; every call is passed on to the system's"
)]
// SAFETY: every method forwards its arguments unchanged to `System`, which upholds the contract.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        weigh(layout.size(), 0);
        // SAFETY: the caller upholds the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        weigh(0, layout.size());
        // SAFETY: the caller upholds the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        weigh(size, layout.size());
        // SAFETY: the caller upholds the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// How many allocations the present thread makes while `work` runs. Needs [`CountingAllocator`] to be installed.
pub fn allocations_during(work: impl FnOnce()) -> u64 {
    let before = COUNT.with(Cell::get);
    work();
    COUNT.with(Cell::get) - before
}

/// How many bytes more the present thread has allocated than freed while `work` ran, without the allocator's own overhead.
/// Needs [`CountingAllocator`] to be installed.
pub fn bytes_kept_by<T>(work: impl FnOnce() -> T) -> (T, i64) {
    let before = BYTES.with(Cell::get);
    let made = work();
    (made, BYTES.with(Cell::get) - before)
}
