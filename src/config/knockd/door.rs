//! A section that is a door.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::super::mistake::{Places, Spot, Wrong, quote};
use super::super::toml::reader;
use super::super::{
    Action, Commands, Door, Knock, Port, Protocol, Sequence, Steps, TcpFlags, bounds,
};
use super::lines::Given;
use super::notes::{Notes, key};
use super::{keys, text, values};

/// `Seq_Timeout`, where it is not given.
const SEQ_TIMEOUT: Duration = Duration::from_secs(25);

/// A section and what was given in it.
pub(super) struct Section<'t> {
    /// As it is written.
    pub name: &'t str,
    /// Where its line begins.
    pub at: usize,
    /// By the model's keys: of a key given twice the last counts.
    values: BTreeMap<&'static str, Given<'t>>,
    /// All of them count.
    flags: Vec<Given<'t>>,
}

impl<'t> Section<'t> {
    pub fn new(name: &'t str, at: usize) -> Section<'t> {
        Section {
            name,
            at,
            values: BTreeMap::new(),
            flags: Vec::new(),
        }
    }

    /// Takes a directive in.
    pub fn take(&mut self, notes: &mut Notes<'t>, given: Given<'t>) {
        let Some(known) = keys::of_door(given.key) else {
            let wrong = keys::unknown(given.key, keys::Home::Door);
            return notes.refuse(given.at, key(self.name, given.key), wrong);
        };
        if known == "tcpflags" {
            return self.flags.push(given);
        }
        if let Some(before) = self.values.insert(known, given) {
            let line = notes.place(before.at).line;
            let what = format!("given in line {line} already, and that counts no more");
            let unwise = Wrong::new(what, "leave one of them out");
            notes.warn(given.at, key(self.name, given.key), unwise);
        }
    }

    fn get(&self, key: &str) -> Option<Given<'t>> {
        self.values.get(key).copied()
    }

    fn key(&self, given: Given<'t>) -> String {
        key(self.name, given.key)
    }

    /// The door, number `place` in the model and there called `name`.
    pub fn read(
        &self,
        notes: &mut Notes<'t>,
        places: &mut Places,
        place: usize,
        name: String,
    ) -> Option<Door> {
        let spot = Spot::door(place);
        places.set(spot, notes.place(self.at));
        places.set(spot.knock(0), notes.place(self.at));
        let of_knock = [
            "sequence",
            "one_time_sequences",
            "seq_timeout",
            "tcpflags",
            "target",
        ];
        let flags = self.flags.first().map(|given| ("tcpflags", given));
        for (known, given) in self.values.iter().map(|(k, g)| (*k, g)).chain(flags) {
            let spot = match of_knock.contains(&known) {
                true => spot.knock(0).key(known),
                false => spot.key(known),
            };
            places.set(spot, notes.place(given.value_at));
        }
        let steps = self.steps(notes);
        let flags = self.tcpflags(notes, steps.as_ref());
        let timeout = self.seq_timeout(notes, steps.as_ref());
        let target = match self.get("target") {
            Some(given) => notes
                .kept(given.value_at, &self.key(given), target(given.value))
                .map(Some),
            None => Some(None),
        };
        let commands = self.commands(notes);
        Some(Door {
            name,
            action: Action::Command(commands?),
            knocks: vec![Knock::Sequence(Sequence {
                steps: steps?,
                timeout: timeout?,
                flags: flags?,
                target: target?,
            })],
            max_leases: bounds::MAX_LEASES,
            on: Vec::new(),
            idle: None,
            prefix6: 128,
        })
    }

