//! The trial of a new guard, and what is done while no daemon runs.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixListener;
use std::thread;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use nix::fcntl::{Flock, FlockArg};

use crate::harness::{Daemon, Door, Net, Ran, Service, until};
use crate::{OTHER, STEPS, ssh};

const GUARD: &str = "nft 22/tcp to me on eth0";

fn web() -> Door {
    Door::opens("web", "443/tcp", "1h").to(&OTHER)
}

/// Not started yet; new guards are on trial for so long.
fn trying<'n>(net: &'n Net, trial: &str, doors: &[Door]) -> Daemon<'n> {
    let mut daemon = Daemon::prepare(&net.server, doors);
    daemon.set("trial", &format!("{trial:?}"));
    daemon.configure(doors);
    daemon
}

/// Holds the state directory in nobody's name.
fn lock(daemon: &Daemon) -> Flock<File> {
    let file = File::options()
        .write(true)
        .open(daemon.path("state").join("lock"));
    Flock::lock(file.unwrap(), FlockArg::LockExclusiveNonblock).unwrap()
}

fn is(daemon: &Daemon, words: &str, state: &str) -> bool {
    daemon.guard(words).0 == state
}

/// A daemon whose only guard has been withdrawn.
fn withdrawn(net: &Net) -> Daemon<'_> {
    let mut daemon = trying(net, "1s", &[ssh("1h")]);
    daemon.run();
    until("the trial ends", || is(&daemon, "22/tcp", "withdrawn"));
    daemon
}

#[track_caller]
fn said(ran: &Ran, words: &str) {
    assert_eq!(ran.code(), 0, "{ran:?}");
    assert!(ran.stdout.contains(words), "{words}: {ran:?}");
}

#[test]
fn a_guard_that_nobody_comes_through_is_withdrawn() {
    let net = Net::new(1);
    let _service = Service::start(&net.server, &[22, 443]);
    let (client, server) = (net.client(), net.server.v4);
    let mut daemon = trying(&net, "1h", &[web()]);
    daemon.run();
    daemon.ctl(&["confirm"]);
    daemon.set("trial", "\"2s\"");
    daemon.configure(&[ssh("1h"), web()]);
    daemon.reload();
    daemon.wait_log(&format!("guard {GUARD}: on trial until "));
    until("the guard goes", || client.connect(server, 22).is_open());
    assert!(is(&daemon, "22/tcp", "withdrawn"));
    assert!(is(&daemon, "443/tcp", "confirmed"));
    assert!(client.connect(server, 443).is_silence(), "another's stays");
    daemon.wait_log(&format!("guard {GUARD}: WITHDRAWN"));
    said(
        &daemon.ctl(&["status"]),
        &format!("guard {GUARD}: withdrawn; posternctl confirm puts it back"),
    );

    // It stays away over a restart, and while somebody is let in.
    daemon.kill();
    daemon.run();
    client.knock(server, &STEPS);
    daemon.wait_lease("ssh", client.v4);
    assert!(client.reaches(server, 22));
    assert!(is(&daemon, "22/tcp", "withdrawn"));
    assert_eq!(daemon.ctl(&["close", "10.66.0.11"]).code(), 0);
    assert!(client.reaches(server, 22));

    // It comes back for good.
    said(
        &daemon.ctl(&["confirm"]),
        &format!("guard {GUARD}: confirmed\n"),
    );
    assert!(client.connect(server, 22).is_silence());
    daemon.wait_log(&format!("guard {GUARD}: confirmed by the administrator"));
    assert!(daemon.stop().success());
    daemon.run();
    assert!(is(&daemon, "22/tcp", "confirmed"));
    assert!(client.connect(server, 22).is_silence());
    said(
        &daemon.ctl(&["confirm"]),
        "no guard was on trial or withdrawn\n",
    );
}

