//! How long an arrival takes. By hand, since a time proves nothing in a test:
//! `cargo test --release --lib knock::tests::speed -- --ignored --nocapture`

use std::time::Instant;

use super::super::*;
use super::{Numbers, hit, source, tcp, watch};

fn resident_mib() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = pages
        .split(' ')
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    pages * 4 / 1024
}

#[test]
#[ignore = "prints times, asserts nothing"]
fn arrivals() {
    for doors in [1u16, 1000] {
        for attempts in [0usize, 1_000_000] {
            measure(doors, attempts);
        }
    }
}

fn measure(doors: u16, attempts: usize) {
    let mut numbers = Numbers(3);
    let watches: Vec<Watch> = (0..doors)
        .map(|door| {
            let steps: Vec<Port> = (0..4)
                .map(|_| tcp(1024 + numbers.below(64_000) as u16))
                .collect();
            Watch {
                timeout: Duration::from_secs(25),
                ..watch(door, &steps)
            }
        })
        .collect();
    let firsts: Vec<Port> = watches.iter().map(|w| w.steps[0]).collect();
    let built = Instant::now();
    let before = resident_mib();
    let mut knocks = Knocks::new(watches, &[], [1, 2], 1 << 20);
    println!(
        "{doors} doors, {attempts} attempts: built in {:?}, {} MiB resident, {} ports",
        built.elapsed(),
        resident_mib() - before,
        knocks.ports().len()
    );
    let mut micros = 0;
    let mut run =
        |what: &str, count: usize, arrivals: &mut dyn FnMut(usize) -> Arrival<'static>| {
            let all: Vec<Arrival> = (0..count).map(arrivals).collect();
            let mut told = 0u64;
            let began = Instant::now();
            for arrival in &all {
                knocks.arrive(arrival, |a| a == super::OURS, |_| told += 1);
            }
            let each = began.elapsed().as_nanos() as f64 / count as f64;
            let counters = knocks.counters();
            println!(
                "  {what:44} {each:6.1} ns, {told} outcomes, {} held",
                counters.held
            );
        };
    if attempts > 0 {
        run("filling, other sources, first step", attempts, &mut |n| {
            micros += 1;
            hit(micros, source(n as u32), firsts[n % firsts.len()])
        });
    }
    run("a port that is nobody's", 1_000_000, &mut |_| {
        micros += 1;
        hit(micros, source(1), tcp(1))
    });
    run(
        "other sources, flags that do not fit",
        1_000_000,
        &mut |_| {
            micros += 1;
            let from = source(1 << 22 | numbers.next() as u32 & 0xfffff);
            Arrival {
                what: What::Tcp {
                    port: firsts[0].number,
                    flags: 0x10,
                },
                ..hit(micros, from, tcp(1))
            }
        },
    );
    if attempts > 0 {
        run(
            "a million known sources, first step again",
            1_000_000,
            &mut |_| {
                micros += 1;
                let n = numbers.next() as u32 % 1_000_000;
                hit(micros, source(n), firsts[n as usize % firsts.len()])
            },
        );
        run("new sources, first step, table full", 1_000_000, &mut |n| {
            micros += 1;
            hit(micros, source(1 << 21 | n as u32), firsts[n % firsts.len()])
        });
        run(
            "new sources, first step, others timing out",
            1_000_000,
            &mut |n| {
                micros += 30;
                hit(micros, source(1 << 22 | n as u32), firsts[n % firsts.len()])
            },
        );
    } else {
        run("one source, first step", 1_000_000, &mut |_| {
            micros += 1;
            hit(micros, source(1), firsts[0])
        });
    }
}
