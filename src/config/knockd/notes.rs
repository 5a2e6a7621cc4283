//! What is wrong with a knockd.conf, what is unwise in it, and where.

use super::super::mistake::{Lines, Mistake, Place, Warning, Wrong};
use super::super::toml::MOST_MISTAKES;

/// Collected while the file is read.
pub(super) struct Notes<'t> {
    file: &'t str,
    lines: Lines<'t>,
    mistakes: Vec<Mistake>,
    pub warnings: Vec<Warning>,
}

impl<'t> Notes<'t> {
    pub fn new(file: &'t str, text: &'t str) -> Notes<'t> {
        Notes {
            file,
            lines: Lines::new(text),
            mistakes: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// The place of a byte of the text.
    pub fn place(&self, at: usize) -> Place {
        self.lines.place(at)
    }

    /// `key`: whatever the mistake concerns, as [`key`] shows it; may be empty.
    pub fn refuse(&mut self, at: usize, key: impl Into<String>, wrong: Wrong) {
        self.mistakes.push(Mistake {
            file: self.file.to_owned(),
            place: self.place(at),
            key: printable(&key.into()),
            what: wrong.what,
            right: wrong.right,
        });
    }

    pub fn warn(&mut self, at: usize, key: impl Into<String>, unwise: Wrong) {
        self.warnings.push(Warning {
            file: self.file.to_owned(),
            place: self.place(at),
            key: printable(&key.into()),
            what: unwise.what,
            better: unwise.right,
        });
    }

    /// The value, or nothing if it is wrong.
    pub fn kept<T>(&mut self, at: usize, key: &str, read: Result<T, Wrong>) -> Option<T> {
        read.map_err(|wrong| self.refuse(at, key, wrong)).ok()
    }

    /// The mistakes in the order of the text, not more than can be read.
    pub fn mistakes(self) -> Vec<Mistake> {
        let mut mistakes = self.mistakes;
        mistakes.sort_by_key(|mistake| mistake.place);
        if let Some(first) = mistakes.get(MOST_MISTAKES) {
            let more = Mistake {
                key: String::new(),
                what: "more mistakes from here on".to_owned(),
                right: "mend those above first".to_owned(),
                ..first.clone()
            };
            mistakes.truncate(MOST_MISTAKES);
            mistakes.push(more);
        }
        mistakes
    }
}

/// A key of a section as messages show it: `[openSSH] Sequence`.
pub(super) fn key(section: &str, key: &str) -> String {
    format!("[{}] {key}", printable(section))
        .trim_end()
        .to_owned()
}

/// On one line, not too long.
pub(super) fn printable(text: &str) -> String {
    let plain = |c: char| if c.is_control() { '?' } else { c };
    text.chars().take(127).map(plain).collect()
}
