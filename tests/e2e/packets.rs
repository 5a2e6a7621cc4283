//! Single packets of Debian's fwknop and of our own client: whom they let in where, and whom
//! not.

use std::net::IpAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::harness::raw::{SYN, Sender, tcp};
use crate::harness::{Daemon, Door, Key, Net, Ran, Service, datagrams, until};
use crate::hostile::number;
use crate::replays::{all_again, tap};
use crate::{STEPS, ssh};

/// The door that [`Key`]s open here.
fn door(open_for: &str) -> Door {
    Door::opens("ssh", "22/tcp", open_for)
}

/// posternd with these doors and keys.
fn daemon<'n>(net: &'n Net, doors: &[Door], keys: &[&Key]) -> Daemon<'n> {
    let mut daemon = Daemon::prepare(&net.server, &[]);
    daemon.keys(keys);
    daemon.configure(doors);
    daemon.run();
    daemon
}

/// An address that is let in or not; nobody has it here.
fn someone(n: u8) -> IpAddr {
    [192, 0, 2, n].into()
}

/// Seconds until a lease ends.
fn left(daemon: &Daemon, address: impl Into<IpAddr>) -> i64 {
    let lease = daemon.wait_lease("ssh", address);
    lease.until.duration_since(Timestamp::now()).as_secs()
}

/// Each key's packets open, and what goes by a key goes with it.
#[test]
fn fwknops_packets_open_and_keys_are_named() {
    let net = Net::new(3);
    let _service = Service::start(&net.server, &[22]);
    let (alice, bob) = (Key::new("alice", &["ssh"]), Key::new("bob", &["ssh"]));
    let bob = bob.sha512();
    let mut daemon = daemon(&net, &[door("1h").to(&STEPS)], &[&alice, &bob]);
    let mut tap = tap(&net);
    let server = net.server.v4;
    let [a, b, c] = &net.clients[..] else {
        panic!("three clients")
    };
    assert!(a.connect(server, 22).is_silence());

    // For its address alone, as long as the door has it.
    alice.fwknop(a, &format!("-A tcp/22 -a {}", a.v4));
    assert!((3590..=3601).contains(&left(&daemon, a.v4)));
    assert!(a.reaches(server, 22));
    assert!(b.connect(server, 22).is_silence());
    // A timeout shortens that, and never makes it longer.
    bob.fwknop(b, &format!("-A tcp/22 -a {} -f 60", b.v4));
    assert!((50..=61).contains(&left(&daemon, b.v4)));
    assert!(b.reaches(server, 22));
    bob.fwknop(a, &format!("-A tcp/22 -a {} -f 7200", someone(1)));
    assert!((3590..=3601).contains(&left(&daemon, someone(1))));
    alice.fwknop(a, &format!("-A tcp/22 -a {} -f 2", c.v4));
    daemon.wait_lease("ssh", c.v4);
    assert!(c.reaches(server, 22));
    until("it closes", || c.connect(server, 22).is_silence());
    until("the lease is over", || daemon.lease("ssh", c.v4).is_none());
    daemon.wait_log(&format!("ssh: closed for {}", c.v4));
    // A knock without a key, between them.
    c.knock(server, &STEPS);
    daemon.wait_lease("ssh", c.v4);

    for (address, key) in [
        (IpAddr::from(a.v4), "alice"),
        (b.v4.into(), "bob"),
        (someone(1), "bob"),
    ] {
        let lease = daemon.lease("ssh", address).unwrap();
        assert_eq!(lease.key.as_deref(), Some(key));
        let log = daemon.log();
        let line = log.lines().find(|line| {
            line.contains(&format!("ssh: open for {address} until "))
                && line.ends_with(&format!(" by key {key}"))
        });
        assert!(line.is_some(), "{address} by key {key}");
        let list = daemon.ctl(&["list"]).stdout;
        let row = list.lines().find(|row| row.contains(&address.to_string()));
        let words: Vec<&str> = row.unwrap().split_whitespace().collect();
        assert_eq!(words[..3], ["ssh", &address.to_string(), key], "{list}");
    }
    assert_eq!(daemon.lease("ssh", c.v4).unwrap().key, None);

    // Gone with its key, and not for its users' packets either.
    let mut session = a.session(server, 22).unwrap();
    daemon.keys(&[&bob]);
    daemon.configure(&[door("1h").to(&STEPS)]);
    daemon.reload();
    daemon.wait_log(&format!("ssh: closed for {}: ", a.v4));
    assert!(a.connect(server, 22).is_silence());
    session.echo();
    assert!(b.reaches(server, 22) && c.reaches(server, 22));
    alice.fwknop(a, &format!("-A tcp/22 -a {}", a.v4));
    bob.fwknop(a, &format!("-A tcp/22 -a {}", someone(2)));
    daemon.wait_lease("ssh", someone(2));
    let mut who: Vec<IpAddr> = daemon.leases().iter().map(|l| l.address).collect();
    who.sort();
    assert_eq!(who, [b.v4.into(), c.v4.into(), someone(1), someone(2)]);
    all_again(&mut tap, &daemon, &net, c);
}

