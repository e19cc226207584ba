//! The allocator of a build with musl, whose own takes one lock and 50 ns for each block: dlmalloc's, and before it small blocks that a thread keeps.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dlmalloc::Dlmalloc;

static HEAP: Mutex<Dlmalloc> = Mutex::new(Dlmalloc::new());

/// The standard library's lock of 4 bytes, which needs no memory of its own.
#[inline]
fn heap() -> MutexGuard<'static, Dlmalloc> {
    HEAP.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Nobody is within the allocator while this is held: for fork(2) beside other threads, whose child would else wait for one that it does not have. Its holder
/// asks for no memory meanwhile.
#[must_use]
pub fn hold() -> impl Sized {
    heap()
}

/// Blocks are a multiple of this.
const STEP: usize = 16;
/// What is larger is not kept.
const LARGEST: usize = 512;
const CLASSES: usize = LARGEST / STEP;
/// Blocks of one class that a thread keeps at most.
const KEPT: u8 = 8;

/// Blocks of one size that are free. Each holds the address of the next.
struct Class {
    first: Cell<*mut u8>,
    /// More that may come.
    room: Cell<u8>,
}

thread_local! {
    /// Without room until the thread asks for it.
    static FREE: [Class; CLASSES] = const { [const { Class { first: Cell::new(ptr::null_mut()), room: Cell::new(0) } }; CLASSES] };
}

/// Has the calling thread keep small blocks that it frees, up to 66 KiB, for the next that it needs. They are lost when it ends: for threads that live as long as
/// the process.
pub fn keep_small_blocks() {
    FREE.with(|classes| classes.iter().for_each(|class| class.room.set(KEPT)));
}

#[derive(Debug)]
pub struct Allocator;

/// As every block is asked for: what is kept is as large as its class.
fn rounded(layout: Layout) -> Layout {
    let size = layout.size().next_multiple_of(STEP);
    match layout.size() {
        1..=LARGEST => Layout::from_size_align(size, layout.align()).unwrap_or(layout),
        _ => layout,
    }
}

/// The class of a rounded layout, if it has one.
fn class_of(layout: Layout) -> Option<usize> {
    let is_small = layout.size() <= LARGEST && layout.align() <= STEP;
    is_small
        .then(|| (layout.size() / STEP).checked_sub(1))
        .flatten()
}

