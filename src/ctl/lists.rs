//! One-time lists as check and replay work with them: read once, used up in memory.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::config::{Config, Port, Steps, onetime};
use crate::exit;

/// The one-time lists of a configuration, by door and knock.
pub struct Lists(BTreeMap<(u16, u16), List>);

/// A one-time list.
pub struct List {
    pub path: PathBuf,
    /// What stands in it, or why nobody knows.
    pub text: Result<String, String>,
}

impl Lists {
    /// Reads the lists.
    pub fn read(config: &Config) -> Lists {
        let mut lists = BTreeMap::new();
        for (d, door) in (0u16..).zip(&config.doors) {
            for (k, knock) in (0u16..).zip(&door.knocks) {
                if let Some(Steps::OneTime(path)) = knock.sequence().map(|s| &s.steps) {
                    let (path, text) = (path.clone(), text(path));
                    lists.insert((d, k), List { path, text });
                }
            }
        }
        Lists(lists)
    }

    /// All, by door and knock.
    pub fn iter(&self) -> impl Iterator<Item = ((u16, u16), &List)> {
        self.0.iter().map(|(&place, list)| (place, list))
    }

    /// The line in force and its steps.
    pub fn current(&self, door: u16, knock: u16) -> Option<(u32, Vec<Port>)> {
        let list = self.0.get(&(door, knock))?;
        onetime::current(list.text.as_ref().ok()?)
    }

    /// Uses a line up, if it is the one in force.
    pub fn spend(&mut self, door: u16, knock: u16, line: u32) -> bool {
        let spent = |list: &mut List| {
            let text = list.text.as_mut().ok()?;
            *text = onetime::spend(text, line)?;
            Some(())
        };
        self.0.get_mut(&(door, knock)).and_then(spent).is_some()
    }
}

fn text(path: &Path) -> Result<String, String> {
    let bytes = fs::read(path).map_err(|e| exit::words(&e))?;
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
}
