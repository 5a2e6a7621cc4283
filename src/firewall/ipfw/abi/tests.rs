use super::*;

fn ours() -> Table {
    Table::ours("ssh").unwrap()
}

fn ip(text: &str) -> Network {
    text.parse().unwrap()
}

/// What stands at an offset.
fn at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes[offset..offset + N].try_into().unwrap()
}

fn two(bytes: &[u8], offset: usize) -> u16 {
    u16::from_ne_bytes(at(bytes, offset))
}

fn four(bytes: &[u8], offset: usize) -> u32 {
    u32::from_ne_bytes(at(bytes, offset))
}

// Offsets and numbers below are those that the C program printed on 12.1.

#[test]
fn an_entry_of_an_address() {
    let key = [Key::Network(ip("192.0.2.77"))];
    let bytes = change(Format::Narrow, &ours(), Verb::Add(1_793_300_000), &key);
    assert_eq!(bytes.len(), 96 + 16 + 120);
    assert_eq!(
        (two(&bytes, 0), two(&bytes, 2)),
        (0x56, 1),
        "opcode and version"
    );
    assert_eq!(at(&bytes, 4), [0; 8]);
    assert_eq!(two(&bytes, 12), 1, "idx");
    assert_eq!(
        (two(&bytes, 16), four(&bytes, 20)),
        (1, 80),
        "the name's head"
    );
    assert_eq!(two(&bytes, 16 + 8), 1, "the name's idx");
    assert_eq!((bytes[16 + 10], bytes[16 + 11]), (31, 1), "set and type");
    assert_eq!(at(&bytes, 16 + 16), *b"postern_ssh\0");
    let list = &bytes[96..];
    assert_eq!((four(list, 4), four(list, 8)), (136, 1), "length and count");
    assert_eq!(list[15], 1, "atomic");
    let entry = &bytes[112..];
    assert_eq!((two(entry, 2), four(entry, 4)), (1, 120), "update, length");
    assert_eq!(at(entry, 8), [2, 32, 0, 0], "family, length, result");
    assert_eq!(two(entry, 12), 1, "idx");
    assert_eq!(at(entry, 16), [192, 0, 2, 77, 0, 0, 0, 0]);
    assert_eq!(four(entry, 56), 1_793_300_000, "what is listed");
    let value = &entry[56..];
    for place in [4, 12, 16, 20, 24, 48] {
        assert_eq!(four(value, place), 1_793_300_000, "at {place}");
    }
    let half = (1_793_300_000_u32 & 0xffff) as u16;
    assert_eq!((two(value, 8), two(value, 10)), (half, half));
    assert_eq!(value[28], half as u8);
    assert_eq!(at(value, 29), [0; 19], "spare, and no next hop");
    assert_eq!(at(value, 52), [0; 12]);
}

#[test]
fn an_entry_of_fifteen() {
    let key = [Key::Network(ip("192.0.2.77"))];
    let bytes = change(Format::Wide, &ours(), Verb::Add(7), &key);
    assert_eq!(bytes.len(), 96 + 16 + 120);
    assert_eq!((two(&bytes, 0), two(&bytes, 2)), (0x56, 1));
    assert_eq!((four(&bytes, 8), four(&bytes, 12)), (1, 0), "idx and spare");
    let name = &bytes[16..96];
    assert_eq!((two(name, 0), four(name, 4)), (1, 80));
    assert_eq!(four(name, 8), 1, "idx");
    assert_eq!(at(name, 12), [31, 1, 0, 0], "set, type, spare");
    assert_eq!(at(name, 16), *b"postern_ssh\0");
    let entry = &bytes[112..];
    assert_eq!(four(entry, 12), 1, "idx");
    assert_eq!(at(entry, 16), [192, 0, 2, 77]);
    assert_eq!((four(entry, 56), at(entry, 60)), (7, [0; 60]));
    assert_eq!(two(&info(Format::Wide, &ours()), 2), 1, "version");
    assert_eq!(two(&info(Format::Narrow, &ours()), 2), 0, "version");
}

#[test]
fn entries_of_networks_are_deleted() {
    let table = Table::Theirs(super::super::batch::Name::new("mine").unwrap());
    let keys = ["192.0.2.1", "2001:db8:0:1::/64"].map(|text| Key::Network(ip(text)));
    let bytes = change(Format::Narrow, &table, Verb::Delete, &keys);
    assert_eq!(two(&bytes, 0), 0x57);
    assert_eq!((bytes[16 + 10], bytes[16 + 11]), (0, 1), "no set of ours");
    assert_eq!(at(&bytes, 32), *b"mine\0");
    let list = &bytes[96..];
    assert_eq!((four(list, 4), four(list, 8)), (16 + 2 * 120, 2));
    assert_eq!(list[15], 0);
    let second = &list[16 + 120..];
    assert_eq!((two(second, 2), four(second, 4)), (0, 120));
    assert_eq!(at(second, 8), [28, 64, 0, 0]);
    assert_eq!(
        at(second, 16),
        [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 1, 0, 0, 0, 0]
    );
    assert_eq!(at(second, 56), [0; 64], "no value");
}

