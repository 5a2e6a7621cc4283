//! Single packets that were accepted, sent again by whoever has caught them: as they were, a
//! little changed, later, to another daemon's life and under another clock.

use std::net::IpAddr;

use postern::packet::{self, Link, What};
use postern::spa;
use postern::time::Time;

use crate::clocks::Clocks;
use crate::harness::raw::Wire;
use crate::harness::{Daemon, Door, Host, Key, Net, datagrams, until};

const HOUR: i64 = 3600;
const USED: &str = "it has been used before";

fn someone(n: u8) -> IpAddr {
    [192, 0, 2, n].into()
}

/// A packet that was accepted.
struct Caught {
    frame: Vec<u8>,
    payload: Vec<u8>,
    /// What it opened for, and by which key.
    whom: IpAddr,
    key: &'static str,
}

impl Caught {
    /// The one that has come in since the last, and has let this address in.
    fn next(tap: &mut Wire, daemon: &Daemon, key: &'static str, whom: IpAddr) -> Caught {
        let lease = daemon.wait_lease("ssh", whom);
        assert_eq!(lease.key.as_deref(), Some(key));
        let mut all: Vec<Caught> = Vec::new();
        for frame in tap.frames() {
            let arrival = packet::parse(Time(0), Link::Ethernet, &frame);
            let payload = match arrival.map(|arrival| arrival.what) {
                Some(What::Udp { port, payload }) if port == spa::PORT => payload,
                Some(What::Echo { payload }) => payload,
                _ => continue,
            };
            all.push(Caught {
                payload: payload.to_vec(),
                frame: frame.clone(),
                whom,
                key,
            });
        }
        assert_eq!(all.len(), 1, "one packet has come in");
        all.remove(0)
    }

    fn refused(&self, why: &str) -> String {
        let Caught { whom, key, .. } = self;
        format!("key {key}: packet of {whom} refused: {why}")
    }
}

/// Hears what comes to the server from now on.
pub fn tap(net: &Net) -> Wire {
    net.server.inside(|| Wire::tap("eth0"))
}

/// Sends every single packet that has come in once more, when all is closed: it stays closed.
/// For the end of a test; why each is refused stands in the test below.
pub fn all_again(tap: &mut Wire, daemon: &Daemon, net: &Net, from: &Host) {
    let mut frames = tap.frames();
    frames.retain(|frame| {
        let arrival = packet::parse(Time(0), Link::Ethernet, frame);
        match arrival.map(|arrival| arrival.what) {
            Some(What::Udp { payload, .. } | What::Echo { payload }) => {
                spa::shape(payload).is_some()
            }
            _ => false,
        }
    });
    assert!(!frames.is_empty());
    for lease in daemon.leases() {
        let closed = daemon.ctl(&["close", &lease.who, &lease.door]);
        assert_eq!(closed.code(), 0, "{closed:?}");
    }
    let granted = figure(daemon, "", "granted");
    from.inside(|| {
        let wire = Wire::new("eth0");
        frames.iter().for_each(|frame| wire.again(frame));
    });
    settle(daemon, net, from);
    assert!(daemon.leases().is_empty());
    assert_eq!(figure(daemon, "", "granted"), granted);
}

/// Waits until all that was sent from there before has been heard, and what came of it done.
fn settle(daemon: &Daemon, net: &Net, from: &Host) {
    let shapeless = || figure(daemon, "spa", "shapeless");
    let before = shapeless();
    datagrams(from, net.server.v4, &[b"the last".to_vec()]);
    until("all before it has been heard", || shapeless() > before);
}

/// Grants since the daemon's start, leases with their ends.
fn openings(daemon: &Daemon) -> (u64, Vec<(IpAddr, String)>) {
    let leases = daemon.leases().into_iter();
    let ends = leases.map(|lease| (lease.address, lease.until.to_string()));
    (daemon.granted("ssh"), ends.collect())
}

fn figure(daemon: &Daemon, of: &str, name: &str) -> u64 {
    let status = daemon.status().unwrap();
    let status = if of.is_empty() { &status } else { &status[of] };
    status[name].as_u64().unwrap()
}

