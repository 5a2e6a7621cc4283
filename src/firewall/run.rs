//! Children: started, fed, limited, killed.
//!
//! Whatever is run here is run by its absolute path, in a process group of its own, from `/`,
//! with an environment of ours and nothing of the caller's, and its standard input is never a
//! terminal (ipfw(8) behaves differently on one).

use std::borrow::Cow;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{AccessFlags, Pid, access};

use super::Failure;
use input::Feed;

mod input;

/// Where programs are looked for, and the `PATH` that they are given.
pub const PATH: &str = "/sbin:/bin:/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin";

/// The whole environment of a packet filter's command.
pub const FILTER_ENV: [(&str, &str); 2] = [("PATH", PATH), ("LC_ALL", "C")];

/// How much of what a program prints is kept for a failure's sake.
pub const KEPT: usize = 4096;

/// How much of it a failure shows.
const SHOWN: usize = 500;

/// Between two looks whether a child has ended while one of its own still holds its output.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Which end of a program's output is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// So many bytes from its beginning.
    First(usize),
    /// So many bytes from its end.
    Last(usize),
}

/// A program to run.
#[derive(Debug)]
pub struct Program<'a> {
    /// Its absolute path.
    pub path: &'a Path,
    /// Its arguments.
    pub args: &'a [&'a str],
    /// Its environment, whole.
    pub env: &'a [(&'a str, &'a str)],
    /// Its standard input, of which it sees all or nothing, whatever becomes of us; empty:
    /// `/dev/null`.
    pub stdin: &'a [u8],
    /// What is kept of its standard output.
    pub stdout: Keep,
    /// What is kept of its standard error; `None`: it goes where standard output goes.
    pub stderr: Option<Keep>,
    /// After so long its process group is killed.
    pub limit: Duration,
}

/// A program that ended, by itself or at its limit.
#[derive(Debug)]
pub struct Ended {
    /// How; `None`: killed at its limit.
    pub status: Option<ExitStatus>,
    /// What was kept of its standard output.
    pub stdout: Vec<u8>,
    /// Whether some of that was not kept.
    pub cut: bool,
    /// What was kept of its standard error.
    pub stderr: Vec<u8>,
}

/// Looks for a program in a list of directories separated by colons.
pub fn find(name: &str, path: &str) -> Option<PathBuf> {
    path.split(':')
        .filter(|dir| dir.starts_with('/'))
        .map(|dir| Path::new(dir).join(name))
        .find(|file| file.is_file() && access(file, AccessFlags::X_OK).is_ok())
}

/// Runs a program to its end or its limit.
///
/// A child of the program's own that outlives it is neither waited for nor killed, unless the
/// limit is reached first.
pub fn run(program: &Program) -> io::Result<Ended> {
    let (stdin, feed) = Feed::new(program.stdin, input::anonymous)?;
    run_fed(program, stdin, feed)
}

fn run_fed(program: &Program, stdin: Stdio, mut feed: Feed) -> io::Result<Ended> {
    let mut command = Command::new(program.path);
    command
        .args(program.args)
        .env_clear()
        .envs(program.env.iter().copied())
        .current_dir("/")
        .process_group(0)
        .stdin(stdin);
    let (out, writer) = io::pipe()?;
    let err = match program.stderr {
        None => {
            command.stderr(writer.try_clone()?);
            None
        }
        Some(keep) => {
            let (err, writer) = io::pipe()?;
            command.stderr(writer);
            Some((err, keep))
        }
    };
    command.stdout(writer);
    let mut child = command.spawn()?;
    // The command holds our copies of the writing ends: with them open no end would be seen.
    drop(command);

    let mut out = Drain::new(Some(out), program.stdout);
    let (err, keep) = err.unzip();
    let mut err = Drain::new(err, keep.unwrap_or(Keep::Last(0)));
    let talked = out
        .ready()
        .and_then(|()| err.ready())
        .and_then(|()| attend(&mut child, &mut feed, &mut out, &mut err, program.limit));
    let status = match talked {
        Ok(Some(status)) => Some(status),
        Ok(None) => {
            kill(&mut child)?;
            None
        }
        Err(error) => {
            kill(&mut child)?;
            return Err(error);
        }
    };
    out.take()?;
    err.take()?;
    Ok(Ended {
        status,
        cut: out.cut,
        stdout: out.kept,
        stderr: err.kept,
    })
}

