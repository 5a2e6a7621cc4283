use crate::config::{Action, Guard, Opens, Pass, Port, Protocol, To};

use super::*;

fn door(name: &str, ports: &[(Protocol, u16)], guard: bool) -> Door {
    let ports: Vec<Port> = ports
        .iter()
        .map(|&(protocol, number)| Port { protocol, number })
        .collect();
    Door {
        name: name.to_owned(),
        action: Action::Open(Opens {
            guard: guard.then(|| Guard {
                number: None,
                ports: ports.clone(),
            }),
            ports,
            open_for: Duration::from_secs(30),
            pass: Pass::Ours { rule: None },
            to: To::Me,
            connections: None,
            kill_states: false,
        }),
        on: Vec::new(),
        idle: None,
        prefix6: 128,
        knocks: Vec::new(),
        max_leases: 1024,
    }
}

fn layout(doors: &[Door]) -> Layout {
    Layout::new(doors, &On::new(&["xl0".to_owned()]).unwrap(), &[]).unwrap()
}

/// Of all rules but the first.
fn comments(layout: &Layout) -> Vec<&str> {
    layout.rules[1..]
        .iter()
        .map(|line| line.comment.strip_prefix("postern: ").unwrap())
        .collect()
}

use Protocol::{Tcp, Udp};

/// In whatever order the doors stand: everything that passes, then everything that drops.
#[test]
fn doors_on_one_port_share_a_guard_behind_all_their_passes() {
    let (guarded, open) = (
        door("a", &[(Tcp, 22)], true),
        door("b", &[(Tcp, 22)], false),
    );
    for doors in [[guarded.clone(), open.clone()], [open.clone(), guarded]] {
        let layout = layout(&doors);
        let comments = comments(&layout);
        assert_eq!(
            comments[..3],
            ["tracked tcp", "running tcp ip", "running tcp ip6"]
        );
        assert_eq!(comments.len(), 3 + 4 + 1);
        assert!(
            comments[3..7]
                .iter()
                .all(|comment| comment.starts_with("pass "))
        );
        assert_eq!(comments[7], "guard 22/tcp");
        for (_, gate) in layout.gates() {
            assert_eq!(
                gate.guarded,
                [22],
                "the sessions of either door are under the guard"
            );
        }
    }
    assert_eq!(
        comments(&layout(&[open])),
        ["pass b tcp ip", "pass b tcp ip6"],
        "without a guard nothing but passes"
    );
}

#[test]
fn the_same_number_of_another_protocol_is_another_port() {
    let layout = layout(&[
        door("a", &[(Tcp, 53), (Udp, 53)], false),
        door("b", &[(Udp, 53)], true),
    ]);
    assert_eq!(
        comments(&layout),
        [
            "tracked udp",
            "pass a tcp ip",
            "pass a udp ip",
            "pass a tcp ip6",
            "pass a udp ip6",
            "pass b udp ip",
            "pass b udp ip6",
            "guard 53/udp",
        ]
    );
    assert_eq!(layout.guarded, [0; 0], "no sessions to look for");
}

/// Whoever is for none of the doors' ports, guarded or not, is let by before all else.
#[test]
fn other_ports_leave_at_once() {
    let mut doors = vec![
        door("a", &[(Tcp, 53), (Udp, 53)], false),
        on(door("b", &[(Tcp, 22)], true), &["em1"]),
    ];
    let first = |doors: &[Door]| {
        layout(doors)
            .rules
            .first()
            .map(|line| line.text.to_string())
    };
    assert_eq!(
        first(&doors).as_deref(),
        Some(
            "add rule inet postern input iifname != \"lo\" \
             meta l4proto . th dport != { tcp . 22, tcp . 53, udp . 53 } accept \
             comment \"postern: other ports\""
        )
    );
    // A guard may stand at a port that its door does not open.
    let Action::Open(opens) = &mut doors[0].action else {
        panic!("it opens ports");
    };
    let number = 8443;
    let ports = vec![Port {
        protocol: Tcp,
        number,
    }];
    opens.guard = Some(Guard {
        number: None,
        ports,
    });
    assert!(first(&doors).is_some_and(|rule| rule.contains("tcp . 8443")));
    assert_eq!(first(&[]), None);
}

#[test]
fn where_rules_apply() {
    let text = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let layout = Layout::new(&[door("a", &[(Tcp, 22)], true)], &On::new(&names)?, &[])?;
        Ok::<String, Failure>(layout.rules.last().unwrap().text.to_string())
    };
    let rule = |on| {
        format!(
            "add rule inet postern input {on} tcp dport 22 drop comment \"postern: guard 22/tcp\""
        )
    };
    assert_eq!(text(&[]), Ok(rule("iifname != \"lo\"")));
    assert_eq!(text(&["xl0", "any"]), Ok(rule("iifname != \"lo\"")));
    assert_eq!(text(&["xl0"]), Ok(rule("iifname \"xl0\"")));
    assert_eq!(
        text(&["xl1", "xl0", "xl1"]),
        Ok(rule("iifname { \"xl0\", \"xl1\" }"))
    );
    assert_eq!(
        text(&["xl*"]).unwrap_err().to_string(),
        "interface \"xl*\": no such name"
    );
    let bad = Layout::new(&[door("a b", &[(Tcp, 22)], true)], &On::Any, &[]);
    assert_eq!(bad.unwrap_err().to_string(), "door \"a b\": no such name");
}

fn on(mut door: Door, interfaces: &[&str]) -> Door {
    door.on = interfaces.iter().map(|&name| name.to_owned()).collect();
    door
}

/// All but the first.
fn rules(layout: &Layout) -> Vec<&str> {
    layout.rules[1..]
        .iter()
        .map(|line| {
            line.text
                .as_str()
                .strip_prefix("add rule inet postern input ")
                .unwrap()
        })
        .collect()
}

