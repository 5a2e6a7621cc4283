//! Who can knock, with what, and over which links.

use std::net::IpAddr;
use std::process::Command;

use crate::harness::raw::{SYN, Sender, Tun, Wire, hardware, tcp, udp};
use crate::harness::{Daemon, Door, Host, Net, Ran, Service, program, until};
use crate::{STEPS, ssh};

/// Knocks once with a client's program; the door opens for its address alone, and closes.
pub fn opens_once(net: &Net, v6: bool, knock: impl FnOnce(&Host) -> Vec<Command>) {
    opens_a_door_once(net, ssh("2s"), v6, knock);
}

/// The same with a door of the caller's for port 22.
pub fn opens_a_door_once(
    net: &Net,
    door: Door,
    v6: bool,
    knock: impl FnOnce(&Host) -> Vec<Command>,
) {
    let _service = Service::start(&net.server, &[22]);
    let daemon = Daemon::start(&net.server, &[door]);
    let server: IpAddr = if v6 {
        net.server.v6.into()
    } else {
        net.server.v4.into()
    };
    let [client, other] = &net.clients[..] else {
        panic!("two clients")
    };
    let address: IpAddr = if v6 {
        client.v6.into()
    } else {
        client.v4.into()
    };
    assert!(client.connect(server, 22).is_silence());

    for mut command in knock(client) {
        Ran::of(&mut command);
    }
    daemon.wait_lease("ssh", address);
    assert!(client.reaches(server, 22));
    assert!(other.connect(server, 22).is_silence());
    assert_eq!(daemon.leases().len(), 1);

    until("it closes", || client.connect(server, 22).is_silence());
    until("the lease is over", || daemon.leases().is_empty());
    daemon.wait_log(&format!("ssh: closed for {address}"));
}

fn one(host: &Host, program: &str, arguments: &[&str]) -> Vec<Command> {
    let mut command = host.command(program);
    command.args(arguments);
    vec![command]
}

#[test]
fn debians_knock_opens_for_its_address_alone_and_for_its_time() {
    let net = Net::new(2);
    opens_once(&net, false, |client| {
        let steps = ["7143", "2912:udp", "39001", "16044"];
        one(
            client,
            "knock",
            &[&["-d", "20", "10.66.0.1"], &steps[..]].concat(),
        )
    });
}

#[test]
fn debians_knock_opens_over_ipv6() {
    let net = Net::new(2);
    opens_once(&net, true, |client| {
        let steps = ["7143", "2912:udp", "39001", "16044"];
        one(
            client,
            "knock",
            &[&["-6", "-d", "20", "fd66::1"], &steps[..]].concat(),
        )
    });
}

#[test]
fn nc_opens() {
    let net = Net::new(2);
    opens_once(&net, false, |client| {
        let step = |step: &str| {
            let mut nc = client.command("nc");
            match step.split_once('/') {
                Some((port, _)) => {
                    let script = format!("printf x | nc -u -q 0 -w 1 10.66.0.1 {port}");
                    nc = client.command("sh");
                    nc.args(["-c", &script]);
                }
                None => {
                    nc.args(["-z", "-w", "1", "10.66.0.1", step]);
                }
            }
            nc
        };
        STEPS.map(step).into()
    });
}

#[test]
fn our_own_client_opens() {
    let net = Net::new(2);
    opens_once(&net, false, |client| {
        one(
            client,
            program("postern"),
            &[&["knock", "10.66.0.1"], &STEPS[..]].concat(),
        )
    });
}

#[test]
fn our_own_client_opens_over_ipv6() {
    let net = Net::new(2);
    opens_once(&net, true, |client| {
        one(
            client,
            program("postern"),
            &[&["knock", "-6", "fd66::1"], &STEPS[..]].concat(),
        )
    });
}

#[test]
fn our_own_client_knocks_by_a_profile() {
    let net = Net::new(2);
    let dir = tempfile::tempdir().unwrap();
    let profile = dir.path().join("config.toml");
    let text = format!("[host.home]\naddress = \"10.66.0.1\"\nsequence = {STEPS:?}\n");
    std::fs::write(&profile, text).unwrap();
    Ran::of(Command::new("chmod").arg("600").arg(&profile));
    opens_once(&net, false, |client| {
        one(
            client,
            program("postern"),
            &["knock", "-c", profile.to_str().unwrap(), "home"],
        )
    });
}

