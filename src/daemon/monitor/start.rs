//! How the monitor comes to be: everything is looked at before anything is changed.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::unistd::{Uid, User, daemon};

use super::counts::Counts;
use super::figures::Driving;
use super::idle::Idle;
use super::keys::open_spent;
use super::recent::{Proofs, Recent};
use super::signals::Signals;
use super::trials::Guards;
use super::{Monitor, UPHOLD_EVERY};
use crate::config::{self, Config, Confine, Format, LogTo, Mistake};
use crate::daemon::addresses::{self, Watcher};
use crate::daemon::clock::{self, Alarm};
use crate::daemon::doors::Doors;
use crate::daemon::dumps;
use crate::daemon::files::{self, Believed, Distrust, empty_directory};
use crate::daemon::fire::Lookout;
use crate::daemon::log::{Level, Log};
use crate::daemon::recovery::{self, RUN_LIMIT, TakenUp, openings};
use crate::daemon::sandbox;
use crate::daemon::server::Server;
use crate::daemon::spawn::Executable;
use crate::daemon::state::{self, Lock};
use crate::daemon::supervise::Listeners;
use crate::daemon::trial::Cause;
use crate::daemon::voice::Voice;
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// Interfaces, in place of the configuration's.
    pub interfaces: Vec<String>,
    /// In place of the configuration's.
    pub pidfile: Option<PathBuf>,
    /// Log stages, failures and timeouts too.
    pub verbose: bool,
    /// How the log speaks.
    pub voice: Voice,
    /// Say aloud what goes to the log, too.
    pub aloud: bool,
    /// In place of the system's own log where the configuration names none.
    pub log: Option<PathBuf>,
    /// Hear no IPv6.
    pub only_v4: bool,
    /// Leave the terminal and the foreground once all that can go wrong at once has not.
    pub detach: bool,
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

/// What a configuration in force had better not say, each fit for a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Warnings {
    /// It can be read by others.
    pub exposed: Option<String>,
    /// What stands in it.
    pub unwise: Vec<String>,
}

impl Warnings {
    /// All of them.
    pub fn into_lines(self) -> Vec<String> {
        self.exposed.into_iter().chain(self.unwise).collect()
    }
}

/// Reads a configuration and takes the command line into account; its warnings. Neither these
/// nor an error quote a step of a knock: they go to logs.
///
/// # Errors
/// Everything that is wrong with it, each fit for a line; also if others than root decide what
/// stands in it, or can read one of ours.
pub fn load(options: &Options) -> Result<(Config, Warnings), Vec<String>> {
    let name = options.config.display().to_string();
    let told = |e: Distrust| vec![e.to_string()];
    let file = Believed::open(&options.config).map_err(told)?;
    let private = file.private();
    let text = file.read().map_err(told)?;
    // Debian installs its knockd.conf so that all can read it.
    let exposed = match (Format::of(&name, &text), private) {
        (Format::Postern, Err(why)) => return Err(told(why)),
        (Format::Knockd, Err(why)) => Some(format!("{name}: warning: {why}")),
        (_, Ok(())) => None,
    };
    let parsed = config::read(&name, &text).map_err(|mistakes| {
        let discreet = mistakes.into_iter().map(Mistake::discreet);
        discreet.map(|m| m.to_string()).collect::<Vec<_>>()
    })?;
    let unwise = config::check::check(&name, &parsed, &[]);
    let unwise = unwise.into_iter().map(|w| w.discreet().to_string());
    let warnings = Warnings {
        exposed,
        unwise: unwise.collect(),
    };
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
    config.pidfile = match (options.voice, &config.knockd) {
        (Voice::Ours, _) => options.pidfile.clone().or(config.pidfile),
        // knockd has one only in the background; what the file says goes before.
        (Voice::Knockd, _) if !options.detach => None,
        (Voice::Knockd, Some(said)) => said.pidfile.clone().or(options.pidfile.clone()),
        (Voice::Knockd, None) => config.pidfile.or(options.pidfile.clone()),
    };
    Ok((config, warnings))
}

