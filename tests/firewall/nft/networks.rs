//! Doors that let in IPv6 networks.

use super::*;

either_way! {
    all_of_a_network_is_let_in_and_nobody_else
    at_the_end_its_sessions_run_on
    addresses_that_name_no_site_are_let_in_by_themselves
    a_network_of_another_length_is_made_anew
    connections_and_traffic_are_the_networks
}

/// Another address of the client's network, and one of another network.
const NEAR: &str = "fd77::ffff:2";
const FAR: &str = "fd77:0:0:1::2";
const NETWORK: &str = "fd77::/64";

fn doors() -> Vec<Door> {
    vec![
        prefix6(opens("ssh", &[tcp(22)], true), 64),
        opens("sftp", &[tcp(22)], false),
    ]
}

fn tables(drive: Drive) -> Tables {
    let mut tables = Tables::by(drive);
    tables.net.add_client(NEAR);
    tables.net.add_client(FAR);
    tables.firewall.establish(&doors(), &[]).unwrap();
    tables
}

fn all_of_a_network_is_let_in_and_nobody_else(drive: Drive) {
    let mut tables = tables(drive);
    let ssh = listen(22);
    let since = Instant::now();
    tables.obey(&[open(0, NETWORK, 600), open(0, CLIENT_4, 600)]);
    for address in [CLIENT_6, NEAR] {
        tables.net.reach(address, SERVER_6, 22);
        ssh.accept().unwrap();
    }
    tables.net.reach(CLIENT_4, SERVER_4, 22);
    assert!(tables.net.connect(FAR, SERVER_6, 22).is_none());
    assert!(tables.net.connect("10.77.0.3", SERVER_4, 22).is_none());
    let both = [opening(0, CLIENT_4), opening(0, NETWORK)];
    assert_eq!(tables.firewall.openings().unwrap(), both);

    // It is looked after like any other.
    let openings = [still(0, CLIENT_4, since), still(0, NETWORK, since)];
    assert_eq!(
        tables.firewall.uphold(&openings).unwrap(),
        Default::default()
    );
    nft("flush set inet postern ssh_net6");
    assert_eq!(
        tables.firewall.uphold(&openings).unwrap().mended,
        ["door ssh: openings were missing, put back: fd77::/64"]
    );
    let only = &openings[..1];
    assert_eq!(
        tables.firewall.uphold(only).unwrap().mended,
        ["door ssh: openings stood without a lease, taken away: fd77::/64"]
    );
    tables.firewall.uphold(&openings).unwrap();
    tables.crash();
    let right = ruleset();
    assert_eq!(
        tables.firewall.establish(&doors(), &openings).unwrap(),
        Default::default()
    );
    assert_eq!(ruleset(), right);
    tables.net.reach(NEAR, SERVER_6, 22);
}

fn at_the_end_its_sessions_run_on(drive: Drive) {
    let mut tables = tables(drive);
    let ssh = listen(22);
    tables.obey(&[open(0, NETWORK, 600)]);
    let mut sessions = [CLIENT_6, NEAR].map(|from| Session::new(&tables.net, &ssh, from));
    tables.obey(&[close(0, NETWORK)]);
    assert_eq!(tables.firewall.openings().unwrap(), []);
    let running = run("nft list set inet postern running6");
    for address in [CLIENT_6, NEAR] {
        let element = format!("{address} . ");
        assert!(running.contains(&element), "{running}");
        assert!(tables.net.connect(address, SERVER_6, 22).is_none());
    }
    // Nothing is left to connection tracking.
    run("conntrack -F");
    for session in &mut sessions {
        assert!(session.client_speaks() && session.server_speaks());
    }
}

fn addresses_that_name_no_site_are_let_in_by_themselves(drive: Drive) {
    let mut tables = tables(drive);
    tables.obey(&[open(0, "fe80::7", 600), open(0, NETWORK, 600)]);
    assert_eq!(
        tables.firewall.openings().unwrap(),
        [opening(0, "fe80::7"), opening(0, NETWORK)]
    );
    let set = |name| run(&format!("nft list set inet postern {name}"));
    assert!(set("ssh_6").contains("fe80::7 "), "{}", set("ssh_6"));
    assert!(!set("ssh_net6").contains("fe80::"), "{}", set("ssh_net6"));
}

fn a_network_of_another_length_is_made_anew(drive: Drive) {
    let mut tables = tables(drive);
    let _ssh = listen(22);
    tables.obey(&[open(0, NETWORK, 600)]);
    let wider = [
        prefix6(opens("ssh", &[tcp(22)], true), 48),
        opens("sftp", &[tcp(22)], false),
    ];
    tables.firewall.establish(&wider, &[]).unwrap();
    assert!(tables.net.connect(CLIENT_6, SERVER_6, 22).is_none());
    assert_eq!(tables.firewall.openings().unwrap(), []);
    // What the journal had from before ends without harm to what is now.
    tables.obey(&[open(0, "fd77::/48", 600), close(0, NETWORK)]);
    tables.net.reach(FAR, SERVER_6, 22);
    tables.firewall.establish(&super::doors(), &[]).unwrap();
    assert!(!ruleset().contains("net6"), "{}", ruleset());
    assert!(tables.net.connect(FAR, SERVER_6, 22).is_none());
    tables.obey(&[close(0, "fd77::/48")]);
}

fn connections_and_traffic_are_the_networks(drive: Drive) {
    let mut tables = tables(drive);
    let ssh = listen(22);
    let one = || {
        vec![idle(
            limited(prefix6(opens("ssh", &[tcp(22)], true), 64), 1),
            600,
        )]
    };
    tables.firewall.establish(&one(), &[]).unwrap();
    tables.obey(&[open(0, NETWORK, 600), open(0, CLIENT_4, 600)]);
    let mut first = Session::new(&tables.net, &ssh, NEAR);
    assert!(tables.net.connect(CLIENT_6, SERVER_6, 22).is_none());
    assert!(first.client_speaks());
    let traffic = tables.firewall.traffic().unwrap();
    let traffic: Vec<Opening> = traffic.into_iter().map(|(opening, _)| opening).collect();
    assert_eq!(traffic, [opening(0, NETWORK)]);
    drop(first);
    let mut again = None;
    until("there is room", || {
        again = tables.net.connect(CLIENT_6, SERVER_6, 22);
        again.is_some()
    });
}
