//! The control socket: who may ask, and the bytes that come and go.

use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::stat::{Mode, umask};

use super::control::{Request, Response};
use super::files::is_storage;
use super::flush;
use crate::time::Time;

/// Connections at once; root alone makes any.
const CONNECTIONS: usize = 16;
/// How long one may take to ask, and to take its answer.
const LIMIT: Duration = Duration::from_secs(30);
/// The longest question in bytes.
const LONGEST: usize = 4096;

struct Connection {
    id: u64,
    stream: UnixStream,
    from: Vec<u8>,
    to: Vec<u8>,
    asked: bool,
    until: Time,
}

/// The socket and whoever is connected to it.
pub struct Server {
    path: PathBuf,
    /// None: the disk took no socket.
    listener: Option<UnixListener>,
    connections: Vec<Connection>,
    last: u64,
}

impl Server {
    /// Makes the socket, mode 0600. One that nobody answers at is taken away first. Where a disk
    /// that is full or read-only takes none there is none until [`Server::uphold`] makes it.
    ///
    /// # Errors
    /// The system's; or somebody answers there, or what stands there is no socket.
    pub fn open(path: &Path) -> io::Result<Server> {
        let listener = match bind(path) {
            Err(e) if is_storage(&e) => None,
            bound => Some(bound?),
        };
        Ok(Server {
            path: path.to_owned(),
            listener,
            connections: Vec::new(),
            last: 0,
        })
    }

    /// Makes the socket if it could not be made before.
    ///
    /// # Errors
    /// Those of [`Server::open`].
    pub fn uphold(&mut self) -> io::Result<()> {
        if self.listener.is_none() {
            self.listener = Some(bind(&self.path)?);
        }
        Ok(())
    }

    /// Sockets to be polled, and whether something waits to be written to each.
    pub fn sockets(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        let all = self
            .connections
            .iter()
            .map(|c| (c.stream.as_fd(), !c.to.is_empty()));
        let listener = self.listener.iter().map(|l| (l.as_fd(), false));
        listener.chain(all)
    }

    /// When a connection will have taken too long.
    pub fn next_deadline(&self) -> Option<Time> {
        self.connections.iter().map(|c| c.until).min()
    }

    /// Takes new connections and what has been asked: each question with what
    /// [`Server::answer`] needs.
    pub fn read(&mut self, now: Time) -> Vec<(u64, Result<Request, String>)> {
        while let Some(Ok((stream, _))) = self.listener.as_ref().map(UnixListener::accept) {
            let welcome = peer_is_root(&stream) && self.connections.len() < CONNECTIONS;
            if welcome && stream.set_nonblocking(true).is_ok() {
                self.last += 1;
                self.connections.push(Connection {
                    id: self.last,
                    stream,
                    from: Vec::new(),
                    to: Vec::new(),
                    asked: false,
                    until: now + LIMIT,
                });
            }
        }
        let mut asked = Vec::new();
        self.connections.retain_mut(|c| {
            let goes_on = c.until > now && c.turn(&mut asked).is_ok();
            goes_on && !(c.asked && c.to.is_empty() && c.from.is_empty())
        });
        asked
    }

    /// Answers a question.
    pub fn answer(&mut self, id: u64, response: &Response) {
        let Some(connection) = self.connections.iter_mut().find(|c| c.id == id) else {
            return;
        };
        connection.to = serde_json::to_vec(response).unwrap_or_default();
        connection.to.push(b'\n');
        connection.from.clear();
        // What cannot be written now goes when the socket can take it.
        let _ = flush(&mut connection.stream, &mut connection.to);
        self.connections
            .retain(|c| !(c.id == id && c.to.is_empty()));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.listener.is_some() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    if UnixStream::connect(path).is_ok() {
        return Err(io::Error::other("another posternd answers there"));
    }
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => fs::remove_file(path)?,
        Ok(_) => return Err(io::Error::other("something that is no socket stands there")),
        Err(_) => {}
    }
    let before = umask(Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    umask(before);
    let listener = listener?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl Connection {
    fn turn(&mut self, asked: &mut Vec<(u64, Result<Request, String>)>) -> io::Result<()> {
        flush(&mut self.stream, &mut self.to)?;
        let mut part = [0; 512];
        loop {
            match self.stream.read(&mut part) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) if self.asked => continue,
                Ok(n) => self.from.extend_from_slice(&part[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            }
            if let Some(end) = self.from.iter().position(|&b| b == b'\n') {
                let request = serde_json::from_slice(&self.from[..end]).map_err(|e| e.to_string());
                self.asked = true;
                asked.push((self.id, request));
                return Ok(());
            }
            if self.from.len() > LONGEST {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
    }
}

#[cfg(target_os = "linux")]
fn peer_is_root(stream: &UnixStream) -> bool {
    use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
    getsockopt(stream, PeerCredentials).is_ok_and(|c| c.uid() == 0)
}

#[cfg(not(target_os = "linux"))]
fn peer_is_root(stream: &UnixStream) -> bool {
    nix::unistd::getpeereid(stream).is_ok_and(|(uid, _)| uid.is_root())
}
