//! Clocks that are set while posternd runs, and systems that sleep: by a library that is loaded
//! before its others (clocks.c), since the real clock is everybody's.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use jiff::{SignedDuration, Timestamp};
use nix::sys::signal::Signal;

use crate::harness::{Daemon, Door, Net, Ran, Service, until};
use crate::{OTHER, STEPS, ssh};

const HOUR: i64 = 3600;
/// A third sequence.
const THIRD: [&str; 3] = ["6143", "3912/udp", "29001"];

/// The clocks of one daemon's monitor.
pub struct Clocks {
    file: PathBuf,
    set: i64,
    suspended: i64,
}

impl Clocks {
    pub fn of(daemon: &mut Daemon) -> Clocks {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/clocks.c");
        let library = daemon.path("clocks.so");
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O1", "-pthread", "-o"]);
        let ran = Ran::of(compile.arg(&library).arg(source));
        assert_eq!(ran.code(), 0, "{ran:?}");
        let file = daemon.path("clocks");
        daemon.environ("LD_PRELOAD", &library);
        daemon.environ("POSTERN_CLOCKS", &file);
        let clocks = Clocks {
            file,
            set: 0,
            suspended: 0,
        };
        clocks.write();
        clocks
    }

    /// In one step, so that nobody reads half.
    fn write(&self) {
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{} {}\n", self.set, self.suspended)).unwrap();
        fs::rename(new, &self.file).unwrap();
    }

    /// Sets the wall clock, by so many seconds.
    pub fn set(&mut self, seconds: i64) {
        self.set += seconds;
        self.write();
    }

    /// The system sleeps, for so many seconds.
    pub fn suspend(&mut self, seconds: i64) {
        self.suspended += seconds;
        self.write();
    }

    /// What the daemon takes for now.
    fn now(&self) -> Timestamp {
        Timestamp::now() + SignedDuration::from_secs(self.set + self.suspended)
    }

    /// From its now on, to the second or two that rounding and asking take.
    #[track_caller]
    fn in_about(&self, then: Timestamp, seconds: i64) {
        let left = then.duration_since(self.now()).as_secs();
        assert!(left <= seconds + 2, "{left} s, not {seconds}");
    }
}

/// For how many seconds more nftables lets somebody in.
fn left(net: &Net, who: &str) -> Option<i64> {
    let said = net.server.run("nft -j list table inet postern");
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    let items = said["nftables"].as_array().unwrap();
    let elements = items.iter().flat_map(|item| item["set"]["elem"].as_array());
    let mut elements = elements.flatten().map(|element| &element["elem"]);
    elements.find(|e| e["val"] == who)?["expires"].as_i64()
}

