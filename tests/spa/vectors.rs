//! What fwknop has made, as vectors.sh wrote it down.

use std::collections::BTreeMap;

use postern::spa::{
    Mac, Opener, Request, Secret, Whom, cipher_key_from_base64, key_from_base64, shape,
};

/// A line of vectors.txt.
struct Vector {
    secret: Secret,
    request: Result<Request, &'static str>,
    payload: &'static [u8],
}

fn vectors() -> Vec<Vector> {
    let mut keys = BTreeMap::new();
    let mut accepted = true;
    let mut vectors = Vec::new();
    for line in include_str!("vectors.txt").lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        match fields[..] {
            ["refused"] => accepted = false,
            ["key", name, cipher, hmac] => {
                let key = (
                    cipher_key_from_base64(cipher).unwrap(),
                    key_from_base64(hmac).unwrap(),
                );
                keys.insert(name, key);
            }
            [key, mac, user, time, message, lasts, payload] => {
                let (cipher, hmac) = keys[key].clone();
                let mac = match accepted {
                    true => mac.parse().unwrap(),
                    // Of another kind that has this length.
                    false => mac.parse().unwrap_or(match mac.contains("512") {
                        true => Mac::Sha512,
                        false => Mac::Sha256,
                    }),
                };
                vectors.push(Vector {
                    secret: Secret { cipher, hmac, mac },
                    request: match accepted {
                        true => Ok(request(user, time, message, lasts)),
                        false => Err(message),
                    },
                    payload: payload.as_bytes(),
                });
            }
            _ => assert!(line.starts_with('#'), "{line}"),
        }
    }
    vectors
}

/// As fwknop says it.
pub fn request(user: &str, time: &str, message: &str, lasts: &str) -> Request {
    let (address, ports) = message.split_once(',').unwrap();
    let ports = ports.split(',').map(|port| {
        let (protocol, number) = port.split_once('/').unwrap();
        format!("{}/{protocol}", number.trim_start_matches('0'))
    });
    Request {
        whom: match address {
            "0.0.0.0" => Whom::Observed,
            _ => Whom::Address(address.parse().unwrap()),
        },
        ports: ports.map(|port| port.parse().unwrap()).collect(),
        time: time.parse().unwrap(),
        lasts: Some(lasts.parse().unwrap()).filter(|&lasts| lasts != 0),
        user: user.to_owned(),
    }
}

#[test]
fn each_is_read_as_fwknop_says_it() {
    let vectors = vectors();
    let (mut macs, mut kinds) = ([0; 2], [0; 2]);
    for vector in vectors.iter().filter(|vector| vector.request.is_ok()) {
        let shaped = shape(vector.payload).expect("it has the shape");
        let opener = Opener::new(&vector.secret);
        let proof = opener.verify(&shaped).expect("its HMAC holds");
        let request = opener.open(&shaped, &proof);
        assert_eq!(request.as_ref(), vector.request.as_ref().ok());
        macs[usize::from(vector.secret.mac == Mac::Sha512)] += 1;
        kinds[usize::from(request.unwrap().lasts.is_some())] += 1;
        for other in &vectors {
            if other.secret != vector.secret {
                assert_eq!(Opener::new(&other.secret).verify(&shaped), None);
            }
        }
    }
    assert_eq!((macs, kinds), ([48; 2], [66, 30]));
}

#[test]
fn other_kinds_are_refused() {
    let mut why = BTreeMap::new();
    for vector in vectors() {
        let Err(message) = vector.request else {
            continue;
        };
        let opener = Opener::new(&vector.secret);
        let stage = match shape(vector.payload) {
            None => "shape",
            Some(shaped) => match opener.verify(&shaped) {
                None => "HMAC",
                Some(proof) => {
                    assert_eq!(opener.open(&shaped, &proof), None, "{message}");
                    "text"
                }
            },
        };
        *why.entry(stage).or_insert(0) += 1;
    }
    assert_eq!(
        why,
        BTreeMap::from([("shape", 2), ("HMAC", 3), ("text", 9)])
    );
}
