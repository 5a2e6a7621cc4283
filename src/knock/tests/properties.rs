//! The machine against the model, and what must hold whatever arrives.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::super::*;
use super::model::{Model, Told};
use super::{Numbers, OURS, hit, outcomes, source, tcp, udp, watch};
use crate::config::Protocol;

const ALSO_OURS: &str = "2001:db8::1";
const OTHER: &str = "192.0.2.99";

fn ours(address: IpAddr) -> bool {
    address == OURS || address == ALSO_OURS.parse::<IpAddr>().unwrap()
}

fn told(knocks: &Knocks, outcome: &Outcome) -> Told {
    let place = |watch: &Watch| {
        let mut all = knocks.sequences.watches.iter();
        all.position(|w| std::ptr::eq(w, watch)).unwrap()
    };
    Told {
        time: outcome.time.0,
        source: outcome.source,
        kind: outcome.kind,
        stage: usize::from(outcome.stage),
        watches: knocks.watches(outcome).map(place).collect(),
    }
}

fn any_port() -> impl Strategy<Value = Port> {
    // Few, so that sequences share ports, and repeat them.
    (2000u16..2006, any::<bool>()).prop_map(|(n, is_tcp)| if is_tcp { tcp(n) } else { udp(n) })
}

fn any_flags() -> impl Strategy<Value = TcpFlags> {
    let fin = TcpFlags { mask: 1, value: 1 };
    let all = TcpFlags { mask: 0, value: 0 };
    prop_oneof![4 => Just(TcpFlags::REQUEST), 1 => Just(fin), 1 => Just(all)]
}

fn any_target() -> impl Strategy<Value = Option<IpAddr>> {
    prop_oneof![
        5 => Just(None),
        1 => Just(Some(OURS)),
        1 => Just(Some(OTHER.parse().unwrap())),
    ]
}

fn any_steps() -> impl Strategy<Value = Vec<Port>> {
    prop_oneof![
        4 => prop::collection::vec(any_port(), 1..5),
        // A common beginning.
        4 => prop::collection::vec(any_port(), 0..3).prop_map(|rest| {
            let mut steps = vec![tcp(2000), udp(2001)];
            steps.extend(rest);
            steps
        }),
        1 => prop::collection::vec(any_port(), 30..34),
        1 => Just(Vec::new()),
    ]
}

fn any_watches() -> impl Strategy<Value = Vec<Watch>> {
    let timeout = prop_oneof![
        Just(Duration::from_secs(2)),
        Just(Duration::from_secs(3)),
        Just(Duration::from_micros(1_500_500)),
        Just(Duration::ZERO),
    ];
    let one = (any_steps(), any_flags(), any_target(), timeout);
    prop::collection::vec(one, 0..7).prop_map(|all| {
        let all = all.into_iter().zip(0..);
        all.map(|((steps, flags, target, timeout), door)| Watch {
            flags,
            target,
            timeout,
            ..watch(door, &steps)
        })
        .collect()
    })
}

/// Which port an arrival is for: one of all that matter, the next that a sequence wants, or any.
#[derive(Clone, Debug)]
enum To {
    Listed(prop::sample::Index),
    Along(prop::sample::Index),
    Any(Port),
}

#[derive(Clone, Debug)]
struct Event {
    after: i64,
    source: IpAddr,
    destination: IpAddr,
    to: To,
    flags: u8,
    expire: bool,
}

fn any_event() -> impl Strategy<Value = Event> {
    let after = prop_oneof![
        6 => Just(0i64),
        6 => 0i64..1000,
        3 => 100_000i64..900_000,
        2 => Just(1_000_000i64),
        1 => 1_999_000i64..2_002_000,
        1 => Just(-500_000i64),
        1 => 0i64..10_000_000,
    ];
    let source = prop_oneof![
        8 => (0u32..3).prop_map(source),
        // Alike in its last bytes.
        1 => Just("2001:db8::a00:1".parse().unwrap()),
        1 => Just("127.0.0.1".parse().unwrap()),
    ];
    let destination = prop_oneof![
        10 => Just(OURS),
        2 => Just(ALSO_OURS.parse().unwrap()),
        2 => Just(OTHER.parse().unwrap()),
    ];
    let to = prop_oneof![
        3 => any::<prop::sample::Index>().prop_map(To::Listed),
        8 => any::<prop::sample::Index>().prop_map(To::Along),
        1 => any_port().prop_map(To::Any),
        1 => (any::<u16>(), any::<bool>())
            .prop_map(|(n, is_tcp)| To::Any(if is_tcp { tcp(n) } else { udp(n) })),
    ];
    let flags =
        prop_oneof![6 => Just(0x02u8), 1 => Just(0x01u8), 1 => Just(0x12u8), 1 => any::<u8>()];
    let expire = prop::bool::weighted(0.1);
    (after, source, destination, to, flags, expire).prop_map(
        |(after, source, destination, to, flags, expire)| Event {
            after,
            source,
            destination,
            to,
            flags,
            expire,
        },
    )
}

