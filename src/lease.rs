//! Grants and time -> which openings to make, extend, close.
//!
//! A clock that steps back does no harm: an end once given is never brought forward by it, and
//! a lease lasts as long as its door allows by the clock of its grant.

#![forbid(unsafe_code)]

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use crate::time::Time;

/// What a door allows its leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long a lease lasts; `None`: grants of this door make no lease.
    pub open_for: Option<Duration>,
    /// How many there may be at once. With 0 nobody is let in.
    pub max_leases: usize,
}

/// A grant in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The door, by its place in the configuration.
    pub door: u16,
    /// Who may enter.
    pub address: IpAddr,
    /// When it was first granted.
    pub since: Time,
    /// When it ends.
    pub until: Time,
}

/// What is to be done to the packet filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The door, by its place in the configuration.
    pub door: u16,
    /// The address concerned.
    pub address: IpAddr,
    /// What to do.
    pub act: Act,
}

/// See [`Change`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Let in until then; `None` where the door has no lease.
    Open {
        /// The end.
        until: Option<Time>,
    },
    /// Already let in: only the end moves, and never to an earlier time.
    Extend {
        /// The new end.
        until: Time,
    },
    /// Let in no more.
    Close(Why),
}

/// Why a lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its time was up.
    Due,
    /// The door had `max_leases` and this one was nearest its end.
    GaveWay,
    /// The administrator closed it.
    Asked,
    /// The door was taken out of the configuration, or has no leases there any more.
    Removed,
}

/// The leases of all doors.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    terms: Vec<Terms>,
    all: HashMap<(u16, IpAddr), Lease>,
    /// All, by end.
    ends: BTreeSet<(Time, u16, IpAddr)>,
    /// All, by door and then by end.
    doors: BTreeSet<(u16, Time, IpAddr)>,
    /// How many each door has.
    counts: Vec<usize>,
}

impl Leases {
    /// No leases, under these terms, one per door by its place.
    pub fn new(terms: Vec<Terms>) -> Leases {
        Leases {
            counts: vec![0; terms.len()],
            terms,
            ..Leases::default()
        }
    }

    /// Puts back a lease read from the journal, to end no later than one granted `now`. One
    /// that is over by `now`, or whose door is none or has no leases, is not put back and
    /// `false` is returned. Of two for one address at a door the later end holds.
    ///
    /// A door may so have more leases than `max_leases` if that has been lowered; with the next
    /// grant those over the limit give way.
    pub fn restore(&mut self, lease: Lease, now: Time) -> bool {
        let terms = self.terms.get(usize::from(lease.door));
        let Some(open_for) = terms.and_then(|t| t.open_for) else {
            return false;
        };
        let until = lease.until.min(now + open_for);
        if until <= now {
            return false;
        }
        let since = lease.since.min(now);
        self.put(Lease {
            since,
            until,
            ..lease
        });
        true
    }

    /// A grant at `now`: the opening or the extension, and before an opening the leases that
    /// give way for it (one, unless `max_leases` has been lowered). Nothing comes of a grant at
    /// a door that is none.
    pub fn grant(&mut self, door: u16, address: IpAddr, now: Time, mut out: impl FnMut(Change)) {
        let Some(&terms) = self.terms.get(usize::from(door)) else {
            return;
        };
        let change = |act| Change { door, address, act };
        let Some(open_for) = terms.open_for else {
            return out(change(Act::Open { until: None }));
        };
        let until = now + open_for;
        if let Some(known) = self.get(door, address).copied() {
            let until = until.max(known.until);
            self.put(Lease { until, ..known });
            return out(change(Act::Extend { until }));
        }
        if terms.max_leases == 0 {
            return;
        }
        self.give_way(door, terms.max_leases - 1, &mut out);
        self.put(Lease {
            door,
            address,
            since: now,
            until,
        });
        out(change(Act::Open { until: Some(until) }));
    }

    /// Ends the leases that are due at `now`, earliest first, giving each with its end.
    pub fn due(&mut self, now: Time, mut out: impl FnMut(Time, Change)) {
        while let Some(&(until, door, address)) = self.ends.first()
            && until <= now
        {
            self.take(door, address);
            let act = Act::Close(Why::Due);
            out(until, Change { door, address, act });
        }
    }

