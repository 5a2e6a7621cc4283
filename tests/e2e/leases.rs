//! Grants in force: one an address, extended, bounded.

use std::net::{IpAddr, Ipv4Addr};

use jiff::SignedDuration;

use crate::harness::{Daemon, Door, Net, Service, until};
use crate::{OTHER, STEPS, ssh};

/// knockd's fault 5.
#[test]
fn knocking_again_moves_the_end_of_the_one_lease() {
    let net = Net::new(1);
    let _service = Service::start(&net.server, &[22]);
    let daemon = Daemon::start(&net.server, &[ssh("3s")]);
    let (client, server) = (net.client(), net.server.v4);
    client.knock(server, &STEPS);
    let first = daemon.wait_lease("ssh", client.v4);
    let long_after = first.until + SignedDuration::from_secs(3);
    // Again and again, well past the end that it had at first.
    until("the end has moved", || {
        client.knock(server, &STEPS);
        let leases = daemon.leases();
        assert_eq!(leases.len(), 1, "{leases:?}");
        assert!(client.reaches(server, 22));
        leases[0].until > long_after
    });
    let rules = net.server.run("nft list ruleset");
    assert_eq!(
        rules.matches(&format!("{} ", client.v4)).count(),
        1,
        "{rules}"
    );
    daemon.wait_log(&format!("ssh: extended for {}", client.v4));
    assert_eq!(daemon.log().matches("ssh: open for").count(), 1);
    until("it closes", || client.connect(server, 22).is_silence());
    until("the lease is over", || daemon.leases().is_empty());
}

#[test]
fn at_max_leases_the_one_nearest_its_end_gives_way() {
    let net = Net::new(3);
    let _service = Service::start(&net.server, &[22]);
    let daemon = Daemon::start(&net.server, &[ssh("1h").with("max_leases = 2")]);
    let server = net.server.v4;
    let [a, b, c] = &net.clients[..] else {
        panic!()
    };
    a.knock(server, &STEPS);
    daemon.wait_lease("ssh", a.v4);
    b.knock(server, &STEPS);
    daemon.wait_lease("ssh", b.v4);
    // The first one's end is now the later one.
    let before = daemon.lease("ssh", a.v4).unwrap().until;
    until("the end has moved", || {
        a.knock(server, &STEPS);
        daemon.lease("ssh", a.v4).unwrap().until > before
    });
    let mut session = b.session(server, 22).unwrap();
    c.knock(server, &STEPS);
    daemon.wait_lease("ssh", c.v4);
    assert_eq!(daemon.leases().len(), 2);
    assert!(a.reaches(server, 22));
    assert!(c.reaches(server, 22));
    assert!(b.connect(server, 22).is_silence());
    session.echo();
    daemon.wait_log(&format!("ssh: closed for {}: gave way", b.v4));
    assert_eq!(daemon.status().unwrap()["doors"][0]["gave_way"], 1);
}

#[test]
fn so_many_connections_at_once_and_no_more() {
    let net = Net::new(3);
    let _service = Service::start(&net.server, &[22]);
    let server = net.server.v4;
    let [a, b, always] = &net.clients[..] else {
        panic!()
    };
    let doors = [ssh("1h").with("connections = 1")];
    let mut daemon = Daemon::prepare(&net.server, &doors);
    daemon.set("always", &format!("[\"{}\"]", always.v4));
    daemon.configure(&doors);
    daemon.run();
    for host in [a, b] {
        host.knock(server, &STEPS);
        daemon.wait_lease("ssh", host.v4);
    }
    let mut first = a.session(server, 22).unwrap();
    assert!(a.connect(server, 22).is_silence());
    let mut other = b.session(server, 22).unwrap();
    first.echo();
    other.echo();
    drop(first);
    until("there is room again", || a.connect(server, 22).is_open());
    // Whoever always passes is neither guarded against nor counted.
    let mut sessions = [always, always].map(|host| host.session(server, 22).unwrap());
    sessions.iter_mut().for_each(|session| session.echo());
}

