//! The rules, read straight and slowly: a list of attempts and nothing else.

use std::cmp::Reverse;
use std::net::IpAddr;

use super::super::*;
use super::traps;

/// What an [`Outcome`] says, with the places of the sequences that it concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) time: u64,
    pub(super) source: IpAddr,
    pub(super) kind: Kind,
    pub(super) stage: usize,
    pub(super) watches: Vec<usize>,
}

struct Family {
    watches: Vec<usize>,
    first: Port,
    flags: TcpFlags,
    target: Option<IpAddr>,
    timeout: u64,
    traps: Vec<Port>,
}

struct Attempt {
    source: IpAddr,
    family: usize,
    taken: Vec<Port>,
    began: u64,
    /// In which part of the table, and which place there.
    bucket: usize,
    way: usize,
}

pub(super) struct Model<'a> {
    watches: Vec<Watch>,
    families: Vec<Family>,
    attempts: Vec<Attempt>,
    now: u64,
    bucket: &'a dyn Fn(IpAddr) -> usize,
    ways: usize,
    limit: usize,
    pub(super) counters: Counters,
}

impl<'a> Model<'a> {
    /// Takes from the real thing only which traps it chose, and which part of the table a
    /// source belongs to.
    pub(super) fn new(
        watches: &[Watch],
        knocks: &Knocks,
        bucket: &'a dyn Fn(IpAddr) -> usize,
        ways: usize,
    ) -> Model<'a> {
        let mut families: Vec<Family> = Vec::new();
        for (place, watch) in watches.iter().enumerate() {
            if watch.steps.is_empty() || watch.steps.len() > 32 {
                continue;
            }
            let first = watch.steps[0];
            let has_tcp = watch
                .steps
                .iter()
                .any(|s| s.protocol == crate::config::Protocol::Tcp);
            let flags = if has_tcp {
                watch.flags
            } else {
                TcpFlags { mask: 0, value: 0 }
            };
            let target = watch.target;
            let timeout = watch.timeout.as_micros().div_ceil(1000) as u64;
            let known = families.iter_mut().find(|f| {
                (f.first, f.flags, f.target, f.timeout) == (first, flags, target, timeout)
            });
            match known {
                Some(family) => family.watches.push(place),
                None => {
                    let alike = families
                        .iter()
                        .filter(|f| (f.first, f.target) == (first, target));
                    if alike.count() < 4 {
                        families.push(Family {
                            watches: vec![place],
                            first,
                            flags,
                            target,
                            timeout,
                            traps: Vec::new(),
                        });
                    }
                }
            }
        }
        for (family, traps) in families.iter_mut().zip(traps(knocks)) {
            family.traps = traps;
        }
        let begun_together = |first: Port| {
            let with = |target: Option<IpAddr>| {
                let same = families
                    .iter()
                    .filter(|f| (f.first, f.target) == (first, target));
                same.count()
            };
            let targeted = families.iter().filter(|f| f.target.is_some());
            with(None) + targeted.map(|f| with(f.target)).max().unwrap_or(0)
        };
        let most = families.iter().map(|f| begun_together(f.first)).max();
        Model {
            watches: watches.to_vec(),
            attempts: Vec::new(),
            now: 0,
            bucket,
            ways,
            limit: most.unwrap_or(0).max(4),
            counters: Counters::default(),
            families,
        }
    }

    fn ends_at(&self, family: usize, taken: &[Port]) -> Vec<usize> {
        let mut all = self.families[family].watches.clone();
        all.retain(|&w| self.watches[w].steps == taken);
        all
    }

    fn behind(&self, family: usize, taken: &[Port]) -> Vec<usize> {
        let mut all = self.families[family].watches.clone();
        all.retain(|&w| {
            let steps = &self.watches[w].steps;
            steps.len() > taken.len() && steps.starts_with(taken)
        });
        all
    }

    fn is_member(&self, family: usize, port: Port) -> bool {
        let family = &self.families[family];
        family.traps.contains(&port)
            || family
                .watches
                .iter()
                .any(|&w| self.watches[w].steps.contains(&port))
    }

    pub(super) fn expire(&mut self, now: u64) -> Vec<Told> {
        self.now = self.now.max(now);
        let now = self.now / 1000;
        let mut told = Vec::new();
        loop {
            let due = (0..self.attempts.len())
                .map(|n| {
                    let attempt = &self.attempts[n];
                    let up = attempt.began + self.families[attempt.family].timeout + 1;
                    (up, attempt.began, n)
                })
                .filter(|due| due.0 <= now)
                .min();
            let Some((up, _, n)) = due else { break };
            let attempt = self.attempts.remove(n);
            self.counters.timed_out += 1;
            told.push(Told {
                time: up * 1000,
                source: attempt.source,
                kind: Kind::Timeout,
                stage: attempt.taken.len(),
                watches: self.behind(attempt.family, &attempt.taken),
            });
        }
        told
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.attempts
            .iter()
            .map(|a| (a.began + self.families[a.family].timeout + 1) * 1000)
            .min()
    }

    pub(super) fn arrive(&mut self, arrival: &Arrival, ours: impl Fn(IpAddr) -> bool) -> Vec<Told> {
        let mut told = self.expire(arrival.time.0);
        let source = arrival.source;
        if !can_knock(source) {
            return told;
        }
        let (port, flags) = match arrival.what {
            What::Tcp { port, flags } => (super::tcp(port), Some(flags)),
            What::Udp { port, .. } => (super::udp(port), None),
            What::Echo { .. } => return Vec::new(),
        };
        let fits = |family: &Family| {
            let flags = flags.is_none_or(|f| f & family.flags.mask == family.flags.value);
            let here = family.target.map_or(ours(arrival.destination), |target| {
                target == arrival.destination
            });
            flags && here
        };
        let mut busy = Vec::new();
        let mut taken_on = false;
        for family in 0..self.families.len() {
            let under_way = |a: &Attempt| a.source == source && a.family == family;
            let Some(n) = self.attempts.iter().position(under_way) else {
                continue;
            };
            busy.push(family);
            if !fits(&self.families[family]) {
                continue;
            }
            let taken = self.attempts[n].taken.clone();
            let mut next = taken.clone();
            next.push(port);
            let behind = self.behind(family, &next);
            let ends = self.ends_at(family, &next);
            let mut tell = |kind, taken: &[Port], watches| {
                told.push(Told {
                    time: self.now,
                    source,
                    kind,
                    stage: taken.len(),
                    watches,
                });
            };
            if !behind.is_empty() || !ends.is_empty() {
                taken_on = true;
                if !ends.is_empty() {
                    self.counters.granted += 1;
                    tell(Kind::Grant, &next, ends);
                }
                if behind.is_empty() {
                    self.attempts.remove(n);
                } else {
                    tell(Kind::Stage, &next, behind);
                    self.attempts[n].taken = next;
                }
            } else if self.is_member(family, port) && !taken.contains(&port) {
                let watches = self.behind(family, &taken);
                tell(Kind::Fail, &taken, watches);
                if self.families[family].traps.contains(&port) {
                    self.counters.trapped += 1;
                } else {
                    self.counters.failed += 1;
                }
                self.attempts.remove(n);
            }
        }
        let mut spared = Vec::new();
        let all = if taken_on { 0 } else { self.families.len() };
        for family in 0..all {
            let can = self.families[family].first == port && fits(&self.families[family]);
            if !can || busy.contains(&family) {
                continue;
            }
            let ends = self.ends_at(family, &[port]);
            if !ends.is_empty() {
                self.counters.granted += 1;
                told.push(Told {
                    time: self.now,
                    source,
                    kind: Kind::Grant,
                    stage: 1,
                    watches: ends,
                });
            }
            let behind = self.behind(family, &[port]);
            if !behind.is_empty() && self.begin(family, source, port, &mut spared) {
                told.push(Told {
                    time: self.now,
                    source,
                    kind: Kind::Stage,
                    stage: 1,
                    watches: behind,
                });
            }
        }
        told
    }

    fn begin(
        &mut self,
        family: usize,
        source: IpAddr,
        port: Port,
        spared: &mut Vec<usize>,
    ) -> bool {
        let bucket = (self.bucket)(source);
        let own = self.attempts.iter().filter(|a| a.source == source).count();
        let here: Vec<usize> = self
            .attempts
            .iter()
            .filter(|a| a.bucket == bucket)
            .map(|a| a.way)
            .collect();
        let mut way = (0..self.ways).find(|way| !here.contains(way));
        let too_many = own >= self.limit;
        if too_many || way.is_none() {
            self.counters.evicted += 1;
            let victim = (0..self.attempts.len())
                .filter(|&n| {
                    let a = &self.attempts[n];
                    a.bucket == bucket
                        && (!too_many || a.source == source && a.taken.len() == 1)
                        && !spared.contains(&a.way)
                })
                .max_by_key(|&n| {
                    let a = &self.attempts[n];
                    let age = self.now / 1000 - a.began + 1;
                    ((age << 16) / a.taken.len() as u64, Reverse(a.way))
                });
            let Some(victim) = victim else { return false };
            way = Some(self.attempts.remove(victim).way);
        }
        let way = way.unwrap();
        spared.push(way);
        self.attempts.push(Attempt {
            source,
            family,
            taken: vec![port],
            began: self.now / 1000,
            bucket,
            way,
        });
        true
    }

    pub(super) fn held(&self) -> usize {
        self.attempts.len()
    }
}
