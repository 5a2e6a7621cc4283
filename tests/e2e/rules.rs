//! The packet filter under other hands.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::harness::{Daemon, Net, Service, until};
use crate::{STEPS, ssh};

/// The log's lines on what was found in the packet filter.
fn found(daemon: &Daemon) -> Vec<String> {
    let log = daemon.log();
    let all = log
        .lines()
        .filter_map(|l| l.split_once("posternd: firewall: "));
    all.map(|(_, what)| what.to_owned()).collect()
}

#[test]
fn flushed_rules_are_mended_by_and_by_and_said_once() {
    let net = Net::new(2);
    let _service = Service::start(&net.server, &[22]);
    let daemon = Daemon::start(&net.server, &[ssh("1h")]);
    let server = net.server.v4;
    let [client, other] = &net.clients[..] else {
        panic!()
    };
    client.knock(server, &STEPS);
    let before = daemon.wait_lease("ssh", client.v4);
    let mut session = client.session(server, 22).unwrap();
    session.echo();

    net.server.run("nft flush ruleset");
    assert!(other.reaches(server, 22), "it is gone");
    until("the guard stands again", || {
        other.connect(server, 22).is_silence()
    });
    assert!(client.reaches(server, 22));
    session.echo();
    let lease = daemon.lease("ssh", client.v4).unwrap();
    assert_eq!(lease.until, before.until);
    let said = || -> Vec<String> {
        let log = daemon.log();
        let all = log
            .lines()
            .filter_map(|l| l.split_once("posternd: firewall: "));
        all.map(|(_, what)| what.to_owned()).collect()
    };
    until("it is said", || !said().is_empty());
    let said = said();
    let different: BTreeSet<&String> = said.iter().collect();
    assert_eq!(said.len(), different.len(), "once: {said:?}");
    assert!(said[0].contains("table inet postern was gone"), "{said:?}");
}

#[test]
fn flushed_rules_are_mended_before_a_grant_is_acted_on() {
    let net = Net::new(2);
    let _service = Service::start(&net.server, &[22]);
    let daemon = Daemon::start(&net.server, &[ssh("1h")]);
    let [client, other] = &net.clients[..] else {
        panic!()
    };
    net.server.run("nft flush ruleset");
    client.knock(net.server.v4, &STEPS);
    daemon.wait_lease("ssh", client.v4);
    assert!(other.connect(net.server.v4, 22).is_silence());
    assert!(client.reaches(net.server.v4, 22));
}

#[test]
fn rules_of_others_are_left_alone() {
    let net = Net::new(1);
    let mut daemon = Daemon::prepare(&net.server, &[ssh("1h")]);
    net.server.nft(&[
        "add table inet filter",
        "add set inet filter postern { type ipv4_addr; elements = { 192.0.2.1 } }",
        "add chain inet filter input { type filter hook input priority 0; }",
        "add rule inet filter input tcp dport 99 counter drop",
    ]);
    let theirs = || net.server.run("nft list table inet filter");
    let before = theirs();
    daemon.run();
    net.client().knock(net.server.v4, &STEPS);
    daemon.wait_lease("ssh", net.client().v4);
    daemon.reload();
    net.server.run("nft delete table inet postern");
    net.client().knock(net.server.v4, &STEPS);
    daemon.wait_log("firewall: ");
    daemon.configure(&[crate::harness::Door::opens("web", "443/tcp", "1h").to(&STEPS)]);
    daemon.reload();
    assert!(daemon.stop().success());
    assert_eq!(theirs(), before);
}

#[test]
fn what_others_put_into_our_table_is_reported_and_left_alone() {
    let net = Net::new(1);
    let daemon = Daemon::start(&net.server, &[ssh("1h")]);
    net.server.nft(&[
        "add chain inet postern theirs { type filter hook input priority 10; }",
        "add rule inet postern theirs tcp dport 99 drop",
    ]);
    net.client().knock(net.server.v4, &STEPS);
    daemon.wait_lease("ssh", net.client().v4);
    daemon.wait_log("not ours: left alone");
    daemon.reload();
    let table = net.server.run("nft list table inet postern");
    assert!(table.contains("tcp dport 99 drop"), "{table}");
}

#[test]
fn an_element_taken_away_is_put_back_and_a_guard_too() {
    let net = Net::new(2);
    let _service = Service::start(&net.server, &[22]);
    let daemon = Daemon::start(&net.server, &[ssh("1h")]);
    let server = net.server.v4;
    let [client, other] = &net.clients[..] else {
        panic!()
    };
    client.knock(server, &STEPS);
    daemon.wait_lease("ssh", client.v4);
    net.server.run(&format!(
        "nft delete element inet postern ssh_4 {{ {} }}",
        client.v4
    ));
    assert!(client.connect(server, 22).is_silence());
    until("it is back", || client.connect(server, 22).is_open());
    net.server.run("nft flush chain inet postern input");
    assert!(other.reaches(server, 22));
    until("the guard is back", || {
        other.connect(server, 22).is_silence()
    });
    assert!(client.reaches(server, 22));
}

