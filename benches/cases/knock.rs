//! Arrivals -> grants, in the midst of a flood: where time goes on, it goes on so fast that as many
//! attempts end as begin, and their number stays.

use std::collections::HashSet;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use postern::config::{Pattern, Port, Protocol, TcpFlags};
use postern::knock::{EVERYWHERE, Knocks, MAX_STEPS, PingWatch, Watch};
use postern::packet::{Arrival, Link, What, parse};
use postern::time::Time;

use super::{Case, packet, several, source};

/// As many as posternd holds.
const CAPACITY: usize = 1 << 20;
const TIMEOUT: Duration = Duration::from_secs(5);
/// The steps of a door's sequence, as `posternctl keygen` makes them.
const STEPS: u64 = 4;
const SYN: u8 = 0x02;
/// Attempts by which every page of the table has been written to.
const TOUCHED: u64 = 150_000;
/// Attempts that are held where their number is not what matters.
const SOME: u64 = 100_000;

const ATTEMPTS: [u64; 4] = [0, 1_000, 100_000, 1_000_000];

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for doors in [1, 1_000] {
        cases.push(case("another port", SOME, doors, |attempts, doors| {
            let mut scene = Scene::new(doors, attempts);
            let port = scene.other_port();
            move || scene.in_between(port)
        }));
    }
    for (attempts, doors) in ATTEMPTS.map(|n| (n, 1)).into_iter().chain(more_doors()) {
        cases.push(case("first port", attempts, doors, |attempts, doors| {
            let mut scene = Scene::new(doors, attempts);
            move || scene.first_of_next()
        }));
    }
    cases.push(case("first port, from the frame on", SOME, 1, from_frame));
    for (attempts, doors) in ATTEMPTS[1..].iter().map(|n| (*n, 1)).chain(more_doors()) {
        cases.push(case("next step", attempts, doors, next_step));
    }
    for doors in [1, 1_000] {
        cases.push(case("second port alone", SOME, doors, |attempts, doors| {
            let mut scene = Scene::new(doors, attempts);
            move || scene.in_between(step(0, 1))
        }));
    }
    for doors in [1, 1_000] {
        cases.push(case("first port, then a trap", SOME, doors, then_a_trap));
    }
    for doors in [1, 100] {
        cases.push(case("a ping's right secret", 0, doors, |_, doors| {
            ping(doors, true)
        }));
        cases.push(case("a ping's wrong secret", 0, doors, |_, doors| {
            ping(doors, false)
        }));
    }
    cases
}

fn case<A: FnMut() + 'static>(
    what: &str,
    attempts: u64,
    doors: u64,
    make: fn(u64, u64) -> A,
) -> Case {
    let (held, at) = (several(attempts, "attempt"), several(doors, "door"));
    Case::new(format!("{what}, {held}, {at}"), move || {
        make(attempts, doors)
    })
}

fn more_doors() -> impl Iterator<Item = (u64, u64)> {
    [10, 100, 1_000].into_iter().map(|doors| (SOME, doors))
}

/// What [`Scene::first_of_next`] does, from the frame on.
fn from_frame(attempts: u64, doors: u64) -> impl FnMut() {
    let mut scene = Scene::new(doors, attempts);
    let mut frame = packet::syn(Link::Ethernet, Ipv4Addr::UNSPECIFIED, step(0, 0));
    move || {
        frame[26..30].copy_from_slice(&source(scene.count).to_be_bytes());
        let time = scene.next_time();
        if let Some(arrival) = parse(time, Link::Ethernet, black_box(&frame)) {
            scene.arrive(&arrival);
        }
    }
}

/// Sources that go through the longest sequence, all in turn: of 32 packets one begins an attempt
/// and one completes it.
fn next_step(attempts: u64, doors: u64) -> impl FnMut() {
    let steps = MAX_STEPS as u64;
    let mut scene = Scene::with(watches(doors, steps), 0);
    let mut count = 0;
    let mut go_on = move || {
        let (source, stage) = (count % attempts, count / attempts % steps);
        count += 1;
        let at = (source % doors) * steps + stage;
        scene.packet(source, port(at), Time(1));
        scene.knocks.counters()
    };
    for _ in 1..attempts {
        go_on();
    }
    let held = go_on().held;
    assert!(held * 4 >= attempts * 3 && held <= attempts, "{held}");
    move || {
        go_on();
    }
}

fn then_a_trap(attempts: u64, doors: u64) -> impl FnMut() {
    let mut scene = Scene::new(doors, attempts);
    let ports = scene.knocks.ports_of(0, 0);
    let steps: Vec<u16> = (0..STEPS).map(|stage| step(0, stage)).collect();
    let trap = ports.iter().find(|port| !steps.contains(&port.number));
    let trap = trap.expect("a door has traps").number;
    let mut begun = false;
    let mut one = move || {
        // The same source again, at once.
        let (source, port) = match begun {
            false => (scene.count, step(0, 0)),
            true => (scene.count - 1, trap),
        };
        if !begun {
            scene.next_time();
        }
        begun = !begun;
        scene.packet(source, port, scene.now);
        scene.knocks.counters()
    };
    one();
    assert_eq!(one().trapped, 1);
    move || {
        one();
    }
}

