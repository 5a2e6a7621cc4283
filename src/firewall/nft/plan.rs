//! What stands and what should -> the one transaction that makes the one into the other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::super::filter::{all_of, some_of};
use super::super::sessions::Session;
use super::super::{Failure, Opening};
use super::always;
use super::elements::{Verb, admit, change, entry, plain, running_set};
use super::layout::{Gate, Layout};
use super::script::{Name, Script};
use super::sets::Kind;
use super::table::{Element, Key, Rule, Set, Table};
use super::{ALWAYS_4, ALWAYS_6, CHAIN, GUARD, RUNNING_4, RUNNING_6, TABLE};

/// What should stand.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// Sets and rules.
    pub layout: &'a Layout,
    /// Who is let in, and how much longer.
    pub openings: &'a BTreeMap<Opening, Duration>,
    /// How long ago, at most, the table was read.
    pub slack: Duration,
    /// The sessions running at guarded ports; `None`: not known.
    pub sessions: Option<&'a BTreeSet<Session>>,
    /// Those that we admitted by their four numbers.
    pub admitted: &'a BTreeSet<Session>,
    /// Our rules as they were read back when they had been made; `None`: not known, so that
    /// they are made anew.
    pub standing: Option<&'a [Rule]>,
}

/// How to get there.
#[derive(Debug, Default)]
pub struct Plan {
    /// The transaction; empty: nothing is to be done.
    pub script: Script,
    /// Whether it makes the rules anew.
    pub rules_anew: bool,
    /// What was not as it should be, in words.
    pub mended: Vec<String>,
    /// Openings that somebody else's elements make.
    pub foreign: BTreeSet<Opening>,
    /// The sessions that are admitted by their four numbers from then on.
    pub admitted: BTreeSet<Session>,
}

/// Makes the plan. `found`: the table as it stands, `None` if there is none.
pub fn make(found: Option<&Table>, wanted: &Wanted) -> Result<Plan, Failure> {
    let gone = found.is_none();
    let nothing = Table::default();
    let found = found.unwrap_or(&nothing);
    let kinds = Kind::all(wanted.layout);
    let known = wanted.standing.is_some();
    let mut plan = Plan::default();
    let mut told = Vec::new();

    if gone {
        told.push(format!("table inet {TABLE} was gone: made anew"));
    } else if found.flagged {
        told.push(format!(
            "table inet {TABLE} was made dormant: in force again"
        ));
    }
    let chain_right = found.chain.as_ref().is_some_and(|chain| chain.hooked);
    let policy_right = found.chain.as_ref().is_some_and(|chain| chain.accepts);
    match &found.chain {
        _ if gone => {}
        None => told.push(format!("chain {CHAIN} was gone: made anew")),
        Some(chain) if !chain.hooked => {
            told.push(format!("chain {CHAIN} was hooked in elsewhere: made anew"));
        }
        Some(chain) if !chain.accepts => {
            told.push(format!("chain {CHAIN}: policy was changed: accept again"));
        }
        Some(_) => {}
    }
    let (wrong, missing): (Vec<&Kind>, Vec<&Kind>) = kinds
        .iter()
        .filter(|kind| {
            !found
                .sets
                .get(kind.name.as_str())
                .is_some_and(|set| kind.is(set))
        })
        .partition(|kind| found.sets.contains_key(kind.name.as_str()));
    if !gone {
        told.extend(
            wrong
                .iter()
                .map(|kind| format!("set {} was changed: made anew", kind.name)),
        );
        told.extend(
            missing
                .iter()
                .map(|kind| format!("set {} was gone: made anew", kind.name)),
        );
    }
    if let (Some(standing), false) = (wanted.standing, gone) {
        told.extend(differences(standing, &found.rules));
    }
    let rules_right = wanted.standing.is_some_and(|standing| {
        standing.len() == found.rules.len()
            && standing.iter().zip(&found.rules).all(|(a, b)| same(a, b))
    });
    plan.rules_anew =
        gone || !chain_right || !wrong.is_empty() || !missing.is_empty() || !rules_right;
    if known {
        plan.mended = told;
    }

    let mut script = Script::default();
    if plan.rules_anew {
        delete_rules(found, &mut script);
    }
    if found.chain.is_some() && !chain_right {
        if found.foreign_in_chain {
            return Err(in_the_way(format!("chain {CHAIN}"), "chain", CHAIN));
        }
        script.line(&[&"delete chain inet ", &TABLE, &" ", &CHAIN]);
    }
    for kind in &wrong {
        let name = kind.name.as_str();
        let set = &found.sets[name];
        if !set.ours || set.has_foreign() || found.foreign_rule_names(name) {
            return Err(in_the_way(format!("set {name}"), "set", name));
        }
        script.line(&[&"delete set inet ", &TABLE, &" ", &kind.name]);
    }
    for (name, set) in found.sets.iter().filter(|(_, set)| set.ours) {
        if let (Some(name), false) = (
            Name::new(name),
            kinds.iter().any(|kind| kind.name.as_str() == name),
        ) {
            take_away(&name, set, found, &mut script);
        }
    }
    for kind in kinds.iter().filter(|kind| {
        let at = kind.name.as_str();
        missing
            .iter()
            .chain(&wrong)
            .any(|other| other.name.as_str() == at)
    }) {
        kind.add(&mut script);
    }
    if !chain_right || !policy_right {
        script.line(&[
            &"add chain inet ",
            &TABLE,
            &" ",
            &CHAIN,
            &" { type filter hook input priority -10; policy accept; }",
        ]);
    }
    for (place, gate) in wanted.layout.gates() {
        for set in gate.sets() {
            let rebuilt = wrong.iter().any(|kind| kind.name == *set);
            let found = found.sets.get(set.as_str()).filter(|_| !rebuilt);
            openings(place, gate, set, found, wanted, &mut plan, &mut script);
        }
    }
    let rebuilt = |name: &str| wrong.iter().any(|kind| kind.name.as_str() == name);
    for name in [RUNNING_4, RUNNING_6] {
        let set = found.sets.get(name).filter(|_| !rebuilt(name));
        sessions(name, set, known, wanted, &mut plan, &mut script);
    }
    for name in [ALWAYS_4, ALWAYS_6] {
        let set = found.sets.get(name).filter(|_| !rebuilt(name));
        always::set(name, set, known, wanted, &mut plan, &mut script);
    }
    if plan.rules_anew {
        for rule in &wanted.layout.rules {
            script.line(&[&rule.text]);
        }
    }
    if !script.is_empty() || found.flagged {
        plan.script = Script::of(&[&"add table inet ", &TABLE, &"\n", &script]);
    }
    Ok(plan)
}

