//! knockd.conf -> a postern.toml that does the same, its packet filter's commands turned into
//! doors that open.

mod plan;

use std::fmt::{self, Write as _};

use super::check::is_the_textbooks;
use super::filters::Rule;
use super::mistake::{Parsed, Spot};
use super::{
    Action, Commands, Door, FirewallKind, Knock, LogTo, Sequence, Steps, To, bounds, keygen, units,
};
use plan::{Ends, Opening, Plan, What};

/// A postern.toml made from a knockd.conf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Converted {
    /// The file's text.
    pub text: String,
    /// How many doors stand in it; without any it is refused. The others are comments.
    pub doors: usize,
    /// How many of these have only a comment where their sequence must stand, since it was the
    /// textbook's; with any the file is refused.
    pub unfinished: usize,
}

/// Makes a postern.toml of what [`knockd::read`](super::knockd::read) has read from `file`. What
/// could not be turned into a door that opens is left as commands, with a comment that says why.
pub fn convert(file: &str, parsed: &Parsed) -> Converted {
    let plan = Plan::new(&parsed.config);
    let mut made = Made {
        parsed,
        plan: &plan,
        text: String::new(),
    };
    let doors = made.all(file).unwrap_or_default();
    Converted {
        // A string takes whatever it is given.
        text: made.text,
        doors: doors.len(),
        unfinished: doors
            .into_iter()
            .filter(|door| has_the_textbooks(door))
            .count(),
    }
}

struct Made<'c> {
    parsed: &'c Parsed,
    plan: &'c Plan,
    text: String,
}

