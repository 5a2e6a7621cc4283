//! Whether strangers send more than those who knock ever would: told from figures as they come,
//! with time as data.
//!
//! Figures come from the listener, who may say any: nothing here overflows or divides by zero.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::units::show_number;
use crate::time::Time;

/// What tells what is going on now.
pub const SHORT: Duration = Duration::from_secs(10);
/// What tells what has been going on.
pub const LONG: Duration = Duration::from_secs(60);
/// Packets a second over [`SHORT`] from which on there is fire. Only packets to steps, traps and
/// carriers pass the kernel filter: a knock is 32 of them at the most and mostly 4, so 250 people
/// would have to knock in each second.
pub const PACKETS: u64 = 1000;
/// The same of each figure that tells of something lost: packets that the kernel dropped,
/// attempts evicted, single packets not looked at, knocks refused, log lines withheld. Fewer are
/// a stumble, such as a processor that was busy elsewhere, or a scan of many doors.
pub const LOST: u64 = 10;
/// No bound has been crossed for so long: it is quiet again.
pub const QUIET: Duration = LONG;
/// That it begins is said no more often.
const SAID_EVERY: Duration = Duration::from_secs(600);
/// Figures are taken no more often.
const TAKEN_EVERY: Duration = Duration::from_secs(1);

/// What has been counted from some time on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Packets that passed the kernel filter, read or dropped.
    pub passed: u64,
    /// Of those, the ones that the kernel dropped before they were read.
    pub dropped: u64,
    /// Attempts that gave way to others.
    pub evicted: u64,
    /// Attempts that a trap ended.
    pub trapped: u64,
    /// Attempts that a wrong step ended.
    pub failed: u64,
    /// Attempts whose time was up.
    pub timed_out: u64,
    /// Packets that came by the keys' carriers and are of no key.
    pub keyless: u64,
    /// Packets that came by the keys' carriers and were not tried, because too many did.
    pub untried: u64,
    /// Knocks granted.
    pub granted: u64,
    /// Knocks that were right and refused.
    pub refused: u64,
    /// Log lines withheld.
    pub withheld: u64,
}

impl Tally {
    /// Since then; a figure that went back has not grown.
    fn since(&self, then: &Tally) -> Tally {
        Tally {
            passed: self.passed.saturating_sub(then.passed),
            dropped: self.dropped.saturating_sub(then.dropped),
            evicted: self.evicted.saturating_sub(then.evicted),
            trapped: self.trapped.saturating_sub(then.trapped),
            failed: self.failed.saturating_sub(then.failed),
            timed_out: self.timed_out.saturating_sub(then.timed_out),
            keyless: self.keyless.saturating_sub(then.keyless),
            untried: self.untried.saturating_sub(then.untried),
            granted: self.granted.saturating_sub(then.granted),
            refused: self.refused.saturating_sub(then.refused),
            withheld: self.withheld.saturating_sub(then.withheld),
        }
    }
}

/// What was counted in a stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// How long it is; less than asked for when the daemon has not run so long. At least 1.
    pub seconds: u64,
    /// What was counted in it.
    #[serde(flatten)]
    pub tally: Tally,
}

impl Stretch {
    fn is_fire(&self) -> bool {
        let Tally {
            passed,
            dropped,
            evicted,
            untried,
            refused,
            withheld,
            ..
        } = self.tally;
        let many = |n: u64, bound: u64| n >= bound.saturating_mul(SHORT.as_secs());
        many(passed, PACKETS)
            || [dropped, evicted, untried, refused, withheld]
                .iter()
                .any(|&n| many(n, LOST))
    }

    /// A figure of it, a second.
    pub fn a_second(&self, figure: u64) -> u64 {
        figure / self.seconds.max(1)
    }
}

/// A stretch of time in which there was fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fire {
    /// When a bound was crossed first.
    pub since: Time,
    /// When one was last.
    pub last: Time,
    /// Whether it is over.
    pub over: bool,
    /// The most packets a second.
    pub peak: u64,
    /// What had been counted before it.
    before: Tally,
    /// What had been counted when a bound was last crossed.
    at_last: Tally,
}

