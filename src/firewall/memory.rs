//! Nothing is touched, everything is shown: what would stand is kept in memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::config::{self, Action, Door, Port, Protocol};

use super::{Done, Failure, Firewall, Opening, Order, Upkeep, What};

/// A packet filter that is none. Doors of either kind stand in it; no command is run, and
/// nothing ends but by [`What::Close`], since it knows no clock.
#[derive(Debug, Default)]
pub struct Memory {
    doors: Vec<Door>,
    openings: BTreeMap<Opening, Option<Duration>>,
    unguarded: bool,
    failures: VecDeque<Failure>,
    done: Vec<Done>,
}

impl Memory {
    /// Nothing stands.
    pub fn new() -> Memory {
        Memory::default()
    }

    /// The next order fails with this, and stands for nothing; more than one queue up. For
    /// tests of those who must cope with it.
    pub fn fail_next(&mut self, failure: Failure) {
        self.failures.push_back(failure);
    }

    /// What would stand, a line each: passes first, then guards, as in a packet filter; of
    /// command doors, what has been started and not stopped. `for` is how long the opening was
    /// last told to stand.
    pub fn list(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (opening, remaining) in &self.openings {
            let Some(door) = self.doors.get(usize::from(opening.door)) else {
                continue;
            };
            let time = remaining
                .map(|time| format!(" for {time:?}"))
                .unwrap_or_default();
            let (name, address) = (&door.name, opening.address);
            lines.push(match &door.action {
                Action::Open(opens) => {
                    let ports: Vec<String> = opens.ports.iter().map(written).collect();
                    format!("pass {name}: {address} to {}{time}", ports.join(", "))
                }
                Action::Command(_) => format!("started {name}: {address}{time}"),
            });
        }
        lines.extend(
            self.guarded()
                .iter()
                .map(|port| format!("guard {}", written(port))),
        );
        lines
    }

    fn guarded(&self) -> BTreeSet<Port> {
        match self.unguarded {
            true => BTreeSet::new(),
            false => config::guarded(&self.doors),
        }
    }

    fn carry_out(&mut self, order: Order) -> Result<(), Failure> {
        let Order { opening, what } = order;
        if usize::from(opening.door) >= self.doors.len() {
            return Err(super::no_door(opening.door));
        }
        if let Some(failure) = self.failures.pop_front() {
            return Err(failure);
        }
        match what {
            // A door without a lease: done is done.
            What::Open { remaining: None } => {}
            What::Open { remaining } => {
                self.openings.insert(opening, remaining);
            }
            What::Extend { remaining } => {
                self.openings.insert(opening, Some(remaining));
            }
            What::Close => {
                self.openings.remove(&opening);
            }
        }
        Ok(())
    }

    fn replace(&mut self, openings: &[(Opening, Option<Duration>)]) {
        self.unguarded = false;
        self.openings = openings
            .iter()
            .filter(|(opening, _)| usize::from(opening.door) < self.doors.len())
            .copied()
            .collect();
    }
}

fn written(port: &Port) -> String {
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    format!("{}/{protocol}", port.number)
}

impl Firewall for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn establish(
        &mut self,
        doors: &[Door],
        openings: &[(Opening, Option<Duration>)],
    ) -> Result<Upkeep, Failure> {
        self.doors = doors.to_vec();
        self.replace(openings);
        Ok(Upkeep::default())
    }

    fn uphold(&mut self, openings: &[(Opening, Option<Duration>)]) -> Result<Upkeep, Failure> {
        self.replace(openings);
        Ok(Upkeep::default())
    }

    fn apply(&mut self, orders: &[Order]) {
        for &order in orders {
            let result = self.carry_out(order);
            self.done.push(Done { order, result });
        }
    }

    fn done(&mut self) -> Vec<Done> {
        std::mem::take(&mut self.done)
    }

    fn openings(&mut self) -> Result<Vec<Opening>, Failure> {
        Ok(self.openings.keys().copied().collect())
    }

    fn unguard(&mut self) -> Result<Vec<String>, Failure> {
        let guarded = self.guarded();
        self.unguarded = true;
        let taken = |port| format!("memory: guard {}", written(port));
        Ok(guarded.iter().map(taken).collect())
    }

    fn remove(&mut self) -> Result<(), Failure> {
        self.doors.clear();
        self.openings.clear();
        Ok(())
    }
}
