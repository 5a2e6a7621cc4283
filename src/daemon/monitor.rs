//! The monitor: root. It keeps leases, journal and packet filter in step, and believes nothing
//! that the listener says beyond what the configuration allows.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Uid, User};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};

use super::addresses::{self, Interfaces, Watcher};
use super::clock;
use super::control::{DoorView, InterfaceView, LeaseView, Request, Response, StatusView};
use super::doors::{Doors, NotSpent};
use super::files;
use super::log::{Level, Log};
use super::server::Server;
use super::spawn::Executable;
use super::supervise::{Listeners, News};
use super::wire::{Down, Event, Knocked, Setup};
use crate::config::{self, Action, Config, Door};
use crate::firewall::{Backends, Done, Opening, Order, Upkeep, What};
use crate::journal::{Entry, Journal, Record};
use crate::knock::can_knock;
use crate::lease::{Act, Change, Lease, Leases, Why};
use crate::time::Time;

/// Attempts held at once: 32 MiB of address space, resident only as far as it is used.
const ATTEMPTS: usize = 1 << 20;
/// How often it is looked whether our rules stand.
const UPHOLD_EVERY: Duration = Duration::from_secs(10);
/// How often an interface that is missing is looked for, beside word from the kernel.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Two listeners that both saw a knock while one took over from the other give two grants.
const SAME_KNOCK: Duration = Duration::from_secs(2);
/// How long commands that still run are waited for when the daemon stops.
const STOP_IN: Duration = Duration::from_secs(5);
/// The listener's user where the configuration names none, if there is such a user.
const USER: &str = "_postern";
/// The listener's user otherwise.
const NOBODY: &str = "nobody";
/// Names the boot where the system does not: gone after it, since /var/run is emptied at boot.
#[cfg(not(target_os = "linux"))]
const BOOT: &str = "/var/run/postern.boot";
/// linux/Documentation/admin-guide/sysctl/kernel.rst, random.
#[cfg(target_os = "linux")]
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

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
    /// EX_CONFIG, EX_NOPERM, EX_UNAVAILABLE, EX_OSERR.
    pub status: u8,
}

const EX_UNAVAILABLE: u8 = 69;
const EX_OSERR: u8 = 71;
const EX_NOPERM: u8 = 77;
const EX_CONFIG: u8 = 78;

fn not(status: u8, line: impl Into<String>) -> NotStarted {
    NotStarted { lines: vec![line.into()], status }
}

/// Runs until SIGTERM or SIGINT.
pub fn run(options: Options) -> ExitCode {
    match Monitor::start(options) {
        Ok(mut monitor) => {
            monitor.serve();
            ExitCode::SUCCESS
        }
        Err(e) => {
            for line in &e.lines {
                eprintln!("posternd: {line}");
            }
            ExitCode::from(e.status)
        }
    }
}

/// The files of a running daemon: gone when it stops.
struct Pidfile(PathBuf);

