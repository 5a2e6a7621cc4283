//! Leases, each rule by itself and all of them against a slow, obvious model.

#![cfg(feature = "daemon")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use postern::config::Network;
use postern::lease::{Act, By, Change, Lease, Leases, Terms, Why};
use postern::time::Time;
use proptest::prelude::*;

fn ip(n: u8) -> IpAddr {
    if n.is_multiple_of(2) {
        IpAddr::from([192, 0, 2, n])
    } else {
        IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(n)])
    }
}

fn terms(seconds: u64, max_leases: usize) -> Terms {
    Terms {
        open_for: Some(Duration::from_secs(seconds)),
        max_leases,
        idle: None,
        prefix6: 128,
    }
}

fn s(seconds: u64) -> Time {
    Time(seconds * 1_000_000)
}

fn granted(leases: &mut Leases, door: u16, address: IpAddr, now: Time) -> Vec<Act> {
    let mut acts = Vec::new();
    leases.grant(door, address, now, |change| acts.push(change.act));
    acts
}

fn due(leases: &mut Leases, now: Time) -> Vec<(Time, u16, IpAddr)> {
    let mut all = Vec::new();
    leases.due(now, |end, change| {
        assert_eq!(change.act, Act::Close(Why::Due));
        all.push((end, change.door, change.address.address()));
    });
    all
}

#[test]
fn a_grant_opens_until_its_end() {
    let mut leases = Leases::new(vec![terms(30, 9), terms(10, 9)]);
    assert_eq!(leases.next_end(), None);
    let open = |until| vec![Act::Open { until: Some(until) }];
    assert_eq!(granted(&mut leases, 0, ip(1), s(100)), open(s(130)));
    assert_eq!(granted(&mut leases, 1, ip(2), s(101)), open(s(111)));
    assert_eq!(granted(&mut leases, 1, ip(1), s(102)), open(s(112)));
    assert_eq!(leases.next_end(), Some(s(111)));
    let order: Vec<_> = leases
        .iter()
        .map(|l| (l.door, l.address.address()))
        .collect();
    assert_eq!(order, [(0, ip(1)), (1, ip(2)), (1, ip(1))]);
    assert_eq!(due(&mut leases, Time(s(111).0 - 1)), []);
    let ended = due(&mut leases, s(200));
    assert_eq!(
        ended,
        [(s(111), 1, ip(2)), (s(112), 1, ip(1)), (s(130), 0, ip(1))]
    );
    assert_eq!(leases.iter().count(), 0);
    assert_eq!(leases.next_end(), None);
}

#[test]
fn a_second_grant_extends_and_makes_no_second_lease() {
    let mut leases = Leases::new(vec![terms(30, 1)]);
    granted(&mut leases, 0, ip(1), s(100));
    let extended = granted(&mut leases, 0, ip(1), s(120));
    assert_eq!(extended, [Act::Extend { until: s(150) }]);
    let lease = leases.of(0, ip(1)).unwrap();
    assert_eq!((lease.since, lease.until), (s(100), s(150)));
    assert_eq!(due(&mut leases, s(149)), []);
    assert_eq!(due(&mut leases, s(150)).len(), 1);
}

#[test]
fn a_clock_that_steps_back_shortens_nothing() {
    let mut leases = Leases::new(vec![terms(30, 9)]);
    granted(&mut leases, 0, ip(1), s(100));
    let extended = granted(&mut leases, 0, ip(1), s(50));
    assert_eq!(extended, [Act::Extend { until: s(130) }]);
    assert_eq!(due(&mut leases, s(50)), []);
    let opened = granted(&mut leases, 0, ip(2), s(50));
    assert_eq!(opened, [Act::Open { until: Some(s(80)) }]);
    assert_eq!(due(&mut leases, s(131)).len(), 2);
}

#[test]
fn at_the_limit_the_one_nearest_its_end_gives_way_first() {
    let mut leases = Leases::new(vec![terms(30, 2), terms(5, 1)]);
    granted(&mut leases, 0, ip(1), s(100));
    granted(&mut leases, 0, ip(2), s(101));
    granted(&mut leases, 0, ip(1), s(102));
    granted(&mut leases, 1, ip(4), s(102));
    let mut changes = Vec::new();
    leases.grant(0, ip(3), s(103), |change| changes.push(change));
    let gave_way = Change {
        door: 0,
        address: ip(2).into(),
        act: Act::Close(Why::GaveWay),
    };
    let opened = Change {
        door: 0,
        address: ip(3).into(),
        act: Act::Open {
            until: Some(s(133)),
        },
    };
    assert_eq!(changes, [gave_way, opened]);
    assert!(leases.of(1, ip(4)).is_some());
    assert!(leases.of(0, ip(2)).is_none());
}

