//! posternd: watches interfaces and opens doors to whoever knocks rightly.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use postern::daemon::{knockd_as, listener, monitor, spawn};
use postern::exit;

/// Watches interfaces and opens doors to whoever knocks rightly.
#[derive(Parser)]
#[command(
    version,
    after_help = "\
Stays in the foreground.

Signals:
  SIGHUP   read the configuration again
  SIGUSR1  open the log again
  SIGTERM  stop; guards and openings stand, what is due ends at the next start

Exit status:
  0   stopped by a signal
  64  the command line is wrong
  69  another posternd runs, the packet filter cannot be driven, or the listener cannot be
      confined
  71  the system refused something
  77  not root
  78  the configuration is wrong"
)]
struct Arguments {
    /// The configuration.
    #[arg(short, long, value_name = "FILE", default_value = postern::config::FILE)]
    config: PathBuf,
    /// Watch this interface, in place of the configuration's; may be given several times.
    #[arg(short, long, value_name = "IF")]
    interface: Vec<String>,
    /// Write the process number here.
    #[arg(short, long, value_name = "FILE")]
    pidfile: Option<PathBuf>,
    /// Log stages, failures and timeouts of attempts too.
    #[arg(short, long)]
    verbose: bool,
}

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
    monitor::run(monitor::Options {
        config: arguments.config,
        interfaces: arguments.interface,
        pidfile: arguments.pidfile,
        verbose: arguments.verbose,
        ..monitor::Options::default()
    })
}
