//! postern: knocks, and connects to whom it has knocked at.
//!
//! | file | what |
//! |---|---|
//! | [`profile`] | hosts by name, each with the ways to knock at it |
//! | [`address`] | a host's name -> its addresses |
//! | [`knock`] | a sequence of ports |
//! | [`ping`] | a secret in an echo request |
//! | [`spa`] | single packets |
//! | [`echo`] | echo requests, whatever they carry |
//! | [`connect`] | ssh's ProxyCommand: knocks until it is let in |
//! | [`relay`] | carries a stream between a socket, standard input and standard output |
//! | [`knock_as`] | the program under the name of knockd's client |

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::exit;
use address::Family;
use profile::Host;

pub mod address;
pub mod connect;
pub mod echo;
pub mod knock;
pub mod knock_as;
pub mod ping;
pub mod profile;
pub mod relay;
pub mod spa;

const STATUSES: &str = "\
Exit status:
  0   all was sent, and whether a door opened, nothing tells but the door; connect: the stream ended
  64  the command line is wrong
  66  the file with the secret cannot be read
  68  the host's name does not resolve
  69  something could not be sent, and what follows it was not tried; connect: nobody lets us in
  74  connect: the connection broke
  77  the system lets this user send no echo request
  78  the profile file is wrong, or has no such host or way; the secret is none";

/// Knocks at the doors of a machine that runs posternd.
#[derive(Parser)]
#[command(name = "postern", version, after_help = STATUSES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Hit a sequence of ports
    #[command(after_help = STATUSES)]
    Knock(knock::KnockArgs),
    /// Send an echo request that carries a secret
    #[command(after_help = STATUSES)]
    Ping(ping::PingArgs),
    /// Send a sealed packet that names an address and ports (single-packet authorization)
    #[command(after_help = STATUSES)]
    Spa(spa::SpaArgs),
    /// Knock, connect, and carry the stream: ssh's ProxyCommand
    #[command(after_help = STATUSES)]
    Connect(connect::ConnectArgs),
}

/// What every command takes.
#[derive(clap::Args)]
struct Common {
    /// IPv4 only
    #[arg(short = '4', conflicts_with = "v6")]
    v4: bool,
    /// IPv6 only
    #[arg(short = '6')]
    v6: bool,
    /// The address to knock from
    #[arg(long, value_name = "ADDRESS")]
    source: Option<IpAddr>,
    /// The profile file [default: ~/.config/postern/config.toml, on Windows
    /// %APPDATA%\postern\config.toml]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print what is done
    #[arg(short, long)]
    verbose: bool,
}

impl Common {
    fn family(&self) -> Family {
        match (self.v4, self.v6, self.source) {
            (true, _, _) => Family::V4,
            (_, true, _) => Family::V6,
            (_, _, Some(source)) => Family::of(source),
            _ => Family::Any,
        }
    }

    /// The address to knock at: the first that the system names.
    fn resolve(&self, name: &str) -> Result<SocketAddr, Problem> {
        let address = address::resolve(name, self.family())?[0];
        if address.ip().to_string() != name {
            self.say(format_args!("{name} is {}", address.ip()));
        }
        Ok(address)
    }

    /// A host of the profile file, since the command line has no `what`.
    fn profile(&self, host: &str, what: &str) -> Result<Host, Problem> {
        let Some(file) = self.config.clone().or_else(profile::file) else {
            let said = format!("{host}: no {what}, and no home directory with a profile");
            return Err(Problem::new(exit::USAGE, said));
        };
        profile::find(&file, host).map_err(|e| match e {
            profile::Error::Absent { .. } if self.config.is_none() => Problem::new(
                exit::USAGE,
                format!("{host}: no {what}, and no profile: {e}"),
            ),
            e => Problem::new(exit::CONFIG, e),
        })
    }

    /// With -v; what is sent is sent whether somebody reads about it or not.
    fn say(&self, line: impl fmt::Display) {
        if self.verbose {
            let _ = writeln!(io::stdout(), "{line}");
        }
    }
}

/// What ends the program before its time: what to say, and the exit status.
#[derive(Debug)]
struct Problem {
    said: String,
    status: u8,
}

impl Problem {
    fn new(status: u8, said: impl fmt::Display) -> Problem {
        Problem {
            said: said.to_string(),
            status,
        }
    }

    /// Of this address.
    fn about(self, address: SocketAddr) -> Problem {
        Problem::new(
            self.status,
            format!("{}: {}", echo::bare(address), self.said),
        )
    }
}

/// The command line as clap knows it, for the manual's tests and the shells' completions.
pub fn command_line() -> clap::Command {
    Cli::command()
}

/// postern, or knock if it was started under that name.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    if args.first().is_some_and(|name| knock_as::is_meant(name)) {
        return knock_as::main(args).into();
    }
    let cli: Cli = match exit::arguments(args) {
        Ok(cli) => cli,
        Err(status) => return status.into(),
    };
    let done = match &cli.command {
        Command::Knock(args) => knock::run(args),
        Command::Ping(args) => ping::run(args),
        Command::Spa(args) => spa::run(args),
        Command::Connect(args) => connect::run(args),
    };
    match done {
        Ok(()) => exit::OK,
        Err(problem) => {
            complain(&problem.said);
            problem.status
        }
    }
    .into()
}

/// Says this, line by line, on standard error.
fn complain(said: &str) {
    for line in said.lines() {
        // Nobody can be told that nothing can be told.
        let _ = writeln!(io::stderr(), "postern: {line}");
    }
}
