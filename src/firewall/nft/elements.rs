//! Elements of our sets: who is let in, and which sessions run.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::super::sessions::Session;
use super::super::{Opening, Order, What};
use super::layout::Layout;
use super::script::{Millis, Name, Script};
use super::table::Key;
use super::{MARK, RUNNING_4, RUNNING_6, TABLE};

/// What is done with elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// They stand from then on; one that stood already is no error.
    Add,
    /// They stand no more; that one did not stand is an error.
    Delete,
}

/// An element as it is made or named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    /// What it says.
    pub key: Key,
    /// How long it stands; `None`: it has no end.
    pub timeout: Option<Millis>,
    /// Whether it carries our mark.
    pub marked: bool,
}

/// A change of some elements of one set: a line of a script, or as much in messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// What is done.
    pub verb: Verb,
    /// The set.
    pub set: Name,
    /// Its elements.
    pub elements: Vec<Element>,
}

impl Element {
    fn text(&self) -> Script {
        let mut script = match self.key {
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
        };
        if let Some(timeout) = self.timeout {
            script.put(&[&" timeout ", &timeout]);
        }
        if self.marked {
            script.put(&[&" comment \"", &MARK, &"\""]);
        }
        script
    }
}

impl Edit {
    /// As a line of a script.
    pub fn line(&self, script: &mut Script) {
        let verb = match self.verb {
            Verb::Add => "add",
            Verb::Delete => "delete",
        };
        script.line(&[
            &verb,
            &" element inet ",
            &TABLE,
            &" ",
            &self.set,
            &" { ",
            &Script::list(self.elements.iter().map(Element::text)),
            &" }",
        ]);
    }
}

/// A line that adds or deletes elements.
pub fn change(
    verb: Verb,
    set: &Name,
    elements: impl IntoIterator<Item = Element>,
    script: &mut Script,
) {
    let edit = Edit {
        verb,
        set: set.clone(),
        elements: elements.into_iter().collect(),
    };
    edit.line(script);
}

/// Edits as a script.
pub fn script(edits: &[Edit]) -> Script {
    let mut script = Script::default();
    for edit in edits {
        edit.line(&mut script);
    }
    script
}

/// The set that a running session belongs to.
pub fn running_set(session: Session) -> &'static str {
    if session.remote.is_ipv4() {
        RUNNING_4
    } else {
        RUNNING_6
    }
}

/// An element without its properties.
pub fn plain(key: Key) -> Element {
    Element {
        key,
        timeout: None,
        marked: false,
    }
}

/// An element of ours without an end.
pub fn lasting(key: Key) -> Element {
    Element {
        marked: true,
        ..plain(key)
    }
}

/// An address, or the first one of a network, let in for so long.
pub fn entry(address: IpAddr, remaining: Duration) -> Element {
    Element {
        timeout: Some(Millis::from(remaining)),
        ..lasting(Key::Address(address))
    }
}

/// Admits sessions by their four numbers.
pub fn admit(sessions: &[Session]) -> Vec<Edit> {
    let mut edits = Vec::new();
    for name in [RUNNING_4, RUNNING_6] {
        let here = sessions
            .iter()
            .filter(|session| running_set(**session) == name);
        let elements: Vec<Element> = here
            .map(|&session| lasting(Key::Session(session)))
            .collect();
        if !elements.is_empty() {
            edits.push(Edit {
                verb: Verb::Add,
                set: Name::fixed(name),
                elements,
            });
        }
    }
    edits
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
) -> Vec<Edit> {
    /// What happens in one set.
    #[derive(Default)]
    struct Changes {
        /// Made to stand, whether it stood or not...
        first: Vec<Element>,
        /// ... so that deleting it cannot fail, ...
        delete: Vec<Element>,
        /// ... and, unless that was all, made anew.
        add: Vec<Element>,
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
            set.add.push(element);
        }
        set.first.push(element);
    }
    let mut edits = admit(&Vec::from_iter(left));
    for (set, changes) in changes {
        for (verb, elements) in [
            (Verb::Add, changes.first),
            (Verb::Delete, changes.delete),
            (Verb::Add, changes.add),
        ] {
            if !elements.is_empty() {
                edits.push(Edit {
                    verb,
                    set: set.clone(),
                    elements,
                });
            }
        }
    }
    edits
}
