//! knockd's faults, each shown on the knockd that is installed, and not ours.

use std::cell::Cell;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::generate::MARK;
use super::pair::{DIR, Knockd, Line, Who, both, datagram, syn};
use crate::harness::raw::{SYN, tcp};
use crate::harness::{LIMIT, Net, Ran, eventually, until};

/// A door of three steps, and one that tells what has been heard.
fn doors() -> String {
    format!(
        "[ssh]\nSequence = 7000,8000,9000\nTCPFlags = syn\nCommand = echo ssh %IP% >> {DIR}/ran\n\
         [mark]\nSequence = {MARK}:udp\nCommand = true\n"
    )
}

/// A server with both, and a client.
struct Scene<'n> {
    net: &'n Net,
    both: [Knockd<'n>; 2],
    wire: Line,
    /// How many marks were sent, each from an address of its own.
    marks: Cell<u8>,
}

impl<'n> Scene<'n> {
    fn new(net: &'n Net, doors: &str) -> Scene<'n> {
        Scene {
            net,
            both: both(&net.server, doors),
            wire: Line::new(net.client(), &net.server),
            marks: Cell::default(),
        }
    }

    fn knock(&self, from: impl Into<IpAddr>, ports: &[u16]) {
        let from = from.into();
        let to: IpAddr = match from {
            IpAddr::V4(_) => self.net.server.v4.into(),
            IpAddr::V6(_) => self.net.server.v6.into(),
        };
        for port in ports {
            self.wire.hit(from, to, syn(*port));
        }
    }

    /// Waits until both have heard all that was sent so far.
    fn heard(&self) {
        for knockd in &self.both {
            self.heard_by(knockd);
        }
    }

    fn heard_by(&self, knockd: &Knockd) {
        let n = self.marks.get();
        self.marks.set(n + 1);
        let from = Ipv4Addr::new(10, 66, 250, n);
        self.wire.hit(from, self.net.server.v4, datagram(MARK));
        until("what was sent is heard", || {
            knockd.logged(&format!("{from}: mark: OPEN SESAME")) > 0
        });
    }

    /// For whom the door has opened: knockd's, ours. What was sent is heard then.
    fn opened(&self, from: impl Into<IpAddr>) -> [bool; 2] {
        let line = format!("{}: ssh: OPEN SESAME", from.into());
        self.heard();
        [0, 1].map(|who| self.both[who].logged(&line) > 0)
    }
}

const A: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 101);
const B: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 102);
/// What [`Scene::opened`] says where only ours opens.
const OURS: [bool; 2] = [false, true];

/// 1: one host's failed attempt drops every other host's.
#[test]
fn one_hosts_failure_is_no_others() {
    let net = Net::new(1);
    let scene = Scene::new(&net, &doors());
    scene.knock(A, &[7000]);
    scene.knock(B, &[7000]);
    scene.knock(A, &[9000]);
    scene.knock(B, &[8000, 9000]);
    assert_eq!(scene.opened(B), OURS);
}

/// 2: a connection request that is sent twice.
#[test]
fn a_step_that_comes_twice_spoils_nothing() {
    let net = Net::new(1);
    let scene = Scene::new(&net, &doors());
    scene.knock(A, &[7000, 8000, 7000, 9000]);
    assert_eq!(scene.opened(A), OURS);
}

/// 3: the last line of a one-time list.
#[test]
fn a_list_that_is_used_up_ends_nothing() {
    let net = Net::new(1);
    let list = format!(
        "{}[list]\nOne_Time_Sequences = {DIR}/list\nCommand = true\n",
        doors()
    );
    let both = [Who::Theirs, Who::Ours].map(|who| {
        let mut knockd = Knockd::prepare(&net.server, who, &list);
        knockd.write("list", "7100,7101\n");
        knockd.run(&["-i", "eth0"]);
        knockd
    });
    let mut scene = Scene {
        net: &net,
        both,
        wire: Line::new(net.client(), &net.server),
        marks: Cell::default(),
    };
    scene.knock(A, &[7100, 7101]);
    until("knockd has heard", || {
        scene.both[0].log().contains("list: OPEN SESAME")
    });
    // The packet that comes next finds the door's memory given back.
    let status = eventually("knockd ends", LIMIT, || {
        scene.knock(A, &[7000]);
        scene.both[0].ended()
    });
    assert!(status.signal().is_some(), "{status}");
    scene.knock(B, &[7000, 8000, 9000]);
    scene.heard_by(&scene.both[1]);
    assert!(scene.both[1].log().contains("list: OPEN SESAME"));
    assert!(
        scene.both[1]
            .log()
            .contains(&format!("{B}: ssh: OPEN SESAME"))
    );
    assert_eq!(scene.both[1].read("list"), "#100,7101\n");
}

