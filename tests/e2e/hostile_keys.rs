//! What a listener that somebody else has taken over can do with keys: it has their secrets.

use std::fs;
use std::net::IpAddr;
use std::time::Instant;

use crate::harness::{Daemon, Door, Key, Net, Service, until};
use crate::hostile::{READY, dies, instead, log_is_short, monitor_is_small, number};

/// posternd with a door and a key for it each at 22 and 23, and an honest listener.
fn daemon<'n>(net: &'n Net, alice: &Key, bob: &Key) -> Daemon<'n> {
    let mut daemon = Daemon::prepare(&net.server, &[]);
    daemon.keys(&[alice, bob]);
    let doors = [("ssh", "22/tcp"), ("other", "23/tcp")];
    daemon.configure(&doors.map(|(name, port)| Door::opens(name, port, "1h")));
    daemon.listener_does(&["honest"]);
    daemon.run();
    daemon
}

fn keys() -> [Key; 2] {
    let alice = Key::new("alice", &["ssh"]).with("from = [\"192.0.2.0/24\", \"11.0.0.0/8\"]");
    [alice, Key::new("bob", &["other"])]
}

fn someone(n: u8) -> IpAddr {
    [192, 0, 2, n].into()
}

#[test]
fn what_it_was_not_given_ends_it() {
    let net = Net::new(1);
    let _service = Service::start(&net.server, &[23]);
    let client = net.client();
    let began = Instant::now();
    let [alice, bob] = keys();
    let mut daemon = daemon(&net, &alice, &bob);
    bob.fwknop(client, &format!("-A tcp/23 -a {}", client.v4));
    daemon.wait_lease("other", client.v4);
    let mut session = client.session(net.server.v4, 23).unwrap();
    let key = "it named a key that it was not given";
    let door = "it named a door that the key does not open";
    for (act, why) in [
        ("authorized 2 1 192.0.2.7 0 1", key),
        ("authorized 65535 1 192.0.2.7 0 1", key),
        ("unusable 2", key),
        // None, another key's, its own and more.
        ("authorized 0 0 192.0.2.7 0 1", door),
        ("authorized 0 2 192.0.2.7 0 1", door),
        ("authorized 1 2147483649 192.0.2.7 0 1", door),
        ("elder authorized 0 1 192.0.2.7 0 1", door),
    ] {
        dies(&mut daemon, &net, &[&READY[..], &[act]].concat(), why);
        session.echo();
    }
    assert_eq!(daemon.leases().len(), 1);
    log_is_short(&daemon, began);
    bob.fwknop(client, &format!("-A tcp/23 -a {}", someone(1)));
    daemon.wait_lease("other", someone(1));
}

#[test]
fn what_a_key_is_not_good_for_is_refused() {
    let net = Net::new(1);
    let [alice, bob] = keys();
    let mut daemon = daemon(&net, &alice, &bob);
    let refused = |address: &str| format!("key alice: packet of {address} refused: ");
    for (act, address) in [
        ("authorized 0 1 192.0.2.1 3600 1", "192.0.2.1"),
        ("authorized 0 1 192.0.2.2 -3600 1", "192.0.2.2"),
        ("authorized 0 1 192.0.2.3 1000000000 1", "192.0.2.3"),
        ("authorized 0 1 198.51.100.4 0 1", "198.51.100.4"),
        ("authorized 0 1 fd66::9 0 1", "fd66::9"),
    ] {
        instead(&mut daemon, &[&READY[..], &[act]].concat());
        daemon.wait_log(&format!("{}not allowed now", refused(address)));
    }
    // bob's for any address, which is none of these.
    for address in ["127.0.0.1", "0.0.0.0", "ff02::1", "::ffff:192.0.2.7"] {
        let act = format!("authorized 1 1 {address} 0 1");
        instead(&mut daemon, &[&READY[..], &[&act]].concat());
        let line = format!("key bob: packet of {address} refused: not allowed now");
        daemon.wait_log(&line);
    }
    assert!(daemon.leases().is_empty());

    // A proof counts once, for whatever it is said to be.
    let first = "authorized 0 1 192.0.2.7 0 77";
    instead(&mut daemon, &[&READY[..], &[first]].concat());
    daemon.wait_lease("ssh", someone(7));
    for (again, key, address) in [
        ("authorized 0 1 192.0.2.8 0 77", "alice", "192.0.2.8"),
        ("authorized 0 1 192.0.2.9 -100 77", "alice", "192.0.2.9"),
        ("authorized 1 1 192.0.2.10 0 77", "bob", "192.0.2.10"),
    ] {
        // Behind the time in which another listener may tell of the same packet.
        instead(&mut daemon, &[&READY[..], &["pause 2100", again]].concat());
        let line = format!("key {key}: packet of {address} refused: it has been used before");
        daemon.wait_log(&line);
    }
    assert_eq!(daemon.leases().len(), 1);
    assert_eq!(number(&daemon, "restarts"), 0);
}

/// Whatever it makes of a key's secret stays within the key's allowance.
#[test]
fn a_flood_of_packets_of_one_key_shuts_no_other() {
    let net = Net::new(1);
    let client = net.client();
    let began = Instant::now();
    let [alice, bob] = keys();
    let mut daemon = daemon(&net, &alice, &bob);
    instead(&mut daemon, &["honest", "proofs 0 1 300000"]);
    let told = || number(&daemon, "refused") + daemon.granted("ssh");
    until("the flood is under way", || told() > 1000);
    for n in 1..=3 {
        bob.fwknop(client, &format!("-A tcp/23 -a {}", someone(n)));
        daemon.wait_lease("other", someone(n));
        assert!(n > 1 || told() < 300_000, "it was over too soon");
    }
    until("it is over", || told() == 300_000);
    assert_eq!(daemon.granted("ssh"), 60);
    assert_eq!(daemon.leases().len(), 63);
    log_is_short(&daemon, began);
    monitor_is_small(&daemon);
    let spent = fs::metadata(daemon.path("state").join("spent")).unwrap();
    assert!(spent.len() < 256 << 10, "{} bytes", spent.len());
    assert_eq!(number(&daemon, "restarts"), 0);
}
