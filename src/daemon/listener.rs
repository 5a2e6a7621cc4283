//! The listener: every byte a stranger can send is read here, without privileges.
//!
//! It reads no file, writes no log, is confined before the first packet ([`sandbox`]), and stops
//! when the monitor's end of the socket closes.

use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use zeroize::Zeroize;

use super::pace::Pace;
use super::sandbox;
use super::wire::{Counted, Down, Event, INTERFACES, Knocked, Sealed, Setup, Unusable, VERSION};
use super::{clock, flush, macs};
use crate::capture::{Filter, Live};
use crate::config::Carrier;
use crate::knock::spa::{Keys, Word};
use crate::knock::{Kind, Knocks, Outcome};
use crate::packet::{self, Arrival, What};
use crate::spa;
use crate::time::Time;

/// Frames taken from one interface before the others and the monitor have their turn.
const TURN: usize = 512;
/// Steps of sequences that are heard together.
const STEPS: usize = 64;
/// One that leaves hears out what its captures hold, for so long at most.
const LEAVING: Duration = Duration::from_secs(1);
/// Events for the log alone: so many a second, and no more than this saved up.
const TOLD_PER_SECOND: u64 = 64;
/// Bytes waiting for the monitor beyond which events for the log, and figures, are dropped.
const WAITING_LOG: usize = 64 << 10;
/// The same for grants.
const WAITING_GRANTS: usize = 4 << 20;
/// Sequences told of when an attempt concerns many.
const TOLD_AT_ONCE: usize = 8;
/// How often figures go up while they change.
const COUNTED_EVERY: Duration = Duration::from_secs(1);

