//! posternctl and the live daemon.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Daemon, Door, Net, Ran, Service, copy_program, until};
use crate::{OTHER, STEPS, ssh};

#[test]
fn list_shows_who_is_let_in() {
    let net = Net::new(2);
    let doors = [ssh("1h"), Door::opens("web", "443/tcp", "30s").to(&OTHER)];
    let daemon = Daemon::start(&net.server, &doors);
    let empty = daemon.ctl(&["list"]);
    assert_eq!((empty.code(), empty.stdout.as_str()), (0, "no leases\n"));
    assert_eq!(daemon.ctl(&["list", "--json"]).stdout, "[]\n");

    let [a, b] = &net.clients[..] else { panic!() };
    a.knock(net.server.v4, &STEPS);
    b.knock(net.server.v6, &OTHER);
    let lease = daemon.wait_lease("ssh", a.v4);
    daemon.wait_lease("web", b.v6);
    let shown = daemon.ctl(&["list"]).stdout;
    let line = |door: &str| {
        shown
            .lines()
            .find(|l| l.starts_with(door))
            .unwrap()
            .to_owned()
    };
    assert!(
        line("ssh").contains("10.66.0.11") && line("ssh").contains("in force"),
        "{shown}"
    );
    assert!(
        line("ssh").contains(&format!("{:.0}", lease.until)),
        "{shown}"
    );
    assert!(line("web").contains("fd66::12"), "{shown}");
}

#[test]
fn status_shows_how_it_fares() {
    let net = Net::new(1);
    let daemon = Daemon::start(&net.server, &[ssh("1h")]);
    net.client().knock(net.server.v4, &STEPS);
    daemon.wait_lease("ssh", net.client().v4);
    until("packets are counted", || {
        daemon.status().unwrap()["packets"].as_u64() >= Some(4)
    });
    let status = daemon.status().unwrap();
    assert_eq!(status["monitor"], daemon.monitor().as_raw());
    assert_eq!(status["user"], "nobody");
    assert_eq!(status["firewall"], "nft");
    assert_eq!(status["interfaces"][0]["name"], "eth0");
    assert_eq!(status["doors"][0]["leases"], 1);
    assert_eq!(status["doors"][0]["granted"], 1);
    let shown = daemon.ctl(&["status"]);
    assert_eq!(shown.code(), 0);
    for words in [
        "user nobody",
        "interface eth0: listening",
        "door ssh: 1 lease, 1 grant",
    ] {
        assert!(shown.stdout.contains(words), "{words}: {}", shown.stdout);
    }
}

#[test]
fn status_says_how_openings_are_made() {
    let net = Net::new(1);
    let mut daemon = Daemon::start(&net.server, &[ssh("1h")]);
    for (drive, words) in [
        ("in-process", "firewall: nft, driven in-process"),
        ("command", "firewall: nft, driven by its command"),
    ] {
        daemon.set("drive", &format!("{drive:?}"));
        daemon.configure(&[ssh("1h")]);
        daemon.reload();
        until("a knock opens", || {
            net.client().knock(net.server.v4, &STEPS);
            daemon.lease("ssh", net.client().v4).is_some()
        });
        let driven = serde_json::json!({ "by": drive });
        assert_eq!(daemon.status().unwrap()["driven"], driven);
        let shown = daemon.ctl(&["status"]).stdout;
        assert!(shown.lines().any(|line| line == words), "{shown}");
        daemon.ctl(&["close", &net.client().v4.to_string()]);
    }
    let log = daemon.log();
    assert!(!log.contains("firewall: openings"), "{log}");
}

#[test]
fn close_ends_what_it_names() {
    let net = Net::new(2);
    let _service = Service::start(&net.server, &[22, 443]);
    let doors = [ssh("1h"), Door::opens("web", "443/tcp", "1h").to(&OTHER)];
    let daemon = Daemon::start(&net.server, &doors);
    let server = net.server.v4;
    let [a, b] = &net.clients[..] else { panic!() };
    for (host, steps, door) in [(a, STEPS, "ssh"), (a, OTHER, "web"), (b, STEPS, "ssh")] {
        host.knock(server, &steps);
        daemon.wait_lease(door, host.v4);
    }
    let mut session = a.session(server, 22).unwrap();

    let ran = daemon.ctl(&["close", "10.66.0.11", "ssh"]);
    assert_eq!(
        (ran.code(), ran.stdout.as_str()),
        (0, "1 lease of 10.66.0.11 ended\n")
    );
    until("it is closed", || a.connect(server, 22).is_silence());
    session.echo();
    assert!(a.reaches(server, 443));
    assert!(b.reaches(server, 22));

    let ran = daemon.ctl(&["close", "10.66.0.11", "--json"]);
    assert_eq!((ran.code(), ran.stdout.as_str()), (0, "{\"closed\":1}\n"));
    until("it is closed", || a.connect(server, 443).is_silence());
    assert!(b.reaches(server, 22));
    assert_eq!(daemon.ctl(&["close", "10.66.0.11"]).code(), 1);
    let ran = daemon.ctl(&["close", "10.66.0.12", "nosuch"]);
    assert_eq!(ran.code(), 1);
    assert!(ran.stderr.contains("nosuch"), "{ran:?}");
    daemon.wait_log("ssh: closed for 10.66.0.11: the administrator asked");
}

