use std::net::{IpAddr, Ipv4Addr};

use postern::config::{Port, Protocol};
use postern::knock::spa::{Counters, KeyDoor, KeyWatch, Keys, Word};
use postern::knock::{EVERYWHERE, can_knock};
use postern::spa::{
    Carrier, LONGEST, MOST_LASTS, MOST_PORTS, Mac, Opener, Request, SHORTEST, Secret, Whom,
    cipher_key_from_base64, key_from_base64, seal, seal_text, shape,
};
use postern::time::Time;

const WALL: u64 = 1_795_332_713;
const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 9));
const SSH: Port = Port {
    protocol: Protocol::Tcp,
    number: 22,
};

/// The keys of tests/spa/vectors.txt, with both kinds of HMAC, in order that packets of fwknop's
/// may be samples.
fn secrets() -> Vec<Secret> {
    let keys = [
        (
            "tXtpsH9GYg26FryP5Gkt/Ts3+EoL6WkxV5Xq1jo8bGk=",
            "65j/BXqUALddLOvAy773VajC/0vzZpVapcr8yWCk3T/7Yba0RyVATkr2N9Q3JKX2vflI8gPzWXgsswDybPB5ug\
             =="
            .to_owned(),
        ),
        ("AAECAwQFBgcICQoLDA0ODw==", "k".repeat(170) + "w="),
    ];
    let secret = |cipher: &str, hmac: &str, mac| Secret {
        cipher: cipher_key_from_base64(cipher).expect("a key"),
        hmac: key_from_base64(hmac).expect("a key"),
        mac,
    };
    let both = |(cipher, hmac): (&str, String)| {
        [Mac::Sha256, Mac::Sha512].map(|mac| secret(cipher, &hmac, mac))
    };
    keys.into_iter().flat_map(both).collect()
}

fn watch(key: u16, secret: Secret, window: u32) -> KeyWatch {
    let door = |door, ports| KeyDoor {
        door,
        ports,
        on: EVERYWHERE,
    };
    KeyWatch {
        key,
        secret,
        carriers: vec![Carrier::Icmp],
        observed: true,
        from: Vec::new(),
        ports: vec![SSH],
        doors: vec![door(0, vec![SSH]), door(1, Vec::new())],
        window,
    }
}

/// Shows a payload to keys; which of them let it in, if one does.
fn shown(watches: Vec<KeyWatch>, payload: &[u8]) -> (Option<u16>, Counters) {
    let mut keys = Keys::new(watches);
    let times = (Time(0), WALL);
    let word = keys.arrive(times, 1, Carrier::Icmp, SOURCE, payload);
    let mut got = None;
    if let Some(Word::Authorized(authorized)) = word {
        assert!(can_knock(authorized.address));
        assert!(authorized.at.abs_diff(WALL) <= u64::from(u32::MAX));
        assert_eq!(authorized.doors, 0b11);
        assert!(authorized.lasts <= MOST_LASTS);
        got = Some(authorized.key);
    }
    let c = keys.counters();
    let authentic = c.malformed + c.stale + c.address + c.ports + c.authorized;
    assert_eq!(word.is_some(), authentic == 1);
    let ends = [
        c.shapeless,
        c.unauthenticated,
        c.malformed,
        c.stale,
        c.address,
        c.ports,
        c.authorized,
    ];
    assert_eq!(ends.iter().sum::<u64>(), 1);
    assert_eq!((c.over_budget, c.shaped), (0, 1 - c.shapeless));
    assert_eq!(c.authorized == 1, got.is_some());
    (got, c)
}

/// A payload from anybody, shown to four keys: in whatever order they stand, the same one opens
/// it, and nothing longer or shorter.
pub fn spa(payload: &[u8]) {
    let watches = Vec::from_iter((0..).zip(secrets()).map(|(n, s)| watch(n, s, u32::MAX)));
    let backwards = watches.iter().rev().cloned().collect();
    let (opened, counters) = shown(watches, payload);
    assert_eq!(shown(backwards, payload), (opened, counters));
    let base64 = |b: &u8| b.is_ascii_alphanumeric() || b"+/".contains(b);
    if counters.shaped == 1 {
        assert!((SHORTEST..=LONGEST).contains(&payload.len()));
        assert!(payload.iter().all(base64));
    }
    let unauthenticated = counters.shapeless + counters.unauthenticated;
    if unauthenticated == 1 {
        return;
    }
    for added in [&b"="[..], b"==", b"=AAAA", b"A", &[0]] {
        let longer = [payload, added].concat();
        let shorter = &payload[..payload.len() - added.len()];
        for other in [&longer[..], shorter] {
            let opens = |secret: &Secret| {
                shape(other).is_some_and(|shaped| Opener::new(secret).verify(&shaped).is_some())
            };
            assert!(!secrets().iter().any(opens));
        }
    }
}

/// Text that the holder of a key has sealed: what is read from it is bounded, and read again from
/// what is written of it.
pub fn spa_text(text: &[u8]) {
    let secrets = secrets();
    let secret = &secrets[text.len() % secrets.len()];
    let opened = |payload: &[u8]| {
        let opener = Opener::new(secret);
        let shaped = shape(payload)?;
        let proof = opener.verify(&shaped).expect("it is sealed with this key");
        opener.open(&shaped, &proof)
    };
    let payload = seal_text(secret, text, b"saltsalt");
    let request = opened(&payload);
    let (_, counters) = shown(vec![watch(0, secret.clone(), 120)], &payload);
    assert_eq!(counters.shapeless == 1, shape(&payload).is_none());
    assert_eq!(counters.unauthenticated, 0);
    let Some(request) = request else {
        assert_eq!(counters.shapeless + counters.malformed, 1);
        return;
    };
    assert_eq!(counters.malformed, 0);
    assert!(!request.ports.is_empty() && request.ports.len() < 64);
    assert!(request.ports.iter().all(|port| port.number != 0));
    assert!(request.time < 1_000_000_000_000);
    assert!(
        request
            .lasts
            .is_none_or(|lasts| (1..=MOST_LASTS).contains(&lasts))
    );
    assert!((1..64).contains(&request.user.len()));
    assert!(request.user.bytes().all(|b| (0x20..0x7f).contains(&b)));
    assert_ne!(request.whom, Whom::Address(Ipv4Addr::UNSPECIFIED.into()));

    let ours = |payload: &[u8]| opened(payload).expect("what we write is read");
    let again = ours(&seal(secret, &request, &[7; 24]));
    assert_eq!(
        again.ports,
        request.ports[..request.ports.len().min(MOST_PORTS)]
    );
    let expected = Request {
        ports: again.ports.clone(),
        user: again.user.clone(),
        ..request
    };
    assert_eq!(again, expected);
    assert_eq!(ours(&seal(secret, &again, &[8; 24])), again);
}
