use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;
use crate::config::Protocol;

fn secret(mac: Mac) -> Secret {
    Secret {
        cipher: (0..32).collect(),
        hmac: (64..128).collect(),
        mac,
    }
}

fn request() -> Request {
    Request {
        whom: Whom::Address("192.0.2.7".parse().unwrap()),
        ports: vec!["22/tcp".parse().unwrap()],
        time: 1_795_332_713,
        lasts: None,
        user: "alice".to_owned(),
    }
}

/// What the key makes of a payload.
fn opened(secret: &Secret, payload: &[u8]) -> Option<Request> {
    let opener = Opener::new(secret);
    let shaped = shape(payload)?;
    opener.open(&shaped, &opener.verify(&shaped)?)
}

/// Whether the key's HMAC holds.
fn holds(secret: &Secret, payload: &[u8]) -> bool {
    shape(payload).is_some_and(|shaped| Opener::new(secret).verify(&shaped).is_some())
}

fn any_request() -> impl Strategy<Value = Request> {
    let port = (any::<bool>(), 1..=u16::MAX).prop_map(|(tcp, number)| Port {
        protocol: if tcp { Protocol::Tcp } else { Protocol::Udp },
        number,
    });
    (
        any::<Option<IpAddr>>(),
        proptest::collection::vec(port, 1..=MOST_PORTS),
        0..1_000_000_000_000u64,
        proptest::option::of(1..=MOST_LASTS),
        "[a-zA-Z0-9 ._@-]{1,48}",
    )
        .prop_map(|(address, ports, time, lasts, user)| {
            let address = address.filter(|address| *address != Ipv4Addr::UNSPECIFIED);
            Request {
                whom: address.map_or(Whom::Observed, Whom::Address),
                ports,
                time,
                lasts,
                user,
            }
        })
}

fn any_secret() -> impl Strategy<Value = Secret> {
    (
        proptest::collection::vec(any::<u8>(), 16..=128),
        proptest::collection::vec(any::<u8>(), 16..=128),
        any::<bool>(),
    )
        .prop_map(|(cipher, hmac, long)| Secret {
            cipher,
            hmac,
            mac: if long { Mac::Sha512 } else { Mac::Sha256 },
        })
}

proptest! {
    #[test]
    fn what_is_sealed_is_opened(
        secret in any_secret(),
        request in any_request(),
        random: [u8; 24],
        other in any_secret(),
    ) {
        let payload = seal(&secret, &request, &random);
        prop_assert!((SHORTEST..=LONGEST).contains(&payload.len()));
        prop_assert_eq!(opened(&secret, &payload), Some(request));
        prop_assert!(!holds(&other, &payload));
    }

    #[test]
    fn no_payload_is_too_strange(payload: Vec<u8>, text: Vec<u8>, salt: [u8; 8]) {
        shape(&payload);
        opened(&secret(Mac::Sha256), &seal_text(&secret(Mac::Sha256), &text, &salt));
    }
}

