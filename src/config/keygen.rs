//! New sequences.

use super::{Port, Protocol, bounds, check, services, units};

/// How many steps a sequence has when nobody says.
pub const STEPS: usize = 5;

/// The ports that steps are drawn from: not privileged, and below Linux's ephemeral range. (In
/// FreeBSD's, which begins at 10000, a TCP connection request meets nobody by chance: TCP's
/// answers carry no such flags.)
const PORTS: std::ops::RangeInclusive<u16> = 1024..=32767;

/// How far apart two steps are at least, in order that traps fit between any two.
const GAP: u16 = 16;

/// A sequence of `steps` steps (1 to 32; what lies outside is brought inside) from random
/// numbers, all equally likely. TCP only, since many networks let no UDP out. No port of a
/// common service, none of the textbook, none twice; at least 16 apart; from three steps on
/// neither rising nor falling throughout, so that a port sweep does not meet them in order.
pub fn sequence(steps: usize, mut random: impl FnMut() -> u32) -> Vec<Port> {
    let steps = steps.clamp(*bounds::STEPS.start(), *bounds::STEPS.end());
    let mut free: Vec<u16> = PORTS.filter(|&port| usable(port)).collect();
    let mut drawn: Vec<u16> = Vec::with_capacity(steps);
    while drawn.len() < steps {
        // At most 2^-17 less or more likely than any other.
        let at = (u64::from(random()) * free.len() as u64) >> 32;
        let Some(&port) = usize::try_from(at).ok().and_then(|at| free.get(at)) else {
            break;
        };
        let from = free.partition_point(|&other| other + GAP <= port);
        let to = free.partition_point(|&other| other < port + GAP);
        free.drain(from..to);
        drawn.push(port);
    }
    if drawn.len() > 2 && (drawn.is_sorted() || drawn.iter().rev().is_sorted()) {
        drawn.swap(0, 1);
    }
    let port = |number| Port {
        protocol: Protocol::Tcp,
        number,
    };
    drawn.into_iter().map(port).collect()
}

fn usable(port: u16) -> bool {
    services::at(port).is_none() && !check::in_a_textbook(port)
}

/// How many bits of entropy a sequence of `steps` steps has at least: the likeliest one is no
/// likelier than one in two to this power.
pub fn bits(steps: usize) -> f64 {
    let steps = steps.clamp(*bounds::STEPS.start(), *bounds::STEPS.end());
    let free = PORTS.filter(|&port| usable(port)).count();
    let lost = usize::from(2 * GAP - 1);
    // The swap of a rising or falling sequence makes its outcome twice as likely.
    let swap = if steps > 2 { 1.0 } else { 0.0 };
    (0..steps)
        .map(|taken| ((free - taken * lost) as f64).log2())
        .sum::<f64>()
        - swap
}

/// The line for a `[[door.NAME.knock]]`: `sequence = ["7143", "2912/udp"]`.
pub fn toml_line(steps: &[Port]) -> String {
    let steps: Vec<String> = steps
        .iter()
        .map(|&step| format!("\"{}\"", units::short_port(step)))
        .collect();
    format!("sequence = [{}]", steps.join(", "))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_sequence_is_a_good_one(steps in 1..=32usize, seed: Vec<u32>) {
            // Short seeds recur: also a broken source of randomness must come to an end.
            let mut seed = seed.into_iter().chain([0]).cycle();
            let drawn = sequence(steps, || seed.next().unwrap());
            prop_assert_eq!(drawn.len(), steps);
            for (at, step) in drawn.iter().enumerate() {
                prop_assert_eq!(step.protocol, Protocol::Tcp);
                prop_assert!((1024..=32767).contains(&step.number));
                prop_assert!(services::at(step.number).is_none());
                for other in &drawn[..at] {
                    prop_assert!(step.number.abs_diff(other.number) >= 16);
                }
            }
            if steps > 2 {
                let rises = drawn.windows(2).filter(|pair| pair[0] < pair[1]).count();
                prop_assert!(rises > 0 && rises < steps - 1);
            }
        }
    }

    #[test]
    fn a_constant_source_gives_sequences_too() {
        for number in [0, 1, u32::MAX / 2, u32::MAX] {
            assert_eq!(sequence(32, || number).len(), 32);
        }
    }

    #[test]
    fn the_whole_range_is_drawn_from() {
        let first = |number| sequence(1, || number)[0].number;
        assert_eq!((first(0), first(u32::MAX)), (1024, 32767));
        // 2^32 / 31,600 ports is some 136,000 numbers a port.
        let number = |at: u32| (1u32 << 31) + at * 1_000_000;
        let met: Vec<u16> = (0..50).map(|at| first(number(at))).collect();
        let near = |pair: &[u16]| pair[0] < pair[1] && pair[1] < pair[0] + 12;
        assert!(met.windows(2).all(near), "{met:?}");
    }

    #[test]
    fn entropy() {
        let free = PORTS.filter(|&port| usable(port)).count() as f64;
        assert!(free > 31_000.0);
        assert_eq!(bits(1), free.log2());
        assert_eq!(bits(2), free.log2() + (free - 31.0).log2());
        assert!((72.0..75.0).contains(&bits(STEPS)), "{}", bits(STEPS));
        assert_eq!(bits(0), bits(1));
        assert_eq!(bits(99), bits(32));
    }

    #[test]
    fn the_line() {
        let steps = [7143, 39001].map(|number| Port {
            protocol: Protocol::Tcp,
            number,
        });
        let udp = Port {
            protocol: Protocol::Udp,
            number: 2912,
        };
        let line = toml_line(&[steps[0], udp, steps[1]]);
        assert_eq!(line, r#"sequence = ["7143", "2912/udp", "39001"]"#);
    }
}
