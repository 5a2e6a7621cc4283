//! Networks of namespaces, posternd in one of them, and whatever knocks from the others.

mod daemon;
mod host;
mod keys;
mod net;
pub mod raw;
mod rng;
mod service;
mod sshd;
mod wait;

pub use daemon::{Daemon, Door, Ran, chmod, copy_program, is_posternd, program};
pub use host::{Host, Session, hit};
pub use keys::{Key, datagrams};
pub use net::Net;
pub use rng::Rng;
pub use service::Service;
pub use sshd::Sshd;
pub use wait::{LIMIT, eventually, until};
