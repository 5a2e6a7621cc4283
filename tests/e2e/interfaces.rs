//! Interfaces and addresses that come and go.

use crate::harness::raw::hardware;
use crate::harness::{Daemon, Net, Service, until};
use crate::{STEPS, ssh};

/// knockd's fault 6: there it exits.
#[test]
fn an_interface_that_goes_and_comes_back_is_heard_again() {
    let net = Net::new(1);
    let _service = Service::start(&net.server, &[22]);
    let daemon = Daemon::start(&net.server, &[ssh("1h")]);
    let (client, server) = (net.client(), &net.server);
    for _ in 0..2 {
        server.run("ip link del eth0");
        until("it is missed", || !daemon.listens());
        net.plug(server, "eth0");
        server.address("add", &format!("{}/24", server.v4), "eth0");
        until("it is heard again", || daemon.listens());
        client.run("ip neigh flush all");
        client.knock(server.v4, &STEPS);
        daemon.wait_lease("ssh", client.v4);
        assert!(client.reaches(server.v4, 22));
        daemon.ctl(&["close", &client.v4.to_string()]);
        until("it is closed", || {
            client.connect(server.v4, 22).is_silence()
        });
    }
    daemon.wait_log("eth0: went away; waiting for it");
}

#[test]
fn an_interface_that_goes_down_and_up_is_heard_again() {
    let net = Net::new(1);
    let daemon = Daemon::start(&net.server, &[ssh("1h")]);
    let (client, server) = (net.client(), &net.server);
    server.run("ip link set eth0 down");
    server.run("ip link set eth0 up");
    until("it is heard", || {
        client.knock(server.v4, &STEPS);
        daemon.listens() && daemon.lease("ssh", client.v4).is_some()
    });
}

#[test]
fn an_interface_missing_at_the_start_is_waited_for() {
    let net = Net::new(1);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    daemon.set("interface", "[\"late0\"]");
    daemon.configure(&[ssh("1h")]);
    daemon.spawn();
    until("it runs", || {
        daemon.status().is_some_and(|s| s["listener"].is_u64())
    });
    daemon.wait_log("late0: no such interface");
    assert!(!daemon.listens());
    let (client, server) = (net.client(), &net.server);
    server.address("del", &format!("{}/24", server.v4), "eth0");
    net.plug(server, "late0");
    server.address("add", &format!("{}/24", server.v4), "late0");
    until("it is heard", || daemon.listens());
    client.knock(server.v4, &STEPS);
    daemon.wait_lease("ssh", client.v4);
    assert_eq!(
        daemon.log().matches("late0: no such interface").count(),
        1,
        "said once"
    );
}

/// knockd's fault 6: there it goes deaf.
#[test]
fn addresses_are_followed_as_they_change() {
    let net = Net::new(3);
    let daemon = Daemon::start(&net.server, &[ssh("1h")]);
    let server = &net.server;
    let [a, b, c] = &net.clients[..] else {
        panic!()
    };
    a.knock(server.v4, &STEPS);
    daemon.wait_lease("ssh", a.v4);

    server.address("del", &format!("{}/24", server.v4), "eth0");
    server.address("add", "10.66.0.2/24", "eth0");
    until("the new one is heard", || {
        b.knock([10, 66, 0, 2], &STEPS);
        daemon.lease("ssh", b.v4).is_some()
    });
    // What is still sent to the old one arrives, and is nothing to us.
    let mac = hardware(server, "eth0")
        .map(|b| format!("{b:02x}"))
        .join(":");
    c.run(&format!(
        "ip neigh replace {} lladdr {mac} dev eth0 nud permanent",
        server.v4
    ));
    c.knock(server.v4, &STEPS);
    let granted = daemon.granted("ssh");
    until("what came later was heard", || {
        b.knock([10, 66, 0, 2], &STEPS);
        daemon.granted("ssh") > granted
    });
    assert!(daemon.lease("ssh", c.v4).is_none());

    server.address("add", &format!("{}/24", server.v4), "eth0");
    until("the old one is heard again", || {
        c.knock(server.v4, &STEPS);
        daemon.lease("ssh", c.v4).is_some()
    });
}

