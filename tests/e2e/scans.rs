//! What a scanner sees, and what a sweep opens: nothing.

use std::net::IpAddr;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use crate::harness::raw::{SYN, Sender, tcp, udp};
use crate::harness::{Daemon, Door, Host, Net, Service, until};
use crate::{STEPS, ssh};

const SCANS: [&str; 5] = ["-sS", "-sF", "-sN", "-sX", "-sA"];

/// What nmap says of ports 22, 23 and 24 in each kind of scan.
fn nmap(host: &Host, to: IpAddr) -> Vec<[String; 3]> {
    let scans = SCANS.map(|scan| {
        let mut nmap = host.command("nmap");
        nmap.args([
            "-n",
            "-Pn",
            "--max-retries",
            "1",
            "-p",
            "22-24",
            "-oG",
            "-",
            scan,
        ]);
        if to.is_ipv6() {
            nmap.arg("-6");
        }
        nmap.arg(to.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    });
    let states = scans.map(|scan| {
        let output = scan.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        ["22/", "23/", "24/"].map(|port| {
            let (_, rest) = text.split_once(port).unwrap_or_else(|| panic!("{text}"));
            rest.split('/').next().unwrap().to_owned()
        })
    });
    states.into()
}

/// A network whose server listens on 22 and 23, drops everything to 23, and has 24 closed.
fn network(clients: u8) -> (Net, Service) {
    let net = Net::new(clients);
    let service = Service::start(&net.server, &[22, 23]);
    net.server.nft(&[
        "add table inet wall",
        "add chain inet wall c { type filter hook input priority 0; }",
        "add rule inet wall c tcp dport 23 drop",
    ]);
    (net, service)
}

fn looks_like_a_wall(net: &Net, scanner: &Host, v6: bool) {
    let to: IpAddr = if v6 {
        net.server.v6.into()
    } else {
        net.server.v4.into()
    };
    let kinds = nmap(scanner, to);
    for (scan, [guarded, wall, closed]) in SCANS.iter().zip(kinds) {
        assert_eq!(guarded, wall, "{scan}");
        // The scan could have seen a difference.
        assert_ne!(closed, wall, "{scan}");
    }
}

fn no_scan_tells(v6: bool) {
    let (net, _service) = network(2);
    let daemon = Daemon::start(&net.server, &[ssh("1h")]);
    let [scanner, client] = &net.clients[..] else {
        panic!()
    };
    looks_like_a_wall(&net, scanner, v6);

    // Somebody else is let in, on both families, and has a session.
    let mut sessions = [
        client.knock_in(net.server.v4, &STEPS, 22),
        client.knock_in(net.server.v6, &STEPS, 22),
    ];
    looks_like_a_wall(&net, scanner, v6);
    sessions.iter_mut().for_each(|s| s.echo());

    let closed = daemon.ctl(&["close", &client.v4.to_string()]);
    assert_eq!(closed.code(), 0, "{closed:?}");
    until("it is closed", || {
        client.connect(net.server.v4, 22).is_silence()
    });
    sessions.iter_mut().for_each(|s| s.echo());
    looks_like_a_wall(&net, if v6 { scanner } else { client }, v6);
}

#[test]
fn no_scan_tells_a_guarded_port_from_one_that_drops_all() {
    no_scan_tells(false);
}

#[test]
fn no_scan_tells_it_over_ipv6() {
    no_scan_tells(true);
}

/// Doors whose sequences a sweep in order passes in order, or nearly so.
fn in_order() -> Vec<Door> {
    let opens = |name, port| Door::opens(name, port, "1h");
    vec![
        opens("round", "22/tcp").to(&["7000", "8000", "10000"]),
        opens("close", "23/tcp").to(&["20100", "20103", "20107", "20110"]),
        opens("down", "25/tcp").to(&["61000", "40000", "30000", "1500"]),
        opens("pair", "26/tcp").to(&["1200", "64000"]),
        opens("udp", "27/tcp").to(&["3000/udp", "33000/udp", "63000/udp"]),
        opens("mixed", "28/tcp").to(&["5000", "5100/udp", "5200"]),
    ]
}

/// Doors as `posternctl keygen` makes them: four steps.
fn keyed() -> Vec<Door> {
    let opens = |name, port| Door::opens(name, port, "1h");
    vec![
        opens("one", "22/tcp").to(&["7143", "12912", "29001", "16044"]),
        opens("two", "23/tcp").to(&["31207", "8351", "2110", "30477"]),
        opens("three", "25/tcp").to(&["11207", "18351", "22110", "5477"]),
    ]
}

/// Sends one packet to each port in this order, not faster than the receiver's queues allow.
fn sweep(host: &Host, to: IpAddr, ports: impl Iterator<Item = u16> + Send, udp_too: bool) {
    let from = IpAddr::from(host.v4);
    host.inside(|| {
        let sender = Sender::new(false);
        for (n, port) in ports.enumerate() {
            sender.send(to, &tcp(from, to, port, SYN, 0));
            if udp_too {
                sender.send(to, &udp(from, to, port));
            }
            if n % 128 == 127 {
                thread::sleep(Duration::from_millis(1));
            }
        }
    });
}

/// All ports in an order that the seed decides (Fisher-Yates over splitmix64).
fn shuffled(mut seed: u64) -> Vec<u16> {
    let mut ports: Vec<u16> = (1..=u16::MAX).collect();
    for n in (1..ports.len()).rev() {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = seed;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ports.swap(n, ((x ^ (x >> 31)) % (n as u64 + 1)) as usize);
    }
    ports
}

/// Runs a sweep and shows that it was heard and opened nothing; then that a knock at the third
/// door still opens.
fn opens_nothing(doors: &[Door], door: &str, steps: [&str; 4], run: impl FnOnce(&Host, IpAddr)) {
    let net = Net::new(2);
    let daemon = Daemon::start(&net.server, doors);
    let [client, witness] = &net.clients[..] else {
        panic!()
    };
    run(client, net.server.v4.into());
    until("the witness is let in", || {
        witness.knock(net.server.v4, &steps);
        daemon.lease(door, witness.v4).is_some()
    });
    until("the attempts are counted", || {
        let attempts = &daemon.status().unwrap()["attempts"];
        let ended = |how: &str| attempts[how].as_u64().unwrap();
        ended("trapped") + ended("failed") >= 3
    });
    let leases = daemon.leases();
    assert!(leases.iter().all(|l| l.address == witness.v4), "{leases:?}");
    client.knock(net.server.v4, &steps);
    daemon.wait_lease(door, client.v4);
}

fn in_order_opens_nothing(run: impl FnOnce(&Host, IpAddr)) {
    opens_nothing(
        &in_order(),
        "down",
        ["61000", "40000", "30000", "1500"],
        run,
    );
}

#[test]
fn a_sweep_upwards_opens_nothing() {
    in_order_opens_nothing(|host, to| sweep(host, to, 1..=u16::MAX, false));
}

#[test]
fn a_sweep_upwards_by_tcp_and_udp_opens_nothing() {
    in_order_opens_nothing(|host, to| sweep(host, to, 1..=u16::MAX, true));
}

#[test]
fn a_sweep_downwards_opens_nothing() {
    in_order_opens_nothing(|host, to| sweep(host, to, (1..=u16::MAX).rev(), false));
}

/// How likely is a random sweep to open a door? Of the k ports that a sequence of n steps and its
/// traps concern, the steps must be the first from the first step on, in their order: one sweep
/// in (k - 1)(k - 2)...(k - n + 1), for four steps and 24 traps one in 17,550. The seeds here are
/// none of these.
#[test]
fn random_sweeps_open_nothing() {
    opens_nothing(
        &keyed(),
        "three",
        ["11207", "18351", "22110", "5477"],
        |host, to| {
            for seed in 1..=3 {
                sweep(host, to, shuffled(seed).into_iter(), false);
            }
        },
    );
}

/// knockd's fault 10.
#[test]
fn nmap_through_all_ports_opens_nothing() {
    in_order_opens_nothing(|host, to| {
        let ranges = ["6990-9010", "1-65535"];
        for range in ranges {
            host.run(&format!(
                "nmap -n -Pn -sS -r -p {range} -T5 --min-rate 20000 --max-retries 0 {to}"
            ));
        }
    });
}