/// Events as arrivals: each source goes along one sequence after another, more or less.
fn arrivals(watches: &[Watch], ports: &[Port], events: &[Event]) -> Vec<(Arrival<'static>, bool)> {
    let mut time = 1_000_000i64;
    let mut along: std::collections::HashMap<IpAddr, (usize, usize)> = Default::default();
    let mut all = Vec::new();
    for event in events {
        time = (time + event.after).max(0);
        let port = match &event.to {
            To::Any(port) => *port,
            To::Listed(index) if !ports.is_empty() => ports[index.index(ports.len())],
            To::Along(index) if watches.iter().any(|w| !w.steps.is_empty()) => {
                let at = along.entry(event.source).or_insert((usize::MAX, 0));
                if at.0 == usize::MAX || at.1 == watches[at.0].steps.len() {
                    *at = (index.index(watches.len()), 0);
                    while watches[at.0].steps.is_empty() {
                        at.0 = (at.0 + 1) % watches.len();
                    }
                }
                at.1 += 1;
                watches[at.0].steps[at.1 - 1]
            }
            _ => tcp(1),
        };
        let what = match port.protocol {
            Protocol::Tcp => What::Tcp {
                port: port.number,
                flags: event.flags,
            },
            Protocol::Udp => What::Udp {
                port: port.number,
                payload: &[],
            },
        };
        let arrival = Arrival {
            time: Time(time as u64),
            source: event.source,
            destination: event.destination,
            what,
        };
        all.push((arrival, event.expire));
    }
    all
}

