//! What survives kill -9.

use std::thread;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Daemon, Door, Host, Net, Service, is_posternd, until};
use crate::{OTHER, STEPS, ssh};

/// Ends are told in whole seconds of the wall clock, rounded: the same end may be told with one
/// second's difference.
fn same(a: Timestamp, b: Timestamp) -> bool {
    a.duration_since(b).abs() <= SignedDuration::from_secs(1)
}

/// Two leases with ends of their own: one an hour from now, one a few seconds.
struct Two<'n> {
    net: &'n Net,
    daemon: Daemon<'n>,
    long: (&'n Host, Timestamp),
    short: (&'n Host, Timestamp),
}

impl<'n> Two<'n> {
    fn granted(net: &'n Net) -> Two<'n> {
        let doors = [ssh("1h"), Door::opens("soon", "23/tcp", "6s").to(&OTHER)];
        let daemon = Daemon::start(&net.server, &doors);
        let [a, b, _] = &net.clients[..] else {
            panic!("three clients")
        };
        a.knock(net.server.v4, &STEPS);
        b.knock(net.server.v4, &OTHER);
        let long = (a, daemon.wait_lease("ssh", a.v4).until);
        let short = (b, daemon.wait_lease("soon", b.v4).until);
        Two {
            net,
            daemon,
            long,
            short,
        }
    }

    /// In the packet filter, with or without a daemon.
    fn stand(&self, short_too: bool) {
        let (server, other) = (self.net.server.v4, &self.net.clients[2]);
        assert!(self.long.0.reaches(server, 22));
        if short_too {
            assert!(self.short.0.reaches(server, 23));
        }
        assert!(other.connect(server, 22).is_silence());
        assert!(other.connect(server, 23).is_silence());
    }

    /// As they were granted, to the second; then the short one ends and the long one stays.
    fn go_on(&self) {
        let daemon = &self.daemon;
        let leases = daemon.leases();
        let find = |door: &str| leases.iter().find(|l| l.door == door);
        let long = find("ssh").expect("the long lease");
        assert!(same(long.until, self.long.1), "{long:?}");
        if let Some(short) = find("soon") {
            assert!(same(short.until, self.short.1), "{short:?}");
        } else {
            assert!(Timestamp::now() >= self.short.1 - SignedDuration::from_secs(1));
        }
        until("the short one ends", || {
            self.short.0.connect(self.net.server.v4, 23).is_silence()
        });
        until("and its lease with it", || daemon.leases().len() == 1);
        assert!(Timestamp::now() >= self.short.1 - SignedDuration::from_secs(1));
        self.stand(false);
    }
}

#[test]
fn leases_go_on_after_the_monitor_is_killed() {
    let net = Net::new(3);
    let _service = Service::start(&net.server, &[22, 23]);
    let mut two = Two::granted(&net);
    two.daemon.kill();
    two.stand(true);
    two.daemon.run();
    two.go_on();
}

#[test]
fn leases_go_on_after_the_listener_is_killed() {
    let net = Net::new(3);
    let _service = Service::start(&net.server, &[22, 23]);
    let two = Two::granted(&net);
    let before = two.daemon.listener();
    kill(before, Signal::SIGKILL).unwrap();
    until("there is another", || {
        two.daemon.listens() && two.daemon.listener() != before
    });
    let status = two.daemon.status().unwrap();
    assert_eq!(status["restarts"], 1);
    // A busy system closes its socket some time before it tells of its end.
    let why = status["last_restart"]["why"].as_str().unwrap();
    assert!(
        ["killed by SIGKILL", "it closed its socket"].contains(&why),
        "{why}"
    );
    two.stand(true);
    // It hears.
    let third = &net.clients[2];
    third.knock(net.server.v4, &STEPS);
    two.daemon.wait_lease("ssh", third.v4);
    let closed = two.daemon.ctl(&["close", &third.v4.to_string()]);
    assert_eq!(closed.code(), 0, "{closed:?}");
    two.go_on();
}

#[test]
fn leases_go_on_after_both_are_killed() {
    let net = Net::new(3);
    let _service = Service::start(&net.server, &[22, 23]);
    let mut two = Two::granted(&net);
    kill(two.daemon.listener(), Signal::SIGKILL).unwrap();
    two.daemon.kill();
    two.stand(true);
    two.daemon.run();
    two.go_on();
}

#[test]
fn a_lease_ends_in_time_while_nobody_runs() {
    let net = Net::new(3);
    let _service = Service::start(&net.server, &[22, 23]);
    let mut two = Two::granted(&net);
    two.daemon.kill();
    let client = two.short.0;
    until("the packet filter ends it", || {
        client.connect(net.server.v4, 23).is_silence()
    });
    two.stand(false);
    two.daemon.run();
    two.go_on();
}

#[test]
fn killed_at_any_moment_what_opened_is_known_and_what_is_known_is_open() {
    let net = Net::new(1);
    let _service = Service::start(&net.server, &[22]);
    let mut daemon = Daemon::prepare(&net.server, &[ssh("1h")]);
    let (client, server) = (net.client(), net.server.v4);
    for n in 0..12u8 {
        daemon.run();
        let source = std::net::Ipv4Addr::new(10, 66, 0, 100 + n);
        client.address("add", &format!("{source}/24"), "eth0");
        client.knock_from(Some(source.into()), server, &STEPS);
        thread::sleep(Duration::from_millis(u64::from(n)));
        daemon.kill();
        let open = client
            .connect_from(Some(source.into()), server, 22)
            .is_open();
        daemon.run();
        let lease = daemon.lease("ssh", source);
        if open {
            assert!(lease.is_some(), "opened after {n} ms, then forgotten");
        }
        match lease {
            Some(_) => assert!(
                client.reaches_from(Some(source.into()), server, 22),
                "{n} ms"
            ),
            None => {
                let answer = client.connect_from(Some(source.into()), server, 22);
                assert!(answer.is_silence(), "{n} ms");
            }
        }
        daemon.kill();
    }
}

/// A command door whose start takes a while; both commands leave a note.
fn noted(daemon: &Daemon, pause: &str, cmd_timeout: &str) -> Door {
    let ran = daemon.path("ran").display().to_string();
    Door::starts(
        "wake",
        &format!("echo begun >> {ran}; sleep {pause}; echo start >> {ran}"),
    )
    .with(&format!("stop_command = 'echo stop %IP% >> {ran}'"))
    .with(&format!("cmd_timeout = \"{cmd_timeout}\""))
    .to(&STEPS)
}

#[test]
fn a_stop_command_owed_is_run_after_a_crash() {
    let net = Net::new(1);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    daemon.configure(&[noted(&daemon, "0", "3s")]);
    daemon.run();
    net.client().knock(net.server.v4, &STEPS);
    let lease = daemon.wait_lease("wake", net.client().v4);
    until("the start command is done", || {
        daemon.read("ran") == "begun\nstart\n"
    });
    daemon.kill();
    daemon.run();
    let stop = format!("stop {}\n", net.client().v4);
    until("it is run", || daemon.read("ran").contains(&stop));
    assert!(
        Timestamp::now() >= lease.until - SignedDuration::from_secs(1),
        "in its time"
    );
    until("the lease is over", || daemon.leases().is_empty());
}

#[test]
fn a_stop_command_overdue_is_run_at_once() {
    let net = Net::new(1);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    daemon.configure(&[noted(&daemon, "0", "1s")]);
    daemon.run();
    net.client().knock(net.server.v4, &STEPS);
    let lease = daemon.wait_lease("wake", net.client().v4);
    daemon.kill();
    until("it is overdue", || {
        Timestamp::now() > lease.until + SignedDuration::from_secs(1)
    });
    assert!(!daemon.read("ran").contains("stop"));
    daemon.run();
    until("it is run", || daemon.read("ran").contains("stop"));
    until("nothing is left", || daemon.leases().is_empty());
    daemon.kill();
    let ran = daemon.read("ran");
    daemon.run();
    assert_eq!(daemon.leases().len(), 0);
    assert_eq!(daemon.read("ran"), ran, "and not again");
}

#[test]
fn killed_while_a_start_command_runs_the_stop_command_follows() {
    let net = Net::new(1);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    daemon.configure(&[noted(&daemon, "1", "4s")]);
    daemon.run();
    net.client().knock(net.server.v4, &STEPS);
    until("the start command runs", || daemon.read("ran") == "begun\n");
    daemon.kill();
    daemon.run();
    until("it ran to its end", || {
        daemon.read("ran").contains("start\n")
    });
    until("the stop command has run", || {
        daemon.read("ran").contains("stop")
    });
    let ran = daemon.read("ran");
    assert!(
        ran.rfind("start").unwrap() < ran.find("stop").unwrap(),
        "{ran}"
    );
}

#[test]
fn a_stop_command_is_owed_also_by_a_door_that_is_gone() {
    let net = Net::new(1);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    daemon.configure(&[noted(&daemon, "0", "1h")]);
    daemon.run();
    net.client().knock(net.server.v4, &STEPS);
    daemon.wait_lease("wake", net.client().v4);
    daemon.kill();
    daemon.configure(&[Door::opens("web", "443/tcp", "1h").to(&OTHER)]);
    daemon.run();
    let stop = format!("stop {}\n", net.client().v4);
    until("it is run", || daemon.read("ran").ends_with(&stop));
}

#[test]
fn the_listener_leaves_with_its_monitor() {
    let net = Net::new(0);
    let mut daemon = Daemon::start(&net.server, &[ssh("1h")]);
    let listener: Pid = daemon.listener();
    assert!(is_posternd(listener.as_raw().into()));
    daemon.kill();
    until("it has left", || !is_posternd(listener.as_raw().into()));
}

#[test]
fn a_journal_cut_off_at_its_end_is_read_as_far_as_it_goes() {
    let net = Net::new(3);
    let _service = Service::start(&net.server, &[22, 23]);
    let mut two = Two::granted(&net);
    two.daemon.kill();
    let journal = two.daemon.path("state").join("journal");
    let mut bytes = std::fs::read(&journal).unwrap();
    bytes.extend_from_slice(b"half a li");
    std::fs::write(&journal, bytes).unwrap();
    two.daemon.run();
    two.go_on();
}
