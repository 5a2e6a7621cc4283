//! pf: by pfctl(8), and entries for orders by calls of the kernel's own.
//!
//! One anchor of ours, `postern`, that the administrator's pf.conf names (`anchor "postern"`).
//! It is loaded whole, which is all or nothing and leaves entries of tables and states as they
//! are. In it stand a table of the addresses let in for each door (`door_NAME`), one of those
//! who pass every guard (`always`), and, one for each interface, protocol and port, in this
//! order:
//!
//! 1. for each door, its table at its ports: pass;
//! 2. sessions that ran when the guard arrived, or when pf had forgotten them, by their four
//!    numbers, from the kernel's list of sockets (see [`super::sessions`]): pass;
//! 3. `always` at guarded ports: pass;
//! 4. guards: block.
//!
//! All are `quick`. Rules of ours carry a label that begins with `postern:`; whatever else
//! stands in the anchor is reported, and kept behind ours when the anchor is loaded anew.
//!
//! A session that a door let in has a state, and a state outlives its table entry and the
//! anchor's being loaded again. So a lease's end leaves it alone, and it needs no rule of its
//! own unless pf has forgotten its states.
//!
//! A door with `table = "name"` has nothing here but entries in that table of the main ruleset,
//! which the administrator's own rules name; if all doors are of that kind the anchor is never
//! touched. Only entries that there were orders for are touched there.
//!
//! Where leases go by traffic the door's table counts the packets of each entry (`counters`), those
//! that begin a connection among them.
//!
//! The kernel knows no end of an entry: a lease ends when this program, or `posternctl reap`,
//! ends it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::config::{Door, Drive, Network};

use super::filter::{self, all_of, some_of};
use super::sessions::Session;
use super::{Done, Driven, Failure, Firewall, Opening, Order, Upkeep, run};

mod abi;
mod anchor;
mod device;
mod inprocess;
mod layout;
mod listing;
mod orders;
mod states;
mod tool;

use inprocess::InProcess;
use layout::{GUARD, Gate, Layout, On};
use listing::{Counted, Entry};
use states::{History, Watch};
use tool::Tool;

const NAME: &str = "pf";
const ANCHOR: &str = "postern";

/// The most orders that are carried out in one go. pf takes 65535 addresses at a time
/// (net.pf.request_maxcount).
const TOGETHER: usize = 4096;

/// pf.
#[derive(Debug)]
pub struct Pf {
    tool: Tool,
    in_process: InProcess,
    on: On,
    always: Vec<Network>,
    layout: Option<Layout>,
    /// Our rules but for those of running sessions, as pfctl shows them when they stand right.
    standing: Option<Vec<String>>,
    /// All our rules as they were last seen to be right.
    seen: Option<Vec<String>>,
    /// The openings that should stand, with their ends.
    wanted: BTreeMap<Opening, Instant>,
    /// Rules of running sessions as pfctl shows them.
    shown: BTreeMap<Session, Vec<String>>,
    history: History,
    watch: Option<Watch>,
    /// What the entries of counting tables had counted at the last look for traffic, by table.
    counted: BTreeMap<String, BTreeMap<Network, Counted>>,
    /// What was mended on the way to carrying out orders, for the next upkeep.
    mended: Vec<String>,
    done: Vec<Done>,
}

impl Pf {
    /// pf on these interfaces; `any` or none: all but the loopback. `always`: who passes every
    /// guard. pfctl is looked for in [`run::PATH`].
    pub fn new(interfaces: &[String], always: &[Network]) -> Result<Pf, Failure> {
        Pf::with_path(interfaces, always, run::PATH)
    }

    /// The same with pfctl looked for elsewhere.
    pub fn with_path(interfaces: &[String], always: &[Network], path: &str) -> Result<Pf, Failure> {
        Ok(Pf {
            tool: Tool::new(path),
            in_process: InProcess::new(),
            on: On::new(interfaces)?,
            always: always.to_vec(),
            layout: None,
            standing: None,
            seen: None,
            wanted: BTreeMap::new(),
            shown: BTreeMap::new(),
            history: History::default(),
            watch: None,
            counted: BTreeMap::new(),
            mended: Vec::new(),
            done: Vec::new(),
        })
    }

