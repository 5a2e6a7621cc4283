//! Frame -> arrival.

use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr};

use postern::packet::{Link, parse};
use postern::time::Time;

use super::Case;

pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Link::ALL
        .into_iter()
        .map(|link| {
            let frame = syn(link, Ipv4Addr::new(192, 0, 2, 7), 7000);
            taken(&format!("a SYN, {link:?}"), link, frame)
        })
        .collect();
    let usual = || syn(Link::Ethernet, Ipv4Addr::new(192, 0, 2, 7), 7000);
    let mut tagged = usual();
    tagged.splice(12..12, [0x81, 0x00, 0x00, 0x05]);
    let mut cut = usual();
    cut.truncate(14 + 20 + 12);
    let mut arp = usual();
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    let mut esp = usual();
    esp[14 + 9] = 50;
    let echo = framed(Link::Ethernet, 0x0800, ipv4(1, [192, 0, 2, 7], &echo(56)));
    let ethernet = Link::Ethernet;
    cases.extend([
        taken("a SYN, Ethernet with a VLAN", ethernet, tagged),
        taken("a SYN over IPv6, Ethernet", ethernet, syn6()),
        taken("a datagram of 200 bytes, Ethernet", ethernet, datagram(200)),
        taken("an echo request, Ethernet", ethernet, echo),
        refused("a SYN cut short, Ethernet", ethernet, cut),
        refused("ESP, Ethernet", ethernet, esp),
        refused("ARP, Ethernet", ethernet, arp),
    ]);
    cases
}

fn taken(name: &str, link: Link, frame: Vec<u8>) -> Case {
    assert!(parse(Time(1), link, &frame).is_some(), "{name}");
    case(name, link, frame)
}

fn refused(name: &str, link: Link, frame: Vec<u8>) -> Case {
    assert!(parse(Time(1), link, &frame).is_none(), "{name}");
    case(name, link, frame)
}

fn case(name: &str, link: Link, frame: Vec<u8>) -> Case {
    Case::new(name, move || {
        let frame = frame.clone();
        move || {
            black_box(parse(Time(1), link, black_box(&frame)));
        }
    })
}

/// A SYN to 198.51.100.1 as a link carries it, without options.
pub fn syn(link: Link, source: Ipv4Addr, port: u16) -> Vec<u8> {
    framed(link, 0x0800, ipv4(6, source.octets(), &segment(port)))
}

fn syn6() -> Vec<u8> {
    let address = |last| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).octets();
    let segment = segment(7000);
    let mut packet = vec![0x60, 0, 0, 0, 0, segment.len() as u8, 6, 64];
    packet.extend(address(7));
    packet.extend(address(1));
    packet.extend(segment);
    framed(Link::Ethernet, 0x86dd, packet)
}

fn datagram(len: u16) -> Vec<u8> {
    let mut datagram = vec![0x9c, 0x40];
    datagram.extend(62201u16.to_be_bytes());
    datagram.extend((len + 8).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.resize(usize::from(len) + 8, b'A');
    framed(Link::Ethernet, 0x0800, ipv4(17, [192, 0, 2, 7], &datagram))
}

fn segment(port: u16) -> Vec<u8> {
    let mut segment = vec![0x9c, 0x40];
    segment.extend(port.to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0x04, 0, 0, 0, 0, 0]);
    segment
}

fn echo(len: usize) -> Vec<u8> {
    let mut echo = vec![8, 0, 0, 0, 0, 1, 0, 1];
    echo.resize(8 + len, 0x20);
    echo
}

fn ipv4(protocol: u8, source: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let len = (20 + payload.len()) as u16;
    let mut packet = vec![0x45, 0];
    packet.extend(len.to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
    packet.extend(source);
    packet.extend([198, 51, 100, 1]);
    packet.extend(payload);
    packet
}

fn framed(link: Link, ether_type: u16, packet: Vec<u8>) -> Vec<u8> {
    let [high, low] = ether_type.to_be_bytes();
    let mut frame = match link {
        Link::Ethernet => vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, high, low],
        Link::Null => vec![2, 0, 0, 0],
        Link::Raw => Vec::new(),
        Link::Cooked => vec![0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 2, 0, 0, high, low],
        Link::Cooked2 => {
            let mut header = vec![high, low, 0, 0, 0, 0, 0, 1, 0, 1, 0, 6];
            header.extend([2, 0, 0, 0, 0, 2, 0, 0]);
            header
        }
    };
    frame.extend(packet);
    frame
}
