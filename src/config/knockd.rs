//! knockd.conf, as knockd(1) reads it -> [`Config`], or every mistake with its place.
//!
//! Lines are trimmed; blank ones, and those whose first character is `#`, are passed over.
//! `[options]`, in small letters, is the only section that is no door; it may stand there more
//! than once. Directives are the same in capitals and small letters, and the last one of a kind
//! counts (but the first `Interface`, as in knockd); `TCPFlags` add up.
//!
//! | in `[options]` | default | here |
//! |---|---|---|
//! | `UseSyslog` | | [`Knockd::syslog`]; a bare word, also in other sections |
//! | `LogFile` | | `log` |
//! | `PidFile` | `/var/run/knockd.pid` | `pidfile` |
//! | `Interface` | `eth0` | `interfaces` |
//!
//! | in a door | default | here |
//! |---|---|---|
//! | `Sequence` | | a list `port[:tcp\|udp]`, 1 to 32; a door has this or the next |
//! | `One_Time_Sequences` | | an absolute path |
//! | `Seq_Timeout`, `Timeout` | 25 | seconds, brought within [`bounds::SEQ_TIMEOUTS`] |
//! | `TCPFlags` | any segment | flags of TCP steps, without blanks |
//! | `Target` | any address of ours | an address |
//! | `Start_Command`, `Command` | nothing | `start` |
//! | `Start_Command_6`, `Command_6` | as `Start_Command` | `start_6`; empty: nothing |
//! | `Cmd_Timeout` | 10 | seconds, brought within [`bounds::OPEN_FOR`] |
//! | `Stop_Command`, `Stop_Command_6` | nothing; as `Stop_Command` | `stop`, `stop_6` |
//!
//! Where knockd silently does the wrong thing this is a mistake if nobody can have meant it (a
//! port that is none), and else a warning (a number with something behind it).

mod door;
mod keys;
mod lines;
mod names;
mod notes;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::mistake::{Mistake, Parsed, Places, Spot, Wrong, quote};
use super::toml::{interface_name, reader};
use super::{
    Config, Confine, Door, Drive, FirewallKind, Knock, LogTo, Port, Sequence, Steps, TcpFlags,
    bounds,
};
use door::Section;
use lines::{Given, Line};
use notes::{Notes, key, printable};

/// `PidFile`, where it is not given.
const PIDFILE: &str = "/var/run/knockd.pid";

/// `Interface`, where it is not given.
const INTERFACE: &str = "eth0";

/// What a knockd.conf says beyond the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Knockd {
    /// The doors' names as they are written, for log lines; control characters are replaced.
    pub names: Vec<String>,
    /// `UseSyslog`.
    pub syslog: bool,
    /// `LogFile`, if given.
    pub log_file: Option<PathBuf>,
    /// `PidFile`, if given.
    pub pidfile: Option<PathBuf>,
    /// `Interface`, if given.
    pub interface: Option<String>,
}

/// Mask and value of the flag condition, and timeout.
type Condition = (u8, u8, Duration);

/// Reads a knockd.conf; `file` is its name for messages. Pure: nothing is opened, one-time
/// lists neither.
///
/// # Errors
/// Every mistake, in the order of the text.
pub fn read(file: &str, text: &str) -> Result<Parsed, Vec<Mistake>> {
    let mut notes = Notes::new(file, text);
    let mut places = Places::default();
    let sections = sections(&mut notes, text);
    let options = sections.options(&mut notes, &mut places);
    let doors = sections.doors(&mut notes, &mut places);
    let names = sections.doors.iter().map(|door| printable(door.name));
    let names = names.collect();
    let config = options.zip(doors).map(|(options, doors)| Config {
        interfaces: vec![
            options
                .interface
                .clone()
                .unwrap_or_else(|| INTERFACE.to_owned()),
        ],
        log: match &options.log_file {
            Some(path) => LogTo::File(path.clone()),
            None => LogTo::Syslog,
        },
        firewall: FirewallKind::None,
        drive: Drive::InProcess,
        user: None,
        pidfile: Some(options.pidfile.clone().unwrap_or_else(|| PIDFILE.into())),
        control: bounds::CONTROL.into(),
        state: bounds::STATE.into(),
        always: Vec::new(),
        confine: Confine::Required,
        trial: None,
        doors,
        keys: Vec::new(),
        knockd: Some(Knockd { names, ..options }),
    });
    let warnings = std::mem::take(&mut notes.warnings);
    let mistakes = notes.mistakes();
    match config {
        Some(config) if mistakes.is_empty() => Ok(Parsed {
            config,
            places,
            warnings,
        }),
        _ => Err(mistakes),
    }
}

/// A key of the model as knockd.conf has it: `[openSSH] Sequence`.
pub(super) fn key_of(knockd: &Knockd, spot: Spot) -> String {
    let shown = keys::shown(spot.key);
    match spot.door.and_then(|at| knockd.names.get(at)) {
        Some(name) => key(name, shown),
        None => key("options", shown),
    }
}

