use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use pcap::{Active, Capture};

use super::{Error, Filter, Frame, filter, frame, link, words};
use crate::packet::Link;

/// How much of a frame is kept, besides what is wanted of a payload. Ethernet with three VLAN tags
/// (26), IPv6 (40) and TCP up to its flags (14) leave 176 bytes for extension headers. On Linux the
/// ring has slots of this size and 80 bytes more, so that it also says how many frames the buffer
/// holds.
const SNAPLEN: usize = 256;

/// The kernel's buffer, in bytes.
///
/// On FreeBSD the kernel takes no more unless net.bpf.maxbufsize is raised, and allocates two.
/// On Linux it is the ring that we map: 12,480 frames (measured), a tenth of a second of a flood
/// of 100,000 packets a second that pass the filter. Where whole packets are kept it is larger,
/// for about as many.
fn buffer(payload: usize) -> i32 {
    match payload {
        _ if cfg!(target_os = "freebsd") => 512 << 10,
        0..=256 => 4 << 20,
        _ => 16 << 20,
    }
}

/// libpcap would have it every millisecond.
const RECHECK: Duration = Duration::from_secs(1);

/// An interface being captured: immediate mode, not promiscuous, non-blocking, both directions.
///
/// Which direction a frame went is for the addresses to tell: libpcap's pcap_setdirection makes
/// FreeBSD's bridge and lagg deaf.
pub struct Live {
    capture: Capture<Active>,
    name: String,
    link: Link,
    counted: Counted,
}

/// What the kernel says of a capture since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Frames that passed the filter; on FreeBSD, frames that were put to it.
    pub received: u64,
    /// Frames that passed the filter and were dropped because our buffer was full.
    pub dropped: u64,
}

impl Live {
    /// Opens an interface and lets only what `filter` describes through.
    pub fn open(interface: &str, filter: &Filter) -> Result<Live, Error> {
        let capture = Capture::from_device(interface)
            .and_then(|capture| {
                capture
                    .promisc(false)
                    .immediate_mode(true)
                    .snaplen((SNAPLEN + filter.payload) as i32)
                    .buffer_size(buffer(filter.payload))
                    .open()
            })
            .map_err(|e| not_opened(interface, e))?;
        let link = link(interface, capture.get_datalink())?;
        let mut live = Live {
            capture: capture
                .setnonblock()
                .map_err(|e| Error::pcap(interface, words(e)))?,
            name: interface.into(),
            link,
            counted: Counted::default(),
        };
        // pcap_setfilter succeeds too when the kernel refuses a program for its length, and
        // filters in this process: hence the program's length is known before.
        let expression = filter::fit(&live.capture, link, filter)
            .map_err(|e| Error::pcap(interface, words(e)))?;
        live.capture
            .filter(&expression, true)
            .map_err(|e| not_opened(interface, e))?;
        Ok(live)
    }

    /// The link type of its frames.
    pub fn link(&self) -> Link {
        self.link
    }

    /// Reads the frames that are there now, `most` at most; how many there were. Fewer than
    /// `most`: there are no more now, or few.
    pub fn read(&mut self, most: usize, mut each: impl FnMut(Frame<'_>)) -> Result<usize, Error> {
        self.capture
            .dispatch(Some(most), |packet| each(frame(packet)))
            .map_err(|error| not_read(&self.name, error))
    }

    /// While an interface is down: how long to wait at most before [`Live::read`] is called
    /// again, even if nothing becomes ready. Linux wakes us once when an interface goes down, and
    /// not again when it is then removed. Ask after each that gave none.
    pub fn recheck(&self) -> Option<Duration> {
        required_timeout(&self.capture).then_some(RECHECK)
    }

    /// What the kernel counted. To be called once in 2^32 frames at least.
    pub fn stats(&mut self) -> Result<Stats, Error> {
        let now = self.capture.stats().map_err(|e| not_read(&self.name, e))?;
        Ok(self.counted.add(now))
    }
}

impl AsFd for Live {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.capture.as_fd()
    }
}

/// Whether libpcap wants to be asked again after a time of its own, as it does on Linux while
/// an interface is down (pcap_get_required_select_timeout(3PCAP); the crate lacks it).
fn required_timeout(capture: &Capture<Active>) -> bool {
    unsafe extern "C" {
        fn pcap_get_required_select_timeout(p: *mut std::ffi::c_void) -> *const std::ffi::c_void;
    }
    // SAFETY: the handle is open as long as `capture` lives; the function (libpcap 1.9 and later)
    // reads one field of it. What the returned pointer points to is not looked at.
    !unsafe { pcap_get_required_select_timeout(capture.as_ptr().cast()) }.is_null()
}

/// pcap_activate's status is lost in the crate; its words are pcap_statustostr's ("No such device
/// exists", "That device is not up") or end in strerror's.
fn not_opened(name: &str, error: pcap::Error) -> Error {
    let why = words(error);
    let says = |text| why.contains(text);
    if says("No such device") || says("Device not configured") {
        Error::Missing(name.into())
    } else if says("device is not up") || says("Network is down") {
        Error::Down(name.into())
    } else {
        Error::pcap(name, why)
    }
}

/// libpcap has no status for this, and the same words on Linux and FreeBSD: "The interface
/// disappeared", before 1.10 on Linux "The interface went down".
fn not_read(name: &str, error: pcap::Error) -> Error {
    let why = words(error);
    let says = |text| why.contains(text);
    if says("interface disappeared") || says("interface went") || says("No such device") {
        Error::Gone(name.into())
    } else {
        Error::pcap(name, why)
    }
}

/// Counts past the 32 bits of libpcap's counters.
#[derive(Default)]
struct Counted {
    received: u32,
    dropped: u32,
    total: Stats,
}

impl Counted {
    fn add(&mut self, now: pcap::Stat) -> Stats {
        self.total.received += u64::from(now.received.wrapping_sub(self.received));
        self.total.dropped += u64::from(now.dropped.wrapping_sub(self.dropped));
        self.received = now.received;
        self.dropped = now.dropped;
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(received: u32, dropped: u32) -> pcap::Stat {
        pcap::Stat {
            received,
            dropped,
            if_dropped: 0,
        }
    }

    #[test]
    fn counters_go_on_past_32_bits() {
        let mut counted = Counted::default();
        counted.add(stat(u32::MAX - 1, 0));
        counted.add(stat(3, 7));
        let stats = counted.add(stat(2, 7));
        let received = u64::from(u32::MAX) + 1 + u64::from(u32::MAX) + 1 + 2;
        assert_eq!(
            stats,
            Stats {
                received,
                dropped: 7
            }
        );
    }

    /// What libpcap 1.9.1 to 1.10.5 say, in pcap.c, pcap-linux.c and pcap-bpf.c.
    #[test]
    fn words_of_libpcap() {
        let error = |text: &str| pcap::Error::PcapError(text.into());
        for text in [
            "No such device exists",
            "SIOCGIFHWADDR: No such device",
            "BIOCSETIF failed: Device not configured",
        ] {
            assert_eq!(not_opened("xl0", error(text)), Error::Missing("xl0".into()));
        }
        assert_eq!(
            not_opened("xl0", error("That device is not up")),
            Error::Down("xl0".into())
        );
        for text in ["The interface disappeared", "The interface went down"] {
            assert_eq!(not_read("xl0", error(text)), Error::Gone("xl0".into()));
        }
        let denied = error("xl0: You don't have permission to capture on that device");
        assert_eq!(
            not_opened("xl0", denied).to_string(),
            "xl0: You don't have permission to capture on that device"
        );
    }
}