#[test]
fn a_door_without_leases_opens_each_time_and_keeps_nothing() {
    let none = Terms {
        open_for: None,
        max_leases: 1,
        idle: None,
        prefix6: 128,
    };
    let mut leases = Leases::new(vec![none]);
    for _ in 0..3 {
        assert_eq!(
            granted(&mut leases, 0, ip(1), s(1)),
            [Act::Open { until: None }]
        );
    }
    assert_eq!(leases.iter().count(), 0);
    let lease = Lease {
        door: 0,
        address: ip(1).into(),
        since: s(1),
        until: s(9),
        key: None,
    };
    assert!(!leases.restore(lease, s(2)));
}

#[test]
fn grants_at_no_door_come_to_nothing() {
    let mut leases = Leases::new(vec![terms(30, 0)]);
    assert_eq!(granted(&mut leases, 0, ip(1), s(1)), []);
    assert_eq!(granted(&mut leases, 1, ip(1), s(1)), []);
    assert_eq!(granted(&mut leases, u16::MAX, ip(1), s(1)), []);
    leases.close(ip(1), Some(7), |_| panic!("there is none"));
}

#[test]
fn closing_one_door_or_all() {
    let mut leases = Leases::new(vec![terms(30, 9), terms(30, 9), terms(30, 9)]);
    for door in 0..3 {
        granted(&mut leases, door, ip(1), s(1));
        granted(&mut leases, door, ip(2), s(1));
    }
    let close = |leases: &mut Leases, door| {
        let mut doors = Vec::new();
        leases.close(ip(1), door, |change| {
            assert_eq!(
                (change.address, change.act),
                (ip(1).into(), Act::Close(Why::Asked))
            );
            doors.push(change.door);
        });
        doors
    };
    assert_eq!(close(&mut leases, Some(1)), [1]);
    assert_eq!(close(&mut leases, Some(1)), [0u16; 0]);
    assert_eq!(close(&mut leases, None), [0, 2]);
    assert_eq!(
        leases
            .iter()
            .filter(|l| l.address.address() == ip(2))
            .count(),
        3
    );
    assert_eq!(due(&mut leases, s(99)).len(), 3);
}

#[test]
fn leases_are_put_back_as_long_as_they_last() {
    let mut leases = Leases::new(vec![terms(30, 1)]);
    let lease = |door, n, since, until| Lease {
        door,
        address: ip(n).into(),
        since: s(since),
        until: s(until),
        key: None,
    };
    assert!(leases.restore(lease(0, 1, 90, 120), s(100)));
    assert!(!leases.restore(lease(0, 2, 70, 100), s(100)));
    assert!(!leases.restore(lease(1, 3, 90, 120), s(100)));
    // None lasts longer than one granted now.
    assert!(leases.restore(lease(0, 4, 99, 9_000), s(100)));
    assert_eq!(leases.of(0, ip(4)).unwrap().until, s(130));
    // Of two the later end holds.
    assert!(leases.restore(lease(0, 1, 95, 110), s(100)));
    assert_eq!(*leases.of(0, ip(1)).unwrap(), lease(0, 1, 90, 120));
    // Those over the limit give way to the next.
    let acts = granted(&mut leases, 0, ip(5), s(101));
    assert_eq!(acts[..2], [Act::Close(Why::GaveWay); 2]);
    assert_eq!(
        acts[2],
        Act::Open {
            until: Some(s(131))
        }
    );
    assert_eq!(leases.iter().count(), 1);
}