fn steps(by: i64) {
    let net = Net::new(3);
    let _service = Service::start(&net.server, &[22, 23]);
    let (server, [a, b, c]) = (net.server.v4, &net.clients[..]) else {
        panic!("three clients")
    };
    let mut daemon = Daemon::prepare(&net.server, &[]);
    let list = daemon.write(
        "list",
        "8351,1207:udp,52110,30477\n6351,1607:udp,56110,36477\n",
    );
    let once = Door::opens("once", "23/tcp", "1h").knock(&format!("one_time_sequences = {list:?}"));
    daemon.set("trial", "\"2h\"");
    daemon.configure(&[
        ssh("2h"),
        once,
        Door::opens("soon", "24/tcp", "5s").to(&THIRD),
    ]);
    let mut clocks = Clocks::of(&mut daemon);
    daemon.run();
    a.knock(server, &STEPS);
    clocks.in_about(daemon.wait_lease("ssh", a.v4).until, 2 * HOUR);
    b.knock(server, &OTHER);
    daemon.wait_lease("once", b.v4);
    c.knock(server, &THIRD);
    daemon.wait_lease("soon", c.v4);

    clocks.set(by);
    // What is told follows the clock that people read; how long it lasts does not.
    let look = |daemon: &Daemon, clocks: &Clocks| {
        clocks.in_about(daemon.wait_lease("ssh", a.v4).until, 2 * HOUR);
        let more = daemon
            .lease("ssh", a.v4)
            .unwrap()
            .until
            .duration_since(clocks.now());
        assert!(more.as_secs() > 2 * HOUR - 300, "{more}");
        let left = left(&net, &a.v4.to_string()).unwrap();
        assert!(left <= 2 * HOUR && left > 2 * HOUR - 300, "{left}");
        let (state, until) = daemon.guard("22/tcp");
        let trial = until.unwrap().duration_since(clocks.now()).as_secs();
        assert!(
            state == "trial" && (2 * HOUR - 300..=2 * HOUR + 2).contains(&trial),
            "{trial}"
        );
    };
    look(&daemon, &clocks);
    until("what is short ends", || {
        daemon.lease("soon", c.v4).is_none()
    });
    let stamp = |daemon: &Daemon| -> Timestamp {
        let log = daemon.log();
        let line = log.lines().last().unwrap().to_owned();
        line.split(' ').next().unwrap().parse().unwrap()
    };
    clocks.in_about(stamp(&daemon), 0);
    assert!(clocks.now().duration_since(stamp(&daemon)).as_secs() < 300);

    // What is spent is, before and after a restart.
    for _ in 0..2 {
        c.knock(server, &OTHER);
        c.knock(server, &THIRD);
        daemon.wait_lease("soon", c.v4);
        assert!(daemon.lease("once", c.v4).is_none());
        daemon.kill();
        daemon.run();
        look(&daemon, &clocks);
        assert!(daemon.lease("once", b.v4).is_some());
    }
    assert!(a.reaches(server, 22));
    // And back: as if nothing had been.
    clocks.set(-2 * by);
    look(&daemon, &clocks);
    daemon.kill();
    daemon.run();
    look(&daemon, &clocks);
}

#[test]
fn a_clock_set_ahead_by_an_hour_changes_no_lease() {
    steps(HOUR);
}

#[test]
fn a_clock_set_back_by_an_hour_changes_no_lease() {
    steps(-HOUR);
}

/// Ends are written into ipfw in seconds of the clock that people read: they follow it, and what
/// stands there already is neither cut nor cut off.
#[test]
fn ends_in_ipfw_follow_the_clock() {
    let net = Net::new(2);
    let doubles = tempfile::tempdir().unwrap();
    net.server.install_double("ipfw", doubles.path());
    let says = |words: &str| {
        let ran = Ran::of(Command::new(doubles.path().join("ipfw")).args(words.split(' ')));
        assert_eq!(ran.code(), 0, "{ran:?}");
        ran.stdout
    };
    let door = |name, lines: &str, steps: &[&str]| {
        let door = Door::new(name).with("open_for = \"1h\"").with(lines);
        door.to(steps)
    };
    let doors = [
        door(
            "ssh",
            "opens = [\"22/tcp\"]\nrule = 101\nguard = 110",
            &STEPS,
        ),
        door(
            "web",
            "opens = [\"80/tcp\"]\nrules = \"102-104\"\nguard = 111",
            &OTHER,
        ),
    ];
    let mut daemon = Daemon::prepare(&net.server, &doors);
    daemon.set("firewall", "\"ipfw\"");
    daemon.configure(&doors);
    let mut clocks = Clocks::of(&mut daemon);
    daemon.run();
    let client = net.client();
    for (door, steps) in [("ssh", &STEPS), ("web", &OTHER)] {
        client.knock(net.server.v4, steps);
        daemon.wait_lease(door, client.v4);
    }
    for by in [HOUR, -2 * HOUR] {
        clocks.set(by);
        let table = || -> i64 {
            let entry = says("table postern_ssh list");
            entry
                .trim_end()
                .rsplit(' ')
                .next()
                .unwrap()
                .parse()
                .unwrap()
        };
        let rule = || -> i64 {
            let all = says("list");
            let line = all
                .lines()
                .find(|l| l.contains("postern:web until"))
                .unwrap();
            let then: Timestamp = line.rsplit(' ').next().unwrap().parse().unwrap();
            then.as_second()
        };
        let expected = daemon.wait_lease("ssh", client.v4).until.as_second();
        until("the entry follows", || (table() - expected).abs() <= 2);
        until("the rule follows", || (rule() - expected).abs() <= 300);
        assert_eq!(daemon.leases().len(), 2);
        daemon.kill();
        daemon.run();
        assert_eq!(daemon.leases().len(), 2);
        assert!((table() - expected).abs() <= 2);
    }
}

