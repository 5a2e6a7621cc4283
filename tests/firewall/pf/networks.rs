//! Doors that let in IPv6 networks.

use super::states::{ids, state};
use super::*;

const NETWORK: &str = "2001:db8:1:2::/64";

fn wide(length: u8) -> Vec<Door> {
    vec![
        prefix6(opens("ssh", &[tcp(22)], true), length),
        opens("sftp", &[tcp(22)], false),
    ]
}

#[test]
fn are_entered_looked_after_and_taken_out() {
    let mut anchor = Anchor::new();
    anchor.firewall.establish(&wide(64), &[]).unwrap();
    anchor.obey(&[open(0, NETWORK, 600), open(0, "192.0.2.7", 600)]);
    let both = BTreeSet::from(["192.0.2.7".to_owned(), NETWORK.to_owned()]);
    assert_eq!(anchor.double.table("postern", "door_ssh"), both);
    let openings = [opening(0, "192.0.2.7"), opening(0, NETWORK)];
    assert_eq!(anchor.firewall.openings().unwrap(), openings);
    let wanted = [left(0, NETWORK, 600), left(0, "192.0.2.7", 600)];
    anchor.crash();
    anchor.firewall.establish(&wide(64), &wanted).unwrap();
    assert_eq!(anchor.uphold(&wanted), [NONE, NONE]);
    anchor.double.pfctl("-a postern -t door_ssh -T flush", "");
    let told = "door ssh: openings were missing, put back: 192.0.2.7, 2001:db8:1:2::/64";
    assert_eq!(anchor.uphold(&wanted)[0], [told]);
    anchor.obey(&[close(0, NETWORK)]);
    assert_eq!(anchor.double.table("postern", "door_ssh").len(), 1);
}

#[test]
fn go_when_the_length_changes() {
    for after in [48, 128] {
        let mut anchor = Anchor::new();
        anchor.firewall.establish(&wide(64), &[]).unwrap();
        anchor.obey(&[open(0, NETWORK, 600)]);
        anchor.crash();
        anchor.firewall.establish(&wide(after), &[]).unwrap();
        anchor.obey(&[close(0, NETWORK)]);
        assert_eq!(anchor.double.table("postern", "door_ssh").len(), 0);
    }
}

#[test]
fn end_with_their_states() {
    let mut anchor = Anchor::new();
    let mut doors = wide(64);
    doors[0] = changed(doors[0].clone(), |opens| opens.kill_states = true);
    anchor.firewall.establish(&doors, &[]).unwrap();
    anchor.obey(&[open(0, NETWORK, 600)]);
    let all = [
        state("2001:db8:1:2::7", 1, 22, "anchor 0, rule 0", 1),
        state("2001:db8:1:2:ffff::8", 2, 22, "anchor 0, rule 0", 2),
        state("2001:db8:1:3::7", 3, 22, "anchor 0, rule 0", 3),
        state("2001:db8:1:2::7", 4, 22, "anchor 0, rule 1", 4),
    ];
    std::fs::write(anchor.double.file("states"), all.concat()).unwrap();
    anchor.obey(&[close(0, NETWORK)]);
    assert_eq!(ids(&anchor.double), [3, 4]);
}
