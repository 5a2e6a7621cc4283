//! A double of FreeBSD's ipfw(8), for tests elsewhere: the few calls that Postern makes, and what
//! stands behind them instead of a kernel. It prints and exits as a real ipfw of FreeBSD 12.1 was
//! seen to do (tests/firewall/ipfw/recorded.txt is held against it). No packet is filtered.
//!
//! It is called by a link, in whose directory it keeps what stands. There may be besides:
//!
//! | file | what |
//! |---|---|
//! | `fail` | `TIMES STATUS [WORD]`, then what goes to standard error: so many calls (of those with this argument) fail, before they have done anything |
//! | `unloaded` | ipfw is not loaded |
//! | `tables_sets` | net.inet.ip.fw.tables_sets=1 |
//! | `log` | each call: its arguments, and indented the batch it was given |

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::exit;

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

#[path = "ipfw/rule.rs"]
mod rule;
#[path = "ipfw/table.rs"]
mod table;

use table::Table;

/// sysexits(3).
const USAGE: i32 = 64;
const DATAERR: i32 = 65;
const NOHOST: i32 = 68;
const UNAVAILABLE: i32 = 69;
const OSERR: i32 = 71;

const DEFAULT_RULE: u32 = 65535;
const RESERVED_SET: u8 = 31;
const NOT_LOADED: &str = "Protocol not available";

/// What went wrong: exit status and words.
struct Error(i32, String);

type Result<T> = std::result::Result<T, Error>;

fn error<T>(status: i32, words: impl Into<String>) -> Result<T> {
    Err(Error(status, words.into()))
}

/// What stands.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    rules: Vec<Rule>,
    tables: Vec<Table>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Rule {
    number: u32,
    set: u8,
    text: String,
}

#[derive(Clone, Copy, Debug, Default)]
struct Flags {
    quiet: bool,
    test_only: bool,
    show_sets: bool,
}

struct Ipfw {
    state: State,
    flags: Flags,
    /// As errors name it: `ipfw`, or the line of the batch.
    name: String,
    tables_sets: bool,
    unloaded: bool,
}

fn main() {
    let mut args = std::env::args();
    let this = PathBuf::from(args.next().expect("a name"));
    let args: Vec<String> = args.collect();
    let dir = this.parent().expect("a directory").to_owned();

    let mut batch = String::new();
    let in_batch = args.last().is_some_and(|last| last.starts_with('/'));
    match args.last().filter(|_| in_batch) {
        Some(file) if file == "/dev/stdin" => {
            std::io::stdin().read_to_string(&mut batch).expect("text");
        }
        Some(file) => batch = fs::read_to_string(file).expect("a file"),
        None => {}
    }
    let lock = File::create(dir.join("lock")).expect("a lock");
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).expect("a lock");
    log(&dir, &args, &batch);
    fail(&dir, &args);

    let state = match fs::read(dir.join("state")) {
        Ok(text) => serde_json::from_slice(&text).expect("our own state"),
        Err(_) => State::default(),
    };
    let mut ipfw = Ipfw {
        state,
        flags: Flags::default(),
        name: "ipfw".to_owned(),
        tables_sets: dir.join("tables_sets").exists(),
        unloaded: dir.join("unloaded").exists(),
    };
    let result = match in_batch {
        true => ipfw.batch(&args[..args.len() - 1], &batch),
        false => ipfw.command(&words(&args)),
    };
    let text = serde_json::to_vec(&ipfw.state).expect("plain data");
    fs::write(dir.join("state"), text).expect("our own state");
    if let Err(Error(status, words)) = result {
        if !words.is_empty() {
            eprintln!("{}: {words}", ipfw.name);
        }
        exit(status);
    }
}

fn log(dir: &Path, args: &[String], batch: &str) {
    let mut text = format!("ipfw {}\n", args.join(" "));
    for line in batch.lines() {
        text.push_str(&format!("\t{line}\n"));
    }
    let log = OpenOptions::new()
        .append(true)
        .create(true)
        .open(dir.join("log"));
    log.and_then(|mut log| log.write_all(text.as_bytes()))
        .expect("the log");
}

/// Fails if the test wants that.
fn fail(dir: &Path, args: &[String]) {
    let Ok(text) = fs::read_to_string(dir.join("fail")) else {
        return;
    };
    let (how, said) = text.split_once('\n').expect("two lines");
    let how: Vec<&str> = how.split(' ').collect();
    if how
        .get(2)
        .is_some_and(|word| !args.iter().any(|arg| arg == word))
    {
        return;
    }
    let times: u32 = how[0].parse().expect("a number");
    match times {
        1 => fs::remove_file(dir.join("fail")),
        _ => fs::write(
            dir.join("fail"),
            format!("{} {}\n{said}", times - 1, how[1..].join(" ")),
        ),
    }
    .expect("the file");
    eprint!("{said}");
    exit(how[1].parse().expect("a status"));
}

