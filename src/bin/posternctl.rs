//! posternctl: controls posternd.

use std::process::ExitCode;

fn main() -> ExitCode {
    postern::ctl::main(std::env::args_os())
}
