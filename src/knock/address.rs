//! Addresses: who can knock, and how the table of attempts holds them.

use std::net::{IpAddr, Ipv6Addr};

use super::table::Source;

/// Whether anybody can knock from this address.
///
/// Not from 0.0.0.0/8 (RFC 1122, 3.2.1.3), loopback, multicast or broadcast, from ::/96
/// (unspecified, loopback, and the IPv4-compatible addresses that RFC 4291, 2.5.5.1 took out of
/// use) or from a v4-mapped address, which is none on the wire. 240.0.0.0/4 is reserved, but
/// Linux routes it and there are networks that use it. One of our own addresses is as good as
/// any: a host may knock at itself.
pub fn can_knock(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => {
            !(a.octets()[0] == 0 || a.is_loopback() || a.is_multicast() || a.is_broadcast())
        }
        IpAddr::V6(a) => {
            let compatible = a.to_bits() >> 32 == 0;
            !(compatible || a.is_multicast() || a.to_ipv4_mapped().is_some())
        }
    }
}

pub(super) fn pack(address: IpAddr) -> Source {
    let bits = match address {
        IpAddr::V4(a) => a.to_ipv6_mapped().to_bits(),
        IpAddr::V6(a) => a.to_bits(),
    };
    [
        (bits >> 96) as u32,
        (bits >> 64) as u32,
        (bits >> 32) as u32,
        bits as u32,
    ]
}

pub(super) fn unpack(source: &Source) -> IpAddr {
    let bits = source
        .iter()
        .fold(0, |bits, &word| bits << 32 | u128::from(word));
    IpAddr::V6(Ipv6Addr::from_bits(bits)).to_canonical()
}
