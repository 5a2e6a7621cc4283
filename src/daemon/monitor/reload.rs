//! Another configuration takes the place of the one in force: whole, or not at all.

use std::collections::HashMap;
use std::time::Duration;

use super::Monitor;
use super::grants::in_words;
use super::start::{Unprivileged, confinable, load, log_to};
use crate::config::{Action, Config, Door};
use crate::daemon::control::Response;
use crate::daemon::doors::Doors;
use crate::daemon::log::Level;
use crate::daemon::recovery::openings;
use crate::daemon::trial::Cause;
use crate::firewall::{Failure, Firewall, Opening, Upkeep, command};
use crate::journal::Record;
use crate::lease::{Act, Change, Lease};
use crate::time::Time;

impl Monitor {
    pub(super) fn say_not_reloaded(&mut self, lines: &[String]) {
        self.log.line(
            Level::Error,
            "not reloaded, the configuration before goes on:",
        );
        for line in lines {
            self.log.line(Level::Error, line);
        }
    }

    /// The new configuration whole, or nothing; its warnings.
    pub(super) fn reload(&mut self, now: Time) -> Result<Vec<String>, Vec<String>> {
        let file = self.options.config.display().to_string();
        if let Some(line) = self.options.voice.rereading(&file) {
            self.say(&line);
        }
        let (config, warnings) = load(&self.options)?;
        let user = Unprivileged::of(&config).map_err(|e| vec![e])?;
        confinable(&config).map_err(|e| vec![e])?;
        let mut notes = Vec::new();
        let before = &self.doors.config;
        for (key, changed) in [
            ("control", config.control != before.control),
            ("state", config.state != before.state),
            ("pidfile", config.pidfile != before.pidfile),
        ] {
            if changed {
                notes.push(format!(
                    "{key}: takes effect when posternd is started again"
                ));
            }
        }
        let config = Config {
            control: before.control.clone(),
            state: before.state.clone(),
            pidfile: before.pidfile.clone(),
            ..config
        };
        let (doors, wrong) = Doors::new(config, now);
        notes.extend(wrong);
        let (log, log_before) = (
            log_to(&self.options, &doors.config),
            log_to(&self.options, before),
        );
        if log != log_before {
            self.log
                .reopen(&log)
                .map_err(|e| vec![format!("log: {e}")])?;
        }

        let map: HashMap<u16, u16> = (0u16..)
            .zip(&before.doors)
            .filter_map(|(place, old)| {
                let new = doors.place(&old.name)?;
                let same_kind = old.opens_ports() == doors.get(new)?.opens_ports();
                same_kind.then_some((place, new))
            })
            .collect();
        let mut leases = self.leases.clone();
        let ended = leases.remap(
            doors.terms(),
            now,
            |old| map.get(&old).copied(),
            |old, door| {
                let name = &before.keys.get(usize::from(old))?.name;
                let new = doors.key_place(name)?;
                doors.key(new)?.doors.contains(&door).then_some(new)
            },
        );
        let before = self.doors.config.clone();
        self.look_at_sessions();
        let trials = self.guards.under(&doors.config, now, Cause::Reload);
        let wanted = trials.doors(&doors.config);
        let upkeep = match self.establish(&doors.config, &wanted, &openings(&leases, now)) {
            Ok(upkeep) => upkeep,
            Err(e) => {
                let mut lines = vec![e.to_string()];
                let wanted = self.guards.doors(&before);
                let all = openings(&self.leases, now);
                if let Err(e) = self.establish(&before, &wanted, &all) {
                    lines.push(format!("nor does the configuration before stand: {e}"));
                }
                self.log.reopen(&log_before).unwrap_or_default();
                return Err(lines);
            }
        };

        let mut records = self.end_all(&ended, now);
        records.extend(leases.iter().filter_map(|lease| {
            let door = doors.get(lease.door)?.name.clone();
            let key = lease.key.and_then(|key| doors.key(key));
            let Lease { address, until, .. } = *lease;
            Some(Record::Extend {
                door,
                address,
                until: until.0,
                key: key.map(|key| key.name.clone()),
            })
        }));
        self.note_in_journal(&records);
        self.leases = leases;
        let moved = |o: Opening| map.get(&o.door).map(|&door| Opening { door, ..o });
        let broken = self.broken.drain();
        self.broken = broken.filter_map(|(o, e)| Some((moved(o)?, e))).collect();
        let closing = self.closing.drain();
        self.closing = closing.filter_map(|(o, w)| Some((moved(o)?, w))).collect();
        self.recent.moved(moved);
        self.idle.moved(moved);
        self.former.push((self.loaded, self.doors.lists()));
        self.doors = doors;
        let keys = self.doors.names().keys;
        self.spent.configure(keys.iter().map(String::as_str));
        // Said in the log if it could not be written.
        let _ = self.put_in_force(trials);
        self.note_sessions();
        self.user = user;
        self.renew();
        self.loaded = self.generation;
        let (doors, firewall) = (self.doors.counted(), self.firewall.name());
        let text = format!("reloaded: {doors}, firewall {firewall}");
        self.log.line(Level::Notice, &text);
        self.say_warnings(&warnings);
        for note in &notes {
            self.log.line(Level::Warning, note);
        }
        let mut warnings = warnings.into_lines();
        warnings.extend(notes);
        self.say_upkeep(&upkeep);
        self.say_trials();
        self.take_done();
        Ok(warnings)
    }

    fn establish(
        &mut self,
        config: &Config,
        doors: &[Door],
        openings: &[(Opening, Option<Duration>)],
    ) -> Result<Upkeep, Failure> {
        self.firewall.reconfigure(config, &config.interfaces)?;
        self.firewall.establish(doors, openings)
    }

    /// Ends leases that have no place in a new configuration, already established: what is
    /// left to do is to run the stop commands they owe. What the journal is to be told.
    fn end_all(&mut self, ended: &[Change], now: Time) -> Vec<Record> {
        let mut records = Vec::new();
        for change in ended {
            let Some(door) = self.doors.get(change.door) else {
                continue;
            };
            let (name, address) = (door.name.clone(), change.address);
            let Act::Close(why) = change.act else {
                continue;
            };
            let text = format!("{name}: closed for {address}: {}", in_words(why));
            self.log.line(Level::Notice, &text);
            if let Action::Command(commands) = &door.action
                && let Some(stop) = command::stop_line(commands, address.address())
            {
                self.firewall
                    .run_owed(&name, address.address(), stop, commands.run_limit);
                // Owed until it has been run.
                records.push(Record::Extend {
                    door: name,
                    address,
                    until: now.0,
                    key: None,
                });
            } else {
                records.push(Record::Closed {
                    door: name,
                    address,
                });
            }
        }
        records
    }

    pub(super) fn answer_reloads(&mut self, generation: u32, died: Option<&str>) {
        let answered: Vec<_> = self
            .reloading
            .extract_if(.., |(_, wanted, _)| *wanted <= generation)
            .collect();
        for (id, _, mut warnings) in answered {
            if let Some(why) = died {
                warnings.push(format!(
                    "the new listener is gone ({why}); starting it again"
                ));
            }
            let guards = self.guards();
            self.server
                .answer(id, &Response::Reloaded { warnings, guards });
        }
    }
}
