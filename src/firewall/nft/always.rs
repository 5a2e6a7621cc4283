//! The sets of the networks that pass every guard.

use crate::config::Network;

use super::super::filter::some_of;
use super::ALWAYS_4;
use super::elements::{Verb, change, lasting, plain};
use super::plan::{Plan, Wanted};
use super::script::{Name, Script};
use super::table::{Key, Set};

/// One set of the networks that pass every guard: they and no others.
pub fn set(
    name: &'static str,
    set: Option<&Set>,
    known: bool,
    wanted: &Wanted,
    plan: &mut Plan,
    script: &mut Script,
) {
    let nobody = Set::default();
    let set = set.unwrap_or(&nobody);
    let here: Vec<Network> = wanted
        .layout
        .always
        .iter()
        .filter(|network| network.address().is_ipv4() == (name == ALWAYS_4))
        .copied()
        .collect();
    if here.is_empty() {
        return; // nor is there a set then
    }
    let keys: Vec<Key> = here.iter().map(|&network| key_of(network)).collect();
    let out: Vec<Key> = set.elements.keys().copied().collect();
    let out: Vec<Key> = out.into_iter().filter(|key| !keys.contains(key)).collect();
    // The kernel takes no overlaps, and what somebody else put in is not ours to take out.
    let taken = |network: &Network| {
        let mut foreign = set.foreign.iter();
        foreign.any(|&key| network_of(key).is_some_and(|other| overlap(network, &other)))
    };
    let missing: Vec<Network> = here
        .into_iter()
        .filter(|&network| !set.elements.contains_key(&key_of(network)) && !taken(&network))
        .collect();
    if !out.is_empty() {
        let leaving = out.iter().map(|&key| plain(key));
        change(Verb::Delete, &Name::fixed(name), leaving, script);
    }
    if !missing.is_empty() {
        let entries = missing.iter().map(|&network| lasting(key_of(network)));
        change(Verb::Add, &Name::fixed(name), entries, script);
    }
    let out: Vec<Network> = out.into_iter().filter_map(network_of).collect();
    for (networks, what) in [
        (missing, "networks were missing, put back"),
        (out, "networks stood that should not, taken away"),
    ] {
        if known && !networks.is_empty() {
            let who = some_of(&networks);
            plan.mended.push(format!("always: {what}: {who}"));
        }
    }
}

fn network_of(key: Key) -> Option<Network> {
    match key {
        Key::Network(network) => Some(network),
        Key::Address(address) => address.to_string().parse().ok(),
        Key::Session(_) => None,
    }
}

fn overlap(a: &Network, b: &Network) -> bool {
    a.contains(b.address()) || b.contains(a.address())
}

/// What a set of networks knows this one by.
fn key_of(network: Network) -> Key {
    match network.is_host() {
        true => Key::Address(network.address()),
        false => Key::Network(network),
    }
}
