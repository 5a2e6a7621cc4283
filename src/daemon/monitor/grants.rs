//! Grants and leases, journal and packet filter, in step.

use std::io;
use std::net::IpAddr;

use super::Monitor;
use super::counts::Because;
use crate::config::{Action, Door};
use crate::daemon::clock;
use crate::daemon::doors::NotSpent;
use crate::daemon::log::{About, Level};
use crate::daemon::recovery;
use crate::daemon::voice::{Step, Voice};
use crate::daemon::wire::{Event, Knocked};
use crate::firewall::{Done, Firewall, Opening, Order, What, command};
use crate::journal::{Entry, Record};
use crate::knock::can_knock;
use crate::lease::{Act, Change, Why};
use crate::time::Time;

/// Why nobody is let in while that is so.
pub(super) const NO_JOURNAL: &str = "the journal cannot be written";

impl Monitor {
    /// A grant as the listener tells it: refused, or what it changes.
    pub(super) fn grant(&mut self, k: &Knocked, name: &str, now: Time, changes: &mut Vec<Change>) {
        let Some(door) = self.doors.place(name) else {
            return;
        };
        let Some(Door { knocks, .. }) = self.doors.get(door) else {
            return;
        };
        if usize::from(k.knock) >= knocks.len() {
            // The door had more knocks in the configuration before.
            return;
        }
        let knocked = Opening {
            door,
            address: k.address.into(),
        };
        if self.recent.is_told(knocked, k.line, k.generation, now) {
            return;
        }
        let refused = match can_knock(k.address) {
            false => Some(Because::Address),
            true => (!self.doors.allow(door, now)).then_some(Because::Allowance),
        };
        if let Some(because) = refused {
            self.counts.refuse(name, because);
            return self.say_refused(name, k.address, now, "not allowed now");
        }
        let one_time = self.doors.is_one_time(door, k.knock) || k.line != 0;
        // Before a line is spent in vain.
        if one_time && self.journal.catch_up().is_err() {
            self.counts.refuse(name, Because::Unwritten);
            return self.say_refused(name, k.address, now, NO_JOURNAL);
        }
        if one_time && let Err((because, why)) = self.spend(door, k) {
            self.counts.refuse(name, because);
            return self.say_refused(name, k.address, now, &why);
        }
        if self.several || self.renew {
            self.recent.tell(knocked, k.line, k.generation, now);
        }
        self.counts.grant(name);
        let lines = self
            .options
            .voice
            .granted(self.doors.written(door), k.address, k.stage);
        self.say_caused(About::Doors, k.address, &lines);
        if self.lasts_so_long(door, k.address, now) {
            return;
        }
        self.leases
            .grant(door, k.address, now, |change| changes.push(change));
    }

    /// Whether a grant at `now` would give nothing more than there is: it has been told before
    /// in the same turn.
    fn lasts_so_long(&self, door: u16, address: IpAddr, now: Time) -> bool {
        let open_for = self.doors.get(door).and_then(Door::lease);
        let lease = self.leases.of(door, address);
        lease.is_some_and(|lease| open_for.is_some_and(|d| lease.until >= now + d))
    }

    /// Spends a line of a one-time list, or says why it does not let anybody in.
    fn spend(&mut self, door: u16, k: &Knocked) -> Result<(), (Because, String)> {
        let knock = if k.generation >= self.loaded {
            Some(k.knock)
        } else {
            // Before this configuration came in force another list may have had this place.
            let mut former = self.former.iter().rev();
            let former = former.find(|(loaded, _)| *loaded <= k.generation);
            former.and_then(|(_, lists)| self.doors.still(lists, door, k.knock, k.line))
        };
        let spent = knock.map(|knock| self.doors.spend(door, knock, k.line));
        match spent.unwrap_or(Err(NotSpent::NotInForce)) {
            Ok(told) => {
                if let Some(told) = told {
                    self.log.line(Level::Warning, &told);
                }
                self.renew();
                Ok(())
            }
            Err(NotSpent::NotInForce) => {
                let why = "its one-time sequence is not in force";
                Err((Because::Spent, why.into()))
            }
            Err(NotSpent::NotWritten(e)) => {
                let why = format!("one-time list not written: {e}");
                Err((Because::Unwritten, why))
            }
        }
    }

