//! What a knock is and what is none, as whoever knocks, whoever scans and whoever forges
//! packets meets it.

#![cfg(feature = "daemon")]

use std::net::IpAddr;
use std::time::Duration;

use postern::config::{Port, Protocol, TcpFlags};
use postern::knock::{EVERYWHERE, Kind, Knocks, Watch, can_knock};
use postern::packet::{Arrival, What};
use postern::time::Time;

const OURS: &str = "192.0.2.1";
const ALSO_OURS: &str = "2001:db8::1";
const ALICE: &str = "198.51.100.7";
const BOB: &str = "2001:db8:7::9";
const SYN: u8 = 0x02;
const SECOND: u64 = 1_000_000;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn tcp(number: u16) -> Port {
    let protocol = Protocol::Tcp;
    Port { protocol, number }
}

fn udp(number: u16) -> Port {
    let protocol = Protocol::Udp;
    Port { protocol, number }
}

fn door(door: u16, steps: &[Port]) -> Watch {
    Watch {
        door,
        knock: 0,
        line: 0,
        steps: steps.to_vec(),
        timeout: Duration::from_secs(5),
        flags: TcpFlags::REQUEST,
        target: None,
        on: EVERYWHERE,
    }
}

/// Knocks, and the time, which a test moves on by hand.
struct Scene {
    knocks: Knocks,
    now: u64,
}

impl Scene {
    fn new(watches: Vec<Watch>) -> Scene {
        let knocks = Knocks::new(watches, &[tcp(22)], [0x1234, 0x5678], 1 << 12);
        Scene {
            knocks,
            now: 1_000 * SECOND,
        }
    }

    /// What comes of a packet: kind, stage and doors.
    fn packet(&mut self, source: &str, destination: &str, what: What) -> Vec<String> {
        let arrival = Arrival {
            time: Time(self.now),
            source: ip(source),
            destination: ip(destination),
            what,
        };
        let ours = |a| a == ip(OURS) || a == ip(ALSO_OURS);
        let mut outcomes = Vec::new();
        self.knocks.arrive(&arrival, ours, |o| outcomes.push(o));
        let mut told = Vec::new();
        for outcome in outcomes {
            assert_eq!(outcome.source, ip(source));
            let doors: Vec<String> = self
                .knocks
                .watches(&outcome)
                .map(|w| w.door.to_string())
                .collect();
            let kind = match outcome.kind {
                Kind::Stage => "stage",
                Kind::Grant => "grant",
                Kind::Fail => "fail",
                Kind::Timeout => "timeout",
            };
            told.push(format!("{kind} {} at {}", outcome.stage, doors.join(",")));
        }
        told
    }

    fn hit(&mut self, source: &str, port: Port) -> Vec<String> {
        let number = port.number;
        let what = match port.protocol {
            Protocol::Tcp => What::Tcp {
                port: number,
                flags: SYN,
            },
            Protocol::Udp => What::Udp {
                port: number,
                payload: &[],
            },
        };
        self.packet(source, OURS, what)
    }

    /// What comes of several, in one list.
    fn hits(&mut self, source: &str, ports: &[Port]) -> Vec<String> {
        ports.iter().flat_map(|p| self.hit(source, *p)).collect()
    }
}

fn ssh() -> Vec<Port> {
    vec![tcp(7143), udp(2912), tcp(39001), tcp(16044)]
}

#[test]
fn a_right_knock_is_granted() {
    let mut scene = Scene::new(vec![door(0, &ssh())]);
    for source in [ALICE, BOB] {
        assert_eq!(
            scene.hits(source, &ssh()),
            [
                "stage 1 at 0",
                "stage 2 at 0",
                "stage 3 at 0",
                "grant 4 at 0"
            ]
        );
    }
    assert_eq!(scene.knocks.counters().granted, 2);
    assert_eq!(scene.knocks.counters().held, 0);
}

#[test]
fn time_counts_from_the_first_knock_and_the_limit_still_counts() {
    let steps = ssh();
    let mut scene = Scene::new(vec![door(0, &steps)]);
    for (late, last) in [(0, "grant 4 at 0"), (1000, "timeout 3 at 0")] {
        let start = scene.now;
        scene.hit(ALICE, steps[0]);
        for step in &steps[1..3] {
            scene.now += 2 * SECOND;
            scene.hit(ALICE, *step);
        }
        // A repeated first knock does not prolong it.
        scene.hit(ALICE, steps[0]);
        scene.now = start + 5 * SECOND + late;
        assert_eq!(scene.hit(ALICE, steps[3]), [last]);
    }
}

