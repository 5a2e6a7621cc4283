//! --help and the manual name the same options, commands, arguments, defaults and statuses.

use std::collections::{BTreeMap, BTreeSet};

use clap::{Arg, ArgAction, Command};
use postern::client::{self, knock_as};
use postern::ctl;
use postern::daemon::{arguments, knockd_as};

use crate::mdoc::{Entry, Page, Word, words};

/// Where a line of the synopsis ends.
const LINE: &str = ";";

/// Options by each of their names, with the name of their value in small letters.
type Options = BTreeMap<String, Option<String>>;

/// A command line with what clap adds to it.
fn built(mut command: Command) -> Command {
    command.build();
    command
}

fn names(arg: &Arg) -> Vec<String> {
    let long = arg.get_long().map(|long| format!("--{long}"));
    let short = arg.get_short().map(|short| format!("-{short}"));
    short.into_iter().chain(long).collect()
}

/// `FILE` -> `file`, `PORT[/udp]` -> `port`.
fn value(arg: &Arg) -> Option<String> {
    let named = arg.get_value_names()?.first()?.to_lowercase();
    let named = named.split('[').next().unwrap_or_default().to_owned();
    let takes = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    takes.then_some(named)
}

fn options_of<'a>(args: impl Iterator<Item = &'a Arg>) -> Options {
    let each = |arg: &'a Arg| names(arg).into_iter().map(|name| (name, value(arg)));
    args.filter(|arg| !arg.is_positional())
        .flat_map(each)
        .collect()
}

/// Of the head of an entry, or of a form of the synopsis.
fn options_in(line: &str) -> Options {
    let mut found = Options::new();
    let mut groups = vec![String::new()];
    for word in line.split_whitespace() {
        match word {
            "Op" | "Oo" | "Oc" | LINE => groups.push(String::new()),
            word => groups.last_mut().unwrap().extend([" ", word]),
        }
    }
    for group in groups {
        // `Fl c , Fl -config Ar file`: the value is each one's.
        let value = words(&group).into_iter().find_map(|word| match word {
            Word::Argument(value) => Some(value),
            _ => None,
        });
        for word in words(&group) {
            if let Word::Option(name) = word {
                found.insert(name, value.clone());
            }
        }
    }
    found
}

/// Arguments that are no option's value, each in brackets if it can be left out.
fn positionals_in(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    let all: Vec<&str> = line.split_whitespace().collect();
    for (at, pair) in all.windows(2).enumerate() {
        if pair[0] != "Ar" {
            continue;
        }
        let before = |n: usize| at.checked_sub(n).map_or("", |at| all[at]);
        if before(2) == "Fl" {
            continue;
        }
        match before(1) == "Op" || before(1) == "Oo" {
            true => found.push(format!("[{}]", pair[1])),
            false => found.push(pair[1].to_owned()),
        }
    }
    found
}

fn positionals_of(command: &Command) -> Vec<String> {
    let shown = |arg: &Arg| {
        let name = value(arg).unwrap_or_else(|| arg.get_id().to_string());
        match arg.is_required_set() {
            true => name,
            false => format!("[{name}]"),
        }
    };
    command.get_positionals().map(shown).collect()
}

/// The options that a command has for itself: neither those of all commands nor -h and -V.
fn own<'a>(command: &'a Command, above: &'a Command) -> Vec<&'a Arg> {
    let known: BTreeSet<_> = above.get_arguments().map(Arg::get_id).collect();
    let mut all: Vec<&Arg> = command.get_arguments().collect();
    all.retain(|arg| !known.contains(arg.get_id()) && arg.get_id() != "help");
    all
}

/// What the help says of a default: clap's, or ours in `[default: ...]`.
fn default(arg: &Arg) -> Vec<String> {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let told = help
        .split_once("[default: ")
        .map(|(_, rest)| rest.trim_end_matches(']').to_owned());
    let told = told.map(|told| told.split_whitespace().collect::<Vec<_>>().join(" "));
    let values = match arg.get_action() {
        ArgAction::Set | ArgAction::Append => arg.get_default_values(),
        _ => &[],
    };
    let values = values.iter().map(|v| v.to_string_lossy().into_owned());
    values.chain(told).collect()
}

/// The entries are those of the options, and tell their defaults.
#[track_caller]
fn hold(page: &str, entries: &[Entry], args: &[&Arg]) {
    let told: Options = entries.iter().flat_map(|e| options_in(&e.head)).collect();
    let known = options_of(args.iter().copied());
    assert_eq!(told, known, "{page}: left the manual, right --help");
    for arg in args.iter().filter(|arg| !arg.is_positional()) {
        let name = names(arg).pop().unwrap();
        let entry = entries
            .iter()
            .find(|entry| options_in(&entry.head).contains_key(&name))
            .unwrap();
        let body = entry.body.plain().replace('"', "");
        let defaults = default(arg);
        for default in &defaults {
            assert!(body.contains(default), "{page}: {name}: {default}: {body}");
        }
        let told = body.contains("default");
        assert_eq!(told, !defaults.is_empty(), "{page}: {name}: {body}");
    }
}