/// All are sent again as they were until each has been refused for this reason; nothing opens,
/// and nothing stays open for longer.
fn are_refused(daemon: &Daemon, from: &Host, all: &[Caught], why: &str) {
    let times = |one: &Caught| daemon.log().matches(&one.refused(why)).count();
    let before: Vec<usize> = all.iter().map(times).collect();
    let open = openings(daemon);
    from.inside(|| {
        let wire = Wire::new("eth0");
        // Soon after the first they count as heard twice, and nothing is said.
        until(&format!("all are refused: {why}"), || {
            let left = all.iter().zip(&before);
            let left: Vec<&Caught> = left
                .filter(|(one, before)| times(one) <= **before)
                .map(|(one, _)| one)
                .collect();
            left.iter().for_each(|one| wire.again(&one.frame));
            left.is_empty()
        });
    });
    assert_eq!(openings(daemon), open);
}

/// These are no packets of a key's: counted, and that is all.
fn are_not_heard(daemon: &Daemon, net: &Net, from: &Host, payloads: &[Vec<u8>]) {
    let seen = || {
        let all = ["unauthenticated", "shapeless", "over_budget"];
        let seen: u64 = all.iter().map(|name| figure(daemon, "spa", name)).sum();
        seen + figure(daemon, "", "dropped")
    };
    let refused = || figure(daemon, "", "refused");
    // Some of what was sent again before may be on its way.
    settle(daemon, net, from);
    let (before, refused_before) = (seen(), refused());
    let (open, lines) = (openings(daemon), daemon.log().lines().count());
    datagrams(from, net.server.v4, payloads);
    until("all are counted", || {
        seen() >= before + payloads.len() as u64
    });
    assert_eq!(seen(), before + payloads.len() as u64);
    assert_eq!(figure(daemon, "", "dropped"), 0);
    assert_eq!((openings(daemon), refused()), (open, refused_before));
    assert_eq!(daemon.log().lines().count(), lines, "{}", daemon.log());
}

