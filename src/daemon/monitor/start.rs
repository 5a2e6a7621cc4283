//! How the monitor comes to be: everything is looked at before anything is changed.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::unistd::{Uid, User};

use super::signals::Signals;
use super::trials::Guards;
use super::{Monitor, UPHOLD_EVERY};
use crate::config::{self, Config};
use crate::daemon::addresses::{self, Watcher};
use crate::daemon::doors::Doors;
use crate::daemon::log::{Level, Log};
use crate::daemon::recovery::{self, RUN_LIMIT, TakenUp, openings};
use crate::daemon::server::Server;
use crate::daemon::spawn::Executable;
use crate::daemon::state::{self, Lock};
use crate::daemon::supervise::Listeners;
use crate::daemon::trial::Cause;
use crate::daemon::{clock, files};
use crate::exit;
use crate::firewall::{Backends, Firewall, What};
use crate::journal::{Entry, Journal, Record, Recovered};
use crate::lease::{Leases, Why};
use crate::time::Time;

/// The listener's user where the configuration names none, if there is such a user.
const USER: &str = "_postern";
/// The listener's user otherwise.
const NOBODY: &str = "nobody";

/// posternd's command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// Interfaces, in place of the configuration's.
    pub interfaces: Vec<String>,
    /// In place of the configuration's.
    pub pidfile: Option<PathBuf>,
    /// Log stages, failures and timeouts too.
    pub verbose: bool,
}

/// Why the daemon did not start: what to print, and the exit status (sysexits(3)).
#[derive(Debug)]
pub struct NotStarted {
    /// Lines for a person.
    pub lines: Vec<String>,
    /// One of [`crate::exit`]'s.
    pub status: u8,
}

fn not(status: u8, line: impl Into<String>) -> NotStarted {
    NotStarted {
        lines: vec![line.into()],
        status,
    }
}

/// The files of a running daemon: gone when it stops.
pub(super) struct Pidfile(PathBuf);

