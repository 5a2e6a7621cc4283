//! Leases that traffic keeps.

#![cfg(feature = "daemon")]

use std::net::IpAddr;
use std::time::Duration;

use postern::config::Network;
use postern::lease::idle::{BEFORE, EVERY, PACE, Traffic};
use postern::lease::{Act, Change, Leases, Terms};
use postern::time::Time;
use proptest::prelude::*;

const OPEN_FOR: u64 = 30;

fn ip(n: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, n])
}

fn terms(idle: Option<u64>) -> Terms {
    Terms {
        open_for: Some(Duration::from_secs(OPEN_FOR)),
        max_leases: 9,
        idle: idle.map(Duration::from_secs),
        prefix6: 128,
    }
}

fn s(seconds: u64) -> Time {
    Time(seconds * 1_000_000)
}

/// The daemon's loop with a packet filter that tells how long ago traffic was, if `exact`.
struct Loop {
    leases: Leases,
    traffic: Traffic,
    exact: bool,
    /// When packets came, with their addresses.
    packets: Vec<(Time, IpAddr)>,
    looks: Vec<Time>,
    kept: Vec<Change>,
}

impl Loop {
    fn new(terms: Vec<Terms>, packets: &[(u64, u8)]) -> Loop {
        Loop {
            leases: Leases::new(terms),
            traffic: Traffic::default(),
            exact: true,
            packets: packets.iter().map(|&(at, n)| (s(at), ip(n))).collect(),
            looks: Vec::new(),
            kept: Vec::new(),
        }
    }

    fn grant(&mut self, n: u8, now: Time) {
        self.leases.grant(0, ip(n), now, |_| {});
    }

    fn look(&mut self, now: Time) {
        let before = self.looks.last().copied().unwrap_or_default();
        // One that counts does so from when a lease was made.
        let since = |at: Time, ip: IpAddr| {
            let made = self.leases.of(0, ip).map(|lease| lease.since);
            self.exact || (at > before && made.is_some_and(|made| at >= made))
        };
        let packets = self.packets.iter();
        let lately = packets.filter(|(at, ip)| *at <= now && since(*at, *ip));
        let ago = |at: Time| match self.exact {
            true => now.since(at),
            false => Duration::ZERO,
        };
        let all = lately.map(|(at, ip)| (0, Network::host(*ip), ago(*at)));
        self.traffic.looked(&self.leases, all, now);
        let kept = &mut self.kept;
        self.traffic
            .keep(&mut self.leases, now, |change| kept.push(change));
        self.looks.push(now);
    }

    /// Runs until nobody is let in; when each was put out.
    fn run(&mut self, from: Time) -> Vec<(Time, IpAddr)> {
        let (mut ended, mut now) = (Vec::new(), from);
        while let Some(end) = self.leases.next_end() {
            let look = self.traffic.next_look(&self.leases);
            now = now.max(look.map_or(end, |look| look.min(end)));
            if look.is_some_and(|look| look <= now) {
                self.look(now);
            }
            self.leases.due(now, |at, change| {
                ended.push((at, change.address.address()));
            });
        }
        ended
    }
}

#[test]
fn traffic_keeps_a_lease_and_silence_ends_it() {
    // The last packet counts, be it long before the end or shortly.
    for (packets, end) in [
        (&[][..], 130),
        (&[(105, 1)], 165),
        (&[(105, 1), (126, 1), (127, 1)], 187),
        (&[(105, 1), (160, 1), (215, 1)], 275),
        // Of somebody else.
        (&[(105, 2)], 130),
        // Too late.
        (&[(105, 1), (170, 1)], 165),
    ] {
        let mut daemon = Loop::new(vec![terms(Some(60))], packets);
        daemon.grant(1, s(100));
        assert_eq!(daemon.run(s(100)), [(s(end), ip(1))], "{packets:?}");
    }
}

#[test]
fn open_for_is_the_least() {
    let mut daemon = Loop::new(vec![terms(Some(5))], &[(101, 1), (127, 1)]);
    daemon.grant(1, s(100));
    assert_eq!(daemon.run(s(100)), [(s(132), ip(1))]);
    let mut daemon = Loop::new(vec![terms(Some(5))], &[(101, 1)]);
    daemon.grant(1, s(100));
    assert_eq!(daemon.run(s(100)), [(s(130), ip(1))]);
    assert_eq!(daemon.kept, []);
}

