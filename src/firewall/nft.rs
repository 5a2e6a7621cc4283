//! nftables, by its command; addresses are let in and put out by netlink where that is wanted.
//!
//! One table of ours, `inet postern`, with one chain on hook input and, for each door that opens
//! ports, a set of the addresses let in for either family. Every element carries its timeout, so
//! that the kernel ends a lease even when this program is dead. In the chain stand, in this
//! order and for the listened interfaces only, or those that a door names itself:
//!
//! 1. what is for no port of the doors: pass;
//! 2. for each door whose leases go by traffic, its addresses at its ports where the connection
//!    has been answered: no verdict, but a set of the door's keeps each of them for so long (a
//!    forged SYN prolongs nothing);
//! 3. for guarded ports, sessions that connection tracking knows: pass;
//! 4. for guarded ports, sessions known by their four numbers, from the kernel's list of
//!    sockets (see [`super::sessions`]): pass, unless the packet is a SYN;
//! 5. for each door, its addresses at its ports, or with `prefix6` its networks: pass. Where
//!    `connections` limits them, a set of the door's counts those of each address by connection
//!    tracking, and passes no more; what ran before the set was made is not counted, and without
//!    a guard behind it nothing is kept out;
//! 6. for guarded ports, the networks that always pass: pass;
//! 7. for each guarded port, one guard: drop.
//!
//! The chain comes before the usual priority (`filter - 10`). What it drops is dropped. **What
//! it passes still goes through the chains of other tables**, which may drop it: to nftables an
//! accept is the last word of its own chain only.
//!
//! Rules that do a door's knock without us (`posternctl render nft --fallback`) stand in chains of
//! our table, by whose names we know them, and put addresses into the doors' sets. Such elements
//! have an end and no mark: they are left to it, but for an order about their address.
//!
//! Ours is what carries our marks: the table's name and a comment that begins with `postern:`
//! on each rule, set and element. Whatever else stands in the table is reported and left alone.
//!
//! The rules use connection tracking, which also puts fragments together before they are looked
//! at.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::config::{Door, Drive, Network};

use super::sessions::{self, Session};
use super::{Done, Driven, Failure, Firewall, Opening, Order, Upkeep};
use super::{filter, run};

mod always;
mod elements;
mod layout;
mod message;
mod netlink;
mod orders;
mod plan;
mod script;
mod sets;
mod table;
mod tool;

use layout::{Layout, On};
use netlink::Netlink;
use plan::Wanted;
use table::Rule;
use tool::Tool;

const NAME: &str = "nft";
const TABLE: &str = "postern";
const CHAIN: &str = "input";
const PRIORITY: i64 = -10;
const MARK: &str = "postern:";
/// No door's set has such a name: those end in `_4` or `_6`.
const RUNNING_4: &str = "running4";
const RUNNING_6: &str = "running6";
/// The sets of the networks that pass every guard; no door is called so then.
const ALWAYS: &str = "always";
const ALWAYS_4: &str = "always_4";
const ALWAYS_6: &str = "always_6";
/// What the comment of a guard begins with, behind our mark.
const GUARD: &str = "guard ";
/// What the comment of a set begins with that counts connections.
const COUNTS: &str = "postern: connections";
/// What the comment of a set begins with that keeps who had traffic.
const SEEN: &str = "postern: traffic";

/// The chain of rules that let in without us; their other chains and their sets are called so
/// with a dot and more behind.
const KERNEL: &str = "kernel";

/// By how much ends may differ that are the same.
const SLACK: Duration = Duration::from_secs(2);

/// The most orders in one transaction.
const TOGETHER: usize = 4096;

/// nftables.
#[derive(Debug)]
pub struct Nft {
    tool: Tool,
    netlink: Netlink,
    /// How addresses shall be let in.
    drive: Drive,
    /// Why it was the command the last time, where it should be netlink.
    why: Option<String>,
    on: On,
    always: Vec<Network>,
    layout: Option<Layout>,
    /// Our rules as read back when they had been made.
    standing: Option<Vec<Rule>>,
    /// The openings that should stand, with their ends.
    wanted: BTreeMap<Opening, Instant>,
    /// Openings that somebody else's element makes: not ours to touch.
    foreign: BTreeSet<Opening>,
    /// Whether rules stand that let in without us.
    kernel: bool,
    /// Whether something else was found that is not ours.
    strangers: bool,
    /// Sessions admitted by their four numbers.
    admitted: BTreeSet<Session>,
    /// Where the ruleset's generation stood when all was seen to be right.
    generation: Option<u32>,
    /// What was mended on the way to carrying out orders, for the next upkeep.
    mended: Vec<String>,
    done: Vec<Done>,
}