    pub(super) fn say_refused(&mut self, door: &str, address: IpAddr, now: Time, why: &str) {
        let text = format_args!("{door}: knock of {address} refused: {why}");
        self.log
            .caused(About::Refusals, Level::Warning, address, now, text);
    }

    pub(super) fn tell(&mut self, event: Event, door: &str) {
        let (k, step) = match event {
            Event::Stage(k) => (k, Step::Right),
            Event::Fail(k) => (k, Step::Wrong),
            Event::Timeout(k) => (k, Step::Late),
            _ => return,
        };
        let door = match (self.options.voice, self.doors.place(door)) {
            (Voice::Knockd, Some(place)) => self.doors.written(place),
            _ => door,
        };
        let line = self.options.voice.step(step, door, k.address, k.stage);
        self.say_caused(About::Attempts, k.address, &line);
    }

    /// Journal first, then packet filter and commands.
    pub(super) fn carry_out(&mut self, changes: &[Change], now: Time) {
        if changes.is_empty() {
            return;
        }
        let records: Vec<Record> = changes.iter().filter_map(|c| self.record(c, now)).collect();
        let written = self.journal.write(&records);
        let changes = match self.tell_journal(written) {
            true => changes.to_vec(),
            false => self.without_journal(changes, now),
        };
        let opens = |c: &Change| {
            matches!(c.act, Act::Open { .. })
                && self.doors.get(c.door).is_some_and(Door::opens_ports)
        };
        if changes.iter().any(opens) {
            self.look_before_opening();
        }
        // Packet filters count from when they are told, however long it took to get there.
        let now = clock::now();
        let orders: Vec<Order> = changes.iter().filter_map(|c| self.order(c, now)).collect();
        self.say_running(&orders);
        self.firewall.apply(&orders);
        self.take_done();
        self.heed_drive(now);
    }

    /// What is not written down does not open and does not last longer, and nobody gives way
    /// for it; what ends, ends all the same. What is left of these changes.
    fn without_journal(&mut self, changes: &[Change], now: Time) -> Vec<Change> {
        let mut left = Vec::new();
        for change in changes.iter().rev() {
            let &Change { door, address, act } = change;
            let name = self.doors.get(door).map(|door| door.name.clone());
            let name = name.unwrap_or_default();
            let knocked = match act {
                Act::Open { until: Some(_) } | Act::Extend { .. } => true,
                Act::Keep { .. } | Act::Close(Why::GaveWay) => false,
                Act::Open { until: None } | Act::Close(_) => {
                    left.insert(0, *change);
                    continue;
                }
            };
            self.leases.close(address, Some(door), |_| {});
            if let Some(entry) = self.journal.entry(&name, address)
                && !recovery::lease(entry, door, &self.doors.config)
                    .is_some_and(|lease| self.leases.restore(lease, now))
            {
                let act = Act::Close(Why::Due);
                left.insert(0, Change { act, ..*change });
            }
            if knocked {
                self.counts.refuse(&name, Because::Unwritten);
                self.say_refused(&name, address.address(), now, NO_JOURNAL);
            }
        }
        left
    }

    /// Which commands are about to be run.
    pub(super) fn say_running(&mut self, orders: &[Order]) {
        for order in orders {
            let Opening { door, address } = order.opening;
            let address = address.address();
            let line = |door| command_line(door, order.what, address);
            if let Some(command) = self.doors.get(door).and_then(line) {
                let (voice, door) = (self.options.voice, self.doors.written(door));
                let lines = voice.running(order.what, door, address, &command);
                self.say_caused(About::Doors, address, &lines);
            }
        }
    }

