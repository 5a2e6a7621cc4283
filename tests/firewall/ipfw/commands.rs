//! What ipfw is given, to the letter. `POSTERN_GOLDEN=write` writes the files.

use std::path::Path;

use postern::config::To;

use super::*;
use crate::net::{CLIENT_4, CLIENT_6, Net, SERVER_4, SERVER_6, listen};

/// What moves with the clock.
fn still_words(calls: &str) -> String {
    let word = |word: &str| {
        let digits = word.bytes().all(|b| b.is_ascii_digit());
        let moment = word.len() == 20 && word.ends_with('Z') && word.as_bytes()[10] == b'T';
        match word {
            word if digits && word.len() == 10 => "END".to_owned(),
            word if moment && !word.starts_with("1970-") => "UNTIL".to_owned(),
            word => word.to_owned(),
        }
    };
    let line = |line: &str| line.split(' ').map(word).collect::<Vec<_>>().join(" ") + "\n";
    calls.lines().map(line).collect()
}

/// Holds the calls since the last time against a file.
#[track_caller]
fn golden(double: &Double, name: &str) {
    let mut text = still_words(&double.calls());
    if text.is_empty() {
        text.push_str("# nothing\n");
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(format!("tests/firewall/golden/ipfw-{name}.txt"));
    if std::env::var_os("POSTERN_GOLDEN").is_some_and(|value| value == "write") {
        std::fs::write(&file, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(text, expected, "{name}");
}

#[test]
fn of_a_door_that_lets_in_by_a_table() {
    let net = Net::new();
    let mut rules = Rules::at(Double::here(), By::Table);
    let listener = listen(22);
    let running = net.reach("10.77.0.2:40000", SERVER_4, 22);
    let running_6 = net.reach("[fd77::2]:40000", SERVER_6, 22);
    let mut doors = doors(By::Table);
    doors.push(numbered(
        "web",
        &[tcp(80), tcp(443), udp(443)],
        2003,
        Some(2004),
    ));

    let since = rules.since;
    let openings = || [still(0, "192.0.2.9", since)];
    rules.firewall.establish(&doors, &openings()).unwrap();
    golden(&rules.double, "establish");
    rules.firewall.establish(&doors, &openings()).unwrap();
    golden(&rules.double, "establish-again");
    rules.crash();
    rules.firewall.establish(&doors, &openings()).unwrap();
    golden(&rules.double, "establish-restart");
    rules.obey(&[open(0, "192.0.2.7", 600), open(2, "2001:db8::7", 600)]);
    golden(&rules.double, "open");
    rules.obey(&[extend(0, "192.0.2.7", 900), close(0, "192.0.2.9")]);
    golden(&rules.double, "extend");
    rules.obey(&[open(0, CLIENT_4, 600), open(1, CLIENT_6, 600)]);
    rules.double.calls();
    rules.obey(&[close(0, CLIENT_4), close(1, CLIENT_6)]);
    golden(&rules.double, "close");
    let openings = || [still(0, "192.0.2.7", since), still(2, "2001:db8::7", since)];
    rules.firewall.uphold(&openings()).unwrap();
    rules.double.calls();
    rules.firewall.uphold(&openings()).unwrap();
    golden(&rules.double, "uphold");
    rules.double.ipfw("delete 2002");
    rules.firewall.uphold(&openings()).unwrap();
    golden(&rules.double, "uphold-guard-deleted");
    rules.double.ipfw("delete set 31");
    rules.firewall.uphold(&openings()).unwrap();
    golden(&rules.double, "uphold-set-deleted");
    rules.firewall.establish(&doors[1..], &[]).unwrap();
    golden(&rules.double, "establish-reload");
    rules.firewall.unguard().unwrap();
    golden(&rules.double, "unguard");
    rules.firewall.uphold(&[]).unwrap();
    rules.double.calls();
    rules.firewall.remove().unwrap();
    golden(&rules.double, "remove");
    assert_eq!(rules.double.rules(), "");
    assert_eq!(rules.double.tables(), [""; 0]);
    drop((listener, running, running_6));
}

#[test]
fn of_a_door_that_lets_in_by_rules() {
    let net = Net::new();
    let mut rules = Rules::at(Double::here(), By::Rules);
    let listener = listen(22);
    let running = net.reach("10.77.0.2:40000", SERVER_4, 22);
    let mut doors = vec![numbered("ssh", &[tcp(22), udp(22)], 101, Some(200))];
    opens_of(&mut doors[0]).pass = Pass::Rules(101..=103);

    rules.firewall.establish(&doors, &[]).unwrap();
    golden(&rules.double, "rules-establish");
    rules.obey(&[open(0, CLIENT_4, 600), open(0, "2001:db8::7", 600)]);
    golden(&rules.double, "rules-open");
    rules.obey(&[extend(0, CLIENT_4, 900)]);
    golden(&rules.double, "rules-extend");
    rules.obey(&[close(0, CLIENT_4)]);
    golden(&rules.double, "rules-close");
    let since = rules.since;
    let openings = || [still(0, "2001:db8::7", since)];
    rules.firewall.uphold(&openings()).unwrap();
    rules.double.calls();
    rules.crash();
    rules.firewall.establish(&doors, &openings()).unwrap();
    golden(&rules.double, "rules-establish-restart");
    rules.double.ipfw("delete set 31");
    rules.firewall.uphold(&openings()).unwrap();
    golden(&rules.double, "rules-uphold-set-deleted");
    rules.firewall.remove().unwrap();
    golden(&rules.double, "rules-remove");
    drop((listener, running));
}

#[test]
fn of_an_administrators_table() {
    let mut rules = Rules::new(By::Table);
    rules.double.ipfw("table knock create type addr");
    let mut doors = vec![numbered("ssh", &[tcp(22)], 101, None)];
    opens_of(&mut doors[0]).pass = Pass::Table("knock".to_owned());
    rules.firewall.establish(&doors, &[]).unwrap();
    golden(&rules.double, "named-establish");
    rules.obey(&[open(0, "192.0.2.7", 600), open(0, "192.0.2.8", 600)]);
    golden(&rules.double, "named-open");
    rules.obey(&[close(0, "192.0.2.7")]);
    golden(&rules.double, "named-close");
    rules.firewall.remove().unwrap();
    golden(&rules.double, "named-remove");
}

#[test]
fn of_networks() {
    for (by, name) in [(By::Table, "networks"), (By::Rules, "rules-networks")] {
        let mut rules = Rules::new(by);
        let mut doors = doors(by);
        doors[0] = idle(prefix6(doors[0].clone(), 56), 90);
        rules.firewall.establish(&doors, &[]).unwrap();
        rules.double.calls();
        rules.obey(&[open(0, "2001:db8:0:100::/56", 600), open(0, "fe80::1", 600)]);
        rules.obey(&[extend(0, "2001:db8:0:100::/56", 900), close(0, "fe80::1")]);
        rules.firewall.traffic().unwrap();
        rules.obey(&[close(0, "2001:db8:0:100::/56")]);
        golden(&rules.double, name);
    }
}

/// The rules of kinds of doors, as they are made at first.
#[test]
fn of_other_doors() {
    let ssh = || numbered("ssh", &[tcp(22)], 101, Some(102));
    let mut limited = ssh();
    opens_of(&mut limited).connections = Some(2);
    let to = |to: To| {
        let mut door = ssh();
        opens_of(&mut door).to = to;
        door
    };
    let mut elsewhere = ssh();
    elsewhere.on = vec!["em1".to_owned(), "em0".to_owned()];
    let network = |text: &str| To::Network(text.parse().unwrap());
    let always = ["192.0.2.0/24", "2001:db8::1"].map(|text| text.parse().unwrap());
    for (name, door, interfaces, always) in [
        ("connections", limited, &["xl0"][..], &[][..]),
        (
            "udp",
            numbered("dns", &[udp(53), tcp(53)], 101, Some(102)),
            &["xl0"],
            &always,
        ),
        ("always", ssh(), &["xl0"], &always),
        ("to-any", to(To::Any), &["xl0"], &[]),
        ("to-network", to(network("192.0.2.0/24")), &["xl0"], &[]),
        ("to-network-6", to(network("2001:db8::/32")), &["xl0"], &[]),
        ("interfaces", ssh(), &["xl1", "xl0"], &[]),
        ("every-interface", ssh(), &["any"], &[]),
        ("on", elsewhere, &["xl0"], &[]),
        (
            "no-guard",
            numbered("ssh", &[tcp(22)], 101, None),
            &["xl0"],
            &always,
        ),
    ] {
        let double = Double::new();
        let interfaces: Vec<String> = interfaces.iter().map(|s| (*s).to_owned()).collect();
        let mut firewall = Ipfw::with_path(&interfaces, always, double.path()).unwrap();
        firewall.establish(&[door], &[]).unwrap();
        golden(&double, &format!("doors-{name}"));
    }
}
