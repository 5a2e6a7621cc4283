//! Traffic through doors whose leases go by it.

use std::net::UdpSocket;

use super::*;

fn doors() -> Vec<Door> {
    vec![
        idle(opens("ssh", &[tcp(22), udp(53)], true), 600),
        opens("sftp", &[tcp(22)], false),
    ]
}

fn traffic(tables: &mut Tables) -> BTreeSet<Opening> {
    let traffic = tables.firewall.traffic().unwrap();
    let all: BTreeSet<Opening> = traffic.iter().map(|(opening, _)| *opening).collect();
    assert_eq!(all.len(), traffic.len(), "each is told once");
    for (opening, ago) in traffic {
        assert!(ago < PATIENCE, "{opening:?}: {ago:?}");
    }
    all
}

/// How many packets have come to the counter of this name.
fn counted(name: &str) -> u64 {
    let text = run(&format!("nft list counter inet watch {name}"));
    let (_, rest) = text.split_once("packets ").unwrap();
    rest.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn what_comes_through_an_answered_connection_is_traffic() {
    let mut tables = Tables::new();
    let ssh = listen(22);
    tables.firewall.establish(&doors(), &[]).unwrap();
    let since = Instant::now();
    let addresses = [CLIENT_4, "10.77.0.3", CLIENT_6];
    tables.obey(&addresses.map(|address| open(0, address, 600)));
    tables.obey(&[open(1, CLIENT_4, 600)]);
    assert_eq!(traffic(&mut tables), BTreeSet::new());

    let mut four = Session::new(&tables.net, &ssh, CLIENT_4);
    let mut six = Session::new(&tables.net, &ssh, CLIENT_6);
    assert!(four.client_speaks() && six.client_speaks());
    let both = BTreeSet::from([opening(0, CLIENT_4), opening(0, CLIENT_6)]);
    assert_eq!(
        traffic(&mut tables),
        both,
        "the other door does not go by it"
    );

    // What the kernel keeps is nobody's damage, and a restart forgets none of it.
    let openings = [
        still(0, CLIENT_4, since),
        still(0, "10.77.0.3", since),
        still(0, CLIENT_6, since),
        still(1, CLIENT_4, since),
    ];
    assert_eq!(
        tables.firewall.uphold(&openings).unwrap(),
        Default::default()
    );
    let before = ruleset();
    tables.crash();
    assert_eq!(
        tables.firewall.establish(&doors(), &openings).unwrap(),
        Default::default()
    );
    assert_eq!(ruleset(), before);
    assert_eq!(traffic(&mut tables), both);

    // Nor does the moving of an end.
    tables.obey(&[extend(0, CLIENT_4, 900), close(0, CLIENT_6)]);
    assert_eq!(traffic(&mut tables), BTreeSet::from([opening(0, CLIENT_4)]));
    tables.firewall.remove().unwrap();
    assert_eq!(ruleset(), "");
}

#[test]
fn what_was_not_answered_or_went_elsewhere_is_none() {
    let mut tables = Tables::new();
    let (_ssh, http) = (listen(22), listen(80));
    tables.firewall.establish(&doors(), &[]).unwrap();
    tables.obey(&[open(0, CLIENT_4, 600)]);
    nft("table inet watch {\n\
         counter syns { }\n\
         counter datagrams { }\n\
         chain in { type filter hook input priority -300;\n\
         tcp dport 22 tcp flags syn counter name syns\n\
         udp dport 53 counter name datagrams\n}\n}");
    // As forged: nobody at the address takes the connection up.
    tables.net.as_client(|| {
        nft(
            "table ip deaf { chain in { type filter hook input priority 0; \
             tcp sport 22 drop\n}\n}",
        );
    });
    assert!(tables.net.connect(CLIENT_4, SERVER_4, 22).is_none());
    tables.net.as_client(|| {
        let socket = UdpSocket::bind((CLIENT_4, 0)).unwrap();
        socket.send_to(b"x", (SERVER_4, 53)).unwrap();
    });
    until("a SYN and a datagram have come", || {
        counted("syns") > 0 && counted("datagrams") > 0
    });
    let mut elsewhere = Session::new(&tables.net, &http, CLIENT_4);
    assert!(elsewhere.client_speaks());
    assert_eq!(traffic(&mut tables), BTreeSet::new());

    // A conversation by UDP.
    let dns = UdpSocket::bind((SERVER_4, 53)).unwrap();
    let client = tables
        .net
        .as_client(|| UdpSocket::bind((CLIENT_4, 0)).unwrap());
    for _ in 0..2 {
        client.send_to(b"x", (SERVER_4, 53)).unwrap();
        let (_, from) = dns.recv_from(&mut [0; 8]).unwrap();
        dns.send_to(b"x", from).unwrap();
        client.recv_from(&mut [0; 8]).unwrap();
    }
    assert_eq!(traffic(&mut tables), BTreeSet::from([opening(0, CLIENT_4)]));
}

#[test]
fn what_keeps_traffic_is_mended() {
    let mut tables = Tables::new();
    let _ssh = listen(22);
    tables.firewall.establish(&doors(), &[]).unwrap();
    // A set that is made anew stands behind the others.
    let lines = || BTreeSet::from_iter(ruleset().lines().map(str::to_owned));
    let right = lines();
    for (damage, mended) in [
        (
            "insert rule inet postern input tcp dport 22 update @ssh_seen4 { ip saddr } \
             comment \"postern: traffic mine\"",
            "rule \"postern: traffic mine\" was added: taken away",
        ),
        (
            "flush chain inet postern input\ndelete set inet postern ssh_seen6",
            "set ssh_seen6 was gone: made anew",
        ),
        (
            "flush chain inet postern input\ndelete set inet postern ssh_seen4\n\
             add set inet postern ssh_seen4 { type ipv4_addr; comment \"postern: traffic at ssh for 600s\"; }",
            "set ssh_seen4 was changed: made anew",
        ),
    ] {
        nft(damage);
        let upkeep = tables.firewall.uphold(&[]).unwrap();
        let told = upkeep.mended.iter().any(|line| line == mended);
        assert!(told, "{damage}: {upkeep:?}");
        assert_eq!(lines(), right, "{damage}");
    }
    // Another length holds from then on; without, nothing of it is left.
    let ssh = idle(opens("ssh", &[tcp(22), udp(53)], true), 900);
    let sftp = opens("sftp", &[tcp(22)], false);
    tables.firewall.establish(&[ssh, sftp], &[]).unwrap();
    assert!(ruleset().contains("timeout 15m"), "{}", ruleset());
    assert!(
        ruleset().contains("traffic at ssh for 900s"),
        "{}",
        ruleset()
    );
    tables.firewall.establish(&super::doors(), &[]).unwrap();
    assert!(!ruleset().contains("seen"), "{}", ruleset());
    assert_eq!(traffic(&mut tables), BTreeSet::new());
}
