//! Doors -> the tables and rules of our anchor, as text for pfctl(8).

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{Action, Door, Network, Opens, Pass, Port, Protocol, To};

use super::super::sessions::Session;
use super::super::{Failure, filter};

/// The table of those who pass every guard.
pub const ALWAYS: &str = "always";
/// What the name of a door's table in our anchor begins with.
pub const DOOR: &str = "door_";
/// The label of a guard.
pub const GUARD: &str = "postern: guard";
/// The label of a rule that admits a running session.
pub const RUNNING: &str = "postern: running";

/// Where rules apply, each word fit to stand behind `on`: `xl0`, or `! lo0` for every interface
/// but the loopback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct On(Vec<String>);

impl On {
    /// From names as the configuration has them; `any` among them or none at all: all.
    pub fn new(names: &[String]) -> Result<On, Failure> {
        // IFNAMSIZ is 16 with its NUL; pf.conf(5) reads these as one word.
        let fits = |name: &str| {
            (1..=15).contains(&name.len())
                && name.starts_with(|c: char| c.is_ascii_alphabetic())
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"._-:@+".contains(&b))
        };
        let interface = |name: &str| match fits(name) {
            true => Ok(name.to_owned()),
            false => Err(Failure::Unexpected(format!(
                "interface {name:?}: no such name"
            ))),
        };
        let these = filter::interfaces(names, interface)?;
        Ok(On(these.unwrap_or_else(|| vec!["! lo0".to_owned()])))
    }
}

/// A door that opens in pf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// The door's name.
    pub name: String,
    /// The table of the addresses let in.
    pub table: String,
    /// Whether table and rules are ours, in our anchor; otherwise they are the administrator's,
    /// in the main ruleset.
    pub ours: bool,
    /// The ports of its pass rules.
    pub ports: Vec<Port>,
    /// Whether a lease's end ends the states that it let in.
    pub kill_states: bool,
    /// Whether its leases go by traffic, so that packets are counted for each entry.
    pub idle: bool,
    /// How many bits of an IPv6 address tell who is let in.
    pub prefix6: u8,
}

/// Everything that the doors want.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// By the doors' places; `None`: the door does not open here.
    pub gates: Vec<Option<Gate>>,
    /// The definitions of our tables.
    tables: Vec<String>,
    /// The rules that stand before the running sessions'.
    passes: Vec<String>,
    /// The rules that stand behind them.
    behind: Vec<String>,
    /// Who passes every guard; empty also where there is no guard.
    pub always: BTreeSet<Network>,
    /// All TCP ports under a guard.
    pub guarded: Vec<u16>,
    /// The guards' ports: one for each of the last rules.
    guards: Vec<Port>,
    /// Where TCP ports are guarded.
    guarded_on: BTreeMap<u16, BTreeSet<String>>,
}

impl Layout {
    /// What these doors want on these interfaces.
    pub fn new(doors: &[Door], on: &On, always: &[Network]) -> Result<Layout, Failure> {
        let mut layout = Layout::default();
        let (mut passed, mut guards) = (Vec::new(), Vec::new());
        for door in doors {
            let Action::Open(opens) = &door.action else {
                layout.gates.push(None);
                continue;
            };
            let gate = gate(door, opens)?;
            if gate.ours {
                let on = match door.on.as_slice() {
                    [] => on.clone(),
                    names => On::new(names)?,
                };
                let counters = if gate.idle { " counters" } else { "" };
                layout
                    .tables
                    .push(format!("table <{}> persist{counters}", gate.table));
                layout.passes.extend(passes(&gate, opens, &on));
                for port in opens.guard.iter().flat_map(|guard| &guard.ports) {
                    for on in &on.0 {
                        let place = place(on, *port, opens.to);
                        if !guards.contains(&place) {
                            guards.push(place);
                        }
                        if port.protocol == Protocol::Tcp {
                            let guarded = layout.guarded_on.entry(port.number).or_default();
                            guarded.insert(on.clone());
                        }
                    }
                }
            }
            layout.gates.push(Some(gate));
        }
        layout.guarded = layout.guarded_on.keys().copied().collect();
        if !always.is_empty() && !guards.is_empty() {
            layout.always = always.iter().copied().collect();
            let all: Vec<String> = layout.always.iter().map(Network::to_string).collect();
            let all = all.join(", ");
            layout
                .tables
                .push(format!("table <{ALWAYS}> persist {{ {all} }}"));
            passed = guards
                .iter()
                .map(|place| place.pass(ALWAYS, "keep state", "postern: always"))
                .collect();
        }
        layout.guards = guards.iter().map(|place| place.port).collect();
        layout.behind = passed;
        layout.behind.extend(guards.iter().map(Place::guard));
        Ok(layout)
    }

    /// The gate of a door, by its place.
    pub fn gate(&self, door: u16) -> Option<&Gate> {
        self.gates.get(usize::from(door))?.as_ref()
    }

    /// The gates with their doors' places.
    pub fn gates(&self) -> impl Iterator<Item = (u16, &Gate)> {
        (0..=u16::MAX)
            .zip(&self.gates)
            .filter_map(|(place, gate)| Some((place, gate.as_ref()?)))
    }

