//! The trial of a new guard: which guards have shown that one gets in through them, which have
//! yet to, and which have been withdrawn because nobody did.
//!
//! A guard that locks its administrator out is worse than none. So one that has not stood
//! before is on trial: a TCP session that came in through a lease confirms it, or
//! `posternctl confirm`; at the end of its trial it is withdrawn otherwise. What is known is kept
//! in a file and outlives the process. Pure but for [`Trials::read`] and [`Trials::write`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::files;
use crate::config::{Action, Config, Door, FirewallKind, Opens, Port, Protocol, To};
use crate::firewall::sessions::Session;
use crate::lease::Leases;
use crate::time::Time;

/// What makes a guard this one and no other: the packet filter, its port, whom it protects and
/// where it stands, in words: `ipfw 22/tcp to me on xl0`. With another rule number it is the
/// same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(String);

impl Key {
    fn new(config: &Config, door: &Door, to: To, port: Port) -> Key {
        let firewall = match config.firewall {
            FirewallKind::Ipfw => "ipfw",
            FirewallKind::Pf => "pf",
            FirewallKind::Nft => "nft",
            FirewallKind::Memory => "memory",
            FirewallKind::None => "none",
        };
        let to = match to {
            To::Me => "me".to_owned(),
            To::Any => "any".to_owned(),
            To::Network(network) => network.to_string(),
        };
        let on = match door.on.is_empty() {
            true => &config.interfaces,
            false => &door.on,
        };
        let on: BTreeSet<&str> = match on.iter().any(|name| name == "any") {
            true => BTreeSet::from(["any"]),
            false => on.iter().map(String::as_str).collect(),
        };
        let on = Vec::from_iter(on).join(" ");
        Key(format!("{firewall} {port} to {to} on {on}"))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How it stands with a guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum State {
    /// On trial.
    Trial {
        /// When the trial ends, microseconds since boot.
        until: u64,
    },
    /// It stands for good.
    Confirmed,
    /// It does not stand.
    Withdrawn,
}

/// What brings a configuration in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The daemon starts.
    Start,
    /// The administrator asked for it.
    Reload,
}

/// How it stands with all guards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trials {
    guards: BTreeMap<Key, State>,
    /// Sessions at guarded ports that prove nothing: they were there before.
    known: BTreeSet<Session>,
}

/// The file.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// The boot that ends of trials are counted from.
    boot: String,
    guards: BTreeMap<Key, State>,
}

/// What the file said.
#[derive(Debug)]
pub struct Found {
    /// How it stands.
    pub trials: Trials,
    /// What is wrong with the file, which then counts for nothing.
    pub damaged: Option<String>,
}

