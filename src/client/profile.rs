//! The profile file: hosts by name, each with its knock.
//!
//! ```toml
//! [host.home]
//! address = "home.example.net"       # default: the host's name
//! sequence = ["7143", "2912/udp"]
//! delay = "50ms"
//! ```

use std::collections::BTreeMap;
use std::env;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::knock::{DELAY, DELAYS, Knock};
use crate::config::mistake::{Lines, Mistake, Wrong, quote, utf8};
use crate::config::toml::keys::nearest;
use crate::config::{Port, bounds, units};
use crate::exit::words;

/// The keys of a `[host.NAME]`.
pub const KEYS: [&str; 3] = ["address", "sequence", "delay"];

/// Why the profile file gives no knock.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such file.
    #[error("{}: there is no such file", file.display())]
    Absent {
        /// The file.
        file: PathBuf,
    },
    /// It cannot be read.
    #[error("{}: {}", file.display(), words(why))]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The system's words.
        why: io::Error,
    },
    /// Others can read or write it.
    #[error("{file} holds secrets and is open to others (mode {mode:04o}): chmod 600 {file}",
        file = file.display())]
    Open {
        /// The file.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is wrong.
    #[error("{}", lines(.0))]
    Wrong(Vec<Mistake>),
    /// It has no such host.
    #[error("{}: no [host.{host}]{}", file.display(), meant(near.as_deref()))]
    NoHost {
        /// The file.
        file: PathBuf,
        /// The name asked for.
        host: String,
        /// The one that may have been meant.
        near: Option<String>,
    },
}

fn lines(mistakes: &[Mistake]) -> String {
    let lines: Vec<String> = mistakes.iter().map(Mistake::to_string).collect();
    lines.join("\n")
}

fn meant(near: Option<&str>) -> String {
    near.map_or_else(String::new, |near| format!("; the nearest is {near}"))
}

/// Where the profile file stands unless the command line says otherwise:
/// `postern/config.toml` in `%APPDATA%` on Windows, elsewhere in `$XDG_CONFIG_HOME` (if that is
/// absolute, as the XDG Base Directory Specification wants it) or `~/.config`.
pub fn file() -> Option<PathBuf> {
    let absolute = |name| {
        let path = PathBuf::from(env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    let directory = if cfg!(windows) {
        absolute("APPDATA")?
    } else {
        absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?
    };
    Some(directory.join("postern").join("config.toml"))
}

/// The knock of `host` in the profile `file`.
///
/// # Errors
/// The whole file is read and checked, whichever host is asked for.
pub fn find(file: &Path, host: &str) -> Result<Knock, Error> {
    let bytes = read(file)?;
    let name = file.display().to_string();
    let mut hosts = utf8(&name, &bytes)
        .map_err(|mistake| vec![mistake])
        .and_then(|text| parse(&name, text))
        .map_err(Error::Wrong)?;
    if let Some(knock) = hosts.remove(host) {
        return Ok(knock);
    }
    let known: Vec<&str> = hosts.keys().map(String::as_str).collect();
    Err(Error::NoHost {
        file: file.to_owned(),
        host: host.to_owned(),
        near: nearest(host, &known).map(str::to_owned),
    })
}

fn read(file: &Path) -> Result<Vec<u8>, Error> {
    let unreadable = |why: io::Error| match why.kind() {
        io::ErrorKind::NotFound => Error::Absent {
            file: file.to_owned(),
        },
        _ => Error::Unreadable {
            file: file.to_owned(),
            why,
        },
    };
    let mut open = File::open(file).map_err(unreadable)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let mode = open.metadata().map_err(unreadable)?.mode() & 0o7777;
        if mode & 0o066 != 0 {
            return Err(Error::Open {
                file: file.to_owned(),
                mode,
            });
        }
    }
    let mut bytes = Vec::new();
    open.read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

/// Reads a profile file's text: its hosts by name.
///
/// # Errors
/// Every mistake with its place, in the order of the text; `file` is what it is called there.
pub fn parse(file: &str, text: &str) -> Result<BTreeMap<String, Knock>, Vec<Mistake>> {
    let mut reader = Reader {
        file,
        lines: Lines::new(text),
        found: Vec::new(),
    };
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let what = error.message().lines().collect::<Vec<_>>().join(", ");
        let wrong = Wrong::new(what, "see https://toml.io/en/v1.0.0");
        reader.refuse(error.span().unwrap_or(0..0), "", wrong);
    }
    // What follows from broken syntax is no mistake of its own.
    let hosts = match reader.found.is_empty() {
        true => reader.hosts(document.get_ref()),
        false => BTreeMap::new(),
    };
    if reader.found.is_empty() {
        return Ok(hosts);
    }
    reader.found.sort_by_key(|mistake| mistake.place);
    Err(reader.found)
}

struct Reader<'t> {
    file: &'t str,
    lines: Lines<'t>,
    found: Vec<Mistake>,
}

