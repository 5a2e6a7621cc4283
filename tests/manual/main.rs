//! The manual tells what is so: it is put beside the programs' own --help, the readers of
//! configurations and what the daemon logs. What its examples do is tried in tests/e2e/manual.rs.

#![cfg(all(feature = "completions", unix))]

#[path = "../common/mdoc.rs"]
mod mdoc;

mod completions;
mod examples;
mod help;
mod keys;
mod log;
mod references;
mod status;
