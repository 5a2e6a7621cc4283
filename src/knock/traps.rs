//! Traps: ports near and between the steps that fail an attempt, so that a sweep is no knock.
//!
//! Whoever sweeps all ports in some order walks through a family's ports in that order, round
//! and round if he repeats the sweep. A sequence is opened by it if on the way from each of
//! its steps to the next lies no other port of the family: one trap on the way is enough.
//! Traps are chosen in three goes:
//!
//! 1. For each family near its steps: first what is needed so that no sweep of [`SWEEPS`]
//!    opens it, then one close above and one close below each step, against sweeps of a part
//!    of the ports. The latter as long as the common allowance lasts.
//! 2. Some spread over the range, common to all families.
//! 3. Each family takes of those, and of the other families' traps, until it has enough. So a
//!    thousand doors have hardly more traps than ten.
//!
//! They follow from the sequences and from nothing else, so that a capture replays to the same
//! result; who does not know the sequences cannot tell them.

use std::collections::BTreeSet;
use std::hash::Hasher;

use siphasher::sip::SipHasher24;

use super::Watch;
use super::sequence::{KEYS, Sequences, key};
use crate::config::{Port, Protocol};

/// The most traps of a family.
pub(super) const PER_FAMILY: usize = 24;

/// The most of them near its steps, beyond those that are needed.
const NEAR: usize = 16;

/// How many of those there may be in all families together.
const NEAR_TOTAL: usize = 128;

/// How far a trap near a step is from it, if nothing is in the way.
const NEARNESS: u64 = 8;

/// How many are spread over the range, for each protocol that any step has.
const SPREAD: u32 = PER_FAMILY as u32;

/// No trap is below: there are the ports of services.
pub(super) const LOWEST: u32 = 1024;

/// Ports above that people commonly serve: whoever knocks may well be connecting to one, and
/// must not fail for it.
pub(super) const SERVED: &[u16] = &[
    1194, 1433, 1434, 1521, 1701, 1723, 1812, 1813, 1883, 2049, 2222, 2375, 2376, 3000, 3128, 3260,
    3306, 3389, 3478, 3690, 4443, 4500, 5000, 5001, 5060, 5061, 5201, 5222, 5223, 5269, 5349, 5353,
    5355, 5432, 5671, 5672, 5900, 5901, 5938, 6379, 6443, 6514, 6667, 6697, 6881, 8000, 8006, 8008,
    8080, 8081, 8086, 8123, 8443, 8448, 8530, 8531, 8883, 8888, 9000, 9001, 9090, 9091, 9100, 9200,
    9418, 9443, 9993, 10000, 10050, 10051, 10250, 11211, 19132, 21027, 22000, 25565, 27015, 27017,
    32400, 41641, 51413, 51820,
];

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
struct Walk {
    /// The nodes of the attempt, up to where it fails, ends or stays.
    path: Vec<u32>,
    /// How many of those were taken when the last sequence was opened; 0: none was.
    opened: usize,
}

