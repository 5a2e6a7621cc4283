//! postern: knocks at the doors of a machine that runs posternd.

use std::process::ExitCode;

fn main() -> ExitCode {
    postern::client::main(std::env::args_os())
}
