//! The monitor: root. It keeps leases, journal and packet filter in step, and believes nothing
//! that the listener says beyond what the configuration allows.

mod answers;
mod counts;
mod figures;
mod grants;
mod hearing;
mod idle;
mod keys;
mod recent;
mod reload;
mod signals;
mod start;
mod trials;

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::addresses::{Interfaces, Watcher};
use super::clock::{self, Alarm};
use super::doors::{Doors, FormerLists};
use super::fire::Lookout;
use super::knockd_as;
use super::log::{About, Level, Log};
use super::recovery::openings;
use super::server::Server;
use super::spent::Spent;
use super::state::Lock;
use super::supervise::Listeners;
use super::voice::{Line, Voice};
use crate::firewall::{Backends, Firewall, Opening, Upkeep};
use crate::journal::Journal;
use crate::lease::{Leases, Why};
use crate::time::Time;
use counts::Counts;
use figures::Driving;
use idle::Idle;
use recent::{Proofs, Recent};
use signals::Signals;
pub use start::{NotStarted, Options, Warnings, load};
use start::{Pidfile, Unprivileged, log_to};
use trials::Guards;

/// How often it is looked whether our rules stand.
const UPHOLD_EVERY: Duration = Duration::from_secs(10);
/// How often it is said that the same is mended at every look.
const MENDED_AGAIN: Duration = Duration::from_secs(600);
/// How long commands that still run are waited for when the daemon stops.
const STOP_IN: Duration = Duration::from_secs(5);

/// Runs until SIGTERM or SIGINT.
pub fn run(options: Options) -> ExitCode {
    let voice = options.voice;
    match Monitor::start(options) {
        Ok(mut monitor) => {
            monitor.serve();
            ExitCode::SUCCESS
        }
        Err(e) => {
            for line in &e.lines {
                eprintln!("{}: {line}", voice.name());
            }
            ExitCode::from(match voice {
                Voice::Ours => e.status,
                Voice::Knockd => knockd_as::status(e.status),
            })
        }
    }
}

struct Monitor {
    options: Options,
    doors: Doors,
    generation: u32,
    /// The generation that the configuration in force came with.
    loaded: u32,
    /// The one-time lists of configurations before it whose listeners may still speak, by the
    /// generation that each came with.
    former: Vec<(u32, FormerLists)>,
    user: Unprivileged,
    log: Log,
    journal: Journal,
    leases: Leases,
    firewall: Backends,
    guards: Guards,
    /// Openings that the packet filter did not make, and what it said.
    broken: HashMap<Opening, String>,
    /// Why leases that are being closed are.
    closing: HashMap<Opening, Why>,
    recent: Recent,
    proofs: Proofs,
    spent: Spent,
    idle: Idle,
    listeners: Listeners,
    /// More than one of them may have heard what is told now.
    several: bool,
    /// The listener wants starting with what is in force now.
    renew: bool,
    /// When to look for missing interfaces next, and how long to wait after that.
    look: Option<(Time, Duration)>,
    /// When a listener was started last for interfaces that had come.
    sought: Time,
    /// When interfaces and addresses were looked at last.
    followed: Time,
    /// Word of interfaces has come, and is heeded then.
    word_at: Option<Time>,
    said: HashMap<String, String>,
    /// What was mended at the last look, and when that was said.
    mended: HashMap<String, Time>,
    /// It has been said that an interface is listened to.
    heard_once: bool,
    watcher: Watcher,
    interfaces: Interfaces,
    server: Server,
    /// Who asked for a reload and waits for this generation to be in charge.
    reloading: Vec<(u64, u32, Vec<String>)>,
    signals: Signals,
    alarm: Alarm,
    uphold_at: Time,
    counts: Counts,
    lookout: Lookout,
    drive: Driving,
    since: Timestamp,
    /// Held, so that there is one daemon a state directory.
    _lock: Lock,
    pidfile: Option<Pidfile>,
}

impl Monitor {
    pub(super) fn serve(&mut self) {
        while !self.signals.stop.load(Ordering::Relaxed) {
            let now = clock::now();
            if self.signals.reopen.swap(false, Ordering::Relaxed) {
                self.reopen_log();
            }
            if self.signals.reload.swap(false, Ordering::Relaxed) {
                if let Err(lines) = self.reload(now) {
                    self.say_not_reloaded(&lines);
                }
                if self.options.voice == Voice::Knockd {
                    self.reopen_log();
                }
            }
            self.answer(now);
            self.follow_interfaces(now);
            if self.renew || self.listeners.wanted(now) {
                self.start_listener(now);
            }
            self.listen(now);
            self.look_for_traffic(now);
            self.end_leases(now);
            self.watch_trials(now);
            self.take_done();
            self.look_out(now);
            self.log.tell_withheld(now);
            if self.uphold_at <= now {
                self.uphold(now);
            }
            self.wait();
        }
        self.stop();
    }