#[test]
fn time_that_passes_ends_attempts_in_order() {
    let quick = Watch {
        timeout: Duration::from_secs(2),
        ..door(1, &[tcp(4000), tcp(3000)])
    };
    let mut scene = Scene::new(vec![door(0, &ssh()), quick]);
    assert_eq!(scene.knocks.next_deadline(), None);
    scene.hit(ALICE, tcp(7143));
    scene.now += SECOND;
    scene.hit(BOB, tcp(4000));
    let deadline = scene.knocks.next_deadline().unwrap();
    assert_eq!(deadline, Time(1_003 * SECOND + 1000));
    let mut ended = Vec::new();
    scene.knocks.expire(Time(deadline.0 - 1), |o| ended.push(o));
    assert_eq!(ended, []);
    scene.knocks.expire(Time(u64::MAX), |o| ended.push(o));
    let ended: Vec<_> = ended.iter().map(|o| (o.source, o.kind, o.time)).collect();
    assert_eq!(
        ended,
        [
            (ip(BOB), Kind::Timeout, deadline),
            (ip(ALICE), Kind::Timeout, Time(1_005 * SECOND + 1000)),
        ]
    );
    assert_eq!(scene.knocks.counters().timed_out, 2);
}

#[test]
fn a_clock_that_steps_back_neither_prolongs_nor_ends_an_attempt() {
    let steps = ssh();
    let mut scene = Scene::new(vec![door(0, &steps)]);
    scene.hit(ALICE, steps[0]);
    scene.now -= 600 * SECOND;
    assert_eq!(scene.hit(ALICE, steps[1]), ["stage 2 at 0"]);
    scene.now += 605 * SECOND + 1000;
    assert_eq!(scene.hit(ALICE, steps[2]), ["timeout 2 at 0"]);
}

#[test]
fn a_retransmitted_earlier_step_does_not_kill() {
    let steps = ssh();
    let mut scene = Scene::new(vec![door(0, &steps)]);
    scene.hits(ALICE, &steps[..2]);
    assert!(
        scene
            .hits(ALICE, &[steps[0], steps[1], steps[0]])
            .is_empty()
    );
    assert_eq!(scene.hit(ALICE, steps[2]), ["stage 3 at 0"]);
    assert!(scene.hits(ALICE, &steps[..3]).is_empty());
    assert_eq!(scene.hit(ALICE, steps[3]), ["grant 4 at 0"]);
}

#[test]
fn a_wrong_step_kills_and_does_not_begin_anew() {
    let steps = ssh();
    let mut scene = Scene::new(vec![door(0, &steps)]);
    scene.hit(ALICE, steps[0]);
    assert_eq!(scene.hit(ALICE, steps[2]), ["fail 1 at 0"]);
    assert!(scene.hits(ALICE, &steps[1..]).is_empty());
    assert_eq!(scene.knocks.counters().failed, 1);
    assert_eq!(scene.hits(ALICE, &steps).last().unwrap(), "grant 4 at 0");

    // Where the first step is wrong because another is due, it fails like any.
    let twice = [tcp(5000), tcp(6000), tcp(5000), tcp(4000)];
    let mut scene = Scene::new(vec![door(0, &twice)]);
    assert_eq!(scene.hits(ALICE, &twice).last().unwrap(), "grant 4 at 0");
    let out_of_order = scene.hits(ALICE, &[twice[0], twice[3], twice[1]]);
    assert_eq!(out_of_order, ["stage 1 at 0", "fail 1 at 0"]);
}

#[test]
fn a_trap_kills() {
    let steps = ssh();
    let mut scene = Scene::new(vec![door(0, &steps)]);
    let mut traps = scene.knocks.ports();
    traps.retain(|p| !steps.contains(p));
    assert!(traps.len() >= 20, "{} traps", traps.len());
    for trap in traps {
        assert!(scene.hit(ALICE, trap).is_empty());
        scene.hit(ALICE, steps[0]);
        assert_eq!(scene.hit(ALICE, trap), ["fail 1 at 0"]);
    }
    assert_eq!(scene.knocks.counters().failed, 0);
    assert_eq!(scene.knocks.counters().held, 0);
}

