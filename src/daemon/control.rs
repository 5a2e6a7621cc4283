//! What posternctl asks the monitor, and what it answers: one line of JSON each way over a
//! Unix socket of root's, mode 0600.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::fire::{Stretch, Tally};
use crate::config::{Network, units};
use crate::firewall::Driven;
use crate::knock;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
pub enum Request {
    /// The leases.
    List,
    /// How the daemon fares.
    Status,
    /// End the leases of an address, at one door or at all.
    Close {
        /// Whose.
        address: Network,
        /// At which door; `None`: at all.
        door: Option<String>,
    },
    /// Read the configuration again.
    Reload,
    /// All guards stand for good.
    Confirm,
    /// No guard stands any more.
    Unguard,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Response {
    /// To [`Request::List`].
    Leases(Vec<LeaseView>),
    /// To [`Request::Status`].
    Status(Box<StatusView>),
    /// To [`Request::Close`]: how many leases ended.
    Closed(usize),
    /// To [`Request::Reload`]: the new configuration is in force.
    Reloaded {
        /// Its warnings.
        warnings: Vec<String>,
        /// Its guards.
        guards: Vec<GuardView>,
    },
    /// To [`Request::Confirm`]: the guards that were not confirmed before.
    Confirmed(Vec<String>),
    /// To [`Request::Unguard`]: the guards that stood before.
    Unguarded(Vec<String>),
    /// The request could not be met, and nothing was changed: why, one line or several.
    Error(String),
}

/// One lease as an administrator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseView {
    /// The door's name.
    pub door: String,
    /// Who may enter.
    pub address: Network,
    /// The key whose grant set its end; none: a sequence's or a ping's did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// When it was first granted (RFC 3339, UTC).
    pub since: String,
    /// When it ends (RFC 3339, UTC).
    pub until: String,
    /// Seconds until then.
    pub remaining: u64,
    /// Whether the packet filter did as it was told.
    pub in_force: bool,
    /// If not: what it said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// How the daemon fares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// The version of posternd.
    pub version: String,
    /// The monitor's process.
    pub monitor: i32,
    /// The listener's process, if one runs.
    pub listener: Option<i32>,
    /// The user the listener runs as.
    pub user: String,
    /// What confines the listener; empty while none is in charge.
    #[serde(default)]
    pub confined_by: Vec<String>,
    /// When the monitor started (RFC 3339, UTC).
    pub since: String,
    /// The configuration file in force.
    pub config: String,
    /// How many times a configuration has been put in force, the first included.
    pub generation: u32,
    /// Interfaces by name, and whether each is listened to now.
    pub interfaces: Vec<InterfaceView>,
    /// The packet filter.
    pub firewall: String,
    /// How openings are made in it; none: it is not one that can be driven in more than one way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driven: Option<Driven>,
    /// The guards.
    pub guards: Vec<GuardView>,
    /// How many openings there are.
    pub openings: OpeningsView,
    /// Doors and their leases.
    pub doors: Vec<DoorView>,
    /// Keys and their packets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeyView>,
    /// The last time that we were under fire, now or before; none: never since the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fire: Option<FireView>,
    /// What was counted in the last ten seconds.
    pub ten_seconds: Stretch,
    /// What was counted in the last minute.
    pub minute: Stretch,
    /// Packets that passed the kernel filter.
    pub packets: u64,
    /// Of those, the ones that the kernel dropped before they could be read.
    pub dropped: u64,
    /// The attempts.
    pub attempts: knock::Counters,
    /// Packets that came by the keys' carriers; none: there are no keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spa: Option<knock::spa::Counters>,
    /// Knocks that opened a door.
    pub granted: u64,
    /// Knocks that were right and that the monitor refused.
    pub refused: u64,
    /// Why it did.
    pub refused_for: Refusals,
    /// Log lines withheld so that the log stays bounded.
    pub withheld: u64,
    /// When the last of them was (RFC 3339, UTC); none: none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withheld_at: Option<String>,
    /// How many times a listener has been started again after it died.
    pub restarts: u64,
    /// The last of those times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_restart: Option<RestartView>,
}

