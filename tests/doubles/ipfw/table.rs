//! Tables.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{DATAERR, Error, Ipfw, NOHOST, OSERR, Result, State, UNAVAILABLE, USAGE, error};

const NO_TABLE: &str = "No such process";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kind(String);

impl Kind {
    pub fn addr() -> Kind {
        Kind("addr".to_owned())
    }

    pub fn flow() -> Kind {
        Kind("flow:src-ip,proto,src-port,dst-ip,dst-port".to_owned())
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Table {
    pub set: u8,
    pub name: String,
    kind: Kind,
    index: usize,
    entries: Vec<(Key, u32)>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Key {
    Network(IpAddr, u8),
    Flow(IpAddr, u8, u16, IpAddr, u16),
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Key::Network(address, prefix) => write!(f, "{address}/{prefix}"),
            Key::Flow(from, proto, port, to, dport) => {
                write!(f, "{from},{proto},{port},{to},{dport}")
            }
        }
    }
}

impl Table {
    fn info(&self, references: usize) {
        let (algorithm, size) = match self.kind == Kind::addr() {
            true => ("addr:radix", 296 + 120 * self.entries.len()),
            // Never recorded.
            false => ("flow:hash", 0),
        };
        println!("--- table({}), set({}) ---", self.name, self.set);
        println!(" kindex: {}, type: {}", self.index, self.kind.0);
        println!(" references: {references}, valtype: legacy");
        println!(" algorithm: {algorithm}");
        println!(" items: {}, size: {size}", self.entries.len());
    }

    fn list(&self) {
        for (key, value) in &self.entries {
            println!("{key} {value}");
        }
    }

    fn key(&self, word: &str) -> Result<Key> {
        match self.kind == Kind::addr() {
            true => network(word),
            false => flow(word),
        }
    }
}

fn network(word: &str) -> Result<Key> {
    let unknown = |word| Error(NOHOST, format!("hostname ``{word}'' unknown"));
    let (address, prefix) = match word.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (word, None),
    };
    let address: IpAddr = address.parse().map_err(|_| unknown(address))?;
    let bits = match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(address) if (2..1 << 32).contains(&u128::from(address)) => {
            return error(DATAERR, "Use IPv4 instead of v4-compatible");
        }
        IpAddr::V6(_) => 128,
    };
    let prefix = match prefix {
        Some(prefix) => prefix.parse().ok().filter(|prefix| *prefix <= bits),
        None => Some(bits),
    };
    let prefix = prefix.ok_or_else(|| Error(DATAERR, format!("bad mask width: {word}")))?;
    Ok(Key::Network(address, prefix))
}

fn flow(word: &str) -> Result<Key> {
    let parts: Vec<&str> = word.split(',').collect();
    let key = || -> Option<Key> {
        let [from, proto, port, to, dport] = parts.as_slice() else {
            return None;
        };
        let proto = match *proto {
            "tcp" => 6,
            "udp" => 17,
            number => number.parse().ok()?,
        };
        let (from, to): (IpAddr, IpAddr) = (from.parse().ok()?, to.parse().ok()?);
        let whole = from.is_ipv4() == to.is_ipv4();
        let (port, dport) = (port.parse().ok()?, dport.parse().ok()?);
        whole.then_some(Key::Flow(from, proto, port, to, dport))
    };
    key().ok_or_else(|| Error(DATAERR, "Inconsistent address family\n".to_owned()))
}

impl State {
    pub fn table(&mut self, set: u8, name: &str) -> Option<&mut Table> {
        let mut tables = self.tables.iter_mut();
        tables.find(|table| table.set == set && table.name == name)
    }

    pub fn make_table(&mut self, set: u8, name: &str, kind: Kind) -> &mut Table {
        let taken = |index: &usize| self.tables.iter().any(|table| table.index == *index);
        let index = (1..).find(|index| !taken(index)).unwrap_or_default();
        self.tables.push(Table {
            set,
            name: name.to_owned(),
            kind,
            index,
            entries: Vec::new(),
        });
        self.tables.last_mut().expect("just made")
    }
}

impl Ipfw {
    pub fn table(&mut self, name: &str, words: &[&str], set: u8) -> Result<()> {
        let set = self.table_set(set);
        if name == "all" {
            return self.all_tables(words);
        }
        let fits = (1..64).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        if !fits {
            return error(USAGE, format!("table name {name} is invalid"));
        }
        match words {
            ["create", options @ ..] => self.create(set, name, options),
            ["atomic", "add", entries @ ..] | ["add", entries @ ..] => {
                self.change(set, name, entries, true)
            }
            ["delete", entries @ ..] => self.change(set, name, entries, false),
            ["list"] => {
                self.there(set, name)?.list();
                Ok(())
            }
            ["info"] => {
                let references = self.references(set, name);
                self.there(set, name)?.info(references);
                Ok(())
            }
            ["lookup", key] => {
                let table = self.there(set, name)?;
                let wanted = table.key(key)?;
                match table.entries.iter().find(|(other, _)| *other == wanted) {
                    Some((key, value)) => println!("{key} {value}"),
                    None => return error(UNAVAILABLE, format!("Entry {key} not found")),
                }
                Ok(())
            }
            ["flush"] => match self.state.table(set, name) {
                Some(table) => {
                    table.entries.clear();
                    Ok(())
                }
                None => self.warn_missing("flush", name, " info"),
            },
            ["destroy"] => {
                if self.state.table(set, name).is_none() {
                    return self.warn_missing("destroy", name, "");
                }
                if self.references(set, name) > 0 {
                    let words = format!("failed to destroy table {name}: Device busy");
                    return error(OSERR, words);
                }
                let tables = &mut self.state.tables;
                tables.retain(|table| table.set != set || table.name != name);
                Ok(())
            }
            [] => error(USAGE, "table needs command"),
            [other, ..] => error(USAGE, format!("table command {other}")),
        }
    }

