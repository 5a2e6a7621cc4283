//! A frame -> an [`Arrival`]: link, IP and transport headers. What a datagram or an echo request
//! carries is passed on as it is.

#![forbid(unsafe_code)]

use std::net::IpAddr;

use etherparse::{
    EtherType, Ethernet2HeaderSlice, IpAuthHeaderSlice, IpNumber, Ipv4HeaderSlice,
    Ipv6FragmentHeaderSlice, Ipv6HeaderSlice, Ipv6RawExtHeaderSlice, SingleVlanHeaderSlice,
    ether_type, ip_number,
};

use crate::time::Time;

#[cfg(test)]
pub(crate) mod frames;
#[cfg(test)]
mod tests;

/// How many VLAN tags an Ethernet or cooked frame may carry.
pub const MAX_TAGS: usize = 3;

/// How many IPv6 extension headers are walked. RFC 8200, 4.1 puts at most six before TCP or UDP
/// (ESP, the seventh, hides them).
pub const MAX_EXTENSIONS: usize = 8;

/// What a captured frame begins with, by libpcap's DLT_ numbers
/// (pcap-linktype(7); the values that differ between systems are mapped in `capture`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// DLT_EN10MB: Ethernet, with up to [`MAX_TAGS`] VLAN tags.
    Ethernet,
    /// DLT_NULL and DLT_LOOP: four bytes of address family, of either byte order.
    Null,
    /// DLT_RAW, DLT_IPV4, DLT_IPV6: IPv4 or IPv6 at once.
    Raw,
    /// DLT_LINUX_SLL: 16 bytes, the last two an EtherType.
    Cooked,
    /// DLT_LINUX_SLL2: 20 bytes, the first two an EtherType.
    Cooked2,
}

impl Link {
    /// Every link type.
    pub const ALL: [Link; 5] = [
        Link::Ethernet,
        Link::Null,
        Link::Raw,
        Link::Cooked,
        Link::Cooked2,
    ];
}

/// One packet that could be part of a knock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival<'f> {
    /// When it was captured.
    pub time: Time,
    /// The sender, as the packet says.
    pub source: IpAddr,
    /// The address it was sent to.
    pub destination: IpAddr,
    /// What it carries.
    pub what: What<'f>,
}

impl Arrival<'_> {
    /// Without what it carries, which steps of sequences are not asked for.
    pub fn bare(&self) -> Arrival<'static> {
        Arrival {
            time: self.time,
            source: self.source,
            destination: self.destination,
            what: match self.what {
                What::Tcp { port, flags } => What::Tcp { port, flags },
                What::Udp { port, .. } => What::Udp { port, payload: &[] },
                What::Echo { .. } => What::Echo { payload: &[] },
            },
        }
    }
}

/// The transport part of an [`Arrival`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What<'f> {
    /// A TCP segment: destination port and the flag byte (RFC 9293, 3.1: FIN is bit 0).
    Tcp {
        /// Destination port.
        port: u16,
        /// CWR ECE URG ACK PSH RST SYN FIN, FIN being bit 0.
        flags: u8,
    },
    /// A UDP datagram.
    Udp {
        /// Destination port.
        port: u16,
        /// What it carries, as much as was captured; nothing if more fragments follow.
        payload: &'f [u8],
    },
    /// An ICMP or ICMPv6 echo request, no fragment.
    Echo {
        /// What follows its sequence number, as much as was captured.
        payload: &'f [u8],
    },
}

/// Reads the headers of `frame`. `None` for everything that cannot be part of a knock: other
/// protocols, fragments but the first, headers cut short or inconsistent.
///
/// The frame may have been cut at any length by the capture; it must hold a TCP header up to its
/// flags, a UDP header up to its length or an ICMP header. What the headers say of lengths must be consistent as
/// it would have to be for a kernel to take the packet.
///
/// Checksums are not verified: a packet whose sender leaves them to its interface and that never
/// crosses one (loopback, veth, epair, a bridge) is captured before they are filled in, IPv4's on
/// FreeBSD included, and TCP's and UDP's cover more than is captured.
pub fn parse(time: Time, link: Link, frame: &[u8]) -> Option<Arrival<'_>> {
    let (network, packet) = network(link, frame)?;
    let (source, destination, what) = match network {
        Network::V4 => ipv4(packet)?,
        Network::V6 => ipv6(packet)?,
    };
    Some(Arrival {
        time,
        source,
        destination,
        what,
    })
}

