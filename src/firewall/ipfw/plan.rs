//! What stands and what should -> the batch that makes the one into the other.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Network;

use super::super::filter::{all_of, some_of};
use super::super::sessions::Session;
use super::super::{Failure, Opening};
use super::batch::{Batch, Name, Table};
use super::canon::{Canon, Due};
use super::entries;
use super::layout::{ALWAYS, By, GUARD, Gate, Layout, RUNNING};
use super::listing::{Found, Line, Rules};

/// How far, in seconds, an end may be from where it should be.
pub const ABOUT: u32 = 2;

/// What should stand.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// Tables and rules.
    pub layout: &'a Layout,
    /// How rules are listed.
    pub canon: &'a Canon,
    /// Who is let in, and until when in Unix seconds.
    pub ends: &'a BTreeMap<Opening, u32>,
    /// The time in Unix seconds.
    pub now: u32,
    /// The sessions running at guarded ports; `None`: not known.
    pub sessions: Option<&'a BTreeSet<Session>>,
    /// Those that we admitted by their four numbers.
    pub admitted: &'a BTreeSet<Session>,
    /// What we put into the administrator's tables.
    pub lent: &'a BTreeSet<(Table, Network)>,
    /// Whether all this stood before, so that whatever is amiss is somebody's doing.
    pub known: bool,
}

/// How to get there.
#[derive(Debug, Default)]
pub struct Plan {
    /// Tables that are made.
    pub tables: Batch,
    /// Sessions that are admitted.
    pub flows: Batch,
    /// Addresses that are let in.
    pub entries: Batch,
    passes: Batch,
    guards: Batch,
    rebuilt: Batch,
    deletions: Batch,
    /// Entries that are taken out.
    pub leaving: Batch,
    /// Tables that are taken away.
    pub destroyed: Batch,
    /// The numbers at which rules are made, with all that should stand there then.
    pub made: BTreeMap<u16, Vec<Due>>,
    /// Whether any rule is made or deleted.
    pub rules_change: bool,
    /// What was not as it should be, in words.
    pub mended: Vec<String>,
    /// What is not ours and was left alone, in words.
    pub strangers: Vec<String>,
    /// What the batch does not mend.
    pub problems: Vec<Failure>,
    /// Why not everybody is let in who should be, though all else stands.
    pub crowded: Option<Failure>,
    /// Openings that somebody else's entries make.
    pub foreign: BTreeSet<Opening>,
    /// The sessions that are admitted by their four numbers from then on.
    pub admitted: BTreeSet<Session>,
    /// What of ours is in the administrator's tables from then on.
    pub lent: BTreeSet<(Table, Network)>,
}

impl Plan {
    /// The batch; empty: nothing is to be done. Who is let in is so before the guards arrive,
    /// and running sessions are admitted before any rule that may hold them goes.
    pub fn batch(&self) -> Batch {
        let mut batch = Batch::default();
        for part in [
            &self.tables,
            &self.flows,
            &self.entries,
            &self.passes,
            &self.guards,
            &self.rebuilt,
            &self.deletions,
            &self.leaving,
            &self.destroyed,
        ] {
            batch.append(part);
        }
        batch
    }
}

/// Makes the plan.
pub fn make(found: &Found, wanted: &Wanted) -> Plan {
    let mut plan = Plan::default();
    for (number, lines) in &found.rules {
        for line in lines.iter().filter(|line| !line.is_ours()) {
            plan.strangers.push(format!(
                "rule {number:05} of set 31 ({}) is not ours: left alone",
                shown(&line.text)
            ));
        }
    }
    entries::tables(found, wanted, &mut plan);
    rules(found, wanted, &mut plan);
    entries::entries(found, wanted, &mut plan);
    plan
}

/// Whether what stands at the numbers of the lasting rules is right.
pub fn rules_right(found: &Rules, layout: &Layout, canon: &Canon) -> bool {
    lasting(layout).iter().all(|(number, due)| {
        let lines = found.get(number).map_or(&[][..], Vec::as_slice);
        matches!(Verdict::of(lines, due, canon), Verdict::Right)
    })
}

/// The rules that stand as long as the doors, by number.
fn lasting(layout: &Layout) -> BTreeMap<u16, Vec<Due>> {
    let mut due: BTreeMap<u16, Vec<Due>> = BTreeMap::new();
    for rule in &layout.rules {
        due.entry(rule.number).or_default().push(Due::lasting(rule));
    }
    due
}

