//! What becomes of each door.

use std::time::Duration;

use super::super::check::is_a_sweep;
use super::super::filters::{self, Deed, Rule};
use super::super::toml::{opens, reader};
use super::super::{Action, Commands, Config, Door, FirewallKind, Knock, Steps, bounds};

/// How long a door stands open that knockd left open.
pub(super) const OPEN_FOR: Duration = Duration::from_secs(60);

/// A command of the shell's that does nothing, where a door must have one.
const NOTHING: &str = ":";

pub(super) struct Plan {
    /// What drives the doors that open, if there are any.
    pub firewall: Option<FirewallKind>,
    /// By door.
    pub doors: Vec<What>,
}

/// What becomes of a door.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// A door that opens.
    Opens(Opening, Ends),
    /// Nothing: it shut this other door, which shuts by itself now.
    Unneeded(usize),
    /// Its commands, and why.
    Runs(Commands, String),
    /// A comment, and why: postern.toml refuses it.
    LeftOut(Commands, String),
}

/// What lets an address in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    Rule(Rule),
    /// A table of the administrator's.
    Table(FirewallKind, String),
}

impl Opening {
    fn firewall(&self) -> FirewallKind {
        match self {
            Opening::Rule(rule) => rule.firewall,
            Opening::Table(firewall, _) => *firewall,
        }
    }
}

/// When the door was shut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    After(Duration),
    /// At another door.
    ByKnock,
    Never,
}

impl Plan {
    pub fn new(config: &Config) -> Plan {
        let mut firewall = None;
        let mut openings: Vec<Result<(Opening, Ends), String>> = Vec::new();
        for door in &config.doors {
            let mut opening = opening(config, door);
            if let Ok((found, _)) = &opening {
                let first = *firewall.get_or_insert(found.firewall());
                if first != found.firewall() {
                    opening = Err(format!(
                        "it is left as it was: the first door that opens has \
                         another packet filter, {}",
                        super::word(first)
                    ));
                }
            }
            openings.push(opening);
        }
        let shutter = |door: &Door| {
            let deeds = shutting(door)?;
            let shuts = |opening: &Opening| deeds.iter().all(|deed| undoes(opening, deed));
            openings
                .iter()
                .position(|opening| matches!(opening, Ok((o, _)) if shuts(o)))
        };
        let shutters: Vec<Option<usize>> = config.doors.iter().map(shutter).collect();
        let doors = openings.iter().zip(&config.doors).enumerate();
        let doors = doors.map(|(at, (opening, door))| match (opening, shutters[at]) {
            (Ok((opening, Ends::Never)), _) if shutters.contains(&Some(at)) => {
                What::Opens(opening.clone(), Ends::ByKnock)
            }
            (Ok((opening, ends)), _) => What::Opens(opening.clone(), *ends),
            (Err(_), Some(opener)) => What::Unneeded(opener),
            (Err(why), None) => runs(door, why),
        });
        Plan {
            doors: doors.collect(),
            firewall,
        }
    }
}

/// What the door lets in by, and how it ends; or why it cannot be a door that opens.
fn opening(config: &Config, door: &Door) -> Result<(Opening, Ends), String> {
    let commands = match &door.action {
        Action::Command(commands) if refused(door).is_none() => commands,
        _ => return Err(String::new()),
    };
    if commands.start.is_empty() && commands.start_6.is_none() {
        return Err("knockd ran nothing here, it only logged the knock".to_owned());
    }
    const UNKNOWN: &str =
        "its command is left as it was: it is no packet filter's that is recognized here";
    let start = filters::recognize(&commands.start).ok_or(UNKNOWN)?;
    let opening = match start.clone() {
        Deed::Add(rule) => rule_opening(config, rule)?,
        Deed::TableAdd(firewall, name) => {
            opens::table_name(&name)
                .map_err(|wrong| format!("its commands are left as they were: {}", wrong.what))?;
            Opening::Table(firewall, name)
        }
        Deed::Delete(_) | Deed::DeleteNumbers(_) | Deed::TableDelete(..) => {
            return Err("its command is left as it was: no door here opens what it shuts".into());
        }
    };
    let same = |line: &Option<String>| match line {
        None => true,
        Some(line) => filters::recognize(line).as_ref() == Some(&start),
    };
    if !same(&commands.start_6) {
        return Err("its commands are left as they were: for IPv6 it does something else".into());
    }
    let shut = |line: &String| filters::recognize(line).is_some_and(|deed| undoes(&opening, &deed));
    let ends = match (&commands.stop, &commands.stop_6) {
        (None, _) => Ends::Never,
        (Some(stop), stop_6) if shut(stop) && stop_6.as_ref().is_none_or(shut) => {
            Ends::After(commands.cmd_timeout)
        }
        (Some(_), _) => {
            let why = "its commands are left as they were: what stops does not undo what starts";
            return Err(why.to_owned());
        }
    };
    Ok((opening, ends))
}

