//! Doors -> the rules and tables that make them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use jiff::Timestamp;

use crate::config::{Action, Door, Network, Opens, Pass, Protocol, To};

use super::super::filter::{self, numbers};
use super::super::sessions::Session;
use super::super::{Failure, Opening};
use super::batch::{Holds, Interface, LONGEST_LINE, Name, OURS, Table};

/// What the comment of each rule of ours begins with.
pub const MARK: &str = "postern:";
/// The comment of a guard.
pub const GUARD: &str = "postern: guard";
/// The comment of a rule that admits running sessions at a guarded port.
pub const RUNNING: &str = "postern: running";
/// The comment of a rule that lets in who needs no knock.
pub const ALWAYS: &str = "postern: always";

/// A rule has room for 255 words; so many ports leave most of it to the rest.
const PORTS: usize = 30;

/// `limit` takes no more (IPFW_ARG_MAX).
const MOST_CONNECTIONS: u16 = 65534;

/// Where rules apply.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum On {
    /// Every interface but the loopback.
    Any,
    /// These.
    These(Vec<Interface>),
}

impl On {
    /// From names as the configuration has them; `any` among them or none at all: all.
    pub fn new(names: &[String]) -> Result<On, Failure> {
        let interface = |name: &str| {
            Interface::new(name).ok_or_else(|| {
                Failure::Unexpected(format!(
                    "ipfw: interface {name:?}: not a name that ipfw takes for one interface"
                ))
            })
        };
        Ok(filter::interfaces(names, interface)?.map_or(On::Any, On::These))
    }

    fn text(&self) -> String {
        match self {
            On::Any => "in not recv lo0".to_owned(),
            On::These(names) => match names.as_slice() {
                [one] => format!("in recv {one}"),
                many => {
                    let each: Vec<String> = many.iter().map(|i| format!("recv {i}")).collect();
                    format!("in {{ {} }}", each.join(" or "))
                }
            },
        }
    }
}

/// A rule as we make it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its number.
    pub number: u16,
    /// What stands behind number and set.
    pub text: String,
}

/// The form of a rule that lets one address in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    before: String,
    after: String,
}

impl Form {
    /// The rule for an address until so many Unix seconds.
    pub fn text(&self, address: Network, until: u32) -> String {
        format!("{}{address}{}{}", self.before, self.after, moment(until))
    }
}

/// An address of the same family for examples (RFC 5737, RFC 3849), or a network of the same
/// length.
pub fn example(of: Network) -> Network {
    match of.address() {
        IpAddr::V4(_) => Network::host(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
        IpAddr::V6(_) => {
            let address = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
            Network::of_knocker(address.into(), of.prefix())
        }
    }
}

/// Unix seconds as rules show them: RFC 3339, in UTC.
pub fn moment(seconds: u32) -> String {
    // Every u32 is a moment that jiff knows.
    Timestamp::from_second(i64::from(seconds))
        .unwrap_or_default()
        .to_string()
}

/// How a door lets addresses in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// By an entry in a table, ours or the administrator's.
    Table(Table),
    /// By rules of its own, at a number of this range.
    Rules {
        /// The numbers.
        range: RangeInclusive<u16>,
        /// The rules, all at one number.
        forms: Vec<Form>,
    },
}

/// A door that opens in the packet filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// The door's name.
    pub name: Name,
    /// How it lets addresses in.
    pub by: By,
    /// Its TCP ports that stand under a guard, be it another door's.
    pub guarded: Vec<u16>,
    /// Its TCP ports, if its leases go by the sessions there.
    pub idle: Vec<u16>,
    /// How many bits of an IPv6 address tell who is let in.
    pub prefix6: u8,
}

impl Gate {
    /// Whether this is a session of the address or network at a guarded port of this door.
    pub fn holds(&self, address: Network, session: &Session) -> bool {
        address.contains(session.remote.ip()) && self.guarded.contains(&session.local.port())
    }
}

/// Everything that the doors want.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// By the doors' places; `None`: the door does not open here.
    pub gates: Vec<Option<Gate>>,
    /// The rules that stand as long as the doors, by number; within a number passes, `always`,
    /// running sessions, guards.
    pub rules: Vec<Rule>,
    /// Our tables.
    pub tables: Vec<(Table, Holds)>,
    /// Who passes the guards without a knock; empty where there are none.
    pub always: Vec<Network>,
    /// All TCP ports under a guard.
    pub guarded: Vec<u16>,
}

