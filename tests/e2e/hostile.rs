//! The listener as somebody else has it: what a double in its place says, leaves unsaid and does
//! to the real monitor (tests/doubles/listener.rs).

use std::fs;
use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::flood::{MOST, memory};
use crate::harness::{Daemon, Door, Host, Net, Ran, Service, eventually, until};
use crate::{OTHER, STEPS, ssh};

/// A door at port 22, to be opened by [`STEPS`], and one at 23, by [`OTHER`].
fn doors() -> [Door; 2] {
    [ssh("1h"), other()]
}

fn other() -> Door {
    Door::opens("other", "23/tcp", "1h").to(&OTHER)
}

/// posternd with those doors and an honest listener, ready to be replaced.
fn daemon(net: &Net) -> Daemon<'_> {
    let mut daemon = Daemon::prepare(&net.server, &doors());
    daemon.listener_does(&["honest"]);
    daemon.run();
    daemon
}

/// Another listener is started, to take over from the one in charge, and does this.
pub fn instead(daemon: &mut Daemon, acts: &[&str]) {
    daemon.listener_does(acts);
    daemon.signal(Signal::SIGHUP);
}

/// It dies for this reason; an honest one is in charge when this returns.
pub fn dies(daemon: &mut Daemon, net: &Net, acts: &[&str], why: &str) {
    let line = format!("the listener is gone ({why})");
    let times = |daemon: &Daemon| daemon.log().matches(&line).count();
    let before = times(daemon);
    instead(daemon, acts);
    until(&line, || times(daemon) > before);
    let in_charge = daemon.status().unwrap()["listener"].clone();
    instead(daemon, &["honest"]);
    until("another honest one is in charge alone", || {
        let another = daemon.status().unwrap()["listener"] != in_charge;
        another && processes(&net.server).len() == HONEST && daemon.listens()
    });
}

/// The monitor, its listener, and the honest one behind that.
const HONEST: usize = 3;

/// An honest one takes over: a knock opens again.
fn honest_again(daemon: &mut Daemon, client: &Host, server: &Host) {
    instead(daemon, &["honest"]);
    until("an honest one hears", || {
        client.knock(server.v4, &STEPS);
        daemon.lease("ssh", client.v4).is_some()
    });
}

pub fn number(daemon: &Daemon, key: &str) -> u64 {
    daemon.status().expect("it answers")[key].as_u64().unwrap()
}

/// What runs in a host's namespace: posternd's processes and whatever those have started.
fn processes(host: &Host) -> Vec<Pid> {
    let pids = Ran::of(Command::new("ip").args(["netns", "pids", &host.name]));
    let runs = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    };
    let all = pids.stdout.split_whitespace().map(|p| p.parse().unwrap());
    all.filter(runs).map(Pid::from_raw).collect()
}

/// So many lines of each kind saved up, so many a second, and those that no listener causes.
pub fn log_is_short(daemon: &Daemon, since: Instant) {
    let lines = daemon.log().lines().count();
    let most = 3 * 64 + 2 * 32 + 25 * (since.elapsed().as_secs() as usize + 1) + 40;
    assert!(lines <= most, "{lines} lines");
}

pub fn monitor_is_small(daemon: &Daemon) {
    let peak = memory(daemon.monitor(), "VmHWM");
    assert!(peak < MOST, "{peak} KiB");
}

/// The one in charge goes on all the while.
#[test]
fn what_it_must_not_say_before_it_is_ready_ends_it() {
    let net = Net::new(1);
    let client = net.client();
    let began = Instant::now();
    let mut daemon = daemon(&net);
    for (acts, why) in [
        (&["garbage 1000000"][..], "it said something malformed"),
        (&["hello 99"], "it speaks version 99 of the wire"),
        (&["ready 1"], "it did not say which version it speaks"),
        (&["hello", "hello"], "it said its version before"),
        (
            &["hello", "grant 0 0 0 192.0.2.7"],
            "it spoke before it was ready",
        ),
        (&["hello", "unconfined 1"], "it is not confined"),
        (&["hello", "ready 3"], "it listens where it was not told to"),
        (&["hello", "half", "leave"], "exit status 1"),
        (
            &["hello", "trouble 1000000"],
            "it has more troubles than there can be",
        ),
    ] {
        instead(&mut daemon, acts);
        daemon.wait_log(&format!("the listener is gone ({why})"));
        client.knock(net.server.v4, &STEPS);
        daemon.wait_lease("ssh", client.v4);
        daemon.ctl(&["close", &client.v4.to_string()]);
    }
    assert_eq!(daemon.leases().len(), 0);
    log_is_short(&daemon, began);
    monitor_is_small(&daemon);
}

