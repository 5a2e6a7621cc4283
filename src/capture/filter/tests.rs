use std::collections::BTreeSet;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use pcap::{BpfProgram, Capture, Dead, Linktype};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;
use crate::capture::{DLT_LOOP, DLT_RAW};
use crate::config::Port;
use crate::packet::frames::{
    Frame, LINKS, Network, SYN, TIME, Transport, every_kind, frames, transports,
};
use crate::packet::{What, parse};

fn tcp(number: u16) -> Port {
    Port {
        protocol: Protocol::Tcp,
        number,
    }
}

fn udp(number: u16) -> Port {
    Port {
        protocol: Protocol::Udp,
        number,
    }
}

fn filter(ports: impl IntoIterator<Item = Port>, flags: Option<TcpFlags>) -> Filter {
    let ports: BTreeSet<Port> = ports.into_iter().collect();
    Filter {
        ports: ports.into_iter().collect(),
        flags,
        echo: false,
        payload: 0,
    }
}

/// `n` ports without a pattern, of both protocols.
fn scattered(n: usize) -> Vec<Port> {
    let mut ports = BTreeSet::new();
    let mut state = n as u64;
    while ports.len() < n {
        // Knuth's MMIX generator, its high bits.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let number = (state >> 48) as u16;
        if number != 0 {
            let udp_too = state >> 32 & 3 == 0;
            ports.insert(if udp_too { udp(number) } else { tcp(number) });
        }
    }
    ports.into_iter().collect()
}

fn all() -> Vec<Port> {
    (1..=65535).map(tcp).chain((1..=65535).map(udp)).collect()
}

fn capture(link: Link) -> Capture<Dead> {
    let datalink = match link {
        Link::Ethernet => 1,
        Link::Null => 0,
        Link::Raw => DLT_RAW,
        Link::Cooked => 113,
        Link::Cooked2 => 276,
    };
    Capture::dead(Linktype(datalink)).unwrap()
}

fn compiled(link: Link, filter: &Filter) -> BpfProgram {
    let capture = capture(link);
    let expression = fit(&capture, link, filter).unwrap();
    capture.compile(&expression, true).unwrap()
}

fn wanted(filter: &Filter, what: What<'_>) -> bool {
    match what {
        What::Tcp { port, flags } => {
            filter.ports.contains(&tcp(port)) && filter.flags.is_none_or(|f| f.accept(flags))
        }
        What::Udp { port, .. } => filter.ports.contains(&udp(port)),
        What::Echo { .. } => filter.echo,
    }
}

struct Case {
    filter: Filter,
    /// In the order of `LINKS`.
    programs: Vec<BpfProgram>,
    /// Whether it is too short a list to be widened.
    exact: bool,
}

impl Case {
    fn new(ports: Vec<Port>, flags: Option<TcpFlags>) -> Case {
        Case::of(filter(ports, flags))
    }

    /// The same with echo requests.
    fn with_echo(ports: Vec<Port>, flags: Option<TcpFlags>) -> Case {
        Case::of(Filter {
            echo: true,
            ..filter(ports, flags)
        })
    }

    fn of(filter: Filter) -> Case {
        let exact = filter.ports.len() <= 30;
        let programs = LINKS.iter().map(|&l| compiled(l, &filter)).collect();
        Case {
            filter,
            programs,
            exact,
        }
    }

    fn passes(&self, link: Link, bytes: &[u8]) -> bool {
        let at = LINKS.iter().position(|&l| l == link).unwrap();
        self.programs[at].filter(bytes)
    }
}

static CASES: LazyLock<Mutex<Vec<Case>>> = LazyLock::new(|| {
    let syn = Some(TcpFlags::REQUEST);
    let xmas = Some(TcpFlags {
        mask: 0x29,
        value: 0x29,
    });
    Mutex::new(vec![
        Case::new(vec![tcp(7143)], syn),
        Case::new(vec![udp(65535)], syn),
        Case::new(vec![tcp(1), udp(1)], None),
        Case::new(scattered(30), syn),
        Case::new(scattered(30), xmas),
        Case::new(scattered(240), syn),
        Case::new(scattered(3000), None),
        Case::new(scattered(3000), syn),
        Case::new(all(), syn),
        Case::with_echo(vec![], None),
        Case::with_echo(vec![udp(62201)], syn),
        Case::with_echo(scattered(240), xmas),
        Case::with_echo(all(), syn),
    ])
});

fn cases() -> MutexGuard<'static, Vec<Case>> {
    CASES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which of the cases, and a frame that mostly fits it.
