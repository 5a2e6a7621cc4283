//! Frames made by hand, for the tests here and of the kernel filter.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::{Arrival, Link, MAX_EXTENSIONS, MAX_TAGS, What};
use crate::time::Time;

pub const TIME: Time = Time(1_700_000_000_123_456);
pub const V4: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(192, 0, 2, 7), Ipv4Addr::new(198, 51, 100, 1));
pub const V6: (Ipv6Addr, Ipv6Addr) = (
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 1),
);
pub const TAGS: [u16; 3] = [0x8100, 0x88a8, 0x9100];

pub const LINKS: [Link; 5] = Link::ALL;

pub const SYN: Transport = Transport::Tcp {
    port: 7143,
    flags: 0x02,
    options: 5,
};
pub const DATAGRAM: Transport = Transport::Udp {
    port: 2912,
    payload: 1,
};
pub const ECHO: Transport = Transport::Echo { payload: 3 };

/// A frame to be: `bytes` writes it, `arrival` says what must be read from it.
#[derive(Clone, Debug)]
pub struct Frame {
    pub link: Link,
    /// The address family of a Null frame, as its bytes stand there.
    pub family: [u8; 4],
    pub tags: Vec<u16>,
    pub network: Network,
    pub transport: Transport,
    /// Bytes behind the packet, as Ethernet's minimum length makes them.
    pub padding: usize,
}

#[derive(Clone, Debug)]
pub enum Network {
    /// Options in words of 4 bytes; the flags and offset of the fragment.
    V4 { options: usize, fragment: u16 },
    V6 {
        class: u8,
        extensions: Vec<Extension>,
    },
}

#[derive(Clone, Copy, Debug)]
pub enum Extension {
    /// Length in units of 8 bytes beyond the first.
    HopByHop(u8),
    Destination(u8),
    Routing {
        len: u8,
        segments_left: u8,
    },
    Fragment {
        offset: u16,
        more: bool,
    },
    /// Length in words of 4 bytes beyond the first two, at least 1.
    Authentication(u8),
}

#[derive(Clone, Copy, Debug)]
pub enum Transport {
    /// Options in words of 4 bytes.
    Tcp {
        port: u16,
        flags: u8,
        options: usize,
    },
    Udp {
        port: u16,
        payload: usize,
    },
    /// An echo request.
    Echo {
        payload: usize,
    },
}

