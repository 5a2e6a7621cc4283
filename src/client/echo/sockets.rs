//! Echo requests from a socket of ours.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

use super::super::address;
use super::{Error, Sent};

/// Echo request in ICMP (RFC 792) and in ICMPv6 (RFC 4443).
const REQUEST: [u8; 2] = [8, 128];

/// Bytes of an echo message before its payload.
const HEADER: usize = 8;

pub(super) fn send(to: SocketAddr, source: Option<IpAddr>, payload: &[u8]) -> Result<Sent, Error> {
    let socket = open(to)?;
    address::bind(&socket, to, source)?;
    let mut there = to;
    there.set_port(0);
    socket.send_to(&request(to.is_ipv6(), payload)?, &there.into())?;
    Ok(Sent(None))
}

/// One of those that users may have, else a raw one.
fn open(to: SocketAddr) -> Result<Socket, Error> {
    let protocol = match to {
        SocketAddr::V4(_) => Protocol::ICMPV4,
        SocketAddr::V6(_) => Protocol::ICMPV6,
    };
    let open = |kind| Socket::new(Domain::for_address(to), kind, Some(protocol));
    open(Type::DGRAM)
        .or_else(|_| open(Type::from(libc::SOCK_RAW)))
        .map_err(|e| match e.kind() {
            io::ErrorKind::PermissionDenied => Error::Denied,
            _ => Error::Unsent(e),
        })
}

/// Type, code, checksum, identifier, sequence number, payload.
fn request(v6: bool, payload: &[u8]) -> io::Result<Vec<u8>> {
    let mut message = vec![0; HEADER];
    message[0] = REQUEST[usize::from(v6)];
    getrandom::fill(&mut message[4..6]).map_err(io::Error::other)?;
    message[7] = 1;
    message.extend_from_slice(payload);
    // In ICMPv6 it covers addresses, too: the kernel's, always (RFC 3542 3.1).
    if !v6 {
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    Ok(message)
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1071, 3: the bytes 00 01 f2 03 f4 f5 f6 f7 sum up to ddf2.
    #[test]
    fn the_checksum_is_that_of_the_rfc() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&bytes), !0xddf2);
        assert_eq!(checksum(&[0x01]), !0x0100);
    }

    #[test]
    fn a_request_sums_up_to_nothing() {
        for payload in [&b""[..], b"x", &[0xff; 1472]] {
            let message = request(false, payload).unwrap();
            assert_eq!(checksum(&message), 0);
            assert_eq!((message[0], message[1], message[7]), (8, 0, 1));
            assert_eq!(&message[8..], payload);
        }
        let message = request(true, b"x").unwrap();
        assert_eq!((message[0], &message[1..4]), (128, &[0; 3][..]));
    }
}
