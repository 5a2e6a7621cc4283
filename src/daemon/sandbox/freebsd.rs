//! Capsicum.

use std::io;
use std::os::fd::AsFd;

use capsicum::{CapRights, FileRights, IoctlsBuilder, Right};
use nix::errno::Errno;
use nix::libc;
use nix::sys::resource::Resource;

use super::{Entered, Layers, Left, limit};

pub const LAYERS: Layers = Layers::USER.and(Layers::CAPSICUM);
pub const ADDRESS_SPACE: Resource = Resource::RLIMIT_VMEM;
/// What capability mode says, and limited descriptors (errno(2)).
pub const REFUSALS: [Errno; 2] = [Errno::ECAPMODE, Errno::ENOTCAPABLE];

/// `_IOR('B', 111, struct bpf_stat)` of <net/bpf.h> (the structure has 8 bytes) by <sys/ioccom.h>.
const BIOCGSTATS: libc::u_long = 0x4000_0000 | 8 << 16 | (b'B' as libc::u_long) << 8 | 111;

/// Fails with ESRCH or EPERM outside capability mode.
pub fn trace_nobody() -> libc::c_int {
    // SAFETY: detaches from a process that is not traced; nothing is read or written.
    unsafe { libc::ptrace(libc::PT_DETACH, 0, std::ptr::null_mut(), 0) }
}

pub fn lacking() -> Vec<String> {
    // A kernel without capability mode says ENOSYS.
    let mode = capsicum::get_mode().err();
    mode.map(|e| format!("capsicum: {e}")).into_iter().collect()
}

pub fn enter(left: &Left<'_>, entered: &mut Entered) -> Result<(), String> {
    limit(left)?;
    match confine(left) {
        Ok(()) => entered.layers = entered.layers.and(Layers::CAPSICUM),
        Err(e) => entered.lacking.push(format!("capsicum: {e}")),
    }
    Ok(())
}

fn confine(left: &Left<'_>) -> io::Result<()> {
    let rights = |all: &[Right]| {
        let mut rights = FileRights::new();
        for &right in all {
            rights.allow(right);
        }
        rights
    };
    let standard = rights(&[Right::Write]);
    standard.limit(&io::stdin().as_fd())?;
    standard.limit(&io::stdout().as_fd())?;
    standard.limit(&io::stderr().as_fd())?;
    rights(&[Right::Read, Right::Write, Right::Event]).limit(&left.socket)?;
    for capture in &left.captures {
        rights(&[Right::Read, Right::Event, Right::Ioctl]).limit(capture)?;
        let statistics = IoctlsBuilder::new().allow(BIOCGSTATS).finalize();
        statistics.limit(capture)?;
    }
    capsicum::enter()
}
