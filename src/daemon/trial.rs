//! The trial of a new guard: which guards have shown that one gets in through them, which have
//! yet to, and which have been withdrawn because nobody did.
//!
//! A guard that locks its administrator out is worse than none. So one that has not stood
//! before is on trial: a TCP session that came in through a lease confirms it, or
//! `posternctl confirm`; at the end of its trial it is withdrawn otherwise. What is known is kept
//! in a file and outlives the process, and in a copy of it, since a disk that loses the file must
//! neither open a port nor lock anybody out. Pure but for [`Trials::read`] and
//! [`Trials::write`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files;
use crate::config::{Action, Config, Door, FirewallKind, Opens, Port, Protocol, To};
use crate::firewall::sessions::Session;
use crate::journal::{checksum, kept};
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

/// The end of a trial that has to run its full length again: it began in an earlier boot.
const AGAIN: u64 = u64::MAX;

/// What becomes of a guard where no daemon runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alone {
    /// It stands.
    Stands,
    /// It has been withdrawn, and stays away.
    Withdrawn,
    /// It comes when a daemon runs: whoever is locked out by it has to be able to knock.
    Waits,
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

/// The file is never longer: as many guards as there can be.
const LONGEST: u64 = 64 << 20;

/// What the file says.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// The boot that ends of trials are counted from.
    boot: String,
    guards: BTreeMap<Key, State>,
}

/// The file.
#[derive(Serialize, Deserialize)]
struct Sealed {
    #[serde(flatten)]
    stored: Stored,
    /// Of the rest, as compact JSON.
    checksum: String,
}

impl Stored {
    fn checksum(&self) -> io::Result<String> {
        Ok(format!("{:016x}", checksum(&serde_json::to_vec(self)?)))
    }

    /// Reads one file; none if there is none.
    fn read(path: &Path) -> io::Result<Option<Stored>> {
        let Some(mut file) = kept(path, LONGEST)? else {
            return Ok(None);
        };
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        Stored::parse(&text).map(Some)
    }

    fn parse(text: &[u8]) -> io::Result<Stored> {
        let Sealed { stored, checksum } = serde_json::from_slice(text)?;
        match stored.checksum()? == checksum {
            true => Ok(stored),
            false => Err(io::Error::other("it does not fit its checksum")),
        }
    }
}

fn copy_of(path: &Path) -> PathBuf {
    path.with_extension("copy")
}

/// What the file said.
#[derive(Debug)]
pub struct Found {
    /// How it stands.
    pub trials: Trials,
    /// What is wrong with the file, and what is believed in its place.
    pub damaged: Option<String>,
}

impl Trials {
    /// Reads the file at `path`; none is none. In the place of one that is damaged its copy is
    /// read. `boot` names the boot the system runs in: a trial of another one runs its full
    /// length again.
    pub fn read(path: &Path, boot: &str) -> Found {
        let (stored, damaged) = match Stored::read(path) {
            Ok(stored) => (stored, None),
            Err(e) => match Stored::read(&copy_of(path)) {
                Ok(Some(copy)) => (
                    Some(copy),
                    Some(format!("damaged: {e}: its copy is believed")),
                ),
                _ => (
                    None,
                    Some(format!("damaged, no guard counts as confirmed: {e}")),
                ),
            },
        };
        Found {
            trials: stored.map_or_else(Trials::default, |stored| Trials::stored(stored, boot)),
            damaged,
        }
    }

    /// What one file's text says; see [`Trials::read`].
    pub fn parse(text: &[u8], boot: &str) -> Found {
        match Stored::parse(text) {
            Ok(stored) => Found {
                trials: Trials::stored(stored, boot),
                damaged: None,
            },
            Err(e) => Found {
                trials: Trials::default(),
                damaged: Some(e.to_string()),
            },
        }
    }

    fn stored(
        Stored {
            boot: then,
            mut guards,
        }: Stored,
        boot: &str,
    ) -> Trials {
        for state in guards.values_mut() {
            if let State::Trial { until } = state
                && then != boot
            {
                *until = AGAIN;
            }
        }
        Trials {
            guards,
            known: BTreeSet::new(),
        }
    }

