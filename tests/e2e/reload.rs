//! Reading the configuration again.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::sys::signal::Signal;

use crate::harness::{Daemon, Door, Net, Service, is_posternd, until};
use crate::{OTHER, STEPS, ssh};

/// knockd's fault 7.
#[test]
fn a_bad_configuration_changes_nothing_and_says_why() {
    let net = Net::new(2);
    let _service = Service::start(&net.server, &[22]);
    let daemon = Daemon::start(&net.server, &[ssh("1h")]);
    let server = net.server.v4;
    let [a, b] = &net.clients[..] else { panic!() };
    a.knock(server, &STEPS);
    daemon.wait_lease("ssh", a.v4);
    let rules = || net.server.run("nft -s list ruleset");
    let (listener, generation, before) = (
        daemon.listener(),
        daemon.status().unwrap()["generation"].clone(),
        rules(),
    );

    daemon.configure(&[ssh("1h").with("max_leases = 0\nseq_timeot = \"1s\"")]);
    let ran = daemon.ctl(&["reload"]);
    assert_eq!(ran.code(), 78, "{ran:?}");
    for word in ["postern.toml:", "max_leases", "seq_timeot", "seq_timeout"] {
        assert!(ran.stderr.contains(word), "{word}: {ran:?}");
    }
    daemon.signal(Signal::SIGHUP);
    until("the log says it for both", || {
        let log = daemon.log();
        log.matches("not reloaded").count() == 2 && log.matches("seq_timeot").count() == 2
    });
    assert_eq!(rules(), before);
    assert_eq!(daemon.listener(), listener);
    assert_eq!(daemon.status().unwrap()["generation"], generation);
    assert!(daemon.lease("ssh", a.v4).is_some());
    b.knock(server, &STEPS);
    daemon.wait_lease("ssh", b.v4);

    // Nor does one that others may write.
    daemon.configure(&[ssh("2h")]);
    crate::harness::chmod(&daemon.path("postern.toml"), 0o666);
    let ran = daemon.ctl(&["reload"]);
    assert_eq!(ran.code(), 78, "{ran:?}");
    assert!(ran.stderr.contains("chmod go-w"), "{ran:?}");
    fs::remove_file(daemon.path("postern.toml")).unwrap();
    let control = daemon.path("control");
    let ran = daemon.ctl(&["-s", control.to_str().unwrap(), "reload"]);
    assert_eq!(ran.code(), 78, "{ran:?}");
}

#[test]
fn the_new_sequence_opens_and_the_old_one_does_not() {
    let net = Net::new(3);
    let daemon = Daemon::start(&net.server, &[ssh("1h")]);
    let [a, b, c] = &net.clients[..] else {
        panic!()
    };
    a.knock(net.server.v4, &STEPS);
    let before = daemon.wait_lease("ssh", a.v4);
    daemon.configure(&[Door::opens("ssh", "22/tcp", "1h").to(&OTHER)]);
    daemon.signal(Signal::SIGHUP);
    until("it is in force", || {
        b.knock(net.server.v4, &OTHER);
        daemon.lease("ssh", b.v4).is_some()
    });
    c.knock(net.server.v4, &STEPS);
    b.knock(net.server.v4, &OTHER);
    until("all was heard", || daemon.granted("ssh") >= 3);
    assert!(daemon.lease("ssh", c.v4).is_none());
    // The lease from before goes on.
    assert_eq!(daemon.lease("ssh", a.v4).unwrap().until, before.until);
}

#[test]
fn what_a_door_opened_goes_with_it() {
    let net = Net::new(1);
    let _service = Service::start(&net.server, &[22, 443]);
    let web = Door::opens("web", "443/tcp", "1h").to(&OTHER);
    let daemon = Daemon::start(&net.server, &[ssh("1h"), web.clone()]);
    let (client, server) = (net.client(), net.server.v4);
    client.knock(server, &STEPS);
    client.knock(server, &OTHER);
    daemon.wait_lease("ssh", client.v4);
    daemon.wait_lease("web", client.v4);
    let mut session = client.session(server, 22).unwrap();

    daemon.configure(std::slice::from_ref(&web));
    daemon.reload();
    assert!(daemon.lease("ssh", client.v4).is_none());
    assert!(daemon.lease("web", client.v4).is_some());
    // Nothing of ours stands at port 22 now: it is as it was before posternd.
    assert!(client.reaches(server, 22));
    assert!(client.reaches(server, 443));
    session.echo();

    // The lease does not come back with the door.
    daemon.configure(&[ssh("1h"), web]);
    daemon.reload();
    assert!(client.connect(server, 22).is_silence());
    assert!(daemon.lease("ssh", client.v4).is_none());
    session.echo();
}