    /// Makes what stands into what should.
    fn reconcile(&mut self) -> Result<Upkeep, Failure> {
        match self.attempt_to_reconcile() {
            // Somebody else may have been at it since it was read.
            Err(Failure::Refused { .. }) => self.attempt_to_reconcile(),
            result => result,
        }
    }

    fn attempt_to_reconcile(&mut self) -> Result<Upkeep, Failure> {
        let layout = self.layout.clone().ok_or_else(not_established)?;
        self.in_process.look();
        let mut upkeep = Upkeep::default();
        if layout.anchored() {
            self.anchor(&layout, &mut upkeep)?;
        } else {
            self.clear_anchor()?;
        }
        // One door's missing table is no reason to leave the others' as they are.
        let mut result = Ok(());
        for (door, gate) in layout.gates() {
            result = result.and(self.entries(door, gate, &mut upkeep));
        }
        result.map(|()| upkeep)
    }

    /// The table of a door: who is missing is let in; in a table of ours, who should not be
    /// there is put out.
    fn entries(&mut self, door: u16, gate: &Gate, upkeep: &mut Upkeep) -> Result<(), Failure> {
        let found = self.tool.entered(gate)?.ok_or_else(|| no_table(gate))?;
        let now = Instant::now();
        let wanted: BTreeMap<Entry, Instant> = self
            .wanted
            .range(all_of(door))
            .map(|(opening, end)| (Entry::of(opening.address), *end))
            .collect();
        let missing: Vec<Entry> = wanted
            .iter()
            .filter(|(entry, end)| **end > now && !found.contains(entry))
            .map(|(entry, _)| *entry)
            .collect();
        let extra: Vec<Entry> = match gate.ours {
            true => found
                .into_iter()
                .filter(|entry| !wanted.contains_key(entry))
                .collect(),
            false => Vec::new(),
        };
        self.tool.change(gate, "delete", extra.iter().copied())?;
        self.tool.change(gate, "add", missing.iter().copied())?;
        for (entries, what) in [
            (missing, "openings were missing, put back"),
            (extra, "openings stood without a lease, taken away"),
        ] {
            if !entries.is_empty() {
                let who = some_of(&entries);
                upkeep
                    .mended
                    .push(format!("door {}: {what}: {who}", gate.name));
            }
        }
        Ok(())
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

    /// Takes away our entries in tables of the administrator's that are in `old` but not in
    /// force any more.
    fn let_go(
        &mut self,
        old: &Layout,
        openings: &BTreeMap<Opening, Instant>,
    ) -> Result<(), Failure> {
        let entered = |layout: &Layout, openings: &BTreeMap<Opening, Instant>| {
            let mut entered: BTreeMap<String, BTreeSet<Entry>> = BTreeMap::new();
            for (door, gate) in layout.gates().filter(|(_, gate)| !gate.ours) {
                let here = openings
                    .range(all_of(door))
                    .map(|(o, _)| Entry::of(o.address));
                entered.entry(gate.table.clone()).or_default().extend(here);
            }
            entered
        };
        let still = match &self.layout {
            Some(layout) => entered(layout, &self.wanted),
            None => BTreeMap::new(),
        };
        for (table, entries) in entered(old, openings) {
            let still = still.get(&table);
            let gone = entries
                .into_iter()
                .filter(|entry| !still.is_some_and(|still| still.contains(entry)));
            let gate = old
                .gates()
                .map(|(_, gate)| gate)
                .find(|gate| gate.table == table);
            let (Some(gate), gone) = (gate, Vec::from_iter(gone)) else {
                continue;
            };
            if !gone.is_empty() && self.tool.entered(gate)?.is_some() {
                self.tool.change(gate, "delete", gone)?;
            }
        }
        Ok(())
    }
}

impl Firewall for Pf {
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
        Some(self.in_process.driven())
    }