impl Pidfile {
    fn write(path: &Path) -> io::Result<Pidfile> {
        fs::write(path, format!("{}\n", std::process::id()))?;
        Ok(Pidfile(path.to_owned()))
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Signals, as flags and as a byte in a pipe that wakes the poll.
struct Signals {
    wake: UnixStream,
    reload: Arc<AtomicBool>,
    reopen: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
}

impl Signals {
    fn catch() -> io::Result<Signals> {
        let (wake, write) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let signals = Signals {
            wake,
            reload: Arc::default(),
            reopen: Arc::default(),
            stop: Arc::default(),
        };
        for (signal, flag) in [
            (SIGHUP, &signals.reload),
            (SIGUSR1, &signals.reopen),
            (SIGTERM, &signals.stop),
            (SIGINT, &signals.stop),
        ] {
            signal_hook::flag::register(signal, flag.clone())?;
            signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
        }
        Ok(signals)
    }

    fn clear(&mut self) {
        let mut bytes = [0; 64];
        while matches!(self.wake.read(&mut bytes), Ok(1..)) {}
    }
}

/// Whom the listener becomes.
#[derive(Clone, Debug)]
struct Unprivileged {
    name: String,
    uid: u32,
    gid: u32,
}

impl Unprivileged {
    fn of(config: &Config) -> Result<Unprivileged, String> {
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
            return Err(format!("user: {} is root: name an unprivileged user", user.name));
        }
        Ok(Unprivileged { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw() })
    }
}

struct Monitor {
    options: Options,
    doors: Doors,
    generation: u32,
    user: Unprivileged,
    log: Log,
    journal: Journal,
    leases: Leases,
    firewall: Backends,
    /// Openings that the packet filter did not make, and what it said.
    broken: HashMap<Opening, String>,
    /// Why leases that are being closed are.
    closing: HashMap<Opening, Why>,
    /// Grants while one listener takes over from another: by which generation, and when.
    recent: HashMap<Opening, (u32, Time)>,
    listeners: Listeners,
    /// The listener wants starting with what is in force now.
    renew: bool,
    /// When to look for missing interfaces next, and how long to wait after that.
    look: Option<(Time, Duration)>,
    said: HashMap<String, String>,
    watcher: Watcher,
    interfaces: Interfaces,
    server: Server,
    /// Who asked for a reload and waits for this generation to be in charge.
    reloading: Vec<(u64, u32, Vec<String>)>,
    signals: Signals,
    uphold_at: Time,
    granted: HashMap<String, u64>,
    refused: u64,
    since: Timestamp,
    /// Held, so that there is one daemon a state directory.
    _lock: Flock<File>,
    _pidfile: Option<Pidfile>,
}

/// Reads a configuration and takes the command line into account.
fn load(options: &Options) -> Result<(Config, Vec<String>), Vec<String>> {
    files::trusted(&options.config, true).map_err(|e| vec![e.to_string()])?;
    let name = options.config.display().to_string();
    let text = fs::read_to_string(&options.config).map_err(|e| vec![format!("{name}: {e}")])?;
    let parsed = config::toml::parse(&name, &text)
        .map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let warnings = config::check::warnings(&parsed, &[]);
    let warnings = warnings.iter().map(ToString::to_string).collect();
    let mut config = parsed.config;
    if !options.interfaces.is_empty() {
        config.interfaces.clone_from(&options.interfaces);
    }
    if config.interfaces.is_empty() {
        return Err(vec![format!("{name}: interface: missing: write interface = \"xl0\", or -i xl0")]);
    }
    if let Some(pidfile) = &options.pidfile {
        config.pidfile = Some(pidfile.clone());
    }
    Ok((config, warnings))
}

fn boot() -> io::Result<String> {
    match fs::read_to_string(BOOT) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let mut bytes = [0; 16];
            getrandom::fill(&mut bytes).map_err(io::Error::other)?;
            let id: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            files::replace(Path::new(BOOT), id.as_bytes())?;
            Ok(id)
        }
        other => other.map(|id| id.trim().to_owned()),
    }
}

