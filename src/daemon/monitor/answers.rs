//! What posternctl asks.

use super::Monitor;
use crate::config::{Door, Network};
use crate::daemon::clock;
use crate::daemon::control::{
    DoorView, InterfaceView, LeaseView, OpeningsView, Request, Response, RestartView, StatusView,
};
use crate::daemon::fire::{LONG, SHORT};
use crate::firewall::{Firewall, Opening};
use crate::time::Time;

impl Monitor {
    pub(super) fn answer(&mut self, now: Time) {
        for (id, request) in self.server.read(now) {
            let response = match request {
                Ok(Request::List) => Response::Leases(self.list(now)),
                Ok(Request::Status) => Response::Status(Box::new(self.status(now))),
                Ok(Request::Close { address, door }) => self.close(address, door.as_deref(), now),
                Ok(Request::Reload) => match self.reload(now) {
                    // Answered when the new listener is in charge.
                    Ok(warnings) => {
                        self.reloading.push((id, self.generation, warnings));
                        continue;
                    }
                    Err(lines) => {
                        self.say_not_reloaded(&lines);
                        Response::Error(lines.join("\n"))
                    }
                },
                Ok(Request::Confirm) => self.confirm(now),
                Ok(Request::Unguard) => self.unguard(now),
                Err(e) => Response::Error(format!("not understood: {e}")),
            };
            self.server.answer(id, &response);
        }
    }

    pub(super) fn list(&self, now: Time) -> Vec<LeaseView> {
        let leases = self.leases.iter().filter_map(|lease| {
            let failure = self.broken.get(&Opening {
                door: lease.door,
                address: lease.address,
            });
            Some(LeaseView {
                door: self.doors.get(lease.door)?.name.clone(),
                address: lease.address,
                key: lease
                    .key
                    .and_then(|k| Some(self.doors.key(k)?.name.clone())),
                since: clock::seconds(clock::wall(lease.since)),
                until: clock::seconds(clock::wall(lease.until)),
                remaining: lease.until.since(now).as_secs(),
                in_force: failure.is_none(),
                failure: failure.cloned(),
            })
        });
        leases.collect()
    }

    pub(super) fn status(&mut self, now: Time) -> StatusView {
        self.look_out(now);
        let missing = self.listeners.missing();
        let pid = self.listeners.pid();
        let config = &self.doors.config;
        let figures = self.listeners.figures();
        let counted = figures.counted;
        let doors = self.door_views();
        let failed = doors.iter().map(|door| door.failed).sum();
        let leases: usize = doors.iter().map(|door| door.leases).sum();
        let tally = self.tally();
        let told = |time| clock::seconds(clock::wall(time));
        let died = self.listeners.last_death.as_ref();
        StatusView {
            version: env!("CARGO_PKG_VERSION").into(),
            monitor: std::process::id() as i32,
            listener: pid.map(|p| p as i32),
            user: self.user.name.clone(),
            confined_by: self
                .listeners
                .layers()
                .names()
                .iter()
                .map(|&name| name.into())
                .collect(),
            since: clock::seconds(self.since),
            config: self.options.config.display().to_string(),
            generation: self.generation,
            interfaces: config
                .interfaces
                .iter()
                .map(|name| InterfaceView {
                    name: name.clone(),
                    listening: pid.is_some() && !missing.contains(name),
                })
                .collect(),
            firewall: self.firewall.name().into(),
            driven: self.firewall.driven(),
            guards: self.guards(),
            openings: OpeningsView {
                in_force: leases - failed,
                failed,
            },
            doors,
            keys: (config.keys.iter())
                .map(|key| self.counts.key(&key.name))
                .collect(),
            fire: self.fire(),
            ten_seconds: self.lookout.last(SHORT, now),
            minute: self.lookout.last(LONG, now),
            packets: tally.passed,
            dropped: tally.dropped,
            attempts: counted.attempts,
            spa: (!config.keys.is_empty()).then_some(figures.spa),
            granted: tally.granted,
            refused: tally.refused,
            refused_for: self.counts.refused,
            withheld: tally.withheld,
            withheld_at: self.log.withheld_at().map(told),
            restarts: self.listeners.restarts,
            last_restart: died.map(|(at, why)| RestartView {
                at: told(*at),
                why: why.clone(),
            }),
        }
    }

    /// The doors, all leases looked at once.
    fn door_views(&self) -> Vec<DoorView> {
        let view = |door: &Door| {
            let counted = self.counts.door(&door.name);
            DoorView {
                name: door.name.clone(),
                leases: 0,
                failed: 0,
                granted: counted.granted,
                refused: counted.refused,
                gave_way: counted.gave_way,
            }
        };
        let mut doors: Vec<DoorView> = self.doors.config.doors.iter().map(view).collect();
        for lease in self.leases.iter() {
            let (door, address) = (lease.door, lease.address);
            if let Some(view) = doors.get_mut(usize::from(door)) {
                view.leases += 1;
                let broken = self.broken.contains_key(&Opening { door, address });
                view.failed += usize::from(broken);
            }
        }
        doors
    }

    pub(super) fn close(&mut self, address: Network, door: Option<&str>, now: Time) -> Response {
        let place = match door.map(|name| (name, self.doors.place(name))) {
            Some((name, None)) => return Response::Error(format!("{name}: no such door")),
            Some((_, place)) => place,
            None => None,
        };
        let mut changes = Vec::new();
        self.leases
            .close(address, place, |change| changes.push(change));
        self.carry_out(&changes, now);
        match self.journal.catch_up() {
            Ok(()) => Response::Closed(changes.len()),
            Err(e) => Response::Error(format!(
                "{} closed; but until the journal can be written ({e}) a restart of posternd \
                 brings them back",
                changes.len()
            )),
        }
    }
}
