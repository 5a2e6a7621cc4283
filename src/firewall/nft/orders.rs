//! Orders carried out: by netlink, or by nft(8).

use std::collections::HashMap;
use std::time::Instant;

use crate::config::Drive;

use super::super::sessions::{self, Session};
use super::super::{Failure, Opening, Order, What, filter};
use super::elements::{self, Edit};
use super::netlink::{Netlink, Refusal};
use super::{Nft, not_established};

/// The most transactions spent on finding out which order of a refused batch is at fault.
const SEARCH: usize = 64;

impl Nft {
    /// Carries out orders, one for each opening at most; which of them failed, and how.
    pub fn carry_out(&mut self, orders: &[Order]) -> HashMap<Opening, Failure> {
        let mut failed = HashMap::new();
        let fail = |failed: &mut HashMap<_, _>, failure: &Failure| {
            failed.extend(orders.iter().map(|order| (order.opening, failure.clone())));
        };
        let asked = Instant::now();
        // By netlink the kernel looks itself whether anybody has been at it.
        let looked = match (self.drive, self.generation) {
            (Drive::InProcess, Some(_)) => Ok(()),
            _ => self.look(),
        };
        if let Err(failure) = looked {
            fail(&mut failed, &failure);
            return failed;
        }
        let running = self.running(orders);
        let known = self.generation;
        let mut result = self.attempt(orders, &running, asked, known);
        if matches!(
            result,
            Err(Failure::Refused { .. } | Failure::NotRun { .. })
        ) {
            self.generation = None;
            result = self
                .look()
                .and_then(|()| self.attempt(orders, &running, asked, None));
        }
        match result {
            Ok(()) => {}
            Err(failure @ Failure::Refused { .. }) => {
                let budget = &mut SEARCH.clone();
                self.search(orders, &running, asked, failure, budget, &mut failed);
            }
            Err(failure) => fail(&mut failed, &failure),
        }
        failed
    }

    /// Looks whether all stands as it should, if anybody has changed the ruleset since the last
    /// look, and mends it if it does not.
    fn look(&mut self) -> Result<(), Failure> {
        if self.generation.is_none() || self.netlink.generation() != self.generation {
            let upkeep = self.reconcile()?;
            self.mended.extend(upkeep.mended);
        }
        Ok(())
    }

    /// The sessions at guarded ports of the doors where something is closed.
    fn running(&self, orders: &[Order]) -> Vec<Session> {
        let closing = orders.iter().filter(|order| order.what == What::Close);
        let gates = closing.filter_map(|order| self.layout.as_ref()?.gate(order.opening.door));
        let mut ports: Vec<u16> = gates.flat_map(|gate| &gate.guarded).copied().collect();
        ports.sort_unstable();
        ports.dedup();
        // Without the list connection tracking must do.
        sessions::established(&ports).unwrap_or_default()
    }

    /// One transaction. `asked`: when the orders came. `known`: if not `None`, nothing is done
    /// by netlink where the ruleset's generation is another.
    fn attempt(
        &mut self,
        orders: &[Order],
        running: &[Session],
        asked: Instant,
        known: Option<u32>,
    ) -> Result<(), Failure> {
        let Some(layout) = &self.layout else {
            return Err(not_established());
        };
        let now = Instant::now();
        // A timeout counts from when the kernel is told of it.
        let orders = filter::later(orders, now.duration_since(asked));
        let stands = |opening: &Opening| self.kernel || self.wanted.contains_key(opening);
        let edits = elements::orders(layout, &orders, &self.foreign, stands, running);
        self.change(&edits, known)?;
        for Order { opening, what } in orders {
            match what {
                What::Open { remaining: None } => {}
                What::Open {
                    remaining: Some(remaining),
                }
                | What::Extend { remaining } => {
                    if let Some(end) = now.checked_add(remaining) {
                        self.wanted.insert(opening, end);
                    }
                }
                What::Close => {
                    self.wanted.remove(&opening);
                    let gate = self
                        .layout
                        .as_ref()
                        .and_then(|layout| layout.gate(opening.door));
                    let left = running
                        .iter()
                        .filter(|s| gate.is_some_and(|g| g.holds(opening, s)));
                    self.admitted.extend(left);
                }
            }
        }
        Ok(())
    }

    /// Edits in one transaction: by netlink where that is wanted, else, and where the kernel
    /// will not have it so, by nft.
    fn change(&mut self, edits: &[Edit], known: Option<u32>) -> Result<(), Failure> {
        let before = self.generation;
        if self.drive == Drive::InProcess {
            match self.netlink.carry_out(edits, known) {
                Ok(after) => {
                    self.why = None;
                    self.settle_at(before, after);
                    return Ok(());
                }
                Err(refusal) => {
                    let why = refusal.to_string();
                    // nft compares nothing.
                    let stale = |netlink: &mut Netlink| match refusal {
                        Refusal::Changed(_) => true,
                        Refusal::Unable(_) => netlink.generation() != known,
                    };
                    if known.is_some() && stale(&mut self.netlink) {
                        return Err(Failure::Refused {
                            command: "nftables by netlink".to_owned(),
                            status: why,
                            output: String::new(),
                        });
                    }
                    self.why = Some(why);
                }
            }
        }
        if !edits.is_empty() {
            self.tool.execute(&elements::script(edits))?;
        }
        self.settle(before);
        Ok(())
    }

    /// Finds out which of these orders, refused together with this failure, are at fault.
    fn search(
        &mut self,
        orders: &[Order],
        running: &[Session],
        asked: Instant,
        failure: Failure,
        budget: &mut usize,
        failed: &mut HashMap<Opening, Failure>,
    ) {
        if orders.len() <= 1 || *budget < 2 {
            failed.extend(orders.iter().map(|order| (order.opening, failure.clone())));
            return;
        }
        *budget -= 2;
        let (left, right) = orders.split_at(orders.len() / 2);
        for half in [left, right] {
            if let Err(failure) = self.attempt(half, running, asked, None) {
                self.search(half, running, asked, failure, budget, failed);
            }
        }
    }
}
