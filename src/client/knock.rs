//! postern knock: a sequence of ports -> packets on the wire, in order.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::thread;
use std::time::Duration;

use clap::Args;
use socket2::{Domain, Socket, Type};

use super::address;
use super::profile::Way;
use super::{Common, Problem};
use crate::config::{Port, Protocol, Wrong, units};
use crate::exit::{self, words};

/// Between two steps, unless told otherwise: longer than networks reorder packets by, short
/// enough that eight steps pass in half a second.
pub const DELAY: Duration = Duration::from_millis(50);

/// How far the time between two steps may go: a sequence's whole time is 10 minutes at most.
pub const DELAYS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(60);

/// What a UDP step carries: one NUL byte, as Debian's knock sends.
const DATAGRAM: &[u8] = &[0];

/// What to hit, and how fast.
#[derive(Clone, PartialEq, Eq)]
pub struct Sequence {
    /// At least one.
    pub steps: Vec<Port>,
    /// From one step to the next.
    pub delay: Duration,
}

impl Sequence {
    /// From its first step to its last.
    pub(super) fn takes(&self) -> Duration {
        let pauses = self.steps.len().saturating_sub(1);
        self.delay * u32::try_from(pauses).unwrap_or(u32::MAX)
    }
}

/// Steps are secret: only how many there are is shown.
impl fmt::Debug for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sequence({} steps)", self.steps.len())
    }
}

#[derive(Args)]
pub(super) struct KnockArgs {
    #[command(flatten)]
    common: Common,
    /// A name or address; without ports, a host of the profile file
    #[arg(value_hint = clap::ValueHint::Hostname)]
    host: String,
    /// The steps in order: 7143, 7143/tcp or 2912/udp
    #[arg(value_name = "PORT[/udp]", value_parser = units::port)]
    ports: Vec<Port>,
    /// From one step to the next [default: 50ms, or as the profile says]
    #[arg(short, long, value_name = "DURATION", value_parser = delay)]
    delay: Option<Duration>,
}

fn delay(text: &str) -> Result<Duration, Wrong> {
    units::duration_within(text, &DELAYS)
}

/// Hits the ports of the command line if it names some, else those of the profile.
pub(super) fn run(args: &KnockArgs) -> Result<(), Problem> {
    let common = &args.common;
    let (name, sequence) = match args.ports.is_empty() {
        false => (
            args.host.clone(),
            Sequence {
                steps: args.ports.clone(),
                delay: DELAY,
            },
        ),
        true => {
            let host = common.profile(&args.host, "ports")?;
            let sequence = host.ways.iter().find_map(|way| match way {
                Way::Sequence(sequence) => Some(sequence.clone()),
                _ => None,
            });
            let sequence = sequence.ok_or_else(|| host.lacks("sequence"))?;
            (host.address, sequence)
        }
    };
    let address = common.resolve(&name)?;
    let delay = args.delay.unwrap_or(sequence.delay);
    send(address, &sequence.steps, delay, common.source, |target| {
        common.say(format_args!("hitting {target}"));
    })?;
    Ok(())
}

/// A step could not be sent. Those after it were not tried: the door would not open.
#[derive(Debug, thiserror::Error)]
#[error("{to}: {}; {}", words(why), Sent { sent: *sent, of: *of })]
pub struct Unsent {
    /// The step.
    pub to: Target,
    /// What the system said.
    pub why: io::Error,
    /// How many steps went out before it.
    pub sent: usize,
    /// How many there are.
    pub of: usize,
}

impl Unsent {
    /// The same for whoever need not know the step.
    pub(super) fn without_step(&self) -> String {
        let (sent, of) = (self.sent, self.of);
        format!("{}; {}", words(&self.why), Sent { sent, of })
    }
}

impl From<Unsent> for Problem {
    fn from(e: Unsent) -> Problem {
        Problem::new(exit::UNAVAILABLE, e)
    }
}

struct Sent {
    sent: usize,
    of: usize,
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sent {
            0 => write!(f, "nothing was sent"),
            1 => write!(f, "only the first of {} steps was sent", self.of),
            n => write!(f, "only the first {n} of {} steps were sent", self.of),
        }
    }
}

/// Where one step goes. Written `tcp 192.0.2.1:7143`, as Debian's knock writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Address and port.
    pub to: SocketAddr,
    /// Transport.
    pub protocol: Protocol,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.protocol, self.to)
    }
}

/// Sends `steps` to `address` in order, each told to `about_to` first. The steps leave from
/// `source` if one is given.
pub fn send(
    address: SocketAddr,
    steps: &[Port],
    delay: Duration,
    source: Option<IpAddr>,
    mut about_to: impl FnMut(Target),
) -> Result<(), Unsent> {
    for (i, step) in steps.iter().enumerate() {
        if i > 0 {
            thread::sleep(delay);
        }
        let mut to = address;
        to.set_port(step.number);
        let target = Target {
            to,
            protocol: step.protocol,
        };
        about_to(target);
        hit(target, source).map_err(|why| Unsent {
            to: target,
            why,
            sent: i,
            of: steps.len(),
        })?;
    }
    Ok(())
}

/// Sends one step, from a socket of its own: what ICMP says of one step never reaches another.
fn hit(target: Target, source: Option<IpAddr>) -> io::Result<()> {
    match target.protocol {
        Protocol::Udp => datagram(target.to, source, DATAGRAM),
        // Closed as soon as the SYN is on its way: a SYN still held for the neighbour's address
        // goes out all the same, none is sent twice, and should somebody listen there, he is
        // left with a reset and no connection.
        Protocol::Tcp => {
            let domain = Domain::for_address(target.to);
            let socket = Socket::new(domain, Type::STREAM, Some(socket2::Protocol::TCP))?;
            socket.set_nonblocking(true)?;
            socket.set_linger(Some(Duration::ZERO))?;
            address::bind(&socket, target.to, source)?;
            match socket.connect(&target.to.into()) {
                Err(e) if !went_out(&e) => Err(e),
                _ => Ok(()),
            }
        }
    }
}

/// Sends one UDP datagram.
pub(super) fn datagram(to: SocketAddr, source: Option<IpAddr>, payload: &[u8]) -> io::Result<()> {
    let domain = Domain::for_address(to);
    let socket = Socket::new(domain, Type::DGRAM, Some(socket2::Protocol::UDP))?;
    address::bind(&socket, to, source)?;
    match socket.send_to(payload, &to.into()) {
        Err(e) if e.kind() != io::ErrorKind::ConnectionRefused => Err(e),
        _ => Ok(()),
    }
}

/// Whether a non-blocking connect that returned this error has sent its SYN.
fn went_out(error: &io::Error) -> bool {
    #[cfg(unix)]
    if error.raw_os_error() == Some(libc::EINPROGRESS) {
        return true;
    }
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionRefused | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unsent_step_says_what_had_been_sent() {
        let error = |sent| Unsent {
            to: Target {
                to: "[2001:db8::1]:2912".parse().unwrap(),
                protocol: Protocol::Udp,
            },
            why: io::Error::other("no way"),
            sent,
            of: 4,
        };
        assert_eq!(
            error(0).to_string(),
            "udp [2001:db8::1]:2912: no way; nothing was sent"
        );
        assert_eq!(
            error(1).to_string(),
            "udp [2001:db8::1]:2912: no way; only the first of 4 steps was sent"
        );
        assert_eq!(
            error(3).to_string(),
            "udp [2001:db8::1]:2912: no way; only the first 3 of 4 steps were sent"
        );
    }
}
