//! Floods: what is forged.

use std::time::Duration;

use crate::daemons::{Opens, Setup, sequence};
use crate::forge::Forger;
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

/// How long a flood lasts before it is looked at: until each source has come once, but no longer
/// than this.
pub fn warm_up(sources: u64, rate: u32, most: Duration) -> Duration {
    Duration::from_secs_f64(sources as f64 / f64::from(rate) + 0.5).min(most)
}
