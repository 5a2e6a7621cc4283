//! Whatever others do to our table.

use super::*;

/// What the rule with this comment is numbered by.
pub fn handle(comment: &str) -> String {
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
            "rule \"postern: other ports\" was gone: made anew",
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