fn case_and_frame() -> impl Strategy<Value = (usize, Frame)> {
    let numbers = |case: &Case| case.filter.ports.iter().map(|p| p.number).collect();
    let lists: Vec<Vec<u16>> = cases().iter().map(numbers).collect();
    (0..lists.len()).prop_flat_map(move |case| {
        let lists = match lists[case].is_empty() {
            true => vec![vec![7143]; lists.len()],
            false => lists.clone(),
        };
        let port = || {
            let near = (select(lists[case].clone()), -1i32..=1)
                .prop_map(|(p, d)| (i32::from(p) + d).clamp(1, 65535) as u16);
            prop_oneof![select(lists[case].clone()), near, 1u16..]
        };
        (Just(case), frames(&LINKS, transports(port(), port())))
    })
}

/// Whether the filter lets it through whatever its port.
fn unchecked(frame: &Frame) -> bool {
    let cooked = matches!(frame.link, Link::Cooked | Link::Cooked2);
    let extended = match &frame.network {
        Network::V4 { .. } => false,
        Network::V6 { extensions, .. } => !extensions.is_empty(),
    };
    extended || (cooked && !frame.tags.is_empty())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]
    #[test]
    fn what_is_wanted_passes((case, frame) in case_and_frame()) {
        let case = &cases()[case];
        let bytes = frame.bytes();
        let Some(arrival) = parse(TIME, frame.link, &bytes) else {
            prop_assert!(frame.goes_on());
            return Ok(());
        };
        if wanted(&case.filter, arrival.what) {
            prop_assert!(case.passes(frame.link, &frame.bytes()), "{:?}", case.filter.flags);
        } else if case.exact && !unchecked(&frame) {
            prop_assert!(!case.passes(frame.link, &frame.bytes()), "{:?}", case.filter.flags);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]
    #[test]
    fn what_is_wanted_passes_however_it_is_broken_and_cut(
        (case, frame) in case_and_frame(),
        broken in vec((any::<Index>(), any::<u8>()), 1..4),
        cut in any::<Index>(),
    ) {
        let mut bytes = frame.bytes();
        for (at, value) in broken {
            *at.get_mut(&mut bytes) = value;
        }
        let bytes = &bytes[..frame.needed() + cut.index(bytes.len() - frame.needed() + 1)];
        // The parser knows address families of other systems, the filter only this one's.
        let native = frame.link != Link::Null || bytes[..4] == frame.family;
        if let Some(arrival) = parse(TIME, frame.link, bytes).filter(|_| native) {
            let case = &cases()[case];
            if wanted(&case.filter, arrival.what) {
                prop_assert!(case.passes(frame.link, bytes), "{:?}", case.filter.flags);
            }
        }
    }

    #[test]
    fn the_smallest_gaps_are_closed(
        ports in vec((any::<bool>(), 1..200u16), 0..60),
        max in 0..20usize,
    ) {
        let ports = ports.into_iter().map(|(t, n)| if t { tcp(n) } else { udp(n) });
        let filter = filter(ports, None);
        prop_assert_eq!(ranges(&filter, max), closed_one_by_one(&filter, max));
    }
}

/// What `ranges` does, slowly: every port is a range, and of two neighbours of a protocol that
/// are nearest, the lowest, one is made until few enough are left and none touch.
fn closed_one_by_one(filter: &Filter, max: usize) -> Vec<Range> {
    let key = |port: &Port| match port.protocol {
        Protocol::Tcp => 6 * 65536 + u32::from(port.number),
        Protocol::Udp => 17 * 65536 + u32::from(port.number),
    };
    let mut ranges: Vec<Range> = filter.ports.iter().map(|p| (key(p), key(p))).collect();
    loop {
        let nearest = (1..ranges.len())
            .filter(|&i| ranges[i - 1].1 / 65536 == ranges[i].0 / 65536)
            .min_by_key(|&i| ranges[i].0 - ranges[i - 1].1);
        match nearest {
            Some(i) if ranges.len() > max || ranges[i].0 - ranges[i - 1].1 == 1 => {
                ranges[i - 1].1 = ranges[i].1;
                ranges.remove(i);
            }
            _ => return ranges,
        }
    }
}

#[test]
fn every_program_fits() {
    for ports in [
        scattered(1),
        scattered(30),
        scattered(240),
        scattered(3000),
        (1..=32767).map(|n| tcp(2 * n)).collect(),
        all(),
    ] {
        for flags in [None, Some(TcpFlags::REQUEST)] {
            let filter = filter(ports.iter().copied(), flags);
            for link in LINKS {
                let n = compiled(link, &filter).get_instructions().len();
                println!("{} ports, {link:?}, {flags:?}: {n}", ports.len());
                assert!(n <= MAX_INSTRUCTIONS);
            }
        }
    }
}

