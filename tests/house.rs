//! The house is built as src/lib.rs and SECURITY.md say: who sees strangers' bytes, what is
//! linked and why.

use std::fs;
use std::path::{Path, PathBuf};

use postern::config::{Config, toml};
use postern::knock::Watch;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every source file of ours, by its path from src, and its lines of code.
fn sources() -> Vec<(String, Vec<String>)> {
    fn walk(directory: PathBuf, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => walk(path, found),
                false => found.push(path),
            }
        }
    }
    let src = root().join("src");
    let mut files = Vec::new();
    walk(src.clone(), &mut files);
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&src).unwrap().display().to_string();
        let text = fs::read_to_string(&path).unwrap();
        let code = text.lines().map(|line| line.split("//").next().unwrap());
        let code = code.filter(|line| !line.trim().is_empty());
        (name, code.map(str::to_owned).collect())
    };
    files.into_iter().map(read).collect()
}

/// The rooms that a line of code goes into: `packet` in `use crate::{packet::parse, time}` and
/// in `packet::parse(..)`.
fn enters(line: &str, room: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(room).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + room.len()..]);
        let whole = !before.ends_with(word) && !after.starts_with(word);
        let named = before.trim_start().starts_with("use ") || before.trim().is_empty();
        whole && (after.starts_with("::") || named && after.starts_with([',', ';', '}']))
    })
}

/// Whether a file is one that looks into packets: the rooms that do, the listener, and
/// posternctl replay, which gives root up before.
fn looks_into_packets(name: &str) -> bool {
    let rooms = [
        "packet",
        "capture",
        "knock",
        "daemon/listener",
        "ctl/replay.rs",
    ];
    rooms.iter().any(|room| name.starts_with(room))
}

#[test]
fn nothing_that_is_root_looks_into_a_packet() {
    let mut wrong = Vec::new();
    let (mut roots, mut packets) = (0, 0);
    for (name, code) in sources() {
        if looks_into_packets(&name) {
            packets += code.len();
            continue;
        }
        roots += code.len();
        for line in &code {
            let forbidden = ["packet", "capture", "pcap", "etherparse"];
            if forbidden.iter().any(|room| enters(line, room)) {
                wrong.push(format!("{name}: {line}"));
            }
        }
    }
    assert!(packets > 1000 && roots > 10_000, "{packets} {roots}");
    println!(
        "lines of code that run as root and see a stranger's bytes: {}",
        wrong.len()
    );
    assert_eq!(wrong, [""; 0]);
}

/// What the monitor takes from the room of knocks: what it tells the listener, and which
/// addresses nobody can knock from.
#[test]
fn the_monitor_follows_no_attempt() {
    let known = [
        "Watch",
        "PingWatch",
        "Counters",
        "EVERYWHERE",
        "can_knock",
        "spa",
        "self",
        "KeyWatch",
        "KeyDoor",
        "Authorized",
        "Refused",
    ];
    let mut seen = 0;
    for (name, code) in sources() {
        if !name.starts_with("daemon/") || looks_into_packets(&name) {
            continue;
        }
        for line in code {
            for (at, _) in line.match_indices("knock::") {
                let names = line[at + "knock::".len()..].split(|c: char| {
                    !c.is_alphanumeric() && c != '_' && c != ' ' && c != '{' && c != ','
                });
                let names = names.take(1).flat_map(|all| all.split(['{', ' ', ',']));
                for used in names.filter(|word| !word.is_empty()) {
                    assert!(known.contains(&used), "{name}: {line}");
                    seen += 1;
                }
            }
        }
    }
    assert!(seen >= known.len());
}

/// Each crate that we link has its reason above it.
#[test]
fn every_dependency_has_its_reason() {
    let text = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let mut dependencies = 0;
    let (mut within, mut before) = (false, "");
    for line in text.lines() {
        if line.starts_with('[') {
            within = line.ends_with("dependencies]");
        } else if within && line.contains(" = ") {
            dependencies += 1;
            let reason = before
                .strip_prefix("# ")
                .is_some_and(|reason| reason.len() > 20);
            assert!(reason, "no reason stands above {line}");
        }
        before = line;
    }
    assert!(dependencies > 10);
}

/// What is printed by mistake, in a panic say, shows no step.
#[test]
fn debug_shows_no_step() {
    let text = "interface = \"xl0\"\n[door.a]\nstart_command = \"true\"\n[[door.a.knock]]\n\
                sequence = [\"47101\", \"28417/udp\", \"31873\"]\n";
    let config: Config = toml::parse("it", text).unwrap();
    let watches: Vec<Watch> = postern::daemon::doors::watches(&config, |_, _| Vec::new());
    let knock = postern::client::knock::Sequence {
        steps: watches[0].steps.clone(),
        delay: std::time::Duration::ZERO,
    };
    for shown in [
        format!("{config:?}"),
        format!("{watches:?}"),
        format!("{knock:?}"),
    ] {
        assert!(shown.contains("3 steps"), "{shown}");
        for step in ["47101", "28417", "31873"] {
            assert!(!shown.contains(step), "{shown}");
        }
    }
}
