use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use postern::capture::{Error, File};
use postern::packet::{Arrival, Link, What, parse};
use tempfile::TempDir;

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/captures")
        .join(name)
}

fn arrivals(path: &Path) -> Result<String, Error> {
    let mut file = File::open(path)?;
    let link = file.link();
    let mut out = format!("{link:?}\n");
    while let Some(frame) = file.next_frame()? {
        let line = match parse(frame.time, link, frame.bytes) {
            Some(a) => format!(
                "{}.{:06} {} > {} {}",
                a.time.0 / 1_000_000,
                a.time.0 % 1_000_000,
                a.source,
                a.destination,
                match a.what {
                    What::Tcp { port, flags } => format!("{port}/tcp {flags:#04x}"),
                    What::Udp { port, .. } => format!("{port}/udp"),
                    What::Echo { payload } => format!("echo of {}", payload.len()),
                }
            ),
            None => "nothing".into(),
        };
        writeln!(out, "{line}").unwrap();
    }
    Ok(out)
}

#[test]
fn captures_made_by_tcpdump() {
    for name in ["ethernet", "ethernet-short", "cooked", "cooked2"] {
        let expected = fs::read_to_string(shipped(&format!("{name}.txt"))).unwrap();
        let found = arrivals(&shipped(&format!("{name}.pcap"))).unwrap();
        assert_eq!(found, expected, "{name}");
    }
}

/// 192.0.2.7 > 198.51.100.1, UDP to 2912.
const PACKET: [u8; 28] = [
    0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 7, 198, 51, 100, 1, 0x9c, 0x40, 0x0b,
    0x60, 0, 8, 0, 0,
];
const LINE: &str = "1700000000.123456 192.0.2.7 > 198.51.100.1 2912/udp\n";

/// A file in the format of pcap-savefile(5), by a system of either byte order.
fn pcap(magic: u32, linktype: u32, fraction: u32, frame: &[u8], big: bool) -> Vec<u8> {
    let word = |n: u32| {
        if big {
            n.to_be_bytes()
        } else {
            n.to_le_bytes()
        }
    };
    let half = |n: u16| {
        if big {
            n.to_be_bytes()
        } else {
            n.to_le_bytes()
        }
    };
    let mut out = Vec::new();
    out.extend(word(magic));
    out.extend(half(2));
    out.extend(half(4));
    let len = frame.len() as u32;
    for n in [0, 0, 65535, linktype, 1_700_000_000, fraction, len, len] {
        out.extend(word(n));
    }
    out.extend(frame);
    out
}

/// draft-ietf-opsawg-pcapng: a section, an interface, an enhanced packet.
fn pcapng(linktype: u16, frame: &[u8]) -> Vec<u8> {
    let block = |kind: u32, body: &[u8]| {
        let len = (body.len() as u32).next_multiple_of(4) + 12;
        let mut out = kind.to_le_bytes().to_vec();
        out.extend(len.to_le_bytes());
        out.extend(body);
        out.resize(len as usize - 4, 0);
        out.extend(len.to_le_bytes());
        out
    };
    let mut section = 0x1a2b_3c4du32.to_le_bytes().to_vec();
    section.extend([1, 0, 0, 0]);
    section.extend([0xff; 8]);
    let mut interface = linktype.to_le_bytes().to_vec();
    interface.extend([0, 0, 0xff, 0xff, 0, 0]);
    let micros = 1_700_000_000_123_456u64;
    let mut packet = Vec::new();
    for n in [
        0,
        (micros >> 32) as u32,
        micros as u32,
        frame.len() as u32,
        frame.len() as u32,
    ] {
        packet.extend(n.to_le_bytes());
    }
    packet.extend(frame);
    let mut out = block(0x0a0d_0d0a, &section);
    out.extend(block(1, &interface));
    out.extend(block(6, &packet));
    out
}

fn read(bytes: &[u8]) -> Result<String, Error> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.pcap");
    fs::write(&path, bytes).unwrap();
    arrivals(&path)
}

const MICROS: u32 = 0xa1b2_c3d4;
const NANOS: u32 = 0xa1b2_3c4d;

fn after(header: &[u8]) -> Vec<u8> {
    [header, &PACKET[..]].concat()
}

/// The numbers of pcap-linktype(7), LINKTYPE_ and not DLT_.
fn kinds() -> Vec<(u16, Vec<u8>, Link)> {
    let ethernet = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    let cooked = [0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 2, 0, 0, 8, 0];
    let cooked2 = [8, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 2, 0, 0, 0, 0, 2, 0, 0];
    vec![
        (1, after(&ethernet), Link::Ethernet),
        (0, after(&[2, 0, 0, 0]), Link::Null),
        (0, after(&[0, 0, 0, 2]), Link::Null),
        (108, after(&[0, 0, 0, 2]), Link::Null),
        (101, after(&[]), Link::Raw),
        (228, after(&[]), Link::Raw),
        (113, after(&cooked), Link::Cooked),
        (276, after(&cooked2), Link::Cooked2),
    ]
}

