//! Doors -> the sets and rules that make them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::config::{Action, Door, Network, Opens, Port, Protocol};

use super::super::filter::{self, numbers};
use super::super::sessions::Session;
use super::super::{Failure, Opening};
use super::script::{Interface, Millis, Name, Part, Script};
use super::table::Key;
use super::{ALWAYS, ALWAYS_4, ALWAYS_6, CHAIN, GUARD, TABLE};

/// Families, as rules name them.
const IP: &str = "ip";
const IP6: &str = "ip6";

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
        let interface = |name: &str| {
            Interface::new(name)
                .ok_or_else(|| Failure::Unexpected(format!("interface {name:?}: no such name")))
        };
        Ok(filter::interfaces(names, interface)?.map_or(On::Any, On::These))
    }

    /// These and those.
    fn and(self, more: &On) -> On {
        match (self, more) {
            (On::These(mut these), On::These(more)) => {
                these.extend_from_slice(more);
                these.sort();
                these.dedup();
                On::These(these)
            }
            _ => On::Any,
        }
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
    /// The set of the IPv6 networks let in, by their first addresses, if there are such.
    pub set_net: Option<Name>,
    /// How many bits those have in common; 128: there are none.
    pub prefix6: u8,
    /// What keeps who had traffic, if leases go by that.
    pub seen: Option<Seen>,
    /// What counts connections, if they are limited.
    pub count: Option<Count>,
    /// Its TCP ports that stand under a guard, be it another door's.
    pub guarded: Vec<u16>,
}

/// What counts the connections of each address at a door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// How many there may be at once.
    pub most: u16,
    /// The set that counts those of IPv4 addresses.
    pub set_4: Name,
    /// The set that counts those of IPv6 addresses.
    pub set_6: Name,
}

/// What keeps who had traffic at a door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// For how long.
    pub idle: Duration,
    /// The set of the IPv4 addresses.
    pub set_4: Name,
    /// The set of the IPv6 addresses and networks.
    pub set_6: Name,
}

/// How rules know one kind of those who are let in.
struct Who<'a> {
    family: &'static str,
    /// What behind the family tells rules apart in their comments.
    length: Script,
    /// What of a packet is looked for in the set.
    source: Script,
    set: &'a Name,
}

impl Gate {
    fn new(door: &Door, opens: &Opens, guarded: &[u16]) -> Result<Gate, Failure> {
        let name = Name::new(&door.name).filter(|name| name.as_str().len() <= 24);
        let name =
            name.ok_or_else(|| Failure::Unexpected(format!("door {:?}: no such name", door.name)))?;
        Ok(Gate {
            set_4: name.with("_4"),
            set_6: name.with("_6"),
            set_net: (door.prefix6 < 128).then(|| name.with("_net6")),
            prefix6: door.prefix6,
            seen: door.idle.map(|idle| Seen {
                idle,
                set_4: name.with("_seen4"),
                set_6: name.with("_seen6"),
            }),
            count: opens.connections.map(|most| Count {
                most,
                set_4: name.with("_now4"),
                set_6: name.with("_now6"),
            }),
            guarded: numbers(&opens.ports, Protocol::Tcp)
                .into_iter()
                .filter(|port| guarded.contains(port))
                .collect(),
            name,
        })
    }

    /// The set that an address or a network belongs to; `None`: the door lets in by no network
    /// of such a length.
    pub fn set(&self, who: Network) -> Option<&Name> {
        match who.address() {
            IpAddr::V4(_) => Some(&self.set_4),
            IpAddr::V6(_) if who.is_host() => Some(&self.set_6),
            IpAddr::V6(_) if who.prefix() == self.prefix6 => self.set_net.as_ref(),
            IpAddr::V6(_) => None,
        }
    }

    /// The sets of those who are let in.
    pub fn sets(&self) -> impl Iterator<Item = &Name> {
        [&self.set_4, &self.set_6].into_iter().chain(&self.set_net)
    }