/// Whoever is let in stays so.
#[test]
fn what_it_must_not_say_in_charge_ends_it() {
    let net = Net::new(2);
    let _service = Service::start(&net.server, &[22]);
    let [client, other] = &net.clients[..] else {
        panic!()
    };
    let began = Instant::now();
    let mut daemon = daemon(&net);
    let mut session = client.knock_in(net.server.v4, &STEPS, 22);
    for (act, why) in [
        ("garbage 64", "it said something malformed"),
        ("hello", "it said its version before"),
        ("ready 1", "it was ready before"),
        ("trouble 1", "it was ready before"),
        ("lost 1", "it lost what it did not have"),
        ("lost 200", "it lost what it did not have"),
        ("drained", "it drained unasked"),
        (
            "grant 2 0 0 192.0.2.7",
            "it named a door that it was not given",
        ),
        (
            "elder 0 0 0 192.0.2.7",
            "it named a door that it was not given",
        ),
        (
            "grant 0 1 0 192.0.2.7",
            "it named a knock that it was not given",
        ),
        (
            "grant 0 0 1 192.0.2.7",
            "it named a knock that it was not given",
        ),
        (
            "timeout 0 0 0 192.0.2.7",
            "it told what it was not asked for",
        ),
    ] {
        dies(&mut daemon, &net, &[&READY[..], &[act]].concat(), why);
        session.echo();
    }
    assert_eq!(daemon.leases().len(), 1);
    log_is_short(&daemon, began);
    honest_again(&mut daemon, other, &net.server);
}

pub const READY: [&str; 2] = ["hello", "ready 1"];

/// Nothing, half a message: the one in charge is heard and posternctl answered meanwhile. That
/// it is given up in the end stands in the tests of `supervise`, which have the time.
#[test]
fn silence_keeps_nobody_waiting() {
    let net = Net::new(1);
    let client = net.client();
    let mut daemon = daemon(&net);
    for acts in [&[][..], &["hello"], &["hello", "half"]] {
        let in_charge = daemon.listener();
        instead(&mut daemon, acts);
        until("there are two", || processes(&net.server).len() >= 4);
        // A knock soon after one that was heard twice may count as the same.
        until("the one in charge hears", || {
            client.knock(net.server.v4, &STEPS);
            daemon.lease("ssh", client.v4).is_some()
        });
        daemon.ctl(&["close", &client.v4.to_string()]);
        assert_eq!(daemon.listener(), in_charge);
        instead(&mut daemon, &["honest"]);
        until("the silent one is gone", || {
            daemon.listener() != in_charge && processes(&net.server).len() == HONEST
        });
    }
}

/// In charge, it hears nothing, says nothing and reads nothing.
#[test]
fn a_deaf_one_is_told_nothing_for_ever() {
    let net = Net::new(1);
    let (client, server) = (net.client(), &net.server);
    let mut daemon = daemon(&net);
    let before = daemon.listener();
    instead(&mut daemon, &READY);
    until("it is in charge", || daemon.listener() != before);
    for n in 0..=255 {
        server.address("add", &format!("10.68.0.{n}/24"), "eth0");
    }
    honest_again(&mut daemon, client, server);
    monitor_is_small(&daemon);
}

#[test]
fn addresses_that_nobody_can_knock_from_are_refused() {
    let net = Net::new(1);
    let mut daemon = daemon(&net);
    let nobodys = [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::192.0.2.7",
        "ff02::1",
        "::ffff:192.0.2.7",
    ];
    let mut acts: Vec<String> = READY.map(String::from).to_vec();
    acts.extend(nobodys.map(|a| format!("grant 0 0 0 {a}")));
    acts.push("grant 0 0 0 192.0.2.7".into());
    let acts: Vec<&str> = acts.iter().map(String::as_str).collect();
    instead(&mut daemon, &acts);
    daemon.wait_lease("ssh", [192, 0, 2, 7]);
    assert_eq!(daemon.leases().len(), 1);
    let status = daemon.status().unwrap();
    for refused in [
        &status["refused"],
        &status["refused_for"]["address"],
        &status["doors"][0]["refused"],
    ] {
        assert_eq!(refused, nobodys.len(), "{status}");
    }
    for address in nobodys.map(|a| a.parse::<IpAddr>().unwrap()) {
        daemon.wait_log(&format!("ssh: knock of {address} refused: not allowed now"));
    }
}

const LIST: &str = "7143,2912:udp,39001,16044\n8351,1207:udp,52110,30477\n9,8,7,6\n";

