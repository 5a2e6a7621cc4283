//! The model of a configuration, checked, and the front doors that make it from text.
//!
//! | file | what |
//! |---|---|
//! | [`format`](mod@format) | which front door a file goes to |
//! | [`toml`] | postern.toml -> [`Config`], or every mistake with its place |
//! | [`knockd`] | the same for knockd.conf |
//! | [`convert`](mod@convert) | knockd.conf -> postern.toml |
//! | [`check`] | what a configuration may say but had better not |
//! | [`key`] | who may knock by single packets, and what pings carry |
//! | [`keygen`] | new sequences |
//! | [`onetime`] | lists of sequences, each used once |
//! | [`secret`] | what both ends of single-packet authorization are told |
//! | [`units`] | durations and ports, read and shown |
//! | [`bounds`] | defaults, and how far each value may go |
//! | [`mistake`] | mistakes, warnings and their places |
//! | [`discreet`] | the same without the steps that they quote |

#![forbid(unsafe_code)]

pub mod bounds;
pub mod check;
pub mod convert;
pub mod discreet;
mod filters;
pub mod format;
pub mod key;
pub mod keygen;
pub mod knockd;
pub mod mistake;
mod network;
pub mod onetime;
pub mod secret;
mod services;
pub mod toml;
pub mod units;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Where the configuration is looked for: where the port installs it on FreeBSD, in /etc
/// elsewhere.
pub const FILE: &str = if cfg!(target_os = "freebsd") {
    "/usr/local/etc/postern.toml"
} else {
    "/etc/postern.toml"
};

/// A whole configuration, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `interface`: names, at least one unless the command line gives some.
    pub interfaces: Vec<String>,
    /// `log`.
    pub log: LogTo,
    /// `firewall`.
    pub firewall: FirewallKind,
    /// `drive`: how addresses are let in there.
    pub drive: Drive,
    /// `user` that the listener becomes; `None`: `_postern`, or `nobody` where there is none.
    pub user: Option<String>,
    /// `confine`: whether there is no listening without confinement.
    pub confine: Confine,
    /// `pidfile`.
    pub pidfile: Option<PathBuf>,
    /// `control`: the socket that posternctl speaks to.
    pub control: PathBuf,
    /// `state`: the directory of the journal.
    pub state: PathBuf,
    /// `always`: who passes every guard without a knock.
    pub always: Vec<Network>,
    /// `trial`: after so long a new guard is withdrawn that nobody has come through; `None`:
    /// never.
    pub trial: Option<Duration>,
    /// `doors` in the order of the file. At least one.
    pub doors: Vec<Door>,
    /// `[key.NAME]` in the order of the file.
    pub keys: Vec<Key>,
    /// What a knockd.conf said beyond this; `None`: it was a postern.toml.
    pub knockd: Option<Knockd>,
}

impl Config {
    /// A door and an interface that its `on` names though nobody listens there, if there is one:
    /// the command line may name other interfaces than the file.
    pub fn unheard(&self) -> Option<(&str, &str)> {
        if self.interfaces.iter().any(|name| name == "any") {
            return None;
        }
        self.doors.iter().find_map(|door| {
            let unheard = door
                .on
                .iter()
                .find(|name| !self.interfaces.contains(name))?;
            Some((door.name.as_str(), unheard.as_str()))
        })
    }
}

pub use format::{Format, read};
pub use key::{Key, Pattern};
pub use knockd::Knockd;
pub use mistake::{Mistake, Parsed, Place, Warning, Wrong};
pub use network::Network;
pub use secret::{Carrier, Mac, Secret};

/// How addresses are let into a packet filter and put out of it. Rules, tables and anchors are
/// made by its command whichever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Drive {
    /// By a call of the kernel's own; by the command where the kernel refuses.
    InProcess,
    /// By the packet filter's command.
    Command,
}

/// What is done where this system cannot wholly confine a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Confine {
    /// Nothing is listened to.
    Required,
    /// It is said, and gone on with what there is.
    Try,
}

/// Where log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTo {
    /// syslog(3), facility auth, ident `posternd`.
    Syslog,
    /// Standard error.
    Stderr,
    /// A file, opened again at SIGUSR1.
    File(PathBuf),
}