#[test]
fn any_other_port_is_nobodys_business() {
    let steps = ssh();
    let mut scene = Scene::new(vec![door(0, &steps)]);
    let watched = scene.knocks.ports();
    scene.hits(ALICE, &steps[..3]);
    for number in 0..=u16::MAX {
        for port in [tcp(number), udp(number)] {
            if !watched.contains(&port) {
                assert!(scene.hit(ALICE, port).is_empty());
            }
        }
    }
    assert_eq!(scene.hit(ALICE, steps[3]), ["grant 4 at 0"]);
}

#[test]
fn one_hosts_failure_leaves_anothers_attempt_alone() {
    let steps = ssh();
    let mut scene = Scene::new(vec![door(0, &steps)]);
    for host in 0..100 {
        scene.hit(&format!("203.0.113.{host}"), steps[0]);
    }
    scene.hits(ALICE, &steps[..3]);
    for host in 0..100 {
        let failed = scene.hit(&format!("203.0.113.{host}"), steps[2]);
        assert_eq!(failed, ["fail 1 at 0"]);
    }
    assert_eq!(scene.hit(ALICE, steps[3]), ["grant 4 at 0"]);
}

/// Several people behind one address, each at another door.
#[test]
fn one_source_knocks_at_several_doors_at_once() {
    let doors = [
        [tcp(7000), tcp(5000), udp(6000)],
        [tcp(17_000), tcp(15_000), tcp(16_000)],
        [udp(27_000), tcp(25_000), tcp(26_000)],
        [tcp(37_000), tcp(35_000), tcp(36_000)],
    ];
    let watches = (0..).zip(&doors).map(|(n, steps)| door(n, steps)).collect();
    let mut scene = Scene::new(watches);
    for stage in 0..2 {
        for (n, steps) in doors.iter().enumerate() {
            let told = scene.hit(ALICE, steps[stage]);
            assert_eq!(told, [format!("stage {} at {n}", stage + 1)]);
        }
    }
    assert_eq!(scene.knocks.counters().held, 4);
    for n in [3, 0, 2, 1] {
        assert_eq!(scene.hit(ALICE, doors[n][2]), [format!("grant 3 at {n}")]);
    }
}

/// As with a door that opens and one that closes, each the other's steps backwards.
#[test]
fn a_step_that_takes_one_attempt_on_begins_no_other() {
    let (open, close) = (
        [tcp(7000), tcp(8000), tcp(9000)],
        [tcp(9000), tcp(8000), tcp(7000)],
    );
    let mut scene = Scene::new(vec![door(0, &open), door(1, &close)]);
    let steps = |door| ["stage 1", "stage 2", "grant 3"].map(|s| format!("{s} at {door}"));
    for _ in 0..2 {
        assert_eq!(scene.hits(ALICE, &open), steps(0));
        assert_eq!(scene.knocks.counters().held, 0);
        assert_eq!(scene.hits(ALICE, &close), steps(1));
        assert_eq!(scene.knocks.counters().held, 0);
    }
}

#[test]
fn a_wrong_step_at_one_door_leaves_the_others() {
    let doors = [
        [tcp(7000), tcp(5000), udp(6000)],
        [tcp(17_000), tcp(15_000), tcp(16_000)],
    ];
    let watches = (0..).zip(&doors).map(|(n, steps)| door(n, steps)).collect();
    let mut scene = Scene::new(watches);
    scene.hits(ALICE, &[doors[0][0], doors[1][0], doors[1][1]]);
    assert_eq!(scene.hit(ALICE, doors[0][2]), ["fail 1 at 0"]);
    assert_eq!(scene.hit(ALICE, doors[1][2]), ["grant 3 at 1"]);
}

