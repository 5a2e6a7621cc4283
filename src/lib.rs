//! Postern: port knocking for ipfw, pf and nftables.
//!
//! One way through the house: frame -> [`packet`] -> [`knock`] -> [`lease`] -> [`firewall`].
//! A room imports only rooms that stand before it in this list.
//!
//! | room | takes -> gives |
//! |---|---|
//! | [`wipe`] | freed memory -> zeros |
//! | [`time`] | points in time as data: nothing pure reads a clock |
//! | [`exit`] | how the three programs end |
//! | [`config`] | text -> the checked model of doors and knocks, or every mistake with its place |
//! | [`spa`] | single-packet authorization: requests -> packets, and back where the key is right |
//! | [`packet`] | a frame -> an [`packet::Arrival`] |
//! | [`knock`] | arrivals -> grants |
//! | [`lease`] | grants and time -> what to open, extend, close |
//! | [`event`] | grants, leases and failed attempts -> lines of JSON |
//! | [`firewall`] | openings -> rules and sets in the packet filter, or commands |
//! | [`journal`] | what must survive the death of a process |
//! | [`capture`] | an interface or a capture file -> frames |
//! | [`daemon`] | posternd: monitor and listener |
//! | [`ctl`] | posternctl, one file a subcommand |
//! | [`client`] | postern: sends knocks |

#[cfg(feature = "daemon")]
pub mod capture;
#[cfg(feature = "client")]
pub mod client;
pub mod config;
#[cfg(feature = "daemon")]
pub mod ctl;
#[cfg(feature = "daemon")]
pub mod daemon;
#[cfg(feature = "daemon")]
pub mod event;
pub mod exit;
#[cfg(feature = "daemon")]
pub mod firewall;
#[cfg(feature = "daemon")]
pub mod journal;
#[cfg(feature = "daemon")]
pub mod knock;
#[cfg(feature = "daemon")]
pub mod lease;
#[cfg(feature = "daemon")]
pub mod packet;
#[cfg(feature = "spa")]
pub mod spa;
pub mod time;
pub mod wipe;
