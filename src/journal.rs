//! What must survive the death of a process: which leases there are, when each ends, and which
//! stop commands are owed.
//!
//! A file of lines, each a checksum and a record in JSON, appended with one write before the
//! packet filter is touched and written anew now and then. A process may die at any moment: a
//! line cut short or changed is passed over, and what it said is then not known, so that its
//! lease is not in force. The end of a lease is counted from the system's boot, and a reboot
//! ends all leases: the file names the boot it was written in.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::hash::Hasher;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use crate::time::Time;

/// Longer than this, and longer than twice what is live, the file is written anew.
const LONG: u64 = 256 << 10;

/// A lease as the journal knows it. Doors go by name: their places change with configurations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The door's name.
    pub door: String,
    /// Who may enter.
    pub address: IpAddr,
    /// When it was granted, microseconds since boot.
    pub since: u64,
    /// When it ends, microseconds since boot.
    pub until: u64,
    /// Whether the packet filter or the start command has done its part.
    pub done: bool,
    /// The stop command that will be owed, as it will be run; doors may be gone by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<String>,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Record {
    /// The first of each file: the boot it was written in.
    Boot(String),
    /// A lease begins.
    Open(Entry),
    /// It ends later than was said before.
    Extend {
        /// The door's name.
        door: String,
        /// Who.
        address: IpAddr,
        /// The new end, microseconds since boot.
        until: u64,
    },
    /// The packet filter or the start command has done its part.
    Done {
        /// The door's name.
        door: String,
        /// Who.
        address: IpAddr,
    },
    /// The lease is over and nothing is owed any more.
    Closed {
        /// The door's name.
        door: String,
        /// Who.
        address: IpAddr,
    },
}

impl Record {
    /// As it stands in the file: one line and its end.
    ///
    /// # Panics
    /// Never: what it carries can all be written as JSON.
    pub fn encode(&self) -> Vec<u8> {
        let json = serde_json::to_vec(self).expect("plain data");
        let mut line = format!("{:016x} ", checksum(&json)).into_bytes();
        line.extend_from_slice(&json);
        line.push(b'\n');
        line
    }

    /// `None`: the line is not whole, or not as it was written.
    pub fn decode(line: &[u8]) -> Option<Record> {
        let (sum, json) = line.strip_suffix(b"\n")?.split_at_checked(17)?;
        let sum = std::str::from_utf8(sum.strip_suffix(b" ")?).ok()?;
        (format!("{:016x}", checksum(json)) == sum).then(|| serde_json::from_slice(json).ok())?
    }
}

/// What a journal said when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Leases not known to be over, by door and address.
    pub entries: Vec<Entry>,
    /// It is of an earlier boot, or it cannot be told of which: the entries' times mean nothing.
    pub rebooted: bool,
    /// Lines that were not whole.
    pub damaged: usize,
}

impl Recovered {
    /// What a journal's text says to a system that runs in `boot`.
    pub fn read(text: &[u8], boot: &str) -> Recovered {
        read(text, boot).1
    }
}

type Live = BTreeMap<(String, IpAddr), Entry>;

/// The open journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    boot: String,
    file: File,
    length: u64,
    rewritten: u64,
    live: Live,
}