    pub(super) fn wait(&mut self) {
        let now = clock::now();
        let wake = [
            self.leases.next_end(),
            self.next_traffic(),
            self.listeners.next_deadline(),
            self.server.next_deadline(),
            self.next_look(),
            self.guards.next(self.leases.next_end().is_some()),
            Some(self.uphold_at),
        ];
        let wake = if self.renew {
            Some(now)
        } else {
            wake.into_iter().flatten().min()
        };
        let timeout = self.alarm.set(wake.unwrap_or(now));
        let watcher = self.watcher.fd().filter(|_| self.word_at.is_none());
        let fds: Vec<(BorrowedFd, bool)> = [self.signals.wake.as_fd()]
            .into_iter()
            .chain(watcher)
            .chain(self.alarm.fd())
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

    pub(super) fn stop(&mut self) {
        self.say(&self.options.voice.stopping());
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

    pub(super) fn uphold(&mut self, now: Time) {
        self.uphold_at = now + UPHOLD_EVERY;
        self.uphold_files();
        if self.unsettled() {
            return self.settle(now);
        }
        match self.firewall.uphold(&openings(&self.leases, now)) {
            Ok(upkeep) => {
                self.said.remove("firewall");
                let doors = &self.doors;
                self.broken
                    .retain(|o, _| doors.get(o.door).is_some_and(|d| !d.opens_ports()));
                self.say_upkeep(&upkeep);
            }
            Err(e) => self.say_once("firewall", &format!("firewall: {e}")),
        }
        self.heed_drive(now);
    }

    pub(super) fn say_upkeep(&mut self, upkeep: &Upkeep) {
        // Whoever takes the same away again and again is told of once in a while. Behind the
        // last colon stands which addresses, or what was done.
        let now = clock::now();
        let mut before = std::mem::take(&mut self.mended);
        for line in &upkeep.mended {
            let (what, _) = line.rsplit_once(": ").unwrap_or((line, ""));
            if self.mended.contains_key(what) {
                continue;
            }
            let said = before.remove(what);
            let said = said.filter(|at| now.since(*at) < MENDED_AGAIN);
            if said.is_none() {
                self.log.line(Level::Warning, &format!("firewall: {line}"));
            }
            self.mended.insert(what.to_owned(), said.unwrap_or(now));
        }
        if upkeep.strangers.is_empty() {
            self.said.remove("strangers");
        } else {
            self.say_once(
                "strangers",
                &format!("firewall: {}", upkeep.strangers.join("; ")),
            );
        }
    }

    /// What is unwise is for posternctl check to tell.
    pub(super) fn say_warnings(&mut self, warnings: &Warnings) {
        if let Some(exposed) = &warnings.exposed {
            self.log.line(Level::Warning, exposed);
        }
        if !warnings.unwise.is_empty() {
            let text = format!(
                "{}: {} warnings: posternctl check tells them",
                self.options.config.display(),
                warnings.unwise.len()
            );
            self.log.line(Level::Warning, &text);
        }
    }

    /// Says a thing of this kind unless it was the last that was said of it.
    pub(super) fn say_once(&mut self, kind: &str, text: &str) {
        if self.said.get(kind).is_none_or(|said| said != text) {
            self.log.line(Level::Warning, text);
            self.said.insert(kind.into(), text.into());
        }
    }

    pub(super) fn say(&mut self, line: &Line) {
        self.log.line(line.level, &line.text);
    }

    /// Says what a stranger has caused, if it is not too much.
    pub(super) fn say_caused<'l>(
        &mut self,
        about: About,
        address: IpAddr,
        lines: impl IntoIterator<Item = &'l Line>,
    ) {
        let now = clock::now();
        for Line { level, text } in lines {
            self.log.caused(about, *level, address, now, text);
        }
    }

    pub(super) fn reopen_log(&mut self) {
        let to = log_to(&self.options, &self.doors.config);
        if let Err(e) = self.log.reopen(&to) {
            self.log.line(Level::Error, &format!("log: {e}"));
        }
    }
}
