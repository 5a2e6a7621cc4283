//! What of a configuration the kernel can do alone, and why not the rest.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use super::Filter;
use crate::config::{
    Action, Config, Door, Knock, Network, Opens, Pattern, Ping, Port, Protocol, Sequence, Steps,
    TcpFlags, To,
};
use crate::daemon::doors;
use crate::firewall::numbers;
use crate::knock::{Knocks, ping};

/// Doors that are to open, and what is left out.
pub struct Plan<'a> {
    /// Those of which something can be done, in the order of the file.
    pub doors: Vec<Opening<'a>>,
    /// What cannot.
    pub left: Vec<Left>,
    /// Who passes every guard.
    pub always: &'a [Network],
}

/// A door as the kernel does it.
pub struct Opening<'a> {
    /// The door's name: letters, digits, `-` and `_`.
    pub name: &'a str,
    /// The interfaces that knocks and connections come in by; empty: all but the loopback.
    pub on: &'a [String],
    /// What opens.
    pub opens: &'a Opens,
    /// How many may be let in at once.
    pub most: usize,
    /// How long traffic prolongs it.
    pub idle: Option<Duration>,
    /// How many bits of an IPv6 address tell who is let in.
    pub prefix6: u8,
    /// Its knocks.
    pub ways: Vec<Way<'a>>,
}

/// A knock as the kernel does it.
pub struct Way<'a> {
    /// Which of the door's knocks it is, from 1.
    pub number: usize,
    /// The destination instead of this machine's own addresses.
    pub target: Option<IpAddr>,
    /// How it is done.
    pub how: How<'a>,
}

/// See [`Way`].
pub enum How<'a> {
    /// An echo request that carries a secret.
    Ping {
        /// The secret.
        secret: &'a Pattern,
        /// Where in the payload it may begin.
        offsets: Vec<u8>,
        /// Whether those are a range that the configuration gives.
        loose: bool,
    },
    /// A sequence of ports.
    Sequence {
        /// The steps.
        steps: &'a [Port],
        /// From the first step to the last.
        timeout: Duration,
        /// What a TCP step's flags must be.
        flags: TcpFlags,
        /// Ports that are no steps of it and end an attempt: the daemon's traps, and steps that
        /// other sequences with the same beginning have.
        traps: Vec<Port>,
    },
}

/// What is left out, and why.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Left {
    door: String,
    /// Which of its knocks, from 1; `None`: the whole door.
    knock: Option<usize>,
    why: String,
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "door {}", self.door)?;
        if let Some(number) = self.knock {
            write!(f, ", knock {number}")?;
        }
        write!(f, ": left out: {}", self.why)
    }
}

impl<'a> Plan<'a> {
    /// From a configuration, of one door or of all.
    ///
    /// # Errors
    /// In words.
    pub fn new(config: &'a Config, filter: Filter, only: Option<&str>) -> Result<Plan<'a>, String> {
        let watches = doors::watches(config, |_, _| Vec::new());
        let knocks = Knocks::new(watches, &doors::opened_ports(config), [0, 0], 0);
        let mut plan = Plan {
            doors: Vec::new(),
            left: Vec::new(),
            always: &config.always,
        };
        for (place, door) in (0u16..).zip(&config.doors) {
            if only.is_some_and(|only| door.name != only) {
                continue;
            }
            let mut leave = |knock, why: &str| {
                plan.left.push(Left {
                    door: door.name.clone(),
                    knock,
                    why: why.to_owned(),
                });
            };
            if config.keys.iter().any(|key| key.doors.contains(&place)) {
                let why = "no packet filter can verify the packet of a key: that takes posternd";
                leave(None, &format!("what its keys open; {why}"));
            }
            let opens = match opens(door, filter) {
                Ok(opens) => opens,
                Err(why) => {
                    leave(None, why);
                    continue;
                }
            };
            let on = match door.on.is_empty() {
                true => &config.interfaces,
                false => &door.on,
            };
            let on: &[String] = match on.iter().any(|name| name == "any") {
                true => &[],
                false => on,
            };
            if let Some(name) = on.iter().find(|name| !is_word(name)) {
                return Err(format!("interface {name:?}: no such name"));
            }
            let mut ways = Vec::new();
            for (k, knock) in (0u16..).zip(&door.knocks) {
                let number = usize::from(k) + 1;
                let traps = |steps: &[Port]| {
                    let mut traps = knocks.ports_of(place, k);
                    traps.retain(|port| !steps.contains(port));
                    traps
                };
                match how(knock, filter, traps) {
                    Ok((how, target)) => ways.push(Way {
                        number,
                        target,
                        how,
                    }),
                    Err(why) => leave(Some(number), why),
                }
            }
            if !ways.is_empty() {
                plan.doors.push(Opening {
                    name: &door.name,
                    on,
                    opens,
                    most: door.max_leases,
                    idle: door.idle,
                    prefix6: door.prefix6,
                    ways,
                });
            }
        }
        Ok(plan)
    }

    /// Whether a door lets in by IPv6 networks.
    pub fn by_networks(&self) -> bool {
        self.doors.iter().any(|door| door.prefix6 < 128)
    }

    /// What stands on top of every file, each line behind `# `.
    pub fn head(&self, lines: &[String]) -> String {
        let names: Vec<&str> = self.doors.iter().map(|door| door.name).collect();
        let many = if names.len() == 1 { "door" } else { "doors" };
        let mut text = format!(
            "# Written by posternctl render: {many} {}.\n\
             # Secrets are in it: keep it mode 600, root's.\n",
            names.join(", ")
        );
        for line in lines {
            text += format!("# {line}").trim_end();
            text.push('\n');
        }
        text
    }
}

impl Opening<'_> {
    /// The ports that it opens, of one protocol.
    pub fn ports(&self, protocol: Protocol) -> Vec<u16> {
        numbers(&self.opens.ports, protocol)
    }

