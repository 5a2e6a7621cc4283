//! The daemon as a process: privileges, files, signals.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use postern::daemon::sandbox;

use crate::harness::{Daemon, Net, Ran, chmod, copy_program, until};
use crate::{STEPS, ssh};

#[test]
fn the_listener_has_no_privileges() {
    let net = Net::new(0);
    // Who starts posternd may leave descriptors open: dup(2) gives one that exec keeps.
    let _left_open = nix::unistd::dup(fs::File::open("/etc/passwd").unwrap()).unwrap();
    let daemon = Daemon::start(&net.server, &[ssh("1h")]);
    let process = Path::new("/proc").join(daemon.listener().to_string());
    let status = fs::read_to_string(process.join("status")).unwrap();
    let field = |name: &str| -> Vec<&str> {
        let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').split_whitespace().collect()
    };
    let (uid, gid) = ids("nobody");
    assert_eq!(field("Uid"), [uid.as_str(); 4]);
    assert_eq!(field("Gid"), [gid.as_str(); 4]);
    assert!(field("Groups").iter().all(|g| *g == gid), "{status}");
    assert_eq!(field("NoNewPrivs"), ["1"]);
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(field(set), ["0000000000000000"], "{set}");
    }
    let empty = sandbox::root(&daemon.path("state").join("empty"));
    assert_eq!(fs::read_link(process.join("root")).unwrap(), empty);
    assert_eq!(fs::read_dir(process.join("root")).unwrap().count(), 0);
    assert_eq!(fs::read_link(process.join("cwd")).unwrap(), empty);
    assert_eq!(fs::read(process.join("environ")).unwrap(), b"");

    let open: Vec<String> = fs::read_dir(process.join("fd"))
        .unwrap()
        .map(|fd| {
            fs::read_link(fd.unwrap().path())
                .unwrap()
                .display()
                .to_string()
        })
        .collect();
    let known = |name: &String| name.starts_with("socket:") || name == "/dev/null";
    assert!(
        open.iter()
            .all(|n| known(n) || n.starts_with("anon_inode:")),
        "{open:?}"
    );
    assert!(open.len() <= 8, "{open:?}");
}

/// A user's numbers.
fn ids(user: &str) -> (String, String) {
    let text = fs::read_to_string("/etc/passwd").unwrap();
    let line = text
        .lines()
        .find(|l| l.starts_with(&format!("{user}:")))
        .unwrap();
    let fields: Vec<&str> = line.split(':').collect();
    (fields[2].into(), fields[3].into())
}

/// knockd's fault 7.
#[test]
fn a_second_instance_leaves_the_first_alone() {
    let net = Net::new(1);
    let daemon = Daemon::start(&net.server, &[ssh("1h")]);
    let pid = format!("{}\n", daemon.monitor());
    assert_eq!(daemon.read("pid"), pid);
    let (listener, log) = (daemon.listener(), daemon.log());
    let second = Ran::of(&mut daemon.command());
    assert_eq!(second.code(), 69, "{second:?}");
    assert!(
        second.stderr.contains("another posternd runs"),
        "{second:?}"
    );
    assert_eq!(daemon.read("pid"), pid);
    assert_eq!(daemon.listener(), listener);
    assert_eq!(daemon.log(), log);
    net.client().knock(net.server.v4, &STEPS);
    daemon.wait_lease("ssh", net.client().v4);
}

#[test]
fn who_is_not_root_is_told_so() {
    let net = Net::new(0);
    let daemon = Daemon::prepare(&net.server, &[ssh("1h")]);
    let public = tempfile::tempdir().unwrap();
    chmod(public.path(), 0o755);
    let copy = public.path().join("posternd");
    copy_program("posternd", &copy);
    let mut setpriv = Command::new("setpriv");
    setpriv
        .args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"])
        .arg(&copy);
    let ran = Ran::of(setpriv.arg("-c").arg(daemon.path("postern.toml")));
    assert_eq!(ran.code(), 77, "{ran:?}");
    assert!(ran.stderr.contains("root"), "{ran:?}");
}