#[test]
fn the_control_socket_is_roots() {
    let net = Net::new(0);
    let mut daemon = Daemon::start(&net.server, &[ssh("1h")]);
    let meta = fs::symlink_metadata(daemon.path("control")).unwrap();
    assert!(meta.file_type().is_socket());
    assert_eq!(meta.permissions().mode() & 0o7777, 0o600);
    let public = tempfile::tempdir().unwrap();
    crate::harness::chmod(public.path(), 0o755);
    // Where nobody can reach both: the socket's own mode decides.
    let ctl = public.path().join("posternctl");
    copy_program("posternctl", &ctl);
    assert!(daemon.stop().success());
    let socket = public.path().join("control");
    daemon.set("control", &format!("{socket:?}"));
    daemon.configure(&[ssh("1h")]);
    daemon.run();
    let mut setpriv = Command::new("setpriv");
    setpriv.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]);
    let ran = Ran::of(setpriv.arg(&ctl).arg("-s").arg(&socket).arg("list"));
    assert_eq!(ran.code(), 77, "{ran:?}");
}

#[test]
fn without_a_daemon_posternctl_says_so() {
    let net = Net::new(0);
    let daemon = Daemon::prepare(&net.server, &[ssh("1h")]);
    for arguments in [
        &["list"][..],
        &["status"],
        &["close", "192.0.2.1"],
        &["reload"],
    ] {
        let ran = daemon.ctl(arguments);
        assert_eq!(ran.code(), 69, "{ran:?}");
        assert!(ran.stderr.contains("posternd is not running"), "{ran:?}");
    }
}

#[test]
fn check_changes_nothing_and_says_all() {
    let net = Net::new(0);
    let daemon = Daemon::prepare(
        &net.server,
        &[ssh("1h").with("max_leases = 0\nguarrd = true")],
    );
    let ran = daemon.ctl(&["check"]);
    assert_eq!(ran.code(), 78, "{ran:?}");
    let said = format!("{}{}", ran.stdout, ran.stderr);
    assert!(
        said.contains("max_leases") && said.contains("guarrd"),
        "{said}"
    );
    daemon.configure(&[ssh("1h")]);
    assert_eq!(daemon.ctl(&["check"]).code(), 0);
}

#[test]
fn a_capture_of_what_happened_replays_to_the_same() {
    let net = Net::new(2);
    let daemon = Daemon::start(&net.server, &[ssh("3s")]);
    let file = daemon.path("capture").display().to_string();
    let mut tcpdump = net.server.command("tcpdump");
    tcpdump.args([
        "-i",
        "eth0",
        "-U",
        "--immediate-mode",
        "-Z",
        "root",
        "-w",
        &file,
    ]);
    let mut tcpdump = tcpdump.stderr(Stdio::null()).spawn().unwrap();
    let captured = |steps: usize| {
        // The header has 24 bytes, a frame's begins with 16.
        fs::metadata(&file).is_ok_and(|m| m.len() >= 24 + (16 + 40) * steps as u64)
    };
    until("tcpdump captures", || {
        net.server.knock(net.clients[1].v4, &["9/udp"]);
        captured(1)
    });

    let [a, b] = &net.clients[..] else { panic!() };
    a.knock(net.server.v4, &STEPS);
    daemon.wait_lease("ssh", a.v4);
    b.knock(net.server.v4, &[STEPS[0], STEPS[2]]);
    a.knock(net.server.v4, &STEPS);
    daemon.wait_log("ssh: extended for 10.66.0.11");
    until("the lease is over", || daemon.leases().is_empty());
    let replay = || {
        let ran = daemon.ctl(&["replay", "--to", "10.66.0.1", &file]);
        assert_eq!(ran.code(), 0, "{ran:?}");
        ran.stdout
    };
    let events = |event: &str, address: &str| {
        let word = |line: &str, word: &str| line.contains(&format!("\"{word}\""));
        let text = replay();
        text.lines()
            .filter(|l| word(l, event) && word(l, address))
            .count()
    };
    until("all is in the file", || events("extend", "10.66.0.11") == 1);
    kill(Pid::from_raw(tcpdump.id() as i32), Signal::SIGTERM).unwrap();
    tcpdump.wait().unwrap();
    assert_eq!(events("open", "10.66.0.11"), 1);
    assert_eq!(events("close", "10.66.0.11"), 1);
    assert_eq!(events("stage", "10.66.0.11"), 6);
    assert_eq!(events("fail", "10.66.0.12"), 1);
    assert_eq!(events("open", "10.66.0.12"), 0);
    assert_eq!(replay(), replay());
}
