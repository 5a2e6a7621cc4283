//! Who is under test, one like the other.

use nix::unistd::Pid;

use crate::daemons::{self, Dumped, Floor, Setup, Theirs, Variant};
use crate::harness::Daemon;
use crate::marks::Marks;
use crate::wire::Wire;

/// One of them.
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
