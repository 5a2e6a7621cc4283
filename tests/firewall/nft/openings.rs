//! Who is let in, and until when.

use super::*;

either_way! {
    a_guard_drops_and_a_lease_opens_for_its_address_only
    doors_without_a_guard_and_udp
    a_lease_ends_by_itself
    an_end_moves_both_ways
}

fn a_guard_drops_and_a_lease_opens_for_its_address_only(drive: Drive) {
    let mut tables = Tables::by(drive);
    let _ssh = listen(22);
    let _http = listen(80);
    tables.firewall.establish(&doors(), &[]).unwrap();
    let net = &tables.net;
    assert!(net.connect(CLIENT_4, SERVER_4, 22).is_none());
    assert!(net.connect(CLIENT_6, SERVER_6, 22).is_none());
    net.reach(CLIENT_4, SERVER_4, 80);
    assert!(
        std::net::TcpStream::connect(("127.0.0.1", 22)).is_ok(),
        "the loopback"
    );

    tables.obey(&[open(0, CLIENT_4, 600), open(1, CLIENT_6, 600)]);
    let net = &tables.net;
    net.reach(CLIENT_4, SERVER_4, 22);
    net.reach(CLIENT_6, SERVER_6, 22);
    assert!(net.connect("10.77.0.3", SERVER_4, 22).is_none());

    tables.obey(&[close(0, CLIENT_4), close(1, CLIENT_6)]);
    let net = &tables.net;
    assert!(net.connect(CLIENT_4, SERVER_4, 22).is_none());
    assert!(net.connect(CLIENT_6, SERVER_6, 22).is_none());

    tables.firewall.remove().unwrap();
    assert_eq!(ruleset(), "");
    tables.net.reach(CLIENT_4, SERVER_4, 22);
}

fn doors_without_a_guard_and_udp(drive: Drive) {
    let tables = &mut Tables::by(drive);
    let _http = listen(80);
    let dns = std::net::UdpSocket::bind((SERVER_4, 53)).unwrap();
    dns.set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let doors = [
        opens("web", &[tcp(80)], false),
        opens("dns", &[udp(53)], true),
    ];
    tables.firewall.establish(&doors, &[]).unwrap();
    tables.net.reach(CLIENT_4, SERVER_4, 80);
    let asks = |tables: &Tables| {
        tables.net.as_client(|| {
            let client = std::net::UdpSocket::bind((CLIENT_4, 0)).unwrap();
            client.send_to(b"x", (SERVER_4, 53)).unwrap();
        });
        dns.recv(&mut [0; 1]).is_ok()
    };
    assert!(!asks(tables));
    tables.obey(&[open(1, CLIENT_4, 600)]);
    assert!(asks(tables));
}

/// The kernel ends a lease even when nobody is left to close it.
fn a_lease_ends_by_itself(drive: Drive) {
    let mut tables = Tables::by(drive);
    tables.firewall.establish(&doors(), &[]).unwrap();
    tables.obey(&[open(0, CLIENT_4, 2)]);
    assert_eq!(tables.let_in().len(), 1);
    let element = || try_run("nft get element inet postern ssh_4 { 10.77.0.2 }").0;
    until("the element goes", || !element());
    // What is gone can be closed and opened again.
    tables.obey(&[close(0, CLIENT_4)]);
    tables.obey(&[open(0, CLIENT_4, 600)]);
    assert!(element());
}

/// nft tells how long an element has yet to stand, e.g. `expires 29s980ms`.
fn expires(set: &str, address: &str) -> Duration {
    let text = run(&format!("nft list set inet postern {set}"));
    let element = text
        .split([',', '{', '}'])
        .find(|element| element.split_whitespace().next() == Some(address));
    let element = element.unwrap_or_else(|| panic!("{address}: {text}"));
    let time = element
        .split_whitespace()
        .skip_while(|word| *word != "expires")
        .nth(1)
        .unwrap();
    let (mut total, mut number) = (0, String::new());
    let mut rest = time;
    while let Some(c) = rest.chars().next() {
        if c.is_ascii_digit() {
            number.push(c);
            rest = &rest[1..];
            continue;
        }
        let unit = [
            ("ms", 1),
            ("d", 86_400_000),
            ("h", 3_600_000),
            ("m", 60_000),
            ("s", 1000),
        ]
        .into_iter()
        .find(|(unit, _)| rest.starts_with(unit))
        .unwrap();
        total += number.parse::<u64>().unwrap() * unit.1;
        number.clear();
        rest = &rest[unit.0.len()..];
    }
    Duration::from_millis(total)
}

fn an_end_moves_both_ways(drive: Drive) {
    let mut tables = Tables::by(drive);
    tables.firewall.establish(&doors(), &[]).unwrap();
    let about = |seconds: u64| {
        let left = expires("ssh_4", CLIENT_4).as_secs();
        assert!(
            left <= seconds && left + 30 > seconds,
            "{left} of {seconds}"
        );
    };
    tables.obey(&[open(0, CLIENT_4, 100)]);
    about(100);
    tables.obey(&[extend(0, CLIENT_4, 100_000)]);
    about(100_000);
    tables.obey(&[open(0, CLIENT_4, 1000)]);
    about(1000);
    // A process that does not know what stands.
    tables.crash();
    tables
        .firewall
        .establish(&doors(), &[left(0, CLIENT_4, 500)])
        .unwrap();
    about(500);
    let upkeep = tables.firewall.uphold(&[left(0, CLIENT_4, 300)]).unwrap();
    about(300);
    assert_eq!(
        upkeep.mended,
        [format!(
            "door ssh: openings ended at another time than their leases, set right: {CLIENT_4}"
        )]
    );
}
