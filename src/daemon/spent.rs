//! The monitor's store of spent proofs: whatever has been granted once is never granted again.
//!
//! Kept by count, and never by a clock: of each key the [`PROOFS`] proofs whose messages are the
//! newest. Those that go leave the key's floor behind, the newest time that went, and nothing up
//! to that time is granted to this key any more. No key's proofs can push another's out.
//!
//! A key that is configured no more keeps its proofs, since it may come back. When there are more
//! than [`FORMER`] of these, those used longest ago lose theirs, and the newest time of what went
//! is everybody's floor. A proof is looked for among those of all keys, and the floor of a key
//! that is configured no more is everybody's: a key that comes back under another name is refused
//! what it had under the one before.
//!
//! A file of lines, each a checksum and a record in JSON. What is spent is appended with one
//! write, the number of lines in the file's first line is written over, and both are on the disk
//! (fdatasync(2)) before anything opens: without that a power cut would forget the last seconds,
//! and whoever has caught a message and the moment could send it again. That costs one wait for
//! the disk a grant, of which a key's allowance lets few happen, and none for what is refused.
//! A file that has become long is written anew beside the old one and takes its place.
//!
//! A file that has lost a line, whole or in part, cannot say what has been spent. Nothing then is
//! granted up to the time when it was opened (or last written, if the clock is behind that) and
//! the window, within which every message was that it could have told of. So everybody is
//! refused for as long as the window is, and for no longer if the clock is right. Where there is
//! no file, whatever was granted was in an earlier boot: the same, from the time of boot.
//!
//! A proof takes less than 100 bytes of memory and 130 of the file, which is at most twice as
//! long as what is kept, or 256 KiB: 100 KB and 260 KB a key at most, of those configured and of
//! [`FORMER`] others.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use jiff::Timestamp;

use super::clock;
use crate::journal::{anew, kept};

mod proofs;

pub use proofs::{Bounds, FORMER, Losses, PROOFS, Proof, Proofs, Record};

/// Longer than this, and longer than twice what is kept, the file is written anew.
const LONG: u64 = 256 << 10;
/// No file is longer: eight million proofs fit.
const HUGE: u64 = 1 << 30;

/// Why nothing is granted.
#[derive(Debug, thiserror::Error)]
pub enum Unspent {
    /// It has been granted before.
    #[error("it has been used before")]
    Replayed,
    /// Nobody knows any more what of that time has been granted before.
    #[error("it is older than what is remembered")]
    TooOld,
    /// That it is spent could not be written. The store says what it said before.
    #[error("it cannot be written that it is used: {0}")]
    NotWritten(#[source] io::Error),
}

/// What the wall clock says when a store is opened, in seconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct When {
    /// Now.
    pub now: u64,
    /// When the system was booted.
    pub boot: u64,
    /// How far a message's time may be from the clock's, in seconds.
    pub window: u64,
}

/// The open store.
#[derive(Debug)]
pub struct Spent {
    path: PathBuf,
    proofs: Proofs,
    /// None: what stands at the path is behind, or cannot be told to be whole.
    open: Option<Open>,
}

/// The file.
#[derive(Debug)]
struct Open {
    file: File,
    /// Bytes.
    length: u64,
    /// Bytes when it was written anew.
    rewritten: u64,
    /// Lines after the first.
    lines: u64,
}