fn same_as_model(
    watches: &[Watch],
    events: &[Event],
    capacity: usize,
    secret: [u64; 2],
) -> Result<(), TestCaseError> {
    let mut knocks = Knocks::new(watches.to_vec(), &[], secret, capacity);
    let table = Table::new(secret, capacity, &[]);
    let bucket = |address: IpAddr| table.bucket(&pack(address));
    let ways = capacity.min(WAYS);
    let mut model = Model::new(watches, &knocks, &bucket, ways);
    for (arrival, expire) in arrivals(watches, &knocks.ports(), events) {
        let mut got = Vec::new();
        if expire {
            knocks.expire(arrival.time, |o| got.push(o));
            let got: Vec<Told> = got.iter().map(|o| told(&knocks, o)).collect();
            prop_assert_eq!(got, model.expire(arrival.time.0));
        } else {
            knocks.arrive(&arrival, ours, |o| got.push(o));
            let got: Vec<Told> = got.iter().map(|o| told(&knocks, o)).collect();
            prop_assert_eq!(got, model.arrive(&arrival, ours));
        }
        let next = knocks.next_deadline().map(|t| t.0);
        prop_assert_eq!(next, model.next_deadline());
        let counters = Counters {
            held: model.held() as u64,
            ..model.counters
        };
        prop_assert_eq!(knocks.counters(), counters);
        prop_assert!(model.held() <= capacity);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn does_what_the_model_does(
        watches in any_watches(),
        events in prop::collection::vec(any_event(), 0..120),
        secret in any::<[u64; 2]>(),
    ) {
        same_as_model(&watches, &events, 1 << 12, secret)?;
    }

    #[test]
    fn does_what_the_model_does_in_a_table_too_small(
        watches in any_watches(),
        events in prop::collection::vec(any_event(), 0..120),
        secret in any::<[u64; 2]>(),
        capacity in 0usize..18,
    ) {
        same_as_model(&watches, &events, capacity, secret)?;
    }

    #[test]
    fn many_at_once_are_as_one_by_one(
        watches in any_watches(),
        events in prop::collection::vec(any_event(), 0..120),
        capacity in 0usize..100,
        many in 1usize..80,
    ) {
        let mut runs = [(); 2].map(|()| Knocks::new(watches.clone(), &[], [1, 2], capacity));
        let ports = runs[0].ports();
        let all: Vec<Arrival> = arrivals(&watches, &ports, &events)
            .into_iter()
            .map(|(arrival, _)| arrival)
            .collect();
        let mut out = [Vec::new(), Vec::new()];
        for arrival in &all {
            runs[0].arrive(arrival, ours, |o| out[0].push(o));
        }
        for some in all.chunks(many) {
            runs[1].arrive_all(some, ours, |o| out[1].push(o));
        }
        prop_assert_eq!(&out[0], &out[1]);
        prop_assert_eq!(runs[0].counters(), runs[1].counters());
    }

    #[test]
    fn replays_alike_whatever_the_secret(
        watches in any_watches(),
        events in prop::collection::vec(any_event(), 0..120),
        secrets in any::<[[u64; 2]; 2]>(),
    ) {
        let mut runs = secrets.map(|s| Knocks::new(watches.clone(), &[], s, 1 << 12));
        let ports = runs[0].ports();
        prop_assert_eq!(&ports, &runs[1].ports());
        let mut out = [Vec::new(), Vec::new()];
        for (arrival, _) in arrivals(&watches, &ports, &events) {
            for (knocks, out) in runs.iter_mut().zip(&mut out) {
                knocks.arrive(&arrival, ours, |o| out.push(o));
            }
        }
        if runs.iter().all(|k| k.counters().evicted == 0) {
            prop_assert_eq!(&out[0], &out[1]);
        }
    }

    #[test]
    fn nothing_makes_it_panic(
        watches in prop::collection::vec(
            (
                prop::collection::vec((any::<bool>(), any::<u16>()), 0..40),
                any::<u8>(),
                any::<u8>(),
                any::<Option<IpAddr>>(),
                any::<Duration>(),
            ),
            0..6,
        ),
        avoid in prop::collection::vec((any::<bool>(), any::<u16>()), 0..4),
        capacity in 0usize..40,
        times in prop::collection::vec(any::<u64>(), 0..60),
        sources in prop::collection::vec(any::<IpAddr>(), 1..4),
        node in any::<u32>(),
    ) {
        let port = |(is_tcp, n): &(bool, u16)| if *is_tcp { tcp(*n) } else { udp(*n) };
        let watches: Vec<Watch> = watches
            .iter()
            .zip(0..)
            .map(|((steps, mask, value, target, timeout), door)| Watch {
                flags: TcpFlags { mask: *mask, value: *value },
                target: *target,
                timeout: *timeout,
                ..watch(door, &steps.iter().map(port).collect::<Vec<_>>())
            })
            .collect();
        let avoid: Vec<Port> = avoid.iter().map(port).collect();
        let mut knocks = Knocks::new(watches, &avoid, [1, 2], capacity);
        let ports = knocks.ports();
        let mut last = Time(0);
        for (n, time) in times.iter().enumerate() {
            let to = ports.get(n % ports.len().max(1)).copied().unwrap_or(tcp(0));
            let mut arrival = hit(*time, sources[n % sources.len()], to);
            if let What::Tcp { flags, .. } = &mut arrival.what {
                *flags = *time as u8;
            }
            knocks.arrive(&arrival, |_| true, |o| {
                assert!(o.time >= last);
                last = o.time;
            });
            prop_assert!(knocks.counters().held <= capacity as u64);
        }
        knocks.expire(Time(u64::MAX), |_| ());
        prop_assert_eq!(knocks.counters().held, 0);
        prop_assert_eq!(knocks.next_deadline(), None);
        for kind in [Kind::Stage, Kind::Grant, Kind::Fail, Kind::Timeout] {
            let outcome = Outcome { time: last, source: sources[0], kind, node, stage: 1 };
            prop_assert!(knocks.watches(&outcome).count() <= 6);
        }
        prop_assert!(knocks.swept().count() <= 6);
    }
}

#[test]
fn one_source_cannot_fill_a_bucket() {
    let doors: Vec<Watch> = (0..20)
        .map(|n| watch(n, &[tcp(3000 + n * 100), tcp(30_000 + n * 100), tcp(200)]))
        .collect();
    let mut knocks = Knocks::new(doors, &[], [5, 6], 8);
    for n in 0..20 {
        outcomes(&mut knocks, &hit(0, source(1), tcp(3000 + n * 100)));
    }
    assert_eq!(knocks.counters().held, PER_SOURCE as u64);
    assert_eq!(knocks.counters().evicted, 20 - PER_SOURCE as u64);
}

#[test]
fn a_thousand_doors_are_told_apart() {
    let mut numbers = Numbers(11);
    let doors: Vec<Watch> = (0..1000)
        .map(|door| {
            let steps: Vec<Port> = (0..4)
                .map(|_| tcp(1024 + numbers.below(64_000) as u16))
                .collect();
            watch(door, &steps)
        })
        .collect();
    let mut knocks = Knocks::new(doors.clone(), &[], [1, 2], 1 << 16);
    assert_eq!(knocks.unwatched().count(), 0);
    for (n, door) in doors.iter().enumerate() {
        let mut opened = HashSet::new();
        for step in &door.steps {
            for outcome in outcomes(&mut knocks, &hit(n as u64, source(n as u32), *step)) {
                if outcome.kind == Kind::Grant {
                    opened.extend(knocks.watches(&outcome).map(|w| w.door));
                }
            }
        }
        assert!(opened.contains(&door.door), "{n}");
    }
}
