//! What posternctl asks the monitor, and what it answers: one line of JSON each way over a
//! Unix socket of root's, mode 0600.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::Network;
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
    /// The guards.
    pub guards: Vec<GuardView>,
    /// Doors and their leases.
    pub doors: Vec<DoorView>,
    /// Packets that passed the kernel filter.
    pub packets: u64,
    /// Of those, the ones the kernel dropped.
    pub dropped: u64,
    /// The attempts.
    pub attempts: knock::Counters,
    /// Packets that came by the keys' carriers; none: there are no keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spa: Option<knock::spa::Counters>,
    /// Grants that the monitor refused: spent, over an allowance, of an address nobody can
    /// knock from.
    pub refused: u64,
    /// Log lines withheld so that the log stays bounded.
    pub withheld: u64,
    /// How many times a listener has been started again after it died.
    pub restarts: u64,
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
    /// Leases in force.
    pub leases: usize,
    /// Grants since the monitor started.
    pub granted: u64,
}
