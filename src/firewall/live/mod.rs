//! What the rules that run now would do to our doors: read, never changed.
//!
//! A configuration can be sound and yet be of no use where it is to stand: a rule before ours
//! lets everybody in, another keeps even those out who have knocked, the packet filter is not
//! enabled. Each [`Remark`] says what stands in the way, and the line to change.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use crate::config::mistake::{Spot, one_line};
use crate::config::{Action, Config, Door, FirewallKind, Opens, Port, Protocol};

use super::Failure;
use super::run::{self, Keep, Program};

pub mod ipfw;
pub mod nft;
pub mod pf;

/// How long a command that only looks may take.
const LIMIT: Duration = Duration::from_secs(10);
/// The longest listing that is read.
const MOST: usize = 16 << 20;

/// Something that stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// The part of the configuration that it concerns.
    pub spot: Spot,
    /// What it is.
    pub what: String,
    /// What would be better.
    pub better: String,
}

impl Remark {
    /// What stands in others' rules may be quoted in it.
    fn new(spot: Spot, what: impl Into<String>, better: impl Into<String>) -> Remark {
        Remark {
            spot,
            what: one_line(what.into()),
            better: one_line(better.into()),
        }
    }

    fn top(what: impl Into<String>, better: impl Into<String>) -> Remark {
        Remark::new(Spot::default().key("firewall"), what, better)
    }
}

/// Values of sysctl(8) by name; those that the kernel has not are missing.
pub type Sysctls = HashMap<String, i64>;

/// Looks at this machine. Needs root.
///
/// # Errors
/// A command that is missing, or that refused to tell.
pub fn look(config: &Config) -> Result<Vec<Remark>, Failure> {
    match config.firewall {
        FirewallKind::Ipfw => {
            let sysctls = sysctls(&ipfw::SYSCTLS)?;
            let mut remarks = ipfw::system(config, &sysctls);
            if sysctls.contains_key(ipfw::ENABLE) {
                let rules = output("ipfw", &["-S", "list"])?;
                remarks.extend(ipfw::rules(config, &rules, &sysctls));
                for (spot, name) in tables(config) {
                    if refused(output("ipfw", &["table", name, "info"]))? {
                        remarks.push(ipfw::no_table(spot, name));
                    }
                }
            }
            Ok(remarks)
        }
        FirewallKind::Pf => {
            let sysctls = sysctls(&pf::SYSCTLS)?;
            let seen = pf::Seen {
                info: output("pfctl", &["-s", "info"])?,
                rules: output("pfctl", &["-s", "rules"])?,
                nat: output("pfctl", &["-s", "nat"])?,
                tables: output("pfctl", &["-s", "Tables"])?,
                interfaces: output("pfctl", &["-v", "-s", "Interfaces"])?,
            };
            Ok(pf::remarks(config, &seen, &sysctls))
        }
        FirewallKind::Nft => {
            let ruleset = output("nft", &["-j", "list", "ruleset"])?;
            let mut remarks = nft::chains(config, &ruleset);
            remarks.extend(nft::interfaces(config, Path::new("/sys/class/net")));
            Ok(remarks)
        }
        FirewallKind::Memory | FirewallKind::None => Ok(Vec::new()),
    }
}

/// What a command prints, run by its absolute path.
fn output(name: &str, args: &[&str]) -> Result<String, Failure> {
    let path = run::find(name, run::PATH).ok_or_else(|| Failure::NotRun {
        command: name.to_owned(),
        why: format!("not found in {}", run::PATH),
    })?;
    let program = Program {
        path: &path,
        args,
        env: &run::FILTER_ENV,
        stdin: &[],
        stdout: Keep::First(MOST),
        stderr: Some(Keep::Last(run::KEPT)),
        limit: LIMIT,
    };
    let ended = run::checked(&program, run::on_one_line)?;
    Ok(String::from_utf8_lossy(&ended.stdout).into_owned())
}

/// Whether a command ran and said no.
fn refused(output: Result<String, Failure>) -> Result<bool, Failure> {
    match output {
        Ok(_) => Ok(false),
        Err(Failure::Refused { .. }) => Ok(true),
        Err(failure) => Err(failure),
    }
}

/// `sysctl -ie NAMES` (sysctl(8): -i passes over names that are not known).
fn sysctls(names: &[&str]) -> Result<Sysctls, Failure> {
    let mut args = vec!["-ie"];
    args.extend(names);
    Ok(values(&output("sysctl", &args)?))
}

/// `name=value` lines.
fn values(text: &str) -> Sysctls {
    let value = |line: &str| {
        let (name, value) = line.split_once('=')?;
        Some((name.trim().to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(value).collect()
}

/// The doors that open ports, with their places in [`Spot`]s.
fn openers(config: &Config) -> impl Iterator<Item = (Spot, &Door, &Opens)> {
    let doors = config.doors.iter().enumerate();
    doors.filter_map(|(at, door)| match &door.action {
        Action::Open(opens) => Some((Spot::door(at), door, opens)),
        Action::Command(_) => None,
    })
}

/// The administrator's tables that doors keep.
fn tables(config: &Config) -> impl Iterator<Item = (Spot, &str)> {
    openers(config).filter_map(|(spot, _, opens)| match &opens.pass {
        crate::config::Pass::Table(name) => Some((spot.key("table"), name.as_str())),
        _ => None,
    })
}

/// The interfaces that a door's rules are for; empty: all.
fn interfaces<'c>(config: &'c Config, door: &'c Door) -> &'c [String] {
    let all = match door.on.is_empty() {
        true => &config.interfaces,
        false => &door.on,
    };
    match all.iter().any(|name| name == "any") {
        true => &[],
        false => all,
    }
}

/// Closed ports answer a guarded one does not: `sysctl(8)` values of tcp(4) and udp(4).
fn blackholes(config: &Config, sysctls: &Sysctls) -> Vec<Remark> {
    let guarded = crate::config::guarded(&config.doors);
    let has = |protocol| guarded.iter().any(|port: &Port| port.protocol == protocol);
    let value = |name: &str| sysctls.get(name).copied();
    let mut remarks = Vec::new();
    for (protocol, name, wanted) in [
        (Protocol::Tcp, TCP_BLACKHOLE, 2),
        (Protocol::Udp, UDP_BLACKHOLE, 1),
    ] {
        if has(protocol) && value(name).is_some_and(|value| value < wanted) {
            remarks.push(Remark::top(
                format!(
                    "closed ports answer and the guarded ones do not, so that a scan tells them \
                     apart ({name} is {})",
                    value(name).unwrap_or_default()
                ),
                format!("write {name}={wanted} in /etc/sysctl.conf, if no rule drops the others"),
            ));
        }
    }
    remarks
}

const TCP_BLACKHOLE: &str = "net.inet.tcp.blackhole";
const UDP_BLACKHOLE: &str = "net.inet.udp.blackhole";
const SECURELEVEL: &str = "kern.securelevel";

#[cfg(test)]
mod tests;