/// What takes away all of ours and nothing else.
pub fn removal(found: &Table) -> Script {
    let mut script = Script::default();
    if found.strangers.is_empty() && !found.kernel {
        script.line(&[&"delete table inet ", &TABLE]);
        return script;
    }
    delete_rules(found, &mut script);
    if found.chain.as_ref().is_some_and(|chain| chain.hooked) && !found.foreign_in_chain {
        script.line(&[&"delete chain inet ", &TABLE, &" ", &CHAIN]);
    }
    for (name, set) in found.sets.iter().filter(|(_, set)| set.ours) {
        if let Some(name) = Name::new(name) {
            take_away(&name, set, found, &mut script);
        }
    }
    script
}

/// What takes away the guards and nothing else, and which those are.
pub fn unguarding(found: &Table) -> (Script, Vec<String>) {
    let guards = found.rules.iter().filter_map(|rule| {
        let guard = rule.comment.strip_prefix("postern: ")?;
        guard.starts_with(GUARD).then_some((rule, guard))
    });
    let mut script = Script::default();
    let mut taken = Vec::new();
    for (rule, guard) in guards {
        delete_rule(rule, &mut script);
        taken.push(format!("nft: {}", guard.escape_debug()));
    }
    (script, taken)
}

fn delete_rules(found: &Table, script: &mut Script) {
    for rule in &found.rules {
        delete_rule(rule, script);
    }
}

fn delete_rule(rule: &Rule, script: &mut Script) {
    script.line(&[
        &"delete rule inet ",
        &TABLE,
        &" ",
        &CHAIN,
        &" handle ",
        &rule.handle,
    ]);
}

/// Takes a set of ours away, or what is ours in it if somebody else uses it.
fn take_away(name: &Name, set: &Set, found: &Table, script: &mut Script) {
    if !set.has_foreign() && !found.foreign_rule_names(name.as_str()) {
        script.line(&[&"delete set inet ", &TABLE, &" ", name]);
    } else if !set.elements.is_empty() {
        change(
            Verb::Delete,
            name,
            set.elements.keys().map(|&key| plain(key)),
            script,
        );
    }
}

fn in_the_way(what: String, kind: &str, name: &str) -> Failure {
    Failure::Unexpected(format!(
        "table inet {TABLE}: {what} is not as postern needs it and somebody else's rules or \
         elements are tied to it: take them away, or it (nft delete {kind} inet {TABLE} {name})"
    ))
}

fn same(a: &Rule, b: &Rule) -> bool {
    a.comment == b.comment && a.does == b.does
}

fn differences(standing: &[Rule], found: &[Rule]) -> Vec<String> {
    let mut words = Vec::new();
    for rule in standing {
        let comment = &rule.comment;
        let mut alike = found
            .iter()
            .filter(|other| other.comment == *comment)
            .peekable();
        if alike.peek().is_none() {
            words.push(format!("rule \"{comment}\" was gone: made anew"));
        } else if !alike.any(|other| same(rule, other)) {
            words.push(format!("rule \"{comment}\" was changed: made anew"));
        }
    }
    for rule in found {
        if !standing.iter().any(|other| same(rule, other)) {
            let comment = &rule.comment;
            if !standing.iter().any(|other| other.comment == *comment) {
                words.push(format!("rule {comment:?} was added: taken away"));
            }
        }
    }
    let orderly =
        standing.len() == found.len() && standing.iter().zip(found).all(|(a, b)| same(a, b));
    if words.is_empty() && !orderly {
        words.push("rules stood in another order or twice: made anew".to_owned());
    }
    words
}

