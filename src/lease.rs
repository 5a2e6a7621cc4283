//! Grants and time -> which openings to make, extend, close.
//!
//! A clock that steps back does no harm: an end once given is never brought forward by it, and
//! a lease lasts as long as its door allows by the clock of its grant.

#![forbid(unsafe_code)]

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use crate::config::Network;
use crate::time::Time;

pub mod idle;

/// What a door allows its leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long a lease lasts; `None`: grants of this door make no lease.
    pub open_for: Option<Duration>,
    /// How many there may be at once. With 0 nobody is let in.
    pub max_leases: usize,
    /// How long a lease goes on behind the traffic that was last seen; `None`: traffic makes no
    /// difference.
    pub idle: Option<Duration>,
    /// How many bits of an IPv6 address tell who is let in.
    pub prefix6: u8,
}

impl Terms {
    /// Whom a knock from this address lets in.
    pub fn lets_in(&self, address: IpAddr) -> Network {
        Network::of_knocker(address, self.prefix6)
    }

    /// The longest that a lease may have before it; `None`: there are no leases.
    fn longest(&self) -> Option<Duration> {
        Some(self.open_for?.max(self.idle.unwrap_or_default()))
    }

    /// Whether these let in by such a network.
    fn fit(&self, network: Network) -> bool {
        self.lets_in(network.address()) == network
    }
}

/// A grant in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The door, by its place in the configuration.
    pub door: u16,
    /// Who may enter: an address, or the IPv6 network of the one that knocked.
    pub address: Network,
    /// When it was first granted.
    pub since: Time,
    /// When it ends.
    pub until: Time,
    /// The key whose grant set its end, by its place in the configuration; `None`: a knock did.
    pub key: Option<u16>,
}

/// What a grant came by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct By {
    /// The key, by its place in the configuration; `None`: a sequence or a ping.
    pub key: Option<u16>,
    /// The longest that it may last; `None`: as the door has it. Traffic keeps it all the same.
    pub lasts: Option<Duration>,
}

/// What is to be done to the packet filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The door, by its place in the configuration.
    pub door: u16,
    /// Who is concerned.
    pub address: Network,
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
    /// The same, for there was traffic.
    Keep {
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
    /// The door lets in by IPv6 networks of another length.
    Prefix,
    /// The key was taken out of the configuration, or does not open the door any more.
    Revoked,
}

