//! The packet filters of FreeBSD behind the real daemon, by doubles of their commands: what comes
//! to stand, when. What the rules do to packets only FreeBSD can show (tests/freebsd).

use std::process::Command;

use tempfile::TempDir;

use crate::STEPS;
use crate::harness::{Daemon, Door, Net, Ran, Service, until};

/// A server with a double of this command.
struct Filter {
    name: &'static str,
    directory: TempDir,
}

impl Filter {
    fn install(net: &Net, name: &'static str) -> Filter {
        let directory = tempfile::tempdir().unwrap();
        net.server.install_double(name, directory.path());
        Filter { name, directory }
    }

    /// What the command prints.
    fn says(&self, arguments: &str) -> String {
        let mut command = Command::new(self.directory.path().join(self.name));
        let ran = Ran::of(command.args(arguments.split(' ')));
        assert_eq!(ran.code(), 0, "{arguments}: {ran:?}");
        ran.stdout
    }
}

fn door(lines: &str) -> Door {
    Door::new("ssh")
        .with("opens = [\"22/tcp\"]\nopen_for = \"1h\"")
        .with(lines)
        .to(&STEPS)
}

fn start<'n>(net: &'n Net, firewall: &str, doors: &[Door]) -> Daemon<'n> {
    let mut daemon = Daemon::prepare(&net.server, doors);
    daemon.set("firewall", &format!("{firewall:?}"));
    daemon.configure(doors);
    daemon.run();
    daemon
}

const PASS: &str = "00101 allow tcp from table(postern_ssh) to me 22 in recv eth0 setup \
                    keep-state :postern_ssh // postern:ssh\n";
const GUARD: &str = "00102 allow tcp from any to me 22 in recv eth0 established flow \
                     table(postern_running) // postern: running\n\
                     00102 deny tcp from any to me 22 in recv eth0 // postern: guard\n";

#[test]
fn ipfw_from_knock_to_unguard() {
    let net = Net::new(1);
    let (client, server) = (net.client(), net.server.v4);
    let ipfw = Filter::install(&net, "ipfw");
    let _service = Service::start(&net.server, &[22]);
    let mut before = client.session(server, 22).unwrap();
    before.echo();
    let ours = || {
        let all = ipfw.says("list");
        let ours = all.lines().filter(|line| line.contains("// postern"));
        ours.map(|line| format!("{line}\n")).collect::<String>()
    };
    let mut daemon = start(&net, "ipfw", &[door("rule = 101\nguard = 102")]);
    assert_eq!(ours(), format!("{PASS}{GUARD}"));
    let running = ipfw.says("table postern_running list");
    let flow = format!("{},6,", client.v4);
    assert!(
        running.starts_with(&flow),
        "the session from before: {running}"
    );

    client.knock(server, &STEPS);
    let lease = daemon.wait_lease("ssh", client.v4);
    let until_then = lease.until.as_second();
    let entry = ipfw.says("table postern_ssh list");
    let (who, end) = entry.trim_end().split_once(' ').unwrap();
    assert_eq!(who, format!("{}/32", client.v4));
    assert!(
        (end.parse::<i64>().unwrap() - until_then).abs() <= 2,
        "{end}, {until_then}"
    );

    // Killed and started again: what stands stays, who is let in stays.
    daemon.kill();
    daemon.run();
    assert_eq!(ipfw.says("table postern_ssh list"), entry);
    assert_eq!(daemon.ctl(&["close", &client.v4.to_string()]).code(), 0);
    assert_eq!(ipfw.says("table postern_ssh list"), "");

    daemon.kill();
    let ran = daemon.ctl_there(&["unguard"]);
    assert_eq!(ran.code(), 0, "{ran:?}");
    assert_eq!(ours(), PASS);
    daemon.run();
    assert_eq!(ours(), PASS, "it stays away");
    assert_eq!(daemon.ctl(&["confirm"]).code(), 0);
    assert_eq!(ours(), format!("{PASS}{GUARD}"));
    drop(before);
}

