//! Single packets: what opens what, and what does not.

use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;

use crate::config::Port;
use crate::knock::spa::{
    Authorized, Counters, KeyDoor, KeyWatch, Keys, MACS, MOST_DOORS, MOST_KEYS, Refused, Word,
};
use crate::spa::{Carrier, Mac, Opener, PORT, Request, Secret, Whom, seal, seal_text, shape};
use crate::time::Time;

const WALL: u64 = 1_795_332_713;
const UDP: Carrier = Carrier::Udp(PORT);

fn ports(texts: &[&str]) -> Vec<Port> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn secret(key: u16) -> Secret {
    Secret {
        cipher: vec![key as u8; 32],
        hmac: vec![!key as u8; 64],
        mac: if key.is_multiple_of(2) {
            Mac::Sha256
        } else {
            Mac::Sha512
        },
    }
}

/// A key with two doors of ports and a command door.
fn watch(key: u16) -> KeyWatch {
    let door = |door, texts: &[&str]| KeyDoor {
        door,
        ports: ports(texts),
        on: 0b1,
    };
    KeyWatch {
        key,
        secret: secret(key),
        carriers: vec![UDP],
        observed: false,
        from: Vec::new(),
        ports: ports(&["22/tcp", "53/udp", "53/tcp", "443/tcp"]),
        doors: vec![
            door(7, &["22/tcp"]),
            door(3, &["53/udp", "53/tcp"]),
            door(9, &[]),
        ],
        window: 120,
    }
}

fn request() -> Request {
    Request {
        whom: Whom::Address("192.0.2.7".parse().unwrap()),
        ports: ports(&["22/tcp"]),
        time: WALL,
        lasts: None,
        user: "alice".to_owned(),
    }
}

fn source() -> IpAddr {
    "198.51.100.9".parse().unwrap()
}

/// Shows a payload to the keys, by the first key's carrier, at the wall's time.
fn shown(keys: &mut Keys, payload: &[u8], wall: u64) -> Option<Authorized> {
    heard(keys, (Time::default(), wall), UDP, source(), payload)
}

/// What came of a packet, if it lets somebody in.
fn heard(
    keys: &mut Keys,
    times: (Time, u64),
    carrier: Carrier,
    source: IpAddr,
    payload: &[u8],
) -> Option<Authorized> {
    match keys.arrive(times, 0b11, carrier, source, payload) {
        Some(Word::Authorized(authorized)) => Some(authorized),
        Some(Word::Refused { .. }) | None => None,
    }
}

/// What one key makes of a request.
fn asked(watch: KeyWatch, request: &Request) -> (Option<Authorized>, Counters) {
    let payload = seal(&watch.secret, request, &[1; 24]);
    let mut keys = Keys::new(vec![watch]);
    let got = shown(&mut keys, &payload, WALL);
    (got, keys.counters())
}

/// The counter that is not zero beside `shaped`.
#[track_caller]
fn only(counters: Counters, which: fn(&mut Counters) -> &mut u64) {
    let mut expected = Counters {
        shaped: 1,
        ..Counters::default()
    };
    *which(&mut expected) = 1;
    assert_eq!(counters, expected);
}

#[test]
fn a_request_opens_its_doors() {
    let with = |texts: &[&str], lasts| Request {
        ports: ports(texts),
        lasts,
        ..request()
    };
    let (got, counters) = asked(watch(4), &with(&["22/tcp"], Some(30)));
    let payload = seal(&secret(4), &with(&["22/tcp"], Some(30)), &[1; 24]);
    let shaped = shape(&payload).unwrap();
    let proof = Opener::new(&secret(4)).verify(&shaped).unwrap();
    let expected = Authorized {
        key: 4,
        doors: 0b101,
        address: "192.0.2.7".parse().unwrap(),
        proof: proof.bytes(),
        at: WALL,
        lasts: 30,
    };
    assert_eq!(got, Some(expected));
    only(counters, |c| &mut c.authorized);

    let doors = |texts: &[&str]| asked(watch(4), &with(texts, None)).0.map(|a| a.doors);
    assert_eq!(doors(&["53/tcp"]), Some(0b110));
    assert_eq!(doors(&["53/udp", "22/tcp", "53/udp"]), Some(0b111));
    assert_eq!(doors(&["443/tcp"]), Some(0b100));
    for refused in [
        &["22/udp"][..],
        &["22/tcp", "25/tcp"],
        &["25/tcp", "22/tcp"],
    ] {
        let (got, counters) = asked(watch(4), &with(refused, None));
        assert_eq!(got, None);
        only(counters, |c| &mut c.ports);
    }
    // A port that may be named but that no door opens.
    let mut without = watch(4);
    without.doors.pop();
    let (got, counters) = asked(without, &with(&["443/tcp"], None));
    assert_eq!(got, None);
    only(counters, |c| &mut c.ports);
}

