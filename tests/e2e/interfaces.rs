//! Interfaces and addresses that come and go.

use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use crate::harness::raw::{Tun, hardware, tcp, udp};
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
        let back = Instant::now();
        until("it is heard again", || daemon.listens());
        println!("heard {:?} after its return", back.elapsed());
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

/// A knock with STEPS, packet by packet, from 10.66.0.77 to an interface without link headers.
fn knock_by(tun: &mut Tun, to: Ipv4Addr) {
    let from = IpAddr::from([10, 66, 0, 77]);
    for step in STEPS {
        tun.send(&match step.split_once('/') {
            Some((port, _)) => udp(from, to.into(), port.parse().unwrap()),
            None => tcp(from, to.into(), step.parse().unwrap(), 0x02, 0),
        });
    }
}

#[test]
fn another_kind_of_interface_of_the_same_name_is_heard() {
    const ARPHRD_IEEE80211: u64 = 801;
    let net = Net::new(1);
    let daemon = Daemon::start(&net.server, &[ssh("1h")]);
    let (client, server) = (net.client(), &net.server);
    let own = format!("{}/24", server.v4);
    for round in 0..2 {
        server.run("ip link del eth0");
        let mut tun = server.inside(|| Tun::new("eth0"));
        server.address("add", &own, "eth0");
        server.run("ip link set eth0 up");
        until("the tunnel is heard", || {
            knock_by(&mut tun, server.v4);
            daemon.lease("ssh", [10, 66, 0, 77]).is_some()
        });
        daemon.ctl(&["close", "10.66.0.77"]);

        // One that cannot be read.
        server.run("ip link set eth0 down");
        tun.set_type(ARPHRD_IEEE80211);
        server.run("ip link set eth0 up");
        daemon.reload();
        until("it is missed", || !daemon.listens());
        drop(tun);
        until("the tunnel is gone", || {
            !server.run("ip -o link").contains("eth0")
        });
        net.plug(server, "eth0");
        server.address("add", &own, "eth0");
        client.run("ip neigh flush all");
        until("Ethernet is heard again", || {
            client.knock(server.v4, &STEPS);
            daemon.listens() && daemon.lease("ssh", client.v4).is_some()
        });
        daemon.ctl(&["close", &client.v4.to_string()]);
        let said = "eth0: link type IEEE802_11 is not supported";
        assert_eq!(daemon.log().matches(said).count(), round + 1);
    }
}

/// Whoever captures it notices nothing.
#[test]
fn an_interface_that_is_renamed_is_gone() {
    let net = Net::new(2);
    let daemon = Daemon::start(&net.server, &[ssh("1h")]);
    let server = &net.server;
    let [a, b] = &net.clients[..] else { panic!() };
    server.run("ip link set eth0 down");
    server.run("ip link set eth0 name other0");
    server.run("ip link set other0 up");
    until("it is missed", || !daemon.listens());
    daemon.wait_log("eth0: went away");
    a.knock(server.v4, &STEPS);
    net.plug(server, "eth0");
    server.address("del", &format!("{}/24", server.v4), "other0");
    server.address("add", &format!("{}/24", server.v4), "eth0");
    until("the new one is heard", || daemon.listens());
    b.run("ip neigh flush all");
    b.knock(server.v4, &STEPS);
    daemon.wait_lease("ssh", b.v4);
    assert!(daemon.lease("ssh", a.v4).is_none());

    // Back: another has its name by now.
    server.run("ip link set eth0 down");
    server.run("ip link set eth0 name third0");
    server.run("ip link set other0 down");
    server.run("ip link set other0 name eth0");
    server.run("ip link set eth0 up");
    server.address("add", "10.66.0.5/24", "eth0");
    a.run("ip neigh flush all");
    until("the first is heard again", || {
        a.knock([10, 66, 0, 5], &STEPS);
        daemon.listens() && daemon.lease("ssh", a.v4).is_some()
    });
}

