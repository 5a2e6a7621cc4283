//! Packets of single-packet authorization. Time goes on fast enough that all of them are looked
//! at: a flood is cut off by [`postern::knock::spa::MACS`].

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use postern::config::{Port, Protocol};
use postern::knock::EVERYWHERE;
use postern::knock::spa::{KeyDoor, KeyWatch, Keys, Word};
use postern::spa::{Carrier, Mac, PORT, Request, Secret, Whom, seal};
use postern::time::Time;

use super::{Case, several};

const CARRIER: Carrier = Carrier::Udp(PORT);
const WALL: u64 = 1_700_000_000;
const SSH: Port = Port {
    protocol: Protocol::Tcp,
    number: 22,
};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    type Payload = fn(u64) -> Vec<u8>;
    for keys in [1, 16] {
        let kinds: [(&str, Payload, bool); 3] = [
            ("no packet's shape", |_| shapeless(), false),
            ("another key's HMAC", |keys| sealed(keys + 1), false),
            ("right, by the last key", sealed, true),
        ];
        for (name, payload, right) in kinds {
            let name = format!("{name}, {}", several(keys, "key"));
            cases.push(Case::new(name, move || arrive(keys, payload(keys), right)));
        }
    }
    cases
}

fn arrive(keys: u64, payload: Vec<u8>, right: bool) -> impl FnMut() {
    let mut all = Keys::new((1..=keys).map(watch).collect());
    let source = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
    let mut now = 0;
    let mut one = move || {
        now += 1_000;
        let times = (Time(now), WALL);
        all.arrive(times, EVERYWHERE, CARRIER, source, black_box(&payload))
    };
    assert_eq!(matches!(one(), Some(Word::Authorized(_))), right);
    move || {
        black_box(one());
    }
}

fn watch(key: u64) -> KeyWatch {
    KeyWatch {
        key: key as u16,
        secret: secret(key),
        carriers: vec![CARRIER],
        observed: false,
        from: Vec::new(),
        ports: vec![SSH],
        doors: vec![KeyDoor {
            door: 0,
            ports: vec![SSH],
            on: EVERYWHERE,
        }],
        window: 120,
    }
}

fn secret(key: u64) -> Secret {
    Secret {
        cipher: vec![key as u8; 32],
        hmac: vec![key as u8 ^ 0xff; 64],
        mac: Mac::Sha256,
    }
}

/// A key's packet.
fn sealed(key: u64) -> Vec<u8> {
    let request = Request {
        whom: Whom::Address(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7))),
        ports: vec![SSH],
        time: WALL,
        lasts: None,
        user: "alice".to_owned(),
    };
    seal(&secret(key), &request, &[7; 24])
}

/// Nearly one.
fn shapeless() -> Vec<u8> {
    let mut payload = sealed(1);
    if let Some(last) = payload.last_mut() {
        *last = b'!';
    }
    payload
}