// SAFETY: each block comes from dlmalloc with a rounded layout, and lies in one list at most, of its own thread, until it is handed out again.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let layout = rounded(layout);
        let kept = class_of(layout).map_or(ptr::null_mut(), take);
        if kept.is_null() {
            // SAFETY: the caller's.
            unsafe { heap().malloc(layout.size(), layout.align()) }
        } else {
            kept
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let layout = rounded(layout);
        // SAFETY: the caller's: nobody uses the block any more.
        if !class_of(layout).is_some_and(|class| unsafe { keep(block, class) }) {
            // SAFETY: the block was asked for with this layout.
            unsafe { heap().free(block, layout.size(), layout.align()) }
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let layout = rounded(layout);
        // SAFETY: the caller's.
        unsafe { heap().calloc(layout.size(), layout.align()) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let layout = rounded(layout);
        let wanted =
            Layout::from_size_align(size, layout.align()).map_or(size, |new| rounded(new).size());
        // SAFETY: the block was asked for with this layout; the caller's.
        unsafe { heap().realloc(block, layout.size(), layout.align(), wanted) }
    }
}

#[inline]
fn take(class: usize) -> *mut u8 {
    FREE.with(|classes| {
        let class = &classes[class];
        let block = class.first.get();
        if !block.is_null() {
            // SAFETY: the list's blocks are free, and begin with the address of the next.
            class.first.set(unsafe { block.cast::<*mut u8>().read() });
            class.room.set(class.room.get() + 1);
        }
        block
    })
}

/// # Safety
/// The block is of that class, and nobody's.
#[inline]
unsafe fn keep(block: *mut u8, class: usize) -> bool {
    FREE.with(|classes| {
        let class = &classes[class];
        let Some(room) = class.room.get().checked_sub(1) else {
            return false;
        };
        // SAFETY: the block has at least 16 bytes, aligned to as many, and is nobody's.
        unsafe { block.cast::<*mut u8>().write(class.first.get()) };
        class.first.set(block);
        class.room.set(room);
        true
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 8).expect("a size of a test's")
    }

    #[test]
    fn a_thread_that_asked_gets_its_blocks_back() {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                keep_small_blocks();
                // SAFETY: sizes are not zero, and each block is given back once, with its layout.
                unsafe {
                    let first = Allocator.alloc(layout(100));
                    first.write_bytes(1, 100);
                    Allocator.dealloc(first, layout(100));
                    let again = Allocator.alloc(layout(97));
                    assert_eq!(first, again);
                    let more = Allocator.alloc(layout(100));
                    assert_ne!(again, more);
                    Allocator.dealloc(again, layout(97));
                    Allocator.dealloc(more, layout(100));
                }
            });
        });
    }

    #[test]
    fn a_child_of_many_threads_gets_memory() {
        let is_over = std::sync::atomic::AtomicBool::new(false);
        let order = std::sync::atomic::Ordering::Relaxed;
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !is_over.load(order) {
                        // SAFETY: the block is given back once, with its layout.
                        unsafe { Allocator.dealloc(Allocator.alloc(layout(700)), layout(700)) };
                    }
                });
            }
            for _ in 0..50 {
                let held = hold();
                // SAFETY: the child only asks this allocator, and ends.
                let child = unsafe { libc::fork() };
                drop(held);
                if child == 0 {
                    // SAFETY: as above; no handler of this process's is run.
                    unsafe {
                        libc::alarm(20);
                        Allocator.dealloc(Allocator.alloc(layout(700)), layout(700));
                        libc::_exit(0);
                    }
                }
                let mut status = 0;
                // SAFETY: the status is valid for a write.
                assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
                assert_eq!(status, 0);
            }
            is_over.store(true, order);
        });
    }

    /// Many blocks of all sizes, resized and freed in another order than they came in, in several threads: none overlaps another.
    #[test]
    fn blocks_hold_what_was_written_to_them() {
        std::thread::scope(|scope| {
            for seed in 1..5_u8 {
                scope.spawn(move || {
                    if seed % 2 == 0 {
                        keep_small_blocks();
                    }
                    let mut blocks: Vec<(*mut u8, usize, u8)> = Vec::new();
                    let mut state = u64::from(seed);
                    for turn in 0..4000_u32 {
                        state = state
                            .wrapping_mul(6_364_136_223_846_793_005)
                            .wrapping_add(u64::from(seed));
                        let size = (state >> 33) as usize % 700 + 1;
                        let mark = turn.to_le_bytes()[0] ^ seed;
                        // SAFETY: as above; every block's bytes are its own.
                        unsafe {
                            if turn % 3 == 2 {
                                let (block, old, mark) =
                                    blocks.swap_remove((state >> 20) as usize % blocks.len());
                                let check = |block: *mut u8, size| {
                                    assert!((0..size).all(|at| block.add(at).read() == mark))
                                };
                                check(block, old);
                                let block = Allocator.realloc(block, layout(old), size);
                                check(block, old.min(size));
                                Allocator.dealloc(block, layout(size));
                            } else {
                                let block = if turn % 3 == 0 {
                                    Allocator.alloc(layout(size))
                                } else {
                                    Allocator.alloc_zeroed(layout(size))
                                };
                                block.write_bytes(mark, size);
                                blocks.push((block, size, mark));
                            }
                        }
                    }
                    for (block, size, _) in blocks {
                        // SAFETY: as above.
                        unsafe { Allocator.dealloc(block, layout(size)) };
                    }
                });
            }
        });
    }
}
