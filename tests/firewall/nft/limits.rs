//! Who always passes, how many connections at once, on which interfaces.

use super::*;

fn with_always(networks: &[&str]) -> Nft {
    let networks: Vec<_> = networks.iter().map(|text| text.parse().unwrap()).collect();
    Nft::new(&[INTERFACE.to_owned()], &networks).unwrap()
}

#[test]
fn whoever_always_passes_needs_no_lease() {
    let mut tables = Tables::new();
    let (_ssh, _http) = (listen(22), listen(80));
    let mut doors = doors();
    doors.push(opens("web", &[tcp(80)], false));
    let always = [
        "10.77.0.2",
        "192.0.2.0/24",
        "192.0.2.9",
        "fd77::/64",
        "2001:db8::1",
    ];
    tables.firewall = with_always(&always);
    tables.firewall.establish(&doors, &[]).unwrap();
    let reached = |tables: &Tables| {
        tables.net.reach(CLIENT_4, SERVER_4, 22);
        tables.net.reach(CLIENT_6, SERVER_6, 22);
        assert!(tables.net.connect("10.77.0.3", SERVER_4, 22).is_none());
    };
    reached(&tables);
    assert!(
        !ruleset().contains("@always_4 tcp dport { 22, 80 }"),
        "at guarded ports only"
    );

    // They are looked after like openings.
    let right = ruleset();
    let mut mended = |damage: &str, expected: &str| {
        nft(damage);
        let upkeep = tables.firewall.uphold(&[]).unwrap();
        assert_eq!(upkeep.mended, [expected], "{damage}");
        assert_eq!(ruleset(), right, "{damage}");
        assert_eq!(
            tables.firewall.uphold(&[]).unwrap(),
            Default::default(),
            "{damage}"
        );
    };
    mended(
        "delete element inet postern always_4 { 192.0.2.0/24 }",
        "always: networks were missing, put back: 192.0.2.0/24",
    );
    mended(
        "flush set inet postern always_6",
        "always: networks were missing, put back: 2001:db8::1, fd77::/64",
    );
    mended(
        "add element inet postern always_4 { 10.77.0.3 comment \"postern:\" }",
        "always: networks stood that should not, taken away: 10.77.0.3",
    );
    reached(&tables);
    // Somebody else's stay, also where they overlap ours.
    nft("delete element inet postern always_4 { 192.0.2.0/24 }\n\
         add element inet postern always_4 { 192.0.2.128/25, 198.51.100.7 }");
    let upkeep = tables.firewall.uphold(&[]).unwrap();
    assert_eq!(
        upkeep.strangers,
        ["table inet postern: 2 elements of set \"always_4\" is not ours: left alone"]
    );
    nft("delete element inet postern always_4 { 192.0.2.128/25, 198.51.100.7 }");
    tables.firewall.uphold(&[]).unwrap();
    assert_eq!(ruleset(), right);

    // Another configuration, after a crash: those of before are gone.
    tables.firewall = with_always(&["10.77.0.3"]);
    assert_eq!(
        tables.firewall.establish(&doors, &[]).unwrap(),
        Default::default()
    );
    tables.net.reach("10.77.0.3", SERVER_4, 22);
    assert!(tables.net.connect(CLIENT_4, SERVER_4, 22).is_none());
    assert!(tables.net.connect(CLIENT_6, SERVER_6, 22).is_none());
    assert!(!ruleset().contains("always_6"));
    tables.firewall.remove().unwrap();
    assert_eq!(ruleset(), "");
}

#[test]
fn so_many_connections_at_once_and_no_more() {
    let mut tables = Tables::new();
    let ssh = listen(22);
    let one = || vec![limited(opens("ssh", &[tcp(22)], true), 1)];
    tables.firewall.establish(&one(), &[]).unwrap();
    let addresses = [CLIENT_4, "10.77.0.3", CLIENT_6];
    let since = Instant::now();
    tables.obey(&addresses.map(|address| open(0, address, 600)));
    // Each address has its own.
    let mut running = addresses.map(|from| Session::new(&tables.net, &ssh, from));
    for (from, to) in [(CLIENT_4, SERVER_4), (CLIENT_6, SERVER_6)] {
        assert!(tables.net.connect(from, to, 22).is_none(), "{from}");
    }
    for session in &mut running {
        assert!(session.client_speaks() && session.server_speaks());
    }
    // One that has ended makes room.
    let [first, second, third] = running;
    drop(first);
    let mut again = None;
    until("there is room", || {
        again = tables.net.connect(CLIENT_4, SERVER_4, 22);
        again.is_some()
    });
    assert!(tables.net.connect(CLIENT_4, SERVER_4, 22).is_none());
    let _accepted = ssh.accept().unwrap();

    // What is counted stands through an upkeep and a restart; nobody else put it there.
    tables.crash();
    let openings = || addresses.map(|address| still(0, address, since));
    assert_eq!(
        tables.firewall.establish(&one(), &openings()).unwrap(),
        Default::default()
    );
    assert_eq!(
        tables.firewall.uphold(&openings()).unwrap(),
        Default::default()
    );
    assert!(tables.net.connect(CLIENT_4, SERVER_4, 22).is_none());

    // Another number holds from then on.
    let two = [limited(opens("ssh", &[tcp(22)], true), 2)];
    tables.firewall.establish(&two, &openings()).unwrap();
    let more = tables.net.reach(CLIENT_4, SERVER_4, 22);
    let _accepted = ssh.accept().unwrap();
    let and_more = tables.net.reach(CLIENT_4, SERVER_4, 22);
    assert!(tables.net.connect(CLIENT_4, SERVER_4, 22).is_none());
    // Without a limit nothing counts any more.
    tables
        .firewall
        .establish(&[opens("ssh", &[tcp(22)], true)], &openings())
        .unwrap();
    tables.net.reach(CLIENT_4, SERVER_4, 22);
    assert!(!ruleset().contains("now4"), "{}", ruleset());
    drop((again, more, and_more, second, third));
}

