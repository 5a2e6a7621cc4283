//! Doors -> the sets and rules that make them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::config::{Action, Door, Port, Protocol};

use super::super::sessions::Session;
use super::super::{Failure, Opening};
use super::script::{Interface, Name, Script};
use super::{CHAIN, TABLE};

/// Where rules apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum On {
    /// Every interface but the loopback.
    Any,
    /// These.
    These(Vec<Interface>),
}

impl On {
    /// From names as the configuration has them; `any` among them or none at all: all.
    pub fn new(names: &[String]) -> Result<On, Failure> {
        if names.is_empty() || names.iter().any(|name| name == "any") {
            return Ok(On::Any);
        }
        let interface = |name: &String| {
            Interface::new(name)
                .ok_or_else(|| Failure::Unexpected(format!("interface {name:?}: no such name")))
        };
        let mut these = names.iter().map(interface).collect::<Result<Vec<_>, _>>()?;
        these.sort();
        these.dedup();
        Ok(On::These(these))
    }

    fn text(&self) -> Script {
        match self {
            On::Any => Script::of(&[&"iifname != \"lo\""]),
            On::These(names) => Script::of(&[&"iifname ", &one_of(names.iter().cloned())]),
        }
    }
}

/// A door that opens in the packet filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// The door's name.
    pub name: Name,
    /// The set of IPv4 addresses let in.
    pub set_4: Name,
    /// The set of IPv6 addresses let in.
    pub set_6: Name,
    /// Its TCP ports that stand under a guard, be it another door's.
    pub guarded: Vec<u16>,
}

impl Gate {
    /// The set that an address belongs to.
    pub fn set(&self, address: IpAddr) -> &Name {
        match address {
            IpAddr::V4(_) => &self.set_4,
            IpAddr::V6(_) => &self.set_6,
        }
    }

    /// Whether this is a session of the opening's address at a guarded port of this door.
    pub fn holds(&self, opening: Opening, session: &Session) -> bool {
        session.remote.ip() == opening.address && self.guarded.contains(&session.local.port())
    }
}

/// A rule as we make it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its comment, by which it is known again.
    pub comment: String,
    /// The whole command.
    pub text: Script,
}

/// Everything that the doors want.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// By the doors' places; `None`: the door does not open here.
    pub gates: Vec<Option<Gate>>,
    /// The rules, in order.
    pub rules: Vec<Line>,
    /// All TCP ports under a guard.
    pub guarded: Vec<u16>,
}

impl Layout {
    /// What these doors want on these interfaces.
    pub fn new(doors: &[Door], on: &On) -> Result<Layout, Failure> {
        let guarded = Vec::from_iter(crate::config::guarded(doors));
        let tcp = |ports: &[Port]| numbers(ports, Protocol::Tcp);

        let mut layout = Layout {
            guarded: tcp(&guarded),
            ..Layout::default()
        };
        let mut passes = Vec::new();
        for door in doors {
            let Some((door, opens)) = opens(door) else {
                layout.gates.push(None);
                continue;
            };
            let name = Name::new(&door.name)
                .filter(|name| name.as_str().len() <= 24)
                .ok_or_else(|| {
                    Failure::Unexpected(format!("door {:?}: no such name", door.name))
                })?;
            let gate = Gate {
                set_4: name.with("_4"),
                set_6: name.with("_6"),
                guarded: tcp(&opens.ports)
                    .into_iter()
                    .filter(|port| layout.guarded.contains(port))
                    .collect(),
                name,
            };
            for (family, set) in [("ip", &gate.set_4), ("ip6", &gate.set_6)] {
                for protocol in [Protocol::Tcp, Protocol::Udp] {
                    let ports = numbers(&opens.ports, protocol);
                    if ports.is_empty() {
                        continue;
                    }
                    let ports = one_of(ports);
                    let protocol = word(protocol);
                    passes.push((
                        Script::of(&[&"pass ", &gate.name, &" ", &protocol, &" ", &family]),
                        Script::of(&[
                            &family,
                            &" saddr @",
                            set,
                            &" ",
                            &protocol,
                            &" dport ",
                            &ports,
                            &" accept",
                        ]),
                    ));
                }
            }
            layout.gates.push(Some(gate));
        }

        let mut add = |comment: &Script, does: &Script| {
            let comment = Script::of(&[&"postern: ", comment]);
            layout.rules.push(Line {
                text: Script::of(&[
                    &"add rule inet ",
                    &TABLE,
                    &" ",
                    &CHAIN,
                    &" ",
                    &on.text(),
                    &" ",
                    does,
                    &" comment \"",
                    &comment,
                    &"\"",
                ]),
                comment: comment.as_str().to_owned(),
            });
        };
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let ports = numbers(&guarded, protocol);
            if !ports.is_empty() {
                let protocol = word(protocol);
                add(
                    &Script::of(&[&"tracked ", &protocol]),
                    &Script::of(&[
                        &protocol,
                        &" dport ",
                        &one_of(ports),
                        &" ct state established accept",
                    ]),
                );
            }
        }
        let ports = tcp(&guarded);
        if !ports.is_empty() {
            let ports = one_of(ports);
            for (family, set) in [("ip", super::RUNNING_4), ("ip6", super::RUNNING_6)] {
                // No running session begins with a SYN.
                add(
                    &Script::of(&[&"running tcp ", &family]),
                    &Script::of(&[
                        &"tcp dport ",
                        &ports,
                        &" tcp flags & (fin | syn | rst | ack) != syn ",
                        &family,
                        &" saddr . tcp sport . ",
                        &family,
                        &" daddr . tcp dport @",
                        &set,
                        &" accept",
                    ]),
                );
            }
        }
        for (comment, does) in &passes {
            add(comment, does);
        }
        for port in &guarded {
            let protocol = word(port.protocol);
            add(
                &Script::of(&[&"guard ", &port.number, &"/", &protocol]),
                &Script::of(&[&protocol, &" dport ", &port.number, &" drop"]),
            );
        }
        Ok(layout)
    }

    /// The gate of a door, by its place.
    pub fn gate(&self, door: u16) -> Option<&Gate> {
        self.gates.get(usize::from(door))?.as_ref()
    }

    /// The names of the doors' sets.
    pub fn sets(&self) -> BTreeSet<&Name> {
        self.gates()
            .flat_map(|(_, gate)| [&gate.set_4, &gate.set_6])
            .collect()
    }

    /// The gates with their doors' places.
    pub fn gates(&self) -> impl Iterator<Item = (u16, &Gate)> {
        let places = 0..=u16::MAX;
        places
            .zip(&self.gates)
            .filter_map(|(place, gate)| Some((place, gate.as_ref()?)))
    }
}

fn opens(door: &Door) -> Option<(&Door, &crate::config::Opens)> {
    match &door.action {
        Action::Open(opens) => Some((door, opens)),
        Action::Command(_) => None,
    }
}

fn numbers(ports: &[Port], protocol: Protocol) -> Vec<u16> {
    let mut numbers: Vec<u16> = ports
        .iter()
        .filter(|port| port.protocol == protocol)
        .map(|port| port.number)
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

/// One thing, or an anonymous set of several.
fn one_of<P: super::script::Part>(items: impl IntoIterator<Item = P>) -> Script {
    let items: Vec<P> = items.into_iter().collect();
    match items.as_slice() {
        [one] => Script::of(&[one]),
        _ => Script::of(&[&"{ ", &Script::list(items), &" }"]),
    }
}
