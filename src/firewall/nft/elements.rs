//! Elements of our sets: who is let in, and which sessions run.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::super::sessions::Session;
use super::super::{Opening, Order, What};
use super::layout::Layout;
use super::script::{Millis, Name, Part, Script};
use super::table::Key;
use super::{RUNNING_4, RUNNING_6, TABLE};

/// What every element of ours carries.
pub const MARKED: &str = " comment \"postern:\"";

/// The set that a running session belongs to.
pub fn running_set(session: Session) -> &'static str {
    if session.remote.is_ipv4() {
        RUNNING_4
    } else {
        RUNNING_6
    }
}

/// An element without its properties.
pub fn plain(key: Key) -> Script {
    match key {
        Key::Address(address) => Script::of(&[&address]),
        Key::Network(network) => {
            Script::of(&[&network.address(), &"/", &u64::from(network.prefix())])
        }
        Key::Session(Session { local, remote }) => Script::of(&[
            &remote.ip(),
            &" . ",
            &remote.port(),
            &" . ",
            &local.ip(),
            &" . ",
            &local.port(),
        ]),
    }
}

/// An address, or the first one of a network, let in for so long.
pub fn entry(address: IpAddr, remaining: Duration) -> Script {
    Script::of(&[&address, &" timeout ", &Millis::from(remaining), &MARKED])
}

/// Admits sessions by their four numbers.
pub fn admit(sessions: &[Session], script: &mut Script) {
    for name in [RUNNING_4, RUNNING_6] {
        let here = sessions
            .iter()
            .filter(|session| running_set(**session) == name);
        let here: Vec<Script> = here.map(|&session| admission(session)).collect();
        if !here.is_empty() {
            change("add", &name, here, script);
        }
    }
}

fn admission(session: Session) -> Script {
    Script::of(&[&plain(Key::Session(session)), &MARKED])
}

/// The transaction that carries out orders, at most one for each opening. `stands`: whether we
/// know of an element that may still stand; adding alone would not move its end. `running`: the
/// sessions at guarded ports.
pub fn orders(
    layout: &Layout,
    orders: &[Order],
    foreign: &BTreeSet<Opening>,
    stands: impl Fn(&Opening) -> bool,
    running: &[Session],
) -> Script {
    /// What happens in one set.
    #[derive(Default)]
    struct Changes {
        /// Made to stand, whether it stood or not...
        first: Vec<Script>,
        /// ... so that deleting it cannot fail, ...
        delete: Vec<Script>,
        /// ... and, unless that was all, made anew.
        add: Vec<Script>,
    }
    let mut changes: BTreeMap<&Name, Changes> = BTreeMap::new();
    let mut left = BTreeSet::new();
    for Order { opening, what } in orders {
        let Some(gate) = layout.gate(opening.door) else {
            continue;
        };
        if *what == What::Close {
            left.extend(
                running
                    .iter()
                    .filter(|session| gate.holds(*opening, session)),
            );
        }
        if foreign.contains(opening) {
            continue;
        }
        // A network of another length than the door has now stands nowhere.
        let Some(set) = gate.set(opening.address) else {
            continue;
        };
        let address = opening.address.address();
        let set = changes.entry(set).or_default();
        let remaining = match *what {
            What::Open { remaining } => remaining,
            What::Extend { remaining } => Some(remaining),
            What::Close => None,
        };
        let element = entry(address, remaining.unwrap_or_default());
        if matches!(what, What::Open { .. }) && !stands(opening) {
            set.add.push(element);
            continue;
        }
        set.delete.push(plain(Key::Address(address)));
        if remaining.is_some() {
            set.add.push(element.clone());
        }
        set.first.push(element);
    }
    let mut script = Script::default();
    admit(&Vec::from_iter(left), &mut script);
    for (name, changes) in changes {
        for (verb, elements) in [
            ("add", changes.first),
            ("delete", changes.delete),
            ("add", changes.add),
        ] {
            if !elements.is_empty() {
                change(verb, name, elements, &mut script);
            }
        }
    }
    script
}

/// A line that adds or deletes elements.
pub fn change(
    verb: &'static str,
    set: &dyn Part,
    elements: impl IntoIterator<Item = Script>,
    script: &mut Script,
) {
    script.line(&[
        &verb,
        &" element inet ",
        &TABLE,
        &" ",
        set,
        &" { ",
        &Script::list(elements),
        &" }",
    ]);
}
