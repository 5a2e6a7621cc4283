use super::*;

/// Recorded from nft 1.0.6, shortened by sets.
const RECORDED: &str = r#"{"nftables": [{"metainfo": {"version": "1.0.6", "release_name": "Lester Gooch #5", "json_schema_version": 1}},
{"table": {"family": "inet", "name": "postern", "handle": 1}},
{"set": {"family": "inet", "name": "ssh_4", "table": "postern", "type": "ipv4_addr", "handle": 1, "comment": "postern: let in at ssh", "flags": ["timeout"], "elem": [{"elem": {"val": "192.0.2.7", "timeout": 30, "expires": 29, "comment": "postern:"}}, {"elem": {"val": "192.0.2.8", "timeout": 29, "expires": 29}}, "192.0.2.9"]}},
{"set": {"family": "inet", "name": "running6", "table": "postern", "type": ["ipv6_addr", "inet_service", "ipv6_addr", "inet_service"], "handle": 4, "comment": "postern: running sessions", "elem": [{"elem": {"val": {"concat": ["fe80::1", 4000, "fe80::2", 22]}, "comment": "postern:"}}]}},
{"set": {"family": "inet", "name": "mine", "table": "postern", "type": "inet_service", "handle": 5, "elem": [1, {"range": [5, 9]}]}},
{"chain": {"family": "inet", "table": "postern", "name": "input", "handle": 5, "type": "filter", "hook": "input", "prio": -10, "policy": "accept"}},
{"chain": {"family": "inet", "table": "postern", "name": "a\nb", "handle": 6}},
{"rule": {"family": "inet", "table": "postern", "chain": "input", "handle": 8, "comment": "postern: tracked tcp", "expr": [{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": {"set": ["xl0", "em0"]}}}, {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": "established"}}, {"accept": null}]}},
{"rule": {"family": "inet", "table": "postern", "chain": "input", "handle": 11, "comment": "mine", "expr": [{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "@ssh_4"}}, {"accept": null}]}}]}"#;

/// Recorded from nft 1.0.6.
const NETWORKS_AND_COUNTS: &str = r#"{"nftables": [
{"set": {"family": "inet", "name": "ssh_now4", "table": "postern", "type": "ipv4_addr", "handle": 2, "comment": "postern: connections at ssh, at most 1", "size": 65536, "elem": [{"elem": {"val": "10.9.9.2", "ct count": {"val": 1}}}]}},
{"set": {"family": "inet", "name": "always_4", "table": "postern", "type": "ipv4_addr", "handle": 3, "comment": "postern: always let in", "flags": ["interval"], "elem": [{"elem": {"val": {"prefix": {"addr": "10.0.0.0", "len": 24}}, "comment": "postern:"}}, {"elem": {"val": "192.0.2.1", "comment": "postern:"}}, {"prefix": {"addr": "10.0.2.0", "len": 23}}, {"range": ["10.0.4.0", "10.0.4.2"]}]}}]}"#;

#[test]
fn networks_and_counts() {
    let table = Table::parse(NETWORKS_AND_COUNTS.as_bytes()).unwrap();
    let always = &table.sets["always_4"];
    let ours: Vec<Key> = always.elements.keys().copied().collect();
    assert_eq!(
        ours,
        [
            Key::Address("192.0.2.1".parse().unwrap()),
            Key::Network("10.0.0.0/24".parse().unwrap()),
        ]
    );
    assert_eq!(
        always.foreign,
        [Key::Network("10.0.2.0/23".parse().unwrap())]
    );
    assert_eq!(always.odd, 1);
    assert!(!table.sets["ssh_now4"].has_foreign(), "the kernel's own");
    assert_eq!(table.strangers, ["2 elements of set \"always_4\""]);
}

#[test]
fn what_nft_tells() {
    let table = Table::parse(RECORDED.as_bytes()).unwrap();
    assert!(!table.flagged && table.foreign_in_chain);
    let chain = Chain {
        hooked: true,
        accepts: true,
    };
    assert_eq!(table.chain, Some(chain));
    assert_eq!(
        table
            .rules
            .iter()
            .map(|r| (r.handle, r.comment.as_str()))
            .collect::<Vec<_>>(),
        [(8, "postern: tracked tcp")]
    );
    assert!(table.foreign_rule_names("ssh_4"));
    assert!(!table.foreign_rule_names("ssh_6"));
    let address = |text: &str| Key::Address(text.parse().unwrap());
    let ssh = &table.sets["ssh_4"];
    assert!(ssh.ours && ssh.has_foreign());
    assert_eq!(
        ssh.elements,
        BTreeMap::from([(address("192.0.2.7"), Element { expires: Some(29) })])
    );
    assert_eq!(ssh.foreign, [address("192.0.2.8"), address("192.0.2.9")]);
    let running = &table.sets["running6"];
    assert_eq!(running.types.len(), 4);
    let session = Key::Session(Session {
        local: "[fe80::2]:22".parse().unwrap(),
        remote: "[fe80::1]:4000".parse().unwrap(),
    });
    assert_eq!(
        running.elements,
        BTreeMap::from([(session, Element { expires: None })])
    );
    assert_eq!(
        table.strangers,
        [
            "2 elements of set \"ssh_4\"",
            "set \"mine\"",
            "chain \"a\\nb\"",
            "rule with handle 11 in chain \"input\"",
        ]
    );
}