#[test]
fn as_many_doors_as_the_mask_has_bits() {
    let mut many = watch(0);
    many.doors = vec![many.doors[0].clone(); MOST_DOORS + 1];
    let (got, _) = asked(many, &request());
    assert_eq!(got.map(|a| a.doors), Some(u32::MAX));
}

#[test]
fn the_window_has_two_edges() {
    for (time, fits) in [
        (WALL - 120, true),
        (WALL - 121, false),
        (WALL, true),
        (WALL + 120, true),
        (WALL + 121, false),
        (0, false),
        (999_999_999_999, false),
    ] {
        let (got, counters) = asked(watch(0), &Request { time, ..request() });
        assert_eq!(got.map(|a| a.at), fits.then_some(time));
        only(
            counters,
            if fits {
                |c| &mut c.authorized
            } else {
                |c| &mut c.stale
            },
        );
    }
    let mut keys = Keys::new(vec![watch(0)]);
    let payload = seal(&secret(0), &request(), &[1; 24]);
    for wall in [0, u64::MAX, WALL - 121, WALL + 121] {
        assert_eq!(shown(&mut keys, &payload, wall), None);
    }
}

#[test]
fn addresses() {
    let observing = KeyWatch {
        observed: true,
        ..watch(0)
    };
    let limited = |from: &[&str]| KeyWatch {
        from: from.iter().map(|text| text.parse().unwrap()).collect(),
        ..observing.clone()
    };
    let named = |text: &str| Request {
        whom: Whom::Address(text.parse().unwrap()),
        ..request()
    };
    let observed = Request {
        whom: Whom::Observed,
        ..request()
    };
    for (watch, request, right) in [
        (watch(0), named("2001:db8::7"), Some("2001:db8::7")),
        (watch(0), observed.clone(), None),
        (observing.clone(), observed.clone(), Some("198.51.100.9")),
        (observing.clone(), named("192.0.2.7"), Some("192.0.2.7")),
        (
            limited(&["192.0.2.0/24", "2001:db8::/32"]),
            named("192.0.2.255"),
            Some("192.0.2.255"),
        ),
        (
            limited(&["192.0.2.0/24", "2001:db8::/32"]),
            named("2001:db8::7"),
            Some("2001:db8::7"),
        ),
        (limited(&["192.0.2.0/24"]), named("192.0.3.0"), None),
        (limited(&["192.0.2.0/24"]), named("2001:db8::7"), None),
        (limited(&["192.0.2.0/24"]), observed.clone(), None),
        (
            limited(&["198.51.100.0/24"]),
            observed.clone(),
            Some("198.51.100.9"),
        ),
        (observing.clone(), named("127.0.0.1"), None),
        (observing.clone(), named("224.0.0.1"), None),
        (observing.clone(), named("255.255.255.255"), None),
        (observing.clone(), named("0.0.0.1"), None),
        (observing.clone(), named("::"), None),
        (observing.clone(), named("::1"), None),
        (observing.clone(), named("::ffff:192.0.2.7"), None),
        (limited(&["0.0.0.0/0", "::/0"]), named("::1"), None),
    ] {
        let (got, counters) = asked(watch, &request);
        assert_eq!(
            got.map(|a| a.address),
            right.map(|text| text.parse().unwrap())
        );
        only(
            counters,
            match right {
                Some(_) => |c| &mut c.authorized,
                None => |c| &mut c.address,
            },
        );
    }
}

