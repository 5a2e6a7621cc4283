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
        knocks: Vec::new(),
        max_leases: 1024,
    }
}

fn layout(doors: &[Door]) -> Layout {
    Layout::new(doors, &On::new(&["xl0".to_owned()]).unwrap()).unwrap()
}

fn comments(layout: &Layout) -> Vec<&str> {
    layout
        .rules
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

#[test]
fn where_rules_apply() {
    let text = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let layout = Layout::new(&[door("a", &[(Tcp, 22)], true)], &On::new(&names)?)?;
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
    let bad = Layout::new(&[door("a b", &[(Tcp, 22)], true)], &On::Any);
    assert_eq!(bad.unwrap_err().to_string(), "door \"a b\": no such name");
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
    assert_eq!(generation::next(1), 2);
    assert_eq!(generation::next(u32::MAX), 1);
}
