use std::net::IpAddr;

use super::*;

fn doors(names: &[&str]) -> Vec<Option<String>> {
    names
        .iter()
        .map(|name| Some(name.to_string()).filter(|name| !name.is_empty()))
        .collect()
}

fn gate(name: &str) -> Gate {
    Gate {
        name: name.to_owned(),
        table: format!("door_{name}"),
        ours: true,
        ports: vec![Port {
            protocol: Protocol::Tcp,
            number: 22,
        }],
        kill_states: true,
        idle: false,
        prefix6: 128,
    }
}

fn state(age: u64, rule: u32) -> State {
    State {
        protocol: Some(Protocol::Tcp),
        local: (IpAddr::from([192, 0, 2, 1]), 22),
        remote: (IpAddr::from([192, 0, 2, 7]), 40000),
        age: Duration::from_secs(age),
        anchor: Some(0),
        rule: Some(rule),
        id: (1, 1),
    }
}

/// Whose a state of this age by this rule is.
fn owners(history: &History, age: u64, rule: u32, now: Instant) -> Vec<&'static str> {
    let opening = Opening {
        door: 0,
        address: IpAddr::from([192, 0, 2, 7]).into(),
    };
    let mut owners = vec!["a", "b"];
    owners.retain(|name| {
        let ids = history.of(&gate(name), opening, &[state(age, rule)], now);
        !ids.is_empty()
    });
    owners
}

#[test]
fn a_rules_number_is_that_of_its_time() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut history = History::default();
    history.called(&BTreeSet::from([0]));
    // a, b until 60 s ago, when they changed places; looked at every 10 s.
    for seconds in (0..=100).step_by(10) {
        history.stands(&doors(&["a", "b", "", ""]), at(seconds));
    }
    for seconds in (110..=170).step_by(10) {
        // Running sessions' rules come and go behind the passes.
        let some = doors(&["b", "a", "", "", ""]);
        history.stands(&some[..4 + seconds as usize % 20 / 10], at(seconds));
    }
    let of = |age, rule| owners(&history, age, rule, at(170));
    assert_eq!((of(0, 0), of(0, 1)), (vec!["b"], vec!["a"]));
    assert_eq!((of(50, 0), of(50, 1)), (vec!["b"], vec!["a"]));
    assert_eq!((of(80, 0), of(80, 1)), (vec!["a"], vec!["b"]));
    // Longer ago than we can know: as it was when we came.
    assert_eq!((of(10_000, 0), of(10_000, 1)), (vec!["a"], vec!["b"]));
    for age in 60..=70 {
        assert!(of(age, 0).is_empty() && of(age, 1).is_empty(), "{age}");
    }
    assert!(of(0, 2).is_empty() && of(0, 9).is_empty());
}

#[test]
fn what_is_remembered_is_bounded() {
    let now = Instant::now();
    let mut history = History::default();
    for number in 0..1000 {
        history.stands(&doors(&[["a", "b"][number % 2]]), now);
    }
    assert_eq!(history.past.len(), MOST);
}

#[test]
fn pf_forgets_its_states_when_it_is_restarted_or_told_to() {
    let start = Instant::now();
    let said = |since: Option<u64>, entries, removals, seconds| {
        let status = Status {
            enabled: true,
            since: since.map(Duration::from_secs),
            entries,
            removals,
        };
        Watch::new(status, start + Duration::from_secs(seconds))
    };
    let before = said(Some(1000), 5, 70, 0);
    for (after, forgot) in [
        (said(Some(1010), 5, 70, 10), false),
        (said(Some(1009), 9, 74, 10), false),
        (said(Some(1010), 9, 75, 10), true),
        (said(Some(1010), 0, 75, 10), true),
        (said(Some(3), 5, 70, 10), true),
        (said(Some(1005), 5, 70, 10), true),
        (said(None, 5, 70, 10), true),
        // pfctl -F info
        (said(Some(1010), 5, 0, 10), true),
    ] {
        assert_eq!(before.forgot(&after), forgot, "{after:?}");
    }
}