#[test]
fn doors_with_a_common_beginning_run_in_one_attempt() {
    let watches = vec![
        door(0, &[tcp(7000), tcp(5000), tcp(6000)]),
        door(1, &[tcp(7000), tcp(5000), udp(4000)]),
        door(2, &[tcp(7000), tcp(5000)]),
        door(3, &[tcp(7000), tcp(5000), tcp(6000)]),
        door(4, &[tcp(7000), tcp(8000)]),
    ];
    let mut scene = Scene::new(watches);
    assert_eq!(scene.hit(ALICE, tcp(7000)), ["stage 1 at 0,1,2,3,4"]);
    assert_eq!(scene.knocks.counters().held, 1);
    assert_eq!(
        scene.hit(ALICE, tcp(5000)),
        ["grant 2 at 2", "stage 2 at 0,1,3"]
    );
    assert_eq!(scene.hit(ALICE, tcp(6000)), ["grant 3 at 0,3"]);
    assert!(scene.hit(ALICE, udp(4000)).is_empty());
    // Strict: a step of one is a wrong step for the others.
    scene.hits(ALICE, &[tcp(7000), tcp(5000)]);
    assert_eq!(scene.hit(ALICE, tcp(8000)), ["fail 2 at 0,1,3"]);
}

#[test]
fn a_common_beginning_but_another_time_limit_is_another_attempt() {
    let short = Watch {
        timeout: Duration::from_secs(1),
        ..door(0, &[tcp(7000), tcp(5000)])
    };
    let long = door(1, &[tcp(7000), tcp(5000), tcp(6000)]);
    let mut scene = Scene::new(vec![short, long]);
    assert_eq!(
        scene.hit(ALICE, tcp(7000)),
        ["stage 1 at 0", "stage 1 at 1"]
    );
    scene.now += 2 * SECOND;
    assert_eq!(
        scene.hit(ALICE, tcp(5000)),
        ["timeout 1 at 0", "stage 2 at 1"]
    );
}

#[test]
fn thirty_two_steps() {
    let steps: Vec<Port> = (0..32).map(|n| tcp(10_000 + n * 37 % 32 * 100)).collect();
    let mut scene = Scene::new(vec![door(0, &steps)]);
    assert_eq!(scene.hits(ALICE, &steps).last().unwrap(), "grant 32 at 0");
    let mut too_many = steps.clone();
    too_many.push(tcp(9));
    for bad in [too_many, Vec::new()] {
        let mut scene = Scene::new(vec![door(0, &bad), door(1, &ssh())]);
        let unwatched: Vec<u16> = scene.knocks.unwatched().map(|w| w.door).collect();
        assert_eq!(unwatched, [0]);
        assert!(scene.hits(ALICE, &bad).is_empty());
        assert_eq!(scene.hits(ALICE, &ssh()).last().unwrap(), "grant 4 at 1");
    }
}

#[test]
fn udp_and_tcp_are_told_apart() {
    let steps = [tcp(5000), udp(5000), tcp(6000)];
    let mut scene = Scene::new(vec![door(0, &steps)]);
    assert!(scene.hit(ALICE, udp(5000)).is_empty());
    assert_eq!(scene.hits(ALICE, &steps).last().unwrap(), "grant 3 at 0");
    // UDP 6000 is not the door's.
    scene.hits(ALICE, &steps[..2]);
    assert!(scene.hit(ALICE, udp(6000)).is_empty());
    assert_eq!(scene.hit(ALICE, steps[2]), ["grant 3 at 0"]);
}

#[test]
fn segments_whose_flags_do_not_fit_are_not_there() {
    let steps = [tcp(7000), udp(5000), tcp(6000)];
    let fin = TcpFlags { mask: 1, value: 1 };
    let watches = vec![
        door(0, &steps),
        Watch {
            flags: fin,
            ..door(1, &steps)
        },
    ];
    let mut scene = Scene::new(watches);
    let segment = |port, flags| What::Tcp { port, flags };
    let trap = scene
        .knocks
        .ports()
        .into_iter()
        .find(|p| !steps.contains(p) && *p < udp(0));
    let trap = trap.unwrap().number;
    for (door, flags, other) in [
        (0, 0x02, 0x01),
        (1, 0x01, 0x02),
        (0, 0xc2, 0x12),
        (1, 0x19, 0x04),
    ] {
        let told = scene.packet(ALICE, OURS, segment(7000, flags));
        assert_eq!(told, [format!("stage 1 at {door}")]);
        for wrong in [6000, trap] {
            let told = scene.packet(ALICE, OURS, segment(wrong, other));
            assert_eq!(told, [""; 0]);
        }
        assert_eq!(scene.hit(ALICE, udp(5000)), [format!("stage 2 at {door}")]);
        let told = scene.packet(ALICE, OURS, segment(6000, flags));
        assert_eq!(told, [format!("grant 3 at {door}")]);
    }
    assert_eq!(scene.knocks.common_flags(), None);
}

