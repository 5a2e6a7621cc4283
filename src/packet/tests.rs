use proptest::prelude::*;

use super::frames::{
    Apart, DATAGRAM, ECHO, Extension, Frame, LINKS, Network, SYN, TIME, Transport, apart,
    every_kind, frames, transports,
};
use super::*;

fn read(link: Link, bytes: &[u8]) -> Option<Apart> {
    parse(TIME, link, bytes).map(apart)
}

#[test]
fn every_kind_of_frame_is_read() {
    for frame in every_kind() {
        assert_eq!(
            read(frame.link, &frame.bytes()),
            frame.arrival(),
            "{frame:?}"
        );
    }
}

#[test]
fn a_frame_cut_short_is_the_same_arrival_or_none() {
    for mut frame in every_kind() {
        frame.padding = 6;
        let bytes = frame.bytes();
        for n in 0..=bytes.len() {
            let read = read(frame.link, &bytes[..n]);
            assert_eq!(read, frame.cut(n), "{frame:?} at {n}");
        }
    }
}

/// Whether every beginning of these bytes is the arrival that they are, of whose payload the end
/// may lack, or none.
fn cuts_agree(link: Link, bytes: &[u8]) -> bool {
    let whole = read(link, bytes);
    let mut cuts = (0..bytes.len()).map(|n| read(link, &bytes[..n]));
    cuts.all(|cut| match (cut, &whole) {
        (None, _) => true,
        (Some(cut), Some(whole)) => cut.0 == whole.0 && whole.1.starts_with(&cut.1),
        (Some(_), None) => false,
    })
}

/// Every kind of frame read as every link type, too: what a filter of another interface lets
/// through must do no harm.
#[test]
fn a_frame_cut_short_and_taken_for_another_kind_is_no_other_arrival() {
    for frame in every_kind() {
        for link in LINKS {
            assert!(cuts_agree(link, &frame.bytes()), "{frame:?} as {link:?}");
        }
    }
}

/// One byte of a header changed, any one to anything: 256 times its length, and each cut.
#[test]
fn a_broken_frame_cut_short_is_no_other_arrival() {
    let fragment = Extension::Fragment {
        offset: 0,
        more: true,
    };
    for link in LINKS {
        for frame in [
            Frame::v4(link, SYN),
            Frame::v4(link, DATAGRAM),
            Frame::v4(link, ECHO),
            Frame::v6(link, &[Extension::Destination(0)], ECHO),
            Frame::v6(link, &[Extension::HopByHop(0), fragment], SYN),
            Frame::v6(link, &[Extension::Authentication(1)], DATAGRAM),
        ] {
            let mut bytes = frame.bytes();
            for at in 0..bytes.len() {
                let was = bytes[at];
                for value in (0..=255).step_by(if cfg!(debug_assertions) { 5 } else { 1 }) {
                    bytes[at] = value;
                    assert!(cuts_agree(link, &bytes), "{frame:?}: {value:#x} at {at}");
                }
                bytes[at] = was;
            }
        }
    }
}

#[test]
fn null_frames_of_every_system() {
    let cases = [
        (Frame::v4(Link::Null, SYN), &[2u32][..]),
        (Frame::v6(Link::Null, &[], SYN), &[10, 24, 28, 30]),
    ];
    for (mut frame, families) in cases {
        for family in families {
            for bytes in [family.to_le_bytes(), family.to_be_bytes()] {
                frame.family = bytes;
                assert_eq!(read(Link::Null, &frame.bytes()), frame.arrival());
            }
        }
        for family in [[0; 4], [3, 0, 0, 0], [2, 0, 0, 2], [0, 2, 0, 0]] {
            frame.family = family;
            assert_eq!(read(Link::Null, &frame.bytes()), None, "{family:?}");
        }
    }
}

#[test]
fn the_family_of_the_link_header_binds() {
    let mut frame = Frame::v6(Link::Null, &[], SYN);
    frame.family = 2u32.to_ne_bytes();
    assert_eq!(read(Link::Null, &frame.bytes()), None);

    let mut bytes = Frame::v4(Link::Ethernet, SYN).bytes();
    bytes[12..14].copy_from_slice(&[0x86, 0xdd]);
    assert_eq!(read(Link::Ethernet, &bytes), None);
}

#[test]
fn a_fourth_tag_is_none() {
    for link in [Link::Ethernet, Link::Cooked, Link::Cooked2] {
        let frame = Frame::v4(link, SYN).with_tags(&[0x8100; 4]);
        assert_eq!(read(link, &frame.bytes()), None);
    }
}

#[test]
fn other_link_protocols_are_none() {
    let mut bytes = Frame::v4(Link::Ethernet, SYN).bytes();
    // ARP, 802.3 with a length, PPPoE, MPLS, MACsec.
    for ether_type in [0x0806u16, 60, 0x8864, 0x8847, 0x88e5] {
        bytes[12..14].copy_from_slice(&ether_type.to_be_bytes());
        assert_eq!(read(Link::Ethernet, &bytes), None, "{ether_type:#x}");
    }
    for first in [0u8, 0x15, 0x35, 0x55, 0x75, 0xff] {
        let mut bytes = Frame::v4(Link::Raw, SYN).bytes();
        bytes[0] = first;
        assert_eq!(read(Link::Raw, &bytes), None, "{first:#x}");
    }
}