#[test]
fn a_connection_through_a_lease_confirms_a_guard() {
    let net = Net::new(3);
    let _service = Service::start(&net.server, &[22, 443]);
    let server = net.server.v4;
    let [a, b, c] = &net.clients[..] else {
        panic!()
    };
    // They were there before the guard.
    let mut before = [a, c].map(|host| host.session(server, 22).unwrap());
    let mut daemon = trying(&net, "1h", &[ssh("1h"), web()]);
    daemon.run();
    let (state, end) = daemon.guard("22/tcp");
    assert_eq!(state, "trial");
    assert!(end.unwrap() > Timestamp::now() + SignedDuration::from_mins(50));
    assert!(b.connect(server, 22).is_silence());
    a.knock(server, &STEPS);
    daemon.wait_lease("ssh", a.v4);
    before.iter_mut().for_each(|session| session.echo());

    // Once this one has been seen, the others have been, too.
    b.knock(server, &OTHER);
    daemon.wait_lease("web", b.v4);
    let _through = b.session(server, 443).unwrap();
    until("it is seen", || is(&daemon, "443/tcp", "confirmed"));
    daemon.wait_log("443/tcp to me on eth0: confirmed by a connection of 10.66.0.12");
    assert!(is(&daemon, "22/tcp", "trial"), "old sessions prove nothing");

    let _through = a.session(server, 22).unwrap();
    until("it is seen", || is(&daemon, "22/tcp", "confirmed"));
    daemon.wait_log(&format!(
        "guard {GUARD}: confirmed by a connection of 10.66.0.11"
    ));
    daemon.kill();
    daemon.run();
    assert!(is(&daemon, "22/tcp", "confirmed"));
    assert!(b.connect(server, 22).is_silence());
}

#[test]
fn a_restart_does_not_make_a_trial_longer() {
    let net = Net::new(1);
    let _service = Service::start(&net.server, &[22]);
    let mut daemon = trying(&net, "1h", &[ssh("1h")]);
    daemon.run();
    let end = |daemon: &Daemon| daemon.guard("22/tcp").1.expect("it is on trial");
    let first = end(&daemon);
    until("a few seconds go by", || {
        Timestamp::now() > first - SignedDuration::from_mins(60) + SignedDuration::from_secs(3)
    });
    let same = |daemon: &Daemon| {
        let moved = end(daemon).duration_since(first).abs();
        assert!(moved <= SignedDuration::from_secs(1), "{moved}");
    };
    daemon.kill();
    daemon.run();
    same(&daemon);
    daemon.reload();
    same(&daemon);

    // It ends, too, while nobody runs.
    daemon.set("trial", "\"1s\"");
    daemon.configure(&[ssh("1h")]);
    let mut daemon = daemon;
    daemon.reload();
    daemon.kill();
    until("it is over", || {
        Timestamp::now() > first - SignedDuration::from_mins(60) + SignedDuration::from_secs(6)
    });
    daemon.run();
    until("it is withdrawn", || is(&daemon, "22/tcp", "withdrawn"));
    assert!(net.client().reaches(net.server.v4, 22));
}

#[test]
fn a_reload_puts_withdrawn_guards_on_trial_again() {
    let net = Net::new(1);
    let _service = Service::start(&net.server, &[22]);
    let (client, server) = (net.client(), net.server.v4);
    let mut daemon = withdrawn(&net);
    assert!(client.reaches(server, 22));
    daemon.set("trial", "\"1h\"");
    daemon.configure(&[ssh("1h")]);
    said(
        &daemon.ctl(&["reload"]),
        &format!("guard {GUARD}: on trial until "),
    );
    assert!(client.connect(server, 22).is_silence());
    assert!(is(&daemon, "22/tcp", "trial"));

    daemon.set("trial", "\"off\"");
    daemon.configure(&[ssh("1h"), web()]);
    let ran = daemon.ctl(&["reload"]);
    assert!(ran.code() == 0 && !ran.stdout.contains("guard"), "{ran:?}");
    for guard in ["22/tcp", "443/tcp"] {
        assert!(is(&daemon, guard, "confirmed"), "{guard}");
    }
}

