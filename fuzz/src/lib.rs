//! How much memory a reading takes: an allocator that counts, and [`within`], which watches it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Bytes that this thread has allocated and not given back.
    static HELD: Cell<usize> = const { Cell::new(0) };
    /// The most it has held.
    static MOST: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

fn count(more: usize, less: usize) {
    // What another thread allocated may be given back here.
    let held = (HELD.get() + more).saturating_sub(less);
    HELD.set(held);
    MOST.set(MOST.get().max(held));
}

// SAFETY: every call is handed on to the system's allocator as it came. Counting allocates nothing: the cells are made of
// constants and need no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's promises are the ones asked for here.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // While it is copied, both are there.
        count(size, 0);
        count(0, layout.size());
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs it, and panics if it took more than so many bytes of memory at a time.
pub fn within(bytes: usize, run: &mut dyn FnMut()) {
    let before = HELD.get();
    MOST.set(before);
    run();
    let most = MOST.get() - before;
    assert!(most <= bytes, "{most} bytes of memory at a time, and {bytes} are enough");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_counted() {
        within(100, &mut || drop(std::hint::black_box(vec![0_u8; 100])));
        within(100, &mut || (0..9).for_each(|_| drop(std::hint::black_box(vec![0_u8; 100]))));
        let too_much = || within(100, &mut || drop(std::hint::black_box(vec![0_u8; 101])));
        assert!(std::panic::catch_unwind(too_much).is_err());
    }
}