/// Whether this is a directive, capitals or not.
pub(super) fn knows(directive: &str) -> bool {
    keys::of_options(directive)
        .or(keys::of_door(directive))
        .is_some()
}

/// A text that can be given to others as it is.
fn text(text: &str) -> Result<&str, Wrong> {
    if text.contains('\0') {
        return Err(Wrong::new("a NUL character stands here", "leave it out"));
    }
    match text.contains(char::REPLACEMENT_CHARACTER) {
        true => Err(Wrong::new(
            "bytes stand here that are not UTF-8",
            "write the line in UTF-8",
        )),
        false => Ok(text),
    }
}

/// The file by its sections.
#[derive(Default)]
struct Sections<'t> {
    /// Given in `[options]`, by their names in small letters.
    options: BTreeMap<&'static str, Given<'t>>,
    syslog: bool,
    doors: Vec<Section<'t>>,
}

fn sections<'t>(notes: &mut Notes<'t>, text: &'t str) -> Sections<'t> {
    enum In {
        Nothing,
        Options,
        Door,
    }
    let mut all = Sections::default();
    let mut now = In::Nothing;
    for (at, line) in lines::lines(text) {
        match (line, &now) {
            (Line::Section(""), _) => {
                let wrong = Wrong::new("the section has no name", "write one, such as [ssh]");
                notes.refuse(at, "[]", wrong);
                now = In::Door;
                all.doors.push(Section::new("", at));
            }
            (Line::Section("options"), _) => now = In::Options,
            (Line::Section(name), _) => {
                now = In::Door;
                all.doors.push(Section::new(name, at));
            }
            (Line::Bare(word), _) if !word.eq_ignore_ascii_case(keys::SYSLOG) => {
                notes.refuse(at, "", no_directive(word));
            }
            (Line::Bare(word), In::Nothing) => notes.refuse(at, word, outside()),
            (Line::Given(given), In::Nothing) => notes.refuse(at, given.key, outside()),
            (Line::Bare(_), _) => all.syslog = true,
            (Line::Given(given), In::Options) => all.option(notes, given),
            (Line::Given(given), In::Door) => {
                if let Some(door) = all.doors.last_mut() {
                    door.take(notes, given);
                }
            }
        }
    }
    all
}

fn outside() -> Wrong {
    Wrong::new(
        "it stands before the first section",
        "write [options] above it (or name the file something.toml, if it is a postern.toml)",
    )
}

fn no_directive(word: &str) -> Wrong {
    let shown = quote(word);
    if word.starts_with('[') {
        let what = format!("{shown} is no section: the line does not end with ]");
        return Wrong::new(what, "put comments on lines of their own");
    }
    Wrong::new(
        format!("{shown} is no directive"),
        "write KEY = VALUE, or UseSyslog, or a # before it",
    )
}

impl<'t> Sections<'t> {
    fn option(&mut self, notes: &mut Notes<'t>, given: Given<'t>) {
        let Some(known) = keys::of_options(given.key) else {
            let wrong = keys::unknown(given.key, keys::Home::Options);
            return notes.refuse(given.at, key("options", given.key), wrong);
        };
        // knockd takes the first interface, and the last of everything else.
        let first = known == "interface"
            && self
                .options
                .get(known)
                .is_some_and(|before| !before.value.is_empty());
        let (counts, before) = match first {
            true => ("this", self.options.get(known).copied()),
            false => ("that", self.options.insert(known, given)),
        };
        if let Some(before) = before {
            let line = notes.place(before.at).line;
            let what = format!("given in line {line} already, and {counts} one does not count");
            let unwise = Wrong::new(what, "leave one of them out");
            notes.warn(given.at, key("options", given.key), unwise);
        }
    }

