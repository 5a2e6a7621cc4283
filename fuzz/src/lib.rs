//! What must hold whatever the bytes: a function for each target, which panics where it does
//! not. libFuzzer calls them from fuzz_targets, and tests/fuzz.rs of the crate itself with all
//! that is in corpus and with the seeds.

mod commands;
mod config;
mod journal;
mod knocks;
mod packet;
mod spa;
mod wire;

pub use commands::listings;
pub use config::{knockd_conf, one_time, postern_toml, profile};
pub use journal::{journal, spent, trial};
pub use knocks::knocks;
pub use packet::packet;
pub use spa::{spa, spa_text};
pub use wire::{control, wire_down, wire_up};

/// Takes numbers off the front of an input; zeros at its end.
struct Bytes<'d>(&'d [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&first, rest)) => {
                self.0 = rest;
                first
            }
            None => 0,
        }
    }

    fn two(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// One of these, by a byte.
    fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[usize::from(self.byte()) % all.len()].clone()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Whether this is one line that changes nothing on a terminal.
fn is_a_line(text: &str) -> bool {
    !text.contains(char::is_control)
}
