//! The model of a configuration, checked, and the front doors that make it from text.

//!
//! | file | what |
//! |---|---|
//! | [`toml`] | postern.toml -> [`Config`], or every mistake with its place |
//! | [`check`] | what a configuration may say but had better not |
//! | [`keygen`] | new sequences |
//! | [`onetime`] | lists of sequences, each used once |
//! | [`units`] | durations and ports, read and shown |
//! | [`bounds`] | defaults, and how far each value may go |
//! | [`mistake`] | mistakes, warnings and their places |

#![forbid(unsafe_code)]

pub mod bounds;
pub mod check;
pub mod keygen;
pub mod mistake;
pub mod onetime;
mod services;
pub mod toml;
pub mod units;

use std::collections::BTreeSet;
use std::net::IpAddr;
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
    /// `user` that the listener becomes; `None`: `_postern`, or `nobody` where there is none.
    pub user: Option<String>,
    /// `pidfile`.
    pub pidfile: Option<PathBuf>,
    /// `control`: the socket that posternctl speaks to.
    pub control: PathBuf,
    /// `state`: the directory of the journal.
    pub state: PathBuf,
    /// `doors` in the order of the file. At least one.
    pub doors: Vec<Door>,
}

pub use mistake::{Mistake, Parsed, Place, Warning, Wrong};

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
    /// nftables, by its command.
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
    /// `knock`: at least one.
    pub knocks: Vec<Knock>,
    /// `max_leases`: at the limit the lease nearest its end gives way.
    pub max_leases: usize,
}

/// The ports that a guard stands at for one of these doors.
pub fn guarded(doors: &[Door]) -> BTreeSet<Port> {
    let guarded = doors.iter().filter_map(|door| match &door.action {
        Action::Open(opens) if opens.guard => Some(&opens.ports),
        _ => None,
    });
    guarded.flatten().copied().collect()
}

impl Door {
    /// Whether it opens ports in the packet filter; otherwise it runs commands.
    pub fn opens_ports(&self) -> bool {
        matches!(self.action, Action::Open(_))
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

/// `opens`, `open_for` and `guard`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opens {
    /// The ports, in the order of the file, each once.
    pub ports: Vec<Port>,
    /// How long.
    pub open_for: Duration,
    /// Whether a deny rule of ours stands behind the pass rules.
    pub guard: bool,
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

/// The steps of a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Steps {
    /// `sequence`: 1 to 32.
    Fixed(Vec<Port>),
    /// `one_time_sequences`: a file, each of whose lines is used once.
    OneTime(PathBuf),
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

impl TcpFlags {
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
