//! `posternctl replay`: what posternd would have done with a captured stretch of traffic.
//!
//! The way is the daemon's: capture, packet, knock, lease. Time is the capture's, no command is
//! run, and no file is changed: the lines of one-time lists are used up in memory. Packets are
//! not looked into as root.

use std::collections::HashSet;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};

use super::lists::Lists;
use super::{Problem, check};
use crate::capture;
use crate::config::{Carrier, Config, Network};
use crate::daemon::doors;
use crate::event::{Event, What};
use crate::exit;
use crate::knock::spa::{Keys, Word};
use crate::knock::{Concerned, EVERYWHERE, Kind, Knocks, Outcome};
use crate::lease::{Act, By, Change, Leases};
use crate::packet::{self, Arrival};
use crate::time::Time;

/// The same capture gives the same events: the key of the table of attempts is no secret here.
const SECRET: [u64; 2] = [0, 0];

/// Attempts held at once, as many as posternd holds.
const ATTEMPTS: usize = 1 << 20;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A pcap or pcapng file; - is standard input
    capture: PathBuf,
    /// Packets to this address are to us, and to no other that is not given so too; without
    /// any, packets to every address are
    #[arg(long, value_name = "ADDRESS")]
    to: Vec<IpAddr>,
    /// Say in the end, on standard error, what was seen
    #[arg(short, long)]
    verbose: bool,
}

pub fn run(config: &Path, args: &Args, out: &mut impl Write) -> Result<u8, Problem> {
    let config = check::read(config)?;
    let unreadable = |e: capture::Error| Problem::new(exit::NOINPUT, e.to_string());
    let mut file = capture::File::open(&args.capture).map_err(unreadable)?;
    let link = file.link();
    let mut replay = Replay::new(&config, &args.to, out);
    for (_, list) in replay.lists.iter() {
        if let Err(why) = &list.text {
            let path = list.path.display();
            let _ = writeln!(
                io::stderr(),
                "posternctl: {path}: {why}; the knock opens nothing"
            );
        }
    }
    give_root_up()?;
    let (mut frames, mut arrivals) = (0u64, 0u64);
    while let Some(frame) = file.next_frame().map_err(unreadable)? {
        frames += 1;
        match packet::parse(frame.time, link, frame.bytes) {
            Some(arrival) => {
                arrivals += 1;
                replay.arrive(&arrival)?;
            }
            None => replay.pass(frame.time)?,
        }
    }
    replay.pass(Time(u64::MAX))?;
    if args.verbose {
        replay.out.flush()?;
        let Told {
            granted,
            refused,
            opened,
            extended,
        } = replay.told;
        let _ = writeln!(
            io::stderr(),
            "{frames} packets, {arrivals} of them TCP, UDP or echo requests; {granted} grants, \
             {refused} refused; {opened} times opened, {extended} extended"
        );
    }
    Ok(exit::OK)
}

/// Everything is read but the packets: strangers' bytes, which root never looks into. The numbers
/// are those of nobody on FreeBSD and on most of Linux; there need be no such user.
fn give_root_up() -> Result<(), Problem> {
    const NOBODY: u32 = 65534;
    if !Uid::effective().is_root() {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    setgroups(&[gid])
        .and_then(|()| setgid(gid))
        .and_then(|()| setuid(uid))
        .map_err(|e| Problem::new(exit::OSERR, format!("root could not be given up: {e}")))
}

/// What has been said so far.
#[derive(Default)]
struct Told {
    granted: u64,
    refused: u64,
    opened: u64,
    extended: u64,
}

struct Replay<'c, W> {
    config: &'c Config,
    to: &'c [IpAddr],
    lists: Lists,
    /// The last one takes new attempts. Those before it, each with a line of a one-time list
    /// that has been used since, only end what was begun, as posternd's old listeners do.
    knocks: Vec<Knocks>,
    keys: Keys,
    /// Proofs that have been spent.
    spent: HashSet<[u8; 16]>,
    leases: Leases,
    out: &'c mut W,
    told: Told,
    outcomes: Vec<(Outcome, Vec<Concerned>)>,
}