/// The leases of all doors.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    terms: Vec<Terms>,
    all: HashMap<(u16, Network), Lease>,
    /// All, by end.
    ends: BTreeSet<(Time, u16, Network)>,
    /// All, by door and then by end.
    doors: BTreeSet<(u16, Time, Network)>,
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

    /// Puts back a lease read from the journal, to end no later than one granted, or kept by
    /// traffic, `now`. One that is over by `now`, whose door is none or has no leases, or whose
    /// network is not of the length that the door lets in by, is not put back and `false` is
    /// returned. Of two for one address at a door the later end holds.
    ///
    /// A door may so have more leases than `max_leases` if that has been lowered; with the next
    /// grant those over the limit give way.
    pub fn restore(&mut self, lease: Lease, now: Time) -> bool {
        let terms = self.terms.get(usize::from(lease.door));
        let Some(longest) = terms
            .filter(|t| t.fit(lease.address))
            .and_then(Terms::longest)
        else {
            return false;
        };
        let until = lease.until.min(now + longest);
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
    pub fn grant(&mut self, door: u16, address: IpAddr, now: Time, out: impl FnMut(Change)) {
        self.grant_by(By::default(), door, address, now, out);
    }

    /// The same for a grant by a key. A lease goes by the key whose grant sets its end.
    pub fn grant_by(
        &mut self,
        by: By,
        door: u16,
        address: IpAddr,
        now: Time,
        mut out: impl FnMut(Change),
    ) {
        let Some(&terms) = self.terms.get(usize::from(door)) else {
            return;
        };
        let address = terms.lets_in(address);
        let change = |act| Change { door, address, act };
        let Some(open_for) = terms.open_for else {
            return out(change(Act::Open { until: None }));
        };
        let until = now + by.lasts.map_or(open_for, |lasts| lasts.min(open_for));
        if let Some(known) = self.get(door, address).copied() {
            let key = match until >= known.until {
                true => by.key,
                false => known.key,
            };
            let until = until.max(known.until);
            self.put(Lease {
                until,
                key,
                ..known
            });
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
            key: by.key,
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

    /// Ends the leases by which this address, or all of this network, may enter, at one door or
    /// at all, in the order of doors.
    pub fn close(
        &mut self,
        who: impl Into<Network>,
        door: Option<u16>,
        mut out: impl FnMut(Change),
    ) {
        let who = who.into();
        let doors = match door {
            Some(door) => door..=door,
            None => 0..=u16::MAX,
        };
        for door in doors.take(self.terms.len()) {
            let Some(terms) = self.terms.get(usize::from(door)) else {
                continue;
            };
            let address = terms.lets_in(who.address());
            if address.prefix() <= who.prefix() && self.take(door, address).is_some() {
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
    pub fn get(&self, door: u16, address: Network) -> Option<&Lease> {
        self.all.get(&(door, address))
    }

    /// The lease by which this address may enter, its own or its network's.
    pub fn of(&self, door: u16, address: IpAddr) -> Option<&Lease> {
        let terms = self.terms.get(usize::from(door))?;
        self.get(door, terms.lets_in(address))
    }

    /// All leases, by door and then by end.
    pub fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.doors
            .iter()
            .filter_map(|&(door, _, address)| self.get(door, address))
    }

    /// Takes over the leases under a new configuration's terms at `now`. `map` gives the new
    /// place of a door, by its old one, `keys` that of a key, by its old one and the door's new
    /// one.
    ///
    /// What is returned is to be closed, with the doors as they were numbered before: the
    /// leases of doors that are no more ([`Why::Removed`]), those of keys that are no more, or
    /// open the door no more ([`Why::Revoked`]), those of networks that their doors do
    /// not let in by any more ([`Why::Prefix`]) and those over a lowered `max_leases`, nearest
    /// their end first ([`Why::GaveWay`]). The others keep their end, but none may last longer
    /// than one granted, or kept by traffic, `now`: where `open_for` and `idle` have become
    /// shorter than what remains, the lease is cut to the longer of them. [`Leases::iter`] tells
    /// the ends that hold.
    pub fn remap(
        &mut self,
        terms: Vec<Terms>,
        now: Time,
        map: impl Fn(u16) -> Option<u16>,
        keys: impl Fn(u16, u16) -> Option<u16>,
    ) -> Vec<Change> {
        let mut new = Leases::new(terms);
        let mut old_doors = HashMap::new();
        let mut closed = Vec::new();
        for lease in self.iter() {
            let place = map(lease.door).and_then(|place| {
                let terms = new.terms.get(usize::from(place))?;
                let key = lease.key.map(|key| keys(key, place));
                let stands = match key {
                    Some(None) => Err(Why::Revoked),
                    _ if !terms.fit(lease.address) => Err(Why::Prefix),
                    key => Ok(key.flatten()),
                };
                Some((place, terms.longest()?, stands))
            });
            let (door, longest, key) = match place {
                Some((door, longest, Ok(key))) => (door, longest, key),
                other => {
                    let why = match other {
                        Some((_, _, Err(why))) => why,
                        _ => Why::Removed,
                    };
                    closed.push(Change {
                        door: lease.door,
                        address: lease.address,
                        act: Act::Close(why),
                    });
                    continue;
                }
            };
            let until = lease.until.min(now + longest);
            new.put(Lease {
                door,
                until,
                key,
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
            let from = (door, Time(0), Network::host(IpAddr::from([0, 0, 0, 0])));
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
            if known.until > lease.until {
                (lease.until, lease.key) = (known.until, known.key);
            }
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

    fn take(&mut self, door: u16, address: Network) -> Option<Lease> {
        let lease = self.all.remove(&(door, address))?;
        self.ends.remove(&(lease.until, door, address));
        self.doors.remove(&(door, lease.until, address));
        self.counts[usize::from(door)] -= 1;
        Some(lease)
    }
}
