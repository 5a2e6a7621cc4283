//! Reading the configuration again.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use crate::harness::{Daemon, Door, LIMIT, Net, Service, eventually, is_posternd, until};
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

/// Bad files in between, by signal and by posternctl, another door that comes and goes, other
/// interfaces and other doors' interfaces.
#[test]
fn no_knock_is_lost_and_none_counts_twice_while_it_reloads() {
    let net = Net::new(3);
    let server = &net.server;
    net.plug(server, "eth1");
    server.run("sysctl -q net.ipv4.conf.all.arp_ignore=1");
    server.run("ip route add 10.66.0.0/16 dev eth0");
    let mut daemon = Daemon::prepare(server, &[]);
    let door = |on: &str| ssh("1h").with("max_leases = 4096").with(on);
    daemon.configure(&[door("")]);
    daemon.run();
    for (n, client) in net.clients.iter().enumerate() {
        for a in 20..220 {
            let (v4, v6) = sources(n, a);
            client.address("add", &format!("{v4}/16"), "eth0");
            client.address("add", &format!("{v6}/64"), "eth0");
        }
    }
    let done = AtomicBool::new(false);
    let knocked: Vec<IpAddr> = thread::scope(|scope| {
        let senders: Vec<_> = (0..6)
            .map(|n| {
                let (client, done) = (&net.clients[n / 2], &done);
                scope.spawn(move || {
                    let mut knocked: Vec<IpAddr> = Vec::new();
                    for a in 20..220 {
                        if done.load(Ordering::Relaxed) {
                            break;
                        }
                        let (v4, v6) = sources(n / 2, a);
                        let (source, to): (IpAddr, IpAddr) = match n % 2 {
                            0 => (v4.into(), server.v4.into()),
                            _ => (v6.into(), server.v6.into()),
                        };
                        client.knock_from(Some(source), to, &STEPS);
                        knocked.push(source);
                    }
                    knocked
                })
            })
            .collect();
        for n in 0..24 {
            daemon.set("interface", ["\"eth0\"", "[\"eth1\", \"eth0\"]"][n / 4 % 2]);
            let mut doors = vec![door(["", "on = [\"eth0\"]"][n / 8 % 2])];
            match n % 4 {
                0 => {
                    daemon.configure(&doors);
                    daemon.reload();
                }
                1 => {
                    doors.insert(0, Door::opens("web", "443/tcp", "1h").to(&OTHER));
                    daemon.configure(&doors);
                    daemon.signal(Signal::SIGHUP);
                }
                2 => {
                    daemon.configure(&[ssh("1h").with("seq_timeot = \"1s\"")]);
                    assert_eq!(daemon.ctl(&["reload"]).code(), 78);
                }
                _ => {
                    daemon.signal(Signal::SIGHUP);
                    daemon.configure(&doors);
                    daemon.signal(Signal::SIGHUP);
                    daemon.reload();
                }
            }
        }
        done.store(true, Ordering::Relaxed);
        let knocked = senders.into_iter().map(|s| s.join().unwrap());
        knocked.flatten().collect()
    });
    println!("{} knocks", knocked.len());
    let missing = || -> Vec<IpAddr> {
        let leases = daemon.leases();
        let let_in = |a: &IpAddr| leases.iter().any(|l| l.address == *a && l.in_force);
        knocked.iter().filter(|a| !let_in(a)).copied().collect()
    };
    let mut left = Vec::new();
    let all = eventually("all are let in, or no more are", 2 * LIMIT, || {
        let before = std::mem::replace(&mut left, missing());
        thread::sleep(Duration::from_millis(500));
        (left.is_empty() || left == before).then_some(left.is_empty())
    });
    assert!(all, "not let in: {left:?}");
    assert_eq!(daemon.granted("ssh"), knocked.len() as u64);
}

