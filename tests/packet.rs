//! Parsing allocates nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::path::Path;

use postern::capture::File;
use postern::packet::{Link, parse};
use postern::time::Time;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are the ones asked for here.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are the ones asked for here.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Frames of the captures, the same with one byte changed, and noise.
fn frames() -> Vec<(Link, Vec<u8>)> {
    let mut out = Vec::new();
    for name in ["ethernet", "cooked", "cooked2"] {
        let path = format!("{}/tests/captures/{name}.pcap", env!("CARGO_MANIFEST_DIR"));
        let mut file = File::open(Path::new(&path)).unwrap();
        let link = file.link();
        while let Some(frame) = file.next_frame().unwrap() {
            for at in 0..frame.bytes.len() {
                let mut broken = frame.bytes.to_vec();
                broken[at] ^= 0x0f;
                out.push((link, broken));
            }
            out.push((link, frame.bytes.to_vec()));
        }
    }
    let mut state = 1u64;
    for link in Link::ALL {
        for _ in 0..1000 {
            let noise = (0..100).map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 56) as u8
            });
            out.push((link, noise.collect()));
        }
    }
    out
}

#[test]
fn parsing_allocates_nothing() {
    let frames = frames();
    let before = ALLOCATIONS.get();
    let mut arrivals = 0;
    for (link, bytes) in &frames {
        arrivals += u32::from(black_box(parse(Time(0), *link, bytes)).is_some());
    }
    let allocations = ALLOCATIONS.get() - before;
    assert_eq!(allocations, 0);
    assert!(arrivals >= 30, "{arrivals} arrivals");

    black_box(vec![0u8; 1]);
    assert!(ALLOCATIONS.get() > before, "the counter does not count");
}