#[test]
fn a_lease_goes_by_the_key_that_set_its_end() {
    let mut leases = Leases::new(vec![terms(30, 9), terms(30, 9)]);
    let by = |key, lasts: Option<u64>| By {
        key,
        lasts: lasts.map(Duration::from_secs),
    };
    let key_of = |leases: &Leases| {
        let lease = leases.of(0, ip(1)).unwrap();
        (lease.key, lease.until)
    };
    // A request can only shorten, and what it asks for takes nothing from what there is.
    leases.grant_by(by(Some(1), Some(10)), 0, ip(1), s(100), |_| {});
    assert_eq!(key_of(&leases), (Some(1), s(110)));
    leases.grant_by(by(Some(2), Some(5)), 0, ip(1), s(101), |_| {});
    assert_eq!(key_of(&leases), (Some(1), s(110)));
    leases.grant_by(by(Some(2), Some(900)), 0, ip(1), s(102), |_| {});
    assert_eq!(key_of(&leases), (Some(2), s(132)));
    leases.grant(0, ip(1), s(103), |_| {});
    assert_eq!(key_of(&leases), (None, s(133)));
    // The second key opens door 1 no more, the first has another place.
    leases.grant_by(by(Some(1), None), 0, ip(2), s(104), |_| {});
    leases.grant_by(by(Some(2), None), 1, ip(2), s(104), |_| {});
    let keys = |key, door| (key == 1 && door == 0).then_some(7);
    let closed = leases.remap(vec![terms(30, 9), terms(30, 9)], s(105), Some, keys);
    let revoked = Change {
        door: 1,
        address: ip(2).into(),
        act: Act::Close(Why::Revoked),
    };
    assert_eq!(closed, [revoked]);
    assert_eq!(leases.of(0, ip(2)).unwrap().key, Some(7));
    assert_eq!(key_of(&leases), (None, s(133)));
}

#[test]
fn a_reload_keeps_the_leases_of_doors_that_still_stand() {
    let mut leases = Leases::new(vec![terms(30, 9), terms(60, 9), terms(60, 9), terms(60, 9)]);
    for door in 0..4 {
        granted(&mut leases, door, ip(1), s(100));
        granted(&mut leases, door, ip(2), s(101));
    }
    let no_lease = Terms {
        open_for: None,
        max_leases: 9,
        idle: None,
        prefix6: 128,
    };
    // 0 is gone, 1 has become 0, 2 has become 1 and has new terms, 3 has no leases any more.
    let new = vec![terms(60, 9), terms(20, 1), no_lease];
    let closed = leases.remap(new, s(110), |old| old.checked_sub(1), |key, _| Some(key));
    let change = |door, n, why| Change {
        door,
        address: ip(n).into(),
        act: Act::Close(why),
    };
    assert_eq!(
        closed,
        [
            change(0, 1, Why::Removed),
            change(0, 2, Why::Removed),
            change(3, 1, Why::Removed),
            change(3, 2, Why::Removed),
            // Both were cut to the same end.
            change(2, 2, Why::GaveWay),
        ]
    );
    let left: Vec<_> = leases
        .iter()
        .map(|l| (l.door, l.address.address(), l.since, l.until))
        .collect();
    assert_eq!(
        left,
        [
            (0, ip(1), s(100), s(160)),
            (0, ip(2), s(101), s(161)),
            (1, ip(1), s(100), s(130)),
        ]
    );
    let extended = granted(&mut leases, 1, ip(1), s(111));
    assert_eq!(extended, [Act::Extend { until: s(131) }]);
}

/// Whom a knock lets in: of the addresses here, each of IPv6 ends in a small number.
fn of(address: IpAddr, prefix6: u8) -> Network {
    match address {
        IpAddr::V6(six) if prefix6 == 126 => {
            let base = std::net::Ipv6Addr::from(u128::from(six) & !3);
            Network::new(base.into(), 126).unwrap()
        }
        _ => Network::host(address),
    }
}

/// The longest that a lease of these terms can have before it.
fn longest(terms: &Terms) -> Option<Duration> {
    let open_for = terms.open_for?;
    Some(terms.idle.map_or(open_for, |idle| idle.max(open_for)))
}

/// The leases as a list by door and address, looked through each time.
#[derive(Default)]
struct Model {
    terms: Vec<Terms>,
    all: BTreeMap<(u16, Network), Lease>,
}

impl Model {
    fn nearest(&self, door: u16) -> Option<(u16, Network)> {
        let at_door = self.all.iter().filter(|(key, _)| key.0 == door);
        let nearest = at_door.min_by_key(|(key, lease)| (lease.until, key.1));
        nearest.map(|(key, _)| *key)
    }

    fn give_way(&mut self, door: u16, most: usize) -> Vec<Change> {
        let mut changes = Vec::new();
        while self.all.keys().filter(|key| key.0 == door).count() > most {
            let key = self.nearest(door).unwrap();
            self.all.remove(&key);
            changes.push(Change {
                door,
                address: key.1,
                act: Act::Close(Why::GaveWay),
            });
        }
        changes
    }