    pub(super) fn record(&self, change: &Change, now: Time) -> Option<Record> {
        let door = self.doors.get(change.door)?;
        let (name, address) = (door.name.clone(), change.address);
        match change.act {
            Act::Open { until: Some(until) } => Some(Record::Open(Entry {
                stop: stop_command(door, address.address()),
                door: name,
                address,
                since: now.0,
                until: until.0,
                key: self.key_of(change),
                done: false,
            })),
            Act::Extend { until } | Act::Keep { until } => Some(Record::Extend {
                door: name,
                address,
                until: until.0,
                key: self.key_of(change),
            }),
            // Whatever happens before it is done, it does not come back.
            Act::Close(Why::GaveWay | Why::Asked | Why::Removed | Why::Prefix | Why::Revoked) => {
                Some(Record::Extend {
                    door: name,
                    address,
                    until: now.0,
                    key: None,
                })
            }
            Act::Open { until: None } | Act::Close(Why::Due) => None,
        }
    }

    /// The name of the key by which a lease goes.
    fn key_of(&self, change: &Change) -> Option<String> {
        let lease = self.leases.get(change.door, change.address)?;
        Some(self.doors.key(lease.key?)?.name.clone())
    }

    /// Nothing for what is not in force after all.
    pub(super) fn order(&mut self, change: &Change, now: Time) -> Option<Order> {
        let opening = Opening {
            door: change.door,
            address: change.address,
        };
        let stands = self.leases.get(change.door, change.address).is_some();
        let what = match change.act {
            Act::Open { until: Some(_) } | Act::Extend { .. } | Act::Keep { .. } if !stands => {
                return None;
            }
            Act::Open { until } => What::Open {
                remaining: until.map(|u| u.since(now)),
            },
            // What the packet filter did not make before is made now.
            Act::Extend { until } | Act::Keep { until } if self.broken.contains_key(&opening) => {
                What::Open {
                    remaining: Some(until.since(now)),
                }
            }
            Act::Extend { until } | Act::Keep { until } => What::Extend {
                remaining: until.since(now),
            },
            Act::Close(why) => {
                if why == Why::GaveWay
                    && let Some(door) = self.doors.get(change.door)
                {
                    self.counts.give_way(&door.name);
                }
                self.closing.insert(opening, why);
                What::Close
            }
        };
        Some(Order { opening, what })
    }

    pub(super) fn end_leases(&mut self, now: Time) {
        let mut changes = Vec::new();
        self.leases.due(now, |_, change| changes.push(change));
        self.carry_out(&changes, now);
    }