impl<'c, W: Write> Replay<'c, W> {
    fn new(config: &'c Config, to: &'c [IpAddr], out: &'c mut W) -> Replay<'c, W> {
        let lists = Lists::read(config);
        Replay {
            config,
            to,
            knocks: vec![knocks(config, &lists)],
            keys: Keys::new(doors::keys(config)),
            spent: HashSet::new(),
            lists,
            leases: Leases::new(doors::terms(config)),
            out,
            told: Told::default(),
            outcomes: Vec::new(),
        }
    }

    /// Takes a packet, after everything that was due before it.
    fn arrive(&mut self, arrival: &Arrival) -> Result<(), Problem> {
        self.pass(arrival.time)?;
        let to = self.to;
        let ours = |address| to.is_empty() || to.contains(&address);
        for at in 0..self.knocks.len() {
            self.advance(at, |knocks, out| knocks.arrive(arrival, ours, out))?;
        }
        if ours(arrival.destination) {
            self.unseal(arrival)?;
        }
        self.let_go();
        Ok(())
    }

    /// Everything that is due up to a time, in order.
    fn pass(&mut self, time: Time) -> Result<(), Problem> {
        loop {
            let attempts = (0..self.knocks.len())
                .filter_map(|at| Some((self.knocks[at].next_deadline()?, at)))
                .min();
            let end = self.leases.next_end();
            match (attempts, end) {
                (Some((due, at)), _) if due <= time && end.is_none_or(|end| due <= end) => {
                    self.advance(at, |knocks, out| knocks.expire(due, out))?;
                }
                (_, Some(end)) if end <= time => {
                    let mut ended = Vec::new();
                    self.leases
                        .due(end, |when, change| ended.push((when, change)));
                    for (when, change) in ended {
                        self.tell_change(when, &change)?;
                    }
                }
                _ => break,
            }
        }
        self.let_go();
        Ok(())
    }

    /// Lets go of what takes no new attempts and has none any more.
    fn let_go(&mut self) {
        let last = self.knocks.len() - 1;
        let mut at = 0;
        self.knocks.retain(|knocks| {
            at += 1;
            at > last || knocks.counters().held > 0
        });
    }

    fn advance(
        &mut self,
        at: usize,
        step: impl FnOnce(&mut Knocks, &mut dyn FnMut(Outcome)),
    ) -> Result<(), Problem> {
        let mut outcomes = std::mem::take(&mut self.outcomes);
        let knocks = &mut self.knocks[at];
        step(knocks, &mut |outcome| outcomes.push((outcome, Vec::new())));
        for (outcome, places) in &mut outcomes {
            places.extend(knocks.concerned(outcome));
        }
        for (outcome, places) in outcomes.drain(..) {
            self.take(&outcome, &places)?;
        }
        self.outcomes = outcomes;
        Ok(())
    }

    fn take(&mut self, outcome: &Outcome, places: &[Concerned]) -> Result<(), Problem> {
        let mut told: Vec<u16> = Vec::new();
        for &Concerned { door, knock, line } in places {
            if outcome.kind == Kind::Grant {
                self.told.granted += 1;
                if line > 0 && !self.spend(door, knock, line) {
                    self.told.refused += 1;
                    continue;
                }
            }
            // Several sequences of a door may be one attempt.
            if told.contains(&door) {
                continue;
            }
            told.push(door);
            let what = match outcome.kind {
                Kind::Grant => {
                    self.grant(door, outcome)?;
                    continue;
                }
                Kind::Stage => What::Stage,
                Kind::Fail => What::Fail,
                Kind::Timeout => What::Timeout,
            };
            self.tell(
                outcome.time,
                what,
                door,
                outcome.source.into(),
                Some(outcome.stage),
                None,
            )?;
        }
        Ok(())
    }

    fn grant(&mut self, door: u16, outcome: &Outcome) -> Result<(), Problem> {
        let Outcome { time, source, .. } = *outcome;
        self.grant_by(By::default(), door, source, time)
    }

    fn grant_by(&mut self, by: By, door: u16, address: IpAddr, time: Time) -> Result<(), Problem> {
        let mut changes = Vec::new();
        self.leases
            .grant_by(by, door, address, time, |change| changes.push(change));
        for change in changes {
            self.tell_change(time, &change)?;
        }
        Ok(())
    }

    /// A packet that a key may have sealed: the capture's time is the wall clock's.
    fn unseal(&mut self, arrival: &Arrival<'_>) -> Result<(), Problem> {
        let Arrival { time, source, .. } = *arrival;
        let (carrier, payload) = match arrival.what {
            packet::What::Udp { port, payload } => (Carrier::Udp(port), payload),
            packet::What::Echo { payload } => (Carrier::Icmp, payload),
            packet::What::Tcp { .. } => return Ok(()),
        };
        let times = (time, time.0 / 1_000_000);
        let word = self
            .keys
            .arrive(times, EVERYWHERE, carrier, source, payload);
        let Some(Word::Authorized(is)) = word else {
            return Ok(());
        };
        if !self.spent.insert(is.proof) {
            self.told.refused += 1;
            return Ok(());
        }
        let lasts = (is.lasts > 0).then(|| Duration::from_secs(is.lasts.into()));
        let by = By {
            key: Some(is.key),
            lasts,
        };
        let key = self.config.keys.get(usize::from(is.key));
        let doors = key.map_or(&[][..], |key| &key.doors);
        for (bit, &door) in doors.iter().enumerate() {
            if is.doors >> bit & 1 == 1 {
                self.told.granted += 1;
                self.grant_by(by, door, is.address, time)?;
            }
        }
        Ok(())
    }

    /// Uses up a line of a one-time list. What is in force then takes over.
    fn spend(&mut self, door: u16, knock: u16, line: u32) -> bool {
        let spent = self.lists.spend(door, knock, line);
        if spent {
            if let Some(before) = self.knocks.last_mut() {
                before.admit_no_more();
            }
            self.knocks.push(knocks(self.config, &self.lists));
        }
        spent
    }

    fn tell_change(&mut self, time: Time, change: &Change) -> Result<(), Problem> {
        let (what, until) = match change.act {
            Act::Open { until } => (What::Open, until),
            Act::Extend { until } | Act::Keep { until } => (What::Extend, Some(until)),
            Act::Close(_) => (What::Close, None),
        };
        match what {
            What::Open => self.told.opened += 1,
            What::Extend => self.told.extended += 1,
            _ => {}
        }
        self.tell(time, what, change.door, change.address, None, until)
    }

    fn tell(
        &mut self,
        time: Time,
        what: What,
        door: u16,
        address: Network,
        stage: Option<u8>,
        until: Option<Time>,
    ) -> Result<(), Problem> {
        let lease = self.leases.get(door, address).filter(|_| until.is_some());
        let key = lease.and_then(|lease| self.config.keys.get(usize::from(lease.key?)));
        let door = self.config.doors.get(usize::from(door));
        let event = Event {
            time,
            what,
            door: door.map_or("", |door| &door.name),
            address,
            key: key.map(|key| key.name.as_str()),
            stage,
            until,
        };
        Ok(writeln!(self.out, "{event}")?)
    }
}

fn knocks(config: &Config, lists: &Lists) -> Knocks {
    let watches = doors::watches(config, |door, knock| {
        Vec::from_iter(lists.current(door, knock))
    });
    let mut knocks = Knocks::new(watches, &doors::opened_ports(config), SECRET, ATTEMPTS);
    knocks.hear_pings(doors::pings(config));
    knocks
}
