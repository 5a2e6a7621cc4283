//! Tables and their entries: who is let in, who needs no knock, and which sessions run.

use std::net::SocketAddr;

use crate::config::{Network, bounds};

use super::super::filter::{all_of, some_of};
use super::super::{Failure, Opening};
use super::batch::{Holds, Table};
use super::layout::{By, Gate};
use super::listing::{Contents, Found};
use super::plan::{Plan, Wanted, about};

/// Makes the tables that are missing; says which cannot be used as they are.
pub fn tables(found: &Found, wanted: &Wanted, plan: &mut Plan) {
    for (table, holds) in &wanted.layout.tables {
        let kind = holds.kind().split(':').next().unwrap_or_default();
        match found.tables.get(table) {
            Some(contents) if contents.kind == kind => {}
            Some(contents) => plan.problems.push(Failure::Unexpected(format!(
                "ipfw: table {} is of type {}, not {kind}: take it away (ipfw {table} destroy), \
                 and before it the rules that name it",
                table.name(),
                contents.kind
            ))),
            None => {
                plan.tables.create(table, *holds);
                if wanted.known {
                    let name = table.name();
                    plan.mended
                        .push(format!("table {name} was gone: made anew"));
                }
            }
        }
    }
    for (_, gate) in wanted.layout.gates() {
        if let By::Table(table @ Table::Theirs(name)) = &gate.by
            && !found.tables.contains_key(table)
        {
            plan.problems.push(Failure::Unexpected(format!(
                "door {}: ipfw has no table {name}: make it (ipfw table {name} create type addr) \
                 and a rule that names it, where ipfw's other rules are made",
                gate.name
            )));
        }
    }
}

/// Makes the tables' entries what they should be.
pub fn entries(found: &Found, wanted: &Wanted, plan: &mut Plan) {
    let nothing = Contents::default();
    let contents = |table: &Table| found.tables.get(table).unwrap_or(&nothing);
    for (place, gate) in wanted.layout.gates() {
        if let By::Table(table) = &gate.by
            && usable(table, Holds::Addresses, found)
        {
            openings(place, gate, table, contents(table), wanted, plan);
        }
    }
    for (table, holds) in &wanted.layout.tables {
        if !usable(table, *holds, found) {
            continue;
        }
        if *table == Table::always() {
            always(table, contents(table), wanted, plan);
        } else if *table == Table::running() {
            sessions(table, contents(table), wanted, plan);
        }
    }
    for (table, address) in wanted.lent {
        let latest = wanted.layout.latest(table, *address, wanted.ends);
        if latest.is_none() && found.names.contains(table.name()) {
            plan.leaving.leave(table, *address);
        }
    }
    stale(found, wanted, plan);
}

/// Whether a table is of the right type, or will be made so.
fn usable(table: &Table, holds: Holds, found: &Found) -> bool {
    match (table, found.tables.get(table)) {
        (Table::Theirs(_), found) => found.is_some(),
        (Table::Ours(_), found) => {
            found.is_none_or(|contents| holds.kind().split(':').next() == Some(&contents.kind))
        }
    }
}

/// One door's table: who is missing is let in, who should not be there is put out. In the
/// administrator's table nothing is touched but what we have orders for.
fn openings(
    door: u16,
    gate: &Gate,
    table: &Table,
    contents: &Contents,
    wanted: &Wanted,
    plan: &mut Plan,
) {
    let (mut put_out, mut put_back, mut set_right) = (Vec::new(), Vec::new(), Vec::new());
    let mut strange = Vec::new();
    for (network, &end) in &contents.networks {
        let address = *network;
        let opening = Opening { door, address };
        if !is_lease(network, end) {
            strange.push(network.to_string());
            plan.foreign.insert(opening);
        } else if matches!(table, Table::Ours(_)) && !wanted.ends.contains_key(&opening) {
            plan.leaving.leave(table, address);
            // One that is over is nothing to speak of.
            if end > wanted.now + 1 {
                put_out.push(address);
            }
        }
    }
    for (opening, &end) in wanted.ends.range(all_of(door)) {
        let address = opening.address;
        if plan.foreign.contains(opening) {
            continue;
        }
        let end = match table {
            Table::Ours(_) => end,
            Table::Theirs(_) => {
                plan.lent.insert((table.clone(), address));
                let latest = wanted.layout.latest(table, address, wanted.ends);
                latest.unwrap_or(end)
            }
        };
        match contents.networks.get(&address) {
            Some(&stands) if about(stands, end) => continue,
            Some(_) => set_right.push(address),
            None if end > wanted.now + 1 => put_back.push(address),
            None => {}
        }
        plan.entries.enter(table, address, end);
    }
    if let Table::Ours(_) = table {
        strange.extend(contents.odd.iter().cloned());
        strangers(table, &strange, plan);
    }
    let name = &gate.name;
    plan.tell(name, "openings were missing, put back", put_back);
    plan.tell(name, "openings stood without a lease, taken away", put_out);
    let what = "openings ended at another time than their leases, set right";
    plan.tell(name, what, set_right);
}

