//! What an administrator is told of how hard it is tried, and of how openings are made.

use super::Monitor;
use crate::config::Drive;
use crate::daemon::clock;
use crate::daemon::control::FireView;
use crate::daemon::fire::{Fire, SHORT, Spell, Tally, Word, under_fire};
use crate::daemon::log::Level;
use crate::daemon::voice::Line;
use crate::firewall::{Driven, Firewall};
use crate::time::Time;

/// What has been said of how the packet filter is driven.
#[derive(Debug, Default)]
pub(super) struct Driving(Spell);

impl Driving {
    /// What is to be said of it: that the command is used where it should not be, and that it is
    /// not any more.
    fn heed(&mut self, firewall: &dyn Firewall, now: Time) -> Option<Line> {
        let (level, text) = match firewall.driven() {
            Some(Driven {
                by: Drive::Command,
                why: Some(why),
            }) => {
                let text = format!("firewall: openings go through the command: {why}");
                (self.0.goes_on(now).then_some(Level::Warning)?, text)
            }
            driven => {
                let is_over = self.0.is_over();
                // By the command, if the configuration has it so.
                let in_process = driven.is_some_and(|driven| driven.by == Drive::InProcess);
                let text = "firewall: openings are made in-process again".to_owned();
                ((is_over && in_process).then_some(Level::Notice)?, text)
            }
        };
        Some(Line { level, text })
    }
}

impl Monitor {
    /// Says how openings are made when that is not as it should be.
    pub(super) fn heed_drive(&mut self, now: Time) {
        if let Some(line) = self.drive.heed(&self.firewall, now) {
            self.say(&line);
        }
    }

    /// All that is counted, since the start.
    pub(super) fn tally(&self) -> Tally {
        let figures = self.listeners.figures();
        let (counted, spa) = (figures.counted, figures.spa);
        let attempts = counted.attempts;
        Tally {
            passed: counted.packets.saturating_add(counted.dropped),
            dropped: counted.dropped,
            evicted: attempts.evicted,
            trapped: attempts.trapped,
            failed: attempts.failed,
            timed_out: attempts.timed_out,
            keyless: spa.shapeless.saturating_add(spa.unauthenticated),
            untried: spa.over_budget,
            granted: self.counts.granted,
            refused: self.counts.refused.total(),
            withheld: self.log.withheld(),
        }
    }

    /// Looks at what has been counted, and says when we come under fire and when it is quiet
    /// again.
    pub(super) fn look_out(&mut self, now: Time) {
        if !self.lookout.is_due(now) {
            return;
        }
        let tally = self.tally();
        let word = self.lookout.look(now, tally);
        let (level, text) = match (word, self.lookout.fire()) {
            (Some(Word::Fire), _) => {
                let held = self.listeners.figures().counted.attempts.held;
                let what = under_fire(&self.lookout.last(SHORT, now), held);
                (Level::Warning, format!("under fire: {what}"))
            }
            (Some(Word::Quiet), Some(fire)) => {
                (Level::Notice, format!("quiet again: {}", view(fire)))
            }
            _ => return,
        };
        self.log.line(level, &text);
    }

    /// The last fire, for `posternctl status`.
    pub(super) fn fire(&self) -> Option<FireView> {
        self.lookout.fire().map(view)
    }
}

fn view(fire: &Fire) -> FireView {
    let told = |time| clock::seconds(clock::wall(time));
    FireView {
        since: told(fire.since),
        until: fire.over.then(|| told(fire.last)),
        peak: fire.peak,
        tally: fire.tally(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Door;
    use crate::firewall::{Done, Failure, Opening, Order, Upkeep};
    use std::time::Duration;

    /// A packet filter that says this of how it is driven, and does nothing.
    struct Double(Option<Driven>);

    impl Firewall for Double {
        fn name(&self) -> &'static str {
            "double"
        }

        fn driven(&self) -> Option<Driven> {
            self.0.clone()
        }

        fn establish(
            &mut self,
            _: &[Door],
            _: &[(Opening, Option<Duration>)],
        ) -> Result<Upkeep, Failure> {
            Ok(Upkeep::default())
        }

        fn uphold(&mut self, _: &[(Opening, Option<Duration>)]) -> Result<Upkeep, Failure> {
            Ok(Upkeep::default())
        }

        fn apply(&mut self, _: &[Order]) {}

        fn done(&mut self) -> Vec<Done> {
            Vec::new()
        }

        fn openings(&mut self) -> Result<Vec<Opening>, Failure> {
            Ok(Vec::new())
        }

        fn remove(&mut self) -> Result<(), Failure> {
            Ok(())
        }
    }

    #[test]
    fn that_the_command_is_used_is_said_once_and_that_it_is_not_any_more() {
        let by = |by, why: Option<&str>| {
            let why = why.map(str::to_owned);
            Double(Some(Driven { by, why }))
        };
        let none = Double(None);
        let in_process = by(Drive::InProcess, None);
        let refused = by(Drive::Command, Some("netlink: EPERM"));
        let configured = by(Drive::Command, None);
        let in_part = by(Drive::InProcess, Some("rules are left to ipfw(8): ssh"));
        let mut driving = Driving::default();
        let mut heed = |double: &Double, seconds: u64| {
            let line = driving.heed(double, Time(seconds * 1_000_000))?;
            Some((line.level, line.text))
        };
        let command = || {
            let text = "firewall: openings go through the command: netlink: EPERM";
            Some((Level::Warning, text.to_owned()))
        };
        let again = || {
            let text = "firewall: openings are made in-process again";
            Some((Level::Notice, text.to_owned()))
        };
        for (at, (double, said)) in [
            (&none, None),
            (&in_process, None),
            (&configured, None),
            (&in_part, None),
            (&refused, command()),
            (&refused, None),
            (&in_process, again()),
            (&in_process, None),
            // Too soon to be said again, and so is its end.
            (&refused, None),
            (&in_process, None),
            (&refused, None),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(heed(double, at as u64), said, "{at}");
        }
        assert_eq!(heed(&refused, 700), command());
        assert_eq!(heed(&configured, 701), None, "as the configuration has it");
        assert_eq!(heed(&in_process, 702), None);
    }
}