/// 3: after a line of a one-time list is used, knocks by IPv6 go unseen.
#[test]
fn the_next_line_is_good_for_ipv6_too() {
    let net = Net::new(1);
    let list = format!(
        "{}[list]\nOne_Time_Sequences = {DIR}/list\nCommand = true\n",
        doors()
    );
    let both = [Who::Theirs, Who::Ours].map(|who| {
        let mut knockd = Knockd::prepare(&net.server, who, &list);
        knockd.write("list", "7100,7101\n7200,7201\n7300,7301\n");
        knockd.run(&["-i", "eth0"]);
        knockd
    });
    let scene = Scene {
        net: &net,
        both,
        wire: Line::new(net.client(), &net.server),
        marks: Cell::default(),
    };
    scene.knock(A, &[7100, 7101]);
    scene.heard();
    scene.knock(net.client().v6, &[7200, 7201]);
    scene.heard();
    let line = format!("{}: list: OPEN SESAME", net.client().v6);
    assert_eq!(scene.both.each_ref().map(|k| k.logged(&line)), [0, 1]);
}

/// 4: a line in the log for each packet.
#[test]
fn a_flood_does_not_fill_the_log() {
    let net = Net::new(1);
    let scene = Scene::new(&net, &doors());
    for n in 0..2000u16 {
        let [high, low] = (n + 300).to_be_bytes();
        scene.knock(Ipv4Addr::new(10, 66, high, low), &[7000]);
    }
    scene.heard();
    let [theirs, ours] = scene.both.each_ref().map(|k| k.logged(": ssh: Stage 1"));
    assert!(theirs > 1000 && ours < 200, "{theirs} {ours}");
}

/// 5: who knocks again while his door is open gets a second rule and a second timer.
#[test]
fn who_knocks_twice_is_let_in_once() {
    let net = Net::new(1);
    let doors = format!(
        "{}Cmd_Timeout = 2\nStop_Command = echo end %IP% >> {DIR}/ran\n\
         [mark]\nSequence = {MARK}:udp\nCommand = true\n",
        doors().split("[mark]").next().unwrap()
    );
    let scene = Scene::new(&net, &doors);
    for _ in 0..2 {
        scene.knock(A, &[7000, 8000, 9000]);
        scene.heard();
    }
    let count = |who: usize, line: &str| {
        let opened = scene.both[who].opened();
        opened.iter().filter(|l| l.starts_with(line)).count()
    };
    for who in [0, 1] {
        until("the last has ended", || {
            count(who, "end") == count(who, "ssh") && count(who, "ssh") > 0
        });
    }
    assert_eq!([count(0, "ssh"), count(1, "ssh")], [2, 1]);
    assert_eq!([count(0, "end"), count(1, "end")], [2, 1]);
}

/// 6: an address that the interface gets later.
#[test]
fn a_new_address_is_knocked_at() {
    let net = Net::new(1);
    let scene = Scene::new(&net, &doors());
    let later = Ipv4Addr::new(10, 66, 0, 77);
    net.server.address("add", &format!("{later}/24"), "eth0");
    until("ours knows of it", || {
        scene.wire.knock(A, later, &[7000, 8000, 9000].map(syn));
        scene.both[1].logged(&format!("{A}: ssh: OPEN SESAME")) > 0
    });
    assert_eq!(scene.opened(A), OURS);
}