#[test]
fn no_packet_is_granted_twice() {
    let net = Net::new(2);
    let [client, attacker] = &net.clients[..] else {
        panic!("two clients")
    };
    let carriers = "carriers = [\"62201/udp\", \"icmp\"]\nobserved = true";
    let alice = || Key::new("alice", &["ssh"]).with(carriers);
    let bob = Key::new("bob", &["ssh"]).with(carriers).sha512();
    let doors = [Door::opens("ssh", "22/tcp", "1h")];
    let mut daemon = Daemon::prepare(&net.server, &[]);
    daemon.keys(&[&alice(), &bob]);
    daemon.configure(&doors);
    let mut clocks = Clocks::of(&mut daemon);
    daemon.run();

    // Every kind that is accepted.
    let mut tap = tap(&net);
    let mut all = Vec::new();
    let mut take = |key: &'static str, whom: IpAddr| {
        all.push(Caught::next(&mut tap, &daemon, key, whom));
    };
    let (v4, v6) = (net.server.v4, net.server.v6);
    alice().fwknop(client, &format!("-A tcp/22 -a {} -f 3", someone(1)));
    take("alice", someone(1));
    alice().fwknop(client, &format!("-A tcp/22 -a {}", someone(2)));
    take("alice", someone(2));
    bob.fwknop(client, &format!("-A tcp/22 -a {}", someone(3)));
    take("bob", someone(3));
    bob.fwknop(client, &format!("-A tcp/22 -a {} -f 900", someone(4)));
    take("bob", someone(4));
    alice().fwknop(client, "-A tcp/22 -s");
    take("alice", client.v4.into());
    let echo = "-P icmp --icmp-type 8";
    alice().fwknop(client, &format!("-A tcp/22 -a {} {echo}", someone(6)));
    take("alice", someone(6));
    alice().postern(client, v4, "", &format!("--from {} 22", someone(7)));
    take("alice", someone(7));
    let icmp = "carrier = \"icmp\"";
    bob.postern(client, v4, icmp, &format!("--from {} 22", someone(8)));
    take("bob", someone(8));
    alice().postern(client, v6, "", "22");
    take("alice", client.v6.into());
    bob.postern(client, v6, icmp, &format!("--from {} 22", someone(10)));
    take("bob", someone(10));

    // As they were: while what they opened is open, when it is over, when it was closed.
    until("a lease is over", || {
        daemon.lease("ssh", someone(1)).is_none()
    });
    are_refused(&daemon, attacker, &all, USED);
    assert_eq!(daemon.leases().len(), all.len() - 1);
    for caught in &all[1..] {
        let closed = daemon.ctl(&["close", &caught.whom.to_string()]);
        assert_eq!(closed.code(), 0, "{closed:?}");
    }
    are_refused(&daemon, attacker, &all, USED);
    assert!(daemon.leases().is_empty());

    // Changed.
    let mut changed: Vec<Vec<u8>> = Vec::new();
    for Caught { payload, .. } in &all {
        for more in ["=", "==", "=AAAA", "A", "\n", "\0"] {
            changed.push([payload, more.as_bytes()].concat());
        }
        changed.push(payload[..payload.len() - 1].to_vec());
    }
    are_not_heard(&daemon, &net, attacker, &changed);
    // One of each HMAC, each bit of it.
    for Caught { payload, .. } in [&all[1], &all[2]] {
        let flipped = |bit: usize| {
            let mut payload = payload.clone();
            payload[bit / 8] ^= 1 << (bit % 8);
            payload
        };
        let flipped: Vec<Vec<u8>> = (0..8 * payload.len()).map(flipped).collect();
        are_not_heard(&daemon, &net, attacker, &flipped);
    }

    // A thousand times: counted, and told of now and then.
    let refused = figure(&daemon, "", "refused");
    let lines = daemon.log().lines().count();
    attacker.inside(|| {
        let wire = Wire::new("eth0");
        (0..1000).for_each(|_| wire.again(&all[1].frame));
    });
    until("all are refused", || {
        figure(&daemon, "", "refused") == refused + 1000
    });
    let lines = daemon.log().lines().count() - lines;
    assert!(lines <= 40, "{lines} lines");

    // To those who come after: of another configuration, another life, another boot.
    daemon.reload();
    are_refused(&daemon, attacker, &all[..1], USED);
    daemon.kill();
    daemon.run();
    are_refused(&daemon, attacker, &all, USED);
    assert!(daemon.stop().success());
    let id = daemon.write("boot_id", "00000000-0000-4000-8000-000000000001\n");
    daemon.bind(&id, "/proc/sys/kernel/random/boot_id");
    daemon.run();
    are_refused(&daemon, attacker, &all, USED);

    // Later, and when the clock says again that it is now.
    clocks.set(HOUR);
    are_refused(&daemon, attacker, &all, "not allowed now");
    daemon.kill();
    daemon.run();
    clocks.set(-HOUR);
    are_refused(&daemon, attacker, &all, USED);
    clocks.set(-HOUR);
    daemon.kill();
    daemon.run();
    are_refused(&daemon, attacker, &all[..1], "not allowed now");
    clocks.set(HOUR);
    are_refused(&daemon, attacker, &all, USED);

    // By their key's new name, and when it comes back.
    daemon.keys(&[&alice().named("alicia")]);
    daemon.configure(&doors);
    daemon.reload();
    let mut of_alice: Vec<Caught> = all.into_iter().filter(|c| c.key == "alice").collect();
    of_alice.iter_mut().for_each(|caught| caught.key = "alicia");
    are_refused(&daemon, attacker, &of_alice, USED);
    daemon.keys(&[&alice()]);
    daemon.configure(&doors);
    daemon.reload();
    of_alice.iter_mut().for_each(|caught| caught.key = "alice");
    are_refused(&daemon, attacker, &of_alice, USED);

    // All the while a new one opens.
    alice().fwknop(client, &format!("-A tcp/22 -a {}", someone(20)));
    daemon.wait_lease("ssh", someone(20));
    assert_eq!(daemon.leases().len(), 1);
}
