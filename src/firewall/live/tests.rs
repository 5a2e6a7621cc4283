use super::*;
use crate::config::toml;

fn config(text: &str) -> Config {
    let knock = "[[door.ssh.knock]]\nsequence = [\"7143\", \"2912/udp\", \"9001\"]\n";
    let text = format!("{text}{knock}");
    toml::parse("test", &text).unwrap_or_else(|wrong| panic!("{wrong:?}"))
}

fn ipfw_door(more: &str) -> Config {
    config(&format!(
        "interface = \"xl0\"\nfirewall = \"ipfw\"\n[door.ssh]\nopens = [\"22/tcp\"]\n\
         open_for = \"30s\"\n{more}\n"
    ))
}

fn told(remarks: &[Remark]) -> Vec<String> {
    remarks
        .iter()
        .map(|r| format!("{}: {}; {}", r.spot.key, r.what, r.better))
        .collect()
}

fn with(values: &[(&str, i64)]) -> Sysctls {
    let value = |&(name, value): &(&str, i64)| (name.to_owned(), value);
    values.iter().map(value).collect()
}

/// As `service ipfw start` made them with firewall_type=open on FreeBSD 12.1, with `-S`.
const OPEN: &str = "\
00100 set 0 allow ip from any to any via lo0
00200 set 0 deny ip from any to 127.0.0.0/8
00300 set 0 deny ip from 127.0.0.0/8 to any
00400 set 0 deny ip from any to ::1
00500 set 0 deny ip from ::1 to any
00600 set 0 allow ipv6-icmp from :: to ff02::/16
00700 set 0 allow ipv6-icmp from fe80::/10 to fe80::/10
00800 set 0 allow ipv6-icmp from fe80::/10 to ff02::/16
00900 set 0 allow ipv6-icmp from any to any icmp6types 1
01000 set 0 allow ipv6-icmp from any to any icmp6types 2,135,136
65000 set 0 allow ip from any to any
65535 set 31 allow ip from any to any
";

const OURS: &str = "\
00101 set 31 allow tcp from table(postern_ssh) to me 22 in recv xl0 setup keep-state :postern_ssh // postern:ssh
00102 set 31 allow tcp from any to me 22 in recv xl0 established flow table(postern_running) // postern: running
00102 set 31 deny tcp from any to me 22 in recv xl0 // postern: guard
";

fn ipfw_told(config: &Config, listing: &str) -> Vec<String> {
    told(&ipfw::rules(config, listing, &with(&[])))
}

#[test]
fn nothing_is_said_of_rules_that_are_in_nobodys_way() {
    let guarded = ipfw_door("rule = 101\nguard = 102");
    assert_eq!(ipfw_told(&guarded, OPEN), [""; 0]);
    assert_eq!(ipfw_told(&guarded, &format!("{OURS}{OPEN}")), [""; 0]);
    for harmless in [
        "00050 set 0 allow tcp from any to me 80",
        "00050 set 0 allow udp from any to me 22",
        "00050 set 0 allow tcp from 10.0.0.0/8 to me 22",
        "00050 set 0 allow tcp from any to any out",
        "00050 set 0 allow tcp from me to any 22 out xmit xl0 setup keep-state :default",
        "00050 set 0 check-state :default",
        "00050 set 0 count ip from any to any",
        "00050 set 0 allow ip from any to any in recv em1",
        "00050 set 0 allow ip from any to any via em*",
        "00050 set 0 skipto 60 ip from any to any",
        "# DISABLED 00050 set 7 allow ip from any to any",
        "00050 set 0 deny tcp from table(bans) to any",
        "02000 set 0 deny ip from 192.0.2.0/24 to any in recv xl0",
        "nothing like a rule",
        "00050",
        "00050 set",
        "00050 set 0 skipto",
    ] {
        assert_eq!(
            ipfw_told(&guarded, &format!("{harmless}\n{OPEN}")),
            [""; 0],
            "{harmless}"
        );
    }
}

