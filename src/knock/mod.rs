//! Arrivals -> grants: every unfinished attempt at every door, bounded in number and time.
//!
//! What holds, for each source by itself and each family of sequences (those that share first
//! step, flag condition, target, interfaces and timeout) by itself:
//!
//! - The first step begins an attempt, if there is none, unless the same packet has taken an
//!   attempt of the source's at another family on: who opens with 1, 2, 3 has not begun 3, 2, 1.
//!   A right step takes it on. A step that it has taken already, repeated, does nothing. Any
//!   other port of the family, be it a step or a trap, ends it, and that packet does not begin
//!   another. Ports that are not the family's do nothing.
//! - TCP segments whose flags do not fit, packets to another destination and packets that come
//!   in elsewhere do nothing at all.
//! - Time counts from the first knock, in whole milliseconds; exactly at the limit still
//!   counts. Attempts whose time is up are gone before a packet is looked at.
//! - Where some sequences end and others go on, the grant is given and the attempt goes on.
//!
//! A ping ([`ping`]) is whole in one packet: there is no attempt that anybody could spoil.
//!
//! Work per packet does not depend on how many attempts, doors or leases there are: a table of
//! ports tells whether it concerns anybody, a hash of the source leads to the few places that
//! its attempts can be in.

#![forbid(unsafe_code)]

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{Port, TcpFlags};
use crate::packet::{Arrival, What};
use crate::time::Time;

pub use address::can_knock;
use address::{pack, unpack};
pub use ping::PingWatch;
use ping::Pings;
use sequence::{Member, Packet, Sequences};
use table::{Room, Table, WAYS};

mod address;
pub mod ping;
mod sequence;
pub mod spa;
mod sweep;
mod table;
#[cfg(test)]
mod tests;
mod traps;

/// The most steps of a sequence, as in knockd.
pub const MAX_STEPS: usize = 32;

/// The most different triples of flag condition, timeout and interfaces among sequences that
/// share first step and target: so many attempts one packet may begin.
pub const MAX_ALIKE: usize = 4;

/// [`Watch::on`] of a sequence that may come in by any interface.
pub const EVERYWHERE: u64 = u64::MAX;

/// How many attempts one source may have at once (more if one packet can begin more).
const PER_SOURCE: usize = 4;

/// Of so many packets the attempts are fetched from memory at once.
const TOGETHER: usize = 32;

/// A sequence as the listener watches it: one per knock of a door.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(Debug))]
pub struct Watch {
    /// The door, by its place in the configuration.
    pub door: u16,
    /// Which of the door's knocks this is, by its place; for one-time lists it goes back with
    /// the grant so that the monitor knows which list to spend from.
    pub knock: u16,
    /// The line of a one-time list that the steps stand on; 0 for a fixed sequence.
    pub line: u32,
    /// 1 to [`MAX_STEPS`].
    pub steps: Vec<Port>,
    /// From the first knock to the last; counted in whole milliseconds, rounded up, and no
    /// longer than 24 days.
    pub timeout: Duration,
    /// What the flags of its TCP steps must be.
    pub flags: TcpFlags,
    /// The address it must be sent to; `None`: any of ours.
    pub target: Option<IpAddr>,
    /// The interfaces it must come in by: a bit for each, as [`Knocks::hear_at`] numbers them.
    pub on: u64,
}

/// Steps are secret: only how many there are is shown, but in the tests of this room.
#[cfg(not(test))]
impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (door, knock, steps) = (self.door, self.knock, self.steps.len());
        write!(f, "Watch(door {door}, knock {knock}, {steps} steps)")
    }
}

/// What came of an arrival or of time passing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// When. Never goes back from one outcome to the next.
    pub time: Time,
    /// Whose attempt.
    pub source: IpAddr,
    /// What happened.
    pub kind: Kind,
    /// Where the attempt stands: [`Knocks::watches`] tells which sequences that concerns. The
    /// same for the same sequences, whatever secret and capacity.
    pub node: u32,
    /// Steps taken rightly so far; 0 for a ping.
    pub stage: u8,
}