/// 6: an interface that goes away, as ppp's do. (One that only goes down knockd survives with
/// the libpcap of Debian 12.)
#[test]
fn an_interface_that_goes_away_is_waited_for() {
    let net = Net::new(1);
    let mut scene = Scene::new(&net, &doors());
    net.server.run("ip link set eth0 down");
    net.server.run("ip link set eth0 up");
    until("ours listens again", || {
        scene.knock(A, &[7000, 8000, 9000]);
        scene.both[1].logged(&format!("{A}: ssh: OPEN SESAME")) > 0
    });

    net.server.run("ip link del eth0");
    scene.both[0].wait();
    net.plug(&net.server, "eth0");
    net.server
        .address("add", &format!("{}/24", net.server.v4), "eth0");
    scene.wire = Line::new(net.client(), &net.server);
    until("ours listens again", || {
        scene.knock(B, &[7000, 8000, 9000]);
        scene.both[1].logged(&format!("{B}: ssh: OPEN SESAME")) > 0
    });
    assert!(scene.both[1].ended().is_none());
}

/// 6: frames with a VLAN tag.
#[test]
fn tagged_frames_are_read() {
    let net = Net::new(1);
    let scene = Scene::new(&net, &doors());
    for port in [7000, 8000, 9000] {
        let packet = tcp(A.into(), net.server.v4.into(), port, SYN, 0);
        scene.wire.send(&[0], &packet);
    }
    assert_eq!(scene.opened(A), OURS);
}

/// 6: two interfaces.
#[test]
fn two_interfaces_are_listened_at() {
    let net = Net::new(1);
    net.plug(&net.server, "eth1");
    let other = Ipv4Addr::new(10, 66, 5, 1);
    net.server.address("add", &format!("{other}/24"), "eth1");
    let both = [Who::Theirs, Who::Ours].map(|who| {
        let mut knockd = Knockd::prepare(&net.server, who, &doors());
        knockd.run(&["-i", "eth1", "-i", "eth0"]);
        knockd
    });
    let scene = Scene {
        net: &net,
        both,
        wire: Line::to(net.client(), &net.server, "eth1"),
        marks: Cell::default(),
    };
    scene.wire.knock(A, other, &[7000, 8000, 9000].map(syn));
    until("ours opens", || {
        scene.both[1]
            .log()
            .contains(&format!("{A}: ssh: OPEN SESAME"))
    });
    let first = Line::new(net.client(), &net.server);
    first.knock(B, net.server.v4, &[7000, 8000, 9000].map(syn));
    for knockd in &scene.both {
        until("eth0 is heard", || {
            knockd.log().contains(&format!("{B}: ssh: OPEN SESAME"))
        });
    }
    assert!(!scene.both[0].log().contains(&A.to_string()));
}

/// 7: a configuration that is wrong, read again.
#[test]
fn a_wrong_file_at_hup_changes_nothing() {
    let net = Net::new(1);
    let mut scene = Scene::new(&net, &doors());
    for knockd in &scene.both {
        knockd.configure("[ssh]\nSequense = 7000\n");
        knockd.signal(Signal::SIGHUP);
    }
    assert_eq!(scene.both[0].wait().code(), Some(1));
    until("ours says so", || {
        scene.both[1]
            .log()
            .contains("not reloaded, the configuration before goes on")
    });
    scene.knock(A, &[7000, 8000, 9000]);
    scene.heard_by(&scene.both[1]);
    assert_eq!(scene.both[1].logged(&format!("{A}: ssh: OPEN SESAME")), 1);
}