#[test]
fn ipfw_rules_in_the_way() {
    let guarded = ipfw_door("rule = 101\nguard = 102");
    for (rule, said) in [
        (
            "00050 set 0 allow tcp from any to me 22",
            "guard: rule 00050 \"allow tcp from any to me 22\" lets everybody in at 22/tcp before \
             the guard; ipfw delete 50, or give the guard a number below 50",
        ),
        (
            "00050 set 0 allow proto tcp dst-port 20-25,80",
            "guard: rule 00050 \"allow proto tcp dst-port 20-25,80\" lets everybody in at 22/tcp \
             before the guard; ipfw delete 50, or give the guard a number below 50",
        ),
        (
            "00050 set 0 allow tcp from any to any established",
            "guard: rule 00050 \"allow tcp from any to any established\" passes segments of \
             22/tcp that no session sent, so that a scan with ACK or FIN sees the port in spite \
             of the guard; give the guard a number below 50",
        ),
        (
            "00050 set 0 deny log logamount 5 tcp from any to any in via xl*",
            "rule: rule 00050 \"deny log logamount 5 tcp from any to any in via xl*\" keeps \
             everybody out at 22/tcp, those who knocked too; give the door numbers below 50",
        ),
        (
            "00050 set 0 skipto 500 tcp from any to me",
            "rule: rule 00050 \"skipto 500 tcp from any to me\" leads around our rules; give the \
             door numbers below 50",
        ),
        (
            "00050 set 0 nat 1 ip from any to any in recv xl0",
            "rule: what rule 00050 \"nat 1 ip from any to any in recv xl0\" takes is let in at \
             once and never comes to our rules (net.inet.ip.fw.one_pass is 1); write \
             net.inet.ip.fw.one_pass=0 in /etc/sysctl.conf",
        ),
        (
            "00500 set 0 divert 8668 ip from any to any in recv xl0",
            "rule: rule 00500 \"divert 8668 ip from any to any in recv xl0\" comes after our \
             rules: what it would have sent on to a machine behind is denied by the guard first; \
             give the door numbers above 500",
        ),
        (
            "02022 set 0 deny tcp from table(port22) to any 22",
            "rule: rule 02022 \"deny tcp from table(port22) to any 22\" bans addresses, but our \
             pass comes first: who is banned and knocks gets in; give the door numbers above 2022",
        ),
    ] {
        assert_eq!(ipfw_told(&guarded, &format!("{rule}\n{OPEN}")), [said]);
    }
    let one_pass = with(&[("net.inet.ip.fw.one_pass", 0)]);
    let nat = "00050 set 0 nat 1 ip from any to any in recv xl0\n";
    assert_eq!(ipfw::rules(&guarded, nat, &one_pass), []);
}

#[test]
fn ipfw_without_a_guard_of_ours() {
    let bring_your_own = ipfw_door("rule = 101");
    assert_eq!(
        ipfw_told(&bring_your_own, OPEN),
        [
            "opens: rule 65000 \"allow ip from any to any\" lets everybody in at 22/tcp, and no \
             guard stands; write guard with a number between the pass rule and that"
        ]
    );
    let own = "00102 set 0 deny tcp from any to me 22 in\n";
    assert_eq!(ipfw_told(&bring_your_own, &format!("{own}{OPEN}")), [""; 0]);
    let shut = "65535 set 31 deny ip from any to any\n";
    assert_eq!(ipfw_told(&bring_your_own, shut), [""; 0]);
}

#[test]
fn tables_of_the_administrators() {
    let named = config(
        "interface = \"xl0\"\nfirewall = \"ipfw\"\n[door.ssh]\ntable = \"friends\"\n\
         open_for = \"30s\"\n",
    );
    assert_eq!(
        ipfw_told(&named, OPEN),
        [
            "table: no rule names table(friends), so an entry in it opens nothing; ipfw add 101 \
             allow tcp from 'table(friends)' to me 22 in"
        ]
    );
    let rule = "00101 set 0 allow tcp from table(friends) to me 22 in\n";
    assert_eq!(ipfw_told(&named, rule), [""; 0]);
    let tables: Vec<_> = tables(&named).collect();
    assert_eq!(tables, [(Spot::door(0).key("table"), "friends")]);
    assert_eq!(
        ipfw::no_table(tables[0].0, "friends").what,
        "there is no table friends"
    );
}

