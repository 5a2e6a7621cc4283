use super::super::batch::Table;
use super::*;

/// As FreeBSD 12.1 prints it.
const RULES: &str = "\
00101 allow tcp from table(postern_ssh) to me 22 in recv xl0 setup keep-state :postern_ssh // postern:ssh
00102 allow tcp from any to me 22 in flow table(postern_running) // postern: running
00102 deny tcp from any to me 22 in recv xl0 // postern: guard
00110 count ip from any to any // somebody's: postern:
65535 allow ip from any to any
";
const ALL: &str = "\
--- table(knock,), set(0) ---
--- table(postern_running), set(0) ---
 kindex: 2, type: flow:src-ip,proto,src-port,dst-ip,dst-port
 references: 1, valtype: legacy
 algorithm: flow:hash
 items: 3, size: 4096
--- table(postern_ssh), set(0) ---
 kindex: 1, type: addr, locked
 references: 2, valtype: legacy
 algorithm: addr:radix
 items: 3, size: 656
";
const TABLES: &str = "\
--- table(postern_running), set(0) ---
 kindex: 2, type: flow:src-ip,proto,src-port,dst-ip,dst-port
 references: 1, valtype: legacy
10.9.0.2,6,40001,10.9.0.1,22 0
fd00:9::2,6,40001,fd00:9::1,22 0
10.9.0.2,17,40001,10.9.0.1,22 0
--- table(postern_ssh), set(0) ---
 kindex: 1, type: addr, locked
 references: 2, valtype: legacy
192.0.2.7/32 1795310000
198.51.100.0/24 0
2001:db8::7/128 5
";

fn look() -> String {
    [RULES, &ALL.replace("knock,", "knock"), TABLES].concat()
}

#[test]
fn a_look() {
    let (running, ssh) = (Table::running(), Table::ours("ssh").unwrap());
    let found = Found::parse(&look(), &[&running, &ssh]).unwrap();
    let numbers: Vec<(u16, usize)> = found.rules.iter().map(|(n, l)| (*n, l.len())).collect();
    assert_eq!(numbers, [(101, 1), (102, 2), (110, 1)]);
    assert_eq!(found.names.len(), 3);
    let table = &found.tables[&ssh];
    assert_eq!((table.kind.as_str(), table.references), ("addr", 2));
    let networks: Vec<(String, u32)> = table
        .networks
        .iter()
        .map(|(n, v)| (n.to_string(), *v))
        .collect();
    let expected = [
        ("192.0.2.7", 1_795_310_000),
        ("198.51.100.0/24", 0),
        ("2001:db8::7", 5),
    ];
    assert_eq!(networks, expected.map(|(n, v)| (n.to_owned(), v)));
    let table = &found.tables[&running];
    assert_eq!((table.kind.as_str(), table.references), ("flow", 1));
    assert_eq!(table.sessions.len(), 2);
    let session = table.sessions.first().unwrap();
    assert_eq!(session.remote.to_string(), "10.9.0.2:40001");
    assert_eq!(session.local.to_string(), "10.9.0.1:22");
    assert_eq!(table.odd, ["10.9.0.2,17,40001,10.9.0.1,22 0"]);
}

#[test]
fn entries_that_are_no_networks() {
    let mut contents = Contents::default();
    let odd = [
        "192.0.2.7/33 5",
        "192.0.2.7/24 5",
        "192.0.2.7/255 0",
        "2001:db8::7/129 5",
        "192.0.2.7/-1 5",
        "192.0.2.7 5",
        "em0 5",
    ];
    odd.iter().for_each(|line| contents.entry(line));
    assert!(contents.networks.is_empty(), "{contents:?}");
    assert_eq!(contents.odd, odd);
}

#[test]
fn rules_and_whose_they_are() {
    let rules = rules(RULES.lines()).unwrap();
    let ours: Vec<bool> = rules.values().flatten().map(Line::is_ours).collect();
    assert_eq!(ours, [true, true, true, false]);
    let ssh = Table::ours("ssh").unwrap();
    let names: Vec<bool> = rules
        .values()
        .flatten()
        .map(|l| l.names(ssh.name()))
        .collect();
    assert_eq!(names, [true, false, false, false]);
    for odd in ["", "allow", "x allow ip from any to any", "70000 allow"] {
        assert_eq!(super::rules([odd]), None, "{odd}");
    }
}

#[test]
fn rules_that_let_one_address_in() {
    let line = |text: &str| Line {
        text: text.to_owned(),
    };
    let lease = line(
        "allow tcp from 2001:db8::7 to me 22 in recv xl0 setup keep-state :postern_ssh \
         // postern:ssh until 2026-11-22T01:10:30Z",
    );
    let address = "2001:db8::7".parse().unwrap();
    assert_eq!(lease.lease(), Some(("ssh", address, 1_795_309_830)));
    for other in [
        "allow tcp from 192.0.2.7 to me 22 // postern:ssh",
        "allow tcp from table(a) to me 22 // postern:ssh until 2026-11-22T01:10:30Z",
        "allow tcp from 192.0.2.7 to me 22 // postern:ssh until tomorrow",
        "allow tcp from 192.0.2.7 to me 22 // ssh until 2026-11-22T01:10:30Z",
        "check-state :default",
    ] {
        assert_eq!(line(other).lease(), None, "{other}");
    }
}

#[test]
fn a_look_that_is_not_what_it_should_be() {
    let (running, ssh) = (Table::running(), Table::ours("ssh").unwrap());
    let good = look();
    // Another order than was asked for, more than was told, names that are none, no headers.
    assert_eq!(Found::parse(&good, &[&ssh, &running]), None);
    assert_eq!(Found::parse(RULES, &[&running]), None);
    let odd = [RULES, ALL, TABLES].concat();
    assert_eq!(Found::parse(&odd, &[&running, &ssh]), None);
    assert_eq!(Found::parse(&format!("00101\n{good}"), &[]), None);
    assert_eq!(
        Found::parse(&good.replace("references: 1", "references: x"), &[]),
        None
    );
    assert_eq!(Found::names(&good).len(), 3);
}
