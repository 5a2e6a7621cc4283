//! One question to posternd, and its answer.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::Problem;
use crate::daemon::control::{Request, Response};
use crate::exit;

/// How long posternd may take: a reload waits for the packet filter.
const PATIENCE: Duration = Duration::from_secs(60);

/// No answer is longer: some 200 bytes a lease, 1024 leases a door, doors by the dozen.
const LONGEST: u64 = 64 << 20;

/// Asks. [`Response::Error`] is given back as a problem of status `refused`.
pub fn ask(socket: &Path, request: &Request, refused: u8) -> Result<Response, Problem> {
    ask_if_it_runs(socket, request, refused)?.ok_or_else(|| {
        Problem::new(
            exit::UNAVAILABLE,
            format!(
                "{}: posternd is not running: start it, or name its socket with -s",
                socket.display()
            ),
        )
    })
}

/// The same; `None` if nobody listens at the socket.
pub fn ask_if_it_runs(
    socket: &Path,
    request: &Request,
    refused: u8,
) -> Result<Option<Response>, Problem> {
    let name = socket.display();
    let stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        Err(why) => match why.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => return Ok(None),
            io::ErrorKind::PermissionDenied => {
                let said = format!("{name}: only root may speak to posternd");
                return Err(Problem::new(exit::NOPERM, said));
            }
            _ => {
                let said = format!("{name}: {}", exit::words(&why));
                return Err(Problem::new(exit::UNAVAILABLE, said));
            }
        },
    };
    let line = exchange(&stream, request).map_err(|why| match why.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Problem::new(
            exit::UNAVAILABLE,
            format!(
                "{name}: posternd has not answered within {} s",
                PATIENCE.as_secs()
            ),
        ),
        _ => Problem::new(exit::UNAVAILABLE, format!("{name}: {}", exit::words(&why))),
    })?;
    if line.is_empty() {
        return Err(Problem::new(
            exit::UNAVAILABLE,
            format!("{name}: posternd hung up without an answer"),
        ));
    }
    match serde_json::from_slice(&line) {
        Ok(Response::Error(why)) => Err(Problem::new(refused, why)),
        Ok(response) => Ok(Some(response)),
        Err(_) => Err(foreign(socket)),
    }
}

/// An answer that is none to the question asked.
pub fn foreign(socket: &Path) -> Problem {
    Problem::new(
        exit::PROTOCOL,
        format!(
            "{}: the answer is not one of a posternd of version {}",
            socket.display(),
            env!("CARGO_PKG_VERSION")
        ),
    )
}

fn exchange(mut stream: &UnixStream, request: &Request) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut question = serde_json::to_vec(request)?;
    question.push(b'\n');
    stream.write_all(&question)?;
    let mut answer = Vec::new();
    BufReader::new(stream.take(LONGEST)).read_until(b'\n', &mut answer)?;
    Ok(answer)
}
