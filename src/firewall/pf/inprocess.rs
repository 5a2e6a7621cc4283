//! Entries of tables by calls of the kernel's own, for orders.
//!
//! A table of ours is entered only if it is there and rules name it, as all of ours must be;
//! whatever is amiss, pfctl(8) looks at, and mends it. Anything else is left to pfctl(8).

use nix::errno::Errno;

use crate::config::{Drive, Network};

use super::super::Driven;
use super::super::drive::{Refusal, Way};
use super::abi::{Call, Request};
use super::device::{Device, device};
use super::layout::{Gate, Layout};

/// The most tables that an anchor of ours can have for us to look at it.
const MOST: usize = 4096;

/// pf in the kernel.
#[derive(Debug)]
pub struct InProcess {
    device: Box<dyn Device>,
    way: Way,
}

impl InProcess {
    /// Not tried until [`InProcess::drive`] says so.
    pub fn new() -> InProcess {
        InProcess::with(device())
    }

    /// The same with another device.
    pub fn with(device: Box<dyn Device>) -> InProcess {
        let way = Way::new();
        InProcess { device, way }
    }

    /// See [`super::super::Firewall::drive`].
    pub fn drive(&mut self, by: Drive) {
        self.way.shall_be(by);
        self.look();
    }

    /// Whether pf can be spoken to, for [`InProcess::driven`] to tell.
    pub fn look(&mut self) {
        if self.way.in_process() {
            let ready = self.device.ready();
            self.way.asked(&ready);
        }
    }

    /// See [`super::super::Firewall::driven`].
    pub fn driven(&self) -> Driven {
        self.way.driven()
    }

    /// Whether the kernel says that all of our tables are there and that rules name them; if not,
    /// pfctl(8) has to look.
    pub fn stands(&mut self, layout: &Layout) -> bool {
        if !self.way.in_process() {
            return false;
        }
        let stands = self.ask(layout);
        self.way.asked(&stands);
        stands.unwrap_or_default()
    }

    fn ask(&mut self, layout: &Layout) -> Result<bool, Refusal> {
        self.device.ready()?;
        // Some more than are needed, for those of somebody else.
        let mut room = layout.tables().count() + 16;
        loop {
            let mut request = Request::tables(room);
            match self.device.call(&mut request) {
                Ok(()) => {}
                Err(Errno::ENOENT) => return Ok(false),
                Err(errno) => return Err(refused(errno)),
            }
            match request.count() {
                count if count <= room => {
                    let standing: Vec<&[u8]> = request.standing().collect();
                    let mut ours = layout.tables();
                    return Ok(ours.all(|name| standing.contains(&name.as_bytes())));
                }
                count if count <= MOST => room = count + 16,
                _ => return Ok(false),
            }
        }
    }

    /// Whether the kernel let all of these networks in by a gate's table, and those out; if not,
    /// that is for pfctl(8), whatever was done by then.
    pub fn carry_out(&mut self, gate: &Gate, enter: &[Network], leave: &[Network]) -> bool {
        if !self.way.in_process() {
            return false;
        }
        let done = self
            .change(gate, Call::Add, enter)
            .and_then(|()| self.change(gate, Call::Delete, leave));
        self.way.carried_out(&done);
        done.is_ok()
    }

    fn change(&mut self, gate: &Gate, call: Call, networks: &[Network]) -> Result<(), Refusal> {
        if networks.is_empty() {
            return Ok(());
        }
        self.device.ready()?;
        let mut request = Request::change(call, &gate.table, gate.ours, networks);
        self.device.call(&mut request).map_err(|errno| match errno {
            Errno::ESRCH => Refusal::Amiss,
            errno => refused(errno),
        })
    }
}

fn refused(errno: Errno) -> Refusal {
    let why = format!("pf in the kernel: {}", errno.desc());
    match errno {
        // Calls of another size or none of that number, and items of another size.
        Errno::ENODEV | Errno::ENOTTY => Refusal::Unknown(why),
        _ => Refusal::Refused(why),
    }
}

#[cfg(test)]
mod tests;