/// The addresses of client `n` beside its own.
fn sources(n: usize, a: u8) -> (Ipv4Addr, Ipv6Addr) {
    let n = n as u8 + 1;
    let v6 = Ipv6Addr::new(0xfd66, 0, 0, 0, 0, 0, u16::from(n), u16::from(a));
    (Ipv4Addr::new(10, 66, n, a), v6)
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

/// What it had not read yet came before its successor listened: nobody else has heard it.
#[test]
fn what_waits_at_a_listener_that_is_told_to_leave_is_not_lost() {
    let net = Net::new(1);
    let daemon = Daemon::start(&net.server, &[ssh("1h")]);
    let (client, server) = (net.client(), net.server.v4);
    let before = daemon.listener();
    kill(before, Signal::SIGSTOP).unwrap();
    client.knock(server, &STEPS[..2]);
    daemon.reload();
    assert_ne!(daemon.listener(), before);
    kill(before, Signal::SIGCONT).unwrap();
    client.knock(server, &STEPS[2..]);
    daemon.wait_lease("ssh", client.v4);
    until("it has left", || !is_posternd(before.as_raw().into()));
}

/// Two listeners have heard it, and another reload came between what they say.
#[test]
fn a_knock_heard_twice_counts_once_through_another_reload() {
    let net = Net::new(1);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    let ran = daemon.path("ran").display().to_string();
    let mark = Door::starts("mark", &format!("echo %IP% >> {ran}")).to(&STEPS);
    let web = Door::opens("web", "443/tcp", "1h").to(&OTHER);
    daemon.configure(std::slice::from_ref(&mark));
    daemon.run();
    let (client, server) = (net.client(), net.server.v4);
    let runs = || daemon.granted("mark");
    // Two grants count as one for two seconds; on a slow machine they may be further apart.
    eventually("two grants come near each other", 3 * LIMIT, || {
        let (before, first) = (daemon.listener(), runs());
        kill(before, Signal::SIGSTOP).unwrap();
        daemon.reload();
        client.knock(server, &STEPS);
        until("the new one has said so", || runs() == first + 1);
        let granted = Instant::now();
        daemon.configure(&[web.clone(), mark.clone()]);
        daemon.reload();
        kill(before, Signal::SIGCONT).unwrap();
        until("it has left", || !is_posternd(before.as_raw().into()));
        let near = granted.elapsed() < Duration::from_millis(1800);
        near.then(|| assert_eq!(runs(), first + 1))
    });
}

#[test]
fn a_one_time_knock_begun_before_a_reload_opens_after_it() {
    let net = Net::new(2);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    let list = daemon.write(
        "list",
        "7143,2912:udp,39001,16044\n8351,1207:udp,52110,30477\n",
    );
    let once = format!("one_time_sequences = {list:?}");
    let door = |name| Door::opens(name, "22/tcp", "1h");
    daemon.configure(&[door("ssh").knock(&once)]);
    daemon.run();
    let [a, b] = &net.clients[..] else { panic!() };
    let server = net.server.v4;

    a.knock(server, &STEPS[..2]);
    // The list has another place in the configuration, too.
    let others = ["1111", "2222", "3333", "4444"];
    let web = Door::opens("web", "443/tcp", "1h").to(&["5555", "6666", "7777", "8888"]);
    daemon.configure(&[web, door("ssh").to(&others).knock(&once)]);
    daemon.reload();
    a.knock(server, &STEPS[2..]);
    daemon.wait_lease("ssh", a.v4);
    assert!(daemon.read("list").starts_with("#143"), "it is spent");

    // Another list stands there now: what was knocked is in force no more.
    b.knock(server, &OTHER[..2]);
    let other = daemon.write("other", "8351,1207:udp,52110,30477\n");
    let once = format!("one_time_sequences = {other:?}");
    daemon.configure(&[door("ssh").to(&others).knock(&once)]);
    daemon.reload();
    b.knock(server, &OTHER[2..]);
    daemon.wait_log(&format!("ssh: knock of {} refused", b.v4));
    assert!(daemon.lease("ssh", b.v4).is_none());
    assert!(daemon.read("other").starts_with("8351"), "it is not spent");
}

#[test]
fn interfaces_change_with_the_configuration() {
    let net = Net::new(1);
    let _service = Service::start(&net.server, &[22]);
    let server = &net.server;
    net.plug(server, "eth1");
    server.run("sysctl -q net.ipv4.conf.all.arp_ignore=1");
    server.address("add", "10.67.0.1/24", "eth1");
    let client = net.client();
    client.address("add", "10.67.0.12/24", "eth0");
    let (inside, outside) = (IpAddr::from([10, 67, 0, 12]), IpAddr::from(client.v4));
    let at = [10, 67, 0, 1];
    let mut daemon = Daemon::start(server, &[ssh("1h")]);
    client.knock(server.v4, &STEPS);
    daemon.wait_lease("ssh", outside);
    assert!(client.reaches_from(Some(inside), at, 22), "unguarded there");

    daemon.set("interface", "[\"eth0\", \"eth1\"]");
    daemon.configure(&[ssh("1h")]);
    daemon.reload();
    assert!(client.connect_from(Some(inside), at, 22).is_silence());
    client.knock_from(Some(inside), at, &STEPS);
    daemon.wait_lease("ssh", inside);
    assert!(client.reaches_from(Some(inside), at, 22));
    assert!(client.reaches(server.v4, 22), "its lease goes on");

    // The door is at one of them only; both leases go on, there.
    daemon.configure(&[ssh("1h").with("on = [\"eth1\"]")]);
    daemon.reload();
    assert!(client.reaches_from(Some(inside), at, 22));
    assert_eq!(daemon.leases().len(), 2);
    daemon.ctl(&["close", &inside.to_string()]);
    assert!(client.connect_from(Some(inside), at, 22).is_silence());
    client.knock(server.v4, &STEPS);
    client.knock_from(Some(inside), at, &STEPS);
    daemon.wait_lease("ssh", inside);
    assert_eq!(daemon.granted("ssh"), 3, "not heard at eth0");

    daemon.set("interface", "\"nosuch0\"");
    daemon.configure(&[ssh("1h")]);
    daemon.reload();
    daemon.wait_log("nosuch0: no such interface");
    assert!(!daemon.listens());
    daemon.set("interface", "\"eth0\"");
    daemon.configure(&[ssh("1h")]);
    daemon.reload();
    assert!(daemon.listens());
    assert!(client.reaches(server.v4, 22));
}
