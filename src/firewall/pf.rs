//! pf, by pfctl(8).
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
//! The kernel knows no end of an entry: a lease ends when this program, or `posternctl reap`,
//! ends it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::config::{Door, Network};

use super::sessions::{self, Session};
use super::{Done, Failure, Firewall, Opening, Order, Upkeep, What, run};

mod layout;
mod listing;
mod states;
mod tool;

use layout::{ALWAYS, DOOR, GUARD, Gate, Layout, On};
use listing::{Entry, Rules};
use states::{History, Watch};
use tool::Tool;

const ANCHOR: &str = "postern";

/// The most orders that are carried out in one go. pf takes 65535 addresses at a time
/// (net.pf.request_maxcount).
const TOGETHER: usize = 4096;

/// pf.
#[derive(Debug)]
pub struct Pf {
    tool: Tool,
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
            on: On::new(interfaces)?,
            always: always.to_vec(),
            layout: None,
            standing: None,
            seen: None,
            wanted: BTreeMap::new(),
            shown: BTreeMap::new(),
            history: History::default(),
            watch: None,
            mended: Vec::new(),
            done: Vec::new(),
        })
    }

    /// Makes what stands into what should.
    fn reconcile(&mut self) -> Result<Upkeep, Failure> {
        let layout = self.layout.clone().ok_or_else(not_established)?;
        let mut upkeep = Upkeep::default();
        if layout.anchored() {
            self.anchor(&layout, &mut upkeep)?;
        } else {
            self.clear_anchor()?;
        }
        for (door, gate) in layout.gates() {
            self.entries(door, gate, &mut upkeep)?;
        }
        Ok(upkeep)
    }

    /// The anchor's rules, its tables but for the doors' entries, and its running sessions.
    fn anchor(&mut self, layout: &Layout, upkeep: &mut Upkeep) -> Result<(), Failure> {
        let known = self.standing.is_some();
        let expected = match self.standing.take() {
            Some(standing) => standing,
            None => self.expected(layout)?,
        };
        self.standing = Some(expected.clone());
        let found = self.rules()?;
        let running = match sessions::established(&layout.guarded) {
            Ok(running) => Some(BTreeSet::from_iter(running)),
            // Without the list a guard must not arrive, but may well be put back.
            Err(failure) if !known => return Err(failure),
            Err(_) => None,
        };
        let tables = self.tool.tables()?;
        let status = self.look_at_pf(upkeep)?;

        let right = found
            .as_ref()
            .is_some_and(|found| in_order(found, &expected, layout.first()));
        let mut told = differences(found.as_ref(), &expected);
        if !right && told.is_empty() {
            told.push("rules stood in another order or twice: made anew".to_owned());
        }
        let missing = layout.tables().filter(|&name| !tables.contains(name));
        let mut tables_wrong: Vec<String> = missing
            .map(|name| format!("table {name} was gone: made anew"))
            .collect();
        if tables.contains(ALWAYS) && !layout.always.is_empty() {
            let wanted = layout.always.iter().map(|&network| Entry {
                not: false,
                network,
            });
            if self.tool.show(ALWAYS)? != Some(wanted.collect()) {
                tables_wrong.push(format!("table {ALWAYS} was changed: set right"));
            }
        }
        let anew = !right || !tables_wrong.is_empty();

        let found = found.unwrap_or_default();
        let admitted = match &running {
            Some(running) => self.admitted(layout, running, &found)?,
            None => BTreeSet::new(),
        };
        let arrives = expected
            .iter()
            .any(|rule| listing::label(rule) == Some(GUARD) && !found.ours.contains(rule));
        let mut admit = admitted.clone();
        match &running {
            Some(running) if arrives => admit.extend(running),
            Some(running) if status.forgotten && !running.is_subset(&admitted) => {
                let gone = states::unknown(running, &self.tool.states()?);
                let gone: Vec<&Session> = gone.difference(&admitted).collect();
                if known && !gone.is_empty() {
                    let who: Vec<_> = gone.iter().map(|session| session.remote).collect();
                    upkeep.mended.push(format!(
                        "running sessions had lost their states, admitted: {}",
                        some_of(&who)
                    ));
                }
                admit.extend(gone);
            }
            _ => {}
        }
        let texts = self.running(layout, &admit)?;
        let standing: BTreeSet<&String> = found.running().collect();
        let ended = running.is_some() && standing.len() != texts.len();
        if anew || ended || !texts.iter().all(|text| standing.contains(text)) {
            let strangers = found.strangers.clone();
            // What is not known to have ended stays.
            let texts = match running {
                Some(_) => texts,
                None => found.running().cloned().collect(),
            };
            self.load(layout, &texts, &strangers)?;
            if let (true, Some(listed)) = (arrives, running) {
                self.admit_latecomers(layout, &listed, &admit, &strangers)?;
            }
        } else {
            self.seen = Some(found.ours.clone());
        }
        if known {
            // With the anchor its tables went, too.
            if !found.ours.is_empty() {
                told.append(&mut tables_wrong);
            }
            upkeep.mended.append(&mut told);
        }
        self.watch = Some(status.watch);

        let mut left_alone: Vec<String> = found
            .strangers
            .iter()
            .map(|rule| format!("anchor {ANCHOR}: {:?} is not ours: left alone", rule.trim()))
            .collect();
        for name in tables
            .iter()
            .filter(|name| !layout.tables().any(|ours| ours == *name))
        {
            match is_ours(name) {
                true => self.tool.kill_table(name)?,
                false => left_alone.push(format!(
                    "anchor {ANCHOR}: table {name:?} is not ours: left alone"
                )),
            }
        }
        upkeep.strangers.append(&mut left_alone);
        Ok(())
    }

    /// Our rules, without those of running sessions, as pfctl will show them.
    fn expected(&mut self, layout: &Layout) -> Result<Vec<String>, Failure> {
        let rules = self.tool.canonical(&lines(layout.text(&[])))?;
        match rules.len() == layout.rules() {
            true => Ok(rules),
            false => Err(Failure::Unexpected(format!(
                "pfctl -nv: showed {} rules of {}",
                rules.len(),
                layout.rules()
            ))),
        }
    }

    /// The rules that admit these sessions, as pfctl will show them.
    fn running(
        &mut self,
        layout: &Layout,
        sessions: &BTreeSet<Session>,
    ) -> Result<Vec<String>, Failure> {
        let unknown = sessions
            .iter()
            .filter(|session| !self.shown.contains_key(session));
        let rules: Vec<(Session, String)> = unknown
            .flat_map(|session| {
                layout
                    .running(session)
                    .into_iter()
                    .map(|rule| (*session, rule))
            })
            .collect();
        if !rules.is_empty() {
            let text = lines(rules.iter().map(|(_, rule)| rule.as_str()));
            let shown = self.tool.canonical(&text)?;
            if shown.len() != rules.len() {
                return Err(Failure::Unexpected(format!(
                    "pfctl -nv: showed {} rules of {}",
                    shown.len(),
                    rules.len()
                )));
            }
            for ((session, _), rule) in rules.into_iter().zip(shown) {
                self.shown.entry(session).or_default().push(rule);
            }
        }
        Ok(sessions
            .iter()
            .filter_map(|session| self.shown.get(session))
            .flatten()
            .cloned()
            .collect())
    }

    /// Those of these sessions that rules which stand admit.
    fn admitted(
        &mut self,
        layout: &Layout,
        running: &BTreeSet<Session>,
        found: &Rules,
    ) -> Result<BTreeSet<Session>, Failure> {
        self.shown.retain(|session, _| running.contains(session));
        let standing: BTreeSet<&String> = found.running().collect();
        if standing.is_empty() {
            return Ok(BTreeSet::new());
        }
        self.running(layout, running)?;
        let stands = |session: &&Session| {
            let rules = self.shown.get(session);
            rules.is_some_and(|rules| rules.iter().any(|rule| standing.contains(rule)))
        };
        Ok(running.iter().filter(stands).copied().collect())
    }

    /// Loads the anchor and reads it back: what pfctl then shows is what it will show as long as
    /// all stands right.
    fn load(
        &mut self,
        layout: &Layout,
        running: &[String],
        strangers: &[String],
    ) -> Result<(), Failure> {
        let (scrub, others): (Vec<&str>, Vec<&str>) = strangers
            .iter()
            .map(String::as_str)
            .partition(|rule| listing::is_scrub(rule));
        let text = scrub.into_iter().chain(layout.text(running)).chain(others);
        self.seen = None;
        self.tool.load(&lines(text))?;
        let found = self.rules()?.unwrap_or_default();
        let lasting = found.lasting();
        let labels = |rules: &[String]| -> Vec<Option<String>> {
            rules
                .iter()
                .map(|rule| listing::label(rule).map(str::to_owned))
                .collect()
        };
        let expected = self.standing.as_deref().unwrap_or_default();
        if labels(&lasting) != labels(expected) {
            self.standing = None;
            return Err(Failure::Unexpected(format!(
                "pf: the rules of anchor {ANCHOR} do not read back as they were loaded"
            )));
        }
        self.standing = Some(lasting);
        self.seen = Some(found.ours);
        Ok(())
    }

    /// Admits the sessions that were established between the reading of the list and the
    /// arrival of the guard; what they sent meanwhile, TCP sends again.
    fn admit_latecomers(
        &mut self,
        layout: &Layout,
        listed: &BTreeSet<Session>,
        admitted: &BTreeSet<Session>,
        strangers: &[String],
    ) -> Result<(), Failure> {
        let mut now = BTreeSet::from_iter(sessions::established(&layout.guarded)?);
        now.retain(|session| !listed.contains(session));
        if now.is_empty() {
            return Ok(());
        }
        now.extend(admitted);
        let texts = self.running(layout, &now)?;
        self.load(layout, &texts, strangers)
    }

    /// The rules that stand in our anchor; the doors' numbers among them are remembered.
    fn rules(&mut self) -> Result<Option<Rules>, Failure> {
        let rules = self.tool.rules()?;
        let doors = rules.as_ref().map(|rules| rules.doors.as_slice());
        self.history
            .stands(doors.unwrap_or_default(), Instant::now());
        Ok(rules)
    }

    /// Whether pf filters, whether it reaches our rules, and whether it may have forgotten its
    /// states since the last look.
    fn look_at_pf(&mut self, upkeep: &mut Upkeep) -> Result<Looked, Failure> {
        let status = self.tool.status()?;
        let watch = Watch::new(status, Instant::now());
        let calls = self.tool.calls()?;
        self.history.called(&calls);
        if !status.enabled {
            upkeep
                .strangers
                .push("pf is disabled: nothing is filtered (pfctl -e)".to_owned());
        }
        if calls.is_empty() {
            upkeep.strangers.push(format!(
                "pf.conf has no anchor \"{ANCHOR}\": our rules are not reached"
            ));
        }
        Ok(Looked {
            forgotten: status.enabled && self.watch.is_none_or(|before| before.forgot(&watch)),
            watch,
        })
    }

    /// The table of a door: who is missing is let in; in a table of ours, who should not be
    /// there is put out.
    fn entries(&mut self, door: u16, gate: &Gate, upkeep: &mut Upkeep) -> Result<(), Failure> {
        let found = self.tool.entered(gate)?.ok_or_else(|| no_table(gate))?;
        let now = Instant::now();
        let wanted = self.wanted.range(all_of(door));
        let wanted: BTreeSet<Entry> = wanted.clone().map(|(o, _)| Entry::of(o.address)).collect();
        let in_force = self
            .wanted
            .range(all_of(door))
            .filter(|(_, end)| **end > now);
        let missing: Vec<Entry> = in_force
            .map(|(opening, _)| Entry::of(opening.address))
            .filter(|entry| !found.contains(entry))
            .collect();
        let extra: Vec<Entry> = match gate.ours {
            true => found.difference(&wanted).copied().collect(),
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

    /// Looks whether our rules and tables stand, and mends them if they do not.
    fn look(&mut self) -> Result<(), Failure> {
        let Some(layout) = &self.layout else {
            return Err(not_established());
        };
        if !layout.anchored() {
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
    fn carry_out(&mut self, orders: &[Order]) -> HashMap<Opening, Failure> {
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
            true => self.look(),
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

    /// Orders at one door: a call to add, a call to delete.
    fn attempt(&mut self, gate: &Gate, orders: &[Order]) -> Result<(), Failure> {
        let (close, open): (Vec<&Order>, Vec<&Order>) =
            orders.iter().partition(|order| order.what == What::Close);
        // Adding would make a table that nobody's rules name.
        if !gate.ours && self.tool.entered(gate)?.is_none() {
            return Err(no_table(gate));
        }
        let of = |order: &&Order| Entry::of(order.opening.address);
        self.tool.change(gate, "add", open.iter().map(of))?;
        self.tool.change(gate, "delete", close.iter().map(of))?;
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
    fn objection(&self, order: &Order) -> Option<Failure> {
        let Some(layout) = &self.layout else {
            return Some(not_established());
        };
        let door = order.opening.door;
        if layout.gate(door).is_none() {
            return Some(Failure::Unexpected(format!(
                "pf: the door numbered {door} opens nothing here"
            )));
        }
        (order.what == What::Open { remaining: None }).then(no_end)
    }

    /// The openings with their ends, those of doors that do not open here left out.
    fn ends(
        layout: &Layout,
        openings: &[(Opening, Option<Duration>)],
    ) -> Result<BTreeMap<Opening, Instant>, Failure> {
        let now = Instant::now();
        let mut ends = BTreeMap::new();
        for &(opening, remaining) in openings {
            if layout.gate(opening.door).is_some() {
                let end = remaining.and_then(|remaining| now.checked_add(remaining));
                ends.insert(opening, end.ok_or_else(no_end)?);
            }
        }
        Ok(ends)
    }

    /// Takes away the rules and tables that are ours, and nothing else.
    fn clear_anchor(&mut self) -> Result<(), Failure> {
        let found = self.rules()?.unwrap_or_default();
        self.standing = None;
        self.seen = None;
        self.watch = None;
        match found.strangers.as_slice() {
            _ if found.ours.is_empty() => {}
            [] => self.tool.flush()?,
            strangers => self
                .tool
                .load(&lines(strangers.iter().map(String::as_str)))?,
        }
        for name in self.tool.tables()?.iter().filter(|name| is_ours(name)) {
            self.tool.kill_table(name)?;
        }
        Ok(())
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
        "pf"
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
            let mut failed = HashMap::new();
            // Of several orders for one opening the last is the one that counts.
            let mut last: BTreeMap<Opening, Order> = BTreeMap::new();
            for order in orders {
                match self.objection(order) {
                    None => {
                        last.insert(order.opening, *order);
                    }
                    Some(failure) => {
                        failed.insert(order.opening, failure);
                    }
                }
            }
            if !last.is_empty() {
                let last: Vec<Order> = last.into_values().collect();
                failed.extend(self.carry_out(&last));
            }
            self.done.extend(orders.iter().map(|&order| Done {
                order,
                result: failed.get(&order.opening).cloned().map_or(Ok(()), Err),
            }));
        }
    }

    fn done(&mut self) -> Vec<Done> {
        std::mem::take(&mut self.done)
    }

    fn openings(&mut self) -> Result<Vec<Opening>, Failure> {
        let layout = self.layout.clone().ok_or_else(not_established)?;
        let mut openings = Vec::new();
        for (door, gate) in layout.gates() {
            let entries = self.tool.entered(gate)?.unwrap_or_default();
            let here = entries.iter().filter_map(Entry::address);
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
        let (scrub, others): (Vec<&String>, Vec<&String>) = found
            .strangers
            .iter()
            .partition(|rule| listing::is_scrub(rule));
        let left = scrub.into_iter().chain(ours).chain(others);
        self.tool.load(&lines(left.map(String::as_str)))?;
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

/// What a look at pf as a whole has found.
struct Looked {
    watch: Watch,
    forgotten: bool,
}

/// Whether our rules stand in their order, `first` of them before those of running sessions.
fn in_order(found: &Rules, expected: &[String], first: usize) -> bool {
    let (before, behind) = expected.split_at(first.min(expected.len()));
    let right = before.iter().chain(found.running()).chain(behind);
    found.ours.iter().eq(right)
}

fn differences(found: Option<&Rules>, expected: &[String]) -> Vec<String> {
    let lasting = found.map(Rules::lasting).unwrap_or_default();
    if lasting.is_empty() && !expected.is_empty() {
        return vec![format!("anchor {ANCHOR} was gone: made anew")];
    }
    let gone = expected.iter().filter(|rule| !lasting.contains(rule));
    let added = lasting.iter().filter(|rule| !expected.contains(rule));
    gone.map(|rule| format!("rule {rule} was gone: made anew"))
        .chain(added.map(|rule| format!("rule {rule} was added: taken away")))
        .collect()
}

/// Whether a table in our anchor is one of ours by its name.
fn is_ours(table: &str) -> bool {
    table == ALWAYS || table.starts_with(DOOR)
}

fn lines<'a>(rules: impl IntoIterator<Item = &'a str>) -> String {
    rules.into_iter().flat_map(|rule| [rule, "\n"]).collect()
}

/// All openings of a door.
fn all_of(door: u16) -> std::ops::RangeInclusive<Opening> {
    let of = |address: IpAddr| Opening { door, address };
    of(IpAddr::from([0u8; 4]))..=of(IpAddr::from([0xffu8; 16]))
}

fn some_of<T: ToString>(items: &[T]) -> String {
    const MOST: usize = 8;
    let mut words: Vec<String> = items.iter().take(MOST).map(T::to_string).collect();
    if let Some(more @ 1..) = items.len().checked_sub(MOST) {
        words.push(format!("{more} more"));
    }
    words.join(", ")
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

fn no_end() -> Failure {
    Failure::Unexpected("pf: an opening needs an end".to_owned())
}

fn not_established() -> Failure {
    Failure::Unexpected("pf: nothing was established".to_owned())
}
