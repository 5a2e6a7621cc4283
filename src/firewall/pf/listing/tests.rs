use super::*;

#[test]
fn rules_of_ours_and_others_in_the_kernels_order() {
    let text = "\
scrub in all fragment reassemble
pass in quick proto tcp from <door_ssh> to any port = ssh flags S/SA keep state label \"postern:ssh\"
anchor \"mine\" all {
  pass all flags S/SA keep state label \"postern:not\"
}
pass in quick inet proto tcp from 192.0.2.7 port = 40001 to 192.0.2.1 port = ssh flags any keep state (sloppy) label \"postern: running\"
pass all flags S/SA keep state label \"mine\"
block drop in quick proto tcp from any to any port = ssh label \"postern: guard\"
";
    let lines: Vec<&str> = text.lines().collect();
    let rules = Rules::parse(text);
    assert_eq!(rules.ours, [lines[1], lines[5], lines[7]]);
    assert_eq!(
        rules.strangers,
        [lines[0], lines[2], lines[3], lines[4], lines[6]]
    );
    let ssh = Some("ssh".to_owned());
    assert_eq!(rules.doors, [ssh, None, None, None, None]);
    assert_eq!(Vec::from_iter(rules.running()), [lines[5]]);
    assert_eq!(rules.lasting(), [lines[1], lines[7]]);
}

#[test]
fn where_our_anchor_is_reached_from() {
    let calls = |text: &str| Vec::from_iter(calls(text, "postern"));
    let text = "scrub in all\nblock drop all\nanchor \"postern\" all\npass all\n\
                anchor \"postern\" in on em0 all\nanchor \"other\" all {\n  anchor \"postern\" all\n}\n\
                anchor all {\n  pass all\n  anchor \"/postern\" all\n}\nanchor \"*\" all\n";
    assert_eq!(calls(text), [1, 3, 5, 6]);
    assert_eq!(
        calls("anchor \"postern/*\" all\nanchor \"postern2\" all\n"),
        [0; 0]
    );
    assert_eq!(calls(""), [0; 0]);
}

#[test]
fn entries_of_tables() {
    let found = entries("   192.0.2.7\n  !198.51.100.0/24\n   2001:db8::7\n   ::ffff:1.2.3.4\n");
    let found = found.unwrap();
    let shown: Vec<String> = found.iter().map(Entry::to_string).collect();
    assert_eq!(
        shown,
        [
            "192.0.2.7",
            "::ffff:1.2.3.4",
            "2001:db8::7",
            "!198.51.100.0/24"
        ]
    );
    assert_eq!(found.iter().filter_map(Entry::lets_in).count(), 3);
    assert_eq!(entries(""), Some(BTreeSet::new()));
    assert_eq!(entries("   192.0.2.7\nwhat\n"), None);
}

#[test]
fn what_pf_says_of_itself() {
    let text = "\
Status: Enabled for 3 days 01:02:03           Debug: Urgent

State Table                          Total             Rate
  current entries                        7               
  searches                               0            0.0/s
  inserts                                9            0.0/s
  removals                               2            0.0/s
Counters
  match                                  0            0.0/s
";
    let status = Status::parse(text).unwrap();
    let since = Duration::from_secs(3 * 86_400 + 3723);
    assert_eq!((status.enabled, status.since), (true, Some(since)));
    assert_eq!((status.entries, status.removals), (7, 2));
    let text = "Status: Disabled                              Debug: Urgent\n";
    assert_eq!(Status::parse(text), Some(Status::default()));
    assert_eq!(Status::parse("what\n"), None);
}

#[test]
fn states_of_packets_that_came_in() {
    let text = "\
all tcp 10.9.0.1:22 <- 10.9.0.2:29659       CLOSED:ESTABLISHED
   [0 + 1]  [764616974 + 6]
   age 00:00:02, expires in 00:00:29, 2:2 pkts, 114:104 bytes, anchor 3, rule 10, sloppy
   id: 000000006b0209d1 creatorid: 3c4691ab
all tcp 10.9.0.1:40000 -> 10.9.0.2:22       ESTABLISHED:ESTABLISHED
   [0 + 1]  [764616974 + 6]
   age 00:00:02, expires in 00:00:29, 2:2 pkts, 114:104 bytes, anchor 9, rule 9
   id: 0000000000000009 creatorid: 00000009
em0 udp fd77::1[53] <- 2001:db8::7[5353]       NO_TRAFFIC:SINGLE
   age 101:01:01, expires in 00:00:29, 2:2 pkts, 114:104 bytes, rule 4
   id: 0000000000000002 creatorid: 3c4691ab gateway: 0.0.0.0
all tcp 10.9.0.1:22 (203.0.113.1:2222) <- 192.0.2.7:1024       ESTABLISHED:ESTABLISHED
all icmp 10.9.0.1:8 <- 10.9.0.2:8       0:0
all what
";
    let states = states(text);
    assert_eq!(states.len(), 4);
    let [first, second, third, fourth] = states.as_slice() else {
        panic!("{states:?}");
    };
    assert_eq!(first.local, ([10, 9, 0, 1].into(), 22));
    assert_eq!(first.remote, ([10, 9, 0, 2].into(), 29659));
    assert_eq!((first.anchor, first.rule), (Some(3), Some(10)));
    assert_eq!(first.age, Duration::from_secs(2));
    assert_eq!(first.id, (0x6b02_09d1, 0x3c46_91ab));
    assert_eq!(second.protocol, Some(Protocol::Udp));
    assert_eq!(second.remote, ("2001:db8::7".parse().unwrap(), 5353));
    assert_eq!((second.anchor, second.rule), (None, Some(4)));
    assert_eq!(second.age, Duration::from_secs(101 * 3600 + 61));
    assert_eq!(second.id, (2, 0x3c46_91ab));
    assert_eq!(third.local, ([10, 9, 0, 1].into(), 22));
    assert_eq!(third.remote, ([192, 0, 2, 7].into(), 1024));
    assert_eq!((fourth.protocol, fourth.local.1), (None, 8));
}
