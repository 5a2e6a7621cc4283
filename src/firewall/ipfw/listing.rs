//! What stands, as `ipfw set 31 list`, `ipfw table ... info` and `ipfw table ... list` tell it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use jiff::Timestamp;

use crate::config::Network;

use super::super::sessions::Session;
use super::batch::{Name, Table};
use super::layout::MARK;

/// The default rule, of set 31 like ours.
const DEFAULT_RULE: u16 = 65535;

/// IPPROTO_TCP.
const TCP: &str = "6";

/// A rule of set 31.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What stands behind its number.
    pub text: String,
}

/// What stands in the set of our rules, by number, each in its order.
pub type Rules = BTreeMap<u16, Vec<Line>>;

impl Line {
    /// Its comment; empty if it has none.
    pub fn comment(&self) -> &str {
        comment(&self.text)
    }

    /// Whether it carries our mark.
    pub fn is_ours(&self) -> bool {
        self.comment().starts_with(MARK)
    }

    /// If it lets one address or network in: the door's name, who, and until when in Unix seconds.
    pub fn lease(&self) -> Option<(&str, Network, u32)> {
        let (door, until) = self.comment().strip_prefix(MARK)?.split_once(" until ")?;
        let mut words = self.text.split(' ').skip_while(|word| *word != "from");
        let address = words.nth(1)?.parse().ok()?;
        let until: Timestamp = until.parse().ok()?;
        Some((door, address, until.as_second().try_into().ok()?))
    }

    /// Whether it names this table.
    pub fn names(&self, table: &Name) -> bool {
        self.text.contains(&format!("table({table})"))
            || self.text.contains(&format!("table({table},"))
    }
}

/// The comment of a rule's text; empty if it has none.
pub fn comment(text: &str) -> &str {
    text.split_once(" // ").map_or("", |(_, comment)| comment)
}

/// A table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Its type, up to a colon.
    pub kind: String,
    /// How many times rules name it.
    pub references: usize,
    /// Entries of a table of addresses, with their values.
    pub networks: BTreeMap<Network, u32>,
    /// Entries of a table of flows that are TCP sessions.
    pub sessions: BTreeSet<Session>,
    /// Other entries.
    pub odd: Vec<String>,
}

/// What stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The rules of set 31 but for the default rule.
    pub rules: Rules,
    /// The tables that were asked for and are there.
    pub tables: BTreeMap<Table, Contents>,
    /// The names of all tables, of whatever set.
    pub names: BTreeSet<Name>,
}

/// Reads the output of `set 31 list`; `None` if that is not what it should be.
pub fn rules<'a>(lines: impl IntoIterator<Item = &'a str>) -> Option<Rules> {
    let mut rules = Rules::new();
    for line in lines {
        let (number, text) = line.split_once(' ')?;
        let number = number.parse().ok()?;
        if number != DEFAULT_RULE {
            // Counters and time stamps are not asked for; the width of the number is all that
            // ever pads a line.
            let text = text.trim().to_owned();
            rules.entry(number).or_default().push(Line { text });
        }
    }
    Some(rules)
}

impl Found {
    /// Reads what a look printed: the rules, all tables' headers, and for each of `asked`, as
    /// far as the look came, header and entries. `None` if that is not what it should be.
    pub fn parse(text: &str, asked: &[&Table]) -> Option<Found> {
        let lines: Vec<&str> = text.lines().collect();
        let headers = lines.iter().position(|line| line.starts_with("--- "));
        let (list, tables) = lines.split_at(headers.unwrap_or(lines.len()));
        let mut sections: Vec<(Name, Contents)> = Vec::new();
        for line in tables {
            if let Some(header) = line.strip_prefix("--- table(") {
                let name = Name::new(header.split_once(')')?.0)?;
                sections.push((name, Contents::default()));
                continue;
            }
            let (_, contents) = sections.last_mut()?;
            match line.strip_prefix(' ') {
                Some(about) => contents.about(about)?,
                None => contents.entry(line),
            }
        }
        let names = sections.iter().map(|(name, _)| name.clone()).collect();
        let asked = asked.iter().map(|table| (*table).clone());
        // Those of `table all info` come first.
        let first = sections.len().checked_sub(asked.len())?;
        let told = sections.split_off(first);
        let tables: BTreeMap<Table, Contents> = asked
            .zip(told)
            .map(|(table, (name, contents))| (*table.name() == name).then_some((table, contents)))
            .collect::<Option<_>>()?;
        Some(Found {
            rules: rules(list.iter().copied())?,
            tables,
            names,
        })
    }

    /// The names in the headers of all tables that a look printed before it ended too early.
    pub fn names(text: &str) -> BTreeSet<Name> {
        let names = text.lines().filter_map(|line| {
            let (name, _) = line.strip_prefix("--- table(")?.split_once(')')?;
            Name::new(name)
        });
        names.collect()
    }
}

impl Contents {
    /// A line of `info`: ` kindex: 1, type: addr`, ` references: 0, valtype: legacy`.
    fn about(&mut self, line: &str) -> Option<()> {
        for part in line.split(", ") {
            match part.split_once(": ") {
                Some(("type", kind)) => {
                    self.kind = kind.split([':', ',']).next()?.to_owned();
                }
                Some(("references", count)) => self.references = count.parse().ok()?,
                _ => {}
            }
        }
        Some(())
    }

    /// A line of `list`: `192.0.2.7/32 1234`, `10.9.0.2,6,40001,10.9.0.1,22 0`.
    fn entry(&mut self, line: &str) {
        if let Some((network, value)) = address(line) {
            self.networks.insert(network, value);
        } else if let Some(session) = session(line) {
            self.sessions.insert(session);
        } else {
            self.odd.push(line.to_owned());
        }
    }
}

fn address(line: &str) -> Option<(Network, u32)> {
    let (network, value) = line.split_once(' ')?;
    let (address, prefix) = network.split_once('/')?;
    let network = Network::new(address.parse().ok()?, prefix.parse().ok()?)?;
    Some((network, value.parse().ok()?))
}

fn session(line: &str) -> Option<Session> {
    let (flow, _) = line.split_once(' ')?;
    let parts: Vec<&str> = flow.split(',').collect();
    let [remote, TCP, from, local, to] = parts.as_slice() else {
        return None;
    };
    Some(Session {
        local: SocketAddr::new(local.parse().ok()?, to.parse().ok()?),
        remote: SocketAddr::new(remote.parse().ok()?, from.parse().ok()?),
    })
}

#[cfg(test)]
mod tests;