/// What a grant or an attempt concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concerned {
    /// The door, by its place in the configuration.
    pub door: u16,
    /// Which of the door's knocks, by its place.
    pub knock: u16,
    /// The line of a one-time list; 0 where there is none.
    pub line: u32,
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
pub struct Knocks {
    sequences: Sequences,
    pings: Pings,
    table: Table,
    secret: [u64; 2],
    /// The latest time seen.
    now: Time,
    /// Whether new attempts may begin.
    admitting: bool,
    /// The bit of the interface that packets come from.
    at: u64,
    counters: Counters,
}

/// How the table of attempts has fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Attempts held now.
    pub held: u64,
    /// Attempts that gave way to others, or were not begun, because their part of the table
    /// was full or their source had too many.
    pub evicted: u64,
    /// Attempts that a trap ended.
    pub trapped: u64,
    /// Attempts that a wrong step ended.
    pub failed: u64,
    /// Attempts whose time was up.
    pub timed_out: u64,
    /// Sequences completed. Not told of: listeners tell of each grant.
    #[serde(skip)]
    pub granted: u64,
}

/// A few families in the order they are listed, each with the place of an attempt.
#[derive(Default)]
struct Few {
    all: [(u32, u32); WAYS],
    len: usize,
}

impl Few {
    fn push(&mut self, family: u32, place: usize) {
        let mut at = self.len;
        while at > 0 && self.all[at - 1].0 > family {
            self.all[at] = self.all[at - 1];
            at -= 1;
        }
        self.all[at] = (family, place as u32);
        self.len += 1;
    }

    fn as_slice(&self) -> &[(u32, u32)] {
        &self.all[..self.len]
    }
}

impl Knocks {
    /// `avoid` are ports that must not become traps: those that doors open, and whatever else
    /// people who knock may be connecting to. `secret` keys the table of attempts; `capacity`
    /// is the most attempts held at once, each taking 32 bytes once it has been used.
    ///
    /// A sequence without steps, with more than [`MAX_STEPS`], or beyond [`MAX_ALIKE`] is not
    /// listened to: see [`Knocks::unwatched`].
    pub fn new(watches: Vec<Watch>, avoid: &[Port], secret: [u64; 2], capacity: usize) -> Knocks {
        let sequences = Sequences::new(watches, avoid);
        Knocks {
            table: Table::new(secret, capacity, &sequences.timeouts),
            pings: Pings::default(),
            secret,
            sequences,
            now: Time::default(),
            admitting: true,
            at: EVERYWHERE,
            counters: Counters::default(),
        }
    }

    /// Listens to pings as well, to these and no others.
    pub fn hear_pings(&mut self, watches: Vec<PingWatch>) {
        self.pings = Pings::new(watches, self.secret);
    }

    /// From now on packets come from the interface of this number, 0 to 63. Before that is said
    /// they come from anywhere.
    pub fn hear_at(&mut self, interface: usize) {
        self.at = 1 << (interface & 63);
    }

    /// The bit of the interface that packets come from now.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// From now on only the attempts that have begun go on: others are begun elsewhere.
    pub fn admit_no_more(&mut self) {
        self.admitting = false;
    }

    /// Takes one packet. `ours` says whether a destination is one of our addresses.
    ///
    /// A packet whose time is before the latest seen is taken to be of that time.
    pub fn arrive(
        &mut self,
        arrival: &Arrival<'_>,
        ours: impl Fn(IpAddr) -> bool,
        out: impl FnMut(Outcome),
    ) {
        self.arrive_all(std::slice::from_ref(arrival), ours, out);
    }