    /// Writes the file and its copy, mode 0600.
    ///
    /// # Errors
    /// The system's; each says what it said before, or what it says now.
    pub fn write(&self, path: &Path, boot: &str) -> io::Result<()> {
        let stored = Stored {
            boot: boot.to_owned(),
            guards: self.guards.clone(),
        };
        let checksum = stored.checksum()?;
        let mut text = serde_json::to_vec_pretty(&Sealed { stored, checksum })?;
        text.push(b'\n');
        files::replace(path, &text)?;
        files::replace(&copy_of(path), &text)
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
        self.doors_with(config, |state| state != Some(&State::Withdrawn))
    }

    /// The doors of a configuration as they are to stand where no daemon runs: a guard that has
    /// not stood in this boot only if it is known that one gets in through it.
    pub fn doors_alone(&self, config: &Config) -> Vec<Door> {
        self.doors_with(config, |state| alone(state) == Alone::Stands)
    }

    /// What becomes of the guards of a configuration where no daemon runs.
    pub fn alone(&self, config: &Config) -> Vec<(Key, Alone)> {
        let guards = guards(config).into_keys();
        let each = guards.map(|key| {
            let becomes = alone(self.guards.get(&key));
            (key, becomes)
        });
        each.collect()
    }

    fn doors_with(&self, config: &Config, stands: impl Fn(Option<&State>) -> bool) -> Vec<Door> {
        let mut doors = config.doors.clone();
        for door in &mut doors {
            let before = door.clone();
            if let Action::Open(opens) = &mut door.action
                && let Some(guard) = &mut opens.guard
            {
                guard.ports.retain(|&port| {
                    let key = Key::new(config, &before, opens.to, port);
                    stands(self.guards.get(&key))
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

    /// The TCP ports whose sessions are to be looked at: those with guards, as long as one is on
    /// trial.
    pub fn ports(&self, config: &Config) -> Vec<u16> {
        if self.next_end().is_none() {
            return Vec::new();
        }
        let guarded = crate::config::guarded(&config.doors).into_iter();
        let tcp = guarded.filter(|port| port.protocol == Protocol::Tcp);
        tcp.map(|port| port.number).collect()
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
        let all = BTreeSet::from_iter(sessions);
        self.known.retain(|session| all.contains(session));
        let leased = |port: Port, address: IpAddr| {
            let places = (0..=u16::MAX).zip(&config.doors);
            let mut opening =
                places.filter(|(_, door)| opens(door).is_some_and(|o| o.ports.contains(&port)));
            opening.any(|(place, _)| leases.of(place, address).is_some())
        };
        // Most often there are none, and then no guard is looked at.
        let through_leases = sessions.iter().filter(|session| {
            let address = session.remote.ip();
            let port = Port {
                number: session.local.port(),
                protocol: Protocol::Tcp,
            };
            !self.known.contains(session)
                && !config.always.iter().any(|n| n.contains(address))
                && leased(port, address)
        });
        let through_leases: Vec<&Session> = through_leases.collect();
        let mut proven = Vec::new();
        if through_leases.is_empty() {
            return proven;
        }
        for (key, (port, to)) in guards(config) {
            if !self.is_on_trial(&key) || port.protocol != Protocol::Tcp {
                continue;
            }
            let by = through_leases.iter().find(|session| {
                let here = match to {
                    To::Network(network) => network.contains(session.local.ip()),
                    To::Me | To::Any => true,
                };
                session.local.port() == port.number && here
            });
            if let Some(session) = by {
                self.guards.insert(key.clone(), State::Confirmed);
                proven.push((key, session.remote.ip()));
            }
        }
        proven
    }
}

fn alone(state: Option<&State>) -> Alone {
    match state {
        Some(State::Confirmed) => Alone::Stands,
        Some(State::Trial { until }) if *until != AGAIN => Alone::Stands,
        Some(State::Withdrawn) => Alone::Withdrawn,
        Some(State::Trial { .. }) | None => Alone::Waits,
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
