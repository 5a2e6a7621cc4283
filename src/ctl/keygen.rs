//! `posternctl keygen`: makes secrets.

use std::io::{self, BufRead, IsTerminal, Write};

use base64ct::{Base64, Encoding};
use serde::Serialize;

use super::{Problem, beware_of_readers, json_line, listening};
use crate::config::{Port, Protocol, keygen, toml, units};
use crate::exit;

/// UDP steps lie below what systems give to outgoing traffic of their own accord, lest an answer
/// to it be taken for a step (FreeBSD: 10000 to 65535; ip(4), net.inet.ip.portrange.first).
const UDP_BELOW: u16 = 10000;

/// How many secrets are drawn at most until one suits.
const TRIES: usize = 10_000;

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("kind").required(true))]
pub struct Args {
    /// A sequence of ports
    #[arg(long, group = "kind")]
    sequence: bool,
    /// How many steps
    #[arg(long, value_name = "N", default_value_t = keygen::STEPS as u8,
        value_parser = clap::value_parser!(u8).range(1..=32),
        conflicts_with_all = ["ping", "spa"])]
    steps: u8,
    /// Steps by UDP among them; some networks let none out
    #[arg(long, conflicts_with_all = ["ping", "spa"])]
    udp: bool,
    /// The secret of a ping
    #[arg(long, group = "kind")]
    ping: bool,
    /// Somebody's keys for single packets (fwknop's), under this name
    #[arg(long, group = "kind", value_name = "NAME", value_parser = name_of_key)]
    spa: Option<String>,
    /// He is behind NAT: let in whatever address his packet comes from
    #[arg(long, conflicts_with_all = ["sequence", "ping", "fixed"])]
    observed: bool,
    /// He is not: let in the address that his packet names
    #[arg(long, conflicts_with_all = ["sequence", "ping"])]
    fixed: bool,
}

/// A new sequence, for `--json`.
#[derive(Serialize)]
struct Sequence {
    sequence: Vec<String>,
    line: String,
    knock: String,
}

/// The secret of a ping, for `--json`.
#[derive(Serialize)]
struct Ping {
    ping: String,
    line: String,
    knock: String,
}

/// Keys for single packets, for `--json`.
#[derive(Serialize)]
struct Spa {
    name: String,
    cipher_key: String,
    hmac_key: String,
    observed: bool,
    /// For postern.toml.
    section: String,
    /// For the client's profiles.
    profile: String,
    /// For fwknop's client.
    fwknoprc: String,
}

pub fn run(args: &Args, json: bool, out: &mut impl Write) -> Result<u8, Problem> {
    match &args.spa {
        Some(name) => spa(name, args, json, out)?,
        None if args.ping => ping(json, out)?,
        None => sequence(args, json, out)?,
    }
    Ok(exit::OK)
}

fn sequence(args: &Args, json: bool, out: &mut impl Write) -> Result<(), Problem> {
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
        let made = Sequence {
            sequence: hit,
            line,
            knock,
        };
        return json_line(&made, out);
    }
    for_both(&line, out)?;
    Ok(writeln!(out, "# Without a profile: {knock}")?)
}

fn ping(json: bool, out: &mut impl Write) -> Result<(), Problem> {
    let mut secret = String::new();
    for _ in 0..TRIES {
        let bytes: [u8; 16] = random()?;
        secret = format!("{:032x}", u128::from_be_bytes(bytes));
        if toml::knock::pattern(&secret).is_ok() {
            break;
        }
    }
    beware_of_readers();
    let line = format!("ping = \"{secret}\"");
    let knock = format!("ping -c1 -p {secret} HOST");
    if json {
        let made = Ping {
            ping: secret,
            line,
            knock,
        };
        return json_line(&made, out);
    }
    for_both(&line, out)?;
    Ok(writeln!(out, "# Without a profile: {knock}")?)
}

/// A line that the daemon's configuration and the client's profile have alike.
fn for_both(line: &str, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "# For [[door.NAME.knock]] in postern.toml, and for")?;
    writeln!(
        out,
        "# [host.NAME] in ~/.config/postern/config.toml of whoever knocks:"
    )?;
    writeln!(out, "{line}")
}

