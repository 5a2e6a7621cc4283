//! Our addresses, our interfaces, and word of their changing.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, socket};
use nix::sys::socket::{SockaddrLike, SockaddrStorage};

/// What getifaddrs(3) says at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// Every address of every interface.
    pub addresses: BTreeSet<IpAddr>,
    /// Interfaces that exist and are up.
    pub up: BTreeSet<String>,
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
/// route(4) elsewhere.
pub struct Watcher(OwnedFd);

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
        Ok(Watcher(fd))
    }

    /// Opens it.
    ///
    /// # Errors
    /// The system's.
    #[cfg(not(target_os = "linux"))]
    pub fn open() -> io::Result<Watcher> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        Ok(Watcher(socket(
            AddressFamily::Route,
            SockType::Raw,
            flags,
            None,
        )?))
    }

    /// Takes what has come, without looking at it.
    pub fn clear(&self) {
        let mut buffer = [0; 4096];
        loop {
            match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                // ENOBUFS: more came than fits; there may be more behind it.
                Ok(1..) | Err(Errno::EINTR | Errno::ENOBUFS) => {}
                Ok(0) | Err(_) => return,
            }
        }
    }
}

impl AsFd for Watcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
