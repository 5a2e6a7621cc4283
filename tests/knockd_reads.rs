//! Random files, read by Debian's knockd and by us: whatever we take it takes, and reads the
//! same; whatever it refuses we refuse. knockd shows what it reads with -D, before it finds that
//! there is no such interface.

#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use postern::config::{Action, Config, Steps, TcpFlags, knockd};
use proptest::prelude::*;

const KNOCKD: &str = "/usr/sbin/knockd";

/// A door as it is shown: its name, and its last value of each directive.
type Door = (String, BTreeMap<String, String>);

/// Options and doors.
type Shown = (BTreeMap<String, String>, Vec<Door>);

/// What knockd reads in a file; `None`: it refuses it.
fn theirs(file: &Path) -> Option<Shown> {
    let output = Command::new(KNOCKD)
        .args(["-D", "-i", "none0", "-c"])
        .arg(file)
        .stdin(Stdio::null())
        .output()
        .expect("knockd runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    if text.contains("usage: knockd") {
        return None;
    }
    let (mut options, mut doors) = (BTreeMap::new(), Vec::<Door>::new());
    let mut in_options = false;
    for line in text.lines() {
        let line = line.strip_prefix("config: ").unwrap_or(line);
        if let Some(name) = line.strip_prefix("new section: '") {
            let name = name.strip_suffix('\'').expect("a quote");
            in_options = name == "options";
            if !in_options {
                doors.push((name.to_owned(), BTreeMap::new()));
            }
        } else if line == "usesyslog" {
            options.insert("usesyslog".to_owned(), String::new());
        } else if let Some(flag) = line.strip_prefix("tcp flag: ") {
            let (name, set) = match flag.strip_prefix('!') {
                Some(name) => (name, "0"),
                None => (flag, "1"),
            };
            let (_, values) = doors.last_mut().expect("a door");
            values.insert(format!("flag {name}"), set.to_owned());
        } else if in_options {
            if let Some((key, value)) = line.split_once(": ") {
                options.insert(key.to_owned(), value.to_owned());
            }
        } else if let Some((name, values)) = doors.last_mut()
            && let Some(rest) = line.strip_prefix(&format!("{name}: "))
            && let Some((key, value)) = rest.split_once(": ")
        {
            values.insert(key.to_owned(), value.to_owned());
        }
    }
    Some((options, doors))
}

/// What we read, shown alike: of times only what knockd showed, since its defaults are not.
fn ours(config: &Config, theirs: &Shown) -> Shown {
    let mut options = BTreeMap::new();
    let knockd = config.knockd.as_ref().expect("a knockd.conf");
    let mut put = |key: &str, value: String| options.insert(key.to_owned(), value);
    if knockd.syslog {
        put("usesyslog", String::new());
    }
    if let Some(path) = &knockd.log_file {
        put("log file", path.display().to_string());
    }
    if let Some(path) = &knockd.pidfile {
        put("pid file", path.display().to_string());
    }
    let mut doors = Vec::new();
    for ((door, name), (_, shown)) in config.doors.iter().zip(&knockd.names).zip(&theirs.1) {
        let sequence = door.knocks[0].sequence().unwrap();
        let Action::Command(commands) = &door.action else {
            panic!("knockd's doors run commands");
        };
        let mut values = BTreeMap::new();
        let mut put = |key: &str, value: &str| values.insert(key.to_owned(), value.to_owned());
        let Steps::Fixed(steps) = &sequence.steps else {
            panic!("no lists here");
        };
        let steps: Vec<String> = steps
            .iter()
            .map(|p| p.to_string().replace('/', ":"))
            .collect();
        put("sequence", &steps.join(","));
        if let Some(target) = sequence.target {
            put("target", &target.to_string());
        }
        for (key, command) in [
            ("start_command", Some(&commands.start)),
            ("start_command_6", commands.start_6.as_ref()),
            ("stop_command", commands.stop.as_ref()),
            ("stop_command_6", commands.stop_6.as_ref()),
        ] {
            // What is never run is not kept.
            let empty = command.is_none_or(|command| command.is_empty());
            match shown.get(key) {
                Some(line) if empty && (line.is_empty() || key.starts_with("stop")) => {
                    put(key, line);
                }
                None if empty => {}
                _ => {
                    put(key, command.map_or("", |command| command.as_str()));
                }
            }
        }
        for (key, time) in [
            ("seq_timeout", sequence.timeout),
            ("cmd_timeout", commands.cmd_timeout),
        ] {
            if shown.contains_key(key) {
                put(key, &time.as_secs().to_string());
            }
        }
        let TcpFlags { mask, value } = sequence.flags;
        for (at, name) in ["FIN", "SYN", "RST", "PSH", "ACK", "URG"]
            .iter()
            .enumerate()
        {
            if mask & 1 << at != 0 {
                let set = if value & 1 << at != 0 { "1" } else { "0" };
                put(&format!("flag {name}"), set);
            }
        }
        doors.push((name.clone(), values));
    }
    (options, doors)
}

