//! Which keys stand in which table, and what a misspelt one may have meant.

use super::super::mistake::Wrong;

/// The tables of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The file itself.
    Top,
    /// `[door.NAME]`
    Door,
    /// `[[door.NAME.knock]]`
    Knock,
    /// `[key.NAME]`
    Key,
}

pub(super) const ALL: [Kind; 4] = [Kind::Top, Kind::Door, Kind::Knock, Kind::Key];

/// Names that knockd.conf and others have for our keys, in small letters.
const ELSEWHERE: [(&str, &str); 13] = [
    ("command", "start_command"),
    ("command_6", "start_command_6"),
    ("timeout", "seq_timeout"),
    ("usesyslog", "log"),
    ("logfile", "log"),
    ("log_file", "log"),
    ("doors", "door"),
    ("knocks", "knock"),
    ("port", "opens"),
    ("ports", "opens"),
    ("steps", "sequence"),
    ("flags", "tcpflags"),
    ("duration", "open_for"),
];

impl Kind {
    /// The keys of this table, as the manual orders them.
    pub(super) fn keys(self) -> &'static [&'static str] {
        match self {
            Kind::Top => &[
                "interface",
                "log",
                "firewall",
                "drive",
                "user",
                "confine",
                "pidfile",
                "control",
                "state",
                "always",
                "trial",
                "door",
                "key",
            ],
            Kind::Door => &[
                "opens",
                "open_for",
                "idle",
                "prefix6",
                "rule",
                "rules",
                "table",
                "guard",
                "to",
                "on",
                "connections",
                "kill_states",
                "start_command",
                "stop_command",
                "start_command_6",
                "stop_command_6",
                "cmd_timeout",
                "run_limit",
                "max_leases",
                "knock",
            ],
            Kind::Knock => &[
                "sequence",
                "one_time_sequences",
                "seq_timeout",
                "tcpflags",
                "target",
                "ping",
                "offsets",
            ],
            Kind::Key => &[
                "owner",
                "cipher_key",
                "hmac_key",
                "hmac",
                "doors",
                "ports",
                "from",
                "observed",
                "allowance",
                "carriers",
            ],
        }
    }

    /// Where to write a key of such a table, seen from the table `name`.
    fn place(self, name: &str) -> String {
        let within = |table: &str| {
            let mut parts = name.splitn(3, '.');
            let found = parts.next() == Some(table);
            parts.next().filter(|_| found).unwrap_or("NAME")
        };
        let (door, key) = (within("door"), within("key"));
        match self {
            Kind::Top => "at the top, before the first [table]".to_owned(),
            Kind::Door => format!("in [door.{door}]"),
            Kind::Knock => format!("in [[door.{door}.knock]]"),
            Kind::Key => format!("in [key.{key}]"),
        }
    }

    /// The key of this table that leads to tables of kind `inner`.
    fn towards(self, inner: Kind) -> Option<&'static str> {
        match (self, inner) {
            (Kind::Top, Kind::Door | Kind::Knock) => Some("door"),
            (Kind::Top, Kind::Key) => Some("key"),
            (Kind::Door, Kind::Knock) => Some("knock"),
            _ => None,
        }
    }

    /// If `key` is unknown in this table, whose name is `name`: the key of this table that it
    /// stands for, if any, and what to say.
    pub(super) fn unknown(self, name: &str, key: &str) -> Option<(Option<&'static str>, Wrong)> {
        const WHAT: &str = "unknown key";
        if self.keys().contains(&key) {
            return None;
        }
        let small = key.to_ascii_lowercase();
        let synonym = ELSEWHERE.iter().find(|(name, _)| *name == small);
        let synonym = synonym.map(|&(_, ours)| ours);
        let same =
            |given: &str, keys: &[&'static str]| keys.iter().copied().find(|&known| known == given);
        // This table's keys go before others'.
        let meant = |near: &dyn Fn(&[&'static str]) -> Option<&'static str>| {
            let mut kinds = [self].into_iter().chain(ALL);
            kinds.find_map(|kind| Some((kind, near(kind.keys())?)))
        };
        let meant = meant(&|keys| same(&small, keys))
            .or_else(|| meant(&|keys| same(synonym?, keys)))
            .or_else(|| meant(&|keys| nearest(&small, keys)));
        Some(match meant {
            None => {
                let keys = self.keys().join(", ");
                let right = format!("keys known here are {keys}");
                (None, Wrong::new(WHAT, right))
            }
            Some((home, meant)) if home == self => {
                let right = format!("the nearest known one is {meant}");
                (Some(meant), Wrong::new(WHAT, right))
            }
            Some((home, meant)) => {
                let place = home.place(name);
                let wrong = if meant == key {
                    Wrong::new("the key does not belong here", format!("write it {place}"))
                } else {
                    let right = format!("the nearest known one is {meant}, {place}");
                    Wrong::new(WHAT, right)
                };
                (self.towards(home), wrong)
            }
        })
    }
}

/// Whether this is a key that a value is given to, and no table.
pub(in crate::config) fn has_value(key: &str) -> bool {
    let tables = ["door", "knock", "key"];
    ALL.iter().any(|kind| kind.keys().contains(&key)) && !tables.contains(&key)
}

/// The nearest of `known`, if it is near: a third of its letters wrong at most.
pub(crate) fn nearest<'k>(given: &str, known: &[&'k str]) -> Option<&'k str> {
    let length = given.chars().count();
    let near = |distance: usize, known: &str| distance * 3 <= known.len();
    known
        .iter()
        // The distance is this at least; a file may have many keys, and long ones.
        .filter(|known| near(length.abs_diff(known.len()), known))
        .map(|&known| (strsim::osa_distance(given, known), known))
        .filter(|&(distance, known)| near(distance, known))
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_shows_every_key() {
        const SAMPLE: &str = include_str!("../../../etc/postern.toml.sample");
        for key in ALL.iter().flat_map(|kind| kind.keys()) {
            // Tables stand under their headings.
            if matches!(*key, "door" | "knock" | "key") {
                continue;
            }
            let shown = SAMPLE.lines().any(|line| {
                let line = line.strip_prefix('#').unwrap_or(line);
                line.split_once(" = ").is_some_and(|(name, _)| name == *key)
            });
            assert!(shown, "postern.toml.sample does not show {key}");
        }
    }
}
