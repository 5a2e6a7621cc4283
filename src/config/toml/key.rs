//! `[key.NAME]`

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;
use toml::de::{DeString, DeValue};

use super::super::key::Key;
use super::super::mistake::{Places, Spot, Wrong, quote};
use super::super::secret::{Carrier, Mac, Secret, cipher_key_from_base64, key_from_base64};
use super::super::{Door, Port, bounds};
use super::keys::{Kind, nearest};
use super::opens::networks;
use super::reader::{self, Field, Reader, Table, dotted};
use super::{door_name, joined, length};

const GENERATE: &str = "write what posternctl keygen --spa prints";

/// The names of doors that keys say they open, right or wrong.
pub(super) fn opened(table: &Table<'_, '_>) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    let Some(DeValue::Table(keys)) = table.get("key").map(|field| field.value) else {
        return named;
    };
    for key in keys.values() {
        let DeValue::Table(entries) = key.get_ref() else {
            continue;
        };
        let doors = entries.get("doors").map(|doors| doors.get_ref());
        let Some(DeValue::Array(doors)) = doors else {
            continue;
        };
        named.extend(doors.iter().filter_map(|door| match door.get_ref() {
            DeValue::String(name) => Some(name.to_string()),
            _ => None,
        }));
    }
    named
}

/// All keys. `names`: the doors that there are, by place, read well or not; `doors` those read
/// well.
pub(super) fn all(
    reader: &Reader<'_>,
    table: &Table<'_, '_>,
    names: &[String],
    doors: &[Option<&Door>],
    places: &mut Places,
) -> Option<Vec<Key>> {
    let Some(field) = table.get("key") else {
        return Some(Vec::new());
    };
    let DeValue::Table(keys) = field.value else {
        let what = format!("{} cannot stand here", field.kind());
        let right = "give every key a table of its own, [key.NAME]";
        reader.refuse(&field, Wrong::new(what, right));
        return None;
    };
    let given = reader::in_order(keys);
    if let Some((key, _)) = given.get(bounds::KEYS) {
        let what = format!("{} keys are too many", given.len());
        let right = format!("write {} at most", bounds::KEYS);
        reader.note(&key.span(), "key", Wrong::new(what, right));
        return None;
    }
    let mut read = Vec::new();
    let mut heard: BTreeMap<Carrier, usize> = BTreeMap::new();
    let mut owners: BTreeMap<Vec<u8>, String> = BTreeMap::new();
    for (at, (key, value)) in given.iter().enumerate() {
        read.push(one(reader, at, key, value, (names, doors), places));
        let Some(Some(known)) = read.last() else {
            continue;
        };
        if let Some(owner) = owners.insert(known.secret.hmac.clone(), known.name.clone()) {
            let what = format!("its hmac_key is key {owner}'s: nobody could tell who knocks");
            reader.note(
                &key.span(),
                dotted("key", &known.name),
                Wrong::new(what, GENERATE),
            );
        }
        for carrier in &known.carriers {
            let keys = heard.entry(*carrier).or_default();
            *keys += 1;
            if *keys == bounds::KEYS_HEARD + 1 {
                let what = format!(
                    "more than {} keys are heard at {carrier}",
                    bounds::KEYS_HEARD
                );
                let right = "give it carriers of another port: each packet is tried with every key";
                let wrong = Wrong::new(what, right);
                reader.note(&key.span(), dotted("key", &known.name), wrong);
            }
        }
    }
    read.into_iter().collect()
}

