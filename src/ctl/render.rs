//! `posternctl render`: doors' knocks as rules of a packet filter, which need no posternd.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use super::{Problem, beware_of_readers, check, json_line};
use crate::config::Config;
use crate::exit;

mod classic;
mod iptables;
mod nft;
mod pf;
mod plan;

use plan::{Left, Plan};

/// Nothing of what was asked for can be done by the packet filter.
const NOTHING: u8 = 1;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// What the rules are for
    #[arg(value_enum)]
    filter: Filter,
    /// This door only
    #[arg(long, value_name = "NAME")]
    door: Option<String>,
    /// For when posternd is dead: open its doors behind its own guards (nft and pf)
    #[arg(long)]
    fallback: bool,
    /// The rules as they were first published, for a door with one ping (iptables)
    #[arg(long, conflicts_with = "fallback")]
    classic: bool,
}

/// What rules can be written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Filter {
    /// Linux's iptables and ip6tables, as a shell script
    Iptables,
    /// Linux's nftables, as a file for nft -f
    Nft,
    /// FreeBSD's pf, as a file for an anchor
    Pf,
}

impl Filter {
    fn name(self) -> &'static str {
        match self {
            Filter::Iptables => "iptables",
            Filter::Nft => "nft",
            Filter::Pf => "pf",
        }
    }
}

/// For `--json`.
#[derive(Serialize)]
struct Rendered<'a> {
    rules: &'a str,
    left_out: &'a [Left],
}

pub fn run(file: &Path, args: &Args, json: bool, out: &mut impl Write) -> Result<u8, Problem> {
    let config = check::read(file)?;
    let (rules, left) = rendered(&config, args)?;
    for left in &left {
        let _ = writeln!(io::stderr(), "posternctl: {left}");
    }
    let Some(rules) = rules else {
        let filter = args.filter.name();
        let what = format!("{filter} can do none of these knocks; nothing was written");
        return Err(Problem::new(NOTHING, what));
    };
    beware_of_readers();
    if json {
        let left_out = &left;
        let rules = &rules;
        json_line(&Rendered { rules, left_out }, out)?;
    } else {
        write!(out, "{rules}")?;
    }
    Ok(exit::OK)
}

/// The rules, unless there are none, and what is left out.
fn rendered(config: &Config, args: &Args) -> Result<(Option<String>, Vec<Left>), Problem> {
    let usage = |what: &str| Err(Problem::new(exit::USAGE, what));
    if let Some(name) = &args.door
        && !config.doors.iter().any(|door| door.name == *name)
    {
        return Err(Problem::new(
            exit::USAGE,
            format!("there is no door {name}"),
        ));
    }
    if args.classic && args.filter != Filter::Iptables {
        return usage("--classic: those rules are for iptables");
    }
    if args.fallback && args.filter == Filter::Iptables {
        return usage(
            "--fallback: iptables opens nothing that posternd's guard in nftables shuts; \
             write render nft --fallback",
        );
    }
    let mut plan = Plan::new(config, args.filter, args.door.as_deref())
        .map_err(|what| Problem::new(exit::CONFIG, what))?;
    if args.classic {
        let rules = classic::rules(&plan).map_err(|what| Problem::new(NOTHING, what))?;
        return Ok((Some(rules), plan.left));
    }
    let left = std::mem::take(&mut plan.left);
    let rules = (!plan.doors.is_empty()).then(|| match args.filter {
        Filter::Iptables => iptables::rules(&plan),
        Filter::Nft => nft::rules(&plan, args.fallback),
        Filter::Pf => pf::rules(&plan, args.fallback),
    });
    Ok((rules, left))
}
