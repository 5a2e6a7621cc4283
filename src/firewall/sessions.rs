//! The kernel's list of TCP sessions.
//!
//! A guard that arrives where none was, and a lease that ends, must cut nobody's session.
//! Connection tracking alone cannot promise that: it may not have been in use before, it may
//! be flushed, and a session that it never saw begin is new to it. The sockets are the truth.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::Failure;

/// A TCP session of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Session {
    /// This machine's end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
}

impl Session {
    /// IPv4 sessions of sockets that serve both families are IPv4 sessions; scopes and flow
    /// labels are no part of what a packet filter matches.
    fn new(local: (IpAddr, u16), remote: (IpAddr, u16)) -> Session {
        Session {
            local: SocketAddr::new(local.0.to_canonical(), local.1),
            remote: SocketAddr::new(remote.0.to_canonical(), remote.1),
        }
    }

    /// Whether it is at one of these local ports, which are in order.
    fn is_at(&self, ports: &[u16]) -> bool {
        ports.binary_search(&self.local.port()).is_ok()
    }

    /// Whether it never leaves this machine by its addresses.
    fn is_loopback(&self) -> bool {
        self.local.ip().is_loopback() || self.remote.ip().is_loopback()
    }
}

/// The sessions at these local ports, established or closing, loopback's left out, in order
/// and each once.
pub fn established(ports: &[u16]) -> Result<Vec<Session>, Failure> {
    if ports.is_empty() {
        return Ok(Vec::new());
    }
    let mut ports = ports.to_vec();
    ports.sort_unstable();
    ports.dedup();
    let mut sessions = system::established(&ports)?;
    sessions.retain(|session| !session.is_loopback());
    sessions.sort_unstable();
    sessions.dedup();
    Ok(sessions)
}

/// Those of [`established`] that are not in an earlier list of it: a guard that was made in
/// between may have kept them out, but what they sent meanwhile, TCP sends again.
pub fn since(listed: &BTreeSet<Session>, ports: &[u16]) -> Result<Vec<Session>, Failure> {
    let mut sessions = established(ports)?;
    sessions.retain(|session| !listed.contains(session));
    Ok(sessions)
}

#[cfg(target_os = "linux")]
mod diag;

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(target_os = "freebsd")]
use sockstat as system;

/// sock_diag(7), or `/proc/net/tcp` and `/proc/net/tcp6` of a kernel without it: proc_pid_net(5),
/// and the kernel's Documentation/networking/proc_net_tcp.rst.
#[cfg(any(target_os = "linux", test))]
#[cfg_attr(not(target_os = "linux"), allow(dead_code))] // tests of its parser run everywhere
mod linux {
    use std::fs::File;
    use std::io::{BufRead, BufReader};
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    #[cfg(target_os = "linux")]
    use std::sync::atomic::{AtomicBool, Ordering};

    #[cfg(target_os = "linux")]
    use nix::errno::Errno;

    use super::{Failure, Session};

    /// Of the calling thread's network namespace, not of the whole process's.
    const FILES: [&str; 2] = ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"];

    /// ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING, as in the kernel's
    /// include/net/tcp_states.h.
    pub(super) const RUNNING: [u8; 6] = [0x01, 0x04, 0x05, 0x08, 0x09, 0x0b];

    /// The sessions at these local ports, which are in order.
    #[cfg(target_os = "linux")]
    pub fn established(ports: &[u16]) -> Result<Vec<Session>, Failure> {
        /// Whether this kernel has none: it would look for a module at each question.
        static LACKING: AtomicBool = AtomicBool::new(false);
        if !LACKING.load(Ordering::Relaxed) {
            match super::diag::established(ports) {
                Ok(sessions) => return Ok(sessions),
                Err(Errno::ENOENT | Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT) => {
                    LACKING.store(true, Ordering::Relaxed);
                }
                Err(_) => {}
            }
        }
        listed(ports)
    }

