//! Networks and their notation.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A network, or a single address: what lies outside the prefix is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// A network; `None`: the prefix is longer than the address, or bits outside it are set.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Network> {
        let fits = prefix <= bits(address) && masked(address, prefix) == address;
        fits.then_some(Network { address, prefix })
    }

    /// The network of one address.
    pub fn host(address: IpAddr) -> Network {
        Network {
            address,
            prefix: bits(address),
        }
    }

    /// Whom a door lets in for a knock from this address: itself, or where `prefix6` is less
    /// than 128 the IPv6 network of that length that it lies in.
    ///
    /// Only of global unicast (2000::/3, RFC 4291) and unique local addresses (fc00::/7, RFC
    /// 4193) the first bits name a site. A link-local network is everybody on the link, and all
    /// of Teredo that uses one server has one /64 (2001::/32, RFC 4380): these are let in by
    /// their addresses alone.
    pub fn of_knocker(address: IpAddr, prefix6: u8) -> Network {
        match address {
            IpAddr::V6(a) if prefix6 < 128 && names_a_site(a) => Network {
                address: masked(address, prefix6),
                prefix: prefix6,
            },
            _ => Network::host(address),
        }
    }

    /// Its first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many bits its addresses have in common: at most 32 or 128.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether it is one address.
    pub fn is_host(&self) -> bool {
        self.prefix == bits(self.address)
    }

    /// Whether the address lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        bits(address) == bits(self.address) && masked(address, self.prefix) == self.address
    }
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Network {
        Network::host(address)
    }
}

/// As the packet filters write it: `192.0.2.7`, `192.0.2.0/24`.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_host() {
            true => write!(f, "{}", self.address),
            false => write!(f, "{}/{}", self.address, self.prefix),
        }
    }
}

impl std::str::FromStr for Network {
    type Err = ();

    /// `192.0.2.7`, `192.0.2.0/24`; not with bits set outside the prefix, and no v4-mapped
    /// addresses, which no packet has.
    fn from_str(text: &str) -> Result<Network, ()> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| ())?;
        let network = match prefix {
            Some(prefix) if prefix.bytes().all(|b| b.is_ascii_digit()) => {
                Network::new(address, prefix.parse().map_err(|_| ())?).ok_or(())?
            }
            Some(_) => return Err(()),
            None => Network::host(address),
        };
        match address.to_canonical() == address {
            true => Ok(network),
            false => Err(()),
        }
    }
}

/// In journals and answers it is what [`Display`](fmt::Display) shows.
impl Serialize for Network {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// What [`Display`](fmt::Display) shows, v4-mapped addresses included: a journal may hold them.
impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Network, D::Error> {
        let text = String::deserialize(from)?;
        let network = match text.split_once('/') {
            Some((address, prefix)) => address
                .parse()
                .ok()
                .zip(prefix.parse().ok())
                .and_then(|(address, prefix)| Network::new(address, prefix)),
            None => text.parse().ok().map(Network::host),
        };
        network.ok_or_else(|| serde::de::Error::custom("no address and no network"))
    }
}

/// Whether the first bits of an address tell whose it is.
fn names_a_site(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    let teredo = (first, second) == (0x2001, 0);
    (first & 0xe000 == 0x2000 && !teredo) || address.is_unique_local()
}

/// How many bits an address of this family has.
fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// An address with zeros outside a prefix that is no longer than it.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(a) => {
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            IpAddr::V4((u32::from(a) & mask).into())
        }
        IpAddr::V6(a) => {
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            IpAddr::V6((u128::from(a) & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knockers_are_let_in_by_networks_that_are_somebodys() {
        let of = |address: &str, prefix6| {
            Network::of_knocker(address.parse().unwrap(), prefix6).to_string()
        };
        for (address, prefix6, expected) in [
            ("2001:db8:1:2:aaaa::7", 64, "2001:db8:1:2::/64"),
            ("2001:db8:1:2:aaaa::7", 48, "2001:db8:1::/48"),
            ("2001:db8:1:2:aaaa::7", 127, "2001:db8:1:2:aaaa::6/127"),
            ("2001:db8:1:2:aaaa::7", 128, "2001:db8:1:2:aaaa::7"),
            ("3fff:1:2:3::1", 56, "3fff:1:2::/56"),
            ("fd12:3456:789a:1::1", 64, "fd12:3456:789a:1::/64"),
            // Everybody on the link, everybody at a Teredo server, all of the IPv4 Internet.
            ("fe80::7", 64, "fe80::7"),
            ("2001:0:cb00:7100::7", 64, "2001:0:cb00:7100::7"),
            ("64:ff9b::192.0.2.7", 64, "64:ff9b::c000:207"),
            ("::7", 64, "::7"),
            ("192.0.2.7", 64, "192.0.2.7"),
        ] {
            assert_eq!(of(address, prefix6), expected);
        }
    }

    #[cfg(feature = "daemon")] // which has serde_json
    #[test]
    fn what_is_written_is_read() {
        for text in [
            "192.0.2.7",
            "2001:db8:1:2::/64",
            "::ffff:192.0.2.7",
            "fe80::1",
        ] {
            let json = format!("\"{text}\"");
            let network: Network = serde_json::from_str(&json).unwrap();
            assert_eq!(serde_json::to_string(&network).unwrap(), json);
        }
        for bad in [
            "",
            "x",
            "2001:db8::1/64",
            "2001:db8::/129",
            "192.0.2.0/",
            "/64",
        ] {
            let json = format!("\"{bad}\"");
            assert!(serde_json::from_str::<Network>(&json).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_prefix_is_longer_than_its_address_and_no_bit_outside_is_set() {
        let new = |address: &str, prefix| Network::new(address.parse().unwrap(), prefix);
        for (address, most) in [("192.0.2.7", 32), ("2001:db8::7", 128)] {
            let host = Network::host(address.parse().unwrap());
            assert_eq!(new(address, most), Some(host));
            assert_eq!(
                (host.prefix(), host.to_string()),
                (most, address.to_owned())
            );
            for wrong in [most + 1, u8::MAX, most - 1, 0] {
                assert_eq!(new(address, wrong), None, "{address}/{wrong}");
            }
        }
        for (all, within, other) in [("0.0.0.0", "10.9.8.7", "::"), ("::", "fe80::1", "0.0.0.0")] {
            let all = new(all, 0).unwrap();
            assert!(all.contains(within.parse().unwrap()));
            assert!(!all.contains(other.parse().unwrap()));
        }
    }
}
