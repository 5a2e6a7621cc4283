//! `posternctl guard`: what stands between boot and the daemon.

use std::fs;

use crate::harness::{Daemon, Door, Net, Ran, Service};
use crate::{OTHER, STEPS, ssh};

fn web() -> Door {
    Door::opens("web", "443/tcp", "1h").to(&OTHER)
}

/// It went well and said just this.
#[track_caller]
fn said(ran: &Ran, words: &str) {
    let text = (ran.code(), ran.stdout.as_str(), ran.stderr.as_str());
    assert_eq!(text, (0, words, ""));
}

#[test]
fn a_guard_that_nobody_has_come_through_waits_for_the_daemon() {
    let net = Net::new(1);
    let _service = Service::start(&net.server, &[22, 443]);
    let (client, server) = (net.client(), net.server.v4);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    daemon.set("trial", "\"1h\"");
    daemon.configure(&[ssh("1h")]);
    let waits = "guard nft 22/tcp to me on eth0: not confirmed yet: it comes when posternd runs, \
                 on trial\n";
    said(&daemon.ctl_there(&["guard"]), waits);
    assert!(!daemon.path("state").exists());
    assert_eq!(net.server.run("nft list ruleset"), "");

    // It stood in this boot: its trial goes on, and ends when it would have.
    daemon.run();
    assert!(daemon.guard("22/tcp").1.is_some());
    daemon.kill();
    net.server.nft(&["flush ruleset"]);
    said(
        &daemon.ctl_there(&["guard"]),
        "guard nft 22/tcp to me on eth0: stands\n",
    );
    assert!(client.connect(server, 22).is_silence());

    // In the next boot it stands when somebody can be knocked at, and another does not come at
    // all.
    net.server.nft(&["flush ruleset"]);
    daemon.configure(&[ssh("1h"), web()]);
    let ran = daemon.ctl_after_reboot("guard");
    let web = waits.replace("22/tcp", "443/tcp");
    said(&ran, &format!("{waits}{web}"));
    assert!(client.reaches(server, 22) && client.reaches(server, 443));
}

#[test]
fn a_guard_whose_trial_is_over_is_not_raised() {
    let net = Net::new(1);
    let _service = Service::start(&net.server, &[22]);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    daemon.set("trial", "\"1s\"");
    daemon.configure(&[ssh("1h")]);
    daemon.run();
    daemon.kill();
    let withdrawn =
        "guard nft 22/tcp to me on eth0: withdrawn; posternctl confirm puts it back for good\n";
    crate::harness::until("the trial is over", || {
        daemon.ctl_there(&["guard"]).stdout == withdrawn
    });
    assert!(net.client().reaches(net.server.v4, 22));
    said(&daemon.ctl_there(&["guard"]), withdrawn);
    assert_eq!(
        daemon.ctl_there(&["guard", "--json"]).stdout,
        "{\"guards\":[{\"guard\":\"nft 22/tcp to me on eth0\",\"state\":\"withdrawn\"}],\
         \"running\":false}\n"
    );
}

/// A flush while the daemon is dead: guards, openings and sessions are as they were.
#[test]
fn what_the_journal_says_is_in_force_again() {
    let net = Net::new(2);
    let _service = Service::start(&net.server, &[22, 443]);
    let server = net.server.v4;
    let [a, b] = &net.clients[..] else { panic!() };
    let mut daemon = Daemon::prepare(&net.server, &[]);
    daemon.set("always", &format!("[\"{}\"]", a.v4));
    daemon.configure(&[ssh("1h"), web()]);
    daemon.run();
    said(
        &daemon.ctl_there(&["guard"]),
        "posternd runs, and sees to the guards\n",
    );
    b.knock(server, &STEPS);
    daemon.wait_lease("ssh", b.v4);
    let mut session = b.session(server, 22).unwrap();
    session.echo();
    daemon.kill();
    net.server.nft(&["flush ruleset"]);
    assert!(b.reaches(server, 443), "nothing guards it now");
    let journal = fs::read(daemon.path("state").join("journal")).unwrap();
    let stand = "guard nft 22/tcp to me on eth0: stands\nguard nft 443/tcp to me on eth0: stands\n";
    said(&daemon.ctl_there(&["guard"]), stand);
    assert!(b.reaches(server, 22), "his lease goes on");
    assert!(b.connect(server, 443).is_silence());
    assert!(a.reaches(server, 443), "he always passes");
    session.echo();
    said(&daemon.ctl_there(&["guard"]), stand);
    // The daemon finds all as it wants it, and what it knew.
    let same = fs::read(daemon.path("state").join("journal")).unwrap();
    assert!(journal == same, "the journal was written");
    daemon.run();
    assert!(!daemon.log().contains("firewall: "), "{}", daemon.log());
    assert!(daemon.lease("ssh", b.v4).is_some());
    session.echo();

    // A door that the configuration has no more is shut by it; a guard taken away stays away.
    assert_eq!(daemon.ctl(&["unguard"]).code(), 0);
    daemon.kill();
    let gone = "guard nft 22/tcp to me on eth0: withdrawn; posternctl confirm puts it back for \
                good\nguard nft 443/tcp to me on eth0: withdrawn; posternctl confirm puts it back \
                for good\n";
    said(&daemon.ctl_there(&["guard"]), gone);
    assert!(b.reaches(server, 443));
}

