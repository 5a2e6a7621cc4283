//! End to end: the real programs, real packets, the real packet filter, in network namespaces.
//! Needs root on Linux, with the programs that tests/setup.sh names.
#![cfg(target_os = "linux")]

mod harness;
#[path = "../common/mdoc.rs"]
mod mdoc;

mod attempts;
mod clients;
mod clocks;
mod commands;
mod confine;
mod connect;
mod control;
mod crash;
mod disks;
mod driving;
mod filters;
mod flood;
mod guard;
mod hostile;
mod hostile_keys;
mod idle;
mod interfaces;
mod knockd;
mod leases;
mod manual;
mod means;
mod networks;
mod one_time;
mod packets;
mod pings;
mod process;
mod reload;
mod render;
mod replays;
mod rules;
mod scans;
mod secrets;
mod sessions;
mod survival;
mod trial;
mod unit;
mod waiting;
mod windows;

use harness::Door;

/// A sequence of mixed steps.
const STEPS: [&str; 4] = ["7143", "2912/udp", "39001", "16044"];
/// Another that shares no port with it.
const OTHER: [&str; 4] = ["8351", "1207/udp", "52110", "30477"];

/// A door that guards port 22 and opens it for so long to [`STEPS`].
fn ssh(open_for: &str) -> Door {
    Door::opens("ssh", "22/tcp", open_for).to(&STEPS)
}