#[test]
fn ipfw_one_rule_for_each_address() {
    let net = Net::new(2);
    let ipfw = Filter::install(&net, "ipfw");
    let doors = [door("rules = \"101-103\"\nguard = 110")];
    let daemon = start(&net, "ipfw", &doors);
    for client in &net.clients {
        client.knock(net.server.v4, &STEPS);
        let lease = daemon.wait_lease("ssh", client.v4);
        let rule = format!(
            "allow tcp from {} to me 22 in recv eth0 setup keep-state :postern_ssh // \
             postern:ssh until ",
            client.v4
        );
        let all = ipfw.says("list");
        let line = all.lines().find(|line| line.contains(&rule)).unwrap();
        let end: jiff::Timestamp = line.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(
            (end.as_second() - lease.until.as_second()).abs() <= 2,
            "{line}"
        );
    }
    let first = net.clients[0].v4.to_string();
    assert_eq!(daemon.ctl(&["close", &first]).code(), 0);
    let all = ipfw.says("list");
    assert!(!all.contains(&format!("from {first} ")), "{all}");
    assert!(
        all.contains(&format!("from {} ", net.clients[1].v4)),
        "{all}"
    );
}

#[test]
fn pf_from_knock_to_unguard() {
    let net = Net::new(1);
    let (client, server) = (net.client(), net.server.v4);
    let pf = Filter::install(&net, "pfctl");
    let _service = Service::start(&net.server, &[22]);
    let mut before = client.session(server, 22).unwrap();
    before.echo();
    let mut daemon = start(&net, "pf", &[door("guard = true")]);
    let rules = || pf.says("-a postern -s rules");
    let [pass, running, guard] = [
        "pass in quick on eth0 proto tcp from <door_ssh> to (self) port = ssh flags S/SA keep \
         state label \"postern:ssh\"\n",
        "flags any keep state (sloppy) label \"postern: running\"\n",
        "block drop in quick on eth0 proto tcp from any to (self) port = ssh label \"postern: \
         guard\"\n",
    ];
    let all = rules();
    assert!(
        all.starts_with(pass) && all.contains(running) && all.ends_with(guard),
        "{all}"
    );

    client.knock(server, &STEPS);
    daemon.wait_lease("ssh", client.v4);
    let table = || pf.says("-a postern -t door_ssh -T show");
    assert_eq!(table(), format!("   {}\n", client.v4));
    daemon.kill();
    daemon.run();
    assert_eq!(table(), format!("   {}\n", client.v4));
    assert_eq!(rules(), all, "nothing was loaded anew");

    pf.says("-a postern -F rules");
    until("it is mended", || rules() == all);
    daemon.kill();
    assert_eq!(daemon.ctl_there(&["unguard"]).code(), 0);
    assert!(!rules().contains("block"), "{}", rules());
    assert_eq!(daemon.ctl(&["confirm"]).code(), 0);
    daemon.run();
    assert!(rules().ends_with(guard), "{}", rules());
    drop(before);
}

/// A door of the administrator's table.
fn named(table: &str) -> Door {
    let lines = format!("table = {table:?}\nopen_for = \"1h\"");
    Door::new("ssh").with(&lines).to(&STEPS)
}

/// Reloads with this door on these interfaces; whoever is let in stays so, until the same time,
/// and a knock that was begun before opens as the door is now.
fn changed(net: &Net, daemon: &mut Daemon, interfaces: &str, door: Door) {
    let [client, other] = &net.clients[..] else {
        panic!()
    };
    let before = daemon.lease("ssh", client.v4).unwrap();
    other.knock(net.server.v4, &STEPS[..2]);
    daemon.set("interface", interfaces);
    daemon.configure(&[door]);
    daemon.reload();
    other.knock(net.server.v4, &STEPS[2..]);
    daemon.wait_lease("ssh", other.v4);
    assert_eq!(daemon.lease("ssh", client.v4).unwrap().until, before.until);
}

