//! Doors that let in the IPv6 network of whoever knocks.

use std::net::{IpAddr, Ipv6Addr};

use crate::harness::{Daemon, Door, Host, Net, Service, until};
use crate::{STEPS, ssh};

/// Another address of everybody's network here, and one of another.
const NEAR: Ipv6Addr = Ipv6Addr::new(0xfd66, 0, 0, 0, 0xabcd, 0, 0, 9);
const FAR: Ipv6Addr = Ipv6Addr::new(0xfd66, 0, 0, 1, 0, 0, 0, 9);
const NETWORK: &str = "fd66::/64";

fn door(prefix6: u8) -> Door {
    ssh("1h").with(&format!("prefix6 = {prefix6}"))
}

/// A client with those addresses.
fn net() -> Net {
    let net = Net::new(1);
    for address in [NEAR, FAR] {
        net.client()
            .address("add", &format!("{address}/64"), "eth0");
    }
    net.server.run("ip -6 route add fd66:0:0:1::/64 dev eth0");
    net
}

fn whose(daemon: &Daemon) -> Vec<String> {
    daemon.leases().into_iter().map(|lease| lease.who).collect()
}

/// Knocks from one address of the network, so that there is a lease for all of it.
fn knock(daemon: &Daemon, client: &Host, server: Ipv6Addr) {
    client.knock_from(Some(client.v6.into()), server, &STEPS);
    until("the network is let in", || whose(daemon) == [NETWORK]);
}

fn enters(client: &Host, from: impl Into<IpAddr>, server: Ipv6Addr) -> bool {
    client.connect_from(Some(from.into()), server, 22).is_open()
}

#[test]
fn who_knocks_from_one_address_comes_from_another() {
    let net = net();
    let _service = Service::start(&net.server, &[22]);
    let mut daemon = Daemon::start(&net.server, &[door(64)]);
    let (client, server) = (net.client(), net.server.v6);
    knock(&daemon, client, server);
    daemon.wait_log(&format!("ssh: open for {NETWORK} until"));
    assert!(client.reaches_from(Some(NEAR.into()), server, 22));
    assert!(!enters(client, FAR, server));
    let list = daemon.ctl(&["list"]).stdout;
    assert!(list.contains(&format!("ssh   {NETWORK}  ")), "{list}");
    // Another address of it moves the end of the one lease.
    let before = daemon.leases()[0].until;
    until("the end has moved", || {
        client.knock_from(Some(NEAR.into()), server, &STEPS);
        daemon.leases()[0].until > before
    });
    assert_eq!(whose(&daemon), [NETWORK]);
    // IPv4 is untouched.
    client.knock(net.server.v4, &STEPS);
    daemon.wait_lease("ssh", client.v4);
    assert_eq!(daemon.ctl(&["close", &client.v4.to_string()]).code(), 0);

    // It goes on over a restart, and is repaired like any other.
    daemon.kill();
    daemon.run();
    assert_eq!(whose(&daemon), [NETWORK]);
    assert!(enters(client, NEAR, server) && !enters(client, FAR, server));
    net.server.nft(&["flush table inet postern"]);
    net.server.nft(&["flush set inet postern ssh_net6"]);
    until("it is repaired", || enters(client, NEAR, server));

    // Any address of it closes it, and no other.
    for (who, code) in [
        (FAR.to_string(), 1),
        ("fd66::/63".into(), 1),
        (NEAR.to_string(), 0),
    ] {
        assert_eq!(daemon.ctl(&["close", &who]).code(), code, "{who}");
    }
    assert_eq!(whose(&daemon), [""; 0]);
    daemon.wait_log(&format!(
        "ssh: closed for {NETWORK}: the administrator asked"
    ));
    assert!(!enters(client, client.v6, server));
    knock(&daemon, client, server);
    assert_eq!(daemon.ctl(&["close", NETWORK, "ssh"]).code(), 0);
    assert!(!enters(client, NEAR, server));
}

#[test]
fn another_length_opens_the_door_anew() {
    let net = net();
    let _service = Service::start(&net.server, &[22]);
    let mut daemon = Daemon::start(&net.server, &[door(64)]);
    let (client, server) = (net.client(), net.server.v6);
    knock(&daemon, client, server);
    let mut session = client.session(server, 22).unwrap();
    daemon.configure(&[door(48)]);
    daemon.reload();
    daemon.wait_log(&format!("ssh: closed for {NETWORK}: prefix6 has changed"));
    assert_eq!(whose(&daemon), [""; 0]);
    assert!(!enters(client, client.v6, server));
    session.echo();
    client.knock_from(Some(NEAR.into()), server, &STEPS);
    until("the wider network is let in", || {
        whose(&daemon) == ["fd66::/48"]
    });
    assert!(enters(client, FAR, server));

    // The same over a restart.
    daemon.kill();
    daemon.configure(&[door(128)]);
    daemon.run();
    assert_eq!(whose(&daemon), [""; 0]);
    assert!(!enters(client, FAR, server) && !enters(client, client.v6, server));
    client.knock_from(Some(NEAR.into()), server, &STEPS);
    daemon.wait_lease("ssh", NEAR);
    assert!(enters(client, NEAR, server) && !enters(client, client.v6, server));
    session.echo();
    // Nor does an earlier lease come back.
    daemon.kill();
    daemon.configure(&[door(64)]);
    daemon.run();
    assert_eq!(whose(&daemon), [""; 0]);
}

#[test]
fn a_connection_from_the_network_confirms_a_guard() {
    let net = net();
    let _service = Service::start(&net.server, &[22]);
    let mut daemon = Daemon::prepare(&net.server, &[door(64)]);
    daemon.set("trial", "\"1h\"");
    daemon.configure(&[door(64)]);
    daemon.run();
    let (client, server) = (net.client(), net.server.v6);
    knock(&daemon, client, server);
    assert_eq!(daemon.guard("22/tcp").0, "trial");
    let _session = client.connect_from(Some(NEAR.into()), server, 22);
    until("the guard is confirmed", || {
        daemon.guard("22/tcp").0 == "confirmed"
    });
    daemon.wait_log(&format!("confirmed by a connection of {NEAR}"));
}

#[test]
fn what_is_overdue_of_a_network_is_reaped() {
    let net = net();
    let _service = Service::start(&net.server, &[22]);
    let door = ssh("2s").with("prefix6 = 64");
    let mut daemon = Daemon::start(&net.server, &[door]);
    let (client, server) = (net.client(), net.server.v6);
    knock(&daemon, client, server);
    daemon.kill();
    let closed = format!("ssh: closed for {NETWORK}");
    until("it is overdue", || {
        let ran = daemon.ctl_there(&["reap"]);
        assert_eq!(ran.code(), 0, "{ran:?}");
        ran.stdout.contains(&closed)
    });
    assert!(!enters(client, NEAR, server));
}
