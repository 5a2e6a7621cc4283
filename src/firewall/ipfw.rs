//! FreeBSD's ipfw(4): by its command, and entries for orders by calls of the kernel's own.
//!
//! All rules of ours are in set 31, which `ipfw flush` and `service ipfw restart` spare, at the
//! numbers that the configuration gives, each with a comment that begins with `postern:`. At the
//! number of a guard stand, in this order and for the listened interfaces only:
//!
//! 1. who needs no knock (`always`), from the table `postern_always`: pass;
//! 2. sessions known by their four numbers, from the kernel's list of sockets (see
//!    [`super::sessions`]) and in the table `postern_running`: pass, unless the packet is a SYN;
//! 3. the guard: deny.
//!
//! Before it, at lower numbers, stand the doors' pass rules: one for each door on its table
//! `postern_NAME`, whose values are the leases' ends in Unix seconds, or one for each address.
//! They keep states under a name of the door's own; a state lives as long as its rule, so that
//! a rule that is right is never touched.
//!
//! What is ours is known by the set and the comment together. Whatever else stands in the set
//! is reported and left alone; since ipfw deletes by number, so are our rules that share a number
//! with it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::config::{Door, Drive, Network};

use super::sessions::{self, Session};
use super::{Done, Driven, Failure, Firewall, Opening, Order, Upkeep, What};
use super::{filter, run};

mod abi;
mod batch;
mod canon;
mod entries;
mod inprocess;
mod kernel;
mod layout;
mod listing;
mod orders;
mod plan;
mod reconcile;
mod tool;

use batch::{Batch, Name, Table};
use canon::Canon;
use inprocess::InProcess;
use layout::{By, Layout, On, Rule};
use tool::Tool;

const NAME: &str = "ipfw";

/// The most orders in one batch.
const TOGETHER: usize = 4096;

/// ipfw.
#[derive(Debug)]
pub struct Ipfw {
    tool: Tool,
    in_process: InProcess,
    on: On,
    always: Vec<Network>,
    layout: Option<Layout>,
    /// How this ipfw lists our rules.
    canon: Canon,
    /// Whether the layout stood at the last look.
    known: bool,
    /// The openings that should stand, with their ends.
    wanted: BTreeMap<Opening, Instant>,
    /// Openings that somebody else's entry makes: not ours to touch.
    foreign: BTreeSet<Opening>,
    /// What we put into the administrator's tables.
    lent: BTreeSet<(Table, Network)>,
    /// Sessions admitted by their four numbers.
    admitted: BTreeSet<Session>,
    /// What was mended on the way to carrying out orders, for the next upkeep.
    mended: Vec<String>,
    done: Vec<Done>,
}

impl Ipfw {
    /// ipfw on these interfaces; `any` or none: all but the loopback. `always` pass every guard.
    /// Its command is looked for in [`run::PATH`].
    pub fn new(interfaces: &[String], always: &[Network]) -> Result<Ipfw, Failure> {
        Ipfw::with_path(interfaces, always, run::PATH)
    }

    /// The same with the command looked for elsewhere.
    pub fn with_path(
        interfaces: &[String],
        always: &[Network],
        path: &str,
    ) -> Result<Ipfw, Failure> {
        Ok(Ipfw {
            tool: Tool::new(path),
            in_process: InProcess::new(),
            on: On::new(interfaces)?,
            always: always.to_vec(),
            layout: None,
            canon: Canon::default(),
            known: false,
            wanted: BTreeMap::new(),
            foreign: BTreeSet::new(),
            lent: BTreeSet::new(),
            admitted: BTreeSet::new(),
            mended: Vec::new(),
            done: Vec::new(),
        })
    }

    /// Carries out orders, one for each opening at most; which of them failed, and how.
    fn carry_out(&mut self, orders: &[Order]) -> HashMap<Opening, Failure> {
        let fail = |failure: Failure| {
            let all = orders.iter().map(|order| (order.opening, failure.clone()));
            all.collect()
        };
        let mut result = self.attempt(orders);
        if matches!(
            result,
            Err(Failure::Refused { .. } | Failure::NotRun { .. })
        ) {
            result = self.repair().and_then(|problem| {
                let again = self.attempt(orders);
                // What stands in the way says more than ipfw does.
                again.map_err(|failure| problem.unwrap_or(failure))
            });
        }
        result.unwrap_or_else(fail)
    }