enum Network {
    V4,
    V6,
}

impl Network {
    fn from_ether_type(ether_type: EtherType) -> Option<Network> {
        match ether_type {
            ether_type::IPV4 => Some(Network::V4),
            ether_type::IPV6 => Some(Network::V6),
            _ => None,
        }
    }

    /// By the address family of DLT_NULL and DLT_LOOP: AF_INET is 2 everywhere, AF_INET6 is 10
    /// on Linux, 24 on NetBSD and OpenBSD, 28 on FreeBSD, 30 on macOS (pcap-linktype(7)).
    fn from_family(family: u32) -> Option<Network> {
        match family {
            2 => Some(Network::V4),
            10 | 24 | 28 | 30 => Some(Network::V6),
            _ => None,
        }
    }
}

/// Strips the link header.
fn network(link: Link, frame: &[u8]) -> Option<(Network, &[u8])> {
    match link {
        Link::Ethernet => {
            let header = Ethernet2HeaderSlice::from_slice(frame).ok()?;
            untagged(header.ether_type(), &frame[header.slice().len()..])
        }
        Link::Null => {
            let (&family, packet) = frame.split_first_chunk()?;
            let network = Network::from_family(u32::from_le_bytes(family))
                .or_else(|| Network::from_family(u32::from_be_bytes(family)))?;
            Some((network, packet))
        }
        Link::Raw => match frame.first()? >> 4 {
            4 => Some((Network::V4, frame)),
            6 => Some((Network::V6, frame)),
            _ => None,
        },
        Link::Cooked => {
            let (header, packet) = frame.split_first_chunk::<16>()?;
            untagged(
                EtherType(u16::from_be_bytes([header[14], header[15]])),
                packet,
            )
        }
        Link::Cooked2 => {
            let (header, packet) = frame.split_first_chunk::<20>()?;
            untagged(
                EtherType(u16::from_be_bytes([header[0], header[1]])),
                packet,
            )
        }
    }
}

/// Strips VLAN tags.
fn untagged(mut ether_type: EtherType, mut rest: &[u8]) -> Option<(Network, &[u8])> {
    for _ in 0..MAX_TAGS {
        match ether_type {
            ether_type::VLAN_TAGGED_FRAME
            | ether_type::PROVIDER_BRIDGING
            | ether_type::VLAN_DOUBLE_TAGGED_FRAME => {
                let tag = SingleVlanHeaderSlice::from_slice(rest).ok()?;
                ether_type = tag.ether_type();
                rest = &rest[tag.slice().len()..];
            }
            _ => break,
        }
    }
    Some((Network::from_ether_type(ether_type)?, rest))
}

/// What an IP header carries.
struct Payload<'a> {
    /// As much of it as was captured, nothing beyond its end.
    bytes: &'a [u8],
    /// How long the headers say it is.
    len: usize,
    /// Whether more fragments follow.
    fragment: bool,
}