#[test]
fn ends_move_only_when_they_are_near() {
    let mut daemon = Loop::new(vec![terms(Some(60))], &[(101, 1), (110, 1), (119, 1)]);
    daemon.grant(1, s(100));
    daemon.run(s(100));
    let keep = Change {
        door: 0,
        address: ip(1).into(),
        act: Act::Keep { until: s(179) },
    };
    assert_eq!(daemon.kept, [keep]);
}

#[test]
fn nobody_is_asked_where_no_lease_goes_by_traffic() {
    let mut daemon = Loop::new(vec![terms(None)], &[(101, 1)]);
    daemon.grant(1, s(100));
    assert_eq!(daemon.run(s(100)), [(s(130), ip(1))]);
    assert_eq!(daemon.looks, []);
    let leases = Leases::new(vec![terms(Some(60))]);
    assert_eq!(Traffic::default().next_look(&leases), None);
}

#[test]
fn traffic_of_a_lease_that_has_ended_keeps_no_other() {
    let mut daemon = Loop::new(vec![terms(Some(60))], &[(105, 1)]);
    daemon.grant(1, s(100));
    daemon.look(s(106));
    daemon.leases.close(ip(1), None, |_| {});
    daemon.grant(1, s(107));
    assert_eq!(daemon.run(s(107)), [(s(137), ip(1))]);
}

#[test]
fn what_was_seen_goes_with_its_door() {
    let mut daemon = Loop::new(vec![terms(Some(60)), terms(Some(60))], &[(105, 1)]);
    daemon.grant(1, s(100));
    daemon.look(s(106));
    daemon.packets.clear();
    let closed = daemon.leases.remap(
        vec![terms(None), terms(Some(60))],
        s(107),
        |door| (door == 0).then_some(1),
        |key, _| Some(key),
    );
    assert_eq!(closed, []);
    daemon
        .traffic
        .moved(|door, address| (door == 0).then_some((1, address)));
    assert_eq!(daemon.run(s(107)), [(s(165), ip(1))]);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_lease_ends_when_its_packets_say(
        idle in 5u64..90,
        packets in prop::collection::vec((0u64..400, 1u8..4), 0..40),
        knocks in prop::collection::vec((0u64..50, 1u8..4), 1..6),
        exact: bool,
    ) {
        let mut packets = packets;
        packets.sort_unstable();
        let mut daemon = Loop::new(vec![terms(Some(idle))], &packets);
        daemon.exact = exact;
        for (at, n) in &knocks {
            daemon.grant(*n, s(100) + Duration::from_millis(at * 20));
        }
        let granted: Vec<_> = daemon.leases.iter().copied().collect();
        let ended = daemon.run(s(102));
        prop_assert_eq!(ended.len(), granted.len());
        for lease in granted {
            let who = lease.address.address();
            let (end, _) = *ended.iter().find(|(_, ip)| *ip == who).unwrap();
            // The end, if whatever comes so long before an end is not seen any more.
            let model = |cut: Duration, later: Duration| {
                let mut end = lease.until;
                loop {
                    let mine = packets.iter().filter(|(at, n)| {
                        ip(*n) == who && s(*at) >= lease.since && s(*at) + cut <= end
                    });
                    let last = mine.map(|(at, _)| s(*at) + Duration::from_secs(idle) + later);
                    match last.max() {
                        Some(kept) if kept > end => end = kept,
                        _ => break end,
                    }
                }
            };
            prop_assert!(model(BEFORE, Duration::ZERO) <= end);
            let later = if exact { Duration::ZERO } else { EVERY };
            prop_assert!(end <= model(BEFORE - PACE, later));
        }
        let pauses = daemon.looks.windows(2).map(|pair| pair[1].since(pair[0]));
        for pause in pauses {
            prop_assert!(PACE <= pause && pause <= EVERY, "{:?}", pause);
        }
    }
}
