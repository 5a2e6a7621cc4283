//! What is unwise in commands.

use std::collections::BTreeSet;

use super::super::filters::{self, Deed};
use super::super::mistake::Spot;
use super::super::{Action, Commands};
use super::Check;

/// By which a rule that lets in one address is told from one that lets in everybody.
const ADDRESS: &str = "%IP%";

const PER_ADDRESS: &str = "keep addresses in a table, ipfw table knock add %IP% and \
                           ipfw table knock delete %IP%, that one rule names";

impl Check<'_> {
    /// Numbers that rules for one address are given in ipfw.
    pub(super) fn numbered(&self) -> BTreeSet<u16> {
        let doors = self.parsed.config.doors.iter();
        let commands = doors.filter_map(|door| match &door.action {
            Action::Command(commands) => Some(commands),
            Action::Open(_) => None,
        });
        let lines = commands.flat_map(|commands| of(commands).map(|(_, line)| line));
        let number = |line: &str| match filters::recognize(line)? {
            Deed::Add(rule) => rule.number,
            _ => None,
        };
        lines.filter_map(number).collect()
    }

    fn per_address(&self) -> String {
        let convert = match self.parsed.config.knockd {
            Some(_) => ", or take what posternctl convert makes of it",
            None => "",
        };
        format!("{PER_ADDRESS}{convert}")
    }

    /// `numbered`: as [`Check::numbered`] has them.
    pub(super) fn commands(&mut self, door: usize, commands: &Commands, numbered: &BTreeSet<u16>) {
        let mut deleting = BTreeSet::new();
        for (key, line) in of(commands) {
            let Some(Deed::DeleteNumbers(numbers)) = filters::recognize(line) else {
                continue;
            };
            deleting.insert(key);
            let spot = Spot::door(door).key(key);
            let Some(first) = numbers.first() else {
                let what = "ipfw delete reads numbers only: this deletes nothing";
                self.warn(spot, what, self.per_address());
                continue;
            };
            if line.contains(ADDRESS) || numbers.iter().any(|n| numbered.contains(n)) {
                let what = format!(
                    "ipfw delete reads nothing behind the number: this deletes every rule {first}, \
                     whoever they let in"
                );
                self.warn(spot, what, self.per_address());
            }
        }
        let stops = [
            ("stop_command", &commands.stop, &commands.start),
            (
                "stop_command_6",
                &commands.stop_6,
                commands.start_6.as_ref().unwrap_or(&commands.start),
            ),
        ];
        for (key, stop, start) in stops {
            let stop = stop.as_deref().unwrap_or_default();
            let of_one = start.contains(ADDRESS) && !stop.contains(ADDRESS);
            if !stop.is_empty() && of_one && !deleting.contains(key) {
                self.warn(
                    Spot::door(door).key(key),
                    "without %IP% it does the same for every address, and so may end others' leases",
                    "write the command that undoes the start command for %IP%",
                );
            }
        }
    }
}

/// The command lines and their keys.
fn of(commands: &Commands) -> impl Iterator<Item = (&'static str, &str)> {
    [
        ("start_command", Some(&commands.start)),
        ("start_command_6", commands.start_6.as_ref()),
        ("stop_command", commands.stop.as_ref()),
        ("stop_command_6", commands.stop_6.as_ref()),
    ]
    .into_iter()
    .filter_map(|(key, line)| Some((key, line?.as_str())))
}
