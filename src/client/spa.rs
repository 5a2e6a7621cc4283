//! postern spa: single packets, sealed, that name an address and ports (single-packet
//! authorization, as fwknop does it).

use std::env;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use super::profile::Way;
use super::{Common, Problem, address, complain, echo, knock, ping};
use crate::config::mistake::quote;
use crate::config::secret::{Carrier, Secret};
use crate::config::{Port, Protocol, Wrong, units};
use crate::exit;
use crate::spa::{self, MOST_LASTS, MOST_PORTS, Request, Whom};

/// How many ports a packet may ask for.
pub const OPENS: RangeInclusive<usize> = 1..=MOST_PORTS;

/// For how long a packet may ask to be let in.
pub const LASTS: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(MOST_LASTS as u64);

/// What packets are made of, and how they go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spa {
    /// The keys, which the daemon has as well.
    pub secret: Secret,
    /// How they travel.
    pub carrier: Carrier,
    /// What they ask for; empty: the port that is connected to.
    pub opens: Vec<Port>,
    /// For whom.
    pub from: From,
    /// For how long; `None`: as the door has it.
    pub lasts: Option<Duration>,
}

/// What carries packets unless something else is said: fwknop's port.
pub const CARRIER: Carrier = Carrier::Udp(spa::PORT);

/// Whom a packet asks to let in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum From {
    /// The address that this machine sends from.
    #[default]
    Here,
    /// Whatever the packet comes from, if the key allows it.
    Observed,
    /// This one.
    Given(IpAddr),
}

impl FromStr for From {
    type Err = Wrong;

    /// `observed`, or an address.
    fn from_str(text: &str) -> Result<From, Wrong> {
        match (text, text.parse::<IpAddr>()) {
            ("observed", _) => Ok(From::Observed),
            (_, Ok(address)) if !address.is_unspecified() => Ok(From::Given(address)),
            _ => Err(Wrong::new(
                format!("{} is no address", quote(text)),
                "write one such as \"192.0.2.7\", or \"observed\"",
            )),
        }
    }
}

#[derive(Args)]
pub(super) struct SpaArgs {
    #[command(flatten)]
    common: Common,
    /// A host of the profile file
    #[arg(value_hint = clap::ValueHint::Hostname)]
    host: String,
    /// What to ask for; as the profile says, unless given
    #[arg(value_name = "PORT[/udp]", value_parser = units::port)]
    ports: Vec<Port>,
    /// Whom to let in, or "observed": whatever the packet comes from [default: as the profile
    /// says, or the address that this machine sends from]
    #[arg(long, value_name = "ADDRESS")]
    from: Option<From>,
    /// For how long to ask [default: as the profile says, or as the door has it]
    #[arg(long, value_name = "DURATION", value_parser = lasts)]
    lasts: Option<Duration>,
}

/// Reads for how long a packet is to ask to be let in: whole seconds.
pub(super) fn lasts(text: &str) -> Result<Duration, Wrong> {
    let read = units::duration_within(text, &LASTS)?;
    match read.subsec_nanos() {
        0 => Ok(read),
        _ => {
            let what = format!("{} is no number of whole seconds", quote(text));
            Err(Wrong::new(what, "write one such as \"30s\""))
        }
    }
}

/// Sends a packet as the profile says, but for what the command line says.
pub(super) fn run(args: &SpaArgs) -> Result<(), Problem> {
    let common = &args.common;
    if args.ports.len() > MOST_PORTS {
        let said = format!("{}: {} ports are too many", args.host, args.ports.len());
        return Err(Problem::new(exit::USAGE, said));
    }
    let host = common.profile(&args.host, "keys")?;
    let packet = host.ways.iter().find_map(|way| match way {
        Way::Spa(packet) => Some(packet.clone()),
        _ => None,
    });
    let mut packet = packet.ok_or_else(|| host.lacks("spa"))?;
    if !args.ports.is_empty() {
        packet.opens.clone_from(&args.ports);
    }
    packet.from = args.from.unwrap_or(packet.from);
    packet.lasts = args.lasts.or(packet.lasts);
    let to = common.resolve(&host.address)?;
    let told = |e| Problem::from(e).about(to);
    let (sent, whom) = knock(to, common.source, &packet, host.port).map_err(told)?;
    let carrier = packet.carrier;
    common.say(format_args!(
        "asked {} by {carrier} for {whom}",
        echo::bare(to)
    ));
    if let Some(hint) = hint(whom, to) {
        complain(&hint);
    }
    sent.wait().map_err(told)
}

