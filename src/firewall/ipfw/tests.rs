use crate::config::{Action, Guard, Opens, Pass, Port, Protocol, To};

use super::layout::{Form, example};
use super::listing::Line;
use super::*;

pub(super) fn door(name: &str, ports: &[u16], rule: u16, guard: Option<u16>) -> Door {
    let ports: Vec<Port> = ports
        .iter()
        .map(|&number| Port {
            protocol: Protocol::Tcp,
            number,
        })
        .collect();
    Door {
        name: name.to_owned(),
        action: Action::Open(Opens {
            guard: guard.map(|number| Guard {
                number: Some(number),
                ports: ports.clone(),
            }),
            ports,
            open_for: Duration::from_secs(30),
            pass: Pass::Ours { rule: Some(rule) },
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

fn laid(doors: &[Door], always: &[Network]) -> Result<Layout, Failure> {
    Layout::new(doors, &On::new(&["xl0".to_owned()])?, always)
}

pub(super) fn opens(door: &mut Door) -> &mut Opens {
    match &mut door.action {
        Action::Open(opens) => opens,
        Action::Command(_) => unreachable!("they all open"),
    }
}

/// Number and text of each rule, without what all of them have.
fn shown(layout: &Layout) -> Vec<String> {
    layout
        .rules
        .iter()
        .map(|Rule { number, text }| format!("{number} {}", text.replace(" in recv xl0", "")))
        .collect()
}

#[test]
fn guards_of_one_number_are_one_rule() {
    let mut gateway = door("gate", &[443], 104, Some(110));
    opens(&mut gateway).to = To::Any;
    let doors = [
        door("ssh", &[22], 101, Some(110)),
        door("sftp", &[22, 990], 102, Some(110)),
        door("web", &[80], 103, Some(120)),
        gateway,
    ];
    let layout = laid(&doors, &["192.0.2.1".parse().unwrap()]).unwrap();
    let rules = shown(&layout);
    let running = "established flow table(postern_running) // postern: running";
    let expected = [
        "110 allow tcp from table(postern_always) to me 22,990 // postern: always".to_owned(),
        "110 allow tcp from table(postern_always) to any 443 // postern: always".to_owned(),
        format!("110 allow tcp from any to me 22,990 {running}"),
        format!("110 allow tcp from any to any 443 {running}"),
        "110 deny tcp from any to me 22,990 // postern: guard".to_owned(),
        "110 deny tcp from any to any 443 // postern: guard".to_owned(),
        "120 allow tcp from table(postern_always) to me 80 // postern: always".to_owned(),
        format!("120 allow tcp from any to me 80 {running}"),
        "120 deny tcp from any to me 80 // postern: guard".to_owned(),
    ];
    assert_eq!(rules[4..], expected);
    assert!(rules[3].starts_with("104 allow tcp from table(postern_gate) to any 443 "));
    assert_eq!(layout.guarded, [22, 80, 443, 990]);
}

#[test]
fn more_ports_than_a_rule_holds() {
    let ports: Vec<u16> = (1001..=1064).collect();
    let layout = laid(&[door("all", &ports, 101, Some(102))], &[]).unwrap();
    let rules = shown(&layout);
    assert_eq!(rules.len(), 9);
    for (place, first) in [(0, "1001,"), (1, "1031,"), (2, "1061,"), (8, "1061,")] {
        assert!(rules[place].contains(first), "{}", rules[place]);
    }
    assert!(
        rules[..3]
            .iter()
            .all(|rule| rule.contains(":postern_all //"))
    );
    assert!(
        rules[6..]
            .iter()
            .all(|rule| rule.ends_with("// postern: guard"))
    );
}

#[test]
fn what_ipfw_cannot_do() {
    let mut numberless = door("ssh", &[22], 101, None);
    opens(&mut numberless).pass = Pass::Ours { rule: None };
    let mut guard = door("ssh", &[22], 101, Some(102));
    opens(&mut guard).guard.as_mut().unwrap().number = None;
    let mut interface = door("ssh", &[22], 101, None);
    interface.on = vec!["em*".to_owned()];
    let mut interfaces = door("ssh", &[22], 101, None);
    interfaces.on = (0..60).map(|n| format!("interface{n}")).collect();
    for (door, words) in [
        (numberless, "give rule and guard a number"),
        (guard, "give rule and guard a number"),
        (interface, "\"em*\": not a name"),
        (interfaces, "name fewer interfaces"),
        (
            door("running", &[22], 101, None),
            "give the door another name",
        ),
        (
            door("always", &[22], 101, None),
            "give the door another name",
        ),
        (door("s sh", &[22], 101, None), "no such name"),
    ] {
        let failure = laid(&[door], &[]).unwrap_err().to_string();
        assert!(failure.contains(words), "{failure}");
    }
}

fn forms(doors: &mut [Door]) -> Vec<Form> {
    opens(&mut doors[0]).pass = Pass::Rules(101..=199);
    let layout = laid(doors, &[]).unwrap();
    match &layout.gate(0).unwrap().by {
        By::Rules { forms, .. } => forms.clone(),
        By::Table(_) => unreachable!("it lets in by rules"),
    }
}

#[test]
fn rules_are_listed_as_ipfw_listed_an_example() {
    let mut doors = [door("ssh", &[22], 0, Some(200))];
    let form = &forms(&mut doors)[0];
    let mut canon = Canon::default();
    for address in ["192.0.2.7", "2001:db8::7", "2001:db8:7:8::/64"] {
        let address: Network = address.parse().unwrap();
        let text = form.text(example(address), 0);
        canon.insert(text.clone(), text.replace(" me 22 ", " me dst-port 22 "));
        let due = canon::Due::lease(101, form, address, 1_795_309_830);
        let listed = format!(
            "allow tcp from {address} to me dst-port 22 in recv xl0 setup keep-state \
             :postern_ssh // postern:ssh until 2026-11-22T01:10:30Z"
        );
        assert_eq!(canon.listed(&due), listed);
        // It turns out otherwise: what stands is right.
        let other = listed.replace(" dst-port", " port");
        assert!(canon.learn(
            std::slice::from_ref(&due),
            &[Line {
                text: other.clone()
            }]
        ));
        assert_eq!(canon.listed(&due), other);
        let next = canon::Due::lease(102, form, address, 1_795_309_831);
        assert_eq!(canon.listed(&next), other.replace("30Z", "31Z"));
        assert!(!canon.learn(std::slice::from_ref(&due), &[]));
        assert!(!canon.learn(
            &[due],
            &[Line {
                text: "deny ip from any to any".to_owned()
            }]
        ));
    }
}

#[test]
fn ends_are_seconds_that_a_value_holds() {
    let now = unix(Duration::ZERO);
    assert!(unix(Duration::from_secs(600)).abs_diff(now + 600) <= 1);
    assert_eq!(unix(Duration::MAX), u32::MAX);
}

#[test]
fn addresses_that_ipfw_does_not_take() {
    let taken = |text: &str| !is_v4_compatible(text.parse().unwrap());
    for good in ["192.0.2.7", "2001:db8::7", "::ffff:192.0.2.7", "::", "::1"] {
        assert!(taken(good), "{good}");
    }
    for bad in ["::2", "::192.0.2.7", "::255.255.255.255"] {
        assert!(!taken(bad), "{bad}");
    }
}
