//! What pfctl(8) prints.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::config::{Network, Protocol};

use super::layout::RUNNING;

/// The rules of our anchor, as `pfctl -a postern -s rules` prints them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Those with our label, in their order.
    pub ours: Vec<String>,
    /// The others, with whatever is printed below them.
    pub strangers: Vec<String>,
    /// By the numbers that the kernel gives the rules: the door whose pass rule it is.
    pub doors: Vec<Option<String>>,
}

impl Rules {
    /// Reads what was printed.
    pub fn parse(text: &str) -> Rules {
        let mut rules = Rules::default();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            if line.starts_with([' ', '\t', '}']) {
                // Of an anchor in braces.
                rules.strangers.push(line.to_owned());
                continue;
            }
            let label = label(line).filter(|label| label.starts_with("postern:"));
            if !is_scrub(line) {
                let door = label.and_then(|label| label.strip_prefix("postern:"));
                let door = door.filter(|door| !door.starts_with(' '));
                rules.doors.push(door.map(str::to_owned));
            }
            match label {
                Some(_) => rules.ours.push(line.to_owned()),
                None => rules.strangers.push(line.to_owned()),
            }
        }
        rules
    }

    /// The rules that admit running sessions.
    pub fn running(&self) -> impl Iterator<Item = &String> {
        self.ours.iter().filter(|rule| label(rule) == Some(RUNNING))
    }

    /// Our rules without those.
    pub fn lasting(&self) -> Vec<String> {
        let lasting = self.ours.iter().filter(|rule| label(rule) != Some(RUNNING));
        lasting.cloned().collect()
    }
}

/// The label of a rule.
pub fn label(rule: &str) -> Option<&str> {
    let (_, rest) = rule.rsplit_once(" label \"")?;
    rest.split_once('"').map(|(label, _)| label)
}

/// Whether a rule is one of those that stand before, and are numbered apart from, the filter's.
pub fn is_scrub(rule: &str) -> bool {
    rule.starts_with("scrub") || rule.starts_with("no scrub")
}

/// What `pfctl -nv -f -` printed of rules: without the definitions of tables.
pub fn canonical(text: &str) -> Vec<String> {
    text.lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with("table <"))
        .map(str::to_owned)
        .collect()
}

/// The numbers of the main ruleset's rules by which our anchor is reached, of `pfctl -s rules`.
pub fn calls(text: &str, anchor: &str) -> BTreeSet<u32> {
    let mut calls = BTreeSet::new();
    let mut number = None;
    for line in text.lines() {
        let inner = line.starts_with([' ', '\t', '}']);
        if !inner && !is_scrub(line) {
            number = Some(number.map_or(0, |number| number + 1));
        }
        let mut words = line.split_whitespace();
        let name = (words.next() == Some("anchor"))
            .then(|| words.next().map(|name| name.trim_matches('"')))
            .flatten();
        let reached = match name {
            Some("*") => !inner,
            Some(name) => name
                .strip_prefix('/')
                .map_or(!inner && name == anchor, |name| name == anchor),
            None => false,
        };
        if reached {
            calls.extend(number);
        }
    }
    calls
}

/// An entry of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Whether it says who is not meant.
    pub not: bool,
    /// Who.
    pub network: Network,
}

impl Entry {
    /// The entry of an address or a network.
    pub fn of(network: Network) -> Entry {
        Entry {
            not: false,
            network,
        }
    }

    /// Whom it lets in, if it does.
    pub fn lets_in(&self) -> Option<Network> {
        (!self.not).then_some(self.network)
    }
}

/// As pfctl reads it.
impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let not = if self.not { "!" } else { "" };
        write!(f, "{not}{}", self.network)
    }
}

/// A table, of `-T show`; `None` if that is not what it should be.
pub fn entries(text: &str) -> Option<BTreeSet<Entry>> {
    let entry = |line: &str| {
        let word = line.trim();
        let (not, word) = match word.strip_prefix('!') {
            Some(word) => (true, word.trim_start()),
            None => (false, word),
        };
        let network = match word.parse() {
            Ok(network) => network,
            // What Network does not take: a v4-mapped address.
            Err(()) => Network::host(word.parse().ok()?),
        };
        Some(Entry { not, network })
    };
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(entry)
        .collect()
}

/// What an entry of a table has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// When it began to, in pfctl's words: when it was made, or its statistics were cleared.
    pub since: String,
    /// Packets that came in from there and were let pass.
    pub packets: u64,
}

/// A table with what its entries have counted, of `-v -T show` (print_astats in pfctl_table.c);
/// without `counters` they say only since when. `None` if that is not what it should be.
pub fn counted(text: &str) -> Option<BTreeMap<Network, Counted>> {
    let mut counted: BTreeMap<Network, Counted> = BTreeMap::new();
    let mut here = None;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let Some(about) = line.strip_prefix('\t') else {
            let entry = entries(line)?.pop_first()?;
            here = (!entry.not).then_some(entry.network);
            continue;
        };
        let Some(network) = here else { continue };
        let counted = counted.entry(network).or_default();
        let words: Vec<&str> = about.split_whitespace().collect();
        match words.as_slice() {
            ["Cleared:", since @ ..] => counted.since = since.join(" "),
            ["In/Pass:", "[", "Packets:", packets, ..] => counted.packets = packets.parse().ok()?,
            _ => {}
        }
    }
    Some(counted)
}