impl Nft {
    /// nftables on these interfaces; `any` or none: all but the loopback. nft is looked for in
    /// [`run::PATH`].
    pub fn new(interfaces: &[String], always: &[Network]) -> Result<Nft, Failure> {
        Nft::with_path(interfaces, always, run::PATH)
    }

    /// The same with nft looked for elsewhere.
    pub fn with_path(
        interfaces: &[String],
        always: &[Network],
        path: &str,
    ) -> Result<Nft, Failure> {
        Ok(Nft {
            tool: Tool::new(path),
            netlink: Netlink::new(),
            drive: Drive::Command,
            why: None,
            on: On::new(interfaces)?,
            always: always.to_vec(),
            layout: None,
            standing: None,
            wanted: BTreeMap::new(),
            foreign: BTreeSet::new(),
            kernel: false,
            strangers: false,
            admitted: BTreeSet::new(),
            generation: None,
            mended: Vec::new(),
            done: Vec::new(),
        })
    }

    /// Remembers the generation if nobody but us has moved it since `before`.
    fn settle(&mut self, before: Option<u32>) {
        let after = self.netlink.generation();
        self.settle_at(before, after);
    }

    /// The same, where it is known to be at `after`.
    fn settle_at(&mut self, before: Option<u32>, after: Option<u32>) {
        let ours = |before, after| after == before || after == netlink::next(before);
        self.generation = after.filter(|&after| before.is_some_and(|before| ours(before, after)));
    }

    /// Makes what stands into what should, in one transaction, if there is a difference.
    fn reconcile(&mut self) -> Result<Upkeep, Failure> {
        let Some(layout) = self.layout.clone() else {
            return Err(not_established());
        };
        if layout.gates().next().is_none() {
            self.clear()?;
            return Ok(Upkeep::default());
        }
        let mut attempts = 3;
        loop {
            attempts -= 1;
            let before = self.netlink.generation();
            let reading = Instant::now();
            let found = self.tool.read()?;
            let sessions = match sessions::established(&layout.guarded) {
                Ok(sessions) => Some(BTreeSet::from_iter(sessions)),
                // Without the list a guard must not arrive, but may well be put back.
                Err(failure) if self.standing.is_none() => return Err(failure),
                Err(_) => None,
            };
            let now = Instant::now();
            let openings: BTreeMap<Opening, Duration> = self
                .wanted
                .iter()
                .map(|(&opening, end)| (opening, end.saturating_duration_since(now)))
                .filter(|(_, remaining)| !remaining.is_zero())
                .collect();
            let wanted = Wanted {
                layout: &layout,
                openings: &openings,
                slack: now.duration_since(reading),
                sessions: sessions.as_ref(),
                admitted: &self.admitted,
                standing: self.standing.as_deref(),
            };
            let plan = plan::make(found.as_ref(), &wanted)?;
            let made = match plan.script.is_empty() {
                true => Ok(()),
                false => self.tool.execute(&plan.script),
            };
            let made = match plan.rules_anew {
                true => made.and_then(|()| self.read_back(&layout)),
                false => made,
            };
            match made {
                Ok(()) => {}
                // Somebody else may have been at it since it was read.
                Err(Failure::Refused { .. } | Failure::Unexpected(_)) if attempts > 0 => continue,
                Err(failure) => return Err(failure),
            }
            self.settle(before);
            self.foreign = plan.foreign;
            self.kernel = found.as_ref().is_some_and(|table| table.kernel);
            self.admitted = plan.admitted;
            if let (true, Some(listed)) = (plan.rules_anew, &sessions) {
                self.admit_latecomers(&layout, listed)?;
            }
            let strangers = found.map(|table| table.strangers).unwrap_or_default();
            self.strangers = !strangers.is_empty();
            return Ok(Upkeep {
                mended: plan.mended,
                strangers: strangers
                    .into_iter()
                    .map(|what| format!("table inet {TABLE}: {what} is not ours: left alone"))
                    .collect(),
            });
        }
    }

