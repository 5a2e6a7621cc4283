//! What a process of ours leaves behind when it falls over: no core, and no words out of its
//! configuration.

use std::any::Any;
use std::io;
use std::panic::PanicHookInfo;

use crate::exit;

/// The kernel writes no core of this process, and lets nobody but root look into it (on FreeBSD
/// nobody at all). Unlike a limit this ends when a command of the administrator's is executed.
///
/// # Errors
/// The system's: on FreeBSD a process that is being traced cannot be hidden.
pub fn forbid_cores() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_dumpable(false)?;
    #[cfg(target_os = "freebsd")]
    {
        use nix::libc::{P_PID, PROC_TRACE_CTL, PROC_TRACE_CTL_DISABLE, c_int, procctl};
        let mut how: c_int = PROC_TRACE_CTL_DISABLE;
        let id = nix::unistd::getpid().as_raw().into();
        // SAFETY: procctl(2) reads an int for this command, and it outlives the call.
        let done = unsafe { procctl(P_PID, id, PROC_TRACE_CTL, (&raw mut how).cast()) };
        nix::errno::Errno::result(done)?;
    }
    Ok(())
}

/// From now on a panic ends the program, and says where, and why only in words that stand in the
/// program: a text made at run time may quote what it was made from, and standard error may lead
/// to syslog.
pub fn curb_panics() {
    exit::at_panics(|panic: &PanicHookInfo<'_>| {
        let at = panic.location().map(ToString::to_string);
        let at = at.as_deref().unwrap_or("an unknown place");
        eprintln!("posternd: panic at {at}: {}", words(panic.payload()));
    });
}

fn words(payload: &dyn Any) -> &'static str {
    payload
        .downcast_ref::<&'static str>()
        .copied()
        .unwrap_or("its text may quote the configuration and is withheld")
}

#[cfg(test)]
mod tests {
    use std::panic;

    use super::*;

    #[test]
    fn a_panic_quotes_nothing() {
        let panic = |f: fn()| panic::catch_unwind(f).unwrap_err();
        let literal = panic(|| panic!("plain data"));
        assert_eq!(words(&*literal), "plain data");
        let quoting = panic(|| {
            let line = String::from("7143,2912é");
            let _ = &line[..10];
        });
        assert!(
            quoting.downcast_ref::<String>().unwrap().contains("7143"),
            "the text that must not be seen"
        );
        assert!(words(&*quoting).ends_with("is withheld"));
    }
}