#[test]
fn whatever_a_packet_came_from_is_let_in_where_the_key_says_so() {
    let net = Net::new(2);
    let alice = Key::new("alice", &["ssh"]);
    let bob = Key::new("bob", &["ssh"]).with("observed = true");
    let daemon = daemon(&net, &[door("1h")], &[&alice, &bob]);
    let mut tap = tap(&net);
    let [a, b] = &net.clients[..] else {
        panic!("two clients")
    };
    alice.fwknop(a, "-A tcp/22 -s");
    daemon.wait_log(&format!(
        "key alice: packet of {} refused: the key is not for the address that it names",
        a.v4
    ));
    bob.fwknop(b, "-A tcp/22 -s");
    assert_eq!(daemon.wait_lease("ssh", b.v4).key.as_deref(), Some("bob"));
    bob.postern(b, net.server.v6, "from = \"observed\"", "22");
    daemon.wait_lease("ssh", b.v6);
    bob.fwknop(a, &format!("-A tcp/22 -a {}", someone(1)));
    daemon.wait_lease("ssh", someone(1));
    assert_eq!(daemon.leases().len(), 3);
    all_again(&mut tap, &daemon, &net, a);
}

#[test]
fn packets_come_by_the_carriers_of_their_key() {
    let net = Net::new(1);
    let everywhere = "carriers = [\"53/udp\", \"icmp\"]";
    let alice = Key::new("alice", &["ssh"]).with(everywhere);
    let bob = Key::new("bob", &["ssh"]).sha512();
    let daemon = daemon(&net, &[door("1h")], &[&alice, &bob]);
    let mut tap = tap(&net);
    let (client, server) = (net.client(), &net.server);
    // Where it is not heard, though another key is.
    alice.fwknop(client, &format!("-A tcp/22 -a {}", someone(1)));
    bob.fwknop(client, &format!("-A tcp/22 -a {} -p 53", someone(1)));
    let echo = "-P icmp --icmp-type 8";
    bob.fwknop(client, &format!("-A tcp/22 -a {} {echo}", someone(1)));

    alice.fwknop(client, &format!("-A tcp/22 -a {} -p 53", someone(2)));
    alice.fwknop(client, &format!("-A tcp/22 -a {} {echo}", someone(3)));
    bob.fwknop(client, &format!("-A tcp/22 -a {}", someone(4)));
    for n in 2..=4 {
        daemon.wait_lease("ssh", someone(n));
    }
    let spa = |key: &Key, to: IpAddr, carrier: &str, n: u8| {
        let lines = format!("carrier = \"{carrier}\"");
        key.postern(client, to, &lines, &format!("--from {} 22", someone(n)));
        daemon.wait_lease("ssh", someone(n));
    };
    spa(&alice, server.v4.into(), "53/udp", 5);
    spa(&alice, server.v4.into(), "icmp", 6);
    spa(&alice, server.v6.into(), "53/udp", 7);
    spa(&alice, server.v6.into(), "icmp", 8);
    // For the address that it is sent from.
    bob.postern(client, server.v6, "", "22");
    daemon.wait_lease("ssh", client.v6);
    assert_eq!(daemon.leases().len(), 8);
    assert!(daemon.lease("ssh", someone(1)).is_none());
    until("the first three are counted", || {
        daemon.status().unwrap()["spa"]["unauthenticated"] == 3
    });
    all_again(&mut tap, &daemon, &net, client);
}

