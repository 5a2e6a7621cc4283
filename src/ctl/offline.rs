//! What is done in posternd's place while it does not run.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::unistd::Uid;

use super::{Problem, configured};
use crate::config;
use crate::daemon::state::{self, Lock, TRIAL};
use crate::daemon::trial::Trials;
use crate::exit;

/// The state directory, for whoever may use it now.
pub struct State {
    /// Where it is.
    pub directory: PathBuf,
    /// The boot that the system runs in.
    pub boot: String,
    _lock: Lock,
}

/// Only root goes on.
pub fn root() -> Result<(), Problem> {
    match Uid::effective().is_root() {
        true => Ok(()),
        false => Err(Problem::new(
            exit::NOPERM,
            "only root may do this: guards and leases are root's",
        )),
    }
}

/// The state directory that a configuration names, which may be wrong otherwise.
pub fn directory(file: &Path) -> PathBuf {
    configured(file, "state").unwrap_or_else(|| PathBuf::from(config::bounds::STATE))
}

impl State {
    /// Takes the state directory, waiting for whoever has it for a moment; `None` if posternd
    /// has never run there.
    pub fn take(directory: &Path) -> Result<Option<State>, Problem> {
        if !directory.is_dir() {
            return Ok(None);
        }
        let lock = state::wait_for_lock(directory, || false);
        let lock = lock.map_err(|e| failed(&directory.join("lock"), &e))?;
        let lock = lock.ok_or_else(|| busy(directory))?;
        State::of(directory, lock).map(Some)
    }

    /// [`State::take`] of a directory that is there; `None` as soon as it is seen that posternd
    /// runs, which answers at `control`.
    pub fn take_unless_run(directory: &Path, control: &Path) -> Result<Option<State>, Problem> {
        let runs = || UnixStream::connect(control).is_ok();
        let lock = state::wait_for_lock(directory, runs);
        match lock.map_err(|e| failed(&directory.join("lock"), &e))? {
            Some(lock) => State::of(directory, lock).map(Some),
            None if runs() => Ok(None),
            None => Err(busy(directory)),
        }
    }

    /// Takes the state directory if nobody else has it.
    pub fn try_take(directory: &Path) -> Result<Option<State>, Problem> {
        if !directory.is_dir() {
            return Ok(None);
        }
        let lock = state::lock(directory).map_err(|e| failed(&directory.join("lock"), &e))?;
        lock.map(|lock| State::of(directory, lock)).transpose()
    }

    fn of(directory: &Path, lock: Lock) -> Result<State, Problem> {
        Ok(State {
            directory: directory.to_owned(),
            boot: state::boot().map_err(|e| Problem::new(exit::OSERR, e.to_string()))?,
            _lock: lock,
        })
    }

    /// How it stands with the guards; a damaged file is said to be so.
    pub fn trials(&self) -> Trials {
        let path = self.directory.join(TRIAL);
        let found = Trials::read(&path, &self.boot);
        if let Some(why) = found.damaged {
            let _ = writeln!(io::stderr(), "posternctl: {}: {why}", path.display());
        }
        found.trials
    }

    /// How it stands with the guards from now on.
    pub fn write(&self, trials: &Trials) -> Result<(), Problem> {
        let path = self.directory.join(TRIAL);
        trials
            .write(&path, &self.boot)
            .map_err(|e| failed(&path, &e))
    }
}

/// Somebody has the state directory and keeps it.
fn busy(directory: &Path) -> Problem {
    let text = "posternd runs but does not answer, or is being started: try again";
    Problem::new(
        exit::UNAVAILABLE,
        format!("{}: {text}", directory.display()),
    )
}

/// The system refused a file.
pub fn failed(path: &Path, e: &io::Error) -> Problem {
    Problem::new(
        exit::OSERR,
        format!("{}: {}", path.display(), exit::words(e)),
    )
}
