//! Waiting costs nothing: wake-ups and processor time of both processes are counted.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::raw::Tun;
use crate::harness::{Daemon, Net, until};
use crate::{STEPS, ssh};

/// How long is counted.
const SPAN: Duration = Duration::from_secs(5);

/// What a process has used.
#[derive(Clone, Copy, Debug)]
struct Used {
    /// How often it has waited and been woken.
    wakes: u64,
    /// Processor time, in ticks of a hundredth of a second (proc(5)).
    ticks: u64,
}

impl Used {
    fn by(pid: Pid) -> Used {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
        let status = read("status");
        let mut lines = status.lines();
        let wakes = lines.find_map(|l| l.strip_prefix("voluntary_ctxt_switches:"));
        let stat = read("stat");
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let fields: Vec<&str> = fields.split(' ').collect();
        Used {
            wakes: wakes.unwrap().trim().parse().unwrap(),
            ticks: (11..13).map(|n| fields[n].parse::<u64>().unwrap()).sum(),
        }
    }
}

/// How many processes of its own a process has.
fn children(pid: Pid) -> usize {
    let all = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    all.split_whitespace().count()
}

/// What both used in a while in which nobody asks them anything, and how long it was in seconds.
struct Counted {
    monitor: Used,
    listener: Used,
    seconds: f64,
}

impl Counted {
    fn of(daemon: &Daemon) -> Counted {
        let pids = [daemon.monitor(), daemon.listener()];
        // The question just now is over.
        thread::sleep(Duration::from_millis(100));
        let (begin, before) = (Instant::now(), pids.map(Used::by));
        thread::sleep(SPAN);
        let after = pids.map(Used::by);
        let used = |n: usize| Used {
            wakes: after[n].wakes - before[n].wakes,
            ticks: after[n].ticks - before[n].ticks,
        };
        Counted {
            monitor: used(0),
            listener: used(1),
            seconds: begin.elapsed().as_secs_f64(),
        }
    }

    /// So many wake-ups a second each, and one in ten seconds more for the monitor's own check;
    /// four times as many, since whoever looks at interfaces also waits for the kernel's lock on
    /// them, which other tests take, and that is counted as well; a tenth of the processor's time, where one that does not wait would take what it gets.
    #[track_caller]
    fn at_most(&self, what: &str, per_second: f64) {
        let Counted {
            monitor,
            listener,
            seconds,
        } = self;
        println!("{what}: in {seconds:.1} s: monitor {monitor:?}, listener {listener:?}");
        for (used, more) in [(monitor, seconds / 10.0 + 1.0), (listener, 1.0)] {
            let most = 4.0 * per_second * seconds + more;
            assert!(
                used.wakes as f64 <= most,
                "{what}: more than {most}: {used:?}"
            );
            assert!(
                (used.ticks as f64) < 10.0 * seconds,
                "{what}: busy: {used:?}"
            );
        }
    }
}

/// posternd whose packet filter is none, so that nothing else runs, on this interface.
fn on<'n>(net: &'n Net, interface: &str) -> Daemon<'n> {
    let mut daemon = Daemon::prepare(&net.server, &[]);
    daemon.set("firewall", "\"memory\"");
    daemon.set("interface", interface);
    daemon.configure(&[ssh("1h")]);
    daemon.spawn();
    until("it runs", || {
        daemon.status().is_some_and(|s| s["listener"].is_u64())
    });
    daemon
}

#[test]
fn with_nothing_to_do() {
    let net = Net::new(1);
    let daemon = on(&net, "\"eth0\"");
    until("it listens", || daemon.listens());
    // Interfaces that come up say so by multicast, which passes the filter, for some seconds.
    until("all is quiet", || {
        let before = Used::by(daemon.listener()).wakes;
        thread::sleep(Duration::from_secs(2));
        Used::by(daemon.listener()).wakes == before
    });
    Counted::of(&daemon).at_most("idle", 0.0);
    net.client().knock(net.server.v4, &STEPS);
    daemon.wait_lease("ssh", net.client().v4);
}