#[test]
fn a_key_is_limited() {
    let net = Net::new(1);
    let client = net.client();
    let networks = "from = [\"192.0.2.0/24\", \"fd66::/32\"]";
    let alice = Key::new("alice", &["ssh"]).with(networks);
    let bob = Key::new("bob", &["web", "wake"]).with("ports = [\"443/tcp\", \"9/udp\"]");
    let carol = Key::new("carol", &["ssh"]).with("allowance = 2");
    let mut daemon = Daemon::prepare(&net.server, &[]);
    let ran = daemon.path("ran").display().to_string();
    let doors = [
        door("1h").with("prefix6 = 64"),
        Door::opens("web", "443/tcp", "1h"),
        Door::starts("wake", &format!("echo %IP% >> {ran}")),
    ];
    daemon.keys(&[&alice, &bob, &carol]);
    daemon.configure(&doors);
    daemon.run();
    let mut tap = tap(&net);
    let refused = |key: &str, address: IpAddr, why: &str| {
        daemon.wait_log(&format!("key {key}: packet of {address} refused: {why}"));
    };
    let own = IpAddr::from(client.v4);

    // Addresses.
    alice.fwknop(client, "-A tcp/22 -a 198.51.100.1");
    refused("alice", own, "the key is not for the address that it names");
    alice.fwknop(client, &format!("-A tcp/22 -a {}", someone(1)));
    daemon.wait_lease("ssh", someone(1));
    alice.postern(client, net.server.v6, "", "22");
    until("a network is let in", || {
        let leases = daemon.leases();
        let network = leases.iter().find(|lease| lease.who == "fd66::/64");
        network.is_some_and(|lease| lease.key.as_deref() == Some("alice"))
    });
    assert_eq!(daemon.leases().len(), 2);

    // Ports, of which none may be another's.
    for (n, ports) in ["tcp/443", "tcp/22,tcp/443", "udp/22"].iter().enumerate() {
        let spa = || daemon.status().unwrap()["spa"]["ports"].as_u64().unwrap();
        alice.fwknop(client, &format!("-A {ports} -a {}", someone(2)));
        until("it is refused", || spa() == n as u64 + 1);
    }
    refused("alice", own, "the key is not for the ports that it names");
    assert_eq!(daemon.leases().len(), 2);

    // Doors: one that opens another port stays shut, one that opens none opens by all.
    bob.fwknop(client, &format!("-A udp/9 -a {}", someone(3)));
    until("it has run", || daemon.read("ran") == "192.0.2.3\n");
    daemon.wait_log("wake: granted to 192.0.2.3 by key bob");
    assert!(daemon.lease("web", someone(3)).is_none());
    bob.fwknop(client, &format!("-A udp/9,tcp/443 -a {}", someone(4)));
    daemon.wait_lease("web", someone(4));
    until("it has run again", || {
        daemon.read("ran") == "192.0.2.3\n192.0.2.4\n"
    });
    assert_eq!(daemon.leases().len(), 3);

    // Grants an hour, each key its own.
    for n in 5..=7 {
        carol.fwknop(client, &format!("-A tcp/22 -a {}", someone(n)));
    }
    refused("carol", someone(7), "its allowance is used up");
    alice.fwknop(client, &format!("-A tcp/22 -a {}", someone(8)));
    daemon.wait_lease("ssh", someone(8));
    for (n, is) in [(5, true), (6, true), (7, false)] {
        assert_eq!(daemon.lease("ssh", someone(n)).is_some(), is, "{n}");
    }
    assert_eq!(number(&daemon, "refused"), 1);
    all_again(&mut tap, &daemon, &net, client);
    assert_eq!(daemon.read("ran"), "192.0.2.3\n192.0.2.4\n");
}

