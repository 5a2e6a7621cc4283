//! The listener gives everything up.
//!
//! A program that has no rights left can still hold descriptors, spend memory and ask the kernel
//! things. So, in this order: its own user and group, an empty directory as its root, limits on
//! memory, descriptors, processes and files, and then what the kernel has to forbid the rest: on
//! FreeBSD capability mode with the rights of every descriptor limited, on Linux no_new_privs,
//! Landlock and a list of the few system calls that are needed. At last it tries what it must
//! not be able to do.

#[cfg(target_os = "freebsd")]
mod freebsd;
#[cfg(target_os = "linux")]
mod linux;

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use nix::sys::resource::{Resource, rlim_t, setrlimit};
use nix::unistd::{Gid, Uid, chdir, chroot, dup2_stdin, setgid, setgroups, setuid};

use super::dumps::forbid_cores;
use crate::config::Confine;
#[cfg(target_os = "freebsd")]
use freebsd as system;
#[cfg(target_os = "linux")]
use linux as system;

/// An empty directory that systems have for such ends (hier(7)).
const EMPTY: &str = "/var/empty";
/// Address space, in bytes: the table of attempts has 32 MiB, program and libraries some 20, what
/// waits for the monitor 4.
const MEMORY: rlim_t = 256 << 20;
/// The same for each capture: a ring of 16 MiB at most on Linux, a buffer of 512 KiB on FreeBSD.
const MEMORY_EACH: rlim_t = 20 << 20;

/// What confines a listener, a bit each. The order is that in which they are entered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layers(pub u32);

impl Layers {
    /// Own user and group, an empty root directory, limits. Everywhere, and never done without.
    pub const USER: Layers = Layers(1);
    /// Linux: prctl(2), PR_SET_NO_NEW_PRIVS.
    pub const NO_NEW_PRIVS: Layers = Layers(1 << 1);
    /// Linux: landlock(7), no file and no port.
    pub const LANDLOCK: Layers = Layers(1 << 2);
    /// Linux: seccomp(2), a list of system calls.
    pub const SECCOMP: Layers = Layers(1 << 3);
    /// FreeBSD: capsicum(4), capability mode and limited rights.
    pub const CAPSICUM: Layers = Layers(1 << 4);

    /// All that this system has, and that [`Confine::Required`] asks for.
    pub const ALL: Layers = system::LAYERS;

    const NAMES: [(Layers, &'static str); 5] = [
        (Layers::USER, "its own user, an empty root, limits"),
        (Layers::NO_NEW_PRIVS, "no_new_privs"),
        (Layers::LANDLOCK, "landlock"),
        (Layers::SECCOMP, "seccomp"),
        (Layers::CAPSICUM, "capsicum"),
    ];

    /// Both together.
    pub const fn and(self, other: Layers) -> Layers {
        Layers(self.0 | other.0)
    }

    /// Whether all of `other` are among these.
    pub const fn has(self, other: Layers) -> bool {
        self.0 & other.0 == other.0
    }

    /// Their names.
    pub fn names(self) -> Vec<&'static str> {
        let mine = Layers::NAMES.iter().filter(|(layer, _)| self.has(*layer));
        mine.map(|(_, name)| *name).collect()
    }
}

/// What a listener is left with.
pub struct Left<'f> {
    /// The socket to the monitor.
    pub socket: BorrowedFd<'f>,
    /// What frames are read from.
    pub captures: Vec<BorrowedFd<'f>>,
}

/// How it went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entered {
    /// What was entered.
    pub layers: Layers,
    /// What was not, and why. Never anything under [`Confine::Required`].
    pub lacking: Vec<String>,
}

/// Closes all descriptors but the standard three: whoever started the monitor may have left some
/// open, and they would reach the listener.
///
/// # Errors
/// The system's; the caller must not go on then.
pub fn close_inherited() -> Result<(), Errno> {
    #[cfg(target_os = "linux")]
    // SAFETY: close_range(2) takes three numbers. Nothing in this process owns a descriptor
    // beyond the standard three when it has just been started.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
    #[cfg(not(target_os = "linux"))]
    // SAFETY: closefrom(2) takes a number; as above.
    let closed = unsafe {
        libc::closefrom(3);
        0
    };
    Errno::result(closed).map(drop)
}

/// Leads standard input nowhere, as the other two standard descriptors do already.
///
/// # Errors
/// The system's.
pub fn let_go_of_input() -> Result<(), Errno> {
    dup2_stdin(io::stdout())
}

