//! postern: sends knocks.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand, ValueHint};

use crate::config::{Port, Wrong, units};
use crate::exit;

pub mod knock;
pub mod knock_as;
pub mod profile;

const STATUSES: &str = "\
Exit status:
  0   every step was sent; whether a door opened, nothing tells but the door
  64  the command line is wrong
  68  the host's name does not resolve
  69  a step could not be sent; those after it were not tried
  78  the profile file is wrong, or has no such host";

/// Knocks at the doors of a machine that runs posternd.
#[derive(Debug, Parser)]
#[command(name = "postern", version, after_help = STATUSES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Hit a sequence of ports
    #[command(after_help = STATUSES)]
    Knock(KnockArgs),
}

#[derive(Debug, clap::Args)]
struct KnockArgs {
    /// A name or address; without ports, a host of the profile file
    #[arg(value_hint = ValueHint::Hostname)]
    host: String,
    /// The steps in order: 7143, 7143/tcp or 2912/udp
    #[arg(value_name = "PORT[/udp]", value_parser = units::port)]
    ports: Vec<Port>,
    /// IPv4 only
    #[arg(short = '4', conflicts_with = "v6")]
    v4: bool,
    /// IPv6 only
    #[arg(short = '6')]
    v6: bool,
    /// From one step to the next [default: 50ms, or as the profile says]
    #[arg(short, long, value_name = "DURATION", value_parser = delay)]
    delay: Option<Duration>,
    /// The address to knock from
    #[arg(long, value_name = "ADDRESS")]
    source: Option<IpAddr>,
    /// The profile file [default: ~/.config/postern/config.toml,
    /// %APPDATA%\postern\config.toml on Windows]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print each step as it is sent
    #[arg(short, long)]
    verbose: bool,
}

/// What ends the program before its time: what to say, and the exit status.
#[derive(Debug)]
struct Problem {
    said: String,
    status: u8,
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
    let Command::Knock(args) = cli.command;
    match knock_at(&args) {
        Ok(()) => exit::OK,
        Err(problem) => {
            for line in problem.said.lines() {
                let _ = writeln!(io::stderr(), "postern: {line}");
            }
            problem.status
        }
    }
    .into()
}

fn knock_at(args: &KnockArgs) -> Result<(), Problem> {
    let knock = what(args)?;
    let family = match (args.v4, args.v6, args.source) {
        (true, _, _) => knock::Family::V4,
        (_, true, _) => knock::Family::V6,
        (_, _, Some(source)) => knock::family_of(source),
        _ => knock::Family::Any,
    };
    let delay = args.delay.unwrap_or(knock.delay);
    let say = |line: String| {
        // Steps go out whether somebody reads about them or not.
        if args.verbose {
            let _ = writeln!(io::stdout(), "{line}");
        }
    };
    let address = knock::resolve(&knock.host, family).map_err(failed)?;
    if address.ip().to_string() != knock.host {
        say(format!("{} is {}", knock.host, address.ip()));
    }
    knock::send(address, &knock.steps, delay, args.source, |target| {
        say(format!("hitting {target}"));
    })
    .map_err(failed)
}

fn delay(text: &str) -> Result<Duration, Wrong> {
    units::duration_within(text, &knock::DELAYS)
}

/// What to send: as the command line says if it names ports, else as the profile says.
fn what(args: &KnockArgs) -> Result<knock::Knock, Problem> {
    if !args.ports.is_empty() {
        return Ok(knock::Knock {
            host: args.host.clone(),
            steps: args.ports.clone(),
            delay: knock::DELAY,
        });
    }
    let given = args.config.clone();
    let Some(file) = given.or_else(profile::file) else {
        return Err(Problem {
            said: format!(
                "{}: no ports, and no home directory with a profile",
                args.host
            ),
            status: exit::USAGE,
        });
    };
    profile::find(&file, &args.host).map_err(|e| match e {
        profile::Error::Absent { .. } if args.config.is_none() => Problem {
            said: format!("{}: no ports, and no profile: {e}", args.host),
            status: exit::USAGE,
        },
        e => Problem {
            said: e.to_string(),
            status: exit::CONFIG,
        },
    })
}

fn failed(error: knock::Error) -> Problem {
    let status = match error {
        knock::Error::Unresolved { .. } | knock::Error::NoAddress { .. } => exit::NOHOST,
        knock::Error::Unsent { .. } => exit::UNAVAILABLE,
    };
    Problem {
        said: error.to_string(),
        status,
    }
}
