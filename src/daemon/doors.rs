//! A configuration as the monitor works with it: the doors by place and name, the one-time
//! lists with the line in force, what each door still allows.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::files;
use crate::config::{Action, Config, Door, Knock, Port, Steps, onetime};
use crate::knock::Watch;
use crate::lease::Terms;
use crate::time::Time;

/// Grants that a door takes at once, and earns anew in a second. A flood of grants, forged by
/// a listener that somebody else has taken over, stays within it and shuts no other door.
const GRANTS: f64 = 1000.0;

/// A one-time list.
#[derive(Clone, Debug)]
struct List {
    path: PathBuf,
    /// The line in force and its steps; `None`: used up, or the file cannot be used.
    current: Option<(u32, Vec<Port>)>,
}

/// A configuration in force.
#[derive(Debug)]
pub struct Doors {
    /// As it was read.
    pub config: Config,
    lists: HashMap<(u16, u16), List>,
    allowances: Vec<(f64, Time)>,
}

/// Why a one-time line did not let anybody in.
#[derive(Debug, PartialEq, Eq)]
pub enum NotSpent {
    /// It is not the line in force (any more).
    NotInForce,
    /// The list could not be written.
    NotWritten(String),
}

impl Doors {
    /// Takes a configuration and reads its one-time lists; what is wrong with these, in words.
    pub fn new(config: Config, now: Time) -> (Doors, Vec<String>) {
        let mut lists = HashMap::new();
        let mut wrong = Vec::new();
        for (d, door) in config.doors.iter().enumerate() {
            for (k, knock) in door.knocks.iter().enumerate() {
                let Knock::Sequence(sequence) = knock;
                let Steps::OneTime(path) = &sequence.steps else {
                    continue;
                };
                let current = match read_list(path) {
                    Ok((_, current)) => {
                        if current.is_none() {
                            wrong.push(format!(
                                "{}: {}: no sequence is left: this knock opens nothing",
                                door.name,
                                path.display()
                            ));
                        }
                        current
                    }
                    Err(e) => {
                        wrong.push(format!("{}: {e}: this knock opens nothing", door.name));
                        None
                    }
                };
                lists.insert(
                    (d as u16, k as u16),
                    List {
                        path: path.clone(),
                        current,
                    },
                );
            }
        }
        let allowances = vec![(GRANTS, now); config.doors.len()];
        (
            Doors {
                config,
                lists,
                allowances,
            },
            wrong,
        )
    }

    /// One door.
    pub fn get(&self, door: u16) -> Option<&Door> {
        self.config.doors.get(usize::from(door))
    }

    /// A door's place.
    pub fn place(&self, name: &str) -> Option<u16> {
        let place = self.config.doors.iter().position(|d| d.name == name)?;
        u16::try_from(place).ok()
    }

    /// The names by place.
    pub fn names(&self) -> Vec<String> {
        self.config.doors.iter().map(|d| d.name.clone()).collect()
    }

    /// What the listener is to watch for.
    pub fn watches(&self) -> Vec<Watch> {
        let mut watches = Vec::new();
        for (d, door) in self.config.doors.iter().enumerate() {
            for (k, knock) in door.knocks.iter().enumerate() {
                let Knock::Sequence(sequence) = knock;
                let (line, steps) = match &sequence.steps {
                    Steps::Fixed(steps) => (0, steps.clone()),
                    Steps::OneTime(_) => {
                        let list = self.lists.get(&(d as u16, k as u16));
                        match list.and_then(|l| l.current.clone()) {
                            Some(current) => current,
                            None => continue,
                        }
                    }
                };
                watches.push(Watch {
                    door: d as u16,
                    knock: k as u16,
                    line,
                    steps,
                    timeout: sequence.timeout,
                    flags: sequence.flags,
                    target: sequence.target,
                });
            }
        }
        watches
    }

    /// The ports that doors open: none of them is a trap.
    pub fn opened_ports(&self) -> Vec<Port> {
        let opens = self.config.doors.iter().filter_map(|d| match &d.action {
            Action::Open(opens) => Some(&opens.ports),
            Action::Command(_) => None,
        });
        opens.flatten().copied().collect()
    }

    /// The longest that an attempt can take.
    pub fn longest_attempt(&self) -> Duration {
        let knocks = self.config.doors.iter().flat_map(|d| &d.knocks);
        knocks
            .map(|Knock::Sequence(s)| s.timeout)
            .max()
            .unwrap_or_default()
    }

    /// What the doors allow their leases.
    pub fn terms(&self) -> Vec<Terms> {
        let doors = self.config.doors.iter();
        doors
            .map(|d| Terms {
                open_for: d.lease(),
                max_leases: d.max_leases,
            })
            .collect()
    }

    /// Whether the door takes one more grant now.
    pub fn allow(&mut self, door: u16, now: Time) -> bool {
        let Some((left, at)) = self.allowances.get_mut(usize::from(door)) else {
            return false;
        };
        *left = (*left + now.since(*at).as_secs_f64() * GRANTS).min(GRANTS);
        *at = now.max(*at);
        let allowed = *left >= 1.0;
        if allowed {
            *left -= 1.0;
        }
        allowed
    }

    /// Whether this knock's steps come from a one-time list.
    pub fn is_one_time(&self, door: u16, knock: u16) -> bool {
        self.lists.contains_key(&(door, knock))
    }

    /// Marks the line as used, in the file first. What then stands in force must go to the
    /// listener: [`Doors::watches`].
    ///
    /// # Errors
    /// The grant must not be given then.
    pub fn spend(&mut self, door: u16, knock: u16, line: u32) -> Result<(), NotSpent> {
        let list = self
            .lists
            .get_mut(&(door, knock))
            .ok_or(NotSpent::NotInForce)?;
        if list
            .current
            .as_ref()
            .is_none_or(|(current, _)| *current != line)
        {
            return Err(NotSpent::NotInForce);
        }
        let (text, current) = read_list(&list.path).map_err(NotSpent::NotWritten)?;
        if current != list.current {
            // The administrator has changed the file under us: what was knocked may not stand
            // there any more.
            list.current = current;
            return Err(NotSpent::NotInForce);
        }
        let spent = onetime::spend(&text, line).ok_or(NotSpent::NotInForce)?;
        files::replace(&list.path, spent.as_bytes())
            .map_err(|e| NotSpent::NotWritten(format!("{}: {e}", list.path.display())))?;
        list.current = onetime::current(&spent);
        Ok(())
    }
}

type Current = Option<(u32, Vec<Port>)>;

fn read_list(path: &Path) -> Result<(String, Current), String> {
    files::trusted(path, true).map_err(|e| e.to_string())?;
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let current = onetime::current(&text);
    Ok((text, current))
}
