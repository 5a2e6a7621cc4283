//! The monitor's side of its listeners: started, handed over, drained, started again.
//!
//! At most one listener is in charge; its successor is started beside it and takes over when it
//! is ready; the one before then finishes the attempts that are under way and leaves. What a
//! listener says is taken for what a stranger might have made it say: nothing that one says,
//! leaves unsaid or does keeps the monitor waiting, and what is kept for one is bounded.

mod ending;
mod figures;

use std::collections::HashSet;
use std::io::{self, Read};
use std::net::{IpAddr, Shutdown};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::time::Duration;

use super::flush;
use super::sandbox::Layers;
use super::spawn::Executable;
use super::wire::{Down, EVENT, Event, INTERFACES, Sealed, Setup, Unusable, VERSION, trouble_text};
use crate::config::Confine;
use crate::knock::spa::Refused;
use crate::time::Time;
use ending::Ending;
pub use figures::Figures;

/// A listener that is not ready by then has failed.
const READY_IN: Duration = Duration::from_secs(10);
/// The longest pause before a listener is started again.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A listener that lived so long is started again at once.
const GOOD_LIFE: Duration = Duration::from_secs(60);
/// Events read from one listener in one turn.
const TURN: usize = 4096;
/// Listeners that finish their attempts at once: when there are more, the first must go.
const LEAVING: usize = 8;

/// One listener.
struct Listener {
    child: Child,
    socket: UnixStream,
    generation: u32,
    names: Names,
    /// Door, knock and line of what it was given to watch for.
    knocks: HashSet<(u16, u16, u32)>,
    /// The doors of each key that it was given, by place.
    keys: Vec<Vec<u16>>,
    interfaces: Vec<String>,
    tell_all: bool,
    from: Vec<u8>,
    to: Vec<u8>,
    /// Our addresses as it is to be told of them next: the last word alone, so that one that
    /// does not read costs nothing.
    addresses: Option<Vec<u8>>,
    started: Time,
    hello: bool,
    confine: Confine,
    layers: Layers,
    ready: bool,
    /// How often it said that something cannot be listened to.
    troubles: usize,
    leave_by: Option<Time>,
    /// Bit N: interface N is captured.
    listening: u64,
    figures: Figures,
}

/// The names of one generation, by place.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Of its doors.
    pub doors: Vec<String>,
    /// Of its keys.
    pub keys: Vec<String>,
}

/// What the monitor learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// An event that names a door, with the generation's name for that door.
    Knocked(Event, String),
    /// A packet of a key's was right.
    Authorized {
        /// What it is good for; the key's and the doors' places are the generation's.
        sealed: Sealed,
        /// That generation's name of the key.
        key: String,
        /// And of the doors that open.
        doors: Vec<String>,
    },
    /// A packet of the key of this name was not, and came from there.
    Refused(String, IpAddr, Refused),
    /// This generation is in charge now.
    InCharge(u32),
    /// Why something cannot be listened to.
    Trouble(String),
    /// What cannot be had of a listener's confinement.
    Unconfined(String),
    /// The interface went away.
    Lost(String),
    /// The listener of this generation is gone, and why; not said of one that was let go.
    Died(u32, String),
}

/// All listeners.
pub struct Listeners {
    executable: Executable,
    in_charge: Option<Listener>,
    next: Option<Listener>,
    leaving: Vec<Listener>,
    ending: Ending,
    /// When to start one again.
    again: Option<Time>,
    pause: Duration,
    /// Started again after a death, since the monitor's start.
    pub restarts: u64,
    /// When and of what the last died that made one start again.
    pub last_death: Option<(Time, String)>,
    /// Counted by listeners that are gone.
    before: Figures,
}

impl Listeners {
    /// None yet.
    pub fn new(executable: Executable) -> Listeners {
        Listeners {
            executable,
            in_charge: None,
            next: None,
            leaving: Vec::new(),
            ending: Ending::default(),
            again: None,
            pause: Duration::ZERO,
            restarts: 0,
            last_death: None,
            before: Figures::default(),
        }
    }

