//! Entries of tables by calls of the kernel's own, for orders.
//!
//! Orders are carried out only while our lasting rules stand: their image as the kernel has it
//! must be the one that it had when ipfw(8) last listed them and all was right. If it is not, or
//! anything else is amiss, the command does all of it over: what was entered by then is entered
//! again, what was taken out is not missed. Rules are instructions, whose making is left to
//! ipfw(8).

use std::collections::{BTreeMap, BTreeSet};

use nix::errno::Errno;

use crate::config::Drive;

use super::super::Driven;
use super::super::drive::{Refusal, Way};
use super::abi::{self, Became, Format, Key, Verb};
use super::batch::{Batch, Change, Holds, Table};
use super::kernel::{Kernel, kernel};
use super::layout::Layout;

/// The first `__FreeBSD_version` of 15, in whose course indexes grew.
const WIDE_SINCE: u32 = 1_500_000;
/// The largest listing of rules that is looked at.
const MOST: usize = 1 << 20;
/// The room for it at first.
const ROOM: usize = 4096;

/// Our lasting rules as the kernel has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image(Vec<u8>);

/// ipfw in the kernel, and what is known of it.
#[derive(Debug)]
pub struct InProcess {
    kernel: Box<dyn Kernel>,
    way: Way,
    format: Option<Format>,
    room: usize,
    /// What the lasting rules were when all was right with them.
    right: Option<Image>,
}

impl InProcess {
    /// Not tried until [`InProcess::drive`] says so.
    pub fn new() -> InProcess {
        InProcess::with(kernel())
    }

    /// The same with another kernel.
    pub fn with(kernel: Box<dyn Kernel>) -> InProcess {
        InProcess {
            kernel,
            way: Way::new(),
            format: None,
            room: ROOM,
            right: None,
        }
    }

    /// See [`super::super::Firewall::drive`].
    pub fn drive(&mut self, by: Drive) {
        self.way.shall_be(by);
        self.format = None;
        self.right = None;
        if self.way.in_process() {
            let ready = self.kernel.ready();
            self.way.asked(&ready);
        }
    }

    /// See [`super::super::Firewall::driven`].
    pub fn driven(&self) -> Driven {
        self.way.driven()
    }

    /// The lasting rules of a layout as they are; `None`: the kernel is not asked, or does not
    /// say.
    pub fn image(&mut self, layout: &Layout) -> Option<Image> {
        if !self.way.in_process() {
            return None;
        }
        let image = self.ask_image(layout);
        self.way.asked(&image);
        image.ok()
    }

    /// What the lasting rules were before ipfw(8) listed them and found all right with them: if
    /// they still are that, it is what they should be.
    pub fn right(&mut self, before: Option<Image>, layout: &Layout) {
        self.right = None;
        if before.is_some() && self.image(layout) == before {
            self.right = before;
        }
    }

    /// Whether the kernel did all that a batch does but list; if not, the batch is for ipfw(8).
    pub fn carry_out(&mut self, layout: &Layout, batch: &Batch) -> bool {
        let (true, Some(changes)) = (self.way.in_process(), batch.changes()) else {
            return false;
        };
        let done = self.attempt(layout, changes);
        self.way.carried_out(&done);
        done.is_ok()
    }

    fn attempt(&mut self, layout: &Layout, changes: &[Change]) -> Result<(), Refusal> {
        let image = self.ask_image(layout)?;
        if self.right.as_ref() != Some(&image) {
            return Err(Refusal::Amiss);
        }
        // An entry that is let in by its value is of one call with all others of that value: the
        // kernel of 12.1 counts a value twice that is new to one entry of a call and not to
        // another. Sessions are admitted before the entries go that let them in.
        let (mut admitted, mut left) = (BTreeMap::new(), BTreeMap::new());
        let mut entered: BTreeMap<(&Table, u32), Vec<Key>> = BTreeMap::new();
        let mut tables = BTreeSet::new();
        for change in changes {
            let (table, holds, keys, key) = match change {
                Change::Admit(table, session) => {
                    let keys = admitted.entry(table).or_default();
                    (table, Holds::Flows, keys, Key::Flow(session))
                }
                Change::Leave(table, network) => {
                    let keys = left.entry(table).or_default();
                    (table, Holds::Addresses, keys, Key::Network(*network))
                }
                Change::Enter(table, network, value) => {
                    let keys = entered.entry((table, *value)).or_default();
                    (table, Holds::Addresses, keys, Key::Network(*network))
                }
            };
            tables.insert((table, holds));
            keys.push(key);
        }
        for (table, holds) in tables {
            self.look_at(table, holds)?;
        }
        for (table, keys) in admitted {
            self.change(table, Verb::Add(0), &keys)?;
        }
        for (table, keys) in left {
            self.change(table, Verb::Delete, &keys)?;
        }
        for ((table, value), keys) in entered {
            self.change(table, Verb::Add(value), &keys)?;
        }
        Ok(())
    }