#[test]
fn a_guard_stands_while_the_daemon_is_dead() {
    let net = Net::new(1);
    let _service = Service::start(&net.server, &[22]);
    let mut daemon = Daemon::start(&net.server, &[ssh("1h")]);
    assert!(daemon.stop().success());
    assert!(net.client().connect(net.server.v4, 22).is_silence());
    daemon.run();
    daemon.kill();
    assert!(net.client().connect(net.server.v4, 22).is_silence());
}

#[test]
fn without_a_packet_filter_it_does_not_start() {
    let net = Net::new(0);
    let mut daemon = Daemon::prepare(&net.server, &[ssh("1h")]);
    // A table of our name that is none of ours in its way: a family that cannot hold it.
    net.server.nft(&[
        "add table inet postern",
        "add chain inet postern input { type filter hook forward priority 0; }",
        "add rule inet postern input tcp dport 99 drop",
    ]);
    daemon.spawn();
    assert_eq!(daemon.wait().code(), Some(69));
    assert!(
        daemon.read("stderr").contains("postern"),
        "{}",
        daemon.read("stderr")
    );
}

/// By whatever way it goes: it is put back, the session runs through it, one line a thing is said.
#[test]
fn whatever_is_taken_away_is_put_back() {
    let net = Net::new(2);
    let _service = Service::start(&net.server, &[22]);
    let daemon = Daemon::start(&net.server, &[ssh("1h")]);
    let server = net.server.v4;
    let [client, other] = &net.clients[..] else {
        panic!()
    };
    client.knock(server, &STEPS);
    let before = daemon.wait_lease("ssh", client.v4);
    let mut session = client.session(server, 22).unwrap();
    let rules = || net.server.run("nft list chain inet postern input");
    let stood = rules();
    // The last rule of the chain is the guard.
    let guard = || {
        let all = net.server.run("nft -a list chain inet postern input");
        let last = all
            .lines()
            .rfind(|l| l.contains("drop"))
            .unwrap()
            .to_owned();
        last.rsplit(' ').next().unwrap().to_owned()
    };
    let ways: [&dyn Fn(); 4] = [
        &|| drop(net.server.run("nft delete table inet postern")),
        &|| {
            drop(net.server.run(&format!(
                "nft delete rule inet postern input handle {}",
                guard()
            )))
        },
        &|| drop(net.server.run("nft delete chain inet postern input")),
        &|| drop(net.server.run("nft flush set inet postern ssh_4")),
    ];
    for (n, way) in ways.iter().enumerate() {
        let said = found(&daemon).len();
        way();
        until(&format!("all stands as it stood, {n}"), || {
            found(&daemon).len() > said && rules() == stood
        });
        session.echo();
        assert!(other.connect(server, 22).is_silence());
        assert!(client.reaches(server, 22));
        let said = found(&daemon).split_off(said);
        let different: BTreeSet<&String> = said.iter().collect();
        assert_eq!(said.len(), different.len(), "once: {said:?}");
    }
    assert_eq!(daemon.lease("ssh", client.v4).unwrap().until, before.until);
}

/// Flushed all the time, while others knock: each gets in, a session runs on, and the log does
/// not tell of it each time.
#[test]
fn knocks_open_and_sessions_run_on_while_somebody_flushes() {
    let net = Net::new(3);
    let _service = Service::start(&net.server, &[22]);
    let daemon = Daemon::start(&net.server, &[ssh("1h")]);
    let server = net.server.v4;
    let [talker, client, other] = &net.clients[..] else {
        panic!()
    };
    talker.knock(server, &STEPS);
    daemon.wait_lease("ssh", talker.v4);
    let mut session = talker.session(server, 22).unwrap();
    let sources: Vec<IpAddr> = (20..120).map(|n| [10, 66, 0, n].into()).collect();
    for source in &sources {
        client.address("add", &format!("{source}/24"), "eth0");
    }
    let done = AtomicBool::new(false);
    let flushes = thread::scope(|scope| {
        let flushing = scope.spawn(|| {
            let mut flushes = 0;
            // Also over two of the checks that come every ten seconds.
            while !done.load(Ordering::Relaxed) {
                net.server.run("nft flush ruleset");
                flushes += 1;
                thread::sleep(Duration::from_millis(50));
            }
            flushes
        });
        for source in &sources {
            client.knock_from(Some(*source), server, &STEPS);
            session.echo();
        }
        until("all are heard", || {
            daemon.granted("ssh") as usize > sources.len()
        });
        until("it has been looked at", || !found(&daemon).is_empty());
        // The next look comes after ten seconds, and finds the same.
        for _ in 0..22 {
            thread::sleep(Duration::from_millis(500));
            session.echo();
        }
        done.store(true, Ordering::Relaxed);
        flushing.join().unwrap()
    });
    until("all are let in at last", || {
        let elements = net.server.run("nft list ruleset");
        other.connect(server, 22).is_silence()
            && sources.iter().all(|a| elements.contains(&a.to_string()))
    });
    session.echo();
    let said = found(&daemon);
    println!("{flushes} flushes: {said:?}");
    assert!(said.len() < 10, "{said:?}");
}
