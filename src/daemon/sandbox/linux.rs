//! no_new_privs, Landlock and seccomp.

use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr,
    RulesetCreated, RulesetError, RulesetStatus, Scope,
};
use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl::set_no_new_privs;
use nix::sys::resource::Resource;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use super::{Entered, Layers, Left, limit};

pub const LAYERS: Layers = Layers::USER
    .and(Layers::NO_NEW_PRIVS)
    .and(Layers::LANDLOCK)
    .and(Layers::SECCOMP);
pub const ADDRESS_SPACE: Resource = Resource::RLIMIT_AS;
/// What a call gets that is not on the list.
pub const REFUSALS: [Errno; 1] = [Errno::EPERM];

/// Where Linux tells which actions seccomp knows (seccomp(2)).
const ACTIONS: &str = "/proc/sys/kernel/seccomp/actions_avail";

/// Fails with ESRCH where it is allowed.
pub fn trace_nobody() -> libc::c_int {
    // SAFETY: reads a word of a process that there is not, into nothing.
    unsafe { libc::ptrace(libc::PTRACE_PEEKUSER, 0, 0, 0) as libc::c_int }
}

pub fn lacking() -> Vec<String> {
    let landlock = ruleset().err().map(|e| format!("landlock: {e}"));
    let actions = fs::read_to_string(ACTIONS).unwrap_or_default();
    let seccomp = (!actions.split_whitespace().any(|action| action == "errno"))
        .then(|| "seccomp: not in this kernel".to_owned());
    landlock.into_iter().chain(seccomp).collect()
}

pub fn enter(left: &Left<'_>, entered: &mut Entered) -> Result<(), String> {
    let mut note = |layer, name, result: Result<(), String>| match result {
        Ok(()) => entered.layers = entered.layers.and(layer),
        Err(why) => entered.lacking.push(format!("{name}: {why}")),
    };
    let no_new_privs = set_no_new_privs().map_err(|e| e.to_string());
    note(Layers::NO_NEW_PRIVS, "no_new_privs", no_new_privs);
    note(Layers::LANDLOCK, "landlock", landlock());
    // Landlock takes a descriptor for a moment; after seccomp nothing can be limited.
    limit(left)?;
    note(Layers::SECCOMP, "seccomp", seccomp(left));
    Ok(())
}

/// Nothing is allowed. What Linux 5.13 had must be had, what came later is taken where it is.
fn ruleset() -> Result<RulesetCreated, RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V6))?
        .handle_access(AccessNet::from_all(ABI::V6))?
        .scope(Scope::from_all(ABI::V6))?
        .create()
}

fn landlock() -> Result<(), String> {
    let status = ruleset().and_then(RulesetCreated::restrict_self);
    match status.map_err(|e| e.to_string())?.ruleset {
        RulesetStatus::NotEnforced => Err("not in force".into()),
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
    }
}

/// One condition on an argument.
struct Only(u8, SeccompCmpOp, u64);

/// A call and what its arguments must be; without conditions: anything.
type Allowed = (libc::c_long, Vec<Only>);

/// The system calls of a listener. Frames come through memory that is mapped already; to write
/// to a capture would be to send.
fn allowed(socket: BorrowedFd<'_>) -> Vec<Allowed> {
    use SeccompCmpOp::{Eq, MaskedEq};
    let socket = || Only(0, Eq, socket.as_raw_fd() as u64);
    let anonymous = libc::MAP_ANONYMOUS as u64;
    let executable = libc::PROT_EXEC as u64;
    let is = |argument, value: libc::c_int| Only(argument, Eq, value as u64);
    let mut all = vec![
        // Waiting.
        (libc::SYS_ppoll, vec![]),
        (libc::SYS_restart_syscall, vec![]),
        (libc::SYS_clock_gettime, vec![]),
        // The monitor.
        (libc::SYS_read, vec![socket()]),
        (libc::SYS_recvfrom, vec![socket()]),
        (libc::SYS_write, vec![socket()]),
        (libc::SYS_sendto, vec![socket(), is(4, 0)]),
        // Captures: what was dropped, whether the interface is still there, its end.
        (
            libc::SYS_getsockopt,
            vec![is(1, libc::SOL_PACKET), is(2, libc::PACKET_STATISTICS)],
        ),
        (
            libc::SYS_getsockopt,
            vec![is(1, libc::SOL_SOCKET), is(2, libc::SO_ERROR)],
        ),
        (libc::SYS_ioctl, vec![Only(1, Eq, libc::SIOCGIFFLAGS)]),
        (libc::SYS_getsockname, vec![]),
        (libc::SYS_close, vec![]),
        // Memory.
        (libc::SYS_brk, vec![]),
        (
            libc::SYS_mmap,
            vec![
                Only(2, MaskedEq(executable), 0),
                Only(3, MaskedEq(anonymous), anonymous),
            ],
        ),
        (libc::SYS_mremap, vec![]),
        (libc::SYS_munmap, vec![]),
        // The end.
        (libc::SYS_rt_sigreturn, vec![]),
        (libc::SYS_exit_group, vec![]),
    ];
    #[cfg(target_arch = "x86_64")]
    all.push((libc::SYS_poll, vec![]));
    all
}

/// Everything but [`allowed`] is refused with EPERM; a call of another architecture ends the
/// process.
fn filter(socket: BorrowedFd<'_>) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules = std::collections::BTreeMap::<i64, Vec<SeccompRule>>::new();
    for (call, conditions) in allowed(socket) {
        let entry = rules.entry(call).or_default();
        if conditions.is_empty() {
            continue;
        }
        let conditions = conditions.into_iter().map(|Only(argument, op, value)| {
            SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value)
        });
        entry.push(SeccompRule::new(conditions.collect::<Result<_, _>>()?)?);
    }
    SeccompFilter::new(
        rules,
        SeccompAction::Errno(libc::EPERM as u32),
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )?
    .try_into()
}

fn seccomp(left: &Left<'_>) -> Result<(), String> {
    let program = filter(left.socket).map_err(|e| e.to_string())?;
    seccompiler::apply_filter(&program).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn as_many_calls_as_the_manual_says() {
        let input = std::io::stdin();
        let calls: BTreeSet<_> = allowed(input.as_fd()).iter().map(|(n, _)| *n).collect();
        let poll = usize::from(cfg!(target_arch = "x86_64"));
        assert_eq!(calls.len(), 17 + poll);
        let manual = include_str!("../../../man/posternd.8");
        assert!(manual.contains("a list of 18 system calls"));
    }
}
