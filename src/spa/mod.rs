//! Single-packet authorization: requests -> packets, and packets -> requests where the key is
//! right. The format is fwknop's, so that its clients, on whatever system, are understood:
//!
//! ```text
//! payload = B64("Salted__" | salt | CT) without its first 10 characters | B64(HMAC)
//! HMAC    = over B64("Salted__" | salt | CT), with those 10
//! CT      = AES-256-CBC with PKCS#7 padding; key and IV by MD5 from cipher key and salt
//! ```
//!
//! No base64 here has padding. Inside stands a line of text; see `text.rs`.
//!
//! | file | what |
//! |---|---|
//! | `sealed.rs` | a line of text -> a payload; a payload's shape, its HMAC, the line again |
//! | `text.rs` | a request -> its line, and back |
//!
//! What is accepted is less than fwknopd accepts:
//!
//! - An HMAC is required, SHA256's or SHA512's. Without one fwknop's packets can be varied and
//!   sent again.
//! - Base64 has one form: no padding, no stray bits, no other characters.
//! - Access requests with and without a timeout (types 1 and 3) for ports of TCP and UDP. All
//!   others are refused: commands (0) since strangers' text is never run, NAT (2, 4, 5, 6) since
//!   what is forwarded where is the packet filter's own configuration. Server authentication,
//!   which no client of today sends, is refused with them.
//! - The digest inside is looked at by its form alone. All that it covers stands under the HMAC,
//!   to which it adds nothing; and SHA-3 digests, which fwknop has as well, cannot be told from
//!   SHA-2's by their length.
//!
//! An address may be IPv6's, which fwknop has not.

#![forbid(unsafe_code)]

use std::net::IpAddr;

pub use crate::config::secret::{Carrier, Mac, Secret, cipher_key_from_base64, key_from_base64};

use crate::config::{Port, bounds};

pub use sealed::{LONGEST, Opener, Proof, SHORTEST, Shaped, longest, seal, seal_text, shape};
pub use text::{MOST_LASTS, MOST_PORTS};

mod sealed;
#[cfg(test)]
mod tests;
mod text;

/// The UDP port that fwknop sends to unless it is told another.
pub const PORT: u16 = bounds::SPA_PORT;

/// Who shall be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// `0.0.0.0`: whatever address the packet came from. Whoever can hold a packet back can send
    /// it from another.
    Observed,
    /// This address.
    Address(IpAddr),
}

/// What a packet asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who shall be let in.
    pub whom: Whom,
    /// To which ports: at least one. We ask for [`MOST_PORTS`] at most; others for as many as 255
    /// bytes hold.
    pub ports: Vec<Port>,
    /// When it was made, in seconds since the Unix epoch, by the clock of whoever made it.
    pub time: u64,
    /// For how long, in seconds, 1 to [`MOST_LASTS`]; `None`: as the door has it.
    pub lasts: Option<u32>,
    /// The name of the user who made it, as his system has it: 1 to 63 printable characters of
    /// ASCII. Nothing is decided by it. We write 48 at most, and `_` for those that fwknop has not.
    pub user: String,
}