/// An address that nobody can have been observed at.
#[test]
fn a_source_that_nobody_has() {
    let watch = KeyWatch {
        observed: true,
        ..watch(0)
    };
    let request = Request {
        whom: Whom::Observed,
        ..request()
    };
    let payload = seal(&watch.secret, &request, &[1; 24]);
    let mut keys = Keys::new(vec![watch]);
    for source in ["127.0.0.1", "0.0.0.0", "::", "ff02::1"] {
        let source = source.parse().unwrap();
        let word = keys.arrive((Time::default(), WALL), 0b1, UDP, source, &payload);
        let why = Refused::Address;
        assert_eq!(word, Some(Word::Refused { key: 0, why }), "{source}");
    }
    assert_eq!(keys.counters().address, 4);
}

#[test]
fn keys_by_carrier() {
    let carried = |key: u16, carriers: &[Carrier]| KeyWatch {
        carriers: carriers.to_vec(),
        ..watch(key)
    };
    let dns = Carrier::Udp(53);
    let all = [UDP, Carrier::Icmp, dns, Carrier::Udp(1)];
    let watches = [
        carried(0, &[UDP]),
        carried(1, &[Carrier::Icmp, dns]),
        carried(2, &[dns, dns]),
    ];
    let mut keys = Keys::new(watches.to_vec());
    assert_eq!(
        keys.carriers().collect::<Vec<_>>(),
        [dns, UDP, Carrier::Icmp]
    );
    for watch in &watches {
        let payload = seal(&watch.secret, &request(), &[1; 24]);
        for carrier in all {
            let times = (Time::default(), WALL);
            let got = heard(&mut keys, times, carrier, source(), &payload).map(|a| a.key);
            let heard = watch.carriers.contains(&carrier);
            assert_eq!(got, heard.then_some(watch.key), "{carrier}");
        }
    }
    // Two of each three packets came by another key's carrier, one by nobody's.
    let counted = Counters {
        shaped: 9,
        unauthenticated: 5,
        authorized: 4,
        ..Counters::default()
    };
    assert_eq!(keys.counters(), counted);
}

#[test]
fn doors_open_where_they_are_knocked_at() {
    let mut watch = watch(0);
    watch.doors[2].on = 0b10;
    let payload = seal(&watch.secret, &request(), &[1; 24]);
    let mut keys = Keys::new(vec![watch]);
    let mut at = |at| keys.arrive((Time::default(), WALL), at, UDP, source(), &payload);
    let doors = |word| match word {
        Some(Word::Authorized(authorized)) => authorized.doors,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        [at(0b1), at(0b10), at(0b11)].map(doors),
        [0b001, 0b100, 0b101]
    );
    let why = Refused::Ports;
    assert_eq!(at(0b100), Some(Word::Refused { key: 0, why }));
}

#[test]
fn so_many_keys_a_carrier() {
    let watches: Vec<KeyWatch> = (0..20).map(|n| watch(n * 2)).collect();
    let mut keys = Keys::new(watches.clone());
    for (place, watch) in watches.iter().enumerate() {
        let payload = seal(&watch.secret, &request(), &[1; 24]);
        let got = shown(&mut keys, &payload, WALL);
        assert_eq!(got.map(|a| a.key), (place < MOST_KEYS).then_some(watch.key));
    }
    assert_eq!(keys.counters().unauthenticated, 4);
}

#[test]
fn what_holds_but_is_no_request() {
    let mut keys = Keys::new(vec![watch(0)]);
    let payload = seal_text(&secret(0), &[b'x'; 100], b"saltsalt");
    assert_eq!(shown(&mut keys, &payload, WALL), None);
    only(keys.counters(), |c| &mut c.malformed);
    // Sealed for the same HMAC with another cipher key.
    let mut other = secret(0);
    other.cipher = vec![9; 32];
    let mut keys = Keys::new(vec![watch(0)]);
    let payload = seal(&other, &request(), &[1; 24]);
    assert_eq!(shown(&mut keys, &payload, WALL), None);
    only(keys.counters(), |c| &mut c.malformed);
}