/// Whoever has used up one door's connections may have a lease at another.
#[test]
fn connections_are_counted_by_door() {
    let mut tables = Tables::new();
    let _ssh = listen(22);
    let doors = [
        limited(opens("ssh", &[tcp(22)], true), 1),
        limited(opens("sftp", &[tcp(22)], true), 1),
    ];
    tables.firewall.establish(&doors, &[]).unwrap();
    tables.obey(&[open(0, CLIENT_4, 600)]);
    let first = tables.net.reach(CLIENT_4, SERVER_4, 22);
    assert!(tables.net.connect(CLIENT_4, SERVER_4, 22).is_none());
    tables.obey(&[open(1, CLIENT_4, 600)]);
    let second = tables.net.reach(CLIENT_4, SERVER_4, 22);
    assert!(tables.net.connect(CLIENT_4, SERVER_4, 22).is_none());
    drop((first, second));
}

#[test]
fn a_door_on_its_own_interfaces() {
    let mut tables = Tables::new();
    let _ssh = listen(22);
    // Elsewhere nothing is guarded here.
    let elsewhere = [on(opens("ssh", &[tcp(22)], true), &["em7"])];
    tables.firewall.establish(&elsewhere, &[]).unwrap();
    tables.net.reach(CLIENT_4, SERVER_4, 22);

    // The guard stands at both, each door opens at its own.
    let doors = [
        on(opens("ssh", &[tcp(22)], true), &["em7"]),
        opens("sftp", &[tcp(22)], true),
    ];
    tables.firewall.establish(&doors, &[]).unwrap();
    tables.obey(&[open(0, CLIENT_4, 600)]);
    assert!(tables.net.connect(CLIENT_4, SERVER_4, 22).is_none());
    tables.obey(&[open(1, CLIENT_4, 600)]);
    tables.net.reach(CLIENT_4, SERVER_4, 22);
    assert!(tables.net.connect("10.77.0.3", SERVER_4, 22).is_none());
}

#[test]
fn unguarding_takes_the_guards_and_nothing_else() {
    let mut tables = Tables::new();
    let _ssh = listen(22);
    let mut doors = doors();
    doors.push(opens("web", &[tcp(80), udp(443)], true));
    tables.firewall.establish(&doors, &[]).unwrap();
    tables.obey(&[open(0, CLIENT_4, 600)]);
    nft("add rule inet postern input tcp dport 9 drop comment \"guard 9/tcp\"");
    assert!(tables.net.connect("10.77.0.3", SERVER_4, 22).is_none());
    let before = ruleset();
    let guards = [
        "nft: guard 22/tcp",
        "nft: guard 80/tcp",
        "nft: guard 443/udp",
    ];
    // By whoever knows nothing of doors.
    let mut stranger = Nft::new(&[], &[]).unwrap();
    assert_eq!(stranger.unguard().unwrap(), guards);
    let kept: String = before
        .lines()
        .filter(|line| !line.contains("\"postern: guard "))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(ruleset(), kept);
    tables.net.reach("10.77.0.3", SERVER_4, 22);
    assert_eq!(stranger.unguard().unwrap(), [""; 0]);
    // They come back as anything does that is missing.
    let upkeep = tables.firewall.uphold(&[left(0, CLIENT_4, 600)]).unwrap();
    for guard in ["22/tcp", "80/tcp", "443/udp"] {
        let line = format!("rule \"postern: guard {guard}\" was gone: made anew");
        assert!(upkeep.mended.contains(&line), "{upkeep:?}");
    }
    assert!(tables.net.connect("10.77.0.3", SERVER_4, 22).is_none());
    tables.firewall.unguard().unwrap();
    tables.net.reach("10.77.0.3", SERVER_4, 22);
    nft("delete table inet postern");
    assert_eq!(stranger.unguard().unwrap(), [""; 0], "no table");
}
