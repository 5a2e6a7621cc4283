//! Grants and time -> which openings to make, extend, close.

#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::time::Duration;

use crate::time::Time;

/// What a door allows its leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long a lease lasts; `None`: grants of this door make no lease.
    pub open_for: Option<Duration>,
    /// How many there may be at once.
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
    /// Already let in: only the end moves.
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
}

/// The leases of all doors.
#[derive(Debug, Default)]
pub struct Leases {}

impl Leases {
    /// No leases, under these terms, one per door by its place.
    pub fn new(terms: Vec<Terms>) -> Leases {
        let _ = terms;
        unimplemented!()
    }

    /// Puts back a lease read from the journal. One that is over by `now` or whose door is
    /// none is not put back and `false` is returned.
    pub fn restore(&mut self, lease: Lease, now: Time) -> bool {
        let _ = (lease, now);
        unimplemented!()
    }

    /// A grant at `now`. At most two changes: a lease that gives way, then the opening or the
    /// extension.
    pub fn grant(&mut self, door: u16, address: IpAddr, now: Time, out: impl FnMut(Change)) {
        let _ = (door, address, now, &out);
        unimplemented!()
    }

    /// Ends the leases that are due at `now`, earliest first, giving each with its end.
    pub fn due(&mut self, now: Time, out: impl FnMut(Time, Change)) {
        let _ = (now, &out);
        unimplemented!()
    }

    /// Ends the leases of an address, at one door or at all.
    pub fn close(&mut self, address: IpAddr, door: Option<u16>, out: impl FnMut(Change)) {
        let _ = (address, door, &out);
        unimplemented!()
    }

    /// When [`Leases::due`] has something to do next.
    pub fn next_end(&self) -> Option<Time> {
        unimplemented!()
    }

    /// One lease.
    pub fn get(&self, door: u16, address: IpAddr) -> Option<&Lease> {
        let _ = (door, address);
        unimplemented!()
    }

    /// All leases, by door and then by end.
    pub fn iter(&self) -> impl Iterator<Item = &Lease> {
        std::iter::empty()
    }
}
