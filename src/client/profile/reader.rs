//! The profile file's text -> hosts, or every mistake with its place.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::super::knock::{DELAY, DELAYS, Sequence};
use super::super::spa::{CARRIER, From, OPENS, Spa, lasts};
use super::{Host, PORT, Way};
use crate::config::mistake::{Lines, Mistake, Wrong, quote};
use crate::config::secret::{Carrier, Mac, Secret, cipher_key_from_base64, key_from_base64};
use crate::config::toml::keys::nearest;
use crate::config::toml::knock::pattern;
use crate::config::{Pattern, Port, Protocol, bounds, units};

/// The keys that a `[host.NAME]` has beside those of its only way.
pub const HOST_KEYS: [&str; 3] = ["address", "port", "way"];

/// The keys of a way: in `[[host.NAME.way]]`, or in the host itself if it has but one.
pub const WAY_KEYS: [&str; 11] = [
    "sequence",
    "delay",
    "ping",
    "spa",
    "cipher_key",
    "hmac_key",
    "hmac",
    "carrier",
    "opens",
    "from",
    "lasts",
];

/// How many ways a host may have.
pub const WAYS: RangeInclusive<usize> = 1..=16;

/// Reads a profile file's text: its hosts in the order of the text.
///
/// # Errors
/// Every mistake with its place, in the order of the text; `file` is what it is called there.
pub fn parse(file: &str, text: &str) -> Result<Vec<Host>, Vec<Mistake>> {
    let mut reader = Reader {
        file,
        lines: Lines::new(text),
        found: Vec::new(),
    };
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let what = error.message().lines().collect::<Vec<_>>().join(", ");
        let wrong = Wrong::new(what, "see https://toml.io/en/v1.0.0");
        reader.refuse(error.span().unwrap_or(0..0), "", wrong);
    }
    // What follows from broken syntax is no mistake of its own.
    let hosts = match reader.found.is_empty() {
        true => reader.hosts(document.get_ref()),
        false => Vec::new(),
    };
    if reader.found.is_empty() {
        return Ok(hosts);
    }
    reader.found.sort_by_key(|mistake| mistake.place);
    Err(reader.found)
}

struct Reader<'t> {
    file: &'t str,
    lines: Lines<'t>,
    found: Vec<Mistake>,
}

/// The keys of a way, as far as they are given and right.
#[derive(Default)]
struct Draft {
    /// Kinds of way that are given.
    kinds: Vec<(&'static str, Range<usize>)>,
    /// The other keys that are given, each with the kind that it belongs to.
    others: Vec<(&'static str, Range<usize>, &'static str)>,
    sequence: Sequence,
    ping: Option<Pattern>,
    cipher_key: Option<Vec<u8>>,
    hmac_key: Option<Vec<u8>>,
    hmac: Mac,
    carrier: Option<Carrier>,
    opens: Vec<Port>,
    from: From,
    lasts: Option<Duration>,
}

impl Reader<'_> {
    fn refuse(&mut self, at: Range<usize>, key: &str, wrong: Wrong) {
        self.found.push(Mistake {
            file: self.file.to_owned(),
            place: self.lines.place(at.start),
            key: key.to_owned(),
            what: wrong.what,
            right: wrong.right,
        });
    }

    fn kept<T>(&mut self, at: Range<usize>, key: &str, read: Result<T, Wrong>) -> Option<T> {
        read.map_err(|wrong| self.refuse(at, key, wrong)).ok()
    }

    fn hosts(&mut self, document: &DeTable<'_>) -> Vec<Host> {
        let mut hosts = Vec::new();
        for (key, value) in document {
            if key.get_ref() != "host" {
                let right = "a profile file has tables [host.NAME] and nothing else";
                let wrong = Wrong::new("unknown key", right);
                self.refuse(key.span(), key.get_ref(), wrong);
                continue;
            }
            let DeValue::Table(tables) = value.get_ref() else {
                let wrong = no(value.get_ref(), "table", "write [host.NAME]");
                self.refuse(value.span(), "host", wrong);
                continue;
            };
            for (name, value) in tables {
                let DeValue::Table(table) = value.get_ref() else {
                    let right = "write it in a table [host.NAME]";
                    let wrong = no(value.get_ref(), "table", right);
                    self.refuse(value.span(), &format!("host.{}", name.get_ref()), wrong);
                    continue;
                };
                let host = self.host(name.get_ref(), value.span(), table);
                hosts.extend(host.map(|host| (name.span().start, host)));
            }
        }
        hosts.sort_by_key(|&(at, _)| at);
        hosts.into_iter().map(|(_, host)| host).collect()
    }

