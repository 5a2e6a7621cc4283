//! Our addresses, our interfaces, and word of their changing.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, socket};
use nix::sys::socket::{SockaddrLike, SockaddrStorage};

/// What getifaddrs(3) says at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// Every address of every interface.
    pub addresses: BTreeSet<IpAddr>,
    /// Interfaces that exist and are up.
    pub up: BTreeSet<String>,
    /// The numbers of all interfaces, by their names.
    pub numbers: BTreeMap<String, usize>,
}

impl Interfaces {
    /// Whether it is up, and was not then, or was another of its name.
    pub fn has_come_up(&self, name: &str, before: &Interfaces) -> bool {
        let same = self.numbers.get(name) == before.numbers.get(name);
        self.up.contains(name) && !(same && before.up.contains(name))
    }

    /// Whether what had this name then goes by another now: whoever captures it does not notice.
    pub fn was_renamed(&self, name: &str, before: &Interfaces) -> bool {
        let Some(number) = before.numbers.get(name) else {
            return false;
        };
        let mut now = self.numbers.iter().filter(|(_, n)| *n == number);
        now.next().is_some_and(|(now, _)| now != name)
    }
}

/// Asks the system.
///
/// # Errors
/// The system's.
pub fn read() -> io::Result<Interfaces> {
    let mut found = Interfaces::default();
    for entry in getifaddrs()? {
        if let Some(address) = entry.address.as_ref().and_then(ip) {
            found.addresses.insert(address);
        }
        if let Some(link) = entry.address.as_ref().and_then(|a| a.as_link_addr()) {
            let name = entry.interface_name.clone();
            found.numbers.insert(name, link.ifindex());
        }
        if entry.flags.contains(InterfaceFlags::IFF_UP) {
            found.up.insert(entry.interface_name);
        }
    }
    Ok(found)
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    match address.family()? {
        AddressFamily::Inet => address
            .as_sockaddr_in()
            .map(|a| SocketAddr::from(std::net::SocketAddrV4::from(*a)).ip()),
        AddressFamily::Inet6 => address
            .as_sockaddr_in6()
            .map(|a| SocketAddr::from(std::net::SocketAddrV6::from(*a)).ip()),
        _ => None,
    }
}

/// A socket that becomes readable when interfaces or addresses change: netlink(7) on Linux,
/// route(4) elsewhere. None while it could not be opened again.
pub struct Watcher(Option<OwnedFd>);

impl Watcher {
    /// Opens it.
    ///
    /// # Errors
    /// The system's.
    #[cfg(target_os = "linux")]
    pub fn open() -> io::Result<Watcher> {
        use nix::sys::socket::{NetlinkAddr, SockProtocol, bind};
        /// RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR of linux/rtnetlink.h.
        const GROUPS: u32 = 0x1 | 0x10 | 0x100;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            flags,
            SockProtocol::NetlinkRoute,
        )?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
        Ok(Watcher(Some(fd)))
    }

    /// Opens it.
    ///
    /// # Errors
    /// The system's.
    #[cfg(not(target_os = "linux"))]
    pub fn open() -> io::Result<Watcher> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Route, SockType::Raw, flags, None)?;
        Ok(Watcher(Some(fd)))
    }

    /// What to wait for; none while nobody brings word: one has to look.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().map(OwnedFd::as_fd)
    }

    /// Whether word has come.
    pub fn has_word(&self) -> bool {
        let ready = |fd| poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], PollTimeout::ZERO);
        self.fd().is_some_and(|fd| ready(fd).is_ok_and(|n| n > 0))
    }

    /// Takes what has come, without looking at it. A socket that is of no use any more, which
    /// would be ready for ever, gives way to a new one.
    pub fn clear(&mut self) {
        let mut buffer = [0; 4096];
        while let Some(fd) = &self.0 {
            match recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                // ENOBUFS: more came than fits; there may be more behind it.
                Ok(1..) | Err(Errno::EINTR | Errno::ENOBUFS) => {}
                Err(Errno::EAGAIN) => return,
                Ok(0) | Err(_) => self.0 = None,
            }
        }
        if let Ok(new) = Watcher::open() {
            *self = new;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn interfaces(all: &[(&str, usize, bool)]) -> Interfaces {
        let mut interfaces = Interfaces::default();
        for &(name, number, up) in all {
            interfaces.numbers.insert(name.into(), number);
            if up {
                interfaces.up.insert(name.into());
            }
        }
        interfaces
    }

    #[test]
    fn every_interface_has_its_number() {
        let found = read().unwrap();
        for (name, number) in &found.numbers {
            let told = nix::net::if_::if_nametoindex(name.as_str());
            assert_eq!(told.map(|n| n as usize), Ok(*number), "{name}");
        }
        assert!(found.up.iter().all(|name| found.numbers.contains_key(name)));
        assert!(!found.numbers.is_empty());
    }

    #[test]
    fn interfaces_come_up_and_are_renamed() {
        let before = interfaces(&[("a0", 1, true), ("b0", 2, false), ("c0", 3, true)]);
        let now = interfaces(&[
            ("a0", 1, true),
            ("b0", 2, true),
            ("c0", 4, true),
            ("d0", 3, true),
        ]);
        let came: Vec<&str> = ["a0", "b0", "c0", "d0", "e0"]
            .into_iter()
            .filter(|name| now.has_come_up(name, &before))
            .collect();
        assert_eq!(came, ["b0", "c0", "d0"]);
        assert!(now.was_renamed("c0", &before));
        for name in ["a0", "b0", "d0", "e0"] {
            assert!(!now.was_renamed(name, &before), "{name}");
        }
        let gone = interfaces(&[("a0", 1, true)]);
        assert!(!gone.was_renamed("c0", &before), "that is noticed");
    }

    #[test]
    fn a_watcher_that_has_died_is_another() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut watcher = Watcher(Some(ours.into()));
        assert!(!watcher.has_word());
        drop(theirs);
        assert!(watcher.has_word(), "for ever");
        watcher.clear();
        assert!(!watcher.has_word());
        assert!(watcher.fd().is_some());
    }
}
