//! The line of text inside a packet:
//!
//! ```text
//! random:B64(user):time:version:type:B64(address,proto/port[,proto/port...])[:timeout]:digest
//! ```

use std::net::{IpAddr, Ipv4Addr};

use base64ct::{Base64Unpadded, Encoding};
use sha2::{Digest, Sha256};

use super::{Request, Whom};
use crate::config::{Port, Protocol};

/// How many ports a request may name: so many fit into 255 bytes (fwknop's
/// MAX_SPA_MESSAGE_SIZE) behind the longest address.
pub const MOST_PORTS: usize = 21;

/// The longest time that a request may ask for, in seconds: fwknop's limit.
pub const MOST_LASTS: u32 = 1 << 16;

/// The version that we write: FKO_PROTOCOL_VERSION of fwknop 2.6.
const VERSION: &str = "3.0.0";

/// Digits of the random number (FKO_RAND_VAL_SIZE).
const RANDOM: usize = 16;
/// fwknop's client cuts a user's name to this.
const USER: usize = 63;
/// Of the name that we write: fwknopd accepts no more than 64 characters of base64.
const OUR_USER: usize = 48;
/// Digits of the time (MAX_SPA_TIMESTAMP_SIZE).
const TIME: usize = 12;
/// Characters of the version (MAX_SPA_VERSION_SIZE).
const VERSION_TEXT: usize = 8;
/// Bytes of the message (MAX_SPA_MESSAGE_SIZE, less one).
const MESSAGE: usize = 255;
/// Digits of the timeout.
const LASTS: usize = 5;
/// Characters of a digest: MD5's, SHA-1's, SHA-256's, SHA-384's, SHA-512's.
const DIGESTS: [usize; 5] = [22, 27, 43, 64, 86];

/// Access, and access with a timeout.
const ACCESS: &str = "1";
const ACCESS_TIMEOUT: &str = "3";

/// The longest line with all its colons.
pub(super) const LONGEST: usize = (RANDOM + 1)
    + (base64(USER) + 1)
    + (TIME + 1)
    + (VERSION_TEXT + 1)
    + (1 + 1)
    + (base64(MESSAGE) + 1)
    + (LASTS + 1)
    + DIGESTS[4];

/// How many characters so many bytes have in base64 without padding.
pub(super) const fn base64(bytes: usize) -> usize {
    (bytes * 4).div_ceil(3)
}

/// The line of a request.
pub(super) fn write(request: &Request, random: &[u8; 16]) -> String {
    let number = u128::from_be_bytes(*random) % 10u128.pow(RANDOM as u32);
    let user = Base64Unpadded::encode_string(user(&request.user).as_bytes());
    let time = request.time.min(10u64.pow(TIME as u32) - 1);
    let mut message = match request.whom {
        Whom::Observed => Ipv4Addr::UNSPECIFIED.to_string(),
        Whom::Address(address) => address.to_string(),
    };
    for port in request.ports.iter().take(MOST_PORTS) {
        let protocol = match port.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        message += &format!(",{protocol}/{}", port.number);
    }
    let message = Base64Unpadded::encode_string(message.as_bytes());
    let (kind, lasts) = match request.lasts.filter(|&lasts| lasts > 0) {
        Some(lasts) => (ACCESS_TIMEOUT, format!(":{}", lasts.min(MOST_LASTS))),
        None => (ACCESS, String::new()),
    };
    let line = format!("{number:016}:{user}:{time}:{VERSION}:{kind}:{message}{lasts}");
    let digest = Base64Unpadded::encode_string(&Sha256::digest(&line));
    format!("{line}:{digest}")
}

/// A user's name as fwknop lets it be.
fn user(name: &str) -> String {
    let allowed = |c: char| c == ' ' || c.is_ascii_graphic() && !"\"/\\[]:;|=,+*?<>".contains(c);
    let clean = |c: char| if allowed(c) { c } else { '_' };
    let name: String = name.chars().take(OUR_USER).map(clean).collect();
    match name.is_empty() {
        true => "NO_USER".to_owned(),
        false => name,
    }
}

/// The request on a line; `None`: it is none, or none of those that are accepted.
pub(super) fn read(line: &[u8]) -> Option<Request> {
    let line = std::str::from_utf8(line).ok()?;
    let mut fields = line.split(':');
    let mut field = || fields.next();
    digits(field()?, RANDOM, RANDOM)?;
    let user = decoded(field()?, USER)?;
    let time = digits(field()?, 1, TIME)?;
    version(field()?)?;
    let kind = field()?;
    let message = decoded(field()?, MESSAGE)?;
    let lasts = match kind {
        ACCESS => 0,
        ACCESS_TIMEOUT => u32::try_from(digits(field()?, 1, LASTS)?).ok()?,
        _ => return None,
    };
    let digest = field()?;
    if field().is_some() || lasts > MOST_LASTS || !is_digest(digest) {
        return None;
    }
    let printable = |text: &str| text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    if user.is_empty() || !printable(&user) {
        return None;
    }
    let (whom, ports) = access(&message)?;
    Some(Request {
        whom,
        ports,
        time,
        lasts: (lasts > 0).then_some(lasts),
        user,
    })
}

/// A number of `least` to `most` digits.
fn digits(text: &str, least: usize, most: usize) -> Option<u64> {
    let fits = (least..=most).contains(&text.len());
    (fits && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

/// Text of at most so many bytes.
fn decoded(text: &str, most: usize) -> Option<String> {
    if text.len() > base64(most) {
        return None;
    }
    let bytes = Base64Unpadded::decode_vec(text).ok()?;
    String::from_utf8(bytes).ok()
}

/// 2.0 to 3.0.0.
fn version(text: &str) -> Option<()> {
    let mut parts = text.splitn(3, '.');
    let mut part = || parts.next().map(|part| digits(part, 1, 3));
    let (major, minor, patch) = (part()??, part()??, part().unwrap_or(Some(0))?);
    let known = (2, 0, 0)..=(3, 0, 0);
    (text.len() <= VERSION_TEXT && known.contains(&(major, minor, patch))).then_some(())
}

fn is_digest(text: &str) -> bool {
    let base64 = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    DIGESTS.contains(&text.len()) && text.bytes().all(base64)
}

/// `192.0.2.7,tcp/22,udp/53`.
fn access(message: &str) -> Option<(Whom, Vec<Port>)> {
    let (address, ports) = message.split_once(',')?;
    let whom = match address.parse().ok()? {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Whom::Observed,
        address => Whom::Address(address),
    };
    let ports: Option<Vec<Port>> = ports.split(',').map(port).collect();
    Some((whom, ports?))
}

/// `tcp/22`. fwknop lets zeros stand before a number.
fn port(text: &str) -> Option<Port> {
    let (protocol, number) = text.split_once('/')?;
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return None,
    };
    let number = u16::try_from(digits(number, 1, 5)?).ok()?;
    (number != 0).then_some(Port { protocol, number })
}