impl<'c> Made<'c> {
    /// The doors that stand.
    fn all(&mut self, file: &str) -> Result<Vec<&'c Door>, fmt::Error> {
        let config = &self.parsed.config;
        self.comment(&format!(
            "Made from {file} by posternctl convert: read it through, and ask posternctl check."
        ))?;
        self.comment("It holds secrets: chmod 600.")?;
        writeln!(self.text)?;
        let given = config.knockd.as_ref();
        if given.is_some_and(|knockd| knockd.interface.is_none()) {
            self.comment("knockd's default; the file names none.")?;
        }
        for interface in &config.interfaces {
            writeln!(self.text, "interface = {}", quoted(interface))?;
        }
        if let LogTo::File(path) = &config.log {
            if given.is_some_and(|knockd| knockd.syslog) {
                self.comment("The log goes to one place: this file, or \"syslog\".")?;
            }
            writeln!(self.text, "log = {}", quoted(&path.to_string_lossy()))?;
        }
        if let Some(path) = given.and_then(|knockd| knockd.pidfile.as_ref()) {
            writeln!(self.text, "pidfile = {}", quoted(&path.to_string_lossy()))?;
        }
        if let Some(firewall) = self.plan.firewall {
            writeln!(self.text, "firewall = {}", quoted(word(firewall)))?;
        }
        let mut stand = Vec::new();
        for (at, (door, what)) in config.doors.iter().zip(&self.plan.doors).enumerate() {
            writeln!(self.text)?;
            let Some(sequence) = door.knocks.first().and_then(Knock::sequence) else {
                continue;
            };
            match what {
                What::Opens(opening, ends) => {
                    self.ran(at, door)?;
                    self.opens(door, opening, *ends)?;
                    self.knock(door, sequence)?;
                    stand.push(door);
                }
                What::Unneeded(opener) => self.unneeded(at, *opener)?,
                What::Runs(commands, why) => {
                    self.comment(&format!("{}: {why}.", self.whence(at)))?;
                    self.runs(door, commands)?;
                    self.knock(door, sequence)?;
                    stand.push(door);
                }
                What::LeftOut(commands, why) => {
                    self.comment(&format!("{} is left out: {why}.", self.whence(at)))?;
                    let before = std::mem::take(&mut self.text);
                    self.runs(door, commands)?;
                    self.knock(door, sequence)?;
                    let door = std::mem::replace(&mut self.text, before);
                    for line in door.lines() {
                        writeln!(self.text, "#{line}")?;
                    }
                }
            }
        }
        Ok(stand)
    }

    /// One line or several, however long the text is.
    fn comment(&mut self, text: &str) -> fmt::Result {
        const WIDTH: usize = 96;
        let plain: String = text
            .chars()
            .map(|c| if c.is_control() { '?' } else { c })
            .collect();
        let mut line = String::from("#");
        for word in plain.split(' ') {
            if line.len() > 1 && line.len() + 1 + word.len() > WIDTH {
                writeln!(self.text, "{line}")?;
                line = String::from("#");
            }
            line.push(' ');
            line.push_str(word);
        }
        writeln!(self.text, "{}", line.trim_end())
    }

    /// `[openSSH] in line 5`
    fn whence(&self, at: usize) -> String {
        let names = self.parsed.config.knockd.as_ref().map(|k| &k.names);
        let name = names.and_then(|names| names.get(at));
        let line = self.parsed.places.get(Spot::door(at)).line;
        format!("[{}] in line {line}", name.map_or("", String::as_str))
    }

    fn ran(&mut self, at: usize, door: &Door) -> fmt::Result {
        if let Action::Command(commands) = &door.action {
            self.comment(&format!("{} ran: {}", self.whence(at), commands.start))?;
        }
        Ok(())
    }

    fn unneeded(&mut self, at: usize, opener: usize) -> fmt::Result {
        let opener = &self.parsed.config.doors[opener].name;
        self.comment(&format!(
            "{} is needed no more: {opener} shuts by itself. To shut it before: \
             posternctl close ADDRESS {opener}",
            self.whence(at)
        ))
    }

    fn opens(&mut self, door: &Door, opening: &Opening, ends: Ends) -> fmt::Result {
        writeln!(self.text, "[door.{}]", door.name)?;
        let open_for = match ends {
            Ends::After(time) => time,
            Ends::ByKnock | Ends::Never => plan::OPEN_FOR,
        };
        if let Opening::Rule(rule) = opening {
            let ports: Vec<String> = rule.ports.iter().map(|p| quoted(&p.to_string())).collect();
            writeln!(self.text, "opens = [{}]", ports.join(", "))?;
        }
        match ends {
            Ends::After(_) => {}
            Ends::ByKnock => self.comment(
                "It stood open until the closing knock. A minute is enough to connect: sessions \
                 outlive it.",
            )?,
            Ends::Never => self
                .comment("Nothing shut it. A minute is enough to connect: sessions outlive it.")?,
        }
        let open_for = units::show_duration(open_for);
        writeln!(self.text, "open_for = {}", quoted(&open_for))?;
        match opening {
            Opening::Table(_, name) => writeln!(self.text, "table = {}", quoted(name)),
            Opening::Rule(rule) => self.rule(rule),
        }
    }

    fn rule(&mut self, rule: &Rule) -> fmt::Result {
        if let Some(number) = rule.number {
            writeln!(self.text, "rule = {number}")?;
        }
        match rule.to {
            To::Me => {}
            To::Any => writeln!(self.text, "to = \"any\"")?,
            To::Network(network) => writeln!(self.text, "to = {}", quoted(&network.to_string()))?,
        }
        if let Some(connections) = rule.connections {
            writeln!(self.text, "connections = {connections}")?;
        }
        match rule.number {
            Some(number) => {
                self.comment(&format!(
                    "The rule of yours that shuts the port to all others must have a number above \
                     {number}. Postern can hold it in its place: write the number here and delete \
                     yours. Keep your session open and knock from another; see THE TRIAL in \
                     posternd(8)."
                ))?;
                writeln!(self.text, "#guard = ...")
            }
            None => {
                self.comment(
                    "Nothing opens before this stands here: take your own rules out that drop the \
                     port, let the others accept it, and have Postern shut it. Keep your session \
                     open and knock from another; see THE TRIAL in posternd(8).",
                )?;
                writeln!(self.text, "#guard = true")
            }
        }
    }

    fn runs(&mut self, door: &Door, commands: &Commands) -> fmt::Result {
        writeln!(self.text, "[door.{}]", door.name)?;
        let lines = [
            ("start_command", Some(&commands.start)),
            ("start_command_6", commands.start_6.as_ref()),
            ("stop_command", commands.stop.as_ref()),
            ("stop_command_6", commands.stop_6.as_ref()),
        ];
        for (key, line) in lines {
            if let Some(line) = line {
                writeln!(self.text, "{key} = {}", quoted(line))?;
            }
        }
        if commands.stop.is_some() {
            let time = units::show_duration(commands.cmd_timeout);
            writeln!(self.text, "cmd_timeout = {}", quoted(&time))?;
        }
        if commands.run_limit != bounds::RUN_LIMIT {
            let limit = units::show_duration(commands.run_limit);
            writeln!(self.text, "run_limit = {}", quoted(&limit))?;
        }
        Ok(())
    }

    fn knock(&mut self, door: &Door, sequence: &Sequence) -> fmt::Result {
        writeln!(self.text, "\n[[door.{}.knock]]", door.name)?;
        match &sequence.steps {
            Steps::Fixed(steps) if is_the_textbooks(steps) => {
                self.comment(
                    "Every manual of knockd has it: write what posternctl keygen --sequence prints \
                     instead.",
                )?;
                writeln!(self.text, "#{}", keygen::toml_line(steps))?;
            }
            Steps::Fixed(steps) => writeln!(self.text, "{}", keygen::toml_line(steps))?,
            Steps::OneTime(path) => {
                self.comment("Readable by root alone: chmod 600.")?;
                let path = quoted(&path.to_string_lossy());
                writeln!(self.text, "one_time_sequences = {path}")?;
            }
        }
        let timeout = units::show_duration(sequence.timeout);
        writeln!(self.text, "seq_timeout = {}", quoted(&timeout))?;
        if sequence.has_tcp() {
            let flags: Vec<String> = sequence.flags.names().map(|flag| quoted(&flag)).collect();
            writeln!(self.text, "tcpflags = [{}]", flags.join(", "))?;
        }
        if let Some(target) = sequence.target {
            writeln!(self.text, "target = {}", quoted(&target.to_string()))?;
        }
        Ok(())
    }
}

fn has_the_textbooks(door: &Door) -> bool {
    door.knocks
        .iter()
        .filter_map(Knock::sequence)
        .any(|sequence| matches!(&sequence.steps, Steps::Fixed(steps) if is_the_textbooks(steps)))
}

fn word(firewall: FirewallKind) -> &'static str {
    match firewall {
        FirewallKind::Ipfw => "ipfw",
        FirewallKind::Pf => "pf",
        FirewallKind::Nft => "nft",
        FirewallKind::Memory => "memory",
        FirewallKind::None => "none",
    }
}

/// A string of TOML's: as it is in '...' where that can be, else in "..." (TOML 1.0, String).
fn quoted(text: &str) -> String {
    let odd = |c: char| c.is_control() && c != '\t';
    if text.contains(['"', '\\']) && !text.contains('\'') && !text.contains(odd) {
        return format!("'{text}'");
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
