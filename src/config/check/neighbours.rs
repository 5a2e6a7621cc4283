//! What sequences are to each other: the same, the beginning of another, or parted by a step
//! that was taken already.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Port, Protocol, TcpFlags};
use super::{Check, Fixed};

impl<'c> Check<'c> {
    pub(super) fn neighbours(&mut self, all: &[Fixed<'c>]) {
        let index = Index::new(all);
        for (at, fixed) in all.iter().enumerate() {
            // Said once, at the later of the two.
            if let Some(first) = index.same(at).filter(|&other| other < at) {
                self.same(fixed, &all[first]);
                continue;
            }
            if let Some(shorter) = index.shorter(at) {
                self.longer(fixed, &all[shorter]);
            }
            if let Some(other) = index.parted(at) {
                self.parted(fixed, index.repeat[at], &all[other]);
            }
        }
    }

    fn about(&self, fixed: &Fixed<'_>) -> String {
        let name = &self.parsed.config.doors[fixed.door].name;
        let line = self.parsed.places.get(fixed.spot()).line;
        format!("door {name} in line {line}")
    }

    fn same(&mut self, fixed: &Fixed<'c>, first: &Fixed<'c>) {
        let about = self.about(first);
        if fixed.door == first.door {
            let what = format!("the same sequence as of {about}");
            self.warn(fixed.spot(), what, "leave one of them out");
            return;
        }
        let so = match (implies(fixed, first), implies(first, fixed)) {
            (true, true) => "neither door can be opened without the other",
            (true, false) => "this door cannot be opened without that one",
            (false, true) => "that door cannot be opened without this one",
            (false, false) => "some knocks open both doors",
        };
        self.warn(
            fixed.spot(),
            format!("the same sequence as of {about}: {so}"),
            "give each door its own, or make one door that does both",
        );
    }

    fn longer(&mut self, fixed: &Fixed<'c>, shorter: &Fixed<'c>) {
        let about = self.about(shorter);
        let begins = format!("it begins with the sequence of {about}");
        if fixed.door == shorter.door {
            let what = format!("{begins}, which opens the door before");
            self.warn(fixed.spot(), what, "leave one of them out");
            return;
        }
        let so = match implies(fixed, shorter) {
            true => "this door can never be opened without that one",
            false => "some knocks here open that one on the way",
        };
        self.warn(fixed.spot(), format!("{begins}: {so}"), "begin otherwise");
    }

    fn parted(&mut self, fixed: &Fixed<'c>, part: usize, other: &Fixed<'c>) {
        let about = self.about(other);
        let step = fixed.steps[part];
        self.warn(
            fixed.spot().item(part),
            format!(
                "here it parts from the sequence of {about} by a step taken before: a {step} \
                 that the network sends again leads from there to here"
            ),
            "part by another port",
        );
    }
}

/// All sequences by their steps, so that no pair of them need be looked at.
struct Index<'a, 'c> {
    all: &'a [Fixed<'c>],
    /// For each the place of its first step that it took before; its length if there is none.
    repeat: Vec<usize>,
    whole: BTreeMap<&'c [Port], Vec<usize>>,
    /// By what stands before some sequence's repeated step.
    beginning: BTreeMap<&'c [Port], Vec<usize>>,
}

impl<'a, 'c> Index<'a, 'c> {
    fn new(all: &'a [Fixed<'c>]) -> Index<'a, 'c> {
        let repeat: Vec<usize> = all.iter().map(|fixed| first_repeat(fixed.steps)).collect();
        let before: BTreeSet<&[Port]> = all
            .iter()
            .zip(&repeat)
            .map(|(fixed, &repeat)| &fixed.steps[..repeat])
            .collect();
        let mut whole: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        let mut beginning: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (at, fixed) in all.iter().enumerate() {
            whole.entry(fixed.steps).or_default().push(at);
            for end in 1..fixed.steps.len() {
                if before.contains(&fixed.steps[..end]) {
                    beginning.entry(&fixed.steps[..end]).or_default().push(at);
                }
            }
        }
        Index {
            all,
            repeat,
            whole,
            beginning,
        }
    }

    /// The first sequence of exactly these steps that a packet of `at`'s can be part of.
    fn whole(&self, at: usize, steps: &[Port]) -> Option<usize> {
        let found = self.whole.get(steps)?.iter().copied();
        let mut found = found.filter(|&other| other != at);
        found.find(|&other| meet(&self.all[at], &self.all[other]))
    }

    fn same(&self, at: usize) -> Option<usize> {
        self.whole(at, self.all[at].steps)
    }

    /// A sequence that `at` begins with.
    fn shorter(&self, at: usize) -> Option<usize> {
        let steps = self.all[at].steps;
        (1..steps.len()).find_map(|end| self.whole(at, &steps[..end]))
    }

    /// A sequence that `at` shares its steps with up to a repeated one, and not that.
    fn parted(&self, at: usize) -> Option<usize> {
        let (fixed, repeat) = (&self.all[at], self.repeat[at]);
        let step = fixed.steps.get(repeat)?;
        let found = self.beginning.get(&fixed.steps[..repeat])?;
        found.iter().copied().find(|&other| {
            let other = &self.all[other];
            other.steps[repeat] != *step && meet(fixed, other)
        })
    }
}

fn first_repeat(steps: &[Port]) -> usize {
    let taken = |&at: &usize| steps[..at].contains(&steps[at]);
    (0..steps.len()).find(taken).unwrap_or(steps.len())
}

/// The conditions on the flags of the steps that both have, if any of those is TCP.
fn flags(one: &Fixed<'_>, two: &Fixed<'_>) -> Option<(TcpFlags, TcpFlags)> {
    let mut shared = one.steps.iter().zip(two.steps);
    shared
        .any(|(step, _)| step.protocol == Protocol::Tcp)
        .then_some((one.sequence.flags, two.sequence.flags))
}

/// Whether packets can be steps of both.
fn meet(one: &Fixed<'_>, two: &Fixed<'_>) -> bool {
    let targets = match (one.sequence.target, two.sequence.target) {
        (Some(one), Some(two)) => one == two,
        _ => true,
    };
    targets
        && flags(one, two)
            .is_none_or(|(one, two)| (one.value ^ two.value) & one.mask & two.mask == 0)
}

/// Whether every packet that is a step of `one` would be one of `two`.
fn implies(one: &Fixed<'_>, two: &Fixed<'_>) -> bool {
    let targets = two.sequence.target.is_none() || one.sequence.target == two.sequence.target;
    targets
        && flags(one, two).is_none_or(|(one, two)| {
            two.mask & !one.mask == 0 && (one.value ^ two.value) & two.mask == 0
        })
}