/// Tells a thread to stop when it goes.
struct Stop<'s>(&'s AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn they_open_while_syns_are_forged_in_the_knockers_name() {
    let net = Net::new(2);
    let _service = Service::start(&net.server, &[22]);
    let [client, attacker] = &net.clients[..] else {
        panic!("two clients")
    };
    const SECRET: &str = "6b3f0c5e9a8d47218f6e5d4c3b2a1908";
    let alice = Key::new("alice", &["ssh"]);
    let door = ssh("1h").knock(&format!("ping = \"{SECRET}\""));
    let daemon = daemon(&net, &[door], &[&alice]);
    let (from, to) = (IpAddr::from(client.v4), IpAddr::from(net.server.v4));
    let mut tap = tap(&net);
    let stop = AtomicBool::new(false);
    let failed = || {
        let attempts = daemon.status().unwrap()["attempts"].clone();
        let of = |figure: &str| attempts[figure].as_u64().unwrap();
        of("failed") + of("trapped")
    };
    thread::scope(|scope| {
        // One a millisecond: first and wrong steps, and the port itself.
        scope.spawn(|| {
            attacker.inside(|| {
                let (sender, began) = (Sender::new(false), Instant::now());
                let mut ports = [7143, 39001, 16044, 22, 7143].into_iter().cycle();
                let mut sent = 0;
                while !stop.load(Ordering::Relaxed) {
                    let due = began.elapsed().as_millis() as usize;
                    for port in ports.by_ref().take(due - sent) {
                        sender.send(to, &tcp(from, to, port, SYN, 0));
                    }
                    sent = due;
                    thread::sleep(Duration::from_millis(1));
                }
            });
        });
        // Also when something below fails.
        let _stops = Stop(&stop);
        for _ in 0..3 {
            let before = failed();
            until("its attempts fail", || failed() > before);
            client.run(&format!("ping -c1 -W1 -p {SECRET} {to}"));
            daemon.wait_lease("ssh", from);
            assert!(client.reaches(to, 22));
            daemon.ctl(&["close", &from.to_string()]);
            alice.fwknop(client, &format!("-A tcp/22 -a {from}"));
            let lease = daemon.wait_lease("ssh", from);
            assert_eq!(lease.key.as_deref(), Some("alice"));
            assert!(client.reaches(to, 22));
            daemon.ctl(&["close", &from.to_string()]);
        }
    });
    assert_eq!(number(&daemon, "restarts"), 0);
    all_again(&mut tap, &daemon, &net, attacker);
}

/// fwknop's own way of having another clock.
#[test]
fn packets_of_another_time_are_refused() {
    let net = Net::new(1);
    let client = net.client();
    let alice = Key::new("alice", &["ssh"]);
    let daemon = daemon(&net, &[door("1h")], &[&alice]);
    let mut tap = tap(&net);
    for (n, offset) in ["minus 1h", "plus 1h", "minus 125", "plus 125"]
        .iter()
        .enumerate()
    {
        let (way, by) = offset.split_once(' ').unwrap();
        let whom = someone(1);
        alice.fwknop(
            client,
            &format!("-A tcp/22 -a {whom} --time-offset-{way} {by}"),
        );
        let stale = || daemon.status().unwrap()["spa"]["stale"].as_u64().unwrap();
        until("it is refused", || stale() == n as u64 + 1);
    }
    daemon.wait_log(&format!(
        "key alice: packet of {} refused: its time is more than two minutes from ours: a clock \
         is wrong, or it is an old one",
        client.v4
    ));
    assert!(daemon.leases().is_empty());
    for (n, offset) in ["minus 100", "plus 100"].iter().enumerate() {
        let (way, by) = offset.split_once(' ').unwrap();
        let whom = someone(2 + n as u8);
        alice.fwknop(
            client,
            &format!("-A tcp/22 -a {whom} --time-offset-{way} {by}"),
        );
        daemon.wait_lease("ssh", whom);
    }
    all_again(&mut tap, &daemon, &net, client);
}