#[test]
fn our_own_client_says_when_nothing_could_be_sent() {
    let net = Net::new(1);
    let postern = |to: &str| {
        let mut command = net.client().command(program("postern"));
        Ran::of(command.args(["knock", to, "7143"]))
    };
    let unresolved = postern("no-such-host.invalid");
    assert_eq!(unresolved.code(), 68, "{unresolved:?}");
    assert!(
        unresolved.stderr.contains("no-such-host.invalid"),
        "{unresolved:?}"
    );
    // There is no route but to 10.66.0.0/24.
    let unsent = postern("192.0.2.1");
    assert_eq!(unsent.code(), 69, "{unsent:?}");
}

/// The packet of one step.
fn packet(from: IpAddr, to: IpAddr, step: &str, options: u8) -> Vec<u8> {
    match step.split_once('/') {
        Some((port, _)) => udp(from, to, port.parse().unwrap()),
        None => tcp(from, to, step.parse().unwrap(), SYN, options),
    }
}

#[test]
fn frames_with_vlan_tags_are_heard() {
    let net = Net::new(3);
    let _service = Service::start(&net.server, &[22]);
    let daemon = Daemon::start(&net.server, &[ssh("30s")]);
    let (to, mac) = (net.server.v4.into(), hardware(&net.server, "eth0"));
    for (client, tags) in net.clients.iter().zip([&[][..], &[7], &[7, 42]]) {
        let from = client.v4.into();
        client.inside(|| {
            let wire = Wire::new("eth0");
            for step in STEPS {
                wire.send(mac, tags, &packet(from, to, step, 0));
            }
        });
        daemon.wait_lease("ssh", from);
        assert!(client.reaches(to, 22));
    }
}

/// knockd's fault 11.
#[test]
fn ipv6_behind_extension_headers_is_heard() {
    let net = Net::new(2);
    let steps = ["7143", "41002", "39001", "16044"];
    let daemon = Daemon::start(
        &net.server,
        &[Door::opens("ssh", "22/tcp", "30s").to(&steps)],
    );
    let to = net.server.v6.into();
    for (client, options) in net.clients.iter().zip([1, 3]) {
        let from = client.v6.into();
        client.inside(|| {
            let sender = Sender::new(true);
            for step in steps {
                sender.send(to, &packet(from, to, step, options));
            }
        });
        daemon.wait_lease("ssh", from);
    }
}

/// knockd's fault 6.
#[test]
fn an_interface_without_link_headers_is_heard() {
    let net = Net::new(0);
    let mut tun = net.server.inside(|| Tun::new("tun9"));
    net.server.address("add", "10.77.0.1/24", "tun9");
    net.server.run("ip link set tun9 up");
    let mut daemon = Daemon::prepare(&net.server, &[ssh("30s")]);
    daemon.set("interface", "[\"tun9\"]");
    daemon.configure(&[ssh("30s")]);
    daemon.run();
    let (from, to) = ([10, 77, 0, 2].into(), [10, 77, 0, 1].into());
    for step in STEPS {
        tun.send(&packet(from, to, step, 0));
    }
    daemon.wait_lease("ssh", from);
}

#[test]
fn the_loopback_is_heard_and_lets_nobody_in() {
    let net = Net::new(0);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    daemon.set("interface", "\"lo\"");
    daemon.configure(&[ssh("30s")]);
    daemon.run();
    net.server.knock([127, 0, 0, 1], &STEPS);
    // From its own address: nothing forbids that.
    net.server.knock(net.server.v4, &STEPS);
    daemon.wait_lease("ssh", net.server.v4);
    assert_eq!(daemon.leases().len(), 1);
}

#[test]
fn sources_that_nobody_can_have_are_refused() {
    let net = Net::new(1);
    let daemon = Daemon::start(&net.server, &[ssh("30s")]);
    let (client, to) = (net.client(), IpAddr::from(net.server.v4));
    let (to_6, mac) = (IpAddr::from(net.server.v6), hardware(&net.server, "eth0"));
    let sources = [
        "0.0.0.0",
        "127.0.0.1",
        "127.9.9.9",
        "224.0.0.5",
        "255.255.255.255",
        "::",
        "::1",
        "ff02::1",
        "::ffff:10.66.0.11",
    ];
    client.inside(|| {
        let wire = Wire::new("eth0");
        for source in sources {
            let source: IpAddr = source.parse().unwrap();
            let to = if source.is_ipv4() { to } else { to_6 };
            for step in STEPS {
                wire.send(mac, &[], &packet(source, to, step, 0));
            }
        }
    });
    client.knock(to, &STEPS);
    daemon.wait_lease("ssh", client.v4);
    assert_eq!(daemon.leases().len(), 1);
}