    /// Takes packets in the order they came: as [`Knocks::arrive`], and faster for many at once.
    pub fn arrive_all(
        &mut self,
        arrivals: &[Arrival<'_>],
        ours: impl Fn(IpAddr) -> bool,
        mut out: impl FnMut(Outcome),
    ) {
        for some in arrivals.chunks(TOGETHER) {
            let mut buckets = [0; TOGETHER];
            for (bucket, arrival) in buckets.iter_mut().zip(some) {
                *bucket = self.table.bucket(&pack(arrival.source));
            }
            self.table.touch(&buckets[..some.len()]);
            for (bucket, arrival) in buckets.into_iter().zip(some) {
                self.take(arrival, bucket, &ours, &mut out);
            }
        }
    }

    /// Takes one packet, whose source's attempts are in this bucket.
    fn take(
        &mut self,
        arrival: &Arrival<'_>,
        bucket: usize,
        ours: &impl Fn(IpAddr) -> bool,
        out: &mut impl FnMut(Outcome),
    ) {
        self.expire(arrival.time, &mut *out);
        let (key, flags) = match arrival.what {
            What::Tcp { port, flags } => (u32::from(port), Some(flags)),
            What::Udp { port, .. } => (u32::from(port) | 1 << 16, None),
            What::Echo { payload } => return self.ping(arrival, payload, ours, out),
        };
        if !self.sequences.concerns(key) || !can_knock(arrival.source) {
            return;
        }
        let packet = Packet {
            key,
            flags,
            destination: arrival.destination,
            at: self.at,
            to_us: ours(arrival.destination),
        };
        let source = pack(arrival.source);
        let mut under_way = Few::default();
        let mut own = self.table.own(bucket, &source);
        for place in table::places(bucket, own) {
            if let Some(node) = self.sequences.node(self.table.node(place)) {
                under_way.push(node.family, place);
            }
        }
        let mut taken_on = false;
        for &(_, place) in under_way.as_slice() {
            taken_on |= self.go_on(place as usize, &packet, arrival.source, out);
        }
        if taken_on || !self.admitting {
            return;
        }
        let mut begun = Few::default();
        for family in self.sequences.begun_by(&packet) {
            let mut others = under_way.as_slice().iter();
            if others.all(|o| o.0 != family)
                && self.sequences.families[family as usize].fits(&packet)
            {
                begun.push(family, 0);
            }
        }
        if own != 0 {
            own = self.table.own(bucket, &source);
        }
        // What this packet has begun does not give way to what it begins next.
        let mut spared = 0;
        for &(family, _) in begun.as_slice() {
            let root = family + 1;
            if self.goes_on(root, arrival.source, out)
                && let Some(place) = self.room(bucket, own, spared)
            {
                let way = 1 << (place % WAYS);
                (own, spared) = (own | way, spared | way);
                let now = millis(self.now);
                self.table
                    .insert(place, &source, root, self.queue_of(root), now);
                self.tell(root, Kind::Stage, arrival.source, out);
            }
        }
    }

    /// An echo request: the doors that its payload opens.
    fn ping(
        &mut self,
        arrival: &Arrival<'_>,
        payload: &[u8],
        ours: impl Fn(IpAddr) -> bool,
        out: &mut impl FnMut(Outcome),
    ) {
        if self.pings.is_empty() || !self.admitting || !can_knock(arrival.source) {
            return;
        }
        let to_us = ours(arrival.destination);
        let met = self.pings.met_by(payload, |watch| {
            let for_it = watch.target.map_or(to_us, |t| t == arrival.destination);
            for_it && watch.on & self.at != 0
        });
        for at in met {
            self.counters.granted += 1;
            out(Outcome {
                time: self.now,
                source: arrival.source,
                kind: Kind::Grant,
                node: PING | at as u32,
                stage: 0,
            });
        }
    }

    /// Shows a packet to an attempt of its source; whether it was the next step.
    fn go_on(
        &mut self,
        place: usize,
        packet: &Packet,
        source: IpAddr,
        out: &mut impl FnMut(Outcome),
    ) -> bool {
        let number = self.table.node(place);
        let Some(&node) = self.sequences.node(number) else {
            return false;
        };
        let family = &self.sequences.families[node.family as usize];
        let queue = family.queue;
        if !family.fits(packet) {
            return false;
        }
        if let Some(child) = self.sequences.child(&node, packet.key) {
            if self.goes_on(child, source, out) {
                self.table.advance(place, child);
                self.tell(child, Kind::Stage, source, out);
            } else {
                self.table.remove(place, queue);
            }
            return true;
        }
        match self.sequences.member(family, packet.key) {
            None => return false,
            Some(Member::Step) if self.sequences.taken(&node, packet.key) => return false,
            Some(Member::Step) => self.counters.failed += 1,
            Some(Member::Trap) => self.counters.trapped += 1,
        }
        self.table.remove(place, queue);
        self.tell(number, Kind::Fail, source, out);
        false
    }

    /// An attempt comes to a node: gives the grant if sequences end there, and whether others
    /// go on.
    fn goes_on(&mut self, number: u32, source: IpAddr, out: &mut impl FnMut(Outcome)) -> bool {
        let Some(&node) = self.sequences.node(number) else {
            return false;
        };
        if self.sequences.is_end(&node) {
            self.counters.granted += 1;
            self.tell(number, Kind::Grant, source, out);
        }
        self.sequences.goes_on(&node)
    }

    fn tell(&self, number: u32, kind: Kind, source: IpAddr, out: &mut impl FnMut(Outcome)) {
        out(Outcome {
            time: self.now,
            source,
            kind,
            node: number,
            stage: self.sequences.node(number).map_or(0, |node| node.stage),
        });
    }

    /// A free place for a new attempt of the source whose own ways in the bucket are those,
    /// freed by ending another if need be.
    fn room(&mut self, bucket: usize, own: u8, spared: u8) -> Option<usize> {
        let roots = self.sequences.families.len() as u32;
        let limit = PER_SOURCE.max(self.sequences.most_begun);
        let now = millis(self.now);
        // Most stand at the first step.
        let stage = |number| match number <= roots {
            true => 1,
            false => self.sequences.node(number).map_or(1, |node| node.stage),
        };
        match self.table.room(bucket, own, stage, limit, spared, now) {
            Room::Free(place) => Some(place),
            Room::Instead(place) => {
                self.counters.evicted += 1;
                self.table
                    .remove(place, self.queue_of(self.table.node(place)));
                Some(place)
            }
            Room::Full => {
                self.counters.evicted += 1;
                None
            }
        }
    }

    /// The queue of a family's attempts, by one of its nodes.
    fn queue_of(&self, number: u32) -> usize {
        self.sequences.node(number).map_or(0, |node| {
            self.sequences.families[node.family as usize].queue
        })
    }

    /// Ends the attempts whose time is up at `now`, earliest first; of those whose time is up
    /// at the same moment, those that began earlier.
    pub fn expire(&mut self, now: Time, mut out: impl FnMut(Outcome)) {
        self.now = self.now.max(now);
        let now = millis(self.now);
        while self.table.deadline() <= now
            && let Some((place, queue)) = self.table.first()
        {
            let time = from_millis(self.table.deadline());
            let (node, source) = (self.table.node(place), self.table.source(place));
            self.table.remove(place, queue);
            self.counters.timed_out += 1;
            out(Outcome {
                time,
                source: unpack(&source),
                kind: Kind::Timeout,
                node,
                stage: self.sequences.node(node).map_or(0, |n| n.stage),
            });
        }
    }

    /// When [`Knocks::expire`] has something to do next.
    pub fn next_deadline(&self) -> Option<Time> {
        let deadline = self.table.deadline();
        (deadline != u64::MAX).then(|| from_millis(deadline))
    }

    /// The sequences that the attempt at `outcome.node` concerns, in configuration order: for
    /// a grant those that end there, else all that lie behind it. None for a ping.
    pub fn watches(&self, outcome: &Outcome) -> impl Iterator<Item = &Watch> {
        let places = match (self.sequences.node(outcome.node), outcome.kind) {
            (None, _) => &[],
            (Some(node), Kind::Grant) => self.sequences.ends(node),
            (Some(node), _) => self.sequences.behind(node),
        };
        places
            .iter()
            .map(|&place| &self.sequences.watches[place as usize])
    }

    /// The knocks that an outcome concerns, sequences as [`Knocks::watches`] has them.
    pub fn concerned(&self, outcome: &Outcome) -> impl Iterator<Item = Concerned> {
        let place = outcome.node ^ PING;
        let ping = self.pings.get(place as usize).map(|ping| Concerned {
            door: ping.door,
            knock: ping.knock,
            line: 0,
        });
        let sequences = self.watches(outcome).map(|watch| Concerned {
            door: watch.door,
            knock: watch.knock,
            line: watch.line,
        });
        ping.into_iter().chain(sequences)
    }

    /// The sequences that are not listened to: without steps, with more than [`MAX_STEPS`], or
    /// one too many that share first step and target but not flag condition, interfaces and timeout
    /// ([`MAX_ALIKE`]).
    pub fn unwatched(&self) -> impl Iterator<Item = &Watch> {
        let all = self.sequences.watches.iter().zip(&self.sequences.watched);
        all.filter(|(_, watched)| !**watched)
            .map(|(watch, _)| watch)
    }

    /// The sequences that somebody who plainly tries all ports in order opens in spite of the
    /// traps, each with that order in words: those of a single step, and those that leave no
    /// room for a trap between their steps. In configuration order, each once.
    pub fn swept(&self) -> impl Iterator<Item = (&Watch, &'static str)> {
        sweep::swept(&self.sequences)
            .into_iter()
            .map(|(place, sweep)| (&self.sequences.watches[place as usize], sweep))
    }

    /// How many bytes of echo requests' payloads matter; 0: no ping opens anything.
    pub fn echo_payload(&self) -> usize {
        self.pings.payload()
    }

    /// Every port that must reach us: steps and traps, sorted, each once.
    pub fn ports(&self) -> Vec<Port> {
        self.sequences.ports.clone()
    }

    /// The ports that concern attempts at a knock of a door: steps and traps, sorted, each once.
    pub fn ports_of(&self, door: u16, knock: u16) -> Vec<Port> {
        self.sequences.ports_of(door, knock)
    }

    /// The one flag condition that all sequences with TCP steps share, if they do.
    pub fn common_flags(&self) -> Option<TcpFlags> {
        self.sequences.common_flags()
    }

    /// Attempts held, evicted, failed.
    pub fn counters(&self) -> Counters {
        Counters {
            held: self.table.held(),
            ..self.counters
        }
    }
}

/// Neither sequences nor the table's secret belong in a log.
impl fmt::Debug for Knocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Knocks")
            .field("now", &self.now)
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}

/// The bit of [`Outcome::node`] that says that it is a ping's place. There are no so many nodes
/// of sequences: a configuration has a million of steps at most.
const PING: u32 = 1 << 31;

/// Whether a plain sweep of all ports opens a sequence of these steps however it is protected,
/// and which. What else is configured can take the room for traps: [`Knocks::swept`] tells of
/// a whole configuration.
pub fn swept(steps: &[Port]) -> Option<&'static str> {
    let watch = Watch {
        door: 0,
        knock: 0,
        line: 0,
        steps: steps.to_vec(),
        timeout: Duration::ZERO,
        flags: TcpFlags::REQUEST,
        target: None,
        on: EVERYWHERE,
    };
    let sequences = Sequences::new(vec![watch], &[]);
    Some(sweep::swept(&sequences).first()?.1)
}

fn millis(time: Time) -> u64 {
    time.0 / 1000
}

fn from_millis(millis: u64) -> Time {
    Time(millis.saturating_mul(1000))
}
