//! `-T`

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Said;
use super::options::Options;
use super::state::State;

/// An address or a network.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Entry {
    address: IpAddr,
    prefix: u8,
}

impl Entry {
    pub fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }
}

impl FromStr for Entry {
    type Err = ();

    fn from_str(text: &str) -> Result<Entry, ()> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| ())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(most), str::parse).map_err(|_| ())?;
        Ok(Entry { address, prefix })
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Entry { address, prefix } = self;
        match (address.is_ipv4(), prefix) {
            (true, 32) | (false, 128) => write!(f, "{address}"),
            _ => write!(f, "{address}/{prefix}"),
        }
    }
}

const ABSENT: &str = "pfctl: Table does not exist.";

/// What `-v -T show` says below an entry. Of one that counts it was not recorded: print_astats in
/// pfctl_table.c.
fn stats(made: u64, packets: u64, counts: bool) -> String {
    let made = i64::try_from(made).expect("a time");
    let made = jiff::Timestamp::from_second(made).expect("a time");
    let mut text = format!("\tCleared:     {}\n", made.strftime("%a %b %e %H:%M:%S %Y"));
    let kinds = [
        ("In/Block:", 0),
        ("In/Pass:", packets),
        ("Out/Block:", 0),
        ("Out/Pass:", 0),
    ];
    for (kind, packets) in kinds.into_iter().filter(|_| counts) {
        let bytes = 60 * packets;
        text.push_str(&format!(
            "\t{kind:<12} [ Packets: {packets:<18} Bytes: {bytes:<18} ]\n"
        ));
    }
    text
}

/// Carries out a table command.
pub fn command(state: &mut State, options: &Options, command: &str, stdin: &str, said: &mut Said) {
    let name = options.table.clone().expect("a table");
    let mut given = Vec::new();
    let words = stdin.split_whitespace().filter(|_| options.file.is_some());
    for word in options.rest.iter().map(String::as_str).chain(words) {
        match word.parse::<Entry>() {
            Ok(entry) => given.push(entry),
            Err(()) => return said.complain(255, &format!("no IP address found for {word}")),
        }
    }
    let anchor = &options.anchor;
    let place = |entry: &Entry| format!("{anchor} {name} {entry}");
    let counts = state.counting.get(anchor);
    let counts = counts.is_some_and(|counting| counting.contains(&name));
    let counted = &mut state.counted;
    let tables = state.tables.entry(options.anchor.clone()).or_default();
    let mut say = |words: String| {
        if !options.quiet {
            said.err.push_str(&format!("{words}.\n"));
        }
    };
    if matches!(command, "add" | "replace") && !tables.contains_key(&name) {
        tables.insert(name.clone(), BTreeSet::new());
        say("1 table created".to_owned());
    }
    if command == "kill" {
        let killed = usize::from(tables.remove(&name).is_some());
        return say(format!("{killed} table deleted"));
    }
    let Some(table) = tables.get_mut(&name) else {
        return said.complain(255, ABSENT);
    };
    let all = given.len();
    let mut feedback = String::new();
    match command {
        "show" => {
            for entry in table.iter() {
                feedback.push_str(&format!("   {entry}\n"));
                if options.verbose > 0 {
                    let (made, packets) = counted.get(&place(entry)).copied().unwrap_or_default();
                    feedback.push_str(&stats(made, packets, counts));
                }
            }
        }
        "add" => {
            let before = table.len();
            for entry in given {
                if !table.insert(entry) {
                    continue;
                }
                counted.insert(place(&entry), (super::now(), 0));
                if options.verbose > 0 {
                    feedback.push_str(&format!("A  {entry}\n"));
                }
            }
            say(format!("{}/{all} addresses added", table.len() - before));
        }
        "delete" => {
            let before = table.len();
            table.retain(|entry| !given.contains(entry));
            say(format!("{}/{all} addresses deleted", before - table.len()));
        }
        "replace" => {
            let new: BTreeSet<Entry> = given.into_iter().collect();
            let (added, deleted) = (
                new.difference(table).count(),
                table.difference(&new).count(),
            );
            if added > 0 {
                say(format!("{added} addresses added"));
            }
            if deleted > 0 {
                say(format!("{deleted} addresses deleted"));
            }
            if added + deleted == 0 {
                say("no changes".to_owned());
            }
            *table = new;
        }
        "flush" => {
            say(format!("{} addresses deleted", table.len()));
            table.clear();
        }
        "test" => {
            let found = given.iter().filter(|entry| table.contains(entry)).count();
            say(format!("{found}/{all} addresses match"));
            said.status = if found < all { 2 } else { 0 };
        }
        _ => return said.complain(1, &format!("the double does not know -T {command}")),
    }
    said.out.push_str(&feedback);
}
