//! Traps: where they are, and what sweeps make of sequences in spite of them.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::super::sequence::{key, port};
use super::super::sweep::{SWEEPS, Sweep};
use super::super::traps::{LOWEST, PER_FAMILY, SERVED};
use super::super::*;
use super::{Numbers, hit, outcomes, source, tcp, traps, udp, watch};
use crate::config::Protocol;

fn is_allowed(watches: &[Watch], avoid: &[Port], port: Port) -> bool {
    u32::from(port.number) >= LOWEST
        && !SERVED.contains(&port.number)
        && !avoid.contains(&port)
        && !watches.iter().any(|w| w.steps.contains(&port))
}

/// Whether some way from one step to the next, in the order of the sweep, has a port that
/// could be a trap.
fn leaves_a_gap(watches: &[Watch], avoid: &[Port], watch: &Watch, sweep: Sweep) -> bool {
    let turns: Option<Vec<u32>> = watch.steps.iter().map(|s| sweep.turn(key(*s))).collect();
    let Some(turns) = turns else { return true };
    turns.windows(2).any(|way| {
        let mut turn = way[0];
        loop {
            if turn == way[1] {
                return false;
            }
            let here = port(sweep.at(turn));
            let mut steps = watch.steps.iter();
            if steps.any(|s| s.protocol == here.protocol) && is_allowed(watches, avoid, here) {
                return true;
            }
            turn = (turn + 1) % sweep.len();
        }
    })
}

fn any_steps() -> impl Strategy<Value = Vec<Port>> {
    let protocols = prop_oneof![Just((1, 0)), Just((0, 1)), Just((1, 1))];
    let number = prop_oneof![
        4 => 1024u16..,
        1 => 1u16..1100,
        1 => 65_500u16..,
        3 => 7000u16..7040,
        2 => (3u16..60).prop_map(|n| n * 1000),
    ];
    protocols.prop_flat_map(move |(t, u)| {
        let one = (
            number.clone(),
            prop::bool::weighted(f64::from(t) / f64::from(t + u)),
        )
            .prop_map(|(n, is_tcp)| if is_tcp { tcp(n) } else { udp(n) });
        let up = prop::collection::vec(one, 1..6);
        let order = prop_oneof![2 => Just(0), 1 => Just(1), 1 => Just(2)];
        (up, order).prop_map(|(mut steps, order)| {
            match order {
                1 => steps.sort_by_key(|s| s.number),
                2 => steps.sort_by_key(|s| u16::MAX - s.number),
                _ => (),
            }
            steps
        })
    })
}

fn any_watches() -> impl Strategy<Value = Vec<Watch>> {
    (prop::collection::vec(any_steps(), 1..5), any::<bool>()).prop_map(|(all, alike)| {
        let first = all[0].clone();
        all.into_iter()
            .zip(0..)
            .map(|(mut steps, door)| {
                if alike && door > 0 {
                    steps.insert(0, first[0]);
                }
                Watch {
                    timeout: Duration::from_secs(3600),
                    ..watch(door, &steps)
                }
            })
            .collect()
    })
}