fn rules(found: &Found, wanted: &Wanted, plan: &mut Plan) {
    let mut due = lasting(wanted.layout);
    for (place, gate) in wanted.layout.gates() {
        leases(place, gate, &found.rules, wanted, &mut due, plan);
    }
    let mut numbers: BTreeSet<u16> = due.keys().copied().collect();
    let ours = |lines: &Vec<Line>| lines.iter().any(Line::is_ours);
    numbers.extend(found.rules.iter().filter(|(_, l)| ours(l)).map(|(n, _)| n));
    let mut stale = Vec::new();
    for number in numbers {
        let due = due.remove(&number).unwrap_or_default();
        let lines = found.rules.get(&number).map_or(&[][..], Vec::as_slice);
        let verdict = Verdict::of(lines, &due, wanted.canon);
        if let (true, false) = (wanted.known, matches!(verdict, Verdict::Right)) {
            told(number, lines, &due, wanted, plan);
        }
        let guards = due.iter().any(|due| stands_with_guards(due.comment()));
        match verdict {
            Verdict::Right => continue,
            Verdict::Blocked(line) => {
                plan.problems.push(blocked(number, line));
                continue;
            }
            Verdict::Add(missing) => {
                let part = match guards {
                    true => &mut plan.guards,
                    false => &mut plan.passes,
                };
                missing.iter().for_each(|due| part.add(&due.rule));
            }
            Verdict::Anew if due.is_empty() => {
                stale.push((!lines.iter().any(|l| l.comment() == GUARD), number));
            }
            Verdict::Anew => {
                let part = match guards {
                    true => &mut plan.guards,
                    false => &mut plan.rebuilt,
                };
                part.delete(number);
                due.iter().for_each(|due| part.add(&due.rule));
            }
        }
        plan.rules_change = true;
        if !due.is_empty() {
            plan.made.insert(number, due);
        }
    }
    // Guards first: what they let through meanwhile would be let through in the end.
    stale.sort_unstable();
    for (_, number) in stale {
        plan.deletions.delete(number);
    }
}

/// What is to be done about one number.
#[derive(Debug, PartialEq, Eq)]
enum Verdict<'a> {
    Right,
    /// These are added behind what stands.
    Add(Vec<&'a Due>),
    /// All of it is deleted, and what is due made.
    Anew,
    /// It would have to be, but for this line that is not ours.
    Blocked(&'a Line),
}

impl<'a> Verdict<'a> {
    fn of(lines: &'a [Line], due: &'a [Due], canon: &Canon) -> Verdict<'a> {
        let ours = || lines.iter().filter(|line| line.is_ours());
        let mut extra: Vec<&str> = ours().map(|line| line.text.as_str()).collect();
        let mut missing = Vec::new();
        for due in due {
            let listed = canon.listed(due);
            match extra.iter().position(|text| *text == listed) {
                Some(place) => drop(extra.remove(place)),
                None => missing.push(due),
            }
        }
        let guard_stands = ours().any(|line| line.comment() == GUARD);
        let mut behind_guard = ours().skip_while(|line| line.comment() != GUARD);
        let orderly = behind_guard.all(|line| line.comment() == GUARD);
        let behind = !guard_stands || missing.iter().all(|due| due.comment() == GUARD);
        if !(extra.is_empty() && orderly && behind) {
            match lines.iter().find(|line| !line.is_ours()) {
                Some(line) => Verdict::Blocked(line),
                None => Verdict::Anew,
            }
        } else if missing.is_empty() {
            Verdict::Right
        } else {
            Verdict::Add(missing)
        }
    }
}

/// Whether a rule with this comment comes and goes with guards.
pub fn stands_with_guards(comment: &str) -> bool {
    [GUARD, RUNNING, ALWAYS].contains(&comment)
}

/// A number whose rules would have to be deleted but for this one.
pub fn blocked(number: u16, line: &Line) -> Failure {
    Failure::Unexpected(format!(
        "ipfw: rule {number:05} of set 31 ({}) is not postern's and stands at a number at which \
         postern's rules must be deleted, which would delete it as well: give it another number \
         or another set",
        shown(&line.text)
    ))
}

/// In words, what of one number is not as it was made. Openings are told of elsewhere.
fn told(number: u16, lines: &[Line], due: &[Due], wanted: &Wanted, plan: &mut Plan) {
    let before = plan.mended.len();
    let listed = |due: &Due| wanted.canon.listed(due);
    for due in due {
        let comment = due.comment();
        if lines.iter().any(|line| line.text == listed(due)) {
            continue;
        }
        if lines.iter().any(|line| line.comment() == comment) {
            let rule = format!("rule {number:05} \"{comment}\" was changed: made anew");
            plan.mended.push(rule);
        } else if !due.is_lease() {
            let rule = format!("rule {number:05} \"{comment}\" was gone: made anew");
            plan.mended.push(rule);
        }
    }
    for line in lines.iter().filter(|line| line.is_ours()) {
        let comment = line.comment();
        if !due.iter().any(|due| due.comment() == comment) && line.lease().is_none() {
            let rule = format!("rule {number:05} {comment:?} was added: taken away");
            plan.mended.push(rule);
        }
    }
    let leases = due.iter().any(Due::is_lease) || lines.iter().any(|l| l.lease().is_some());
    if plan.mended.len() == before && !leases {
        plan.mended.push(format!(
            "rules {number:05} stood in another order or twice: made anew"
        ));
    }
}

