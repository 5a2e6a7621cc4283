//! Doors that traffic keeps open.

use jiff::SignedDuration;

use crate::harness::{Daemon, Door, Net, Service, Session, until};
use crate::{OTHER, STEPS, ssh};

/// Opens for 10 s, and for 5 s behind the last packet.
fn door() -> Door {
    ssh("10s").with("idle = \"5s\"")
}

/// Knocks and is in, with a session; the lease as it was granted.
fn let_in(net: &Net, daemon: &Daemon) -> (Session, jiff::Timestamp) {
    let (client, server) = (net.client(), net.server.v4);
    client.knock(server, &STEPS);
    let lease = daemon.wait_lease("ssh", client.v4);
    (client.session(server, 22).unwrap(), lease.until)
}

/// Talks until the lease lasts so much longer than that.
fn talk(daemon: &Daemon, net: &Net, session: &mut Session, first: jiff::Timestamp, seconds: i64) {
    let longer = first + SignedDuration::from_secs(seconds);
    until("the end has moved", || {
        session.echo();
        let lease = daemon.lease("ssh", net.client().v4);
        lease.expect("traffic keeps it").until > longer
    });
}

#[test]
fn traffic_keeps_a_door_open_and_silence_closes_it() {
    let net = Net::new(2);
    let _service = Service::start(&net.server, &[22]);
    let daemon = Daemon::start(&net.server, &[door()]);
    let server = net.server.v4;
    let (mut session, first) = let_in(&net, &daemon);
    // Another who says nothing is out when his time is up.
    let quiet = &net.clients[1];
    quiet.knock(server, &STEPS);
    daemon.wait_lease("ssh", quiet.v4);

    talk(&daemon, &net, &mut session, first, 12);
    assert!(net.client().reaches(server, 22));
    assert!(daemon.lease("ssh", quiet.v4).is_none());
    assert!(quiet.connect(server, 22).is_silence());
    let kept = format!("ssh: traffic keeps it open for {}", net.client().v4);
    daemon.wait_log(&kept);
    let log = daemon.log();
    assert_eq!(log.matches("traffic keeps").count(), 1, "{log}");
    assert!(!log.contains("extended"), "{log}");

    // Trying the door would be traffic.
    until("the lease is over", || daemon.leases().is_empty());
    assert!(net.client().connect(server, 22).is_silence());
    daemon.wait_log(&format!(
        "ssh: closed for {}: its time was up",
        net.client().v4
    ));
    session.echo();
}

#[test]
fn whoever_kills_the_daemon_keeps_no_door_open() {
    let net = Net::new(1);
    let _service = Service::start(&net.server, &[22]);
    let mut daemon = Daemon::start(&net.server, &[door()]);
    let (client, server) = (net.client(), net.server.v4);
    let (mut session, first) = let_in(&net, &daemon);
    talk(&daemon, &net, &mut session, first, 2);

    // Started again it goes on from what the kernel knows.
    daemon.kill();
    session.echo();
    daemon.run();
    talk(&daemon, &net, &mut session, first, 8);
    // With another configuration, too, where the door has another place.
    let before = Door::opens("web", "443/tcp", "1h").to(&OTHER);
    daemon.configure(&[before, door()]);
    daemon.reload();
    talk(&daemon, &net, &mut session, first, 14);

    daemon.kill();
    until("the kernel closes it", || {
        session.echo();
        client.connect(server, 22).is_silence()
    });
    daemon.run();
    assert_eq!(daemon.leases().len(), 0);
    assert!(client.connect(server, 22).is_silence());
    session.echo();
}

#[test]
fn a_reload_without_it_leaves_the_lease_to_its_end() {
    let net = Net::new(1);
    let _service = Service::start(&net.server, &[22]);
    let daemon = Daemon::start(&net.server, &[door()]);
    let (client, server) = (net.client(), net.server.v4);
    let (mut session, _) = let_in(&net, &daemon);
    daemon.configure(&[ssh("10s")]);
    daemon.reload();
    until("it closes", || {
        session.echo();
        client.connect(server, 22).is_silence()
    });
    session.echo();
    let nft = net.server.run("nft list table inet postern");
    assert!(!nft.contains("seen"), "{nft}");
}
