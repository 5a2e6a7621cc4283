//! Starts our own executable again as the listener.

use std::convert::Infallible;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::unistd::fexecve;

/// What the listener finds as its first argument.
pub const LISTENER: &str = "--listener";

/// Our own executable, held open: an upgrade on disk changes nothing under way.
pub struct Executable(File);

impl Executable {
    /// Opens the file that this process was started from.
    ///
    /// # Errors
    /// The system's.
    pub fn open() -> io::Result<Executable> {
        #[cfg(target_os = "linux")]
        let path = "/proc/self/exe";
        #[cfg(not(target_os = "linux"))]
        let path = std::env::current_exe()?;
        File::open(path).map(Executable)
    }

    /// Starts a listener; its standard input is our socket's other end, its other standard
    /// descriptors lead nowhere, its environment is empty, and it leads a process group of its
    /// own: what ends it ends whatever it has started.
    ///
    /// # Errors
    /// The system's.
    pub fn listener(&self) -> io::Result<(Child, UnixStream)> {
        const ARGUMENTS: [&CStr; 2] = [c"posternd: listener", c"--listener"];
        let (ours, theirs) = UnixStream::pair()?;
        let executable = self.0.try_clone()?;
        let start = move || -> io::Result<()> {
            let failed: nix::Result<Infallible> = fexecve(&executable, &ARGUMENTS, &[] as &[&CStr]);
            Err(failed.map_or_else(io::Error::from, |never| match never {}))
        };
        let mut command = Command::new("posternd");
        command
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        // SAFETY: between fork and exec the closure makes one system call on a descriptor and
        // on strings that exist already; on failure it hands back an error made of a number.
        unsafe { command.pre_exec(start) };
        Ok((command.spawn()?, ours))
    }
}
