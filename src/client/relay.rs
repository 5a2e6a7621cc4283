//! A connected socket <-> standard input and output.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;

/// What is carried at once.
const CHUNK: usize = 64 * 1024;

/// Carries what comes from standard input to `stream`, and what comes from there to standard
/// output, until both have ended. The end of one direction is handed on and leaves the other one
/// alone.
///
/// # Errors
/// When the connection breaks. That nobody reads standard output any more is an end, and no
/// error.
pub fn carry(stream: TcpStream) -> io::Result<()> {
    let back = stream.try_clone()?;
    let there = thread::spawn(move || {
        let sent = copy(&mut io::stdin().lock(), &mut &stream);
        // Where writing failed there is nothing to shut down, and reading tells why.
        let _ = stream.shutdown(Shutdown::Write);
        sent
    });
    let mut output = stdout();
    match copy(&mut &back, &mut output) {
        Ok(()) => {}
        Err(Broken::Write) => return Ok(()),
        Err(Broken::Read(e)) => return Err(e),
    }
    // Whoever reads shall see the end, whatever he still has to say.
    drop(output);
    match there.join() {
        Ok(Err(Broken::Read(e))) => Err(e),
        _ => Ok(()),
    }
}

/// Which side failed.
enum Broken {
    Read(io::Error),
    Write,
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> Result<(), Broken> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = match from.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(Broken::Read(e)),
        };
        let written = to.write_all(&chunk[..read]);
        written.map_err(|_| Broken::Write)?;
    }
}

/// Standard output, which ends when this is dropped.
#[cfg(unix)]
fn stdout() -> File {
    use std::os::fd::{AsRawFd, FromRawFd};
    // SAFETY: it is open, std seeing to that when the program starts; and nothing writes to
    // standard output by other means once a stream is carried.
    unsafe { File::from_raw_fd(io::stdout().as_raw_fd()) }
}

/// Standard output, which ends when this is dropped.
#[cfg(windows)]
fn stdout() -> File {
    use std::os::windows::io::{AsRawHandle, FromRawHandle};
    // SAFETY: nothing writes to standard output by other means once a stream is carried.
    unsafe { File::from_raw_handle(io::stdout().as_raw_handle()) }
}