#[test]
fn common_flags_are_those_of_all_tcp_steps() {
    let fin = TcpFlags { mask: 1, value: 1 };
    let with = |n, steps: &[Port], flags| Watch {
        flags,
        ..door(n, steps)
    };
    let common = |watches| Scene::new(watches).knocks.common_flags();
    assert_eq!(common(vec![]), None);
    assert_eq!(common(vec![door(0, &[udp(5), udp(6)])]), None);
    assert_eq!(common(vec![door(0, &ssh())]), Some(TcpFlags::REQUEST));
    // The flags of a sequence of UDP alone do not matter.
    let mixed = vec![door(0, &ssh()), with(1, &[udp(5), udp(6)], fin)];
    assert_eq!(common(mixed), Some(TcpFlags::REQUEST));
    assert_eq!(common(vec![door(0, &ssh()), with(1, &ssh(), fin)]), None);
}

#[test]
fn only_packets_to_us_or_to_the_target_count() {
    let steps = [tcp(7000), tcp(5000), tcp(6000)];
    let behind = "203.0.113.80";
    let to_behind = Watch {
        target: Some(ip(behind)),
        ..door(1, &steps)
    };
    let mut scene = Scene::new(vec![door(0, &steps), to_behind]);
    let syn = |port: Port| What::Tcp {
        port: port.number,
        flags: SYN,
    };
    assert!(
        scene
            .packet(ALICE, "203.0.113.81", syn(steps[0]))
            .is_empty()
    );
    let told = scene.packet(ALICE, behind, syn(steps[0]));
    assert_eq!(told, ["stage 1 at 1"]);
    let told = scene.packet(ALICE, OURS, syn(steps[0]));
    assert_eq!(told, ["stage 1 at 0"]);
    // A wrong step elsewhere is none here.
    assert_eq!(scene.packet(ALICE, OURS, syn(steps[2])), ["fail 1 at 0"]);
    assert!(
        scene
            .packet(ALICE, "203.0.113.81", syn(steps[2]))
            .is_empty()
    );
    let told = scene.packet(ALICE, behind, syn(steps[1]));
    assert_eq!(told, ["stage 2 at 1"]);
    assert_eq!(scene.packet(ALICE, behind, syn(steps[2])), ["grant 3 at 1"]);
    // Any of our addresses, even one after the other.
    for (destination, step) in [(OURS, steps[0]), (ALSO_OURS, steps[1])] {
        scene.packet(ALICE, destination, syn(step));
    }
    assert_eq!(scene.packet(ALICE, OURS, syn(steps[2])), ["grant 3 at 0"]);
}

/// A gateway with one sequence for each of many machines behind it.
#[test]
fn a_thousand_targets_with_the_same_sequence() {
    let address = |n: u16| format!("203.0.{}.{}", 100 + n / 250, n % 250 + 1);
    let watches = (0..1000)
        .map(|n| Watch {
            target: Some(ip(&address(n))),
            ..door(n, &ssh())
        })
        .collect();
    let mut scene = Scene::new(watches);
    assert_eq!(scene.knocks.unwatched().count(), 0);
    // The same traps do for all.
    assert!(scene.knocks.ports().len() <= 4 + 24);
    for n in [0, 1, 500, 999] {
        let mut told = Vec::new();
        for step in ssh() {
            let what = match step.protocol {
                Protocol::Tcp => What::Tcp {
                    port: step.number,
                    flags: SYN,
                },
                Protocol::Udp => What::Udp {
                    port: step.number,
                    payload: &[],
                },
            };
            told = scene.packet(ALICE, &address(n), what);
        }
        assert_eq!(told, [format!("grant 4 at {n}")]);
    }
}

#[test]
fn one_step_is_granted_each_time() {
    let mut scene = Scene::new(vec![door(0, &[udp(5000)])]);
    for _ in 0..3 {
        assert_eq!(scene.hit(ALICE, udp(5000)), ["grant 1 at 0"]);
    }
    assert_eq!(scene.knocks.counters().held, 0);
}

