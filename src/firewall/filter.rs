//! What the packet filters have in common.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use crate::config::{Network, Port, Protocol};

use super::run::{self, Keep, Program};
use super::{Done, Failure, Opening, Order, What};

/// How long a packet filter's command may take.
const LIMIT: Duration = Duration::from_secs(10);
/// The longest listing that is read: some hundred thousand entries.
const MOST: usize = 64 << 20;

/// A packet filter's command, wherever it is.
#[derive(Debug)]
pub struct Tool {
    name: &'static str,
    path: String,
    program: Option<PathBuf>,
}

/// A command that ended by itself.
#[derive(Debug)]
pub struct Ran {
    /// Its command line, as people know it.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: Vec<u8>,
    /// The beginning of what it complained of.
    pub stderr: Vec<u8>,
}

impl Tool {
    /// A command, looked for in these directories; again when it is needed if it is not there.
    pub fn new(name: &'static str, path: &str) -> Tool {
        Tool {
            name,
            path: path.to_owned(),
            program: run::find(name, path),
        }
    }

    /// Runs it, whatever it then says.
    pub fn run(&mut self, args: &[&str], stdin: &[u8]) -> Result<Ran, Failure> {
        if self.program.is_none() {
            self.program = run::find(self.name, &self.path);
        }
        let Some(path) = &self.program else {
            return Err(Failure::NotRun {
                command: self.name.to_owned(),
                why: format!("not found in {}", self.path),
            });
        };
        let command = run::shown(path, args);
        let ended = run::run(&Program {
            path,
            args,
            env: &run::FILTER_ENV,
            stdin,
            stdout: Keep::First(MOST),
            stderr: Some(Keep::First(run::KEPT)),
            limit: LIMIT,
        });
        let ended = match ended {
            Ok(ended) => ended,
            Err(error) => {
                self.program = None;
                return Err(run::not_run(command, &error));
            }
        };
        match ended.status {
            None => Err(Failure::TooSlow {
                command,
                limit: LIMIT,
            }),
            Some(status) if status.success() && ended.cut => Err(Failure::Unexpected(format!(
                "{command}: printed more than was looked for"
            ))),
            Some(status) => Ok(Ran {
                command,
                status,
                stdout: ended.stdout,
                stderr: ended.stderr,
            }),
        }
    }
}

impl Ran {
    /// What it printed, if it exited with 0. `words`: what a failure shows of its complaints.
    pub fn accepted(self, words: fn(&[u8]) -> String) -> Result<Ran, Failure> {
        match self.status.success() {
            true => Ok(self),
            false => Err(Failure::Refused {
                command: self.command,
                status: run::in_words(self.status),
                output: words(&self.stderr),
            }),
        }
    }
}

/// What is to be done at once: of several orders for one opening the last is the one that counts.
/// And what cannot be done, for the reason that `objection` gives.
pub fn latest(
    orders: &[Order],
    objection: impl Fn(&Order) -> Option<Failure>,
) -> (Vec<Order>, HashMap<Opening, Failure>) {
    let mut failed = HashMap::new();
    let mut latest: BTreeMap<Opening, Order> = BTreeMap::new();
    for order in orders {
        match objection(order) {
            None => drop(latest.insert(order.opening, *order)),
            Some(failure) => drop(failed.insert(order.opening, failure)),
        }
    }
    (latest.into_values().collect(), failed)
}

/// What became of orders of which these have failed.
pub fn done(orders: &[Order], failed: &HashMap<Opening, Failure>) -> impl Iterator<Item = Done> {
    orders.iter().map(|&order| Done {
        order,
        result: failed.get(&order.opening).cloned().map_or(Ok(()), Err),
    })
}

/// Orders as they are when they have waited for so long.
pub fn later(orders: &[Order], waited: Duration) -> Vec<Order> {
    let later = |&Order { opening, what }| {
        let what = match what {
            What::Open { remaining } => What::Open {
                remaining: remaining.map(|left| left.saturating_sub(waited)),
            },
            What::Extend { remaining } => What::Extend {
                remaining: remaining.saturating_sub(waited),
            },
            What::Close => What::Close,
        };
        Order { opening, what }
    };
    orders.iter().map(later).collect()
}

/// Why an order cannot be carried out in the packet filter `name`, whatever stands; `here`:
/// whether the door opens there.
pub fn objection(name: &str, order: &Order, here: bool) -> Option<Failure> {
    match order {
        _ if !here => Some(Failure::Unexpected(format!(
            "{name}: the door numbered {} opens nothing here",
            order.opening.door
        ))),
        Order {
            what: What::Open { remaining: None },
            ..
        } => Some(endless(name)),
        _ => None,
    }
}

/// The openings with their ends, only those that can stand `here`.
pub fn ends(
    name: &str,
    openings: &[(Opening, Option<Duration>)],
    here: impl Fn(&Opening) -> bool,
) -> Result<BTreeMap<Opening, Instant>, Failure> {
    let now = Instant::now();
    let ends = openings.iter().filter(|(opening, _)| here(opening));
    let ends = ends.map(|&(opening, remaining)| {
        let end = remaining.and_then(|remaining| now.checked_add(remaining));
        Ok((opening, end.ok_or_else(|| endless(name))?))
    });
    ends.collect()
}

/// There is nothing to uphold or to open in.
pub fn not_established(name: &str) -> Failure {
    Failure::Unexpected(format!("{name}: nothing was established"))
}

fn endless(name: &str) -> Failure {
    Failure::Unexpected(format!("{name}: an opening needs an end"))
}

/// All openings of a door.
pub fn all_of(door: u16) -> RangeInclusive<Opening> {
    let of = |address: IpAddr| Opening {
        door,
        address: Network::host(address),
    };
    of(Ipv4Addr::UNSPECIFIED.into())..=of(Ipv6Addr::from([0xff; 16]).into())
}

/// Interfaces from names as the configuration has them, each once, in order; `None`: all, since
/// there is none or `any` among them.
pub fn interfaces<T: Ord>(
    names: &[String],
    interface: impl Fn(&str) -> Result<T, Failure>,
) -> Result<Option<Vec<T>>, Failure> {
    if names.is_empty() || names.iter().any(|name| name == "any") {
        return Ok(None);
    }
    let these = names.iter().map(|name| interface(name));
    let mut these = these.collect::<Result<Vec<T>, Failure>>()?;
    these.sort();
    these.dedup();
    Ok(Some(these))
}

/// The numbers of the ports of a protocol, in order.
pub fn numbers(ports: &[Port], protocol: Protocol) -> Vec<u16> {
    let here = ports.iter().filter(|port| port.protocol == protocol);
    let mut numbers: Vec<u16> = here.map(|port| port.number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// The first few of many, in words.
pub fn some_of<T: ToString>(items: &[T]) -> String {
    const MOST: usize = 8;
    let mut words: Vec<String> = items.iter().take(MOST).map(T::to_string).collect();
    if let Some(more @ 1..) = items.len().checked_sub(MOST) {
        words.push(format!("{more} more"));
    }
    words.join(", ")
}