/// knockd's fault 6.
#[test]
fn two_interfaces_are_heard_at_once() {
    let net = Net::new(2);
    let server = &net.server;
    net.plug(server, "eth1");
    server.run("sysctl -q net.ipv4.conf.all.arp_ignore=1");
    server.address("add", "10.67.0.1/24", "eth1");
    let mut daemon = Daemon::prepare(server, &[]);
    daemon.set("interface", "[\"eth0\", \"eth1\"]");
    daemon.configure(&[ssh("1h")]);
    daemon.run();
    let [a, b] = &net.clients[..] else { panic!() };
    b.address("add", "10.67.0.12/24", "eth0");
    a.knock(server.v4, &STEPS);
    b.knock([10, 67, 0, 1], &STEPS);
    daemon.wait_lease("ssh", a.v4);
    daemon.wait_lease("ssh", [10, 67, 0, 12]);
    assert_eq!(daemon.leases().len(), 2);
    // One of them goes, the other is heard on.
    server.run("ip link del eth1");
    until("it is missed", || !daemon.listens());
    b.knock(server.v4, &STEPS);
    daemon.wait_lease("ssh", b.v4);
}

#[test]
fn the_command_lines_interface_is_heard_instead() {
    let net = Net::new(1);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    daemon.set("interface", "\"nosuch0\"");
    daemon.configure(&[ssh("1h")]);
    daemon.argue("-i");
    daemon.argue("eth0");
    daemon.run();
    net.client().knock(net.server.v4, &STEPS);
    daemon.wait_lease("ssh", net.client().v4);
    daemon.reload();
    assert!(daemon.listens(), "also after a reload");
}

#[test]
fn packets_to_others_are_no_knock() {
    let net = Net::new(2);
    let daemon = Daemon::start(&net.server, &[ssh("1h")]);
    let [a, b] = &net.clients[..] else { panic!() };
    // They come by us, on their way elsewhere.
    let mac = hardware(&net.server, "eth0")
        .map(|b| format!("{b:02x}"))
        .join(":");
    a.run(&format!(
        "ip neigh replace 10.66.0.99 lladdr {mac} dev eth0 nud permanent"
    ));
    a.knock([10, 66, 0, 99], &STEPS);
    // Nor is what we send ourselves.
    net.server.knock(b.v4, &STEPS);
    b.knock(net.server.v4, &STEPS);
    daemon.wait_lease("ssh", b.v4);
    assert_eq!(daemon.leases().len(), 1);
}

#[test]
fn all_interfaces_at_once_are_heard() {
    let net = Net::new(2);
    let _service = Service::start(&net.server, &[22]);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    daemon.set("interface", "\"any\"");
    daemon.configure(&[ssh("1h")]);
    daemon.run();
    let [client, other] = &net.clients[..] else {
        panic!()
    };
    for to in [net.server.v4.into(), std::net::IpAddr::from(net.server.v6)] {
        client.knock(to, &STEPS);
        until("it is let in", || client.connect(to, 22).is_open());
        assert!(other.connect(to, 22).is_silence());
    }
}

#[test]
fn an_interface_that_is_down_at_the_start_is_waited_for() {
    let net = Net::new(1);
    net.server.run("ip link set eth0 down");
    let mut daemon = Daemon::prepare(&net.server, &[ssh("1h")]);
    daemon.spawn();
    daemon.wait_log("eth0: the interface is down");
    net.server.run("ip link set eth0 up");
    until("it is heard", || daemon.listens());
    net.client().knock(net.server.v4, &STEPS);
    daemon.wait_lease("ssh", net.client().v4);
}