    /// The ports that are guarded for it, of one protocol.
    pub fn guarded(&self, protocol: Protocol) -> Vec<u16> {
        let guard = self.opens.guard.as_ref();
        numbers(guard.map_or(&[], |guard| &guard.ports), protocol)
    }
}

/// What the door opens, if the kernel can do that alone.
fn opens(door: &Door, filter: Filter) -> Result<&Opens, &'static str> {
    let Action::Open(opens) = &door.action else {
        return Err("it runs commands, and the kernel runs none");
    };
    if opens.ports.is_empty() {
        return Err("it keeps a table of yours and opens no port");
    }
    if filter != Filter::Pf && opens.to != To::Me {
        return Err("to: these rules open this machine's own ports only");
    }
    if door.knocks.is_empty() {
        return Err("keys alone open it");
    }
    Ok(opens)
}

fn how<'a>(
    knock: &'a Knock,
    filter: Filter,
    traps: impl Fn(&[Port]) -> Vec<Port>,
) -> Result<(How<'a>, Option<IpAddr>), &'static str> {
    match knock {
        Knock::Ping(_) if filter == Filter::Pf => {
            Err("pf looks at no packet's contents, so it cannot tell the ping's secret")
        }
        Knock::Ping(Ping {
            secret,
            offsets,
            target,
        }) => {
            let how = How::Ping {
                secret,
                offsets: match offsets {
                    Some(range) => range.clone().collect(),
                    None => ping::STRICT.to_vec(),
                },
                loose: offsets.is_some(),
            };
            Ok((how, *target))
        }
        Knock::Sequence(Sequence {
            steps: Steps::OneTime(_),
            ..
        }) => Err("one_time_sequences: the kernel cannot strike a line off a list"),
        Knock::Sequence(Sequence {
            steps: Steps::Fixed(steps),
            timeout,
            flags,
            target,
        }) => {
            if filter == Filter::Pf {
                pf_can(steps, *flags)?;
            }
            let how = How::Sequence {
                steps,
                timeout: *timeout,
                flags: *flags,
                traps: traps(steps),
            };
            Ok((how, *target))
        }
    }
}

/// pf counts the connections that an address makes to one port, and that is all.
fn pf_can(steps: &[Port], flags: TcpFlags) -> Result<(), &'static str> {
    match steps {
        [only] if only.protocol == Protocol::Tcp && flags == TcpFlags::REQUEST => Ok(()),
        [only] if only.protocol == Protocol::Tcp => {
            Err("tcpflags: pf counts connections, and nothing else makes one")
        }
        [_] => Err("pf counts connections, and UDP has none"),
        _ => Err(
            "pf remembers no order of ports and lets no wrong one end an attempt, so it cannot \
             do a sequence of several",
        ),
    }
}

/// Letters, digits and `. _ - : @ +`: what needs no quotes anywhere.
fn is_word(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-:@+".contains(&b);
    (1..=15).contains(&text.len()) && text.bytes().all(plain)
}

/// The ports whose packets an attempt must see. One step needs no traps: nothing comes before it.
pub fn all(steps: &[Port], traps: &[Port]) -> Vec<Port> {
    let traps = if steps.len() > 1 { traps } else { &[] };
    [steps, traps].concat()
}

/// What is to be said of doors that let in by networks, where the kernel does so.
pub const NETWORKS: &str =
    "\nprefix6: whose IPv6 network is nobody's (link-local, Teredo) is not let in here.";

/// Whole seconds, rounded up.
pub fn seconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000_000)).unwrap_or(u64::MAX)
}
