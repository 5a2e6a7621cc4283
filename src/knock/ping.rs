//! Pings that carry a secret: which doors an echo request opens.
//!
//! A secret is looked for where `ping -p` puts the pattern, or at every place of a range that the
//! configuration gives. What stands there is hashed under a key of our own and compared, in
//! constant time, with the secrets of that hash: the work is the same for one secret and for a
//! thousand, and tells nothing of them.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use crate::config::Pattern;

/// Where the pattern of `ping -p` begins in an echo request's payload: behind a time stamp of 8
/// bytes (FreeBSD's ping(8) and macOS's: ping.c, `struct tv32`), or of 16 (Linux's iputils with
/// 64-bit time; with 32-bit time its pattern stands there as well, since it is laid over the
/// whole payload).
pub const STRICT: [u8; 2] = [8, 16];

const LENGTH: usize = 16;

/// A ping as the listener watches for it: one per knock of a door.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PingWatch {
    /// The door, by its place in the configuration.
    pub door: u16,
    /// Which of the door's knocks this is, by its place.
    pub knock: u16,
    /// The secret.
    pub secret: Pattern,
    /// The first and the last place where it may begin; `None`: [`STRICT`].
    pub offsets: Option<(u8, u8)>,
    /// The address it must be sent to; `None`: any of ours.
    pub target: Option<IpAddr>,
    /// The interfaces it must come in by, as [`super::Watch::on`].
    pub on: u64,
}

impl fmt::Debug for PingWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PingWatch(door {}, knock {})", self.door, self.knock)
    }
}

/// All pings of all doors.
#[derive(Default)]
pub(super) struct Pings {
    watches: Vec<PingWatch>,
    /// Which of them, by the hash of their secret.
    by_hash: HashMap<u64, Vec<usize>>,
    /// Where any of those with a range may begin.
    range: Option<(u8, u8)>,
    secret: [u64; 2],
}

impl Pings {
    /// `secret` keys the hash.
    pub(super) fn new(watches: Vec<PingWatch>, secret: [u64; 2]) -> Pings {
        let mut pings = Pings {
            watches,
            secret,
            ..Pings::default()
        };
        for (at, watch) in pings.watches.iter().enumerate() {
            let hash = hash(secret, &watch.secret.0);
            pings.by_hash.entry(hash).or_default().push(at);
            if let Some((first, last)) = watch.offsets {
                let (low, high) = pings.range.unwrap_or((first, last));
                pings.range = Some((low.min(first), high.max(last)));
            }
        }
        pings
    }

    pub(super) fn is_empty(&self) -> bool {
        self.watches.is_empty()
    }

    /// How many bytes of an echo request's payload matter.
    pub(super) fn payload(&self) -> usize {
        let strict = self.watches.iter().any(|watch| watch.offsets.is_none());
        let strict = strict.then_some(STRICT[1]);
        let last = strict.max(self.range.map(|(_, last)| last));
        last.map_or(0, |last| usize::from(last) + LENGTH)
    }

    /// Those that this payload opens by, each once, in the order of the configuration.
    pub(super) fn met_by(&self, payload: &[u8], fits: impl Fn(&PingWatch) -> bool) -> Vec<usize> {
        let mut met = Vec::new();
        if self.watches.is_empty() {
            return met;
        }
        let (first, last) = self.range.unwrap_or((1, 0));
        let loose = (first..=last).filter(|at| !STRICT.contains(at));
        for offset in STRICT.into_iter().chain(loose) {
            let from = usize::from(offset);
            let Some(part) = payload.get(from..from + LENGTH) else {
                continue;
            };
            let mut pattern = [0; LENGTH];
            pattern.copy_from_slice(part);
            let near = self.by_hash.get(&hash(self.secret, &pattern));
            met.extend(near.into_iter().flatten().filter(|&&at| {
                let watch = &self.watches[at];
                let here = match watch.offsets {
                    None => STRICT.contains(&offset),
                    Some((first, last)) => (first..=last).contains(&offset),
                };
                watch.secret == Pattern(pattern) && here && fits(watch)
            }));
        }
        met.sort_unstable();
        met.dedup();
        met
    }

    pub(super) fn get(&self, at: usize) -> Option<&PingWatch> {
        self.watches.get(at)
    }
}

fn hash([a, b]: [u64; 2], pattern: &[u8; LENGTH]) -> u64 {
    SipHasher13::new_with_keys(a, b).hash(pattern)
}
