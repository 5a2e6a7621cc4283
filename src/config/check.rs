//! What a configuration may say but had better not.

mod commands;
mod neighbours;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::mistake::{Parsed, Spot, Warning};
use super::units;
use super::{Action, Config, Door, FirewallKind, Knock, Opens, Ping, Port, Sequence, Steps};

pub(crate) use steps::{ANOTHER, KNOWN, in_a_textbook, is_a_sweep, is_the_textbooks};

/// A door open for longer than this is hardly closed.
const LONG: Duration = Duration::from_secs(3600);

/// The flags of a segment by which connect(2) asks for a connection: SYN.
const CONNECT: u8 = 0x02;

/// Everything unwise in a configuration, in the order of its file, whose name `file` is for
/// messages. `live`: the ports that services of this machine listen on, if the caller has looked.
///
/// Doors that get in each other's way are told apart:
/// - the same sequence: neither door can be opened without the other;
/// - one that begins as another does and contains it, in order: it can never be opened without
///   that other;
/// - one after whose knock a knock at another fails, since it leaves an attempt there
///   unfinished: both cannot be opened within `seq_timeout`;
/// - one that parts from another by a step already taken: there a packet that the network sends
///   again is a step.
///
pub fn check(file: &str, parsed: &Parsed, live: &[Port]) -> Vec<Warning> {
    let mut check = Check {
        file,
        parsed,
        warnings: parsed.warnings.clone(),
    };
    check.all(&live.iter().copied().collect());
    check.warnings.sort_by_key(|warning| warning.place);
    check.warnings
}

struct Check<'c> {
    file: &'c str,
    parsed: &'c Parsed,
    warnings: Vec<Warning>,
}

/// A fixed sequence and where it stands.
#[derive(Clone, Copy)]
struct Fixed<'c> {
    door: usize,
    knock: usize,
    steps: &'c [Port],
    sequence: &'c Sequence,
}

impl Fixed<'_> {
    fn spot(&self) -> Spot {
        Spot::door(self.door).knock(self.knock).key("sequence")
    }
}

impl<'c> Check<'c> {
    fn warn(&mut self, spot: Spot, what: impl Into<String>, better: impl Into<String>) {
        self.warnings.push(Warning {
            file: self.file.to_owned(),
            place: self.parsed.places.get(spot),
            key: key_of(&self.parsed.config, spot),
            what: what.into(),
            better: better.into(),
        });
    }

    fn all(&mut self, live: &BTreeSet<Port>) {
        let config = &self.parsed.config;
        let guarded = super::guarded(&config.doors);
        let numbered = self.numbered();
        let mut fixed: Vec<Fixed<'c>> = Vec::new();
        let mut opened: BTreeMap<Port, &'c str> = BTreeMap::new();
        for (door, about) in config.doors.iter().enumerate() {
            match &about.action {
                Action::Open(opens) => {
                    self.opens(door, about, opens, &guarded);
                    opened.extend(opens.ports.iter().map(|&port| (port, about.name.as_str())));
                }
                Action::Command(commands) => self.commands(door, commands, &numbered),
            }
            for (knock, about) in about.knocks.iter().enumerate() {
                let sequence = match about {
                    Knock::Sequence(sequence) => sequence,
                    Knock::Ping(ping) => {
                        self.ping(door, knock, ping);
                        continue;
                    }
                };
                self.conditions(door, knock, sequence);
                if let Steps::Fixed(steps) = &sequence.steps {
                    fixed.push(Fixed {
                        door,
                        knock,
                        steps,
                        sequence,
                    });
                }
            }
        }
        if !config.always.is_empty() && guarded.is_empty() && config.firewall != FirewallKind::None
        {
            self.warn(
                Spot::default().key("always"),
                "no guard stands that anybody could pass",
                "write guard at a door, or leave always out",
            );
        }
        for fixed in &fixed {
            self.steps(fixed, live, &opened);
        }
        self.neighbours(&fixed);
    }