    /// Starts a listener that will take over. One that was on its way to do so is given up.
    pub fn start(&mut self, setup: Setup, names: Names, now: Time, news: &mut Vec<News>) {
        if let Some(given_up) = self.next.take() {
            self.bury(given_up, now);
        }
        self.again = None;
        self.ending.reap(now);
        if let Some(all) = self.ending.too_many() {
            let why = format!("{all} before it have been killed and are not gone");
            return self.died(setup.generation, now, now, why, news);
        }
        let (child, socket) = match self.executable.listener() {
            Ok(started) => started,
            Err(e) => return self.died(setup.generation, now, now, e.to_string(), news),
        };
        let mut listener = Listener {
            child,
            socket,
            generation: setup.generation,
            names,
            knocks: (setup.watches.iter())
                .map(|w| (w.door, w.knock, w.line))
                .chain(setup.pings.iter().map(|p| (p.door, p.knock, 0)))
                .collect(),
            keys: (setup.keys.iter())
                .map(|key| key.doors.iter().map(|door| door.door).collect())
                .collect(),
            interfaces: setup.interfaces.clone(),
            tell_all: setup.tell_all,
            from: Vec::new(),
            to: Vec::new(),
            addresses: None,
            started: now,
            hello: false,
            confine: setup.confine,
            layers: Layers::default(),
            ready: false,
            troubles: 0,
            leave_by: None,
            listening: 0,
            figures: Figures::default(),
        };
        let told = listener.socket.set_nonblocking(true);
        match told.and_then(|()| listener.tell(&Down::Setup(Box::new(setup)))) {
            Ok(()) => self.next = Some(listener),
            Err(e) => {
                let (generation, started) = (listener.generation, listener.started);
                self.bury(listener, now);
                self.died(generation, started, now, e.to_string(), news);
            }
        }
    }

    /// Whether a listener wants starting, since the one before died.
    pub fn wanted(&self, now: Time) -> bool {
        self.again.is_some_and(|t| t <= now)
    }

    /// When [`Listeners::read`] or [`Listeners::wanted`] has something to do, whatever arrives.
    pub fn next_deadline(&self) -> Option<Time> {
        let ready = self.next.as_ref().map(|l| l.started + READY_IN);
        let leave = self.leaving.iter().filter_map(|l| l.leave_by).min();
        let all = [self.again, ready, leave, self.ending.next()];
        all.into_iter().flatten().min()
    }

    /// Sockets to be polled, and whether something waits to be written to each.
    pub fn sockets(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        self.all().map(|l| (l.socket.as_fd(), !l.to.is_empty()))
    }

    fn all(&self) -> impl Iterator<Item = &Listener> {
        self.in_charge.iter().chain(&self.next).chain(&self.leaving)
    }

    /// Tells every listener.
    pub fn tell(&mut self, down: &Down) {
        let everybody = self
            .in_charge
            .iter_mut()
            .chain(&mut self.next)
            .chain(&mut self.leaving);
        for listener in everybody {
            // One that cannot be told will be seen to have died.
            let _ = listener.tell(down);
        }
    }

    /// Takes in what the listeners have said. One that took over lets the one before go on for
    /// `drain` at the most.
    pub fn read(&mut self, now: Time, drain: Duration, news: &mut Vec<News>) {
        self.ending.reap(now);
        if let Some(mut listener) = self.in_charge.take() {
            match listener.read(news) {
                Ok(_) => self.in_charge = Some(listener),
                Err(why) => {
                    let (generation, started) = (listener.generation, listener.started);
                    self.bury(listener, now);
                    if self.next.is_none() {
                        self.died(generation, started, now, why, news);
                    }
                }
            }
        }
        for mut listener in std::mem::take(&mut self.leaving) {
            let overdue = listener.leave_by.is_some_and(|t| t <= now);
            match listener.read(news) {
                Ok(Step::Going) if !overdue => self.leaving.push(listener),
                _ => self.bury(listener, now),
            }
        }
        if let Some(mut listener) = self.next.take() {
            let late = listener.started + READY_IN <= now;
            match listener.read(news) {
                Ok(_) if listener.ready => self.take_over(listener, now, drain, news),
                Ok(_) if !late => self.next = Some(listener),
                other => {
                    let why = other.err().unwrap_or_else(|| "not ready in time".into());
                    let (generation, started) = (listener.generation, listener.started);
                    self.bury(listener, now);
                    self.died(generation, started, now, why, news);
                }
            }
        }
    }

    fn take_over(&mut self, listener: Listener, now: Time, drain: Duration, news: &mut Vec<News>) {
        if let Some(mut before) = self.in_charge.take() {
            before.leave_by = Some(now + drain);
            match before.tell(&Down::Drain) {
                Ok(()) => self.leaving.push(before),
                Err(_) => self.bury(before, now),
            }
            if self.leaving.len() > LEAVING {
                let first = self.leaving.remove(0);
                self.bury(first, now);
            }
        }
        news.push(News::InCharge(listener.generation));
        self.in_charge = Some(listener);
    }

