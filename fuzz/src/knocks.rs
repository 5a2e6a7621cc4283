use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use postern::config::{Port, Protocol, TcpFlags};
use postern::knock::{EVERYWHERE, Kind, Knocks, MAX_STEPS, Outcome, Watch, can_knock};
use postern::packet::{Arrival, Link, What, parse};
use postern::time::Time;

use super::Bytes;

const OURS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

/// Doors and packets, all from the input; the packets go the whole way from their bytes.
///
/// Attempts are bounded in number and in time; two tables with other secrets and sizes say the
/// same as long as no attempt had to give way.
pub fn knocks(data: &[u8]) {
    let mut bytes = Bytes(data);
    let capacity = bytes.one_of(&[0, 1, 5, 8, 64, 512]);
    let watches: Vec<Watch> = (0..bytes.byte() % 8).map(|_| watch(&mut bytes)).collect();
    let avoid: Vec<Port> = (0..bytes.byte() % 4).map(|_| port(&mut bytes)).collect();
    let known = watches.len();
    let mut small = Seen::new(watches.clone(), &avoid, [1, 2], capacity);
    let mut large = Seen::new(watches, &avoid, [0x5555, u64::MAX], 4096);

    let mut now = 1_700_000_000_000_000;
    for _ in 0..512 {
        if bytes.is_empty() {
            break;
        }
        match bytes.byte() {
            0 => now += u64::from(bytes.two()) * 1000,
            1 => now -= u64::from(bytes.two()),
            2 => small.and(&mut large, |seen| seen.expire(Time(now))),
            3 => {
                let interface = usize::from(bytes.byte());
                small.and(&mut large, |seen| seen.knocks.hear_at(interface));
            }
            4 => small.and(&mut large, |seen| seen.knocks.admit_no_more()),
            more => {
                now += u64::from(more) * 100;
                let arrival = arrival(&mut bytes, Time(now));
                small.and(&mut large, |seen| seen.arrive(&arrival));
            }
        }
        let held = small.knocks.counters().held;
        assert!(held <= capacity as u64, "{held} attempts of {capacity}");
    }
    small.and(&mut large, |seen| {
        seen.expire(Time(u64::MAX));
        assert_eq!(seen.knocks.counters().held, 0);
    });
    for seen in [&small, &large] {
        let counters = seen.knocks.counters();
        let count = |kind| seen.told.iter().filter(|o| o.kind == kind).count() as u64;
        assert_eq!(count(Kind::Grant), counters.granted);
        assert_eq!(count(Kind::Timeout), counters.timed_out);
        assert_eq!(count(Kind::Fail), counters.failed + counters.trapped);
        assert!(seen.knocks.unwatched().count() <= known);
    }
    if small.knocks.counters().evicted == 0 && large.knocks.counters().evicted == 0 {
        assert_eq!(small.told, large.told);
    }
}

/// Knocks and what they said.
struct Seen {
    knocks: Knocks,
    told: Vec<Outcome>,
}

impl Seen {
    fn new(watches: Vec<Watch>, avoid: &[Port], secret: [u64; 2], capacity: usize) -> Seen {
        let knocks = Knocks::new(watches, avoid, secret, capacity);
        for port in knocks.ports() {
            assert_ne!(port.number, 0);
        }
        Seen {
            knocks,
            told: Vec::new(),
        }
    }

    fn and(&mut self, other: &mut Seen, mut act: impl FnMut(&mut Seen)) {
        for seen in [self, other] {
            let before = seen.told.len();
            act(seen);
            for at in before..seen.told.len() {
                seen.holds(at);
            }
            let waits = seen.knocks.next_deadline().is_some();
            assert_eq!(waits, seen.knocks.counters().held > 0);
        }
    }

    fn holds(&self, at: usize) {
        let outcome = &self.told[at];
        assert!(can_knock(outcome.source));
        assert!((1..=MAX_STEPS).contains(&usize::from(outcome.stage)));
        let mut watches = self.knocks.watches(outcome).peekable();
        assert!(watches.peek().is_some(), "{outcome:?} concerns nobody");
        for watch in watches {
            match outcome.kind {
                Kind::Grant => assert_eq!(watch.steps.len(), usize::from(outcome.stage)),
                _ => assert!(watch.steps.len() > usize::from(outcome.stage)),
            }
        }
        if let Some(before) = at.checked_sub(1) {
            assert!(self.told[before].time <= outcome.time);
        }
    }