/// A change to one 16-bit field of a raw frame, and whether it is still the arrival it was.
fn set(frame: &Frame, offset: usize, value: u16) -> Option<Apart> {
    let mut bytes = frame.bytes();
    bytes[offset..offset + 2].copy_from_slice(&value.to_be_bytes());
    read(Link::Raw, &bytes)
}

#[test]
fn first_fragments_only() {
    for transport in [SYN, DATAGRAM, ECHO] {
        let frame = Frame::v4(Link::Raw, transport);
        // Don't fragment, more fragments, the reserved bit: all begin at 0.
        for fragment in [0x0000, 0x4000, 0x2000, 0x8000] {
            let whole = Frame::new(
                Link::Raw,
                Network::V4 {
                    options: 0,
                    fragment,
                },
                transport,
            );
            assert_eq!(set(&frame, 6, fragment), whole.arrival());
        }
        // Offset 1 overlays the flags of a TCP header (RFC 1858, 3.1).
        for fragment in [0x0001, 0x2001, 0x1fff, 0x3fff, 0x0100] {
            assert_eq!(set(&frame, 6, fragment), None, "{fragment:#x}");
        }
        for more in [false, true] {
            for offset in [0, 1, 2, 0x1fff] {
                let frame = Frame::v6(
                    Link::Raw,
                    &[Extension::Fragment { offset, more }],
                    transport,
                );
                assert_eq!(
                    read(Link::Raw, &frame.bytes()),
                    (offset == 0).then(|| frame.arrival()).flatten(),
                    "{frame:?}"
                );
            }
        }
    }
}

#[test]
fn a_fragment_within_a_fragment_is_none() {
    let fragment = Extension::Fragment {
        offset: 0,
        more: false,
    };
    let frame = Frame::v6(Link::Raw, &[fragment, fragment], SYN);
    assert_eq!(read(Link::Raw, &frame.bytes()), None);
}

#[test]
fn a_first_fragment_holds_the_whole_tcp_header() {
    let frame = Frame::new(
        Link::Raw,
        Network::V4 {
            options: 0,
            fragment: 0x2000,
        },
        SYN,
    );
    assert_eq!(set(&frame, 2, 20 + 40), frame.arrival());
    for len in [20 + 39, 20 + 24, 20 + 16, 20 + 14, 20 + 8, 20] {
        assert_eq!(set(&frame, 2, len), None, "{len}");
    }
}

#[test]
fn the_datagram_of_a_first_fragment_may_be_longer() {
    let whole = Frame::v4(Link::Raw, DATAGRAM);
    let first = Frame::new(
        Link::Raw,
        Network::V4 {
            options: 0,
            fragment: 0x2000,
        },
        DATAGRAM,
    );
    assert_eq!(set(&whole, 24, 10), None);
    assert_eq!(set(&first, 24, 10), first.arrival());
    assert_eq!(set(&first, 24, 7), None);
    // Its header may not.
    assert_eq!(set(&first, 2, 20 + 8), first.arrival());
    for len in [20 + 7, 20 + 6] {
        assert_eq!(set(&first, 2, len), None, "{len}");
    }
}

#[test]
fn ipv4_lengths_must_agree() {
    let frame = Frame::v4(Link::Raw, SYN);
    let total = frame.bytes().len() as u16;
    // More than was captured: the capture may have cut it.
    for len in [total, total + 1, 1500, u16::MAX] {
        assert_eq!(set(&frame, 2, len), frame.arrival(), "{len}");
    }
    for len in [0, 19, 20, 39, total - 1] {
        assert_eq!(set(&frame, 2, len), None, "{len}");
    }
    for ihl in [0x40u8, 0x44, 0x4f] {
        let mut bytes = frame.bytes();
        bytes[0] = ihl;
        assert_eq!(read(Link::Raw, &bytes), None, "{ihl:#x}");
    }
}

#[test]
fn ipv6_lengths_must_agree() {
    let frame = Frame::v6(Link::Raw, &[Extension::Destination(0)], SYN);
    let len = frame.bytes().len() as u16 - 40;
    for len in [len, len + 1, u16::MAX] {
        assert_eq!(set(&frame, 4, len), frame.arrival(), "{len}");
    }
    // 0 would be a jumbogram's or a segmentation offload's.
    for len in [0, 7, 8, 27, len - 1] {
        assert_eq!(set(&frame, 4, len), None, "{len}");
    }
}

#[test]
fn tcp_header_lengths_must_agree() {
    let frame = Frame::v4(Link::Raw, SYN);
    let bytes = frame.bytes();
    for words in 0..16u8 {
        let mut bytes = bytes.clone();
        bytes[32] = words << 4;
        let expected = frame.arrival().filter(|_| (5..=10).contains(&words));
        assert_eq!(read(Link::Raw, &bytes), expected, "{words} words");
    }
}