/// One set of a door: who is missing is let in, who should not be there is put out.
fn openings(
    door: u16,
    gate: &Gate,
    name: &Name,
    set: Option<&Set>,
    wanted: &Wanted,
    plan: &mut Plan,
    script: &mut Script,
) {
    let nobody = Set::default();
    let set = set.unwrap_or(&nobody);
    plan.foreign.extend(set.foreign.iter().filter_map(|key| {
        let address = gate.lets_in(name, *key)?;
        Some(Opening { door, address })
    }));
    let (mut out, mut enter) = (Vec::new(), Vec::new());
    let (mut put_out, mut put_back, mut set_right) = (Vec::new(), Vec::new(), Vec::new());
    for (&key, element) in &set.elements {
        let Some(address) = gate.lets_in(name, key) else {
            continue;
        };
        if !wanted.openings.contains_key(&Opening { door, address }) {
            out.push(address);
            // One that is about to end by itself is nothing to speak of.
            if element.expires.is_none_or(|left| left > 1) {
                put_out.push(address);
            }
        }
    }
    for (opening, &remaining) in wanted.openings.range(all_of(door)) {
        let address = opening.address;
        if gate.set(address) != Some(name) {
            continue;
        }
        if plan.foreign.contains(opening) {
            continue;
        }
        match set.elements.get(&Key::Address(address.address())) {
            Some(element) if about(*element, remaining, wanted.slack) => continue,
            Some(_) => {
                out.push(address);
                set_right.push(address);
            }
            // Adding alone would make it neither ours nor end with the lease.
            None if set.kernels.contains(&Key::Address(address.address())) => out.push(address),
            None if remaining > Duration::from_millis(1500) => put_back.push(address),
            None => {}
        }
        enter.push(entry(address.address(), remaining));
    }
    if !out.is_empty() {
        // Made to stand, whether it has ended by itself since it was read or not, so that
        // deleting it cannot fail.
        let stand = out.iter().map(|a| entry(a.address(), Duration::ZERO));
        change(Verb::Add, name, stand, script);
        change(
            Verb::Delete,
            name,
            out.into_iter().map(|a| plain(Key::Address(a.address()))),
            script,
        );
    }
    if !enter.is_empty() {
        change(Verb::Add, name, enter, script);
    }
    for (addresses, what) in [
        (put_back, "openings were missing, put back"),
        (put_out, "openings stood without a lease, taken away"),
        (
            set_right,
            "openings ended at another time than their leases, set right",
        ),
    ] {
        if !addresses.is_empty() {
            plan.mended.push(format!(
                "door {}: {what}: {}",
                gate.name,
                some_of(&addresses)
            ));
        }
    }
}

/// One set of running sessions: who has ended is forgotten, who is missing is admitted.
fn sessions(
    name: &'static str,
    set: Option<&Set>,
    known: bool,
    wanted: &Wanted,
    plan: &mut Plan,
    script: &mut Script,
) {
    let nobody = Set::default();
    let set = set.unwrap_or(&nobody);
    let Some(running) = wanted.sessions else {
        plan.admitted.extend(wanted.admitted);
        return;
    };
    let (mut ended, mut missing) = (Vec::new(), Vec::new());
    for &key in set.elements.keys() {
        match key {
            Key::Session(session) if running.contains(&session) => {
                plan.admitted.insert(session);
            }
            _ => ended.push(plain(key)),
        }
    }
    for &session in running {
        let key = Key::Session(session);
        let here = running_set(session) == name;
        let due = plan.rules_anew || wanted.admitted.contains(&session);
        if here && due && !set.elements.contains_key(&key) && !set.foreign.contains(&key) {
            missing.push(session);
        }
    }
    if !ended.is_empty() {
        change(Verb::Delete, &Name::fixed(name), ended, script);
    }
    if !missing.is_empty() {
        if known {
            let who: Vec<SocketAddr> = missing.iter().map(|session| session.remote).collect();
            let who = some_of(&who);
            plan.mended.push(format!(
                "running sessions were missing, admitted again: {who}"
            ));
        }
        plan.admitted.extend(&missing);
        for edit in admit(&missing) {
            edit.line(script);
        }
    }
}

/// Whether an element ends within a second of when it should. nft tells whole seconds, rounded
/// down, and told them up to `slack` ago.
fn about(element: Element, remaining: Duration, slack: Duration) -> bool {
    let Some(expires) = element.expires else {
        return false;
    };
    let second = Duration::from_secs(1);
    let expires = Duration::from_secs(expires);
    (remaining + slack).saturating_add(second) >= expires
        && remaining < expires.saturating_add(2 * second)
}
