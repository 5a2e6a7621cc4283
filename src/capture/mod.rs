//! libpcap: an interface or a capture file -> frames; the kernel filter made from the doors.

use pcap::{Linktype, Packet};

use crate::config::{Port, TcpFlags};
use crate::packet::Link;
use crate::time::Time;

mod file;
mod filter;
mod live;

pub use file::File;
pub use live::{Live, Stats};

/// The most instructions FreeBSD's kernel takes (net.bpf.maxinsns). Longer programs are run by
/// libpcap in user space without a word, or the one before silently stays.
pub const MAX_INSTRUCTIONS: usize = 512;

/// Why a capture could not be opened or went away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no such interface (now).
    #[error("{0}: no such interface")]
    Missing(String),
    /// The interface is there and down: it cannot be opened now.
    #[error("{0}: the interface is down")]
    Down(String),
    /// The interface was there and is no more.
    #[error("{0}: the interface went away")]
    Gone(String),
    /// A link type that [`Link`] does not have.
    #[error("{name}: link type {link} is not supported")]
    LinkType {
        /// Interface or file.
        name: String,
        /// libpcap's name for it.
        link: String,
    },
    /// Anything else that libpcap says.
    #[error("{name}: {why}")]
    Pcap {
        /// Interface or file.
        name: String,
        /// libpcap's words.
        why: String,
    },
}

/// A captured frame, as much of it as was kept.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// When it was captured, microseconds since the Unix epoch.
    pub time: Time,
    /// From the link header on.
    pub bytes: &'a [u8],
}

/// What must reach us. More may: ports between them where they are too many for
/// [`MAX_INSTRUCTIONS`], and every IPv6 packet with extension headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Steps and traps, sorted, each once.
    pub ports: Vec<Port>,
    /// The flag condition that every TCP port shares, if they do.
    pub flags: Option<TcpFlags>,
    /// Whether ICMP's echo requests are wanted, and ICMPv6's.
    pub echo: bool,
    /// How many bytes behind the headers of UDP and of echo requests are wanted.
    pub payload: usize,
}

impl Error {
    /// Whether waiting may help: interfaces come and go.
    pub fn passes(&self) -> bool {
        match self {
            Error::Missing(_) | Error::Down(_) | Error::Gone(_) => true,
            Error::LinkType { .. } | Error::Pcap { .. } => false,
        }
    }

    fn pcap(name: &str, why: String) -> Error {
        // libpcap begins some of its messages with the name itself.
        let prefix = format!("{name}: ");
        Error::Pcap {
            name: name.into(),
            why: why.strip_prefix(&prefix).unwrap_or(&why).into(),
        }
    }
}

/// libpcap's own words.
fn words(error: pcap::Error) -> String {
    match error {
        pcap::Error::PcapError(words) => words,
        other => other.to_string(),
    }
}

/// DLT_RAW, whose number differs between systems (pcap-linktype(7)).
const DLT_RAW: i32 = if cfg!(target_os = "openbsd") { 14 } else { 12 };
/// DLT_LOOP, the same.
const DLT_LOOP: i32 = if cfg!(target_os = "openbsd") { 12 } else { 108 };

/// From the number that pcap_datalink(3PCAP) gives.
fn link(name: &str, datalink: Linktype) -> Result<Link, Error> {
    match datalink.0 {
        0 | DLT_LOOP => Ok(Link::Null),
        1 => Ok(Link::Ethernet),
        DLT_RAW | 228 | 229 => Ok(Link::Raw),
        113 => Ok(Link::Cooked),
        276 => Ok(Link::Cooked2),
        other => Err(Error::LinkType {
            name: name.into(),
            link: datalink.get_name().unwrap_or_else(|_| other.to_string()),
        }),
    }
}

fn frame<'a>(packet: Packet<'a>) -> Frame<'a> {
    let seconds = u64::try_from(packet.header.ts.tv_sec).unwrap_or(0);
    let micros = u64::try_from(packet.header.ts.tv_usec).unwrap_or(0);
    Frame {
        time: Time(seconds.saturating_mul(1_000_000).saturating_add(micros)),
        bytes: packet.data,
    }
}
