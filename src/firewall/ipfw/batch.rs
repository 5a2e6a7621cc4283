//! Lines for `ipfw /dev/stdin` that cannot hold what a stranger wrote: each is made here, of
//! addresses, numbers and names that were checked.

use std::fmt::{self, Write};

use crate::config::Network;

use super::super::sessions::Session;
use super::layout::Rule;

/// The set of all our rules: a flush spares it, and so does `service ipfw restart` (ipfw(8)).
pub const SET: u8 = 31;

/// The longest line: some versions of ipfw(8) read lines into BUFSIZ (1024) bytes.
pub const LONGEST_LINE: usize = 1000;

/// The name of a table or a door.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// Letters, digits and `_ - .`, at most 63 (ipfw_check_object_name).
    pub fn new(text: &str) -> Option<Name> {
        let fits = (1..=63).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        fits.then(|| Name(text.to_owned()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a network interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interface(String);

impl Interface {
    /// 1 to 15 letters, digits and `. _ - : @ +`, beginning with a letter or `_`: ipfw takes a
    /// digit for an address, and `*`, `?` and `[` for patterns.
    pub fn new(text: &str) -> Option<Interface> {
        let fits = text.len() <= 15
            && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-:@+".contains(&b));
        fits.then(|| Interface(text.to_owned()))
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Ours: of the set of the rules that name it, where `net.inet.ip.fw.tables_sets` is 1;
    /// else that makes no difference.
    Ours(Name),
    /// The administrator's.
    Theirs(Name),
}

/// What the names of our tables begin with.
pub const OURS: &str = "postern_";

impl Table {
    /// Our table for what has this name; `None`: too long, or no name.
    pub fn ours(name: &str) -> Option<Table> {
        Name::new(&format!("{OURS}{name}")).map(Table::Ours)
    }

    /// The table of running sessions.
    pub fn running() -> Table {
        Table::Ours(Name(format!("{OURS}running")))
    }

    /// The table of who needs no knock.
    pub fn always() -> Table {
        Table::Ours(Name(format!("{OURS}always")))
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        match self {
            Table::Ours(name) | Table::Theirs(name) => name,
        }
    }
}

/// As commands name it.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Table::Ours(name) => write!(f, "set {SET} table {name}"),
            Table::Theirs(name) => write!(f, "table {name}"),
        }
    }
}

/// What a table of ours holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holds {
    /// Addresses and networks.
    Addresses,
    /// Sessions by their four numbers.
    Flows,
}

impl Holds {
    /// The type as `create` takes it and, up to a colon, `info` shows it.
    pub fn kind(self) -> &'static str {
        match self {
            Holds::Addresses => "addr",
            Holds::Flows => "flow:src-ip,proto,src-port,dst-ip,dst-port",
        }
    }
}

/// A change of a table's entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A network's entry is made, or gets this value.
    Enter(Table, Network, u32),
    /// It is taken out.
    Leave(Table, Network),
    /// A session's entry is made.
    Admit(Table, Session),
}

/// Lines for `ipfw /dev/stdin`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    text: String,
    changes: Vec<Change>,
    /// Whether it does more than list and make those changes.
    more: bool,
}

impl Batch {
    fn line(&mut self, line: fmt::Arguments) {
        // Writing to a String does not fail.
        let _ = writeln!(self.text, "{line}");
    }

    fn other(&mut self, line: fmt::Arguments) {
        self.more = true;
        self.line(line);
    }

    /// All that it does but list, if that is nothing but such changes.
    pub fn changes(&self) -> Option<&[Change]> {
        (!self.more).then_some(&self.changes)
    }

    /// Lists our set.
    pub fn list_rules(&mut self) {
        self.line(format_args!("set {SET} list"));
    }

    /// Tells name, set, type and references of every table.
    pub fn all_tables(&mut self) {
        self.line(format_args!("table all info"));
    }

    /// The same of one table; ends the batch if there is none.
    pub fn info(&mut self, table: &Table) {
        self.line(format_args!("{table} info"));
    }

    /// Lists a table; ends the batch if there is none.
    pub fn list(&mut self, table: &Table) {
        self.line(format_args!("{table} list"));
    }

    /// Makes a table that is not there.
    pub fn create(&mut self, table: &Table, holds: Holds) {
        let kind = holds.kind();
        self.other(format_args!("{table} create type {kind} missing"));
    }

    /// Takes a table away that no rule names.
    pub fn destroy(&mut self, table: &Table) {
        self.other(format_args!("{table} destroy"));
    }

    /// Puts an entry into a table of addresses, or sets its value.
    pub fn enter(&mut self, table: &Table, network: Network, value: u32) {
        self.line(format_args!("{table} add {network} {value}"));
        self.changes
            .push(Change::Enter(table.clone(), network, value));
    }

    /// Takes it out.
    pub fn leave(&mut self, table: &Table, network: Network) {
        self.line(format_args!("{table} delete {network}"));
        self.changes.push(Change::Leave(table.clone(), network));
    }

    /// Puts a session into a table of flows.
    pub fn admit(&mut self, table: &Table, session: &Session) {
        self.line(format_args!("{table} add {}", flow(session)));
        self.changes.push(Change::Admit(table.clone(), *session));
    }

    /// Takes it out.
    pub fn dismiss(&mut self, table: &Table, session: &Session) {
        self.other(format_args!("{table} delete {}", flow(session)));
    }

    /// Adds a rule behind those of its number.
    pub fn add(&mut self, rule: &Rule) {
        let Rule { number, text } = rule;
        self.other(format_args!("add {number:05} set {SET} {text}"));
    }

    /// Deletes every rule of our set with this number.
    pub fn delete(&mut self, number: u16) {
        self.other(format_args!("set {SET} delete {number:05}"));
    }

    /// Adds the lines of another.
    pub fn append(&mut self, other: &Batch) {
        self.text.push_str(&other.text);
        self.changes.extend_from_slice(&other.changes);
        self.more |= other.more;
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// A session as a table of flows takes it.
fn flow(Session { local, remote }: &Session) -> String {
    format!(
        "{},tcp,{},{},{}",
        remote.ip(),
        remote.port(),
        local.ip(),
        local.port()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_interfaces_hold_nothing_that_ends_a_word() {
        for good in ["ssh", "postern_Door-1_b", "a.b", "1"] {
            assert!(Name::new(good).is_some(), "{good}");
        }
        for bad in ["", "a b", "a#", "a)", "a,b", "a\n", "é", &"a".repeat(64)] {
            assert!(Name::new(bad).is_none(), "{bad}");
        }
        for good in ["xl0", "em0.7", "_x", "vm-public", "wg0"] {
            assert!(Interface::new(good).is_some(), "{good}");
        }
        for bad in ["", "0x", "em*", "a b", "a#", "a{", "[a", "0123456789abcdef"] {
            assert!(Interface::new(bad).is_none(), "{bad}");
        }
    }
}