/// Whether this system can confine the listener as the configuration asks.
///
/// # Errors
/// What is lacking.
pub(super) fn confinable(config: &Config) -> Result<(), String> {
    match sandbox::lacking().first() {
        Some(lacking) if config.confine == Confine::Required => Err(format!(
            "confine: the listener cannot be confined here: {lacking}; confine = \"try\" listens \
             all the same"
        )),
        _ => Ok(()),
    }
}

/// Where log lines go: under a knockd.conf it may be two places at once.
pub(super) fn log_to(options: &Options, config: &Config) -> Vec<LogTo> {
    let Some(said) = &config.knockd else {
        return vec![config.log.clone()];
    };
    let file = said.log_file.as_ref().or(options.log.as_ref());
    let file = file.map(|path| LogTo::File(path.clone()));
    let syslog = (said.syslog || file.is_none()).then_some(LogTo::Syslog);
    file.into_iter().chain(syslog).collect()
}

/// The log. knockd goes on without a file that it cannot open, and says so.
fn open_log(options: &Options, config: &Config) -> io::Result<Log> {
    let to = log_to(options, config);
    match Log::open(&to, options.voice) {
        Err(e) if options.voice == Voice::Knockd => {
            eprintln!("warning: cannot open logfile: {e}");
            Log::open(&[LogTo::Syslog], options.voice)
        }
        opened => opened,
    }
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
        // From here on there are secrets in memory.
        let cores = dumps::forbid_cores();
        let (config, warnings) = load(&options).map_err(|lines| NotStarted {
            lines,
            status: exit::CONFIG,
        })?;
        let user = Unprivileged::of(&config).map_err(|e| not(exit::CONFIG, e))?;
        confinable(&config).map_err(|e| not(exit::UNAVAILABLE, e))?;
        let executable = Executable::open().map_err(os("our own executable"))?;
        let signals = Signals::catch().map_err(os("signals"))?;

        let directory = config.state.clone();
        files::private_directory(&directory).map_err(|e| not(exit::CONFIG, e.to_string()))?;
        let lock = lock(&directory, &config.control)?;
        let server = Server::open(&config.control).map_err(|e| {
            not(
                exit::UNAVAILABLE,
                format!("{}: {e}", config.control.display()),
            )
        })?;
        let mut log = open_log(&options, &config).map_err(os("log"))?;
        if options.aloud {
            log.speak_aloud();
        }
        if let Err(e) = cores {
            let text = format!("should posternd crash, its core would hold secrets: {e}");
            log.line(Level::Warning, &text);
        }

        let now = clock::now();
        let boot = state::boot().map_err(|e| not(exit::OSERR, e.to_string()))?;
        let file = |name: &str| directory.join(name);
        let (journal, recovered) = Journal::open(&file(state::JOURNAL), &boot, now);
        say_recovered(&recovered, &mut log);
        let (guards, damaged) = Guards::open(&file(state::TRIAL), boot);
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
        let (spent, troubles) = open_spent(&directory, &doors.names().keys);
        let concerned = !doors.config.keys.is_empty();
        for line in troubles.iter().filter(|_| concerned) {
            log.line(Level::Warning, line);
        }
        let firewall = Backends::from_config(&doors.config, &doors.config.interfaces)
            .map_err(|e| not(exit::CONFIG, e.to_string()))?;
        let mut monitor = Monitor {
            firewall,
            options,
            doors,
            guards,
            generation: 1,
            loaded: 1,
            former: Vec::new(),
            user,
            log,
            journal,
            leases,
            broken: HashMap::new(),
            closing: HashMap::new(),
            recent: Recent::default(),
            proofs: Proofs::default(),
            spent,
            idle: Idle::default(),
            listeners: Listeners::new(executable),
            several: false,
            renew: true,
            look: None,
            sought: Time(0),
            followed: Time(0),
            word_at: None,
            said: HashMap::new(),
            mended: HashMap::new(),
            heard_once: false,
            watcher,
            interfaces,
            server,
            reloading: Vec::new(),
            signals,
            alarm: Alarm::new().map_err(os("timer"))?,
            uphold_at: now + UPHOLD_EVERY,
            counts: Counts::default(),
            lookout: Lookout::new(now),
            drive: Driving::default(),
            since: Timestamp::now(),
            _lock: lock,
            pidfile: None,
        };
        if monitor.options.detach {
            daemon(false, false).map_err(|e| not(exit::OSERR, format!("daemon: {e}")))?;
        }
        monitor.write_pidfile().map_err(os("pidfile"))?;
        monitor.say_started();
        monitor.say_warnings(&warnings);
        monitor.uphold_files();
        if let Err(e) = monitor.resume(recovered, now) {
            // Nobody may be left to see what is printed.
            for line in e.lines.iter().filter(|_| monitor.options.detach) {
                monitor.log.line(Level::Error, line);
            }
            return Err(e);
        }
        Ok(monitor)
    }

    /// Where nobody sees it fail, it is said and goes without.
    fn write_pidfile(&mut self) -> io::Result<()> {
        let Some(path) = &self.doors.config.pidfile else {
            return Ok(());
        };
        match Pidfile::write(path) {
            Ok(written) => self.pidfile = Some(written),
            Err(e) if self.options.detach || files::is_storage(&e) => {
                let text = format!("could not create pid file {}: {e}", path.display());
                self.log.line(Level::Error, &text);
            }
            Err(e) => return Err(e),
        }
        Ok(())
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
        let unknown = config.user.is_none() && self.user.name == NOBODY;
        if let Some(line) = self.options.voice.started(text) {
            self.say(&line);
        }
        if unknown {
            self.log.line(
                Level::Warning,
                &format!("there is no user {USER}: the listener runs as {NOBODY}"),
            );
        }
    }

    /// Takes up what the journal says: leases that go on, and what is owed of those that do not.
    pub(super) fn resume(&mut self, recovered: Recovered, now: Time) -> Result<(), NotStarted> {
        let config = &self.doors.config;
        let TakenUp {
            mut orders,
            orphans,
        } = recovery::take_up(recovered, config, &mut self.leases, now);
        let over = orders.iter().filter(|order| order.what == What::Close);
        self.closing = over.map(|order| (order.opening, Why::Due)).collect();
        let kept = openings(&self.leases, clock::now());
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
        self.say_running(&orders);
        // Packet filters count from when they are told, however long it took to get there.
        let now = clock::now();
        for order in &mut orders {
            let lease = self.leases.get(order.opening.door, order.opening.address);
            if let (What::Open { remaining }, Some(lease)) = (&mut order.what, lease) {
                *remaining = Some(lease.until.since(now));
            }
        }
        self.firewall.apply(&orders);
        self.run_orphans(orphans);
        self.take_done();
        self.heed_drive(now);
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
                    .run_owed(&entry.door, entry.address.address(), owed, RUN_LIMIT);
                continue;
            }
            self.note_in_journal(&[Record::Closed {
                door: entry.door,
                address: entry.address,
            }]);
        }
    }

    /// Sees to it that there is what a disk that was full or read-only may have kept away.
    pub(super) fn uphold_files(&mut self) {
        let caught_up = self.journal.catch_up();
        self.tell_journal(caught_up);
        // Said of whom it refuses.
        let _ = self.spent.catch_up();
        // Said where it cannot be written.
        let _ = self.write_trials();
        match empty_directory(&self.doors.config.state.join(state::EMPTY)) {
            Ok(()) => _ = self.said.remove("empty"),
            Err(e) => self.say_once("empty", &format!("the listener's root directory: {e}")),
        }
        match self.server.uphold() {
            Ok(()) => _ = self.said.remove("control"),
            Err(e) => {
                let path = self.doors.config.control.display();
                self.say_once("control", &format!("{path}: {e}: posternctl is not heard"));
            }
        }
        if self.log.is_elsewhere() {
            let to = log_to(&self.options, &self.doors.config);
            // It goes on to syslog then.
            let _ = self.log.reopen(&to);
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

/// What is wrong with the journal, and what comes of it.
fn say_recovered(recovered: &Recovered, log: &mut Log) {
    let mut say = |text: &str| log.line(Level::Warning, text);
    if let Some(why) = &recovered.unread {
        say(&format!("journal: not read: {why}: no lease goes on"));
    }
    if recovered.damaged > 0 {
        let n = recovered.damaged;
        say(&format!(
            "journal: {n} lines damaged: the leases that they may have ended are over, stop \
             commands that they told of are not known; kept as journal.damaged"
        ));
    }
    if recovered.cut {
        say("journal: its last line was cut short and is passed over");
    }
}
