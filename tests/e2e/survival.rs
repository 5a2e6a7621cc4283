//! kill -9 at any moment, again and again, while knocks go on.
//!
//! `POSTERN_KILLS` says how many, `POSTERN_SEED` which; the seed is printed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use serde_json::Value;

use crate::harness::{Daemon, Door, Host, Net, Rng, hit, until};

/// Daemons that are killed at the same time, each in a network of its own.
const SIDE_BY_SIDE: u64 = 4;
/// How many times, if nothing else is said.
const KILLS: u64 = 500;
/// Knocks for each time, at the least.
const KNOCKS: u64 = 2;
/// A second, in microseconds.
const SECOND: u64 = 1_000_000;

const LONG: [&str; 3] = ["7143", "2912/udp", "39001"];
const SHORT: [&str; 3] = ["8351", "1207/udp", "52110"];
const WAKE: [&str; 3] = ["6143", "3912/udp", "29001"];
/// Lines of the one-time list; each port is in one of them.
const LINES: u64 = 400;

/// What there is to count.
#[derive(Default)]
struct Figures {
    monitors: AtomicU64,
    listeners: AtomicU64,
    knocks: AtomicU64,
    leases: AtomicU64,
    spent: AtomicU64,
    started: AtomicU64,
    stopped: AtomicU64,
    looks: AtomicU64,
    /// In microseconds.
    late: AtomicU64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let n = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        write!(
            f,
            "{} monitors and {} listeners killed during {} knocks; {} leases of an hour, {} lines \
             spent, {} starts and {} stops run; looked {} times, the \
             latest end {} us after its lease's",
            n(&self.monitors),
            n(&self.listeners),
            n(&self.knocks),
            n(&self.leases),
            n(&self.spent),
            n(&self.started),
            n(&self.stopped),
            n(&self.looks),
            n(&self.late)
        )
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn killed_at_random_moments_it_keeps_what_it_said() {
    let kills = number("POSTERN_KILLS").unwrap_or(KILLS);
    let seed = number("POSTERN_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.unwrap().subsec_nanos().into()
    });
    println!("POSTERN_SEED={seed} POSTERN_KILLS={kills}");
    let figures = Figures::default();
    thread::scope(|scope| {
        for n in 0..SIDE_BY_SIDE {
            let figures = &figures;
            let kills = (kills + n) / SIDE_BY_SIDE;
            scope.spawn(move || under_fire(seed ^ n << 32, kills, figures));
        }
    });
    println!("{figures}");
}

/// Says that it is over also when it fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn one_time(line: u64) -> Vec<String> {
    (0..3)
        .map(|step| (20_000 + 3 * line + step).to_string())
        .collect()
}

