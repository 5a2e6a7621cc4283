//! knock: the program under the name and with the command line of knockd's client.
//!
//! It sends what knock 0.8 sends and prints what it prints, mistakes excepted: what cannot be
//! meant (port `abc`, protocol `icmp`) and what cannot be sent is said, where knock hits some
//! port or none and ends as if all were well; help is no error.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use clap::{CommandFactory, Parser};

use super::address::{self, Family};
use super::{Problem, knock};
use crate::config::{Port, Protocol, units};
use crate::exit;

/// The name that it goes by.
const NAME: &str = "knock";
/// What it ends with when it did not do all that was asked, as knock does.
const FAILED: u8 = 1;

const USAGE: &str = "\
usage: knock [options] host port[:tcp|:udp]...
  -u, --udp       hit every port by UDP (TCP unless a port says otherwise)
  -d, --delay ms  wait so many milliseconds from one hit to the next
  -4, --ipv4      use IPv4
  -6, --ipv6      use IPv6
  -v, --verbose   print each hit
  -V, --version   print the version
  -h, --help      print this

example: knock server.example.net 7143 2912:udp 39001
";

#[derive(Parser)]
#[command(
    name = "knock",
    version = concat!(env!("CARGO_PKG_VERSION"), " (Postern)"),
    override_help = USAGE,
    args_override_self = true,
    infer_long_args = true
)]
struct Cli {
    #[arg(short, long)]
    udp: bool,
    #[arg(short, long, value_name = "t", default_value_t = 0)]
    delay: u32,
    #[arg(short = '4', long, overrides_with = "ipv6")]
    ipv4: bool,
    #[arg(short = '6', long)]
    ipv6: bool,
    #[arg(short, long)]
    verbose: bool,
    host: String,
    #[arg(required = true, value_name = "port[:proto]", value_parser = units::port)]
    ports: Vec<Port>,
}

/// Whether a program started under this name is to be knock.
pub fn is_meant(name: &OsStr) -> bool {
    Path::new(name).file_stem() == Some(OsStr::new(NAME))
}

/// The command line as clap knows it, for the manual's tests.
pub fn command_line() -> clap::Command {
    Cli::command()
}

/// The program; what it ends with.
pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    let cli: Cli = match exit::arguments(args) {
        Ok(cli) => cli,
        Err(exit::OK) => return exit::OK,
        Err(_) => return FAILED,
    };
    match knock_at(&cli) {
        Ok(()) => exit::OK,
        Err(e) => {
            let _ = writeln!(io::stderr(), "{NAME}: {}", e.said);
            FAILED
        }
    }
}

fn knock_at(cli: &Cli) -> Result<(), Problem> {
    let family = match (cli.ipv4, cli.ipv6) {
        (true, _) => Family::V4,
        (_, true) => Family::V6,
        _ => Family::Any,
    };
    let mut steps = cli.ports.clone();
    if cli.udp {
        steps.iter_mut().for_each(|s| s.protocol = Protocol::Udp);
    }
    let address = address::resolve(&cli.host, family)?[0];
    let delay = Duration::from_millis(cli.delay.into());
    knock::send(address, &steps, delay, None, |target| {
        if cli.verbose {
            // Steps go out whether somebody reads about them or not.
            let _ = writeln!(io::stdout(), "hitting {}", as_knock_writes(target));
        }
    })?;
    Ok(())
}

/// `tcp 192.0.2.1:7000`, `udp 2001:db8::1:7000`.
fn as_knock_writes(target: knock::Target) -> String {
    let (protocol, to) = (target.protocol, target.to);
    format!("{protocol} {}:{}", to.ip(), to.port())
}