    /// Ends the leases of an address, at one door or at all, in the order of doors.
    pub fn close(&mut self, address: IpAddr, door: Option<u16>, mut out: impl FnMut(Change)) {
        let doors = match door {
            Some(door) => door..=door,
            None => 0..=u16::MAX,
        };
        for door in doors.take(self.terms.len()) {
            if self.take(door, address).is_some() {
                let act = Act::Close(Why::Asked);
                out(Change { door, address, act });
            }
        }
    }

    /// When [`Leases::due`] has something to do next.
    pub fn next_end(&self) -> Option<Time> {
        self.ends.first().map(|first| first.0)
    }

    /// One lease.
    pub fn get(&self, door: u16, address: IpAddr) -> Option<&Lease> {
        self.all.get(&(door, address))
    }

    /// All leases, by door and then by end.
    pub fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.doors
            .iter()
            .filter_map(|&(door, _, address)| self.get(door, address))
    }

    /// Takes over the leases under a new configuration's terms at `now`. `map` gives the new
    /// place of a door, by its old one.
    ///
    /// What is returned is to be closed, with the doors as they were numbered before: the
    /// leases of doors that are no more ([`Why::Removed`]) and those over a lowered
    /// `max_leases`, nearest their end first ([`Why::GaveWay`]). The others keep their end,
    /// but none may last longer than one granted `now`: where `open_for` has become shorter
    /// than what remains, the lease is cut to it. [`Leases::iter`] tells the ends that hold.
    pub fn remap(
        &mut self,
        terms: Vec<Terms>,
        now: Time,
        map: impl Fn(u16) -> Option<u16>,
    ) -> Vec<Change> {
        let mut new = Leases::new(terms);
        let mut old_doors = HashMap::new();
        let mut closed = Vec::new();
        for lease in self.iter() {
            let place = map(lease.door).filter(|&place| {
                let terms = new.terms.get(usize::from(place));
                terms.is_some_and(|t| t.open_for.is_some())
            });
            let Some(door) = place else {
                closed.push(Change {
                    door: lease.door,
                    address: lease.address,
                    act: Act::Close(Why::Removed),
                });
                continue;
            };
            let open_for = new.terms[usize::from(door)].open_for.unwrap_or_default();
            let until = lease.until.min(now + open_for);
            new.put(Lease {
                door,
                until,
                ..*lease
            });
            let old: &mut Vec<u16> = old_doors.entry((door, lease.address)).or_default();
            old.push(lease.door);
        }
        for door in (0..=u16::MAX).take(new.terms.len()) {
            let most = new.terms[usize::from(door)].max_leases;
            new.give_way(door, most, |change| {
                let old = old_doors.get(&(change.door, change.address));
                let old = old.into_iter().flatten();
                closed.extend(old.map(|&door| Change { door, ..change }));
            });
        }
        *self = new;
        closed
    }

    /// Closes those nearest their end until a door has no more than `most`.
    fn give_way(&mut self, door: u16, most: usize, mut out: impl FnMut(Change)) {
        while self.counts[usize::from(door)] > most {
            let from = (door, Time(0), IpAddr::from([0, 0, 0, 0]));
            let Some(&(_, _, address)) = self.doors.range(from..).next() else {
                return;
            };
            self.take(door, address);
            let act = Act::Close(Why::GaveWay);
            out(Change { door, address, act });
        }
    }

    /// Puts a lease in; where there is one already it gets the later end and the earlier
    /// beginning of both. The door must be one.
    fn put(&mut self, mut lease: Lease) {
        if let Some(known) = self.take(lease.door, lease.address) {
            lease.since = lease.since.min(known.since);
            lease.until = lease.until.max(known.until);
        }
        let Lease {
            door,
            address,
            until,
            ..
        } = lease;
        self.all.insert((door, address), lease);
        self.ends.insert((until, door, address));
        self.doors.insert((door, until, address));
        self.counts[usize::from(door)] += 1;
    }

    fn take(&mut self, door: u16, address: IpAddr) -> Option<Lease> {
        let lease = self.all.remove(&(door, address))?;
        self.ends.remove(&(lease.until, door, address));
        self.doors.remove(&(door, lease.until, address));
        self.counts[usize::from(door)] -= 1;
        Some(lease)
    }
}
