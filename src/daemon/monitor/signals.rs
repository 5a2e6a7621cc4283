//! Signals, as flags and as a byte in a pipe that wakes the poll.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};

/// Signals, as flags and as a byte in a pipe that wakes the poll.
pub(super) struct Signals {
    pub(super) wake: UnixStream,
    pub(super) reload: Arc<AtomicBool>,
    pub(super) reopen: Arc<AtomicBool>,
    pub(super) stop: Arc<AtomicBool>,
}

impl Signals {
    pub(super) fn catch() -> io::Result<Signals> {
        let (wake, write) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let signals = Signals {
            wake,
            reload: Arc::default(),
            reopen: Arc::default(),
            stop: Arc::default(),
        };
        for (signal, flag) in [
            (SIGHUP, &signals.reload),
            (SIGUSR1, &signals.reopen),
            (SIGTERM, &signals.stop),
            (SIGINT, &signals.stop),
        ] {
            signal_hook::flag::register(signal, flag.clone())?;
            signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
        }
        Ok(signals)
    }

    pub(super) fn clear(&mut self) {
        let mut bytes = [0; 64];
        while matches!(self.wake.read(&mut bytes), Ok(1..)) {}
    }
}
