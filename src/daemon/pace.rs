//! How long to let packets gather before they are read.
//!
//! To be woken costs as much as fifty packets or more do. Who is woken for each of a flood's
//! pays for that, however little the packet itself costs; who naps first finds many.

use std::time::Duration;

use crate::time::Time;

/// Fewer packets a second than this are heard at once, each. No knock comes near, and no number
/// of people who knock.
const FEW: u64 = 1000;
/// How many a nap is to bring. The kernel's buffer holds many times as many
/// ([`crate::capture`]).
const MANY: u64 = 512;
/// What a nap adds to the time from a knock to its door at most.
const LONGEST: Duration = Duration::from_millis(10);
/// poll(2) counts in these.
const SHORTEST: Duration = Duration::from_millis(1);
/// How long packets are counted before it is said how fast they come.
const WINDOW: Duration = Duration::from_millis(50);

/// How fast packets come.
#[derive(Default)]
pub(super) struct Pace {
    since: Time,
    packets: u64,
    nap: Duration,
}

impl Pace {
    /// So many packets have been read by now.
    pub(super) fn read(&mut self, now: Time, packets: u64) {
        self.packets += packets;
        let passed = now.since(self.since);
        if passed < WINDOW {
            return;
        }
        let micros = u64::try_from(passed.as_micros()).unwrap_or(u64::MAX);
        self.nap = match self.packets.saturating_mul(1_000_000) / micros {
            ..FEW => Duration::ZERO,
            rate => Duration::from_micros(MANY * 1_000_000 / rate).clamp(SHORTEST, LONGEST),
        };
        (self.since, self.packets) = (now, 0);
    }

    /// How long to nap before packets are read again, when some have just been.
    pub(super) fn nap(&self) -> Duration {
        self.nap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads what comes at a rate, as soon as a nap is over, for a second; the longest nap and
    /// the most that one brought after the first window, and how many there were.
    fn at(rate: u64) -> (Duration, u64, u64) {
        let (mut pace, mut now, mut read) = (Pace::default(), 60_000_000, 0);
        let (mut longest, mut most, mut naps) = (Duration::ZERO, 0, 0);
        let begun = now;
        while now < begun + 1_000_000 {
            let nap = pace.nap();
            let wait = (nap.as_micros() as u64).max(1_000_000 / rate).max(20);
            now += wait;
            let here = (now - begun) * rate / 1_000_000 - read;
            read += here;
            pace.read(Time(now), here);
            if now > begun + 100_000 {
                longest = longest.max(nap);
                most = most.max(here);
                naps += u64::from(!nap.is_zero());
            }
        }
        (longest, most, naps)
    }

    #[test]
    fn few_packets_are_heard_at_once() {
        for rate in [1, 10, 100, 500, 900] {
            assert_eq!(at(rate), (Duration::ZERO, at(rate).1, 0), "{rate}");
            assert!(at(rate).1 <= 1, "{rate}");
        }
    }

    #[test]
    fn a_nap_brings_many_and_never_more_than_a_buffer_holds() {
        for rate in [2000, 5000, 20_000, 100_000, 500_000, 2_000_000] {
            let (longest, most, naps) = at(rate);
            assert!(naps > 0 && longest <= LONGEST, "{rate}: {longest:?}");
            assert!(most >= MANY.min(rate / 110), "{rate}: {most}");
            assert!(most <= 2 * MANY.max(rate / 1000), "{rate}: {most}");
        }
    }

    #[test]
    fn a_flood_that_is_over_is_over() {
        let mut pace = Pace::default();
        for n in 0..200 {
            pace.read(Time(60_000_000 + n * 1000), 100);
        }
        assert_eq!(pace.nap(), Duration::from_micros(5120));
        pace.read(Time(70_000_000), 1);
        assert_eq!(pace.nap(), Duration::ZERO);
    }
}