/// All leases have ended with the boot that they were of, and what is owed of them is still known
/// to the daemon that comes.
#[test]
fn after_a_reboot_the_guards_stand_and_nobody_is_let_in() {
    let net = Net::new(1);
    let _service = Service::start(&net.server, &[22]);
    let (client, server) = (net.client(), net.server.v4);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    let wake = Door::starts("wake", "/bin/true")
        .with(&format!(
            "stop_command = 'echo stop >> {}'\ncmd_timeout = \"1h\"",
            daemon.path("ran").display()
        ))
        .to(&OTHER);
    daemon.configure(&[ssh("1h"), wake]);
    daemon.run();
    client.knock(server, &STEPS);
    daemon.wait_lease("ssh", client.v4);
    client.knock(server, &OTHER);
    daemon.wait_lease("wake", client.v4);
    daemon.kill();
    net.server.nft(&["flush ruleset"]);
    let journal = fs::read(daemon.path("state").join("journal")).unwrap();
    said(
        &daemon.ctl_after_reboot("guard"),
        "guard nft 22/tcp to me on eth0: stands\n",
    );
    assert!(client.connect(server, 22).is_silence());
    let same = fs::read(daemon.path("state").join("journal")).unwrap();
    assert!(journal == same, "the journal was written");
    assert_eq!(daemon.read("ran"), "");
}

/// As at boot: neither is there a daemon nor an interface.
#[test]
fn no_interface_need_exist() {
    let net = Net::new(1);
    let _service = Service::start(&net.server, &[22]);
    let (client, server) = (net.client(), net.server.v4);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    daemon.set("interface", "\"late0\"");
    daemon.configure(&[ssh("1h")]);
    let stands = "guard nft 22/tcp to me on late0: stands\n";
    // No trial, so that it needs nobody who has come through.
    said(&daemon.ctl_there(&["guard"]), stands);
    assert!(client.reaches(server, 22), "it is another interface's");
    net.server.run("ip link set eth0 down");
    net.server.run("ip link set eth0 name late0");
    net.server.run("ip link set late0 up");
    assert!(client.connect(server, 22).is_silence());

    // The command line's in place of the configuration's.
    let ran = daemon.ctl_there(&["guard", "-i", "late1", "-i", "late2"]);
    said(&ran, "guard nft 22/tcp to me on late1 late2: stands\n");
    assert!(client.reaches(server, 22));
}

#[test]
fn what_keeps_guards_from_standing_is_said() {
    let net = Net::new(1);
    let _service = Service::start(&net.server, &[22]);
    let (client, server) = (net.client(), net.server.v4);
    let mut daemon = Daemon::start(&net.server, &[ssh("1h")]);
    client.knock(server, &STEPS);
    daemon.wait_lease("ssh", client.v4);
    daemon.kill();
    net.server.nft(&["flush ruleset"]);

    // A journal that cannot be read lets nobody in.
    let journal = daemon.path("state").join("journal");
    fs::remove_file(&journal).unwrap();
    fs::create_dir(&journal).unwrap();
    let ran = daemon.ctl_there(&["guard"]);
    assert_eq!(ran.code(), 69, "{ran:?}");
    assert!(ran.stderr.contains("journal: no regular file"), "{ran:?}");
    assert!(client.connect(server, 22).is_silence());

    let text = daemon.read("postern.toml");
    daemon.write("postern.toml", &text.replace("opens = ", "opens : "));
    let ran = daemon.ctl_there(&["guard"]);
    assert_eq!(ran.code(), 78, "{ran:?}");
    assert!(ran.stderr.contains("postern.toml:"), "{ran:?}");
    daemon.write("postern.toml", &text);
    crate::harness::chmod(&daemon.path("postern.toml"), 0o666);
    let ran = daemon.ctl_there(&["guard"]);
    assert_eq!(ran.code(), 78, "{ran:?}");
    assert!(ran.stderr.contains("chmod go-w"), "{ran:?}");

    // No packet filter, no guards.
    daemon.set("firewall", "\"memory\"");
    daemon.configure(&[ssh("1h")]);
    net.server.nft(&["flush ruleset"]);
    assert_eq!(daemon.ctl_there(&["guard"]).code(), 69, "the journal");
    assert_eq!(net.server.run("nft list ruleset"), "");
}