impl Monitor {
    fn start(options: Options) -> Result<Monitor, NotStarted> {
        if !Uid::effective().is_root() {
            return Err(not(EX_NOPERM, "only root can capture packets and open doors"));
        }
        let os = |what: &str| {
            let what = what.to_owned();
            move |e: io::Error| not(EX_OSERR, format!("{what}: {e}"))
        };
        let (config, warnings) =
            load(&options).map_err(|lines| NotStarted { lines, status: EX_CONFIG })?;
        let user = Unprivileged::of(&config).map_err(|e| not(EX_CONFIG, e))?;
        let executable = Executable::open().map_err(os("our own executable"))?;
        let signals = Signals::catch().map_err(os("signals"))?;

        let state = config.state.clone();
        files::private_directory(&state).map_err(|e| not(EX_CONFIG, e.to_string()))?;
        let lock = lock(&state.join("lock"))?;
        empty(&state.join("empty")).map_err(os("the listener's root directory"))?;
        let server = Server::open(&config.control)
            .map_err(|e| not(EX_UNAVAILABLE, format!("{}: {e}", config.control.display())))?;
        let pidfile = config.pidfile.as_deref().map(Pidfile::write).transpose();
        let pidfile = pidfile.map_err(os("pidfile"))?;
        let mut log = Log::open(&config.log).map_err(os("log"))?;

        let now = clock::now();
        let boot = boot().map_err(os(BOOT))?;
        let (journal, recovered) = Journal::open(&state.join("journal"), &boot, now)
            .map_err(os(&state.join("journal").display().to_string()))?;
        if recovered.damaged > 0 {
            let n = recovered.damaged;
            log.line(Level::Warning, &format!("journal: {n} damaged lines passed over"));
        }
        for warning in warnings {
            log.line(Level::Warning, &warning);
        }
        let (doors, wrong) = Doors::new(config, now);
        for line in wrong {
            log.line(Level::Warning, &line);
        }

        let watcher = Watcher::open().map_err(os("word of interfaces"))?;
        let interfaces = addresses::read().map_err(os("interfaces"))?;
        let leases = Leases::new(doors.terms());
        let mut monitor = Monitor {
            firewall: Backends::new(),
            options,
            doors,
            generation: 1,
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
        monitor.resume(recovered.entries, recovered.rebooted, now)?;
        Ok(monitor)
    }

    fn say_started(&mut self) {
        let config = &self.doors.config;
        let text = format!(
            "posternd {} started: {} doors, firewall {}, interfaces {}, configuration {}",
            env!("CARGO_PKG_VERSION"),
            config.doors.len(),
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
    fn resume(&mut self, entries: Vec<Entry>, rebooted: bool, now: Time) -> Result<(), NotStarted> {
        let mut orders = Vec::new();
        let mut orphans = Vec::new();
        for entry in entries {
            let Some(door) = self.doors.place(&entry.door) else {
                orphans.push(entry);
                continue;
            };
            let opening = Opening { door, address: entry.address };
            let (since, until) = (Time(entry.since), Time(entry.until));
            let lease = Lease { door, address: entry.address, since, until };
            if !rebooted && can_knock(entry.address) && self.leases.restore(lease, now) {
                if !entry.done {
                    let remaining = Some(until.since(now));
                    orders.push(Order { opening, what: What::Open { remaining } });
                }
            } else {
                self.closing.insert(opening, Why::Due);
                orders.push(Order { opening, what: What::Close });
            }
        }
        let kept: Vec<_> = self.openings(now).collect();
        let established = self.firewall.establish(&self.doors.config, &kept);
        let upkeep = established.map_err(|e| not(EX_UNAVAILABLE, e.to_string()))?;
        if !kept.is_empty() || !orders.is_empty() {
            let owed = orders.iter().filter(|o| o.what == What::Close).count();
            let text = format!("journal: {} leases go on, {owed} are over", kept.len());
            self.log.line(Level::Notice, &text);
        }
        self.say_upkeep(&upkeep);
        self.firewall.apply(&orders);
        self.run_orphans(orphans);
        self.take_done();
        Ok(())
    }

    /// Stop commands owed by doors that are configured no more.
    fn run_orphans(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            if let Some(stop) = &entry.stop {
                let text = format!("{}: no such door any more: running the stop command owed for {}", entry.door, entry.address);
                self.log.line(Level::Notice, &text);
                self.firewall.run_orphan(stop);
            }
            self.write_journal(&[Record::Closed { door: entry.door, address: entry.address }]);
        }
    }

    fn openings(&self, now: Time) -> impl Iterator<Item = (Opening, Option<Duration>)> {
        self.leases.iter().map(move |lease| {
            let opening = Opening { door: lease.door, address: lease.address };
            (opening, Some(lease.until.since(now)))
        })
    }

    fn serve(&mut self) {
        while !self.signals.stop.load(Ordering::Relaxed) {
            let now = clock::now();
            if self.signals.reopen.swap(false, Ordering::Relaxed) {
                self.reopen_log();
            }
            if self.signals.reload.swap(false, Ordering::Relaxed) {
                if let Err(lines) = self.reload(now) {
                    self.say_not_reloaded(&lines);
                }
            }
            self.answer(now);
            self.follow_interfaces(now);
            if self.renew || self.listeners.wanted(now) {
                self.start_listener(now);
            }
            self.listen(now);
            self.end_leases(now);
            self.take_done();
            self.log.tell_withheld(now);
            if self.uphold_at <= now {
                self.uphold(now);
            }
            self.wait();
        }
        self.stop();
    }

    fn wait(&mut self) {
        let now = clock::now();
        let wake = [
            self.leases.next_end(),
            self.listeners.next_deadline(),
            self.server.next_deadline(),
            self.look.map(|(at, _)| at),
            Some(self.uphold_at),
        ];
        let wake = if self.renew { Some(now) } else { wake.into_iter().flatten().min() };
        // Rounded up: woken too early there would be nothing to do yet.
        let left = wake.map_or(0, |w| w.since(now).as_micros().div_ceil(1000));
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let always = [self.signals.wake.as_fd(), self.watcher.as_fd()];
        let fds: Vec<(BorrowedFd, bool)> = always
            .into_iter()
            .chain(self.firewall.wake_fd())
            .map(|fd| (fd, false))
            .chain(self.listeners.sockets())
            .chain(self.server.sockets())
            .collect();
        let mut fds: Vec<PollFd> = fds
            .into_iter()
            .map(|(fd, writes)| {
                let mut flags = PollFlags::POLLIN;
                flags.set(PollFlags::POLLOUT, writes);
                PollFd::new(fd, flags)
            })
            .collect();
        if let Err(e) = poll(&mut fds, timeout)
            && e != Errno::EINTR
        {
            let text = format!("poll: {e}");
            drop(fds);
            self.log.line(Level::Error, &text);
        }
        self.signals.clear();
    }

    fn stop(&mut self) {
        self.log.line(
            Level::Notice,
            "stopping: guards and openings stand, leases end when they should have",
        );
        self.listeners.stop();
        let until = clock::now() + STOP_IN;
        while self.firewall.busy() && clock::now() < until {
            let left = until.since(clock::now()).as_millis();
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            if let Some(fd) = self.firewall.wake_fd() {
                let _ = poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout);
            }
            self.take_done();
        }
    }

    // Listeners and interfaces.

    fn start_listener(&mut self, now: Time) {
        self.renew = false;
        let setup = Setup {
            generation: self.generation,
            interfaces: self.doors.config.interfaces.clone(),
            watches: self.doors.watches(),
            avoid: self.doors.opened_ports(),
            addresses: self.interfaces.addresses.iter().copied().collect(),
            attempts: ATTEMPTS,
            tell_all: self.options.verbose,
            uid: self.user.uid,
            gid: self.user.gid,
            root: self.doors.config.state.join("empty").display().to_string(),
        };
        let mut news = Vec::new();
        self.listeners.start(setup, self.doors.names(), now, &mut news);
        self.hear(news, now);
    }

    /// What is in force for the listener has changed: another generation.
    fn renew(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        self.renew = true;
    }

    fn listen(&mut self, now: Time) {
        let mut news = Vec::new();
        let drain = self.doors.longest_attempt() + Duration::from_secs(1);
        self.listeners.read(now, drain, &mut news);
        self.hear(news, now);
        if !self.listeners.draining() && !self.listeners.changing() {
            self.recent.retain(|_, (_, at)| now.since(*at) < SAME_KNOCK);
        }
    }

    fn hear(&mut self, news: Vec<News>, now: Time) {
        let mut changes = Vec::new();
        for news in news {
            match news {
                News::Knocked(Event::Grant(k), door) => self.grant(&k, &door, now, &mut changes),
                News::Knocked(event, door) => self.tell(event, &door, now),
                News::InCharge(generation) => self.in_charge(generation),
                News::Trouble(text) => self.say_once("trouble", &text),
                News::Lost(interface) => {
                    let text = format!("{interface}: went away; waiting for it");
                    self.log.line(Level::Warning, &text);
                    self.look = Some((now, LOOK_EVERY));
                }
                News::Died(generation, why) => {
                    let text = format!("the listener is gone ({why}); starting it again");
                    self.say_once("listener", &text);
                    self.answer_reloads(generation, Some(&why));
                }
            }
        }
        self.carry_out(&changes, now);
    }

    fn in_charge(&mut self, generation: u32) {
        let missing = self.listeners.missing();
        let all = &self.doors.config.interfaces;
        let heard: Vec<&str> =
            all.iter().filter(|i| !missing.contains(i)).map(String::as_str).collect();
        let on = if heard.is_empty() { "nothing".to_owned() } else { heard.join(" ") };
        let text = format!("listening on {on} as {}", self.user.name);
        self.say_once("listening", &text);
        self.said.remove("listener");
        if missing.is_empty() {
            self.said.remove("trouble");
            self.look = None;
        } else {
            let (at, pause) = self.look.unwrap_or((clock::now(), LOOK_EVERY));
            self.look = Some((at.max(clock::now()) + pause, pause));
        }
        self.answer_reloads(generation, None);
    }

    fn follow_interfaces(&mut self, now: Time) {
        let mut word = [PollFd::new(self.watcher.as_fd(), PollFlags::POLLIN)];
        let changed = poll(&mut word, PollTimeout::ZERO).is_ok_and(|n| n > 0);
        let looking = self.look.is_some_and(|(at, _)| at <= now);
        if !changed && !looking {
            return;
        }
        self.watcher.clear();
        let Ok(interfaces) = addresses::read() else { return };
        if interfaces.addresses != self.interfaces.addresses {
            let addresses = interfaces.addresses.iter().copied().collect();
            let mut news = Vec::new();
            self.listeners.tell(&Down::Addresses(addresses), now, &mut news);
            self.hear(news, now);
        }
        let appeared = interfaces.up.difference(&self.interfaces.up).next().is_some();
        self.interfaces = interfaces;
        let missing = self.listeners.missing();
        if missing.is_empty() || self.listeners.changing() {
            return;
        }
        // One that is there but could not be opened is tried again, with pauses that grow.
        if missing.iter().any(|name| self.interfaces.up.contains(name)) && (looking || appeared) {
            let pause = match self.look {
                Some((_, pause)) if !appeared => (pause * 2).min(Duration::from_secs(30)),
                _ => LOOK_EVERY,
            };
            self.look = Some((now + pause, pause));
            self.renew();
        } else {
            self.look = Some((now + LOOK_EVERY, LOOK_EVERY));
        }
    }

    // Grants and leases.

    /// A grant as the listener tells it: refused, or what it changes.
    fn grant(&mut self, k: &Knocked, name: &str, now: Time, changes: &mut Vec<Change>) {
        let Some(door) = self.doors.place(name) else { return };
        let opening = Opening { door, address: k.address };
        let current = k.generation == self.generation;
        if let Some((generation, at)) = self.recent.get(&opening)
            && *generation != k.generation
            && now.since(*at) < SAME_KNOCK
        {
            return;
        }
        if !can_knock(k.address) || !self.doors.allow(door, now) {
            self.refused += 1;
            return self.say_refused(name, k.address, now, "not allowed now");
        }
        // The places of knocks may have changed between generations; lines never come back.
        if self.doors.is_one_time(door, k.knock) || k.line != 0 {
            let spent = if current { self.doors.spend(door, k.knock, k.line) } else { Err(NotSpent::NotInForce) };
            match spent {
                Ok(()) => self.renew(),
                Err(e) => {
                    self.refused += 1;
                    let why = match e {
                        NotSpent::NotInForce => "one-time sequence spent already".into(),
                        NotSpent::NotWritten(e) => format!("one-time list not written: {e}"),
                    };
                    return self.say_refused(name, k.address, now, &why);
                }
            }
        }
        if self.listeners.draining() || self.listeners.changing() || self.renew {
            self.recent.insert(opening, (k.generation, now));
        }
        *self.granted.entry(name.to_owned()).or_default() += 1;
        self.leases.grant(door, k.address, now, |change| changes.push(change));
    }

    fn say_refused(&mut self, door: &str, address: IpAddr, now: Time, why: &str) {
        let text = format!("{door}: knock of {address} refused: {why}");
        self.log.caused(Level::Warning, address, now, &text);
    }

    fn tell(&mut self, event: Event, door: &str, now: Time) {
        let (address, text) = match event {
            Event::Stage(k) => (k.address, format!("{door}: {}: stage {}", k.address, k.stage)),
            Event::Fail(k) => {
                (k.address, format!("{door}: {}: failed after stage {}", k.address, k.stage))
            }
            Event::Timeout(k) => {
                (k.address, format!("{door}: {}: timeout after stage {}", k.address, k.stage))
            }
            _ => return,
        };
        self.log.caused(Level::Info, address, now, &text);
    }

    /// Journal first, then packet filter and commands.
    fn carry_out(&mut self, changes: &[Change], now: Time) {
        if changes.is_empty() {
            return;
        }
        let records: Vec<Record> = changes.iter().filter_map(|c| self.record(c, now)).collect();
        if !self.write_journal(&records) {
            // What is not written down does not open; what ends, ends all the same.
            for change in changes {
                if let Act::Open { until: Some(_) } = change.act {
                    self.leases.close(change.address, Some(change.door), |_| {});
                    self.refused += 1;
                }
            }
        }
        let orders: Vec<Order> = changes.iter().filter_map(|c| self.order(c, now)).collect();
        self.firewall.apply(&orders);
        self.take_done();
    }

    fn record(&self, change: &Change, now: Time) -> Option<Record> {
        let door = self.doors.get(change.door)?;
        let (name, address) = (door.name.clone(), change.address);
        match change.act {
            Act::Open { until: Some(until) } => Some(Record::Open(Entry {
                stop: stop_command(door, address),
                door: name,
                address,
                since: now.0,
                until: until.0,
                done: false,
            })),
            Act::Extend { until } => Some(Record::Extend { door: name, address, until: until.0 }),
            Act::Open { until: None } | Act::Close(_) => None,
        }
    }

    /// Nothing for what is not in force after all.
    fn order(&mut self, change: &Change, now: Time) -> Option<Order> {
        let opening = Opening { door: change.door, address: change.address };
        let stands = self.leases.get(change.door, change.address).is_some();
        let what = match change.act {
            Act::Open { until: Some(_) } | Act::Extend { .. } if !stands => return None,
            Act::Open { until } => What::Open { remaining: until.map(|u| u.since(now)) },
            // What the packet filter did not make before is made now.
            Act::Extend { until } if self.broken.contains_key(&opening) => {
                What::Open { remaining: Some(until.since(now)) }
            }
            Act::Extend { until } => What::Extend { remaining: until.since(now) },
            Act::Close(why) => {
                self.closing.insert(opening, why);
                What::Close
            }
        };
        Some(Order { opening, what })
    }

    fn end_leases(&mut self, now: Time) {
        let mut changes = Vec::new();
        self.leases.due(now, |_, change| changes.push(change));
        self.carry_out(&changes, now);
    }

    /// What the packet filter and commands have done by now.
    fn take_done(&mut self) {
        let mut records = Vec::new();
        for Done { order, result } in self.firewall.done() {
            let Opening { door, address } = order.opening;
            let Some(name) = self.doors.get(door).map(|d| d.name.clone()) else { continue };
            let lease = self.leases.get(door, address);
            let until = lease.map(|l| clock::seconds(clock::wall(l.until)));
            match (&order.what, &result) {
                (What::Close, _) => {
                    self.broken.remove(&order.opening);
                    if lease.is_none() {
                        records.push(Record::Closed { door: name.clone(), address });
                    }
                }
                (_, Ok(())) => {
                    let mended = self.broken.remove(&order.opening).is_some();
                    if lease.is_some() && (mended || matches!(order.what, What::Open { .. })) {
                        records.push(Record::Done { door: name.clone(), address });
                    }
                }
                (_, Err(e)) => {
                    if lease.is_some() {
                        self.broken.insert(order.opening, e.to_string());
                    }
                }
            }
            let now = clock::now();
            match (order.what, result) {
                (What::Open { .. }, Ok(())) => {
                    let until = until.map_or_else(String::new, |u| format!(" until {u}"));
                    let text = format!("{name}: open for {address}{until}");
                    self.log.caused(Level::Notice, address, now, &text);
                }
                (What::Extend { .. }, Ok(())) => {
                    let until = until.unwrap_or_default();
                    let text = format!("{name}: extended for {address} until {until}");
                    self.log.caused(Level::Notice, address, now, &text);
                }
                (What::Close, Ok(())) => {
                    let why = match self.closing.remove(&order.opening) {
                        Some(Why::GaveWay) => "gave way, the door had max_leases",
                        Some(Why::Asked) => "the administrator asked",
                        Some(Why::Due) | None => "its time was up",
                    };
                    let text = format!("{name}: closed for {address}: {why}");
                    self.log.caused(Level::Notice, address, now, &text);
                }
                (What::Close, Err(e)) => {
                    self.closing.remove(&order.opening);
                    let text = format!("{name}: not closed for {address}: {e}");
                    self.log.caused(Level::Error, address, now, &text);
                }
                (_, Err(e)) => {
                    let text = format!("{name}: not open for {address}: {e}");
                    self.log.caused(Level::Error, address, now, &text);
                }
            }
        }
        self.write_journal(&records);
    }

    fn write_journal(&mut self, records: &[Record]) -> bool {
        match self.journal.write(records) {
            Ok(()) => {
                if !records.is_empty() {
                    self.said.remove("journal");
                }
                true
            }
            Err(e) => {
                self.say_once("journal", &format!("journal: {e}: no door opens until it can be written"));
                false
            }
        }
    }

    fn uphold(&mut self, now: Time) {
        self.uphold_at = now + UPHOLD_EVERY;
        let openings: Vec<_> = self.openings(now).collect();
        match self.firewall.uphold(&openings) {
            Ok(upkeep) => {
                self.said.remove("firewall");
                self.say_upkeep(&upkeep);
            }
            Err(e) => self.say_once("firewall", &format!("firewall: {e}")),
        }
    }

    fn say_upkeep(&mut self, upkeep: &Upkeep) {
        for mended in &upkeep.mended {
            self.log.line(Level::Warning, &format!("firewall: {mended}"));
        }
        if upkeep.strangers.is_empty() {
            self.said.remove("strangers");
        } else {
            self.say_once("strangers", &format!("firewall: not ours, left alone: {}", upkeep.strangers.join("; ")));
        }
    }

    /// Says a thing of this kind unless it was the last that was said of it.
    fn say_once(&mut self, kind: &str, text: &str) {
        if self.said.get(kind).is_none_or(|said| said != text) {
            let level = if kind == "listening" { Level::Notice } else { Level::Warning };
            self.log.line(level, text);
            self.said.insert(kind.into(), text.into());
        }
    }

    fn reopen_log(&mut self) {
        if let Err(e) = self.log.reopen(&self.doors.config.log.clone()) {
            self.log.line(Level::Error, &format!("log: {e}"));
        }
    }

    // Reload.

    fn say_not_reloaded(&mut self, lines: &[String]) {
        self.log.line(Level::Error, "not reloaded, the configuration before goes on:");
        for line in lines {
            self.log.line(Level::Error, line);
        }
    }

    /// The new configuration whole, or nothing; its warnings.
    fn reload(&mut self, now: Time) -> Result<Vec<String>, Vec<String>> {
        let (config, mut warnings) = load(&self.options)?;
        let user = Unprivileged::of(&config).map_err(|e| vec![e])?;
        let before = &self.doors.config;
        for (key, changed) in [
            ("control", config.control != before.control),
            ("state", config.state != before.state),
            ("pidfile", config.pidfile != before.pidfile),
        ] {
            if changed {
                warnings.push(format!("{key}: takes effect when posternd is started again"));
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
            self.log.reopen(&doors.config.log).map_err(|e| vec![format!("log: {e}")])?;
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
        let upkeep = match self.firewall.establish(&doors.config, &kept) {
            Ok(upkeep) => upkeep,
            Err(e) => {
                let openings: Vec<_> = self.openings(now).collect();
                let mut lines = vec![e.to_string()];
                if let Err(e) = self.firewall.establish(&self.doors.config, &openings) {
                    lines.push(format!("nor does the configuration before stand: {e}"));
                }
                return Err(lines);
            }
        };

        self.end_removed(&map);
        let _cut = self.leases.remap(doors.terms(), now, |old| map.get(&old).copied());
        let moved = |o: Opening| map.get(&o.door).map(|&door| Opening { door, ..o });
        self.broken = self.broken.drain().filter_map(|(o, e)| Some((moved(o)?, e))).collect();
        self.closing = self.closing.drain().filter_map(|(o, w)| Some((moved(o)?, w))).collect();
        self.recent = self.recent.drain().filter_map(|(o, r)| Some((moved(o)?, r))).collect();
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

    /// Ends the leases of doors that a new configuration, already established, does not have.
    fn end_removed(&mut self, map: &HashMap<u16, u16>) {
        let ended: Vec<Lease> =
            self.leases.iter().filter(|l| !map.contains_key(&l.door)).copied().collect();
        let mut records = Vec::new();
        for lease in ended {
            let Some(door) = self.doors.get(lease.door) else { continue };
            let (name, address) = (door.name.clone(), lease.address);
            if let Some(stop) = stop_command(door, address) {
                self.firewall.run_orphan(&stop);
            }
            self.leases.close(address, Some(lease.door), |_| {});
            let text = format!("{name}: closed for {address}: the door is configured no more");
            self.log.line(Level::Notice, &text);
            records.push(Record::Closed { door: name, address });
        }
        self.write_journal(&records);
    }

    fn answer_reloads(&mut self, generation: u32, died: Option<&str>) {
        let answered: Vec<_> =
            self.reloading.extract_if(.., |(_, wanted, _)| *wanted == generation).collect();
        for (id, _, mut warnings) in answered {
            if let Some(why) = died {
                warnings.push(format!("the new listener is gone ({why}); starting it again"));
            }
            self.server.answer(id, &Response::Reloaded(warnings));
        }
    }

    // Questions.

    fn answer(&mut self, now: Time) {
        for (id, request) in self.server.read(now) {
            let response = match request {
                Ok(Request::List) => Response::Leases(self.list(now)),
                Ok(Request::Status) => Response::Status(Box::new(self.status())),
                Ok(Request::Close { address, door }) => self.close(address, door.as_deref(), now),
                Ok(Request::Reload) => match self.reload(now) {
                    // Answered when the new listener is in charge.
                    Ok(warnings) => {
                        self.reloading.push((id, self.generation, warnings));
                        continue;
                    }
                    Err(lines) => {
                        self.say_not_reloaded(&lines);
                        Response::Error(lines.join("\n"))
                    }
                },
                Err(e) => Response::Error(format!("not understood: {e}")),
            };
            self.server.answer(id, &response);
        }
    }

    fn list(&self, now: Time) -> Vec<LeaseView> {
        let leases = self.leases.iter().filter_map(|lease| {
            let failure = self.broken.get(&Opening { door: lease.door, address: lease.address });
            Some(LeaseView {
                door: self.doors.get(lease.door)?.name.clone(),
                address: lease.address,
                since: clock::seconds(clock::wall(lease.since)),
                until: clock::seconds(clock::wall(lease.until)),
                remaining: lease.until.since(now).as_secs(),
                in_force: failure.is_none(),
                failure: failure.cloned(),
            })
        });
        leases.collect()
    }

    fn status(&self) -> StatusView {
        let missing = self.listeners.missing();
        let pid = self.listeners.pid();
        let config = &self.doors.config;
        let counted = self.listeners.counted();
        let doors = (0u16..).zip(&config.doors).map(|(place, door)| DoorView {
            name: door.name.clone(),
            leases: self.leases.iter().filter(|l| l.door == place).count(),
            granted: self.granted.get(&door.name).copied().unwrap_or(0),
        });
        let mut attempts = counted.attempts;
        attempts.granted = self.granted.values().sum();
        StatusView {
            version: env!("CARGO_PKG_VERSION").into(),
            monitor: std::process::id() as i32,
            listener: pid.map(|p| p as i32),
            user: self.user.name.clone(),
            since: clock::seconds(self.since),
            config: self.options.config.display().to_string(),
            generation: self.generation,
            interfaces: config
                .interfaces
                .iter()
                .map(|name| InterfaceView {
                    name: name.clone(),
                    listening: pid.is_some() && !missing.contains(name),
                })
                .collect(),
            firewall: self.firewall.name().into(),
            doors: doors.collect(),
            packets: counted.packets,
            dropped: counted.dropped,
            attempts,
            refused: self.refused,
            withheld: self.log.withheld(),
            restarts: self.listeners.restarts,
        }
    }

    fn close(&mut self, address: IpAddr, door: Option<&str>, now: Time) -> Response {
        let place = match door.map(|name| (name, self.doors.place(name))) {
            Some((name, None)) => return Response::Error(format!("{name}: no such door")),
            Some((_, place)) => place,
            None => None,
        };
        let mut changes = Vec::new();
        self.leases.close(address, place, |change| changes.push(change));
        self.carry_out(&changes, now);
        Response::Closed(changes.len())
    }
}

/// Whether leases of the one door go on at the other.
fn goes_on(old: &Door, new: &Door) -> bool {
    let same_kind = matches!(
        (&old.action, &new.action),
        (Action::Open(_), Action::Open(_)) | (Action::Command(_), Action::Command(_))
    );
    same_kind && new.lease().is_some()
}

/// The stop command that a lease of this door owes.
fn stop_command(door: &Door, address: IpAddr) -> Option<String> {
    match &door.action {
        Action::Open(_) => None,
        Action::Command(commands) => commands.stop_line(address),
    }
}

fn lock(path: &Path) -> Result<Flock<File>, NotStarted> {
    let open = File::options().write(true).create(true).truncate(false).open(path);
    let file = open.map_err(|e| not(EX_OSERR, format!("{}: {e}", path.display())))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| match e {
        Errno::EWOULDBLOCK => {
            not(EX_UNAVAILABLE, format!("{}: another posternd runs", path.display()))
        }
        e => not(EX_OSERR, format!("{}: {e}", path.display())),
    })
}

/// An empty directory that root owns and nobody can write: the listener's root.
fn empty(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o555))
}
