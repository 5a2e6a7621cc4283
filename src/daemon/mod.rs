//! posternd: the monitor (root) and the listener (no privileges).

pub mod addresses;
pub mod allowance;
pub mod arguments;
pub mod clock;
pub mod control;
pub mod doors;
pub mod dumps;
pub mod files;
pub mod fire;
pub mod knockd_as;
pub mod listener;
pub mod log;
mod macs;
pub mod monitor;
mod pace;
pub mod recovery;
pub mod sandbox;
pub mod server;
pub mod spawn;
pub mod spent;
pub mod state;
pub mod supervise;
pub mod trial;
pub mod voice;
pub mod wire;

use std::io::{self, Write};

/// Writes as much of what waits as a non-blocking socket takes. When all is written its memory is
/// freed: it may have held secrets.
fn flush(socket: &mut impl Write, waiting: &mut Vec<u8>) -> io::Result<()> {
    while !waiting.is_empty() {
        match socket.write(waiting) {
            Ok(n) => _ = waiting.drain(..n),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    if waiting.is_empty() {
        *waiting = Vec::new();
    }
    Ok(())
}
