//! New guards on trial: sessions are looked at, guards confirmed and withdrawn.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Monitor;
use crate::config::{Config, Door};
use crate::daemon::clock;
use crate::daemon::control::{GuardState, GuardView, Response};
use crate::daemon::log::Level;
use crate::daemon::recovery::openings;
use crate::daemon::trial::{Cause, Found, Key, State, Trials};
use crate::firewall::Firewall;
use crate::firewall::sessions::{self, Session};
use crate::time::Time;

/// How often sessions are looked at while a trial runs and somebody has a lease.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How it stands with the guards, and where that is kept.
pub(super) struct Guards {
    trials: Trials,
    path: PathBuf,
    boot: String,
    /// When sessions are looked at next.
    look_at: Time,
    /// The packet filter did not do as it was told last.
    unsettled: bool,
    /// The file is behind.
    unwritten: bool,
}

impl Guards {
    /// Reads the file; what is wrong with it, in words.
    pub(super) fn open(path: &Path, boot: String) -> (Guards, Option<String>) {
        let Found { trials, damaged } = Trials::read(path, &boot);
        let guards = Guards {
            trials,
            path: path.to_owned(),
            boot,
            look_at: Time(0),
            unsettled: false,
            // Written anew where it was damaged.
            unwritten: damaged.is_some(),
        };
        let damaged = damaged.map(|why| format!("{}: {why}", path.display()));
        (guards, damaged)
    }

    /// How it will stand when this configuration is in force.
    pub(super) fn under(&self, config: &Config, now: Time, cause: Cause) -> Trials {
        let mut trials = self.trials.clone();
        trials.take_up(config, now, cause);
        trials
    }

    /// When there is something to do next.
    pub(super) fn next(&self, leases: bool) -> Option<Time> {
        let end = self.trials.next_end()?;
        Some(if leases { end.min(self.look_at) } else { end })
    }

    /// The doors as they are to stand.
    pub(super) fn doors(&self, config: &Config) -> Vec<Door> {
        self.trials.doors(config)
    }
}

impl Monitor {
    /// `trials` holds from now on: the packet filter does already as it says.
    pub(super) fn put_in_force(&mut self, trials: Trials) -> Result<(), String> {
        let before = std::mem::replace(&mut self.guards.trials, trials);
        self.guards.unwritten |= before != self.guards.trials;
        self.write_trials()
    }

    /// Writes down how it stands with the guards, if that is not written yet.
    pub(super) fn write_trials(&mut self) -> Result<(), String> {
        let Guards {
            trials, path, boot, ..
        } = &self.guards;
        if !self.guards.unwritten {
            return Ok(());
        }
        match trials.write(path, boot) {
            Ok(()) => {
                self.guards.unwritten = false;
                self.said.remove("trial");
                Ok(())
            }
            Err(e) => {
                let text = format!("{}: {e}: not known after a restart", path.display());
                self.say_once("trial", &text);
                Err(text)
            }
        }
    }

    /// Says which guards are on trial or withdrawn, and what to do.
    pub(super) fn say_trials(&mut self) {
        for guard in self.guards() {
            if guard.state != GuardState::Confirmed {
                self.log.line(Level::Warning, &guard.to_string());
            }
        }
    }

    /// Every guard of the configuration in force.
    pub(super) fn guards(&self) -> Vec<GuardView> {
        let guards = self.guards.trials.of(&self.doors.config);
        let view = |(key, state): (Key, State)| {
            let (state, until) = match state {
                State::Trial { until } => (GuardState::Trial, Some(Time(until))),
                State::Confirmed => (GuardState::Confirmed, None),
                State::Withdrawn => (GuardState::Withdrawn, None),
            };
            GuardView {
                guard: key.to_string(),
                state,
                until: until.map(|until| clock::seconds(clock::wall(until))),
            }
        };
        guards.map(view).collect()
    }

    fn sessions_on_trial(&mut self) -> Option<Vec<Session>> {
        let ports = self.guards.trials.ports(&self.doors.config);
        if ports.is_empty() {
            return None;
        }
        let found = sessions::established(&ports);
        found
            .map_err(|e| {
                let text = format!("trial: sessions cannot be looked at: {e}: posternctl confirm");
                self.say_once("sessions", &text);
            })
            .ok()
    }

    /// A trial begins: the sessions that are there prove nothing.
    pub(super) fn note_sessions(&mut self) {
        if let Some(sessions) = self.sessions_on_trial() {
            self.guards.trials.know(sessions);
        }
    }