/// The whole life of a listener.
pub fn run() -> ExitCode {
    if sandbox::close_inherited().is_err() {
        return ExitCode::FAILURE;
    }
    let socket = match io::stdin().as_fd().try_clone_to_owned() {
        Ok(fd) => UnixStream::from(fd),
        Err(_) => return ExitCode::FAILURE,
    };
    if sandbox::let_go_of_input().is_err() {
        return ExitCode::FAILURE;
    }
    match listen(socket) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

struct Listener {
    socket: UnixStream,
    from_monitor: Vec<u8>,
    to_monitor: Vec<u8>,
    setup: Setup,
    /// Sorted.
    ours: Vec<IpAddr>,
    captures: Vec<Option<Live>>,
    knocks: Knocks,
    keys: Keys,
    outcomes: Vec<Outcome>,
    /// Of this turn, not heard yet.
    steps: Vec<Arrival<'static>>,
    pace: Pace,
    draining: bool,
    /// Since when it has been leaving, while it still hears what came before.
    leaving: Option<Time>,
    packets: u64,
    /// Dropped by captures that are gone.
    dropped: u64,
    counted: Counted,
    counted_at: Time,
    told: u64,
    told_since: Time,
}

fn listen(mut socket: UnixStream) -> io::Result<()> {
    let mut from_monitor = Vec::new();
    socket.write_all(&Event::Hello(VERSION).encode())?;
    let setup = loop {
        match Down::decode(&mut from_monitor).map_err(io::Error::other)? {
            Some(Down::Setup(setup)) => break *setup,
            Some(_) => return Err(io::Error::other("set-up comes first")),
            None => {}
        }
        receive(&mut socket, &mut from_monitor)?;
    };

    let mut secret = [0; 16];
    getrandom::fill(&mut secret).map_err(io::Error::other)?;
    let (low, high) = secret.split_at(8);
    let half = |b: &[u8]| b.iter().fold(0, |n, b| n << 8 | u64::from(*b));
    let mut knocks = Knocks::new(
        setup.watches.clone(),
        &setup.avoid,
        [half(low), half(high)],
        setup.attempts,
    );
    knocks.hear_pings(setup.pings.clone());
    let mut keys = Keys::new(setup.keys.clone());
    keys.afford(macs::affordable(&setup.keys));
    let filter = filter(&knocks, &keys);

    let mut captures = Vec::new();
    let mut open = 0u64;
    for (n, interface) in setup.interfaces.iter().take(INTERFACES).enumerate() {
        match Live::open(interface, &filter) {
            Ok(live) => {
                captures.push(Some(live));
                open |= 1 << n;
            }
            Err(e) => {
                socket.write_all(&Event::trouble(n as u8, &e.to_string()).encode())?;
                captures.push(None);
            }
        }
    }
    let ours = sorted(setup.addresses.clone());
    socket.set_nonblocking(true)?;
    let mut to_monitor = Vec::new();
    let entered = sandbox::enter(
        Path::new(&setup.root),
        (setup.uid, setup.gid),
        setup.confine,
        &sandbox::Left {
            socket: socket.as_fd(),
            captures: captures.iter().flatten().map(Live::as_fd).collect(),
        },
    );
    match entered {
        Ok(entered) => {
            if !entered.lacking.is_empty() {
                let text = entered.lacking.join("; ");
                to_monitor.extend_from_slice(&Event::trouble(u8::MAX, &text).encode());
            }
            to_monitor.extend_from_slice(&Event::Confined(entered.layers).encode());
            to_monitor.extend_from_slice(&Event::Ready(open).encode());
        }
        Err(e) => {
            socket.write_all(&Event::trouble(u8::MAX, &e).encode())?;
            return Err(io::Error::other(e));
        }
    }

    Listener {
        socket,
        from_monitor,
        to_monitor,
        setup,
        ours,
        captures,
        knocks,
        keys,
        outcomes: Vec::new(),
        steps: Vec::with_capacity(STEPS),
        pace: Pace::default(),
        draining: false,
        leaving: None,
        packets: 0,
        dropped: 0,
        counted: Counted::default(),
        counted_at: clock::now(),
        told: 0,
        told_since: clock::now(),
    }
    .serve()
}

/// What must reach us.
fn filter(knocks: &Knocks, keys: &Keys) -> Filter {
    let mut filter = Filter {
        ports: knocks.ports(),
        flags: knocks.common_flags(),
        echo: knocks.echo_payload() > 0,
        payload: knocks.echo_payload(),
    };
    for carrier in keys.carriers() {
        filter.ports.extend(carrier.port());
        filter.echo |= carrier == Carrier::Icmp;
        filter.payload = filter.payload.max(spa::LONGEST);
    }
    filter.ports.sort_unstable();
    filter.ports.dedup();
    filter
}

/// Waits for more from the monitor.
fn receive(socket: &mut UnixStream, buffer: &mut Vec<u8>) -> io::Result<()> {
    let mut part = [0; 4096];
    let n = socket.read(&mut part)?;
    buffer.extend_from_slice(&part[..n]);
    // It holds sequences, and the stack is not wiped by itself.
    part.zeroize();
    match n {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

fn sorted(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    addresses.sort_unstable();
    addresses
}

/// What a listener waits for.
#[derive(Clone, Copy)]
enum Wait {
    /// Nothing: there is more to read.
    Not,
    /// For so long, or for the monitor.
    Nap(Duration),
    /// For packets, for the monitor, for whatever is due.
    Whatever,
}

impl Listener {
    fn serve(mut self) -> io::Result<()> {
        let mut next = Wait::Whatever;
        loop {
            self.wait(next)?;
            let now = clock::now();
            self.hear_monitor()?;
            let before = self.packets;
            let mut more = false;
            for n in 0..self.captures.len() {
                more |= self.take_turn(n, now);
            }
            let read = self.packets - before;
            self.pace.read(now, read);
            let leaving = self.leaving.is_some() && read > 0;
            next = match self.pace.nap() {
                _ if more || leaving => Wait::Not,
                nap if nap.is_zero() || read == 0 => Wait::Whatever,
                nap => Wait::Nap(nap),
            };
            // What waits here may have come before the successor listened.
            if let Some(since) = self.leaving
                && (read == 0 || now.since(since) >= LEAVING)
            {
                self.leaving = None;
                self.knocks.admit_no_more();
                self.draining = true;
            }
            self.advance(|knocks, out| knocks.expire(now, out));
            if self.draining && self.knocks.counters().held == 0 {
                self.send(Event::Drained, WAITING_GRANTS);
                self.draining = false;
            }
            self.count(now);
            flush(&mut self.socket, &mut self.to_monitor)?;
        }
    }

    fn wait(&mut self, what: Wait) -> io::Result<()> {
        let nap = match what {
            Wait::Not => return Ok(()),
            Wait::Nap(nap) => Some(nap),
            Wait::Whatever => None,
        };
        let now = clock::now();
        let mut wake = self.knocks.next_deadline();
        if self.uncounted() {
            let due = self.counted_at + COUNTED_EVERY;
            wake = Some(wake.map_or(due, |w| w.min(due)));
        }
        let rechecks = self.captures.iter().flatten().filter_map(Live::recheck);
        let rechecks = rechecks.map(|pause| now + pause);
        let wake = rechecks.chain(wake).chain(nap.map(|nap| now + nap)).min();
        let timeout = match wake {
            None => PollTimeout::NONE,
            Some(wake) => {
                // Rounded up: woken too early there would be nothing to do yet.
                let left = wake.since(now).as_micros().div_ceil(1000);
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            }
        };
        let mut flags = PollFlags::POLLIN;
        flags.set(PollFlags::POLLOUT, !self.to_monitor.is_empty());
        let mut fds = vec![PollFd::new(self.socket.as_fd(), flags)];
        if nap.is_none() {
            let captures = self.captures.iter().flatten().map(Live::as_fd);
            fds.extend(captures.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        }
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    fn hear_monitor(&mut self) -> io::Result<()> {
        loop {
            match receive(&mut self.socket, &mut self.from_monitor) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        while let Some(down) = Down::decode(&mut self.from_monitor).map_err(io::Error::other)? {
            match down {
                Down::Setup(_) => return Err(io::Error::other("set up twice")),
                Down::Addresses(addresses) => self.ours = sorted(addresses),
                Down::Drain => self.leaving = Some(clock::now()),
            }
        }
        Ok(())
    }

    /// Whether the interface may have more than its turn allowed.
    fn take_turn(&mut self, n: usize, now: Time) -> bool {
        let Some(mut live) = self.captures[n].take() else {
            return false;
        };
        let link = live.link();
        let wall = u64::try_from(clock::wall(now).as_second()).unwrap_or(0);
        self.knocks.hear_at(n);
        let read = live.read(TURN, |frame| {
            self.packets += 1;
            if let Some(arrival) = packet::parse(now, link, frame.bytes) {
                self.hear(&arrival, wall);
            }
        });
        self.hear_steps();
        match read {
            Ok(read) => {
                self.captures[n] = Some(live);
                read == TURN
            }
            Err(_) => {
                self.dropped += live.stats().map_or(0, |s| s.dropped);
                self.send(Event::Lost(n as u8), WAITING_GRANTS);
                false
            }
        }
    }

    fn hear(&mut self, arrival: &Arrival<'_>, wall: u64) {
        let (carrier, payload, is_step) = match arrival.what {
            What::Tcp { .. } => (None, &[][..], true),
            What::Udp { port, payload } => (Some(Carrier::Udp(port)), payload, true),
            What::Echo { payload } => (Some(Carrier::Icmp), payload, false),
        };
        if is_step {
            self.steps.push(arrival.bare());
            if self.steps.len() == STEPS {
                self.hear_steps();
            }
        } else {
            let to_us = self.is_ours(arrival.destination);
            self.advance(|knocks, out| knocks.arrive(arrival, |_| to_us, out));
        }
        // One that leaves has a successor, who hears it.
        if let Some(carrier) = carrier
            && !self.draining
            && self.is_ours(arrival.destination)
        {
            let (times, at) = ((arrival.time, wall), self.knocks.at());
            let word = self
                .keys
                .arrive(times, at, carrier, arrival.source, payload);
            if let Some(word) = word {
                self.tell_word(word, arrival);
            }
        }
    }

    /// What could be steps of sequences, since the last time.
    fn hear_steps(&mut self) {
        let steps = std::mem::take(&mut self.steps);
        let ours = std::mem::take(&mut self.ours);
        self.advance(|knocks, out| {
            knocks.arrive_all(&steps, |a| ours.binary_search(&a).is_ok(), out);
        });
        (self.steps, self.ours) = (steps, ours);
        self.steps.clear();
    }

    fn is_ours(&self, address: IpAddr) -> bool {
        self.ours.binary_search(&address).is_ok()
    }

    fn advance(&mut self, step: impl FnOnce(&mut Knocks, &mut dyn FnMut(Outcome))) {
        let mut outcomes = std::mem::take(&mut self.outcomes);
        step(&mut self.knocks, &mut |outcome| outcomes.push(outcome));
        for outcome in outcomes.drain(..) {
            self.tell(&outcome);
        }
        self.outcomes = outcomes;
    }

    fn tell(&mut self, outcome: &Outcome) {
        let (make, waiting, most): (fn(Knocked) -> Event, _, _) = match outcome.kind {
            Kind::Grant => (Event::Grant, WAITING_GRANTS, usize::MAX),
            Kind::Stage => (Event::Stage, WAITING_LOG, TOLD_AT_ONCE),
            Kind::Fail => (Event::Fail, WAITING_LOG, TOLD_AT_ONCE),
            Kind::Timeout => (Event::Timeout, WAITING_LOG, TOLD_AT_ONCE),
        };
        if outcome.kind != Kind::Grant && !(self.setup.tell_all && self.may_tell(outcome.time)) {
            return;
        }
        let events: Vec<Event> = self
            .knocks
            .concerned(outcome)
            .take(most)
            .map(|knock| {
                make(Knocked {
                    generation: self.setup.generation,
                    door: knock.door,
                    knock: knock.knock,
                    line: knock.line,
                    stage: outcome.stage,
                    address: outcome.source,
                })
            })
            .collect();
        for event in events {
            self.send(event, waiting);
        }
    }

    fn tell_word(&mut self, word: Word, arrival: &Arrival<'_>) {
        let generation = self.setup.generation;
        match word {
            Word::Authorized(is) => {
                let event = Event::Authorized(Sealed { generation, is });
                self.send(event, WAITING_GRANTS);
            }
            Word::Refused { key, why } if self.may_tell(arrival.time) => {
                let event = Event::Refused(Unusable {
                    generation,
                    key,
                    source: arrival.source,
                    why,
                });
                self.send(event, WAITING_LOG);
            }
            Word::Refused { .. } => {}
        }
    }

    fn may_tell(&mut self, now: Time) -> bool {
        if now.since(self.told_since) >= Duration::from_secs(1) {
            (self.told, self.told_since) = (0, now);
        }
        self.told += 1;
        self.told <= TOLD_PER_SECOND
    }

    fn send(&mut self, event: Event, waiting: usize) {
        if self.to_monitor.len() < waiting {
            self.to_monitor.extend_from_slice(&event.encode());
        }
    }

    /// Whether the figures have changed since they were told.
    fn uncounted(&self) -> bool {
        self.packets != self.counted.packets || self.knocks.counters() != self.counted.attempts
    }

    fn count(&mut self, now: Time) {
        if !self.uncounted() || now.since(self.counted_at) < COUNTED_EVERY {
            return;
        }
        let live = self.captures.iter_mut().flatten();
        let dropped: u64 = live.filter_map(|c| c.stats().ok()).map(|s| s.dropped).sum();
        self.counted = Counted {
            packets: self.packets,
            dropped: self.dropped + dropped,
            attempts: self.knocks.counters(),
        };
        self.counted_at = now;
        self.send(Event::Counted(self.counted), WAITING_LOG);
        if !self.setup.keys.is_empty() {
            self.send(Event::CountedSpa(self.keys.counters()), WAITING_LOG);
        }
    }
}
