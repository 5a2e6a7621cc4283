//! What sequences are to each other. Sequences that share first step, flag condition, target
//! and timeout are a family, at which one source has one attempt (see the knock room); packets
//! for one family can be steps of another too.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Bound;
use std::time::Duration;

use super::super::{Port, Protocol, TcpFlags, units};
use super::{Check, Fixed};

impl<'c> Check<'c> {
    pub(super) fn neighbours(&mut self, all: &[Fixed<'c>]) {
        let families = Families::new(all);
        // By sequence: another after whose knock a knock here fails.
        let mut spoilt: BTreeMap<usize, usize> = BTreeMap::new();
        for (at, fixed) in all.iter().enumerate() {
            let mut opened = BTreeSet::new();
            for (family, walk) in families.walks(fixed) {
                opened.extend(walk.opened.iter().copied().filter(|&other| other != at));
                if let Some(hurt) = family.spoilt(all, fixed, &walk) {
                    spoilt.entry(hurt).or_insert(at);
                }
            }
            let is_same = |other: &&usize| all[**other].steps == fixed.steps;
            let same = opened.iter().find(is_same);
            // Said once, at the later of the two.
            if let Some(&first) = same.filter(|&&first| first < at) {
                self.same(fixed, &all[first]);
                continue;
            }
            if let Some(&other) = opened.iter().find(|other| !is_same(other)) {
                self.contains(fixed, &all[other]);
            }
            if let Some((part, other)) = families.parted(fixed) {
                self.parted(fixed, part, &all[other]);
            }
        }
        for (hurt, by) in spoilt {
            self.spoilt(&all[hurt], &all[by]);
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

    fn contains(&mut self, fixed: &Fixed<'c>, other: &Fixed<'c>) {
        let about = self.about(other);
        let how = match fixed.steps.starts_with(other.steps) {
            true => "it begins with",
            false => "it contains, in order, the steps of",
        };
        if fixed.door == other.door {
            let what = format!("{how} the sequence of {about}, which opens the door before");
            self.warn(fixed.spot(), what, "leave one of them out");
            return;
        }
        let so = match implies(fixed, other) {
            true => "this door can never be opened without that one",
            false => "some knocks here open that one on the way",
        };
        let what = format!("{how} the sequence of {about}: {so}");
        self.warn(fixed.spot(), what, "give each door steps of its own");
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

    fn spoilt(&mut self, hurt: &Fixed<'c>, by: &Fixed<'c>) {
        let about = self.about(by);
        let apart = units::show_duration(hurt.sequence.timeout);
        self.warn(
            hurt.spot(),
            format!(
                "right after a knock at {about} a knock here fails: that one leaves an attempt \
                 here unfinished, so both doors cannot be opened within {apart}"
            ),
            "give each door steps of its own",
        );
    }
}

/// What makes sequences a family. The flag condition is `None` where no step is TCP.
type Kind = (Port, Option<(u8, u8)>, Option<IpAddr>, Duration);

fn kind(fixed: &Fixed<'_>) -> Option<Kind> {
    let tcp = fixed
        .steps
        .iter()
        .any(|step| step.protocol == Protocol::Tcp);
    let flags = tcp.then_some((fixed.sequence.flags.mask, fixed.sequence.flags.value));
    let first = *fixed.steps.first()?;
    Some((first, flags, fixed.sequence.target, fixed.sequence.timeout))
}

/// All families.
struct Families<'c> {
    by_kind: BTreeMap<Kind, Family<'c>>,
    by_first: BTreeMap<Port, Vec<Kind>>,
}

/// One family.
struct Family<'c> {
    /// One of its sequences, for its conditions.
    any: Fixed<'c>,
    /// Every beginning of its sequences, and the sequences that end there.
    points: BTreeMap<&'c [Port], Vec<usize>>,
    members: Vec<usize>,
    ports: BTreeSet<Port>,
}

/// What a knock does to a family.
struct Walk {
    /// Sequences that it completes.
    opened: Vec<usize>,
    /// Steps of the attempt that it leaves behind; empty for none.
    left: Vec<Port>,
}

impl<'c> Families<'c> {
    fn new(all: &[Fixed<'c>]) -> Families<'c> {
        let mut by_kind: BTreeMap<Kind, Family<'c>> = BTreeMap::new();
        let mut by_first: BTreeMap<Port, Vec<Kind>> = BTreeMap::new();
        for (at, fixed) in all.iter().enumerate() {
            let Some(kind) = kind(fixed) else { continue };
            let family = by_kind.entry(kind).or_insert_with(|| {
                by_first.entry(kind.0).or_default().push(kind);
                Family {
                    any: *fixed,
                    points: BTreeMap::new(),
                    members: Vec::new(),
                    ports: BTreeSet::new(),
                }
            });
            for end in 1..=fixed.steps.len() {
                family.points.entry(&fixed.steps[..end]).or_default();
            }
            family.points.entry(fixed.steps).or_default().push(at);
            family.members.push(at);
            family.ports.extend(fixed.steps);
        }
        Families { by_kind, by_first }
    }

    /// What a knock does to the families that it can do anything to: those that begin as it
    /// does, for each of its further steps takes its own attempt on and so begins no other.
    fn walks<'a>(
        &'a self,
        fixed: &'a Fixed<'c>,
    ) -> impl Iterator<Item = (&'a Family<'c>, Walk)> + 'a {
        let kinds = fixed.steps.first().and_then(|f| self.by_first.get(f));
        kinds
            .into_iter()
            .flatten()
            .filter_map(|kind| self.by_kind.get(kind))
            .filter(|family| meet(fixed, &family.any))
            .map(|family| (family, family.walk(&[], fixed.steps, false)))
    }

    /// Where a sequence parts from another of its family by a step that both took before.
    fn parted(&self, fixed: &Fixed<'c>) -> Option<(usize, usize)> {
        let steps = fixed.steps;
        let part = (1..steps.len()).find(|&at| steps[..at].contains(&steps[at]))?;
        let family = self.by_kind.get(&kind(fixed)?)?;
        let other = family
            .behind(&steps[..part])
            .filter(|(point, _)| point[part] != steps[part])
            .find_map(|(_, ends)| ends.first())?;
        Some((part, *other))
    }
}

impl<'c> Family<'c> {
    /// The points behind one.
    fn behind<'a>(
        &'a self,
        point: &'a [Port],
    ) -> impl Iterator<Item = (&'a &'c [Port], &'a Vec<usize>)> {
        self.points
            .range::<[Port], _>((Bound::Excluded(point), Bound::Unbounded))
            .take_while(move |(other, _)| other.starts_with(point))
    }

    /// Takes an attempt on by steps, as the knock room does, traps apart. `anew`: a step that is
    /// not the first may begin one.
    fn walk(&self, from: &[Port], steps: &[Port], anew: bool) -> Walk {
        let mut opened = Vec::new();
        let mut left = from.to_vec();
        for (at, &step) in steps.iter().enumerate() {
            if left.is_empty() && at > 0 && !anew {
                break;
            }
            left.push(step);
            if let Some(ends) = self.points.get(left.as_slice()) {
                opened.extend(ends);
                if self.behind(&left).next().is_none() {
                    left.clear();
                }
                continue;
            }
            left.pop();
            if self.ports.contains(&step) && !left.contains(&step) {
                left.clear();
            }
        }
        Walk { opened, left }
    }

    /// A sequence of another door than `by`'s that `by`'s knock does not complete and that
    /// cannot be completed from the attempt which that knock leaves behind.
    fn spoilt(&self, all: &[Fixed<'c>], by: &Fixed<'c>, walk: &Walk) -> Option<usize> {
        if walk.left.is_empty() {
            return None;
        }
        self.members.iter().copied().find(|member| {
            let hurt = &all[*member];
            hurt.door != by.door
                && !walk.opened.contains(member)
                && !self
                    .walk(&walk.left, hurt.steps, true)
                    .opened
                    .contains(member)
        })
    }
}

/// The conditions on the flags of the steps that both have, if any of those is TCP.
fn flags(one: &Fixed<'_>, two: &Fixed<'_>) -> Option<(TcpFlags, TcpFlags)> {
    let tcp = |fixed: &Fixed<'_>| {
        fixed
            .steps
            .iter()
            .any(|step| step.protocol == Protocol::Tcp)
    };
    (tcp(one) && tcp(two)).then_some((one.sequence.flags, two.sequence.flags))
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
