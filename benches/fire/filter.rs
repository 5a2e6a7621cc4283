//! The kernel filters that a process has attached to its captures, and tcpdump with the same.

use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::unistd::Pid;

/// A program for the kernel's packet filter.
pub type Program = Vec<libc::sock_filter>;

/// A process's sockets for frames.
fn captures(process: Pid) -> Vec<OwnedFd> {
    let numbers = fs::read_dir(format!("/proc/{process}/fd"));
    let numbers = numbers.into_iter().flatten().flatten();
    numbers
        .filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
        .filter_map(|number| descriptor_of(process.as_raw(), number))
        .filter(|fd| domain(fd) == Some(libc::AF_PACKET))
        .collect()
}

/// The programs of all its captures.
pub fn programs(process: Pid) -> Vec<Program> {
    captures(process).iter().filter_map(program).collect()
}

/// Replaces the programs of all its captures.
pub fn attach(process: Pid, program: &Program) {
    let captures = captures(process);
    assert!(!captures.is_empty(), "{process} captures nothing");
    for capture in captures {
        let mut program = program.clone();
        let filter = libc::sock_fprog {
            len: program.len() as libc::c_ushort,
            filter: program.as_mut_ptr(),
        };
        // SAFETY: the option takes a sock_fprog (socket(7)), whose array lives as long as the
        // call.
        let done = unsafe {
            libc::setsockopt(
                capture.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const filter).cast(),
                size_of_val(&filter) as libc::socklen_t,
            )
        };
        Errno::result(done).expect("SO_ATTACH_FILTER");
    }
}

fn domain(socket: &OwnedFd) -> Option<i32> {
    let mut domain: libc::c_int = 0;
    let mut length = size_of_val(&domain) as libc::socklen_t;
    // SAFETY: the option gives an int (socket(7)), for which there is room.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_DOMAIN,
            (&raw mut domain).cast(),
            &raw mut length,
        )
    };
    (done == 0).then_some(domain)
}

/// The program of one socket. The kernel takes and gives lengths in instructions here
/// (sk_get_filter of linux/net/core/filter.c).
fn program(socket: &OwnedFd) -> Option<Program> {
    const MOST: usize = 4096;
    let nothing = libc::sock_filter {
        code: 0,
        jt: 0,
        jf: 0,
        k: 0,
    };
    let mut program = vec![nothing; MOST];
    let mut length = MOST as libc::socklen_t;
    // SAFETY: there is room for so many instructions as `length` says.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_GET_FILTER,
            program.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    program.truncate(length as usize);
    (done == 0 && !program.is_empty()).then_some(program)
}

/// What a descriptor of another process's refers to, as our own.
fn descriptor_of(process: i32, number: i32) -> Option<OwnedFd> {
    // SAFETY: pidfd_open(2) and pidfd_getfd(2) take numbers alone; what they give is ours.
    unsafe {
        let pidfd = libc::syscall(libc::SYS_pidfd_open, process, 0);
        let pidfd = (pidfd >= 0).then(|| OwnedFd::from_raw_fd(pidfd as i32))?;
        let fd = libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0);
        (fd >= 0).then(|| OwnedFd::from_raw_fd(fd as i32))
    }
}