/// Whether an entry can be of a lease: an address, or a network as doors with `prefix6` let in,
/// with an end.
pub fn is_lease(network: &Network, end: u32) -> bool {
    let leased = Network::of_knocker(network.address(), network.prefix()) == *network;
    let length = bounds::PREFIX6.contains(&usize::from(network.prefix()));
    end != 0 && (network.is_host() || (leased && length && network.address().is_ipv6()))
}

/// Who needs no knock: exactly whom the configuration names.
fn always(table: &Table, contents: &Contents, wanted: &Wanted, plan: &mut Plan) {
    let always = &wanted.layout.always;
    let missing: Vec<_> = always
        .iter()
        .filter(|network| !contents.networks.contains_key(network))
        .collect();
    let more: Vec<_> = contents
        .networks
        .keys()
        .filter(|network| !always.contains(network))
        .collect();
    for network in &missing {
        plan.entries.enter(table, **network, 0);
    }
    for network in &more {
        plan.leaving.leave(table, **network);
    }
    if wanted.known {
        for (networks, what) in [
            (missing, "addresses were missing, put back"),
            (
                more,
                "addresses stood that the configuration does not name, taken away",
            ),
        ] {
            if !networks.is_empty() {
                plan.mended
                    .push(format!("always: {what}: {}", some_of(&networks)));
            }
        }
    }
}

/// The running sessions: who has ended is forgotten, who is missing is admitted. All of them, also
/// those that have a state: a flush of anybody's keep-state rule takes every state with it, and
/// leaves no trace by which we could tell.
fn sessions(table: &Table, contents: &Contents, wanted: &Wanted, plan: &mut Plan) {
    strangers(table, &contents.odd, plan);
    let Some(running) = wanted.sessions else {
        plan.admitted.extend(wanted.admitted);
        return;
    };
    for session in &contents.sessions {
        match running.contains(session) {
            true => drop(plan.admitted.insert(*session)),
            false => plan.leaving.dismiss(table, session),
        }
    }
    let mut missing = Vec::new();
    for session in running {
        if plan.admitted.insert(*session) {
            plan.flows.admit(table, session);
            if wanted.admitted.contains(session) {
                missing.push(session.remote);
            }
        }
    }
    if wanted.known && !missing.is_empty() {
        let who = some_of::<SocketAddr>(&missing);
        plan.mended.push(format!(
            "running sessions were missing, admitted again: {who}"
        ));
    }
}

/// Tables of doors that are gone.
fn stale(found: &Found, wanted: &Wanted, plan: &mut Plan) {
    for (table, contents) in &found.tables {
        let Table::Ours(name) = table else { continue };
        if wanted.layout.tables.iter().any(|(other, _)| other == table) {
            continue;
        }
        let lines = || found.rules.values().flatten();
        let ours = lines().filter(|line| line.is_ours() && line.names(name));
        let named = contents.references > ours.count() || !plan.problems.is_empty();
        let fixed = [Table::always(), Table::running()].contains(table);
        let lease = |(network, end): &(&Network, &u32)| fixed || is_lease(network, **end);
        let (leases, strange): (Vec<_>, Vec<_>) = contents.networks.iter().partition(lease);
        if !named && strange.is_empty() && contents.odd.is_empty() {
            plan.destroyed.destroy(table);
            continue;
        }
        for (network, _) in leases {
            plan.leaving.leave(table, *network);
        }
        for session in &contents.sessions {
            plan.leaving.dismiss(table, session);
        }
        plan.strangers.push(format!(
            "table {name} is postern's, but somebody else's rules or entries are tied to it: \
             left alone"
        ));
    }
}

fn strangers(table: &Table, entries: &[String], plan: &mut Plan) {
    let name = table.name();
    match entries {
        [] => {}
        [one] => plan.strangers.push(format!(
            "table {name}: the entry {one} is not ours: left alone"
        )),
        many => plan.strangers.push(format!(
            "table {name}: {} entries are not ours: left alone: {}",
            many.len(),
            some_of(many)
        )),
    }
}
