//! Sweeps: what becomes of a sequence when somebody tries all ports in some plain order.

use std::collections::BTreeSet;

use super::sequence::{KEYS, Sequences};
use crate::config::Protocol;

/// An order in which somebody may try all ports.
#[derive(Clone, Copy)]
pub(super) struct Sweep {
    name: &'static str,
    order: Order,
    tcp_down: bool,
    udp_down: bool,
}

#[derive(Clone, Copy)]
enum Order {
    /// The ports of one protocol.
    Only(Protocol),
    /// All of this protocol, then all of the other.
    Then(Protocol),
    /// Each number in both, this one first.
    Both(Protocol),
}

const fn sweep(name: &'static str, order: Order, tcp_down: bool, udp_down: bool) -> Sweep {
    Sweep {
        name,
        order,
        tcp_down,
        udp_down,
    }
}

/// The sweeps that shall open nothing, simplest first.
#[rustfmt::skip]
pub(super) const SWEEPS: [Sweep; 16] = {
    use Order::{Both, Only, Then};
    use Protocol::{Tcp, Udp};
    [
        sweep("TCP ports upwards", Only(Tcp), false, false),
        sweep("TCP ports downwards", Only(Tcp), true, false),
        sweep("UDP ports upwards", Only(Udp), false, false),
        sweep("UDP ports downwards", Only(Udp), false, true),
        sweep("TCP, then UDP ports upwards", Then(Tcp), false, false),
        sweep("UDP, then TCP ports upwards", Then(Udp), false, false),
        sweep("TCP, then UDP ports downwards", Then(Tcp), true, true),
        sweep("UDP, then TCP ports downwards", Then(Udp), true, true),
        sweep("TCP ports upwards, then UDP ports downwards", Then(Tcp), false, true),
        sweep("TCP ports downwards, then UDP ports upwards", Then(Tcp), true, false),
        sweep("UDP ports upwards, then TCP ports downwards", Then(Udp), true, false),
        sweep("UDP ports downwards, then TCP ports upwards", Then(Udp), false, true),
        sweep("ports upwards, each by TCP and UDP", Both(Tcp), false, false),
        sweep("ports downwards, each by TCP and UDP", Both(Tcp), true, true),
        sweep("ports upwards, each by UDP and TCP", Both(Udp), false, false),
        sweep("ports downwards, each by UDP and TCP", Both(Udp), true, true),
    ]
};

impl Sweep {
    fn is_down(self, protocol: u32) -> bool {
        if protocol == 0 {
            self.tcp_down
        } else {
            self.udp_down
        }
    }

    /// How many ports it tries.
    pub(super) fn len(self) -> u32 {
        match self.order {
            Order::Only(_) => KEYS / 2,
            _ => KEYS,
        }
    }

    /// Which port it tries at `turn`, below [`Sweep::len`].
    pub(super) fn at(self, turn: u32) -> u32 {
        let (protocol, number) = match self.order {
            Order::Only(only) => (only as u32, turn),
            Order::Then(first) => ((turn >> 16) ^ first as u32, turn & 0xffff),
            Order::Both(first) => ((turn & 1) ^ first as u32, turn >> 1),
        };
        let down = if self.is_down(protocol) { 0xffff } else { 0 };
        protocol << 16 | (number ^ down)
    }

    /// When it tries a port, if at all.
    pub(super) fn turn(self, key: u32) -> Option<u32> {
        let protocol = key >> 16;
        let down = if self.is_down(protocol) { 0xffff } else { 0 };
        let number = (key & 0xffff) ^ down;
        match self.order {
            Order::Only(only) => (only as u32 == protocol).then_some(number),
            Order::Then(first) => Some((protocol ^ first as u32) << 16 | number),
            Order::Both(first) => Some(number << 1 | (protocol ^ first as u32)),
        }
    }
}

/// What a sweep, repeated for ever, makes of a family.
pub(super) struct Walk {
    /// The nodes of the attempt, up to where it fails, ends or stays.
    pub(super) path: Vec<u32>,
    /// How many of those were taken when the last sequence was opened; 0: none was.
    pub(super) opened: usize,
}

impl Walk {
    /// `members` are the family's ports in order of their turn, each with it. An attempt that
    /// fails is begun anew and fails again, so that one is enough to look at.
    pub(super) fn new(sequences: &Sequences, root: u32, members: &[(u32, u32)]) -> Walk {
        let mut walk = Walk {
            path: Vec::new(),
            opened: 0,
        };
        let Some(mut node) = sequences.node(root) else {
            return walk;
        };
        let Some(mut at) = members.iter().position(|m| m.1 == node.key) else {
            return walk;
        };
        let mut number = root;
        'steps: loop {
            walk.path.push(number);
            if sequences.is_end(node) {
                walk.opened = walk.path.len();
            }
            // Scanners try a port again that does not answer: 0 is the same port at once.
            for ahead in 0..=members.len() {
                let place = (at + ahead) % members.len();
                let key = members[place].1;
                if let Some(child) = sequences.child(node, key)
                    && let Some(next) = sequences.node(child)
                {
                    (node, number, at) = (next, child, place);
                    continue 'steps;
                }
                if !sequences.taken(node, key) {
                    return walk;
                }
            }
            return walk;
        }
    }
}

/// The family's ports in the order of the sweep.
pub(super) fn in_order(sweep: Sweep, ports: impl Iterator<Item = u32>) -> Vec<(u32, u32)> {
    let mut members: Vec<(u32, u32)> = ports
        .filter_map(|key| Some((sweep.turn(key)?, key)))
        .collect();
    members.sort_unstable();
    members
}

/// The sequences that a plain sweep of all ports opens in spite of the traps, each with the
/// first such sweep.
pub(super) fn swept(sequences: &Sequences) -> Vec<(u32, &'static str)> {
    let mut found: Vec<(u32, &'static str)> = Vec::new();
    for (family, root) in sequences.families.iter().zip(1..) {
        let mut opened = BTreeSet::new();
        for sweep in SWEEPS {
            let members = in_order(sweep, sequences.members(family).map(|m| m.0));
            let walk = Walk::new(sequences, root, &members);
            for &number in &walk.path[..walk.opened] {
                let Some(node) = sequences.node(number) else {
                    continue;
                };
                let name = if node.stage == 1 {
                    "any packet to its port"
                } else {
                    sweep.name
                };
                let new = sequences
                    .ends(node)
                    .iter()
                    .filter(|&&place| opened.insert(place));
                found.extend(new.map(|&place| (place, name)));
            }
        }
    }
    found.sort_unstable();
    found
}