/// Guards that are one: number, protocol, destination, interfaces.
type Group = (u16, Protocol, To, On);

impl Layout {
    /// What these doors want on these interfaces, where they name none.
    pub fn new(doors: &[Door], on: &On, always: &[Network]) -> Result<Layout, Failure> {
        let guarded = Vec::from_iter(crate::config::guarded(doors));
        let mut layout = Layout {
            guarded: numbers(&guarded, Protocol::Tcp),
            ..Layout::default()
        };
        let mut groups: BTreeMap<Group, BTreeSet<u16>> = BTreeMap::new();
        for door in doors {
            let Action::Open(opens) = &door.action else {
                layout.gates.push(None);
                continue;
            };
            let on = match door.on.as_slice() {
                [] => on.clone(),
                names => On::new(names)?,
            };
            if let Some(guard) = &opens.guard {
                let number = guard.number.ok_or_else(|| numberless(door))?;
                for port in &guard.ports {
                    let group = (number, port.protocol, opens.to, on.clone());
                    groups.entry(group).or_default().insert(port.number);
                }
            }
            layout.door(door, opens, &on)?;
        }
        if !groups.is_empty() && !always.is_empty() {
            layout.always = always.to_vec();
            layout.tables.push((Table::always(), Holds::Addresses));
        }
        if !layout.guarded.is_empty() {
            layout.tables.push((Table::running(), Holds::Flows));
        }
        let guards = layout.guards(&groups);
        layout.rules.extend(guards);
        // Stable: what was made first stands first.
        layout.rules.sort_by_key(|rule| rule.number);
        match layout.texts().iter().any(|text| too_long(text)) {
            true => Err(Failure::Unexpected(
                "ipfw: a rule would be longer than ipfw(8) reads: name fewer interfaces".to_owned(),
            )),
            false => Ok(layout),
        }
    }

