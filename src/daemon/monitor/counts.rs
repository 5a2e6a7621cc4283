//! Knocks granted and refused: at which doors, of which keys, and why.

use std::collections::HashMap;

use crate::daemon::control::{KeyView, Refusals};

/// What came of the knocks at a door, or of a key's packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) granted: u64,
    pub(super) refused: u64,
    /// Leases that gave way to others.
    pub(super) gave_way: u64,
}

/// Why a knock that was right is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Because {
    /// The door, or the key, has had too many.
    Allowance,
    /// It has been used before, or nobody knows that it has not.
    Spent,
    /// It comes too late, or too early.
    Late,
    /// Nobody can knock from there, or the key is not for it.
    Address,
    /// That it is used, or that somebody is let in, cannot be written down.
    Unwritten,
}

/// All of it since the monitor's start. The names are those of configurations.
#[derive(Debug, Default)]
pub(super) struct Counts {
    doors: HashMap<String, Count>,
    keys: HashMap<String, Count>,
    pub(super) granted: u64,
    pub(super) refused: Refusals,
}

impl Counts {
    /// A knock opens the door.
    pub(super) fn grant(&mut self, door: &str) {
        self.granted += 1;
        count(&mut self.doors, door).granted += 1;
    }

    /// A packet of the key's was right.
    pub(super) fn grant_key(&mut self, key: &str) {
        count(&mut self.keys, key).granted += 1;
    }

    /// A knock does not open the door.
    pub(super) fn refuse(&mut self, door: &str, because: Because) {
        count(&mut self.doors, door).refused += 1;
        self.add(because);
    }

    /// A packet of the key's opens nothing.
    pub(super) fn refuse_key(&mut self, key: &str, because: Because) {
        count(&mut self.keys, key).refused += 1;
        self.add(because);
    }

    /// A lease of the door's ended because there were `max_leases` and one more.
    pub(super) fn give_way(&mut self, door: &str) {
        count(&mut self.doors, door).gave_way += 1;
    }

    fn add(&mut self, because: Because) {
        let all = &mut self.refused;
        let count = match because {
            Because::Allowance => &mut all.allowance,
            Because::Spent => &mut all.spent,
            Because::Late => &mut all.late,
            Because::Address => &mut all.address,
            Because::Unwritten => &mut all.unwritten,
        };
        *count += 1;
    }

    /// What came of the knocks at this door.
    pub(super) fn door(&self, name: &str) -> Count {
        self.doors.get(name).copied().unwrap_or_default()
    }

    /// What came of this key's packets.
    pub(super) fn key(&self, name: &str) -> KeyView {
        let Count {
            granted, refused, ..
        } = self.keys.get(name).copied().unwrap_or_default();
        KeyView {
            name: name.into(),
            granted,
            refused,
        }
    }
}

fn count<'c>(counts: &'c mut HashMap<String, Count>, name: &str) -> &'c mut Count {
    counts.entry(name.to_owned()).or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_counted_where_it_belongs_and_once_in_all() {
        let mut counts = Counts::default();
        counts.grant("ssh");
        counts.grant_key("alice");
        counts.refuse("ssh", Because::Allowance);
        counts.refuse("ssh", Because::Spent);
        counts.refuse("web", Because::Address);
        counts.refuse_key("alice", Because::Late);
        counts.refuse_key("alice", Because::Unwritten);
        counts.give_way("web");
        let of = |granted, refused, gave_way| Count {
            granted,
            refused,
            gave_way,
        };
        assert_eq!(counts.door("ssh"), of(1, 2, 0));
        assert_eq!(counts.door("web"), of(0, 1, 1));
        assert_eq!(counts.door("none"), Count::default());
        let alice = counts.key("alice");
        assert_eq!((alice.granted, alice.refused), (1, 2));
        let refused = Refusals {
            allowance: 1,
            spent: 1,
            late: 1,
            address: 1,
            unwritten: 1,
        };
        assert_eq!((counts.granted, counts.refused), (1, refused));
        assert_eq!(counts.refused.total(), 5);
    }
}
