//! Packets of single-packet authorization -> who is let in where.
//!
//! What holds, for each packet by itself (there is no attempt that a forger could spoil):
//!
//! - First its shape is looked at, at a cost that depends on its length alone. Then the HMAC of
//!   each key of its carrier is computed, of all of them also when one has held already. Only
//!   then is it decrypted, with the key whose HMAC held.
//! - So many HMACs are computed a second and no more ([`Keys::afford`]). What comes in beyond is counted
//!   and dropped, whoever it may be from: before the HMAC nothing tells one packet from another
//!   that a stranger could not forge. Whoever knows a carrier can so keep keys out for as long as
//!   he sends more than that.
//! - A packet is of use as long as its time and ours are no more than the key's window apart,
//!   either way; exactly the window still counts.
//! - It names an address that the key may be used for, or, where the key says so, whatever
//!   address it came from. All its ports are the key's; it opens those of the key's doors that
//!   open one of them, and those that open no port.
//!
//! What is no concern here: whether the packet has been used before. Who acts on it looks its
//! proof up among those that are spent.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::can_knock;
use crate::config::{Network, Port, bounds};
use crate::spa::{Carrier, Opener, Proof, Request, Secret, Shaped, Whom, shape};
use crate::time::Time;

/// The most keys that one carrier has; what is beyond is not listened to.
pub const MOST_KEYS: usize = bounds::KEYS_HEARD;

/// The most doors that one key has, a bit of [`Authorized::doors`] each; what is beyond is not
/// opened.
pub const MOST_DOORS: usize = *bounds::KEY_DOORS.end();

/// How many HMACs are computed a second at least, and unless [`Keys::afford`] is told of more. One
/// of a packet as clients make them takes 0.5 to 2 microseconds (measured, with and without the
/// processor's own SHA), one of the longest packets up to 7: a flood takes a fifth of a processor,
/// at the very worst two thirds, and leaves the rest to sequences. With the most keys a carrier can
/// have, 6,250 packets a second are looked at.
pub const MACS: u64 = 100_000;

/// A key as the listener watches for its packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyWatch {
    /// The key, by its place in the configuration.
    pub key: u16,
    /// What its packets are sealed with.
    pub secret: Secret,
    /// What they come by.
    pub carriers: Vec<Carrier>,
    /// Whether a packet may say "whatever address this came from".
    pub observed: bool,
    /// For which addresses; empty: for any.
    pub from: Vec<Network>,
    /// The ports that a request may name.
    pub ports: Vec<Port>,
    /// Its doors, at most [`MOST_DOORS`].
    pub doors: Vec<KeyDoor>,
    /// How far its clock and ours may be apart, in seconds.
    pub window: u32,
}

/// A door of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyDoor {
    /// The door, by its place in the configuration.
    pub door: u16,
    /// The ports that it opens; empty: it opens with every request.
    pub ports: Vec<Port>,
    /// The interfaces that its requests must come in by, as [`super::Watch::on`].
    pub on: u64,
}

/// A packet that was right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authorized {
    /// The key, by its place in the configuration.
    pub key: u16,
    /// Which of the key's doors: bit N for its Nth. At least one.
    pub doors: u32,
    /// Who is let in.
    pub address: IpAddr,
    /// What no other packet has: the first 16 bytes of its HMAC.
    pub proof: [u8; 16],
    /// When it was made, in seconds since the Unix epoch, by its maker's clock.
    pub at: u64,
    /// For how many seconds; 0: as the door has it.
    pub lasts: u32,
}

/// What came of the packets that came by carriers of ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Not of the shape of a packet.
    pub shapeless: u64,
    /// Of its shape. The rest says what became of these. Not told of: listeners tell the monitor
    /// of no more figures than fit in an event.
    #[serde(skip)]
    pub shaped: u64,
    /// Beyond what is computed a second.
    pub over_budget: u64,
    /// The HMAC is of no key of ours.
    pub unauthenticated: u64,
    /// The HMAC holds, but what is inside is no request, or none that we accept.
    pub malformed: u64,
    /// Its time is too far from ours.
    pub stale: u64,
    /// For an address that the key is not for, or that nobody can knock from.
    pub address: u64,
    /// For ports that are not the key's, or that none of its doors opens.
    pub ports: u64,
    /// Right. Not told of either.
    #[serde(skip)]
    pub authorized: u64,
}

/// All keys.
pub struct Keys {
    keys: Vec<Key>,
    /// The keys of each carrier, by their place above.
    heard: BTreeMap<Carrier, Vec<usize>>,
    budget: Budget,
    counters: Counters,
}

struct Key {
    watch: KeyWatch,
    opener: Opener,
}

impl Keys {
    /// At more than [`MOST_KEYS`] of a carrier, those that come first are listened to.
    pub fn new(watches: Vec<KeyWatch>) -> Keys {
        let mut heard: BTreeMap<Carrier, Vec<usize>> = BTreeMap::new();
        for (place, watch) in watches.iter().enumerate() {
            for &carrier in &watch.carriers {
                let keys = heard.entry(carrier).or_default();
                if keys.len() < MOST_KEYS && keys.last() != Some(&place) {
                    keys.push(place);
                }
            }
        }
        let ready = |watch: KeyWatch| Key {
            opener: Opener::new(&watch.secret),
            watch,
        };
        Keys {
            keys: watches.into_iter().map(ready).collect(),
            heard,
            budget: Budget::default(),
            counters: Counters::default(),
        }
    }