    /// Whom an element of one of these sets lets in.
    pub fn lets_in(&self, set: &Name, key: Key) -> Option<Network> {
        let Key::Address(address) = key else {
            return None;
        };
        Some(match self.set_net.as_ref() == Some(set) {
            true => Network::new(address, self.prefix6).unwrap_or(Network::host(address)),
            false => Network::host(address),
        })
    }

    /// Those who are let in, by kind.
    fn kinds(&self) -> Vec<Who<'_>> {
        let who = |family: &'static str, set| Who {
            family,
            length: Script::default(),
            source: Script::of(&[&family, &" saddr"]),
            set,
        };
        let mut kinds = vec![who(IP, &self.set_4), who(IP6, &self.set_6)];
        kinds.extend(self.set_net.as_ref().map(|set| {
            let mask = u128::MAX << (128 - u32::from(self.prefix6));
            Who {
                family: IP6,
                length: Script::of(&[&" /", &u64::from(self.prefix6)]),
                source: Script::of(&[&IP6, &" saddr & ", &Ipv6Addr::from(mask)]),
                set,
            }
        }));
        kinds
    }

    /// Whether this is a session of the opening's address at a guarded port of this door.
    pub fn holds(&self, opening: Opening, session: &Session) -> bool {
        opening.address.contains(session.remote.ip())
            && self.guarded.contains(&session.local.port())
    }

    /// The rules that let its addresses in.
    fn passes(&self, opens: &Opens, on: &On) -> Vec<Line> {
        let mut lines = Vec::new();
        let counts = |count: &Count, who: &Who| {
            let set = [&count.set_4, &count.set_6][usize::from(who.family == IP6)];
            let (set, most) = (set.clone(), u64::from(count.most));
            Script::of(&[
                &" add @",
                &set,
                &" { ",
                &who.source,
                &" ct count ",
                &most,
                &" }",
            ])
        };
        for who in self.kinds() {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let ports = numbers(&opens.ports, protocol);
                if ports.is_empty() {
                    continue;
                }
                let (ports, protocol) = (one_of(ports), word(protocol));
                let count = self.count.as_ref().map(|count| counts(count, &who));
                lines.push(Line::new(
                    on,
                    &[
                        &"pass ",
                        &self.name,
                        &" ",
                        &protocol,
                        &" ",
                        &who.family,
                        &who.length,
                    ],
                    &[
                        &who.source,
                        &" @",
                        who.set,
                        &" ",
                        &protocol,
                        &" dport ",
                        &ports,
                        &count.unwrap_or_default(),
                        &" accept",
                    ],
                ));
            }
        }
        lines
    }

    /// The rules that keep who of them had traffic.
    fn traffic(&self, opens: &Opens, on: &On) -> Vec<Line> {
        let mut lines = Vec::new();
        let Some(seen) = &self.seen else {
            return lines;
        };
        for who in self.kinds() {
            let set = [&seen.set_4, &seen.set_6][usize::from(who.family == IP6)];
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let ports = numbers(&opens.ports, protocol);
                if ports.is_empty() {
                    continue;
                }
                let (ports, protocol) = (one_of(ports), word(protocol));
                lines.push(Line::new(
                    on,
                    &[
                        &"traffic ",
                        &self.name,
                        &" ",
                        &protocol,
                        &" ",
                        &who.family,
                        &who.length,
                    ],
                    &[
                        &protocol,
                        &" dport ",
                        &ports,
                        &" ct state established ",
                        &who.source,
                        &" @",
                        who.set,
                        &" update @",
                        set,
                        &" { ",
                        &who.source,
                        &" timeout ",
                        &Millis::from(seen.idle),
                        &" }",
                    ],
                ));
            }
        }
        lines
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