#[test]
fn a_guard_stands_wherever_a_door_does_that_wants_it() {
    let doors = [
        on(door("a", &[(Tcp, 22), (Tcp, 80)], true), &["em1"]),
        door("b", &[(Tcp, 22)], true),
        on(door("c", &[(Tcp, 22)], false), &["em2"]),
    ];
    assert_eq!(
        rules(&layout(&doors))
            .iter()
            .filter(|rule| !rule.contains("ip6"))
            .copied()
            .collect::<Vec<_>>(),
        [
            "iifname { \"em1\", \"xl0\" } tcp dport 22 ct state established accept \
             comment \"postern: tracked tcp\"",
            "iifname \"em1\" tcp dport 80 ct state established accept \
             comment \"postern: tracked tcp\"",
            "iifname { \"em1\", \"xl0\" } tcp dport 22 tcp flags & (fin | syn | rst | ack) != syn \
             ip saddr . tcp sport . ip daddr . tcp dport @running4 accept \
             comment \"postern: running tcp ip\"",
            "iifname \"em1\" tcp dport 80 tcp flags & (fin | syn | rst | ack) != syn \
             ip saddr . tcp sport . ip daddr . tcp dport @running4 accept \
             comment \"postern: running tcp ip\"",
            "iifname \"em1\" ip saddr @a_4 tcp dport { 22, 80 } accept comment \"postern: pass a tcp ip\"",
            "iifname \"xl0\" ip saddr @b_4 tcp dport 22 accept comment \"postern: pass b tcp ip\"",
            "iifname \"em2\" ip saddr @c_4 tcp dport 22 accept comment \"postern: pass c tcp ip\"",
            "iifname { \"em1\", \"xl0\" } tcp dport 22 drop comment \"postern: guard 22/tcp\"",
            "iifname \"em1\" tcp dport 80 drop comment \"postern: guard 80/tcp\"",
        ]
    );
    let everywhere = [
        door("a", &[(Tcp, 22)], true),
        on(door("b", &[(Tcp, 22)], true), &["any"]),
    ];
    assert_eq!(
        rules(&layout(&everywhere)).last(),
        Some(&"iifname != \"lo\" tcp dport 22 drop comment \"postern: guard 22/tcp\"")
    );
}

#[test]
fn whoever_always_passes_does_so_between_passes_and_guards() {
    let always = ["192.0.2.0/24", "192.0.2.7", "198.51.100.1", "2001:db8::/32"];
    let always = always.map(|network| network.parse().unwrap());
    let laid = |doors: &[Door]| Layout::new(doors, &On::Any, &always);
    let layout = laid(&[
        door("a", &[(Tcp, 22), (Udp, 53)], true),
        door("b", &[(Tcp, 80)], false),
    ])
    .unwrap();
    assert_eq!(
        layout.always,
        [always[0], always[2], always[3]],
        "none within another"
    );
    assert_eq!(
        comments(&layout)[10..],
        [
            "always tcp ip",
            "always udp ip",
            "always tcp ip6",
            "always udp ip6",
            "guard 22/tcp",
            "guard 53/udp",
        ]
    );
    assert_eq!(
        rules(&layout)[10],
        "iifname != \"lo\" ip saddr @always_4 tcp dport 22 accept comment \"postern: always tcp ip\""
    );
    // Its sets have these names.
    let failure = laid(&[door("always", &[(Tcp, 22)], true)]).unwrap_err();
    assert!(failure.to_string().contains("another name"), "{failure}");
}

#[test]
fn connections_are_counted_by_door_and_family() {
    let mut limited = door("a", &[(Tcp, 22), (Udp, 53)], true);
    if let Action::Open(opens) = &mut limited.action {
        opens.connections = Some(3);
    }
    let layout = layout(&[limited, door("b", &[(Tcp, 22)], true)]);
    let counting: Vec<&str> = rules(&layout)
        .into_iter()
        .filter(|rule| rule.contains("ct count"))
        .collect();
    assert_eq!(
        counting,
        [
            "iifname \"xl0\" ip saddr @a_4 tcp dport 22 add @a_now4 { ip saddr ct count 3 } accept \
             comment \"postern: pass a tcp ip\"",
            "iifname \"xl0\" ip saddr @a_4 udp dport 53 add @a_now4 { ip saddr ct count 3 } accept \
             comment \"postern: pass a udp ip\"",
            "iifname \"xl0\" ip6 saddr @a_6 tcp dport 22 add @a_now6 { ip6 saddr ct count 3 } accept \
             comment \"postern: pass a tcp ip6\"",
            "iifname \"xl0\" ip6 saddr @a_6 udp dport 53 add @a_now6 { ip6 saddr ct count 3 } accept \
             comment \"postern: pass a udp ip6\"",
        ]
    );
}

#[test]
fn the_words_of_nft_in_short() {
    let text = "/dev/stdin:3:1-39: Error: Could not process rule: Device or resource busy\n\
                delete set inet postern ssh_4\n                        ^^^^^\n\
                /dev/stdin:4:1-9: Error: syntax error\n";
    assert_eq!(
        tool::errors(text.as_bytes()),
        "Could not process rule: Device or resource busy: delete set inet postern ssh_4; \
         syntax error"
    );
    assert_eq!(tool::errors(b"Segmentation\nfault\n"), "Segmentation fault");
    let long = format!("x: Error: no\n{}", "y".repeat(4000));
    assert_eq!(
        tool::errors(long.as_bytes()),
        format!("no: {}...", "y".repeat(80))
    );
}

#[test]
fn generations_leave_out_0() {
    assert_eq!(netlink::next(1), 2);
    assert_eq!(netlink::next(u32::MAX), 1);
}