impl Fire {
    /// What was counted in it.
    pub fn tally(&self) -> Tally {
        self.at_last.since(&self.before)
    }
}

/// What is to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// There is fire.
    Fire,
    /// There is none any more.
    Quiet,
}

/// The figures of the last minute, and the last fire.
#[derive(Debug)]
pub struct Lookout {
    start: Time,
    /// Figures that differ, each with the time at which they were taken, oldest first; the first
    /// is from before the last minute if there is any such.
    taken: VecDeque<(Time, Tally)>,
    next: Time,
    fire: Option<Fire>,
    spell: Spell,
}

impl Lookout {
    /// Nothing has been counted at `start`.
    pub fn new(start: Time) -> Lookout {
        Lookout {
            start,
            taken: VecDeque::from([(start, Tally::default())]),
            next: start,
            fire: None,
            spell: Spell::default(),
        }
    }

    /// Whether [`Lookout::look`] has something to do: once a second at most. It wants no waking:
    /// a fire is over when it is called next.
    pub fn is_due(&self, now: Time) -> bool {
        self.next <= now
    }

    /// Takes in what has been counted by now; what is to be said of it.
    pub fn look(&mut self, now: Time, tally: Tally) -> Option<Word> {
        if !self.is_due(now) {
            return None;
        }
        self.next = now + TAKEN_EVERY;
        if self.taken.back().is_none_or(|(_, last)| *last != tally) {
            self.taken.push_back((now, tally));
        }
        while self.taken.get(1).is_some_and(|(at, _)| *at + LONG <= now) {
            self.taken.pop_front();
        }
        let short = self.last(SHORT, now);
        let burning = self.fire.filter(|fire| !fire.over);
        let quiet = burning.is_some_and(|fire| now.since(fire.last) >= QUIET);
        if short.is_fire() {
            let fire = burning.unwrap_or(Fire {
                since: now,
                last: now,
                over: false,
                peak: 0,
                before: self.by(now - SHORT),
                at_last: tally,
            });
            self.fire = Some(Fire {
                last: now,
                peak: fire.peak.max(short.a_second(short.tally.passed)),
                at_last: tally,
                ..fire
            });
        } else if quiet && let Some(fire) = &mut self.fire {
            fire.over = true;
        }
        match &self.fire {
            Some(fire) if !fire.over => self.spell.goes_on(now).then_some(Word::Fire),
            _ => self.spell.is_over().then_some(Word::Quiet),
        }
    }

    /// What was counted in this time up to now; at most [`LONG`].
    pub fn last(&self, time: Duration, now: Time) -> Stretch {
        let newest = self.taken.back().map_or(Tally::default(), |(_, t)| *t);
        Stretch {
            seconds: time.min(now.since(self.start)).as_secs().max(1),
            tally: newest.since(&self.by(now - time)),
        }
    }

    /// What had been counted by then.
    fn by(&self, then: Time) -> Tally {
        let before = self.taken.iter().rev().find(|(at, _)| *at <= then);
        before.map_or(Tally::default(), |(_, tally)| *tally)
    }

    /// The last fire, be it over or not.
    pub fn fire(&self) -> Option<&Fire> {
        self.fire.as_ref()
    }
}

/// What is going on now, in words: what there is none of is left out. `held` is how many attempts
/// there are.
pub fn under_fire(now: &Stretch, held: u64) -> String {
    let tally = now.tally;
    let a_second = |figure| show_number(now.a_second(figure));
    let passed = a_second(tally.passed);
    let mut words = format!("{passed} packets a second pass the filter");
    if tally.dropped > 0 {
        let part = tally.dropped as f64 / tally.passed.max(1) as f64;
        let percent = (100.0 * part).clamp(0.1, 100.0);
        words += &format!(", {percent:.1}% of them are dropped by the kernel");
    }
    for (figure, what) in [
        (tally.keyless, "single packets a second are of no key"),
        (tally.untried, "single packets a second are not tried"),
        (tally.evicted, "attempts a second are evicted"),
        (tally.refused, "knocks a second are refused"),
        (tally.withheld, "log lines a second are withheld"),
    ] {
        if now.a_second(figure) > 0 {
            words += &format!("; {} {what}", a_second(figure));
        }
    }
    if held > 0 {
        words += &format!("; attempts held: {}", show_number(held));
    }
    words
}