    fn grant(&mut self, by: By, door: u16, address: IpAddr, now: Time) -> Vec<Change> {
        let Some(terms) = self.terms.get(usize::from(door)).copied() else {
            return vec![];
        };
        let address = of(address, terms.prefix6);
        let change = |act| Change { door, address, act };
        let Some(open_for) = terms.open_for else {
            return vec![change(Act::Open { until: None })];
        };
        let until = now + by.lasts.unwrap_or(open_for).min(open_for);
        if let Some(lease) = self.all.get_mut(&(door, address)) {
            if until >= lease.until {
                (lease.until, lease.key) = (until, by.key);
            }
            return vec![change(Act::Extend { until: lease.until })];
        }
        if terms.max_leases == 0 {
            return vec![];
        }
        let mut changes = self.give_way(door, terms.max_leases - 1);
        let lease = Lease {
            door,
            address,
            since: now,
            until,
            key: by.key,
        };
        self.all.insert((door, address), lease);
        changes.push(change(Act::Open { until: Some(until) }));
        changes
    }

    fn due(&mut self, now: Time) -> Vec<(Time, Change)> {
        let mut changes = Vec::new();
        loop {
            let over = self.all.values().filter(|l| l.until <= now);
            let first = over.min_by_key(|l| (l.until, l.door, l.address)).copied();
            let Some(Lease {
                door,
                address,
                until,
                ..
            }) = first
            else {
                return changes;
            };
            self.all.remove(&(door, address));
            let act = Act::Close(Why::Due);
            changes.push((until, Change { door, address, act }));
        }
    }

    fn close(&mut self, ip: IpAddr, door: Option<u16>) -> Vec<Change> {
        let mut changes = Vec::new();
        self.all.retain(|key, _| {
            let address = key.1;
            let ends = address.contains(ip) && door.is_none_or(|door| door == key.0);
            if ends {
                changes.push(Change {
                    door: key.0,
                    address,
                    act: Act::Close(Why::Asked),
                });
            }
            !ends
        });
        changes
    }

    fn restore(&mut self, lease: Lease, now: Time) -> bool {
        let terms = self.terms.get(usize::from(lease.door));
        let fits = |t: &&Terms| of(lease.address.address(), t.prefix6) == lease.address;
        let Some(longest) = terms.filter(fits).and_then(longest) else {
            return false;
        };
        let until = lease.until.min(now + longest);
        if until <= now {
            return false;
        }
        let since = lease.since.min(now);
        let new = Lease {
            since,
            until,
            ..lease
        };
        let kept = self.all.entry((lease.door, lease.address)).or_insert(new);
        kept.since = kept.since.min(since);
        if until >= kept.until {
            (kept.until, kept.key) = (until, lease.key);
        }
        true
    }

    /// Doors move by one-to-one maps only.
    fn remap(
        &mut self,
        terms: Vec<Terms>,
        now: Time,
        map: &[Option<u16>],
        keys: &[Option<u16>],
    ) -> Vec<Change> {
        let mut old: Vec<Lease> = std::mem::take(&mut self.all).into_values().collect();
        old.sort_by_key(|l| (l.door, l.until, l.address));
        self.terms = terms;
        let mut changes = Vec::new();
        for lease in old {
            let new = map[usize::from(lease.door)];
            let new_terms = new.and_then(|n| self.terms.get(usize::from(n)));
            let fits = |t: &Terms| of(lease.address.address(), t.prefix6) == lease.address;
            let key = lease.key.map(|key| keys[usize::from(key)]);
            match (new, new_terms.and_then(longest)) {
                (Some(_), Some(_)) if key == Some(None) => changes.push(Change {
                    door: lease.door,
                    address: lease.address,
                    act: Act::Close(Why::Revoked),
                }),
                (Some(_), Some(_)) if !new_terms.is_some_and(fits) => changes.push(Change {
                    door: lease.door,
                    address: lease.address,
                    act: Act::Close(Why::Prefix),
                }),
                (Some(door), Some(longest)) => {
                    let until = lease.until.min(now + longest);
                    let kept = Lease {
                        door,
                        until,
                        key: key.flatten(),
                        ..lease
                    };
                    self.all.insert((door, lease.address), kept);
                }
                _ => changes.push(Change {
                    door: lease.door,
                    address: lease.address,
                    act: Act::Close(Why::Removed),
                }),
            }
        }
        for door in 0..self.terms.len() {
            let most = self.terms[door].max_leases;
            for change in self.give_way(door as u16, most) {
                let door = map
                    .iter()
                    .position(|new| *new == Some(change.door))
                    .unwrap();
                changes.push(Change {
                    door: door as u16,
                    ..change
                });
            }
        }
        changes
    }
}

