//! A **double** of FreeBSD 12.1's pfctl(8) with the pf behind it, for tests elsewhere: the calls
//! that Postern makes and those by which tests get in its way, no packets.
//!
//! It keeps all it knows beside the name that it was called by, so that each test makes a
//! directory of its own with a link `pfctl` to it:
//!
//! | file | what |
//! |---|---|
//! | `state.json` | [`State`]; absent: pf is enabled, pf.conf says `anchor "postern"`, `pass all` |
//! | `states` | pf's states, as `pfctl -vvs states` prints them; written by tests |
//! | `fail` | a line `WORDS\|STATUS\|OUTPUT` for each call that is to fail: the first whose words stand in its arguments |
//! | `hold` | words: a call whose arguments begin with them waits as long as this file stands |
//! | `log` | each call: its arguments, and its standard input with `> ` before each line |

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::fcntl::{Flock, FlockArg};

#[path = "pfctl/options.rs"]
mod options;
#[path = "pfctl/rules.rs"]
mod rules;
#[path = "pfctl/state.rs"]
mod state;
#[path = "pfctl/table.rs"]
mod table;

use options::Options;
use state::State;

/// What a call prints, and its exit status.
#[derive(Default)]
pub struct Said {
    out: String,
    err: String,
    status: u8,
}

impl Said {
    fn complain(&mut self, status: u8, words: &str) {
        self.err.push_str(words);
        self.err.push('\n');
        self.status = status;
    }
}

fn main() {
    let mut args = std::env::args();
    let called = PathBuf::from(args.next().expect("a name"));
    let dir = called.parent().expect("called by its path").to_owned();
    let args: Vec<String> = args.collect();
    let lock = File::create(dir.join("lock")).expect("lock");
    let lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, e)| e);
    let _lock = lock.expect("lock");

    let options = Options::parse(&args);
    let stdin = match &options {
        Ok(options) if options.file.as_deref() == Some("-") => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).expect("stdin");
            text
        }
        _ => String::new(),
    };
    note(&dir, &args, &stdin);
    hold(&dir, &args);
    let said = match (told_to_fail(&dir, &args), options) {
        (Some(said), _) => said,
        (None, Err(word)) => {
            let mut said = Said::default();
            said.complain(1, &format!("the double does not know: {word}"));
            said
        }
        (None, Ok(options)) => obey(&dir, &options, &stdin),
    };
    eprint!("{}", said.err);
    print!("{}", said.out);
    std::io::stdout().flush().expect("stdout");
    std::process::exit(i32::from(said.status));
}

fn note(dir: &Path, args: &[String], stdin: &str) {
    let mut text = format!("pfctl {}\n", args.join(" "));
    for line in stdin.lines() {
        text.push_str(&format!("> {line}\n"));
    }
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join("log"));
    log.expect("log").write_all(text.as_bytes()).expect("log");
}