#[test]
fn few_ports_are_not_widened() {
    let filter = filter(scattered(MAX_RANGES / 2), Some(TcpFlags::REQUEST));
    for link in LINKS {
        let expected = expression(link, &filter, usize::MAX);
        assert_eq!(fit(&capture(link), link, &filter).unwrap(), expected);
    }
}

#[test]
fn no_ports_let_nothing_through() {
    let filter = filter([], Some(TcpFlags::REQUEST));
    for link in LINKS {
        let program = compiled(link, &filter);
        for frame in every_kind().iter().filter(|f| f.link == link) {
            assert!(!program.filter(&frame.bytes()), "{frame:?}");
        }
    }
}

#[test]
fn what_is_no_knock_does_not_pass() {
    let filter = filter([tcp(7143), udp(2912)], Some(TcpFlags::REQUEST));
    for link in LINKS {
        let program = compiled(link, &filter);
        let syn = Frame::v4(link, SYN);
        assert!(program.filter(&syn.bytes()));

        let Network::V4 { options, .. } = syn.network else {
            unreachable!()
        };
        for fragment in [1, 0x2001, 0x1fff] {
            let mut later = syn.clone();
            later.network = Network::V4 { options, fragment };
            assert!(!program.filter(&later.bytes()), "{later:?}");
        }
        for flags in [0x10, 0x12, 0x18, 0x04, 0x01, 0x00, 0x29] {
            let transport = Transport::Tcp {
                port: 7143,
                flags,
                options: 0,
            };
            assert!(!program.filter(&Frame::v4(link, transport).bytes()));
            assert!(!program.filter(&Frame::v6(link, &[], transport).bytes()));
        }
        for protocol in (0..=255u8).filter(|&p| p != 6) {
            let mut bytes = syn.bytes();
            let at = bytes.len() - syn.transport_len() - 20 + 9;
            bytes[at] = protocol;
            assert!(!program.filter(&bytes), "{link:?} {protocol}");
        }
        assert!(!program.filter(&[]));
    }
    let mut arp = Frame::v4(Link::Ethernet, SYN).bytes();
    arp[12..14].copy_from_slice(&[8, 6]);
    assert!(!compiled(Link::Ethernet, &filter).filter(&arp));
}

/// OpenBSD's loopback: the family in network byte order.
#[test]
fn loop_frames_pass() {
    let filter = filter([tcp(7143)], Some(TcpFlags::REQUEST));
    let capture = Capture::dead(Linktype(DLT_LOOP)).unwrap();
    let expression = fit(&capture, Link::Null, &filter).unwrap();
    let program = capture.compile(&expression, true).unwrap();
    for mut frame in [Frame::v4(Link::Null, SYN), Frame::v6(Link::Null, &[], SYN)] {
        frame.family = u32::from_ne_bytes(frame.family).to_be_bytes();
        assert!(program.filter(&frame.bytes()), "{frame:?}");
    }
}

#[test]
fn an_expression() {
    let filter = filter([tcp(7143), udp(1000), udp(1001)], Some(TcpFlags::REQUEST));
    assert_eq!(
        expression(Link::Raw, &filter, MAX_RANGES),
        "(ip and (ip[6:2] & 0x1fff = 0 and (\
         (ip[9:1] != 6 or ip[((ip[0:1] & 15) << 2) + 13:1] & 23 = 2) and \
         (((ip[9:1] << 16) + ip[((ip[0:1] & 15) << 2) + 2:2]) = 400359 or \
         (((ip[9:1] << 16) + ip[((ip[0:1] & 15) << 2) + 2:2]) >= 1115112 and \
         ((ip[9:1] << 16) + ip[((ip[0:1] & 15) << 2) + 2:2]) <= 1115113))))) or \
         (ip6 and (ip6[6:1] = 0 or ip6[6:1] = 43 or ip6[6:1] = 44 or ip6[6:1] = 51 or \
         ip6[6:1] = 60 or ((ip6[6:1] != 6 or ip6[53:1] & 23 = 2) and \
         (((ip6[6:1] << 16) + ip6[42:2]) = 400359 or \
         (((ip6[6:1] << 16) + ip6[42:2]) >= 1115112 and \
         ((ip6[6:1] << 16) + ip6[42:2]) <= 1115113)))))"
    );
}