/// An anonymous set has no order of its own; everything else has.
#[test]
fn rules_are_the_same_in_whatever_order_their_sets_are_told() {
    let parse = |text: &str| Table::parse(text.as_bytes()).unwrap().rules;
    let same = RECORDED.replace(r#"["xl0", "em0"]"#, r#"["em0", "xl0"]"#);
    assert_ne!(same, RECORDED);
    assert_eq!(parse(&same), parse(RECORDED));
    for (was, is) in [
        (r#"["xl0", "em0"]"#, r#"["xl0"]"#),
        (r#"{"accept": null}]}},"#, r#"{"drop": null}]}},"#),
        (r#""op": "in""#, r#""op": "!=""#),
    ] {
        let other = RECORDED.replace(was, is);
        assert_ne!(other, RECORDED);
        assert_ne!(parse(&other), parse(RECORDED), "{was}");
    }
}

#[test]
fn what_nft_does_not_tell() {
    for text in [
        "",
        "[]",
        "{}",
        r#"{"nftables": 1}"#,
        r#"{"nftables": [1]}"#,
        r#"{"nftables": [{"rule": {}}]}"#,
    ] {
        assert!(Table::parse(text.as_bytes()).is_none(), "{text}");
    }
}

proptest::proptest! {
    /// Whatever is cut out of it or put into it: an answer, never a panic.
    #[test]
    fn no_text_is_too_strange(
        at in 0..RECORDED.len(), cut in 0..64_usize, put in "[\\[\\]{}\",:a-z0-9@]{0,8}",
    ) {
        let mut text = RECORDED.as_bytes().to_vec();
        let end = (at + cut).min(text.len());
        text.splice(at..end, put.bytes());
        let _ = Table::parse(&text);
    }
}

/// Recorded from nft 1.0.6, shortened by rules: `posternctl render nft --fallback` beside a daemon.
const KERNEL: &str = r#"{"nftables": [
{"set": {"family": "inet", "name": "ssh_4", "table": "postern", "type": "ipv4_addr", "handle": 1, "comment": "postern: let in at ssh", "size": 65535, "flags": ["timeout"], "elem": [{"elem": {"val": "192.0.2.7", "timeout": 30, "expires": 29, "comment": "postern:"}}, {"elem": {"val": "192.0.2.8", "timeout": 30, "expires": 29}}, {"elem": {"val": "192.0.2.9", "timeout": 30, "expires": 29, "comment": "mine"}}, "192.0.2.10"]}},
{"set": {"family": "inet", "name": "kernel.ssh.1.1_4", "table": "postern", "type": "ipv4_addr", "handle": 9, "size": 65535, "flags": ["timeout"], "elem": [{"elem": {"val": "192.0.2.8", "timeout": 5, "expires": 4}}]}},
{"set": {"family": "inet", "name": "kernels", "table": "postern", "type": "ipv4_addr", "handle": 10}},
{"chain": {"family": "inet", "table": "postern", "name": "kernel.ssh.open", "handle": 11}},
{"chain": {"family": "inet", "table": "postern", "name": "kernel", "handle": 12, "type": "filter", "hook": "input", "prio": -20, "policy": "accept"}},
{"rule": {"family": "inet", "table": "postern", "chain": "kernel.ssh.open", "handle": 13, "expr": [{"set": {"op": "update", "elem": {"payload": {"protocol": "ip", "field": "saddr"}}, "set": "@ssh_4"}}]}},
{"rule": {"family": "inet", "table": "postern", "chain": "kernel", "handle": 14, "expr": [{"jump": {"target": "kernel.ssh.open"}}]}}]}"#;

#[test]
fn rules_that_let_in_without_us_are_no_strangers() {
    let address = |last: u8| Key::Address([192, 0, 2, last].into());
    let table = Table::parse(KERNEL.as_bytes()).unwrap();
    assert!(table.kernel);
    let set = &table.sets["ssh_4"];
    assert_eq!(Vec::from_iter(set.elements.keys()), [&address(7)]);
    assert_eq!(set.kernels, [address(8)]);
    assert_eq!(set.foreign, [address(9), address(10)]);
    assert_eq!(
        table.strangers,
        ["2 elements of set \"ssh_4\"", "set \"kernels\""]
    );
    assert!(table.foreign_rule_names("ssh_4"), "so it is not deleted");

    // Without such a chain they are somebody else's.
    let without = KERNEL.replace("\"name\": \"kernel", "\"name\": \"colonel");
    let without = without.replace("\"chain\": \"kernel", "\"chain\": \"colonel");
    let table = Table::parse(without.as_bytes()).unwrap();
    assert!(!table.kernel);
    assert!(table.sets["ssh_4"].kernels.is_empty());
    assert_eq!(table.sets["ssh_4"].foreign.len(), 3);
    assert_eq!(table.strangers.len(), 7);
}
