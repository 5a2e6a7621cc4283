//! Openings -> rules and sets in the packet filter, or commands.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{Door, Drive, Network};

mod backends;
pub mod command;
mod drive;
mod filter;
pub use filter::numbers;
pub mod ipfw;
pub mod live;
pub mod memory;
pub mod nft;
pub mod pf;
pub mod run;
pub mod sessions;

pub use backends::Backends;

/// An address, or an IPv6 network, let in at a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Opening {
    /// The door, by its place in the configuration.
    pub door: u16,
    /// Who may enter.
    pub address: Network,
}

/// What to do with an opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Which.
    pub opening: Opening,
    /// What.
    pub what: What,
}

/// See [`Order`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Make it stand for so long from now on (whether it stood before or not); `None` where the
    /// door has no lease: a command door then runs its start command.
    Open {
        /// From now to the lease's end.
        remaining: Option<Duration>,
    },
    /// It stands already: only its end moves.
    Extend {
        /// From now to the lease's new end.
        remaining: Duration,
    },
    /// Make it stand no more (whether it stood before or not).
    Close,
}

/// What became of an [`Order`].
#[derive(Debug)]
pub struct Done {
    /// The order.
    pub order: Order,
    /// What went wrong, for the log and for `posternctl list`.
    pub result: Result<(), Failure>,
}

/// A packet filter or command that did not do as it was told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It could not be started: missing, not executable, no processes left.
    #[error("cannot run {command}: {why}")]
    NotRun {
        /// The program or command line.
        command: String,
        /// The system's words.
        why: String,
    },
    /// It ran and said no.
    #[error("{command}: {status}{}{output}", if output.is_empty() { "" } else { ": " })]
    Refused {
        /// The command line.
        command: String,
        /// Exit status or signal, in words.
        status: String,
        /// The end of what it printed, on one line.
        output: String,
    },
    /// It was killed at its limit.
    #[error("{command}: still running after {limit:?}, killed")]
    TooSlow {
        /// The command line.
        command: String,
        /// The limit.
        limit: Duration,
    },
    /// What it printed was not understood, or what stands there is not ours.
    #[error("{0}")]
    Unexpected(String),
}

/// What [`Firewall::uphold`] found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// What was missing or changed and has been mended, in words, each fit for a log line.
    pub mended: Vec<String>,
    /// What stands among ours without our marks and was left alone, or keeps ours from doing
    /// their work, in words, each fit for a log line.
    pub strangers: Vec<String>,
}

/// How a packet filter is told whom to let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Driven {
    /// How it is.
    pub by: Drive,
    /// Why not in-process, where the configuration would have it so: the kernel's words, or that
    /// this kind of door needs the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Upkeep {
    fn add(&mut self, other: Upkeep) {
        self.mended.extend(other.mended);
        self.strangers.extend(other.strangers);
    }
}

/// A packet filter, or whatever else stands in for one.
///
/// The monitor calls it; nothing a stranger sends reaches it but an address. All calls come
/// from one thread.
pub trait Firewall: Send {
    /// The name that configuration and log know it by.
    fn name(&self) -> &'static str;

    /// Takes up other interfaces, and other networks that pass every guard; they are in force
    /// with the next [`Firewall::establish`].
    fn take_up(&mut self, _interfaces: &[String], _always: &[Network]) -> Result<(), Failure> {
        Ok(())
    }

    /// How addresses shall be let in from now on. Until it is said: by the command.
    fn drive(&mut self, _by: Drive) {}

    /// How they were let in last, or would be; `None` where there is no packet filter.
    fn driven(&self) -> Option<Driven> {
        None
    }

    /// Makes guards, tables and sets stand as `doors` wants them, and exactly `openings` be in
    /// force, each for so long from now. At start, at a reload (`doors` then replaces what was
    /// there before), and after a flush; what stands already and is right stays untouched.
    /// Sessions found running at guarded ports go on.
    fn establish(
        &mut self,
        doors: &[Door],
        openings: &[(Opening, Option<Duration>)],
    ) -> Result<Upkeep, Failure>;

    /// Looks whether all stands as established; mends it if not (`openings` as for
    /// [`Firewall::establish`]). Also the moment to let go of sessions that have ended.
    fn uphold(&mut self, openings: &[(Opening, Option<Duration>)]) -> Result<Upkeep, Failure>;

    /// Carries out orders, those that are due together in one go. What became of each is told
    /// by [`Firewall::done`], at once or later.
    fn apply(&mut self, orders: &[Order]);

    /// What has been carried out since the last call. After a reload, orders given before it
    /// name the doors by their new places; those of doors that are gone are left out.
    fn done(&mut self) -> Vec<Done>;

    /// Readable when [`Firewall::done`] has something that it had not when [`Firewall::apply`]
    /// returned; `None` where that never happens. Good until the next call that takes `&mut`.
    fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// The openings of doors with `idle` that have had traffic, and how long ago the last was.
    /// Where the packet filter does not tell that: those that have had some since the last call,
    /// or since they were made, and no time.
    fn traffic(&mut self) -> Result<Vec<(Opening, Duration)>, Failure> {
        Ok(Vec::new())
    }

    /// What stands now, as the packet filter itself says.
    fn openings(&mut self) -> Result<Vec<Opening>, Failure>;

    /// Takes the guards away and leaves the rest, by our marks alone: nothing need have been
    /// established, so that it can be done where no daemon runs and the configuration is lost.
    /// What was taken away, in words. The next [`Firewall::establish`] or
    /// [`Firewall::uphold`] puts back the guards that its doors have.
    fn unguard(&mut self) -> Result<Vec<String>, Failure> {
        Ok(Vec::new())
    }

    /// Takes guards, tables, sets away: all of ours and nothing else.
    fn remove(&mut self) -> Result<(), Failure>;
}

fn no_door(door: u16) -> Failure {
    Failure::Unexpected(format!("there is no door numbered {door}"))
}