    fn host(&mut self, name: &str, at: Range<usize>, table: &DeTable<'_>) -> Option<Host> {
        let mut host = Host {
            name: name.to_owned(),
            address: name.to_owned(),
            port: PORT,
            ways: Vec::new(),
        };
        let before = self.found.len();
        let mut draft = Draft::default();
        for (key, value) in table {
            let full = format!("host.{name}.{}", key.get_ref());
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("address", DeValue::String(text)) if !text.is_empty() => {
                    host.address = text.to_string();
                }
                ("address", other) => {
                    let wrong = no(other, "address", "write a name or an address in quotes");
                    self.refuse(value.span(), &full, wrong);
                }
                ("port", value_of) => {
                    let read = tcp(value_of);
                    if let Some(port) = self.kept(value.span(), &full, read) {
                        host.port = port;
                    }
                }
                ("way", DeValue::Array(ways)) => {
                    for way in ways {
                        let full = format!("host.{name}.way");
                        let way = self.way(&full, way.span(), way.get_ref());
                        host.ways.extend(way);
                    }
                    if !WAYS.contains(&ways.len()) {
                        let what = format!("has {} ways", ways.len());
                        let wrong = Wrong::new(what, format!("write 1 to {}", WAYS.end()));
                        self.refuse(value.span(), &full, wrong);
                    }
                }
                ("way", other) => {
                    let right = format!("write [[host.{name}.way]] for each");
                    self.refuse(value.span(), &full, no(other, "list of tables", &right));
                }
                (known, inner) => {
                    if !self.key(&mut draft, known, &full, value.span(), inner) {
                        let all: Vec<&str> = HOST_KEYS.into_iter().chain(WAY_KEYS).collect();
                        self.refuse(key.span(), &full, unknown(known, &all));
                    }
                }
            }
        }
        let full = format!("host.{name}");
        match table.get("way") {
            None => {
                if let Some(way) = self.whole(draft, &full, at, before) {
                    host.ways.push(way);
                }
            }
            Some(_) => {
                let kinds = draft.kinds.into_iter();
                let others = draft.others.into_iter().map(|(key, at, _)| (key, at));
                for (key, at) in kinds.chain(others) {
                    let what = format!("stands beside [[{full}.way]]");
                    let wrong = Wrong::new(what, "write it in one of these");
                    self.refuse(at, &format!("{full}.{key}"), wrong);
                }
            }
        }
        (self.found.len() == before).then_some(host)
    }

    /// One `[[host.NAME.way]]`.
    fn way(&mut self, full: &str, at: Range<usize>, value: &DeValue<'_>) -> Option<Way> {
        let DeValue::Table(table) = value else {
            let right = format!("write [[{full}]] for each");
            self.refuse(at, full, no(value, "table", &right));
            return None;
        };
        let before = self.found.len();
        let mut draft = Draft::default();
        for (key, value) in table {
            let (name, path) = (key.get_ref(), format!("{full}.{}", key.get_ref()));
            if self.key(&mut draft, name, &path, value.span(), value.get_ref()) {
                continue;
            }
            let wrong = match HOST_KEYS[..2].contains(&name.as_ref()) {
                true => Wrong::new(
                    "the key does not belong here",
                    format!("write it in [{}]", full.trim_end_matches(".way")),
                ),
                false => unknown(name, &WAY_KEYS),
            };
            self.refuse(key.span(), &path, wrong);
        }
        self.whole(draft, full, at, before)
    }

    /// Reads a key of a way into the draft. `false`: it is none.
    fn key(
        &mut self,
        draft: &mut Draft,
        key: &str,
        full: &str,
        at: Range<usize>,
        value: &DeValue<'_>,
    ) -> bool {
        let Some(key) = WAY_KEYS.into_iter().find(|&known| known == key) else {
            return false;
        };
        match key {
            "sequence" | "ping" | "spa" => draft.kinds.push((key, at.clone())),
            "delay" => draft.others.push((key, at.clone(), "sequence")),
            _ => draft.others.push((key, at.clone(), "spa")),
        }
        match (key, value) {
            ("sequence", _) => {
                draft.sequence.steps = self.ports(full, at, value, &bounds::STEPS, "steps");
            }
            ("delay", DeValue::String(text)) => {
                let read = units::duration_within(text, &DELAYS);
                if let Some(delay) = self.kept(at, full, read) {
                    draft.sequence.delay = delay;
                }
            }
            ("delay", other) => {
                let right = "write one such as \"50ms\"";
                self.refuse(at, full, no(other, "duration", right));
            }
            ("ping", DeValue::String(text)) => {
                draft.ping = self.kept(at, full, pattern(text));
            }
            ("ping", other) => {
                let right = "write the line that posternctl keygen --ping prints";
                self.refuse(at, full, not_shown(other, "secret", right));
            }
            ("spa", DeValue::Boolean(true)) => {}
            ("spa", _) => {
                let wrong = Wrong::new("means nothing but true", "write true, or leave it out");
                self.refuse(at, full, wrong);
            }
            ("cipher_key" | "hmac_key", DeValue::String(text)) => match key {
                "cipher_key" => {
                    draft.cipher_key = self.kept(at, full, cipher_key_from_base64(text));
                }
                _ => draft.hmac_key = self.kept(at, full, key_from_base64(text)),
            },
            ("cipher_key" | "hmac_key", other) => {
                let right = "write it in base64, in quotes";
                self.refuse(at, full, not_shown(other, "key", right));
            }
            ("opens", _) => draft.opens = self.ports(full, at, value, &OPENS, "ports"),
            (_, DeValue::String(text)) => self.text_of_spa(draft, key, full, at, text),
            (_, other) => self.refuse(at, full, no(other, "text", "write it in quotes")),
        }
        true
    }

    /// The keys of spa whose values are texts and no secrets.
    fn text_of_spa(
        &mut self,
        draft: &mut Draft,
        key: &str,
        full: &str,
        at: Range<usize>,
        text: &str,
    ) {
        match key {
            "hmac" => draft.hmac = self.kept(at, full, text.parse()).unwrap_or_default(),
            "carrier" => draft.carrier = self.kept(at, full, text.parse()),
            "from" => draft.from = self.kept(at, full, text.parse()).unwrap_or_default(),
            _ => draft.lasts = self.kept(at, full, lasts(text)),
        }
    }

    /// A list of ports.
    fn ports(
        &mut self,
        full: &str,
        at: Range<usize>,
        value: &DeValue<'_>,
        bounds: &RangeInclusive<usize>,
        called: &str,
    ) -> Vec<Port> {
        let DeValue::Array(items) = value else {
            let right = "write one such as [\"7143\", \"2912/udp\"]";
            self.refuse(at, full, no(value, "list", right));
            return Vec::new();
        };
        let mut ports = Vec::new();
        for item in items {
            ports.extend(self.kept(item.span(), full, port(item.get_ref())));
        }
        if !bounds.contains(&items.len()) {
            let what = format!("has {} {called}", items.len());
            let wrong = Wrong::new(what, format!("write 1 to {}", bounds.end()));
            self.refuse(at, full, wrong);
        }
        ports
    }

    /// The way that the draft makes, if nothing has been found wrong since there were `before`
    /// mistakes.
    fn whole(
        &mut self,
        mut draft: Draft,
        full: &str,
        at: Range<usize>,
        before: usize,
    ) -> Option<Way> {
        draft.kinds.sort_by_key(|(_, at)| at.start);
        if let [(first, _), more @ ..] = &draft.kinds[..] {
            for (kind, at) in more {
                let what = format!("stands beside {first}");
                let host = full.trim_end_matches(".way");
                let right = format!("write a [[{host}.way]] for each");
                self.refuse(
                    at.clone(),
                    &format!("{full}.{kind}"),
                    Wrong::new(what, right),
                );
            }
        }
        for (key, at, kind) in &draft.others {
            if draft.kinds.iter().any(|(given, _)| given != kind) {
                let right = format!("it belongs to {kind}");
                let wrong = Wrong::new("means nothing here", right);
                self.refuse(at.clone(), &format!("{full}.{key}"), wrong);
            }
        }
        if draft.kinds.is_empty() && self.found.len() == before {
            let right =
                "write sequence = [...] with the ports to hit, ping = \"...\" or spa = true";
            self.refuse(at.clone(), full, Wrong::new("has no way to knock", right));
        }
        let keys = [
            ("cipher_key", draft.cipher_key.is_some()),
            ("hmac_key", draft.hmac_key.is_some()),
        ];
        let wrong = format!("{full}.spa");
        let spa = draft.kinds.first().is_some_and(|(kind, _)| *kind == "spa")
            && !self.found.iter().any(|mistake| mistake.key == wrong);
        for (key, there) in keys {
            if spa && !there && !draft.others.iter().any(|(given, ..)| *given == key) {
                let right = format!("write {key} = \"...\", as fwknop --key-gen prints it");
                let wrong = Wrong::new(format!("has no {key}"), right);
                self.refuse(at.clone(), full, wrong);
            }
        }
        if self.found.len() > before {
            return None;
        }
        match draft.kinds[0].0 {
            "ping" => draft.ping.map(Way::Ping),
            "spa" => Some(Way::Spa(Spa {
                secret: Secret {
                    cipher: draft.cipher_key?,
                    hmac: draft.hmac_key?,
                    mac: draft.hmac,
                },
                carrier: draft.carrier.unwrap_or(CARRIER),
                opens: draft.opens,
                from: draft.from,
                lasts: draft.lasts,
            })),
            _ => Some(Way::Sequence(draft.sequence)),
        }
    }
}