    fn arrive(&mut self, arrival: &Arrival) {
        let told = &mut self.told;
        self.knocks
            .arrive(arrival, |a| OURS.contains(&a), |o| told.push(o));
    }

    fn expire(&mut self, now: Time) {
        let told = &mut self.told;
        self.knocks.expire(now, |o| told.push(o));
        let next = self.knocks.next_deadline();
        assert!(next.is_none_or(|next| next > now));
    }
}

fn watch(bytes: &mut Bytes) -> Watch {
    Watch {
        door: u16::from(bytes.byte() % 4),
        knock: u16::from(bytes.byte() % 2),
        line: u32::from(bytes.byte() % 2),
        steps: (0..bytes.byte() % 36).map(|_| port(bytes)).collect(),
        timeout: bytes.one_of(&[
            Duration::from_secs(5),
            Duration::from_secs(10),
            Duration::from_secs(600),
            Duration::from_micros(1),
            Duration::ZERO,
            Duration::MAX,
        ]),
        flags: bytes.one_of(&[
            TcpFlags::REQUEST,
            TcpFlags { mask: 0, value: 0 },
            TcpFlags {
                mask: 0x3f,
                value: 0x29,
            },
            TcpFlags { mask: 1, value: 2 },
        ]),
        target: bytes.one_of(&[None, Some(OURS[0]), Some(OURS[1])]),
        on: bytes.one_of(&[EVERYWHERE, 1, 2, 3, 0]),
    }
}

/// Mostly one of a few that lie close together.
fn port(bytes: &mut Bytes) -> Port {
    let first = bytes.byte();
    let number = match first & 0x40 {
        0 => 7000 + u16::from(first & 0x0f),
        _ => bytes.two().max(1),
    };
    let protocol = match first & 0x80 {
        0 => Protocol::Tcp,
        _ => Protocol::Udp,
    };
    Port { protocol, number }
}

/// Written as a frame and read from it.
fn arrival(bytes: &mut Bytes, time: Time) -> Arrival<'static> {
    let v4 = |last| IpAddr::from([198, 51, 100, last]);
    let v6 = |last| IpAddr::from([0x2001, 0xdb8, 7, 0, 0, 0, 0, last]);
    let from = bytes.byte();
    let (source, destination) = match from & 3 {
        0 | 1 => (v4(from >> 5), OURS[0]),
        2 => (v6(u16::from(from >> 5)), OURS[1]),
        _ => {
            let odd = IpAddr::from([from, from, from, from]);
            (odd, bytes.one_of(&[OURS[0], v4(1)]))
        }
    };
    let port = port(bytes);
    let what = match port.protocol {
        Protocol::Tcp => What::Tcp {
            port: port.number,
            flags: bytes.one_of(&[0x02, 0x12, 0x29, 0x00]),
        },
        Protocol::Udp => What::Udp {
            port: port.number,
            payload: &[],
        },
    };
    let arrival = Arrival {
        time,
        source,
        destination,
        what,
    };
    let frame = frame(&arrival);
    assert_eq!(parse(time, Link::Raw, &frame), Some(arrival));
    arrival
}

fn frame(arrival: &Arrival<'_>) -> Vec<u8> {
    let (number, transport) = match arrival.what {
        What::Tcp { port, flags } => {
            let [high, low] = port.to_be_bytes();
            let mut header = vec![0x9c, 0x40, high, low, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags];
            header.resize(20, 0);
            (6, header)
        }
        What::Echo { .. } => unreachable!("only ports are knocked at"),
        What::Udp { port, .. } => {
            let [high, low] = port.to_be_bytes();
            (17, vec![0x9c, 0x40, high, low, 0, 8, 0, 0])
        }
    };
    let length = transport.len() as u8;
    let mut frame = match (arrival.source, arrival.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut header = vec![0x45, 0, 0, 20 + length, 0, 0, 0, 0, 64, number, 0, 0];
            header.extend(source.octets());
            header.extend(destination.octets());
            header
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut header = vec![0x60, 0, 0, 0, 0, length, number, 64];
            header.extend(source.octets());
            header.extend(destination.octets());
            header
        }
        _ => unreachable!("both are of one family"),
    };
    frame.extend(transport);
    frame
}