fn under_fire(seed: u64, kills: u64, figures: &Figures) {
    let mut rng = Rng::new(seed);
    let net = Net::new(1);
    let (server, client) = (&net.server, net.client());
    // Whoever knocks has all of these addresses.
    client.run("ip route add local 10.66.8.0/21 dev lo");
    server.run(&format!("ip route add 10.66.8.0/21 via {}", client.v4));
    let mut daemon = Daemon::prepare(server, &[]);
    let list: String = (0..LINES).map(|n| one_time(n).join(",") + "\n").collect();
    let list = daemon.write("list", &list);
    let ran = daemon.path("ran").display().to_string();
    let note = |what: &str| format!("echo {what} %IP% >> {ran}");
    daemon.configure(&[
        Door::opens("long", "22/tcp", "1h").to(&LONG),
        Door::opens("short", "23/tcp", "2s").to(&SHORT),
        Door::starts("wake", &note("start"))
            .with(&format!("stop_command = '{}'", note("stop")))
            .with("cmd_timeout = \"1s\"")
            .to(&WAKE),
        Door::opens("once", "80/tcp", "1h").knock(&format!("one_time_sequences = {list:?}")),
    ]);
    daemon.run();

    let over = AtomicBool::new(false);
    let over = &over;
    let state = daemon.path("state").join("journal");
    let journal = || Journal::read(&std::fs::read(&state).unwrap());
    let list = || std::fs::read_to_string(&list).unwrap();
    let thieves = thread::scope(|scope| {
        let _over = Over(over);
        let knocks = scope.spawn(|| knock(seed, kills * KNOCKS, client, server, list, over));
        let looks = scope.spawn(|| {
            let (mut late, mut slow) = (0, 0);
            while !over.load(Ordering::Relaxed) {
                let began = now();
                late = late.max(look(server, journal));
                slow = slow.max(now() - began);
                figures.looks.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(100));
            }
            // A timeout of nft counts from when its command has got to the kernel: as slow as
            // the machine was for us it may have been for posternd.
            assert!(
                late <= SECOND + slow,
                "{late} us late; nft took up to {slow} us"
            );
            figures.late.fetch_max(late, Ordering::Relaxed);
        });
        for _ in 0..kills {
            if looks.is_finished() || knocks.is_finished() {
                break;
            }
            // As it starts, or at any time after that.
            if rng.chance(70) {
                until("it listens", || daemon.listens());
            }
            thread::sleep(Duration::from_millis(rng.within(0..=250)));
            let listener = listener(daemon.monitor());
            match listener.filter(|_| rng.chance(50)) {
                Some(listener) => {
                    // It may have left by itself.
                    let _ = kill(listener, Signal::SIGKILL);
                    figures.listeners.fetch_add(1, Ordering::Relaxed);
                }
                None => {
                    daemon.signal(Signal::SIGKILL);
                    let status = daemon.wait();
                    assert_eq!(status.signal(), Some(9), "it ended before: {status}");
                    daemon.spawn();
                    figures.monitors.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        until("it listens", || daemon.listens());
        over.store(true, Ordering::Relaxed);
        looks.join().unwrap();
        let (knocked, thieves) = knocks.join().unwrap();
        figures.knocks.fetch_add(knocked, Ordering::Relaxed);
        thieves
    });

    // What is short is over, and what is over is gone everywhere.
    until("what is short is over", || {
        let journal = journal();
        journal.of("short").is_empty() && journal.of("wake").is_empty()
    });
    let (holds, journal) = (Holds::look(server).unwrap(), journal());
    for door in ["long", "short", "once"] {
        assert_eq!(holds.of(door), journal.of(door), "door {door}");
    }
    assert!(holds.guarded());
    let told: BTreeSet<(String, IpAddr)> = daemon
        .leases()
        .into_iter()
        .map(|lease| (lease.door, lease.address))
        .collect();
    assert_eq!(told, journal.0.keys().cloned().collect());
    // Each has been granted something, or nothing was tried here.
    assert!(kills < 40 || !journal.of("long").is_empty() && !journal.of("once").is_empty());

    // Who was started was stopped, in the end.
    let ran = daemon.read("ran");
    let mut last = BTreeMap::new();
    for line in ran.lines() {
        let (what, who) = line.split_once(' ').unwrap();
        last.insert(who, what);
    }
    let owed: Vec<_> = last.iter().filter(|(_, what)| **what != "stop").collect();
    assert!(owed.is_empty(), "{owed:?}: {ran}");
    assert!(kills < 40 || !last.is_empty());

    let count = |figure: &AtomicU64, n: usize| figure.fetch_add(n as u64, Ordering::Relaxed);
    count(&figures.leases, journal.0.len());
    count(
        &figures.spent,
        list().lines().filter(|l| l.starts_with('#')).count(),
    );
    count(&figures.started, ran.matches("start").count());
    count(&figures.stopped, ran.matches("stop").count());

    // A line that was spent opened to nobody else.
    let stolen = journal.of("once").intersection(&thieves).count();
    assert_eq!(stolen, 0, "of {}", thieves.len());
}

/// Knocks until it is over, and so many times at least: how often, and who tried what was spent.
fn knock(
    seed: u64,
    at_least: u64,
    client: &Host,
    server: &Host,
    list: impl Fn() -> String,
    over: &AtomicBool,
) -> (u64, BTreeSet<IpAddr>) {
    client.enter();
    let mut rng = Rng::new(!seed);
    let (mut knocked, mut thieves) = (0, BTreeSet::new());
    while knocked < at_least || !over.load(Ordering::Relaxed) {
        knocked += 1;
        let address = |net: u8, n: u64| Ipv4Addr::new(10, 66, net + (n >> 8) as u8, n as u8);
        let steps = |steps: &[&str]| steps.iter().map(|&s| s.to_owned()).collect();
        let (source, steps): (_, Vec<String>) = match rng.within(0..=5) {
            0 => (address(8, rng.within(1..=100)), steps(&LONG)),
            1 | 2 => (address(8, rng.within(1..=100)), steps(&SHORT)),
            3 => (address(9, rng.within(1..=100)), steps(&WAKE)),
            n => {
                let list = list();
                let used = list.lines().filter(|l| l.starts_with('#')).count() as u64;
                if n == 4 || used == 0 {
                    (address(10, knocked % 256), one_time(used % LINES))
                } else {
                    let thief = address(12, knocked % 512);
                    thieves.insert(thief.into());
                    (thief, one_time(rng.within(0..=used - 1)))
                }
            }
        };
        for step in &steps {
            hit(Some(source.into()), server.v4.into(), step);
            thread::sleep(Duration::from_millis(2));
        }
        thread::sleep(Duration::from_millis(rng.within(0..=80)));
    }
    (knocked, thieves)
}

/// The listener of a monitor, if one runs now.
fn listener(monitor: Pid) -> Option<Pid> {
    let children = std::fs::read_to_string(format!("/proc/{monitor}/task/{monitor}/children"));
    let children = children.unwrap_or_default();
    let mut children = children.split_whitespace().filter_map(|c| c.parse().ok());
    let is = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(b"posternd: listener")
    };
    children.find(is).map(Pid::from_raw)
}

/// Since the system's boot, in microseconds.
fn now() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap();
    Duration::from(now).as_micros() as u64
}

