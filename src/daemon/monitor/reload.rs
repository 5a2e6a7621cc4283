//! Another configuration takes the place of the one in force: whole, or not at all.

use std::collections::HashMap;
use std::time::Duration;

use super::Monitor;
use super::start::{Unprivileged, load};
use crate::config::{Action, Config, Door};
use crate::daemon::control::Response;
use crate::daemon::doors::Doors;
use crate::daemon::log::Level;
use crate::firewall::{Failure, Firewall, Opening, Upkeep, command};
use crate::journal::Record;
use crate::lease::Lease;
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
        let (config, mut warnings) = load(&self.options)?;
        let user = Unprivileged::of(&config).map_err(|e| vec![e])?;
        let before = &self.doors.config;
        for (key, changed) in [
            ("control", config.control != before.control),
            ("state", config.state != before.state),
            ("pidfile", config.pidfile != before.pidfile),
        ] {
            if changed {
                warnings.push(format!(
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
        warnings.extend(wrong);
        if doors.config.log != before.log {
            self.log
                .reopen(&doors.config.log)
                .map_err(|e| vec![format!("log: {e}")])?;
        }

        // What goes on, and where it stands in the new configuration.
        let map: HashMap<u16, u16> = (0u16..)
            .zip(&before.doors)
            .filter_map(|(place, old)| {
                let new = doors.place(&old.name)?;
                let goes_on = goes_on(old, doors.get(new)?);
                goes_on.then_some((place, new))
            })
            .collect();
        let kept: Vec<_> = self
            .openings(now)
            .filter_map(|(o, remaining)| {
                let door = *map.get(&o.door)?;
                let most = doors.get(door)?.lease();
                Some((Opening { door, ..o }, remaining.min(most)))
            })
            .collect();
        let upkeep = match self.establish(&doors.config, &kept) {
            Ok(upkeep) => upkeep,
            Err(e) => {
                let openings: Vec<_> = self.openings(now).collect();
                let before = self.doors.config.clone();
                let mut lines = vec![e.to_string()];
                if let Err(e) = self.establish(&before, &openings) {
                    lines.push(format!("nor does the configuration before stand: {e}"));
                }
                return Err(lines);
            }
        };

        self.end_removed(&map);
        let _cut = self
            .leases
            .remap(doors.terms(), now, |old| map.get(&old).copied());
        let moved = |o: Opening| map.get(&o.door).map(|&door| Opening { door, ..o });
        self.broken = self
            .broken
            .drain()
            .filter_map(|(o, e)| Some((moved(o)?, e)))
            .collect();
        self.closing = self
            .closing
            .drain()
            .filter_map(|(o, w)| Some((moved(o)?, w)))
            .collect();
        self.recent = self
            .recent
            .drain()
            .filter_map(|(o, r)| Some((moved(o)?, r)))
            .collect();
        self.doors = doors;
        self.user = user;
        self.renew();
        let count = self.doors.config.doors.len();
        let text = format!("reloaded: {count} doors, firewall {}", self.firewall.name());
        self.log.line(Level::Notice, &text);
        for warning in &warnings {
            self.log.line(Level::Warning, warning);
        }
        self.say_upkeep(&upkeep);
        self.take_done();
        Ok(warnings)
    }

    fn establish(
        &mut self,
        config: &Config,
        openings: &[(Opening, Option<Duration>)],
    ) -> Result<Upkeep, Failure> {
        self.firewall.reconfigure(config, &config.interfaces)?;
        self.firewall.establish(&config.doors, openings)
    }

    /// Ends the leases of doors that a new configuration, already established, does not have.
    pub(super) fn end_removed(&mut self, map: &HashMap<u16, u16>) {
        let ended: Vec<Lease> = self
            .leases
            .iter()
            .filter(|l| !map.contains_key(&l.door))
            .copied()
            .collect();
        let mut records = Vec::new();
        for lease in ended {
            let Some(door) = self.doors.get(lease.door) else {
                continue;
            };
            let (name, address) = (door.name.clone(), lease.address);
            if let Action::Command(commands) = &door.action
                && let Some(stop) = command::stop_line(commands, address)
            {
                self.firewall.run_owed(&name, address, stop, commands.run_limit);
            }
            self.leases.close(address, Some(lease.door), |_| {});
            let text = format!("{name}: closed for {address}: the door is configured no more");
            self.log.line(Level::Notice, &text);
            records.push(Record::Closed {
                door: name,
                address,
            });
        }
        self.write_journal(&records);
    }

    pub(super) fn answer_reloads(&mut self, generation: u32, died: Option<&str>) {
        let answered: Vec<_> = self
            .reloading
            .extract_if(.., |(_, wanted, _)| *wanted == generation)
            .collect();
        for (id, _, mut warnings) in answered {
            if let Some(why) = died {
                warnings.push(format!(
                    "the new listener is gone ({why}); starting it again"
                ));
            }
            self.server.answer(id, &Response::Reloaded(warnings));
        }
    }

    // Questions.
}

/// Whether leases of the one door go on at the other.
fn goes_on(old: &Door, new: &Door) -> bool {
    let same_kind = matches!(
        (&old.action, &new.action),
        (Action::Open(_), Action::Open(_)) | (Action::Command(_), Action::Command(_))
    );
    same_kind && new.lease().is_some()
}
