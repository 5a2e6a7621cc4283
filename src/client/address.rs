//! A host's name -> its addresses.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use socket2::Socket;

use super::Problem;
use crate::exit::{self, words};

/// Which addresses of a host to consider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// Those of both, in the system's order, which is other programs', too.
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

impl Family {
    /// That of an address.
    pub fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    fn admits(self, address: IpAddr) -> bool {
        self == Family::Any || self == Family::of(address)
    }
}

/// Why a host has no address.
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
}

impl From<Error> for Problem {
    fn from(e: Error) -> Problem {
        Problem::new(exit::NOHOST, e)
    }
}

/// The host's addresses in the family, each once, in the order that the system names them in;
/// at least one. Their port is 0. An IPv6 address may stand in brackets and bear a zone.
pub fn resolve(host: &str, family: Family) -> Result<Vec<SocketAddr>, Error> {
    let bare = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    let unresolved = |why| Error::Unresolved {
        host: host.to_owned(),
        why,
    };
    let mut any = false;
    let mut found = Vec::new();
    for address in (bare, 0).to_socket_addrs().map_err(unresolved)? {
        any = true;
        if family.admits(address.ip()) && !found.contains(&address) {
            found.push(address);
        }
    }
    let none = |family| Error::NoAddress {
        host: host.to_owned(),
        family,
    };
    match (found.is_empty(), any, family) {
        (false, _, _) => Ok(found),
        (true, true, Family::V4) => Err(none("IPv4")),
        (true, true, Family::V6) => Err(none("IPv6")),
        _ => Err(unresolved(io::Error::other("it has no address"))),
    }
}

/// The same, if the resolver answers within `limit`.
pub fn resolve_within(
    host: &str,
    family: Family,
    limit: Duration,
) -> Result<Vec<SocketAddr>, Error> {
    let (found, answer) = channel();
    let name = host.to_owned();
    // Whoever asked may have gone.
    thread::spawn(move || _ = found.send(resolve(&name, family)));
    answer.recv_timeout(limit).unwrap_or_else(|e| {
        let why = match e {
            RecvTimeoutError::Timeout => "the resolver does not answer",
            RecvTimeoutError::Disconnected => "the resolver failed",
        };
        Err(Error::Unresolved {
            host: host.to_owned(),
            why: io::Error::other(why),
        })
    })
}

/// Whether an address means something in its own network only: whoever sends it elsewhere is
/// seen there with another one. RFC 1918, RFC 6598 (carriers' NAT), RFC 3927, RFC 4193, RFC 4291
/// 2.5.6, and the machine's own.
pub fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let carrier = a == 100 && b & 0xc0 == 64;
            carrier || v4.is_private() || v4.is_link_local() || v4.is_loopback()
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_loopback(),
    }
}

/// Has a socket to `to` leave from `source`, if one is given.
pub(super) fn bind(socket: &Socket, to: SocketAddr, source: Option<IpAddr>) -> io::Result<()> {
    let Some(source) = source else { return Ok(()) };
    let mut from = SocketAddr::new(source, 0);
    if let (SocketAddr::V6(from), SocketAddr::V6(to)) = (&mut from, to) {
        from.set_scope_id(to.scope_id());
    }
    socket.bind(&from.into())
}

/// The address of ours that what goes to `to` leaves from.
pub(super) fn local(to: SocketAddr, source: Option<IpAddr>) -> io::Result<IpAddr> {
    if let Some(source) = source {
        return Ok(source);
    }
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    // Nothing is sent; the port only must not be 0.
    let mut there = to;
    there.set_port(9);
    socket.connect(there)?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_no_resolver() {
        let address = |host, family| resolve(host, family).unwrap()[0].to_string();
        assert_eq!(address("192.0.2.7", Family::Any), "192.0.2.7:0");
        assert_eq!(address("2001:db8::7", Family::Any), "[2001:db8::7]:0");
        assert_eq!(address("[2001:db8::7]", Family::V6), "[2001:db8::7]:0");
        assert_eq!(address("fe80::7%1", Family::Any), "[fe80::7%1]:0");
    }

    #[test]
    fn a_host_without_the_family_is_an_error_that_says_so() {
        let e = resolve("192.0.2.7", Family::V6).unwrap_err();
        assert_eq!(e.to_string(), "192.0.2.7: has no IPv6 address");
        let e = resolve("2001:db8::7", Family::V4).unwrap_err();
        assert_eq!(e.to_string(), "2001:db8::7: has no IPv4 address");
    }

    #[test]
    fn private_addresses() {
        for text in [
            "10.0.0.1",
            "172.31.255.255",
            "192.168.1.5",
            "100.64.0.1",
            "100.127.255.255",
            "169.254.1.1",
            "127.0.0.1",
            "fd66::1",
            "fc00::1",
            "fe80::1",
            "::1",
        ] {
            assert!(is_private(text.parse().unwrap()), "{text}");
        }
        for text in [
            "192.0.2.7",
            "100.63.255.255",
            "100.128.0.0",
            "172.32.0.1",
            "8.8.8.8",
            "2001:db8::1",
            "2a00::1",
        ] {
            assert!(!is_private(text.parse().unwrap()), "{text}");
        }
    }
}
