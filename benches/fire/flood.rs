//! Floods: what is forged, and who is under them.

use std::time::Duration;

use nix::unistd::Pid;

use crate::daemons::{self, Dumped, Floor, Opens, Setup, Theirs, Variant, sequence};
use crate::forge::Forger;
use crate::harness::Daemon;
use crate::marks::Marks;
use crate::wire::Wire;

/// What a flood is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// The first port of the first door's sequence.
    First,
    /// All its ports in turn.
    All,
    /// The port of single packets.
    Spa,
}

impl Attack {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Attack::First => "first port",
            Attack::All => "all ports",
            Attack::Spa => "SPA port",
        }
    }

    /// For people, in a sentence.
    pub fn noun(self) -> &'static str {
        match self {
            Attack::First => "first port of a sequence",
            Attack::All => "ports of a sequence",
            Attack::Spa => "port of single packets",
        }
    }

    /// The flood, from so many forged sources.
    pub fn forger(self, wire: &Wire, sources: u64) -> Forger {
        let ports = sequence(0);
        let nobody = std::net::Ipv4Addr::UNSPECIFIED;
        match self {
            Attack::First => Forger::requests(wire.syn(nobody, 1), sources, &ports[..1]),
            Attack::All => Forger::requests(wire.syn(nobody, 1), sources, &ports),
            Attack::Spa => Forger::datagrams(wire.forged_packet(), sources, postern::spa::PORT),
        }
    }

    /// What a daemon must be set to for this attack.
    pub fn setup(self) -> Setup {
        let setup = Setup::new(Opens::Nft);
        match self {
            Attack::Spa => setup.keys(1),
            _ => setup,
        }
    }
}

/// Who is under a flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Postern(Variant),
    Knockd,
    Fwknopd,
    /// tcpdump that writes what it hears to /dev/null, or keeps it.
    Tcpdump {
        keep: bool,
    },
}

impl Who {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Who::Postern(variant) => variant.name,
            Who::Knockd => "knockd",
            Who::Fwknopd => "fwknopd",
            Who::Tcpdump { .. } => "tcpdump",
        }
    }

    /// Whether it is posternd.
    pub fn is_ours(self) -> bool {
        matches!(self, Who::Postern(_))
    }

    /// Starts it.
    pub fn start<'w>(self, wire: &'w Wire, marks: &Marks, setup: Setup) -> Running<'w> {
        match self {
            Who::Postern(variant) => {
                Running::Ours(Box::new(daemons::postern(wire, marks, variant, setup)))
            }
            Who::Knockd => Running::Theirs(daemons::knockd(wire, marks, setup)),
            Who::Fwknopd => Running::Theirs(daemons::fwknopd(wire, marks, setup)),
            Who::Tcpdump { keep } => Running::Floor(Floor::start(wire, marks, setup, keep)),
        }
    }
}

/// One that runs.
pub enum Running<'w> {
    Ours(Box<Daemon<'w>>),
    Theirs(Theirs),
    Floor(Floor),
}

impl Running<'_> {
    /// Its processes.
    pub fn pids(&self) -> Vec<Pid> {
        match self {
            Running::Ours(daemon) => vec![daemon.listener(), daemon.monitor()],
            Running::Theirs(theirs) => vec![theirs.pid()],
            Running::Floor(floor) => floor.pids(),
        }
    }

    /// Packets that the kernel dropped for want of room, where that is told.
    pub fn dropped(&self) -> Option<u64> {
        match self {
            Running::Ours(daemon) => daemon.status()?["dropped"].as_u64(),
            Running::Theirs(_) | Running::Floor(_) => None,
        }
    }

    /// Its end; of tcpdump, what it has to say.
    pub fn stop(self) -> Dumped {
        match self {
            Running::Floor(floor) => floor.stop(),
            Running::Ours(_) | Running::Theirs(_) => Dumped::default(),
        }
    }
}

/// How long a flood lasts before it is looked at: until each source has come once, but no longer
/// than this.
pub fn warm_up(sources: u64, rate: u32, most: Duration) -> Duration {
    Duration::from_secs_f64(sources as f64 / f64::from(rate) + 0.5).min(most)
}
