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
use super::sweep::{SWEEPS, Sweep, Walk, in_order};
use crate::config::Port;

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

/// A family while its traps are chosen.
struct Family {
    root: u32,
    secret: [u64; 2],
    /// Which protocols its steps are of.
    has: [bool; 2],
    steps: BTreeSet<u32>,
    traps: BTreeSet<u32>,
}

impl Family {
    fn has(&self, key: u32) -> bool {
        self.has[(key >> 16) as usize]
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
    let roots = (1..).take(sequences.families.len());
    let mut families: Vec<(Family, [SipHasher24; 2])> = roots
        .map(|root| {
            let family = Family {
                root,
                secret: [0, 0],
                has: [false, false],
                steps: BTreeSet::new(),
                traps: BTreeSet::new(),
            };
            (family, hashers([0, 0]))
        })
        .collect();
    for node in sequences.nodes() {
        let (family, hashers) = &mut families[node.family as usize];
        family.steps.insert(node.key);
        family.has[(node.key >> 16) as usize] = true;
        if let Some(&place) = sequences.ends(node).first() {
            let Watch { steps, .. } = &sequences.watches[place as usize];
            let length = [steps.len() as u32];
            for word in length.into_iter().chain(steps.iter().map(|s| key(*s))) {
                hashers
                    .iter_mut()
                    .for_each(|h| h.write(&word.to_le_bytes()));
            }
        }
    }
    families
        .into_iter()
        .map(|(family, hashers)| Family {
            secret: hashers.map(|hasher| hasher.finish()),
            ..family
        })
        .collect()
}

/// Two hashes that together make a key.
fn hashers(secret: [u64; 2]) -> [SipHasher24; 2] {
    [
        SipHasher24::new_with_keys(secret[0], secret[1]),
        SipHasher24::new_with_keys(!secret[0], secret[1]),
    ]
}

/// What a random number is for: no two purposes have the same.
#[derive(Clone, Copy)]
enum Purpose {
    Needed(u8),
    Above,
    Below,
    Spread,
    Fill,
}

/// A number that follows from a key, what it is for, and an input.
fn prf(secret: [u64; 2], purpose: Purpose, input: u32) -> u64 {
    let salt: u32 = match purpose {
        Purpose::Needed(sweep) => u32::from(sweep),
        Purpose::Above => 1 << 8,
        Purpose::Below => 2 << 8,
        Purpose::Spread => 3 << 8,
        Purpose::Fill => 4 << 8,
    };
    let words = u64::from(salt) << 32 | u64::from(input);
    SipHasher24::new_with_keys(secret[0], secret[1]).hash(&words.to_le_bytes())
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
        for (sweep, number) in SWEEPS.into_iter().zip(0..) {
            let ports = family.steps.union(&family.traps).copied();
            let members = in_order(sweep, ports);
            let walk = Walk::new(sequences, family.root, &members);
            let keys = walk
                .path
                .iter()
                .filter_map(|&n| Some(sequences.node(n)?.key));
            let turns: Vec<u32> = keys.filter_map(|key| sweep.turn(key)).collect();
            let found = turns[..walk.opened].windows(2).find_map(|way| {
                let random = prf(family.secret, Purpose::Needed(number), way[0]);
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
            let known = self.pool.iter().filter(|&&key| family.has(key));
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
            .find(|&key| !self.forbidden[key as usize] && family.has(key))
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
            for (side, purpose) in [(up, Purpose::Above), (down, Purpose::Below)] {
                if family.traps.len() >= allowance {
                    return;
                }
                if side.iter().any(|key| family.traps.contains(key)) {
                    continue;
                }
                let first = (prf(family.secret, purpose, step) % side.len().max(1) as u64) as usize;
                let found = (0..side.len())
                    .map(|k| side[(first + k) % side.len()])
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
        for word in families.iter().flat_map(|family| family.secret) {
            hashers
                .iter_mut()
                .for_each(|h| h.write(&word.to_le_bytes()));
        }
        let secret = hashers.map(|hasher| hasher.finish());
        let width = (KEYS / 2 - LOWEST) / SPREAD;
        let mut spread = Vec::new();
        for protocol in 0..2 {
            if !families.iter().any(|family| family.has(protocol << 16)) {
                continue;
            }
            for n in 0..SPREAD {
                let base = protocol << 16 | (LOWEST + n * width);
                let random = prf(secret, Purpose::Spread, base);
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
        rest.sort_by_cached_key(|&key| prf(family.secret, Purpose::Fill, key));
        for &key in spread.iter().chain(&rest) {
            if family.traps.len() >= PER_FAMILY {
                break;
            }
            if family.has(key) {
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