#[test]
fn settings_of_the_kernel() {
    let guarded = ipfw_door("rule = 101\nguard = 102");
    let what = |values: &[(&str, i64)]| {
        let remarks = ipfw::system(&guarded, &with(values));
        remarks
            .into_iter()
            .map(|r| r.what)
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert!(what(&[]).starts_with("ipfw is not loaded"));
    let (on, on_6) = (("net.inet.ip.fw.enable", 1), ("net.inet6.ip6.fw.enable", 1));
    assert_eq!(what(&[on, on_6, ("net.inet.tcp.blackhole", 2)]), "");
    assert!(what(&[("net.inet.ip.fw.enable", 0)]).starts_with("ipfw is not enabled"));
    assert!(what(&[on, ("net.inet6.ip6.fw.enable", 0)]).starts_with("IPv6 is not filtered"));
    assert!(what(&[on, on_6, ("kern.securelevel", 3)]).contains("takes no rule"));
    assert_eq!(what(&[on, on_6, ("kern.securelevel", -1)]), "");
    assert_eq!(
        what(&[
            on,
            on_6,
            ("net.inet.tcp.blackhole", 0),
            ("net.inet.udp.blackhole", 0)
        ]),
        "closed ports answer and the guarded ones do not, so that a scan tells them apart \
         (net.inet.tcp.blackhole is 0)"
    );
    assert_eq!(
        values("net.inet.ip.fw.enable=1\nnet.inet.ip.fw.one_pass=0\nkern.securelevel=-1\nx\n"),
        with(&[on, ("net.inet.ip.fw.one_pass", 0), ("kern.securelevel", -1)])
    );
}

fn pf_door(more: &str) -> Config {
    config(&format!(
        "interface = \"em0\"\nfirewall = \"pf\"\n[door.ssh]\nopen_for = \"30s\"\n{more}\n"
    ))
}

fn pf_told(config: &Config, seen: &pf::Seen) -> Vec<String> {
    told(&pf::remarks(config, seen, &with(&[])))
}

/// As FreeBSD 12.1 prints it.
fn enabled(rules: &str) -> pf::Seen {
    pf::Seen {
        info: "Status: Enabled for 0 days 00:00:00           Debug: Urgent\n".to_owned(),
        rules: rules.to_owned(),
        interfaces: "all\nem0\nlo0 (skip)\n".to_owned(),
        ..pf::Seen::default()
    }
}

#[test]
fn pf_rules_in_the_way() {
    let door = pf_door("opens = [\"22/tcp\"]\nguard = true");
    let good = "block drop in quick on vtnet9 proto tcp from any to any port = 2299\n\
                anchor \"postern\" all\n\
                block drop in proto tcp from any to any port = ssh\n\
                pass all flags S/SA keep state\n";
    assert_eq!(pf_told(&door, &enabled(good)), [""; 0]);
    let before = |rule: &str| pf_told(&door, &enabled(&format!("{rule}\n{good}")));
    for harmless in [
        "pass in quick on em1 proto tcp from any to any port = ssh flags S/SA keep state",
        "pass in proto tcp from any to any port = ssh flags S/SA keep state",
        "pass out quick all flags S/SA keep state",
        "block drop in quick from <bans> to any",
        "pass in quick proto udp from any to any port = 22 keep state",
        "block drop in quick proto tcp from any to any port 6000 >< 6010",
        "pass quick on lo0 all flags S/SA keep state",
    ] {
        assert_eq!(before(harmless), [""; 0], "{harmless}");
    }
    let rule = "pass in quick proto tcp from any to any port = ssh flags S/SA keep state";
    assert_eq!(
        before(rule),
        [format!(
            "opens: {rule:?} lets everybody in at 22/tcp before the guard; write anchor \
             \"postern\" before it in /etc/pf.conf"
        )]
    );
    let rule = "block drop in quick on em0 all";
    assert_eq!(
        before(rule),
        [format!(
            "opens: {rule:?} keeps everybody out at 22/tcp, those who knocked too; write anchor \
             \"postern\" before it in /etc/pf.conf"
        )]
    );
    let rdr = "rdr on em0 inet proto tcp from any to any port = ssh -> 10.0.0.2 port 22";
    let seen = pf::Seen {
        nat: format!("{rdr}\n"),
        ..enabled(good)
    };
    assert!(pf_told(&door, &seen)[0].contains("sends 22/tcp elsewhere"));
}

#[test]
fn pf_that_does_not_come_to_us() {
    let door = pf_door("opens = [\"22/tcp\"]\nguard = true");
    let said = |rules: &str| pf_told(&door, &enabled(rules)).join("\n");
    assert!(said("pass all flags S/SA keep state\n").contains("never come to our anchor"));
    assert!(said("").contains("never come to our anchor"));
    assert!(said("anchor \"postern/*\" all\n").contains("not postern itself"));
    assert!(said("anchor \"postern\" in on em1 all\n").contains("only some packets"));
    let mut seen = enabled("anchor \"postern\" all\n");
    seen.info = "Status: Disabled                              Debug: Urgent\n".to_owned();
    assert!(pf_told(&door, &seen)[0].contains("pf is disabled"));
    seen = enabled("anchor \"postern\" all\n");
    seen.interfaces = "em0 (skip)\n".to_owned();
    assert!(pf_told(&door, &seen)[0].contains("pf skips em0"));
    let secure = with(&[("kern.securelevel", 3)]);
    let told = told(&pf::remarks(
        &door,
        &enabled("anchor \"postern\" all\n"),
        &secure,
    ));
    assert!(told[0].contains("takes no rules any more"));
}

#[test]
fn pf_tables_of_the_administrators() {
    let door = pf_door("table = \"friends\"");
    let mut seen = enabled("pass in quick proto tcp from <friends> to any port = ssh\n");
    assert!(pf_told(&door, &seen)[0].contains("there is no table <friends>"));
    seen.tables = "friends\n".to_owned();
    assert_eq!(pf_told(&door, &seen), [""; 0]);
    seen.rules.clear();
    assert!(pf_told(&door, &seen)[0].contains("no rule names <friends>"));
}

#[test]
fn chains_of_other_tables() {
    let door = config(
        "interface = \"eth0\"\nfirewall = \"nft\"\n[door.ssh]\nopens = [\"22/tcp\"]\n\
         open_for = \"30s\"\nguard = true\n",
    );
    let ruleset = |policy: &str, rules: &str| {
        format!(
            "{{\"nftables\": [{{\"metainfo\": {{}}}}, {{\"chain\": {{\"family\": \"inet\", \
             \"table\": \"filter\", \"name\": \"in\", \"hook\": \"input\", \"policy\": \
             \"{policy}\"}}}}{rules}]}}"
        )
    };
    let rule = |port: u16| {
        format!(
            ", {{\"rule\": {{\"family\": \"inet\", \"table\": \"filter\", \"chain\": \"in\", \
             \"expr\": [{{\"match\": {{\"right\": {port}}}}}, {{\"accept\": null}}]}}}}"
        )
    };
    assert_eq!(nft::chains(&door, &ruleset("accept", "")), []);
    assert_eq!(nft::chains(&door, &ruleset("drop", &rule(22))), []);
    for rules in ["", &rule(2222)] {
        let remarks = nft::chains(&door, &ruleset("drop", rules));
        assert!(
            told(&remarks)[0].starts_with("opens: chain inet filter in drops"),
            "{remarks:?}"
        );
    }
    assert!(
        nft::chains(&door, "no JSON")[0]
            .what
            .contains("not understood")
    );
}

#[test]
fn interfaces_that_are_part_of_others() {
    let door = config(
        "interface = [\"eth0\", \"eth1\"]\nfirewall = \"nft\"\n[door.ssh]\nopens = \
         [\"22/tcp\"]\nopen_for = \"30s\"\nguard = true\n",
    );
    let net = tempfile::tempdir().unwrap();
    for name in ["eth0", "eth1"] {
        std::fs::create_dir(net.path().join(name)).unwrap();
    }
    assert_eq!(nft::interfaces(&door, net.path()), []);
    std::os::unix::fs::symlink("../br0", net.path().join("eth0/master")).unwrap();
    std::os::unix::fs::symlink("../eth1.7", net.path().join("eth1/upper_eth1.7")).unwrap();
    let what: Vec<String> = nft::interfaces(&door, net.path())
        .into_iter()
        .map(|r| r.what)
        .collect();
    assert_eq!(
        what,
        [
            "eth0 belongs to br0: rules see br0 and not eth0",
            "eth1.7 stands above eth1: what comes in by it passes the guards by"
        ]
    );
}
