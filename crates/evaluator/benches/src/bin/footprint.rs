//! Building time and memory: `footprint [--short] [--engine NAME]`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use countersign_benches::footprint::{engines, shared};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged; beside it a number is counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_short = arguments.iter().any(|argument| argument == "--short");
    let only = match arguments.iter().position(|argument| argument == "--engine") {
        Some(at) => arguments.get(at + 1).map_or("", String::as_str),
        None => "",
    };
    let live = || LIVE.load(Ordering::Relaxed);
    let (n, users) = if is_short { (1_000, 10_000) } else { (100_000, 1_000_000) };
    println!("{}", engines(n, only, live));
    println!("{}", shared(users, 1_000, live));
}