#[test]
fn every_link_type_and_format() {
    for (linktype, frame, link) in kinds() {
        let expected = Ok(format!("{link:?}\n{LINE}"));
        let number = u32::from(linktype);
        for big in [false, true] {
            let file = pcap(MICROS, number, 123_456, &frame, big);
            assert_eq!(read(&file), expected, "{linktype}, big-endian: {big}");
            let file = pcap(NANOS, number, 123_456_789, &frame, big);
            assert_eq!(read(&file), expected, "{linktype}, nanoseconds");
        }
        assert_eq!(read(&pcapng(linktype, &frame)), expected, "{linktype}");
    }
}

/// A file whose records hold the frame cut at every length, as a snaplen does.
fn cut_everywhere(linktype: u32, frame: &[u8]) -> Vec<u8> {
    let mut out = pcap(MICROS, linktype, 123_456, &[], false);
    out.truncate(24);
    for n in 0..=frame.len() {
        for word in [1_700_000_000, 123_456, n as u32, frame.len() as u32] {
            out.extend(u32::to_le_bytes(word));
        }
        out.extend(&frame[..n]);
    }
    out
}

#[test]
fn frames_of_every_link_type_cut_at_every_length() {
    for (linktype, frame, link) in kinds() {
        let found = read(&cut_everywhere(linktype.into(), &frame)).unwrap();
        // UDP is known by its first six bytes.
        let needed = frame.len() - 2;
        let expected = "nothing\n".repeat(needed) + &LINE.repeat(3);
        assert_eq!(found, format!("{link:?}\n{expected}"), "{linktype}");
    }
}

/// An arrival as it is told, and what it carries.
fn apart(arrival: Arrival<'_>) -> (String, Vec<u8>) {
    let (what, payload) = match arrival.what {
        What::Tcp { .. } => (arrival.what, &[][..]),
        What::Udp { port, payload } => (What::Udp { port, payload: &[] }, payload),
        What::Echo { payload } => (What::Echo { payload: &[] }, payload),
    };
    (
        format!("{:?}", Arrival { what, ..arrival }),
        payload.to_vec(),
    )
}

/// What tcpdump captured, cut at every length: each is the arrival it is whole, of whose payload
/// the end may lack, or none.
#[test]
fn real_frames_cut_at_every_length() {
    let mut cuts = 0;
    for name in ["ethernet", "ethernet-short", "cooked", "cooked2"] {
        let mut file = File::open(&shipped(&format!("{name}.pcap"))).unwrap();
        let link = file.link();
        while let Some(frame) = file.next_frame().unwrap() {
            let whole = parse(frame.time, link, frame.bytes).map(apart);
            for n in 0..frame.bytes.len() {
                let cut = parse(frame.time, link, &frame.bytes[..n]).map(apart);
                let begins = cut.is_none_or(|cut| {
                    let whole = whole.as_ref();
                    whole.is_some_and(|whole| cut.0 == whole.0 && whole.1.starts_with(&cut.1))
                });
                assert!(begins, "{name}: {n} of {frame:?}");
                cuts += 1;
            }
        }
    }
    assert!(cuts > 1000, "{cuts}");
}

#[test]
fn a_link_type_that_is_not_supported() {
    let found = read(&pcap(MICROS, 105, 0, &PACKET, false));
    let Err(Error::LinkType { link, .. }) = &found else {
        panic!("{found:?}");
    };
    assert_eq!(link, "IEEE802_11");
}

#[test]
fn a_file_that_ends_within_a_frame() {
    let whole = pcap(MICROS, 101, 123_456, &PACKET, false);
    for len in 25..whole.len() {
        let found = read(&whole[..len]);
        assert!(matches!(found, Err(Error::Pcap { .. })), "{len}: {found:?}");
    }
    assert_eq!(read(&whole[..24]), Ok("Raw\n".into()));
}

#[test]
fn what_is_no_capture_file() {
    for bytes in [&b""[..], b"sequence = [7000]\n", &[0; 100]] {
        let found = read(bytes);
        assert!(matches!(found, Err(Error::Pcap { .. })), "{found:?}");
    }
    let missing = File::open(Path::new("/nonexistent/a.pcap")).err().unwrap();
    assert_eq!(
        missing.to_string(),
        "/nonexistent/a.pcap: No such file or directory"
    );
    assert!(!missing.passes());
}
