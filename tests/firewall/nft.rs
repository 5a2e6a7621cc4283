//! nftables: the real one, with real packets, in network namespaces. Needs root.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use postern::config::Door;
use postern::firewall::nft::Nft;
use postern::firewall::{Failure, Firewall, Opening, Order, What};

use crate::doors::{close, extend, left, open, opening, opens, tcp, udp};
use crate::net::{
    CLIENT_4, CLIENT_6, INTERFACE, Net, SERVER_4, SERVER_6, Session, listen, nft, run, try_run,
};
use crate::suite::{PATIENCE, Subject, carry_out, still, suite};

struct Tables {
    firewall: Nft,
    net: Net,
}

impl Tables {
    fn new() -> Tables {
        Tables {
            net: Net::new(),
            firewall: fresh(),
        }
    }

    /// Carries out orders, all of which must succeed.
    fn obey(&mut self, orders: &[Order]) {
        for done in carry_out(&mut self.firewall, orders) {
            assert_eq!(done.result, Ok(()), "{:?}", done.order);
        }
    }
}

fn fresh() -> Nft {
    Nft::new(&[INTERFACE.to_owned()]).unwrap()
}

fn doors() -> Vec<Door> {
    vec![
        opens("ssh", &[tcp(22)], true),
        opens("sftp", &[tcp(22)], false),
    ]
}

impl Subject for Tables {
    fn firewall(&mut self) -> &mut dyn Firewall {
        &mut self.firewall
    }

    fn doors(&self) -> Vec<Door> {
        doors()
    }

    fn crash(&mut self) {
        self.firewall = fresh();
    }

    fn let_in(&mut self) -> BTreeSet<Opening> {
        let mut all = BTreeSet::new();
        for (set, door) in [("ssh_4", 0), ("ssh_6", 0), ("sftp_4", 1), ("sftp_6", 1)] {
            let text = run(&format!("nft list set inet postern {set}"));
            let Some((_, elements)) = text.split_once("elements = {") else {
                continue;
            };
            for element in elements.split('}').next().unwrap().split(',') {
                let address = element.split_whitespace().next().unwrap();
                assert!(element.contains("comment \"postern:\""), "{element}");
                assert!(
                    element.contains(" expires "),
                    "it ends by itself: {element}"
                );
                all.insert(opening(door, address));
            }
        }
        all
    }
}

suite!(Tables::new());