    /// One batch, which also tells whether the rules stand; which orders cannot be carried out.
    fn attempt(&mut self, orders: &[Order]) -> Result<HashMap<Opening, Failure>, Failure> {
        let Some(layout) = self.layout.clone() else {
            return Err(not_established());
        };
        let by_rules = orders.iter().any(|order| {
            let gate = layout.gate(order.opening.door);
            gate.is_some_and(|gate| matches!(gate.by, By::Rules { .. }))
        });
        let rules = match by_rules {
            true => self.tool.rules()?,
            false => listing::Rules::new(),
        };
        let running = match by_rules || orders.iter().any(|order| order.what == What::Close) {
            // Without the list the states of those who are in must do.
            true => sessions::established(&layout.guarded).unwrap_or_default(),
            false => Vec::new(),
        };
        let now = Instant::now();
        let mut ends = self.unix_ends();
        for order in orders {
            match order.what {
                What::Close => ends.remove(&order.opening),
                _ => ends.insert(order.opening, unix(remaining(order))),
            };
        }
        let known = orders::Known {
            layout: &layout,
            ends: &ends,
            foreign: &self.foreign,
            running: &running,
            rules: &rules,
        };
        let steps = orders::steps(orders, &known);
        let in_process = !by_rules && self.in_process.carry_out(&layout, &steps.batch);
        let listed = match in_process {
            true => None,
            false => {
                let before = self.in_process.image(&layout);
                Some((before, self.tool.execute(&steps.batch)?))
            }
        };
        self.admitted.extend(steps.left);
        for order in orders {
            if !steps.failed.contains_key(&order.opening) {
                self.note(&layout, order, now);
            }
        }
        let Some((before, text)) = listed else {
            return Ok(steps.failed);
        };
        let lines = text.lines().take_while(|line| !line.starts_with("--- "));
        let stands = listing::rules(lines)
            .is_some_and(|rules| plan::rules_right(&rules, &layout, &self.canon));
        if stands {
            self.in_process.right(before, &layout);
        } else if let Some(problem) = self.repair()? {
            return Err(problem);
        }
        Ok(steps.failed)
    }

    /// Remembers that an order was carried out.
    fn note(&mut self, layout: &Layout, order: &Order, now: Instant) {
        let opening = order.opening;
        let lent = theirs(layout, opening.door).map(|table| (table.clone(), opening.address));
        if order.what == What::Close {
            self.wanted.remove(&opening);
            lent.map(|lent| self.lent.remove(&lent));
        } else if let Some(end) = now.checked_add(remaining(order)) {
            self.wanted.insert(opening, end);
            self.lent.extend(lent);
        }
    }

    /// Why an order cannot be carried out, whatever stands.
    fn objection(&self, order: &Order) -> Option<Failure> {
        let Some(layout) = &self.layout else {
            return Some(not_established());
        };
        let Opening { door, address } = order.opening;
        if is_v4_compatible(address.address()) {
            return Some(Failure::Unexpected(format!(
                "ipfw takes no addresses like {address} (IPv4-compatible)"
            )));
        }
        filter::objection(NAME, order, layout.gate(door).is_some())
    }

    /// The openings with their ends, those left out that cannot stand here.
    fn ends(
        layout: &Layout,
        openings: &[(Opening, Option<Duration>)],
    ) -> Result<BTreeMap<Opening, Instant>, Failure> {
        filter::ends(NAME, openings, |opening| {
            layout.gate(opening.door).is_some() && !is_v4_compatible(opening.address.address())
        })
    }
}

