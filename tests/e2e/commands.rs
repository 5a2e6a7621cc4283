//! Doors that run commands.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use crate::harness::{Daemon, Door, Net, until};
use crate::{OTHER, STEPS};

/// A line that writes another to the file `ran`.
fn note(daemon: &Daemon, what: &str) -> String {
    format!("echo {what} %IP% >> {}", daemon.path("ran").display())
}

/// A door with start and stop command, both noted.
fn noted(daemon: &Daemon, cmd_timeout: &str) -> Door {
    Door::starts("wake", &note(daemon, "start"))
        .with(&format!("stop_command = '''{}'''", note(daemon, "stop")))
        .with(&format!("cmd_timeout = \"{cmd_timeout}\""))
        .to(&STEPS)
}

/// Processes whose command line contains this.
fn processes(words: &str) -> usize {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let line = |p: fs::DirEntry| fs::read(p.path().join("cmdline")).unwrap_or_default();
    let lines = all
        .map(line)
        .map(|l| String::from_utf8_lossy(&l).replace('\0', " "));
    lines.filter(|l| l.contains(words)).count()
}

#[test]
fn start_and_stop_run_once_each() {
    let net = Net::new(1);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    daemon.configure(&[noted(&daemon, "1s")]);
    daemon.run();
    let client = net.client();
    for (to, from) in [
        (IpAddr::from(net.server.v4), IpAddr::from(client.v4)),
        (net.server.v6.into(), client.v6.into()),
    ] {
        client.knock(to, &STEPS);
        let stop = format!("stop {from}\n");
        until("both have run", || daemon.read("ran").ends_with(&stop));
        until("the lease is over", || daemon.leases().is_empty());
    }
    let (v4, v6) = (client.v4, client.v6);
    assert_eq!(
        daemon.read("ran"),
        format!("start {v4}\nstop {v4}\nstart {v6}\nstop {v6}\n")
    );
}

#[test]
fn ipv6_has_commands_of_its_own() {
    let net = Net::new(1);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    let own = Door::starts("own", &note(&daemon, "four"))
        .with(&format!("start_command_6 = '''{}'''", note(&daemon, "six")))
        .to(&STEPS);
    let nothing = Door::starts("nothing", &note(&daemon, "none"))
        .with("start_command_6 = \"\"")
        .to(&OTHER);
    daemon.configure(&[own, nothing]);
    daemon.run();
    let client = net.client();
    client.knock(net.server.v6, &OTHER);
    client.knock(net.server.v6, &STEPS);
    let six = format!("six {}\n", client.v6);
    until("the one for IPv6 has run", || daemon.read("ran") == six);
    client.knock(net.server.v4, &STEPS);
    let four = format!("{six}four {}\n", client.v4);
    until("the one for IPv4 has run", || daemon.read("ran") == four);
}

#[test]
fn without_a_stop_command_there_is_no_lease() {
    let net = Net::new(1);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    daemon.configure(&[Door::starts("wake", &note(&daemon, "start")).to(&STEPS)]);
    daemon.run();
    let once = format!("start {}\n", net.client().v4);
    net.client().knock(net.server.v4, &STEPS);
    until("it has run", || daemon.read("ran") == once);
    net.client().knock(net.server.v4, &STEPS);
    until("it has run again", || daemon.read("ran") == once.repeat(2));
    assert!(daemon.leases().is_empty());
    assert_eq!(daemon.granted("wake"), 2);
}

#[test]
fn a_line_that_needs_no_shell_gets_none() {
    let net = Net::new(1);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    let made = daemon.path("made-for-").display().to_string();
    daemon.configure(&[Door::starts("wake", &format!("/usr/bin/touch {made}%IP%")).to(&STEPS)]);
    daemon.run();
    net.client().knock(net.server.v4, &STEPS);
    let name = format!("made-for-{}", net.client().v4);
    until("it has run", || daemon.path(&name).exists());
}

#[test]
fn a_command_that_hangs_is_killed_with_its_children() {
    let net = Net::new(1);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    // A number that no other process has.
    let sleep = format!("sleep 4{}", std::process::id());
    let hangs = Door::starts("wake", &format!("{sleep} & {sleep}")).with("run_limit = \"1s\"");
    daemon.configure(&[hangs.to(&STEPS)]);
    daemon.run();
    net.client().knock(net.server.v4, &STEPS);
    until("it runs", || processes(&sleep) >= 2);
    daemon.wait_log("still running after 1s, killed");
    until("nothing of it is left", || processes(&sleep) == 0);
}