    /// The names of the doors are left empty.
    fn options(&self, notes: &mut Notes<'t>, places: &mut Places) -> Option<Knockd> {
        for (&known, given) in &self.options {
            let key = match known {
                "logfile" => "log",
                known => known,
            };
            places.set(Spot::default().key(key), notes.place(given.value_at));
        }
        let given = |known| {
            let given = self.options.get(known).copied();
            given.filter(|given: &Given<'t>| !given.value.is_empty())
        };
        let interface = match given("interface") {
            Some(given) => {
                let read = interface_name(given.value).map(|()| given.value.to_owned());
                notes
                    .kept(given.value_at, &key("options", given.key), read)
                    .map(Some)
            }
            None => {
                let what = "missing: eth0 is listened at, as in knockd";
                let better = "write Interface = with the name of yours, or start with -i";
                let unwise = Wrong::new(what, better);
                notes.warn(0, key("options", "Interface"), unwise);
                Some(None)
            }
        };
        let mut path = |known| match given(known) {
            Some(given) => {
                let named = key("options", given.key);
                let read = text(given.value).and_then(|path| reader::path(path, &bounds::PATH));
                let path = notes.kept(given.value_at, &named, read)?;
                if let Some((_, comment)) = given.value.split_once(" #") {
                    let what = format!("{} is part of the name", quote(&format!("#{comment}")));
                    let unwise = Wrong::new(what, "put comments on lines of their own");
                    notes.warn(given.value_at, named, unwise);
                }
                Some(Some(path))
            }
            None => Some(None),
        };
        let log_file = path("logfile");
        let pidfile = path("pidfile");
        if let (Some(Some(log)), Some(Some(pid)), Some(given)) =
            (&log_file, &pidfile, given("pidfile"))
            && log == pid
        {
            let wrong = Wrong::new("LogFile names the same", "name another");
            notes.refuse(given.value_at, key("options", given.key), wrong);
        }
        Some(Knockd {
            names: Vec::new(),
            syslog: self.syslog,
            log_file: log_file?,
            pidfile: pidfile?,
            interface: interface?,
        })
    }

    fn doors(&self, notes: &mut Notes<'t>, places: &mut Places) -> Option<Vec<Door>> {
        if self.doors.is_empty() {
            let right = "write a section [NAME] with Sequence and Command";
            notes.refuse(0, "", Wrong::new("there is no door", right));
            return None;
        }
        let most = *bounds::DOORS.end();
        if let Some(door) = self.doors.get(most) {
            let what = format!("{} doors are too many", self.doors.len());
            let wrong = Wrong::new(what, format!("write {most} at most"));
            notes.refuse(door.at, key(door.name, ""), wrong);
            return None;
        }
        let theirs: Vec<&str> = self.doors.iter().map(|door| door.name).collect();
        let ours = names::ours(&theirs);
        let mut read = Vec::new();
        for (place, (door, name)) in self.doors.iter().zip(ours).enumerate() {
            self.about_name(notes, place, &name);
            read.push(door.read(notes, places, place, name));
        }
        self.across(notes, &read);
        read.into_iter().collect()
    }

    fn about_name(&self, notes: &mut Notes<'t>, place: usize, ours: &str) {
        let door = &self.doors[place];
        let named = key(door.name, "");
        let before = self.doors[..place].iter().find(|d| d.name == door.name);
        if let Some(before) = before {
            let line = notes.place(before.at).line;
            let what = format!(
                "a door of this name stands in line {line}: both are kept, and posternctl calls \
                 this one {ours}"
            );
            notes.warn(
                door.at,
                named,
                Wrong::new(what, "give each a name of its own"),
            );
        } else if ours != door.name && !door.name.is_empty() {
            let what = format!("posternctl calls it {ours}");
            let better = "begin with a letter, go on with letters, digits, - and _, 24 characters \
                          at most";
            notes.warn(door.at, named, Wrong::new(what, better));
        } else if door.name.eq_ignore_ascii_case("options") {
            let what = "it is a door: only [options] in small letters holds options";
            let unwise = Wrong::new(what, "give the door another name");
            notes.warn(door.at, named, unwise);
        }
    }

    /// What may not be the same at two doors, or not at too many.
    fn across(&self, notes: &mut Notes<'t>, read: &[Option<Door>]) {
        let mut paths: BTreeMap<&str, String> = BTreeMap::new();
        for given in self.options.values() {
            paths.insert(given.value, key("options", given.key));
        }
        let mut alike: BTreeMap<(Port, Option<IpAddr>), BTreeSet<Condition>> = BTreeMap::new();
        for (section, door) in self.doors.iter().zip(read) {
            let Some(door) = door else { continue };
            for sequence in door.knocks.iter().filter_map(Knock::sequence) {
                match &sequence.steps {
                    Steps::OneTime(path) => {
                        let path = path.to_str().unwrap_or_default();
                        let Some((at, named)) = section.place_of("one_time_sequences") else {
                            continue;
                        };
                        if let Some(owner) = paths.insert(path, named.clone()) {
                            let what = format!("{} is given to {owner} already", quote(path));
                            notes.refuse(at, named, Wrong::new(what, "name another"));
                        }
                    }
                    Steps::Fixed(steps) => {
                        let Some(&first) = steps.first() else {
                            continue;
                        };
                        let conditions = alike.entry((first, sequence.target)).or_default();
                        conditions.insert(condition(sequence));
                        let at = section.place_of("sequence");
                        if let Some((at, key)) = at.filter(|_| conditions.len() > bounds::ALIKE) {
                            let what = format!(
                                "more than {} sequences that begin with {first} differ in \
                                 TCPFlags or Seq_Timeout",
                                bounds::ALIKE
                            );
                            let right = "give it what another has, or begin otherwise";
                            notes.refuse(at, key, Wrong::new(what, right));
                        }
                    }
                }
            }
        }
    }
}

fn condition(sequence: &Sequence) -> Condition {
    let flags = match sequence.has_tcp() {
        true => sequence.flags,
        false => TcpFlags { mask: 0, value: 0 },
    };
    (flags.mask, flags.value, sequence.timeout)
}
