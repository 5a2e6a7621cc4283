//! Traffic, by the counters of the doors' tables.

use super::*;

fn doors() -> Vec<Door> {
    vec![
        opens("sftp", &[tcp(22)], false),
        idle(prefix6(opens("ssh", &[tcp(22)], true), 64), 60),
    ]
}

/// So many packets have come from there in all.
fn packets(anchor: &Anchor, who: &str, packets: u64) {
    anchor.double.edit(|state| {
        let entry = &mut state["counted"][format!("postern door_ssh {who}")];
        assert!(entry.is_array(), "{who} is in the table");
        entry[1] = packets.into();
    });
}

fn traffic(anchor: &mut Anchor) -> Vec<Opening> {
    let traffic = anchor.firewall.traffic().unwrap().into_iter();
    let at_once = |(opening, ago)| {
        assert_eq!(ago, std::time::Duration::ZERO);
        opening
    };
    traffic.map(at_once).collect()
}

#[test]
fn is_what_entries_have_counted_since_the_last_look() {
    let mut anchor = Anchor::new();
    anchor.firewall.establish(&doors(), &[]).unwrap();
    let text = anchor.double.pfctl("-a postern -v -s Tables", "");
    assert!(text.contains("-pa-r-C\tdoor_ssh\t"), "{text}");
    assert!(text.contains("-pa-r--\tdoor_sftp\t"), "{text}");
    let who = ["192.0.2.7", "2001:db8:1:2::/64"];
    anchor.obey(&who.map(|who| open(1, who, 600)));
    anchor.obey(&[open(0, who[0], 600)]);
    assert_eq!(traffic(&mut anchor), []);
    let both = who.map(|who| opening(1, who));
    packets(&anchor, who[0], 3);
    assert_eq!(traffic(&mut anchor), both[..1]);
    assert_eq!(traffic(&mut anchor), []);
    packets(&anchor, who[0], 4);
    packets(&anchor, who[1], 1);
    assert_eq!(traffic(&mut anchor), both);
    // Neither the moving of an end nor an upkeep begins to count anew.
    anchor.obey(&[extend(1, who[0], 900)]);
    let wanted = [
        left(0, who[0], 600),
        left(1, who[0], 900),
        left(1, who[1], 600),
    ];
    assert_eq!(anchor.uphold(&wanted), [NONE, NONE]);
    assert_eq!(traffic(&mut anchor), []);
    // One that is made anew does.
    anchor.obey(&[close(1, who[0])]);
    assert_eq!(traffic(&mut anchor), []);
    anchor.obey(&[open(1, who[0], 600)]);
    packets(&anchor, who[0], 1);
    assert_eq!(traffic(&mut anchor), both[..1]);
    // Of what was counted before a restart it is not known when.
    anchor.crash();
    anchor.firewall.establish(&doors(), &wanted).unwrap();
    assert_eq!(traffic(&mut anchor), both);
    assert_eq!(traffic(&mut anchor), []);
}

#[test]
fn a_table_that_does_not_count_is_made_to() {
    let mut anchor = Anchor::new();
    let silent = [
        opens("sftp", &[tcp(22)], false),
        opens("ssh", &[tcp(22)], true),
    ];
    anchor.firewall.establish(&silent, &[]).unwrap();
    anchor.obey(&[open(1, "192.0.2.7", 600)]);
    assert_eq!(traffic(&mut anchor), []);
    let wanted = [left(1, "192.0.2.7", 600)];
    // By a reload, which leaves who is let in; and once it is so, nothing is loaded.
    anchor.firewall.establish(&doors(), &wanted).unwrap();
    packets(&anchor, "192.0.2.7", 1);
    assert_eq!(traffic(&mut anchor), [opening(1, "192.0.2.7")]);
    anchor.double.calls();
    anchor.crash();
    anchor.firewall.establish(&doors(), &wanted).unwrap();
    assert!(!anchor.double.calls().contains("pfctl -a postern -f -"));
    // Somebody else has loaded it without.
    anchor
        .double
        .edit(|state| state["counting"]["postern"] = Value::Array(Vec::new()));
    assert_eq!(
        anchor.uphold(&wanted),
        [
            vec!["table door_ssh did not count: set right".to_owned()],
            Vec::new()
        ]
    );
    assert_eq!(anchor.uphold(&wanted), [NONE, NONE]);
}