/// `.Nm` by `.Nm`, what stands in the synopsis, in one line each.
fn synopsis(page: &Page) -> Vec<String> {
    let mut forms: Vec<String> = Vec::new();
    for line in page.section("SYNOPSIS").lines {
        match line.strip_prefix('.').unwrap() {
            "Nm" => forms.push(String::new()),
            macros => {
                let form = forms.last_mut().unwrap();
                form.extend([macros, " ", LINE, " "]);
            }
        }
    }
    forms
}

fn command_in(line: &str) -> Option<String> {
    words(line).into_iter().find_map(|word| match word {
        Word::Command(name) => Some(name),
        _ => None,
    })
}

/// One of an option's names is there, with its value, and nothing else is.
#[track_caller]
fn hold_form(page: &str, line: &str, args: &[&Arg]) {
    let told = options_in(line);
    let known = options_of(args.iter().copied());
    for (name, value) in &told {
        assert_eq!(known.get(name), Some(value), "{page}: {name} in {line:?}");
    }
    for arg in args.iter().filter(|arg| !arg.is_positional()) {
        let there = names(arg).iter().filter(|n| told.contains_key(*n)).count();
        assert_eq!(there, 1, "{page}: {:?} in {line:?}", names(arg));
    }
}

fn listed(args: impl Iterator<Item = Arg>) -> Vec<Arg> {
    args.filter(|arg| !["help", "version"].contains(&arg.get_id().as_str()))
        .collect()
}

/// Statuses in the help, by number.
fn statuses(command: &Command) -> BTreeMap<u8, String> {
    let help = command.get_after_help().expect("it ends with statuses");
    let help = help.to_string();
    let (_, list) = help.split_once("Exit status:\n").unwrap();
    let status = |line: &str| {
        let (number, what) = line.trim().split_once(' ').unwrap();
        (number.parse().unwrap(), what.trim().to_owned())
    };
    list.lines().map(status).collect()
}

#[track_caller]
fn hold_statuses(page: &Page, command: &Command) {
    let entries = page.section("EXIT STATUS").entries();
    let bare = |said: String| {
        ["(1)", "(5)", "(8)"]
            .iter()
            .fold(said, |said, section| said.replace(section, ""))
    };
    let told: BTreeMap<u8, String> = entries
        .iter()
        .map(|entry| (entry.head.parse().unwrap(), bare(entry.body.plain())))
        .collect();
    assert_eq!(told, statuses(command), "{}", page.name);
}

#[test]
fn posternd() {
    let page = Page::read("posternd.8");
    let command = built(arguments::command_line());
    let entries = page.section("DESCRIPTION").entries();
    let all: Vec<&Arg> = command.get_arguments().collect();
    hold("posternd.8", &entries, &all);
    let forms = synopsis(&page);
    assert_eq!(forms.len(), 1);
    let own = listed(command.get_arguments().cloned());
    hold_form("posternd.8", &forms[0], &own.iter().collect::<Vec<_>>());
    hold_statuses(&page, &command);

    let signals = |text: &str| -> BTreeSet<String> {
        let words = text.split(|c: char| !c.is_alphanumeric());
        let signals = words.filter(|word| word.starts_with("SIG"));
        signals.map(str::to_owned).collect()
    };
    let heads = page.section("SIGNALS").entries();
    let told = heads.iter().map(|entry| entry.head.as_str());
    let told = signals(&told.collect::<Vec<_>>().join(" "));
    let help = command.get_after_help().unwrap().to_string();
    assert_eq!(told, signals(&help));
}

#[test]
fn posternctl() {
    let page = Page::read("posternctl.8");
    let command = built(ctl::command_line());
    hold_statuses(&page, &command);
    let entries = page.section("DESCRIPTION").entries();
    let (commands, options): (Vec<_>, Vec<_>) = entries
        .into_iter()
        .filter(|entry| !entry.head.is_empty())
        .partition(|entry| entry.head.starts_with("Cm"));
    hold(
        "posternctl.8",
        &options,
        &command.get_arguments().collect::<Vec<_>>(),
    );

    let known = command.get_subcommands().map(Command::get_name);
    let known: Vec<&str> = known.collect();
    let told = commands
        .iter()
        .map(|entry| command_in(&entry.head).unwrap());
    assert_eq!(told.collect::<Vec<_>>(), known, "left the manual's");
    let forms = synopsis(&page);
    let told = forms.iter().map(|form| command_in(form).unwrap());
    assert_eq!(told.collect::<Vec<_>>(), known, "left the synopsis's");
    for (entry, form) in commands.iter().zip(&forms) {
        let name = command_in(form).unwrap();
        let sub = command.find_subcommand(&name).unwrap();
        let own = own(sub, &command);
        let at = format!("posternctl.8: {name}");
        let (before, behind) = form.split_once(&format!("Cm {name}")).unwrap();
        hold_form(&at, behind, &own);
        hold_form(&at, &entry.head, &own);
        for line in [behind, &entry.head] {
            let positionals = match name.as_str() {
                // clap's own, which takes as many as there are.
                "help" => vec!["[command]".to_owned()],
                _ => positionals_of(sub),
            };
            assert_eq!(positionals_in(line), positionals, "{at}: {line}");
        }
        if name == "check" {
            let global = listed(command.get_arguments().cloned());
            hold_form(&at, before, &global.iter().collect::<Vec<_>>());
        }
        if name != "help" {
            hold(&at, &entry.body.entries(), &own);
        }
    }
}