    /// Somebody will be let in: whatever is there before has not come in by that.
    pub(super) fn look_before_opening(&mut self) {
        if let Some(sessions) = self.sessions_on_trial() {
            self.look_at(&sessions);
            self.guards.trials.know(sessions);
        }
    }

    /// Confirms guards that somebody has come through.
    pub(super) fn look_at_sessions(&mut self) {
        if let Some(sessions) = self.sessions_on_trial() {
            self.look_at(&sessions);
        }
    }

    fn look_at(&mut self, sessions: &[Session]) {
        let trials = &mut self.guards.trials;
        let proven = trials.see(&self.doors.config, sessions, &self.leases);
        if proven.is_empty() {
            return;
        }
        self.guards.unwritten = true;
        // Said in the log if it could not be.
        let _ = self.write_trials();
        for (key, who) in proven {
            let text = format!("guard {key}: confirmed by a connection of {who}");
            self.log.line(Level::Notice, &text);
        }
    }

    /// Looks at sessions when it is time to, and ends trials that are over.
    pub(super) fn watch_trials(&mut self, now: Time) {
        let Some(end) = self.guards.trials.next_end() else {
            return;
        };
        let due = self.guards.look_at.min(end) <= now;
        if due && self.leases.next_end().is_some() {
            self.guards.look_at = now + LOOK_EVERY;
            self.look_at_sessions();
        }
        if now < end {
            return;
        }
        let over = self.guards.trials.end(now);
        if over.is_empty() {
            return;
        }
        self.guards.unwritten = true;
        // Said in the log if it could not be.
        let _ = self.write_trials();
        for key in &over {
            let text = format!(
                "guard {key}: WITHDRAWN: its trial is over and nobody has come in through a lease; \
                 nothing of ours guards the port now; posternctl confirm puts the guard back for \
                 good, posternctl reload on trial"
            );
            self.log.line(Level::Warning, &text);
        }
        self.settle(now);
    }

    /// Makes the packet filter do as the guards' states say; again at the next upkeep if it
    /// does not.
    pub(super) fn settle(&mut self, now: Time) {
        let doors = self.guards.doors(&self.doors.config);
        let upkeep = self
            .firewall
            .establish(&doors, &openings(&self.leases, now));
        self.guards.unsettled = upkeep.is_err();
        match upkeep {
            Ok(upkeep) => {
                self.said.remove("firewall");
                self.say_upkeep(&upkeep);
            }
            Err(e) => self.say_once("firewall", &format!("firewall: {e}")),
        }
    }

    /// Whether the packet filter has yet to do as it was told.
    pub(super) fn unsettled(&self) -> bool {
        self.guards.unsettled
    }

    /// All guards stand for good.
    pub(super) fn confirm(&mut self, now: Time) -> Response {
        let mut trials = self.guards.trials.clone();
        let confirmed = trials.confirm();
        let doors = trials.doors(&self.doors.config);
        if doors != self.guards.doors(&self.doors.config) {
            let all = openings(&self.leases, now);
            match self.firewall.establish(&doors, &all) {
                Ok(upkeep) => self.say_upkeep(&upkeep),
                Err(e) => {
                    self.settle(now);
                    return Response::Error(format!("nothing is confirmed: {e}"));
                }
            }
        }
        let written = self.put_in_force(trials);
        for key in &confirmed {
            let text = format!("guard {key}: confirmed by the administrator");
            self.log.line(Level::Notice, &text);
        }
        match written {
            Ok(()) => Response::Confirmed(in_words(confirmed)),
            Err(e) => Response::Error(e),
        }
    }

    /// No guard stands, at once.
    pub(super) fn unguard(&mut self, now: Time) -> Response {
        let mut trials = self.guards.trials.clone();
        let withdrawn = trials.withdraw(Some(&self.doors.config));
        let written = self.put_in_force(trials);
        for key in &withdrawn {
            let text = format!("guard {key}: WITHDRAWN by the administrator");
            self.log.line(Level::Warning, &text);
        }
        self.settle(now);
        if self.guards.unsettled
            && let Err(e) = self.firewall.unguard()
        {
            return Response::Error(format!("guards may stand: {e}"));
        }
        match written {
            Ok(()) => Response::Unguarded(in_words(withdrawn)),
            Err(e) => Response::Error(format!("no guard stands now, but: {e}")),
        }
    }
}

fn in_words(keys: Vec<Key>) -> Vec<String> {
    keys.iter().map(Key::to_string).collect()
}
