//! How programs end: statuses by sysexits(3), and the system's errors in words.

use std::ffi::OsString;
use std::io;
use std::panic::{self, PanicHookInfo};
use std::process;

/// All went well.
pub const OK: u8 = 0;
/// The command line is wrong.
pub const USAGE: u8 = 64;
/// An input file cannot be read.
pub const NOINPUT: u8 = 66;
/// A host's name does not resolve.
pub const NOHOST: u8 = 68;
/// What is asked for is not to be had now.
pub const UNAVAILABLE: u8 = 69;
/// Output cannot be written.
pub const IOERR: u8 = 74;
/// Whoever answers does not speak as expected.
pub const PROTOCOL: u8 = 76;
/// Not allowed.
pub const NOPERM: u8 = 77;
/// A configuration file is wrong.
pub const CONFIG: u8 = 78;

/// The system refused something.
pub const OSERR: u8 = 71;

/// A fault of ours: what Rust's programs end with when they panic.
pub const PANIC: u8 = 101;

/// From now on a panic, in whichever thread, ends the program with [`PANIC`], what `say` has to
/// say of it being said. Of the abort that would follow, as these programs are built, the system
/// may keep a core, and secrets in it.
pub fn at_panics(say: impl Fn(&PanicHookInfo<'_>) + Send + Sync + 'static) {
    panic::set_hook(Box::new(move |panic| {
        say(panic);
        process::exit(PANIC.into());
    }));
}

/// Reads a command line; an error is the status to end with, what is wrong (or `--help`) having
/// been printed.
pub fn arguments<C: clap::Parser>(args: impl IntoIterator<Item = OsString>) -> Result<C, u8> {
    C::try_parse_from(args).map_err(|e| {
        // Nobody can be told that nothing can be printed.
        let _ = e.print();
        if e.use_stderr() { USAGE } else { OK }
    })
}

/// The system's words without Rust's `(os error N)`, and without the full stop of Windows.
pub fn words(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(at) => text[..at].trim_end_matches('.').to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_any_thread_ends_the_program() {
        const AGAIN: &str = "POSTERN_TEST_PANICS";
        if std::env::var_os(AGAIN).is_some() {
            at_panics(|_| {});
            let _ = std::thread::spawn(|| panic!("as it should")).join();
            return;
        }
        let name = "exit::tests::a_panic_in_any_thread_ends_the_program";
        let ended = process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env(AGAIN, "1")
            .output()
            .unwrap();
        assert_eq!(ended.status.code(), Some(PANIC.into()), "{ended:?}");
    }
}