/// Which packet filter doors open in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirewallKind {
    /// FreeBSD's ipfw(4).
    Ipfw,
    /// FreeBSD's pf(4).
    Pf,
    /// nftables.
    Nft,
    /// Nothing is touched, everything shown.
    Memory,
    /// Command doors only.
    None,
}

/// A door: what opens, for how long, by which knocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Door {
    /// Letters, digits, `-` and `_`, at most 24, beginning with a letter: it becomes part of
    /// the names of tables, sets and states.
    pub name: String,
    /// What a grant does.
    pub action: Action,
    /// `knock`: at least one, unless a key opens the door.
    pub knocks: Vec<Knock>,
    /// `max_leases`: at the limit the lease nearest its end gives way. No more than `rules` has
    /// numbers.
    pub max_leases: usize,
    /// `on`: where its rules and knocks apply; empty: the listened interfaces.
    pub on: Vec<String>,
    /// `idle`: its leases go on so long behind the traffic that was last seen; `None`: traffic
    /// makes no difference.
    pub idle: Option<Duration>,
    /// `prefix6`: how many bits of an IPv6 address tell who is let in. 128: the address alone.
    pub prefix6: u8,
}

/// The ports that a guard stands at for one of these doors.
pub fn guarded(doors: &[Door]) -> BTreeSet<Port> {
    let guarded = doors.iter().filter_map(|door| match &door.action {
        Action::Open(opens) => opens.guard.as_ref(),
        Action::Command(_) => None,
    });
    guarded.flat_map(|guard| &guard.ports).copied().collect()
}

impl Door {
    /// Whether it opens ports in the packet filter; otherwise it runs commands.
    pub fn opens_ports(&self) -> bool {
        matches!(self.action, Action::Open(_))
    }

    /// The ports that it opens; none if it runs commands.
    pub fn ports(&self) -> &[Port] {
        match &self.action {
            Action::Open(opens) => &opens.ports,
            Action::Command(_) => &[],
        }
    }

    /// Whether its leases end with a stop command.
    pub fn owes_stop(&self) -> bool {
        matches!(&self.action, Action::Command(commands) if commands.stop.is_some())
    }

    /// How long a lease of this door lasts; `None`: its grants make no lease.
    pub fn lease(&self) -> Option<Duration> {
        match &self.action {
            Action::Open(opens) => Some(opens.open_for),
            Action::Command(commands) => commands.stop.as_ref().map(|_| commands.cmd_timeout),
        }
    }
}

/// What a grant at a door does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Opens ports in the packet filter.
    Open(Opens),
    /// Runs commands of the administrator's.
    Command(Commands),
}

/// What opens, how, and what stands behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opens {
    /// `opens`: the ports, in the order of the file, each once. May be empty where the door only
    /// keeps a `table`.
    pub ports: Vec<Port>,
    /// `open_for`: how long.
    pub open_for: Duration,
    /// `rule`, `rules` or `table`: how addresses are let in.
    pub pass: Pass,
    /// `guard`: the deny rule of ours behind the pass rules, if any.
    pub guard: Option<Guard>,
    /// `to`: where the connections go that the rules are about.
    pub to: To,
    /// `connections`: so many at once for each address; `None`: any number.
    pub connections: Option<u16>,
    /// `kill_states`: whether a lease's end ends the sessions that it let in.
    pub kill_states: bool,
}

/// How the packet filter lets an address in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pass {
    /// By a table or set of ours that a pass rule of ours names.
    Ours {
        /// `rule`: the pass rule's number, where the packet filter numbers its rules.
        rule: Option<u16>,
    },
    /// `rules`: by a numbered pass rule for each address (ipfw).
    Rules(RangeInclusive<u16>),
    /// `table`: by an entry in a table of the administrator's, whose rules are his own.
    Table(String),
}

/// A guard as one door wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// The deny rule's number, where the packet filter numbers its rules.
    pub number: Option<u16>,
    /// The ports that it stands at: those of the door, but for any whose guard has been
    /// withdrawn.
    pub ports: Vec<Port>,
}

/// Destinations that rules are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum To {
    /// `me`: this machine.
    Me,
    /// `any`: this machine and whatever lies behind it.
    Any,
    /// An address or a network.
    Network(Network),
}