#[test]
fn udp_lengths_must_agree() {
    for frame in [
        Frame::v4(Link::Raw, DATAGRAM),
        Frame::v6(Link::Raw, &[], DATAGRAM),
    ] {
        let field = frame.bytes().len() - 9 + 4;
        for len in 0..20 {
            let whole = frame.arrival().filter(|_| (8..=9).contains(&len));
            let expected = whole.map(|(head, mut payload)| {
                payload.truncate(usize::from(len) - 8);
                (head, payload)
            });
            assert_eq!(set(&frame, field, len), expected, "{len}");
        }
    }
    let mut frame = Frame::v4(Link::Raw, DATAGRAM);
    frame.transport = Transport::Udp {
        port: 2912,
        payload: 0,
    };
    assert_eq!(read(Link::Raw, &frame.bytes()), frame.arrival());
    for len in 20..28 {
        assert_eq!(set(&frame, 2, len), None, "{len}");
    }
}

#[test]
fn padding_is_not_the_packet() {
    // An IPv4 packet that ends before its TCP header, with a header standing in the padding.
    let frame = Frame::v4(Link::Ethernet, SYN);
    let mut bytes = frame.bytes();
    bytes[16..18].copy_from_slice(&20u16.to_be_bytes());
    assert_eq!(read(Link::Ethernet, &bytes), None);
}

#[test]
fn extension_headers_are_strict() {
    use Extension::*;
    let read = |extensions: &[Extension]| {
        let frame = Frame::v6(Link::Raw, extensions, SYN);
        let arrival = read(Link::Raw, &frame.bytes());
        assert!(arrival.is_none() || arrival == frame.arrival());
        arrival.is_some()
    };
    assert!(read(&[Destination(0); MAX_EXTENSIONS]));
    assert!(!read(&[Destination(0); MAX_EXTENSIONS + 1]));
    assert!(read(&[HopByHop(0), Destination(255)]));
    assert!(!read(&[Destination(0), HopByHop(0)]));
    assert!(!read(&[HopByHop(0), HopByHop(0)]));
    assert!(read(&[Routing {
        len: 2,
        segments_left: 0
    }]));
    assert!(!read(&[Routing {
        len: 2,
        segments_left: 1
    }]));
    assert!(read(&[Authentication(1)]));
    let fragment = Fragment {
        offset: 0,
        more: true,
    };
    assert!(read(&[fragment, Authentication(4), Destination(1)]));
}

#[test]
fn other_transports_are_none() {
    for protocol in 0..=255u8 {
        let mut v4 = Frame::v4(Link::Raw, SYN).bytes();
        v4[9] = protocol;
        let mut v6 = Frame::v6(Link::Raw, &[], SYN).bytes();
        v6[6] = protocol;
        // 17 reads TCP's sequence number, zero here, as the datagram's length.
        for bytes in [v4, v6] {
            assert_eq!(
                read(Link::Raw, &bytes).is_some(),
                protocol == 6,
                "{protocol}"
            );
        }
    }
}

#[test]
fn port_0_is_none() {
    for link in LINKS {
        let tcp = Transport::Tcp {
            port: 0,
            flags: 2,
            options: 0,
        };
        let udp = Transport::Udp {
            port: 0,
            payload: 4,
        };
        for transport in [tcp, udp] {
            assert_eq!(read(link, &Frame::v4(link, transport).bytes()), None);
            assert_eq!(read(link, &Frame::v6(link, &[], transport).bytes()), None);
        }
    }
}

proptest! {
    #[test]
    fn every_arrival_is_read_however_it_is_cut(
        frame in frames(&LINKS, transports(1u16.., 1u16..)),
        cut in 0..600usize,
    ) {
        let bytes = frame.bytes();
        prop_assert_eq!(read(frame.link, &bytes), frame.arrival());
        let cut = cut.min(bytes.len());
        prop_assert_eq!(read(frame.link, &bytes[..cut]), frame.cut(cut));
    }

    /// Nor does it become an arrival: what is wrong with a frame does not lie behind its cut.
    #[test]
    fn no_bytes_panic_however_they_are_cut(
        link in proptest::sample::select(&LINKS[..]),
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        prop_assert!(cuts_agree(link, &bytes));
    }

    #[test]
    fn no_broken_frame_panics(
        frame in frames(&LINKS, transports(0u16.., 0u16..)),
        broken in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = frame.bytes();
        for (at, value) in broken {
            *at.get_mut(&mut bytes) = value;
        }
        prop_assert!(cuts_agree(frame.link, &bytes));
        if let Some(arrival) = read(frame.link, &bytes) {
            let (arrival, _) = arrival;
            let nowhere = |what| matches!(what, What::Tcp { port: 0, .. } | What::Udp { port: 0, .. });
            prop_assert!(!nowhere(arrival.what));
            prop_assert_eq!(arrival.source.is_ipv4(), arrival.destination.is_ipv4());
        }
    }
}