    /// The same from the files.
    pub fn listed(ports: &[u16]) -> Result<Vec<Session>, Failure> {
        let mut sessions = Vec::new();
        for name in FILES {
            let failed = |error| Failure::Unexpected(format!("{name}: {error}"));
            let file = match File::open(name) {
                Ok(file) => file,
                // A kernel without IPv6 has no tcp6.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && name != FILES[0] => {
                    continue;
                }
                Err(error) => return Err(failed(error)),
            };
            for line in BufReader::new(file).lines().skip(1) {
                let line = line.map_err(failed)?;
                sessions.extend(session(&line).filter(|s| s.is_at(ports)));
            }
        }
        Ok(sessions)
    }

    /// One line; `None` if it is not of a running session.
    pub fn session(line: &str) -> Option<Session> {
        let mut words = line.split_ascii_whitespace().skip(1);
        let local = end(words.next()?)?;
        let remote = end(words.next()?)?;
        let state = u8::from_str_radix(words.next()?, 16).ok()?;
        RUNNING
            .contains(&state)
            .then(|| Session::new(local, remote))
    }

    /// `0100007F:0016`: the address as words of 32 bits in host order, the port as a number.
    fn end(text: &str) -> Option<(IpAddr, u16)> {
        let (address, port) = text.split_once(':')?;
        let word = |at: usize| {
            let word = u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?;
            Some(word.to_ne_bytes())
        };
        let address = match address.len() {
            8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
            32 => {
                let mut bytes = [0; 16];
                for (i, four) in bytes.chunks_exact_mut(4).enumerate() {
                    four.copy_from_slice(&word(8 * i)?);
                }
                IpAddr::from(Ipv6Addr::from(bytes))
            }
            _ => return None,
        };
        Some((address, u16::from_str_radix(port, 16).ok()?))
    }
}

/// `sockstat -46c -P tcp -p PORTS`: sockstat(1) of FreeBSD.
#[cfg(any(target_os = "freebsd", test))]
mod sockstat {
    use std::net::IpAddr;
    use std::path::Path;
    use std::time::Duration;

    use super::super::run::{self, Keep, Program};
    use super::{Failure, Session};

    const SOCKSTAT: &str = "/usr/bin/sockstat";

    /// Fits some hundred thousand sockets.
    const MOST: usize = 32 << 20;

    /// The sessions at these local ports, which are in order.
    #[cfg_attr(not(target_os = "freebsd"), allow(dead_code))]
    pub fn established(ports: &[u16]) -> Result<Vec<Session>, Failure> {
        let list = ports
            .iter()
            .map(u16::to_string)
            .collect::<Vec<_>>()
            .join(",");
        let args = ["-46c", "-P", "tcp", "-p", &list];
        let sockstat = Program {
            path: Path::new(SOCKSTAT),
            args: &args,
            env: &run::FILTER_ENV,
            stdin: &[],
            stdout: Keep::First(MOST),
            stderr: Some(Keep::Last(run::KEPT)),
            limit: Duration::from_secs(10),
        };
        let ended = run::checked(&sockstat, run::on_one_line)?;
        let text = String::from_utf8_lossy(&ended.stdout);
        let sessions = text.lines().filter_map(session);
        // -p matches either end's port.
        Ok(sessions.filter(|s| s.is_at(ports)).collect())
    }

    /// One line; `None` if it is no connected socket's. The command's name may hold anything,
    /// so the ends are looked for behind the protocol.
    pub fn session(line: &str) -> Option<Session> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        words.windows(3).rev().find_map(|words| match words {
            ["tcp" | "tcp4" | "tcp6" | "tcp46", local, remote] => {
                Some(Session::new(end(local)?, end(remote)?))
            }
            _ => None,
        })
    }

    /// `10.9.0.1:22`, `fe80::1%em0:22`; `*` for what is not bound.
    fn end(text: &str) -> Option<(IpAddr, u16)> {
        let (address, port) = text.rsplit_once(':')?;
        let address = address
            .split_once('%')
            .map_or(address, |(address, _)| address);
        Some((address.parse().ok()?, port.parse().ok()?))
    }
}

#[cfg(test)]
mod tests;