    fn died(
        &mut self,
        generation: u32,
        started: Time,
        now: Time,
        why: String,
        news: &mut Vec<News>,
    ) {
        if now.since(started) >= GOOD_LIFE {
            self.pause = Duration::ZERO;
        }
        self.again = Some(now + self.pause);
        self.pause = (self.pause * 2).clamp(Duration::from_millis(100), LONGEST_PAUSE);
        self.restarts += 1;
        self.last_death = Some((now, why.clone()));
        news.push(News::Died(generation, why));
    }

    fn bury(&mut self, listener: Listener, now: Time) {
        self.before = self.before.and(listener.figures.of_the_gone());
        // Where root may not send signals to other users (CAP_KILL) it leaves by itself.
        let _ = listener.socket.shutdown(Shutdown::Both);
        self.ending.end(listener.child, now);
    }

    /// The process in charge.
    pub fn pid(&self) -> Option<u32> {
        self.in_charge.as_ref().map(|l| l.child.id())
    }

    /// What confines it.
    pub fn layers(&self) -> Layers {
        self.in_charge
            .as_ref()
            .map_or(Layers::default(), |l| l.layers)
    }

    /// Whether a listener is on its way to take over.
    pub fn changing(&self) -> bool {
        self.next.is_some()
    }

    /// Whether one that was in charge before is still finishing its attempts.
    pub fn draining(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// The interfaces that the listener in charge was given and does not capture.
    pub fn missing(&self) -> Vec<String> {
        let Some(listener) = &self.in_charge else {
            return Vec::new();
        };
        let captured = |n: usize| n < INTERFACES && listener.listening >> n & 1 == 1;
        let all = listener.interfaces.iter().enumerate();
        all.filter(|(n, _)| !captured(*n))
            .map(|(_, name)| name.clone())
            .collect()
    }

    /// What all listeners have counted.
    pub fn figures(&self) -> Figures {
        self.all()
            .fold(self.before, |all, listener| all.and(listener.figures))
    }

    /// Ends them all.
    pub fn stop(&mut self) {
        let all = self.in_charge.take().into_iter().chain(self.next.take());
        for listener in all
            .chain(std::mem::take(&mut self.leaving))
            .collect::<Vec<_>>()
        {
            self.bury(listener, Time(0));
        }
        self.ending.wait();
    }
}

/// How far a listener that leaves has come.
#[derive(PartialEq, Eq)]
enum Step {
    Going,
    Drained,
}

impl Listener {
    fn tell(&mut self, down: &Down) -> io::Result<()> {
        match down {
            Down::Addresses(_) => self.addresses = Some(down.encode()),
            Down::Setup(_) | Down::Drain => self.to.extend_from_slice(&down.encode()),
        }
        self.write()
    }

    /// Writes what waits, as far as it is read.
    fn write(&mut self) -> io::Result<()> {
        flush(&mut self.socket, &mut self.to)?;
        if self.to.is_empty()
            && let Some(addresses) = self.addresses.take()
        {
            self.to = addresses;
            flush(&mut self.socket, &mut self.to)?;
        }
        Ok(())
    }

