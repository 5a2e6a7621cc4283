//! A service behind a door: it says back what it hears.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::host::Host;

/// Listens on every address of a host until it is dropped.
pub struct Service {
    stop: Arc<AtomicBool>,
    sessions: Arc<Mutex<Vec<TcpStream>>>,
}

impl Service {
    /// Starts it on these ports.
    pub fn start(host: &Host, ports: &[u16]) -> Service {
        let service = Service {
            stop: Arc::default(),
            sessions: Arc::default(),
        };
        for &port in ports {
            let listener = host.inside(|| TcpListener::bind(("::", port)).unwrap());
            listener.set_nonblocking(true).unwrap();
            let (stop, sessions) = (service.stop.clone(), service.sessions.clone());
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
                    let _ = poll(&mut fds, PollTimeout::from(50u8));
                    if let Ok((stream, _)) = listener.accept() {
                        stream.set_nonblocking(false).unwrap();
                        sessions.lock().unwrap().push(stream.try_clone().unwrap());
                        thread::spawn(move || echo(stream));
                    }
                }
            });
        }
        service
    }

    /// How many connections have come.
    pub fn sessions(&self) -> usize {
        self.sessions.lock().unwrap().len()
    }

    /// Says this, unasked, in every session that is still open.
    pub fn say(&self, line: &str) {
        for mut stream in self.sessions.lock().unwrap().iter() {
            let _ = stream.write_all(line.as_bytes());
        }
    }
}

fn echo(mut stream: TcpStream) {
    let mut bytes = [0; 512];
    while let Ok(n @ 1..) = stream.read(&mut bytes) {
        if stream.write_all(&bytes[..n]).is_err() {
            break;
        }
    }
    // There is another handle: closing this one would not end the session.
    let _ = stream.shutdown(Shutdown::Both);
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for stream in self.sessions.lock().unwrap().iter() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
