//! What must survive the death of a process: which leases there are, when each ends, and which
//! stop commands are owed.
//!
//! A file of lines, each a checksum and a record in JSON, appended with one write before the
//! packet filter is touched and written anew now and then. A process may die at any moment: a
//! last line that is cut short was not acted on, and is passed over. A line that has changed may
//! have been the end of any lease before it: none of these is in force unless a later line gives
//! it an end. The end of a lease is counted from the system's boot, and a reboot ends all leases:
//! the file names the boot it was written in.
//!
//! A journal that cannot be read vouches for no lease; one that cannot be written takes no new
//! one, and is written anew as soon as it can be.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::hash::Hasher;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use crate::time::Time;

/// Longer than this, and longer than twice what is live, the file is written anew.
const LONG: u64 = 256 << 10;
/// No line is longer: the longest stop command, every byte of it escaped, and the rest.
const LINE: u64 = 1 << 20;
/// No file is longer: a million leases fit.
const HUGE: u64 = 1 << 30;

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
    /// It ends at another time than was said before, most often later.
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
    /// Lines that had changed: leases of which no later line tells are over.
    pub damaged: usize,
    /// The last line was cut short.
    pub cut: bool,
    /// Why it could not be read, or not to its end.
    pub unread: Option<String>,
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
    /// None: what stands at the path is behind, or cannot be told to be whole.
    file: Option<File>,
    length: u64,
    rewritten: u64,
    live: Live,
}

impl Journal {
    /// Reads the journal at `path` and begins it anew with what is live, if that can be done:
    /// [`Journal::catch_up`] tells. `boot` names the boot the system runs in; `now` is the time
    /// since then. One that had changed is kept beside it, as `journal.damaged`.
    pub fn open(path: &Path, boot: &str, now: Time) -> (Journal, Recovered) {
        let (live, recovered) = load(path, boot, now);
        if recovered.damaged > 0 || recovered.unread.is_some() {
            let aside = path.with_extension("damaged");
            // For a person to look at: nothing depends on it.
            let _ = fs::remove_file(&aside);
            let _ = fs::hard_link(path, &aside);
        }
        let mut journal = Journal {
            path: path.to_owned(),
            boot: boot.to_owned(),
            file: None,
            length: 0,
            rewritten: 0,
            live,
        };
        // Told by the next who wants to write.
        let _ = journal.catch_up();
        (journal, recovered)
    }

    /// What the journal at `path` says, which stays as it is: whoever opens it next is told the
    /// same.
    pub fn look(path: &Path, boot: &str, now: Time) -> Recovered {
        load(path, boot, now).1
    }

    /// Appends what is about to be done, with one write.
    ///
    /// # Errors
    /// The system's; the journal then says what it said before, and it must not be done.
    pub fn write(&mut self, records: &[Record]) -> io::Result<()> {
        self.catch_up()?;
        self.append(records)?;
        self.apply(records);
        self.shorten();
        Ok(())
    }

    /// Appends what has been done, with one write.
    ///
    /// # Errors
    /// The system's; it is then written as soon as anything can be.
    pub fn note(&mut self, records: &[Record]) -> io::Result<()> {
        self.apply(records);
        if self.file.is_none() {
            return self.catch_up();
        }
        self.append(records)?;
        self.shorten();
        Ok(())
    }

    /// Sees to it that the file says all that it should: writes it anew if it does not.
    ///
    /// # Errors
    /// The system's; the file says what it said before.
    pub fn catch_up(&mut self) -> io::Result<()> {
        match self.file {
            Some(_) => Ok(()),
            None => self.begin(),
        }
    }

    /// A lease that is not known to be over.
    pub fn entry(&self, door: &str, address: IpAddr) -> Option<&Entry> {
        self.live.get(&(door.to_owned(), address))
    }

    fn apply(&mut self, records: &[Record]) {
        for record in records {
            apply(&mut self.live, record.clone());
        }
    }

    fn append(&mut self, records: &[Record]) -> io::Result<()> {
        let mut text = Vec::new();
        for record in records {
            text.extend(record.encode());
        }
        let Some(file) = &mut self.file else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        if let Err(e) = file.write_all(&text) {
            // What of it was written is cut off again. If that fails, too, the next reader
            // passes over the line that is cut short: nothing is written behind it.
            let _ = file.set_len(self.length);
            self.file = None;
            return Err(e);
        }
        self.length += text.len() as u64;
        Ok(())
    }