#[test]
fn postern() {
    let page = Page::read("postern.1");
    let command = built(client::command_line());
    hold_statuses(&page, &command);
    let forms = synopsis(&page);
    let known = command.get_subcommands().map(Command::get_name);
    let told = forms.iter().map(|form| command_in(form).unwrap());
    assert_eq!(told.collect::<Vec<_>>(), known.collect::<Vec<_>>());

    let entries = page.section("DESCRIPTION").entries();
    let (commands, options): (Vec<_>, Vec<_>) = entries
        .into_iter()
        .filter(|entry| entry.head.starts_with("Cm") || entry.head.starts_with("Fl"))
        .partition(|entry| entry.head.starts_with("Cm"));
    let told = commands
        .iter()
        .map(|entry| command_in(&entry.head).unwrap());
    let known = command.get_subcommands().map(Command::get_name);
    assert_eq!(told.collect::<Vec<_>>(), known.collect::<Vec<_>>());

    // What is every command's is told once.
    let knocking = command
        .get_subcommands()
        .filter(|sub| sub.get_name() != "help");
    let knocking: Vec<&Command> = knocking.collect();
    let everyones = |arg: &&Arg| {
        let has = |sub: &&Command| sub.get_arguments().any(|a| a.get_id() == arg.get_id());
        !arg.is_positional() && knocking.iter().all(has)
    };
    let version = command
        .get_arguments()
        .filter(|arg| arg.get_id() == "version");
    let common: Vec<&Arg> = knocking[0]
        .get_arguments()
        .filter(everyones)
        .chain(version)
        .collect();
    hold("postern.1", &options, &common);
    for (entry, form) in commands.iter().zip(&forms) {
        let name = command_in(form).unwrap();
        let sub = command.find_subcommand(&name).unwrap();
        let at = format!("postern.1: {name}");
        let (_, behind) = form.split_once(&format!("Cm {name}")).unwrap();
        let all = listed(sub.get_arguments().cloned());
        let mut own: Vec<&Arg> = sub.get_arguments().collect();
        own.retain(|arg| !common.iter().any(|known| known.get_id() == arg.get_id()));
        if name == "help" {
            continue;
        }
        hold_statuses(&page, sub);
        hold_form(&at, behind, &all.iter().collect::<Vec<_>>());
        hold_form(&at, &entry.head, &own);
        for line in [behind, &entry.head] {
            assert_eq!(positionals_in(line), positionals_of(sub), "{at}: {line}");
        }
        hold(&at, &entry.body.entries(), &own);
    }
}

/// Under other programs' names: what is read, what the usage shows, what the manual tells.
#[track_caller]
fn hold_other(command: Command, part: &Page) {
    let usage = command.clone().render_help().to_string();
    let command = built(command);
    let known = options_of(command.get_arguments());
    let in_usage = usage.lines().filter_map(|line| {
        let line = line.strip_prefix("  -")?;
        let options = line.split("  ").next()?;
        let takes = |name: &str| name.contains(' ');
        let takes = options.split(", ").any(takes);
        let name = |option: &str| option.split(' ').next().unwrap_or_default().to_owned();
        let options = format!("-{options}");
        let names: Vec<String> = options.split(", ").map(name).collect();
        Some(names.into_iter().map(move |name| (name, takes)))
    });
    let in_usage: BTreeMap<String, bool> = in_usage.flatten().collect();
    let bare = |options: &Options| -> BTreeMap<String, bool> {
        let each = options
            .iter()
            .map(|(name, value)| (name.clone(), value.is_some()));
        each.collect()
    };
    assert_eq!(in_usage, bare(&known), "left the usage");
    let entries = part.entries();
    let told: Options = entries
        .iter()
        .flat_map(|entry| options_in(&entry.head))
        .collect();
    assert_eq!(bare(&told), bare(&known), "left the manual");
    for arg in command.get_arguments() {
        for value in default(arg) {
            let name = names(arg).pop().unwrap();
            let entry = entries
                .iter()
                .find(|entry| options_in(&entry.head).contains_key(&name))
                .unwrap();
            let body = entry.body.plain();
            assert!(body.contains(&value), "{name}: {value}: {body}");
        }
    }
}

#[test]
fn under_knockds_name() {
    hold_other(
        knockd_as::command_line(),
        &Page::read("posternd.8").section("AS KNOCKD"),
    );
}

#[test]
fn under_knocks_name() {
    hold_other(
        knock_as::command_line(),
        &Page::read("postern.1").section("AS KNOCK"),
    );
}
