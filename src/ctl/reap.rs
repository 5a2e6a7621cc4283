//! `posternctl reap`: ends what is overdue while posternd does not run.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::offline::{self, State, failed};
use super::{Problem, json_line};
use crate::config::{Config, FirewallKind};
use crate::daemon::doors::terms;
use crate::daemon::monitor::{Options, load};
use crate::daemon::recovery::{self, RUN_LIMIT, TakenUp, openings};
use crate::daemon::trial::{Key, Trials};
use crate::daemon::{clock, state};
use crate::exit;
use crate::firewall::{Backends, Done, Firewall, Opening, What};
use crate::journal::{Entry, Journal, Record};
use crate::lease::Leases;
use crate::time::Time;

/// How long is waited for commands before it is looked again whether they still run.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub fn run(file: &Path, json: bool, out: &mut impl Write) -> Result<u8, Problem> {
    offline::root()?;
    let options = Options {
        config: file.to_owned(),
        ..Options::default()
    };
    let (config, _) =
        load(&options).map_err(|lines| Problem::new(exit::CONFIG, lines.join("\n")))?;
    // Whoever has the state directory sees to it.
    let Some(state) = State::try_take(&config.state)? else {
        return Ok(exit::OK);
    };
    let (ended, problems) = Overdue::read(&state, &config)?.end(&state, &config)?;
    if json {
        json_line(&serde_json::json!({ "ended": ended }), out)?;
    } else {
        for what in &ended {
            writeln!(out, "{what}")?;
        }
    }
    match problems.is_empty() {
        true => Ok(exit::OK),
        false => Err(Problem::new(exit::UNAVAILABLE, problems.join("\n"))),
    }
}

/// What should have ended by now.
struct Overdue {
    now: Time,
    journal: Journal,
    leases: Leases,
    /// Openings, by door.
    closed: Vec<Opening>,
    orphans: Vec<Entry>,
    trials: Trials,
    withdrawn: Vec<Key>,
    /// The packet filter was emptied since.
    rebooted: bool,
}

impl Overdue {
    fn read(state: &State, config: &Config) -> Result<Overdue, Problem> {
        let now = clock::now();
        let path = state.directory.join(state::JOURNAL);
        let (mut journal, recovered) = Journal::open(&path, &state.boot, now);
        if let Some(why) = recovered.unread {
            return Err(failed(&path, &io::Error::other(why)));
        }
        journal.catch_up().map_err(|e| failed(&path, &e))?;
        let mut leases = Leases::new(terms(config));
        let rebooted = recovered.rebooted;
        let TakenUp { orders, orphans } = recovery::take_up(recovered, config, &mut leases, now);
        // What a lease that goes on still lacks is for posternd to make.
        let closed = orders.iter().filter(|order| order.what == What::Close);
        let closed = closed.map(|order| order.opening).collect();
        let mut trials = state.trials();
        let withdrawn = trials.end(now);
        Ok(Overdue {
            now,
            journal,
            leases,
            closed,
            orphans,
            trials,
            withdrawn,
            rebooted,
        })
    }

    /// Ends it; what was ended, and what could not be.
    fn end(
        mut self,
        state: &State,
        config: &Config,
    ) -> Result<(Vec<String>, Vec<String>), Problem> {
        let (mut ended, mut problems) = (Vec::new(), Vec::new());
        if self.closed.is_empty() && self.orphans.is_empty() && self.withdrawn.is_empty() {
            return Ok((ended, problems));
        }
        let door = |opening: &Opening| config.doors.get(usize::from(opening.door));
        let opens = |opening: &Opening| door(opening).is_some_and(|door| door.opens_ports());
        let in_filter = self.closed.iter().any(opens)
            || self.orphans.iter().any(|entry| entry.stop.is_none())
            || !self.withdrawn.is_empty();
        // Only what has stood before is made to stand without a daemon that one can knock at.
        let known = config.trial.is_none() || self.trials.know_all(config);
        if in_filter && !self.rebooted && !known {
            problems.push(
                "the packet filter is left alone: the configuration has guards that posternd has \
                 not seen: start posternd"
                    .to_owned(),
            );
        }
        let touched = in_filter && !self.rebooted && known;
        // Without a packet filter command doors are left.
        let firewall = match config.firewall {
            FirewallKind::Memory => FirewallKind::Memory,
            kind if touched => kind,
            _ => FirewallKind::None,
        };
        let config_here = Config {
            firewall,
            ..config.clone()
        };
        let unavailable =
            |e: crate::firewall::Failure| Problem::new(exit::UNAVAILABLE, e.to_string());
        let mut firewall =
            Backends::from_config(&config_here, &config.interfaces).map_err(unavailable)?;
        let doors = self.trials.doors(config);
        firewall
            .establish(&doors, &openings(&self.leases, self.now))
            .map_err(unavailable)?;
        if touched || self.rebooted {
            for key in &self.withdrawn {
                ended.push(format!("guard {key}: withdrawn: its trial is over"));
            }
            if !self.withdrawn.is_empty() {
                state.write(&self.trials)?;
            }
        }

        let mut records = Vec::new();
        let mut orders = Vec::new();
        for &opening in &self.closed {
            let Some(door) = door(&opening) else { continue };
            if !door.opens_ports() {
                let what = What::Close;
                orders.push(crate::firewall::Order { opening, what });
            } else if touched || self.rebooted {
                records.push((door.name.clone(), opening.address));
            }
        }
        firewall.apply(&orders);
        for entry in &self.orphans {
            match &entry.stop {
                Some(stop) => {
                    let address = entry.address.address();
                    firewall.run_owed(&entry.door, address, stop.clone(), RUN_LIMIT);
                }
                None if !touched && !self.rebooted => continue,
                None => {}
            }
            records.push((entry.door.clone(), entry.address));
        }
        for Done { order, result } in wait(&mut firewall) {
            let Some(door) = door(&order.opening) else {
                continue;
            };
            let address = order.opening.address;
            records.push((door.name.clone(), address));
            if let Err(failure) = result {
                problems.push(format!(
                    "{}: not closed for {address}: {failure}",
                    door.name
                ));
            }
        }
        let words = records
            .iter()
            .map(|(door, address)| format!("{door}: closed for {address}"));
        ended.extend(words);
        let records: Vec<Record> = records
            .into_iter()
            .map(|(door, address)| Record::Closed { door, address })
            .collect();
        self.journal
            .note(&records)
            .map_err(|e| failed(&state.directory.join(state::JOURNAL), &e))?;
        Ok((ended, problems))
    }
}

/// Waits for commands: each has its limit.
fn wait(firewall: &mut Backends) -> Vec<Done> {
    let mut done = firewall.done();
    while firewall.busy() {
        if let Some(fd) = firewall.wake_fd() {
            let limit = PollTimeout::try_from(LOOK_EVERY).unwrap_or(PollTimeout::MAX);
            let _ = poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], limit);
        }
        done.extend(firewall.done());
    }
    done.extend(firewall.done());
    done
}