#[test]
fn a_damaged_file_counts_as_nothing_confirmed() {
    let net = Net::new(0);
    let mut daemon = trying(&net, "1h", &[ssh("1h")]);
    daemon.run();
    assert_eq!(daemon.ctl(&["confirm"]).code(), 0);
    daemon.kill();
    let file = daemon.path("state").join("trial");
    let text = fs::read_to_string(&file).unwrap();
    for file in [&file, &file.with_extension("copy")] {
        fs::write(file, &text[..text.len() / 2]).unwrap();
    }
    let ran = daemon.ctl_there(&["confirm"]);
    assert!(ran.stderr.contains("trial: damaged"), "{ran:?}");
    said(&ran, "no guard was on trial");
    daemon.run();
    daemon.wait_log("trial: damaged, no guard counts as confirmed");
    assert!(is(&daemon, "22/tcp", "trial"));
}

#[test]
fn unguarding() {
    let net = Net::new(1);
    let _service = Service::start(&net.server, &[22, 443]);
    let (client, server) = (net.client(), net.server.v4);
    let doors = [ssh("1h"), web()];
    let mut daemon = Daemon::start(&net.server, &doors);
    client.knock(server, &STEPS);
    daemon.wait_lease("ssh", client.v4);
    assert!(client.connect(server, 443).is_silence());
    let ran = daemon.ctl(&["unguard"]);
    assert_eq!(
        (ran.code(), ran.stdout.as_str()),
        (
            0,
            "guard nft 22/tcp to me on eth0: taken away\n\
             guard nft 443/tcp to me on eth0: taken away\n\
             no guard stands now; posternctl confirm puts them back for good\n"
        )
    );
    assert!(client.reaches(server, 443));
    assert!(daemon.lease("ssh", client.v4).is_some(), "leases stay");
    said(&daemon.ctl(&["unguard"]), "no guard stood\n");
    daemon.kill();
    daemon.run();
    assert!(client.reaches(server, 443));
    said(&daemon.ctl(&["confirm"]), "443/tcp");
    assert!(client.connect(server, 443).is_silence());
    assert!(client.reaches(server, 22));

    // The daemon is dead.
    daemon.kill();
    let ran = daemon.ctl_there(&["unguard"]);
    said(&ran, "nft: guard 22/tcp: taken away\n");
    said(&ran, "nft: guard 443/tcp: taken away\n");
    assert!(client.reaches(server, 443));
    daemon.run();
    assert!(client.reaches(server, 443));
    assert!(is(&daemon, "443/tcp", "withdrawn"));
    daemon.kill();
    said(
        &daemon.ctl_there(&["confirm"]),
        "guard nft 443/tcp to me on eth0: confirmed\n",
    );
    assert!(client.reaches(server, 443), "not before it runs");
    daemon.run();
    assert!(client.connect(server, 443).is_silence());

    // And its configuration is lost.
    daemon.kill();
    let text = daemon.read("postern.toml");
    daemon.write("postern.toml", &text.replace("opens = ", "opens : "));
    said(
        &daemon.ctl_there(&["unguard"]),
        "nft: guard 443/tcp: taken away\n",
    );
    assert!(client.reaches(server, 443));
    fs::remove_file(daemon.path("postern.toml")).unwrap();
    said(&daemon.ctl_there(&["unguard"]), "no guard stood\n");
    daemon.configure(&doors);
    daemon.run();
    assert!(client.reaches(server, 443));
}

/// It has the state directory and its socket, but answers nothing.
#[test]
fn unguarding_while_posternd_hangs() {
    let net = Net::new(1);
    let _service = Service::start(&net.server, &[22]);
    let (client, server) = (net.client(), net.server.v4);
    let mut daemon = Daemon::start(&net.server, &[ssh("1h")]);
    daemon.kill();
    let _held = lock(&daemon);
    fs::remove_file(daemon.path("control")).unwrap();
    let socket = UnixListener::bind(daemon.path("control")).unwrap();
    let hangs_up = thread::spawn(move || {
        let (stream, _) = socket.accept().unwrap();
        BufReader::new(stream)
            .read_line(&mut String::new())
            .unwrap();
    });
    assert!(client.connect(server, 22).is_silence());
    let ran = daemon.ctl_there(&["unguard"]);
    hangs_up.join().unwrap();
    assert_eq!(ran.code(), 69, "{ran:?}");
    assert_eq!(ran.stdout, "nft: guard 22/tcp: taken away\n");
    for words in ["hung up", "guards may come back"] {
        assert!(ran.stderr.contains(words), "{ran:?}");
    }
    assert!(client.reaches(server, 22));
}