#[test]
fn a_bridge_is_heard_while_its_ports_come_and_go() {
    let net = Net::new(1);
    let _service = Service::start(&net.server, &[22]);
    let (client, server) = (net.client(), &net.server);
    let mut daemon = Daemon::prepare(server, &[]);
    daemon.set("interface", "\"br0\"");
    daemon.configure(&[ssh("1h")]);
    daemon.spawn();
    daemon.wait_log("br0: no such interface");
    server.run("ip link add br0 type bridge forward_delay 0 mcast_snooping 0");
    server.run("ip link set br0 up");
    server.run("ip link set eth0 master br0");
    server.address("del", &format!("{}/24", server.v4), "eth0");
    server.address("add", &format!("{}/24", server.v4), "br0");
    until("it is heard", || daemon.listens());
    for _ in 0..2 {
        client.run("ip neigh flush all");
        client.knock(server.v4, &STEPS);
        daemon.wait_lease("ssh", client.v4);
        assert!(client.reaches(server.v4, 22));
        daemon.ctl(&["close", &client.v4.to_string()]);
        assert!(client.connect(server.v4, 22).is_silence());
        server.run("ip link del eth0");
        net.plug(server, "eth0");
        server.run("ip link set eth0 master br0");
        assert!(daemon.listens());
    }
}

/// Duplicate address detection takes a second; until then nobody reaches it (RFC 4862, 5.4).
#[test]
fn an_ipv6_address_that_comes_late_is_heard() {
    let net = Net::new(1);
    let daemon = Daemon::start(&net.server, &[ssh("1h")]);
    let client = net.client();
    net.server.run("ip addr add fd66::99/64 dev eth0");
    let to: IpAddr = "fd66::99".parse().unwrap();
    until("it is heard", || {
        client.knock(to, &STEPS);
        daemon.lease("ssh", client.v6).is_some()
    });
}

/// Word of them comes faster than it is read, and more of it than there is room for.
#[test]
fn a_thousand_addresses_at_once_are_followed() {
    let net = Net::new(2);
    let daemon = Daemon::start(&net.server, &[ssh("1h")]);
    let [a, b] = &net.clients[..] else { panic!() };
    let server = &net.server;
    let all = |verb: &str| {
        let of = |n: u32| Ipv4Addr::from_bits(0x0a42_1000 + n);
        let lines = (1..=1000).map(|n| format!("addr {verb} {}/32 dev eth0\n", of(n)));
        let text: String = lines.collect();
        let file = daemon.write("batch", &text);
        server.run(&format!("ip -batch {}", file.display()));
    };
    // The monitor sleeps: the kernel drops word of most.
    kill(daemon.monitor(), Signal::SIGSTOP).unwrap();
    all("add");
    kill(daemon.monitor(), Signal::SIGCONT).unwrap();
    a.run("ip route add 10.66.16.0/20 dev eth0");
    b.run("ip route add 10.66.16.0/20 dev eth0");
    until("the last one is heard", || {
        a.knock([10, 66, 0x13, 0xe8], &STEPS);
        daemon.lease("ssh", a.v4).is_some()
    });
    // Again, the monitor awake.
    all("del");
    all("add");
    b.knock([10, 66, 0x13, 0xe8], &STEPS);
    until("all is followed", || {
        b.knock([10, 66, 0x13, 0xe8], &STEPS);
        daemon.lease("ssh", b.v4).is_some()
    });
}

#[test]
fn many_interfaces_that_come_and_go_at_once_are_heard_again() {
    const MANY: u8 = 12;
    let net = Net::new(1);
    let (client, server) = (net.client(), &net.server);
    server.run("sysctl -q net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.default.rp_filter=0");
    let plug = |n: u8| {
        net.plug(server, &format!("e{n}"));
        server.address("add", &format!("10.67.{n}.1/24"), &format!("e{n}"));
    };
    (0..MANY).for_each(plug);
    for n in 0..MANY {
        client.address("add", &format!("10.67.{n}.2/24"), "eth0");
    }
    let names: Vec<String> = (0..MANY).map(|n| format!("\"e{n}\"")).collect();
    let mut daemon = Daemon::prepare(server, &[]);
    daemon.set("interface", &format!("[{}]", names.join(", ")));
    daemon.configure(&[ssh("1h")]);
    daemon.run();
    let generation = || daemon.status().unwrap()["generation"].as_u64().unwrap();
    let before = generation();
    for _ in 0..3 {
        for n in 0..MANY {
            server.run(&format!("ip link del e{n}"));
            thread::sleep(Duration::from_millis(10));
            plug(n);
        }
    }
    let back = Instant::now();
    until("all are heard again", || daemon.listens());
    println!(
        "all heard {:?} after the last one's return, by the {}th listener since",
        back.elapsed(),
        generation() - before
    );
    client.run("ip neigh flush all");
    for n in 0..MANY {
        let from = IpAddr::from([10, 67, n, 2]);
        client.knock_from(Some(from), [10, 67, n, 1], &STEPS);
        daemon.wait_lease("ssh", from);
    }
    assert_eq!(
        daemon.status().unwrap()["restarts"],
        0,
        "none has died of it"
    );
}