/// An arrival without what it carries, and that.
pub type Apart = (Arrival<'static>, Vec<u8>);

pub fn apart(arrival: Arrival<'_>) -> Apart {
    let (what, payload) = match arrival.what {
        What::Tcp { port, flags } => (What::Tcp { port, flags }, &[][..]),
        What::Udp { port, payload } => (What::Udp { port, payload: &[] }, payload),
        What::Echo { payload } => (What::Echo { payload: &[] }, payload),
    };
    let Arrival {
        time,
        source,
        destination,
        ..
    } = arrival;
    let head = Arrival {
        time,
        source,
        destination,
        what,
    };
    (head, payload.to_vec())
}

impl Extension {
    fn number(self) -> u8 {
        match self {
            Extension::HopByHop(_) => 0,
            Extension::Routing { .. } => 43,
            Extension::Fragment { .. } => 44,
            Extension::Authentication(_) => 51,
            Extension::Destination(_) => 60,
        }
    }

    fn write(self, next: u8, out: &mut Vec<u8>) {
        let start = out.len();
        match self {
            Extension::HopByHop(n) | Extension::Destination(n) => {
                // One PadN over all of it (RFC 8200, 4.2), longer than it may be for large n.
                out.extend([next, n, 1, 4]);
                out.resize(start + 8 + 8 * usize::from(n), 0);
            }
            Extension::Routing { len, segments_left } => {
                out.extend([next, len, 4, segments_left]);
                out.resize(start + 8 + 8 * usize::from(len), 0);
            }
            Extension::Fragment { offset, more } => {
                let [a, b] = (offset << 3 | u16::from(more)).to_be_bytes();
                out.extend([next, 0, a, b, 0xde, 0xad, 0xbe, 0xef]);
            }
            Extension::Authentication(n) => {
                out.extend([next, n, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]);
                out.resize(start + 8 + 4 * usize::from(n), 0xaa);
            }
        }
    }
}

impl Transport {
    pub fn port(self) -> u16 {
        match self {
            Transport::Tcp { port, .. } | Transport::Udp { port, .. } => port,
            Transport::Echo { .. } => 0,
        }
    }

    fn number(self, v4: bool) -> u8 {
        match self {
            Transport::Tcp { .. } => 6,
            Transport::Udp { .. } => 17,
            Transport::Echo { .. } if v4 => 1,
            Transport::Echo { .. } => 58,
        }
    }

    /// How many bytes there are behind its header.
    fn payload(self) -> usize {
        match self {
            Transport::Tcp { .. } => 0,
            Transport::Udp { payload, .. } | Transport::Echo { payload } => payload,
        }
    }

    /// The bytes of it that must have been captured.
    fn needed(self) -> usize {
        match self {
            Transport::Tcp { .. } => 14,
            Transport::Udp { .. } => 6,
            Transport::Echo { .. } => 8,
        }
    }

    fn write(self, v4: bool, out: &mut Vec<u8>) {
        if !matches!(self, Transport::Echo { .. }) {
            out.extend(40000u16.to_be_bytes());
            out.extend(self.port().to_be_bytes());
        }
        match self {
            Transport::Tcp { flags, options, .. } => {
                out.extend([0; 8]);
                out.extend([((5 + options) as u8) << 4, flags, 0x72, 0x10, 0, 0, 0, 0]);
                out.resize(out.len() + 4 * options, 1);
            }
            Transport::Udp { payload, .. } => {
                out.extend((8 + payload as u16).to_be_bytes());
                out.extend([0, 0]);
                out.resize(out.len() + payload, 0x55);
            }
            Transport::Echo { payload } => {
                out.extend([if v4 { 8 } else { 128 }, 0, 0, 0, 0x12, 0x34, 0, 1]);
                out.extend((0..payload).map(|n| n as u8));
            }
        }
    }
}

impl Frame {
    pub fn new(link: Link, network: Network, transport: Transport) -> Frame {
        let family = match network {
            Network::V4 { .. } => nix::libc::AF_INET,
            Network::V6 { .. } => nix::libc::AF_INET6,
        };
        Frame {
            link,
            family: family.to_ne_bytes(),
            tags: Vec::new(),
            network,
            transport,
            padding: 0,
        }
    }

    pub fn v4(link: Link, transport: Transport) -> Frame {
        let network = Network::V4 {
            options: 0,
            fragment: 0,
        };
        Frame::new(link, network, transport)
    }

    pub fn v6(link: Link, extensions: &[Extension], transport: Transport) -> Frame {
        let network = Network::V6 {
            class: 0,
            extensions: extensions.to_vec(),
        };
        Frame::new(link, network, transport)
    }

    pub fn with_tags(mut self, tags: &[u16]) -> Frame {
        self.tags = tags.to_vec();
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_link(&mut out);
        self.write_packet(&mut out);
        out.resize(out.len() + self.padding, 0);
        out
    }

    fn write_link(&self, out: &mut Vec<u8>) {
        let ether_type = match self.network {
            Network::V4 { .. } => 0x0800u16,
            Network::V6 { .. } => 0x86dd,
        };
        // Each tag is its control information and the type of what follows.
        let types: Vec<u16> = self.tags.iter().copied().chain([ether_type]).collect();
        match self.link {
            Link::Ethernet => {
                out.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
                out.extend(types[0].to_be_bytes());
            }
            Link::Null => out.extend(self.family),
            Link::Raw => {}
            Link::Cooked => {
                out.extend([0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 2, 0, 0]);
                out.extend(types[0].to_be_bytes());
            }
            Link::Cooked2 => {
                out.extend(types[0].to_be_bytes());
                out.extend([0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 2, 0, 0, 0, 0, 2, 0, 0]);
            }
        }
        for (i, next) in types.iter().enumerate().skip(1) {
            out.extend([0x20, i as u8]);
            out.extend(next.to_be_bytes());
        }
    }

    fn write_packet(&self, out: &mut Vec<u8>) {
        let start = out.len();
        match &self.network {
            Network::V4 { options, fragment } => {
                out.extend([0x45 + *options as u8, 0, 0, 0, 0x12, 0x34]);
                out.extend(fragment.to_be_bytes());
                out.extend([64, self.transport.number(true), 0, 0]);
                out.extend(V4.0.octets());
                out.extend(V4.1.octets());
                out.resize(out.len() + 4 * options, 1);
                self.transport.write(true, out);
                let len = (out.len() - start) as u16;
                out[start + 2..start + 4].copy_from_slice(&len.to_be_bytes());
            }
            Network::V6 { class, extensions } => {
                let mut numbers: Vec<u8> = extensions.iter().map(|e| e.number()).collect();
                numbers.push(self.transport.number(false));
                out.extend([0x60 | class >> 4, class << 4, 0, 1, 0, 0, numbers[0], 64]);
                out.extend(V6.0.octets());
                out.extend(V6.1.octets());
                for (extension, next) in extensions.iter().zip(&numbers[1..]) {
                    extension.write(*next, out);
                }
                self.transport.write(false, out);
                let len = (out.len() - start - 40) as u16;
                out[start + 4..start + 6].copy_from_slice(&len.to_be_bytes());
            }
        }
    }

    fn is_v4(&self) -> bool {
        matches!(self.network, Network::V4 { .. })
    }

    /// Whether more fragments follow.
    pub fn goes_on(&self) -> bool {
        match &self.network {
            Network::V4 { fragment, .. } => fragment & 0x2000 != 0,
            Network::V6 { extensions, .. } => {
                let more = |e: &Extension| matches!(e, Extension::Fragment { more: true, .. });
                extensions.iter().any(more)
            }
        }
    }

    /// The length of what IP carries, header and all.
    pub fn transport_len(&self) -> usize {
        let mut out = Vec::new();
        self.transport.write(self.is_v4(), &mut out);
        out.len()
    }

    /// The length to which the frame may be cut and still be an arrival.
    pub fn needed(&self) -> usize {
        self.bytes().len() - self.padding - self.transport_len() + self.transport.needed()
    }

    /// What must be read from it, cut to a length.
    pub fn cut(&self, to: usize) -> Option<Apart> {
        if to < self.needed() {
            return None;
        }
        let (head, mut payload) = self.arrival()?;
        let header = self.bytes().len() - self.padding - self.transport.payload();
        payload.truncate(to.saturating_sub(header));
        Some((head, payload))
    }

    /// What must be read from it: nothing if it is a part of an echo request.
    pub fn arrival(&self) -> Option<Apart> {
        let (source, destination): (IpAddr, IpAddr) = match self.network {
            Network::V4 { .. } => (V4.0.into(), V4.1.into()),
            Network::V6 { .. } => (V6.0.into(), V6.1.into()),
        };
        let what = match self.transport {
            Transport::Tcp { port, flags, .. } => What::Tcp { port, flags },
            Transport::Udp { port, .. } => What::Udp { port, payload: &[] },
            Transport::Echo { .. } if self.goes_on() => return None,
            Transport::Echo { .. } => What::Echo { payload: &[] },
        };
        let mut out = Vec::new();
        self.transport.write(self.is_v4(), &mut out);
        let payload = match self.goes_on() {
            true => Vec::new(),
            false => out.split_off(out.len() - self.transport.payload()),
        };
        let head = Arrival {
            time: TIME,
            source,
            destination,
            what,
        };
        Some((head, payload))
    }
}

/// Every link type, both families, both transports, every depth and kind of tag.
pub fn every_kind() -> Vec<Frame> {
    let tag_stacks: [&[u16]; 6] = [
        &[],
        &TAGS[..1],
        &TAGS[1..2],
        &TAGS[2..],
        &[0x88a8, 0x8100],
        &[0x9100, 0x88a8, 0x8100],
    ];
    let chain = [
        Extension::HopByHop(1),
        Extension::Destination(0),
        Extension::Routing {
            len: 2,
            segments_left: 0,
        },
        Extension::Fragment {
            offset: 0,
            more: true,
        },
        Extension::Authentication(4),
        Extension::Destination(3),
    ];
    let mut all = Vec::new();
    for link in LINKS {
        for transport in [SYN, DATAGRAM, ECHO] {
            let mut kinds = vec![
                Frame::v4(link, transport),
                Frame::v6(link, &[], transport),
                Frame::v6(link, &chain, transport),
            ];
            kinds.push(Frame::new(
                link,
                Network::V4 {
                    options: 10,
                    fragment: 0x2000,
                },
                transport,
            ));
            for frame in kinds {
                let tagged = matches!(link, Link::Ethernet | Link::Cooked | Link::Cooked2);
                let stacks = if tagged { &tag_stacks[..] } else { &[&[][..]] };
                for tags in stacks {
                    all.push(frame.clone().with_tags(tags));
                }
            }
        }
    }
    all
}

/// Every frame that is an arrival, but for fragments of echo requests: of any link type, with tags, options and extension headers.
/// Null frames have the address family as this system writes it.
pub fn frames(
    links: &'static [Link],
    transport: impl Strategy<Value = Transport> + 'static,
) -> impl Strategy<Value = Frame> {
    let network = prop_oneof![
        (0..=10usize, select(&[0, 0x4000, 0x2000][..]))
            .prop_map(|(options, fragment)| Network::V4 { options, fragment }),
        (any::<u8>(), extensions())
            .prop_map(|(class, extensions)| Network::V6 { class, extensions }),
    ];
    let tags = vec(select(&TAGS[..]), 0..=MAX_TAGS);
    (select(links), network, transport, tags, 0..40usize).prop_map(
        |(link, network, transport, tags, padding)| {
            let mut frame = Frame::new(link, network, transport);
            if matches!(link, Link::Ethernet | Link::Cooked | Link::Cooked2) {
                frame.tags = tags;
            }
            frame.padding = padding;
            frame
        },
    )
}

fn extensions() -> impl Strategy<Value = Vec<Extension>> {
    let hop = proptest::option::of((0..4u8).prop_map(Extension::HopByHop));
    let fragment = proptest::option::of(
        any::<bool>().prop_map(|more| Extension::Fragment { offset: 0, more }),
    );
    let other = || {
        prop_oneof![
            (0..4u8).prop_map(Extension::Destination),
            (0..4u8).prop_map(|len| Extension::Routing {
                len,
                segments_left: 0
            }),
            (1..8u8).prop_map(Extension::Authentication),
        ]
    };
    (hop, vec(other(), 0..=3), fragment, vec(other(), 0..=3)).prop_map(|(hop, a, b, c)| {
        let all: Vec<Extension> = hop.into_iter().chain(a).chain(b).chain(c).collect();
        assert!(all.len() <= MAX_EXTENSIONS);
        all
    })
}

/// TCP and UDP to ports that are given, and echo requests.
pub fn transports(
    tcp: impl Strategy<Value = u16> + 'static,
    udp: impl Strategy<Value = u16> + 'static,
) -> impl Strategy<Value = Transport> {
    let flags = prop_oneof![Just(0x02), Just(0x10), Just(0x12), any::<u8>()];
    prop_oneof![
        (tcp, flags, 0..=10usize).prop_map(|(port, flags, options)| Transport::Tcp {
            port,
            flags,
            options
        }),
        (udp, 0..64usize).prop_map(|(port, payload)| Transport::Udp { port, payload }),
        (0..64usize).prop_map(|payload| Transport::Echo { payload }),
    ]
}
