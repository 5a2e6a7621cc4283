//! Knocks that are pings: the system's own, ours, and echo requests made by hand.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use crate::clients::opens_a_door_once;
use crate::harness::raw::{Sender, Wire, echo, hardware};
use crate::harness::{Daemon, Door, Host, Net, Ran, Service, program};

const SECRET: &str = "6b3f0c5e9a8d47218f6e5d4c3b2a1908";
const OTHER: &str = "c0ffee11223344556677889900aabbcc";

fn door(name: &'static str, port: &str, secret: &str) -> Door {
    let door = Door::opens(name, port, "1h");
    door.knock(&format!("ping = \"{secret}\""))
}

/// One that closes soon.
fn soon() -> Door {
    Door::opens("ssh", "22/tcp", "2s").knock(&format!("ping = \"{SECRET}\""))
}

/// The system's ping with a pattern.
fn ping(client: &Host, to: impl Into<IpAddr>, hex: &str) -> Command {
    let mut ping = client.command("ping");
    ping.args(["-c1", "-W1", "-p", hex]);
    ping.arg(to.into().to_string());
    ping
}

fn bytes(hex: &str) -> [u8; 16] {
    u128::from_str_radix(hex, 16).unwrap().to_be_bytes()
}

/// Who is let in at a door.
fn let_in(daemon: &Daemon, door: &str) -> Vec<IpAddr> {
    let leases = daemon.leases().into_iter();
    let mut all: Vec<IpAddr> = leases
        .filter(|l| l.door == door)
        .map(|l| l.address)
        .collect();
    all.sort();
    all
}

/// An address that a packet made by hand names as its source.
fn source(n: u8) -> IpAddr {
    Ipv4Addr::new(10, 66, 0, n).into()
}

#[test]
fn the_systems_ping_opens_for_its_address_alone_and_for_its_time() {
    let net = Net::new(2);
    opens_a_door_once(&net, soon(), false, |client| {
        vec![ping(client, net.server.v4, SECRET)]
    });
}

#[test]
fn the_systems_ping_opens_over_ipv6() {
    let net = Net::new(2);
    opens_a_door_once(&net, soon(), true, |client| {
        vec![ping(client, net.server.v6, SECRET)]
    });
}

#[test]
fn our_own_ping_opens() {
    let net = Net::new(2);
    opens_a_door_once(&net, soon(), false, |client| {
        let (postern, to) = (program("postern"), net.server.v4);
        let line = format!("echo {SECRET} | {postern} ping --secret - {to}");
        let mut command = client.command("sh");
        command.args(["-c", &line]);
        vec![command]
    });
}

#[test]
fn a_secret_that_is_wrong_by_one_bit_opens_nothing() {
    let net = Net::new(2);
    let daemon = Daemon::start(&net.server, &[door("ssh", "22/tcp", SECRET)]);
    let [client, witness] = &net.clients[..] else {
        panic!("two clients")
    };
    let to = net.server.v4.into();
    let wrong = format!("{}9", &SECRET[..31]);
    Ran::of(&mut ping(client, to, &wrong));
    client.inside(|| {
        let sender = Sender::new(false);
        for bit in 0..128 {
            let secret = bytes(SECRET);
            let wrong = u128::from_be_bytes(secret) ^ 1 << bit;
            let payload = [&[0; 16][..], &wrong.to_be_bytes()].concat();
            sender.send(to, &echo(client.v4.into(), to, &payload));
        }
        // What it would be without the wrong bit, cut short.
        let payload = [&[0; 16][..], &bytes(SECRET)[..15]].concat();
        sender.send(to, &echo(client.v4.into(), to, &payload));
    });
    // Heard after all that.
    Ran::of(&mut ping(witness, to, SECRET));
    daemon.wait_lease("ssh", witness.v4);
    assert_eq!(let_in(&daemon, "ssh"), [IpAddr::from(witness.v4)]);
    // Nor does that stand in the way of the right one.
    Ran::of(&mut ping(client, to, SECRET));
    daemon.wait_lease("ssh", client.v4);
}