fn one(
    reader: &Reader<'_>,
    at: usize,
    key: &Spanned<DeString<'_>>,
    value: &Spanned<DeValue<'_>>,
    (names, doors): (&[String], &[Option<&Door>]),
    places: &mut Places,
) -> Option<Key> {
    let name = key.get_ref().to_string();
    let path = dotted("key", &name);
    places.set(Spot::of_key(at), reader.place(&key.span()));
    let named = key_name(&name).map_err(|wrong| reader.note(&key.span(), path.clone(), wrong));
    let DeValue::Table(entries) = value.get_ref() else {
        let span = joined(&key.span(), &value.span());
        let right = format!("write [{path}], in single brackets");
        reader.note(&span, path, Wrong::new("a key must be a table", right));
        return None;
    };
    let table = Table::new(reader, path, key.span(), Kind::Key, entries);
    for &key in Kind::Key.keys() {
        if let Some(field) = table.get(key) {
            places.set(Spot::of_key(at).key(key), reader.place(&field.span));
        }
    }
    let owner = match table.get("owner") {
        Some(field) => owner(reader, &field).map(Some),
        None => Some(None),
    };
    let cipher = secret(reader, &table, "cipher_key", cipher_key_from_base64);
    let hmac = secret(reader, &table, "hmac_key", key_from_base64);
    if let (Some(one), Some(other)) = (&cipher, &hmac)
        && one == other
        && let Some(field) = table.get("hmac_key")
    {
        let right = "take two, as posternctl keygen --spa prints them";
        reader.refuse(&field, Wrong::new("it is the cipher_key", right));
    }
    let mac = match table.get("hmac") {
        Some(field) => mac(reader, &field),
        None => Some(Mac::Sha256),
    };
    let opens = which(reader, &table, names);
    let ports = match table.get("ports") {
        Some(field) => ports(reader, &field).map(Some),
        None => Some(None),
    };
    if let (Some(Some(ports)), Some(opens), Some(field)) = (&ports, &opens, table.get("doors")) {
        for door in opens.iter().filter_map(|&at| doors[usize::from(at)]) {
            uncovered(reader, &field, door, ports);
        }
    }
    if let (Some(None), Some(opens)) = (&ports, &opens) {
        let read: Vec<_> = opens.iter().map(|&at| doors[usize::from(at)]).collect();
        let whole = read.iter().all(Option::is_some);
        if whole
            && read
                .into_iter()
                .flatten()
                .all(|door| door.ports().is_empty())
        {
            let what = "its doors open no port that a request could name";
            let right = "write ports = [\"22/tcp\"] with what requests are to name";
            reader.note_absent(&table.span, table.name.clone(), Wrong::new(what, right));
        }
    }
    let from = match table.get("from") {
        Some(field) => networks(reader, &field, &bounds::FROM),
        None => Some(Vec::new()),
    };
    let observed = match table.get("observed") {
        Some(field) => reader.boolean(&field),
        None => Some(false),
    };
    let allowance = match table.get("allowance") {
        Some(field) => reader.count(&field, &bounds::ALLOWANCES),
        None => Some(bounds::ALLOWANCE),
    };
    let carriers = match table.get("carriers") {
        Some(field) => carriers(reader, &field),
        None => Some(vec![Carrier::Udp(bounds::SPA_PORT)]),
    };
    named.ok()?;
    Some(Key {
        name,
        owner: owner?,
        secret: Secret {
            cipher: cipher?,
            hmac: hmac?,
            mac: mac?,
        },
        doors: opens?,
        ports: ports?,
        from: from?,
        observed: observed?,
        allowance: allowance?,
        carriers: carriers?,
    })
}

/// Whether this can be the name of a key.
///
/// # Errors
/// What is wrong with it.
pub fn key_name(name: &str) -> Result<(), Wrong> {
    door_name(name).or_else(|wrong| match name {
        // These are taken among tables, not among people.
        "always" | "running" => Ok(()),
        _ => Err(Wrong::new(
            format!("{} cannot be the name of a key", quote(name)),
            wrong.right,
        )),
    })
}

fn owner(reader: &Reader<'_>, field: &Field<'_, '_>) -> Option<String> {
    let text = reader.text(field, "write a name in quotes")?;
    if text.chars().any(char::is_control) || !bounds::OWNER.contains(&text.chars().count()) {
        let right = format!(
            "write one line of {} characters at most",
            bounds::OWNER.end()
        );
        reader.refuse(field, Wrong::new("it is no name", right));
        return None;
    }
    Some(text.to_owned())
}

/// A secret in base64. Nothing of it is ever quoted.
fn secret(
    reader: &Reader<'_>,
    table: &Table<'_, '_>,
    key: &'static str,
    read: fn(&str) -> Result<Vec<u8>, Wrong>,
) -> Option<Vec<u8>> {
    let Some(field) = table.get(key) else {
        if !table.given(key) {
            let wrong = Wrong::new(format!("the key has no {key}"), GENERATE);
            reader.note_absent(&table.span, table.name.clone(), wrong);
        }
        return None;
    };
    let text = reader.text(&field, GENERATE)?;
    reader.kept(&field, read(text).and_then(weak))
}

