//! Running sessions go on; scans learn nothing.

use super::*;

either_way! {
    a_session_outlives_whatever_happens_to_the_rules
    a_session_under_a_lease_outlives_it_without_connection_tracking
}

/// Sessions that were there before: connection tracking has not been in use, so that it knows
/// none of them; the idle one and the one whose client speaks first look new to it.
#[test]
fn a_guards_arrival_cuts_no_running_session() {
    let mut tables = Tables::new();
    let ssh = listen(22);
    let new = |from| Session::new(&tables.net, &ssh, from);
    let mut sessions: Vec<Session> = [CLIENT_4, CLIENT_6, CLIENT_4, CLIENT_6, CLIENT_4]
        .into_iter()
        .map(new)
        .collect();
    tables.firewall.establish(&doors(), &[]).unwrap();
    let idle = sessions.pop().unwrap();
    for (place, session) in sessions.iter_mut().enumerate() {
        if place < 2 {
            assert!(session.client_speaks());
            assert!(session.server_speaks());
        } else {
            assert!(session.server_speaks());
            assert!(session.client_speaks());
        }
    }
    assert!(
        tables.net.connect(CLIENT_4, SERVER_4, 22).is_none(),
        "no new one"
    );
    // Those that end are let go of, the others stay.
    let text = || run("nft list ruleset");
    let port = |session: &Session| session.client.local_addr().unwrap().port();
    let ended = sessions.pop().unwrap();
    let gone = port(&ended);
    assert!(
        text().contains(&format!("{CLIENT_6} . {gone} . {SERVER_6} . 22")),
        "{}",
        text()
    );
    drop(ended);
    until("its socket goes", || {
        tables.firewall.uphold(&[]).unwrap();
        !text().contains(&format!(" . {gone} . "))
    });
    for mut session in sessions.into_iter().chain([idle]) {
        assert!(
            text().contains(&format!(" . {} . ", port(&session))),
            "{}",
            text()
        );
        assert!(session.client_speaks());
    }
}

/// As a reload, a restart and a repair do it.
fn a_session_outlives_whatever_happens_to_the_rules(drive: Drive) {
    let mut tables = Tables::by(drive);
    let ssh = listen(22);
    let mut before = Session::new(&tables.net, &ssh, CLIENT_4);
    tables.firewall.establish(&doors(), &[]).unwrap();
    tables.obey(&[open(0, CLIENT_4, 600)]);
    let mut under = Session::new(&tables.net, &ssh, CLIENT_4);
    tables.obey(&[close(0, CLIENT_4)]);
    for step in ["lease's end", "restart", "reload", "flush", "conntrack"] {
        match step {
            "restart" => {
                tables.crash();
                tables.firewall.establish(&doors(), &[]).unwrap();
            }
            "reload" => {
                let mut more = doors();
                more.insert(0, opens("web", &[tcp(80), tcp(443)], true));
                tables.firewall.establish(&more, &[]).unwrap();
            }
            "flush" => {
                nft("flush ruleset");
                tables.firewall.uphold(&[]).unwrap();
            }
            _ => {}
        }
        assert!(before.client_speaks() && before.server_speaks(), "{step}");
        assert!(under.client_speaks() && under.server_speaks(), "{step}");
        assert!(
            tables.net.connect(CLIENT_4, SERVER_4, 22).is_none(),
            "{step}"
        );
    }
}

