//! Keys of single-packet authorization, and other secrets that are bytes.

use std::fmt;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::{Network, Port};

/// The hash of a packet's HMAC: fwknop's HMAC_DIGEST_TYPE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mac {
    /// HMAC-SHA256, fwknop's default.
    Sha256,
    /// HMAC-SHA512.
    Sha512,
}

/// What somebody who knocks by single packets and this machine share.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// fwknop's KEY_BASE64, decoded: a passphrase from which each packet's AES key is derived.
    pub cipher: Vec<u8>,
    /// fwknop's HMAC_KEY_BASE64, decoded.
    pub hmac: Vec<u8>,
    /// fwknop's HMAC_DIGEST_TYPE.
    pub mac: Mac,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({:?})", self.mac)
    }
}

/// The 16 bytes that a ping carries: as many as `ping -p` takes. Compared in constant time.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Pattern(pub [u8; 16]);

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pattern")
    }
}

/// Where packets of single-packet authorization are heard. Written `62201/udp` or `icmp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Carrier {
    /// A datagram to this port.
    Udp(u16),
    /// An ICMP or ICMPv6 echo request.
    Icmp,
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Carrier::Udp(port) => write!(f, "{port}/udp"),
            Carrier::Icmp => f.write_str("icmp"),
        }
    }
}

/// `[key.NAME]`: somebody's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Made as doors' names are.
    pub name: String,
    /// `owner`: whose it is, for people.
    pub owner: Option<String>,
    /// `cipher_key`, `hmac_key`, `hmac`.
    pub secret: Secret,
    /// `doors`: what it opens, by place, in the order of the file, each once. At least one.
    pub doors: Vec<u16>,
    /// `ports`: what its requests may name; `None`: what its doors open.
    pub ports: Option<Vec<Port>>,
    /// `from`: for whom it opens; empty: for any address.
    pub from: Vec<Network>,
    /// `observed`: whether a request may be for "whatever the packet came from".
    pub observed: bool,
    /// `allowance`: grants an hour, and at once.
    pub allowance: usize,
    /// `carriers`: where its packets are heard. At least one, each once.
    pub carriers: Vec<Carrier>,
}