#[test]
fn for_an_interface_that_is_not_there() {
    let net = Net::new(1);
    let daemon = on(&net, "\"late0\"");
    daemon.wait_log("late0: no such interface");
    Counted::of(&daemon).at_most("missing", 1.0);

    // Listeners that end meanwhile change nothing in this: the next comes after growing pauses.
    let (begin, before) = (Instant::now(), Used::by(daemon.monitor()));
    for _ in 0..10 {
        kill(daemon.listener(), Signal::SIGKILL).unwrap();
        until("it is missed", || {
            daemon.status().is_some_and(|s| s["listener"].is_null())
        });
    }
    let ticks = Used::by(daemon.monitor()).ticks - before.ticks;
    let seconds = begin.elapsed().as_secs_f64();
    println!("10 listeners killed in {seconds:.1} s: {ticks} ticks");
    assert!((ticks as f64) < 10.0 * seconds, "busy: {ticks} ticks");
    Counted::of(&daemon).at_most("missing, once more", 1.0);
}

#[test]
fn for_one_that_went_away() {
    let net = Net::new(1);
    let daemon = on(&net, "\"eth0\"");
    until("it listens", || daemon.listens());
    net.server.run("ip link del eth0");
    daemon.wait_log("eth0: went away");
    Counted::of(&daemon).at_most("gone", 1.0);
}

#[test]
fn for_one_that_is_down() {
    let net = Net::new(1);
    let daemon = on(&net, "\"eth0\"");
    until("it listens", || daemon.listens());
    net.server.run("ip link set eth0 down");
    Counted::of(&daemon).at_most("gone down", 1.0);
    daemon.reload();
    daemon.wait_log("eth0: the interface is down");
    Counted::of(&daemon).at_most("down", 1.0);
}

#[test]
fn for_one_that_cannot_be_opened() {
    const ARPHRD_IEEE80211: u64 = 801;
    let net = Net::new(1);
    let tun = net.server.inside(|| Tun::new("tun0"));
    tun.set_type(ARPHRD_IEEE80211);
    net.server.run("ip link set tun0 up");
    let daemon = on(&net, "[\"eth0\", \"tun0\"]");
    daemon.wait_log("tun0: link type IEEE802_11 is not supported");
    // Tried again after 1, 1, 2, 4 and 8 seconds, each time by another listener.
    let generation = || daemon.status().unwrap()["generation"].as_u64().unwrap();
    until("it is tried no more for a while", || {
        generation() >= 5 && children(daemon.monitor()) == 1
    });
    Counted::of(&daemon).at_most("not to be opened", 1.0);
    assert_eq!(
        daemon.log().matches("is not supported").count(),
        1,
        "said once"
    );
    net.client().knock(net.server.v4, &STEPS);
    daemon.wait_lease("ssh", net.client().v4);
}

#[test]
fn while_addresses_change_without_end() {
    let net = Net::new(1);
    let daemon = on(&net, "\"eth0\"");
    until("it listens", || daemon.listens());
    let change = |verb: &str| -> String {
        let all = (1..=200).map(|n| format!("addr {verb} 10.1.1.{n}/32 dev lo\n"));
        all.collect()
    };
    let text = change("add") + &change("del");
    let file = daemon.write("batch", &text);
    let (begin, before) = (Instant::now(), Used::by(daemon.monitor()));
    let mut changes = 0;
    while begin.elapsed() < SPAN {
        net.server.run(&format!("ip -batch {}", file.display()));
        changes += 400;
    }
    let wakes = Used::by(daemon.monitor()).wakes - before.wakes;
    let seconds = begin.elapsed().as_secs_f64();
    println!("{changes} changes of addresses in {seconds:.1} s: {wakes} wake-ups");
    assert!(
        (wakes as f64) < 60.0 * seconds + 10.0,
        "{wakes} in {seconds} s"
    );
    net.client().knock(net.server.v4, &STEPS);
    daemon.wait_lease("ssh", net.client().v4);
}