#[test]
fn the_output_of_a_command_that_fails_is_in_the_log() {
    let net = Net::new(1);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    let fails = Door::starts("wake", "echo no such thing as %IP% >&2; exit 3")
        .with("stop_command = \"true\"\ncmd_timeout = \"1h\"");
    daemon.configure(&[fails.to(&STEPS)]);
    daemon.run();
    let client = net.client().v4;
    net.client().knock(net.server.v4, &STEPS);
    daemon.wait_log(&format!("no such thing as {client}"));
    let line = daemon
        .log()
        .lines()
        .find(|l| l.contains("no such thing"))
        .unwrap()
        .to_owned();
    assert!(line.contains("wake") && line.contains('3'), "{line}");
    let lease = daemon.leases().pop().unwrap();
    assert!(!lease.in_force && lease.failure.unwrap().contains("no such thing"));
    let status = daemon.status().unwrap();
    assert_eq!(status["openings"]["failed"], 1, "{status}");
    assert_eq!(status["openings"]["in_force"], 0, "{status}");
    assert_eq!(status["doors"][0]["failed"], 1, "{status}");
}

/// knockd's fault 9.
#[test]
fn a_single_step_door_runs_its_command_once_a_lease() {
    let net = Net::new(1);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    let door = Door::starts("wake", &note(&daemon, "start"))
        .with(&format!("stop_command = '''{}'''", note(&daemon, "stop")))
        .with("cmd_timeout = \"1h\"")
        .to(&["2912/udp"]);
    daemon.configure(&[door]);
    daemon.run();
    net.client().knock(net.server.v4, &["2912/udp"; 200]);
    until("all were heard", || daemon.granted("wake") == 200);
    assert_eq!(daemon.read("ran"), format!("start {}\n", net.client().v4));
    assert_eq!(daemon.leases().len(), 1);
}

/// knockd's fault 4.
#[test]
fn commands_that_run_at_once_are_bounded() {
    let net = Net::new(1);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    let sleep = format!("sleep 5{}", std::process::id());
    daemon.configure(&[
        Door::starts("slow", &sleep).to(&["2912/udp"]),
        Door::starts("quick", &note(&daemon, "start")).to(&STEPS),
    ]);
    daemon.run();
    for n in 100..200 {
        let source = Ipv4Addr::new(10, 66, 0, n);
        net.client().address("add", &format!("{source}/24"), "eth0");
        net.client()
            .knock_from(Some(source.into()), net.server.v4, &["2912/udp"]);
    }
    until("all were heard", || daemon.granted("slow") == 100);
    assert!(
        (1..=16).contains(&processes(&sleep)),
        "{}",
        processes(&sleep)
    );
    // Nor do they keep another door waiting.
    net.client().knock(net.server.v4, &STEPS);
    until("the quick one has run", || {
        daemon.read("ran").contains("start")
    });
}

#[test]
fn a_stop_command_owed_at_sigterm_is_run_by_the_next() {
    let net = Net::new(1);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    daemon.configure(&[noted(&daemon, "2s")]);
    daemon.run();
    net.client().knock(net.server.v4, &STEPS);
    daemon.wait_lease("wake", net.client().v4);
    assert!(daemon.stop().success());
    let start = format!("start {}\n", net.client().v4);
    assert_eq!(daemon.read("ran"), start);
    daemon.run();
    let stop = format!("{start}stop {}\n", net.client().v4);
    until("it has run", || daemon.read("ran") == stop);
}

/// What stands in the journal and in the log when a start command runs.
#[test]
fn the_journal_comes_first_and_the_log_last() {
    let net = Net::new(1);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    let journal = daemon.path("state").join("journal");
    let (log, then) = (daemon.path("log"), daemon.path("then"));
    let [journal, log, then] = [&journal, &log, &then].map(|path| path.display());
    let look = format!("cat {journal} {log} > {then}.new; mv {then}.new {then}");
    daemon.configure(&[Door::starts("wake", &look)
        .with("stop_command = \"/bin/true\"")
        .with("cmd_timeout = \"1h\"")
        .to(&STEPS)]);
    daemon.run();
    let client = net.client();
    client.knock(net.server.v4, &STEPS);
    let open = format!("wake: open for {}", client.v4);
    daemon.wait_log(&open);
    let then = daemon.read("then");
    assert!(then.contains("{\"open\":{\"door\":\"wake\""), "{then}");
    assert!(!then.contains("{\"done\":{\"door\":\"wake\""), "{then}");
    assert!(!then.contains(&open), "{then}");
    let done = |text: &str| text.contains("{\"done\":{\"door\":\"wake\"");
    until("the journal says that it is done", || {
        done(&fs::read_to_string(daemon.path("state").join("journal")).unwrap())
    });
}