impl Trials {
    /// Reads the file at `path`; none is none. `boot` names the boot the system runs in: a
    /// trial of another one runs its full length again.
    ///
    /// # Errors
    /// The system's.
    pub fn read(path: &Path, boot: &str) -> io::Result<Found> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Ok(Found {
                    trials: Trials::default(),
                    damaged: None,
                });
            }
            Err(e) => return Err(e),
        };
        Ok(Trials::parse(&text, boot))
    }

    /// What the file's text says; see [`Trials::read`].
    pub fn parse(text: &[u8], boot: &str) -> Found {
        let (guards, damaged) = match serde_json::from_slice::<Stored>(text) {
            Ok(stored) => {
                let mut guards = stored.guards;
                for state in guards.values_mut() {
                    if let State::Trial { until } = state
                        && stored.boot != boot
                    {
                        *until = u64::MAX;
                    }
                }
                (guards, None)
            }
            Err(e) => (
                BTreeMap::new(),
                Some(format!("damaged, no guard counts as confirmed: {e}")),
            ),
        };
        let known = BTreeSet::new();
        Found {
            trials: Trials { guards, known },
            damaged,
        }
    }

    /// Writes the file, mode 0600.
    ///
    /// # Errors
    /// The system's; the file says what it said before.
    pub fn write(&self, path: &Path, boot: &str) -> io::Result<()> {
        let stored = Stored {
            boot: boot.to_owned(),
            guards: self.guards.clone(),
        };
        let mut text = serde_json::to_vec_pretty(&stored)?;
        text.push(b'\n');
        files::replace(path, &text)
    }

    /// A configuration comes in force at `now`: guards that have not been seen before go on
    /// trial, and at a reload those that were withdrawn go again. No trial that runs ends later
    /// by it. Without trials all of these count as confirmed.
    pub fn take_up(&mut self, config: &Config, now: Time, cause: Cause) {
        let wanted = guards(config);
        self.guards
            .retain(|key, state| *state == State::Confirmed || wanted.contains_key(key));
        let whole = config.trial.map(|length| State::Trial {
            until: (now + length).0,
        });
        let whole = whole.unwrap_or(State::Confirmed);
        for (key, _) in wanted {
            let state = self.guards.entry(key).or_insert(whole);
            *state = match (*state, whole) {
                (State::Trial { until }, State::Trial { until: longest }) => State::Trial {
                    until: until.min(longest),
                },
                (State::Trial { .. }, whole) => whole,
                (State::Withdrawn, whole) if cause == Cause::Reload => whole,
                (state, _) => state,
            };
        }
    }

    /// How it stands with the guards of a configuration.
    pub fn of<'a>(&'a self, config: &Config) -> impl Iterator<Item = (Key, State)> + 'a {
        let guards = guards(config).into_keys();
        guards.filter_map(|key| {
            let state = *self.guards.get(&key)?;
            Some((key, state))
        })
    }

    /// Whether every guard of a configuration has been seen before.
    pub fn know_all(&self, config: &Config) -> bool {
        guards(config)
            .keys()
            .all(|key| self.guards.contains_key(key))
    }

    /// The doors of a configuration as they are to stand: without the guards that have been
    /// withdrawn.
    pub fn doors(&self, config: &Config) -> Vec<Door> {
        let mut doors = config.doors.clone();
        for door in &mut doors {
            let before = door.clone();
            if let Action::Open(opens) = &mut door.action
                && let Some(guard) = &mut opens.guard
            {
                guard.ports.retain(|&port| {
                    let key = Key::new(config, &before, opens.to, port);
                    self.guards.get(&key) != Some(&State::Withdrawn)
                });
            }
        }
        doors
    }

    /// Withdraws the guards whose trial is over at `now`, and says which.
    pub fn end(&mut self, now: Time) -> Vec<Key> {
        self.change(
            State::Withdrawn,
            |state| matches!(state, State::Trial { until } if *until <= now.0),
        )
    }

    /// When [`Trials::end`] has something to do next.
    pub fn next_end(&self) -> Option<Time> {
        let ends = self.guards.values().filter_map(|state| match state {
            State::Trial { until } => Some(Time(*until)),
            _ => None,
        });
        ends.min()
    }

    /// Confirms all guards, and says which were not confirmed before.
    pub fn confirm(&mut self) -> Vec<Key> {
        self.change(State::Confirmed, |state| *state != State::Confirmed)
    }

    /// Withdraws all guards that are known, and those of this configuration; says which stood
    /// before.
    pub fn withdraw(&mut self, config: Option<&Config>) -> Vec<Key> {
        for key in config.map(guards).unwrap_or_default().into_keys() {
            self.guards.entry(key).or_insert(State::Confirmed);
        }
        self.change(State::Withdrawn, |state| *state != State::Withdrawn)
    }

    fn change(&mut self, to: State, which: impl Fn(&State) -> bool) -> Vec<Key> {
        let mut changed = Vec::new();
        for (key, state) in &mut self.guards {
            if which(state) {
                *state = to;
                changed.push(key.clone());
            }
        }
        changed
    }

    /// The TCP ports whose guards are on trial.
    pub fn ports(&self, config: &Config) -> Vec<u16> {
        let guards = guards(config).into_iter();
        let ports: BTreeSet<u16> = guards
            .filter(|(key, (port, _))| self.is_on_trial(key) && port.protocol == Protocol::Tcp)
            .map(|(_, (port, _))| port.number)
            .collect();
        Vec::from_iter(ports)
    }

    fn is_on_trial(&self, key: &Key) -> bool {
        matches!(self.guards.get(key), Some(State::Trial { .. }))
    }

    /// These sessions are there before whatever comes now: they will prove nothing.
    pub fn know(&mut self, sessions: Vec<Session>) {
        self.known = sessions.into_iter().collect();
    }

    /// The sessions at [`Trials::ports`], with the leases there are: guards through which
    /// somebody has come by a lease are confirmed. Which, and who it was.
    ///
    /// Whoever always passes proves nothing.
    pub fn see(
        &mut self,
        config: &Config,
        sessions: &[Session],
        leases: &Leases,
    ) -> Vec<(Key, IpAddr)> {
        self.known.retain(|session| sessions.contains(session));
        let mut proven = Vec::new();
        for (key, (port, to)) in guards(config) {
            if !self.is_on_trial(&key) || port.protocol != Protocol::Tcp {
                continue;
            }
            let leased = |address: IpAddr| {
                let places = (0..=u16::MAX).zip(&config.doors);
                let mut opening =
                    places.filter(|(_, door)| opens(door).is_some_and(|o| o.ports.contains(&port)));
                opening.any(|(place, _)| leases.get(place, address).is_some())
            };
            let by = sessions.iter().find(|session| {
                let address = session.remote.ip();
                let here = match to {
                    To::Network(network) => network.contains(session.local.ip()),
                    To::Me | To::Any => true,
                };
                session.local.port() == port.number
                    && here
                    && !self.known.contains(session)
                    && !config.always.iter().any(|n| n.contains(address))
                    && leased(address)
            });
            if let Some(session) = by {
                self.guards.insert(key.clone(), State::Confirmed);
                proven.push((key, session.remote.ip()));
            }
        }
        proven
    }
}

/// The guards that a configuration wants.
fn guards(config: &Config) -> BTreeMap<Key, (Port, To)> {
    let mut guards = BTreeMap::new();
    if config.firewall == FirewallKind::None {
        return guards;
    }
    for door in &config.doors {
        let Some(opens) = opens(door) else { continue };
        for &port in opens.guard.iter().flat_map(|guard| &guard.ports) {
            guards.insert(Key::new(config, door, opens.to, port), (port, opens.to));
        }
    }
    guards
}

fn opens(door: &Door) -> Option<&Opens> {
    match &door.action {
        Action::Open(opens) => Some(opens),
        Action::Command(_) => None,
    }
}

#[cfg(test)]
mod tests;