type Who = BTreeSet<IpAddr>;

/// What the journal vouches for: who may enter where, and until when.
struct Journal(BTreeMap<(String, IpAddr), u64>);

impl Journal {
    fn read(text: &[u8]) -> Journal {
        let mut all = BTreeMap::new();
        for line in text.split_inclusive(|&b| b == b'\n') {
            // The last one may be on its way.
            let Some(line) = line.strip_suffix(b"\n") else {
                break;
            };
            let record: Value = serde_json::from_slice(&line[17..]).unwrap();
            let (kind, of) = record.as_object().unwrap().iter().next().unwrap();
            let key = || {
                let word = |key: &str| of[key].as_str().unwrap();
                (word("door").to_owned(), word("address").parse().unwrap())
            };
            let end = || of["until"].as_u64().unwrap();
            match kind.as_str() {
                "open" => _ = all.insert(key(), end()),
                "extend" => _ = all.get_mut(&key()).map(|until| *until = end()),
                "closed" => _ = all.remove(&key()),
                _ => {}
            }
        }
        Journal(all)
    }

    fn of(&self, door: &str) -> Who {
        let keys = self.0.keys().filter(|(name, _)| name == door);
        keys.map(|(_, address)| *address).collect()
    }
}

/// What the packet filter holds.
struct Holds {
    /// When it was asked, and for each how many whole seconds it had left then, or later.
    asked: u64,
    elements: BTreeMap<(String, IpAddr), u64>,
    guards: Vec<String>,
}

impl Holds {
    fn look(server: &Host) -> Option<Holds> {
        let asked = now();
        let mut nft = server.command("nft");
        let said = nft
            .args(["-j", "list", "table", "inet", "postern"])
            .output();
        let said: Value = serde_json::from_slice(&said.unwrap().stdout).ok()?;
        let (mut elements, mut guards) = (BTreeMap::new(), Vec::new());
        for item in said["nftables"].as_array().unwrap() {
            if let Some(comment) = item["rule"]["comment"].as_str() {
                guards.extend(comment.strip_prefix("postern: guard ").map(str::to_owned));
            }
            let Some(name) = item["set"]["name"].as_str() else {
                continue;
            };
            let Some((door, "4" | "6")) = name.rsplit_once('_') else {
                continue;
            };
            for element in item["set"]["elem"].as_array().into_iter().flatten() {
                let element = &element["elem"];
                let address: IpAddr = element["val"].as_str().unwrap().parse().unwrap();
                let expires = element["expires"]
                    .as_u64()
                    .expect("every opening has an end");
                elements.insert((door.to_owned(), address), expires);
            }
        }
        Some(Holds {
            asked,
            elements,
            guards,
        })
    }

    fn of(&self, door: &str) -> Who {
        let keys = self.elements.keys().filter(|(name, _)| name == door);
        keys.map(|(_, address)| *address).collect()
    }

    fn guarded(&self) -> bool {
        let stands = |port| self.guards.iter().any(|guard| guard.contains(port));
        ["22/tcp", "23/tcp", "80/tcp"].into_iter().all(stands)
    }
}

/// At any moment, whoever is dead: the guard stands, and nobody is let in for whom the journal
/// does not vouch. For how many microseconds more than it says somebody is, at the least: nft
/// tells whole seconds, rounded down.
fn look(server: &Host, journal: impl Fn() -> Journal) -> u64 {
    let holds = Holds::look(server).expect("the table stands");
    let vouched = journal();
    assert!(holds.guarded(), "guards: {:?}", holds.guards);
    let (mut unknown, mut late) = (Vec::new(), 0);
    for (who, left) in &holds.elements {
        // An end is written down before it is the packet filter's.
        match vouched.0.get(who) {
            Some(until) => late = late.max((holds.asked + left * SECOND).saturating_sub(*until)),
            None => unknown.push(who),
        }
    }
    // What is closed is gone before that is written down: only what was asked before the
    // journal was can be closed between the two.
    if !unknown.is_empty() {
        let (again, later) = (Holds::look(server).expect("the table stands"), journal());
        for who in unknown {
            let stands = again.elements.contains_key(who) && !later.0.contains_key(who);
            assert!(!stands, "{who:?} is let in, and the journal does not know");
        }
    }
    late
}
