//! A configuration as replay and check work with it: what to watch for, what to grant, the
//! one-time lists as they were read.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::config::{Action, Config, Knock, Port, Steps, onetime};
use crate::exit;
use crate::knock::Watch;
use crate::lease::Terms;

/// The one-time lists of a configuration, by door and knock. They are read once; lines are used
/// up here and in no file.
#[derive(Debug)]
pub struct Lists(HashMap<(u16, u16), List>);

/// A one-time list.
#[derive(Debug)]
pub struct List {
    pub path: PathBuf,
    pub text: Result<String, String>,
}

impl Lists {
    /// Reads the lists.
    pub fn read(config: &Config) -> Lists {
        let lists = sequences(config).filter_map(|(place, sequence)| match &sequence.steps {
            Steps::Fixed(_) => None,
            Steps::OneTime(path) => {
                let text = text(path);
                let path = path.clone();
                Some((place, List { path, text }))
            }
        });
        Lists(lists.collect())
    }

    /// One list.
    pub fn get(&self, door: u16, knock: u16) -> Option<&List> {
        self.0.get(&(door, knock))
    }

    /// Uses a line up, if it is the one in force.
    pub fn spend(&mut self, door: u16, knock: u16, line: u32) -> bool {
        let Some(list) = self.0.get_mut(&(door, knock)) else {
            return false;
        };
        let spent = list
            .text
            .as_ref()
            .ok()
            .and_then(|text| onetime::spend(text, line));
        match spent {
            Some(spent) => {
                list.text = Ok(spent);
                true
            }
            None => false,
        }
    }
}

fn text(path: &Path) -> Result<String, String> {
    let bytes = fs::read(path).map_err(|e| exit::words(&e))?;
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
}

/// Every sequence with its door and knock by their places.
fn sequences(config: &Config) -> impl Iterator<Item = ((u16, u16), &crate::config::Sequence)> {
    (0u16..).zip(&config.doors).flat_map(|(d, door)| {
        (0u16..).zip(&door.knocks).map(move |(k, knock)| {
            let Knock::Sequence(sequence) = knock;
            ((d, k), sequence)
        })
    })
}

/// What there is to watch for. Lists that are used up or cannot be read have nothing.
pub fn watches(config: &Config, lists: &Lists) -> Vec<Watch> {
    let watch = |((door, knock), sequence): ((u16, u16), &crate::config::Sequence)| {
        let (line, steps) = match &sequence.steps {
            Steps::Fixed(steps) => (0, steps.clone()),
            Steps::OneTime(_) => {
                let text = lists.get(door, knock)?.text.as_ref().ok()?;
                onetime::current(text)?
            }
        };
        Some(Watch {
            door,
            knock,
            line,
            steps,
            timeout: sequence.timeout,
            flags: sequence.flags,
            target: sequence.target,
        })
    };
    sequences(config).filter_map(watch).collect()
}

/// The ports that doors open: none of them becomes a trap.
pub fn opened_ports(config: &Config) -> Vec<Port> {
    let opens = config.doors.iter().filter_map(|door| match &door.action {
        Action::Open(opens) => Some(&opens.ports),
        Action::Command(_) => None,
    });
    opens.flatten().copied().collect()
}

/// What the doors allow their leases.
pub fn terms(config: &Config) -> Vec<Terms> {
    let terms = config.doors.iter().map(|door| Terms {
        open_for: door.lease(),
        max_leases: door.max_leases,
    });
    terms.collect()
}