    /// Remembers our rules as nft tells them, to see later whether they have changed.
    fn read_back(&mut self, layout: &Layout) -> Result<(), Failure> {
        self.standing = None;
        let rules = self
            .tool
            .read()?
            .map(|table| table.rules)
            .unwrap_or_default();
        let comments = rules.iter().map(|rule| &rule.comment);
        if !comments.eq(layout.rules.iter().map(|line| &line.comment)) {
            return Err(Failure::Unexpected(format!(
                "nft: the rules of table inet {TABLE} do not read back as they were made"
            )));
        }
        self.standing = Some(rules);
        Ok(())
    }

    /// Admits the sessions that were established between the reading of the list and the
    /// arrival of the guard.
    fn admit_latecomers(
        &mut self,
        layout: &Layout,
        listed: &BTreeSet<Session>,
    ) -> Result<(), Failure> {
        let late = sessions::since(listed, &layout.guarded)?;
        let script = elements::script(&elements::admit(&late));
        if !script.is_empty() {
            let before = self.generation;
            self.tool.execute(&script)?;
            self.settle(before);
            self.admitted.extend(late);
        }
        Ok(())
    }

    /// Why an order cannot be carried out, whatever stands.
    fn objection(&self, order: &Order) -> Option<Failure> {
        let Some(layout) = &self.layout else {
            return Some(not_established());
        };
        let here = layout.gate(order.opening.door).is_some();
        filter::objection(NAME, order, here)
    }

    /// The openings with their ends, those of doors that do not open here left out.
    fn ends(
        layout: &Layout,
        openings: &[(Opening, Option<Duration>)],
    ) -> Result<BTreeMap<Opening, Instant>, Failure> {
        filter::ends(NAME, openings, |opening| {
            layout.gate(opening.door).is_some()
        })
    }

    /// Whether nobody has been at what was seen to be right, the same is wanted, and nothing is
    /// there that changes or ends without a transaction: no reading is needed then.
    fn still_stands(&mut self, wanted: &BTreeMap<Opening, Instant>) -> bool {
        let settled = self.foreign.is_empty()
            && self.admitted.is_empty()
            && self.mended.is_empty()
            && !self.kernel
            && !self.strangers;
        settled
            && self.alike(wanted)
            && self.generation.is_some()
            && self.netlink.generation() == self.generation
    }

    /// Whether these are the openings that should have stood, but for those that have ended.
    fn alike(&self, wanted: &BTreeMap<Opening, Instant>) -> bool {
        let soon = Instant::now() + SLACK;
        let left = |(_, end): &(&Opening, &Instant)| **end > soon;
        let about = |a: &Instant, b: &Instant| a.max(b).duration_since(*a.min(b)) <= SLACK;
        let mut stood = self.wanted.iter().filter(left);
        let mut alike = wanted.iter().filter(left).all(|(opening, end)| {
            let other = stood.next();
            other.is_some_and(|other| other.0 == opening && about(other.1, end))
        });
        alike &= stood.next().is_none();
        alike
    }

    /// Takes away what is ours.
    fn clear(&mut self) -> Result<(), Failure> {
        if let Some(table) = self.tool.read()? {
            let script = plan::removal(&table);
            if !script.is_empty() {
                self.tool.execute(&script)?;
            }
        }
        self.standing = None;
        self.generation = None;
        self.wanted.clear();
        self.foreign.clear();
        self.admitted.clear();
        Ok(())
    }
}