/// The words of a line: comments taken away, and blanks behind commas.
fn words_of(line: &str) -> Vec<String> {
    let line = line.split('#').next().unwrap_or_default();
    let mut words: Vec<String> = Vec::new();
    for word in line.split_whitespace() {
        match words.last_mut().filter(|last| last.ends_with(',')) {
            Some(last) => last.push_str(word),
            None => words.push(word.to_owned()),
        }
    }
    words
}

/// The words of a command line: one argument is taken apart as a line is.
fn words(args: &[String]) -> Vec<String> {
    match args {
        [one] => words_of(one),
        many => many.to_vec(),
    }
}

fn number<T: std::str::FromStr>(word: &str) -> Option<T> {
    word.parse().ok()
}

impl Ipfw {
    fn batch(&mut self, flags: &[String], batch: &str) -> Result<()> {
        self.flags(&mut flags.iter().map(String::as_str).peekable())?;
        for (place, line) in batch.lines().enumerate() {
            self.name = format!("Line {}", place + 1);
            let words = words_of(line);
            if !words.is_empty() {
                self.command(&words)?;
            }
        }
        Ok(())
    }

    fn flags<'a>(
        &mut self,
        words: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>,
    ) -> Result<()> {
        while let Some(flags) = words.next_if(|word| word.starts_with('-') && word.len() > 1) {
            for flag in flags.chars().skip(1) {
                match flag {
                    'q' => self.flags.quiet = true,
                    'n' => self.flags.test_only = true,
                    'S' => self.flags.show_sets = true,
                    // Standard input is never a terminal here: -f makes no difference. Nothing
                    // stands that -c and -a would show in another way but counters.
                    'f' | 'c' => {}
                    _ => return error(USAGE, "bad arguments, for usage summary ``ipfw''"),
                }
            }
        }
        Ok(())
    }

    fn command(&mut self, words: &[String]) -> Result<()> {
        let mut words = words.iter().map(String::as_str).peekable();
        self.flags(&mut words)?;
        let words: Vec<&str> = words.collect();
        let (set, words) = match words.as_slice() {
            ["set", number, rest @ ..] if number.starts_with(|c: char| c.is_ascii_digit()) => {
                match number.parse() {
                    Ok(set @ 0..=RESERVED_SET) => (Some(set), rest),
                    _ => return error(DATAERR, format!("invalid set number {number}\n")),
                }
            }
            all => (None, all),
        };
        match words {
            [] => error(
                USAGE,
                "usage: ipfw [options]\ndo \"ipfw -h\" or \"man ipfw\" for details",
            ),
            ["add", rest @ ..] if set.is_none() => self.add(rest),
            ["delete", "set", sets @ ..] if set.is_none() => {
                let sets: Vec<u8> = sets.iter().filter_map(|word| number(word)).collect();
                self.forget(|rule| sets.contains(&rule.set));
                Ok(())
            }
            ["delete", numbers @ ..] => self.delete(numbers, set),
            ["list", numbers @ ..] => self.list(numbers, set),
            ["flush"] => {
                self.loaded("setsockopt(IP_FW_XDEL)", UNAVAILABLE)?;
                self.forget(|rule| match set {
                    Some(set) => rule.set == set,
                    None => rule.set != RESERVED_SET,
                });
                if !self.flags.quiet {
                    println!("Flushed all rules.");
                }
                Ok(())
            }
            ["table", name, rest @ ..] => self.table(name, rest, set.unwrap_or(0)),
            [other, ..] => error(USAGE, format!("bad command `{other}'")),
        }
    }

    /// Whether the kernel takes ipfw's options.
    fn loaded(&self, what: &str, status: i32) -> Result<()> {
        match self.unloaded {
            true => error(status, format!("{what}: {NOT_LOADED}")),
            false => Ok(()),
        }
    }

    /// The default rule is never deleted.
    fn forget(&mut self, which: impl Fn(&Rule) -> bool) -> usize {
        let before = self.state.rules.len();
        if !self.flags.test_only {
            self.state.rules.retain(|rule| !which(rule));
        }
        before - self.state.rules.len()
    }

    fn add(&mut self, words: &[&str]) -> Result<()> {
        let (at, words) = match words {
            [first, rest @ ..] if first.starts_with(|c: char| c.is_ascii_digit()) => {
                (number(first).unwrap_or(u32::MAX), rest)
            }
            all => (0, all),
        };
        let (set, words) = match words {
            ["set", set, rest @ ..] => match number(set) {
                Some(set @ 0..=RESERVED_SET) => (set, rest),
                _ => return error(DATAERR, format!("illegal set {set}")),
            },
            all => (0, all),
        };
        let (text, tables) = rule::canonical(words)?;
        let at = match at {
            0 => {
                let last = self.state.rules.last().map_or(0, |rule| rule.number);
                if last + 100 < DEFAULT_RULE {
                    last + 100
                } else {
                    last
                }
            }
            at if at >= DEFAULT_RULE => {
                return error(UNAVAILABLE, "getsockopt(IP_FW_XADD): Invalid argument");
            }
            at => at,
        };
        if !self.flags.test_only {
            self.loaded("getsockopt(IP_FW_XADD)", UNAVAILABLE)?;
            let place = self.state.rules.partition_point(|rule| rule.number <= at);
            for (name, kind) in tables {
                let set = self.table_set(set);
                if self.state.table(set, &name).is_none() {
                    self.state.make_table(set, &name, kind);
                }
            }
            let rule = Rule {
                number: at,
                set,
                text: text.clone(),
            };
            self.state.rules.insert(place, rule);
        }
        if !self.flags.quiet {
            self.show(at, set, &text);
        }
        Ok(())
    }

    fn show(&self, number: u32, set: u8, text: &str) {
        match self.flags.show_sets {
            true => println!("{number:05} set {set} {text}"),
            false => println!("{number:05} {text}"),
        }
    }

    fn delete(&mut self, numbers: &[&str], set: Option<u8>) -> Result<()> {
        self.loaded("setsockopt(IP_FW_XDEL)", UNAVAILABLE)?;
        // Everything behind the numbers is ignored.
        let digits = |word: &&&str| word.starts_with(|c: char| c.is_ascii_digit());
        for word in numbers.iter().take_while(digits) {
            let Some((first, last)) = range(word) else {
                continue;
            };
            let mut matched = 0;
            if !self.flags.test_only {
                matched = self.forget(|rule| {
                    (first..=last).contains(&rule.number) && set.is_none_or(|set| set == rule.set)
                });
            }
            if matched == 0 && !self.flags.quiet {
                match first == last {
                    true => eprintln!("{}: rule {first} not found", self.name),
                    false => eprintln!("{}: no rules rules in {first}-{last} range", self.name),
                }
            }
        }
        Ok(())
    }

    fn list(&self, numbers: &[&str], set: Option<u8>) -> Result<()> {
        if self.flags.test_only {
            eprintln!("Testing only, list disabled");
            return Ok(());
        }
        self.loaded("retrieving config failed", OSERR)?;
        let default = Rule {
            number: DEFAULT_RULE,
            set: RESERVED_SET,
            text: "allow ip from any to any".to_owned(),
        };
        let all = || {
            let all = self.state.rules.iter().chain([&default]);
            all.filter(|rule| set.is_none_or(|set| set == rule.set))
        };
        if numbers.is_empty() {
            all().for_each(|rule| self.show(rule.number, rule.set, &rule.text));
        }
        let mut status = 0;
        for word in numbers {
            let Some((first, last)) = range(word) else {
                return error(USAGE, format!("invalid rule number: {word}"));
            };
            let mut seen = false;
            for rule in all().filter(|rule| (first..=last).contains(&rule.number)) {
                self.show(rule.number, rule.set, &rule.text);
                seen = true;
            }
            if !seen {
                status = UNAVAILABLE;
                match first == last {
                    true => eprintln!("{}: rule {first} does not exist", self.name),
                    false => eprintln!("{}: no rules in range {first}-{last}", self.name),
                }
            }
        }
        match status {
            0 => Ok(()),
            // All is said already.
            status => error(status, ""),
        }
    }

    /// The set that a table belongs to.
    fn table_set(&self, set: u8) -> u8 {
        if self.tables_sets { set } else { 0 }
    }
}

/// `101`, `101-103`.
fn range(word: &str) -> Option<(u32, u32)> {
    match word.split_once('-') {
        Some((first, last)) => Some((number(first)?, number(last)?)),
        None => number(word).map(|one| (one, one)),
    }
}

/// How often each table is named, by set and name.
fn references(rules: &[Rule], tables_sets: bool) -> BTreeMap<(u8, String), usize> {
    let mut references = BTreeMap::new();
    for rule in rules {
        let set = if tables_sets { rule.set } else { 0 };
        for name in rule::tables(&rule.text) {
            *references.entry((set, name)).or_default() += 1;
        }
    }
    references
}