/// Connection tracking may forget a session (here: within a second; elsewhere: it is flushed).
fn a_session_under_a_lease_outlives_it_without_connection_tracking(drive: Drive) {
    let mut tables = Tables::by(drive);
    let ssh = listen(22);
    tables.firewall.establish(&doors(), &[]).unwrap();
    run("sysctl -q net.netfilter.nf_conntrack_tcp_timeout_established=1");
    tables.obey(&[open(0, CLIENT_4, 600), open(0, CLIENT_6, 600)]);
    let mut four = Session::new(&tables.net, &ssh, CLIENT_4);
    let mut six = Session::new(&tables.net, &ssh, CLIENT_6);
    let forgotten = || {
        let known = std::fs::read_to_string("/proc/thread-self/net/nf_conntrack").unwrap();
        !known.lines().any(|line| line.contains("dport=22 "))
    };
    until("connection tracking forgets", forgotten);
    tables.obey(&[close(0, CLIENT_4), close(0, CLIENT_6)]);
    assert!(four.client_speaks());
    assert!(six.client_speaks());
    // Not because nothing is cut: without our admission it is.
    until("connection tracking forgets", forgotten);
    nft("flush set inet postern running4");
    assert!(four.client_is_cut());
    let upkeep = tables.firewall.uphold(&[]).unwrap();
    let who = four.client.local_addr().unwrap();
    assert_eq!(
        upkeep.mended,
        [format!(
            "running sessions were missing, admitted again: {who}"
        )]
    );
    assert!(four.client_speaks());
    // The four numbers admit a session's packets, but begin none.
    nft(&format!(
        "add element inet postern running4 {{ {CLIENT_4} . 40000 . {SERVER_4} . 22 }}"
    ));
    assert!(
        tables
            .net
            .connect(&format!("{CLIENT_4}:40000"), SERVER_4, 22)
            .is_none()
    );
}

/// What kinds of scans tell of a guarded port is what they tell of one that drops everything.
#[test]
fn scans_tell_nothing_of_a_guarded_port() {
    let mut tables = Tables::new();
    let (_ssh, _dropped, _open) = (listen(22), listen(23), listen(24));
    nft("table inet drops { chain c { type filter hook input priority 0; tcp dport 23 drop; }; }");
    tables.firewall.establish(&doors(), &[]).unwrap();
    // Another's lease changes nothing.
    for orders in [vec![], vec![open(0, "10.77.0.3", 600)]] {
        tables.obey(&orders);
        for (scan, expected, of_open) in [
            ("-sS", "filtered", "open"),
            ("-sS -f", "filtered", "open"),
            ("-sF", "open|filtered", "open|filtered"),
            ("-sN", "open|filtered", "open|filtered"),
            ("-sX", "open|filtered", "open|filtered"),
            ("-sA", "filtered", "unfiltered"),
        ] {
            let line = format!(
                "nmap -n -Pn {scan} -p 22,23,24 -S {CLIENT_4} -e cli0 --max-retries 1 -oG - {SERVER_4}"
            );
            let text = tables.net.as_client(|| run(&line));
            let (_, ports) = text
                .split_once("Ports: ")
                .unwrap_or_else(|| panic!("{text}"));
            let state = |port: &str| {
                let port = ports
                    .split([',', '\t'])
                    .find(|words| words.trim().starts_with(port));
                port.unwrap().trim().split('/').nth(1).unwrap().to_owned()
            };
            assert_eq!(state("22/"), expected, "{scan}: {text}");
            assert_eq!(state("23/"), expected, "{scan}: {text}");
            assert_eq!(state("24/"), of_open, "{scan}: {text}");
        }
        for port in ["22", "23"] {
            let line = format!("nc -z -w 1 -s {CLIENT_4} {SERVER_4} {port}");
            let (connected, words) = tables.net.as_client(|| try_run(&line));
            assert!(!connected && !words.contains("refused"), "{words}");
        }
    }
}

/// A table from before, with rules of another configuration, is taken over in one go.
#[test]
fn all_interfaces_but_the_loopback() {
    let mut tables = Tables::new();
    let _ssh = listen(22);
    tables.firewall.establish(&doors(), &[]).unwrap();
    tables.firewall = Nft::new(&["any".to_owned()], &[]).unwrap();
    tables.firewall.establish(&doors(), &[]).unwrap();
    let text = ruleset();
    assert!(
        text.contains("iifname != \"lo\" tcp dport 22 drop"),
        "{text}"
    );
    assert!(!text.contains(INTERFACE), "{text}");
    assert!(tables.net.connect(CLIENT_4, SERVER_4, 22).is_none());
    assert!(
        std::net::TcpStream::connect((SERVER_4, 22)).is_ok(),
        "the machine itself"
    );
    // Only command doors are left.
    tables.firewall.establish(&[], &[]).unwrap();
    assert_eq!(ruleset(), "");
    assert_eq!(tables.firewall.uphold(&[]).unwrap(), Default::default());
}
