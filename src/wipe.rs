//! Memory that is freed -> zeros, so that no secret outlives its use on the heap: the text of
//! configurations and one-time lists, what parsers made of it, frames to the listener, all the
//! buffers that grew on the way.
//!
//! What it cannot do: registers and the stack keep what passed through them until something else
//! does; the kernel keeps command lines, and may write what is in use to swap. What is in use
//! stands in memory: monitor and listener need the sequences as long as they run.

use std::alloc::{GlobalAlloc, Layout, System};
use std::mem::MaybeUninit;

use zeroize::optimization_barrier;

/// An allocator that wipes every block before it gives it back. The programs declare it; a block
/// that grows moves, so that its old place is wiped, too.
pub struct Wiping<A = System>(pub A);

// SAFETY: blocks come from the inner allocator and go back to it with the layout that they came
// with. `realloc` is the trait's own: `alloc`, copy, `dealloc`.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Wiping<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps to the same contract.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block has the layout's size and is nobody else's any more.
        let bytes = unsafe {
            block.write_bytes(0, layout.size());
            std::slice::from_raw_parts(block.cast::<MaybeUninit<u8>>(), layout.size())
        };
        // Else the compiler leaves out what is written to a block about to be freed.
        optimization_barrier(bytes);
        // SAFETY: as above.
        unsafe { self.0.dealloc(block, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Looks at every block that comes back.
    #[derive(Default)]
    struct Looks {
        back: Cell<usize>,
        dirty: Cell<usize>,
    }

    // SAFETY: all is the system's allocator's; what is read before has the layout's size and has
    // been written by `Wiping` or by the test.
    unsafe impl GlobalAlloc for Looks {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: as above.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            // SAFETY: as above.
            let bytes = unsafe { std::slice::from_raw_parts(block, layout.size()) };
            self.back.set(self.back.get() + 1);
            if bytes.iter().any(|&byte| byte != 0) {
                self.dirty.set(self.dirty.get() + 1);
            }
            // SAFETY: as above.
            unsafe { System.dealloc(block, layout) }
        }
    }

    #[test]
    fn nothing_comes_back_as_it_was_left() {
        let heap = Wiping(Looks::default());
        let layout = Layout::from_size_align(1000, 8).unwrap();
        // SAFETY: each block is written within its size and given back once, with its layout.
        unsafe {
            let block = heap.alloc(layout);
            block.write_bytes(0x5a, 1000);
            // Grows and shrinks: it moves both times.
            let block = heap.realloc(block, layout, 3000);
            assert_eq!((*block, *block.add(999)), (0x5a, 0x5a));
            block.write_bytes(0xa5, 3000);
            let large = Layout::from_size_align(3000, 8).unwrap();
            let block = heap.realloc(block, large, 10);
            assert_eq!(*block.add(9), 0xa5);
            heap.dealloc(block, Layout::from_size_align(10, 8).unwrap());
        }
        assert_eq!((heap.0.back.get(), heap.0.dirty.get()), (3, 0));
    }
}