impl Line {
    fn new(on: &On, comment: &[&dyn Part], does: &[&dyn Part]) -> Line {
        let comment = Script::of(&[&"postern: ", &Script::of(comment)]);
        Line {
            text: Script::of(&[
                &"add rule inet ",
                &TABLE,
                &" ",
                &CHAIN,
                &" ",
                &on.text(),
                &" ",
                &Script::of(does),
                &" comment \"",
                &comment,
                &"\"",
            ]),
            comment: comment.as_str().to_owned(),
        }
    }
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
    /// Who passes every guard, none of them within another.
    pub always: Vec<Network>,
}

/// Where a guard stands, and the ports of those that stand there.
type Guards = Vec<(On, Vec<Port>)>;

impl Layout {
    /// What these doors want on these interfaces, or on those that they name themselves.
    pub fn new(doors: &[Door], on: &On, always: &[Network]) -> Result<Layout, Failure> {
        let guards = guards(doors, on)?;
        let all = Vec::from_iter(crate::config::guarded(doors));
        let mut layout = Layout {
            guarded: numbers(&all, Protocol::Tcp),
            always: outermost(always),
            ..Layout::default()
        };
        let (mut traffic, mut passes) = (Vec::new(), Vec::new());
        for door in doors {
            let Action::Open(opens) = &door.action else {
                layout.gates.push(None);
                continue;
            };
            let gate = Gate::new(door, opens, &layout.guarded)?;
            if !layout.always.is_empty() && gate.name.as_str() == ALWAYS {
                return Err(Failure::Unexpected(format!(
                    "door {:?}: its sets would be those of the networks that always pass: \
                     give it another name",
                    door.name
                )));
            }
            let here = of_door(door, on)?;
            traffic.extend(gate.traffic(opens, &here));
            passes.extend(gate.passes(opens, &here));
            layout.gates.push(Some(gate));
        }
        layout.rules = Vec::from_iter(others(doors));
        layout.rules.extend(traffic);
        layout.rules.extend(sessions(&guards));
        layout.rules.extend(passes);
        layout.rules.extend(always_rules(&guards, &layout.always));
        for (on, port) in each(&guards) {
            let protocol = word(port.protocol);
            layout.rules.push(Line::new(
                on,
                &[&GUARD, &port.number, &"/", &protocol],
                &[&protocol, &" dport ", &port.number, &" drop"],
            ));
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
            .flat_map(|(_, gate)| {
                let counting = gate.count.iter();
                let counting = counting.flat_map(|count| [&count.set_4, &count.set_6]);
                let seen = gate.seen.iter().flat_map(|seen| [&seen.set_4, &seen.set_6]);
                gate.sets().chain(counting).chain(seen)
            })
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

/// Where a door's rules apply.
fn of_door(door: &Door, on: &On) -> Result<On, Failure> {
    match door.on.is_empty() {
        true => Ok(on.clone()),
        false => On::new(&door.on),
    }
}

/// Where each guard stands: wherever a door does that wants it.
fn guards(doors: &[Door], on: &On) -> Result<Guards, Failure> {
    let mut ports: BTreeMap<Port, On> = BTreeMap::new();
    for door in doors {
        let Action::Open(Opens {
            guard: Some(guard), ..
        }) = &door.action
        else {
            continue;
        };
        let here = of_door(door, on)?;
        for &port in &guard.ports {
            let on = ports.remove(&port).unwrap_or_else(|| On::These(Vec::new()));
            ports.insert(port, on.and(&here));
        }
    }
    let mut guards = Guards::new();
    for (port, on) in ports {
        match guards.iter_mut().find(|(there, _)| *there == on) {
            Some((_, ports)) => ports.push(port),
            None => guards.push((on, vec![port])),
        }
    }
    Ok(guards)
}

/// Every guard, in the order of ports.
fn each(guards: &Guards) -> impl Iterator<Item = (&On, Port)> {
    let ports = guards
        .iter()
        .flat_map(|(on, ports)| ports.iter().map(move |&port| (port, on)));
    let ports: BTreeMap<Port, &On> = ports.collect();
    ports.into_iter().map(|(port, on)| (on, port))
}

/// The rule that lets everything by that is for no port of the doors: however many rules follow,
/// a flood at other ports walks through none of them.
fn others(doors: &[Door]) -> Option<Line> {
    let mut ports = BTreeSet::new();
    for door in doors {
        if let Action::Open(opens) = &door.action {
            ports.extend(&opens.ports);
            ports.extend(opens.guard.iter().flat_map(|guard| &guard.ports));
        }
    }
    let named = |port: &Port| Script::of(&[&word(port.protocol), &" . ", &port.number]);
    let ports = Script::list(ports.iter().map(named));
    let rule = Line::new(
        &On::Any,
        &[&"other ports"],
        &[&"meta l4proto . th dport != { ", &ports, &" } accept"],
    );
    (!ports.is_empty()).then_some(rule)
}

/// The rules that let running sessions go on.
fn sessions(guards: &Guards) -> Vec<Line> {
    let mut lines = Vec::new();
    for (on, ports) in guards {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let ports = numbers(ports, protocol);
            if !ports.is_empty() {
                let (ports, protocol) = (one_of(ports), word(protocol));
                lines.push(Line::new(
                    on,
                    &[&"tracked ", &protocol],
                    &[
                        &protocol,
                        &" dport ",
                        &ports,
                        &" ct state established accept",
                    ],
                ));
            }
        }
    }
    for (on, ports) in guards {
        let ports = numbers(ports, Protocol::Tcp);
        if ports.is_empty() {
            continue;
        }
        let ports = one_of(ports);
        for (family, set) in [(IP, super::RUNNING_4), (IP6, super::RUNNING_6)] {
            // No running session begins with a SYN.
            lines.push(Line::new(
                on,
                &[&"running tcp ", &family],
                &[
                    &"tcp dport ",
                    &ports,
                    &" tcp flags & (fin | syn | rst | ack) != syn ",
                    &family,
                    &" saddr . tcp sport . ",
                    &family,
                    &" daddr . tcp dport @",
                    &set,
                    &" accept",
                ],
            ));
        }
    }
    lines
}

/// The rules that let in whoever passes every guard.
fn always_rules(guards: &Guards, always: &[Network]) -> Vec<Line> {
    let mut lines = Vec::new();
    for (family, set, there) in [
        (IP, ALWAYS_4, always.iter().any(|n| n.address().is_ipv4())),
        (IP6, ALWAYS_6, always.iter().any(|n| n.address().is_ipv6())),
    ] {
        for (on, ports) in guards.iter().filter(|_| there) {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let ports = numbers(ports, protocol);
                if !ports.is_empty() {
                    let (ports, protocol) = (one_of(ports), word(protocol));
                    lines.push(Line::new(
                        on,
                        &[&"always ", &protocol, &" ", &family],
                        &[
                            &family,
                            &" saddr @",
                            &set,
                            &" ",
                            &protocol,
                            &" dport ",
                            &ports,
                            &" accept",
                        ],
                    ));
                }
            }
        }
    }
    lines
}

/// Networks without those that lie within others: the kernel takes no overlaps.
fn outermost(networks: &[Network]) -> Vec<Network> {
    let within = |a: &Network, b: &Network| a.prefix() >= b.prefix() && b.contains(a.address());
    let mut outermost: Vec<Network> = networks
        .iter()
        .filter(|a| !networks.iter().any(|b| b != *a && within(a, b)))
        .copied()
        .collect();
    outermost.sort_unstable();
    outermost.dedup();
    outermost
}

fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

/// One thing, or an anonymous set of several.
fn one_of<P: Part>(items: impl IntoIterator<Item = P>) -> Script {
    let items: Vec<P> = items.into_iter().collect();
    match items.as_slice() {
        [one] => Script::of(&[one]),
        _ => Script::of(&[&"{ ", &Script::list(items), &" }"]),
    }
}