/// The commands of a command door. `%IP%` stands for the address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commands {
    /// `start_command`.
    pub start: String,
    /// `start_command_6`; `None`: as `start`; empty: nothing for IPv6.
    pub start_6: Option<String>,
    /// `stop_command`; `None`: the door has no lease.
    pub stop: Option<String>,
    /// `stop_command_6`; `None`: as `stop`; empty: nothing for IPv6.
    pub stop_6: Option<String>,
    /// `cmd_timeout`: from start to stop.
    pub cmd_timeout: Duration,
    /// `run_limit`: how long a command may run before its process group is killed.
    pub run_limit: Duration,
}

/// One way to be let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Knock {
    /// A sequence of ports.
    Sequence(Sequence),
    /// A ping that carries a secret.
    Ping(Ping),
}

impl Knock {
    /// The sequence, if it is one.
    pub fn sequence(&self) -> Option<&Sequence> {
        match self {
            Knock::Sequence(sequence) => Some(sequence),
            Knock::Ping(_) => None,
        }
    }
}

/// An ICMP or ICMPv6 echo request whose payload holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ping {
    /// `ping`: the secret.
    pub secret: Pattern,
    /// `offsets`: where in the payload it may begin; `None`: where `ping -p` puts it, behind a
    /// time stamp of 8 bytes (FreeBSD, macOS) or of 16 (Linux).
    pub offsets: Option<RangeInclusive<u8>>,
    /// `target`: the destination address instead of the interface's own.
    pub target: Option<IpAddr>,
}

/// A sequence of ports, each hit within `timeout` of the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// Where the steps come from.
    pub steps: Steps,
    /// `seq_timeout`.
    pub timeout: Duration,
    /// `tcpflags`: what a TCP step's flags must be.
    pub flags: TcpFlags,
    /// `target`: the destination address instead of the interface's own.
    pub target: Option<IpAddr>,
}

impl Sequence {
    /// Whether a step is TCP's, or may be.
    pub fn has_tcp(&self) -> bool {
        match &self.steps {
            Steps::Fixed(steps) => steps.iter().any(|step| step.protocol == Protocol::Tcp),
            Steps::OneTime(_) => true,
        }
    }
}

/// The steps of a sequence.
#[derive(Clone, PartialEq, Eq)]
pub enum Steps {
    /// `sequence`: 1 to 32.
    Fixed(Vec<Port>),
    /// `one_time_sequences`: a file, each of whose lines is used once.
    OneTime(PathBuf),
}

/// Steps are secret: only how many there are is shown.
impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Steps::Fixed(steps) => write!(f, "Fixed({} steps)", steps.len()),
            Steps::OneTime(path) => f.debug_tuple("OneTime").field(path).finish(),
        }
    }
}

/// A port of a transport protocol, written `22/tcp`. Ordered by protocol, then number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Port {
    /// Transport.
    pub protocol: Protocol,
    /// 1 to 65535.
    pub number: u16,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
}

/// A condition on the TCP flag byte: the bits of `mask` must be as in `value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TcpFlags {
    /// The bits that are looked at (RFC 9293: FIN is bit 0).
    pub mask: u8,
    /// What they must be.
    pub value: u8,
}

/// Flags by their names in configurations and their bits (RFC 9293, 3.1).
const FLAGS: [(&str, u8); 6] = [
    ("fin", 0x01),
    ("syn", 0x02),
    ("rst", 0x04),
    ("psh", 0x08),
    ("ack", 0x10),
    ("urg", 0x20),
];

impl TcpFlags {
    /// The bit of a flag, in small letters or capitals.
    fn bit(name: &str) -> Option<u8> {
        let known = FLAGS
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        known.map(|&(_, bit)| bit)
    }

    /// As configurations have it: `syn`, `!ack`.
    fn names(self) -> impl Iterator<Item = String> {
        let matter = FLAGS
            .into_iter()
            .filter(move |(_, bit)| self.mask & bit != 0);
        matter.map(move |(name, bit)| match self.value & bit {
            0 => format!("!{name}"),
            _ => name.to_owned(),
        })
    }

    /// A connection request: SYN without ACK, RST and FIN. The default in postern.toml.
    pub const REQUEST: TcpFlags = TcpFlags {
        mask: 0x17,
        value: 0x02,
    };

    /// Whether the flag byte satisfies the condition.
    pub fn accept(self, flags: u8) -> bool {
        flags & self.mask == self.value
    }
}
