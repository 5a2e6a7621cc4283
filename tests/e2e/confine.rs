//! What a listener that has been taken over could do: nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::libc::{self, c_long};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use crate::harness::{Daemon, Net, Ran, program, until};
use crate::{STEPS, ssh};

/// System calls made in another process's name (ptrace(2)): where it waits in one, that
/// instruction is used again for others, and at last for the one that it was in.
#[cfg(target_arch = "x86_64")]
mod puppet {
    use nix::errno::Errno;
    use nix::libc::{c_long, user_regs_struct};
    use nix::sys::ptrace;
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::Pid;

    pub struct Puppet {
        pid: Pid,
        before: user_regs_struct,
    }

    impl Puppet {
        /// Takes hold of a process that waits in a system call.
        pub fn take(pid: Pid) -> Puppet {
            ptrace::attach(pid).unwrap();
            assert!(matches!(
                waitpid(pid, None).unwrap(),
                WaitStatus::Stopped(..)
            ));
            let before = ptrace::getregs(pid).unwrap();
            let code = ptrace::read(pid, (before.rip - 2) as ptrace::AddressType).unwrap();
            assert_eq!(code & 0xffff, 0x050f, "it waits in no system call");
            Puppet { pid, before }
        }

        /// An address in its memory where this text stands, for one call.
        pub fn text(&self, text: &[u8; 8]) -> u64 {
            let at = self.before.rsp - 1024;
            let word = c_long::from_ne_bytes(*text);
            ptrace::write(self.pid, at as ptrace::AddressType, word).unwrap();
            at
        }

        /// Makes a call.
        pub fn call(&self, number: c_long, arguments: [u64; 6]) -> Result<c_long, Errno> {
            let [rdi, rsi, rdx, r10, r8, r9] = arguments;
            let registers = user_regs_struct {
                orig_rax: u64::MAX,
                rax: number as u64,
                rip: self.before.rip - 2,
                rdi,
                rsi,
                rdx,
                r10,
                r8,
                r9,
                ..self.before
            };
            ptrace::setregs(self.pid, registers).unwrap();
            ptrace::step(self.pid, None).unwrap();
            let status = waitpid(self.pid, None).unwrap();
            assert!(matches!(status, WaitStatus::Stopped(..)), "{status:?}");
            let after = ptrace::getregs(self.pid).unwrap();
            assert_eq!(after.rip, self.before.rip, "one instruction was run");
            let result = after.rax as c_long;
            match result {
                -4095..0 => Err(Errno::from_raw(-result as i32)),
                _ => Ok(result),
            }
        }
    }

