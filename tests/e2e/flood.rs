//! Floods: the legitimate knock still opens, log and memory stay bounded.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use crate::clocks::Clocks;
use crate::harness::raw::{SYN, Sender, tcp};
use crate::harness::{Daemon, Host, Net, until};
use crate::{STEPS, ssh};

/// The most memory that either process may have resident, in KiB: the table of attempts has
/// 32 MiB.
pub const MOST: u64 = 64 << 10;

/// A figure of proc_pid_status(5), in KiB: VmRSS, VmHWM.
pub fn memory(pid: Pid, figure: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|l| l.strip_prefix(figure)?.strip_prefix(':'))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Sends what `packet` makes of each number until told to stop; some ten thousand a second.
fn flood(
    from: &Host,
    to: IpAddr,
    stop: &AtomicBool,
    packet: impl Fn(u32) -> Vec<u8> + Sync,
) -> u64 {
    from.inside(|| {
        let sender = Sender::new(false);
        let mut sent = 0;
        while !stop.load(Ordering::Relaxed) {
            for _ in 0..100 {
                sender.send(to, &packet(sent as u32));
                sent += 1;
            }
            thread::sleep(Duration::from_millis(5));
        }
        sent
    })
}

/// An address outside of every network here, another one for each number.
fn stranger(n: u32) -> IpAddr {
    Ipv4Addr::from(0x0b00_0000 | (n.wrapping_mul(2_654_435_761) >> 8)).into()
}

fn survives(packet: impl Fn(IpAddr, u32) -> Vec<u8> + Sync) {
    let net = Net::new(2);
    let mut daemon = Daemon::prepare(&net.server, &[ssh("1h")]);
    daemon.argue("--verbose");
    daemon.run();
    let [client, attacker] = &net.clients[..] else {
        panic!()
    };
    let to = IpAddr::from(net.server.v4);
    let start = Instant::now();
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let flooding = scope.spawn(|| {
            sent.store(
                flood(attacker, to, &stop, |n| packet(to, n)),
                Ordering::Relaxed,
            );
        });
        let seen = || daemon.status().unwrap()["packets"].as_u64().unwrap();
        until("the flood is under way", || seen() > 20_000);
        for _ in 0..5 {
            let closed = || daemon.lease("ssh", client.v4).is_none();
            until("the legitimate knock opens", || {
                client.knock(to, &STEPS);
                !closed()
            });
            daemon.ctl(&["close", &client.v4.to_string()]);
            until("it is closed", closed);
        }
        until("the flood has gone on", || seen() > 60_000);
        stop.store(true, Ordering::Relaxed);
        flooding.join().unwrap();
    });
    // So many saved up, so many a second, and those that no packet causes.
    let most = 64 + 8 * (start.elapsed().as_secs() as usize + 1) + 20;
    let lines = daemon.log().lines().count();
    let sent = sent.load(Ordering::Relaxed);
    assert!(lines <= most, "{lines} lines for {sent} packets");
    for pid in [daemon.monitor(), daemon.listener()] {
        let resident = memory(pid, "VmRSS");
        assert!(resident < MOST, "{resident} KiB");
    }
    assert_eq!(daemon.status().unwrap()["restarts"], 0);
}

/// knockd's fault 4.
#[test]
fn forged_first_steps_do_not_keep_a_knock_out() {
    survives(|to, n| tcp(stranger(n), to, 7143, SYN, 0));
}

#[test]
fn forged_steps_of_all_kinds_do_not_keep_a_knock_out() {
    survives(|to, n| {
        tcp(
            stranger(n / 3),
            to,
            [7143, 39001, 16044][n as usize % 3],
            SYN,
            0,
        )
    });
}

/// At a glance while it goes on, and in the log the next morning.
#[test]
fn that_we_are_under_fire_is_told_and_that_it_is_over() {
    let net = Net::new(1);
    let mut daemon = Daemon::prepare(&net.server, &[ssh("1h")]);
    let mut clocks = Clocks::of(&mut daemon);
    daemon.run();
    let shown = || daemon.ctl(&["status"]).stdout;
    let fire = || daemon.status().unwrap()["fire"].clone();
    assert!(shown().starts_with("version: "), "{}", shown());
    assert!(fire().is_null());
    let to = IpAddr::from(net.server.v4);
    let stop = AtomicBool::new(false);
    let packet = |n| tcp(stranger(n), to, 7143, SYN, 0);
    thread::scope(|scope| {
        let flooding = scope.spawn(|| flood(net.client(), to, &stop, packet));
        until("it is seen", || shown().starts_with("under fire since "));
        println!("{}", shown());
        assert!(fire()["until"].is_null());
        daemon.wait_log(" packets a second pass the filter");
        stop.store(true, Ordering::Relaxed);
        let sent = flooding.join().unwrap();
        let seen = || daemon.status().unwrap()["packets"].as_u64().unwrap();
        until("all of it is counted", || seen() >= sent);
    });
    // Over a minute without waiting for it.
    clocks.suspend(100);
    until("it is over", || fire()["until"].is_string());
    daemon.wait_log("quiet again: under fire from ");
    println!("{}", shown());
    let fire = fire();
    let (passed, peak) = (&fire["passed"], &fire["peak"]);
    assert!(peak.as_u64() >= Some(1000), "{fire}");
    assert!(passed.as_u64() >= Some(10_000), "{fire}");
    assert!(
        shown().starts_with("quiet: under fire from "),
        "{}",
        shown()
    );
    let status = daemon.status().unwrap();
    // The last figures may come in only then.
    for stretch in ["ten_seconds", "minute"] {
        let passed = status[stretch]["passed"].as_u64();
        assert!(passed < Some(10_000), "{status}");
    }
    let log = daemon.log();
    for (words, times) in [("posternd: under fire: ", 1), ("quiet again", 1)] {
        assert_eq!(log.matches(words).count(), times, "{words}: {log}");
    }
}