    /// One that has become long for what is live is written anew; if that fails it is when it
    /// has become twice as long.
    fn shorten(&mut self) {
        if self.length > LONG && self.length > 2 * self.rewritten && self.begin().is_err() {
            self.rewritten = self.length;
        }
    }

    /// A new file in the place of the old one, in one step.
    fn begin(&mut self) -> io::Result<()> {
        let mut text = Vec::new();
        text.extend(Record::Boot(self.boot.clone()).encode());
        for entry in self.live.values() {
            text.extend(Record::Open(entry.clone()).encode());
        }
        let new = self.path.with_extension("new");
        let _ = fs::remove_file(&new);
        let made: io::Result<File> = (|| {
            let mut file = OpenOptions::new()
                .append(true)
                .create_new(true)
                .mode(0o600)
                .open(&new)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&new, &self.path)?;
            Ok(file)
        })();
        if made.is_err() {
            let _ = fs::remove_file(&new);
        }
        self.file = Some(made?);
        self.length = text.len() as u64;
        self.rewritten = self.length;
        Ok(())
    }
}

fn load(path: &Path, boot: &str, now: Time) -> (Live, Recovered) {
    let (live, mut recovered) = match kept(path, HUGE) {
        Ok(Some(file)) => read(BufReader::new(file), boot),
        Ok(None) => (Live::new(), Recovered::default()),
        Err(e) => {
            let unread = Some(e.to_string());
            let recovered = Recovered {
                unread,
                ..Recovered::default()
            };
            (Live::new(), recovered)
        }
    };
    // Where the boot has no better name than a file that should be gone after it.
    recovered.rebooted |= live.values().any(|e| Time(e.since) > now);
    (live, recovered)
}

/// Opens a file that is kept for ourselves, if there is one, of so many bytes at most. Nothing
/// else is taken for one: a link leads to somebody else's file, a pipe would keep us waiting.
///
/// # Errors
/// The system's, or what is wrong with it.
pub fn kept(path: &Path, longest: u64) -> io::Result<Option<File>> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(O_NOFOLLOW | O_NONBLOCK)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    match file.metadata()? {
        meta if !meta.is_file() => Err(io::Error::other("no regular file")),
        meta if meta.len() > longest => Err(io::Error::other("longer than it can be")),
        _ => Ok(Some(file)),
    }
}

fn read(mut text: impl BufRead, boot: &str) -> (Live, Recovered) {
    let mut live = Live::new();
    let mut recovered = Recovered::default();
    let mut line = Vec::new();
    for n in 0.. {
        line.clear();
        match text.by_ref().take(LINE).read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(_) => {}
            Err(e) => {
                recovered.unread = Some(e.to_string());
                doubt(&mut live);
                break;
            }
        }
        recovered.rebooted |= n == 0;
        let last = !line.ends_with(b"\n") && text.fill_buf().is_ok_and(<[u8]>::is_empty);
        match Record::decode(&line) {
            Some(Record::Boot(id)) if n == 0 => recovered.rebooted = id != boot,
            None if last => recovered.cut = true,
            Some(Record::Boot(_)) | None => {
                recovered.damaged += 1;
                doubt(&mut live);
            }
            Some(record) => apply(&mut live, record),
        }
    }
    recovered.entries = live.values().cloned().collect();
    (live, recovered)
}

