//! Echo requests by iphlpapi, which any user may have sent.

use std::ffi::c_void;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::ptr::null;
use std::thread;

use socket2::SockAddr;
use windows_sys::Win32::Foundation::{HANDLE, INVALID_HANDLE_VALUE};
use windows_sys::Win32::NetworkManagement::IpHelper::{
    Icmp6CreateFile, Icmp6SendEcho2, IcmpCloseHandle, IcmpCreateFile, IcmpSendEcho2Ex,
};

use super::{Error, PATIENCE, Sent};

/// IP_STATUS_BASE (ipexport.h): from here on errors tell what became of a request that was sent.
const STATUS: i32 = 11000;
/// IP_GENERAL_FAILURE, of all those the one that tells of nothing sent.
const GENERAL_FAILURE: i32 = 11050;

/// What a reply takes beside its payload: an ICMP_ECHO_REPLY or ICMPV6_ECHO_REPLY, an error
/// message of 8 bytes, an IO_STATUS_BLOCK; with room to spare.
const REPLY: usize = 256;

pub(super) fn send(to: SocketAddr, source: Option<IpAddr>, payload: &[u8]) -> Result<Sent, Error> {
    let length = u16::try_from(payload.len());
    let length = length.map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let payload = payload.to_vec();
    // It waits for the answer.
    let waits = move || {
        let icmp = Icmp::open(to.is_ipv6())?;
        match icmp.echo(to, source, &payload, length) {
            Err(e) if !was_sent(&e) => Err(Error::Unsent(e)),
            _ => Ok(()),
        }
    };
    Ok(Sent(Some(thread::spawn(waits))))
}

fn was_sent(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    code.is_some_and(|code| (STATUS..GENERAL_FAILURE).contains(&code))
}

/// A handle of iphlpapi's.
struct Icmp(HANDLE);

impl Icmp {
    fn open(v6: bool) -> io::Result<Icmp> {
        // SAFETY: neither takes anything.
        let handle = unsafe {
            match v6 {
                true => Icmp6CreateFile(),
                false => IcmpCreateFile(),
            }
        };
        match handle {
            INVALID_HANDLE_VALUE => Err(io::Error::last_os_error()),
            handle => Ok(Icmp(handle)),
        }
    }

    fn echo(
        &self,
        to: SocketAddr,
        source: Option<IpAddr>,
        payload: &[u8],
        length: u16,
    ) -> io::Result<()> {
        // Aligned for the structures that are written to it.
        let mut reply = vec![0u64; (REPLY + payload.len()).div_ceil(8)];
        let size = u32::try_from(reply.len() * 8).unwrap_or(u32::MAX);
        let limit = u32::try_from(PATIENCE.as_millis()).unwrap_or(u32::MAX);
        let bytes: *const c_void = payload.as_ptr().cast();
        let into: *mut c_void = reply.as_mut_ptr().cast();
        let replies = match to {
            SocketAddr::V4(to) => {
                let from = match source {
                    Some(IpAddr::V4(from)) => from,
                    _ => Ipv4Addr::UNSPECIFIED,
                };
                // In the network's order, as they stand in memory.
                let [from, to] = [from, *to.ip()].map(|ip| u32::from_ne_bytes(ip.octets()));
                // SAFETY: the handle is open; `payload` and `reply` have the sizes that are
                // named and outlive the call, which, without event and routine, is over when it
                // returns.
                unsafe {
                    IcmpSendEcho2Ex(
                        self.0,
                        std::ptr::null_mut(),
                        None,
                        null(),
                        from,
                        to,
                        bytes,
                        length,
                        null(),
                        into,
                        size,
                        limit,
                    )
                }
            }
            SocketAddr::V6(to) => {
                let from = match source {
                    Some(IpAddr::V6(from)) => from,
                    _ => Ipv6Addr::UNSPECIFIED,
                };
                let from = SockAddr::from(SocketAddrV6::new(from, 0, 0, to.scope_id()));
                let to = SockAddr::from(to);
                // SAFETY: as above; both addresses are SOCKADDR_IN6, for they were made of
                // addresses of IPv6.
                unsafe {
                    Icmp6SendEcho2(
                        self.0,
                        std::ptr::null_mut(),
                        None,
                        null(),
                        from.as_ptr().cast(),
                        to.as_ptr().cast(),
                        bytes,
                        length,
                        null(),
                        into,
                        size,
                        limit,
                    )
                }
            }
        };
        match replies {
            0 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}

impl Drop for Icmp {
    fn drop(&mut self) {
        // SAFETY: it is open and ours alone.
        unsafe { IcmpCloseHandle(self.0) };
    }
}
