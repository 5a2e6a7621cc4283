//! `posternctl check`: everything that is wrong with a configuration, and what is unwise.

use std::fmt;
use std::fs;
use std::io::Write;
use std::path::Path;

use nix::unistd::{Uid, User};
use serde::Serialize;

use super::lists::{List, Lists};
use super::{Problem, count, json_line, listening};
use crate::config::mistake::Spot;
use crate::config::{
    self, Config, Confine, Format, Knock, Mistake, Parsed, Place, Sequence, Steps, Warning,
    discreet, onetime,
};
use crate::daemon::{doors, files, sandbox};
use crate::exit;
use crate::firewall::live::{self, Remark};
use crate::knock::{Knocks, Watch};

/// Something that is wrong or unwise.
#[derive(Debug, Serialize)]
struct Finding {
    file: String,
    line: Option<usize>,
    column: Option<usize>,
    key: String,
    message: String,
    #[serde(skip)]
    warning: bool,
}

/// Everything, for `--json`.
#[derive(Debug, Serialize)]
struct Said {
    sound: bool,
    mistakes: Vec<Finding>,
    warnings: Vec<Finding>,
}

impl Finding {
    /// What concerns a file as a whole.
    fn of_file(file: &Path, message: impl Into<String>) -> Finding {
        Finding {
            file: file.display().to_string(),
            line: None,
            column: None,
            key: String::new(),
            message: message.into(),
            warning: true,
        }
    }

    /// The same without anything that may be a step of a knock.
    fn discreet(self) -> Finding {
        if self.line.is_none() {
            return self;
        }
        let (key, message) = discreet::told(&self.key, &self.message);
        Finding {
            key: key.to_owned(),
            message: message.to_owned(),
            ..self
        }
    }

    fn at(file: &str, place: Place, key: &str, message: String) -> Finding {
        Finding {
            file: file.to_owned(),
            line: Some(place.line),
            column: Some(place.column),
            key: key.to_owned(),
            message,
            warning: true,
        }
    }
}

impl From<Mistake> for Finding {
    fn from(m: Mistake) -> Finding {
        let message = format!("{}; {}", m.what, m.right);
        Finding {
            warning: false,
            ..Finding::at(&m.file, m.place, &m.key, message)
        }
    }
}

impl From<Warning> for Finding {
    fn from(w: Warning) -> Finding {
        Finding::at(
            &w.file,
            w.place,
            &w.key,
            format!("{}; {}", w.what, w.better),
        )
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, "{line}:{column}:")?;
        }
        if self.warning {
            write!(f, " warning:")?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.message)
    }
}

/// A configuration, for those who do not care where in it things stand.
///
/// # Errors
/// It cannot be read, or it is wrong.
pub fn read(file: &Path) -> Result<Config, Problem> {
    let (_, parsed) = parse(file)?;
    let parsed = parsed.map_err(|mistakes| {
        let lines: Vec<String> = mistakes.iter().map(Mistake::to_string).collect();
        Problem::new(exit::CONFIG, lines.join("\n"))
    })?;
    Ok(parsed.config)
}

/// A configuration in either format, or what is wrong with it.
///
/// # Errors
/// It cannot be read.
pub fn parse(file: &Path) -> Result<(Format, Result<Parsed, Vec<Mistake>>), Problem> {
    let name = file.display().to_string();
    let bytes = fs::read(file)
        .map_err(|why| Problem::new(exit::NOINPUT, format!("{name}: {}", exit::words(&why))))?;
    Ok((Format::of(&name, &bytes), config::read(&name, &bytes)))
}

pub fn run(file: &Path, live: bool, json: bool, out: &mut impl Write) -> Result<u8, Problem> {
    let (format, parsed) = parse(file)?;
    let (doors, mistakes, mut warnings) = match &parsed {
        Ok(parsed) => {
            let doors = parsed.config.doors.len();
            (doors, Vec::new(), unwise(file, parsed))
        }
        Err(mistakes) => {
            let mistakes = mistakes.iter().cloned().map(Finding::from).collect();
            (0, mistakes, Vec::new())
        }
    };
    warnings.splice(0..0, distrusted(file, format == Format::Knockd));
    if let (true, Ok(parsed)) = (live, &parsed) {
        warnings.extend(in_the_way(file, parsed)?);
    }
    let sound = mistakes.is_empty();
    if json {
        let discreet = |found: Vec<Finding>| found.into_iter().map(Finding::discreet).collect();
        let said = Said {
            sound,
            mistakes: discreet(mistakes),
            warnings: discreet(warnings),
        };
        json_line(&said, out)?;
    } else {
        for finding in mistakes.iter().chain(&warnings) {
            writeln!(out, "{finding}")?;
        }
        let file = file.display();
        let warned = match warnings.len() {
            0 => String::new(),
            n => format!(", {}", count(n as u64, "warning")),
        };
        if sound {
            writeln!(
                out,
                "{file}: sound, {}{warned}",
                count(doors as u64, "door")
            )?;
        } else {
            let wrong = count(mistakes.len() as u64, "mistake");
            writeln!(out, "{file}: {wrong}{warned}")?;
        }
    }
    Ok(if sound { exit::OK } else { exit::CONFIG })
}