/// Without NUL: knockd's lines end there, and we refuse values that have one.
fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "[ \t]{0,2}\\[(Options|a|b| a|22)\\][ \t\r]{0,2}\nSequence=[1-9][0-9]{0,3}",
        4 => "\\[options\\]\n(LogFile|pidfile) ?= ?(/[a-z]{1,3})?\n(UseSyslog|#)\n\\[b\\]\nsequence = 7",
        1 => "(\\[|\\]|=|usesyslog =|x|\\[\\]|\\[a\\] #|\\[a\\]|\\[options\\]|LogFile = /a)[^\\n\\x00]{0,3}",
        4 => "(#|[ \t]#)[^\\n\\x00]{0,3}",
        2 => "USESYSLOG",
        16 => "[ \t]{0,2}[sS]equence[ \t]{0,2}=[ \t]{0,2}[1-9][0-9]{0,3}( ?: ?(udp|TCP)|/udp| x)?(, ?[1-9][0-9]{0,3}(:udp)?){0,3}[ \t]{0,2}",
        1 => "sequence = ([0-9]{1,6}(:udp|:x|:)?,?){0,3}",
        8 => "(seq_timeout|Timeout|CMD_TIMEOUT) *= *[1-5][0-9]{0,2}( ?[a-z#]{1,2})?",
        8 => "tcpflags = !?(syn|ACK|fin)(,!?(fin|urg|psh|RST))?",
        1 => "tcpflags =( syn,|| syn, ack| x)",
        4 => "target = (192\\.0\\.2\\.1|2001:db8::1)",
        12 => "(start_|stop_)command(_6)? =( echo %IP%( = [0-9])?( # x)?)?",
        4 => "command(_6)? = [a-z%]{0,4}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same(lines in proptest::collection::vec(line(), 0..14)) {
        if !Path::new(KNOCKD).exists() {
            return Ok(());
        }
        // Most files begin well.
        let mut text = String::from("[options]\ninterface = none0\n[first]\nsequence = 7000\n");
        for line in &lines {
            writeln!(text, "{line}").expect("a string takes it");
        }
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("knockd.conf");
        fs::write(&file, &text).expect("writable");
        let theirs = theirs(&file);
        match (knockd::read("f", &text), theirs) {
            (Ok(parsed), Some(mut theirs)) => {
                for path in ["log file", "pid file"] {
                    theirs.0.retain(|key, value| key != path || !value.is_empty());
                }
                let ours = ours(&parsed.config, &theirs);
                theirs.0.remove("interface");
                prop_assert_eq!(ours, theirs, "{}", text);
            }
            (Ok(parsed), None) => {
                // What a later directive overrides is not looked at.
                let overridden = parsed.warnings.iter().any(|w| w.what.contains("counts no more"));
                prop_assert!(overridden, "knockd refuses it:\n{}", text);
            }
            (Err(mistakes), Some(_)) => {
                // atoi(3) of more than an int holds may be anything.
                let known = mistakes.iter().any(|m| {
                    ["is out of range",
                        "knockd reads it as", "nobody can knock", "TCPFlags or Seq_Timeout", "names the same", "it stands before"]
                        .iter()
                        .any(|part| m.what.contains(part))
                });
                prop_assert!(known, "knockd takes it: {:?}\n{}", mistakes, text);
            }
            (Err(_), None) => {}
        }
    }
}