/// Only the line in force opens, and once.
#[test]
fn invented_one_time_lines_spend_nothing() {
    let net = Net::new(1);
    let mut daemon = Daemon::prepare(&net.server, &[]);
    let list = daemon.write("list", LIST);
    let once = Door::opens("once", "24/tcp", "1h");
    let once = once.knock(&format!("one_time_sequences = \"{}\"", list.display()));
    daemon.configure(&[once]);
    daemon.listener_does(&["honest"]);
    daemon.run();
    for act in [
        "grant 0 0 0 192.0.2.7",
        "grant 0 1 0 192.0.2.7",
        "grant 0 65535 0 192.0.2.7",
        "grant 0 0 3 192.0.2.7",
        "grant 0 0 4294967295 192.0.2.7",
    ] {
        let why = "it named a knock that it was not given";
        dies(&mut daemon, &net, &[&READY[..], &[act]].concat(), why);
    }
    assert_eq!(
        (daemon.leases().len(), daemon.read("list")),
        (0, LIST.into())
    );
    // The second line is watched for already, but not in force.
    instead(
        &mut daemon,
        &[&READY[..], &["grant 0 0 2 192.0.2.7"]].concat(),
    );
    daemon.wait_log("knock of 192.0.2.7 refused: its one-time sequence is not in force");
    assert_eq!(daemon.read("list"), LIST);
    // The first is, and only once; the listener that follows was given it no more.
    let acts = ["grant 0 0 1 192.0.2.8", "grant 0 0 1 192.0.2.9"];
    instead(&mut daemon, &[&READY[..], &acts].concat());
    daemon.wait_log("knock of 192.0.2.9 refused: its one-time sequence is not in force");
    daemon.wait_lease("once", [192, 0, 2, 8]);
    assert_eq!(daemon.leases().len(), 1);
    assert_eq!(daemon.read("list"), LIST.replacen('7', "#", 1));
}

#[test]
fn absurd_figures_are_only_figures() {
    let net = Net::new(1);
    let mut daemon = daemon(&net);
    let most = format!("counted {}", u64::MAX);
    for _ in 0..3 {
        let before = daemon.listener();
        instead(&mut daemon, &[&READY[..], &[&most]].concat());
        until("they are told", || {
            daemon.listener() != before && number(&daemon, "packets") == u64::MAX
        });
    }
    assert_eq!(number(&daemon, "restarts"), 0);
    honest_again(&mut daemon, net.client(), &net.server);
}

/// So many grants at the first door come in between what an honest listener says.
fn flood(first: Door, act: &str, grants: u64, most_leases: usize) {
    let net = Net::new(1);
    let _service = Service::start(&net.server, &[23]);
    let client = net.client();
    let began = Instant::now();
    let mut daemon = Daemon::prepare(&net.server, &[first, other()]);
    daemon.listener_does(&["honest", act]);
    daemon.spawn();
    until("it answers", || daemon.status().is_some());
    let leases = || daemon.leases().iter().filter(|l| l.door == "ssh").count();
    let told = || number(&daemon, "refused") + daemon.granted("ssh");
    until("the flood is under way", || told() > 10_000);
    for turn in 0..5 {
        client.knock(net.server.v4, &OTHER);
        daemon.wait_lease("other", client.v4);
        assert!(client.reaches(net.server.v4, 23));
        assert!(turn > 0 || told() < grants, "it was over too soon");
        let closed = daemon.ctl(&["close", &client.v4.to_string()]);
        assert_eq!(closed.code(), 0, "{closed:?}");
        assert!(daemon.lease("other", client.v4).is_none());
        assert!(leases() <= most_leases);
        // Those of posternd, and the commands that may run at once, each with its shell.
        let all = processes(&net.server);
        assert!(all.len() <= HONEST + 1 + 2 * 16, "{all:?}");
    }
    eventually("it is over", Duration::from_secs(300), || {
        (told() >= grants).then_some(())
    });
    assert_eq!(told(), grants);
    assert!(leases() <= most_leases);
    log_is_short(&daemon, began);
    monitor_is_small(&daemon);
    let journal = fs::metadata(daemon.path("state").join("journal")).unwrap();
    assert!(
        journal.len() < 2 << 20,
        "{} bytes of journal",
        journal.len()
    );
    assert_eq!(number(&daemon, "restarts"), 0);
}

#[test]
fn a_million_grants_for_as_many_addresses_shut_no_other_door() {
    flood(ssh("1h"), "many 0 1000000", 1_000_000, 1024);
}

#[test]
fn a_million_grants_for_one_address_shut_no_other_door() {
    flood(ssh("1h"), "many 0 1000000 192.0.2.7", 1_000_000, 1);
}

/// Each grant wants to run a command.
#[test]
fn a_flood_of_grants_at_a_command_door_does_not_become_one_of_processes() {
    let slow = Door::starts("ssh", "sleep 1; : %IP%").to(&STEPS);
    flood(slow, "many 0 500000", 500_000, 0);
}

