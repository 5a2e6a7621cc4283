//! What a child reads: the whole of it or nothing.
//!
//! A packet filter's command takes the end of its input for the end of the script. One that came
//! through a pipe from a process that died would be carried out in part, or, with nothing in it
//! yet, as the empty ruleset that pfctl(8) loads too. So the script stands in an anonymous file
//! before the child starts. Where none can be had a pipe is filled before the child starts, and
//! only what it does not hold is fed later.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::process::Stdio;

/// Our end of a child's standard input.
pub struct Feed<'a> {
    pipe: Option<io::PipeWriter>,
    left: &'a [u8],
}

impl<'a> Feed<'a> {
    /// A standard input for a child to be started, and what it must be fed then. `file`: makes
    /// an empty file that no one else knows, [`anonymous`].
    pub fn new(
        script: &'a [u8],
        file: impl FnOnce() -> io::Result<File>,
    ) -> io::Result<(Stdio, Feed<'a>)> {
        let nothing = Feed {
            pipe: None,
            left: &[],
        };
        if script.is_empty() {
            return Ok((Stdio::null(), nothing));
        }
        if let Ok(file) = file().and_then(|file| filled(file, script)) {
            return Ok((file.into(), nothing));
        }
        let (reader, writer) = io::pipe()?;
        super::nonblocking(writer.as_fd())?;
        let mut feed = Feed {
            pipe: Some(writer),
            left: script,
        };
        feed.give()?;
        Ok((reader.into(), feed))
    }

    /// What to wait for until it can be written to; `None`: all was given.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Gives what is taken now; the end, once all was.
    pub fn give(&mut self) -> io::Result<()> {
        while let Some(pipe) = &mut self.pipe {
            if self.left.is_empty() {
                self.pipe = None;
                break;
            }
            match pipe.write(self.left) {
                Ok(count) => self.left = &self.left[count..],
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => break,
                    io::ErrorKind::Interrupted => {}
                    // It wants no more; how it ended will say whether that is well.
                    io::ErrorKind::BrokenPipe => self.pipe = None,
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }
}

/// The file with this in it, to be read from its beginning.
fn filled(file: File, script: &[u8]) -> io::Result<File> {
    // FreeBSD's shared memory does not grow when it is written to (shm_write in uipc_shm.c).
    file.set_len(script.len() as u64)?;
    file.write_all_at(script, 0)?;
    Ok(file)
}

/// A file in memory that has no name and is closed when another program is run.
#[cfg(target_os = "linux")]
pub fn anonymous() -> io::Result<File> {
    use nix::errno::Errno;
    use nix::sys::memfd::{MFdFlags, memfd_create};

    /// MFD_NOEXEC_SEAL of linux/memfd.h, since Linux 6.3: where vm.memfd_noexec is 2 nothing
    /// else is given.
    const NOEXEC: MFdFlags = MFdFlags::from_bits_retain(8);
    let made = match memfd_create(c"script", MFdFlags::MFD_CLOEXEC | NOEXEC) {
        Err(Errno::EINVAL) => memfd_create(c"script", MFdFlags::MFD_CLOEXEC),
        made => made,
    };
    Ok(File::from(made?))
}

/// A file in memory that has no name and is closed when another program is run.
#[cfg(target_os = "freebsd")]
pub fn anonymous() -> io::Result<File> {
    use nix::errno::Errno;
    use nix::libc;
    use std::os::fd::{FromRawFd, OwnedFd};

    // SAFETY: SHM_ANON is no pointer to be read but what shm_open(2) takes instead of one.
    let fd = unsafe { libc::shm_open(libc::SHM_ANON, libc::O_RDWR | libc::O_CLOEXEC, 0o600) };
    let fd = Errno::result(fd)?;
    // SAFETY: the descriptor was made just now, and nobody else has it.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// A file in memory that has no name and is closed when another program is run.
#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
pub fn anonymous() -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}