#[test]
fn what_takes_root_says_so() {
    let net = Net::new(0);
    let daemon = Daemon::prepare(&net.server, &[ssh("1h")]);
    let public = tempfile::tempdir().unwrap();
    crate::harness::chmod(public.path(), 0o755);
    let ctl = public.path().join("posternctl");
    crate::harness::copy_program("posternctl", &ctl);
    for command in ["confirm", "guard", "unguard", "reap"] {
        let mut setpriv = std::process::Command::new("setpriv");
        setpriv.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]);
        let ran = Ran::of(setpriv.arg(&ctl).args(["-s", "/nonexistent/s", command]));
        assert_eq!(ran.code(), 77, "{ran:?}");
        assert!(ran.stderr.contains("only root"), "{ran:?}");
    }
    // Before posternd has ever run there is nothing to do.
    said(&daemon.ctl_there(&["confirm"]), "no guard was on trial");
    said(&daemon.ctl_there(&["unguard"]), "no guard stood");
    assert_eq!(daemon.ctl_there(&["reap"]).code(), 0);
    assert!(!daemon.path("state").exists());
}

/// A command door that notes what it runs, besides one in the packet filter.
fn noted(daemon: &Daemon) -> [Door; 2] {
    let ran = daemon.path("ran").display().to_string();
    let wake = Door::starts("wake", &format!("echo start >> {ran}"))
        .with(&format!("stop_command = 'echo stop %IP% >> {ran}'"))
        .with("cmd_timeout = \"1s\"")
        .to(&OTHER);
    [ssh("1h"), wake]
}

#[test]
fn reaping() {
    let net = Net::new(2);
    let _service = Service::start(&net.server, &[22, 23]);
    let server = net.server.v4;
    let [a, b] = &net.clients[..] else { panic!() };
    let mut daemon = Daemon::prepare(&net.server, &[]);
    let [ssh, wake] = noted(&daemon);
    let soon = Door::opens("soon", "23/tcp", "1s").to(&[STEPS[1], STEPS[3], STEPS[0], STEPS[2]]);
    daemon.configure(&[ssh, soon, wake]);
    daemon.run();
    a.knock(server, &STEPS);
    daemon.wait_lease("ssh", a.v4);
    // While a daemon runs it is its business.
    let quiet = |ran: Ran| {
        let text = (ran.code(), ran.stdout.as_str(), ran.stderr.as_str());
        assert_eq!(text, (0, "", ""));
    };
    quiet(daemon.ctl_there(&["reap"]));
    b.knock(server, &OTHER);
    daemon.wait_lease("wake", b.v4);
    b.knock(server, &[STEPS[1], STEPS[3], STEPS[0], STEPS[2]]);
    daemon.wait_log("soon: open for 10.66.0.12");
    until("it has been started", || daemon.read("ran") == "start\n");
    daemon.kill();
    let mut told = String::new();
    until("both are overdue", || {
        let ran = daemon.ctl_there(&["reap"]);
        assert_eq!(ran.code(), 0, "{ran:?}");
        told += &ran.stdout;
        told.contains("wake: closed for 10.66.0.12\n")
            && told.contains("soon: closed for 10.66.0.12\n")
    });
    assert_eq!(told.lines().count(), 2, "each once: {told}");
    assert_eq!(daemon.read("ran"), "start\nstop 10.66.0.12\n");
    // What is not over goes on, and the guards stand.
    assert!(a.reaches(server, 22));
    assert!(b.connect(server, 22).is_silence());
    assert!(b.connect(server, 23).is_silence());
    quiet(daemon.ctl_there(&["reap"]));
    daemon.run();
    let leases = daemon.leases();
    assert_eq!(leases.len(), 1, "{leases:?}");
    assert_eq!(daemon.read("ran"), "start\nstop 10.66.0.12\n");
}

