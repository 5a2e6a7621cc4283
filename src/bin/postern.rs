//! postern: knocks at the doors of a machine that runs posternd.

use std::alloc::System;
use std::panic;
use std::process::ExitCode;

use postern::exit;
use postern::wipe::Wiping;

/// Freed memory holds no secrets.
#[global_allocator]
static HEAP: Wiping = Wiping(System);

fn main() -> ExitCode {
    exit::at_panics(panic::take_hook());
    postern::client::main(std::env::args_os())
}