#[test]
fn many_addresses_are_let_in_at_once() {
    let net = Net::new(1);
    let _service = Service::start(&net.server, &[22]);
    let daemon = Daemon::start(&net.server, &[ssh("1h")]);
    let (client, server) = (net.client(), net.server.v4);
    let sources: Vec<IpAddr> = (100..200)
        .map(|n| Ipv4Addr::new(10, 66, 0, n).into())
        .collect();
    for source in &sources {
        client.address("add", &format!("{source}/24"), "eth0");
    }
    for source in &sources {
        client.knock_from(Some(*source), server, &STEPS);
    }
    until("all are let in", || {
        daemon.leases().iter().filter(|l| l.in_force).count() == 100
    });
    for source in &sources {
        assert!(client.reaches_from(Some(*source), server, 22), "{source}");
    }
    assert!(client.connect(server, 22).is_silence());
}

#[test]
fn doors_that_open_one_port_share_its_guard() {
    let net = Net::new(2);
    let _service = Service::start(&net.server, &[22]);
    let doors = [ssh("1h"), Door::opens("guests", "22/tcp", "1s").to(&OTHER)];
    let daemon = Daemon::start(&net.server, &doors);
    let server = net.server.v4;
    let [client, guest] = &net.clients[..] else {
        panic!()
    };
    client.knock(server, &STEPS);
    client.knock(server, &OTHER);
    guest.knock(server, &OTHER);
    daemon.wait_lease("ssh", client.v4);
    daemon.wait_log(&format!("guests: open for {}", client.v4));
    until("the guest was let in and is no more", || {
        daemon
            .log()
            .contains(&format!("guests: open for {}", guest.v4))
            && guest.connect(server, 22).is_silence()
    });
    until("only the other door's lease is left", || {
        daemon.leases().len() == 1
    });
    assert!(client.reaches(server, 22));
}

#[test]
fn a_door_opens_all_its_ports() {
    let net = Net::new(2);
    let _service = Service::start(&net.server, &[22, 23]);
    let door = Door::opens("both", "22/tcp\", \"23/tcp\", \"5353/udp", "1h").to(&STEPS);
    let daemon = Daemon::start(&net.server, &[door]);
    let [client, other] = &net.clients[..] else {
        panic!()
    };
    let (server, udp) = (net.server.v4, Udp::listen(&net.server));
    client.knock(server, &STEPS);
    daemon.wait_lease("both", client.v4);
    for port in [22, 23] {
        assert!(client.reaches(server, port));
        assert!(other.connect(server, port).is_silence());
    }
    other.knock(server, &["5353/udp"]);
    client.knock(server, &["5353/udp"]);
    assert_eq!(
        udp.heard(),
        IpAddr::from(client.v4),
        "the other one's was dropped"
    );
}

/// A UDP service.
struct Udp(std::net::UdpSocket);

impl Udp {
    fn listen(host: &crate::harness::Host) -> Udp {
        let socket = host.inside(|| std::net::UdpSocket::bind(("0.0.0.0", 5353)).unwrap());
        socket
            .set_read_timeout(Some(crate::harness::LIMIT))
            .unwrap();
        Udp(socket)
    }

    fn heard(&self) -> IpAddr {
        self.0.recv_from(&mut [0; 16]).unwrap().1.ip()
    }
}

#[test]
fn memory_shows_everything_and_touches_nothing() {
    let net = Net::new(1);
    let _service = Service::start(&net.server, &[22]);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    daemon.set("firewall", "\"memory\"");
    daemon.configure(&[ssh("2s")]);
    daemon.run();
    net.client().knock(net.server.v4, &STEPS);
    daemon.wait_lease("ssh", net.client().v4);
    assert_eq!(net.server.run("nft list ruleset"), "");
    assert!(net.client().reaches(net.server.v4, 22));
    until("the lease is over", || daemon.leases().is_empty());
}
