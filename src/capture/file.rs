use std::path::Path;

use pcap::{Capture, Offline};

use super::{Error, Frame, frame, link, words};
use crate::packet::Link;

/// A capture file (pcap or pcapng).
pub struct File {
    capture: Capture<Offline>,
    name: String,
    link: Link,
}

impl File {
    /// Opens a capture file; `-` is standard input.
    pub fn open(path: &Path) -> Result<File, Error> {
        let name = path.display().to_string();
        let capture = Capture::from_file(path).map_err(|e| Error::pcap(&name, words(e)))?;
        let link = link(&name, capture.get_datalink())?;
        Ok(File {
            capture,
            name,
            link,
        })
    }

    /// The link type of its frames.
    pub fn link(&self) -> Link {
        self.link
    }

    /// The next frame; `None` at the end.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, Error> {
        match self.capture.next_packet() {
            Ok(packet) => Ok(Some(frame(packet))),
            Err(pcap::Error::NoMorePackets) => Ok(None),
            Err(error) => Err(Error::pcap(&self.name, words(error))),
        }
    }
}
