use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher;
use std::net::IpAddr;

use postern::config::Network;
use postern::daemon::spent as proofs;
use postern::daemon::spent::{Bounds, Losses, Proof, Proofs};
use postern::daemon::trial::Trials;
use postern::journal::{Entry, Record, Recovered};
use postern::time::Time;
use siphasher::sip::SipHasher13;

use super::Bytes;

const BOOT: &str = "a boot";

/// A journal, read as it is; and one of good lines made from the input, some of them damaged.
/// No lease stands in what is read that a good line has not opened.
pub fn journal(data: &[u8]) {
    whole_lines(data);

    let mut bytes = Bytes(data);
    let mut text = Vec::new();
    while !bytes.is_empty() {
        let mut line = match bytes.byte() {
            // JSON from the input under a right checksum.
            length @ 0x80.. => {
                let most = usize::from(length & 0x7f).min(bytes.0.len());
                let (json, rest) = bytes.0.split_at(most);
                bytes = Bytes(rest);
                summed(json)
            }
            kind => {
                let written = record(&mut bytes, kind);
                let line = written.encode();
                assert_eq!(Record::decode(&line), Some(written));
                line
            }
        };
        let changed = usize::from(bytes.byte());
        let to = bytes.byte();
        if let Some(byte) = line.get_mut(changed)
            && *byte != to
        {
            *byte = to;
            // A line's end within it makes two lines of it.
            let lines = line.split_inclusive(|&b| b == b'\n');
            lines.for_each(|line| assert_eq!(Record::decode(line), None));
        }
        text.extend(line);
    }
    whole_lines(&text);
}

fn record(bytes: &mut Bytes, kind: u8) -> Record {
    let door = bytes.one_of(&["ssh", "www", "wake-on-lan", "\u{e9}\0\n"]);
    let door = door.to_owned();
    let address = match bytes.byte() {
        last if last < 0x80 => IpAddr::from([192, 0, 2, last]).into(),
        last if last < 0xc0 => {
            let base = IpAddr::from([0x2001, 0xdb8, u16::from(last), 0, 0, 0, 0, 0]);
            Network::new(base, 48 + last % 81).expect("nothing behind the prefix")
        }
        last => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(last)]).into(),
    };
    let until = u64::from(bytes.two()) << (kind & 0x30);
    match kind % 8 {
        0 => Record::Boot(bytes.one_of(&[BOOT, "another", ""]).to_owned()),
        1..=3 => Record::Open(Entry {
            door,
            address,
            since: until / 2,
            until,
            key: (kind & 0x80 != 0).then(|| "alice".to_owned()),
            done: kind & 8 != 0,
            stop: (kind & 0x40 != 0).then(|| "pfctl -t \"x\"".to_owned()),
        }),
        4 | 5 => Record::Extend {
            door,
            address,
            until,
            key: (kind & 0x80 != 0).then(|| "bob".to_owned()),
        },
        6 => Record::Done { door, address },
        _ => Record::Closed { door, address },
    }
}

/// A line with a checksum that is right.
fn summed(json: &[u8]) -> Vec<u8> {
    let mut hasher = SipHasher13::new();
    hasher.write(json);
    let sum = format!("{:016x} ", hasher.finish());
    [sum.as_bytes(), json, b"\n"].concat()
}

/// What is read of a text is what its good lines say, one by one.
fn whole_lines(text: &[u8]) {
    let recovered = Recovered::read(text, BOOT);
    let mut entries: BTreeMap<(String, Network), Entry> = BTreeMap::new();
    let mut same_boot = text.is_empty();
    let (mut damaged, mut cut) = (0, false);
    for (at, line) in text.split_inclusive(|&b| b == b'\n').enumerate() {
        match Record::decode(line) {
            Some(Record::Boot(boot)) if at == 0 => same_boot = boot == BOOT,
            None if !line.ends_with(b"\n") => cut = true,
            // Any lease before it may have ended there.
            None | Some(Record::Boot(_)) => {
                damaged += 1;
                entries.values_mut().for_each(|e| e.until = e.since);
            }
            Some(Record::Open(entry)) => {
                entries.insert((entry.door.clone(), entry.address), entry);
            }
            Some(Record::Extend {
                door,
                address,
                until,
                key,
            }) => {
                entries
                    .entry((door, address))
                    .and_modify(|e| (e.until, e.key) = (until, key));
            }
            Some(Record::Done { door, address }) => {
                entries.entry((door, address)).and_modify(|e| e.done = true);
            }
            Some(Record::Closed { door, address }) => {
                entries.remove(&(door, address));
            }
        }
    }
    assert_eq!(recovered.rebooted, !same_boot);
    assert_eq!((recovered.damaged, recovered.cut), (damaged, cut));
    assert_eq!(recovered.entries, Vec::from_iter(entries.into_values()));
}