impl Firewall for Ipfw {
    fn name(&self) -> &'static str {
        NAME
    }

    fn take_up(&mut self, interfaces: &[String], always: &[Network]) -> Result<(), Failure> {
        self.on = On::new(interfaces)?;
        self.always = always.to_vec();
        Ok(())
    }

    fn drive(&mut self, by: Drive) {
        self.in_process.drive(by);
    }

    fn driven(&self) -> Option<Driven> {
        let mut driven = self.in_process.driven();
        let gates = self.layout.iter().flat_map(Layout::gates);
        let (rules, tables): (Vec<_>, Vec<_>) = gates
            .map(|(_, gate)| gate)
            .partition(|gate| matches!(gate.by, By::Rules { .. }));
        if driven.by == Drive::InProcess && !rules.is_empty() {
            let names: Vec<&Name> = rules.iter().map(|gate| &gate.name).collect();
            let names = filter::some_of(&names);
            driven.why = Some(format!("rules are left to ipfw(8): {names}"));
            if tables.is_empty() {
                driven.by = Drive::Command;
            }
        }
        Some(driven)
    }

    fn establish(
        &mut self,
        doors: &[Door],
        openings: &[(Opening, Option<Duration>)],
    ) -> Result<Upkeep, Failure> {
        let layout = Layout::new(doors, &self.on, &self.always)?;
        let ends = Ipfw::ends(&layout, openings)?;
        self.learn(&layout)?;
        let known = self.known && self.layout.as_ref() == Some(&layout);
        let before = (
            self.layout.replace(layout),
            std::mem::replace(&mut self.known, known),
            std::mem::replace(&mut self.wanted, ends),
        );
        let reconciled = self.reconcile(true);
        if reconciled.is_err() {
            (self.layout, self.known, self.wanted) = before;
        }
        reconciled.map(|(upkeep, _)| upkeep)
    }

    fn uphold(&mut self, openings: &[(Opening, Option<Duration>)]) -> Result<Upkeep, Failure> {
        let Some(layout) = &self.layout else {
            return Err(not_established());
        };
        self.wanted = Ipfw::ends(layout, openings)?;
        let (mut upkeep, problem) = self.reconcile(false)?;
        upkeep.mended.splice(..0, self.mended.drain(..));
        match problem {
            None => Ok(upkeep),
            Some(problem) => {
                self.mended = upkeep.mended;
                Err(problem)
            }
        }
    }

    fn apply(&mut self, orders: &[Order]) {
        for orders in orders.chunks(TOGETHER) {
            let (latest, mut failed) = filter::latest(orders, |order| self.objection(order));
            // What is wrong with an administrator's table must not fail orders at others.
            // And what is done in-process need not wait for what is not.
            let mut batches: BTreeMap<(bool, Option<Table>), Vec<Order>> = BTreeMap::new();
            for order in latest {
                let gate = self
                    .layout
                    .as_ref()
                    .and_then(|l| l.gate(order.opening.door));
                let place = match gate.map(|gate| &gate.by) {
                    Some(By::Table(table @ Table::Theirs(_))) => (false, Some(table.clone())),
                    Some(By::Rules { .. }) => (true, None),
                    _ => (false, None),
                };
                batches.entry(place).or_default().push(order);
            }
            for orders in batches.values() {
                failed.extend(self.carry_out(orders));
            }
            self.done.extend(filter::done(orders, &failed));
        }
    }

    fn done(&mut self) -> Vec<Done> {
        std::mem::take(&mut self.done)
    }

    /// A table of ours tells nothing of packets, and the time stamp of a rule for one address is
    /// gone with the rule when the lease's end moves. What is known are this machine's own
    /// connections: as long as one stands it is traffic.
    fn traffic(&mut self) -> Result<Vec<(Opening, Duration)>, Failure> {
        let layout = self.layout.as_ref().ok_or_else(not_established)?;
        let ports: BTreeSet<u16> = layout.gates().flat_map(|(_, g)| &g.idle).copied().collect();
        let sessions = sessions::established(&Vec::from_iter(ports))?;
        let mut traffic = BTreeSet::new();
        for (door, gate) in layout.gates() {
            for Session { local, remote } in &sessions {
                if gate.idle.contains(&local.port()) {
                    let address = Network::of_knocker(remote.ip(), gate.prefix6);
                    traffic.insert(Opening { door, address });
                }
            }
        }
        let standing = traffic.into_iter().filter(|o| self.wanted.contains_key(o));
        Ok(standing.map(|opening| (opening, Duration::ZERO)).collect())
    }

    fn openings(&mut self) -> Result<Vec<Opening>, Failure> {
        let Some(layout) = self.layout.clone() else {
            return Err(not_established());
        };
        let found = self.look(&layout, false)?;
        let mut openings = Vec::new();
        for (door, gate) in layout.gates() {
            let opening = |address| Opening { door, address };
            let table = match &gate.by {
                By::Rules { .. } => {
                    let addresses = plan::standing(gate, &found.rules).into_keys();
                    openings.extend(addresses.map(opening));
                    continue;
                }
                By::Table(table) => found.tables.get(table),
            };
            let entries = table.into_iter().flat_map(|table| &table.networks);
            let leases = entries.filter(|(network, end)| entries::is_lease(network, **end));
            let leases = leases.map(|(network, _)| opening(*network));
            let theirs = matches!(gate.by, By::Table(Table::Theirs(_)));
            openings.extend(leases.filter(|o| !theirs || self.wanted.contains_key(o)));
        }
        openings.sort_unstable();
        Ok(openings)
    }

    fn unguard(&mut self) -> Result<Vec<String>, Failure> {
        let (mut taken, mut problem) = (Vec::new(), None);
        let mut batch = Batch::default();
        for (number, lines) in self.tool.rules()? {
            let (with_guards, others): (Vec<_>, Vec<_>) = lines
                .into_iter()
                .partition(|line| plan::stands_with_guards(line.comment()));
            if with_guards.is_empty() {
                continue;
            }
            if let Some(line) = others.iter().find(|line| !line.is_ours()) {
                problem = Some(plan::blocked(number, line));
                continue;
            }
            batch.delete(number);
            for line in others {
                batch.add(&Rule {
                    number,
                    text: line.text,
                });
            }
            taken.extend(
                with_guards
                    .iter()
                    .map(|line| format!("rule {number:05} {}", line.text)),
            );
        }
        if !batch.is_empty() {
            self.tool.execute(&batch)?;
        }
        problem.map_or(Ok(taken), Err)
    }

    fn remove(&mut self) -> Result<(), Failure> {
        self.layout = Some(Layout::default());
        self.known = false;
        self.wanted.clear();
        let removed = self.reconcile(false);
        self.layout = None;
        self.known = false;
        match removed? {
            (_, None) => Ok(()),
            (_, Some(problem)) => Err(problem),
        }
    }
}

/// The administrator's table that a door lets in by.
fn theirs(layout: &Layout, door: u16) -> Option<&Table> {
    match &layout.gate(door)?.by {
        By::Table(table @ Table::Theirs(_)) => Some(table),
        _ => None,
    }
}

/// From now on to an order's end.
fn remaining(order: &Order) -> Duration {
    match order.what {
        What::Open { remaining } => remaining.unwrap_or_default(),
        What::Extend { remaining } => remaining,
        What::Close => Duration::ZERO,
    }
}

/// So long from now in Unix seconds, rounded up, as far as a table's value holds them; never 0,
/// which is no end.
fn unix(remaining: Duration) -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let end = now.unwrap_or_default().saturating_add(remaining);
    let seconds = end
        .as_secs()
        .saturating_add(u64::from(end.subsec_nanos() > 0));
    u32::try_from(seconds).unwrap_or(u32::MAX).max(1)
}

/// Whether ipfw(8) refuses an IPv6 address for what its last four bytes are
/// (IN6_IS_ADDR_V4COMPAT).
fn is_v4_compatible(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => (2..1 << 32).contains(&u128::from(address)),
    }
}

fn not_established() -> Failure {
    filter::not_established(NAME)
}

#[cfg(test)]
mod tests;