/// The tables that count, of `-v -s Tables` (print_table in pfctl_table.c): `-pa-r-C`, a tab, the
/// name, a tab, the anchor.
pub fn counting(text: &str) -> BTreeSet<String> {
    let counting = text.lines().filter_map(|line| {
        let (flags, rest) = line.split_once('\t')?;
        let name = rest.split('\t').next()?;
        flags.contains('C').then(|| name.to_owned())
    });
    counting.collect()
}

/// What `pfctl -s info` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether pf filters at all.
    pub enabled: bool,
    /// How long it has been as it is; also since its statistics were cleared.
    pub since: Option<Duration>,
    /// How many states there are.
    pub entries: u64,
    /// How many have gone.
    pub removals: u64,
}

impl Status {
    /// Reads what was printed; `None` if that is not what it should be.
    pub fn parse(text: &str) -> Option<Status> {
        let mut status = Status::default();
        let mut told = false;
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["Status:", state, rest @ ..] => {
                    told = true;
                    status.enabled = *state == "Enabled";
                    status.since = match rest {
                        ["for", days, "days", time, ..] => {
                            let days = Duration::from_secs(days.parse::<u64>().ok()? * 86_400);
                            Some(days + clock(time)?)
                        }
                        _ => None,
                    };
                }
                ["current", "entries", count, ..] if status.entries == 0 => {
                    status.entries = count.parse().ok()?;
                }
                ["removals", count, ..] if status.removals == 0 => {
                    status.removals = count.parse().ok()?;
                }
                _ => {}
            }
        }
        told.then_some(status)
    }
}

/// `00:01:02`
fn clock(text: &str) -> Option<Duration> {
    let mut seconds = 0u64;
    for part in text.split(':') {
        seconds = seconds.checked_mul(60)?.checked_add(part.parse().ok()?)?;
    }
    Some(Duration::from_secs(seconds))
}

/// A state that a packet coming in has made, of `pfctl -vvs states`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// TCP or UDP; `None`: another.
    pub protocol: Option<Protocol>,
    /// Our end, as the rules saw it.
    pub local: (IpAddr, u16),
    /// The other end.
    pub remote: (IpAddr, u16),
    /// How long ago it was made, in whole seconds, rounded down.
    pub age: Duration,
    /// The number, in the main ruleset, of the rule that led to the anchor of its rule.
    pub anchor: Option<u32>,
    /// The number of its rule.
    pub rule: Option<u32>,
    /// `id` and `creatorid`, as `pfctl -k id` takes them.
    pub id: (u64, u32),
}

/// The states of packets that came in; others, and what is not understood, are left out.
/// Without `-vv` they have neither age nor numbers.
pub fn states(text: &str) -> Vec<State> {
    let mut states: Vec<State> = Vec::new();
    let mut here = false;
    for line in text.lines() {
        if !line.starts_with([' ', '\t']) {
            let state = state(line);
            here = state.is_some();
            states.extend(state);
            continue;
        }
        let Some(state) = states.last_mut().filter(|_| here) else {
            continue;
        };
        let words: Vec<&str> = line
            .split([' ', '\t', ','])
            .filter(|word| !word.is_empty())
            .collect();
        for pair in words.windows(2) {
            match *pair {
                ["age", time] => state.age = clock(time).unwrap_or_default(),
                ["anchor", number] => state.anchor = number.parse().ok(),
                ["rule", number] => state.rule = number.parse().ok(),
                ["id:", id] => state.id.0 = u64::from_str_radix(id, 16).unwrap_or_default(),
                ["creatorid:", id] => {
                    state.id.1 = u32::from_str_radix(id, 16).unwrap_or_default();
                }
                _ => {}
            }
        }
    }
    states
}

/// `all tcp 10.9.0.1:22 <- 10.9.0.2:29659       CLOSED:ESTABLISHED`; where an address was
/// translated, what it was before stands behind it in parentheses.
fn state(line: &str) -> Option<State> {
    let mut words = line.split_whitespace();
    let protocol = match words.nth(1)? {
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        _ => None,
    };
    let local = end(words.next()?)?;
    let remote = words
        .find(|word| *word == "<-")
        .and_then(|_| words.next())?;
    Some(State {
        protocol,
        local,
        remote: end(remote)?,
        age: Duration::ZERO,
        anchor: None,
        rule: None,
        id: (0, 0),
    })
}

/// `10.9.0.1:22`, `2001:db8::7[22]`
fn end(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = match text.strip_suffix(']') {
        Some(text) => text.split_once('[')?,
        None => text.rsplit_once(':')?,
    };
    Some((address.parse().ok()?, port.parse().ok()?))
}

#[cfg(test)]
mod tests;
