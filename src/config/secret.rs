//! What both ends of single-packet authorization are told: keys, which are fwknop's KEY_BASE64
//! and HMAC_KEY_BASE64, and what carries the packets.

use std::fmt;
use std::ops::RangeInclusive;

use base64ct::{Base64, Encoding};
use serde::{Deserialize, Serialize};

use super::mistake::{Wrong, quote};
use super::{Port, Protocol};

/// How many bytes a key has at least and at most. fwknop takes shorter ones, too, which can be
/// guessed; HMAC keys no longer than this.
pub const KEY: RangeInclusive<usize> = 16..=128;

/// The same of cipher keys: fwknop takes no longer ones (RIJNDAEL_MAX_KEYSIZE).
pub const CIPHER_KEY: RangeInclusive<usize> = 16..=32;

/// The kind of HMAC: fwknop's HMAC_DIGEST_TYPE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mac {
    /// HMAC-SHA256, fwknop's default.
    #[default]
    Sha256,
    /// HMAC-SHA512.
    Sha512,
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mac::Sha256 => "sha256",
            Mac::Sha512 => "sha512",
        })
    }
}

impl std::str::FromStr for Mac {
    type Err = Wrong;

    /// `sha256`, `sha512`.
    fn from_str(text: &str) -> Result<Mac, Wrong> {
        match text {
            "sha256" => Ok(Mac::Sha256),
            "sha512" => Ok(Mac::Sha512),
            _ => Err(Wrong::new(
                format!("{} is no kind of HMAC", quote(text)),
                "write \"sha256\" or \"sha512\"",
            )),
        }
    }
}

/// What both ends of single-packet authorization know.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// What AES keys are made of: [`CIPHER_KEY`] bytes.
    pub cipher: Vec<u8>,
    /// The HMAC's key: [`KEY`] bytes.
    pub hmac: Vec<u8>,
    /// The kind of HMAC.
    pub mac: Mac,
}

/// Shows no byte of the keys.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.mac)
    }
}

/// What carries a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Carrier {
    /// A datagram to this UDP port.
    Udp(u16),
    /// The data of an ICMP or ICMPv6 echo request.
    Icmp,
}

impl Carrier {
    /// The port, unless it is an echo request.
    pub fn port(self) -> Option<Port> {
        match self {
            Carrier::Udp(number) => Some(Port {
                protocol: Protocol::Udp,
                number,
            }),
            Carrier::Icmp => None,
        }
    }
}

/// `62201/udp`, `icmp`.
impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Carrier::Udp(number) => write!(f, "{number}/udp"),
            Carrier::Icmp => f.write_str("icmp"),
        }
    }
}

impl std::str::FromStr for Carrier {
    type Err = Wrong;

    /// `62201/udp`, `icmp`.
    fn from_str(text: &str) -> Result<Carrier, Wrong> {
        if text == "icmp" {
            return Ok(Carrier::Icmp);
        }
        match text.parse::<Port>() {
            Ok(port) if port.protocol == Protocol::Udp => Ok(Carrier::Udp(port.number)),
            _ => Err(Wrong::new(
                format!("{} carries no packets", quote(text)),
                "write \"icmp\", or a port of UDP, such as \"62201/udp\"",
            )),
        }
    }
}

/// Reads an HMAC key as `fwknop --key-gen` prints it: standard base64 with its padding, nothing
/// else, of 16 to 128 bytes. What is wrong is said without a character of it.
pub fn key_from_base64(text: &str) -> Result<Vec<u8>, Wrong> {
    key(text, KEY)
}

/// Reads a cipher key: as [`key_from_base64`], but of 16 to 32 bytes.
pub fn cipher_key_from_base64(text: &str) -> Result<Vec<u8>, Wrong> {
    key(text, CIPHER_KEY)
}

