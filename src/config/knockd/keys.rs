//! The directives of knockd.conf.

use super::super::mistake::Wrong;
use super::super::toml::keys::nearest;

/// Where a directive belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    Options,
    Door,
}

/// Those of `[options]` that have a value, in small letters, as knockd's manual writes them.
const OPTIONS: [(&str, &str); 3] = [
    ("logfile", "LogFile"),
    ("pidfile", "PidFile"),
    ("interface", "Interface"),
];

/// Those of doors: in small letters, as knockd's manual writes them, the model's key.
const DOOR: [(&str, &str, &str); 13] = [
    ("sequence", "Sequence", "sequence"),
    (
        "one_time_sequences",
        "One_Time_Sequences",
        "one_time_sequences",
    ),
    ("seq_timeout", "Seq_Timeout", "seq_timeout"),
    ("timeout", "Timeout", "seq_timeout"),
    ("tcpflags", "TCPFlags", "tcpflags"),
    ("target", "Target", "target"),
    ("start_command", "Start_Command", "start_command"),
    ("command", "Command", "start_command"),
    ("start_command_6", "Start_Command_6", "start_command_6"),
    ("command_6", "Command_6", "start_command_6"),
    ("cmd_timeout", "Cmd_Timeout", "cmd_timeout"),
    ("stop_command", "Stop_Command", "stop_command"),
    ("stop_command_6", "Stop_Command_6", "stop_command_6"),
];

/// The bare word, which may stand in any section.
pub(super) const SYSLOG: &str = "UseSyslog";

/// An option's name in small letters.
pub(super) fn of_options(given: &str) -> Option<&'static str> {
    let known = |&&(small, _): &&(&str, &str)| given.eq_ignore_ascii_case(small);
    OPTIONS.iter().find(known).map(|&(small, _)| small)
}

/// The model's key for a door's directive.
pub(super) fn of_door(given: &str) -> Option<&'static str> {
    let known = |&&(small, _, _): &&(&str, &str, &str)| given.eq_ignore_ascii_case(small);
    DOOR.iter().find(known).map(|&(_, _, key)| key)
}

/// As knockd's manual writes it; the model's own keys are among the names of each.
pub(super) fn shown(key: &'static str) -> &'static str {
    let doors = DOOR.iter().map(|&(small, shown, _)| (small, shown));
    doors
        .chain(OPTIONS)
        .find(|&(small, _)| small == key)
        .map_or(key, |(_, shown)| shown)
}

/// What to say of a directive that is none where it stands.
pub(super) fn unknown(given: &str, home: Home) -> Wrong {
    let small = given.to_ascii_lowercase();
    if small == SYSLOG.to_ascii_lowercase() {
        return Wrong::new("it takes no value", "write UseSyslog alone in its line");
    }
    let doors: Vec<&str> = DOOR.iter().map(|&(small, _, _)| small).collect();
    let options: Vec<&str> = OPTIONS.iter().map(|&(small, _)| small).collect();
    let (here, there) = match home {
        Home::Options => (&options, &doors),
        Home::Door => (&doors, &options),
    };
    let near = nearest(&small, here).or_else(|| nearest(&small, there));
    let what = "knockd knows no such directive";
    match near.map(|near| (near, there.contains(&near))) {
        Some((near, true)) if near == small => match home {
            Home::Options => Wrong::new(
                "the directive belongs to a door",
                "write it under a section with another name than options",
            ),
            Home::Door => Wrong::new(
                "the directive does not belong to a door",
                "write it under [options]",
            ),
        },
        Some((near, _)) => {
            let known = OPTIONS.iter().copied();
            let known = known.chain(DOOR.iter().map(|&(small, shown, _)| (small, shown)));
            let shown = known.clone().find(|&(small, _)| small == near);
            let shown = shown.map_or(near, |(_, shown)| shown);
            Wrong::new(what, format!("the nearest known one is {shown}"))
        }
        None => {
            let names: Vec<&str> = match home {
                Home::Options => OPTIONS.iter().map(|&(_, shown)| shown).collect(),
                Home::Door => DOOR.iter().map(|&(_, shown, _)| shown).collect(),
            };
            Wrong::new(what, format!("known here are {}", names.join(", ")))
        }
    }
}
