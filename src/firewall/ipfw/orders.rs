//! Orders -> the batch that carries them out.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::config::Network;

use super::super::sessions::Session;
use super::super::{Failure, Opening, Order, What};
use super::batch::{Batch, Table};
use super::canon::Due;
use super::layout::{By, Gate, Layout};
use super::listing::Rules;
use super::plan::{blocked, range_full, standing};

/// What stands, as far as orders need to know.
#[derive(Debug)]
pub struct Known<'a> {
    /// What the doors want.
    pub layout: &'a Layout,
    /// Openings that somebody else's entries make: not ours to touch.
    pub foreign: &'a BTreeSet<Opening>,
    /// The sessions running at guarded ports.
    pub running: &'a [Session],
    /// The openings as they should stand in the end, with their ends in Unix seconds.
    pub ends: &'a BTreeMap<Opening, u32>,
    /// The rules of our set; needed where a door lets in by rules.
    pub rules: &'a Rules,
}

/// How orders are carried out.
#[derive(Debug, Default)]
pub struct Steps {
    /// Lists our rules, then makes the changes.
    pub batch: Batch,
    /// The sessions that are admitted by their four numbers from then on.
    pub left: BTreeSet<Session>,
    /// Orders that cannot be carried out.
    pub failed: HashMap<Opening, Failure>,
}

/// Makes the steps for orders, at most one for each opening.
pub fn steps(orders: &[Order], known: &Known) -> Steps {
    let mut steps = Steps::default();
    let (mut closing, mut opening) = (Batch::default(), Batch::default());
    let mut named = BTreeSet::new();
    let mut by_door: BTreeMap<u16, Vec<&Order>> = BTreeMap::new();
    for order in orders {
        by_door.entry(order.opening.door).or_default().push(order);
    }
    for (door, orders) in by_door {
        let Some(gate) = known.layout.gate(door) else {
            continue;
        };
        match &gate.by {
            By::Table(table) => {
                if let Table::Theirs(_) = table {
                    named.insert(table);
                }
                for order in orders {
                    let address = order.opening.address;
                    if order.what == What::Close {
                        steps.leave(gate, address, known);
                    }
                    if known.foreign.contains(&order.opening) {
                        continue;
                    }
                    match known.layout.latest(table, address, known.ends) {
                        Some(end) => opening.enter(table, address, end),
                        None => closing.leave(table, address),
                    }
                }
            }
            By::Rules { .. } => {
                let mut numbers = Numbers::new(gate, known.rules);
                // What closes makes room for what opens.
                let (close, open): (Vec<&Order>, Vec<&Order>) =
                    orders.into_iter().partition(|o| o.what == What::Close);
                for order in close {
                    steps.leave(gate, order.opening.address, known);
                    if let Err(failure) = numbers.close(order.opening.address, &mut closing) {
                        steps.failed.insert(order.opening, failure);
                    }
                }
                for order in open {
                    let address = order.opening.address;
                    steps.leave(gate, address, known);
                    if let Some(&end) = known.ends.get(&order.opening)
                        && let Err(failure) = numbers.open(address, end, &mut opening)
                    {
                        steps.failed.insert(order.opening, failure);
                    }
                }
            }
        }
    }
    steps.batch.list_rules();
    // An absent table of the administrator's ends the batch here: an entry would make it.
    named.iter().for_each(|table| steps.batch.info(table));
    let left: Vec<Session> = steps.left.iter().copied().collect();
    for session in &left {
        steps.batch.admit(&Table::running(), session);
    }
    steps.batch.append(&closing);
    steps.batch.append(&opening);
    steps
}

impl Steps {
    /// The running sessions of an address are admitted by their four numbers.
    fn leave(&mut self, gate: &Gate, address: Network, known: &Known) {
        let sessions = known.running.iter();
        self.left
            .extend(sessions.filter(|s| gate.holds(address, s)));
    }
}

/// The numbers of a door that lets in by rules.
struct Numbers<'a> {
    gate: &'a Gate,
    rules: &'a Rules,
    stand: BTreeMap<Network, Vec<(u16, u32)>>,
    /// Those at which nothing stands, the lowest last.
    free: Vec<u16>,
}

impl<'a> Numbers<'a> {
    fn new(gate: &'a Gate, rules: &'a Rules) -> Numbers<'a> {
        let free = match &gate.by {
            By::Rules { range, .. } => {
                let free = range.clone().rev();
                free.filter(|number| !rules.contains_key(number)).collect()
            }
            By::Table(_) => Vec::new(),
        };
        Numbers {
            gate,
            rules,
            stand: standing(gate, rules),
            free,
        }
    }

    /// Deletes the rules of an address.
    fn close(&mut self, address: Network, batch: &mut Batch) -> Result<(), Failure> {
        for (number, _) in self.stand.remove(&address).unwrap_or_default() {
            let lines = self.rules.get(&number).into_iter().flatten();
            if let Some(line) = lines.clone().find(|line| !line.is_ours()) {
                return Err(blocked(number, line));
            }
            batch.delete(number);
            self.free.push(number);
        }
        self.free.sort_unstable_by(|a, b| b.cmp(a));
        Ok(())
    }

    /// Adds the rules of an address, and deletes those that stood.
    fn open(&mut self, address: Network, end: u32, batch: &mut Batch) -> Result<(), Failure> {
        let By::Rules { forms, .. } = &self.gate.by else {
            return Ok(());
        };
        let add = |number, batch: &mut Batch| {
            for form in forms {
                batch.add(&Due::lease(number, form, address, end).rule);
            }
        };
        if let Some(number) = self.free.pop() {
            add(number, batch);
            return self.close(address, batch);
        }
        let (number, _) = self
            .stand
            .get(&address)
            .and_then(|at| at.first())
            .copied()
            .ok_or_else(|| range_full(self.gate))?;
        self.close(address, batch)?;
        self.free.retain(|free| *free != number);
        add(number, batch);
        Ok(())
    }
}
