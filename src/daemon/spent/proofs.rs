//! Which proofs are spent, and the lines that say so. Pure.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{BufRead, Read as _};

use serde::{Deserialize, Serialize};

use super::Unspent;
use crate::journal::{line, of_line};

/// What tells one message from any other: the first half of its HMAC or a part of it.
pub type Proof = [u8; 16];

/// How many proofs of one key are kept.
pub const PROOFS: usize = 1024;
/// How many keys that are configured no more keep their record.
pub const FORMER: usize = 64;

/// No line is longer; names of keys are short.
const LINE: u64 = 1024;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Proofs of one key.
    pub proofs: usize,
    /// Keys that are configured no more.
    pub former: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            proofs: PROOFS,
            former: FORMER,
        }
    }
}

/// One line. All times are those of messages, in seconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Record {
    /// The first of each file: how many lines follow at least, in a fixed number of hexadecimal
    /// digits, so that it can be written over.
    Lines(String),
    /// Nothing up to this time is granted any more, to any key.
    Floor(u64),
    /// Nothing up to this time is granted to this key.
    Key {
        /// Its name.
        key: String,
        /// The time.
        floor: u64,
    },
    /// This has been granted.
    Spent {
        /// The key's name.
        key: String,
        /// What was spent.
        #[serde(with = "hexadecimal")]
        proof: Proof,
        /// The message's time.
        at: u64,
    },
}

impl Record {
    /// Digits of a count of lines.
    const COUNT: usize = 16;

    /// The first line of a file. Its length is always the same.
    pub fn head(lines: u64) -> Record {
        Record::Lines(format!("{lines:0width$x}", width = Record::COUNT))
    }

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

/// A proof as 32 hexadecimal digits.
mod hexadecimal {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Proof;

    pub fn serialize<S: Serializer>(proof: &Proof, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{:032x}", u128::from_be_bytes(*proof)))
    }

    pub fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Proof, D::Error> {
        let text = String::deserialize(from)?;
        let digits = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = digits.then(|| u128::from_str_radix(&text, 16).ok());
        let number = number.flatten().ok_or(D::Error::custom("no proof"))?;
        Ok(number.to_be_bytes())
    }
}

/// What is kept of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Spending {
    /// Nothing up to this time is granted.
    floor: u64,
    /// What was granted of later times, by time.
    proofs: BTreeSet<(u64, Proof)>,
}

impl Spending {
    /// The newest time of which something is known.
    fn newest(&self) -> u64 {
        self.proofs.last().map_or(self.floor, |&(at, _)| at)
    }
}

/// All that is spent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proofs {
    bounds: Bounds,
    /// Nothing up to this time is granted to any key.
    floor: u64,
    keys: BTreeMap<String, Spending>,
    /// The proofs of all keys.
    all: HashSet<Proof>,
}

impl Proofs {
    /// Nothing is spent.
    pub fn new(bounds: Bounds) -> Proofs {
        Proofs {
            bounds,
            ..Proofs::default()
        }
    }

    /// Whether this may be granted.
    ///
    /// # Errors
    /// [`Unspent::Replayed`] or [`Unspent::TooOld`].
    pub fn judge(&self, key: &str, proof: &Proof, at: u64) -> Result<(), Unspent> {
        if self.all.contains(proof) {
            return Err(Unspent::Replayed);
        }
        match at <= self.floor_of(key) {
            true => Err(Unspent::TooOld),
            false => Ok(()),
        }
    }

    /// Nothing up to this time is granted to this key.
    fn floor_of(&self, key: &str) -> u64 {
        let own = self.keys.get(key).map(|spending| spending.floor);
        own.unwrap_or_default().max(self.floor)
    }

    /// Takes in what a line says.
    pub fn apply(&mut self, record: Record) {
        match record {
            Record::Lines(_) => {}
            Record::Floor(floor) => {
                self.floor = self.floor.max(floor);
                for spending in self.keys.values_mut() {
                    forget(spending, &mut self.all, self.floor);
                }
                let says_more = |s: &Spending| !s.proofs.is_empty() || s.floor > self.floor;
                self.keys.retain(|_, spending| says_more(spending));
            }
            Record::Key { key, floor } => {
                let spending = self.keys.entry(key).or_default();
                raise(spending, &mut self.all, floor);
            }
            Record::Spent { key, proof, at } => {
                let spending = self.keys.entry(key).or_default();
                if at <= spending.floor.max(self.floor) || !self.all.insert(proof) {
                    return;
                }
                spending.proofs.insert((at, proof));
                while spending.proofs.len() > self.bounds.proofs
                    && let Some(&(oldest, _)) = spending.proofs.first()
                {
                    raise(spending, &mut self.all, oldest);
                }
            }
        }
    }