/// One that is never there for long is started again with pauses, whatever it does meanwhile.
#[test]
fn dying_at_once_costs_little() {
    let net = Net::new(1);
    for acts in [&["leave"][..], &["hello", "ready 1", "leave"]] {
        let began = Instant::now();
        let mut daemon = daemon(&net);
        daemon.listener_does(acts);
        kill(daemon.listener(), Signal::SIGKILL).unwrap();
        until("it has died often", || number(&daemon, "restarts") >= 7);
        // At once, then after 0.1, 0.2, 0.4, 0.8, 1.6, 2, 2, ... seconds.
        let restarts = number(&daemon, "restarts");
        let most = 7 + began.elapsed().as_secs() / 2;
        assert!(restarts <= most, "{restarts} in {:?}", began.elapsed());
        log_is_short(&daemon, began);
        honest_again(&mut daemon, net.client(), &net.server);
    }
}

/// It loses its interface as soon as it has it.
#[test]
fn losing_interfaces_over_and_over_costs_little() {
    let net = Net::new(1);
    let began = Instant::now();
    let mut daemon = daemon(&net);
    let before = number(&daemon, "generation");
    instead(&mut daemon, &["hello", "ready 1", "pause 20", "lost 0"]);
    until("it goes on like that", || {
        number(&daemon, "generation") >= before + 12
    });
    // Four a second, the reload and the first that was not waited for.
    let made = number(&daemon, "generation") - before;
    let most = 3 + 4 * (began.elapsed().as_secs() + 1);
    assert!(made <= most, "{made} in {:?}", began.elapsed());
    // The monitor and what it runs; in charge, on its way, leaving, killed and not yet gone.
    let all = processes(&net.server);
    assert!(all.len() <= 2 + 2 + 8 + 8, "{all:?}");
    log_is_short(&daemon, began);
    honest_again(&mut daemon, net.client(), &net.server);
}

#[test]
fn what_it_has_started_goes_with_it() {
    let net = Net::new(1);
    let mut daemon = daemon(&net);
    instead(&mut daemon, &["hello", "ready 1", "fork 3", "garbage 64"]);
    until("it has died often", || number(&daemon, "restarts") >= 4);
    // The monitor, one that runs with what it started, and one that has just been killed.
    until("they are few", || processes(&net.server).len() <= 1 + 4 + 4);
    honest_again(&mut daemon, net.client(), &net.server);
    until("the others are gone", || {
        processes(&net.server).len() == HONEST
    });
}

/// It heeds no signal but the one that cannot be ignored.
#[test]
fn one_that_will_not_leave_is_killed_when_the_daemon_stops() {
    let net = Net::new(1);
    let mut daemon = daemon(&net);
    let before = daemon.listener();
    instead(&mut daemon, &["hello", "ready 1", "fork 3"]);
    until("it is in charge", || daemon.listener() != before);
    kill(daemon.listener(), Signal::SIGTERM).unwrap();
    until("its children run", || processes(&net.server).len() >= 5);
    assert!(daemon.stop().success());
    until("all are gone", || processes(&net.server).is_empty());
}

/// Where root may not send signals to other users, one that was ended need not leave. Nobody
/// waits for it, and they do not become many.
#[test]
fn one_that_cannot_be_killed_stops_nothing() {
    let net = Net::new(2);
    let _service = Service::start(&net.server, &[22]);
    let [client, other] = &net.clients[..] else {
        panic!()
    };
    let mut daemon = Daemon::prepare(&net.server, &doors());
    daemon.listener_does(&["honest"]);
    daemon.within(&["setpriv", "--bounding-set=-kill"]);
    daemon.run();
    let mut session = client.knock_in(net.server.v4, &STEPS, 22);
    instead(
        &mut daemon,
        &["become 65534", "hello", "ready 1", "garbage 64"],
    );
    eventually("there are too many", Duration::from_secs(60), || {
        let said = "8 before it have been killed and are not gone";
        daemon.log().contains(said).then_some(())
    });
    session.echo();
    let restarts = number(&daemon, "restarts");
    until("it goes on", || number(&daemon, "restarts") >= restarts + 2);
    let all = processes(&net.server);
    // The honest one may still be in charge. What the monitor runs, and the eight.
    assert!(all.len() <= HONEST + 1 + 8, "{all:?}");
    daemon.listener_does(&["honest"]);
    for pid in all.into_iter().filter(|&pid| pid != daemon.monitor()) {
        kill(pid, Signal::SIGKILL).unwrap();
    }
    honest_again(&mut daemon, other, &net.server);
}