impl<'a> Payload<'a> {
    /// `rest` is what follows a header in the frame, which may be padded beyond `len`.
    fn new(rest: &'a [u8], len: usize) -> Payload<'a> {
        Payload {
            bytes: &rest[..len.min(rest.len())],
            len,
            fragment: false,
        }
    }

    /// Skips a header of `n` bytes.
    fn skip(&mut self, n: usize) -> Option<()> {
        self.len = self.len.checked_sub(n)?;
        self.bytes = self.bytes.get(n..)?;
        Some(())
    }
}

fn ipv4(packet: &[u8]) -> Option<(IpAddr, IpAddr, What<'_>)> {
    let header = Ipv4HeaderSlice::from_slice(packet).ok()?;
    if header.fragments_offset().value() != 0 {
        return None;
    }
    let header_len = header.slice().len();
    let len = usize::from(header.total_len()).checked_sub(header_len)?;
    let mut payload = Payload::new(&packet[header_len..], len);
    payload.fragment = header.more_fragments();
    Some((
        header.source_addr().into(),
        header.destination_addr().into(),
        match header.protocol() {
            ip_number::ICMP => echo(&payload, ECHO)?,
            protocol => transport(protocol, &payload)?,
        },
    ))
}

fn ipv6(packet: &[u8]) -> Option<(IpAddr, IpAddr, What<'_>)> {
    let header = Ipv6HeaderSlice::from_slice(packet).ok()?;
    let len = usize::from(header.payload_length());
    let mut payload = Payload::new(&packet[header.slice().len()..], len);
    let mut next = header.next_header();
    let mut fragmented = false;
    for walked in 0..=MAX_EXTENSIONS {
        next = match next {
            // Only first: RFC 8200, 4.1.
            ip_number::IPV6_HOP_BY_HOP if walked == 0 => options(&mut payload)?,
            ip_number::IPV6_DEST_OPTIONS => options(&mut payload)?,
            ip_number::IPV6_ROUTE => {
                // Segments left: this is not where the packet ends. RFC 8200, 4.4.
                if *payload.bytes.get(3)? != 0 {
                    return None;
                }
                options(&mut payload)?
            }
            ip_number::IPV6_FRAG => {
                let fragment = Ipv6FragmentHeaderSlice::from_slice(payload.bytes).ok()?;
                if fragmented || fragment.fragment_offset().value() != 0 {
                    return None;
                }
                fragmented = true;
                payload.fragment = fragment.more_fragments();
                payload.skip(fragment.slice().len())?;
                fragment.next_header()
            }
            ip_number::AUTH => {
                let auth = IpAuthHeaderSlice::from_slice(payload.bytes).ok()?;
                payload.skip(auth.slice().len())?;
                auth.next_header()
            }
            _ => {
                return Some((
                    header.source_addr().into(),
                    header.destination_addr().into(),
                    match next {
                        ip_number::IPV6_ICMP => echo(&payload, ECHO_6)?,
                        next => transport(next, &payload)?,
                    },
                ));
            }
        };
    }
    None
}

/// Skips a header of RFC 8200's common form and gives the type of the next.
fn options(payload: &mut Payload) -> Option<IpNumber> {
    let header = Ipv6RawExtHeaderSlice::from_slice(payload.bytes).ok()?;
    payload.skip(header.slice().len())?;
    Some(header.next_header())
}

fn transport<'f>(protocol: IpNumber, payload: &Payload<'f>) -> Option<What<'f>> {
    let what = match protocol {
        ip_number::TCP => tcp(payload)?,
        ip_number::UDP => udp(payload)?,
        _ => return None,
    };
    Some(what)
}

/// RFC 9293, 3.1. The header must end inside the packet, in its first fragment too.
fn tcp<'f>(payload: &Payload<'f>) -> Option<What<'f>> {
    let header = payload.bytes.first_chunk::<14>()?;
    let header_len = usize::from(header[12] >> 4) * 4;
    if header_len < 20 || header_len > payload.len {
        return None;
    }
    Some(What::Tcp {
        port: port(header[2], header[3])?,
        flags: header[13],
    })
}

/// RFC 768. The length must fit what IP carries; that of a first fragment is of the whole.
fn udp<'f>(payload: &Payload<'f>) -> Option<What<'f>> {
    let header = payload.bytes.first_chunk::<6>()?;
    let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if len < 8 || payload.len < 8 || (len > payload.len && !payload.fragment) {
        return None;
    }
    let within = match payload.fragment {
        true => &[],
        false => &payload.bytes[..len.min(payload.bytes.len())],
    };
    Some(What::Udp {
        port: port(header[2], header[3])?,
        payload: within.get(8..).unwrap_or_default(),
    })
}

/// Types of echo requests: RFC 792, RFC 4443, 4.1. Their code is 0.
const ECHO: u8 = 8;
const ECHO_6: u8 = 128;

/// RFC 792, RFC 4443, 4.1: type, code, checksum, identifier, sequence number, data.
fn echo<'f>(payload: &Payload<'f>, request: u8) -> Option<What<'f>> {
    let (header, data) = payload.bytes.split_first_chunk::<8>()?;
    (!payload.fragment && header[..2] == [request, 0]).then_some(What::Echo { payload: data })
}

/// A destination port; nothing listens on 0.
fn port(high: u8, low: u8) -> Option<u16> {
    match u16::from_be_bytes([high, low]) {
        0 => None,
        port => Some(port),
    }
}
