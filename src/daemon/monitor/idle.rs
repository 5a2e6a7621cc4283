//! Leases that go on as long as there is traffic.

use std::collections::HashSet;

use super::Monitor;
use crate::daemon::log::{About, Level};
use crate::firewall::{Firewall, Opening};
use crate::lease::Change;
use crate::lease::idle::Traffic;
use crate::time::Time;

/// What is known of traffic through leases.
#[derive(Debug, Default)]
pub(super) struct Idle {
    traffic: Traffic,
    /// Leases of which it has been said that traffic keeps them.
    said: HashSet<Opening>,
    /// Leases whose ends are being moved for traffic.
    moving: HashSet<Opening>,
}

impl Idle {
    /// Whether the end of this lease is being moved for traffic. That is said once for a lease:
    /// as long as a connection stands it is done again and again.
    pub(super) fn is_moving(&self, opening: Opening) -> bool {
        self.moving.contains(&opening)
    }

    /// The doors have other places now, or none.
    pub(super) fn moved(&mut self, to: impl Fn(Opening) -> Option<Opening>) {
        self.said = self.said.drain().filter_map(&to).collect();
        self.traffic.moved(|door, address| {
            let moved = to(Opening { door, address })?;
            Some((moved.door, moved.address))
        });
    }
}

impl Monitor {
    /// When [`Monitor::look_for_traffic`] has something to do next.
    pub(super) fn next_traffic(&self) -> Option<Time> {
        self.idle.traffic.next_look(&self.leases)
    }

    /// Keeps leases that are about to end and had traffic lately.
    pub(super) fn look_for_traffic(&mut self, now: Time) {
        if self.next_traffic().is_none_or(|at| now < at) {
            return;
        }
        let traffic = match self.firewall.traffic() {
            Ok(traffic) => {
                self.said.remove("traffic");
                traffic
            }
            // Leases end then as if there had been none.
            Err(e) => {
                let text = format!("traffic: {e}: leases end as if there were none");
                self.say_once("traffic", &text);
                Vec::new()
            }
        };
        let traffic = traffic.into_iter().map(|(o, ago)| (o.door, o.address, ago));
        self.idle.traffic.looked(&self.leases, traffic, now);
        let leases = &self.leases;
        let stands = |opening: &Opening| leases.get(opening.door, opening.address).is_some();
        self.idle.said.retain(stands);
        let mut changes: Vec<Change> = Vec::new();
        self.idle
            .traffic
            .keep(&mut self.leases, now, |change| changes.push(change));
        for &Change { door, address, .. } in &changes {
            let opening = Opening { door, address };
            self.idle.moving.insert(opening);
            let Some(name) = self.doors.get(door).map(|door| &door.name) else {
                continue;
            };
            if self.idle.said.insert(opening) {
                let text = format!("{name}: traffic keeps it open for {address}");
                let source = address.address();
                self.log
                    .caused(About::Doors, Level::Notice, source, now, &text);
            }
        }
        self.carry_out(&changes, now);
        self.idle.moving.clear();
    }
}