#[derive(Clone, Debug)]
enum Event {
    Grant(u16, u8, By),
    Due,
    Close(u8, Option<u16>),
    Restore(u16, u8, u64, u64, Option<u16>),
    Remap(Vec<Terms>, Vec<Option<u16>>, Vec<Option<u16>>),
}

fn any_terms() -> impl Strategy<Value = Vec<Terms>> {
    let open_for = prop::option::weighted(0.85, (0u64..20).prop_map(Duration::from_secs));
    let idle = prop::option::weighted(0.3, (5u64..30).prop_map(Duration::from_secs));
    let prefix6 = prop_oneof![3 => Just(128), 1 => Just(126)];
    let one = (open_for, 0usize..4, idle, prefix6);
    let one = one.prop_map(|(open_for, max_leases, idle, prefix6)| Terms {
        open_for,
        max_leases,
        idle,
        prefix6,
    });
    prop::collection::vec(one, 4)
}

fn any_event() -> impl Strategy<Value = Event> {
    // Door 4 is none.
    let door = || 0u16..5;
    let map = Just((0..5).map(Some).collect::<Vec<_>>()).prop_shuffle();
    let map = (map, any::<[bool; 5]>()).prop_map(|(map, kept)| {
        let all = map.into_iter().zip(kept);
        all.map(|(new, kept)| new.filter(|_| kept)).collect()
    });
    let key = || prop::option::of(0u16..3);
    let lasts = prop::option::of((1u64..20).prop_map(Duration::from_secs));
    let by = (key(), lasts).prop_map(|(key, lasts)| By { key, lasts });
    let keys = prop::collection::vec(key(), 3);
    prop_oneof![
        8 => (door(), 0u8..6, by).prop_map(|(door, n, by)| Event::Grant(door, n, by)),
        3 => Just(Event::Due),
        1 => (0u8..6, prop::option::of(door())).prop_map(|(n, door)| Event::Close(n, door)),
        2 => (door(), 0u8..6, 0u64..60, 0u64..60, key())
            .prop_map(|(door, n, since, until, key)| Event::Restore(door, n, since, until, key)),
        1 => (any_terms(), map, keys)
            .prop_map(|(terms, map, keys)| Event::Remap(terms, map, keys)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn does_what_the_model_does(
        terms in any_terms(),
        events in prop::collection::vec((-2i64..6, any_event()), 0..60),
    ) {
        let mut leases = Leases::new(terms.clone());
        let mut model = Model { terms, ..Model::default() };
        let mut now = 20;
        for (passed, event) in events {
            now = (now + passed).max(0);
            let time = s(now as u64);
            let mut changes = Vec::new();
            match event {
                Event::Grant(door, n, by) => {
                    leases.grant_by(by, door, ip(n), time, |c| changes.push(c));
                    prop_assert_eq!(changes, model.grant(by, door, ip(n), time));
                }
                Event::Due => {
                    let mut ended = Vec::new();
                    leases.due(time, |end, c| ended.push((end, c)));
                    prop_assert_eq!(ended, model.due(time));
                }
                Event::Close(n, door) => {
                    leases.close(ip(n), door, |c| changes.push(c));
                    prop_assert_eq!(changes, model.close(ip(n), door));
                }
                Event::Restore(door, n, since, until, key) => {
                    let (address, since, until) = (ip(n).into(), s(since), s(until));
                    let lease = Lease { door, address, since, until, key };
                    prop_assert_eq!(leases.restore(lease, time), model.restore(lease, time));
                }
                Event::Remap(terms, map, keys) => {
                    let door = |old| map[usize::from(old)];
                    let key = |old, _| keys[usize::from(old)];
                    let changes = leases.remap(terms.clone(), time, door, key);
                    prop_assert_eq!(changes, model.remap(terms, time, &map, &keys));
                }
            }
            let mut all: Vec<Lease> = model.all.values().copied().collect();
            prop_assert_eq!(leases.next_end(), all.iter().map(|l| l.until).min());
            all.sort_by_key(|l| (l.door, l.until, l.address));
            prop_assert!(leases.iter().eq(&all));
            for lease in &all {
                prop_assert_eq!(leases.get(lease.door, lease.address), Some(lease));
            }
        }
    }
}
