//! Leases that go on as long as there is traffic.
//!
//! A door with `idle` grants a lease of `open_for` as any other. The packet filter is asked now
//! and then which leases had traffic; shortly before a lease ends it is kept until `idle` behind
//! the traffic that was last seen, or left to end. Between two looks only the packet filter acts,
//! and it knows the end that it was last told: whoever keeps us from looking prolongs nothing.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::{Act, Change, Lease, Leases};
use crate::config::Network;
use crate::time::Time;

/// How often the packet filter is asked, at least, while such a lease is in force. So much later
/// than `idle` behind its last packet a lease may end.
pub const EVERY: Duration = Duration::from_secs(10);
/// How long before a lease's end it is asked for the last time. What comes later does not keep
/// the lease.
pub const BEFORE: Duration = Duration::from_secs(2);
/// It is asked no more often, however many leases end at different times.
pub const PACE: Duration = Duration::from_secs(1);

/// When there was traffic through leases, as far as it has been seen.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    seen: HashMap<(u16, Network), Time>,
    /// When it was looked last.
    looked: Option<Time>,
}

impl Traffic {
    /// When to look next; `None`: no lease goes by traffic.
    pub fn next_look(&self, leases: &Leases) -> Option<Time> {
        let looked = self.looked.unwrap_or_default();
        // Those that end sooner have been looked at for the last time.
        let later = looked + BEFORE;
        let mut any = false;
        let ends = leases.idle_doors().filter_map(|door| {
            any = true;
            leases.first_end_after(door, later)
        });
        let next = ends.min().map(|end| end - BEFORE);
        if !any {
            return None;
        }
        match self.looked {
            None => Some(Time(0)),
            Some(looked) => {
                let due = looked + EVERY;
                Some(next.map_or(due, |next| next.clamp(looked + PACE, due)))
            }
        }
    }

    /// What was seen when it was looked at `now`: the leases that had traffic, and how long ago
    /// the last was.
    pub fn looked(
        &mut self,
        leases: &Leases,
        had_traffic: impl IntoIterator<Item = (u16, Network, Duration)>,
        now: Time,
    ) {
        self.looked = Some(now);
        self.seen
            .retain(|(door, address), _| leases.get(*door, *address).is_some());
        for (door, address, ago) in had_traffic {
            if leases.get(door, address).is_some() {
                let seen = self.seen.entry((door, address)).or_default();
                *seen = (*seen).max(now - ago);
            }
        }
    }

    /// Keeps the leases that are about to end at `now` and had traffic lately, right behind
    /// [`Traffic::looked`].
    pub fn keep(&self, leases: &mut Leases, now: Time, mut out: impl FnMut(Change)) {
        let due = now + BEFORE;
        let mut kept = Vec::new();
        for door in leases.idle_doors() {
            let Some(idle) = leases.terms[usize::from(door)].idle else {
                continue;
            };
            for lease in leases.ending_by(door, due) {
                let seen = self.seen.get(&(door, lease.address));
                // What another lease of this address had, which has ended since, is not its own.
                let seen = seen.filter(|seen| **seen >= lease.since);
                let until = seen.map(|seen| *seen + idle);
                kept.extend(
                    until
                        .filter(|until| *until > lease.until)
                        .map(|until| Lease { until, ..*lease }),
                );
            }
        }
        for lease in kept {
            leases.put(lease);
            out(Change {
                door: lease.door,
                address: lease.address,
                act: Act::Keep { until: lease.until },
            });
        }
    }

    /// The doors have other places now, or none.
    pub fn moved(&mut self, to: impl Fn(u16, Network) -> Option<(u16, Network)>) {
        let seen = self.seen.drain();
        self.seen = seen
            .filter_map(|((door, address), at)| Some((to(door, address)?, at)))
            .collect();
    }
}

/// Of all that knock, the first in order.
fn first() -> Network {
    Network::host(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

impl Leases {
    /// The doors that have leases which go by traffic.
    fn idle_doors(&self) -> impl Iterator<Item = u16> + use<> {
        let terms = (0..=u16::MAX).zip(self.terms.iter().zip(&self.counts));
        let idle = terms.filter(|(_, (terms, leases))| {
            **leases > 0 && terms.idle.is_some() && terms.open_for.is_some()
        });
        let doors: Vec<u16> = idle.map(|(door, _)| door).collect();
        doors.into_iter()
    }

    /// The first end of a door's leases that is later than this.
    fn first_end_after(&self, door: u16, time: Time) -> Option<Time> {
        let from = (door, Time(time.0.saturating_add(1)), first());
        let mut later = self.doors.range(from..);
        let &(found, end, _) = later.next()?;
        (found == door).then_some(end)
    }

    /// A door's leases that end by then.
    fn ending_by(&self, door: u16, time: Time) -> impl Iterator<Item = &Lease> {
        let to = (door, Time(time.0.saturating_add(1)), first());
        let ending = self.doors.range((door, Time(0), first())..to);
        ending.filter_map(|&(door, _, address)| self.get(door, address))
    }
}
