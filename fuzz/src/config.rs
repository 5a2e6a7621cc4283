use std::collections::BTreeSet;
use std::time::Duration;

use postern::client::profile as profiles;
use postern::config::convert::convert;
use postern::config::toml::{MOST_MISTAKES, door_name};
use postern::config::{
    Action, Door, Format, Knock, Mistake, Parsed, Place, Port, Sequence, Steps, bounds, check,
    onetime, read, toml,
};

use super::is_a_line;
use finished::{MORE, finished};

#[path = "../../tests/common/finished.rs"]
mod finished;

/// A knockd.conf, whatever stands in it: it is read, or every mistake has its place. What is read
/// can be converted, and the postern.toml made of it has the same doors, once the textbook's
/// sequences in it have made way for others.
pub fn knockd_conf(data: &[u8]) {
    const FILE: &str = "knockd.conf";
    let text = String::from_utf8_lossy(data);
    match read(FILE, data) {
        Err(mistakes) => hold(&text, FILE, &mistakes),
        Ok(parsed) => {
            sound(&text, FILE, &parsed);
            assert_eq!(Format::of("nameless", data), Format::Knockd);
            converts(FILE, &parsed);
        }
    }
}

/// The same for a postern.toml.
pub fn postern_toml(data: &[u8]) {
    const FILE: &str = "postern.toml";
    let text = String::from_utf8_lossy(data);
    match read(FILE, data) {
        Err(mistakes) => {
            assert!(mistakes.len() <= MOST_MISTAKES + 1);
            hold(&text, FILE, &mistakes);
        }
        Ok(parsed) => {
            sound(&text, FILE, &parsed);
            assert_eq!(Format::of("nameless", data), Format::Postern);
            let more = format!("{text}\n# the end");
            assert_eq!(toml::read(FILE, &more), Ok(parsed));
        }
    }
}

/// The hosts that postern(1) knows.
pub fn profile(data: &[u8]) {
    const FILE: &str = "config.toml";
    let text = String::from_utf8_lossy(data);
    match profiles::parse(FILE, &text) {
        Err(mistakes) => hold(&text, FILE, &mistakes),
        Ok(hosts) => {
            for host in hosts {
                assert!(profiles::WAYS.contains(&host.ways.len()));
                for way in host.ways {
                    if let profiles::Way::Sequence(sequence) = way {
                        assert!(bounds::STEPS.contains(&sequence.steps.len()));
                    }
                }
            }
        }
    }
}

/// A list of sequences, each used once: it is gone through from its first line to its last.
pub fn one_time(data: &[u8]) {
    const FILE: &str = "list";
    let text = String::from_utf8_lossy(data);
    let mistakes = onetime::mistakes(FILE, &text);
    if !mistakes.is_empty() {
        hold(&text, FILE, &mistakes);
    }
    let mut text = text.into_owned();
    let mut last = 0;
    for left in (1..=onetime::count(&text)).rev() {
        let (line, steps) = onetime::current(&text).expect("one is left");
        assert!(line > last, "line {line} comes after line {last}");
        last = line;
        steps_hold(&steps);
        assert_eq!(onetime::spend(&text, line + 1), None);
        let spent = onetime::spend(&text, line).expect("it is in force");
        let changed = text.chars().zip(spent.chars()).filter(|(a, b)| a != b);
        assert_eq!(changed.count(), 1);
        assert_eq!(spent.chars().count(), text.chars().count());
        assert_eq!(onetime::count(&spent), left - 1);
        text = spent;
    }
    assert_eq!(onetime::current(&text), None);
}

/// Mistakes are there, in order, each one line and within the text.
fn hold(text: &str, file: &str, mistakes: &[Mistake]) {
    assert!(!mistakes.is_empty());
    assert!(mistakes.is_sorted_by_key(|mistake| mistake.place));
    let lines = Vec::from_iter(text.split('\n'));
    for mistake in mistakes {
        assert_eq!(mistake.file, file);
        within(&lines, mistake.place);
        let shown = mistake.to_string();
        assert!(is_a_line(&shown), "{shown:?}");
    }
}

fn within(lines: &[&str], place: Place) {
    let line = place.line.checked_sub(1).and_then(|at| lines.get(at));
    let line = line.unwrap_or_else(|| panic!("{place} of {} lines", lines.len()));
    let most = line.chars().count() + 1;
    assert!((1..=most).contains(&place.column), "{place} of {most}");
}

