//! posternd: the monitor (root) and the listener (no privileges).

pub mod control;