#[test]
fn the_secret_stands_where_ping_puts_it_or_anywhere_in_a_range() {
    let net = Net::new(2);
    let doors = [
        door("strict", "22/tcp", SECRET),
        door("loose", "23/tcp", OTHER).but("offsets = \"0-96\""),
    ];
    let daemon = Daemon::start(&net.server, &doors);
    let [client, witness] = &net.clients[..] else {
        panic!("two clients")
    };
    let to = net.server.v4.into();
    let offsets = [0, 1, 7, 8, 9, 12, 15, 16, 17, 24, 32, 95, 96, 97];
    client.inside(|| {
        let sender = Sender::new(false);
        for offset in offsets {
            for secret in [SECRET, OTHER] {
                let payload = [&vec![0; offset.into()][..], &bytes(secret)].concat();
                sender.send(to, &echo(source(100 + offset), to, &payload));
            }
        }
        // FreeBSD's: 8 bytes of time stamp, 48 of pattern.
        let payload = [&[0x55; 8][..], &bytes(SECRET).repeat(3)].concat();
        sender.send(to, &echo(source(250), to, &payload));
        let (from, to) = (IpAddr::from(client.v6), IpAddr::from(net.server.v6));
        Sender::new(true).send(to, &echo(from, to, &payload));
    });
    // Rotated by five bytes, as whoever reads it off the wire somewhere in between has it.
    let rotated = |secret: &str| format!("{}{}", &secret[10..], &secret[..10]);
    Ran::of(&mut ping(client, to, &rotated(SECRET)));
    Ran::of(&mut ping(client, to, &rotated(OTHER)));
    Ran::of(&mut ping(witness, to, SECRET));
    daemon.wait_lease("strict", witness.v4);

    let (v4, v6) = (IpAddr::from(client.v4), IpAddr::from(client.v6));
    let strict = [witness.v4.into(), source(108), source(116), source(250), v6];
    assert_eq!(let_in(&daemon, "strict"), strict);
    let within = offsets.iter().filter(|&&offset| offset <= 96);
    let mut loose = vec![v4];
    loose.extend(within.map(|offset| source(100 + offset)));
    assert_eq!(let_in(&daemon, "loose"), loose);
}

#[test]
fn a_ping_to_another_address_or_interface_opens_nothing() {
    let net = Net::new(1);
    let (client, server) = (net.client(), &net.server);
    net.plug(server, "eth1");
    server.address("add", "10.66.0.2/24", "eth0");
    let doors = [
        door("aimed", "22/tcp", SECRET).but("target = \"10.66.0.2\""),
        door("inside", "23/tcp", OTHER).with("on = [\"eth1\"]"),
    ];
    let mut daemon = Daemon::prepare(server, &[]);
    daemon.set("interface", "[\"eth0\", \"eth1\"]");
    daemon.configure(&doors);
    daemon.run();
    // The switch learns where eth0 is.
    Ran::of(&mut ping(client, server.v4, SECRET));
    let other = IpAddr::from([10, 66, 0, 2]);
    let send = |n: u8, to: IpAddr, interface: &str, secret: &str| {
        let mac = hardware(server, interface);
        let payload = [&[0; 8][..], &bytes(secret)].concat();
        client.inside(|| Wire::new("eth0").send(mac, &[], &echo(source(n), to, &payload)));
    };
    send(101, server.v4.into(), "eth0", SECRET);
    send(102, other, "eth0", OTHER);
    // To somebody else, though it comes by here.
    send(103, source(77), "eth0", SECRET);
    send(104, other, "eth0", SECRET);
    daemon.wait_lease("aimed", source(104));
    send(105, other, "eth1", OTHER);
    daemon.wait_lease("inside", source(105));
    Ran::of(&mut ping(client, other, SECRET));
    daemon.wait_lease("aimed", client.v4);
    assert_eq!(let_in(&daemon, "aimed"), [client.v4.into(), source(104)]);
    assert_eq!(let_in(&daemon, "inside"), [source(105)]);
    let _service = Service::start(server, &[22]);
    assert!(client.reaches(other, 22));
}
