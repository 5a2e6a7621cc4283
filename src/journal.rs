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
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use crate::config::Network;
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
    pub address: Network,
    /// When it was granted, microseconds since boot.
    pub since: u64,
    /// When it ends, microseconds since boot.
    pub until: u64,
    /// The name of the key whose grant set its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
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
        address: Network,
        /// The new end, microseconds since boot.
        until: u64,
        /// The name of the key whose grant set it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
    },
    /// The packet filter or the start command has done its part.
    Done {
        /// The door's name.
        door: String,
        /// Who.
        address: Network,
    },
    /// The lease is over and nothing is owed any more.
    Closed {
        /// The door's name.
        door: String,
        /// Who.
        address: Network,
    },
}

impl Record {
    /// As it stands in the file: one line and its end.
    ///
    /// # Panics
    /// Never: what it carries can all be written as JSON.
    pub fn encode(&self) -> Vec<u8> {
        line(self)
    }

    /// `None`: the line is not whole, or not as it was written.
    pub fn decode(text: &[u8]) -> Option<Record> {
        of_line(text)
    }
}

/// A line of a file of ours: a checksum, and what it is of, in JSON.
///
/// # Panics
/// At what cannot be written as JSON.
pub fn line(of: &impl Serialize) -> Vec<u8> {
    let json = serde_json::to_vec(of).expect("plain data");
    let mut line = format!("{:016x} ", checksum(&json)).into_bytes();
    line.extend_from_slice(&json);
    line.push(b'\n');
    line
}

/// What a line is of; `None`: it is not whole, or not as it was written.
pub fn of_line<T: DeserializeOwned>(text: &[u8]) -> Option<T> {
    let (sum, json) = text.strip_suffix(b"\n")?.split_at_checked(17)?;
    let sum = std::str::from_utf8(sum.strip_suffix(b" ")?).ok()?;
    (format!("{:016x}", checksum(json)) == sum).then(|| serde_json::from_slice(json).ok())?
}

/// Puts a new file of root's in the place of one that may be there, in one step, and gives it
/// open, behind the text. A power cut leaves the one or the other.
///
/// # Errors
/// The system's; in most cases the old one stands.
pub fn anew(path: &Path, text: &[u8], how: &mut OpenOptions) -> io::Result<File> {
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let made: io::Result<File> = (|| {
        let mut file = how.create_new(true).mode(0o600).open(&new)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        if let Some(directory) = path.parent() {
            File::open(directory)?.sync_all()?;
        }
        Ok(file)
    })();
    if made.is_err() {
        let _ = fs::remove_file(&new);
    }
    made
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

type Live = BTreeMap<(String, Network), Entry>;

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
        let (mut live, recovered) = load(path, boot, now);
        if recovered.rebooted {
            // The file says this boot from now on: killed before they are closed, whoever opens
            // it next must not take them for leases of it.
            doubt(&mut live);
        }
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
    pub fn entry(&self, door: &str, address: Network) -> Option<&Entry> {
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
        self.file = Some(anew(&self.path, &text, OpenOptions::new().append(true))?);
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
            key,
        } => {
            if let Some(entry) = live.get_mut(&(door, address)) {
                (entry.until, entry.key) = (until, key);
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
mod tests;
