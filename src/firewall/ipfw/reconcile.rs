//! Looking, and making what stands into what should.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::super::sessions::{self, Session};
use super::super::{Failure, Opening, Upkeep};
use super::batch::{Batch, OURS, Table};
use super::canon::Due;
use super::layout::{Layout, Rule};
use super::listing::Found;
use super::plan::{self, Plan, Wanted};
use super::{Ipfw, not_established, unix};

impl Ipfw {
    /// Learns how ipfw lists the rules of a layout.
    pub fn learn(&mut self, layout: &Layout) -> Result<(), Failure> {
        let texts = self.canon.unknown(layout.texts());
        if texts.is_empty() {
            return Ok(());
        }
        let rule = |text: &String| Rule {
            number: 1,
            text: text.clone(),
        };
        let rules: Vec<Rule> = texts.iter().map(rule).collect();
        let listed = self.tool.canonical(&rules)?;
        for (text, listed) in texts.into_iter().zip(listed) {
            self.canon.insert(text, listed);
        }
        Ok(())
    }

    /// Looks at rules and tables; `thoroughly`: also at tables of ours that no door wants.
    pub fn look(&mut self, layout: &Layout, thoroughly: bool) -> Result<Found, Failure> {
        let mut tables = layout.all_tables();
        let found = self.tool.read(&tables)?;
        if !thoroughly {
            return Ok(found);
        }
        let ours = found.names.iter().filter(|n| n.as_str().starts_with(OURS));
        let before = tables.len();
        tables.extend(ours.cloned().map(Table::Ours));
        match tables.len() == before {
            true => Ok(found),
            false => self.tool.read(&tables),
        }
    }

    /// Makes what stands into what should, in one batch, if there is a difference, and says what
    /// stood in the way of some of it. `strictly`: then nothing is done at all.
    pub fn reconcile(&mut self, strictly: bool) -> Result<(Upkeep, Option<Failure>), Failure> {
        let Some(layout) = self.layout.clone() else {
            return Err(not_established());
        };
        let mut attempts = 2;
        let mut mended = Vec::new();
        loop {
            attempts -= 1;
            let before = self.in_process.image(&layout);
            let found = self.look(&layout, !self.known)?;
            let sessions = match sessions::established(&layout.guarded) {
                Ok(sessions) => Some(BTreeSet::from_iter(sessions)),
                // Without the list a guard must not arrive, but may well be put back.
                Err(failure) if !self.known => return Err(failure),
                Err(_) => None,
            };
            let plan = self.plan(&layout, &found, sessions.as_ref());
            if let (true, Some(problem)) = (strictly, plan.problems.first()) {
                return Err(problem.clone());
            }
            let news = plan.mended.iter().filter(|line| !mended.contains(*line));
            mended.extend(Vec::from_iter(news.cloned()));
            let batch = plan.batch();
            let made = match batch.is_empty() {
                true => Ok(()),
                false => self.tool.execute(&batch).map(drop),
            };
            let before = match plan.rules_change {
                true => self.in_process.image(&layout),
                false => before,
            };
            match made.and_then(|()| self.read_back(&plan.made)) {
                Ok(()) => {}
                // Somebody else may have been at it since it was looked at.
                Err(Failure::Refused { .. } | Failure::Unexpected(_)) if attempts > 0 => continue,
                Err(failure) => return Err(failure),
            }
            // What stands in the way of a rule is among the problems; rules that only went were
            // not listed since.
            let seen = plan.problems.is_empty() && !(plan.rules_change && plan.made.is_empty());
            let before = before.filter(|_| seen);
            self.in_process.right(before, &layout);
            self.known = true;
            self.foreign = plan.foreign;
            self.lent = plan.lent;
            self.admitted = plan.admitted;
            if let (true, Some(listed)) = (plan.rules_change, &sessions) {
                self.admit_latecomers(&layout, listed)?;
            }
            let upkeep = Upkeep {
                mended,
                strangers: plan.strangers,
            };
            return Ok((upkeep, plan.problems.into_iter().next().or(plan.crowded)));
        }
    }

    fn plan(&self, layout: &Layout, found: &Found, sessions: Option<&BTreeSet<Session>>) -> Plan {
        plan::make(
            found,
            &Wanted {
                layout,
                canon: &self.canon,
                ends: &self.unix_ends(),
                now: unix(Duration::ZERO),
                sessions,
                admitted: &self.admitted,
                lent: &self.lent,
                known: self.known,
            },
        )
    }

    /// The openings that should stand, with their ends in Unix seconds.
    pub fn unix_ends(&self) -> BTreeMap<Opening, u32> {
        let now = Instant::now();
        let left = |(&opening, end): (&Opening, &Instant)| {
            let remaining = end.saturating_duration_since(now);
            (!remaining.is_zero()).then(|| (opening, unix(remaining)))
        };
        self.wanted.iter().filter_map(left).collect()
    }

    /// Looks whether the rules that were made stand, and learns how they are listed.
    fn read_back(&mut self, made: &BTreeMap<u16, Vec<Due>>) -> Result<(), Failure> {
        if made.is_empty() {
            return Ok(());
        }
        let rules = self.tool.rules()?;
        for (number, due) in made {
            let lines = rules.get(number).map_or(&[][..], Vec::as_slice);
            if !self.canon.learn(due, lines) {
                return Err(Failure::Unexpected(format!(
                    "ipfw: the rules {number:05} of set 31 do not read back as they were made"
                )));
            }
        }
        Ok(())
    }

    /// Admits the sessions that were established between the reading of the list and the
    /// arrival of the guard.
    fn admit_latecomers(
        &mut self,
        layout: &Layout,
        listed: &BTreeSet<Session>,
    ) -> Result<(), Failure> {
        let late = sessions::since(listed, &layout.guarded)?;
        let mut batch = Batch::default();
        for session in &late {
            batch.admit(&Table::running(), session);
        }
        if !batch.is_empty() {
            // Even if this fails: then the next upkeep finds them missing.
            self.admitted.extend(late);
            self.tool.execute(&batch)?;
        }
        Ok(())
    }

    /// Makes everything stand again that can, and remembers what was amiss; what stands in the
    /// way of the rest.
    pub fn repair(&mut self) -> Result<Option<Failure>, Failure> {
        let (upkeep, problem) = self.reconcile(false)?;
        self.mended.extend(upkeep.mended);
        Ok(problem)
    }
}