/// 7: a second instance takes the first one's pidfile away.
#[test]
fn a_second_one_leaves_the_pidfile_alone() {
    let net = Net::new(1);
    for who in [Who::Theirs, Who::Ours] {
        let mut knockd = Knockd::prepare(&net.server, who, &doors());
        let pidfile = knockd.path("pid").display().to_string();
        let pid = || {
            fs::read_to_string(&pidfile)
                .ok()?
                .trim()
                .parse::<i32>()
                .ok()
        };
        knockd.spawn(&["-d", "-i", "eth0", "-p", &pidfile]);
        knockd.wait();
        let first = eventually("a pidfile", LIMIT, pid);
        until("it listens", || knockd.log().contains("starting up"));

        // In the same /run and /var/lib.
        let room = Knockd::room(Pid::from_raw(first));
        let mut second = knockd.command_in(&room, &["-d", "-i", "eth0", "-p", &pidfile]);
        let second = Ran::of(second.stdout(Stdio::null())).status;
        let before = knockd.logged("shutting down");
        match who {
            Who::Theirs => {
                assert!(second.success());
                let second = eventually("another number", LIMIT, || pid().filter(|p| *p != first));
                until("it listens, too", || knockd.logged("starting up") == 2);
                kill(Pid::from_raw(second), Signal::SIGTERM).unwrap();
                until("it ends", || knockd.logged("shutting down") > before);
                until("the pidfile is gone", || pid().is_none());
            }
            Who::Ours => {
                assert_eq!(second.code(), Some(1));
                assert_eq!(pid(), Some(first));
            }
        }
        // The first one runs on.
        kill(Pid::from_raw(first), Signal::SIGTERM).unwrap();
    }
}

/// 8: the whole service is ended, as `killall knockd` and systemd do; what is owed is lost.
#[test]
fn stop_commands_survive_the_service() {
    let net = Net::new(1);
    let doors = format!(
        "[ssh]\nSequence = 7000,8000,9000\nCommand = echo ssh %IP% >> {DIR}/ran\n\
         Cmd_Timeout = 3\nStop_Command = echo end %IP% >> {DIR}/ran\n\
         [mark]\nSequence = {MARK}:udp\nCommand = true\n"
    );
    let mut scene = Scene::new(&net, &doors);
    scene.knock(A, &[7000, 8000, 9000]);
    for knockd in &scene.both {
        knockd.wait_opened(&format!("ssh {A}"), 1);
    }
    // Ours keeps its journal in a /var/lib that its successor sees.
    let room = Knockd::room(scene.both[1].pid());
    for knockd in &mut scene.both {
        let all = knockd.processes();
        for pid in &all {
            let _ = kill(*pid, Signal::SIGTERM);
        }
        knockd.wait();
        until("all have ended", || !all.iter().any(|pid| lives(*pid)));
        assert_eq!(knockd.opened(), [format!("ssh {A}")]);
    }
    scene.both[0].run(&["-i", "eth0"]);
    scene.both[1].run_in(&room, &["-i", "eth0"]);
    scene.both[1].wait_opened(&format!("end {A}"), 1);
    scene.heard();
    assert_eq!(
        scene.both[0].opened(),
        [format!("ssh {A}")],
        "nobody is left to run it"
    );
}

fn lives(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

/// 9: a door of one UDP port runs its command for every packet.
#[test]
fn a_single_port_runs_its_command_once_a_lease() {
    let net = Net::new(1);
    let doors = format!(
        "[wake]\nSequence = 7000:udp\nCommand = echo wake >> {DIR}/ran\n\
         Cmd_Timeout = 3600\nStop_Command = true\n\
         [mark]\nSequence = {MARK}:udp\nCommand = echo mark >> {DIR}/ran\n"
    );
    let scene = Scene::new(&net, &doors);
    for _ in 0..50 {
        scene.wire.hit(A, net.server.v4, datagram(7000));
    }
    scene.heard();
    scene.both[0].wait_opened("wake", 50);
    scene.both[1].wait_opened("mark", 1);
    assert_eq!(
        scene.both[1]
            .opened()
            .iter()
            .filter(|l| *l == "wake")
            .count(),
        1
    );
}

/// 10: `nmap -sS -r -p 6990-9010`.
#[test]
fn a_port_scan_is_no_knock() {
    let net = Net::new(1);
    let scene = Scene::new(&net, &doors());
    scene.knock(A, &(6990..=9010).collect::<Vec<u16>>());
    assert_eq!(scene.opened(A), [true, false]);
}

/// 11: IPv6 packets with an extension header.
#[test]
fn extension_headers_are_read() {
    let net = Net::new(1);
    let scene = Scene::new(&net, &doors());
    let (from, to) = (net.client().v6.into(), net.server.v6.into());
    for port in [7000, 8000, 9000] {
        scene.wire.send(&[], &tcp(from, to, port, SYN, 1));
    }
    assert_eq!(scene.opened(from), OURS);
}
