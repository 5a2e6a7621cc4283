//! Which knocks open, and which do not.

use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::Duration;

use crate::harness::raw::{ACK, FIN, SYN, Sender, tcp};
use crate::harness::{Daemon, Door, Host, Net, hit, until};
use crate::{OTHER, STEPS, ssh};

/// TCP steps only, for packets made by hand.
const TCP: [&str; 4] = ["7143", "41002", "39001", "16044"];

/// After a knock by `witness`, which is heard after all that was sent before: who is let in.
fn let_in(daemon: &Daemon, net: &Net, witness: &Host, door: &str, steps: &[&str]) -> Vec<IpAddr> {
    until("the witness is let in", || {
        witness.knock(net.server.v4, steps);
        daemon.lease(door, witness.v4).is_some()
    });
    let mut all: Vec<IpAddr> = daemon.leases().iter().map(|l| l.address).collect();
    all.retain(|a| *a != witness.v4);
    all.sort();
    all
}

#[test]
fn a_wrong_order_opens_nothing() {
    let net = Net::new(2);
    let daemon = Daemon::start(&net.server, &[ssh("30s")]);
    let [client, witness] = &net.clients[..] else {
        panic!()
    };
    let [a, b, c, d] = STEPS;
    let wrong = [
        &[a, c, b, d][..],
        &[d, c, b, a],
        &[b, a, c, d],
        &[a, b, c],
        &[b, c, d],
        &[a, b, d, c, d],
        &[a, d, b, c, d],
        &[a, "2912", c, d],
        &["7143/udp", b, c, d],
    ];
    let sources = (100..).map(|n| Ipv4Addr::new(10, 66, 0, n));
    let knocks: Vec<_> = sources.zip(wrong).collect();
    for (source, steps) in &knocks {
        client.address("add", &format!("{source}/24"), "eth0");
        client.knock_from(Some((*source).into()), net.server.v4, steps);
    }
    assert!(let_in(&daemon, &net, witness, "ssh", &STEPS).is_empty());
    // None of that stands in the way of the right one.
    for (source, _) in knocks {
        client.knock_from(Some(source.into()), net.server.v4, &STEPS);
        daemon.wait_lease("ssh", source);
    }
}

#[test]
fn a_knock_that_takes_too_long_opens_nothing() {
    let net = Net::new(2);
    let mut daemon = Daemon::prepare(&net.server, &[ssh("30s").but("seq_timeout = \"1s\"")]);
    daemon.argue("--verbose");
    daemon.run();
    let [client, witness] = &net.clients[..] else {
        panic!()
    };
    for step in STEPS {
        client.knock(net.server.v4, &[step]);
        thread::sleep(Duration::from_millis(400));
    }
    daemon.wait_log(&format!("ssh: {}: timeout after stage 3", client.v4));
    assert!(let_in(&daemon, &net, witness, "ssh", &STEPS).is_empty());
    client.knock(net.server.v4, &STEPS);
    daemon.wait_lease("ssh", client.v4);
}

#[test]
fn only_the_wanted_flags_are_a_step() {
    let net = Net::new(3);
    let opens = |name, port| Door::opens(name, port, "30s");
    let doors = [
        opens("ssh", "22/tcp").to(&TCP),
        opens("fins", "23/tcp")
            .to(&["8351", "51207", "52110", "30477"])
            .but("tcpflags = [\"fin\", \"!syn\"]"),
    ];
    let daemon = Daemon::start(&net.server, &doors);
    let [client, other, witness] = &net.clients[..] else {
        panic!()
    };
    let to = net.server.v4.into();
    let send = |host: &Host, steps: &[&str], flags| {
        let from = host.v4.into();
        host.inside(|| {
            let sender = Sender::new(false);
            for step in steps {
                sender.send(to, &tcp(from, to, step.parse().unwrap(), flags, 0));
            }
        });
    };
    for flags in [0, ACK, FIN, SYN | ACK, SYN | FIN, FIN | ACK] {
        send(client, &TCP, flags);
    }
    send(other, &["8351", "51207", "52110", "30477"], FIN);
    daemon.wait_lease("fins", other.v4);
    assert_eq!(
        let_in(&daemon, &net, witness, "ssh", &TCP),
        [IpAddr::from(other.v4)]
    );
}

/// knockd's fault 2.
#[test]
fn a_repeated_syn_of_an_earlier_step_does_no_harm() {
    let net = Net::new(2);
    let daemon = Daemon::start(&net.server, &[Door::opens("ssh", "22/tcp", "30s").to(&TCP)]);
    // Nobody answers these ports: the kernel repeats a SYN after one second.
    net.server.nft(&[
        "add table inet silent",
        "add chain inet silent c { type filter hook input priority 0; }",
        "add rule inet silent c tcp dport { 7143, 41002, 39001, 16044 } counter drop",
    ]);
    let [client, witness] = &net.clients[..] else {
        panic!()
    };
    client.inside(|| {
        let mut sockets = Vec::new();
        for step in TCP {
            sockets.push(hit(None, net.server.v4.into(), step));
            thread::sleep(Duration::from_millis(700));
        }
    });
    let dropped = net.server.run("nft list chain inet silent c");
    assert!(
        !dropped.contains("packets 4 "),
        "more than the steps: {dropped}"
    );
    let opened = let_in(&daemon, &net, witness, "ssh", &TCP);
    assert_eq!(opened, [IpAddr::from(client.v4)]);
}