impl Reader<'_> {
    fn refuse(&mut self, at: Range<usize>, key: &str, wrong: Wrong) {
        self.found.push(Mistake {
            file: self.file.to_owned(),
            place: self.lines.place(at.start),
            key: key.to_owned(),
            what: wrong.what,
            right: wrong.right,
        });
    }

    fn kept<T>(&mut self, at: Range<usize>, key: &str, read: Result<T, Wrong>) -> Option<T> {
        read.map_err(|wrong| self.refuse(at, key, wrong)).ok()
    }

    fn hosts(&mut self, document: &DeTable<'_>) -> BTreeMap<String, Knock> {
        let mut hosts = BTreeMap::new();
        for (key, value) in document {
            if key.get_ref() != "host" {
                let right = "a profile file has tables [host.NAME] and nothing else";
                let wrong = Wrong::new("unknown key", right);
                self.refuse(key.span(), key.get_ref(), wrong);
                continue;
            }
            let DeValue::Table(tables) = value.get_ref() else {
                let wrong = no(value.get_ref(), "table", "write [host.NAME]");
                self.refuse(value.span(), "host", wrong);
                continue;
            };
            for (name, value) in tables {
                let name = name.get_ref();
                let DeValue::Table(table) = value.get_ref() else {
                    let right = "write it in a table [host.NAME]";
                    let wrong = no(value.get_ref(), "table", right);
                    self.refuse(value.span(), &format!("host.{name}"), wrong);
                    continue;
                };
                if let Some(knock) = self.host(name, value.span(), table) {
                    hosts.insert(name.to_string(), knock);
                }
            }
        }
        hosts
    }

    fn host(&mut self, name: &str, at: Range<usize>, table: &DeTable<'_>) -> Option<Knock> {
        let mut knock = Knock {
            host: name.to_owned(),
            steps: Vec::new(),
            delay: DELAY,
        };
        let before = self.found.len();
        for (key, value) in table {
            let full = format!("host.{name}.{}", key.get_ref());
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("address", DeValue::String(text)) if !text.is_empty() => {
                    knock.host = text.to_string();
                }
                ("address", other) => {
                    let wrong = no(other, "address", "write a name or an address in quotes");
                    self.refuse(value.span(), &full, wrong);
                }
                ("delay", DeValue::String(text)) => {
                    let read = units::duration_within(text, &DELAYS);
                    if let Some(delay) = self.kept(value.span(), &full, read) {
                        knock.delay = delay;
                    }
                }
                ("delay", other) => {
                    let wrong = no(other, "duration", "write one such as \"50ms\"");
                    self.refuse(value.span(), &full, wrong);
                }
                ("sequence", DeValue::Array(items)) => {
                    for item in items {
                        let read = step(item.get_ref());
                        knock.steps.extend(self.kept(item.span(), &full, read));
                    }
                    if !bounds::STEPS.contains(&items.len()) {
                        let what = format!("has {} steps", items.len());
                        let wrong = Wrong::new(what, format!("write 1 to {}", bounds::STEPS.end()));
                        self.refuse(value.span(), &full, wrong);
                    }
                }
                ("sequence", other) => {
                    let right = "write one such as [\"7143\", \"2912/udp\"]";
                    self.refuse(value.span(), &full, no(other, "list", right));
                }
                (unknown, _) => {
                    let right = match nearest(unknown, &KEYS) {
                        Some(near) => format!("the nearest known one is {near}"),
                        None => format!("keys known here are {}", KEYS.join(", ")),
                    };
                    self.refuse(key.span(), &full, Wrong::new("unknown key", right));
                }
            }
        }
        if !table.contains_key("sequence") && self.found.len() == before {
            let right = "write sequence = [...] with the ports to hit";
            let wrong = Wrong::new("has no sequence", right);
            self.refuse(at, &format!("host.{name}"), wrong);
        }
        (self.found.len() == before).then_some(knock)
    }
}

fn step(value: &DeValue<'_>) -> Result<Port, Wrong> {
    match value {
        DeValue::String(text) => units::port(text),
        DeValue::Integer(number) => units::port(&number.to_string()),
        other => Err(no(
            other,
            "port",
            "write one such as \"7143\" or \"2912/udp\"",
        )),
    }
}

/// A value of the wrong kind.
fn no(value: &DeValue<'_>, wanted: &str, right: &str) -> Wrong {
    let given = match value {
        DeValue::String(text) => quote(text),
        DeValue::Integer(_) | DeValue::Array(_) => format!("an {}", value.type_str()),
        _ => format!("a {}", value.type_str()),
    };
    Wrong::new(format!("{given} is no {wanted}"), right)
}