#[test]
fn too_many_that_begin_alike_are_named() {
    let after = |n: u16| Watch {
        timeout: Duration::from_secs(u64::from(n) + 1),
        ..door(n, &ssh())
    };
    let mut scene = Scene::new((0..6).map(after).collect());
    let unwatched: Vec<u16> = scene.knocks.unwatched().map(|w| w.door).collect();
    assert_eq!(unwatched, [4, 5]);
    let last = scene.hits(ALICE, &ssh()).split_off(12);
    assert_eq!(
        last,
        [
            "grant 4 at 0",
            "grant 4 at 1",
            "grant 4 at 2",
            "grant 4 at 3"
        ]
    );
}

/// One packet may begin more attempts than a source may otherwise have.
#[test]
fn all_that_one_packet_begins_goes_on() {
    let alike = |n: u16, target| Watch {
        timeout: Duration::from_secs(u64::from(n % 3) + 1),
        target,
        ..door(n, &ssh())
    };
    let watches = (0..6).map(|n| alike(n, (n >= 3).then_some(ip(OURS))));
    let mut scene = Scene::new(watches.collect());
    assert_eq!(scene.knocks.unwatched().count(), 0);
    assert_eq!(scene.hit(ALICE, ssh()[0]).len(), 6);
    assert_eq!(scene.knocks.counters().held, 6);
    let last = scene.hits(ALICE, &ssh()[1..]).split_off(12);
    let expected: Vec<String> = (0..6).map(|n| format!("grant 4 at {n}")).collect();
    assert_eq!(last, expected);
}

#[test]
fn nobody_knocks_from_an_address_that_nobody_has() {
    let nobody = [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "127.255.0.1",
        "224.0.0.1",
        "239.255.255.250",
        "255.255.255.255",
        "::",
        "::1",
        "::192.0.2.7",
        "::ffff:192.0.2.7",
        "ff02::1",
        "ff00::1",
    ];
    let mut scene = Scene::new(vec![door(0, &ssh())]);
    for source in nobody {
        assert!(!can_knock(ip(source)), "{source}");
        assert!(scene.hits(source, &ssh()).is_empty(), "{source}");
    }
    let somebody = [
        "1.0.0.1",
        "10.0.0.1",
        "169.254.7.7",
        "240.0.0.1",
        "192.0.2.255",
        OURS,
        ALSO_OURS,
        "fe80::1",
        "fd00::1",
        "64:ff9b::c000:207",
    ];
    for source in somebody {
        assert!(can_knock(ip(source)), "{source}");
        assert_eq!(scene.hits(source, &ssh()).last().unwrap(), "grant 4 at 0");
    }
}

#[test]
fn a_door_hears_only_where_its_rules_apply() {
    let steps = [tcp(7001), tcp(8001)];
    let only = |n: u16, on| Watch {
        on,
        ..door(n, &steps)
    };
    let mut knocks = Knocks::new(
        vec![only(0, 0b01), only(1, 0b10), only(2, 0b11)],
        &[tcp(22)],
        [1, 2],
        64,
    );
    let mut now = 0;
    let mut opened = |at: [usize; 2]| {
        now += 60 * SECOND;
        let mut outcomes = Vec::new();
        for (&step, at) in steps.iter().zip(at) {
            let arrival = Arrival {
                time: Time(now),
                source: ip(ALICE),
                destination: ip(OURS),
                what: What::Tcp {
                    port: step.number,
                    flags: SYN,
                },
            };
            knocks.hear_at(at);
            knocks.arrive(&arrival, |a| a == ip(OURS), |o| outcomes.push(o));
        }
        let grants = outcomes.iter().filter(|o| o.kind == Kind::Grant);
        let mut doors: Vec<u16> = grants
            .flat_map(|o| knocks.watches(o).map(|w| w.door))
            .collect();
        doors.sort_unstable();
        doors
    };
    assert_eq!(opened([0, 0]), [0, 2]);
    assert_eq!(opened([1, 1]), [1, 2]);
    assert_eq!(opened([0, 1]), [2], "half here and half there");
    assert_eq!(opened([2, 2]), [0u16; 0]);
}