#[test]
fn ipfw_doors_change_the_way_they_let_in_at_a_reload() {
    let net = Net::new(2);
    let ipfw = Filter::install(&net, "ipfw");
    let [client, other] = &net.clients[..] else {
        panic!()
    };
    net.plug(&net.server, "eth1");
    net.server.run("sysctl -q net.ipv4.conf.all.arp_ignore=1");
    for table in ["friends", "guests"] {
        ipfw.says(&format!("table {table} create type addr"));
        ipfw.says(&format!("table {table} add 192.0.2.1"));
    }
    let both = [client, other].map(|c| format!("{}/32 ", c.v4));
    let has_both = |text: &str| both.iter().all(|who| text.contains(who));
    let rules = |words: &str| {
        let all = ipfw.says("list");
        let ours = all.lines().filter(|line| line.contains("// postern"));
        let (with, without): (Vec<_>, Vec<_>) = ours.partition(|line| line.contains(words));
        (with.len(), without.len())
    };
    let doors = [door("rule = 101\nguard = 102")];
    let mut daemon = start(&net, "ipfw", &doors);
    client.knock(net.server.v4, &STEPS);
    daemon.wait_lease("ssh", client.v4);
    assert_eq!(rules("recv eth0"), (3, 0));

    let one = "\"eth0\"";
    changed(
        &net,
        &mut daemon,
        one,
        door("rules = \"101-103\"\nguard = 110"),
    );
    assert_eq!(rules("until"), (2, 2), "{}", ipfw.says("list"));
    assert!(!ipfw.says("table all list").contains("postern_ssh"));

    changed(&net, &mut daemon, one, named("friends"));
    assert_eq!(rules(""), (0, 0), "{}", ipfw.says("list"));
    assert!(has_both(&ipfw.says("table friends list")));
    changed(&net, &mut daemon, one, named("guests"));
    assert_eq!(ipfw.says("table friends list"), "192.0.2.1/32 0\n");
    assert!(has_both(&ipfw.says("table guests list")));

    let two = "[\"eth0\", \"eth1\"]";
    let here = door("rule = 101\nguard = 102\non = [\"eth0\"]");
    changed(&net, &mut daemon, two, here);
    assert_eq!(ipfw.says("table guests list"), "192.0.2.1/32 0\n");
    assert!(has_both(&ipfw.says("table postern_ssh list")));
    assert_eq!(rules("recv eth0"), (3, 0), "{}", ipfw.says("list"));
    changed(&net, &mut daemon, two, door("rule = 101\nguard = 102"));
    assert_ne!(rules("eth1").0, 0, "{}", ipfw.says("list"));
    assert!(has_both(&ipfw.says("table postern_ssh list")));
}

#[test]
fn pf_doors_change_the_way_they_let_in_at_a_reload() {
    let net = Net::new(2);
    let pf = Filter::install(&net, "pfctl");
    let [client, other] = &net.clients[..] else {
        panic!()
    };
    net.plug(&net.server, "eth1");
    net.server.run("sysctl -q net.ipv4.conf.all.arp_ignore=1");
    for table in ["friends", "guests"] {
        pf.says(&format!("-t {table} -T add 192.0.2.1"));
    }
    let shows = |table: &str| pf.says(&format!("{table} -T show"));
    let has_both = |text: &str| {
        [client, other]
            .iter()
            .all(|c| text.contains(&c.v4.to_string()))
    };
    let rules = || pf.says("-a postern -s rules");
    let mut daemon = start(&net, "pf", &[door("guard = true")]);
    client.knock(net.server.v4, &STEPS);
    daemon.wait_lease("ssh", client.v4);

    let one = "\"eth0\"";
    changed(&net, &mut daemon, one, named("friends"));
    assert_eq!(rules(), "");
    assert!(has_both(&shows("-t friends")));
    changed(&net, &mut daemon, one, named("guests"));
    assert_eq!(shows("-t friends"), "   192.0.2.1\n");
    assert!(has_both(&shows("-t guests")));

    let two = "[\"eth0\", \"eth1\"]";
    changed(
        &net,
        &mut daemon,
        two,
        door("guard = true\non = [\"eth0\"]"),
    );
    assert_eq!(shows("-t guests"), "   192.0.2.1\n");
    assert!(has_both(&shows("-a postern -t door_ssh")));
    assert!(!rules().contains("eth1"), "{}", rules());
    changed(&net, &mut daemon, two, door("guard = true"));
    assert!(rules().contains("eth1"), "{}", rules());
    assert!(has_both(&shows("-a postern -t door_ssh")));
}