    /// `guarded`: ports at which any door's guard stands.
    fn opens(&mut self, door: usize, about: &Door, opens: &Opens, guarded: &BTreeSet<Port>) {
        let spot = Spot::door(door);
        if opens.open_for > LONG {
            let long = units::show_duration(opens.open_for);
            self.warn(
                spot.key("open_for"),
                format!("the door stands open for {long}"),
                "a minute is enough to connect: a running session outlives the lease",
            );
        }
        let config = &self.parsed.config;
        let unguarded: Vec<String> = opens
            .ports
            .iter()
            .filter(|port| !guarded.contains(port))
            .map(Port::to_string)
            .collect();
        match config.firewall {
            FirewallKind::Memory => self.warn(
                spot.key("opens"),
                "the firewall \"memory\" touches nothing: the door opens on paper only",
                "choose another once the configuration is tried out",
            ),
            FirewallKind::Nft if !unguarded.is_empty() => self.warn(
                spot.key("opens"),
                format!(
                    "no guard closes {}, so nothing opens: an accept of ours ends only our own \
                     chain, what another table drops stays shut, what none drops is open to all",
                    unguarded.join(", ")
                ),
                format!(
                    "write guard = true in [door.{}] and let the other tables accept the port",
                    about.name
                ),
            ),
            FirewallKind::Ipfw | FirewallKind::Pf | FirewallKind::Nft | FirewallKind::None => {}
        }
    }

    /// A ping that is found where more than one secret opens.
    fn ping(&mut self, door: usize, knock: usize, ping: &Ping) {
        let spot = Spot::door(door).knock(knock);
        if let Some(offsets) = &ping.offsets
            && offsets.end() - offsets.start() > 8
        {
            self.warn(
                spot.key("offsets"),
                "rotated secrets open, too: ping repeats its pattern, and so ABCD is sent as BCDA",
                "leave the key out: FreeBSD's, Linux's and macOS's ping are heard then",
            );
        }
    }

    /// `target` and `tcpflags` that hardly anybody can meet.
    fn conditions(&mut self, door: usize, knock: usize, sequence: &Sequence) {
        let spot = Spot::door(door).knock(knock);
        if let Some(target) = sequence.target.filter(|target| target.is_loopback()) {
            self.warn(
                spot.key("target"),
                format!(
                    "nobody can knock here: {target} is reached only from this machine, whose \
                     knocks do not count"
                ),
                "name an address that others reach, or leave the key out",
            );
        }
        let knockd = self.parsed.config.knockd.is_some();
        let tcp = sequence.has_tcp();
        if tcp && sequence.flags.mask == 0 {
            self.warn(
                spot.key("tcpflags"),
                "any TCP segment counts as a step, an answer to a connection of our own too",
                match knockd {
                    true => "write TCPFlags = syn,!ack: then only requests for a connection count",
                    false => "leave the key out: then only requests for a connection count",
                },
            );
        } else if tcp && !sequence.flags.accept(CONNECT) {
            self.warn(
                spot.key("tcpflags"),
                "no ordinary connection has such flags: postern, knock, nc and telnet cannot knock",
                match knockd {
                    true => {
                        "write TCPFlags = syn,!ack, or knock with a tool that makes raw packets"
                    }
                    false => "leave the key out, or knock with a tool that makes raw packets",
                },
            );
        }
    }
}

/// The key of a part of a configuration as people write it: `door.ssh.guard`, in a knockd.conf
/// `[ssh] Sequence`.
pub fn key_of(config: &Config, spot: Spot) -> String {
    if let Some(knockd) = &config.knockd {
        return super::knockd::key_of(knockd, spot);
    }
    let mut key = String::new();
    if let Some(door) = spot.door.and_then(|at| config.doors.get(at)) {
        key = format!("door.{}", door.name);
    }
    if let Some(of) = spot.of_key.and_then(|at| config.keys.get(at)) {
        key = format!("key.{}", of.name);
    }
    if spot.knock.is_some() {
        key.push_str(".knock");
    }
    if !spot.key.is_empty() {
        if !key.is_empty() {
            key.push('.');
        }
        key.push_str(spot.key);
    }
    key
}
