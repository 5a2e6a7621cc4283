//! Arrivals -> grants: every unfinished attempt at every door, bounded in number and time.

#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{Port, TcpFlags};
use crate::packet::Arrival;
use crate::time::Time;

/// A sequence as the listener watches it: one per knock of a door.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// The door, by its place in the configuration.
    pub door: u16,
    /// Which of the door's knocks this is, by its place; for one-time lists it goes back with
    /// the grant so that the monitor knows which list to spend from.
    pub knock: u16,
    /// The line of a one-time list that the steps stand on; 0 for a fixed sequence.
    pub line: u32,
    /// 1 to 32.
    pub steps: Vec<Port>,
    /// From the first knock to the last.
    pub timeout: Duration,
    /// What the flags of its TCP steps must be.
    pub flags: TcpFlags,
    /// The address it must be sent to; `None`: any of ours.
    pub target: Option<IpAddr>,
}

/// What came of an arrival or of time passing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// When.
    pub time: Time,
    /// Whose attempt.
    pub source: IpAddr,
    /// What happened.
    pub kind: Kind,
    /// Where the attempt stands: [`Knocks::watches`] tells which sequences that concerns.
    pub node: u32,
    /// Steps taken rightly so far.
    pub stage: u8,
}

/// See [`Outcome`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A step was right, and there are more.
    Stage,
    /// The last step was right.
    Grant,
    /// A wrong step or a trap.
    Fail,
    /// The time was up.
    Timeout,
}

/// All sequences of all doors, and the attempts at them.
#[derive(Debug)]
pub struct Knocks {}

/// How the table of attempts has fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Attempts held now.
    pub held: u64,
    /// Attempts that gave way to others because their part of the table was full.
    pub evicted: u64,
    /// Attempts that a trap ended.
    pub trapped: u64,
    /// Attempts that a wrong step ended.
    pub failed: u64,
    /// Attempts whose time was up.
    pub timed_out: u64,
    /// Sequences completed.
    pub granted: u64,
}

impl Knocks {
    /// `secret` keys the table of attempts; `capacity` is the most attempts held at once.
    pub fn new(watches: Vec<Watch>, secret: [u64; 2], capacity: usize) -> Knocks {
        let _ = (watches, secret, capacity);
        unimplemented!()
    }

    /// Takes one packet. `ours` says whether a destination is one of our addresses.
    pub fn arrive(
        &mut self,
        arrival: &Arrival,
        ours: impl Fn(IpAddr) -> bool,
        out: impl FnMut(Outcome),
    ) {
        let _ = (arrival, &ours, &out);
        unimplemented!()
    }

    /// Ends the attempts whose time is up at `now`, earliest first.
    pub fn expire(&mut self, now: Time, out: impl FnMut(Outcome)) {
        let _ = (now, &out);
        unimplemented!()
    }

    /// When [`Knocks::expire`] has something to do next.
    pub fn next_deadline(&self) -> Option<Time> {
        unimplemented!()
    }

    /// The sequences that the attempt at `outcome.node` concerns: for a grant those that end
    /// there, else all that lie behind it.
    pub fn watches(&self, outcome: &Outcome) -> impl Iterator<Item = &Watch> {
        let _ = outcome;
        std::iter::empty()
    }

    /// Every port that must reach us: steps and traps, sorted, each once.
    pub fn ports(&self) -> Vec<Port> {
        unimplemented!()
    }

    /// The one flag condition that all sequences with TCP steps share, if they do.
    pub fn common_flags(&self) -> Option<TcpFlags> {
        unimplemented!()
    }

    /// Attempts held, evicted, failed.
    pub fn counters(&self) -> Counters {
        unimplemented!()
    }
}

/// Whether anybody can knock from this address: not unspecified, loopback, multicast,
/// broadcast or v4-mapped.
pub fn can_knock(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => {
            !(a.is_unspecified() || a.is_loopback() || a.is_multicast() || a.is_broadcast())
        }
        IpAddr::V6(a) => {
            !(a.is_unspecified()
                || a.is_loopback()
                || a.is_multicast()
                || a.to_ipv4_mapped().is_some())
        }
    }
}
