//! Each door to whatever opens it.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::config::{Action, Config, Door, Drive, FirewallKind};

use super::command::CommandDoors;
use super::ipfw::Ipfw;
use super::memory::Memory;
use super::nft::Nft;
use super::pf::Pf;
use super::{Done, Driven, Failure, Firewall, Opening, Order, Upkeep};

/// A packet filter and the command doors as one: orders go to what their door needs, and what
/// comes back is put together.
///
/// Under `firewall = "memory"` nothing is touched: command doors, too, stand in memory, and no
/// command is run.
pub struct Backends {
    kind: FirewallKind,
    filter: Option<Box<dyn Firewall>>,
    commands: CommandDoors,
    /// A packet filter that the configuration no longer names; it goes when the new one stands.
    retired: Option<Box<dyn Firewall>>,
    /// By the doors' places.
    to: Vec<To>,
    done: Vec<Done>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Filter,
    Commands,
    /// It opens ports, but `firewall = "none"`.
    Nowhere,
}

impl Backends {
    /// What the configuration names, on these interfaces (`any` or none: all but the loopback).
    /// Nothing is touched before [`Firewall::establish`]. Fails on an interface's name that
    /// cannot be one.
    pub fn from_config(config: &Config, interfaces: &[String]) -> Result<Backends, Failure> {
        Ok(Backends {
            kind: config.firewall,
            filter: filter(config, interfaces)?,
            commands: CommandDoors::new()?,
            retired: None,
            to: Vec::new(),
            done: Vec::new(),
        })
    }

    /// Takes up another configuration, before [`Firewall::establish`] with its doors: what the
    /// old one left running goes on and is still told of. A packet filter that stays knows what
    /// was entered in the administrator's tables, so that it can take that away.
    pub fn reconfigure(&mut self, config: &Config, interfaces: &[String]) -> Result<(), Failure> {
        if self.kind == config.firewall {
            return match &mut self.filter {
                Some(filter) => {
                    filter.drive(config.drive);
                    filter.take_up(interfaces, &config.always)
                }
                None => Ok(()),
            };
        }
        self.retired = std::mem::replace(&mut self.filter, filter(config, interfaces)?);
        self.kind = config.firewall;
        Ok(())
    }

    /// See [`CommandDoors::run_owed`].
    pub fn run_owed(&self, door: &str, address: IpAddr, line: String, limit: Duration) {
        self.commands.run_owed(door, address, line, limit);
    }

    /// See [`CommandDoors::owed`].
    pub fn owed(&self) -> Vec<(String, IpAddr, Result<(), Failure>)> {
        self.commands.owed()
    }

    /// Whether commands run or wait to be run.
    pub fn busy(&self) -> bool {
        self.commands.busy()
    }

    fn to(&self, door: &Door) -> To {
        match (self.kind, &door.action) {
            (FirewallKind::Memory, _) => To::Filter,
            (_, Action::Command(_)) => To::Commands,
            (FirewallKind::None, Action::Open(_)) => To::Nowhere,
            (FirewallKind::Ipfw | FirewallKind::Pf | FirewallKind::Nft, Action::Open(_)) => {
                To::Filter
            }
        }
    }

    fn of<T: Copy>(&self, items: &[T], door: impl Fn(&T) -> u16, to: To) -> Vec<T> {
        let goes = |item: &&T| self.to.get(usize::from(door(item))) == Some(&to);
        items.iter().filter(goes).copied().collect()
    }
}

fn filter(config: &Config, interfaces: &[String]) -> Result<Option<Box<dyn Firewall>>, Failure> {
    let always = &config.always;
    let mut filter: Box<dyn Firewall> = match config.firewall {
        FirewallKind::Ipfw => Box::new(Ipfw::new(interfaces, always)?),
        FirewallKind::Pf => Box::new(Pf::new(interfaces, always)?),
        FirewallKind::Nft => Box::new(Nft::new(interfaces, always)?),
        FirewallKind::Memory => Box::new(Memory::new()),
        FirewallKind::None => return Ok(None),
    };
    filter.drive(config.drive);
    Ok(Some(filter))
}