    /// What the packet filter and commands have done by now.
    pub(super) fn take_done(&mut self) {
        let mut records = Vec::new();
        for Done { order, result } in self.firewall.done() {
            let Opening { door, address } = order.opening;
            let source = address.address();
            let Some(name) = self.doors.get(door).map(|d| d.name.clone()) else {
                continue;
            };
            let lease = self.leases.get(door, address);
            let until = lease.map(|l| clock::seconds(clock::wall(l.until)));
            match (&order.what, &result) {
                (What::Close, _) => {
                    self.broken.remove(&order.opening);
                    if lease.is_none() {
                        records.push(Record::Closed {
                            door: name.clone(),
                            address,
                        });
                    }
                }
                (_, Ok(())) => {
                    let mended = self.broken.remove(&order.opening).is_some();
                    if lease.is_some() && (mended || matches!(order.what, What::Open { .. })) {
                        records.push(Record::Done {
                            door: name.clone(),
                            address,
                        });
                    }
                }
                (_, Err(e)) => {
                    if lease.is_some() {
                        self.broken.insert(order.opening, e.to_string());
                    }
                }
            }
            let commands = self.doors.get(door).is_some_and(|d| !d.opens_ports());
            let ran = commands.then(|| {
                let written = self.doors.written(door);
                self.options.voice.ran(written, source, &result)
            });
            if let Some(lines) = ran.flatten() {
                self.closing.remove(&order.opening);
                self.say_caused(About::Doors, source, &lines);
                continue;
            }
            let now = clock::now();
            match (order.what, result) {
                (What::Open { .. }, Ok(())) => {
                    let until = until.map_or_else(String::new, |u| format!(" until {u}"));
                    let by = self.by_key(order.opening);
                    let text = format!("{name}: open for {address}{until}{by}");
                    self.log
                        .caused(About::Doors, Level::Notice, source, now, &text);
                }
                (What::Extend { .. }, Ok(())) if self.idle.is_moving(order.opening) => {}
                (What::Extend { .. }, Ok(())) => {
                    let until = until.unwrap_or_default();
                    let by = self.by_key(order.opening);
                    let text = format!("{name}: extended for {address} until {until}{by}");
                    self.log
                        .caused(About::Doors, Level::Notice, source, now, &text);
                }
                (What::Close, Ok(())) => {
                    let why = self.closing.remove(&order.opening);
                    let why = in_words(why.unwrap_or(Why::Due));
                    let text = format!("{name}: closed for {address}: {why}");
                    self.log
                        .caused(About::Doors, Level::Notice, source, now, &text);
                }
                (What::Close, Err(e)) => {
                    self.closing.remove(&order.opening);
                    let text = format!("{name}: not closed for {address}: {e}");
                    self.log
                        .caused(About::Doors, Level::Error, source, now, &text);
                }
                (_, Err(e)) => {
                    let text = format!("{name}: not open for {address}: {e}");
                    self.log
                        .caused(About::Doors, Level::Error, source, now, &text);
                }
            }
        }
        for (door, address, result) in self.firewall.owed() {
            if let Err(e) = result {
                let text = format!("{door}: the stop command owed for {address}: {e}");
                self.log.line(Level::Error, &text);
            }
            let address = address.into();
            let place = self.doors.place(&door);
            if place.is_none_or(|place| self.leases.get(place, address).is_none()) {
                records.push(Record::Closed { door, address });
            }
        }
        self.note_in_journal(&records);
    }

    /// What has been done, written at once or as soon as anything can be.
    pub(super) fn note_in_journal(&mut self, records: &[Record]) {
        if !records.is_empty() {
            let noted = self.journal.note(records);
            self.tell_journal(noted);
        }
    }

    /// Says once that the journal cannot be written, and that it can again.
    pub(super) fn tell_journal(&mut self, written: io::Result<()>) -> bool {
        match written {
            Ok(()) => {
                if self.said.remove("journal").is_some() {
                    self.log
                        .line(Level::Notice, "journal: it can be written again");
                }
                true
            }
            Err(e) => {
                self.say_once(
                    "journal",
                    &format!("journal: {e}: no door opens until it can be written"),
                );
                false
            }
        }
    }
}

/// What a door runs when it opens or closes for somebody.
fn command_line(door: &Door, what: What, address: IpAddr) -> Option<String> {
    match (&door.action, what) {
        (Action::Command(commands), What::Open { .. }) => command::start_line(commands, address),
        (Action::Command(_), What::Close) => stop_command(door, address),
        _ => None,
    }
}

/// The stop command that a lease of this door owes.
fn stop_command(door: &Door, address: IpAddr) -> Option<String> {
    match &door.action {
        Action::Open(_) => None,
        Action::Command(commands) => command::stop_line(commands, address),
    }
}

/// Why a lease ended, for the log.
pub(super) fn in_words(why: Why) -> &'static str {
    match why {
        Why::Due => "its time was up",
        Why::GaveWay => "gave way, the door has max_leases",
        Why::Asked => "the administrator asked",
        Why::Removed => "the door is configured no more",
        Why::Prefix => "prefix6 has changed",
        Why::Revoked => "its key opens the door no more",
    }
}