/// What the rules that run now would do to the doors.
fn in_the_way(file: &Path, parsed: &Parsed) -> Result<Vec<Finding>, Problem> {
    let name = file.display().to_string();
    let remarks = live::look(&parsed.config).map_err(|failure| {
        let better = match Uid::effective().is_root() {
            true => "",
            false => " (only root can look)",
        };
        Problem::new(exit::UNAVAILABLE, format!("{failure}{better}"))
    })?;
    let found = remarks.into_iter().map(|Remark { spot, what, better }| {
        let key = config::check::key_of(&parsed.config, spot);
        Finding::at(
            &name,
            parsed.places.get(spot),
            &key,
            format!("{what}; {better}"),
        )
    });
    Ok(found.collect())
}

/// Why posternd does not believe the file. One of knockd's may be readable by all.
fn distrusted(file: &Path, knockds: bool) -> impl Iterator<Item = Finding> {
    files::doubts(file).into_iter().map(move |why| {
        let message = match why {
            files::Distrust::Readable { .. } if knockds => why.to_string(),
            _ => format!("posternd will refuse it: {why}"),
        };
        Finding::of_file(file, message)
    })
}

/// What is unwise in a configuration that is right.
fn unwise(file: &Path, parsed: &Parsed) -> Vec<Finding> {
    let name = file.display().to_string();
    let in_use: Vec<_> = listening::ports().into_iter().collect();
    let mut found: Vec<Finding> = config::check::check(&name, parsed, &in_use)
        .into_iter()
        .map(Finding::from)
        .collect();
    found.extend(missing(&name, &parsed.config));
    let lists = Lists::read(&parsed.config);
    found.extend(open_to_sweeps(&name, parsed, &lists));
    for ((door, knock), list) in lists.iter() {
        let spot = Spot::door(door.into()).knock(knock.into());
        found.extend(about_list(&name, parsed, spot, list));
    }
    found.sort_by_key(|finding| (finding.file != name, finding.line, finding.column));
    found
}

/// What the configuration leaves to the command line or to the system.
fn missing(name: &str, config: &Config) -> Vec<Finding> {
    let whole = |key, message| Finding::at(name, Place::START, key, message);
    let mut found = Vec::new();
    if config.interfaces.is_empty() {
        let message = "missing; write interface = \"xl0\", or start posternd with -i xl0";
        found.push(whole("interface", message.to_owned()));
    }
    if let Some(user) = &config.user
        && matches!(User::from_name(user), Ok(None))
    {
        let message = format!("posternd will refuse it: there is no user {user}; add it");
        found.push(whole("user", message));
    }
    if config.confine == Confine::Required
        && let Some(lacking) = sandbox::lacking().first()
    {
        let message = format!(
            "posternd will refuse it: its listener cannot be confined here: {lacking}; write \
             confine = \"try\" to listen all the same"
        );
        found.push(whole("confine", message));
    }
    found
}

/// Sequences that are not listened to, or that a port sweep opens.
fn open_to_sweeps(name: &str, parsed: &Parsed, lists: &Lists) -> Vec<Finding> {
    let config = &parsed.config;
    let avoid = doors::opened_ports(config);
    let watches = doors::watches(config, |door, knock| {
        Vec::from_iter(lists.current(door, knock))
    });
    let knocks = Knocks::new(watches, &avoid, [0, 0], 0);
    let finding = |watch: &Watch, message: String| {
        let spot = Spot::door(watch.door.into()).knock(watch.knock.into());
        let (key, spot) = key_of(config, spot);
        Finding::at(name, parsed.places.get(spot), &key, message)
    };
    let unwatched = knocks.unwatched().map(|watch| {
        let message = "not listened to: too many sequences begin with the same step but have \
                       other tcpflags, another seq_timeout or another on; give them the same, \
                       or let it begin with another step";
        finding(watch, message.to_owned())
    });
    let swept = knocks
        .swept()
        .filter(|(watch, _)| watch.steps.len() > 1)
        .map(|(watch, sweep)| {
            let message = format!(
                "a scan opens it ({sweep}): no trap finds room between its steps; take a \
                 sequence from posternctl keygen --sequence"
            );
            finding(watch, message)
        });
    unwatched.chain(swept).collect()
}

/// The key of a knock's steps, in words and for [`config::mistake::Places`].
fn key_of(config: &Config, spot: Spot) -> (String, Spot) {
    let door = spot.door.and_then(|at| config.doors.get(at));
    let knock = door.and_then(|door| door.knocks.get(spot.knock?));
    let key = match knock {
        Some(Knock::Sequence(Sequence {
            steps: Steps::OneTime(_),
            ..
        })) => "one_time_sequences",
        Some(Knock::Sequence(_)) | None => "sequence",
        Some(Knock::Ping(_)) => "ping",
    };
    let spot = spot.key(key);
    (config::check::key_of(config, spot), spot)
}

fn about_list(name: &str, parsed: &Parsed, spot: Spot, list: &List) -> Vec<Finding> {
    let (key, spot) = key_of(&parsed.config, spot);
    let path = list.path.display();
    let here = |message| Finding::at(name, parsed.places.get(spot), &key, message);
    let text = match &list.text {
        Ok(text) => text,
        Err(why) => return vec![here(format!("{path}: {why}; the knock opens nothing"))],
    };
    let mut found = Vec::new();
    found.extend(distrusted(&list.path, parsed.config.knockd.is_some()));
    if onetime::count(text) == 0 {
        found.push(here(format!(
            "{path}: no sequence is left; the knock opens nothing"
        )));
    }
    let lines = onetime::mistakes(&path.to_string(), text);
    found.extend(lines.into_iter().map(|mistake| Finding {
        warning: true,
        ..Finding::from(mistake)
    }));
    found
}
