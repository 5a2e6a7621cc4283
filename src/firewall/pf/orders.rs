//! Orders, as they are due together.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use crate::config::Network;

use super::super::{Failure, Opening, Order, What, filter};
use super::layout::{Gate, Layout};
use super::listing::Entry;
use super::{NAME, Pf, no_table, not_established};

impl Pf {
    /// Looks whether our rules and tables stand, and mends them if they do not.
    fn look(&mut self) -> Result<(), Failure> {
        let Some(layout) = &self.layout else {
            return Err(not_established());
        };
        if !layout.anchored() || self.in_process.stands(layout) {
            return Ok(());
        }
        let wanted: Vec<String> = layout.tables().map(str::to_owned).collect();
        let found = self.rules()?.map(|rules| rules.ours);
        let tables = self.tool.tables()?;
        if found.is_none() || found != self.seen || !wanted.iter().all(|name| tables.contains(name))
        {
            self.mend()?;
        }
        Ok(())
    }

    fn mend(&mut self) -> Result<(), Failure> {
        let upkeep = self.reconcile()?;
        self.mended.extend(upkeep.mended);
        Ok(())
    }

    /// Carries out orders, one for each opening at most; which of them failed, and how.
    pub(super) fn carry_out(&mut self, orders: &[Order]) -> HashMap<Opening, Failure> {
        let mut failed = HashMap::new();
        let Some(layout) = self.layout.clone() else {
            return failed;
        };
        let ours = |order: &&Order| {
            layout
                .gate(order.opening.door)
                .is_some_and(|gate| gate.ours)
        };
        let looked = match orders.iter().any(|order| ours(&order)) {
            true => match self.look() {
                Err(Failure::Refused { .. }) => self.look(),
                result => result,
            },
            false => Ok(()),
        };
        let mut by_door: BTreeMap<u16, Vec<Order>> = BTreeMap::new();
        for order in orders {
            by_door.entry(order.opening.door).or_default().push(*order);
        }
        for (door, orders) in by_door {
            let Some(gate) = layout.gate(door) else {
                continue;
            };
            let mut result = match &looked {
                Err(failure) if gate.ours => Err(failure.clone()),
                _ => self.attempt(gate, &orders),
            };
            if looked.is_ok()
                && matches!(
                    result,
                    Err(Failure::Refused { .. } | Failure::NotRun { .. })
                )
            {
                let mended = if gate.ours { self.mend() } else { Ok(()) };
                result = mended.and_then(|()| self.attempt(gate, &orders));
            }
            match result {
                Ok(()) => self.remember(&orders),
                Err(failure) => {
                    failed.extend(orders.iter().map(|order| (order.opening, failure.clone())));
                }
            }
        }
        failed
    }

    /// Orders at one door: a call to add, a call to delete. In-process or by pfctl, either makes up
    /// for what the other did not do.
    fn attempt(&mut self, gate: &Gate, orders: &[Order]) -> Result<(), Failure> {
        let (close, open): (Vec<&Order>, Vec<&Order>) =
            orders.iter().partition(|order| order.what == What::Close);
        let of = |order: &&Order| order.opening.address;
        let alone = |order: &&&Order| !self.is_shared(gate, order.opening);
        let enter: Vec<Network> = open.iter().map(of).collect();
        let leave: Vec<Network> = close.iter().filter(alone).map(of).collect();
        if !self.in_process.carry_out(gate, &enter, &leave) {
            // Adding would make a table that nobody's rules name.
            if !gate.ours && self.tool.entered(gate)?.is_none() {
                return Err(no_table(gate));
            }
            let entries = |networks: Vec<Network>| networks.into_iter().map(Entry::of);
            self.tool.change(gate, "add", entries(enter))?;
            self.tool.change(gate, "delete", entries(leave))?;
        }
        if gate.kill_states && !close.is_empty() {
            let calls = self.tool.calls()?;
            self.history.called(&calls);
            let states = self.tool.states()?;
            let now = Instant::now();
            let ended = close
                .iter()
                .flat_map(|order| self.history.of(gate, order.opening, &states, now))
                .collect();
            self.tool.kill_states(&ended)?;
        }
        Ok(())
    }

    /// Whether the address stays in the door's table for another door that has the same.
    fn is_shared(&self, gate: &Gate, opening: Opening) -> bool {
        let Opening { door, address } = opening;
        let others = self.layout.iter().flat_map(Layout::gates);
        let mut others = others.filter(|(other, _)| *other != door);
        others.any(|(door, other)| {
            (other.ours, &other.table) == (gate.ours, &gate.table)
                && self.wanted.contains_key(&Opening { door, address })
        })
    }

    fn remember(&mut self, orders: &[Order]) {
        let now = Instant::now();
        for Order { opening, what } in orders {
            match *what {
                What::Open { remaining } => {
                    let end = remaining.and_then(|remaining| now.checked_add(remaining));
                    self.wanted.extend(end.map(|end| (*opening, end)));
                }
                What::Extend { remaining } => {
                    let end = now.checked_add(remaining);
                    self.wanted.extend(end.map(|end| (*opening, end)));
                }
                What::Close => {
                    self.wanted.remove(opening);
                }
            }
        }
    }

    /// Why an order cannot be carried out, whatever stands.
    pub(super) fn objection(&self, order: &Order) -> Option<Failure> {
        let Some(layout) = &self.layout else {
            return Some(not_established());
        };
        let here = layout.gate(order.opening.door).is_some();
        filter::objection(NAME, order, here)
    }
}