    fn steps(&self, notes: &mut Notes<'t>) -> Option<Steps> {
        match (self.get("sequence"), self.get("one_time_sequences")) {
            (Some(given), None) => {
                let read = values::sequence(given.value);
                let (steps, unwise) = notes.kept(given.value_at, &self.key(given), read)?;
                for unwise in unwise {
                    notes.warn(given.value_at, self.key(given), unwise);
                }
                Some(Steps::Fixed(steps))
            }
            (None, Some(given)) => {
                let read = self.path(notes, given)?;
                Some(Steps::OneTime(read))
            }
            (Some(_), Some(given)) => {
                let what = "a door cannot have both Sequence and One_Time_Sequences";
                let wrong = Wrong::new(what, "make two doors");
                notes.refuse(given.at, self.key(given), wrong);
                None
            }
            (None, None) => {
                notes.refuse(self.at, key(self.name, ""), self.without_steps());
                None
            }
        }
    }

    fn without_steps(&self) -> Wrong {
        let near = self.name.trim().eq_ignore_ascii_case("options");
        match near {
            true => Wrong::new(
                format!(
                    "{} is a door without a Sequence, and no options",
                    quote(self.name)
                ),
                "write [options], in small letters and without blanks",
            ),
            false => Wrong::new(
                "the door has no Sequence",
                "write Sequence = with ports, such as 7143,2912:udp,16044",
            ),
        }
    }

    fn path(&self, notes: &mut Notes<'t>, given: Given<'t>) -> Option<PathBuf> {
        let read = text(given.value).and_then(|path| reader::path(path, &bounds::PATH));
        notes.kept(given.value_at, &self.key(given), read)
    }

    fn tcpflags(&self, notes: &mut Notes<'t>, steps: Option<&Steps>) -> Option<TcpFlags> {
        let mut flags = TcpFlags { mask: 0, value: 0 };
        let mut whole = true;
        for &given in &self.flags {
            let read = values::tcpflags(given.value, &mut flags);
            whole &= notes.kept(given.value_at, &self.key(given), read).is_some();
        }
        if let (Some(&given), Some(Steps::Fixed(steps))) = (self.flags.first(), steps)
            && is_udp(steps)
        {
            let unwise = Wrong::new(
                "no step of the sequence is TCP: flags mean nothing here",
                "leave it out",
            );
            notes.warn(given.value_at, self.key(given), unwise);
        }
        whole.then_some(flags)
    }

    fn seq_timeout(&self, notes: &mut Notes<'t>, steps: Option<&Steps>) -> Option<Duration> {
        let Some(given) = self.get("seq_timeout") else {
            return Some(SEQ_TIMEOUT);
        };
        let seconds = self.seconds(notes, given)?;
        let (least, most) = (bounds::SEQ_TIMEOUTS.start(), bounds::SEQ_TIMEOUTS.end());
        let single = matches!(steps, Some(Steps::Fixed(steps)) if steps.len() == 1);
        if seconds < 1 && !single {
            let what = format!("in {seconds} s nobody can knock");
            let wrong = Wrong::new(what, "write whole seconds, such as 10");
            notes.refuse(given.value_at, self.key(given), wrong);
            return None;
        }
        let wanted = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        if wanted > *most {
            let most = most.as_secs();
            let unwise = Wrong::new(
                format!("{seconds} s are too long: an attempt is given {most} s"),
                format!("write {most} at most"),
            );
            notes.warn(given.value_at, self.key(given), unwise);
        }
        Some(wanted.clamp(*least, *most))
    }

    fn seconds(&self, notes: &mut Notes<'t>, given: Given<'t>) -> Option<i64> {
        let read = values::seconds(given.value);
        let (seconds, unwise) = notes.kept(given.value_at, &self.key(given), read)?;
        for unwise in unwise {
            notes.warn(given.value_at, self.key(given), unwise);
        }
        Some(seconds)
    }