/// The packet filter's table has no clock: without a daemon reap ends what is overdue.
#[test]
fn reap_ends_what_is_overdue_in_ipfw_and_pf() {
    for (firewall, command, lines, table) in [
        (
            "ipfw",
            "ipfw",
            "rule = 101\nguard = 102",
            "table postern_ssh list",
        ),
        (
            "pf",
            "pfctl",
            "guard = true",
            "-a postern -t door_ssh -T show",
        ),
    ] {
        let net = Net::new(1);
        let filter = Filter::install(&net, command);
        let short = Door::new("ssh")
            .with("opens = [\"22/tcp\"]\nopen_for = \"1s\"")
            .with(lines)
            .to(&STEPS);
        let mut daemon = start(&net, firewall, &[short]);
        net.client().knock(net.server.v4, &STEPS);
        until("it is open", || {
            filter.says(table).contains(&net.client().v4.to_string())
        });
        daemon.kill();
        until("it is reaped", || {
            assert_eq!(daemon.ctl_there(&["reap"]).code(), 0);
            filter.says(table).is_empty()
        });
    }
}

#[test]
fn a_filter_that_is_missing_or_refuses_is_said_at_start() {
    let net = Net::new(0);
    let doors = [door("rule = 101\nguard = 102")];
    let mut daemon = Daemon::prepare(&net.server, &doors);
    daemon.set("firewall", "\"ipfw\"");
    daemon.configure(&doors);
    daemon.spawn();
    assert_eq!(daemon.wait().code(), Some(69));
    let said = daemon.read("stderr");
    assert!(
        said.contains("ipfw: not found in ") || said.contains("cannot run ipfw"),
        "{said}"
    );

    let ipfw = Filter::install(&net, "ipfw");
    std::fs::write(ipfw.directory.path().join("unloaded"), "").unwrap();
    daemon.spawn();
    assert_eq!(daemon.wait().code(), Some(69));
    let said = daemon.read("stderr");
    assert!(said.contains("firewall_enable"), "{said}");
}

#[test]
fn what_stands_in_the_way_is_told_live() {
    let net = Net::new(0);
    let doors = [Door::opens("ssh", "22/tcp", "1h").to(&STEPS)];
    let daemon = Daemon::prepare(&net.server, &doors);
    let said = || {
        let ran = daemon.ctl_there(&["check", "--live"]);
        assert_eq!(ran.code(), 0, "{ran:?}");
        ran.stdout
    };
    assert!(!said().contains("chain"), "{}", said());
    net.server.nft(&[
        "add table inet other",
        "add chain inet other in { type filter hook input priority 0; policy drop; }",
        "add rule inet other in tcp dport 80 accept",
    ]);
    let told = "door.ssh.opens: chain inet other in drops what it does not accept";
    assert!(said().contains(told), "{}", said());
    net.server
        .nft(&["add rule inet other in tcp dport { 22, 443 } accept"]);
    assert!(!said().contains("chain"), "{}", said());
}

/// As at boot: ipfw has no rule of ours, and no daemon has run in it.
#[test]
fn ipfw_guard_before_the_daemon() {
    let net = Net::new(0);
    let ipfw = Filter::install(&net, "ipfw");
    let mut daemon = Daemon::prepare(&net.server, &[]);
    daemon.set("firewall", "\"ipfw\"");
    daemon.set("drive", "\"command\"");
    daemon.configure(&[door("rule = 101\nguard = 102")]);
    let ran = daemon.ctl_there(&["guard"]);
    let text = (ran.code(), ran.stdout.as_str(), ran.stderr.as_str());
    assert_eq!(text, (0, "guard ipfw 22/tcp to me on eth0: stands\n", ""));
    let all = ipfw.says("list");
    let ours = all.lines().filter(|line| line.contains("// postern"));
    let ours: String = ours.map(|line| format!("{line}\n")).collect();
    assert_eq!(ours, format!("{PASS}{GUARD}"));
    // The daemon has nothing to do.
    daemon.run();
    assert_eq!(ipfw.says("list"), all);
    assert!(!daemon.log().contains("firewall: "), "{}", daemon.log());
}