/// The directory that becomes the listener's root: /var/empty where that is what its name says
/// and root's alone, `own` elsewhere.
pub fn root(own: &Path) -> PathBuf {
    let empty = Path::new(EMPTY);
    let fits = fs::symlink_metadata(empty).is_ok_and(|meta| {
        meta.is_dir() && meta.uid() == 0 && meta.permissions().mode() & 0o022 == 0
    });
    let fits = fits && fs::read_dir(empty).is_ok_and(|mut all| all.next().is_none());
    if fits { empty } else { own }.to_owned()
}

/// What of the confinement this system cannot give, each with why, as far as that can be known
/// before. Nothing is changed.
pub fn lacking() -> Vec<String> {
    system::lacking()
}

/// Becomes `uid` and `gid` in the empty directory `root` and enters all the confinement there
/// is, for good.
///
/// # Errors
/// Which step failed and why, or what can still be done that must not; the caller must not go on
/// then.
pub fn enter(
    root: &Path,
    (uid, gid): (u32, u32),
    confine: Confine,
    left: &Left<'_>,
) -> Result<Entered, String> {
    become_nobody(root, Uid::from_raw(uid), Gid::from_raw(gid))?;
    let mut entered = Entered {
        layers: Layers::USER,
        lacking: Vec::new(),
    };
    if let Err(e) = forbid_cores() {
        entered.lacking.push(format!("cores and tracing: {e}"));
    }
    system::enter(left, &mut entered)?;
    let possible = still_possible(left.socket.as_fd());
    if !possible.is_empty() {
        let text = format!("can still {}", possible.join(", "));
        entered.lacking.push(text);
    }
    match entered.lacking.first() {
        Some(lacking) if confine == Confine::Required => Err(lacking.clone()),
        _ => Ok(entered),
    }
}

fn become_nobody(root: &Path, uid: Uid, gid: Gid) -> Result<(), String> {
    let step = |what: &str, result: nix::Result<()>| result.map_err(|e| format!("{what}: {e}"));
    step("chroot", chroot(root))?;
    step("chdir", chdir("/"))?;
    step("setgroups", setgroups(&[gid]))?;
    step("setgid", setgid(gid))?;
    step("setuid", setuid(uid))?;
    if !uid.is_root() && setuid(Uid::from_raw(0)) != Err(Errno::EPERM) {
        return Err("setuid: root can be had back".into());
    }
    Ok(())
}

/// No process, no file, no core, no descriptor beyond those that poll(2) is given, and as much
/// memory as is needed.
fn limit(left: &Left<'_>) -> Result<(), String> {
    let captures = left.captures.len() as rlim_t;
    let limits = [
        (Resource::RLIMIT_NOFILE, captures + 1),
        (Resource::RLIMIT_NPROC, 0),
        (Resource::RLIMIT_FSIZE, 0),
        (Resource::RLIMIT_CORE, 0),
        (system::ADDRESS_SPACE, MEMORY + captures * MEMORY_EACH),
    ];
    for (resource, most) in limits {
        setrlimit(resource, most, most).map_err(|e| format!("{resource:?}: {e}"))?;
    }
    Ok(())
}

/// Tries to open a file, to connect, to run a program, to signal and to trace a process. What
/// the kernel does not refuse for being confined, whatever else it says to it.
fn still_possible(socket: BorrowedFd<'_>) -> Vec<&'static str> {
    use std::os::fd::AsRawFd;
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 9u16.to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from_be_bytes([127, 0, 0, 1]).to_be(),
        },
        sin_zero: [0; 8],
        #[cfg(target_os = "freebsd")]
        sin_len: size_of::<libc::sockaddr_in>() as u8,
    };
    let length = size_of_val(&address) as libc::socklen_t;
    let none = std::ptr::null();
    // SAFETY: the strings end in NUL, the address and the empty lists of strings live as long as
    // the calls; none of them writes to memory of ours. None of them does harm should it succeed:
    // the directory is empty, the socket is connected already, / cannot be run, no signal is
    // sent, there is no process 0 to be traced.
    let tried = unsafe {
        [
            ("open files", refused(|| libc::open(c"/".as_ptr(), 0))),
            (
                "connect",
                refused(|| libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length)),
            ),
            (
                "run programs",
                refused(|| libc::execve(c"/".as_ptr(), &raw const none, &raw const none)),
            ),
            ("signal", refused(|| libc::kill(0, 0))),
            ("trace", refused(system::trace_nobody)),
        ]
    };
    let possible = tried.iter().filter(|(_, refused)| !refused);
    possible.map(|(what, _)| *what).collect()
}

fn refused(call: impl FnOnce() -> libc::c_int) -> bool {
    let result = Errno::result(call());
    result.is_err_and(|e| system::REFUSALS.contains(&e))
}