#[test]
fn what_is_over_when_the_system_wakes_ends_at_once() {
    let net = Net::new(2);
    let _service = Service::start(&net.server, &[22, 23]);
    let (server, [a, b]) = (net.server.v4, &net.clients[..]) else {
        panic!("two clients")
    };
    let mut daemon = Daemon::prepare(&net.server, &[]);
    let ran = daemon.path("ran").display().to_string();
    daemon.configure(&[
        ssh("2h"),
        Door::opens("web", "23/tcp", "30m").to(&OTHER),
        Door::starts("wake", "/bin/true")
            .with(&format!(
                "stop_command = 'echo stop >> {ran}'\ncmd_timeout = \"30m\""
            ))
            .to(&THIRD),
    ]);
    let mut clocks = Clocks::of(&mut daemon);
    daemon.run();
    a.knock(server, &STEPS);
    daemon.wait_lease("ssh", a.v4);
    b.knock(server, &OTHER);
    daemon.wait_lease("web", b.v4);
    b.knock(server, &THIRD);
    daemon.wait_lease("wake", b.v4);

    // The kernel rings it at the end of a suspension (timerfd_create(2)).
    let open = format!("/proc/{}/fdinfo", daemon.monitor());
    let mut open = fs::read_dir(open).unwrap();
    let boot_timer = |info: String| info.contains("clockid: 7\nticks: 0\nsettime flags: 01\n");
    assert!(open.any(|fd| boot_timer(fs::read_to_string(fd.unwrap().path()).unwrap())));

    // Asleep: nothing of it runs. nftables' own timeouts stand still, too.
    daemon.signal(Signal::SIGSTOP);
    clocks.suspend(HOUR);
    daemon.signal(Signal::SIGCONT);
    // Of itself: nobody asks it anything.
    until("the stop command has run", || {
        daemon.read("ran") == "stop\n"
    });
    until("the opening is gone", || {
        left(&net, &b.v4.to_string()).is_none()
    });
    assert!(b.connect(server, 23).is_silence());
    assert_eq!(daemon.leases().len(), 1);
    clocks.in_about(daemon.lease("ssh", a.v4).unwrap().until, HOUR);
    until("the packet filter counts no longer either", || {
        left(&net, &a.v4.to_string()).is_some_and(|left| left <= HOUR)
    });
    assert!(a.reaches(server, 22));

    // Asleep while it does not run.
    daemon.kill();
    clocks.suspend(2 * HOUR);
    daemon.run();
    assert_eq!(daemon.leases().len(), 0);
    assert!(a.connect(server, 22).is_silence());
}

#[test]
fn a_reboot_ends_all_leases_and_runs_what_is_owed() {
    let net = Net::new(1);
    let _service = Service::start(&net.server, &[22]);
    let (server, client) = (net.server.v4, net.client());
    let mut daemon = Daemon::prepare(&net.server, &[]);
    let ran = daemon.path("ran").display().to_string();
    daemon.configure(&[
        ssh("2h"),
        Door::starts("wake", "/bin/true")
            .with(&format!(
                "stop_command = 'echo stop >> {ran}'\ncmd_timeout = \"2h\""
            ))
            .to(&OTHER),
    ]);
    daemon.run();
    client.knock(server, &STEPS);
    daemon.wait_lease("ssh", client.v4);
    client.knock(server, &OTHER);
    daemon.wait_lease("wake", client.v4);
    daemon.kill();
    // Another boot, whose packet filter is empty.
    net.server.run("nft flush ruleset");
    let id = daemon.write("boot_id", "00000000-0000-4000-8000-000000000001\n");
    daemon.bind(&id, "/proc/sys/kernel/random/boot_id");
    daemon.run();
    assert!(client.connect(server, 22).is_silence());
    assert!(daemon.lease("ssh", client.v4).is_none());
    until("what is owed is run", || daemon.read("ran") == "stop\n");
    until("and is owed no more", || daemon.leases().is_empty());
}
