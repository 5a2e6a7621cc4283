//! A sequence of ports -> packets on the wire, in order.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::ops::RangeInclusive;
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::config::{Port, Protocol};
use crate::exit::words;

/// Between two steps, unless told otherwise: longer than networks reorder packets by, short
/// enough that eight steps pass in half a second.
pub const DELAY: Duration = Duration::from_millis(50);

/// How far the time between two steps may go: a sequence's whole time is 10 minutes at most.
pub const DELAYS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(60);

/// What a UDP step carries: one NUL byte, as Debian's knock sends.
const DATAGRAM: &[u8] = &[0];

/// What to send, and where to.
#[derive(Clone, PartialEq, Eq)]
pub struct Knock {
    /// A name or an address; an IPv6 address may stand in brackets and bear a zone.
    pub host: String,
    /// At least one.
    pub steps: Vec<Port>,
    /// From one step to the next.
    pub delay: Duration,
}

/// Steps are secret: only how many there are is shown.
impl fmt::Debug for Knock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Knock({}, {} steps)", self.host, self.steps.len())
    }
}

/// Which addresses of a host to consider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// The first that the system names, which is the one other programs will connect to.
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

impl Family {
    fn admits(self, address: IpAddr) -> bool {
        match self {
            Family::Any => true,
            Family::V4 => address.is_ipv4(),
            Family::V6 => address.is_ipv6(),
        }
    }
}

/// Why a knock did not go out whole.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system does not know the name, or has no answer now.
    #[error("{host}: cannot be resolved: {}", words(why))]
    Unresolved {
        /// The name.
        host: String,
        /// What the resolver said.
        why: io::Error,
    },
    /// The name has addresses, but none of the family asked for.
    #[error("{host}: has no {family} address")]
    NoAddress {
        /// The name.
        host: String,
        /// `IPv4` or `IPv6`.
        family: &'static str,
    },
    /// A step could not be sent. Those after it were not tried: the door would not open.
    #[error("{to}: {}; {}", words(why), Sent { sent: *sent, of: *of })]
    Unsent {
        /// The step.
        to: Target,
        /// What the system said.
        why: io::Error,
        /// How many steps went out before it.
        sent: usize,
        /// How many there are.
        of: usize,
    },
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
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        write!(f, "{protocol} {}", self.to)
    }
}

/// The address to knock at: the first that the system names in the family.
pub fn resolve(host: &str, family: Family) -> Result<SocketAddr, Error> {
    let bare = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    let unresolved = |why| Error::Unresolved {
        host: host.to_owned(),
        why,
    };
    let mut any = false;
    for address in (bare, 0).to_socket_addrs().map_err(unresolved)? {
        any = true;
        if family.admits(address.ip()) {
            return Ok(address);
        }
    }
    match (any, family) {
        (true, Family::V4) => Err(Error::NoAddress {
            host: host.to_owned(),
            family: "IPv4",
        }),
        (true, Family::V6) => Err(Error::NoAddress {
            host: host.to_owned(),
            family: "IPv6",
        }),
        _ => Err(unresolved(io::Error::other("it has no address"))),
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
) -> Result<(), Error> {
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
        hit(target, source).map_err(|why| Error::Unsent {
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
    let domain = Domain::for_address(target.to);
    match target.protocol {
        Protocol::Udp => {
            let socket = Socket::new(domain, Type::DGRAM, Some(socket2::Protocol::UDP))?;
            bind(&socket, target.to, source)?;
            match socket.send_to(DATAGRAM, &target.to.into()) {
                Err(e) if e.kind() != io::ErrorKind::ConnectionRefused => Err(e),
                _ => Ok(()),
            }
        }
        // Closed as soon as the SYN is on its way: a SYN still held for the neighbour's address
        // goes out all the same, none is sent twice, and should somebody listen there, he is
        // left with a reset and no connection.
        Protocol::Tcp => {
            let socket = Socket::new(domain, Type::STREAM, Some(socket2::Protocol::TCP))?;
            socket.set_nonblocking(true)?;
            socket.set_linger(Some(Duration::ZERO))?;
            bind(&socket, target.to, source)?;
            match socket.connect(&target.to.into()) {
                Err(e) if !went_out(&e) => Err(e),
                _ => Ok(()),
            }
        }
    }
}

fn bind(socket: &Socket, to: SocketAddr, source: Option<IpAddr>) -> io::Result<()> {
    let Some(source) = source else { return Ok(()) };
    let mut from = SocketAddr::new(source, 0);
    if let (SocketAddr::V6(from), SocketAddr::V6(to)) = (&mut from, to) {
        from.set_scope_id(to.scope_id());
    }
    socket.bind(&from.into())
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

/// The family of an address given as `--source`.
pub fn family_of(address: IpAddr) -> Family {
    match address {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_no_resolver() {
        let address = |host, family| resolve(host, family).unwrap().to_string();
        assert_eq!(address("192.0.2.7", Family::Any), "192.0.2.7:0");
        assert_eq!(address("2001:db8::7", Family::Any), "[2001:db8::7]:0");
        assert_eq!(address("[2001:db8::7]", Family::V6), "[2001:db8::7]:0");
    }

    #[test]
    fn a_host_without_the_family_is_an_error_that_says_so() {
        let e = resolve("192.0.2.7", Family::V6).unwrap_err();
        assert_eq!(e.to_string(), "192.0.2.7: has no IPv6 address");
        let e = resolve("2001:db8::7", Family::V4).unwrap_err();
        assert_eq!(e.to_string(), "2001:db8::7: has no IPv4 address");
    }

    #[test]
    fn an_unsent_step_says_what_had_been_sent() {
        let error = |sent| Error::Unsent {
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
