//! The state directory: who may use it, and which boot its files speak of.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::files;

/// Names the boot where the system does not: gone after it, since /var/run is emptied at boot.
#[cfg(not(target_os = "linux"))]
const BOOT: &str = "/var/run/postern.boot";
/// linux/Documentation/admin-guide/sysctl/kernel.rst, random.
#[cfg(target_os = "linux")]
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// The journal's file in the state directory.
pub const JOURNAL: &str = "journal";
/// The listener's root directory in the state directory, where the system has none.
pub const EMPTY: &str = "empty";
/// The file of [`super::spent`] in the state directory.
pub const SPENT: &str = "spent";
/// The file of [`super::trial`] in the state directory.
pub const TRIAL: &str = "trial";

/// How long is waited for somebody who holds the lock for a moment.
const PATIENCE: Duration = Duration::from_secs(5);

/// The right to use a state directory, as long as it is held.
pub type Lock = Flock<File>;

/// Takes the right to use the state directory, if nobody else has it.
///
/// # Errors
/// The system's.
pub fn lock(directory: &Path) -> io::Result<Option<Lock>> {
    let path = directory.join("lock");
    let made = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path);
    let file = match made {
        Ok(file) => file,
        // Where nothing can be written one can hold what is there.
        Err(e) if files::is_storage(&e) => File::open(&path).or_else(|_| File::open(directory))?,
        Err(e) => return Err(e),
    };
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, e)) => Err(e.into()),
    }
}

/// [`lock`] that waits a few seconds for whoever holds it, unless `in_vain`.
///
/// # Errors
/// The system's.
pub fn wait_for_lock(directory: &Path, in_vain: impl Fn() -> bool) -> io::Result<Option<Lock>> {
    const AGAIN: Duration = Duration::from_millis(50);
    let began = Instant::now();
    loop {
        match lock(directory)? {
            None if began.elapsed() < PATIENCE && !in_vain() => thread::sleep(AGAIN),
            held => return Ok(held),
        }
    }
}

/// What names the boot that the system runs in. Where it cannot be written down it is another
/// one each time: no lease is believed to be of this boot then.
///
/// # Errors
/// The system's, with the file.
pub fn boot() -> io::Result<String> {
    let named = match fs::read_to_string(BOOT) {
        #[cfg(not(target_os = "linux"))]
        Err(e) if e.kind() == io::ErrorKind::NotFound => name_boot(),
        other => other,
    };
    let failed = |e: io::Error| io::Error::new(e.kind(), format!("{BOOT}: {e}"));
    named.map(|id| id.trim().to_owned()).map_err(failed)
}

#[cfg(not(target_os = "linux"))]
fn name_boot() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let id: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    match files::replace(Path::new(BOOT), id.as_bytes()) {
        Err(e) if !files::is_storage(&e) => Err(e),
        _ => Ok(id),
    }
}