/// What is no secret though it has the form of one.
fn weak(bytes: Vec<u8>) -> Result<Vec<u8>, Wrong> {
    match bytes.iter().all(|byte| *byte == bytes[0]) {
        true => Err(Wrong::new("all its bytes are the same", GENERATE)),
        false => Ok(bytes),
    }
}

fn mac(reader: &Reader<'_>, field: &Field<'_, '_>) -> Option<Mac> {
    let text = reader.text(field, "write \"sha256\" or \"sha512\"")?;
    reader.kept(field, text.parse())
}

/// `doors`: by place.
fn which(reader: &Reader<'_>, table: &Table<'_, '_>, names: &[String]) -> Option<Vec<u16>> {
    const RIGHT: &str = "write a list of names of doors such as [\"ssh\"]";
    let Some(field) = table.get("doors") else {
        if !table.given("doors") {
            let wrong = Wrong::new("the key opens no door", "write doors = [\"NAME\"]");
            reader.note_absent(&table.span, table.name.clone(), wrong);
        }
        return None;
    };
    let items = reader.list(&field, RIGHT)?;
    if !bounds::KEY_DOORS.contains(&items.len()) {
        let right = format!("write 1 to {}", bounds::KEY_DOORS.end());
        reader.refuse(&field, Wrong::new(length(items.len(), "doors"), right));
        return None;
    }
    let mut doors = Vec::new();
    for item in &items {
        let name = reader.text(item, RIGHT)?;
        let Some(at) = names.iter().position(|known| known == name) else {
            let known = Vec::from_iter(names.iter().map(String::as_str));
            let right = match nearest(name, &known) {
                Some(near) => format!("the nearest is {near}"),
                None => format!("write [door.{name}], or leave it out"),
            };
            reader.refuse(
                item,
                Wrong::new(format!("there is no door {}", quote(name)), right),
            );
            return None;
        };
        let at = u16::try_from(at).ok()?;
        if doors.contains(&at) {
            let what = format!("{} stands here twice", quote(name));
            reader.refuse(item, Wrong::new(what, "name each door once"));
            continue;
        }
        doors.push(at);
    }
    Some(doors)
}

fn ports(reader: &Reader<'_>, field: &Field<'_, '_>) -> Option<Vec<Port>> {
    let items = reader.list(field, "write a list of ports such as [\"22/tcp\"]")?;
    if !bounds::OPENS.contains(&items.len()) {
        let right = format!("write 1 to {}, or leave the key out", bounds::OPENS.end());
        reader.refuse(field, Wrong::new(length(items.len(), "ports"), right));
        return None;
    }
    let ports: Vec<Option<Port>> = items.iter().map(|item| reader.port(item)).collect();
    ports.into_iter().collect()
}

/// A door opens as a whole: it must not open more than the key may ask for.
fn uncovered(reader: &Reader<'_>, field: &Field<'_, '_>, door: &Door, ports: &[Port]) {
    if let Some(port) = door.ports().iter().find(|port| !ports.contains(port)) {
        let what = format!(
            "door {} opens {port}, which ports does not allow",
            door.name
        );
        let right = "add it to ports, leave the door out, or make a door with less";
        reader.refuse(field, Wrong::new(what, right));
    }
}

fn carriers(reader: &Reader<'_>, field: &Field<'_, '_>) -> Option<Vec<Carrier>> {
    const RIGHT: &str = "write a list such as [\"62201/udp\", \"icmp\"]";
    let items = reader.list(field, RIGHT)?;
    if !bounds::CARRIERS.contains(&items.len()) {
        let right = format!(
            "write 1 to {}, or leave the key out",
            bounds::CARRIERS.end()
        );
        reader.refuse(field, Wrong::new(length(items.len(), "carriers"), right));
        return None;
    }
    let mut carriers = Vec::new();
    for item in &items {
        let text = reader.text(item, RIGHT)?;
        let carrier = reader.kept(item, text.parse::<Carrier>())?;
        if carriers.contains(&carrier) {
            let what = format!("{carrier} stands here twice");
            reader.refuse(item, Wrong::new(what, "name each carrier once"));
        }
        carriers.push(carrier);
    }
    Some(carriers)
}
