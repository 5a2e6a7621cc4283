//! What is wrong with a configuration and where; what is right but unwise; where things stand.

use std::collections::BTreeMap;
use std::fmt;

use super::Config;

/// What is wrong with a piece of text, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {right}")]
pub struct Wrong {
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub right: String,
}

impl Wrong {
    /// Both may quote the text: a control character in it becomes a `?`.
    pub(crate) fn new(what: impl Into<String>, right: impl Into<String>) -> Wrong {
        Wrong {
            what: one_line(what.into()),
            right: one_line(right.into()),
        }
    }
}

/// A place in a text. Both counted from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl Place {
    /// The beginning of a text.
    pub const START: Place = Place { line: 1, column: 1 };
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Why a configuration is refused. Shown on one line:
/// `FILE:LINE:COLUMN: KEY: what is wrong; what would be right`, without `KEY: ` where it
/// concerns none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The file, as it was named to the reader.
    pub file: String,
    /// Where in it.
    pub place: Place,
    /// The key with the tables it stands in, such as `door.ssh.open_for`; may be empty.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub right: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, colon) = shown_key(&self.key);
        write!(f, "{}:{}: {key}{colon}", self.file, self.place)?;
        write!(f, "{}; {}", self.what, self.right)
    }
}

impl std::error::Error for Mistake {}

/// What a configuration may say but had better not. Shown on one line:
/// `FILE:LINE:COLUMN: warning: KEY: what is unwise; what would be better`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The file, as it was named to the reader.
    pub file: String,
    /// Where in it.
    pub place: Place,
    /// The key with the tables it stands in, such as `door.ssh.open_for`.
    pub key: String,
    /// What is unwise.
    pub what: String,
    /// What would be better.
    pub better: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, colon) = shown_key(&self.key);
        write!(f, "{}:{}: warning: {key}{colon}", self.file, self.place)?;
        write!(f, "{}; {}", self.what, self.better)
    }
}

fn shown_key(key: &str) -> (&str, &str) {
    (key, if key.is_empty() { "" } else { ": " })
}

/// A configuration and where its parts stand in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The configuration.
    pub config: Config,
    /// Where its parts stand.
    pub places: Places,
    /// What is unwise in the text itself and does not show in the configuration.
    pub warnings: Vec<Warning>,
}

/// A part of a configuration, for [`Places`]. Doors, knocks and items by their place in the
/// model; an empty key is the door or knock itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spot {
    /// In which door.
    pub door: Option<usize>,
    /// In which of its knocks.
    pub knock: Option<usize>,
    /// In which `[key.NAME]`.
    pub of_key: Option<usize>,
    /// Which key.
    pub key: &'static str,
    /// Which item of its list.
    pub item: Option<usize>,
}

impl Spot {
    /// Door number `door`.
    pub fn door(door: usize) -> Spot {
        Spot {
            door: Some(door),
            ..Spot::default()
        }
    }

    /// `[key.NAME]` number `key`.
    pub fn of_key(key: usize) -> Spot {
        Spot {
            of_key: Some(key),
            ..Spot::default()
        }
    }

    /// Its knock number `knock`.
    pub fn knock(self, knock: usize) -> Spot {
        Spot {
            knock: Some(knock),
            ..self
        }
    }

    /// Its key `key`.
    pub fn key(self, key: &'static str) -> Spot {
        Spot { key, ..self }
    }

    /// Item number `item` of its list.
    pub fn item(self, item: usize) -> Spot {
        Spot {
            item: Some(item),
            ..self
        }
    }

    /// The part this one is in; `None` for the whole file.
    fn outer(self) -> Option<Spot> {
        if self.item.is_some() {
            Some(Spot { item: None, ..self })
        } else if !self.key.is_empty() {
            Some(Spot { key: "", ..self })
        } else if self.knock.is_some() {
            Some(Spot {
                knock: None,
                ..self
            })
        } else if self.door.is_some() || self.of_key.is_some() {
            Some(Spot::default())
        } else {
            None
        }
    }
}

/// Where the parts of a configuration stand in its file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places(BTreeMap<Spot, Place>);

impl Places {
    /// Notes that `spot` stands at `place`.
    pub fn set(&mut self, spot: Spot, place: Place) {
        self.0.insert(spot, place);
    }

    /// Where `spot` stands, or else the nearest part that it is in.
    pub fn get(&self, spot: Spot) -> Place {
        let mut at = Some(spot);
        while let Some(spot) = at {
            if let Some(&place) = self.0.get(&spot) {
                return place;
            }
            at = spot.outer();
        }
        Place::START
    }
}

/// Where the lines of a text begin.
pub(crate) struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    pub(crate) fn new(text: &'t str) -> Lines<'t> {
        let breaks = text.match_indices('\n').map(|(at, _)| at + 1);
        Lines {
            text,
            starts: std::iter::once(0).chain(breaks).collect(),
        }
    }

    /// The place of the byte `offset`; beyond the end it is the end's.
    pub(crate) fn place(&self, offset: usize) -> Place {
        let offset = offset.min(self.text.len());
        let line = self.starts.partition_point(|&start| start <= offset);
        let start = self.starts[line - 1];
        let before = self
            .text
            .as_bytes()
            .get(start..offset)
            .unwrap_or_default()
            .iter()
            .filter(|&&byte| !is_continuation(byte))
            .count();
        Place {
            line,
            column: before + 1,
        }
    }

    /// Line `line` (from 1) without its end.
    pub(crate) fn line(&self, line: usize) -> &'t str {
        let Some(&start) = line.checked_sub(1).and_then(|at| self.starts.get(at)) else {
            return "";
        };
        let rest = self.text.get(start..).unwrap_or_default();
        rest.lines().next().unwrap_or_default()
    }
}

fn is_continuation(byte: u8) -> bool {
    byte & 0xC0 == 0x80
}

/// A file's bytes as text, or where they stop being UTF-8.
pub fn utf8<'b>(file: &str, bytes: &'b [u8]) -> Result<&'b str, Mistake> {
    std::str::from_utf8(bytes).map_err(|error| {
        let good = &bytes[..error.valid_up_to()];
        let line = good.iter().filter(|&&byte| byte == b'\n').count() + 1;
        let column = good
            .rsplit(|&byte| byte == b'\n')
            .next()
            .unwrap_or_default()
            .iter()
            .filter(|&&byte| !is_continuation(byte))
            .count()
            + 1;
        Mistake {
            file: file.to_owned(),
            place: Place { line, column },
            key: String::new(),
            what: format!("the byte 0x{:02x} is not UTF-8", bytes[error.valid_up_to()]),
            right: "write the file in UTF-8".to_owned(),
        }
    })
}

/// `text` without control characters.
pub(crate) fn one_line(text: String) -> String {
    match text.contains(char::is_control) {
        true => text.replace(char::is_control, "?"),
        false => text,
    }
}

/// `text` in quotes, on one line, not too long, for a message.
pub(crate) fn quote(text: &str) -> String {
    const MOST: usize = 60;
    let mut shown: String = text.chars().take(MOST).collect();
    if shown.len() < text.len() {
        shown.push_str("...");
    }
    format!("{shown:?}")
}