    fn commands(&self, notes: &mut Notes<'t>) -> Option<Commands> {
        let start = self.command(notes, "start_command");
        let start_6 = self.command(notes, "start_command_6");
        let stop = self.command(notes, "stop_command");
        let stop_6 = self.command(notes, "stop_command_6");
        let cmd_timeout = self.cmd_timeout(notes);
        let (start, start_6, stop, stop_6) = (start?, start_6?, stop?, stop_6?);
        let some = |command: &Option<String>| command.as_ref().is_some_and(|c| !c.is_empty());
        let unstarted = "nothing is started that it could end, so it is never run";
        for (known, dead) in [
            ("stop_command", !some(&start) && !some(&start_6)),
            (
                "stop_command_6",
                start_6
                    .as_ref()
                    .or(start.as_ref())
                    .is_none_or(String::is_empty),
            ),
        ] {
            let given = self.get(known).filter(|given| !given.value.is_empty());
            if let Some(given) = given.filter(|_| dead) {
                let unwise = Wrong::new(unstarted, "write a Start_Command, or leave it out");
                notes.warn(given.at, self.key(given), unwise);
            }
        }
        // Without a command to stop with there is no lease; with one for IPv6 only, both have.
        let stop = match (some(&stop), some(&stop_6)) {
            (true, _) => stop,
            (false, true) => Some(String::new()),
            (false, false) => None,
        };
        Some(Commands {
            start: start.unwrap_or_default(),
            start_6,
            stop_6: stop.as_ref().and(stop_6),
            stop,
            cmd_timeout: cmd_timeout?,
            run_limit: *bounds::RUN_LIMITS.end(),
        })
    }

    fn command(&self, notes: &mut Notes<'t>, known: &str) -> Option<Option<String>> {
        let Some(given) = self.get(known) else {
            return Some(None);
        };
        if given.value.is_empty() {
            return Some(Some(String::new()));
        }
        let key = self.key(given);
        let line = text(given.value).and_then(|line| match bounds::COMMAND.contains(&line.len()) {
            true => Ok(line),
            false => Err(reader::too_long_a_command(line)),
        });
        let line = notes.kept(given.value_at, &key, line)?;
        if let Err(unwise) = reader::about_address(line) {
            notes.warn(given.value_at, key, unwise);
        }
        Some(Some(line.to_owned()))
    }

    fn cmd_timeout(&self, notes: &mut Notes<'t>) -> Option<Duration> {
        let Some(given) = self.get("cmd_timeout") else {
            return Some(bounds::CMD_TIMEOUT);
        };
        let seconds = self.seconds(notes, given)?;
        let Ok(wanted) = u64::try_from(seconds) else {
            let what = format!("{seconds} s are no time: knockd waits for longer than a century");
            let wrong = Wrong::new(what, "write whole seconds, such as 10");
            notes.refuse(given.value_at, self.key(given), wrong);
            return None;
        };
        let bounds = bounds::OPEN_FOR;
        let wanted = Duration::from_secs(wanted);
        let kept = wanted.clamp(*bounds.start(), *bounds.end());
        if kept != wanted {
            let kept = kept.as_secs();
            let unwise = Wrong::new(
                format!("{seconds} s are not possible: the stop command is run after {kept} s"),
                format!(
                    "write {} to {}",
                    bounds.start().as_secs(),
                    bounds.end().as_secs()
                ),
            );
            notes.warn(given.value_at, self.key(given), unwise);
        }
        Some(kept)
    }

    /// The value of a key, and where it stands.
    pub fn place_of(&self, known: &str) -> Option<(usize, String)> {
        let given = self.get(known)?;
        Some((given.value_at, self.key(given)))
    }
}

fn is_udp(steps: &[Port]) -> bool {
    steps.iter().all(|step| step.protocol == Protocol::Udp)
}

fn target(text: &str) -> Result<IpAddr, Wrong> {
    const RIGHT: &str = "write an address such as 192.0.2.1 or 2001:db8::1";
    match text.parse::<IpAddr>() {
        Err(_) => Err(Wrong::new(format!("{} is no address", quote(text)), RIGHT)),
        Ok(address) if address.is_unspecified() || address.to_canonical() != address => {
            Err(Wrong::new(format!("no packet is sent to {address}"), RIGHT))
        }
        Ok(address) => Ok(address),
    }
}