fn ping(doors: u64, right: bool) -> impl FnMut() {
    let watches = (0..doors).map(|door| PingWatch {
        door: door as u16,
        knock: 0,
        secret: Pattern([door as u8 + 1; 16]),
        offsets: None,
        target: None,
        on: EVERYWHERE,
    });
    let mut scene = Scene::new(1, 0);
    scene.knocks.hear_pings(watches.collect());
    // As Linux's ping(8) sends it: a time stamp of 16 bytes, then the pattern over and over.
    let mut payload = vec![0; 56];
    payload[16..].fill(if right { doors as u8 } else { 0xff });
    let mut one = move || {
        let arrival = Arrival {
            time: Time(1),
            source: Ipv4Addr::from(source(scene.count)).into(),
            destination: scene.us,
            what: What::Echo {
                payload: black_box(&payload),
            },
        };
        scene.count += 1;
        scene.arrive(&arrival);
        scene.knocks.counters()
    };
    assert_eq!(one().granted, u64::from(right));
    move || {
        one();
    }
}

/// The Nth of all ports that a sequence can have here, in no order.
fn port(n: u64) -> u16 {
    1024 + (n * 25_033 % 64_512) as u16
}

/// A step of a door with [`STEPS`].
fn step(door: u64, stage: u64) -> u16 {
    port(door * STEPS + stage)
}

fn watches(doors: u64, steps: u64) -> Vec<Watch> {
    let step = |at| Port {
        protocol: Protocol::Tcp,
        number: port(at),
    };
    let watch = |door| Watch {
        door: door as u16,
        knock: 0,
        line: 0,
        steps: (door * steps..(door + 1) * steps).map(step).collect(),
        timeout: TIMEOUT,
        flags: TcpFlags::REQUEST,
        target: None,
        on: EVERYWHERE,
    };
    (0..doors).map(watch).collect()
}

struct Scene {
    knocks: Knocks,
    us: IpAddr,
    /// Our addresses, as the listener has them.
    /// Sorted, as the listener has them.
    ours: Vec<IpAddr>,
    now: Time,
    /// From one source to the next.
    pause: u64,
    /// Sources so far.
    count: u64,
}

impl Scene {
    /// So many doors, with about as many attempts held at the first.
    fn new(doors: u64, attempts: u64) -> Scene {
        let mut scene = Scene::with(watches(doors, STEPS), attempts);
        for _ in 0..(attempts + attempts / 8).max(TOUCHED) {
            scene.first_of_next();
        }
        let held = scene.knocks.counters().held;
        // A table that is nearly full has parts that are.
        assert!(
            held * 4 >= attempts * 3 && held <= attempts.max(1),
            "{held}"
        );
        scene
    }

    fn with(watches: Vec<Watch>, attempts: u64) -> Scene {
        let us = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
        let also = "2001:db8::1".parse().expect("an address");
        let avoid = Port {
            protocol: Protocol::Tcp,
            number: 22,
        };
        let longer = TIMEOUT.as_micros() as u64 + 1_000;
        Scene {
            knocks: Knocks::new(watches, &[avoid], [0x1234, 0x5678], CAPACITY),
            us,
            ours: vec![us.min(also), us.max(also)],
            now: Time(1),
            pause: longer.div_ceil(attempts.max(1)),
            count: 0,
        }
    }

    /// A port that concerns nobody.
    fn other_port(&self) -> u16 {
        let ports = self.knocks.ports();
        let numbers: HashSet<u16> = ports.iter().map(|port| port.number).collect();
        let mut others = (1024..).filter(|number| !numbers.contains(number));
        others.next().expect("not all ports are steps")
    }

    /// Another source, later.
    fn next_time(&mut self) -> Time {
        self.count += 1;
        self.now = Time(self.now.0 + self.pause);
        self.now
    }

    /// Another source at the first port: it begins an attempt, and another ends.
    fn first_of_next(&mut self) {
        let source = self.count;
        let time = self.next_time();
        self.packet(source, step(0, 0), time);
    }

    /// Another source at another port, while no time passes.
    fn in_between(&mut self, port: u16) {
        self.count += 1;
        self.packet(self.count, port, self.now);
    }

    fn packet(&mut self, from: u64, port: u16, time: Time) {
        self.arrive(&Arrival {
            time,
            source: Ipv4Addr::from(source(from)).into(),
            destination: self.us,
            what: What::Tcp { port, flags: SYN },
        });
    }

    fn arrive(&mut self, arrival: &Arrival<'_>) {
        let ours = &self.ours;
        self.knocks.arrive(
            black_box(arrival),
            |a| ours.binary_search(&a).is_ok(),
            |outcome| {
                black_box(outcome);
            },
        );
    }
}