    fn all_tables(&mut self, words: &[&str]) -> Result<()> {
        self.loaded("failed to request tables list", OSERR)?;
        let mut tables = self.state.tables.clone();
        tables.sort_by(|a, b| a.name.cmp(&b.name).then(b.set.cmp(&a.set)));
        for table in tables {
            match words {
                ["info"] => table.info(self.references(table.set, &table.name)),
                ["list"] => {
                    println!("--- table({}), set({}) ---", table.name, table.set);
                    table.list();
                }
                _ => return error(USAGE, "table name required"),
            }
        }
        Ok(())
    }

    fn references(&self, set: u8, name: &str) -> usize {
        let references = super::references(&self.state.rules, self.tables_sets);
        references
            .get(&(set, name.to_owned()))
            .copied()
            .unwrap_or_default()
    }

    fn there(&mut self, set: u8, name: &str) -> Result<&mut Table> {
        self.loaded("failed to request table info", OSERR)?;
        let none = || Error(OSERR, format!("failed to request table info: {NO_TABLE}"));
        self.state.table(set, name).ok_or_else(none)
    }

    fn warn_missing(&self, verb: &str, name: &str, more: &str) -> Result<()> {
        if !self.flags.quiet {
            eprintln!(
                "{}: failed to {verb} table {name}{more}: {NO_TABLE}",
                self.name
            );
        }
        Ok(())
    }

    fn create(&mut self, set: u8, name: &str, options: &[&str]) -> Result<()> {
        self.loaded("Table creation failed", OSERR)?;
        let mut kind = Kind::addr();
        let (mut missing, mut flush) = (false, false);
        let mut options = options.iter();
        while let Some(option) = options.next() {
            match *option {
                "type" => match options.next() {
                    Some(&"addr") => kind = Kind::addr(),
                    Some(word) if *word == Kind::flow().0 => kind = Kind::flow(),
                    other => return error(USAGE, format!("Unknown tabletype: {other:?}")),
                },
                "missing" => missing = true,
                "or-flush" => (missing, flush) = (true, true),
                other => return error(USAGE, format!("option {other}")),
            }
        }
        match self.state.table(set, name) {
            None => {
                self.state.make_table(set, name, kind);
            }
            Some(_) if !missing => return error(OSERR, "Table creation failed: File exists"),
            Some(table) if table.kind != kind => {
                let words = "The existing table is not compatible with one you are creating.";
                return error(DATAERR, words);
            }
            Some(table) if flush => table.entries.clear(),
            Some(_) => {}
        }
        Ok(())
    }

    fn change(&mut self, set: u8, name: &str, words: &[&str], add: bool) -> Result<()> {
        self.loaded("Error requesting table info", OSERR)?;
        if words.is_empty() {
            return error(USAGE, "address required");
        }
        let quiet = self.flags.quiet;
        if self.state.table(set, name).is_none() {
            if !add {
                return error(DATAERR, format!("Table {name} does not exist"));
            }
            if words[0].contains(',') {
                let words = format!(
                    "Table {name} does not exist, cannot guess key '{}' type",
                    words[0]
                );
                return error(USAGE, words);
            }
            if !quiet {
                eprintln!(
                    "{}: DEPRECATED: inserting data into non-existent table {name}. (auto-created)",
                    self.name
                );
            }
            self.state.make_table(set, name, Kind::addr());
        }
        let table = self.state.table(set, name).expect("it is there");
        let mut failed = None;
        for words in words.chunks(if add { 2 } else { 1 }) {
            let key = table.key(words[0])?;
            let value = match words.get(1).map(|word| word.parse::<u32>()) {
                None => 0,
                Some(Ok(value)) => value,
                Some(Err(_)) => {
                    return error(OSERR, format!("Unable to parse value {}", words[1]));
                }
            };
            let place = table.entries.binary_search_by(|(other, _)| other.cmp(&key));
            let said = match (add, place) {
                (true, Err(place)) => {
                    table.entries.insert(place, (key.clone(), value));
                    "added"
                }
                (true, Ok(place)) if quiet => {
                    table.entries[place].1 = value;
                    "updated"
                }
                (true, Ok(_)) => {
                    failed = Some("Adding record failed: record already exists");
                    "exists"
                }
                (false, Ok(place)) => {
                    table.entries.remove(place);
                    "deleted"
                }
                (false, Err(_)) => {
                    failed = Some("Deleting record failed: record not found");
                    "notfound"
                }
            };
            if !quiet {
                println!("{said}: {key} {value}");
            }
        }
        match failed.filter(|_| !quiet) {
            Some(words) => error(OSERR, words),
            None => Ok(()),
        }
    }
}