impl Default for Sequence {
    fn default() -> Sequence {
        Sequence {
            steps: Vec::new(),
            delay: DELAY,
        }
    }
}

fn unknown(key: &str, known: &[&str]) -> Wrong {
    let right = match nearest(key, known) {
        Some(near) => format!("the nearest known one is {near}"),
        None => format!("keys known here are {}", known.join(", ")),
    };
    Wrong::new("unknown key", right)
}

fn port(value: &DeValue<'_>) -> Result<Port, Wrong> {
    match value {
        DeValue::String(text) => units::port(text),
        DeValue::Integer(number) => units::port(&number.to_string()),
        other => Err(no(
            other,
            "port",
            "write one such as \"7143\" or \"2912/udp\"",
        )),
    }
}

/// A port of TCP.
fn tcp(value: &DeValue<'_>) -> Result<u16, Wrong> {
    let port = port(value)?;
    match port.protocol {
        Protocol::Tcp => Ok(port.number),
        Protocol::Udp => Err(Wrong::new(
            format!("\"{port}\" is no port to connect to"),
            "write one of TCP, such as 22",
        )),
    }
}

/// The same where the value may be a secret.
fn not_shown(value: &DeValue<'_>, wanted: &str, right: &str) -> Wrong {
    let shown = match value {
        DeValue::String(_) => "this".to_owned(),
        other => kind(other),
    };
    Wrong::new(format!("{shown} is no {wanted}"), right)
}

/// What stands there, with its article.
fn kind(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Integer(_) | DeValue::Array(_) => format!("an {}", value.type_str()),
        _ => format!("a {}", value.type_str()),
    }
}

/// A value of the wrong kind.
fn no(value: &DeValue<'_>, wanted: &str, right: &str) -> Wrong {
    let given = match value {
        DeValue::String(text) => quote(text),
        other => kind(other),
    };
    Wrong::new(format!("{given} is no {wanted}"), right)
}