/// What a packet asked for.
pub(super) fn hint(whom: Shown, to: SocketAddr) -> Option<String> {
    let Shown(Whom::Address(ours)) = whom else {
        return None;
    };
    let lost = address::is_private(ours) && !address::is_private(to.ip());
    lost.then(|| {
        format!(
            "the packet names {ours}, which is private: behind NAT it opens for nobody; give \
             the address that others see (from = \"ADDRESS\"), or from = \"observed\" if the key \
             allows it"
        )
    })
}

/// Whom a packet names.
#[derive(Clone, Copy)]
pub(super) struct Shown(Whom);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Whom::Observed => f.write_str("whoever it comes from"),
            Whom::Address(address) => address.fmt(f),
        }
    }
}

/// Makes a packet and sends it; also says whom it names. It asks for `port` if the profile names
/// none.
pub(super) fn knock(
    to: SocketAddr,
    source: Option<IpAddr>,
    packet: &Spa,
    port: u16,
) -> Result<(echo::Sent, Shown), echo::Error> {
    let whom = match packet.from {
        From::Here => Whom::Address(address::local(to, source)?),
        From::Observed => Whom::Observed,
        From::Given(address) => Whom::Address(address),
    };
    let ports = match packet.opens.is_empty() {
        false => packet.opens.clone(),
        true => vec![Port {
            protocol: Protocol::Tcp,
            number: port,
        }],
    };
    let request = Request {
        whom,
        ports,
        time: ping::now().as_secs(),
        lasts: packet.lasts.map(|lasts| lasts.as_secs() as u32),
        user: user(),
    };
    let mut random = [0; 24];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let payload = spa::seal(&packet.secret, &request, &random);
    let sent = match packet.carrier {
        Carrier::Icmp => echo::send(to, source, &payload)?,
        Carrier::Udp(port) => {
            let mut there = to;
            there.set_port(port);
            knock::datagram(there, source, &payload)?;
            echo::Sent::certain()
        }
    };
    Ok((sent, Shown(whom)))
}

/// The user's name, as fwknop has it from the system; nothing depends on it.
fn user() -> String {
    let named = ["LOGNAME", "USER", "USERNAME"].into_iter();
    let mut named = named.filter_map(|name| env::var(name).ok());
    let named = named.find(|name| !name.is_empty());
    named.unwrap_or_else(|| "postern".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom() {
        assert_eq!("observed".parse(), Ok(From::Observed));
        assert_eq!("::1".parse(), Ok(From::Given("::1".parse().unwrap())));
        for text in ["", "0.0.0.0", "::", "any", "192.0.2.0/24"] {
            assert!(text.parse::<From>().is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_whole_seconds() {
        assert_eq!(lasts("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(lasts("65536s"), Ok(Duration::from_secs(65536)));
        for text in ["0s", "1500ms", "65537s", "1d"] {
            assert!(lasts(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_private_address_is_told_where_it_is_not_seen() {
        let hinted = |whom: &str, to: &str| {
            let whom = Shown(Whom::Address(whom.parse().unwrap()));
            hint(whom, SocketAddr::new(to.parse().unwrap(), 0)).is_some()
        };
        assert!(hinted("192.168.1.5", "192.0.2.1"));
        assert!(hinted("fd66::5", "2001:db8::1"));
        assert!(!hinted("192.168.1.5", "192.168.1.1"));
        assert!(!hinted("192.0.2.7", "192.0.2.1"));
        assert!(hint(Shown(Whom::Observed), "192.0.2.1:0".parse().unwrap()).is_none());
    }
}
