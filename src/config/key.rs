//! Who may knock by single packets, and what pings carry.

use std::fmt;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::{Carrier, Network, Port, Secret};

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