    /// Says which keys are configured; whether anything rises by it. The floor of a key that is
    /// configured no more becomes everybody's, since the key may be there under another name. Of
    /// these keys the ones used last keep their proofs, as many as there is room for.
    pub fn configure<'a>(&mut self, keys: impl IntoIterator<Item = &'a str>) -> bool {
        let configured: BTreeSet<&str> = keys.into_iter().collect();
        let gone = |name: &String| !configured.contains(name.as_str());
        let former = self.keys.iter().filter(|(name, _)| gone(name));
        let mut newest: Vec<u64> = former.clone().map(|(_, s)| s.newest()).collect();
        newest.sort_unstable();
        let over = newest.len().saturating_sub(self.bounds.former);
        let room = newest[..over].last().copied().unwrap_or_default();
        let floors = former.map(|(_, spending)| spending.floor);
        let floor = floors.max().unwrap_or_default().max(room);
        let rises = floor > self.floor;
        if rises {
            self.apply(Record::Floor(floor));
        }
        rises
    }

    /// How many proofs are kept.
    pub fn kept(&self) -> usize {
        self.all.len()
    }

    /// The lines of a file that says all this, without its first.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        let keys = self.keys.iter().flat_map(|(key, spending)| {
            let floor = Record::Key {
                key: key.clone(),
                floor: spending.floor,
            };
            let spent = spending.proofs.iter().map(|&(at, proof)| Record::Spent {
                key: key.clone(),
                proof,
                at,
            });
            std::iter::once(floor).chain(spent)
        });
        std::iter::once(Record::Floor(self.floor)).chain(keys)
    }

    /// What a file's text says, and whether that is all it once said.
    pub fn read(mut text: impl BufRead, bounds: Bounds) -> (Proofs, Losses) {
        let mut proofs = Proofs::new(bounds);
        let mut losses = Losses::default();
        let (mut promised, mut good) = (None, 0);
        let mut line = Vec::new();
        for n in 0.. {
            line.clear();
            match text.by_ref().take(LINE).read_until(b'\n', &mut line) {
                Ok(0) => break,
                Ok(_) => {}
                Err(e) => {
                    losses.unread = Some(e.to_string());
                    break;
                }
            }
            let last = !line.ends_with(b"\n") && text.fill_buf().is_ok_and(<[u8]>::is_empty);
            match Record::decode(&line) {
                Some(Record::Lines(count)) if n == 0 => {
                    promised = u64::from_str_radix(&count, 16).ok();
                }
                None if last => losses.cut = true,
                Some(Record::Lines(_)) | None => losses.damaged += 1,
                Some(record) => {
                    good += 1;
                    proofs.apply(record);
                }
            }
        }
        losses.headless = promised.is_none();
        losses.missing = promised.unwrap_or_default().saturating_sub(good);
        (proofs, losses)
    }
}

/// Nothing up to this time is granted to a key from now on.
fn raise(spending: &mut Spending, all: &mut HashSet<Proof>, floor: u64) {
    spending.floor = spending.floor.max(floor);
    forget(spending, all, spending.floor);
}

/// Proofs up to this time need not be kept.
fn forget(spending: &mut Spending, all: &mut HashSet<Proof>, floor: u64) {
    while let Some(&(at, proof)) = spending.proofs.first()
        && at <= floor
    {
        spending.proofs.pop_first();
        all.remove(&proof);
    }
}

/// What a file has lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Its first line does not say how many follow.
    pub headless: bool,
    /// Lines that it should have and has not, or not as they were written.
    pub missing: u64,
    /// Lines that had changed.
    pub damaged: usize,
    /// Its last line was cut short. If none is missing, nothing came of what it told of.
    pub cut: bool,
    /// Why it could not be read, or not to its end.
    pub unread: Option<String>,
}

impl Losses {
    /// Whether something may have been spent that is not known.
    pub fn any(&self) -> bool {
        self.headless || self.missing > 0 || self.damaged > 0 || self.unread.is_some()
    }
}