#[test]
fn entries_of_sessions() {
    let session = |local: &str, remote: &str| Session {
        local: local.parse().unwrap(),
        remote: remote.parse().unwrap(),
    };
    let four_numbers = session("192.0.2.1:22", "198.51.100.7:40000");
    let six = session("[2001:db8::1]:22", "[2001:db8::2]:40001");
    let keys = [Key::Flow(&four_numbers), Key::Flow(&six)];
    let bytes = change(Format::Narrow, &Table::running(), Verb::Add(0), &keys);
    assert_eq!(bytes[16 + 11], 4, "IPFW_TABLE_FLOW");
    let (first, second) = bytes[112..].split_at(120);
    assert_eq!(at(first, 8), [2, 0, 0, 0]);
    assert_eq!(at(first, 16), [2, 6, 0, 0]);
    assert_eq!(at(first, 20), [0x9c, 0x40, 0, 22], "ports");
    assert_eq!(
        at(first, 24),
        [198, 51, 100, 7, 192, 0, 2, 1],
        "from there to here"
    );
    assert_eq!(at(second, 8), [28, 0, 0, 0]);
    assert_eq!(at(second, 16), [28, 6, 0, 0, 0x9c, 0x41, 0, 22]);
    assert_eq!((second[24 + 15], second[24 + 31]), (2, 1));
    assert_eq!(at(first, 56), [0; 64], "no value");
}

#[test]
fn what_became_of_entries() {
    let keys = [Key::Network(ip("192.0.2.1")); 5];
    let mut bytes = change(Format::Narrow, &ours(), Verb::Delete, &keys);
    for (place, result) in [1, 2, 3, 5, 7].into_iter().enumerate() {
        bytes[112 + place * 120 + 10] = result;
    }
    let all: Vec<Became> = became(&bytes).collect();
    use Became::{Added, Deleted, Failed, NotFound, Updated};
    assert_eq!(all, [Added, Updated, Deleted, NotFound, Failed(7)]);
    assert_eq!(became(&[0; 50]).count(), 0);
}

#[test]
fn what_a_table_holds() {
    let mut answer = info(Format::Narrow, &ours());
    assert_eq!(answer.len(), 96 + 200);
    assert_eq!((two(&answer, 0), answer[16 + 10]), (0x5d, 31));
    answer[96] = 1;
    answer[96 + 12..96 + 16].fill(0xff);
    let addresses = read_info(&answer).unwrap();
    assert!(addresses.fits(Holds::Addresses) && !addresses.fits(Holds::Flows));
    (answer[96], answer[97]) = (4, 0x1f);
    assert!(read_info(&answer).unwrap().fits(Holds::Flows));
    answer[97] = 0x0f;
    assert!(
        !read_info(&answer).unwrap().fits(Holds::Flows),
        "no protocol"
    );
    (answer[96], answer[96 + 12]) = (1, 4);
    assert!(
        !read_info(&answer).unwrap().fits(Holds::Addresses),
        "other values"
    );
    assert_eq!(read_info(&answer[..250]), None);
}

fn tlv_of(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = kind.to_ne_bytes().to_vec();
    bytes.extend([0; 2]);
    bytes.extend((8 + body.len() as u32).to_ne_bytes());
    bytes.extend(body);
    bytes
}

fn rule(number: u32, set: u8, id: u32) -> Vec<u8> {
    let mut body = vec![1, 0, 2, 0, 0, 0, set, 0];
    body.extend(number.to_ne_bytes());
    body.extend(id.to_ne_bytes());
    body.extend([0xab; 8]);
    tlv_of(7, &body)
}

/// An answer with table names before its rules.
fn listing(rules: &[Vec<u8>]) -> Vec<u8> {
    let mut answer = vec![0; 32];
    answer.extend(tlv_of(2, &[[0; 8].as_slice(), &[7; 80]].concat()));
    answer.extend(tlv_of(3, &[[0; 8].as_slice(), &rules.concat()].concat()));
    answer
}

#[test]
fn lasting_rules_are_ours_at_our_numbers() {
    let numbers = BTreeSet::from([101, 102, 500]);
    let asked = rules(Format::Narrow, &numbers, 64);
    assert_eq!((asked.len(), two(&asked, 0), two(&asked, 2)), (64, 97, 0));
    assert_eq!(four(&asked, 16), 1, "IPFW_CFG_GET_STATIC");
    assert_eq!((four(&asked, 24), four(&asked, 28)), (101, 500), "range");
    let (a, b) = (rule(101, 31, 1), rule(500, 31, 2));
    let others = [rule(101, 0, 3), rule(200, 31, 4), rule(65535, 31, 5)];
    let ours = [a.clone(), b.clone()].concat();
    let found = |rules: &[Vec<u8>]| lasting(&listing(rules), &numbers);
    assert_eq!(found(&[a.clone(), b.clone()]), Some(ours.clone()));
    let [c, d, e] = others;
    assert_eq!(found(&[c, a.clone(), d, b.clone(), e]), Some(ours.clone()));
    assert_ne!(
        found(&[b.clone(), a.clone()]),
        Some(ours.clone()),
        "another order"
    );
    assert_ne!(found(&[a, rule(500, 31, 9)]), Some(ours), "made anew");
    assert_eq!(found(&[]), Some(Vec::new()));
}

#[test]
fn a_listing_that_is_not_understood() {
    let numbers = BTreeSet::from([101]);
    let good = listing(&[rule(101, 31, 1)]);
    assert!(lasting(&good, &numbers).is_some());
    for length in 0..good.len() {
        // Cut behind the header or the names it is a listing without rules.
        let cut = lasting(&good[..length], &numbers);
        assert!(cut.is_none_or(|rules| rules.is_empty()), "{length}");
    }
    for (place, byte) in [(32, 9), (36, 0), (32 + 96 + 16, 9), (32 + 96 + 20, 0)] {
        let mut odd = good.clone();
        odd[place] = byte;
        odd[place + 1..place + 2].fill(0);
        assert_eq!(lasting(&odd, &numbers), None, "{place}");
    }
    assert_eq!(needed(&good), Some(0));
    assert_eq!(needed(&[]), None);
}
