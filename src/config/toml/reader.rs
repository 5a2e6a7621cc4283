//! Tables and values of a TOML document as a configuration wants them, every mistake noted.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use toml::de::{DeInteger, DeString, DeTable, DeValue};

use super::super::mistake::{Lines, Mistake, Place, Wrong, quote};
use super::super::{Port, bounds, units};
use super::keys::Kind;

type Spanned<T> = toml::Spanned<T>;

/// A mistake before it has a line and a column.
pub(super) struct Found {
    /// Bytes of the text that it concerns.
    pub span: Range<usize>,
    pub key: String,
    pub wrong: Wrong,
}

/// The text being read and the mistakes found in it so far.
pub(super) struct Reader<'t> {
    lines: Lines<'t>,
    /// What the TOML parser refused: whatever else is wrong there follows from that.
    broken: Vec<Range<usize>>,
    found: RefCell<Vec<Found>>,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str, syntax: Vec<Found>) -> Reader<'t> {
        Reader {
            lines: Lines::new(text),
            broken: syntax.iter().map(|found| found.span.clone()).collect(),
            found: RefCell::new(syntax),
        }
    }

    pub(super) fn place(&self, span: &Range<usize>) -> Place {
        self.lines.place(span.start)
    }

    /// Notes a mistake, unless it follows from one in the syntax.
    pub(super) fn note(&self, span: &Range<usize>, key: impl Into<String>, wrong: Wrong) {
        // A value that the parser made up has an empty span at the beginning of the text.
        let made_up = *span == (0..0) && !self.broken.is_empty();
        let touches = |broken: &Range<usize>| broken.start <= span.end && span.start <= broken.end;
        if !made_up && !self.broken.iter().any(touches) {
            self.found.borrow_mut().push(Found {
                span: span.clone(),
                key: key.into(),
                wrong,
            });
        }
    }

    /// Notes that something is absent. Where the syntax is broken it may only seem so.
    pub(super) fn note_absent(&self, span: &Range<usize>, key: impl Into<String>, wrong: Wrong) {
        if self.broken.is_empty() {
            self.note(span, key, wrong);
        }
    }

    /// All mistakes in the order of the text, at most [`super::MOST_MISTAKES`] and one more that
    /// says that there are more.
    pub(super) fn mistakes(self, file: &str) -> Vec<Mistake> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|found| found.span.start);
        if found.len() > super::MOST_MISTAKES {
            found.truncate(super::MOST_MISTAKES + 1);
            if let Some(last) = found.last_mut() {
                last.key.clear();
                last.wrong = Wrong::new("more mistakes from here on", "mend those above first");
            }
        }
        let mistake = |found: Found| Mistake {
            file: file.to_owned(),
            place: self.lines.place(found.span.start),
            key: found.key,
            what: found.wrong.what,
            right: found.wrong.right,
        };
        found.into_iter().map(mistake).collect()
    }
}

/// A value and the key it belongs to.
#[derive(Clone)]
pub(super) struct Field<'d, 'i> {
    /// With its tables: `door.ssh.opens`.
    pub key: String,
    pub span: Range<usize>,
    pub value: &'d DeValue<'i>,
}

impl<'d, 'i> Field<'d, 'i> {
    fn of(key: String, value: &'d Spanned<DeValue<'i>>) -> Field<'d, 'i> {
        Field {
            key,
            span: value.span(),
            value: value.get_ref(),
        }
    }

    /// What stands there, with its article.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "a truth value",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        }
    }
}

/// A table and what has been asked of it.
pub(super) struct Table<'d, 'i> {
    /// With its tables: `door.ssh`; empty for the file itself.
    pub name: String,
    pub span: Range<usize>,
    pub kind: Kind,
    entries: &'d DeTable<'i>,
    /// Known keys that a misspelt one stands for.
    meant: BTreeSet<&'static str>,
}

/// `name.key`, the key in quotes where TOML wants it so.
pub(super) fn dotted(name: &str, key: &str) -> String {
    let bare = !key.is_empty()
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    let key = if bare { key.to_owned() } else { quote(key) };
    if name.is_empty() {
        key
    } else {
        format!("{name}.{key}")
    }
}