    impl Drop for Puppet {
        fn drop(&mut self) {
            let _ = ptrace::setregs(self.pid, self.before);
            let _ = ptrace::detach(self.pid, None);
        }
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn what_a_captured_listener_attempts_is_refused() {
    let net = Net::new(1);
    let daemon = Daemon::start(&net.server, &[ssh("1h")]);
    let listener = daemon.listener();
    let capture = fs::read_dir(format!("/proc/{listener}/fd"))
        .unwrap()
        .map(|fd| fd.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .filter(|fd: &u64| *fd > 3)
        .collect::<Vec<_>>();
    assert!(!capture.is_empty());
    {
        let puppet = puppet::Puppet::take(listener);
        let root = puppet.text(b"/\0\0\0\0\0\0\0");
        let monitor = daemon.monitor().as_raw() as u64;
        let own = listener.as_raw() as u64;
        let at = libc::AT_FDCWD as u64;
        let attempts: Vec<(&str, c_long, [u64; 6])> = vec![
            ("open", libc::SYS_open, [root, 0, 0, 0, 0, 0]),
            ("openat", libc::SYS_openat, [at, root, 0, 0, 0, 0]),
            ("stat", libc::SYS_newfstatat, [at, root, root, 0, 0, 0]),
            ("socket", libc::SYS_socket, [2, 1, 0, 0, 0, 0]),
            ("socketpair", libc::SYS_socketpair, [1, 1, 0, root, 0, 0]),
            ("connect", libc::SYS_connect, [3, root, 16, 0, 0, 0]),
            ("bind", libc::SYS_bind, [3, root, 16, 0, 0, 0]),
            ("execve", libc::SYS_execve, [root, 0, 0, 0, 0, 0]),
            ("execveat", libc::SYS_execveat, [at, root, 0, 0, 0, 0]),
            ("kill the monitor", libc::SYS_kill, [monitor, 9, 0, 0, 0, 0]),
            ("kill itself", libc::SYS_kill, [own, 0, 0, 0, 0, 0]),
            ("tgkill", libc::SYS_tgkill, [own, own, 0, 0, 0, 0]),
            ("ptrace", libc::SYS_ptrace, [16, monitor, 0, 0, 0, 0]),
            (
                "read another's memory",
                libc::SYS_process_vm_readv,
                [monitor, root, 1, root, 1, 0],
            ),
            ("fork", libc::SYS_fork, [0; 6]),
            ("clone", libc::SYS_clone, [17, 0, 0, 0, 0, 0]),
            ("clone3", libc::SYS_clone3, [root, 64, 0, 0, 0, 0]),
            ("setuid", libc::SYS_setuid, [0; 6]),
            ("chroot", libc::SYS_chroot, [root, 0, 0, 0, 0, 0]),
            ("mount", libc::SYS_mount, [root, root, root, 0, 0, 0]),
            ("unshare", libc::SYS_unshare, [0x1000_0000, 0, 0, 0, 0, 0]),
            ("bpf", libc::SYS_bpf, [0; 6]),
            ("io_uring", libc::SYS_io_uring_setup, [1, root, 0, 0, 0, 0]),
            ("memfd", libc::SYS_memfd_create, [root, 0, 0, 0, 0, 0]),
            ("prctl", libc::SYS_prctl, [3, 0, 0, 0, 0, 0]),
            ("more limits", libc::SYS_prlimit64, [0, 7, 0, 0, 0, 0]),
            ("dup", libc::SYS_dup, [3, 0, 0, 0, 0, 0]),
            ("fcntl", libc::SYS_fcntl, [3, 1, 0, 0, 0, 0]),
            (
                "memory to execute",
                libc::SYS_mmap,
                [0, 4096, 5, 0x22, u64::MAX, 0],
            ),
            (
                "a file in memory",
                libc::SYS_mmap,
                [0, 4096, 1, 2, capture[0], 0],
            ),
            (
                "mprotect",
                libc::SYS_mprotect,
                [root & !4095, 4096, 5, 0, 0, 0],
            ),
            ("another ioctl", libc::SYS_ioctl, [3, 0x5401, 0, 0, 0, 0]),
            (
                "another option",
                libc::SYS_getsockopt,
                [3, 1, 3, root, root, 0],
            ),
            (
                "setsockopt",
                libc::SYS_setsockopt,
                [capture[0], 263, 1, root, 4, 0],
            ),
            ("x32", libc::SYS_read | 0x4000_0000, [3, root, 1, 0, 0, 0]),
            ("no such call", 9999, [0; 6]),
        ];
        for (what, number, arguments) in &attempts {
            let result = puppet.call(*number, *arguments);
            assert_eq!(result, Err(Errno::EPERM), "{what}");
        }
        for fd in &capture {
            for (what, number) in [("send", libc::SYS_sendto), ("write", libc::SYS_write)] {
                let result = puppet.call(number, [*fd, root, 8, 0, 0, 0]);
                assert_eq!(result, Err(Errno::EPERM), "{what} a frame by {fd}");
            }
        }
        // It is the very process, and it could do what it is left.
        let result = puppet.call(libc::SYS_clock_gettime, [1, root, 0, 0, 0, 0]);
        assert_eq!(result, Ok(0));
    }
    net.client().knock(net.server.v4, &STEPS);
    daemon.wait_lease("ssh", net.client().v4);
    assert_eq!(daemon.listener(), listener, "it goes on");
}

#[test]
fn the_listener_is_confined_and_says_by_what() {
    let net = Net::new(1);
    let daemon = Daemon::start(&net.server, &[ssh("1h")]);
    let process = format!("/proc/{}", daemon.listener());
    let status = fs::read_to_string(format!("{process}/status")).unwrap();
    assert!(status.contains("\nSeccomp:\t2\n"), "{status}");
    assert!(status.contains("\nNoNewPrivs:\t1\n"), "{status}");
    let limits = fs::read_to_string(format!("{process}/limits")).unwrap();
    let hard = |name: &str| {
        let line = limits.lines().find(|l| l.starts_with(name)).unwrap();
        line[name.len()..]
            .split_whitespace()
            .nth(1)
            .unwrap()
            .to_owned()
    };
    assert_eq!(hard("Max processes"), "0");
    assert_eq!(hard("Max file size"), "0");
    assert_eq!(hard("Max core file size"), "0");
    assert_eq!(hard("Max open files"), "2", "a capture and the socket");
    assert_eq!(hard("Max address space"), (276 << 20).to_string());

    let layers = [
        "its own user, an empty root, limits",
        "no_new_privs",
        "landlock",
        "seccomp",
    ];
    daemon.wait_log(&format!("the listener is confined: {}", layers.join(", ")));
    let confined = &daemon.status().unwrap()["confined_by"];
    assert_eq!(*confined, serde_json::json!(layers));
}

/// A posternd under a kernel that says no to these system calls.
fn without(daemon: &Daemon, calls: &[(c_long, Errno)]) -> Command {
    let mut command = daemon.command();
    refuse(&mut command, calls);
    command
}

fn refuse(command: &mut Command, calls: &[(c_long, Errno)]) {
    for &(call, errno) in calls {
        let filter = SeccompFilter::new(
            BTreeMap::from([(call, vec![])]),
            SeccompAction::Allow,
            SeccompAction::Errno(errno as u32),
            std::env::consts::ARCH.try_into().unwrap(),
        );
        let program: BpfProgram = filter.unwrap().try_into().unwrap();
        let apply = move || seccompiler::apply_filter(&program).map_err(std::io::Error::other);
        // SAFETY: two system calls with memory that exists already.
        unsafe { command.pre_exec(apply) };
    }
}

#[test]
fn where_it_cannot_be_confined_nothing_is_started() {
    let net = Net::new(1);
    let daemon = Daemon::prepare(&net.server, &[ssh("1h")]);
    let no_landlock = [(libc::SYS_landlock_create_ruleset, Errno::ENOSYS)];
    let config = daemon.path("postern.toml");
    let mut check = Command::new(program("posternctl"));
    check.args(["check", "-c"]).arg(&config);
    refuse(&mut check, &no_landlock);
    let ran = Ran::of(&mut check);
    let words = "warning: confine: posternd will refuse it: ";
    assert!(ran.stdout.contains(words), "{ran:?}");

    let ran = Ran::of(&mut without(&daemon, &no_landlock));
    assert_eq!(ran.code(), 69, "{ran:?}");
    for words in ["confine: ", "landlock: ", "confine = \"try\""] {
        assert!(ran.stderr.contains(words), "{words}: {ran:?}");
    }
    assert!(!daemon.path("state").exists() && !daemon.path("log").exists());
    assert_eq!(net.server.run("nft list ruleset"), "");
}

#[test]
fn a_listener_that_cannot_be_confined_is_not_listened_to() {
    let net = Net::new(1);
    let mut daemon = Daemon::prepare(&net.server, &[ssh("1h")]);
    // It looks as if it could until it is tried.
    let broken = [(libc::SYS_landlock_restrict_self, Errno::E2BIG)];
    daemon.spawn_as(without(&daemon, &broken));
    daemon.wait_log("the listener is not confined: landlock: ");
    daemon.wait_log("the listener is gone (");
    until("the guard stands", || {
        net.server
            .run("nft list ruleset")
            .contains("postern: guard")
    });
    let status = daemon.status().unwrap();
    assert!(status["listener"].is_null(), "{status}");
    assert!(daemon.leases().is_empty());
}

#[test]
fn tried_it_goes_on_with_what_there_is_and_says_what_is_lacking() {
    let net = Net::new(1);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    daemon.set("confine", "\"try\"");
    daemon.configure(&[ssh("1h")]);
    let no_landlock = [(libc::SYS_landlock_create_ruleset, Errno::ENOSYS)];
    daemon.spawn_as(without(&daemon, &no_landlock));
    until("it listens", || daemon.listens());
    daemon.wait_log("the listener is not confined: landlock: ");
    daemon.wait_log(
        "the listener is confined: its own user, an empty root, limits, no_new_privs, seccomp",
    );
    net.client().knock(net.server.v4, &STEPS);
    daemon.wait_lease("ssh", net.client().v4);

    // What is required again is refused, and what was goes on.
    daemon.set("confine", "\"required\"");
    daemon.configure(&[ssh("1h")]);
    let ran = daemon.ctl(&["reload"]);
    assert_eq!(ran.code(), 78, "{ran:?}");
    assert!(ran.stderr.contains("confine: "), "{ran:?}");
    assert!(daemon.lease("ssh", net.client().v4).is_some());
}
