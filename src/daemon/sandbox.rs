//! The listener gives everything up.

use std::path::Path;

use nix::errno::Errno;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid, chdir, chroot, setgid, setgroups, setuid};

/// Descriptors a listener may have: its captures, its socket, the standard three.
const DESCRIPTORS: nix::libc::rlim_t = 64;

/// Closes all descriptors but the standard three: whoever started the monitor may have left some
/// open, and they would reach the listener.
///
/// # Errors
/// The system's; the caller must not go on then.
pub fn close_inherited() -> Result<(), Errno> {
    #[cfg(target_os = "linux")]
    // SAFETY: close_range(2) takes three numbers. Nothing in this process owns a descriptor
    // beyond the standard three when it has just been started.
    let closed = unsafe { nix::libc::syscall(nix::libc::SYS_close_range, 3, u32::MAX, 0) };
    #[cfg(not(target_os = "linux"))]
    // SAFETY: closefrom(2) takes a number; as above.
    let closed = unsafe {
        nix::libc::closefrom(3);
        0
    };
    Errno::result(closed).map(drop)
}

/// Becomes `uid` and `gid` in an empty root directory, for good.
///
/// # Errors
/// Which step failed and why; the caller must not go on then.
pub fn enter(root: &Path, uid: u32, gid: u32) -> Result<(), String> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let step = |what: &str, result: nix::Result<()>| result.map_err(|e| format!("{what}: {e}"));
    step("chroot", chroot(root))?;
    step("chdir", chdir("/"))?;
    step("setgroups", setgroups(&[gid]))?;
    step("setgid", setgid(gid))?;
    step("setuid", setuid(uid))?;
    if !uid.is_root() && setuid(Uid::from_raw(0)) != Err(Errno::EPERM) {
        return Err("setuid: root can be had back".into());
    }
    #[cfg(target_os = "linux")]
    step("no_new_privs", nix::sys::prctl::set_no_new_privs())?;
    step(
        "limit of descriptors",
        setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS, DESCRIPTORS),
    )?;
    step("limit of files", setrlimit(Resource::RLIMIT_FSIZE, 0, 0))?;
    step("limit of cores", setrlimit(Resource::RLIMIT_CORE, 0, 0))?;
    step(
        "limit of processes",
        setrlimit(Resource::RLIMIT_NPROC, 0, 0),
    )?;
    Ok(())
}
