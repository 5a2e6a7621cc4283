use super::*;

fn ip(text: &str) -> Network {
    text.parse().unwrap()
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

// Offsets and numbers below are those that the C program printed on 12.1, of 64 bits.

#[test]
fn the_calls_have_their_numbers() {
    assert_eq!(Call::Add.number(), 3_293_594_691);
    assert_eq!(Call::Delete.number(), 3_293_594_692);
    // DIOCRGETADDRS is 70, and printed as 3293594694.
    assert_eq!(Call::Tables.number(), 3_293_594_694 - 7);
}

#[test]
fn networks_enter_a_table_of_ours() {
    let networks = ["192.0.2.78", "2001:db8:0:1::/64"].map(ip);
    let request = Request::change(Call::Add, "door_ssh", true, &networks);
    assert_eq!((request.call, request.head.len()), (Call::Add, 1104));
    assert_eq!(request.head[..8], *b"postern\0");
    assert_eq!(request.head[1024..1033], *b"door_ssh\0");
    assert_eq!(number(&request.head, 1056), 0, "flags of the table");
    assert_eq!(number(&request.head, 1072), 20, "pfrio_esize");
    assert_eq!(number(&request.head, 1076), 2, "pfrio_size");
    assert!(request.head[1080..].iter().all(|byte| *byte == 0));
    let (first, second) = request.items.split_at(20);
    assert_eq!(first[..5], [192, 0, 2, 78, 0]);
    assert_eq!(first[16..], [2, 32, 0, 0]);
    assert_eq!(second[..9], [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 1, 0]);
    assert_eq!(second[16..], [28, 64, 0, 0]);
}

#[test]
fn a_table_of_the_administrators_is_in_no_anchor() {
    let request = Request::change(Call::Delete, "friends", false, &[ip("192.0.2.78")]);
    assert!(request.head[..1024].iter().all(|byte| *byte == 0));
    assert_eq!(request.head[1024..1032], *b"friends\0");
    let long = "x".repeat(40);
    let request = Request::change(Call::Delete, &long, false, &[]);
    assert_eq!(request.head[1024..1056], [&[b'x'; 31][..], &[0]].concat());
}

#[test]
fn tables_that_are_there_and_named() {
    let mut request = Request::tables(4);
    assert_eq!(request.head[..8], *b"postern\0");
    assert_eq!((number(&request.head, 1072), request.count()), (1064, 4));
    let tables = [
        ("door_ssh", 0x15_u32),
        ("door_web", 0x05),
        ("always", 0x1d),
        ("gone", 0x18),
    ];
    for ((name, flags), item) in tables.iter().zip(request.items.chunks_exact_mut(1064)) {
        item[1024..1024 + name.len()].copy_from_slice(name.as_bytes());
        item[1056..1060].copy_from_slice(&flags.to_ne_bytes());
    }
    let standing: Vec<&[u8]> = request.standing().collect();
    assert_eq!(standing, [&b"door_ssh"[..], b"always"]);
    request.head[1076..1080].copy_from_slice(&2_i32.to_ne_bytes());
    assert_eq!(request.standing().count(), 1, "no more than it says");
    request.head[1076..1080].copy_from_slice(&(-1_i32).to_ne_bytes());
    assert_eq!((request.count(), request.standing().count()), (0, 0));
}