#[test]
fn reaping_ends_a_trial_and_brings_no_guard() {
    let net = Net::new(1);
    let _service = Service::start(&net.server, &[22, 443]);
    let (client, server) = (net.client(), net.server.v4);
    let mut daemon = trying(&net, "2s", &[ssh("1h")]);
    daemon.run();
    daemon.kill();
    until("the trial is over", || {
        let ran = daemon.ctl_there(&["reap"]);
        assert_eq!(ran.code(), 0, "{ran:?}");
        client.connect(server, 22).is_open()
    });
    daemon.run();
    assert!(is(&daemon, "22/tcp", "withdrawn"));
    daemon.kill();

    // Nor is a guard put up that has never stood, with nobody to be knocked at.
    let [_, wake] = noted(&daemon);
    daemon.configure(&[ssh("1s"), wake.clone()]);
    daemon.run();
    client.knock(server, &OTHER);
    daemon.wait_lease("wake", client.v4);
    client.knock(server, &STEPS);
    daemon.wait_log("ssh: open for 10.66.0.11");
    daemon.kill();
    daemon.configure(&[
        ssh("1s"),
        wake,
        Door::opens("web", "443/tcp", "1h").to(&STEPS),
    ]);
    until("the one in the packet filter is overdue", || {
        let ran = daemon.ctl_there(&["reap"]);
        match ran.code() {
            0 => false,
            69 => ran.stderr.contains("start posternd"),
            _ => panic!("{ran:?}"),
        }
    });
    until("the stop command has run all the same", || {
        assert_eq!(daemon.ctl_there(&["reap"]).code(), 69);
        daemon.read("ran").ends_with("stop 10.66.0.11\n")
    });
    assert!(client.reaches(server, 443));
}

/// A reboot has emptied the packet filter: no guard comes before a daemon does, but what is owed
/// is done.
#[test]
fn reaping_after_a_reboot() {
    let net = Net::new(1);
    let client = net.client();
    let mut daemon = Daemon::prepare(&net.server, &[]);
    let [_, wake] = noted(&daemon);
    daemon.configure(&[ssh("1h"), wake.with("run_limit = \"9s\"")]);
    daemon.run();
    client.knock(net.server.v4, &STEPS);
    daemon.wait_lease("ssh", client.v4);
    client.knock(net.server.v4, &OTHER);
    daemon.wait_log("wake: open for 10.66.0.11");
    daemon.kill();
    net.server.nft(&["flush ruleset"]);
    let ran = daemon.ctl_after_reboot("reap");
    assert_eq!(ran.code(), 0, "{ran:?}");
    let mut lines: Vec<&str> = ran.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["ssh: closed for 10.66.0.11", "wake: closed for 10.66.0.11"]
    );
    assert_eq!(daemon.read("ran").matches("stop 10.66.0.11").count(), 1);
    assert_eq!(net.server.run("nft list ruleset"), "");
}

#[test]
fn the_state_directory_is_waited_for() {
    let net = Net::new(0);
    let mut daemon = Daemon::start(&net.server, &[ssh("1h")]);
    assert!(daemon.stop().success());
    let held = lock(&daemon);
    let ran = Ran::of(&mut daemon.command());
    assert_eq!(ran.code(), 69, "{ran:?}");
    assert!(ran.stderr.contains("another posternd runs"), "{ran:?}");
    let ran = daemon.ctl_there(&["confirm"]);
    assert_eq!(ran.code(), 69, "{ran:?}");
    assert!(ran.stderr.contains("try again"), "{ran:?}");
    let release = thread::spawn(move || {
        thread::sleep(Duration::from_millis(500));
        drop(held);
    });
    daemon.run();
    release.join().unwrap();
}