#[test]
fn a_step_taken_already_does_no_harm() {
    let net = Net::new(1);
    let daemon = Daemon::start(&net.server, &[ssh("30s")]);
    let [a, b, c, d] = STEPS;
    net.client()
        .knock(net.server.v4, &[a, a, b, a, b, b, c, c, a, b, d]);
    daemon.wait_lease("ssh", net.client().v4);
}

/// knockd's fault 1.
#[test]
fn one_hosts_failed_attempt_leaves_the_others_theirs() {
    let net = Net::new(3);
    let daemon = Daemon::start(&net.server, &[ssh("30s")]);
    let [first, second, bad] = &net.clients[..] else {
        panic!()
    };
    let server = net.server.v4;
    first.knock(server, &STEPS[..2]);
    bad.knock(server, &[STEPS[0], STEPS[3]]);
    second.knock(server, &STEPS[..3]);
    bad.knock(server, &[STEPS[0], STEPS[2]]);
    first.knock(server, &STEPS[2..]);
    second.knock(server, &STEPS[3..]);
    daemon.wait_lease("ssh", first.v4);
    daemon.wait_lease("ssh", second.v4);
    assert_eq!(daemon.leases().len(), 2);
}

#[test]
fn hosts_that_knock_at_once_do_not_disturb_each_other() {
    let net = Net::new(3);
    let daemon = Daemon::start(&net.server, &[ssh("30s")]);
    for step in STEPS {
        for client in &net.clients {
            client.knock(net.server.v4, &[step]);
        }
    }
    for client in &net.clients {
        daemon.wait_lease("ssh", client.v4);
    }
}

#[test]
fn one_host_knocks_at_two_doors_at_once() {
    let net = Net::new(1);
    let doors = [ssh("30s"), Door::opens("web", "443/tcp", "30s").to(&OTHER)];
    let daemon = Daemon::start(&net.server, &doors);
    for (one, other) in STEPS.iter().zip(OTHER) {
        net.client().knock(net.server.v4, &[one, other]);
    }
    daemon.wait_lease("ssh", net.client().v4);
    daemon.wait_lease("web", net.client().v4);
}

#[test]
fn doors_that_share_a_beginning_open_one_by_one() {
    let net = Net::new(3);
    let opens = |name, port| Door::opens(name, port, "30s");
    let doors = [
        opens("short", "22/tcp").to(&["7143", "2912/udp"]),
        opens("long", "23/tcp").to(&["7143", "2912/udp", "39001"]),
        opens("other", "24/tcp").to(&["7143", "2912/udp", "16044"]),
    ];
    let daemon = Daemon::start(&net.server, &doors);
    let server = net.server.v4;
    let [a, b, c] = &net.clients[..] else {
        panic!()
    };
    a.knock(server, &["7143", "2912/udp"]);
    b.knock(server, &["7143", "2912/udp", "39001"]);
    c.knock(server, &["7143", "2912/udp", "16044"]);
    daemon.wait_lease("short", a.v4);
    daemon.wait_lease("long", b.v4);
    daemon.wait_lease("other", c.v4);
    let mut all: Vec<_> = daemon
        .leases()
        .iter()
        .map(|l| (l.door.clone(), l.address))
        .collect();
    all.sort();
    let lease = |door: &str, host: &Host| (door.to_owned(), IpAddr::from(host.v4));
    assert_eq!(
        all,
        [
            lease("long", b),
            lease("other", c),
            lease("short", a),
            lease("short", b),
            lease("short", c)
        ]
    );
}

#[test]
fn a_door_with_two_knocks_opens_to_either() {
    let net = Net::new(2);
    let daemon = Daemon::start(&net.server, &[ssh("30s").to(&OTHER)]);
    net.clients[0].knock(net.server.v4, &STEPS);
    net.clients[1].knock(net.server.v4, &OTHER);
    for client in &net.clients {
        daemon.wait_lease("ssh", client.v4);
    }
}

#[test]
fn a_target_is_the_only_address_that_hears() {
    let net = Net::new(2);
    net.server.address("add", "10.66.0.2/24", "eth0");
    let daemon = Daemon::start(&net.server, &[ssh("30s").but("target = \"10.66.0.2\"")]);
    let [client, other] = &net.clients[..] else {
        panic!()
    };
    other.knock(net.server.v4, &STEPS);
    client.knock([10, 66, 0, 2], &STEPS);
    daemon.wait_lease("ssh", client.v4);
    assert_eq!(daemon.leases().len(), 1);
}
