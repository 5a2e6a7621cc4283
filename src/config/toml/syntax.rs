//! What the TOML parser refuses, in words for people who have not read TOML's grammar.

use std::ops::Range;

use toml::de::{DeTable, DeValue, Error};

use super::super::mistake::{Lines, Wrong, quote};
use super::reader::{Found, dotted};

/// How many of the parser's errors are looked at: the first ones, many follow from one.
const MOST_ERRORS: usize = 4 * super::MOST_MISTAKES;

/// A key of the document with its value.
struct Known {
    /// With its tables: `door.ssh.opens`.
    path: String,
    key: Range<usize>,
    value: Range<usize>,
}

/// The mistakes in the syntax of `text`, whose readable part is `tree`.
pub(super) fn mistakes(text: &str, tree: &DeTable<'_>, errors: &[Error]) -> Vec<Found> {
    if errors.is_empty() {
        return Vec::new();
    }
    let mut known = Vec::new();
    walk(String::new(), tree, &mut known);
    known.sort_by_key(|known| known.key.start);
    let document = Document {
        text,
        lines: Lines::new(text),
        known,
    };
    let mut errors: Vec<&Error> = errors.iter().collect();
    errors.sort_by_key(|error| error.span().map_or(0, |span| span.start));
    errors.truncate(MOST_ERRORS);
    let mut found: Vec<Found> = Vec::new();
    for error in errors {
        let one = document.explain(error);
        // What else is wrong within an unclosed list or text follows from that.
        let within = |inner: &Found, outer: &Found| {
            outer.span.start <= inner.span.start && inner.span.end <= outer.span.end
        };
        if !found.iter().any(|known| within(&one, known)) {
            found.retain(|known| !within(known, &one));
            found.push(one);
        }
    }
    found
}

/// Gathers the keys whose values are no tables.
fn walk(name: String, table: &DeTable<'_>, known: &mut Vec<Known>) {
    for (key, value) in table {
        let path = dotted(&name, key.get_ref());
        let mut note = |path| {
            known.push(Known {
                path,
                key: key.span(),
                value: value.span(),
            });
        };
        match value.get_ref() {
            DeValue::Table(inner) => walk(path, inner, known),
            DeValue::Array(items) if items.iter().any(|item| item.get_ref().is_table()) => {
                // The list of [[headers]] begins before its key, one in brackets behind it.
                if key.span().end <= value.span().start {
                    note(path.clone());
                }
                for inner in items.iter().filter_map(|item| item.get_ref().as_table()) {
                    walk(path.clone(), inner, known);
                }
            }
            _ => note(path),
        }
    }
}

struct Document<'t> {
    text: &'t str,
    lines: Lines<'t>,
    /// In the order of the text.
    known: Vec<Known>,
}

impl<'t> Document<'t> {
    fn slice(&self, span: &Range<usize>) -> &'t str {
        self.text.get(span.clone()).unwrap_or_default()
    }

    /// The key that the place belongs to, if the parser kept it.
    fn key_at(&self, span: &Range<usize>) -> Option<&Known> {
        let holds = |known: &&Known| known.key.start <= span.start && span.start <= known.value.end;
        self.known.iter().rev().find(holds)
    }

    /// The table that the place stands in, by the nearest line above that looks like a header.
    fn table_at(&self, span: &Range<usize>) -> String {
        let last = self.lines.place(span.start).line;
        let header = |line| header_name(self.lines.line(line));
        (1..=last).rev().find_map(header).unwrap_or_default()
    }

    /// The line of the place, up to it.
    fn line_before(&self, span: &Range<usize>) -> &'t str {
        let start = self
            .text
            .get(..span.start)
            .and_then(|text| text.rfind('\n'));
        self.slice(&(start.map_or(0, |at| at + 1)..span.start))
    }

    fn explain(&self, error: &Error) -> Found {
        let span = error.span().unwrap_or(0..0);
        let known = self.key_at(&span);
        let header = self.line_before(&span).trim_start().starts_with('[');
        let message = error.message();
        let starts = |with: &str| message.starts_with(with);
        let mut found = Found {
            key: known.map_or_else(|| self.table_at(&span), |known| known.path.clone()),
            wrong: Wrong::new("", ""),
            span,
        };
        let value = known.map(|known| known.value.clone());

        found.wrong = if starts("duplicate key") {
            let (key, wrong) = self.duplicate(&found.span, header && known.is_none());
            found.key = key;
            wrong
        } else if starts("key with no value") {
            let before = self.line_before(&found.span).trim();
            found.key = dotted(&self.table_at(&found.span), before);
            Wrong::new("a key without a value", "write KEY = VALUE")
        } else if starts("unclosed") && header && known.is_none() {
            let right = "end it with ] (or ]]) and nothing behind it";
            Wrong::new("the header of the table is not closed", right)
        } else if starts("unquoted keys cannot") && header && known.is_none() {
            let right = "write one within the brackets, and on either side of a dot";
            Wrong::new("a name is missing", right)
        } else if starts("unclosed inline table") {
            Wrong::new("the table in braces is not closed", "end it with }")
        } else if starts("unclosed array") || starts("unexpected `=` in array") {
            found.span = value.unwrap_or(found.span);
            Wrong::new("the list is not closed", "end it with ]")
        } else if starts("invalid") && message.contains("visible characters") {
            Wrong::new("a control character", "leave it out")
        } else if starts("invalid") && message.contains("string, expected") {
            found.span = value.unwrap_or(found.span);
            let right = "end it with the quote that it begins with";
            Wrong::new("the text in quotes is not closed", right)
        } else if let Some((what, right)) = rest(message) {
            Wrong::new(what, right)
        } else if starts("string values must be quoted") || starts("invalid") && known.is_some() {
            unquoted(self.slice(&found.span).trim())
        } else {
            let what = format!("not TOML: {message}");
            Wrong::new(what, "see toml.io for what is")
        };
        found
    }

    /// A key or a table that stands in the file a second time.
    fn duplicate(&self, span: &Range<usize>, header: bool) -> (String, Wrong) {
        let line = self.lines.place(span.start).line;
        if header {
            let text = |line| self.lines.line(line).trim();
            let own = text(line);
            let own = own.rfind(']').map_or(own, |at| &own[..=at]);
            let first = (1..line).find(|&earlier| text(earlier).starts_with(own));
            let name = || dotted("", self.slice(span));
            let path = header_name(text(line)).unwrap_or_else(name);
            return match first {
                Some(first) => (
                    path,
                    Wrong::new(
                        format!("the table stands here a second time, first in line {first}"),
                        "give the second another name, or write all in the first",
                    ),
                ),
                None => (
                    path,
                    Wrong::new(
                        "something else of this name stands above",
                        "write it [TABLE] once, or [[LIST]] each time",
                    ),
                ),
            };
        }
        let name = self.slice(span).trim_matches(['"', '\'']);
        let path = dotted(&self.table_at(span), name);
        let same = |known: &&Known| known.path == path && known.key.start < span.start;
        let first = self.known.iter().rev().find(same);
        let at = first.map_or(String::new(), |first| {
            let line = self.lines.place(first.key.start).line;
            format!(", first in line {line}")
        });
        let what = format!("the key stands here a second time{at}");
        (path, Wrong::new(what, "leave one of them out"))
    }
}