    fn establish(
        &mut self,
        doors: &[Door],
        openings: &[(Opening, Option<Duration>)],
    ) -> Result<Upkeep, Failure> {
        let layout = Layout::new(doors, &self.on, &self.always)?;
        let ends = Pf::ends(&layout, openings)?;
        let alike = |old: &Layout| old.text(&[]).eq(layout.text(&[]));
        let standing = match &self.layout {
            Some(old) if alike(old) => self.standing.clone(),
            _ => None,
        };
        self.shown.clear();
        let before = (
            self.layout.replace(layout),
            std::mem::replace(&mut self.standing, standing),
            std::mem::replace(&mut self.wanted, ends),
        );
        let upkeep = match &before.0 {
            Some(old) => self.let_go(&old.clone(), &before.2),
            None => Ok(()),
        };
        let upkeep = upkeep.and_then(|()| self.reconcile());
        if upkeep.is_err() {
            (self.layout, self.standing, self.wanted) = before;
            self.seen = None;
            self.shown.clear();
        }
        upkeep
    }

    fn uphold(&mut self, openings: &[(Opening, Option<Duration>)]) -> Result<Upkeep, Failure> {
        let layout = self.layout.as_ref().ok_or_else(not_established)?;
        self.wanted = Pf::ends(layout, openings)?;
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

    /// An entry counts from when it was made, so that what it had counted before this program
    /// began to look is taken for traffic once.
    fn traffic(&mut self) -> Result<Vec<(Opening, Duration)>, Failure> {
        let layout = self.layout.clone().ok_or_else(not_established)?;
        let before = std::mem::take(&mut self.counted);
        let mut traffic = Vec::new();
        for (door, gate) in layout.gates().filter(|(_, gate)| gate.idle) {
            let counted = self.tool.counted(gate)?.unwrap_or_default();
            let before = before.get(&gate.table);
            for (&address, now) in &counted {
                let before = before.and_then(|before| before.get(&address));
                let opening = Opening { door, address };
                let more = now.packets > 0 && before != Some(now);
                if more && self.wanted.contains_key(&opening) {
                    traffic.push((opening, Duration::ZERO));
                }
            }
            self.counted.insert(gate.table.clone(), counted);
        }
        Ok(traffic)
    }

    fn openings(&mut self) -> Result<Vec<Opening>, Failure> {
        let layout = self.layout.clone().ok_or_else(not_established)?;
        let mut openings = Vec::new();
        for (door, gate) in layout.gates() {
            let entries = self.tool.entered(gate)?.unwrap_or_default();
            let here = entries.iter().filter_map(Entry::lets_in);
            let here = here.map(|address| Opening { door, address });
            // Of a table of the administrator's: what there were orders for.
            openings.extend(here.filter(|o| gate.ours || self.wanted.contains_key(o)));
        }
        Ok(openings)
    }

    fn unguard(&mut self) -> Result<Vec<String>, Failure> {
        let found = self.rules()?.unwrap_or_default();
        let (guards, ours): (Vec<&String>, Vec<&String>) = found
            .ours
            .iter()
            .partition(|rule| listing::label(rule) == Some(GUARD));
        if guards.is_empty() {
            return Ok(Vec::new());
        }
        let left: Vec<&str> = ours.into_iter().map(String::as_str).collect();
        self.replace(left, &found.strangers)?;
        Ok(guards
            .into_iter()
            .map(|rule| format!("anchor {ANCHOR}: {rule}"))
            .collect())
    }

    fn remove(&mut self) -> Result<(), Failure> {
        self.clear_anchor()?;
        let layout = self.layout.take();
        let wanted = std::mem::take(&mut self.wanted);
        self.let_go(&layout.unwrap_or_default(), &wanted)
    }
}

fn lines<'a>(rules: impl IntoIterator<Item = &'a str>) -> String {
    rules.into_iter().flat_map(|rule| [rule, "\n"]).collect()
}

fn no_table(gate: &Gate) -> Failure {
    let Gate { name, table, .. } = gate;
    Failure::Unexpected(match gate.ours {
        true => format!("door {name}: table {table} of anchor {ANCHOR} is gone again"),
        false => format!(
            "door {name}: pf has no table {table}: write \"table <{table}> persist\" and rules \
             that name it in pf.conf, and load it (service pf reload)"
        ),
    })
}

fn not_established() -> Failure {
    filter::not_established(NAME)
}
