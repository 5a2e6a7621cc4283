//! knockd: the program under the name and with the command line of knockd 0.8.
//!
//! It reads knockd.conf, speaks as knockd does ([`Voice::Knockd`]) and ends as it does, 1 for
//! whatever went wrong, mistakes excepted: a wrong command line is an error here, and whoever
//! ends it by a signal gets 0.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser};

use super::monitor::Options;
use super::voice::Voice;
use crate::exit;

/// The name that it goes by.
const NAME: &str = "knockd";
/// What it ends with when something is wrong.
const FAILED: u8 = 1;

/// Where knockd looks for its configuration: where the port installs it on FreeBSD.
pub const FILE: &str = if cfg!(target_os = "freebsd") {
    "/usr/local/etc/knockd.conf"
} else {
    "/etc/knockd.conf"
};
/// Where knockd writes its process number unless told otherwise.
const PIDFILE: &str = "/var/run/knockd.pid";

const USAGE: &str = "\
usage: knockd [options]
  -i, --interface if   listen on this interface; may be given several times
  -d, --daemon         run in the background
  -c, --config file    read this configuration
  -D, --debug          accepted for compatibility
  -l, --lookup         accepted for compatibility: no names are looked up
  -p, --pidfile file   write the process number here, with -d
  -g, --logfile file   log to this file
  -v, --verbose        print what is logged
  -4, --only-ip-v4     leave IPv6 alone
  -V, --version        print the version
  -h, --help           print this
";

#[derive(Debug, Parser)]
#[command(
    name = "knockd",
    version = concat!(env!("CARGO_PKG_VERSION"), " (Postern)"),
    override_help = USAGE,
    args_override_self = true,
    infer_long_args = true
)]
struct Cli {
    #[arg(short, long, value_name = "if")]
    interface: Vec<String>,
    #[arg(short, long)]
    daemon: bool,
    #[arg(short, long, value_name = "file", default_value = FILE)]
    config: PathBuf,
    #[arg(short = 'D', long)]
    debug: bool,
    #[arg(short, long)]
    lookup: bool,
    #[arg(short, long, value_name = "file", default_value = PIDFILE)]
    pidfile: PathBuf,
    #[arg(short = 'g', long, value_name = "file")]
    logfile: Option<PathBuf>,
    #[arg(short, long)]
    verbose: bool,
    #[arg(short = '4', long)]
    only_ip_v4: bool,
}

/// Whether a program started under this name is to be knockd.
pub fn is_meant(name: &OsStr) -> bool {
    Path::new(name).file_name() == Some(OsStr::new(NAME))
}

/// The command line as clap knows it, for the manual's tests.
pub fn command_line() -> clap::Command {
    Cli::command()
}

/// Reads the command line; an error is the status to end with.
pub fn options(args: impl IntoIterator<Item = OsString>) -> Result<Options, u8> {
    let cli: Cli = exit::arguments(args).map_err(|status| match status {
        exit::OK => exit::OK,
        _ => FAILED,
    })?;
    // It may leave the directory that it was started in.
    let whole = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
    Ok(Options {
        config: whole(cli.config),
        interfaces: cli.interface,
        pidfile: Some(whole(cli.pidfile)),
        verbose: true,
        voice: Voice::Knockd,
        aloud: cli.verbose,
        log: cli.logfile.map(whole),
        only_v4: cli.only_ip_v4,
        detach: cli.daemon,
    })
}

/// What knockd ends with when posternd would end with `status`.
pub fn status(status: u8) -> u8 {
    match status {
        exit::OK => exit::OK,
        _ => FAILED,
    }
}