    /// Whether a table is there and holds what we put in.
    fn look_at(&mut self, table: &Table, holds: Holds) -> Result<(), Refusal> {
        let mut request = abi::info(self.format()?, table);
        match self.kernel.ask(&mut request) {
            Ok(_) => {}
            Err(Errno::ESRCH) => return Err(Refusal::Amiss),
            Err(errno) => return Err(refused(errno)),
        }
        match abi::read_info(&request) {
            Some(info) if info.fits(holds) => Ok(()),
            _ => Err(Refusal::Refused(format!(
                "table {} holds keys or values of another kind",
                table.name()
            ))),
        }
    }

    fn change(&mut self, table: &Table, verb: Verb, keys: &[Key]) -> Result<(), Refusal> {
        let mut request = abi::change(self.format()?, table, verb, keys);
        match self.kernel.ask(&mut request) {
            Ok(_) => {}
            Err(Errno::ENOENT) if verb == Verb::Delete => {}
            // Locked, or full.
            Err(Errno::EACCES | Errno::EFBIG) => return Err(Refusal::Amiss),
            Err(errno) => return Err(refused(errno)),
        }
        let as_it_should = |became| match verb {
            Verb::Add(_) => matches!(became, Became::Added | Became::Updated),
            Verb::Delete => matches!(became, Became::Deleted | Became::NotFound),
        };
        match abi::became(&request).all(as_it_should) {
            true => Ok(()),
            false => Err(Refusal::Amiss),
        }
    }

    fn ask_image(&mut self, layout: &Layout) -> Result<Image, Refusal> {
        let format = self.format()?;
        let numbers: BTreeSet<u16> = layout.rules.iter().map(|rule| rule.number).collect();
        if numbers.is_empty() {
            return Ok(Image(Vec::new()));
        }
        loop {
            let mut request = abi::rules(format, &numbers, self.room);
            let asked = self.kernel.ask(&mut request);
            let needed = abi::needed(&request).unwrap_or_default();
            match asked {
                Ok(length) => {
                    let answer = request.get(..length).unwrap_or_default();
                    return abi::lasting(answer, &numbers).map(Image).ok_or_else(|| {
                        Refusal::Unknown("the kernel's listing of rules is not understood".into())
                    });
                }
                // Some more than is needed, for those that come meanwhile.
                Err(Errno::ENOMEM) if (self.room..MOST).contains(&needed) => {
                    self.room = needed + ROOM;
                }
                Err(errno) => return Err(refused(errno)),
            }
        }
    }

    /// How this kernel lays out what it is told. Asked of a table, which it answers in its own
    /// format alone, whether there is such a table or not; the one that its release has is tried
    /// first, since the kernel complains of the other in its log.
    fn format(&mut self) -> Result<Format, Refusal> {
        if let Some(format) = self.format {
            return Ok(format);
        }
        self.kernel.ready()?;
        let formats = match self.kernel.release() {
            Some(WIDE_SINCE..) => [Format::Wide, Format::Narrow],
            _ => [Format::Narrow, Format::Wide],
        };
        for format in formats {
            let mut request = abi::info(format, &Table::always());
            match self.kernel.ask(&mut request) {
                Ok(_) | Err(Errno::ESRCH) => {
                    self.format = Some(format);
                    return Ok(format);
                }
                Err(Errno::EINVAL | Errno::EOPNOTSUPP) => {}
                Err(errno) => return Err(refused(errno)),
            }
        }
        Err(Refusal::Unknown(
            "this kernel's layout of ipfw's calls is not known".to_owned(),
        ))
    }
}

fn refused(errno: Errno) -> Refusal {
    Refusal::Refused(match errno {
        Errno::ENOPROTOOPT => "ipfw is not loaded".to_owned(),
        errno => format!("ipfw in the kernel: {}", errno.desc()),
    })
}

#[cfg(test)]
mod tests;
