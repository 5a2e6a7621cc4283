//! What the kernel knows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::table::Entry;

/// pf without its states.
#[derive(Serialize, Deserialize)]
pub struct State {
    pub enabled: bool,
    /// Unix seconds: when it was enabled or disabled, or its statistics cleared.
    pub since: u64,
    pub removals: u64,
    /// The rules of anchors, as pfctl shows them; "": the main ruleset.
    pub anchors: BTreeMap<String, Vec<String>>,
    /// Their translation rules.
    pub nat: BTreeMap<String, Vec<String>>,
    /// Their tables.
    pub tables: BTreeMap<String, BTreeMap<String, BTreeSet<Entry>>>,
    /// Those of their tables that count.
    #[serde(default)]
    pub counting: BTreeMap<String, BTreeSet<String>>,
    /// By anchor, table and entry, blanks between: when it was made, in Unix seconds, and the
    /// packets that came in from there and passed.
    #[serde(default)]
    pub counted: BTreeMap<String, (u64, u64)>,
}

impl State {
    pub fn read(dir: &Path) -> State {
        match std::fs::read_to_string(dir.join("state.json")) {
            Ok(text) => serde_json::from_str(&text).expect("state.json"),
            Err(_) => State {
                enabled: true,
                since: super::now(),
                removals: 0,
                anchors: BTreeMap::from([(
                    String::new(),
                    vec![
                        "anchor \"postern\" all".to_owned(),
                        "pass all flags S/SA keep state".to_owned(),
                    ],
                )]),
                nat: BTreeMap::new(),
                tables: BTreeMap::new(),
                counting: BTreeMap::new(),
                counted: BTreeMap::new(),
            },
        }
    }

    pub fn write(&self, dir: &Path) {
        let text = serde_json::to_string_pretty(self).expect("state");
        std::fs::write(dir.join("state.json"), text).expect("state.json");
    }

    /// The rules of an anchor; `None`: there is nothing of that name.
    pub fn rules(&self, anchor: &str) -> Option<&[String]> {
        let rules = self.anchors.get(anchor).map_or(&[][..], Vec::as_slice);
        let tables = self
            .tables
            .get(anchor)
            .is_some_and(|tables| !tables.is_empty());
        let there = anchor.is_empty() || !rules.is_empty() || tables;
        let there = there || self.named().any(|name| name == anchor);
        (there || !self.below(anchor).is_empty()).then_some(rules)
    }

    /// The anchors that the main ruleset names: they are there, be they empty.
    fn named(&self) -> impl Iterator<Item = &str> {
        let main = self.anchors.get("").into_iter().flatten();
        main.filter_map(|rule| rule.strip_prefix("anchor \"")?.split(['"', '/']).next())
    }

    /// The anchors right below one.
    pub fn below(&self, anchor: &str) -> BTreeSet<String> {
        let filled =
            |(name, rules): (&String, &Vec<String>)| (!rules.is_empty()).then(|| name.clone());
        let kept = self.tables.iter().filter(|(_, tables)| !tables.is_empty());
        let names = self.anchors.iter().filter_map(filled);
        names
            .chain(kept.map(|(name, _)| name.clone()))
            .chain(self.named().map(str::to_owned))
            .filter_map(|name| {
                let (prefix, rest) = match anchor {
                    "" => (String::new(), name.as_str()),
                    _ => (
                        format!("{anchor}/"),
                        name.strip_prefix(&format!("{anchor}/"))?,
                    ),
                };
                let first = rest.split('/').next().filter(|first| !first.is_empty())?;
                Some(format!("{prefix}{first}"))
            })
            .collect()
    }

    /// `-s info`
    pub fn info(&self, dir: &Path, now: u64) -> String {
        let runtime = now.saturating_sub(self.since);
        let running = if self.enabled { "Enabled" } else { "Disabled" };
        let status = match self.since {
            0 => format!("Status: {running}"),
            _ => format!(
                "Status: {running} for {} days {:02}:{:02}:{:02}",
                runtime / 86400,
                runtime / 3600 % 24,
                runtime / 60 % 60,
                runtime % 60
            ),
        };
        let mut text = format!("{status:<44}{:>15}\n\n", "Debug: Urgent");
        text.push_str(&format!(
            "{:<27} {:>14} {:>16}\n",
            "State Table", "Total", "Rate"
        ));
        let entries = blocks(dir).len();
        text.push_str(&format!(
            "  {:<25} {entries:>14} {:>14}\n",
            "current entries", ""
        ));
        let mut counter = |name: &str, count: u64| {
            let rate = match runtime {
                0 => format!("{:>14}\n", ""),
                _ => format!("{:>14.1}/s\n", count as f64 / runtime as f64),
            };
            text.push_str(&format!("  {name:<25} {count:>14} {rate}"));
            if name == "removals" {
                text.push_str("Counters\n");
            }
        };
        for name in ["searches", "inserts", "removals"] {
            counter(name, if name == "removals" { self.removals } else { 0 });
        }
        for name in [
            "match",
            "bad-offset",
            "fragment",
            "short",
            "normalize",
            "memory",
            "bad-timestamp",
            "congestion",
            "ip-option",
            "proto-cksum",
            "state-mismatch",
            "state-insert",
            "state-limit",
            "src-limit",
            "synproxy",
            "map-failed",
        ] {
            counter(name, 0);
        }
        text
    }
}

/// The states, each with the lines that belong to it.
fn blocks(dir: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(dir.join("states")).unwrap_or_default();
    let mut blocks: Vec<String> = Vec::new();
    for line in text.lines() {
        match blocks.last_mut().filter(|_| line.starts_with(' ')) {
            Some(block) => block.push_str(&format!("{line}\n")),
            None => blocks.push(format!("{line}\n")),
        }
    }
    blocks
}

/// `-s states`
pub fn listing(dir: &Path, verbose: u8) -> String {
    let shown = |line: &&str| match verbose {
        0 => !line.starts_with(' '),
        1 => !line.trim_start().starts_with("id:"),
        _ => true,
    };
    let text = blocks(dir).concat();
    let lines = text.lines().filter(shown);
    lines.map(|line| format!("{line}\n")).collect()
}

/// `-F states`; how many there were.
pub fn clear(dir: &Path) -> u64 {
    let gone = blocks(dir).len();
    std::fs::write(dir.join("states"), "").expect("states");
    gone as u64
}

/// `-k id`; how many there were.
pub fn kill_id(dir: &Path, id: &str) -> u64 {
    let number = |text: &str| u64::from_str_radix(text, 16).expect("a number");
    let (id, creator) = id.split_once('/').expect("ID/CREATORID");
    let all = blocks(dir);
    let is = |block: &&String| {
        let words: Vec<&str> = block.split_whitespace().collect();
        let of = |key| {
            let value = words.iter().skip_while(|word| **word != key).nth(1);
            value.map(|value| number(value))
        };
        of("id:") == Some(number(id)) && of("creatorid:") == Some(number(creator))
    };
    let (gone, left): (Vec<&String>, Vec<&String>) = all.iter().partition(is);
    let left: String = left.into_iter().map(String::as_str).collect();
    std::fs::write(dir.join("states"), left).expect("states");
    gone.len() as u64
}
