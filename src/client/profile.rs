//! The profile file: hosts by name, each with the ways to knock at it.
//!
//! ```toml
//! [host.home]
//! address = "home.example.net"       # default: the host's name
//! sequence = ["7143", "2912/udp"]
//! delay = "50ms"
//!
//! [host.work]                        # several ways, tried in order
//! port = 22
//! [[host.work.way]]
//! sequence = ["7143", "2912/udp"]
//! [[host.work.way]]
//! ping = "6b3f..."
//! [[host.work.way]]
//! spa = true
//! cipher_key = "BASE64"              # fwknop's KEY_BASE64
//! hmac_key = "BASE64"                # fwknop's HMAC_KEY_BASE64
//! hmac = "sha256"
//! carrier = "62201/udp"              # or "icmp"
//! opens = ["22/tcp"]                 # default: the port that is connected to
//! from = "observed"                  # default: the address that this machine sends from
//! lasts = "30s"                      # default: as the door has it
//! ```

mod reader;

use std::env;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub use reader::{HOST_KEYS, WAY_KEYS, WAYS, parse};

use super::Problem;
use super::knock::Sequence;
use super::spa::Spa;
use crate::config::Pattern;
use crate::config::mistake::{Mistake, utf8};
use crate::config::toml::keys::nearest;
use crate::exit::{self, words};

/// The port that is connected to where nothing else is said: ssh's.
pub const PORT: u16 = 22;

/// A host to knock at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its name in the file.
    pub name: String,
    /// A name or an address; an IPv6 address may stand in brackets and bear a zone.
    pub address: String,
    /// What [`super::connect`] connects to if nothing else is said.
    pub port: u16,
    /// In the order in which they are tried; at least one.
    pub ways: Vec<Way>,
}

impl Host {
    /// It has no way of this kind.
    pub(super) fn lacks(&self, kind: &str) -> Problem {
        let mut others: Vec<&str> = self.ways.iter().map(Way::kind).collect();
        others.dedup();
        let (name, others) = (&self.name, others.join(" and "));
        Problem::new(
            exit::CONFIG,
            format!("host.{name}: has no {kind}, only {others}"),
        )
    }
}

/// A way to knock at a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// A sequence of ports.
    Sequence(Sequence),
    /// An echo request with this secret in it.
    Ping(Pattern),
    /// A sealed packet.
    Spa(Spa),
}

impl Way {
    /// What it is called: the key that it has in the file.
    pub fn kind(&self) -> &'static str {
        match self {
            Way::Sequence(_) => "sequence",
            Way::Ping(_) => "ping",
            Way::Spa(_) => "spa",
        }
    }
}

/// As [`Way::kind`].
impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

/// Why the profile file has no such host.
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
    /// Several of its hosts have the address.
    #[error("{}: {} have the address {address}; name the one that is meant (ssh: {})",
        file.display(), hosts.join(" and "), "%n in the place of %h")]
    Several {
        /// The file.
        file: PathBuf,
        /// The address asked for.
        address: String,
        /// The hosts, with their tables: `host.home`.
        hosts: Vec<String>,
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

/// The host of this name in the profile `file`.
///
/// # Errors
/// The whole file is read and checked, whichever host is asked for.
pub fn find(file: &Path, host: &str) -> Result<Host, Error> {
    let mut hosts = read_all(file)?;
    if let Some(at) = hosts.iter().position(|known| known.name == host) {
        return Ok(hosts.swap_remove(at));
    }
    let known: Vec<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
    Err(Error::NoHost {
        file: file.to_owned(),
        host: host.to_owned(),
        near: nearest(host, &known).map(str::to_owned),
    })
}

/// The host of this name, or else the one that has it for its address: ssh's `%h` is one or the
/// other. `None`: there is neither.
///
/// # Errors
/// As [`find`]'s; and where several hosts have the address.
pub fn find_either(file: &Path, name: &str) -> Result<Option<Host>, Error> {
    let mut hosts = read_all(file)?;
    if let Some(at) = hosts.iter().position(|known| known.name == name) {
        return Ok(Some(hosts.swap_remove(at)));
    }
    // Names in the DNS are the same in any case.
    hosts.retain(|known| known.address.eq_ignore_ascii_case(name));
    match hosts.len() {
        0 | 1 => Ok(hosts.pop()),
        _ => Err(Error::Several {
            file: file.to_owned(),
            address: name.to_owned(),
            hosts: hosts.iter().map(|h| format!("host.{}", h.name)).collect(),
        }),
    }
}

fn read_all(file: &Path) -> Result<Vec<Host>, Error> {
    let bytes = read(file)?;
    let name = file.display().to_string();
    utf8(&name, &bytes)
        .map_err(|mistake| vec![mistake])
        .and_then(|text| parse(&name, text))
        .map_err(Error::Wrong)
}

/// The bytes of a file that holds secrets.
///
/// # Errors
/// Where others can read or write it, too.
pub(super) fn read(file: &Path) -> Result<Vec<u8>, Error> {
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