#[test]
fn one_bit_and_the_hmac_does_not_hold() {
    for mac in [Mac::Sha256, Mac::Sha512] {
        let secret = secret(mac);
        let mut payload = seal(&secret, &request(), &[3; 24]);
        assert!(holds(&secret, &payload));
        for bit in 0..payload.len() * 8 {
            payload[bit / 8] ^= 1 << (bit % 8);
            assert!(!holds(&secret, &payload), "{mac}: bit {bit}");
            payload[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(holds(&secret, &payload));
    }
}

#[test]
fn nothing_is_cut_off_or_added() {
    for mac in [Mac::Sha256, Mac::Sha512] {
        let secret = secret(mac);
        let payload = seal(&secret, &request(), &[3; 24]);
        for len in 0..payload.len() {
            assert!(!holds(&secret, &payload[..len]), "the first {len}");
            assert!(
                !holds(&secret, &payload[payload.len() - len..]),
                "the last {len}"
            );
        }
        for added in ["=", "==", "=AAAA", "A", "AAAA", "\n", "\r\n", "\0", " "] {
            let longer = [&payload[..], added.as_bytes()].concat();
            assert!(!holds(&secret, &longer), "{added:?} behind it");
            let longer = [added.as_bytes(), &payload[..]].concat();
            assert!(!holds(&secret, &longer), "{added:?} before it");
        }
        let whole = [b"U2FsdGVkX1", &payload[..]].concat();
        assert!(!holds(&secret, &whole), "with its prefix");
    }
}

/// Every last character that differs in its stray bits alone stands for the same bytes.
#[test]
fn the_hmac_has_one_form() {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (mac, stray) in [(Mac::Sha256, 4), (Mac::Sha512, 16)] {
        let secret = secret(mac);
        let mut payload = seal(&secret, &request(), &[3; 24]);
        let last = payload.len() - 1;
        let digit = DIGITS.iter().position(|&d| d == payload[last]).unwrap();
        assert_eq!(digit % stray, 0);
        for &other in &DIGITS[digit + 1..digit + stray] {
            payload[last] = other;
            assert!(!shape(&payload).is_some_and(|shaped| shaped.can_be(mac)));
        }
    }
}

/// The lengths that can be, from the format: some number of blocks behind the salt, an HMAC.
#[test]
fn shapes() {
    let mut lengths = [Vec::new(), Vec::new()];
    for blocks in 1..100 {
        let text = (16 * (blocks + 1) * 8usize).div_ceil(6) - 10;
        lengths[0].push(text + 43);
        lengths[1].push(text + 86);
    }
    let mut both = 0;
    for len in 0..1600 {
        let payload = [b"8", &vec![b'A'; len][..]].concat();
        let shaped = shape(&payload);
        let can_be = |mac| shaped.is_some_and(|shaped| shaped.can_be(mac));
        let bounded = (SHORTEST..=LONGEST).contains(&payload.len());
        let right = |which: usize| bounded && lengths[which].contains(&payload.len());
        assert_eq!(can_be(Mac::Sha256), right(0), "{}", payload.len());
        assert_eq!(can_be(Mac::Sha512), right(1), "{}", payload.len());
        both += usize::from(right(0) && right(1));
    }
    assert!(both > 0);
    assert_eq!(LONGEST, 844);

    let payload = seal(&secret(Mac::Sha256), &request(), &[3; 24]);
    for first in 0..=u8::MAX {
        let other = [&[first], &payload[1..]].concat();
        assert_eq!(shape(&other).is_some(), b"89+/".contains(&first));
    }
    for strange in (0..=u8::MAX).filter(|b| !b.is_ascii_alphanumeric() && !b"+/".contains(b)) {
        for at in [1, payload.len() / 2, payload.len() - 44, payload.len() - 1] {
            let mut other = payload.clone();
            other[at] = strange;
            assert!(shape(&other).is_none());
        }
    }
}

#[test]
fn the_longest_request_fits() {
    let longest = Request {
        whom: Whom::Address("2001:db8:1111:2222:3333:4444:5555:6666".parse().unwrap()),
        ports: vec!["65535/tcp".parse().unwrap(); MOST_PORTS],
        time: 999_999_999_999,
        lasts: Some(MOST_LASTS),
        user: "u".repeat(48),
    };
    let payload = seal(&secret(Mac::Sha512), &longest, &[0xff; 24]);
    assert!(payload.len() <= LONGEST);
    assert_eq!(opened(&secret(Mac::Sha512), &payload), Some(longest));
}

#[test]
fn what_does_not_fit_is_made_to() {
    let sealed = |request: &Request| {
        let payload = seal(&secret(Mac::Sha256), request, &[3; 24]);
        opened(&secret(Mac::Sha256), &payload).unwrap()
    };
    let wide = Request {
        ports: (1..40)
            .map(|n| format!("{n}/udp").parse().unwrap())
            .collect(),
        time: u64::MAX,
        lasts: Some(u32::MAX),
        user: "J\u{f6}rg:\"<>\n".repeat(9),
        ..request()
    };
    let made = sealed(&wide);
    assert_eq!(made.ports, wide.ports[..MOST_PORTS]);
    assert_eq!(made.time, 999_999_999_999);
    assert_eq!(made.lasts, Some(MOST_LASTS));
    assert_eq!(made.user, "J_rg_____".repeat(9)[..48]);
    let none = Request {
        lasts: Some(0),
        user: String::new(),
        ..request()
    };
    assert_eq!(
        (sealed(&none).lasts, sealed(&none).user.as_str()),
        (None, "NO_USER")
    );
}

#[test]
fn salt_and_number_come_from_the_random_bytes() {
    let sealed = |at: usize| {
        let mut random = [3; 24];
        random[at] ^= 1;
        seal(&secret(Mac::Sha256), &request(), &random)
    };
    let mut all: Vec<Vec<u8>> = (0..24).map(sealed).collect();
    all.push(seal(&secret(Mac::Sha256), &request(), &[3; 24]));
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 25);
}

/// A line, changed in one field, sealed rightly.
#[test]
fn lines_that_are_refused() {
    let right = "1234567890123456:YWxpY2U:1795332713:3.0.0:3:MTkyLjAuMi43LHRjcC8yMg:30:\
                 AAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let secret = secret(Mac::Sha256);
    let read = |line: &[u8]| opened(&secret, &seal_text(&secret, line, b"saltsalt"));
    let with = |at: usize, field: &str| {
        let mut fields: Vec<&str> = right.split(':').collect();
        fields[at] = field;
        read(fields.join(":").as_bytes())
    };
    let message = |text: &str| {
        use base64ct::{Base64Unpadded, Encoding};
        with(5, &Base64Unpadded::encode_string(text.as_bytes()))
    };
    let as_written = Request {
        lasts: Some(30),
        ..request()
    };
    assert_eq!(read(right.as_bytes()), Some(as_written.clone()));
    assert_eq!(message("192.0.2.7,tcp/00022"), Some(as_written.clone()));

    let wrong: [(usize, &[&str]); 8] = [
        (
            0,
            &[
                "",
                "123456789012345",
                "12345678901234567",
                "123456789012345x",
            ],
        ),
        // Empty, padded, a stray bit, of another alphabet; a line break, a byte that is no UTF-8;
        // 64 characters.
        (
            1,
            &[
                "",
                "YQ==",
                "YR",
                "_-",
                "YQpi",
                "/w",
                &"YWFh".repeat(22)[..86],
            ],
        ),
        (2, &["", "-1", "+1", "1e3", "0x1", "1234567890123"]),
        (
            3,
            &[
                "",
                "1.9.9",
                "2",
                "3.0.1",
                "3.1",
                "3.0.0.0",
                "3.0.",
                "a.b",
                "2.0.00000",
            ],
        ),
        (4, &["", "0", "2", "4", "5", "6", "7", "03", "-1"]),
        (5, &["", "MTkyLjAuMi43LHRjcC8yMg==", "A"]),
        (
            6,
            &["", "-1", "65537", "000001", "4294967297", "30:30", "x"],
        ),
        (
            7,
            &[
                "",
                "A",
                "AAAAAAAAAAAAAAAAAAAAAAAAAA",
                "AAAAAAAAAAAAAAAAAAAAAAAAAA=",
            ],
        ),
    ];
    for (at, fields) in wrong {
        for field in fields {
            assert_eq!(with(at, field), None, "{field:?} as field {at}");
        }
    }
    for text in [
        "",
        ",",
        "192.0.2.7",
        "192.0.2.7,",
        "192.0.2.7,tcp",
        "192.0.2.7,tcp/",
        "192.0.2.7,tcp/0",
        "192.0.2.7,tcp/65536",
        "192.0.2.7,tcp/000022",
        "192.0.2.7,tcp/+22",
        "192.0.2.7,tcp/22,",
        "192.0.2.7,,tcp/22",
        "192.0.2.7,TCP/22",
        "192.0.2.7,icmp/1",
        "192.0.2.7,none/22",
        "192.0.2.7, tcp/22",
        "192.0.2.7,tcp/22 ",
        "192.0.2,tcp/22",
        "192.0.2.07,tcp/22",
        "192.0.2.7/32,tcp/22",
        "host,tcp/22",
        ",tcp/22",
        "[::1],tcp/22",
        "192.0.2.7,tcp/22\n",
        "192.0.2.7;tcp/22",
        "192.0.2.7,tcp/22/1",
    ] {
        assert_eq!(message(text), None, "{text:?}");
    }
    let most = |ports: usize| message(&format!("192.0.2.7{}", ",tcp/65535".repeat(ports)));
    assert_eq!(
        (most(24).map(|r| r.ports.len()), most(25)),
        (Some(24), None)
    );
    for version in ["2.0", "2.0.2", "2.5.13", "2.9.999", "3.0", "3.0.0"] {
        assert_eq!(with(3, version), Some(as_written.clone()), "{version}");
    }
    for len in 0..100 {
        let known = [22, 27, 43, 64, 86].contains(&len);
        assert_eq!(
            with(7, &"A".repeat(len)).is_some(),
            known,
            "a digest of {len}"
        );
    }
    let zero = with(6, "0").map(|request| request.lasts);
    assert_eq!(zero, Some(None));
    let observed = message("0.0.0.0,tcp/22").map(|request| request.whom);
    assert_eq!(observed, Some(Whom::Observed));

    // A field more or less.
    assert_eq!(read(right.replace(":30:", ":").as_bytes()), None);
    assert_eq!(read(right.replace(":3:", ":1:").as_bytes()), None);
    let access = right.replace(":3:", ":1:").replace(":30:", ":");
    assert_eq!(read(access.as_bytes()), Some(request()));
    assert_eq!(read(right.replace(":30:", ":YXV0aA:30:").as_bytes()), None);
    assert_eq!(read(right.replace(":MTky", ":1:MTky").as_bytes()), None);
    for cut in 0..right.len() {
        // A digest of 22 is MD5's.
        let other = cut == right.len() - 5;
        let line = &right.as_bytes()[..cut];
        assert_eq!(read(line).is_some(), other, "the first {cut}");
    }
    for behind in ["\n", ":", ":30", ":AAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        assert_eq!(
            read(&[right, behind].concat().into_bytes()),
            None,
            "{behind:?}"
        );
    }
    assert_eq!(read(&[right.as_bytes(), &[0]].concat()), None);
    assert_eq!(read(&[&[0xff; 80], right.as_bytes()].concat()), None);
}