fn rule_opening(config: &Config, rule: Rule) -> Result<Opening, String> {
    let left = |why: String| Err(format!("its commands are left as they were: {why}"));
    let numbered = rule.firewall == FirewallKind::Ipfw;
    match rule.number {
        None if numbered => {
            return left("ipfw puts a rule without a number behind all others".into());
        }
        Some(number) if !bounds::RULE.contains(&usize::from(number)) => {
            return left(format!("rules cannot have the number {number}"));
        }
        _ => {}
    }
    if let Some(on) = rule
        .on
        .as_ref()
        .filter(|on| !config.interfaces.contains(on))
    {
        return left(format!("the rule is about {on}, where nobody listens"));
    }
    if !bounds::OPENS.contains(&rule.ports.len()) {
        return left(format!("it opens {} ports", rule.ports.len()));
    }
    Ok(Opening::Rule(rule))
}

/// Whether this takes back what opened.
fn undoes(opening: &Opening, deed: &Deed) -> bool {
    match (opening, deed) {
        (Opening::Rule(added), Deed::Delete(deleted)) => added == deleted,
        // None: meant, though nothing is deleted.
        (Opening::Rule(added), Deed::DeleteNumbers(numbers)) => {
            added.firewall == FirewallKind::Ipfw
                && numbers.iter().all(|&number| Some(number) == added.number)
        }
        (Opening::Table(firewall, name), Deed::TableDelete(whose, which)) => {
            firewall == whose && name == which
        }
        _ => false,
    }
}

/// What a door does that runs one command, or one for each family, and stops none: it may shut
/// what another opened.
fn shutting(door: &Door) -> Option<Vec<Deed>> {
    let Action::Command(commands) = &door.action else {
        return None;
    };
    let alone = commands.stop.is_none() && commands.stop_6.is_none();
    let lines = std::iter::once(&commands.start).chain(&commands.start_6);
    let deeds = lines.map(|line| filters::recognize(line));
    alone.then(|| deeds.collect())?
}

/// Why postern.toml has no such door.
fn refused(door: &Door) -> Option<String> {
    let swept = door
        .knocks
        .iter()
        .filter_map(Knock::sequence)
        .any(|sequence| matches!(&sequence.steps, Steps::Fixed(steps) if is_a_sweep(steps)));
    swept.then(|| {
        "each step is the port next to the last, so a port sweep opens it; take a sequence from \
         posternctl keygen --sequence"
            .to_owned()
    })
}

/// A door with commands that postern.toml takes.
fn runs(door: &Door, why: &str) -> What {
    let Action::Command(commands) = &door.action else {
        // knockd.conf has no others.
        return What::Unneeded(0);
    };
    let mut commands = commands.clone();
    let none_for_4 = commands.start.is_empty();
    let started_6 = commands
        .start_6
        .as_ref()
        .is_none_or(|line| !line.is_empty());
    if none_for_4 {
        commands.start = NOTHING.to_owned();
        commands.start_6.get_or_insert_default();
    }
    // Nothing is stopped that was not started.
    if let Some(stop) = commands.stop.take() {
        let stop_6 = commands.stop_6.take();
        let for_6 = stop_6.clone().unwrap_or_else(|| stop.clone());
        let ends_4 = !none_for_4 && !stop.is_empty();
        let ends_6 = started_6 && commands.start_6.as_deref() != Some("") && !for_6.is_empty();
        let or_nothing = |line: String| match line.is_empty() {
            true => NOTHING.to_owned(),
            false => line,
        };
        (commands.stop, commands.stop_6) = match (ends_4, ends_6) {
            (true, true) => (Some(stop), stop_6),
            (true, false) => (Some(stop), stop_6.map(|_| String::new())),
            (false, true) => (Some(NOTHING.to_owned()), Some(or_nothing(for_6))),
            (false, false) => (None, None),
        };
    }
    let lines = [
        Some(&commands.start),
        commands.start_6.as_ref(),
        commands.stop.as_ref(),
        commands.stop_6.as_ref(),
    ];
    let odd = lines
        .into_iter()
        .flatten()
        .filter(|line| !line.is_empty())
        .find_map(|line| reader::command(line).err());
    match (refused(door), odd) {
        (Some(why), _) => What::LeftOut(commands, why),
        (None, Some(odd)) => What::LeftOut(commands, format!("{}; {}", odd.what, odd.right)),
        (None, None) => What::Runs(commands, why.to_owned()),
    }
}