impl Walk {
    /// `members` are the family's ports in order of their turn, each with it. An attempt that
    /// fails is begun anew and fails again, so that one is enough to look at.
    fn new(sequences: &Sequences, root: u32, members: &[(u32, u32)]) -> Walk {
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
fn in_order(sweep: Sweep, ports: impl Iterator<Item = u32>) -> Vec<(u32, u32)> {
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

/// A family while its traps are chosen.
struct Family {
    root: u32,
    secret: [u64; 2],
    steps: BTreeSet<u32>,
    traps: BTreeSet<u32>,
}

impl Family {
    fn has(&self, protocol: u32) -> bool {
        self.steps.iter().any(|key| key >> 16 == protocol)
    }
}

/// The traps of each family.
pub(super) fn place(sequences: &Sequences, avoid: &[Port]) -> Vec<BTreeSet<u32>> {
    let mut families = families(sequences);
    let mut choice = Choice::new(&families, avoid);
    let allowance = (NEAR_TOTAL / families.len().max(1)).min(NEAR);
    for family in &mut families {
        choice.needed(sequences, family, allowance);
        choice.near(family, allowance);
    }
    let spread = choice.spread(&families);
    for family in &mut families {
        choice.fill(family, &spread);
    }
    families.into_iter().map(|family| family.traps).collect()
}

fn families(sequences: &Sequences) -> Vec<Family> {
    let mut families: Vec<Family> = sequences
        .families
        .iter()
        .zip(1..)
        .map(|(_, root)| Family {
            root,
            secret: [0, 0],
            steps: BTreeSet::new(),
            traps: BTreeSet::new(),
        })
        .collect();
    let mut hashers = vec![hashers([0, 0]); families.len()];
    for node in sequences.nodes() {
        families[node.family as usize].steps.insert(node.key);
        if let Some(&place) = sequences.ends(node).first() {
            let Watch { steps, .. } = &sequences.watches[place as usize];
            for hasher in &mut hashers[node.family as usize] {
                hasher.write_usize(steps.len());
                for step in steps {
                    hasher.write_u32(key(*step));
                }
            }
        }
    }
    for (family, hashers) in families.iter_mut().zip(hashers) {
        family.secret = hashers.map(|hasher| hasher.finish());
    }
    families
}

/// Two hashes that together make a key.
fn hashers(secret: [u64; 2]) -> [SipHasher24; 2] {
    [
        SipHasher24::new_with_keys(secret[0], secret[1]),
        SipHasher24::new_with_keys(!secret[0], secret[1]),
    ]
}

/// A number that follows from a key and an input.
fn prf(secret: [u64; 2], input: [u32; 2]) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(secret[0], secret[1]);
    hasher.write_u32(input[0]);
    hasher.write_u32(input[1]);
    hasher.finish()
}

/// What has been chosen, and what may be.
struct Choice {
    /// By port: whether it must not become a trap.
    forbidden: Vec<bool>,
    /// Traps of any family.
    pool: BTreeSet<u32>,
}

impl Choice {
    fn new(families: &[Family], avoid: &[Port]) -> Choice {
        let mut forbidden = vec![false; KEYS as usize];
        let served = SERVED
            .iter()
            .flat_map(|&n| [u32::from(n), u32::from(n) | 1 << 16]);
        for key in served
            .chain(avoid.iter().map(|port| key(*port)))
            .chain(families.iter().flat_map(|f| f.steps.iter().copied()))
            .chain(0..LOWEST)
            .chain(KEYS / 2..KEYS / 2 + LOWEST)
        {
            forbidden[key as usize] = true;
        }
        Choice {
            forbidden,
            pool: BTreeSet::new(),
        }
    }

    fn take(&mut self, family: &mut Family, key: u32) {
        family.traps.insert(key);
        self.pool.insert(key);
    }

    /// Traps without which some sweep would open the family's sequences.
    fn needed(&mut self, sequences: &Sequences, family: &mut Family, allowance: usize) {
        for (sweep, salt) in SWEEPS.into_iter().zip(0u32..) {
            let ports = family.steps.union(&family.traps).copied();
            let members = in_order(sweep, ports);
            let walk = Walk::new(sequences, family.root, &members);
            let keys = walk
                .path
                .iter()
                .filter_map(|&n| Some(sequences.node(n)?.key));
            let turns: Vec<u32> = keys.filter_map(|key| sweep.turn(key)).collect();
            let found = turns[..walk.opened].windows(2).find_map(|way| {
                let random = prf(family.secret, [salt, way[0]]);
                self.between(sweep, family, way[0], way[1], random, allowance)
            });
            if let Some(key) = found {
                self.take(family, key);
            }
        }
    }

    /// A port for a trap between two turns of a sweep, soon after the first: a new one, or if
    /// the family is past its allowance rather one that some family has already.
    fn between(
        &self,
        sweep: Sweep,
        family: &Family,
        after: u32,
        before: u32,
        random: u64,
        allowance: usize,
    ) -> Option<u32> {
        let len = sweep.len();
        let way = (before + len - after) % len;
        if family.traps.len() >= allowance {
            let known = self.pool.iter().filter(|&&key| family.has(key >> 16));
            let ahead = known
                .filter_map(|&key| Some((sweep.turn(key)? + len - after) % len))
                .filter(|ahead| (1..way).contains(ahead))
                .min();
            if let Some(ahead) = ahead {
                return Some(sweep.at((after + ahead) % len));
            }
        }
        let first = 1 + (random % NEARNESS.min(u64::from(way.max(1)))) as u32;
        (first..way)
            .chain(1..first.min(way))
            .map(|ahead| sweep.at((after + ahead) % len))
            .find(|&key| !self.forbidden[key as usize] && family.has(key >> 16))
    }

    /// A trap close above and one close below each step, up to the next step.
    fn near(&mut self, family: &mut Family, allowance: usize) {
        let steps: Vec<u32> = family.steps.iter().copied().collect();
        for (n, &step) in steps.iter().enumerate() {
            let (low, high) = (step & !0xffff, step | 0xffff);
            let below = if n == 0 {
                low
            } else {
                low.max(steps[n - 1] + 1)
            };
            let above = steps.get(n + 1).map_or(high, |&next| high.min(next - 1));
            let up: Vec<u32> = (step + 1..=above).take(NEARNESS as usize).collect();
            let down: Vec<u32> = (below..step).rev().take(NEARNESS as usize).collect();
            for (side, salt) in [(up, 0), (down, 1)] {
                if family.traps.len() >= allowance {
                    return;
                }
                if side.iter().any(|key| family.traps.contains(key)) {
                    continue;
                }
                let first = prf(family.secret, [u32::MAX - salt, step]) as usize;
                let found = (0..side.len())
                    .map(|k| side[(first.wrapping_add(k)) % side.len()])
                    .find(|&key| !self.forbidden[key as usize]);
                if let Some(key) = found {
                    self.take(family, key);
                }
            }
        }
    }

    /// Traps spread evenly over the range of each protocol that any family has.
    fn spread(&mut self, families: &[Family]) -> Vec<u32> {
        let mut hashers = hashers([1, 0]);
        for hasher in &mut hashers {
            for secret in families.iter().flat_map(|family| family.secret) {
                hasher.write_u64(secret);
            }
        }
        let secret = hashers.map(|hasher| hasher.finish());
        let width = (KEYS / 2 - LOWEST) / SPREAD;
        let mut spread = Vec::new();
        for protocol in 0..2 {
            if !families.iter().any(|family| family.has(protocol)) {
                continue;
            }
            for n in 0..SPREAD {
                let random = prf(secret, [protocol, n]);
                let base = protocol << 16 | (LOWEST + n * width);
                let first = (random % u64::from(width)) as u32;
                let found = (0..width)
                    .map(|k| base + (first + k) % width)
                    .find(|key| !self.forbidden[*key as usize] && !self.pool.contains(key));
                if let Some(key) = found {
                    self.pool.insert(key);
                    spread.push((random, key));
                }
            }
        }
        spread.sort_unstable();
        spread.into_iter().map(|s| s.1).collect()
    }

    /// Gives a family of what there is until it has enough: the spread ones first, in the order
    /// given, so that families have the same ones.
    fn fill(&self, family: &mut Family, spread: &[u32]) {
        let mut rest: Vec<u32> = self.pool.iter().copied().collect();
        rest.sort_by_cached_key(|&key| prf(family.secret, [u32::MAX, key]));
        for &key in spread.iter().chain(&rest) {
            if family.traps.len() >= PER_FAMILY {
                break;
            }
            if family.has(key >> 16) {
                family.traps.insert(key);
            }
        }
    }
}

/// The traps among a family's ports.
#[cfg(test)]
pub(super) fn of(sequences: &Sequences, family: usize) -> Vec<u32> {
    sequences
        .members(&sequences.families[family])
        .filter(|m| m.1 == super::sequence::Member::Trap)
        .map(|m| m.0)
        .collect()
}