/// Something that goes on for a while, again and again: that it does is said at most once in ten
/// minutes, and that it is over only if that was said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spell {
    said_at: Option<Time>,
    said: bool,
}

impl Spell {
    /// It goes on; whether that is to be said now.
    pub fn goes_on(&mut self, now: Time) -> bool {
        let lately = |at: Time| now.since(at) < SAID_EVERY;
        if self.said || self.said_at.is_some_and(lately) {
            return false;
        }
        (self.said, self.said_at) = (true, Some(now));
        true
    }

    /// It does not; whether that is to be said now.
    pub fn is_over(&mut self) -> bool {
        std::mem::take(&mut self.said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time(1_000_000_000 + seconds * 1_000_000)
    }

    fn passed(passed: u64) -> Tally {
        Tally {
            passed,
            ..Tally::default()
        }
    }

    /// What is said in so many seconds of so many packets each, after `from`.
    fn go(lookout: &mut Lookout, from: u64, seconds: u64, each: u64) -> Vec<(u64, Word)> {
        let before = lookout.taken.back().unwrap().1.passed;
        (1..=seconds)
            .filter_map(|n| {
                let word = lookout.look(at(from + n), passed(before + n * each))?;
                Some((from + n, word))
            })
            .collect()
    }

    #[test]
    fn it_begins_at_the_bound_and_ends_a_minute_after() {
        let mut lookout = Lookout::new(at(0));
        assert_eq!(go(&mut lookout, 0, 600, PACKETS - 1), []);
        assert_eq!(lookout.fire(), None);
        let said = go(&mut lookout, 600, 100, 50_000);
        assert_eq!(
            said,
            [(601, Word::Fire)],
            "a fifth of a second of it is enough"
        );
        let fire = *lookout.fire().unwrap();
        assert_eq!((fire.since, fire.over, fire.peak), (at(601), false, 50_000));
        assert_eq!(lookout.last(LONG, at(700)).tally.passed, 60 * 50_000);
        assert_eq!(lookout.last(SHORT, at(700)).tally.passed, 10 * 50_000);

        // Bounds are crossed for as long as the last ten seconds tell of it.
        let said = go(&mut lookout, 700, 300, 0);
        assert_eq!(said, [(769, Word::Quiet)]);
        let fire = *lookout.fire().unwrap();
        assert_eq!((fire.since, fire.last, fire.over), (at(601), at(709), true));
        assert_eq!(fire.tally().passed, 100 * 50_000 + 9 * (PACKETS - 1));
        assert_eq!(lookout.last(LONG, at(1000)).tally, Tally::default());
    }

    #[test]
    fn what_is_lost_is_fire_at_any_rate() {
        type Lost = fn(&mut Tally) -> &mut u64;
        let lost: [Lost; 5] = [
            |t| &mut t.dropped,
            |t| &mut t.evicted,
            |t| &mut t.untried,
            |t| &mut t.refused,
            |t| &mut t.withheld,
        ];
        for figure in lost {
            let mut lookout = Lookout::new(at(0));
            let mut tally = Tally::default();
            *figure(&mut tally) = 10 * LOST - 1;
            assert_eq!(lookout.look(at(100), tally), None);
            *figure(&mut tally) += 1;
            assert_eq!(lookout.look(at(105), tally), Some(Word::Fire), "{tally:?}");
        }
        let other: [Lost; 5] = [
            |t| &mut t.trapped,
            |t| &mut t.failed,
            |t| &mut t.timed_out,
            |t| &mut t.keyless,
            |t| &mut t.granted,
        ];
        for figure in other {
            let mut lookout = Lookout::new(at(0));
            let mut tally = Tally::default();
            *figure(&mut tally) = 1_000_000;
            assert_eq!(lookout.look(at(100), tally), None, "{tally:?}");
        }
    }

    #[test]
    fn what_comes_and_goes_is_said_twice_in_ten_minutes_at_most() {
        let mut lookout = Lookout::new(at(0));
        let mut said = Vec::new();
        for n in 0..60 {
            let from = n * 100;
            said.extend(go(&mut lookout, from, 10, 100_000));
            said.extend(go(&mut lookout, from + 10, 90, 0));
        }
        let fires = said.iter().filter(|(_, word)| *word == Word::Fire).count();
        assert_eq!((fires, said.len()), (10, 20), "in 100 minutes");
        for pair in said.chunks(2) {
            assert_eq!((pair[0].1, pair[1].1), (Word::Fire, Word::Quiet));
        }
    }

    #[test]
    fn one_that_was_not_said_at_its_beginning_is_said_if_it_goes_on() {
        let mut lookout = Lookout::new(at(0));
        let said = go(&mut lookout, 0, 10, 100_000);
        assert_eq!(said, [(1, Word::Fire)]);
        assert_eq!(go(&mut lookout, 10, 90, 0), [(79, Word::Quiet)]);
        assert_eq!(go(&mut lookout, 100, 600, 100_000), [(601, Word::Fire)]);
    }

    #[test]
    fn what_there_is_none_of_is_left_out() {
        let mut now = Stretch {
            seconds: 10,
            tally: passed(980_000),
        };
        assert_eq!(
            under_fire(&now, 0),
            "98,000 packets a second pass the filter"
        );
        now.tally.dropped = 11_760;
        now.tally.withheld = 9;
        assert_eq!(
            under_fire(&now, 61_000),
            "98,000 packets a second pass the filter, 1.2% of them are dropped by the kernel; \
             attempts held: 61,000"
        );
        now.tally = Tally {
            dropped: 1,
            keyless: 10,
            untried: 20,
            evicted: 30,
            refused: 40,
            withheld: 50,
            ..passed(1_000_000)
        };
        assert_eq!(
            under_fire(&now, 0),
            "100,000 packets a second pass the filter, 0.1% of them are dropped by the kernel; \
             1 single packets a second are of no key; 2 single packets a second are not tried; \
             3 attempts a second are evicted; 4 knocks a second are refused; \
             5 log lines a second are withheld"
        );
    }

    #[test]
    fn any_figures_do_no_harm() {
        let mut lookout = Lookout::new(at(0));
        let all = |n| Tally {
            passed: n,
            dropped: n,
            evicted: n,
            trapped: n,
            failed: n,
            timed_out: n,
            keyless: n,
            untried: n,
            granted: n,
            refused: n,
            withheld: n,
        };
        let mut words = 0;
        for n in 0..10_000u64 {
            let tally = all([u64::MAX, 0, 1 << 63, 7][n as usize % 4]);
            words += usize::from(lookout.look(at(n), tally).is_some());
            let stretch = lookout.last(LONG, at(n));
            assert!(stretch.seconds >= 1);
            assert!(under_fire(&stretch, u64::MAX).len() < 500);
            assert!(lookout.taken.len() <= 62, "{}", lookout.taken.len());
        }
        assert!(words <= 2 * 10_000 / 600 + 2, "{words}");
        // A clock that steps back, and one at its end.
        lookout.look(Time(0), all(1));
        lookout.look(Time(u64::MAX), all(2));
        lookout.last(LONG, Time(u64::MAX));
        assert_eq!(Lookout::new(at(0)).last(LONG, at(0)).seconds, 1);
    }

    #[test]
    fn figures_are_taken_once_a_second_and_only_those_that_differ() {
        let mut lookout = Lookout::new(at(0));
        for n in 0..100_000 {
            lookout.look(Time(at(0).0 + n * 100), passed(n));
        }
        assert_eq!(lookout.taken.len(), 10);
        for n in 10..100_000 {
            lookout.look(at(n), passed(100_000));
        }
        assert_eq!(lookout.taken.len(), 1, "idle");
    }
}