/// Feeds and drains until the child has ended (its status) or its time is up (`None`; it is
/// not reaped then).
fn attend(
    child: &mut Child,
    feed: &mut Feed,
    out: &mut Drain,
    err: &mut Drain,
    limit: Duration,
) -> io::Result<Option<ExitStatus>> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(1);
    while let Some(left) = limit.checked_sub(started.elapsed()) {
        let ends: [(Option<BorrowedFd>, PollFlags); 3] = [
            (feed.fd(), PollFlags::POLLOUT),
            (out.fd(), PollFlags::POLLIN),
            (err.fd(), PollFlags::POLLIN),
        ];
        let mut waited = [None; 3];
        let mut fds = Vec::with_capacity(3);
        for (place, (fd, flags)) in ends.into_iter().enumerate() {
            if let Some(fd) = fd {
                waited[place] = Some(fds.len());
                fds.push(PollFd::new(fd, flags));
            }
        }
        if fds.is_empty() {
            return wait(child, left);
        }
        let timeout = PollTimeout::try_from(pause.min(left)).unwrap_or(PollTimeout::MAX);
        let ready = match poll(&mut fds, timeout) {
            Ok(ready) => ready,
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        let stirred =
            waited.map(|place| place.is_some_and(|place| fds[place].any() != Some(false)));
        drop(fds);
        if stirred[0] {
            feed.give()?;
        }
        if stirred[1] {
            out.take()?;
        }
        if stirred[2] {
            err.take()?;
        }
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if ready == 0 {
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
    Ok(None)
}

/// Waits for a child of which nothing more will be heard.
fn wait(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    if let Some(status) = child.try_wait()? {
        return Ok(Some(status));
    }
    // The watch is told of the end before the child is reaped: until then the number is its.
    let pid = Pid::from_raw(child.id() as i32);
    let state = Arc::new((Mutex::new(Watched::Running), Condvar::new()));
    let watch = Arc::clone(&state);
    std::thread::Builder::new()
        .name("limit".to_owned())
        .spawn(move || {
            let (state, changed) = &*watch;
            let state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let waited =
                changed.wait_timeout_while(state, limit, |state| *state == Watched::Running);
            let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if *state == Watched::Running {
                *state = Watched::Killed;
                let _ = killpg(pid, Signal::SIGKILL);
            }
        })?;
    let ended = loop {
        match waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
            Err(Errno::EINTR) => {}
            ended => break ended,
        }
    };
    let killed = {
        let mut state = state.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *state, Watched::Ended) == Watched::Killed
    };
    state.1.notify_one();
    ended?;
    match killed {
        true => Ok(None),
        false => child.wait().map(Some),
    }
}

/// What a limited wait knows of its child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watched {
    Running,
    Killed,
    Ended,
}

/// Kills the child's process group and reaps the child.
fn kill(child: &mut Child) -> io::Result<()> {
    // The child is not reaped yet, so that its number names it and nobody else.
    match killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL) {
        // The group is still to be made, or only the dead are left in it.
        Err(Errno::ESRCH | Errno::EPERM) => child.kill()?,
        Err(errno) => return Err(errno.into()),
        Ok(()) => {}
    }
    child.wait().map(drop)
}

fn nonblocking(fd: BorrowedFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Our end of a child's output.
struct Drain {
    pipe: Option<io::PipeReader>,
    keep: Keep,
    kept: Vec<u8>,
    cut: bool,
}

impl Drain {
    fn new(pipe: Option<io::PipeReader>, keep: Keep) -> Drain {
        Drain {
            pipe,
            keep,
            kept: Vec::new(),
            cut: false,
        }
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    fn ready(&mut self) -> io::Result<()> {
        self.fd().map_or(Ok(()), nonblocking)
    }

    /// Takes what is there. At most a mebibyte at a time, so that who prints without end
    /// cannot keep us from looking at the clock.
    fn take(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        for _ in 0..64 {
            let Some(pipe) = &mut self.pipe else { break };
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(count) => self.keep(&buffer[..count]),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => break,
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) {
        match self.keep {
            Keep::First(limit) => {
                let room = limit - self.kept.len().min(limit);
                self.cut |= bytes.len() > room;
                self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            Keep::Last(limit) => {
                self.kept.extend_from_slice(bytes);
                if let Some(over @ 1..) = self.kept.len().checked_sub(limit) {
                    self.cut = true;
                    self.kept.drain(..over);
                }
            }
        }
    }
}

/// An exit status in words.
pub fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// The end of what a program printed, on one line, fit for a log: what does not print is shown
/// as `?`.
pub fn on_one_line(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = line.replace(|c: char| c.is_control() || c == '\u{fffd}', "?");
    match line.char_indices().rev().nth(SHOWN - 1) {
        Some((start @ 1.., _)) => format!("...{}", &line[start..]),
        _ => line,
    }
}

/// A command line as people know it, for a [`Failure`].
pub fn shown(path: &Path, args: &[&str]) -> String {
    let mut line = path
        .file_name()
        .map_or(Cow::Borrowed(""), |name| name.to_string_lossy());
    for arg in args {
        line.to_mut().push(' ');
        line.to_mut().push_str(arg);
    }
    line.into_owned()
}

/// What is said of a program that could not be started.
pub fn not_run(command: String, error: &io::Error) -> Failure {
    Failure::NotRun {
        command,
        why: match error.raw_os_error() {
            Some(number) => Errno::from_raw(number).desc().to_string(),
            None => error.to_string(),
        },
    }
}

/// Runs a program that must exit with 0, and whose output must be kept whole where its
/// beginning is kept. `words`: what a failure shows of what was printed, [`on_one_line`] or
/// something that knows the program better.
pub fn checked(program: &Program, words: fn(&[u8]) -> String) -> Result<Ended, Failure> {
    let command = shown(program.path, program.args);
    let ended = run(program).map_err(|error| not_run(command.clone(), &error))?;
    match ended.status {
        None => Err(Failure::TooSlow {
            command,
            limit: program.limit,
        }),
        Some(status) if !status.success() => Err(Failure::Refused {
            command,
            status: in_words(status),
            output: words(match program.stderr {
                Some(_) => &ended.stderr,
                None => &ended.stdout,
            }),
        }),
        Some(_) if ended.cut && matches!(program.stdout, Keep::First(_)) => Err(
            Failure::Unexpected(format!("{command}: printed more than was looked for")),
        ),
        Some(_) => Ok(ended),
    }
}

#[cfg(test)]
mod tests;