#[test]
fn a_door_whose_ports_change_opens_the_new_ones() {
    let net = Net::new(2);
    let _service = Service::start(&net.server, &[22, 23]);
    let daemon = Daemon::start(&net.server, &[ssh("1h")]);
    let server = net.server.v4;
    let [client, other] = &net.clients[..] else {
        panic!()
    };
    client.knock(server, &STEPS);
    let before = daemon.wait_lease("ssh", client.v4);
    daemon.configure(&[Door::opens("ssh", "23/tcp", "1h").to(&STEPS)]);
    daemon.reload();
    assert_eq!(daemon.lease("ssh", client.v4).unwrap().until, before.until);
    assert!(client.reaches(server, 23));
    assert!(other.connect(server, 23).is_silence());
    assert!(other.reaches(server, 22), "guarded no more");
}

#[test]
fn a_shorter_time_cuts_the_leases_that_run() {
    let net = Net::new(1);
    let _service = Service::start(&net.server, &[22]);
    let daemon = Daemon::start(&net.server, &[ssh("1h")]);
    let (client, server) = (net.client(), net.server.v4);
    client.knock(server, &STEPS);
    daemon.wait_lease("ssh", client.v4);
    daemon.configure(&[ssh("2s")]);
    daemon.reload();
    assert!(client.reaches(server, 22));
    until("it closes", || client.connect(server, 22).is_silence());
    until("the lease is over", || daemon.leases().is_empty());
}

#[test]
fn a_command_door_that_goes_runs_its_stop_command() {
    let net = Net::new(1);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    let ran = daemon.path("ran").display().to_string();
    let wake = Door::starts("wake", "true")
        .with(&format!(
            "stop_command = 'echo stop %IP% >> {ran}'\ncmd_timeout = \"1h\""
        ))
        .to(&STEPS);
    let web = Door::opens("web", "443/tcp", "1h").to(&OTHER);
    daemon.configure(&[wake, web.clone()]);
    daemon.run();
    net.client().knock(net.server.v4, &STEPS);
    daemon.wait_lease("wake", net.client().v4);
    daemon.configure(&[web]);
    daemon.reload();
    let stop = format!("stop {}\n", net.client().v4);
    until("it has run", || daemon.read("ran") == stop);
    assert!(daemon.leases().is_empty());
}

#[test]
fn no_knock_is_lost_while_it_reloads() {
    let net = Net::new(1);
    let daemon = Daemon::start(&net.server, &[ssh("1h")]);
    let (client, server) = (net.client(), net.server.v4);
    let sources: Vec<IpAddr> = (20..250)
        .map(|n| Ipv4Addr::new(10, 66, 0, n).into())
        .collect();
    for source in &sources {
        client.address("add", &format!("{source}/24"), "eth0");
    }
    let reloaded = AtomicBool::new(false);
    let knocked = thread::scope(|scope| {
        let knocking = scope.spawn(|| {
            let mut knocked = Vec::new();
            for source in sources {
                if reloaded.load(Ordering::Relaxed) {
                    break;
                }
                client.knock_from(Some(source), server, &STEPS);
                knocked.push(source);
            }
            knocked
        });
        for n in 0..20 {
            // Now and then another door comes and goes.
            let web = Door::opens("web", "443/tcp", "1h").to(&OTHER);
            let doors = [ssh("1h"), web];
            daemon.configure(if n % 2 == 0 { &doors } else { &doors[..1] });
            daemon.reload();
        }
        reloaded.store(true, Ordering::Relaxed);
        knocking.join().unwrap()
    });
    let missing = || -> Vec<IpAddr> {
        let leases = daemon.leases();
        let let_in = |a: &IpAddr| leases.iter().any(|l| l.address == *a);
        knocked.iter().filter(|a| !let_in(a)).copied().collect()
    };
    until(&format!("all {} are let in", knocked.len()), || {
        missing().is_empty()
    });
}

#[test]
fn a_knock_begun_before_a_reload_opens_after_it() {
    let net = Net::new(1);
    let daemon = Daemon::start(&net.server, &[ssh("1h")]);
    let (client, server) = (net.client(), net.server.v4);
    client.knock(server, &STEPS[..2]);
    let before = daemon.listener();
    daemon.reload();
    assert_ne!(daemon.listener(), before);
    client.knock(server, &STEPS[2..]);
    daemon.wait_lease("ssh", client.v4);
    assert_eq!(daemon.granted("ssh"), 1);
    // The one before leaves when its attempts are over.
    until("it has left", || !is_posternd(before.as_raw().into()));
}