/// What is read holds what it must, and what is unwise in it can be told.
fn sound(text: &str, file: &str, parsed: &Parsed) {
    let doors = &parsed.config.doors;
    assert!(bounds::DOORS.contains(&doors.len()));
    let names: BTreeSet<&str> = doors.iter().map(|door| door.name.as_str()).collect();
    assert_eq!(names.len(), doors.len(), "every door has a name of its own");
    for door in doors {
        assert_eq!(door_name(&door.name), Ok(()));
        assert!(door.knocks.is_empty() || bounds::KNOCKS.contains(&door.knocks.len()));
        for sequence in door.knocks.iter().filter_map(Knock::sequence) {
            assert!(bounds::SEQ_TIMEOUTS.contains(&sequence.timeout));
            assert_eq!(sequence.flags.value & !sequence.flags.mask, 0);
            if let Steps::Fixed(steps) = &sequence.steps {
                steps_hold(steps);
            }
        }
        match &door.action {
            Action::Open(opens) => assert!(bounds::OPEN_FOR.contains(&opens.open_for)),
            Action::Command(commands) => {
                assert!(bounds::RUN_LIMITS.contains(&commands.run_limit));
                for line in [
                    Some(&commands.start),
                    commands.start_6.as_ref(),
                    commands.stop.as_ref(),
                    commands.stop_6.as_ref(),
                ] {
                    assert!(line.is_none_or(|line| !line.contains('\0')));
                }
            }
        }
    }
    let lines = Vec::from_iter(text.split('\n'));
    let live: Port = "22".parse().expect("a port");
    for warning in check::check(file, parsed, &[live]) {
        assert_eq!(warning.file, file);
        within(&lines, warning.place);
        let shown = warning.to_string();
        assert!(is_a_line(&shown), "{shown:?}");
    }
}

fn steps_hold(steps: &[Port]) {
    assert!(bounds::STEPS.contains(&steps.len()));
    assert!(steps.iter().all(|step| step.number > 0));
}

fn converts(file: &str, parsed: &Parsed) {
    let made = convert(file, parsed);
    assert!(made.doors <= parsed.config.doors.len());
    if made.doors == 0 {
        return;
    }
    if made.unfinished > 0 {
        let mistakes = toml::read("postern.toml", &made.text).unwrap_err();
        assert_eq!(mistakes[0].what, "the knock has no steps");
    }
    let text = finished(&made);
    let again = match toml::read("postern.toml", &text) {
        Ok(again) => again,
        Err(mistakes) => panic!("{}\n{text}", mistakes[0]),
    };
    sound(&text, "postern.toml", &again);
    assert_eq!(again.config.interfaces, parsed.config.interfaces);
    assert_eq!(again.config.log, parsed.config.log);
    assert_eq!(
        Some(&again.config.pidfile),
        parsed.config.knockd.as_ref().map(|given| &given.pidfile)
    );
    assert_eq!(again.config.doors.len(), made.doors, "{}", made.text);
    let mut unfinished = 0;
    let mut originals = parsed.config.doors.iter();
    for door in &again.config.doors {
        let original = originals.find(|original| original.name == door.name);
        let original = original.unwrap_or_else(|| panic!("{} was no door", door.name));
        unfinished += same_knocks(door, original);
        if matches!(door.action, Action::Command(_)) {
            for v6 in [false, true] {
                assert_eq!(what_runs(door, v6), what_runs(original, v6));
            }
        }
    }
    assert_eq!(unfinished, made.unfinished);
}

/// How many have the step that finished them.
fn same_knocks(made: &Door, original: &Door) -> usize {
    let mut finished = 0;
    assert_eq!(made.knocks.len(), original.knocks.len());
    let sequences = |door: &'_ Door| -> Vec<Sequence> {
        let all = door.knocks.iter().filter_map(Knock::sequence);
        all.cloned().collect()
    };
    for (made, original) in sequences(made).iter().zip(&sequences(original)) {
        if made.steps != original.steps {
            let mut steps = original.steps.clone();
            if let Steps::Fixed(steps) = &mut steps {
                steps.push(MORE);
            }
            assert_eq!(made.steps, steps);
            finished += 1;
        }
        assert_eq!(made.timeout, original.timeout);
        assert_eq!(made.target, original.target);
        if original.has_tcp() {
            assert_eq!(made.flags, original.flags);
        }
    }
    finished
}

/// What starts for an address of this family, and what stops it, when. `:` does nothing.
fn what_runs(door: &Door, v6: bool) -> Option<(&str, Option<(&str, Duration)>)> {
    let Action::Command(commands) = &door.action else {
        panic!("{} runs no commands", door.name);
    };
    let (mut start, mut stop) = (Some(commands.start.as_str()), commands.stop.as_deref());
    if v6 {
        start = commands.start_6.as_deref().or(start);
        stop = commands.stop_6.as_deref().or(stop);
    }
    let something = |line: &&str| !matches!(*line, "" | ":");
    let stop = stop.filter(something);
    Some((
        start.filter(something)?,
        stop.map(|line| (line, commands.cmd_timeout)),
    ))
}
