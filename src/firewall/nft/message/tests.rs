use std::time::Duration;

use proptest::prelude::*;

use super::super::elements::{self, entry, lasting, plain};
use super::super::script::Name;
use super::*;

const RECORDED: &str = include_str!("recorded.txt");

/// NFTA_SET_ELEM_LIST_SET_ID: nft names sets also by their number in the transaction that makes
/// them.
const SET_ID: u16 = 4;

fn edit(verb: Verb, set: &'static str, elements: &[Element]) -> Edit {
    Edit {
        verb,
        set: Name::fixed(set),
        elements: elements.to_vec(),
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn session(local: &str, remote: &str) -> Element {
    lasting(Key::Session(Session {
        local: local.parse().unwrap(),
        remote: remote.parse().unwrap(),
    }))
}

/// What nft was given when it was recorded.
fn edits() -> Vec<Edit> {
    let short = entry(address("192.0.2.7"), Duration::from_millis(29_500));
    vec![
        edit(
            Verb::Add,
            "running4",
            &[session("10.77.0.1:22", "10.77.0.2:40000")],
        ),
        edit(
            Verb::Add,
            "running6",
            &[session("[fd77::1]:22", "[fd77::2]:40000")],
        ),
        edit(
            Verb::Add,
            "ssh_4",
            &[short, entry(address("192.0.2.9"), Duration::ZERO)],
        ),
        edit(
            Verb::Delete,
            "ssh_4",
            &["192.0.2.7", "192.0.2.9"].map(|text| plain(Key::Address(address(text)))),
        ),
        edit(Verb::Add, "ssh_4", &[short]),
        edit(
            Verb::Add,
            "ssh_6",
            &[entry(address("2001:db8::7"), Duration::from_secs(600))],
        ),
        edit(
            Verb::Add,
            "ssh_net6",
            &[entry(
                address("2001:db8:0:100::"),
                Duration::from_secs(365 * 24 * 3600),
            )],
        ),
    ]
}

/// The messages in this.
fn messages(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let length = u32::from_ne_bytes(bytes[..4].try_into().unwrap()) as usize;
        messages.push(bytes[..length].to_vec());
        bytes = &bytes[length.next_multiple_of(4)..];
    }
    messages
}

/// A message of nft's without what we leave out.
fn without_set_id(message: &[u8]) -> Vec<u8> {
    let (mut kept, mut rest) = message.split_at(HEADERS);
    let mut out = kept.to_vec();
    while !rest.is_empty() {
        let length = usize::from(u16::from_ne_bytes([rest[0], rest[1]])).next_multiple_of(4);
        (kept, rest) = rest.split_at(length.min(rest.len()));
        if u16::from_ne_bytes([kept[2], kept[3]]) != SET_ID {
            out.extend_from_slice(kept);
        }
    }
    let length = (out.len() as u32).to_ne_bytes();
    out[..4].copy_from_slice(&length);
    out
}

/// The same transaction as nft(8) makes it, byte for byte. It was recorded where numbers are in
/// little-endian order.
#[cfg(target_endian = "little")]
#[test]
fn edits_are_what_nft_makes_of_their_script() {
    let (script, hex) = RECORDED.split_once("\n\n").unwrap();
    let script: String = script
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| line.contains(" element "))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(elements::script(&edits()).as_str(), script);

    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let recorded: Vec<Vec<u8>> = hex
        .split("\n\n")
        .map(|message| message.replace('\n', ""))
        .map(|message| message.as_bytes().chunks(2).map(byte).collect())
        .map(|message: Vec<u8>| without_set_id(&message))
        .collect();
    let batch = batch(&edits(), 0, None).unwrap();
    assert_eq!(
        (batch.first, batch.acknowledged, batch.last),
        (0, 7, 8),
        "one message for each edit, between the first and the last"
    );
    let mut ours = messages(&batch.bytes);
    let flags = &mut ours[7][6..8];
    assert_eq!(
        u16::from_ne_bytes([flags[0], flags[1]]) & NLM_F_ACK,
        NLM_F_ACK
    );
    flags[0] &= !(NLM_F_ACK as u8);
    assert_eq!(ours, recorded);
}

#[test]
fn the_generation_that_is_compared_stands_in_the_first_message() {
    let batch = batch(&edits(), u32::MAX, Some(0x0102_0304)).unwrap();
    assert_eq!((batch.acknowledged, batch.last), (6, 7), "numbers go round");
    let begin = &messages(&batch.bytes)[0];
    assert_eq!(begin[HEADERS..][4..], [1, 2, 3, 4]);
    assert_eq!(begin.len(), HEADERS + 8);
}

#[test]
fn many_elements_take_several_messages() {
    let many = [session("[fd77::1]:22", "[fd77::2]:40000"); 1000];
    let edits = [edit(Verb::Add, "running6", &many)];
    let batch = batch(&edits, 1, None).unwrap();
    let messages = messages(&batch.bytes);
    assert_eq!(messages.len(), 1 + 4 + 1);
    assert!(messages.iter().all(|message| message.len() < 1 << 15));
    let acknowledged = messages
        .iter()
        .filter(|m| u16::from_ne_bytes([m[6], m[7]]) & NLM_F_ACK != 0);
    assert_eq!(acknowledged.count(), 1);
}

/// Sets of networks have two keys for each.
#[test]
fn networks_are_left_to_nft() {
    let network = lasting(Key::Network("192.0.2.0/24".parse().unwrap()));
    let edits = [edit(Verb::Add, "always_4", &[network])];
    assert_eq!(batch(&edits, 1, None), None);
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits
        .chunks(2)
        .map(|pair| (pair[0] << 4 | pair[1]) as u8)
        .collect()
}

/// What Linux 6.18 (x86_64) answered: to the question for the generation, to an edit, to a
/// transaction with another generation, and to an edit in a table that is not there.
const ANSWERS: &str = "
    300000000f0a000004000000d631000000000003080001000000000308000200000031d60c000300707974686f6e3300
    240000000200000106000000d6310000000000004c0000000c0a05040600000000000000
    300000000200000005000000d6310000abffffff1c0000001000010005000000000000000000000a0800010000000001
    600000000200000006000000d6310000feffffff4c0000000c0a050406000000000000000100000009000100676f6e65
    000000000a0002007373685f34000000200003801c0001800c00018008000100c00002070c0004000000000000007530
";
const ANSWERS_LENGTH: usize = 48 + 36 + 48 + 96;

#[cfg(target_endian = "little")]
#[test]
fn answers_of_the_kernel() {
    let received = from_hex(ANSWERS);
    assert_eq!(received.len(), ANSWERS_LENGTH);
    let says = [
        (4, Says::Generation(3)),
        (6, Says::Done),
        (5, Says::Error(85)),
        (6, Says::Error(2)),
    ];
    let expected = says.map(|(to, says)| Answer { to, says });
    assert_eq!(answers(&received), expected);
    // An error carries the message that it is about; the beginning is enough.
    assert_eq!(answers(&received[..ANSWERS_LENGTH - 60]), expected);
}

proptest! {
    #[test]
    fn whatever_is_received_is_read(received: Vec<u8>) {
        let _ = answers(&received);
    }

    /// Cut off anywhere, and with any byte changed.
    #[test]
    fn answers_that_were_damaged_are_read(length in 0usize..160, at in 0usize..160, with: u8) {
        let mut received = from_hex(ANSWERS);
        received[at % ANSWERS_LENGTH] = with;
        received.truncate(length);
        for answer in answers(&received) {
            prop_assert!(!matches!(answer.says, Says::Error(0)));
        }
    }
}
