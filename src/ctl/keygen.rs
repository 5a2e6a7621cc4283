//! `posternctl keygen`: makes secrets.

use std::io::Write;

use serde::Serialize;

use super::{Problem, beware_of_readers, json_line, listening};
use crate::config::{Port, Protocol, keygen, units};
use crate::exit;

/// UDP steps lie below what systems give to outgoing traffic of their own accord, lest an answer
/// to it be taken for a step (FreeBSD: 10000 to 65535; ip(4), net.inet.ip.portrange.first).
const UDP_BELOW: u16 = 10000;

/// How many sequences are drawn at most until one suits this machine.
const TRIES: usize = 10_000;

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("kind").required(true))]
pub struct Args {
    /// A sequence of ports
    #[arg(long, group = "kind")]
    sequence: bool,
    /// How many steps
    #[arg(long, value_name = "N", default_value_t = keygen::STEPS as u8,
        value_parser = clap::value_parser!(u8).range(1..=32))]
    steps: u8,
    /// Steps by UDP among them; some networks let none out
    #[arg(long)]
    udp: bool,
}

/// A new sequence, for `--json`.
#[derive(Serialize)]
struct Made {
    sequence: Vec<String>,
    line: String,
    knock: String,
}

pub fn run(args: &Args, json: bool, out: &mut impl Write) -> Result<u8, Problem> {
    let in_use = listening::ports();
    let mut steps = Vec::new();
    for _ in 0..TRIES {
        steps = draw(usize::from(args.steps), args.udp)?;
        if suits(&steps, args.udp) && !steps.iter().any(|step| in_use.contains(step)) {
            break;
        }
    }
    let hit: Vec<String> = steps.iter().map(|&step| units::short_port(step)).collect();
    beware_of_readers();
    let line = keygen::toml_line(&steps);
    let knock = format!("postern knock HOST {}", hit.join(" "));
    if json {
        let made = Made {
            sequence: hit,
            line,
            knock,
        };
        json_line(&made, out)?;
    } else {
        writeln!(out, "# For [[door.NAME.knock]] in postern.toml, and for")?;
        writeln!(
            out,
            "# [host.NAME] in ~/.config/postern/config.toml of whoever knocks:"
        )?;
        writeln!(out, "{line}")?;
        writeln!(out, "# Without a profile: {knock}")?;
    }
    Ok(exit::OK)
}

fn draw(steps: usize, udp: bool) -> Result<Vec<Port>, Problem> {
    // One number a step.
    let mut random = [0; 4 * 32];
    getrandom::fill(&mut random)
        .map_err(|e| Problem::new(exit::UNAVAILABLE, format!("no randomness: {e}")))?;
    let mut numbers = random
        .chunks_exact(4)
        .map(|c| u32::from_ne_bytes([c[0], c[1], c[2], c[3]]));
    let mut drawn = keygen::sequence(steps, || numbers.next().unwrap_or_default());
    for step in &mut drawn {
        if udp && step.number < UDP_BELOW {
            step.protocol = Protocol::Udp;
        }
    }
    Ok(drawn)
}

/// With UDP there is some, and from two steps on TCP too.
fn suits(steps: &[Port], udp: bool) -> bool {
    let some = |protocol| steps.iter().any(|step| step.protocol == protocol);
    !udp || some(Protocol::Udp) && (steps.len() == 1 || some(Protocol::Tcp))
}
