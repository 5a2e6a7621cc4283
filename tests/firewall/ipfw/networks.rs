//! Doors that let in IPv6 networks.

use super::*;
use crate::net::{CLIENT_6, Net, SERVER_6, listen};

const NETWORK: &str = "2001:db8:1:2::/64";

fn wide(by: By, length: u8) -> Vec<Door> {
    let mut doors = doors(by);
    doors[0] = prefix6(doors[0].clone(), length);
    doors
}

/// What lets in at the first door.
fn entries(rules: &Rules) -> Vec<String> {
    match rules.by {
        By::Table => {
            let all = rules.double.table("ssh").into_iter();
            all.map(|line| line.split(' ').next().unwrap().to_owned())
                .collect()
        }
        By::Rules => {
            let text = rules.double.rules();
            let of_ssh = text.lines().filter(|line| line.contains("ssh until"));
            of_ssh
                .map(|line| line.split(' ').nth(4).unwrap().to_owned())
                .collect()
        }
    }
}

#[test]
fn are_entered_looked_after_and_taken_out() {
    for by in [By::Table, By::Rules] {
        let mut rules = Rules::new(by);
        rules.firewall.establish(&wide(by, 64), &[]).unwrap();
        rules.obey(&[open(0, NETWORK, 600), open(0, "192.0.2.7", 600)]);
        let four = match by {
            By::Table => "192.0.2.7/32",
            By::Rules => "192.0.2.7",
        };
        let both = BTreeSet::from([NETWORK.to_owned(), four.to_owned()]);
        assert_eq!(BTreeSet::from_iter(entries(&rules)), both);
        let openings = [opening(0, "192.0.2.7"), opening(0, NETWORK)];
        assert_eq!(rules.firewall.openings().unwrap(), openings);
        assert_eq!(rules.uphold(&[NETWORK, "192.0.2.7"]), Ok(Upkeep::default()));
        rules.crash();
        let left = [left(0, NETWORK, 600), left(0, "192.0.2.7", 600)];
        rules.double.calls();
        let upkeep = rules.firewall.establish(&wide(by, 64), &left).unwrap();
        assert_eq!(upkeep, Upkeep::default());
        assert!(!rules.double.calls().contains("ipfw -q"), "all is right");

        let mended = rules.uphold(&["192.0.2.7"]).unwrap().mended;
        let told = format!("door ssh: openings stood without a lease, taken away: {NETWORK}");
        assert_eq!(mended, [told]);
        let mended = rules.uphold(&["192.0.2.7", NETWORK]).unwrap().mended;
        let told = format!("door ssh: openings were missing, put back: {NETWORK}");
        assert_eq!(mended, [told]);
        rules.obey(&[extend(0, NETWORK, 900), close(0, "192.0.2.7")]);
        assert_eq!(entries(&rules), [NETWORK]);
        rules.obey(&[close(0, NETWORK)]);
        assert_eq!(entries(&rules), [""; 0]);
    }
}

#[test]
fn go_when_the_length_changes() {
    for by in [By::Table, By::Rules] {
        for (before, after) in [(64, 48), (64, 128), (128, 64)] {
            let mut rules = Rules::new(by);
            rules.firewall.establish(&wide(by, before), &[]).unwrap();
            let who = match before {
                64 => NETWORK,
                _ => "2001:db8:1:2::7",
            };
            rules.obey(&[open(0, who, 600)]);
            // After a restart, where nothing is known of what was before.
            rules.crash();
            rules.firewall.establish(&wide(by, after), &[]).unwrap();
            assert_eq!(entries(&rules), [""; 0], "{before} {after}");
            // The journal's order.
            rules.obey(&[close(0, who)]);
            assert_eq!(rules.uphold(&[]), Ok(Upkeep::default()));
        }
    }
}

#[test]
fn in_a_table_of_the_administrators_they_go_at_their_end() {
    let mut rules = Rules::new(By::Table);
    rules.double.ipfw("table friends create type addr");
    let mut doors = wide(By::Table, 64);
    opens_of(&mut doors[0]).pass = Pass::Table("friends".to_owned());
    opens_of(&mut doors[0]).guard = None;
    rules.firewall.establish(&doors, &[]).unwrap();
    rules.double.ipfw("table friends add 2001:db8:1::/48");
    rules.obey(&[open(0, NETWORK, 600)]);
    let friends = |rules: &Rules| rules.double.ipfw("table friends list");
    assert!(friends(&rules).contains(NETWORK), "{}", friends(&rules));
    // In a configuration after a restart that has another length, the journal closes it.
    rules.crash();
    doors[0].prefix6 = 48;
    rules.firewall.establish(&doors, &[]).unwrap();
    rules.obey(&[close(0, NETWORK)]);
    assert!(!friends(&rules).contains(NETWORK), "{}", friends(&rules));
    assert!(friends(&rules).contains("2001:db8:1::/48"));
}

#[test]
fn at_the_end_their_sessions_are_admitted() {
    for by in [By::Table, By::Rules] {
        let net = Net::new();
        let mut rules = Rules::at(Double::here(), by);
        let listener = listen(22);
        rules.firewall.establish(&wide(by, 64), &[]).unwrap();
        rules.obey(&[open(0, "fd77::/64", 600)]);
        let session = net.reach(CLIENT_6, SERVER_6, 22);
        rules.obey(&[close(0, "fd77::/64")]);
        let running = rules.double.table("running");
        assert!(running[0].starts_with("fd77::2,6,"), "{running:?}");
        drop((listener, session));
    }
}