    /// Whether any of them needs our anchor.
    pub fn anchored(&self) -> bool {
        !self.passes.is_empty()
    }

    /// The names of our tables.
    pub fn tables(&self) -> impl Iterator<Item = &str> {
        let doors = self.gates().filter(|(_, gate)| gate.ours);
        doors
            .map(|(_, gate)| gate.table.as_str())
            .chain((!self.always.is_empty()).then_some(ALWAYS))
    }

    /// The rules that admit a running session by its four numbers: where its port is guarded.
    /// What of it pf has not seen it takes as it comes (`sloppy`); the state is gone after 30 s
    /// of silence, so that the rule must stay as long as the session.
    pub fn running(&self, session: &Session) -> Vec<String> {
        let Session { local, remote } = session;
        let family = if remote.is_ipv4() { "inet" } else { "inet6" };
        let on = self.guarded_on.get(&local.port());
        on.into_iter()
            .flatten()
            .map(|on| {
                format!(
                    "pass in quick on {on} {family} proto tcp from {} port {} to {} port {} \
                     flags any keep state (sloppy) label \"{RUNNING}\"",
                    remote.ip(),
                    remote.port(),
                    local.ip(),
                    local.port()
                )
            })
            .collect()
    }

    /// The TCP ports whose guards are among these rules and not among those that stood.
    /// `expected`: all rules but for those of running sessions, as pfctl shows them.
    pub fn arriving(&self, expected: &[String], stood: &[String]) -> BTreeSet<u16> {
        let guards = expected.iter().rev().zip(self.guards.iter().rev());
        guards
            .filter(|(rule, port)| port.protocol == Protocol::Tcp && !stood.contains(rule))
            .map(|(_, port)| port.number)
            .collect()
    }

    /// How many rules there are without those of running sessions.
    pub fn rules(&self) -> usize {
        self.passes.len() + self.behind.len()
    }

    /// How many of those stand before the running sessions'.
    pub fn first(&self) -> usize {
        self.passes.len()
    }

    /// The whole anchor: all passes before all guards, for in one anchor a door's `quick` block
    /// would shut out another's pass on the same port.
    pub fn text<'a>(&'a self, running: &'a [String]) -> impl Iterator<Item = &'a str> {
        let parts = [&self.tables, &self.passes, running, &self.behind];
        parts.into_iter().flatten().map(String::as_str)
    }
}

fn gate(door: &Door, opens: &Opens) -> Result<Gate, Failure> {
    let name = &door.name;
    let (table, ours) = match &opens.pass {
        Pass::Ours { .. } => (format!("{DOOR}{name}"), true),
        Pass::Table(table) => (table.clone(), false),
        Pass::Rules(_) => {
            return Err(Failure::Unexpected(format!(
                "door {name}: only ipfw numbers its rules"
            )));
        }
    };
    // PF_TABLE_NAME_SIZE is 32 with its NUL.
    let fits = table.len() <= 31
        && table.starts_with(|c: char| c.is_ascii_alphabetic())
        && table
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    if !fits {
        return Err(Failure::Unexpected(format!(
            "door {name:?}: pf can have no table of the name {table:?}"
        )));
    }
    Ok(Gate {
        name: name.clone(),
        table,
        ours,
        ports: opens.ports.clone(),
        kill_states: opens.kill_states,
        idle: door.idle.is_some(),
        prefix6: door.prefix6,
    })
}

fn passes(gate: &Gate, opens: &Opens, on: &On) -> Vec<String> {
    let state = match opens.connections {
        Some(count) => format!("keep state (source-track rule, max-src-states {count})"),
        None => "keep state".to_owned(),
    };
    let label = format!("postern:{}", gate.name);
    let mut ports = opens.ports.clone();
    ports.sort_unstable();
    let mut passes = Vec::new();
    for on in &on.0 {
        for &port in &ports {
            passes.push(place(on, port, opens.to).pass(&gate.table, &state, &label));
        }
    }
    passes
}

/// What a rule is about.
#[derive(PartialEq, Eq)]
struct Place {
    on: String,
    port: Port,
    to: String,
}

fn place(on: &str, port: Port, to: To) -> Place {
    Place {
        on: on.to_owned(),
        port,
        to: match to {
            To::Me => "(self)".to_owned(),
            To::Any => "any".to_owned(),
            To::Network(network) => network.to_string(),
        },
    }
}

impl Place {
    fn pass(&self, table: &str, state: &str, label: &str) -> String {
        let Place { on, port, to } = self;
        let Port { protocol, number } = port;
        let flags = match protocol {
            Protocol::Tcp => "flags S/SA ",
            Protocol::Udp => "",
        };
        format!(
            "pass in quick on {on} proto {protocol} from <{table}> to {to} port {number} \
             {flags}{state} label \"{label}\""
        )
    }

    fn guard(&self) -> String {
        let Place { on, port, to } = self;
        let Port { protocol, number } = port;
        format!(
            "block drop in quick on {on} proto {protocol} from any to {to} port {number} label \
             \"{GUARD}\""
        )
    }
}