/// The name in a line such as `[door.ssh]` or `[[door.ssh.knock]]  # text`.
fn header_name(line: &str) -> Option<String> {
    let inner = line.trim_start().strip_prefix('[')?;
    let inner = inner.strip_prefix('[').unwrap_or(inner);
    let end = inner.find([']', '#']).unwrap_or(inner.len());
    let behind = inner[end..].trim_start_matches(']').trim_start();
    let name = inner[..end].trim();
    let plain = |c: char| !c.is_control() && !",=[{".contains(c);
    let whole = behind.is_empty() || behind.starts_with('#');
    (whole && !name.is_empty() && name.chars().all(plain)).then(|| name.to_owned())
}

/// A value that is no number, no truth value and not in quotes.
fn unquoted(token: &str) -> Wrong {
    const TRUTHS: [&str; 6] = ["true", "false", "yes", "no", "on", "off"];
    if token.is_empty() {
        return Wrong::new("a value is missing", "write KEY = VALUE, on one line");
    }
    let small = token.to_ascii_lowercase();
    if TRUTHS.contains(&small.as_str()) {
        return Wrong::new(
            format!("{token} is no truth value"),
            "write true or false in small letters, without quotes",
        );
    }
    Wrong::new(
        format!("{} stands without quotes", quote(token).trim_matches('"')),
        format!("write {}", quote(token.trim_matches(['"', '\'']))),
    )
}

/// The parser's other messages, by how they begin.
fn rest(message: &str) -> Option<(&'static str, &'static str)> {
    const KEY_CHARACTERS: &str = "write letters, digits, - and _, or put the key in quotes";
    const WORDS: [(&str, &str, &str); 19] = [
        (
            "missing comma",
            "a comma is missing",
            "write one between the items",
        ),
        (
            "extra comma",
            "a comma too many",
            "write one between two items",
        ),
        (
            "unexpected key or value",
            "more stands behind the value",
            "write one KEY = VALUE a line",
        ),
        (
            "missing escaped value",
            "unknown character after \\",
            "write \\\\ for a backslash",
        ),
        (
            "too few unicode",
            "unknown character after \\",
            "write \\\\ for a backslash",
        ),
        (
            "unexpected leading zero",
            "the number begins with 0",
            "leave the 0 out",
        ),
        (
            "`_` may only",
            "a _ beside no digit",
            "write the number in digits only",
        ),
        (
            "carriage return",
            "a carriage return without a newline",
            "end lines with newlines",
        ),
        (
            "unquoted keys cannot",
            "the key is missing",
            "write KEY = VALUE",
        ),
        (
            "invalid unquoted key",
            "a character that no key may hold",
            KEY_CHARACTERS,
        ),
        ("keys cannot be", "a key over several lines", KEY_CHARACTERS),
        ("extra `=`", "an = too many", "write KEY = VALUE"),
        ("extra assignment", "an = too many", "write KEY = VALUE"),
        (
            "cannot extend value",
            "the key already has a value that is no table",
            "name it otherwise",
        ),
        ("invalid comment", "a control character", "leave it out"),
        (
            "cannot recurse",
            "lists or tables too deep in each other",
            "write them flatter",
        ),
        (
            "invalid value",
            "unknown character after \\",
            "write \\\\ for a backslash",
        ),
        (
            "invalid key",
            "something that is no key",
            "write KEY = VALUE",
        ),
        (
            "invalid inline table",
            "something that is no key",
            "write KEY = VALUE",
        ),
    ];
    let found = WORDS
        .iter()
        .find(|(begins, _, _)| message.starts_with(begins));
    found.map(|&(_, what, right)| (what, right))
}
