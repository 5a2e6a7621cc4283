//! Which states a door let in, and whether pf has forgotten its states.
//!
//! `pfctl -vvs states` gives for each state the number of its rule, in its anchor as it was when
//! the state was made: a state outlives its rule, and keeps the number. So it is remembered
//! which numbers were which door's, and when.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::super::Opening;
use super::super::sessions::Session;
use super::layout::Gate;
use super::listing::{State, Status};
use crate::config::{Port, Protocol};

/// The most rulesets that are remembered.
const MOST: usize = 64;
/// pfctl tells ages in whole seconds.
const SECOND: Duration = Duration::from_secs(1);

/// The rulesets that our anchor has had, and where it was reached from.
#[derive(Debug, Default)]
pub struct History {
    past: VecDeque<Stood>,
    now: Option<Stood>,
    calls: BTreeSet<u32>,
}

/// A ruleset of our anchor's.
#[derive(Debug)]
struct Stood {
    /// By the rules' numbers: the door whose pass rule it is.
    doors: Vec<Option<String>>,
    /// The most rules that it had, those of running sessions among them.
    rules: usize,
    /// When another was last seen before it; `None`: it is the first that we saw.
    after: Option<Instant>,
    /// When it was last seen.
    seen: Instant,
    /// When another was first seen behind it; `None`: it stands.
    until: Option<Instant>,
}

impl History {
    /// Our anchor has these rules now.
    pub fn stands(&mut self, doors: &[Option<String>], now: Instant) {
        let passes = doors
            .iter()
            .rposition(Option::is_some)
            .map_or(0, |last| last + 1);
        let (rules, doors) = (doors.len(), &doors[..passes]);
        let after = match &mut self.now {
            Some(stood) if stood.doors == doors => {
                stood.seen = now;
                stood.rules = stood.rules.max(rules);
                return;
            }
            Some(stood) => {
                stood.until = Some(now);
                Some(stood.seen)
            }
            None => None,
        };
        let stands = Stood {
            doors: doors.to_vec(),
            rules,
            after,
            seen: now,
            until: None,
        };
        self.past.extend(self.now.replace(stands));
        if self.past.len() > MOST {
            self.past.pop_front();
        }
    }

    /// These rules of the main ruleset lead to our anchor.
    pub fn called(&mut self, calls: &BTreeSet<u32>) {
        self.calls.extend(calls);
    }

    /// Whether the state was let in at this door, for sure: by a rule of our anchor whose number
    /// was this door's pass rule whichever of our rulesets stood when the state was made.
    fn let_in(&self, gate: &Gate, state: &State, now: Instant) -> bool {
        let (Some(anchor), Some(rule)) = (state.anchor, state.rule) else {
            return false;
        };
        let Ok(rule) = usize::try_from(rule) else {
            return false;
        };
        let ago = |at: Instant| now.saturating_duration_since(at);
        let (least, most) = (state.age.saturating_sub(SECOND), state.age + 2 * SECOND);
        let mut then = self.past.iter().chain(&self.now).filter(|stood| {
            stood.rules > rule
                && stood.until.is_none_or(|until| ago(until) <= most)
                && stood.after.is_none_or(|after| ago(after) >= least)
        });
        let first = then.next();
        let ours = |stood: &Stood| {
            let door = stood.doors.get(rule).and_then(Option::as_ref);
            door.is_some_and(|door| *door == gate.name)
        };
        self.calls.contains(&anchor) && first.is_some_and(ours) && then.all(ours)
    }

    /// The numbers of the states that the door let in for the opening's address.
    pub fn of(
        &self,
        gate: &Gate,
        opening: Opening,
        states: &[State],
        now: Instant,
    ) -> BTreeSet<(u64, u32)> {
        let here = |state: &&State| {
            let port = state.protocol.map(|protocol| Port {
                protocol,
                number: state.local.1,
            });
            opening.address.contains(state.remote.0)
                && port.is_some_and(|port| gate.ports.contains(&port))
                && state.id.0 != 0
                && self.let_in(gate, state, now)
        };
        states.iter().filter(here).map(|state| state.id).collect()
    }
}

/// Those of these sessions that pf has no state of.
pub fn unknown(sessions: &BTreeSet<Session>, states: &[State]) -> BTreeSet<Session> {
    let tcp = states
        .iter()
        .filter(|state| state.protocol == Some(Protocol::Tcp));
    let known: BTreeSet<Session> = tcp
        .map(|state| Session {
            local: state.local.into(),
            remote: state.remote.into(),
        })
        .collect();
    sessions.difference(&known).copied().collect()
}

/// What pf said of itself, and when.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    at: Instant,
    status: Status,
}

impl Watch {
    /// It has just been said.
    pub fn new(status: Status, at: Instant) -> Watch {
        Watch { at, status }
    }

    /// Whether pf may have forgotten all its states in between, as `service pf restart` and
    /// `pfctl -F states` make it do: it was enabled anew or its statistics were cleared, or as
    /// many states have gone as there were.
    pub fn forgot(&self, now: &Watch) -> bool {
        let (before, after) = (&self.status, &now.status);
        let passed = now.at.saturating_duration_since(self.at);
        let anew = match (before.since, after.since) {
            (Some(before), Some(after)) => after + 2 * SECOND < before + passed,
            _ => true,
        };
        let gone = after.removals.checked_sub(before.removals);
        anew || before.enabled != after.enabled || gone.is_none_or(|gone| gone >= before.entries)
    }
}

#[cfg(test)]
mod tests;
