//! pfctl(8) itself.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Network;

use super::super::filter::{self, Ran};
use super::super::{Failure, run};
use super::ANCHOR;
use super::layout::Gate;
use super::listing::{self, Counted, Entry, Rules, State, Status};

/// pfctl.
#[derive(Debug)]
pub struct Tool(filter::Tool);

impl Tool {
    /// pfctl, looked for in these directories.
    pub fn new(path: &str) -> Tool {
        Tool(filter::Tool::new("pfctl", path))
    }

    fn run(&mut self, args: &[&str], stdin: &[u8]) -> Result<Ran, Failure> {
        self.0.run(args, stdin)?.accepted(words)
    }

    fn read(&mut self, args: &[&str]) -> Result<String, Failure> {
        Ok(text(self.run(args, b"")?.stdout))
    }

    /// What our anchor has; `None`: there is no such anchor, of which 12.1 complains, and
    /// exits with 0.
    fn shown(&mut self, what: &str) -> Result<Option<String>, Failure> {
        let args = ["-a", ANCHOR, "-s", what];
        let failure = match self.run(&args, b"") {
            Ok(ended) if ended.stderr.is_empty() => return Ok(Some(text(ended.stdout))),
            Ok(ended) => Failure::Refused {
                command: format!("pfctl {}", args.join(" ")),
                status: "it complained".to_owned(),
                output: run::on_one_line(&ended.stderr),
            },
            Err(failure) => failure,
        };
        match &failure {
            Failure::Refused { output, .. } if NO_ANCHOR.iter().any(|no| output.contains(no)) => {
                Ok(None)
            }
            _ => Err(failure),
        }
    }

    /// The rules of our anchor; `None`: there is no such anchor.
    pub fn rules(&mut self) -> Result<Option<Rules>, Failure> {
        Ok(self.shown("rules")?.map(|text| Rules::parse(&text)))
    }

    /// The translation rules in our anchor, none of which is ours.
    pub fn translations(&mut self) -> Result<Vec<String>, Failure> {
        let text = self.shown("nat")?.unwrap_or_default();
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// The rules of the main ruleset by which our anchor is reached.
    pub fn calls(&mut self) -> Result<BTreeSet<u32>, Failure> {
        Ok(listing::calls(&self.read(&["-s", "rules"])?, ANCHOR))
    }

    /// The rules as pfctl will show them once they are loaded.
    pub fn canonical(&mut self, rules: &str) -> Result<Vec<String>, Failure> {
        let args = ["-nv", "-a", ANCHOR, "-f", "-"];
        let ended = self.run(&args, rules.as_bytes())?;
        Ok(listing::canonical(&text(ended.stdout)))
    }

    /// Loads our anchor, filter and translation: all or nothing.
    pub fn load(&mut self, rules: &str) -> Result<(), Failure> {
        let args = ["-a", ANCHOR, "-f", "-"];
        self.run(&args, rules.as_bytes()).map(drop)
    }

    /// Takes all rules of our anchor away.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.run(&["-a", ANCHOR, "-F", "rules"], b"").map(drop)
    }

    /// The names of the tables in our anchor.
    pub fn tables(&mut self) -> Result<BTreeSet<String>, Failure> {
        let text = self.shown("Tables")?.unwrap_or_default();
        Ok(text.lines().map(|line| line.trim().to_owned()).collect())
    }

    /// Takes a table of our anchor away.
    pub fn kill_table(&mut self, name: &str) -> Result<(), Failure> {
        let args = ["-a", ANCHOR, "-t", name, "-T", "kill"];
        self.run(&args, b"").map(drop)
    }

    /// A table of our anchor; `None`: there is no such table.
    pub fn show(&mut self, name: &str) -> Result<Option<BTreeSet<Entry>>, Failure> {
        self.entries(&["-a", ANCHOR, "-t", name, "-T", "show"])
    }

