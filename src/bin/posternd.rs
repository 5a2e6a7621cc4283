//! posternd: watches interfaces and opens doors to whoever knocks rightly.

use std::process::ExitCode;

use postern::daemon::{arguments::Arguments, knockd_as, listener, monitor, spawn};
use postern::exit;

fn main() -> ExitCode {
    if std::env::args_os()
        .nth(1)
        .is_some_and(|a| a == spawn::LISTENER)
    {
        return listener::run();
    }
    let name = std::env::args_os().next();
    if name.is_some_and(|name| knockd_as::is_meant(&name)) {
        return match knockd_as::options(std::env::args_os()) {
            Ok(options) => monitor::run(options),
            Err(status) => status.into(),
        };
    }
    let arguments: Arguments = match exit::arguments(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(status) => return status.into(),
    };
    monitor::run(arguments.into())
}