/// Any of these may have ended: they owe their stop commands, and are over unless it is said
/// again when they end.
fn doubt(live: &mut Live) {
    for entry in live.values_mut() {
        entry.until = entry.since;
    }
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

/// What tells that a text of ours has changed.
pub fn checksum(json: &[u8]) -> u64 {
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
        Journal::open(path, boot, Time(10))
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
        journal.note(&[Record::Closed { door, address }]).unwrap();
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
        let (_, recovered) = Journal::open(&path, "b", Time(0));
        assert!(recovered.rebooted, "entries from the future");
    }

    /// What [`read`] makes of these bytes, and the same by way of a file.
    fn recovered(text: &[u8], path: &Path) -> Recovered {
        let (_, recovered) = read(text, "a");
        std::fs::write(path, text).unwrap();
        let (journal, again) = opened(path, "a");
        assert_eq!(recovered, again);
        assert_eq!(
            journal.live.into_values().collect::<Vec<_>>(),
            again.entries
        );
        // What was taken up is what the next one reads.
        let (_, once_more) = opened(path, "a");
        assert_eq!(once_more.entries, again.entries);
        assert!(!once_more.cut && once_more.damaged == 0 && !once_more.rebooted);
        recovered
    }

    /// By records: what is in force after each, by a model of its own.
    fn in_force(lines: &[Record]) -> Vec<(String, IpAddr, u64)> {
        let mut all: Vec<(String, IpAddr, u64)> = Vec::new();
        for line in lines {
            match line.clone() {
                Record::Boot(_) | Record::Done { .. } => {}
                Record::Open(e) => {
                    all.retain(|l| (&l.0, l.1) != (&e.door, e.address));
                    all.push((e.door, e.address, e.until));
                }
                Record::Extend {
                    door,
                    address,
                    until,
                } => {
                    for lease in all.iter_mut().filter(|l| (&l.0, l.1) == (&door, address)) {
                        lease.2 = until;
                    }
                }
                Record::Closed { door, address } => all.retain(|l| (&l.0, l.1) != (&door, address)),
            }
        }
        all
    }

    #[test]
    fn every_prefix_is_an_earlier_moment() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("journal");
        example(&path);
        let text = std::fs::read(&path).unwrap();
        let lines: Vec<Record> = text
            .split_inclusive(|&b| b == b'\n')
            .map(|line| Record::decode(line).unwrap())
            .collect();
        for cut in 0..=text.len() {
            let recovered = recovered(&text[..cut], &path);
            let whole = text[..cut].iter().filter(|&&b| b == b'\n').count();
            let mut expected = in_force(&lines[..whole]);
            expected.sort();
            let found = recovered.entries.iter();
            let found: Vec<_> = found
                .map(|e| (e.door.clone(), e.address, e.until))
                .collect();
            assert_eq!(found, expected, "cut at {cut}");
            let clean = cut == 0 || text[cut - 1] == b'\n';
            assert_eq!(recovered.cut, !clean, "said: cut at {cut}");
            assert_eq!(recovered.damaged, 0, "cut at {cut}");
        }
    }

    #[test]
    fn no_changed_byte_leaves_a_lease_in_force_that_may_be_over() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("journal");
        let expected = example(&path);
        let text = std::fs::read(&path).unwrap();
        let starts: Vec<usize> = std::iter::once(0)
            .chain((1..text.len()).filter(|&at| text[at - 1] == b'\n'))
            .collect();
        let line_of = |at: usize| starts.iter().filter(|&&start| start <= at).count() - 1;
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut text = text.clone();
                text[at] ^= 1 << bit;
                let recovered = match bit == at % 8 {
                    true => recovered(&text, &path),
                    false => read(&text[..], "a").1,
                };
                let told = recovered.damaged > 0 || recovered.cut;
                assert!(told, "byte {at}, bit {bit}");
                let lives = |e: &&Entry| !recovered.rebooted && e.until > e.since;
                let alive: Vec<&Entry> = recovered.entries.iter().filter(lives).collect();
                let at_most = match line_of(at) {
                    // The last line is cut short: whoever it closed was over before it.
                    _ if at == text.len() - 1 => continue,
                    // The boot.
                    0 => &[],
                    // The first lease: nothing is left of it.
                    1 => &expected[1..],
                    // Its end is told again behind these.
                    2..=4 => &expected[..],
                    _ => &[],
                };
                for e in alive {
                    let known = |k: &Entry| (&k.door, k.address) == (&e.door, e.address);
                    assert!(at_most.iter().any(known), "{e:?}: byte {at}, bit {bit}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_journal_vouches_for_nothing() {
        let top = tempfile::tempdir().unwrap();
        let at = |name: &str| top.path().join(name);
        let kept = |name: &str| example(&at(name));
        let empty = |recovered: &Recovered| recovered.entries.is_empty();

        kept("target");
        std::os::unix::fs::symlink(at("target"), at("link")).unwrap();
        let before = std::fs::read(at("target")).unwrap();
        let (mut journal, recovered) = opened(&at("link"), "a");
        assert!(recovered.unread.is_some() && empty(&recovered));
        journal.write(&[Record::Open(entry("ssh", 3, 9))]).unwrap();
        assert_eq!(std::fs::read(at("target")).unwrap(), before, "not ours");
        assert!(!at("link").is_symlink());

        let made = nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU);
        made.unwrap();
        let (_, recovered) = opened(&at("pipe"), "a");
        assert!(recovered.unread.is_some() && empty(&recovered));

        std::fs::create_dir(at("directory")).unwrap();
        let (mut journal, recovered) = opened(&at("directory"), "a");
        assert!(recovered.unread.is_some() && empty(&recovered));
        assert!(journal.write(&[Record::Open(entry("ssh", 3, 9))]).is_err());
        std::fs::remove_dir(at("directory")).unwrap();
        journal.write(&[Record::Open(entry("ssh", 3, 9))]).unwrap();
        assert_eq!(opened(&at("directory"), "a").1.entries.len(), 1);

        let garbage: Vec<u8> = (0..3_000_000u64).map(|n| ((n * n) >> 7) as u8).collect();
        std::fs::write(at("garbage"), &garbage).unwrap();
        let (_, recovered) = opened(&at("garbage"), "a");
        assert!(recovered.damaged > 0 && recovered.rebooted && empty(&recovered));
        assert_eq!(
            std::fs::read(at("garbage.damaged")).unwrap(),
            garbage,
            "kept"
        );

        let huge = File::create(at("huge")).unwrap();
        huge.set_len(HUGE + 1).unwrap();
        let (_, recovered) = opened(&at("huge"), "a");
        assert!(recovered.unread.is_some() && empty(&recovered));
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("journal");
        let (mut journal, _) = opened(&path, "a");
        for n in 0..20_000 {
            let e = entry("ssh", (n % 8) as u8, n);
            let (door, address) = of(&e);
            journal.write(&[Record::Open(e)]).unwrap();
            journal.note(&[Record::Closed { door, address }]).unwrap();
        }
        let last = entry("ssh", 9, 1);
        journal.write(&[Record::Open(last.clone())]).unwrap();
        assert!(std::fs::metadata(&path).unwrap().len() <= 2 * LONG);
        assert_eq!(opened(&path, "a").1.entries, [last]);
    }

    #[test]
    fn what_could_not_be_written_is_as_soon_as_it_can_be() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("journal");
        let mut expected = example(&path);
        let (mut journal, _) = opened(&path, "a");
        // As on a disk that takes no more: neither the file nor another in its place.
        let full = || OpenOptions::new().write(true).open("/dev/full").ok();
        let in_the_way = path.with_extension("new");
        let Some(device) = full() else {
            return; // Linux alone has it
        };
        std::fs::create_dir_all(in_the_way.join("x")).unwrap();
        journal.file = Some(device);
        assert!(journal.write(&[Record::Open(entry("ssh", 7, 99))]).is_err());
        assert_eq!(journal.entry("ssh", [192, 0, 2, 7].into()), None);
        let over = expected.pop().unwrap();
        let (door, address) = of(&over);
        assert!(journal.note(&[Record::Closed { door, address }]).is_err());
        assert!(journal.catch_up().is_err());
        let before = read(&std::fs::read(&path).unwrap()[..], "a").1;
        assert_eq!(before.entries.len(), 2, "it says what it said");
        assert!(!before.cut);

        std::fs::remove_dir_all(&in_the_way).unwrap();
        journal.catch_up().unwrap();
        assert_eq!(
            read(&std::fs::read(&path).unwrap()[..], "a").1.entries,
            expected
        );
        journal.write(&[Record::Open(entry("ssh", 7, 99))]).unwrap();
        expected.push(entry("ssh", 7, 99));
        assert_eq!(opened(&path, "a").1.entries, expected);
    }

    #[test]
    fn one_that_cannot_be_shortened_goes_on() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("journal");
        let (mut journal, _) = opened(&path, "a");
        std::fs::create_dir_all(path.with_extension("new").join("x")).unwrap();
        for n in 0..5_000 {
            let e = entry("ssh", (n % 8) as u8, n);
            journal.write(&[Record::Open(e)]).unwrap();
        }
        assert!(journal.length > LONG);
        assert_eq!(
            read(&std::fs::read(&path).unwrap()[..], "a")
                .1
                .entries
                .len(),
            8
        );
    }
}