#[test]
fn so_many_hmacs_a_second() {
    let watches: Vec<KeyWatch> = (0..10).map(|n| watch(n * 2)).collect();
    let mut keys = Keys::new(watches);
    let mut wrong = seal(&secret(1000), &request(), &[1; 24]);
    let right = seal(&secret(2), &request(), &[1; 24]);
    let send = |keys: &mut Keys, micros: u64, payload: &[u8]| {
        heard(keys, (Time(micros), WALL), UDP, source(), payload).is_some()
    };
    // Each costs ten. At first there is a tenth of a second's worth.
    let burst = MACS / 10 / 10;
    for _ in 0..burst {
        send(&mut keys, 0, &wrong);
    }
    assert_eq!(keys.counters().unauthenticated, burst);
    assert!(!send(&mut keys, 0, &right));
    assert!(!send(&mut keys, 99, &right));
    assert_eq!(keys.counters().over_budget, 2);
    // Ten more after a ten-thousandth of a second, whatever arrived in between.
    assert!(send(&mut keys, 100, &right));
    assert!(!send(&mut keys, 199, &right));
    // A clock that goes back gives nothing.
    assert!(!send(&mut keys, 0, &right));
    assert!(send(&mut keys, 200, &right));
    // In a whole second no more than that.
    let before = keys.counters();
    for micros in (200..1_000_200).step_by(10) {
        send(&mut keys, micros, &wrong);
    }
    let passed = keys.counters().unauthenticated - before.unauthenticated;
    assert!((MACS / 10 - 1..=MACS / 10).contains(&passed), "{passed}");
    // A long pause gives no more than the burst.
    let later = Duration::from_secs(86_400).as_micros() as u64;
    for _ in 0..=burst {
        send(&mut keys, later, &wrong);
    }
    assert!(!send(&mut keys, later, &right));
    // What has not the shape costs nothing.
    let before = keys.counters();
    wrong.push(b'=');
    for _ in 0..burst {
        send(&mut keys, later + 100, &wrong);
    }
    assert!(send(&mut keys, later + 100, &right));
    assert_eq!(keys.counters().shapeless - before.shapeless, burst);
}

#[test]
fn more_hmacs_where_they_are_afforded_and_never_fewer() {
    let wrong = seal(&secret(1000), &request(), &[1; 24]);
    for (told, afforded) in [(1, MACS), (2 * MACS, 2 * MACS)] {
        let mut keys = Keys::new(vec![watch(0)]);
        keys.afford(told);
        // A tenth of a second's at first, of what is afforded without being told.
        for _ in 0..afforded / 10 {
            heard(&mut keys, (Time(0), WALL), UDP, source(), &wrong);
        }
        assert_eq!(keys.counters().unauthenticated, MACS / 10);
        for micros in (0..=10_000).step_by(2) {
            heard(&mut keys, (Time(micros), WALL), UDP, source(), &wrong);
        }
        let looked_at = keys.counters().unauthenticated - MACS / 10;
        assert_eq!(looked_at, afforded / 100, "{told}");
    }
}

/// Nor what has the shape of HMACs that no key has.
#[test]
fn only_hmacs_that_are_computed_count() {
    let mut keys = Keys::new(vec![watch(0)]);
    // With a name of some length it has one that SHA256's HMAC could not stand behind.
    let named = |len| {
        let user = "u".repeat(len);
        seal(&secret(1), &Request { user, ..request() }, &[1; 24])
    };
    let alone = |payload: &Vec<u8>| !shape(payload).unwrap().can_be(Mac::Sha256);
    let long = (1..48).map(named).find(alone).unwrap();
    let right = seal(&secret(0), &request(), &[1; 24]);
    for _ in 0..MACS {
        assert_eq!(shown(&mut keys, &long, WALL), None);
    }
    assert_eq!(keys.counters().unauthenticated, MACS);
    assert!(shown(&mut keys, &right, WALL).is_some());
}