fn key(text: &str, bounds: RangeInclusive<usize>) -> Result<Vec<u8>, Wrong> {
    const RIGHT: &str = "write a key as fwknop --key-gen prints it";
    let key = Base64::decode_vec(text).map_err(|_| Wrong::new("it is no base64", RIGHT))?;
    match bounds.contains(&key.len()) {
        true => Ok(key),
        false => Err(Wrong::new(
            format!(
                "it has {} bytes, not {} to {}",
                key.len(),
                bounds.start(),
                bounds.end()
            ),
            RIGHT,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_as_fwknop_prints_them() {
        let cipher = "tXtpsH9GYg26FryP5Gkt/Ts3+EoL6WkxV5Xq1jo8bGk=";
        let hmac = "65j/BXqUALddLOvAy773VajC/0vzZpVapcr8yWCk3T/7Yba0RyVATkr2N9Q3JKX2vflI8gPzWXgs\
                    swDybPB5ug==";
        assert_eq!(cipher_key_from_base64(cipher).unwrap().len(), 32);
        assert_eq!(
            cipher_key_from_base64(cipher).unwrap()[..3],
            [181, 123, 105]
        );
        assert_eq!(key_from_base64(hmac).unwrap().len(), 64);
    }

    #[test]
    fn other_forms_and_lengths_are_refused_and_not_shown() {
        let said = |text: &str| key_from_base64(text).unwrap_err().to_string();
        let right = "write a key as fwknop --key-gen prints it";
        for text in [
            "AAAAAAAAAAAAAAAAAAAAAA",
            "AAAAAAAAAAAAAAAAAAAAAA=",
            "AAAAAAAAAAAAAAAAAAAAAA===",
            "AAAAAAAAAAAAAAAAAAAAAB==",
            "AAAAAAAAAAAAAAAAAAAAAA==\n",
            " AAAAAAAAAAAAAAAAAAAAAA==",
            "AAAAAAAAAAAAAAAAAAAAA_==",
            "AAAAAAAAAAAA\u{e4}AAAAAAAA==",
        ] {
            assert_eq!(said(text), format!("it is no base64; {right}"));
        }
        let of = |len: usize| Base64::encode_string(&vec![7; len]);
        for (len, most) in [(16, 32), (32, 32), (33, 128), (128, 128)] {
            assert_eq!(key_from_base64(&of(len)), Ok(vec![7; len]));
            assert_eq!(cipher_key_from_base64(&of(len)).is_ok(), most == 32);
        }
        for len in [0, 1, 15, 129] {
            let wrong = format!("it has {len} bytes, not 16 to 128; {right}");
            assert_eq!(said(&of(len)), wrong);
        }
    }

    #[test]
    fn kinds_of_hmac() {
        for mac in [Mac::Sha256, Mac::Sha512] {
            assert_eq!(mac.to_string().parse(), Ok(mac));
        }
        let wrong = "md5".parse::<Mac>().unwrap_err().to_string();
        assert_eq!(
            wrong,
            "\"md5\" is no kind of HMAC; write \"sha256\" or \"sha512\""
        );
    }

    #[test]
    fn carriers() {
        for (text, carrier) in [
            ("icmp", Carrier::Icmp),
            ("1/udp", Carrier::Udp(1)),
            ("62201/udp", Carrier::Udp(62201)),
        ] {
            assert_eq!(text.parse(), Ok(carrier));
            assert_eq!(carrier.to_string(), text);
        }
        for text in [
            "",
            "ICMP",
            "62201",
            "62201/tcp",
            "0/udp",
            "65536/udp",
            "udp",
        ] {
            let wrong = text.parse::<Carrier>().unwrap_err().to_string();
            let right = "write \"icmp\", or a port of UDP, such as \"62201/udp\"";
            assert_eq!(wrong, format!("{text:?} carries no packets; {right}"));
        }
    }

    #[test]
    fn nothing_of_a_secret_is_shown() {
        let secret = Secret {
            cipher: vec![251; 32],
            hmac: vec![252; 64],
            mac: Mac::Sha512,
        };
        assert_eq!(format!("{secret:?}"), "Secret(sha512)");
    }
}