fn hold(dir: &Path, args: &[String]) {
    let args = args.join(" ");
    while std::fs::read_to_string(dir.join("hold")).is_ok_and(|words| args.starts_with(&words)) {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn told_to_fail(dir: &Path, args: &[String]) -> Option<Said> {
    let text = std::fs::read_to_string(dir.join("fail")).ok()?;
    let args = args.join(" ");
    let mut lines: Vec<&str> = text.lines().collect();
    let place = lines.iter().position(|line| {
        line.split('|')
            .next()
            .is_some_and(|words| args.contains(words))
    })?;
    let line = lines.remove(place);
    std::fs::write(dir.join("fail"), lines.join("\n")).expect("fail");
    let mut parts = line.splitn(3, '|').skip(1);
    let status = parts.next().expect("status").parse().expect("status");
    let mut said = Said::default();
    said.complain(status, parts.next().expect("output"));
    Some(said)
}

/// In the order of pfctl's main().
fn obey(dir: &Path, options: &Options, stdin: &str) -> Said {
    let mut state = State::read(dir);
    let mut said = Said::default();
    if options.verbose > 0 && !options.dry {
        said.err
            .push_str("No ALTQ support in kernel\nALTQ related functions disabled\n");
    }
    if options.disable {
        match std::mem::replace(&mut state.enabled, false) {
            true => said.err.push_str("pf disabled\n"),
            false => said.complain(1, "pfctl: pf not enabled"),
        }
        state.since = now();
    }
    if let Some(what) = options.show.as_deref().filter(|_| !options.dry) {
        show(dir, &state, options, what, &mut said);
    }
    if let Some(what) = options.flush.as_deref().filter(|_| !options.dry) {
        flush(dir, &mut state, &options.anchor, what, &mut said);
    }
    match options.kill.as_slice() {
        [] => {}
        [what, id] if what == "id" => {
            let killed = state::kill_id(dir, id);
            state.removals += killed;
            said.err.push_str(&format!("killed {killed} states\n"));
        }
        _ => said.complain(1, "the double kills by id only"),
    }
    if let Some(command) = &options.command {
        table::command(&mut state, options, command, stdin, &mut said);
    } else if options.file.is_some() {
        load(&mut state, options, stdin, &mut said);
    }
    if options.enable {
        match std::mem::replace(&mut state.enabled, true) {
            true => said.complain(1, "pfctl: pf already enabled"),
            false => {
                said.err.push_str("pf enabled\n");
                state.since = now();
            }
        }
    }
    if said.status == 0 {
        state.write(dir);
    }
    said
}

fn show(dir: &Path, state: &State, options: &Options, what: &str, said: &mut Said) {
    let anchor = options.anchor.as_str();
    match what {
        "rules" => match state.rules(anchor) {
            Some(rules) => said
                .out
                .extend(rules.iter().map(|rule| format!("{rule}\n"))),
            None => said.err.push_str("pfctl: DIOCGETRULES: Invalid argument\n"),
        },
        "nat" if state.rules(anchor).is_some() => {
            let rules = state.nat.get(anchor).into_iter().flatten();
            said.out.extend(rules.map(|rule| format!("{rule}\n")));
        }
        "nat" => said.err.push_str("pfctl: DIOCGETRULES: Invalid argument\n"),
        // Not recorded: pfctl_table.c and pfctl_radix.c.
        "Tables" if state.rules(anchor).is_none() => said
            .err
            .push_str("pfctl: Anchor or Ruleset does not exist.\n"),
        "Tables" => {
            let tables = state
                .tables
                .get(anchor)
                .into_iter()
                .flat_map(BTreeMap::keys);
            let counting = state.counting.get(anchor);
            // Not recorded with -v: print_table in pfctl_table.c, for a table of an anchor that
            // persists and that rules name.
            let line = |name: &String| match options.verbose {
                0 => format!("{name}\n"),
                _ => {
                    let counts = counting.is_some_and(|counting| counting.contains(name));
                    let counts = if counts { 'C' } else { '-' };
                    format!("-pa-r-{counts}\t{name}\t{anchor}\n")
                }
            };
            said.out.extend(tables.map(line));
        }
        "Anchors" => said
            .out
            .extend(state.below(anchor).iter().map(|name| format!("  {name}\n"))),
        "info" => said.out.push_str(&state.info(dir, now())),
        "states" => said.out.push_str(&state::listing(dir, options.verbose)),
        _ => said.complain(1, &format!("the double does not show {what}")),
    }
}

fn flush(dir: &Path, state: &mut State, anchor: &str, what: &str, said: &mut Said) {
    if what != "rules" && what != "all" && what != "states" {
        return said.complain(1, &format!("the double does not flush {what}"));
    }
    if what != "states" {
        state.anchors.remove(anchor);
        said.err.push_str("rules cleared\n");
    }
    if what == "all" {
        state.nat.remove(anchor);
        said.err.push_str("nat cleared\n");
        let tables = state.tables.remove(anchor).unwrap_or_default().len();
        said.err.push_str(&format!("{tables} tables deleted.\n"));
    }
    if what == "states" || (what == "all" && anchor.is_empty()) {
        let gone = state::clear(dir);
        state.removals += gone;
        said.err.push_str(&format!("{gone} states cleared\n"));
    }
    if what == "all" && anchor.is_empty() {
        state.removals = 0;
        state.since = now();
        said.err.push_str(
            "source tracking entries cleared\npf: statistics cleared\npf: interface flags reset\n",
        );
    }
}

fn load(state: &mut State, options: &Options, stdin: &str, said: &mut Said) {
    let file = match rules::read(stdin) {
        Ok(file) => file,
        Err(words) => {
            said.complain(1, &words);
            if !options.dry {
                said.complain(1, "pfctl: Syntax error in config file: pf rules not loaded");
            }
            return;
        }
    };
    if options.verbose > 0 {
        let defined = file.tables.iter().map(|table| format!("{}\n", table.shown));
        said.out.extend(defined);
        said.out
            .extend(file.rules.iter().map(|rule| format!("{rule}\n")));
    }
    if options.dry {
        return;
    }
    let anchor = options.anchor.clone();
    for table in file.tables {
        let counting = state.counting.entry(anchor.clone()).or_default();
        match table.counters {
            true => _ = counting.insert(table.name.clone()),
            false => _ = counting.remove(&table.name),
        }
        let tables = state.tables.entry(anchor.clone()).or_default();
        let entries = tables.entry(table.name).or_default();
        if let Some(given) = table.entries {
            *entries = given;
        }
    }
    state.nat.insert(anchor.clone(), file.nat);
    state.anchors.insert(anchor, file.rules);
}

/// Unix seconds.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("after 1970").as_secs()
}