/// Knocks refused, by what they were refused for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusals {
    /// The door, or the key, had had too many.
    pub allowance: u64,
    /// They had been used before, or nobody knew that they had not.
    pub spent: u64,
    /// Their time was too far from ours when the monitor heard of them.
    pub late: u64,
    /// They were for addresses that nobody can knock from, or that the key is not for.
    pub address: u64,
    /// It could not be written down that they were used, or who was to be let in.
    pub unwritten: u64,
}

impl Refusals {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.allowance + self.spent + self.late + self.address + self.unwritten
    }
}

/// A time under fire: too many packets, or something lost by them ([`super::fire`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FireView {
    /// When it began (RFC 3339, UTC).
    pub since: String,
    /// When it ended; none: it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// The most packets a second in any ten seconds.
    pub peak: u64,
    /// What was counted in it.
    #[serde(flatten)]
    pub tally: Tally,
}

/// As the log and `posternctl` tell of one that is over.
impl fmt::Display for FireView {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let shown = units::show_number;
        write!(f, "under fire from {}", self.since)?;
        if let Some(until) = &self.until {
            write!(f, " to {until}")?;
        }
        write!(
            f,
            ": at most {} packets a second, {} in all, {} of them dropped by the kernel",
            shown(self.peak),
            shown(self.tally.passed),
            shown(self.tally.dropped)
        )?;
        for (figure, what) in [
            (self.tally.evicted, "attempts evicted"),
            (self.tally.untried, "single packets not tried"),
            (self.tally.granted, "knocks granted"),
            (self.tally.refused, "knocks refused"),
            (self.tally.withheld, "log lines withheld"),
        ] {
            if figure > 0 {
                write!(f, "; {what}: {}", shown(figure))?;
            }
        }
        Ok(())
    }
}

/// See [`StatusView::openings`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpeningsView {
    /// Leases that are in force.
    pub in_force: usize,
    /// Leases that the packet filter or the command did not carry out: [`LeaseView::failure`].
    pub failed: usize,
}

/// See [`StatusView::last_restart`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartView {
    /// When the listener before died (RFC 3339, UTC).
    pub at: String,
    /// Of what.
    pub why: String,
}

/// See [`StatusView`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyView {
    /// Its name.
    pub name: String,
    /// Packets that were right and had not been used, since the monitor started.
    pub granted: u64,
    /// Packets of it that the monitor refused.
    pub refused: u64,
}

/// See [`StatusView`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceView {
    /// Its name.
    pub name: String,
    /// Whether it is listened to now.
    pub listening: bool,
}

/// A guard as an administrator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardView {
    /// Packet filter, port, whom it protects, where it stands: `nft 22/tcp to me on eth0`.
    pub guard: String,
    /// How it stands with it.
    pub state: GuardState,
    /// On trial: when that ends (RFC 3339, UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// See [`GuardView`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GuardState {
    /// It stands, but is withdrawn at the trial's end if nobody comes in through it.
    Trial,
    /// It stands.
    Confirmed,
    /// It does not stand.
    Withdrawn,
}

/// As `posternctl` tells it.
impl fmt::Display for GuardView {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let until = self.until.as_deref().unwrap_or_default();
        write!(f, "guard {}: ", self.guard)?;
        match self.state {
            GuardState::Trial => write!(
                f,
                "on trial until {until}, then withdrawn; knock and connect, or run posternctl \
                 confirm, to keep it"
            ),
            GuardState::Confirmed => f.write_str("confirmed"),
            GuardState::Withdrawn => f.write_str(
                "withdrawn; posternctl confirm puts it back, posternctl reload on trial",
            ),
        }
    }
}

/// See [`StatusView`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoorView {
    /// Its name.
    pub name: String,
    /// Its leases.
    pub leases: usize,
    /// Of those, the ones that are not in force.
    pub failed: usize,
    /// Knocks granted since the monitor started.
    pub granted: u64,
    /// Knocks refused since then.
    pub refused: u64,
    /// Leases that ended since then because the door has `max_leases`.
    pub gave_way: u64,
}