#[test]
fn every_bit_counts() {
    for key in [0, 1] {
        let mut payload = seal(&secret(key), &request(), &[1; 24]);
        for bit in 0..payload.len() * 8 {
            let mut keys = Keys::new(vec![watch(key)]);
            payload[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(shown(&mut keys, &payload, WALL), None, "{bit}");
            payload[bit / 8] ^= 1 << (bit % 8);
            assert!(shown(&mut keys, &payload, WALL).is_some());
        }
        let mut keys = Keys::new(vec![watch(key)]);
        for len in 0..payload.len() {
            assert_eq!(shown(&mut keys, &payload[..len], WALL), None, "{len}");
        }
        for added in ["=", "==", "=AAAA"] {
            let longer = [&payload[..], added.as_bytes()].concat();
            assert_eq!(shown(&mut keys, &longer, WALL), None, "{added}");
        }
    }
}

#[test]
fn set_ups_go_over_the_wire_and_show_no_key() {
    let sent = KeyWatch {
        secret: Secret {
            cipher: b"cipher-key-cipher-key".to_vec(),
            hmac: vec![197; 64],
            mac: Mac::Sha512,
        },
        carriers: vec![UDP, Carrier::Icmp],
        from: vec![
            "192.0.2.0/24".parse().unwrap(),
            "2001:db8::7".parse().unwrap(),
        ],
        ..watch(3)
    };
    let text = serde_json::to_string(&sent).unwrap();
    assert_eq!(serde_json::from_str::<KeyWatch>(&text).unwrap(), sent);
    assert!(text.contains("\"192.0.2.0/24\""));
    for wrong in ["192.0.2.1/24", "192.0.2.0/33", "::/129"] {
        let text = text.replace("192.0.2.0/24", wrong);
        assert!(serde_json::from_str::<KeyWatch>(&text).is_err());
    }
    let shown = format!("{sent:?}");
    assert!(!shown.contains("197") && !shown.contains("99, 105") && !shown.contains("cipher"));
    assert!(shown.contains("Secret(sha512)"));
}

proptest! {
    /// Against a model that knows what was asked and by whom.
    #[test]
    fn right_requests_open_and_no_others(
        cases in proptest::collection::vec(
            (0..4u16, 0..5u16, any::<bool>(), any::<bool>(), 0..300u64, any::<bool>()),
            0..40,
        ),
    ) {
        // Key 3 may be observed; key 2 is only for its network; key 4 is unknown.
        let mut watches: Vec<KeyWatch> = (0..4).map(watch).collect();
        watches[3].observed = true;
        watches[2].from = vec!["192.0.2.0/28".parse().unwrap()];
        let mut keys = Keys::new(watches);
        let mut expected = Counters::default();
        for (place, sealed_by, observed, own_port, off, near) in cases {
            let request = Request {
                whom: match observed {
                    true => Whom::Observed,
                    false if near => Whom::Address("192.0.2.7".parse().unwrap()),
                    false => Whom::Address("192.0.2.77".parse().unwrap()),
                },
                ports: ports(if own_port { &["22/tcp"] } else { &["22/tcp", "23/tcp"] }),
                time: WALL + 150 - off,
                ..request()
            };
            let payload = seal(&secret(sealed_by), &request, &[place as u8; 24]);
            let got = shown(&mut keys, &payload, WALL);
            let address = match sealed_by {
                2 => !observed && near,
                3 => true,
                _ => !observed,
            };
            let counter = match () {
                _ if sealed_by == 4 => &mut expected.unauthenticated,
                _ if !(30..=270).contains(&off) => &mut expected.stale,
                _ if !address => &mut expected.address,
                _ if !own_port => &mut expected.ports,
                _ => &mut expected.authorized,
            };
            *counter += 1;
            let before = expected.authorized;
            expected.shaped += 1;
            prop_assert_eq!(keys.counters(), expected);
            if let Some(got) = got {
                prop_assert_eq!(got.key, sealed_by);
                prop_assert!(before > 0);
            }
        }
    }
}
