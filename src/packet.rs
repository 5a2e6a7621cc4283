//! A frame -> an [`Arrival`]: link, IP and transport headers, and nothing behind them.

#![forbid(unsafe_code)]

use std::net::IpAddr;

use crate::time::Time;

/// What a captured frame begins with, by libpcap's DLT_ numbers
/// (pcap-linktype(7); the values that differ between systems are mapped in `capture`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// DLT_EN10MB: Ethernet, with any number of VLAN tags up to three.
    Ethernet,
    /// DLT_NULL and DLT_LOOP: four bytes of address family, of either byte order.
    Null,
    /// DLT_RAW: IPv4 or IPv6 at once.
    Raw,
    /// DLT_LINUX_SLL.
    Cooked,
    /// DLT_LINUX_SLL2.
    Cooked2,
}

/// One packet that could be part of a knock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When it was captured.
    pub time: Time,
    /// The sender, as the packet says.
    pub source: IpAddr,
    /// The address it was sent to.
    pub destination: IpAddr,
    /// What it carries.
    pub what: What,
}

/// The transport part of an [`Arrival`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
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
    },
}

/// Reads the headers of `frame`. `None` for everything that cannot be part of a knock: other
/// protocols, fragments but the first, headers cut short or inconsistent.
pub fn parse(time: Time, link: Link, frame: &[u8]) -> Option<Arrival> {
    let _ = (time, link, frame);
    unimplemented!()
}