impl Firewall for Nft {
    fn name(&self) -> &'static str {
        NAME
    }

    fn take_up(&mut self, interfaces: &[String], always: &[Network]) -> Result<(), Failure> {
        self.on = On::new(interfaces)?;
        self.always = always.to_vec();
        Ok(())
    }

    fn drive(&mut self, by: Drive) {
        self.drive = by;
        self.why = None;
    }

    fn driven(&self) -> Option<Driven> {
        Some(Driven {
            by: match self.why {
                Some(_) => Drive::Command,
                None => self.drive,
            },
            why: self.why.clone(),
        })
    }

    fn establish(
        &mut self,
        doors: &[Door],
        openings: &[(Opening, Option<Duration>)],
    ) -> Result<Upkeep, Failure> {
        let layout = Layout::new(doors, &self.on, &self.always)?;
        let ends = Nft::ends(&layout, openings)?;
        let standing = match &self.layout {
            Some(old)
                if old.rules == layout.rules
                    && old.sets() == layout.sets()
                    && old.always == layout.always =>
            {
                self.standing.clone()
            }
            _ => None,
        };
        let before = (
            self.layout.replace(layout),
            std::mem::replace(&mut self.standing, standing),
            std::mem::replace(&mut self.wanted, ends),
        );
        let upkeep = self.reconcile();
        if upkeep.is_err() {
            (self.layout, self.standing, self.wanted) = before;
            self.generation = None;
        }
        upkeep
    }

    fn uphold(&mut self, openings: &[(Opening, Option<Duration>)]) -> Result<Upkeep, Failure> {
        let Some(layout) = &self.layout else {
            return Err(not_established());
        };
        let wanted = Nft::ends(layout, openings)?;
        if self.still_stands(&wanted) {
            return Ok(Upkeep::default());
        }
        self.wanted = wanted;
        let mut upkeep = self.reconcile()?;
        upkeep.mended.splice(..0, self.mended.drain(..));
        Ok(upkeep)
    }

    fn apply(&mut self, orders: &[Order]) {
        for orders in orders.chunks(TOGETHER) {
            let (latest, mut failed) = filter::latest(orders, |order| self.objection(order));
            if !latest.is_empty() {
                failed.extend(self.carry_out(&latest));
            }
            self.done.extend(filter::done(orders, &failed));
        }
    }

    fn done(&mut self) -> Vec<Done> {
        std::mem::take(&mut self.done)
    }

    fn openings(&mut self) -> Result<Vec<Opening>, Failure> {
        let table = self.tool.read()?.unwrap_or_default();
        let Some(layout) = &self.layout else {
            return Err(not_established());
        };
        let mut openings = Vec::new();
        for (door, gate) in layout.gates() {
            for set in gate.sets() {
                let elements = table.sets.get(set.as_str()).map(|set| set.elements.keys());
                openings.extend(elements.into_iter().flatten().filter_map(|key| {
                    let address = gate.lets_in(set, *key)?;
                    Some(Opening { door, address })
                }));
            }
        }
        Ok(openings)
    }

    fn traffic(&mut self) -> Result<Vec<(Opening, Duration)>, Failure> {
        let Some(layout) = &self.layout else {
            return Err(not_established());
        };
        if layout.gates().all(|(_, gate)| gate.seen.is_none()) {
            return Ok(Vec::new());
        }
        let table = self.tool.read()?.unwrap_or_default();
        let mut traffic = Vec::new();
        for (door, gate) in layout.gates() {
            let sets = gate.seen.iter().flat_map(|seen| [&seen.set_4, &seen.set_6]);
            let seen = sets.filter_map(|set| table.sets.get(set.as_str()));
            for (&address, &ago) in seen.flat_map(|set| &set.seen) {
                let address = Network::of_knocker(address, gate.prefix6);
                traffic.push((Opening { door, address }, ago));
            }
        }
        traffic.retain(|(opening, _)| self.wanted.contains_key(opening));
        Ok(traffic)
    }

    fn unguard(&mut self) -> Result<Vec<String>, Failure> {
        let table = self.tool.read()?.unwrap_or_default();
        let (script, taken) = plan::unguarding(&table);
        if !script.is_empty() {
            self.generation = None;
            self.tool.execute(&script)?;
        }
        Ok(taken)
    }

    fn remove(&mut self) -> Result<(), Failure> {
        self.clear()?;
        self.layout = None;
        Ok(())
    }
}

fn not_established() -> Failure {
    filter::not_established(NAME)
}

#[cfg(test)]
mod tests;
