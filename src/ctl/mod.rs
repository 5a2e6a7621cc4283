//! posternctl, one file a subcommand.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use serde::Serialize;

use crate::config::{self, Format, Network};
use crate::exit;

mod ask;
mod check;
mod close;
mod confirm;
mod convert;
mod guard;
mod keygen;
mod list;
mod listening;
mod lists;
mod offline;
mod reap;
mod reload;
mod render;
mod replay;
mod status;
mod unguard;

const STATUSES: &str = "\
Exit status:
  0   done
  1   close: no lease was there to end; render: the packet filter can do no such knock
  64  the command line is wrong
  66  a configuration or a capture cannot be read
  69  posternd does not answer, or could not do it; or the packet filter did not
  71  the system refused something
  74  output cannot be written
  76  what answers on the control socket is not posternd
  77  not root
  78  the configuration is wrong; nothing was changed";

/// Controls posternd: who is let in, and whether its configuration is sound.
#[derive(Debug, Parser)]
#[command(name = "posternctl", version, after_help = STATUSES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every subcommand takes.
#[derive(Debug, clap::Args)]
struct Global {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", global = true, default_value = config::FILE)]
    config: PathBuf,
    /// posternd's control socket [default: the one that the configuration names]
    #[arg(short, long, value_name = "PATH", global = true)]
    socket: Option<PathBuf>,
    /// Print facts as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say everything that is wrong with a configuration, or that it is sound
    Check {
        /// The configuration file, instead of -c
        file: Option<PathBuf>,
        /// Look at the packet filter's rules and settings as well, and say what stands in the way
        #[arg(long)]
        live: bool,
    },
    /// Say who is let in, where and until when
    List,
    /// Say how posternd fares
    Status,
    /// End the leases of an address
    Close {
        /// Whose leases: an address, or a network as posternctl list shows it
        #[arg(value_parser = network)]
        address: Network,
        /// At this door only
        door: Option<String>,
    },
    /// Have posternd read its configuration again
    Reload,
    /// Keep the guards that are on trial for good, and put back those withdrawn
    Confirm,
    /// Raise the guards, and what is open besides, before posternd runs; for start scripts
    Guard(guard::Args),
    /// Take all guards away, also when posternd is dead: what they guarded is open to everyone
    Unguard,
    /// End what is overdue if posternd does not run; for cron
    Reap,
    /// Print the postern.toml that does what a knockd.conf does
    Convert {
        /// The knockd.conf
        file: PathBuf,
    },
    /// Make a secret, as lines for postern.toml
    Keygen(keygen::Args),
    /// Write doors' knocks as rules of a packet filter, which open without posternd
    Render(render::Args),
    /// Say what posternd would have done with a captured stretch of traffic
    Replay(replay::Args),
}

/// What ends a subcommand before its time: what to say, and the exit status.
#[derive(Debug)]
struct Problem {
    /// One line or several; nothing is said if empty.
    said: String,
    status: u8,
}

impl Problem {
    fn new(status: u8, said: impl Into<String>) -> Problem {
        let said = said.into();
        Problem { said, status }
    }
}

/// Output that is not wanted any more (`posternctl replay ... | head`) is no failure.
impl From<io::Error> for Problem {
    fn from(why: io::Error) -> Problem {
        match why.kind() {
            io::ErrorKind::BrokenPipe => Problem::new(exit::OK, ""),
            _ => Problem::new(
                exit::IOERR,
                format!("standard output: {}", exit::words(&why)),
            ),
        }
    }
}

/// The command line as clap knows it, for the manual's tests and the shells' completions.
pub fn command_line() -> clap::Command {
    Cli::command()
}

/// posternctl.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli: Cli = match exit::arguments(args) {
        Ok(cli) => cli,
        Err(status) => return status.into(),
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    let done = run(&cli, &mut out).and_then(|status| {
        out.flush()?;
        Ok(status)
    });
    let status = done.unwrap_or_else(|problem| {
        let _ = out.flush();
        for line in problem.said.lines() {
            let _ = writeln!(io::stderr(), "posternctl: {line}");
        }
        problem.status
    });
    status.into()
}

fn run(cli: &Cli, out: &mut impl Write) -> Result<u8, Problem> {
    let Global { config, json, .. } = &cli.global;
    match &cli.command {
        Command::Check { file, live } => {
            check::run(file.as_deref().unwrap_or(config), *live, *json, out)
        }
        Command::List => list::run(&socket(&cli.global), *json, out),
        Command::Status => status::run(&socket(&cli.global), *json, out),
        Command::Close { address, door } => {
            close::run(&socket(&cli.global), *address, door.clone(), *json, out)
        }
        Command::Reload => reload::run(&socket(&cli.global), *json, out),
        Command::Confirm => confirm::run(config, &socket(&cli.global), *json, out),
        Command::Guard(args) => guard::run(config, args, *json, out),
        Command::Unguard => unguard::run(config, &socket(&cli.global), *json, out),
        Command::Reap => reap::run(config, *json, out),
        Command::Convert { file } => convert::run(file, *json, out),
        Command::Keygen(args) => keygen::run(args, *json, out),
        Command::Render(args) => render::run(config, args, *json, out),
        Command::Replay(args) => replay::run(config, args, out),
    }
}

/// The control socket: as told, else as the configuration says, else where posternd puts it.
/// An address or a network on the command line.
fn network(text: &str) -> Result<Network, String> {
    let wrong = "write an address, or a network as posternctl list shows it";
    text.parse().map_err(|()| wrong.to_owned())
}

fn socket(global: &Global) -> PathBuf {
    let told = global.socket.clone();
    told.or_else(|| configured(&global.config, "control"))
        .unwrap_or_else(|| PathBuf::from(config::bounds::CONTROL))
}

/// A path that a configuration names which may be wrong otherwise: posternd goes on with the one
/// before, and answers where it did. knockd.conf cannot name any.
fn configured(file: &Path, key: &str) -> Option<PathBuf> {
    let text = fs::read_to_string(file).ok()?;
    if Format::of(&file.display().to_string(), text.as_bytes()) == Format::Knockd {
        return None;
    }
    let (tree, _) = toml::de::DeTable::parse_recoverable(&text);
    let path = tree.get_ref().get(key)?.get_ref().as_str()?;
    Some(PathBuf::from(path))
}

/// Secrets go to standard output: says so if that is a file that others can read, as a shell
/// makes it.
fn beware_of_readers() {
    let output = io::stdout().as_fd().try_clone_to_owned();
    let Ok(output) = output.and_then(|fd| fs::File::from(fd).metadata()) else {
        return;
    };
    let mode = output.mode();
    if output.is_file() && mode & 0o044 != 0 {
        let _ = writeln!(
            io::stderr(),
            "posternctl: secrets go to a file that others can read (mode {:04o}): chmod go-r it",
            mode & 0o7777
        );
    }
}

/// `1 lease`, `2 leases`.
fn count(number: u64, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

/// One line of JSON, the keys as the type has them.
fn json_line(facts: &impl Serialize, out: &mut impl Write) -> Result<(), Problem> {
    let line = serde_json::to_string(facts)
        .map_err(|e| Problem::new(exit::IOERR, format!("JSON: {e}")))?;
    Ok(writeln!(out, "{line}")?)
}
