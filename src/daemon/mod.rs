//! posternd: the monitor (root) and the listener (no privileges).

pub mod addresses;
pub mod clock;
pub mod control;
pub mod doors;
pub mod files;
pub mod listener;
pub mod log;
pub mod monitor;
pub mod sandbox;
pub mod server;
pub mod spawn;
pub mod supervise;
pub mod wire;
