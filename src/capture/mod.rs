//! libpcap: an interface or a capture file -> frames; the kernel filter made from the doors.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use crate::config::{Port, TcpFlags};
use crate::packet::Link;
use crate::time::Time;

/// The most instructions FreeBSD's kernel takes (net.bpf.maxinsns). Longer programs are run by
/// libpcap in user space without a word, or the one before silently stays.
pub const MAX_INSTRUCTIONS: usize = 512;

/// Why a capture could not be opened or went away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no such interface (now).
    #[error("{0}: no such interface")]
    Missing(String),
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

/// An interface being captured: immediate mode, not promiscuous, non-blocking.
pub struct Live {}

/// What the kernel says of a capture since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Frames that passed the filter.
    pub received: u64,
    /// Of those, the ones dropped because our buffer was full.
    pub dropped: u64,
}

impl Live {
    /// Opens an interface and lets only what `filter` describes through.
    pub fn open(interface: &str, filter: &Filter) -> Result<Live, Error> {
        let _ = (interface, filter);
        unimplemented!()
    }

    /// The link type of its frames.
    pub fn link(&self) -> Link {
        unimplemented!()
    }

    /// The next frame; `None` when there is none now.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, Error> {
        unimplemented!()
    }

    /// What the kernel counted.
    pub fn stats(&mut self) -> Result<Stats, Error> {
        unimplemented!()
    }
}

impl AsFd for Live {
    fn as_fd(&self) -> BorrowedFd<'_> {
        unimplemented!()
    }
}

/// A capture file (pcap or pcapng).
pub struct File {}

impl File {
    /// Opens a capture file.
    pub fn open(path: &Path) -> Result<File, Error> {
        let _ = path;
        unimplemented!()
    }

    /// The link type of its frames.
    pub fn link(&self) -> Link {
        unimplemented!()
    }

    /// The next frame; `None` at the end.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, Error> {
        unimplemented!()
    }
}

/// What must reach us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Steps and traps, sorted, each once.
    pub ports: Vec<Port>,
    /// The flag condition that every TCP port shares, if they do.
    pub flags: Option<TcpFlags>,
}