/// The rules of one door's openings: each stays at its number, or gets the lowest free one.
fn leases(
    door: u16,
    gate: &Gate,
    found: &Rules,
    wanted: &Wanted,
    due: &mut BTreeMap<u16, Vec<Due>>,
    plan: &mut Plan,
) {
    let By::Rules { range, forms } = &gate.by else {
        return;
    };
    let mut stand = standing(gate, found);
    let (mut put_back, mut put_out, mut set_right) = (Vec::new(), Vec::new(), Vec::new());
    let (mut twice, mut homeless) = (Vec::new(), Vec::new());
    let mut made = |number, address, until| {
        let rules = forms.iter().map(|f| Due::lease(number, f, address, until));
        due.insert(number, rules.collect());
    };
    for (opening, &end) in wanted.ends.range(all_of(door)) {
        let address = opening.address;
        let rules = stand.remove(&address).unwrap_or_default();
        let right = rules.iter().find(|(_, until)| about(*until, end));
        match right.or(rules.first()) {
            Some(&(number, until)) => {
                made(number, address, if right.is_some() { until } else { end });
                if right.is_none() {
                    set_right.push(address);
                }
                if rules.iter().any(|(other, _)| *other != number) {
                    twice.push(address);
                }
            }
            None => homeless.push((address, end)),
        }
    }
    for (address, rules) in stand {
        // One that is over is nothing to speak of.
        if rules.iter().any(|(_, until)| *until > wanted.now + 1) {
            put_out.push(address);
        }
    }
    let mut free = range.clone().filter(|number| !found.contains_key(number));
    for (address, end) in homeless {
        match free.next() {
            Some(number) => {
                made(number, address, end);
                if end > wanted.now + 1 {
                    put_back.push(address);
                }
            }
            None => plan.crowded = Some(range_full(gate)),
        }
    }
    let name = &gate.name;
    plan.tell(name, "openings were missing, put back", put_back);
    plan.tell(name, "openings stood without a lease, taken away", put_out);
    let what = "openings ended at another time than their leases, set right";
    plan.tell(name, what, set_right);
    plan.tell(name, "openings stood twice, once taken away", twice);
}

/// Where rules let addresses in for this door, and until when.
pub fn standing(gate: &Gate, found: &Rules) -> BTreeMap<Network, Vec<(u16, u32)>> {
    let mut stand: BTreeMap<Network, Vec<(u16, u32)>> = BTreeMap::new();
    let By::Rules { range, .. } = &gate.by else {
        return stand;
    };
    for (&number, lines) in found.range(range.clone()) {
        for (name, address, until) in lines.iter().filter_map(Line::lease) {
            if name == gate.name.as_str() {
                let at = stand.entry(address).or_default();
                // A door of several protocols has several rules there.
                if at.iter().all(|(other, _)| *other != number) {
                    at.push((number, until));
                }
            }
        }
    }
    stand
}

/// A door whose range has no number left.
pub fn range_full(gate: &Gate) -> Failure {
    let range = match &gate.by {
        By::Rules { range, .. } => format!("{}-{}", range.start(), range.end()),
        By::Table(_) => String::new(),
    };
    Failure::Unexpected(format!(
        "door {}: no number of rules = \"{range}\" is free in set 31: widen it, or lower max_leases",
        gate.name
    ))
}

/// Whether an end is as good as another.
pub fn about(end: u32, other: u32) -> bool {
    end.abs_diff(other) <= ABOUT
}

impl Plan {
    /// Remembers in words what was done about addresses, if there are any.
    pub fn tell<T: ToString>(&mut self, door: &Name, what: &str, addresses: Vec<T>) {
        if !addresses.is_empty() {
            let who = some_of(&addresses);
            self.mended.push(format!("door {door}: {what}: {who}"));
        }
    }
}

/// What somebody else wrote, fit for a log line.
fn shown(text: &str) -> String {
    const MOST: usize = 80;
    let text = text.replace(|c: char| c.is_control(), "?");
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