/// The ruleset without what moves by itself.
fn ruleset() -> String {
    run("nft -s -t list ruleset")
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_guard_drops_and_a_lease_opens_for_its_address_only() {
    let mut tables = Tables::new();
    let _ssh = listen(22);
    let _http = listen(80);
    tables.firewall.establish(&doors(), &[]).unwrap();
    let net = &tables.net;
    assert!(net.connect(CLIENT_4, SERVER_4, 22).is_none());
    assert!(net.connect(CLIENT_6, SERVER_6, 22).is_none());
    assert!(
        net.connect(CLIENT_4, SERVER_4, 80).is_some(),
        "another port"
    );
    assert!(
        std::net::TcpStream::connect(("127.0.0.1", 22)).is_ok(),
        "the loopback"
    );

    tables.obey(&[open(0, CLIENT_4, 600), open(1, CLIENT_6, 600)]);
    let net = &tables.net;
    assert!(net.connect(CLIENT_4, SERVER_4, 22).is_some());
    assert!(net.connect(CLIENT_6, SERVER_6, 22).is_some());
    assert!(net.connect("10.77.0.3", SERVER_4, 22).is_none());

    tables.obey(&[close(0, CLIENT_4), close(1, CLIENT_6)]);
    let net = &tables.net;
    assert!(net.connect(CLIENT_4, SERVER_4, 22).is_none());
    assert!(net.connect(CLIENT_6, SERVER_6, 22).is_none());

    tables.firewall.remove().unwrap();
    assert_eq!(ruleset(), "");
    assert!(tables.net.connect(CLIENT_4, SERVER_4, 22).is_some());
}

#[test]
fn doors_without_a_guard_and_udp() {
    let tables = &mut Tables::new();
    let _http = listen(80);
    let dns = std::net::UdpSocket::bind((SERVER_4, 53)).unwrap();
    dns.set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let doors = [
        opens("web", &[tcp(80)], false),
        opens("dns", &[udp(53)], true),
    ];
    tables.firewall.establish(&doors, &[]).unwrap();
    assert!(tables.net.connect(CLIENT_4, SERVER_4, 80).is_some());
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
#[test]
fn a_lease_ends_by_itself() {
    let mut tables = Tables::new();
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

#[test]
fn an_end_moves_both_ways() {
    let mut tables = Tables::new();
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
#[test]
fn a_session_outlives_whatever_happens_to_the_rules() {
    let mut tables = Tables::new();
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
#[test]
fn a_session_under_a_lease_outlives_it_without_connection_tracking() {
    let mut tables = Tables::new();
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

/// What the rule with this comment is numbered by.
fn handle(comment: &str) -> String {
    let text = run("nft -a list chain inet postern input");
    let line = text.lines().find(|line| line.contains(comment)).unwrap();
    line.rsplit(' ').next().unwrap().to_owned()
}

#[test]
fn flushed_changed_and_deleted_things_are_mended_and_told() {
    let mut tables = Tables::new();
    tables.firewall.establish(&doors(), &[]).unwrap();
    let since = Instant::now();
    let openings = || [still(0, CLIENT_4, since), still(1, CLIENT_6, since)];
    tables.obey(&[open(0, CLIENT_4, 600), open(1, CLIENT_6, 600)]);
    let right = ruleset();
    let both = [
        format!("door ssh: openings were missing, put back: {CLIENT_4}"),
        format!("door sftp: openings were missing, put back: {CLIENT_6}"),
    ];
    let mut check = |damage: String, mended: &[&str], openings_too: bool| {
        nft(&damage);
        let mut expected: Vec<String> = mended.iter().map(|&line| line.to_owned()).collect();
        if openings_too {
            expected.extend(both.clone());
        }
        let upkeep = tables.firewall.uphold(&openings()).unwrap();
        assert_eq!(upkeep.mended, expected, "{damage}");
        assert_eq!(upkeep.strangers, [""; 0], "{damage}");
        assert_eq!(ruleset(), right, "{damage}");
        assert_eq!(tables.let_in().len(), 2, "{damage}");
        let again = tables.firewall.uphold(&openings()).unwrap();
        assert_eq!(again, Default::default(), "{damage}");
    };
    check(
        "flush ruleset".into(),
        &["table inet postern was gone: made anew"],
        true,
    );
    check(
        "delete table inet postern".into(),
        &["table inet postern was gone: made anew"],
        true,
    );
    check(
        "add table inet postern { flags dormant; }".into(),
        &["table inet postern was made dormant: in force again"],
        false,
    );
    check(
        format!(
            "delete rule inet postern input handle {}",
            handle("guard 22/tcp")
        ),
        &["rule \"postern: guard 22/tcp\" was gone: made anew"],
        false,
    );
    check(
        format!(
            "replace rule inet postern input handle {} tcp dport 22 counter comment \
             \"postern: guard 22/tcp\"",
            handle("guard 22/tcp")
        ),
        &["rule \"postern: guard 22/tcp\" was changed: made anew"],
        false,
    );
    check(
        "insert rule inet postern input accept comment \"postern: mine\"".into(),
        &["rule \"postern: mine\" was added: taken away"],
        false,
    );
    check(
        "add chain inet postern input { policy drop; }".into(),
        &["chain input: policy was changed: accept again"],
        false,
    );
    check(
        "flush set inet postern ssh_4\nflush set inet postern sftp_6".into(),
        &[],
        true,
    );
    check(
        "add element inet postern ssh_6 { 2001:db8::1 timeout 1h comment \"postern:\" }".into(),
        &["door ssh: openings stood without a lease, taken away: 2001:db8::1"],
        false,
    );
}

/// Orders come between two upholdings: what was damaged is mended before they are acted on.
#[test]
fn orders_are_acted_on_when_all_stands_as_it_should() {
    let mut tables = Tables::new();
    tables.firewall.establish(&doors(), &[]).unwrap();
    let since = Instant::now();
    let openings = || [still(0, CLIENT_4, since), still(0, CLIENT_6, since)];
    let again = |address: &str| {
        let (opening, remaining) = still(0, address, since);
        let what = What::Open { remaining };
        [Order { opening, what }]
    };
    tables.obey(&again(CLIENT_4));
    let right = ruleset();
    for (damage, mended) in [
        ("flush ruleset", "table inet postern was gone: made anew"),
        (
            "flush chain inet postern input",
            "rule \"postern: tracked tcp\" was gone: made anew",
        ),
    ] {
        nft(damage);
        tables.obey(&again(CLIENT_6));
        assert_eq!(ruleset(), right, "{damage}");
        assert_eq!(
            tables.let_in(),
            BTreeSet::from([opening(0, CLIENT_4), opening(0, CLIENT_6)]),
            "{damage}"
        );
        let upkeep = tables.firewall.uphold(&openings()).unwrap();
        assert_eq!(upkeep.mended.first().map(String::as_str), Some(mended));
        assert_eq!(
            tables.firewall.uphold(&openings()).unwrap(),
            Default::default()
        );
        tables.obey(&[close(0, CLIENT_6)]);
    }
    // Somebody else's business moves the generation, too, and is none of ours.
    nft("add table inet other");
    tables.obey(&again(CLIENT_6));
    assert_eq!(
        tables.firewall.uphold(&openings()).unwrap(),
        Default::default()
    );
}

#[test]
fn what_is_not_ours_is_reported_and_left_alone() {
    let mut tables = Tables::new();
    let mut before = doors();
    before.push(opens("old", &[tcp(70)], true));
    tables.firewall.establish(&before, &[]).unwrap();
    let since = Instant::now();
    tables.obey(&[open(0, CLIENT_4, 600), open(2, CLIENT_4, 600)]);
    nft("\
table inet postern {
    set mine { type inet_service; elements = { 1, 2 }; }
    chain other { tcp dport 1 accept; }
}
add rule inet postern input tcp dport 9 accept comment \"mine\"
insert rule inet postern input tcp dport 8 ip saddr @old_4 accept
add element inet postern ssh_4 { 192.0.2.1 }
add element inet postern sftp_6 { 2001:db8::1 timeout 1h comment \"mine\" }
");
    let theirs = |text: &str| {
        for part in [
            "set mine",
            "chain other",
            "tcp dport 9 accept comment \"mine\"",
            "tcp dport 8 ip saddr @old_4 accept",
            "192.0.2.1",
            "2001:db8::1",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    };
    let strangers = [
        "table inet postern: an element of set \"sftp_6\" is not ours: left alone",
        "table inet postern: an element of set \"ssh_4\" is not ours: left alone",
        "table inet postern: chain \"other\" is not ours: left alone",
        "table inet postern: rule with handle N in chain \"input\" is not ours: left alone",
        "table inet postern: rule with handle N in chain \"input\" is not ours: left alone",
        "table inet postern: rule with handle N in chain \"other\" is not ours: left alone",
        "table inet postern: set \"mine\" is not ours: left alone",
    ];
    let reported = |upkeep: postern::firewall::Upkeep| {
        let unnumbered = |line: String| match line.split_once("handle ") {
            Some((before, after)) => {
                format!(
                    "{before}handle N{}",
                    after.trim_start_matches(|c: char| c.is_numeric())
                )
            }
            None => line,
        };
        let mut lines: Vec<String> = upkeep.strangers.into_iter().map(unnumbered).collect();
        lines.sort();
        assert_eq!(lines, strangers);
    };
    let openings = [still(0, CLIENT_4, since), still(2, CLIENT_4, since)];
    let upkeep = tables.firewall.uphold(&openings).unwrap();
    assert_eq!(upkeep.mended, [""; 0]);
    reported(upkeep);
    theirs(&run("nft list ruleset"));

    // A restart makes all of ours anew; a door that somebody else's rule names keeps its sets,
    // but lets nobody in.
    tables.crash();
    reported(tables.firewall.establish(&doors(), &openings[..1]).unwrap());
    let text = run("nft list ruleset");
    theirs(&text);
    assert!(
        !text.contains("set old_6") && !text.contains("dport 70"),
        "{text}"
    );
    assert!(!run("nft list set inet postern old_4").contains("elements"));
    assert_eq!(tables.firewall.openings().unwrap(), [opening(0, CLIENT_4)]);

    // Somebody else's element is not ours to move or take away.
    tables.obey(&[
        open(0, "192.0.2.1", 60),
        extend(0, "192.0.2.1", 60),
        close(0, "192.0.2.1"),
    ]);
    theirs(&run("nft list ruleset"));
    assert!(!run("nft list set inet postern ssh_4").contains("192.0.2.1 timeout"));

    tables.firewall.remove().unwrap();
    let text = run("nft list ruleset");
    theirs(&text);
    for part in ["running", "dport 22", "ssh_6", CLIENT_4] {
        assert!(!text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_stranger_in_the_way_is_named() {
    let mut tables = Tables::new();
    nft("add table inet postern; add set inet postern ssh_4 { type inet_service; }");
    let failure = tables
        .firewall
        .establish(&doors(), &[])
        .unwrap_err()
        .to_string();
    assert!(
        failure.contains("nft delete set inet postern ssh_4"),
        "{failure}"
    );
    nft(
        "delete table inet postern; add table inet postern; add chain inet postern input; \
         add rule inet postern input accept",
    );
    let failure = tables
        .firewall
        .establish(&doors(), &[])
        .unwrap_err()
        .to_string();
    assert!(
        failure.contains("nft delete chain inet postern input"),
        "{failure}"
    );
    nft("flush chain inet postern input");
    tables.firewall.establish(&doors(), &[]).unwrap();
    assert!(ruleset().contains("type filter hook input priority filter - 10"));
}

#[test]
fn of_a_batch_only_the_orders_at_fault_fail() {
    let mut tables = Tables::new();
    tables.firewall.establish(&doors(), &[]).unwrap();
    nft(
        "flush chain inet postern input; delete set inet postern ssh_4; \
         add set inet postern ssh_4 { type ipv4_addr; flags timeout; size 2; }",
    );
    let orders: Vec<_> = (1..=5)
        .map(|n| open(0, &format!("192.0.2.{n}"), 600))
        .chain([open(0, "2001:db8::1", 600), open(1, "192.0.2.1", 600)])
        .collect();
    let done = carry_out(&mut tables.firewall, &orders);
    let (well, failed): (Vec<_>, Vec<_>) = done.into_iter().partition(|done| done.result.is_ok());
    assert_eq!((well.len(), failed.len()), (4, 3));
    for done in failed {
        let words = done.result.unwrap_err().to_string();
        assert!(words.starts_with("nft -f -: exit status 1: "), "{words}");
        assert!(
            words.contains("add element inet postern ssh_4 { 192.0.2."),
            "{words}"
        );
    }
    let well: BTreeSet<Opening> = well.iter().map(|done| done.order.opening).collect();
    assert_eq!(
        BTreeSet::from_iter(tables.firewall.openings().unwrap()),
        well
    );
}

#[test]
fn without_nft_everything_fails_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let mut tables = Tables::new();
    tables.firewall = Nft::with_path(&[], path).unwrap();
    let failure = tables.firewall.establish(&doors(), &[]).unwrap_err();
    assert_eq!(
        failure.to_string(),
        format!("cannot run nft: not found in {path}")
    );
    let done = carry_out(&mut tables.firewall, &[open(0, CLIENT_4, 600)]);
    assert!(done[0].result.is_err());
    // It is taken away while we run, and comes back.
    link(dir.path());
    tables.firewall.establish(&doors(), &[]).unwrap();
    std::fs::remove_file(dir.path().join("nft")).unwrap();
    let done = carry_out(&mut tables.firewall, &[open(0, CLIENT_4, 600)]);
    let failure = done[0].result.clone().unwrap_err();
    assert!(matches!(failure, Failure::NotRun { .. }), "{failure}");
    assert!(tables.firewall.uphold(&[]).is_err());
    assert!(tables.firewall.openings().is_err());
    link(dir.path());
    tables.obey(&[open(0, CLIENT_4, 600)]);
}

fn link(dir: &Path) {
    let nft = postern::firewall::run::find("nft", postern::firewall::run::PATH).unwrap();
    std::os::unix::fs::symlink(nft, dir.join("nft")).unwrap();
}

/// A script in nft's place. Written by a process of its own: what one of ours has open to
/// write cannot be run.
fn in_nfts_place(dir: &Path, script: &str) {
    let quoted = script.replace('\'', r"'\''");
    let file = dir.join("nft");
    let write = format!("printf '%s' '{quoted}' >{0}; chmod 700 {0}", file.display());
    let status = std::process::Command::new("sh")
        .args(["-c", &write])
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn a_failure_is_retried_once_and_told_with_its_words() {
    let dir = tempfile::tempdir().unwrap();
    let (path, tries) = (dir.path().to_str().unwrap(), dir.path().join("tries"));
    let mut tables = Tables::new();
    // It fails as often as the file says.
    in_nfts_place(
        dir.path(),
        &format!(
            "#!/bin/sh\n\
             if [ \"$1\" = -f ]; then\n\
             read n <{0}; echo $((n - 1)) >{0}\n\
             if [ $n -gt 0 ]; then echo 'Error: no luck' >&2; exit 1; fi\n\
             fi\n\
             exec nft \"$@\"\n",
            tries.display()
        ),
    );
    let fail = |times: &str| std::fs::write(&tries, format!("{times}\n")).unwrap();
    fail("0");
    tables.firewall = Nft::with_path(&[INTERFACE.to_owned()], path).unwrap();
    tables.firewall.establish(&doors(), &[]).unwrap();
    fail("1");
    tables.obey(&[open(0, CLIENT_4, 600)]);
    assert_eq!(tables.let_in(), BTreeSet::from([opening(0, CLIENT_4)]));
    fail("9");
    let done = carry_out(&mut tables.firewall, &[open(0, CLIENT_6, 600)]);
    assert_eq!(
        done[0].result.clone().unwrap_err().to_string(),
        "nft -f -: exit status 1: no luck"
    );
    assert_eq!(
        std::fs::read_to_string(&tries).unwrap(),
        "7\n",
        "tried twice"
    );
    assert_eq!(tables.let_in(), BTreeSet::from([opening(0, CLIENT_4)]));
}

/// Looking whether all stands as it should costs a process only after somebody else has changed
/// something.
#[test]
fn orders_cost_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let (path, log) = (dir.path().to_str().unwrap(), dir.path().join("log"));
    let mut tables = Tables::new();
    in_nfts_place(
        dir.path(),
        &format!(
            "#!/bin/sh\necho \"$*\" >>{}; exec nft \"$@\"\n",
            log.display()
        ),
    );
    tables.firewall = Nft::with_path(&[INTERFACE.to_owned()], path).unwrap();
    tables.firewall.establish(&doors(), &[]).unwrap();
    let mut run = |orders: &[Order]| {
        let _ = std::fs::remove_file(&log);
        tables.obey(orders);
        std::fs::read_to_string(&log).unwrap()
    };
    assert_eq!(
        run(&[open(0, CLIENT_4, 600), open(1, CLIENT_6, 600)]),
        "-f -\n"
    );
    assert_eq!(run(&[extend(0, CLIENT_4, 600)]), "-f -\n");
    nft("add table inet other");
    let list = "-j -a list table inet postern\n";
    assert_eq!(run(&[close(0, CLIENT_4)]), format!("{list}-f -\n"));
    assert_eq!(run(&[close(1, CLIENT_6)]), "-f -\n");
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
    tables.firewall = Nft::new(&["any".to_owned()]).unwrap();
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

/// The transactions that nft is given, for each operation. `POSTERN_GOLDEN=write` writes them.
#[test]
fn transactions() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    in_nfts_place(
        dir.path(),
        &format!(
            "#!/bin/sh\nif [ \"$1\" = -f ]; then tee -a {0} | nft \"$@\"; else exec nft \"$@\"; fi\n",
            log.display()
        ),
    );
    let mut tables = Tables::new();
    let path = dir.path().to_str().unwrap();
    let make = || Nft::with_path(&[INTERFACE.to_owned(), "em1".to_owned()], path).unwrap();
    tables.firewall = make();
    let ssh = listen(22);
    let client = tables.net.connect("10.77.0.2:40000", SERVER_4, 22).unwrap();
    let (server, _) = ssh.accept().unwrap();
    let ssh_6 = tables.net.connect("[fd77::2]:40000", SERVER_6, 22).unwrap();

    let since = Instant::now();
    let mut three = doors();
    three.push(opens("web", &[tcp(80), tcp(443), udp(443)], true));
    let golden = |name: &str| {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let _ = std::fs::remove_file(&log);
        // What is left of 600 s depends on how long this took, handles on the kernel.
        let whole = |word: &str| {
            let comma = if word.ends_with(',') { "," } else { "" };
            let seconds = word.split('s').next().unwrap().parse::<u64>();
            match seconds {
                Ok(500..=600) => format!("600s{comma}"),
                _ => word.to_owned(),
            }
        };
        let unnumbered = |line: &str| match line.split_once(" handle ") {
            Some((rule, _)) => format!("{rule} handle N"),
            None => line.to_owned(),
        };
        let mut text = text
            .lines()
            .map(|line| {
                unnumbered(&line.split(' ').map(whole).collect::<Vec<_>>().join(" ")) + "\n"
            })
            .collect::<String>();
        if text.is_empty() {
            text.push_str("# nothing\n");
        }
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(format!("tests/firewall/golden/nft-{name}.txt"));
        if std::env::var_os("POSTERN_GOLDEN").is_some_and(|value| value == "write") {
            std::fs::write(&file, &text).unwrap();
        }
        let expected = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text, expected, "{name}");
    };
    tables
        .firewall
        .establish(&three, &[left(0, "192.0.2.9", 600)])
        .unwrap();
    golden("establish");
    tables.obey(&[open(0, "192.0.2.7", 600), open(2, "2001:db8::7", 600)]);
    golden("open");
    tables.obey(&[
        extend(0, "192.0.2.7", 600),
        open(0, "192.0.2.8", 600),
        close(0, "192.0.2.9"),
    ]);
    golden("extend");
    tables.obey(&[open(0, CLIENT_4, 600)]);
    golden("open-2");
    tables.obey(&[close(0, CLIENT_4), close(0, CLIENT_6)]);
    golden("close");
    let openings = || {
        [
            still(0, "192.0.2.7", since),
            still(0, "192.0.2.8", since),
            still(2, "2001:db8::7", since),
        ]
    };
    tables.firewall.uphold(&openings()).unwrap();
    golden("uphold");
    nft(&format!(
        "delete rule inet postern input handle {}",
        handle("running tcp ip\"")
    ));
    tables.firewall.uphold(&openings()).unwrap();
    golden("uphold-rule-deleted");
    nft("flush ruleset");
    tables.firewall.uphold(&openings()).unwrap();
    golden("uphold-flushed");
    let [first, second, _] = openings();
    tables
        .firewall
        .establish(&three[..2], &[first, second])
        .unwrap();
    golden("establish-reload");
    tables.firewall = make();
    tables.firewall.establish(&three[..2], &[first]).unwrap();
    golden("establish-restart");
    nft("add table inet postern; add chain inet postern mine");
    tables.firewall.remove().unwrap();
    golden("remove-with-a-stranger");
    tables.firewall.establish(&three[..2], &[]).unwrap();
    let _ = std::fs::remove_file(&log);
    nft("delete chain inet postern mine");
    tables.firewall.remove().unwrap();
    golden("remove");
    drop((client, server, ssh_6));
}