/// How it stands with the guards' trials: a damaged file confirms nothing.
pub fn trial(data: &[u8]) {
    for boot in [BOOT, "another"] {
        let found = Trials::parse(data, boot);
        let mut trials = found.trials;
        if found.damaged.is_some() {
            assert_eq!(trials, Trials::default());
        }
        let ends = trials.next_end();
        assert_eq!(trials.end(Time(0)).is_empty(), ends != Some(Time(0)));
        trials.end(Time(u64::MAX));
        assert_eq!(trials.next_end(), None);
        let confirmed = trials.confirm();
        assert_eq!(
            trials.withdraw(None).is_empty(),
            trials == Trials::default()
        );
        assert!(confirmed.is_sorted());
    }
}

/// A store of spent proofs: a text of any kind, and one as it is written with something done to
/// it. Nothing that was granted is granted again.
pub fn spent(data: &[u8]) {
    let bounds = Bounds {
        proofs: 3,
        former: 1,
    };
    taken_in(data, bounds);

    let mut bytes = Bytes(data);
    let mut granted = Vec::new();
    let mut store = Proofs::new(bounds);
    let mut lines = Vec::new();
    // What a file says that was written anew after so many, and appended to from then on.
    let anew = bytes.byte() % 8;
    for n in 0..bytes.byte() % 24 {
        let key = bytes.one_of(&["alice", "bob", "\u{e9}\0\n"]);
        let proof: Proof = [bytes.byte() % 8; 16];
        let at = u64::from(bytes.byte()) + 1;
        if store.judge(key, &proof, at).is_ok() {
            assert!(!granted.contains(&(key, proof, at)), "granted twice");
            let record = proofs::Record::Spent {
                key: key.to_owned(),
                proof,
                at,
            };
            store.apply(record.clone());
            lines.push(record.encode());
            granted.push((key, proof, at));
        }
        if n < anew {
            lines = store.records().map(|record| record.encode()).collect();
        }
    }
    let head = proofs::Record::head(lines.len() as u64).encode();
    let text = [head, lines.concat()].concat();
    let (mut again, losses) = Proofs::read(&text[..], bounds);
    assert_eq!((&again, losses), (&store, Losses::default()));
    refused(&again, &granted);

    again.configure(["bob"]);
    for &(_, proof, at) in granted.iter().filter(|(key, ..)| *key != "bob") {
        assert!(again.judge("robert", &proof, at).is_err());
    }
    refused(&again, &granted);

    let mut damaged = text.clone();
    let from = usize::from(bytes.two()) % text.len();
    match bytes.byte() % 4 {
        0 => damaged.truncate(from),
        1 => damaged[from] ^= 1 << (bytes.byte() % 8),
        2 => _ = damaged.drain(from..text.len().min(from + 1 + usize::from(bytes.byte()))),
        _ => damaged[from..].fill(bytes.byte()),
    }
    if damaged != text {
        let (mut left, losses) = Proofs::read(&damaged[..], bounds);
        assert!(losses.any());
        left.apply(proofs::Record::Floor(256));
        refused(&left, &granted);
    }
}

fn refused(store: &Proofs, granted: &[(&str, Proof, u64)]) {
    for (key, proof, at) in granted {
        assert!(store.judge(key, proof, *at).is_err());
    }
}

/// What is read of a text: every proof of a good line is spent, and what is written anew says
/// the same.
fn taken_in(text: &[u8], bounds: Bounds) {
    let (store, losses) = Proofs::read(text, bounds);
    let mut good = 0;
    let mut met = BTreeSet::new();
    for line in text.split_inclusive(|&b| b == b'\n') {
        match proofs::Record::decode(line) {
            Some(proofs::Record::Lines(_)) | None => {}
            Some(record) => {
                good += 1;
                // None is written twice.
                if let proofs::Record::Spent { key, proof, at } = record
                    && met.insert(proof)
                {
                    assert!(store.judge(&key, &proof, at).is_err());
                }
            }
        }
    }
    let lines: Vec<Vec<u8>> = store.records().map(|record| record.encode()).collect();
    if good == 0 {
        assert!(losses.any() || text.starts_with(&proofs::Record::head(0).encode()));
        assert_eq!(store, Proofs::new(bounds));
    }
    let head = proofs::Record::head(lines.len() as u64).encode();
    let (again, losses) = Proofs::read(&[head, lines.concat()].concat()[..], bounds);
    assert_eq!((again, losses), (store, Losses::default()));
}
