//! posternd's command line.

use std::path::PathBuf;

use clap::{CommandFactory, Parser};

use super::monitor::Options;
use crate::config;

/// Watches interfaces and opens doors to whoever knocks rightly.
#[derive(Debug, Parser)]
#[command(
    name = "posternd",
    version,
    after_help = "\
Stays in the foreground.

Signals:
  SIGHUP   read the configuration again
  SIGUSR1  open the log again
  SIGTERM, SIGINT
           stop; guards and openings stand, what is due ends at the next start

Exit status:
  0   stopped by a signal
  64  the command line is wrong
  69  another posternd runs, or there is no packet filter or no confinement
  71  the system refused something
  77  not root
  78  the configuration is wrong"
)]
pub struct Arguments {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", default_value = config::FILE)]
    config: PathBuf,
    /// Watch this interface, in place of the configuration's; may be given several times
    #[arg(short, long, value_name = "INTERFACE")]
    interface: Vec<String>,
    /// Write the process number here
    #[arg(short, long, value_name = "FILE")]
    pidfile: Option<PathBuf>,
    /// Log stages, failures and timeouts of attempts too
    #[arg(short, long)]
    verbose: bool,
}

impl From<Arguments> for Options {
    fn from(arguments: Arguments) -> Options {
        Options {
            config: arguments.config,
            interfaces: arguments.interface,
            pidfile: arguments.pidfile,
            verbose: arguments.verbose,
            ..Options::default()
        }
    }
}

/// The command line as clap knows it, for the manual's tests and the shells' completions.
pub fn command_line() -> clap::Command {
    Arguments::command()
}
