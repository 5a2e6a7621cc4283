//! Command doors.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use postern::config::{Action, Config, Confine, Door, Drive, FirewallKind, LogTo};
use postern::firewall::command::CommandDoors;
use postern::firewall::{Backends, Failure, Firewall, Opening, Order, What};
use tempfile::TempDir;

use crate::doors::{close, left, open, opening, opens, runs, tcp};
use crate::suite::{PATIENCE, Subject, carry_out, readable, suite, wait_for};

/// Doors whose commands write down that they were run.
struct Commands {
    doors: CommandDoors,
    dir: TempDir,
}

impl Commands {
    fn new() -> Commands {
        Commands {
            doors: CommandDoors::new().unwrap(),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn told(&self) -> Vec<String> {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }
}

impl Subject for Commands {
    fn firewall(&mut self) -> &mut dyn Firewall {
        &mut self.doors
    }

    fn doors(&self) -> Vec<Door> {
        let log = self.log();
        let line = |what, n| format!("echo {what} {n} %IP% >>{}", log.display());
        let door = |name, n| runs(name, &line("start", n), Some(&line("stop", n)));
        vec![door("ssh", 0), door("sftp", 1)]
    }

    fn crash(&mut self) {
        self.doors = CommandDoors::new().unwrap();
    }

    fn let_in(&mut self) -> BTreeSet<Opening> {
        let mut let_in = BTreeSet::new();
        for line in self.told() {
            let words: Vec<&str> = line.split(' ').collect();
            let opening = opening(words[1].parse().unwrap(), words[2]);
            match words[0] {
                "start" => let_in.insert(opening),
                _ => let_in.remove(&opening),
            };
        }
        let_in
    }
}

suite!(Commands::new());

fn start(door: u16, address: &str) -> Order {
    Order {
        opening: opening(door, address),
        what: What::Open { remaining: None },
    }
}

fn established(doors: &[Door]) -> CommandDoors {
    let mut commands = CommandDoors::new().unwrap();
    commands.establish(doors, &[]).unwrap();
    commands
}

#[test]
fn leases_of_the_journal_are_not_started_again() {
    let mut commands = Commands::new();
    let doors = commands.doors();
    let journal = [left(0, "192.0.2.7", 600)];
    commands.doors.establish(&doors, &journal).unwrap();
    commands.doors.uphold(&journal).unwrap();
    assert_eq!(
        commands.doors.openings().unwrap(),
        [opening(0, "192.0.2.7")]
    );
    carry_out(&mut commands.doors, &[close(0, "192.0.2.7")]);
    assert_eq!(commands.told(), ["stop 0 192.0.2.7"]);
    assert_eq!(commands.doors.openings().unwrap(), []);
}

#[test]
fn a_door_without_a_stop_command_runs_at_each_grant() {
    let commands = Commands::new();
    let line = format!("echo %IP% >>{}", commands.log().display());
    let mut doors = established(&[runs("wake", &line, None)]);
    let orders = [
        start(0, "192.0.2.7"),
        start(0, "192.0.2.7"),
        start(0, "192.0.2.7"),
    ];
    for done in carry_out(&mut doors, &orders) {
        assert_eq!(done.result, Ok(()));
    }
    assert_eq!(commands.told(), ["192.0.2.7"; 3]);
    assert_eq!(doors.openings().unwrap(), []);
}

#[test]
fn failures_say_what_and_why() {
    let mut limited = runs("slow", "/bin/sleep 1000", None);
    if let Action::Command(commands) = &mut limited.action {
        commands.run_limit = Duration::from_millis(100);
    }
    let mut doors = established(&[
        runs("missing", "/nonexistent/wake %IP%", None),
        runs("refusing", "echo no such host: %IP% >&2; exit 3", None),
        limited,
        runs("misspelt", "wakeonlan %IP%", None),
    ]);
    let says = |door: u16, doors: &mut CommandDoors| {
        let mut done = carry_out(doors, &[start(door, "2001:db8::7")]);
        done.remove(0).result.unwrap_err()
    };
    assert_eq!(
        says(0, &mut doors).to_string(),
        "cannot run /nonexistent/wake 2001:db8::7: No such file or directory"
    );
    assert_eq!(
        says(1, &mut doors).to_string(),
        "echo no such host: 2001:db8::7 >&2; exit 3: exit status 3: no such host: 2001:db8::7"
    );
    assert_eq!(
        says(2, &mut doors),
        Failure::TooSlow {
            command: "/bin/sleep 1000".to_owned(),
            limit: Duration::from_millis(100),
        }
    );
    let misspelt = says(3, &mut doors).to_string();
    assert!(misspelt.contains("exit status 127"), "{misspelt}");
    assert_eq!(doors.openings().unwrap(), []);
}

/// A start command that has not ended keeps nobody else waiting, and its stop command comes
/// after it.
#[test]
fn a_slow_command_delays_only_its_own_address() {
    let commands = Commands::new();
    let (log, go) = (commands.path("log"), commands.path("go"));
    nix::unistd::mkfifo(go.as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let slow = format!("read line <{go}; echo start %IP% >>{log}");
    let stop = format!("echo stop %IP% >>{log}");
    let mut doors = established(&[
        runs("slow", &slow, Some(&stop)),
        runs("fast", &format!("echo fast %IP% >>{log}"), None),
    ]);
    doors.apply(&[open(0, "192.0.2.7", 10), close(0, "192.0.2.7")]);
    carry_out(&mut doors, &[start(1, "192.0.2.7"), close(0, "192.0.2.8")]);
    let mut told = commands.told();
    told.sort();
    assert_eq!(told, ["fast 192.0.2.7", "stop 192.0.2.8"]);
    fs::write(&go, "\n").unwrap();
    let done = wait_for(&mut doors, 2);
    assert!(matches!(done[0].order.what, What::Open { .. }));
    assert_eq!(commands.told()[2..], ["start 192.0.2.7", "stop 192.0.2.7"]);
    // Nothing is left to be woken for.
    assert!(!readable(doors.wake_fd().unwrap(), Duration::ZERO));
}

/// Commands that all wait for a word from us: how many run at once, and how many may wait.
#[test]
fn what_runs_and_what_waits_is_bounded() {
    let commands = Commands::new();
    let (log, go) = (commands.path("log"), commands.path("go"));
    let line = format!("echo %IP% >>{log}; until test -e {go}; do sleep 0.05; done");
    let mut leased = runs("leased", &line, Some("/bin/true"));
    leased.max_leases = 12;
    let free = runs("free", &line, None);
    let mut doors = established(&[free, leased]);

    let orders: Vec<Order> = (1..=100)
        .map(|n| start(0, &format!("10.0.0.{n}")))
        .collect();
    doors.apply(&orders);
    let leases: Vec<Order> = (1..=20)
        .map(|n| open(1, &format!("10.0.1.{n}"), 10))
        .collect();
    doors.apply(&leases);
    // 8 run for each door: half of 16.
    let started = Instant::now();
    while commands.told().len() < 16 {
        assert!(started.elapsed() < PATIENCE, "{:?}", commands.told());
        std::thread::sleep(Duration::from_millis(5));
    }
    let refused = doors.done();
    let count = |door| {
        refused
            .iter()
            .filter(|done| done.order.opening.door == door)
            .count()
    };
    // Those of one call are counted before the first of them runs.
    assert_eq!((count(0), count(1)), (100 - 64, 20 - 12));
    for done in &refused {
        let words = done.result.as_ref().unwrap_err().to_string();
        let said = [
            "door free: 64 start commands",
            "door leased: 12 start commands",
        ];
        let said = said[usize::from(done.order.opening.door)];
        assert!(words.starts_with(said), "{words}");
    }
    assert_eq!(commands.told().len(), 16);
    // No stop command is owed to who was refused: at once, though all workers are busy.
    let owed: Vec<Order> = refused
        .iter()
        .filter(|done| done.order.opening.door == 1)
        .map(|done| close(1, &done.order.opening.address.to_string()))
        .collect();
    doors.apply(&owed);
    assert_eq!(doors.done().len(), owed.len());

    fs::write(&go, "").unwrap();
    for done in wait_for(&mut doors, 120 - refused.len()) {
        assert_eq!(done.result, Ok(()));
    }
    assert_eq!(commands.told().len(), 120 - refused.len());
}

/// A reload may move doors and take some away; what runs goes on, and is told of by the places
/// that doors have then.
#[test]
fn what_runs_at_a_reload_goes_on() {
    let commands = Commands::new();
    let (log, go) = (commands.path("log"), commands.path("go"));
    let line = |name| format!("until test -e {go}; do sleep 0.05; done; echo {name} %IP% >>{log}");
    let door = |name| runs(name, &line(name), Some("/bin/true"));
    let mut doors = established(&[door("gone"), door("kept")]);
    doors.apply(&[open(0, "192.0.2.7", 600), open(1, "192.0.2.7", 600)]);
    let new = [
        opens("ssh", &[tcp(22)], true),
        runs("new", "/bin/true", None),
        door("kept"),
    ];
    doors.establish(&new, &[left(2, "192.0.2.7", 600)]).unwrap();
    fs::write(&go, "").unwrap();
    let done = wait_for(&mut doors, 1);
    assert_eq!(done[0].order, open(2, "192.0.2.7", 600));
    let started = Instant::now();
    while commands.told().len() < 2 {
        assert!(started.elapsed() < PATIENCE, "{:?}", commands.told());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(doors.openings().unwrap(), [opening(2, "192.0.2.7")]);
}

/// What was asked for is done, also when nobody waits for it any more.
#[test]
fn commands_outlive_their_doors() {
    let commands = Commands::new();
    let (log, go) = (commands.path("log"), commands.path("go"));
    let line = format!("until test -e {go}; do sleep 0.05; done; echo start >>{log}");
    let mut doors = established(&[runs("d", &line, Some(&format!("echo stop >>{log}")))]);
    doors.apply(&[open(0, "192.0.2.7", 600), close(0, "192.0.2.7")]);
    doors.remove().unwrap();
    drop(doors);
    fs::write(&go, "").unwrap();
    let started = Instant::now();
    while commands.told() != ["start", "stop"] {
        assert!(started.elapsed() < PATIENCE, "{:?}", commands.told());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn config(firewall: FirewallKind) -> Config {
    Config {
        interfaces: vec!["lo".to_owned()],
        log: LogTo::Stderr,
        firewall,
        user: None,
        pidfile: None,
        control: "/nonexistent/control".into(),
        state: "/nonexistent/state".into(),
        always: Vec::new(),
        drive: Drive::InProcess,
        confine: Confine::Required,
        trial: None,
        doors: Vec::new(),
        keys: Vec::new(),
        knockd: None,
    }
}

#[test]
fn each_door_to_what_opens_it() {
    let commands = Commands::new();
    let line = format!("echo %IP% >>{}", commands.log().display());
    let doors = [
        opens("ssh", &[tcp(22)], true),
        runs("wake", &line, None),
        runs("w", &line, Some(&line)),
    ];
    let orders = [
        open(0, "192.0.2.7", 600),
        start(1, "192.0.2.8"),
        open(2, "192.0.2.9", 600),
    ];

    let mut none = Backends::from_config(&config(FirewallKind::None), &[]).unwrap();
    assert_eq!(none.name(), "none");
    none.establish(&doors, &[left(0, "192.0.2.1", 9), left(2, "192.0.2.2", 9)])
        .unwrap();
    assert_eq!(none.openings().unwrap(), [opening(2, "192.0.2.2")]);
    for done in carry_out(&mut none, &orders) {
        assert_eq!(
            done.result.is_err(),
            done.order.opening.door == 0,
            "{done:?}"
        );
    }
    let mut told = commands.told();
    told.sort();
    assert_eq!(told, ["192.0.2.8", "192.0.2.9"]);
    assert_eq!(
        none.openings().unwrap(),
        [opening(2, "192.0.2.2"), opening(2, "192.0.2.9")]
    );

    // Nothing is touched: no command runs.
    let mut memory = Backends::from_config(&config(FirewallKind::Memory), &[]).unwrap();
    assert_eq!(memory.name(), "memory");
    memory.establish(&doors, &[]).unwrap();
    for done in carry_out(&mut memory, &orders) {
        assert_eq!(done.result, Ok(()));
    }
    assert_eq!(
        memory.openings().unwrap(),
        [opening(0, "192.0.2.7"), opening(2, "192.0.2.9")]
    );
    assert_eq!(commands.told().len(), 2);

    // From one to the other, as a reload may.
    memory
        .reconfigure(&config(FirewallKind::None), &[])
        .unwrap();
    memory
        .establish(&doors, &[left(2, "192.0.2.9", 600)])
        .unwrap();
    carry_out(&mut memory, &[close(2, "192.0.2.9")]);
    assert_eq!(commands.told().len(), 3);

    let bad = Backends::from_config(&config(FirewallKind::Nft), &["xl0; flush".to_owned()]);
    assert!(bad.is_err());
}