impl Spent {
    /// Reads the store at `path` and begins it anew, if that can be done: [`Spent::catch_up`]
    /// tells. `keys` are those that are configured. What is wrong with it and what comes of it goes
    /// to `troubles`, a line each. One that has lost something is kept beside it, as
    /// `spent.damaged`.
    pub fn open<'a>(
        path: &Path,
        keys: impl IntoIterator<Item = &'a str>,
        when: When,
        troubles: &mut Vec<String>,
    ) -> Spent {
        Spent::open_within(Bounds::default(), path, keys, when, troubles)
    }

    fn open_within<'a>(
        bounds: Bounds,
        path: &Path,
        keys: impl IntoIterator<Item = &'a str>,
        when: When,
        troubles: &mut Vec<String>,
    ) -> Spent {
        let mut proofs = match load(path, bounds) {
            Ok(Some((proofs, losses, written))) => {
                taken_up(path, proofs, &losses, written, when, troubles)
            }
            Ok(None) => {
                let mut proofs = Proofs::new(bounds);
                let until = when.boot.saturating_add(when.window);
                proofs.apply(Record::Floor(until));
                if until > when.now {
                    troubles.push(format!(
                        "spent: there is none yet, and the system has just been booted: {}",
                        refused(until)
                    ));
                }
                proofs
            }
            Err(e) => {
                let losses = Losses {
                    unread: Some(e.to_string()),
                    ..Losses::default()
                };
                taken_up(path, Proofs::new(bounds), &losses, 0, when, troubles)
            }
        };
        proofs.configure(keys);
        let mut spent = Spent {
            path: path.to_owned(),
            proofs,
            open: None,
        };
        // Told by the next who wants to write.
        let _ = spent.catch_up();
        spent
    }

    /// Says which keys are configured from now on.
    pub fn configure<'a>(&mut self, keys: impl IntoIterator<Item = &'a str>) {
        if self.proofs.configure(keys) {
            self.open = None;
            // Told by the next who wants to write. Until then the file knows what went.
            let _ = self.catch_up();
        }
    }

    /// Whether this could be granted, as [`Spent::spend`] would say. Nothing is spent by asking.
    ///
    /// # Errors
    /// [`Unspent::Replayed`] or [`Unspent::TooOld`].
    pub fn judge(&self, key: &str, proof: &Proof, at: u64) -> Result<(), Unspent> {
        self.proofs.judge(key, proof, at)
    }

    /// Spends the proof of a message of the time `at`, in seconds since the Unix epoch, which
    /// must lie within the window: it is on the disk when this returns.
    ///
    /// # Errors
    /// Why nothing may be granted.
    pub fn spend(&mut self, key: &str, proof: Proof, at: u64) -> Result<(), Unspent> {
        self.judge(key, &proof, at)?;
        let record = Record::Spent {
            key: key.to_owned(),
            proof,
            at,
        };
        let written = self.catch_up().and_then(|()| self.append(&record));
        written.map_err(Unspent::NotWritten)?;
        self.proofs.apply(record);
        self.shorten();
        Ok(())
    }

    /// Sees to it that the file says all that it should: writes it anew if it does not.
    ///
    /// # Errors
    /// The system's; nothing can be spent until this succeeds.
    pub fn catch_up(&mut self) -> io::Result<()> {
        match &self.open {
            Some(open) if open.stands_at(&self.path) => Ok(()),
            _ => self.begin(),
        }
    }

    fn append(&mut self, record: &Record) -> io::Result<()> {
        let Some(open) = &mut self.open else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let appended = open.append(record);
        if appended.is_err() {
            // What of it was written is taken away again. If that fails, too, the next reader
            // takes for spent what was not granted, or raises the floor.
            let _ = open.file.set_len(open.length);
            let _ = open
                .file
                .write_all_at(&Record::head(open.lines).encode(), 0);
            self.open = None;
        }
        appended
    }

    /// One that has become long for what is kept is written anew; if that fails it is when it
    /// has become twice as long.
    fn shorten(&mut self) {
        let long = |open: &&mut Open| open.length > LONG && open.length > 2 * open.rewritten;
        if self.open.as_mut().filter(long).is_some()
            && self.begin().is_err()
            && let Some(open) = &mut self.open
        {
            open.rewritten = open.length;
        }
    }

    /// A new file in the place of the old one, in one step.
    fn begin(&mut self) -> io::Result<()> {
        let mut text = Vec::new();
        let mut lines = 0;
        for record in self.proofs.records() {
            text.extend(record.encode());
            lines += 1;
        }
        text.splice(..0, Record::head(lines).encode());
        let made = anew(&self.path, &text, OpenOptions::new().write(true));
        let length = text.len() as u64;
        self.open = Some(Open {
            file: made?,
            length,
            rewritten: length,
            lines,
        });
        Ok(())
    }
}

impl Open {
    /// Whether this is the file at the path, as long as it was left.
    fn stands_at(&self, path: &Path) -> bool {
        let (Ok(there), Ok(ours)) = (fs::symlink_metadata(path), self.file.metadata()) else {
            return false;
        };
        (there.dev(), there.ino()) == (ours.dev(), ours.ino()) && ours.len() == self.length
    }

    fn append(&mut self, record: &Record) -> io::Result<()> {
        let text = record.encode();
        let lines = self.lines + 1;
        self.file.write_all_at(&text, self.length)?;
        self.file.write_all_at(&Record::head(lines).encode(), 0)?;
        self.file.sync_data()?;
        self.length += text.len() as u64;
        self.lines = lines;
        Ok(())
    }
}

/// What the file at `path` says, what it has lost, and when it was last written, in seconds
/// since the Unix epoch.
fn load(path: &Path, bounds: Bounds) -> io::Result<Option<(Proofs, Losses, u64)>> {
    let Some(file) = kept(path, HUGE)? else {
        return Ok(None);
    };
    let written = file.metadata()?.modified()?;
    let written = written.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (proofs, losses) = Proofs::read(BufReader::new(file), bounds);
    Ok(Some((proofs, losses, written.as_secs())))
}

/// What was read, with the floor that its losses make.
fn taken_up(
    path: &Path,
    mut proofs: Proofs,
    losses: &Losses,
    written: u64,
    when: When,
    troubles: &mut Vec<String>,
) -> Proofs {
    if losses.any() {
        let aside = path.with_extension("damaged");
        // For a person to look at: nothing depends on it.
        let _ = fs::remove_file(&aside);
        let _ = fs::hard_link(path, &aside);
        let until = when.now.max(written).saturating_add(when.window);
        proofs.apply(Record::Floor(until));
        let what = match &losses.unread {
            Some(why) => format!("not read: {why}"),
            None => "it has lost lines".to_owned(),
        };
        troubles.push(format!("spent: {what}: {}", refused(until)));
    } else if losses.cut {
        troubles.push("spent: its last line was cut short and is passed over".to_owned());
    }
    proofs
}

fn refused(until: u64) -> String {
    let until = i64::try_from(until).ok();
    let until = until.and_then(|until| Timestamp::from_second(until).ok());
    let until = clock::seconds(until.unwrap_or(Timestamp::MAX));
    format!("messages up to {until} are refused")
}

#[cfg(test)]
mod tests;