impl<'d, 'i> Table<'d, 'i> {
    /// A table of this kind; unknown keys in it are noted.
    pub(super) fn new(
        reader: &Reader<'_>,
        name: String,
        span: Range<usize>,
        kind: Kind,
        entries: &'d DeTable<'i>,
    ) -> Table<'d, 'i> {
        let mut meant = BTreeSet::new();
        for key in entries.keys() {
            let known: &DeString<'i> = key.get_ref();
            if let Some((near, wrong)) = kind.unknown(&name, known) {
                meant.extend(near);
                reader.note(&key.span(), dotted(&name, known), wrong);
            }
        }
        Table {
            name,
            span,
            kind,
            entries,
            meant,
        }
    }

    pub(super) fn dotted(&self, key: &str) -> String {
        dotted(&self.name, key)
    }

    pub(super) fn get(&self, key: &'static str) -> Option<Field<'d, 'i>> {
        debug_assert!(self.kind.keys().contains(&key));
        let value = self.entries.get(key)?;
        Some(Field::of(self.dotted(key), value))
    }

    /// Whether a key is given, or a misspelt one that stands for it.
    pub(super) fn given(&self, key: &'static str) -> bool {
        self.entries.contains_key(key) || self.meant.contains(key)
    }

    /// Notes every one of `keys` that is given.
    pub(super) fn refuse(
        &self,
        reader: &Reader<'_>,
        keys: &[&'static str],
        what: &str,
        right: &str,
    ) {
        for &key in keys {
            if let Some((known, value)) = self.entries.get_key_value(key) {
                let span = known.span().start..value.span().end;
                reader.note(&span, self.dotted(key), Wrong::new(what, right));
            }
        }
    }
}

/// The entries of a table in the order of the file.
pub(super) fn in_order<'d, 'i>(
    table: &'d DeTable<'i>,
) -> Vec<(&'d Spanned<DeString<'i>>, &'d Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// A whole number, if any key could mean it.
fn integer(number: &DeInteger<'_>) -> Option<i128> {
    i128::from_str_radix(number.as_str(), number.radix()).ok()
}

/// A whole number for a message.
fn shown(number: &DeInteger<'_>) -> String {
    let shown = number.to_string();
    let mut start: String = shown.chars().take(20).collect();
    if start.len() < shown.len() {
        start.push_str("...");
    }
    start
}

/// What each kind of value is read as. Each notes what is wrong and returns `None` then;
/// `right` says what is wanted.
impl Reader<'_> {
    pub(super) fn refuse(&self, field: &Field<'_, '_>, wrong: Wrong) {
        self.note(&field.span, field.key.clone(), wrong);
    }

    pub(super) fn kept<T>(&self, field: &Field<'_, '_>, read: Result<T, Wrong>) -> Option<T> {
        read.map_err(|wrong| self.refuse(field, wrong)).ok()
    }

    fn refuse_kind<T>(&self, field: &Field<'_, '_>, right: &str) -> Option<T> {
        let wrong = Wrong::new(format!("{} cannot stand here", field.kind()), right);
        self.refuse(field, wrong);
        None
    }

    pub(super) fn text<'d>(&self, field: &Field<'d, '_>, right: &str) -> Option<&'d str> {
        match field.value {
            DeValue::String(text) => Some(text.as_ref()),
            _ => self.refuse_kind(field, right),
        }
    }

    pub(super) fn boolean(&self, field: &Field<'_, '_>) -> Option<bool> {
        match field.value {
            DeValue::Boolean(value) => Some(*value),
            _ => self.refuse_kind(field, "write true or false, without quotes"),
        }
    }

    pub(super) fn list<'d, 'i>(
        &self,
        field: &Field<'d, 'i>,
        right: &str,
    ) -> Option<Vec<Field<'d, 'i>>> {
        match field.value {
            DeValue::Array(items) => {
                let field = |item| Field::of(field.key.clone(), item);
                Some(items.iter().map(field).collect())
            }
            _ => self.refuse_kind(field, right),
        }
    }

    pub(super) fn count(
        &self,
        field: &Field<'_, '_>,
        bounds: &RangeInclusive<usize>,
    ) -> Option<usize> {
        let right = format!("write a number from {} to {}", bounds.start(), bounds.end());
        let DeValue::Integer(number) = field.value else {
            return self.refuse_kind(field, &right);
        };
        let read = integer(number).and_then(|number| usize::try_from(number).ok());
        let read = read.filter(|number| bounds.contains(number));
        let wrong = || Wrong::new(format!("{} is out of range", shown(number)), right);
        self.kept(field, read.ok_or_else(wrong))
    }

    pub(super) fn duration(
        &self,
        field: &Field<'_, '_>,
        bounds: &RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let read = match field.value {
            DeValue::String(text) => units::duration_within(text, bounds),
            DeValue::Integer(number) => Err(Wrong::new(
                format!("{} has no unit", shown(number)),
                format!("write \"{}s\"", integer(number).unwrap_or(30)),
            )),
            _ => return self.refuse_kind(field, "write a duration such as \"30s\""),
        };
        self.kept(field, read)
    }

    pub(super) fn port(&self, field: &Field<'_, '_>) -> Option<Port> {
        let read = match field.value {
            DeValue::String(text) => units::port(text),
            DeValue::Integer(number) => integer(number)
                .and_then(units::port_number)
                .ok_or_else(|| units::no_port(&shown(number))),
            _ => return self.refuse_kind(field, "write a port such as \"22/tcp\""),
        };
        self.kept(field, read)
    }

    /// An absolute path of a file or directory.
    pub(super) fn path(
        &self,
        field: &Field<'_, '_>,
        bounds: &RangeInclusive<usize>,
    ) -> Option<PathBuf> {
        let text = self.text(field, "write an absolute path in quotes")?;
        self.kept(field, path(text, bounds))
    }

    /// A command line for /bin/sh or without it.
    pub(super) fn command(&self, field: &Field<'_, '_>, may_be_empty: bool) -> Option<String> {
        let text = self.text(field, "write a command line in quotes")?;
        if text.is_empty() && may_be_empty {
            return Some(String::new());
        }
        self.kept(field, command(text))
    }
}

pub(in crate::config) fn path(
    text: &str,
    bounds: &RangeInclusive<usize>,
) -> Result<PathBuf, Wrong> {
    if !text.starts_with('/') {
        return Err(Wrong::new(
            format!("{} is no absolute path", quote(text)),
            "write it from the root, beginning with /",
        ));
    }
    if text.chars().any(char::is_control) {
        return Err(Wrong::new(
            format!("{} holds a control character", quote(text)),
            "leave it out",
        ));
    }
    if !bounds.contains(&text.len()) {
        return Err(match text.len() < *bounds.start() {
            true => Wrong::new("\"/\" is the root directory", "name something in it"),
            false => Wrong::new(
                format!("{} bytes are too many for this path", text.len()),
                format!("write {} at most", bounds.end()),
            ),
        });
    }
    Ok(PathBuf::from(text))
}

/// What people write for `%IP%` elsewhere, between percent signs, in small letters.
const NOT_IP: [&str; 9] = [
    "ip", "ip4", "ip6", "ipv4", "ipv6", "addr", "address", "host", "source",
];

pub(in crate::config) fn command(text: &str) -> Result<String, Wrong> {
    if text.trim().is_empty() {
        return Err(Wrong::new(
            "the command line is empty",
            "write a command such as \"/usr/local/bin/wake %IP%\"",
        ));
    }
    if text.contains('\0') {
        return Err(Wrong::new(
            "the command line holds a NUL character",
            "leave it out",
        ));
    }
    if !bounds::COMMAND.contains(&text.len()) {
        return Err(too_long_a_command(text));
    }
    about_address(text)?;
    Ok(text.to_owned())
}

pub(in crate::config) fn too_long_a_command(text: &str) -> Wrong {
    Wrong::new(
        format!("{} bytes are too many for a command line", text.len()),
        format!("write {} at most, or a script", bounds::COMMAND.end()),
    )
}

/// What looks like `%IP%` in a command line and is not.
pub(in crate::config) fn about_address(text: &str) -> Result<(), Wrong> {
    for (at, _) in text.match_indices('%') {
        let after = &text[at + 1..];
        let word = after.split('%').next().unwrap_or_default();
        let closed = word.len() < after.len();
        if closed && word != "IP" && NOT_IP.contains(&word.to_ascii_lowercase().as_str()) {
            return Err(Wrong::new(
                format!("\"%{word}%\" stays as it is"),
                "write %IP% for the address: only that is replaced",
            ));
        }
        if !closed && word.starts_with("IP") {
            return Err(Wrong::new("\"%IP\" lacks its second %", "write %IP%"));
        }
    }
    Ok(())
}