impl Pidfile {
    pub(super) fn write(path: &Path) -> io::Result<Pidfile> {
        fs::write(path, format!("{}\n", std::process::id()))?;
        Ok(Pidfile(path.to_owned()))
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Whom the listener becomes.
#[derive(Clone, Debug)]
pub(super) struct Unprivileged {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Unprivileged {
    pub(super) fn of(config: &Config) -> Result<Unprivileged, String> {
        let look = |name: &str| User::from_name(name).ok().flatten();
        let user = match &config.user {
            Some(name) => look(name).ok_or_else(|| {
                format!("user: there is no user {name}: name one that there is, or add it")
            })?,
            None => look(USER)
                .or_else(|| look(NOBODY))
                .ok_or_else(|| format!("user: there is neither {USER} nor {NOBODY}: add {USER}"))?,
        };
        if user.uid.is_root() {
            return Err(format!(
                "user: {} is root: name an unprivileged user",
                user.name
            ));
        }
        Ok(Unprivileged {
            name: user.name,
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
        })
    }
}

/// Reads a configuration and takes the command line into account; its warnings.
///
/// # Errors
/// Everything that is wrong with it, each fit for a line; also if others than root decide what
/// stands in it.
pub fn load(options: &Options) -> Result<(Config, Vec<String>), Vec<String>> {
    files::trusted(&options.config, true).map_err(|e| vec![e.to_string()])?;
    let name = options.config.display().to_string();
    let text = fs::read_to_string(&options.config).map_err(|e| vec![format!("{name}: {e}")])?;
    let parsed = config::toml::read(&name, &text)
        .map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let warnings = config::check::check(&name, &parsed, &[]);
    let warnings = warnings.iter().map(ToString::to_string).collect();
    let mut config = parsed.config;
    if !options.interfaces.is_empty() {
        config.interfaces.clone_from(&options.interfaces);
    }
    if config.interfaces.is_empty() {
        return Err(vec![format!(
            "{name}: interface: missing: write interface = \"xl0\", or -i xl0"
        )]);
    }
    if let Some((door, interface)) = config.unheard() {
        return Err(vec![format!(
            "{name}: door.{door}.on: nobody listens at {interface}: name interfaces that are \
             listened at"
        )]);
    }
    if let Some(pidfile) = &options.pidfile {
        config.pidfile = Some(pidfile.clone());
    }
    Ok((config, warnings))
}

impl Monitor {
    pub(super) fn start(options: Options) -> Result<Monitor, NotStarted> {
        if !Uid::effective().is_root() {
            return Err(not(
                exit::NOPERM,
                "only root can capture packets and open doors",
            ));
        }
        let os = |what: &str| {
            let what = what.to_owned();
            move |e: io::Error| not(exit::OSERR, format!("{what}: {e}"))
        };
        let (config, warnings) = load(&options).map_err(|lines| NotStarted {
            lines,
            status: exit::CONFIG,
        })?;
        let user = Unprivileged::of(&config).map_err(|e| not(exit::CONFIG, e))?;
        let executable = Executable::open().map_err(os("our own executable"))?;
        let signals = Signals::catch().map_err(os("signals"))?;

        let directory = config.state.clone();
        files::private_directory(&directory).map_err(|e| not(exit::CONFIG, e.to_string()))?;
        let lock = lock(&directory, &config.control)?;
        empty(&directory.join("empty")).map_err(os("the listener's root directory"))?;
        let server = Server::open(&config.control).map_err(|e| {
            not(
                exit::UNAVAILABLE,
                format!("{}: {e}", config.control.display()),
            )
        })?;
        let pidfile = config.pidfile.as_deref().map(Pidfile::write).transpose();
        let pidfile = pidfile.map_err(os("pidfile"))?;
        let mut log = Log::open(&config.log).map_err(os("log"))?;

        let now = clock::now();
        let boot = state::boot().map_err(|e| not(exit::OSERR, e.to_string()))?;
        let file = |name: &str| directory.join(name);
        let (journal, recovered) = Journal::open(&file(state::JOURNAL), &boot, now)
            .map_err(os(&file(state::JOURNAL).display().to_string()))?;
        if recovered.damaged > 0 {
            let n = recovered.damaged;
            log.line(
                Level::Warning,
                &format!("journal: {n} damaged lines passed over"),
            );
        }
        let (guards, damaged) =
            Guards::open(&file(state::TRIAL), boot)
                .map_err(os(&file(state::TRIAL).display().to_string()))?;
        if let Some(damaged) = damaged {
            log.line(Level::Warning, &damaged);
        }
        let (doors, wrong) = Doors::new(config, now);
        for line in wrong {
            log.line(Level::Warning, &line);
        }

        let watcher = Watcher::open().map_err(os("word of interfaces"))?;
        let interfaces = addresses::read().map_err(os("interfaces"))?;
        let leases = Leases::new(doors.terms());
        let firewall = Backends::from_config(&doors.config, &doors.config.interfaces)
            .map_err(|e| not(exit::CONFIG, e.to_string()))?;
        let mut monitor = Monitor {
            firewall,
            options,
            doors,
            guards,
            generation: 1,
            loaded: 1,
            user,
            log,
            journal,
            leases,
            broken: HashMap::new(),
            closing: HashMap::new(),
            recent: HashMap::new(),
            listeners: Listeners::new(executable),
            renew: true,
            look: None,
            said: HashMap::new(),
            watcher,
            interfaces,
            server,
            reloading: Vec::new(),
            signals,
            uphold_at: now + UPHOLD_EVERY,
            granted: HashMap::new(),
            refused: 0,
            since: Timestamp::now(),
            _lock: lock,
            _pidfile: pidfile,
        };
        monitor.say_started();
        monitor.say_warnings(&warnings);
        monitor.resume(recovered, now)?;
        Ok(monitor)
    }

    pub(super) fn say_started(&mut self) {
        let config = &self.doors.config;
        let text = format!(
            "posternd {} started: {}, firewall {}, interfaces {}, configuration {}",
            env!("CARGO_PKG_VERSION"),
            self.doors.counted(),
            self.firewall.name(),
            config.interfaces.join(" "),
            self.options.config.display(),
        );
        self.log.line(Level::Notice, &text);
        if config.user.is_none() && self.user.name == NOBODY {
            self.log.line(
                Level::Warning,
                &format!("there is no user {USER}: the listener runs as {NOBODY}"),
            );
        }
    }

    /// Takes up what the journal says: leases that go on, and what is owed of those that do not.
    pub(super) fn resume(&mut self, recovered: Recovered, now: Time) -> Result<(), NotStarted> {
        let config = &self.doors.config;
        let TakenUp { orders, orphans } =
            recovery::take_up(recovered, &config.doors, &mut self.leases, now);
        let over = orders.iter().filter(|order| order.what == What::Close);
        self.closing = over.map(|order| (order.opening, Why::Due)).collect();
        let kept = openings(&self.leases, now);
        let trials = self.guards.under(config, now, Cause::Start);
        let established = self.firewall.establish(&trials.doors(config), &kept);
        let upkeep = established.map_err(|e| not(exit::UNAVAILABLE, e.to_string()))?;
        // Said in the log if it could not be written.
        let _ = self.put_in_force(trials);
        self.note_sessions();
        if !kept.is_empty() || !orders.is_empty() {
            let owed = self.closing.len();
            let text = format!("journal: {} leases go on, {owed} are over", kept.len());
            self.log.line(Level::Notice, &text);
        }
        self.say_upkeep(&upkeep);
        self.say_trials();
        self.firewall.apply(&orders);
        self.run_orphans(orphans);
        self.take_done();
        Ok(())
    }

    /// Stop commands owed by doors that are configured no more, or have none now.
    pub(super) fn run_orphans(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            if let Some(stop) = &entry.stop {
                let text = format!(
                    "{}: the door has changed: running the stop command owed for {}",
                    entry.door, entry.address
                );
                self.log.line(Level::Notice, &text);
                let owed = stop.clone();
                self.firewall
                    .run_owed(&entry.door, entry.address, owed, RUN_LIMIT);
            }
            self.write_journal(&[Record::Closed {
                door: entry.door,
                address: entry.address,
            }]);
        }
    }
}

/// Another posternd does not let go of the lock; posternctl holds it for moments only.
fn lock(state: &Path, control: &Path) -> Result<Lock, NotStarted> {
    let path = state.join("lock");
    let lock = state::wait_for_lock(state, || UnixStream::connect(control).is_ok());
    lock.map_err(|e| not(exit::OSERR, format!("{}: {e}", path.display())))?
        .ok_or_else(|| {
            let text = format!("{}: another posternd runs", path.display());
            not(exit::UNAVAILABLE, text)
        })
}

/// An empty directory that root owns and nobody can write: the listener's root.
fn empty(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o555))
}