    /// Reads one turn's events. An error, in words: it is gone or has said what it must not.
    fn read(&mut self, news: &mut Vec<News>) -> Result<Step, String> {
        self.write().map_err(|e| e.to_string())?;
        let mut step = Step::Going;
        let mut closed = false;
        let mut part = [0; 64 * EVENT];
        while self.from.len() < TURN * EVENT {
            match self.socket.read(&mut part) {
                Ok(0) => {
                    closed = true;
                    break;
                }
                Ok(n) => self.from.extend_from_slice(&part[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.to_string()),
            }
        }
        let whole = self.from.len() / EVENT * EVENT;
        for bytes in self
            .from
            .drain(..whole)
            .collect::<Vec<_>>()
            .as_chunks::<EVENT>()
            .0
        {
            let event = Event::decode(bytes).ok_or("it said something malformed")?;
            if self.take(event, news)? {
                step = Step::Drained;
            }
        }
        if closed {
            let how = ending::ended_by_now(&self.child);
            return Err(how.unwrap_or_else(|| "it closed its socket".into()));
        }
        Ok(step)
    }

    /// Whether it is drained.
    fn take(&mut self, event: Event, news: &mut Vec<News>) -> Result<bool, String> {
        match event {
            Event::Hello(_) if self.hello => return Err("it said its version before".into()),
            Event::Hello(VERSION) => self.hello = true,
            Event::Hello(v) => return Err(format!("it speaks version {v} of the wire")),
            _ if !self.hello => return Err("it did not say which version it speaks".into()),
            Event::Trouble { .. } if !self.ready && self.troubles > INTERFACES => {
                return Err("it has more troubles than there can be".into());
            }
            Event::Trouble {
                interface: u8::MAX,
                text,
            } if !self.ready => {
                self.troubles += 1;
                news.push(News::Unconfined(trouble_text(&text)));
            }
            Event::Trouble { interface, text } if !self.ready => {
                self.troubles += 1;
                let name = self.interfaces.get(usize::from(interface));
                let text = trouble_text(&text);
                news.push(News::Trouble(match name {
                    // libpcap's words begin with the name in most cases.
                    Some(name) if !text.starts_with(name.as_str()) => format!("{name}: {text}"),
                    _ => text,
                }));
            }
            Event::Confined(layers) if !self.ready => self.layers = layers,
            Event::Ready(_)
                if !self.ready
                    && self.confine == Confine::Required
                    && !self.layers.has(Layers::ALL) =>
            {
                return Err("it is not confined".into());
            }
            Event::Ready(listening) if !self.ready => {
                let given = u32::try_from(self.interfaces.len()).unwrap_or(u32::MAX);
                if listening.checked_shr(given).is_some_and(|more| more != 0) {
                    return Err("it listens where it was not told to".into());
                }
                (self.ready, self.listening) = (true, listening);
            }
            _ if !self.ready => return Err("it spoke before it was ready".into()),
            Event::Ready(_) | Event::Confined(_) | Event::Trouble { .. } => {
                return Err("it was ready before".into());
            }
            Event::Lost(n) => {
                let bit = 1u64.checked_shl(u32::from(n)).unwrap_or(0);
                let name = self.interfaces.get(usize::from(n));
                let name = name.filter(|_| self.listening & bit != 0);
                news.push(News::Lost(
                    name.ok_or("it lost what it did not have")?.clone(),
                ));
                self.listening &= !bit;
            }
            Event::Stage(k) | Event::Grant(k) | Event::Timeout(k) | Event::Fail(k) => {
                if !matches!(event, Event::Grant(_)) && !self.tell_all {
                    return Err("it told what it was not asked for".into());
                }
                let door = self.names.doors.get(usize::from(k.door));
                let Some(door) = door.filter(|_| k.generation == self.generation) else {
                    return Err("it named a door that it was not given".into());
                };
                if !self.knocks.contains(&(k.door, k.knock, k.line)) {
                    return Err("it named a knock that it was not given".into());
                }
                news.push(News::Knocked(event, door.clone()));
            }
            Event::Authorized(sealed) => news.push(self.authorized(sealed)?),
            Event::Refused(Unusable {
                generation,
                key,
                source,
                why,
            }) => {
                let name = self.names.keys.get(usize::from(key));
                let name = name.filter(|_| generation == self.generation);
                let name = name.ok_or("it named a key that it was not given")?;
                news.push(News::Refused(name.clone(), source, why));
            }
            Event::Counted(counted) => self.figures.counted = counted,
            Event::CountedSpa(spa) => self.figures.spa = spa,
            Event::Drained if self.leave_by.is_some() => return Ok(true),
            Event::Drained => return Err("it drained unasked".into()),
        }
        Ok(false)
    }

    /// A packet that it says a key has authorized: by the names of what it was given.
    fn authorized(&self, sealed: Sealed) -> Result<News, String> {
        let given = self.keys.get(usize::from(sealed.is.key));
        let name = self.names.keys.get(usize::from(sealed.is.key));
        let (Some(given), Some(key)) = (given, name) else {
            return Err("it named a key that it was not given".into());
        };
        let mask = sealed.is.doors;
        let beyond = u32::try_from(given.len())
            .ok()
            .and_then(|n| mask.checked_shr(n));
        if sealed.generation != self.generation || mask == 0 || beyond.is_some_and(|b| b != 0) {
            return Err("it named a door that the key does not open".into());
        }
        let opened = (0..).zip(given).filter(|(bit, _)| mask >> bit & 1 == 1);
        let doors = opened.filter_map(|(_, &door)| self.names.doors.get(usize::from(door)));
        Ok(News::Authorized {
            sealed,
            key: key.clone(),
            doors: doors.cloned().collect(),
        })
    }
}

#[cfg(test)]
mod tests;
