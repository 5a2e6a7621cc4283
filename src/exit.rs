//! How programs end: statuses by sysexits(3), and the system's errors in words.

use std::io;

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

/// The system's words without Rust's `(os error N)`.
pub fn words(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}
