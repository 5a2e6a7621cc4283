//! States: which end with a lease.

use super::*;

/// A state as pfctl shows it.
pub fn state(from: &str, port: u16, to: u16, numbers: &str, id: u64) -> String {
    let (local, remote) = match from.contains(':') {
        true => (format!("fd77::1[{to}]"), format!("{from}[{port}]")),
        false => (format!("10.77.0.1:{to}"), format!("{from}:{port}")),
    };
    format!(
        "all tcp {local} <- {remote}       ESTABLISHED:ESTABLISHED\n   \
         [4003323418 + 291644904]  [4044882683 + 981]\n   \
         age 00:00:00, expires in 23:59:53, 14:7 pkts, 2040:3745 bytes, {numbers}\n   \
         id: {id:016x} creatorid: 45110a48\n"
    )
}

pub fn ids(double: &Double) -> Vec<u64> {
    let text = std::fs::read_to_string(double.file("states")).unwrap();
    let words: Vec<&str> = text.split_whitespace().collect();
    let ids = words.windows(2).filter(|pair| pair[0] == "id:");
    ids.map(|pair| u64::from_str_radix(pair[1], 16).unwrap())
        .collect()
}

#[test]
fn a_leases_end_ends_the_states_it_let_in_and_no_others() {
    let mut anchor = Anchor::new();
    let killing = |door: Door| changed(door, |opens| opens.kill_states = true);
    let doors = [
        opens("sftp", &[tcp(22)], true),
        killing(opens("ssh", &[tcp(22), udp(53)], true)),
    ];
    anchor.firewall.establish(&doors, &[]).unwrap();
    anchor.obey(&[open(1, "192.0.2.7", 600), open(1, "2001:db8::7", 600)]);
    let out = state("192.0.2.7", 9, 22, "anchor 0, rule 1", 12).replace("<-", "->");
    let udp = state("192.0.2.7", 53, 53, "anchor 0, rule 2", 13)
        .replace("all tcp", "all udp")
        .replace("   [4003323418 + 291644904]  [4044882683 + 981]\n", "");
    let all = [
        state("192.0.2.7", 1, 22, "anchor 0, rule 1", 1),
        state("192.0.2.7", 2, 22, "anchor 0, rule 0", 2),
        state("192.0.2.8", 3, 22, "anchor 0, rule 1", 3),
        state("192.0.2.7", 4, 80, "anchor 0, rule 1", 4),
        state("192.0.2.7", 5, 22, "anchor 1, rule 1", 5),
        state("192.0.2.7", 6, 22, "rule 1", 6),
        state("192.0.2.7", 7, 22, "anchor 0, rule 1, source-track", 7),
        state("2001:db8::7", 8, 22, "anchor 0, rule 1", 8),
        out,
        udp,
    ];
    std::fs::write(anchor.double.file("states"), all.concat()).unwrap();
    anchor.obey(&[close(1, "192.0.2.7")]);
    assert_eq!(ids(&anchor.double), [2, 3, 4, 5, 6, 8, 12]);
    assert!(!anchor.double.calls().contains("-k 192"), "by their ids");
    anchor.obey(&[close(1, "2001:db8::7")]);
    assert_eq!(ids(&anchor.double), [2, 3, 4, 5, 6, 12]);
}

/// A state keeps the number that its rule had when it was made.
#[test]
fn numbers_of_rules_are_those_of_when_the_state_was_made() {
    let mut anchor = Anchor::new();
    let killing = |name| {
        changed(opens(name, &[tcp(22)], true), |opens| {
            opens.kill_states = true
        })
    };
    anchor
        .firewall
        .establish(&[killing("a"), killing("b")], &[])
        .unwrap();
    let both = [killing("b"), killing("a")];
    anchor.firewall.establish(&both, &[]).unwrap();
    // Made just when the anchor was loaded, or so: b's, or a's.
    let young = state("192.0.2.7", 1, 22, "anchor 0, rule 0", 1);
    std::fs::write(anchor.double.file("states"), young).unwrap();
    anchor.obey(&[open(0, "192.0.2.7", 600)]);
    anchor.obey(&[close(0, "192.0.2.7")]);
    assert_eq!(ids(&anchor.double), [1], "it may be another door's");
    // No ruleset of ours has had such a number but the last.
    let young = state("192.0.2.7", 1, 80, "anchor 0, rule 3", 2);
    std::fs::write(anchor.double.file("states"), young).unwrap();
    let web = changed(opens("web", &[tcp(80)], true), |opens| {
        opens.kill_states = true;
    });
    let [b, a] = both;
    let three = [b, a, opens("mail", &[tcp(25)], false), web];
    anchor.firewall.establish(&three, &[]).unwrap();
    anchor.obey(&[close(3, "192.0.2.7")]);
    assert_eq!(ids(&anchor.double), [0; 0]);
}

/// pf.conf may be loaded anew with our anchor at another place.
#[test]
fn the_anchors_place_in_the_main_ruleset_may_change() {
    let mut anchor = Anchor::new();
    let door = changed(opens("ssh", &[tcp(22)], true), |opens| {
        opens.kill_states = true
    });
    anchor.firewall.establish(&[door], &[]).unwrap();
    anchor.double.pfctl(
        "-f -",
        "block in proto tcp to port 25\nanchor \"postern\"\npass all\n",
    );
    let states = [
        state("192.0.2.7", 1, 22, "anchor 0, rule 0", 1),
        state("192.0.2.7", 2, 22, "anchor 1, rule 0", 2),
        state("192.0.2.7", 3, 22, "anchor 2, rule 0", 3),
    ];
    std::fs::write(anchor.double.file("states"), states.concat()).unwrap();
    anchor.obey(&[open(0, "192.0.2.7", 600)]);
    anchor.obey(&[close(0, "192.0.2.7")]);
    assert_eq!(ids(&anchor.double), [3]);
}

#[test]
fn without_kill_states_none_is_even_looked_at() {
    let mut anchor = Anchor::new();
    anchor.firewall.establish(&doors(), &[]).unwrap();
    let one = state("192.0.2.7", 1, 22, "anchor 0, rule 0", 1);
    std::fs::write(anchor.double.file("states"), one).unwrap();
    anchor.obey(&[open(0, "192.0.2.7", 600)]);
    let _ = anchor.double.calls();
    anchor.obey(&[close(0, "192.0.2.7")]);
    assert!(!anchor.double.calls().contains("states"));
    assert_eq!(ids(&anchor.double), [1]);
}