#[test]
fn a_configuration_that_others_can_read_or_write_is_refused() {
    let net = Net::new(0);
    let daemon = Daemon::prepare(&net.server, &[ssh("1h")]);
    let config = daemon.path("postern.toml");
    chmod(config.parent().unwrap(), 0o755);
    for (mode, mend) in [
        (0o644, "chmod go-r"),
        (0o620, "chmod go-w"),
        (0o602, "chmod go-w"),
    ] {
        chmod(&config, mode);
        let ran = Ran::of(&mut daemon.command());
        assert_eq!(ran.code(), 78, "{ran:?}");
        assert!(ran.stderr.contains(mend), "{ran:?}");
        assert!(ran.stderr.contains(config.to_str().unwrap()), "{ran:?}");
    }
    chmod(&config, 0o600);
    chmod(config.parent().unwrap(), 0o777);
    let ran = Ran::of(&mut daemon.command());
    assert_eq!(ran.code(), 78, "{ran:?}");
    assert!(
        !daemon.path("state").exists() && !daemon.path("log").exists(),
        "nothing was done"
    );
    assert_eq!(net.server.run("nft list ruleset"), "");
}

#[test]
fn a_wrong_configuration_starts_nothing() {
    let net = Net::new(0);
    let daemon = Daemon::prepare(&net.server, &[ssh("0s").with("gard = true")]);
    let ran = Ran::of(&mut daemon.command());
    assert_eq!(ran.code(), 78, "{ran:?}");
    assert!(
        ran.stderr.contains("open_for") && ran.stderr.contains("gard"),
        "{ran:?}"
    );
    assert!(!daemon.path("state").exists() && !daemon.path("log").exists());
    assert_eq!(net.server.run("nft list ruleset"), "");
}

#[test]
fn sigusr1_opens_the_log_again() {
    let net = Net::new(1);
    let daemon = Daemon::start(&net.server, &[ssh("1h")]);
    fs::rename(daemon.path("log"), daemon.path("log.0")).unwrap();
    daemon.signal(Signal::SIGUSR1);
    until("there is a new one", || daemon.path("log").exists());
    let before = daemon.read("log.0");
    net.client().knock(net.server.v4, &STEPS);
    daemon.wait_log("ssh: open for");
    assert_eq!(daemon.read("log.0"), before);
}

#[test]
fn sigterm_takes_its_files_along_and_leaves_doors_as_they_are() {
    let net = Net::new(2);
    let _service = crate::harness::Service::start(&net.server, &[22]);
    let mut daemon = Daemon::start(&net.server, &[ssh("1h")]);
    let [client, other] = &net.clients[..] else {
        panic!()
    };
    client.knock(net.server.v4, &STEPS);
    daemon.wait_lease("ssh", client.v4);
    let listener = daemon.listener();
    assert!(daemon.stop().success());
    assert!(!daemon.path("pid").exists() && !daemon.path("control").exists());
    assert!(!crate::harness::is_posternd(listener.as_raw().into()));
    assert!(client.reaches(net.server.v4, 22));
    assert!(other.connect(net.server.v4, 22).is_silence());
}

#[test]
fn what_a_crash_left_behind_does_not_stop_the_next() {
    let net = Net::new(0);
    let mut daemon = Daemon::start(&net.server, &[ssh("1h")]);
    daemon.kill();
    assert!(daemon.path("pid").exists() && daemon.path("control").exists());
    daemon.run();
    assert_eq!(daemon.read("pid"), format!("{}\n", daemon.monitor()));
}

#[test]
fn stages_failures_and_timeouts_are_logged_when_asked_for() {
    let net = Net::new(1);
    let mut daemon = Daemon::prepare(&net.server, &[ssh("1h").but("seq_timeout = \"1s\"")]);
    daemon.argue("--verbose");
    daemon.run();
    let [a, b, c, _] = STEPS;
    net.client().knock(net.server.v4, &[a, b]);
    daemon.wait_log("ssh: 10.66.0.11: stage 1");
    daemon.wait_log("ssh: 10.66.0.11: stage 2");
    daemon.wait_log("ssh: 10.66.0.11: timeout after stage 2");
    net.client().knock(net.server.v4, &[a, c]);
    daemon.wait_log("ssh: 10.66.0.11: failed after stage 1");
    net.client().knock(net.server.v4, &STEPS);
    daemon.wait_log("ssh: open for 10.66.0.11 until ");
}