fn spa(name: &str, args: &Args, json: bool, out: &mut impl Write) -> Result<(), Problem> {
    let observed = match (args.observed, args.fixed) {
        (false, false) => is_behind_nat(name)?,
        (observed, _) => observed,
    };
    // As fwknop --key-gen --use-hmac makes them (fwknop, client/fwknop.c: 32 bytes for Rijndael,
    // 64 for the HMAC).
    let cipher_key = Base64::encode_string(&random::<32>()?);
    let hmac_key = Base64::encode_string(&random::<64>()?);
    beware_of_readers();
    let section = format!(
        "[key.{name}]\n\
         cipher_key = \"{cipher_key}\"\n\
         hmac_key = \"{hmac_key}\"\n\
         doors = [\"ssh\"]\n\
         observed = {observed}\n"
    );
    let from = if observed {
        "from = \"observed\"\n"
    } else {
        ""
    };
    let profile = format!(
        "[host.NAME]\n\
         address = \"HOST\"\n\
         spa = true\n\
         cipher_key = \"{cipher_key}\"\n\
         hmac_key = \"{hmac_key}\"\n\
         {from}"
    );
    let allow = if observed { "source" } else { "ADDRESS" };
    let fwknoprc = format!(
        "[{name}]\n\
         SPA_SERVER HOST\n\
         ACCESS tcp/22\n\
         ALLOW_IP {allow}\n\
         KEY_BASE64 {cipher_key}\n\
         USE_HMAC Y\n\
         HMAC_KEY_BASE64 {hmac_key}\n"
    );
    if json {
        let made = Spa {
            name: name.to_owned(),
            cipher_key,
            hmac_key,
            observed,
            section,
            profile,
            fwknoprc,
        };
        return json_line(&made, out);
    }
    let whom = match observed {
        true => "",
        false => ", with the address that it comes from",
    };
    writeln!(out, "# For postern.toml, with the doors that it opens:")?;
    writeln!(out, "{section}")?;
    writeln!(
        out,
        "# For ~/.config/postern/config.toml of {name}; postern spa NAME:"
    )?;
    writeln!(out, "{profile}")?;
    writeln!(out, "# Or for ~/.fwknoprc{whom}; fwknop -n {name}:")?;
    Ok(write!(out, "{fwknoprc}")?)
}

/// Asks on the terminal. Secrets alone go to standard output.
fn is_behind_nat(name: &str) -> Result<bool, Problem> {
    let unsaid = || {
        Problem::new(
            exit::USAGE,
            format!("is {name} behind NAT? say --observed if so, and --fixed if not"),
        )
    };
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(unsaid());
    }
    let mut asking = io::stderr();
    writeln!(
        asking,
        "Behind NAT (at home, in a hotel, on a phone) nobody knows what address he comes from: his\n\
         packet asks for the one that it comes from, and who holds it back can take it for himself."
    )?;
    let mut answers = io::stdin().lock();
    loop {
        write!(asking, "Will {name} be behind NAT? [y/n] ")?;
        asking.flush()?;
        let mut answer = String::new();
        let there = answers
            .read_line(&mut answer)
            .map_err(|e| Problem::new(exit::OSERR, format!("standard input: {e}")))?;
        match answer.trim() {
            "y" | "yes" => return Ok(true),
            "n" | "no" => return Ok(false),
            _ if there == 0 => return Err(unsaid()),
            _ => {}
        }
    }
}

fn name_of_key(name: &str) -> Result<String, String> {
    match toml::key::key_name(name) {
        Ok(()) => Ok(name.to_owned()),
        Err(wrong) => Err(wrong.right),
    }
}

fn random<const N: usize>() -> Result<[u8; N], Problem> {
    let mut random = [0; N];
    getrandom::fill(&mut random)
        .map_err(|e| Problem::new(exit::UNAVAILABLE, format!("no randomness: {e}")))?;
    Ok(random)
}

fn draw(steps: usize, udp: bool) -> Result<Vec<Port>, Problem> {
    // One number a step.
    let random: [u8; 4 * 32] = random()?;
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
