//! Echo requests of ICMP and ICMPv6, from a socket where the system gives one, by the system's
//! own ping where it does not.
//!
//! | system | who is given a socket |
//! |---|---|
//! | Linux | whom net.ipv4.ping_group_range names, for IPv6 as well (icmp(7)); root |
//! | macOS | everybody (icmp(4)) |
//! | FreeBSD and other BSDs | root: there, ping is set-user-ID |
//! | Windows | nobody needs one: iphlpapi's IcmpSendEcho2Ex, Icmp6SendEcho2 |

#[cfg(not(windows))]
#[path = "echo/sockets.rs"]
mod system;
#[cfg(windows)]
#[path = "echo/windows.rs"]
mod system;

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::Problem;
use crate::exit::{self, words};

/// How long whoever sends for us is let wait for an answer that nobody needs.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why an echo request was not sent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system gives this user no socket for it.
    #[error("this user may not send echo requests")]
    Denied,
    /// The system said no.
    #[error("{}", words(.0))]
    Unsent(#[from] io::Error),
    /// Its ping said so.
    #[error("ping: {0}")]
    Ping(String),
}

impl From<Error> for Problem {
    fn from(e: Error) -> Problem {
        let status = match e {
            Error::Denied => exit::NOPERM,
            Error::Unsent(_) | Error::Ping(_) => exit::UNAVAILABLE,
        };
        Problem::new(status, e)
    }
}

/// An echo request that is out, or about to be.
#[derive(Debug)]
#[must_use = "what goes wrong later is told by wait"]
pub struct Sent(Option<JoinHandle<Result<(), Error>>>);

impl Sent {
    /// One that is out.
    pub(super) fn certain() -> Sent {
        Sent(None)
    }

    /// Waits until it is out for certain, a second at most.
    pub fn wait(self) -> Result<(), Error> {
        let gone = || Error::Unsent(io::Error::other("the thread that sends failed"));
        match self.0 {
            None => Ok(()),
            Some(thread) => thread.join().map_err(|_| gone())?,
        }
    }

    /// Whether it was, and nothing is left to wait for.
    pub fn is_certain(&self) -> bool {
        self.0.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

/// Sends an echo request with this payload, from `source` if one is given.
pub fn send(to: SocketAddr, source: Option<IpAddr>, payload: &[u8]) -> Result<Sent, Error> {
    system::send(to, source, payload)
}

/// Has the system's ping send one with this pattern. While it runs, ps(1) shows the pattern.
pub fn by_system(to: SocketAddr, source: Option<IpAddr>, pattern: &str) -> Result<Sent, Error> {
    let program = match to {
        // Theirs knows IPv4 only (ping(8), ping6(8)).
        SocketAddr::V6(_) if cfg!(any(target_os = "macos", target_os = "netbsd")) => "ping6",
        SocketAddr::V6(_) if cfg!(target_os = "openbsd") => "ping6",
        _ => "ping",
    };
    let mut command = Command::new(program);
    command.args(["-n", "-q", "-c", "1", "-p", pattern]);
    if let Some(source) = source {
        let from = match cfg!(any(target_os = "linux", target_os = "openbsd")) {
            true => "-I",
            false => "-S",
        };
        command.arg(from).arg(source.to_string());
    }
    let child = command
        .arg(bare(to))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::Denied,
            _ => Error::Unsent(e),
        })?;
    Ok(Sent(Some(thread::spawn(move || watch(child)))))
}

/// An address with its zone, if it has one, as programs take it.
pub(super) fn bare(address: SocketAddr) -> String {
    match address {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
        _ => address.ip().to_string(),
    }
}

/// Waits for ping to end. It ends with an error, too, where there was no answer, and with
/// another one on each system; but then it has no complaint.
fn watch(mut child: Child) -> Result<(), Error> {
    const POLL: Duration = Duration::from_millis(10);
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if start.elapsed() > PATIENCE {
            // It waits for an answer, so it has sent.
            let _ = child.kill();
            child.wait()?;
            return Ok(());
        }
        thread::sleep(POLL);
    };
    let mut said = String::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = stderr.take(4096).read_to_string(&mut said);
    }
    let first = said.lines().map(str::trim).find(|line| !line.is_empty());
    match first {
        Some(line) if !status.success() => {
            let line = line.strip_prefix("ping: ").unwrap_or(line);
            let shown = line.chars().filter(|c| !c.is_control());
            Err(Error::Ping(shown.collect()))
        }
        _ => Ok(()),
    }
}