    /// The gate of a door, with what stands as long as the door.
    fn door(&mut self, door: &Door, opens: &Opens, on: &On) -> Result<(), Failure> {
        let name = Name::new(&door.name)
            .filter(|name| name.as_str().len() <= 24)
            .ok_or_else(|| Failure::Unexpected(format!("door {:?}: no such name", door.name)))?;
        let to = destination(opens.to);
        let on = on.text();
        // (what stands before the source, what stands behind it)
        let mut passes = Vec::new();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let (word, state) = match (protocol, opens.connections) {
                (Protocol::Tcp, None) => ("tcp", "setup keep-state".to_owned()),
                (Protocol::Tcp, Some(most)) => {
                    let most = most.min(MOST_CONNECTIONS);
                    ("tcp", format!("setup limit src-addr {most}"))
                }
                (Protocol::Udp, _) => ("udp", "keep-state".to_owned()),
            };
            for ports in numbers(&opens.ports, protocol).chunks(PORTS) {
                let ports = list(ports);
                passes.push((
                    format!("allow {word} from "),
                    format!(" to {to} {ports} {on} {state} :{OURS}{name} // {MARK}{name}"),
                ));
            }
        }
        let by = match &opens.pass {
            Pass::Ours { rule } => {
                let number = rule.ok_or_else(|| numberless(door))?;
                let table = Table::ours(name.as_str())
                    .filter(|table| ![Table::always(), Table::running()].contains(table));
                let table = table.ok_or_else(|| {
                    Failure::Unexpected(format!(
                        "door {name}: ipfw keeps a table {OURS}{name} for something else: give \
                         the door another name"
                    ))
                })?;
                for (before, after) in passes {
                    let text = format!("{before}table({}){after}", table.name());
                    self.rules.push(Rule { number, text });
                }
                self.tables.push((table.clone(), Holds::Addresses));
                By::Table(table)
            }
            Pass::Rules(range) => By::Rules {
                range: range.clone(),
                forms: passes
                    .into_iter()
                    .map(|(before, after)| Form {
                        before,
                        after: format!("{after} until "),
                    })
                    .collect(),
            },
            Pass::Table(table) => {
                By::Table(Table::Theirs(Name::new(table).ok_or_else(|| {
                    Failure::Unexpected(format!("table {table:?}: no such name"))
                })?))
            }
        };
        let guarded = numbers(&opens.ports, Protocol::Tcp)
            .into_iter()
            .filter(|port| self.guarded.contains(port))
            .collect();
        let idle = match door.idle {
            Some(_) => numbers(&opens.ports, Protocol::Tcp),
            None => Vec::new(),
        };
        self.gates.push(Some(Gate {
            name,
            by,
            guarded,
            idle,
            prefix6: door.prefix6,
        }));
        Ok(())
    }

    /// What stands at the guards' numbers.
    fn guards(&self, groups: &BTreeMap<Group, BTreeSet<u16>>) -> Vec<Rule> {
        let (mut always, mut running, mut guards) = (Vec::new(), Vec::new(), Vec::new());
        for ((number, protocol, to, on), ports) in groups {
            let (to, on) = (destination(*to), on.text());
            let word = match protocol {
                Protocol::Tcp => "tcp",
                Protocol::Udp => "udp",
            };
            for ports in Vec::from_iter(ports.iter().copied()).chunks(PORTS) {
                let ports = list(ports);
                let rule = |text| Rule {
                    number: *number,
                    text,
                };
                if !self.always.is_empty() {
                    always.push(rule(format!(
                        "allow {word} from table({}) to {to} {ports} {on} // {ALWAYS}",
                        Table::always().name()
                    )));
                }
                if *protocol == Protocol::Tcp {
                    running.push(rule(format!(
                        "allow tcp from any to {to} {ports} {on} established flow table({}) // {RUNNING}",
                        Table::running().name()
                    )));
                }
                guards.push(rule(format!(
                    "deny {word} from any to {to} {ports} {on} // {GUARD}"
                )));
            }
        }
        [always, running, guards].concat()
    }

    /// The gate of a door, by its place.
    pub fn gate(&self, door: u16) -> Option<&Gate> {
        self.gates.get(usize::from(door))?.as_ref()
    }

    /// The gates with their doors' places.
    pub fn gates(&self) -> impl Iterator<Item = (u16, &Gate)> {
        let places = 0..=u16::MAX;
        places
            .zip(&self.gates)
            .filter_map(|(place, gate)| Some((place, gate.as_ref()?)))
    }

    /// When an address's entry in a table of the administrator's should end: several doors may
    /// let in by the same.
    pub fn latest(
        &self,
        table: &Table,
        address: Network,
        ends: &BTreeMap<Opening, u32>,
    ) -> Option<u32> {
        let doors = self.gates().filter(|(_, gate)| match &gate.by {
            By::Table(other) => other == table,
            By::Rules { .. } => false,
        });
        let ends = doors.filter_map(|(door, _)| ends.get(&Opening { door, address }));
        ends.max().copied()
    }

    /// All tables, ours and the administrator's.
    pub fn all_tables(&self) -> BTreeSet<Table> {
        let ours = self.tables.iter().map(|(table, _)| table);
        let theirs = self.gates().filter_map(|(_, gate)| match &gate.by {
            By::Table(table @ Table::Theirs(_)) => Some(table),
            _ => None,
        });
        ours.chain(theirs).cloned().collect()
    }

    /// Every text that a rule of this layout may have, addresses as in examples.
    pub fn texts(&self) -> Vec<String> {
        let mut texts: Vec<String> = self.rules.iter().map(|rule| rule.text.clone()).collect();
        for (_, gate) in self.gates() {
            let By::Rules { forms, .. } = &gate.by else {
                continue;
            };
            let any = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
            let kinds = [
                Network::host(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
                Network::host(any),
                Network::of_knocker(any, gate.prefix6),
            ];
            for kind in kinds {
                texts.extend(forms.iter().map(|form| form.text(example(kind), 0)));
            }
        }
        texts.sort();
        texts.dedup();
        texts
    }
}

fn too_long(text: &str) -> bool {
    // `add 00101 set 31 `, the line's end, and a longer address than that of an example.
    text.len() + 64 > LONGEST_LINE
}

fn numberless(door: &Door) -> Failure {
    Failure::Unexpected(format!(
        "door {}: ipfw numbers its rules: give rule and guard a number",
        door.name
    ))
}

fn destination(to: To) -> String {
    match to {
        To::Me => "me".to_owned(),
        To::Any => "any".to_owned(),
        To::Network(network) => network.to_string(),
    }
}

fn list(ports: &[u16]) -> String {
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    ports.join(",")
}