    /// From now on so many HMACs are computed a second, but never fewer than [`MACS`].
    pub fn afford(&mut self, macs: u64) {
        self.budget.macs = macs.max(MACS);
    }

    /// What packets can come by.
    pub fn carriers(&self) -> impl Iterator<Item = Carrier> {
        self.heard.keys().copied()
    }

    /// What has been counted since the beginning.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Takes one packet: what came by a carrier, at the interfaces of these bits, from where, and
    /// when, by a clock that never goes back and, in seconds since the Unix epoch, by the wall's.
    /// What its key has to say of it, if it has one.
    pub fn arrive(
        &mut self,
        (time, wall): (Time, u64),
        at: u64,
        carrier: Carrier,
        source: IpAddr,
        payload: &[u8],
    ) -> Option<Word> {
        let heard = self.heard.get(&carrier)?;
        let Some(shaped) = shape(payload) else {
            self.counters.shapeless += 1;
            return None;
        };
        self.counters.shaped += 1;
        let fits = |place: &&usize| shaped.can_be(self.keys[**place].opener.mac());
        let macs = heard.iter().filter(fits).count();
        if !self.budget.spend(time, macs as u64) {
            self.counters.over_budget += 1;
            return None;
        }
        let mut holds = None;
        for &place in heard {
            let key = &self.keys[place];
            if let Some(proof) = key.opener.verify(&shaped) {
                holds = holds.or(Some((key, proof)));
            }
        }
        let Some((key, proof)) = holds else {
            self.counters.unauthenticated += 1;
            return None;
        };
        let judged = key.judge(&shaped, proof, wall, (source, at));
        let counted = match judged {
            Ok(_) => &mut self.counters.authorized,
            Err(Refused::Malformed) => &mut self.counters.malformed,
            Err(Refused::Stale) => &mut self.counters.stale,
            Err(Refused::Address) => &mut self.counters.address,
            Err(Refused::Ports) => &mut self.counters.ports,
        };
        *counted += 1;
        let key = key.watch.key;
        Some(judged.map_or_else(|why| Word::Refused { key, why }, Word::Authorized))
    }
}

/// Why a packet whose HMAC holds is of no use: see [`Counters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// What is inside is no request, or none that we accept.
    Malformed,
    /// Its time is too far from ours.
    Stale,
    /// It is for an address that the key is not for, or that nobody can knock from.
    Address,
    /// It names ports that are not the key's, or that none of its doors opens here.
    Ports,
}

/// What a key has to say of a packet that it sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// It lets somebody in, unless it has been used before.
    Authorized(Authorized),
    /// It is of no use.
    Refused {
        /// The key, by its place in the configuration.
        key: u16,
        /// Why.
        why: Refused,
    },
}

impl Key {
    fn judge(
        &self,
        shaped: &Shaped,
        proof: Proof,
        wall: u64,
        (source, at): (IpAddr, u64),
    ) -> Result<Authorized, Refused> {
        let request = self.opener.open(shaped, &proof).ok_or(Refused::Malformed)?;
        if request.time.abs_diff(wall) > u64::from(self.watch.window) {
            return Err(Refused::Stale);
        }
        Ok(Authorized {
            key: self.watch.key,
            address: self.address(&request, source).ok_or(Refused::Address)?,
            doors: self.doors(&request.ports, at).ok_or(Refused::Ports)?,
            proof: proof.bytes(),
            at: request.time,
            lasts: request.lasts.unwrap_or(0),
        })
    }

    /// Who is let in.
    fn address(&self, request: &Request, source: IpAddr) -> Option<IpAddr> {
        let address = match request.whom {
            Whom::Address(address) => address,
            Whom::Observed if self.watch.observed => source,
            Whom::Observed => return None,
        };
        let from = &self.watch.from;
        let may = from.is_empty() || from.iter().any(|network| network.contains(address));
        (may && can_knock(address)).then_some(address)
    }

    /// The doors that a request for these ports opens here; `None`: it may not name them, or no door
    /// opens.
    fn doors(&self, asked: &[Port], at: u64) -> Option<u32> {
        if !asked.iter().all(|port| self.watch.ports.contains(port)) {
            return None;
        }
        let mut doors = 0;
        for (bit, door) in self.watch.doors.iter().take(MOST_DOORS).enumerate() {
            let asked = door.ports.iter().any(|port| asked.contains(port));
            if door.on & at != 0 && (asked || door.ports.is_empty()) {
                doors |= 1 << bit;
            }
        }
        (doors != 0).then_some(doors)
    }
}

/// How many HMACs may still be computed: so many more each second, up to what a tenth of a second
/// brings.
struct Budget {
    /// A second.
    macs: u64,
    left: u64,
    /// When it was last filled up, and how much was left over, in millionths of one.
    filled: Time,
    over: u64,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget {
            macs: MACS,
            left: MACS / 10,
            filled: Time::default(),
            over: 0,
        }
    }
}

impl Budget {
    /// Whether there are so many; then they are gone.
    fn spend(&mut self, now: Time, macs: u64) -> bool {
        const SECOND: u128 = Duration::from_secs(1).as_micros();
        let passed = u128::from(now.0.saturating_sub(self.filled.0));
        self.filled = self.filled.max(now);
        let more = passed * u128::from(self.macs) + u128::from(self.over);
        self.over = (more % SECOND) as u64;
        let more = u64::try_from(more / SECOND).unwrap_or(u64::MAX);
        self.left = self.left.saturating_add(more).min(self.macs / 10);
        match self.left.checked_sub(macs) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}