/// Stray bits of the cipher text's base64 are under the HMAC; who has the key cannot set them
/// either.
#[test]
fn the_cipher_text_has_one_form() {
    use base64ct::{Base64Unpadded, Encoding};
    use hmac::{Hmac, KeyInit, Mac as _};

    let secret = secret(Mac::Sha256);
    let payload = seal(&secret, &request(), &[3; 24]);
    let text = &payload[..payload.len() - 43];
    let signed = |last: u8| {
        let text = [&text[..text.len() - 1], &[last]].concat();
        let mac = Hmac::<sha2::Sha256>::new_from_slice(&secret.hmac).unwrap();
        let mac = mac.chain_update(b"U2FsdGVkX1").chain_update(&text);
        let mac = Base64Unpadded::encode_string(&mac.finalize().into_bytes());
        [text, mac.into_bytes()].concat()
    };
    let last = text[text.len() - 1];
    // Three characters at the end for two bytes, so that two bits are stray.
    assert_eq!((text.len() + 10) % 4, 3);
    assert_eq!(signed(last), payload);
    let stray = signed(last + 1);
    assert!(holds(&secret, &stray));
    assert_eq!(opened(&secret, &stray), None);
}

#[test]
fn the_proof_is_of_that_packet() {
    let secret = secret(Mac::Sha256);
    let opener = Opener::new(&secret);
    let payloads = [3, 4].map(|random| seal(&secret, &request(), &[random; 24]));
    let [one, other] = [&payloads[0], &payloads[1]].map(|payload| shape(payload).unwrap());
    let proof = opener.verify(&one).unwrap();
    assert!(opener.open(&one, &proof).is_some());
    assert_eq!(opener.open(&other, &proof), None);
    // HMAC-SHA256 in base64: its first 16 bytes are the first 21 characters and 2 bits.
    use base64ct::{Base64Unpadded, Encoding};
    let shown = Base64Unpadded::encode_string(&proof.bytes());
    let mac = &payloads[0][payloads[0].len() - 43..];
    assert_eq!(shown.as_bytes()[..21], mac[..21]);
}

#[test]
fn no_key_is_shown() {
    let opener = Opener::new(&secret(Mac::Sha512));
    assert_eq!(format!("{opener:?}"), "Opener");
}