impl Journal {
    /// Opens the journal at `path`, reads it, and begins it anew with what is live. `boot`
    /// names the boot the system runs in; `now` is the time since then.
    ///
    /// # Errors
    /// The system's: it cannot be read or written.
    pub fn open(path: &Path, boot: &str, now: Time) -> io::Result<(Journal, Recovered)> {
        let mut text = Vec::new();
        match File::open(path) {
            Ok(mut file) => _ = file.read_to_end(&mut text)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        let (live, mut recovered) = read(&text, boot);
        // Where the boot has no better name than a file that should be gone after it.
        recovered.rebooted |= live.values().any(|e| Time(e.since) > now);
        let file = begin(path, boot, &live)?;
        let mut journal = Journal {
            path: path.to_owned(),
            boot: boot.to_owned(),
            file,
            length: 0,
            rewritten: 0,
            live,
        };
        journal.length = journal.file.seek(SeekFrom::End(0))?;
        journal.rewritten = journal.length;
        Ok((journal, recovered))
    }

    /// Appends records with one write.
    ///
    /// # Errors
    /// The system's; the journal then says what it said before.
    pub fn write(&mut self, records: &[Record]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let mut text = Vec::new();
        for record in records {
            text.extend(record.encode());
        }
        if let Err(e) = self.file.write_all(&text) {
            // What of it was written is cut off again; if that fails too, the next reader
            // passes over the line that is cut short.
            let _ = self.file.set_len(self.length);
            let _ = self.file.seek(SeekFrom::End(0));
            return Err(e);
        }
        self.length += text.len() as u64;
        for record in records {
            apply(&mut self.live, record.clone());
        }
        if self.length > LONG && self.length > 2 * self.rewritten {
            self.file = begin(&self.path, &self.boot, &self.live)?;
            self.length = self.file.seek(SeekFrom::End(0))?;
            self.rewritten = self.length;
        }
        Ok(())
    }
}

fn read(text: &[u8], boot: &str) -> (Live, Recovered) {
    let mut live = Live::new();
    let mut recovered = Recovered {
        rebooted: !text.is_empty(),
        ..Recovered::default()
    };
    for (n, line) in text.split_inclusive(|&b| b == b'\n').enumerate() {
        match Record::decode(line) {
            Some(Record::Boot(id)) if n == 0 => recovered.rebooted = id != boot,
            Some(Record::Boot(_)) | None => recovered.damaged += 1,
            Some(record) => apply(&mut live, record),
        }
    }
    recovered.entries = live.values().cloned().collect();
    (live, recovered)
}

fn apply(live: &mut Live, record: Record) {
    match record {
        Record::Boot(_) => {}
        Record::Open(entry) => {
            live.insert((entry.door.clone(), entry.address), entry);
        }
        Record::Extend {
            door,
            address,
            until,
        } => {
            if let Some(entry) = live.get_mut(&(door, address)) {
                entry.until = until;
            }
        }
        Record::Done { door, address } => {
            if let Some(entry) = live.get_mut(&(door, address)) {
                entry.done = true;
            }
        }
        Record::Closed { door, address } => {
            live.remove(&(door, address));
        }
    }
}

/// A new file in the place of the old one, in one step.
fn begin(path: &Path, boot: &str, live: &Live) -> io::Result<File> {
    let mut text = Record::Boot(boot.to_owned()).encode();
    for entry in live.values() {
        text.extend(Record::Open(entry.clone()).encode());
    }
    let new = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(&text)?;
    std::fs::rename(&new, path)?;
    Ok(file)
}

fn checksum(json: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(json);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(door: &str, last: u8, until: u64) -> Entry {
        Entry {
            door: door.into(),
            address: IpAddr::from([192, 0, 2, last]),
            since: 1,
            until,
            done: false,
            stop: None,
        }
    }

    fn of(entry: &Entry) -> (String, IpAddr) {
        (entry.door.clone(), entry.address)
    }

    fn opened(path: &Path, boot: &str) -> (Journal, Recovered) {
        Journal::open(path, boot, Time(10)).unwrap()
    }

    fn example(path: &Path) -> Vec<Entry> {
        let (mut journal, recovered) = opened(path, "a");
        assert_eq!(recovered, Recovered::default());
        let (a, b, c) = (
            entry("ssh", 1, 50),
            entry("ssh", 2, 60),
            entry("wake", 1, 70),
        );
        journal
            .write(&[
                Record::Open(a.clone()),
                Record::Open(b.clone()),
                Record::Open(c.clone()),
            ])
            .unwrap();
        let (door, address) = of(&a);
        journal
            .write(&[
                Record::Done {
                    door: door.clone(),
                    address,
                },
                Record::Extend {
                    door,
                    address,
                    until: 90,
                },
            ])
            .unwrap();
        let (door, address) = of(&b);
        journal.write(&[Record::Closed { door, address }]).unwrap();
        vec![
            Entry {
                until: 90,
                done: true,
                ..a
            },
            c,
        ]
    }

    #[test]
    fn what_was_written_is_read_again() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("journal");
        let expected = example(&path);
        for _ in 0..2 {
            let (_, recovered) = opened(&path, "a");
            assert_eq!(recovered.entries, expected);
            assert_eq!((recovered.rebooted, recovered.damaged), (false, 0));
        }
    }

    #[test]
    fn another_boot_is_noticed() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("journal");
        let expected = example(&path);
        let (_, recovered) = opened(&path, "b");
        assert_eq!((recovered.rebooted, recovered.entries), (true, expected));
        let (_, recovered) = Journal::open(&path, "b", Time(0)).unwrap();
        assert!(recovered.rebooted, "entries from the future");
    }

    #[test]
    fn no_prefix_and_no_flipped_byte_invents_a_lease() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("journal");
        example(&path);
        let text = std::fs::read(&path).unwrap();
        let known = |e: &Entry| {
            let short = *e == entry("ssh", 1, 50);
            let done = *e
                == Entry {
                    done: true,
                    ..entry("ssh", 1, 50)
                };
            let long = *e
                == Entry {
                    until: 90,
                    ..entry("ssh", 1, 50)
                };
            let full = *e
                == Entry {
                    until: 90,
                    done: true,
                    ..entry("ssh", 1, 50)
                };
            short || done || long || full || *e == entry("ssh", 2, 60) || *e == entry("wake", 1, 70)
        };
        for cut in 0..text.len() {
            let (_, recovered) = read(&text[..cut], "a");
            assert!(recovered.entries.iter().all(known), "cut at {cut}");
        }
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut text = text.clone();
                text[at] ^= 1 << bit;
                let (_, recovered) = read(&text, "a");
                assert!(recovered.entries.iter().all(known), "byte {at}, bit {bit}");
                assert!(recovered.damaged > 0, "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("journal");
        let (mut journal, _) = opened(&path, "a");
        for n in 0..20_000 {
            let e = entry("ssh", (n % 8) as u8, n);
            let (door, address) = of(&e);
            journal
                .write(&[Record::Open(e), Record::Closed { door, address }])
                .unwrap();
        }
        let last = entry("ssh", 9, 1);
        journal.write(&[Record::Open(last.clone())]).unwrap();
        assert!(std::fs::metadata(&path).unwrap().len() <= 2 * LONG);
        assert_eq!(opened(&path, "a").1.entries, [last]);
    }

    #[test]
    fn a_full_disk_leaves_what_was_there() {
        let full = Path::new("/dev/full");
        if !full.exists() {
            return; // Linux alone has it
        }
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("journal");
        let expected = example(&path);
        let (mut journal, _) = opened(&path, "a");
        let good = std::mem::replace(
            &mut journal.file,
            OpenOptions::new().write(true).open(full).unwrap(),
        );
        assert!(journal.write(&[Record::Open(entry("ssh", 7, 99))]).is_err());
        journal.file = good;
        assert_eq!(opened(&path, "a").1.entries, expected);
    }
}