    /// The table of a gate; `None`: there is no such table.
    pub fn entered(&mut self, gate: &Gate) -> Result<Option<BTreeSet<Entry>>, Failure> {
        match gate.ours {
            true => self.show(&gate.table),
            false => self.entries(&["-t", &gate.table, "-T", "show"]),
        }
    }

    /// The tables in our anchor that count packets.
    pub fn counting(&mut self) -> Result<BTreeSet<String>, Failure> {
        let text = self.read(&["-a", ANCHOR, "-v", "-s", "Tables"])?;
        Ok(listing::counting(&text))
    }

    /// What the entries of a gate's table in our anchor have counted; `None`: there is no such
    /// table.
    pub fn counted(&mut self, gate: &Gate) -> Result<Option<BTreeMap<Network, Counted>>, Failure> {
        let args = ["-a", ANCHOR, "-t", &gate.table, "-v", "-T", "show"];
        match self.read(&args) {
            Ok(text) => listing::counted(&text).map(Some).ok_or_else(|| {
                let args = args.join(" ");
                Failure::Unexpected(format!("pfctl {args}: listing not understood"))
            }),
            Err(Failure::Refused { output, .. }) if output.contains(ABSENT) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    fn entries(&mut self, args: &[&str]) -> Result<Option<BTreeSet<Entry>>, Failure> {
        match self.read(args) {
            Ok(text) => listing::entries(&text).map(Some).ok_or_else(|| {
                let args = args.join(" ");
                Failure::Unexpected(format!("pfctl {args}: listing not understood"))
            }),
            Err(Failure::Refused { output, .. }) if output.contains(ABSENT) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Adds entries to a gate's table, or deletes them. Adding to a table that does not exist
    /// makes it.
    pub fn change(
        &mut self,
        gate: &Gate,
        verb: &'static str,
        entries: impl IntoIterator<Item = Entry>,
    ) -> Result<(), Failure> {
        let lines: String = entries
            .into_iter()
            .map(|entry| format!("{entry}\n"))
            .collect();
        if lines.is_empty() {
            return Ok(());
        }
        let args = ["-a", ANCHOR, "-t", &gate.table, "-T", verb, "-f", "-"];
        let args = if gate.ours { &args[..] } else { &args[2..] };
        self.run(args, lines.as_bytes()).map(drop)
    }

    /// Whether pf filters, and how its states fare.
    pub fn status(&mut self) -> Result<Status, Failure> {
        Status::parse(&self.read(&["-s", "info"])?)
            .ok_or_else(|| Failure::Unexpected("pfctl -s info: not understood".to_owned()))
    }

    /// The states of packets that came in.
    pub fn states(&mut self) -> Result<Vec<State>, Failure> {
        Ok(listing::states(&self.read(&["-vvs", "states"])?))
    }

    /// Ends states by their numbers, and no others. pfctl takes one at a time.
    pub fn kill_states(&mut self, ids: &BTreeSet<(u64, u32)>) -> Result<(), Failure> {
        for (id, creator) in ids {
            let id = format!("{id:016x}/{creator:08x}");
            self.run(&["-k", "id", "-k", &id], b"")?;
        }
        Ok(())
    }
}

/// What pfctl says of an anchor that is not there: of its rules and of its tables in 12.1, and
/// later versions.
const NO_ANCHOR: [&str; 3] = ["Invalid argument", "does not exist", "not found"];
/// What pfctl says of a table that is not there.
const ABSENT: &str = "Table does not exist";

/// Of what pfctl complained, with what may be done about it.
fn words(output: &[u8]) -> String {
    let output = run::on_one_line(output);
    let hint = if output.contains("/dev/pf: No such file") {
        "pf is not loaded: service pf start"
    } else if output.contains("Operation not permitted") {
        "at securelevel 3 pf's rules stay as they are, only tables change: table = \"name\""
    } else if output.contains("/dev/pf: Permission denied") {
        "only root may"
    } else {
        return output;
    };
    format!("{output} ({hint})")
}

fn text(output: Vec<u8>) -> String {
    String::from_utf8_lossy(&output).into_owned()
}