/// Of the right form and of no key: whoever sends them learns nothing, and makes no work.
#[test]
fn ten_thousand_wrong_packets_open_nothing() {
    let net = Net::new(2);
    let [client, attacker] = &net.clients[..] else {
        panic!("two clients")
    };
    let alice = Key::new("alice", &["ssh"]);
    let mallory = Key::new("mallory", &["ssh"]);
    let daemon = daemon(&net, &[door("1h")], &[&alice]);
    let now = Timestamp::now().as_second() as u64;
    let one = mallory.seal(attacker.v4, 22, now);
    // Each another, as anybody makes them without a secret.
    let wrong: Vec<Vec<u8>> = (0..10_000u32)
        .map(|n| {
            let digits = format!("{n:08}").into_bytes();
            [&one[..1], &digits, &one[9..]].concat()
        })
        .collect();
    let before = daemon.log().lines().count();
    let spa = |figure: &str| daemon.status().unwrap()["spa"][figure].as_u64().unwrap();
    datagrams(attacker, net.server.v4, &wrong);
    until("all are counted", || {
        let lost = number(&daemon, "dropped");
        spa("unauthenticated") + spa("over_budget") + lost >= 10_000
    });
    assert!(spa("unauthenticated") > 1_000);
    assert_eq!(spa("shapeless"), 0);
    assert_eq!(daemon.log().lines().count(), before, "{}", daemon.log());
    assert!(daemon.leases().is_empty());
    alice.fwknop(client, &format!("-A tcp/22 -a {}", client.v4));
    daemon.wait_lease("ssh", client.v4);
}

/// What is heard by the daemon and what its capture says are the same.
#[test]
fn a_capture_of_it_tells_the_same() {
    const SECRET: &str = "6b3f0c5e9a8d47218f6e5d4c3b2a1908";
    let net = Net::new(2);
    let [a, b] = &net.clients[..] else {
        panic!("two clients")
    };
    let alice = Key::new("alice", &["ssh"]);
    let door = door("1h").knock(&format!("ping = \"{SECRET}\""));
    let daemon = daemon(&net, &[door], &[&alice]);
    let mut tap = tap(&net);
    alice.fwknop(a, &format!("-A tcp/22 -a {} -f 600", a.v4));
    daemon.wait_lease("ssh", a.v4);
    b.run(&format!("ping -c1 -W1 -p {SECRET} {}", net.server.v4));
    daemon.wait_lease("ssh", b.v4);
    let capture = daemon.path("capture.pcap");
    std::fs::write(&capture, pcap(&tap.frames())).unwrap();
    // Nobody's, who replay becomes.
    let ran = Ran::of(Command::new("chmod").arg("755").arg(daemon.path("")));
    assert_eq!(ran.code(), 0, "{ran:?}");
    let capture = capture.to_str().unwrap();
    let ran = daemon.ctl(&["replay", capture, "--to", &net.server.v4.to_string()]);
    assert_eq!((ran.code(), ran.stderr.as_str()), (0, ""), "{ran:?}");
    let events: Vec<serde_json::Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut told: Vec<(String, &str, IpAddr, i64)> = Vec::new();
    for event in &events {
        let text = |key: &str| event[key].as_str();
        let stamp = |key: &str| -> i64 {
            let stamp: Timestamp = text(key).unwrap().parse().unwrap();
            stamp.as_second()
        };
        let address = text("address").unwrap().parse().unwrap();
        let lasts = text("until").map_or(0, |_| stamp("until") - stamp("time"));
        let what = text("event").unwrap().to_owned();
        told.push((what, text("key").unwrap_or("none"), address, lasts));
    }
    let (a, b) = (IpAddr::from(a.v4), IpAddr::from(b.v4));
    assert_eq!(
        told,
        [
            ("open".into(), "alice", a, 600),
            ("open".into(), "none", b, 3600),
            ("close".into(), "none", a, 0),
            ("close".into(), "none", b, 0),
        ]
    );
}

/// A capture file of version 2.4, link type Ethernet (draft-ietf-opsawg-pcap), all of it of now.
fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = 0xa1b2_c3d4u32.to_le_bytes().to_vec();
    file.extend([2, 0, 4, 0]);
    file.extend([0; 8]);
    file.extend(262_144u32.to_le_bytes());
    file.extend(1u32.to_le_bytes());
    let now = Timestamp::now().as_second() as u32;
    for frame in frames {
        file.extend(now.to_le_bytes());
        file.extend(0u32.to_le_bytes());
        file.extend((frame.len() as u32).to_le_bytes());
        file.extend((frame.len() as u32).to_le_bytes());
        file.extend(frame);
    }
    file
}