/// The doors that open when somebody tries, in the order of the sweep, all ports that matter:
/// each `tries` times, the whole `rounds` times.
fn opened_by(
    knocks: &mut Knocks,
    sweep: Sweep,
    from: u32,
    tries: u32,
    rounds: u32,
) -> BTreeSet<u16> {
    let mut turns: Vec<u32> = knocks
        .ports()
        .iter()
        .filter_map(|p| sweep.turn(key(*p)))
        .collect();
    turns.sort_unstable();
    let mut opened = BTreeSet::new();
    for _ in 0..rounds {
        for &turn in &turns {
            for _ in 0..tries {
                let arrival = hit(0, source(from), port(sweep.at(turn)));
                for outcome in outcomes(knocks, &arrival) {
                    if outcome.kind == Kind::Grant {
                        opened.extend(knocks.watches(&outcome).map(|w| w.door));
                    }
                }
            }
        }
    }
    opened
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_plain_sweep_opens_only_what_leaves_no_gap(
        watches in any_watches(),
        avoid in prop::collection::vec(7000u16..7040, 0..3),
    ) {
        let avoid: Vec<Port> = avoid.into_iter().map(tcp).collect();
        let mut knocks = Knocks::new(watches.clone(), &avoid, [1, 2], 1 << 10);
        let told: BTreeSet<u16> = knocks.swept().map(|(w, _)| w.door).collect();
        for watch in watches.iter().filter(|w| told.contains(&w.door)) {
            let mut sweeps = SWEEPS.into_iter();
            let hopeless = watch.steps.len() == 1
                || sweeps.any(|sweep| !leaves_a_gap(&watches, &avoid, watch, sweep));
            prop_assert!(hopeless, "{:?} could have been protected", watch.steps);
        }
        let mut from = 0;
        for sweep in SWEEPS {
            for (tries, rounds) in [(1, 2), (2, 1), (2, 2), (1, 8)] {
                from += 1;
                let opened = opened_by(&mut knocks, sweep, from, tries, rounds);
                prop_assert!(opened.is_subset(&told), "{opened:?} opened, {told:?} told");
            }
        }
    }

    #[test]
    fn traps_are_where_they_may_be(
        watches in any_watches(),
        avoid in prop::collection::vec(1024u16.., 0..50),
    ) {
        let mut avoid: Vec<Port> = avoid.into_iter().map(tcp).collect();
        let first = Knocks::new(watches.clone(), &avoid, [1, 2], 8);
        // What would have been traps must not be.
        avoid.extend(traps(&first).concat().iter().step_by(2));
        let knocks = Knocks::new(watches.clone(), &avoid, [1, 2], 8);
        let again = Knocks::new(watches.clone(), &avoid, [3, 4], 8);
        prop_assert_eq!(traps(&knocks), traps(&again));
        for (family, traps) in knocks.sequences.families.iter().zip(traps(&knocks)) {
            prop_assert!((20..=PER_FAMILY).contains(&traps.len()), "{} traps", traps.len());
            let of_family = || knocks.sequences.members(family).map(|m| port(m.0));
            for trap in traps {
                prop_assert!(is_allowed(&watches, &avoid, trap), "{trap:?}");
                let mut steps = of_family().filter(|p| watches.iter().any(|w| w.steps.contains(p)));
                prop_assert!(steps.any(|s| s.protocol == trap.protocol));
            }
        }
        let ports = knocks.ports();
        prop_assert!(ports.is_sorted());
        let members: BTreeSet<Port> = watches
            .iter()
            .flat_map(|w| w.steps.clone())
            .chain(traps(&knocks).concat())
            .collect();
        prop_assert_eq!(ports, members.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn sweeps_try_every_port_once() {
    for sweep in SWEEPS {
        for turn in 0..sweep.len() {
            assert_eq!(sweep.turn(sweep.at(turn)), Some(turn));
        }
    }
}

/// A trap beside each step where there is room, so that a sweep of a few ports around them is
/// no knock either.
#[test]
fn one_trap_close_above_and_one_close_below_each_step() {
    let steps = [tcp(7000), tcp(8000), tcp(9000), tcp(7005)];
    let knocks = Knocks::new(vec![watch(0, &steps)], &[], [0, 0], 8);
    let traps = &traps(&knocks)[0];
    let between = |low: u16, high: u16| traps.iter().any(|t| (low..=high).contains(&t.number));
    assert!(between(6992, 6999));
    assert!(between(7001, 7004));
    assert!(between(7006, 7013));
    for step in [8000u16, 9000] {
        assert!(
            between(step - 8, step - 1) && between(step + 1, step + 8),
            "{step}"
        );
    }
    assert_eq!(traps.len(), PER_FAMILY);
}

#[test]
fn a_thousand_doors_share_their_traps() {
    let mut numbers = Numbers(5);
    for clustered in [false, true] {
        let doors: Vec<Watch> = (0..1000)
            .map(|door| {
                let base = 2000 + door * 60;
                let steps: Vec<Port> = (0..4)
                    .map(|n| {
                        tcp(if clustered {
                            base + n * 10
                        } else {
                            1024 + numbers.below(64_000) as u16
                        })
                    })
                    .collect();
                watch(door, &steps)
            })
            .collect();
        let knocks = Knocks::new(doors, &[], [1, 2], 8);
        assert_eq!(knocks.swept().count(), 0);
        let traps = traps(&knocks);
        let least = traps.iter().map(Vec::len).min().unwrap();
        assert_eq!(least, PER_FAMILY);
        let all: BTreeSet<Port> = traps.concat().into_iter().collect();
        // Doors whose steps are close together need traps of their own.
        let most = if clustered { 2100 } else { 60 };
        assert!(all.len() <= most, "{}", all.len());
    }
}

/// How likely somebody opens one sequence of n steps, among t traps, who tries all ports once
/// in random order: after the first step must come the others in order, with no trap between.
/// So the n steps stand together among t traps, in (t + 1)! of the (t + n)! orders.
fn by_chance(steps: usize, traps: usize) -> f64 {
    (traps + 2..=traps + steps)
        .map(|n| 1.0 / n as f64)
        .product()
}

#[test]
fn a_random_sweep_opens_as_rarely_as_calculated() {
    let orders = 20_000;
    for steps in [
        vec![tcp(20_000), tcp(30_000)],
        vec![tcp(7000), udp(8000), tcp(9000)],
        vec![tcp(7143), udp(2912), tcp(39_001), tcp(16_044)],
    ] {
        let n = steps.len();
        let mut knocks = Knocks::new(vec![watch(0, &steps)], &[], [1, 2], 8);
        let mut ports = knocks.ports();
        assert_eq!(ports.len(), n + PER_FAMILY);
        let mut numbers = Numbers(1);
        let mut opened = 0;
        for _ in 0..orders {
            numbers.shuffle(&mut ports);
            for port in &ports {
                for outcome in outcomes(&mut knocks, &hit(0, source(1), *port)) {
                    opened += usize::from(outcome.kind == Kind::Grant);
                }
            }
            // Another scanner.
            let later = Time(knocks.now.0 + 6_000_000);
            knocks.expire(later, |_| ());
        }
        let expected = by_chance(n, PER_FAMILY) * f64::from(orders);
        let deviation = expected.sqrt();
        let off = (opened as f64 - expected).abs();
        assert!(
            off <= 4.0 * deviation + 1.0,
            "{opened} opened, {expected:.1} expected"
        );
    }
    // 1 in 26, 1 in 702, 1 in 19,656.
    let odds = [2, 3, 4].map(|n| (1.0 / by_chance(n, PER_FAMILY)).round());
    assert_eq!(odds, [26.0, 702.0, 19_656.0]);
}

#[test]
fn tells_what_no_trap_can_protect() {
    assert_eq!(swept(&[tcp(7000), tcp(8000), tcp(9000)]), None);
    assert_eq!(
        swept(&[tcp(7143), udp(2912), tcp(39_001), tcp(16_044)]),
        None
    );
    assert_eq!(swept(&[tcp(7000)]), Some("any packet to its port"));
    assert_eq!(
        swept(&[tcp(7000), tcp(7001), tcp(7002)]),
        Some("TCP ports upwards")
    );
    assert_eq!(swept(&[udp(7002), udp(7001)]), Some("UDP ports downwards"));
    assert_eq!(
        swept(&[tcp(7000), udp(7000)]),
        Some("ports upwards, each by TCP and UDP")
    );
    // There are no traps among the low ports.
    assert_eq!(
        swept(&[tcp(100), tcp(200), tcp(300)]),
        Some("TCP ports upwards")
    );
    assert_eq!(swept(&[tcp(100), tcp(300), tcp(200)]), None);
    // A port that does not answer is tried again.
    assert_eq!(swept(&[tcp(7000), tcp(7000)]), Some("TCP ports upwards"));
    assert_eq!(swept(&[]), None);
}

/// From the last port to a low one there is room for a trap only in the other protocol.
#[test]
fn traps_are_of_the_protocols_of_the_steps() {
    for (steps, protocol) in [
        ([tcp(65_535), tcp(50)], Protocol::Tcp),
        ([udp(50), udp(65_535)], Protocol::Udp),
    ] {
        let knocks = Knocks::new(vec![watch(0, &steps)], &[], [0, 0], 8);
        assert!(knocks.ports().iter().all(|p| p.protocol == protocol));
    }
}

#[test]
fn a_whole_configuration_can_take_the_room() {
    let one = watch(1, &[tcp(7000), tcp(7002)]);
    assert_eq!(
        Knocks::new(vec![one.clone()], &[], [0, 0], 8)
            .swept()
            .count(),
        0
    );
    let avoid = [tcp(7001)];
    let knocks = Knocks::new(vec![one.clone()], &avoid, [0, 0], 8);
    let all: Vec<(u16, &str)> = knocks.swept().map(|(w, how)| (w.door, how)).collect();
    assert_eq!(all, [(1, "TCP ports upwards")]);
    let knocks = Knocks::new(vec![watch(0, &[tcp(7001), tcp(50)]), one], &[], [0, 0], 8);
    let all: Vec<u16> = knocks.swept().map(|(w, _)| w.door).collect();
    assert_eq!(all, [1]);
}

/// Whether a source that tries these opens anything.
fn opens(knocks: &mut Knocks, from: u32, ports: impl IntoIterator<Item = Port>) -> bool {
    let mut opened = false;
    for port in ports {
        let told = outcomes(knocks, &hit(0, source(from), port));
        opened |= told.iter().any(|o| o.kind == Kind::Grant);
    }
    opened
}

fn ssh() -> Vec<Port> {
    vec![tcp(7143), udp(2912), tcp(39_001), tcp(16_044)]
}

/// Every port by every protocol, in the orders that people try them, each as often as they do.
#[test]
fn sweeps_of_all_ports_open_nothing() {
    let up = 1..=u16::MAX;
    let numbers: [Vec<u16>; 2] = [up.clone().collect(), up.rev().collect()];
    let mut sweeps: Vec<Vec<Port>> = Vec::new();
    for numbers in &numbers {
        let t = || numbers.iter().map(|n| tcp(*n));
        let u = || numbers.iter().map(|n| udp(*n));
        sweeps.push(t().collect());
        sweeps.push(u().collect());
        sweeps.push(t().chain(u()).collect());
        sweeps.push(u().chain(t()).collect());
        sweeps.push(t().zip(u()).flat_map(|(a, b)| [a, b]).collect());
        sweeps.push(u().zip(t()).flat_map(|(a, b)| [a, b]).collect());
        // A port that does not answer is tried again.
        sweeps.push(t().flat_map(|a| [a, a]).collect());
    }
    let watches = vec![
        watch(0, &[tcp(7000), tcp(8000), tcp(9000)]),
        watch(1, &[tcp(9000), tcp(8000), tcp(7000)]),
        watch(2, &ssh()),
        watch(3, &[udp(100), udp(200), udp(2000)]),
        watch(4, &[udp(5000), tcp(4000), tcp(5000)]),
        watch(5, &[tcp(40_000), tcp(40_002)]),
        watch(6, &[udp(40_003), udp(40_001)]),
        watch(7, &[tcp(65_533), udp(65_533), udp(65_535)]),
        watch(8, &[tcp(60_000), udp(60_000), tcp(50_000)]),
        watch(9, &[tcp(30_000), tcp(30_000), tcp(30_002)]),
    ];
    let mut knocks = Knocks::new(watches, &[], [1, 2], 1 << 12);
    assert_eq!(knocks.swept().collect::<Vec<_>>(), []);
    for (n, sweep) in (0..).zip(&sweeps) {
        for _ in 0..2 {
            let opened = opens(&mut knocks, n, sweep.iter().copied());
            assert!(!opened, "sweep {n}");
        }
    }
    assert!(knocks.counters().trapped > 0);
}

/// As nmap goes about it: its favourites first, then the others, each part in random order,
/// those that do not answer again later.
#[test]
fn a_random_sweep_opens_nothing() {
    let favourites = [7000, 8000, 9000, 8080, 5000, 2000, 3000, 443, 80, 22, 1723];
    let mut numbers = Numbers(20);
    let watches = vec![
        watch(0, &[tcp(7000), tcp(8000), tcp(9000), tcp(10_001)]),
        watch(1, &ssh()),
    ];
    let mut knocks = Knocks::new(watches, &[], [1, 2], 1 << 12);
    for n in 0..20 {
        let mut first = favourites.map(tcp);
        let mut rest: Vec<Port> = (1..=u16::MAX)
            .filter(|p| !favourites.contains(p))
            .map(tcp)
            .collect();
        numbers.shuffle(&mut first);
        numbers.shuffle(&mut rest);
        let batches = first.chunks(11).chain(rest.chunks(100));
        let again = batches.flat_map(|batch| batch.iter().chain(batch));
        assert!(!opens(&mut knocks, n, again.copied()));
    }
}
