//! Forged packets in numbers: whose attempt gives way, and what is left of the others.

use super::super::*;
use super::{Numbers, hit, outcomes, source, tcp, udp, watch};

const STEPS: [Port; 3] = [tcp(20001), tcp(30001), udp(10001)];

/// Places in the table here; posternd's has 64 times as many.
const CAPACITY: usize = 1 << 14;
const SCALE: u64 = 64;

/// A knock's steps come at these times, in microseconds from its first.
const GAPS: [u64; 3] = [0, 150_000, 300_000];

/// One of a thousand knocks begins each so many microseconds.
const EVERY: u64 = 2_000;

/// How many of a thousand knocks open under a flood of `rate` packets a second, each of which is
/// what `forged` makes of its number, into a table of posternd's size. (What counts is how many
/// come to one bucket, so both are made smaller alike.)
fn opened(rate: u64, timeout: Duration, forged: impl Fn(&mut Numbers, u64) -> (u32, Port)) -> u64 {
    let watches = vec![Watch {
        timeout,
        ..watch(0, &STEPS)
    }];
    let mut knocks = Knocks::new(watches, &[], [5, 6], CAPACITY);
    let mut numbers = Numbers(rate);
    let mut knockers: Vec<(u64, u32, Port)> = Vec::new();
    // The table has been full for a while.
    let full = 3 * (CAPACITY as u64 * SCALE) * 1_000_000 / rate;
    for n in 0..1000 {
        for (gap, step) in GAPS.into_iter().zip(STEPS) {
            knockers.push((full + u64::from(n) * EVERY + gap, n, step));
        }
    }
    knockers.sort_unstable_by_key(|knocker| knocker.0);
    let mut granted = 0;
    let mut sent = 0;
    for (time, knocker, step) in knockers {
        while sent * SCALE * 1_000_000 / rate < time {
            let (from, port) = forged(&mut numbers, sent);
            let time = sent * SCALE * 1_000_000 / rate;
            knocks.arrive(&hit(time, source(from), port), |_| true, |_| ());
            sent += 1;
        }
        let last = outcomes(&mut knocks, &hit(time, source(0x00f0_0000 + knocker), step));
        granted += last.iter().filter(|o| o.kind == Kind::Grant).count() as u64;
        assert!(knocks.counters().held <= CAPACITY as u64);
    }
    granted
}

/// Another source with each number, none of them a knocker's.
fn anybody(numbers: &mut Numbers) -> u32 {
    numbers.next() as u32 & 0x007f_ffff
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn knocks_open_under_forged_first_steps() {
    let first = |numbers: &mut Numbers, _| (anybody(numbers), STEPS[0]);
    assert_eq!(opened(200_000, MINUTE, first), 1000);
    let opened = opened(1_000_000, MINUTE, first);
    assert!(opened >= 999, "{opened}");
}

/// Whoever knows the first two fills the table with attempts further along than a knock begins.
#[test]
fn knocks_open_under_forged_first_and_second_steps() {
    let both = |_: &mut Numbers, n: u64| {
        let from = (n / 2).wrapping_mul(0x9e37_79b9) & 0x007f_ffff;
        (from as u32, STEPS[n as usize % 2])
    };
    assert_eq!(opened(200_000, MINUTE, both), 1000);
    let opened = opened(1_000_000, MINUTE, both);
    assert!(opened >= 999, "{opened}");
}

#[test]
fn knocks_open_under_steps_of_all_kinds_from_few_sources() {
    let any = |numbers: &mut Numbers, _| {
        let from = numbers.below(CAPACITY) as u32;
        (from, STEPS[numbers.below(3)])
    };
    assert_eq!(opened(200_000, MINUTE, any), 1000);
    let opened = opened(1_000_000, MINUTE, any);
    assert!(opened >= 999, "{opened}");
}

/// All in one bucket, which is full: two at the second step, six at the first.
#[test]
fn the_attempt_that_has_had_most_time_a_step_gives_way() {
    let mut knocks = Knocks::new(vec![watch(0, &STEPS)], &[], [5, 6], 8);
    for n in 0..8 {
        outcomes(
            &mut knocks,
            &hit(u64::from(n) * 100_000, source(n), STEPS[0]),
        );
    }
    for n in 0..2 {
        outcomes(&mut knocks, &hit(800_000, source(n), STEPS[1]));
    }
    // At 950 ms they have had 475, 425, 750, 650, 550, 450, 350 and 250 ms a step, and what comes
    // takes the place of 2, 3, 4, 0 and 5.
    for n in 10..15 {
        outcomes(&mut knocks, &hit(950_000, source(n), STEPS[0]));
    }
    assert_eq!(knocks.counters().evicted, 5);
    let on = |knocks: &mut Knocks, n| {
        let stage = if n < 2 { 2 } else { 1 };
        !outcomes(knocks, &hit(950_000, source(n), STEPS[stage])).is_empty()
    };
    let left: Vec<u32> = (0..15).filter(|n| on(&mut knocks, *n)).collect();
    assert_eq!(left, [1, 6, 7, 10, 11, 12, 13, 14]);
}

/// What a source has begun costs none of what it has taken further.
#[test]
fn of_a_sources_own_attempts_those_at_the_first_step_give_way() {
    let doors: Vec<Watch> = (0..6)
        .map(|n| watch(n, &[tcp(3000 + n * 100), tcp(30_000 + n * 100), tcp(200)]))
        .collect();
    let firsts = doors.iter().map(|d| d.steps[0]).collect::<Vec<_>>();
    let second = doors[0].steps[1];
    let mut knocks = Knocks::new(doors, &[], [5, 6], 64);
    outcomes(&mut knocks, &hit(0, source(1), firsts[0]));
    outcomes(&mut knocks, &hit(1000, source(1), second));
    for (n, first) in firsts.iter().enumerate().skip(1) {
        outcomes(&mut knocks, &hit(n as u64 * 1_000_000, source(1), *first));
    }
    let last = outcomes(&mut knocks, &hit(5_000_000, source(1), tcp(200)));
    assert!(last.iter().any(|o| o.kind == Kind::Grant), "{last:?}");
}