impl std::fmt::Debug for Backends {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Backends")
            .field("kind", &self.kind)
            .field("to", &self.to)
            .finish()
    }
}

impl Firewall for Backends {
    fn name(&self) -> &'static str {
        self.filter.as_ref().map_or("none", |filter| filter.name())
    }

    fn drive(&mut self, by: Drive) {
        if let Some(filter) = &mut self.filter {
            filter.drive(by);
        }
    }

    fn driven(&self) -> Option<Driven> {
        self.filter.as_ref()?.driven()
    }

    fn establish(
        &mut self,
        doors: &[Door],
        openings: &[(Opening, Option<Duration>)],
    ) -> Result<Upkeep, Failure> {
        let to = doors.iter().map(|door| self.to(door)).collect();
        let before = std::mem::replace(&mut self.to, to);
        let mut upkeep = Upkeep::default();
        let here = self.of(openings, |(opening, _)| opening.door, To::Filter);
        if let Some(filter) = &mut self.filter {
            match filter.establish(doors, &here) {
                Ok(found) => upkeep = found,
                Err(failure) => {
                    self.to = before;
                    return Err(failure);
                }
            }
        }
        let here = self.of(openings, |(opening, _)| opening.door, To::Commands);
        upkeep.add(self.commands.establish(doors, &here)?);
        if let Some(mut retired) = self.retired.take()
            && let Err(failure) = retired.remove()
        {
            upkeep
                .strangers
                .push(format!("{} was not removed: {failure}", retired.name()));
        }
        Ok(upkeep)
    }

    fn uphold(&mut self, openings: &[(Opening, Option<Duration>)]) -> Result<Upkeep, Failure> {
        let here = self.of(openings, |(opening, _)| opening.door, To::Commands);
        let mut upkeep = self.commands.uphold(&here)?;
        let here = self.of(openings, |(opening, _)| opening.door, To::Filter);
        if let Some(filter) = &mut self.filter {
            upkeep.add(filter.uphold(&here)?);
        }
        Ok(upkeep)
    }

    fn apply(&mut self, orders: &[Order]) {
        for &order in orders {
            let door = order.opening.door;
            let failure = match self.to.get(usize::from(door)) {
                Some(To::Filter | To::Commands) => continue,
                Some(To::Nowhere) => Failure::Unexpected(
                    "the door opens ports, but the configuration says firewall = \"none\""
                        .to_owned(),
                ),
                None => super::no_door(door),
            };
            self.done.push(Done {
                order,
                result: Err(failure),
            });
        }
        let here = self.of(orders, |order| order.opening.door, To::Filter);
        if let Some(filter) = &mut self.filter
            && !here.is_empty()
        {
            filter.apply(&here);
        }
        let here = self.of(orders, |order| order.opening.door, To::Commands);
        if !here.is_empty() {
            self.commands.apply(&here);
        }
    }

    fn done(&mut self) -> Vec<Done> {
        let mut done = std::mem::take(&mut self.done);
        if let Some(filter) = &mut self.filter {
            done.extend(filter.done());
        }
        done.extend(self.commands.done());
        done
    }

    fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        self.commands.wake_fd()
    }

    fn traffic(&mut self) -> Result<Vec<(Opening, Duration)>, Failure> {
        match &mut self.filter {
            Some(filter) => filter.traffic(),
            None => Ok(Vec::new()),
        }
    }

    fn openings(&mut self) -> Result<Vec<Opening>, Failure> {
        let mut openings = match &mut self.filter {
            Some(filter) => filter.openings()?,
            None => Vec::new(),
        };
        openings.extend(self.commands.openings()?);
        openings.sort_unstable();
        Ok(openings)
    }

    fn unguard(&mut self) -> Result<Vec<String>, Failure> {
        match &mut self.filter {
            Some(filter) => filter.unguard(),
            None => Ok(Vec::new()),
        }
    }

    fn remove(&mut self) -> Result<(), Failure> {
        if let Some(mut retired) = self.retired.take() {
            retired.remove()?;
        }
        if let Some(filter) = &mut self.filter {
            filter.remove()?;
        }
        self.commands.remove()
    }
}

#[cfg(test)]
mod tests;
