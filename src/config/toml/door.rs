//! `[door.NAME]`

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeString, DeValue};

use super::super::mistake::{Places, Spot, Wrong};
use super::super::{Action, Commands, Door, Knock, Pass, bounds};
use super::keys::Kind;
use super::reader::{Field, Reader, Table, dotted};
use super::{Across, door_name, interfaces, joined, knock, length, opens};

/// Keys of doors that open ports, and of doors that run commands.
const OF_OPENS: [&str; 10] = [
    "open_for",
    "table",
    "rule",
    "rules",
    "guard",
    "to",
    "connections",
    "kill_states",
    "idle",
    "prefix6",
];
const OF_COMMANDS: [&str; 6] = [
    "start_command",
    "stop_command",
    "start_command_6",
    "stop_command_6",
    "cmd_timeout",
    "run_limit",
];

/// A door that was read.
pub(super) struct Read {
    /// What it is called, right or wrong.
    pub name: String,
    /// `None` where there was a mistake.
    pub door: Option<Door>,
    /// Its name and where `opens` or `table` stands, if it has one of them.
    pub opens: Option<(String, Range<usize>)>,
}

/// Door number `at`.
pub(super) fn read(
    reader: &Reader<'_>,
    at: usize,
    key: &Spanned<DeString<'_>>,
    value: &Spanned<DeValue<'_>>,
    places: &mut Places,
    across: &mut Across,
) -> Read {
    let name = key.get_ref().to_string();
    let path = dotted("door", &name);
    places.set(Spot::door(at), reader.place(&key.span()));
    let named = door_name(&name)
        .map_err(|wrong| reader.note(&key.span(), path.clone(), wrong))
        .is_ok();
    let entries = match value.get_ref() {
        DeValue::Table(entries) => entries,
        other => {
            let what = match other {
                DeValue::Array(_) => "a door cannot be a list",
                _ => "a door must be a table",
            };
            let right = format!("write [{path}], in single brackets");
            reader.note(
                &joined(&key.span(), &value.span()),
                path,
                Wrong::new(what, right),
            );
            return Read {
                name,
                door: None,
                opens: None,
            };
        }
    };
    let table = Table::new(reader, path, key.span(), Kind::Door, entries);
    for &key in Kind::Door.keys() {
        if let Some(field) = table.get(key) {
            places.set(Spot::door(at).key(key), reader.place(&field.span));
        }
    }
    let action = action(reader, at, &table, places, across);
    let numbers = match &action {
        Some(Action::Open(opens)) => match &opens.pass {
            Pass::Rules(range) => Some(range.len()),
            Pass::Ours { .. } | Pass::Table(_) => None,
        },
        _ => None,
    };
    let max_leases = match table.get("max_leases") {
        Some(field) => max_leases(reader, &field, numbers),
        None => Some(numbers.map_or(bounds::MAX_LEASES, |n| n.min(bounds::MAX_LEASES))),
    };
    let on = match table.get("on") {
        Some(field) => {
            let without = "for all that are listened at";
            interfaces(reader, &field, without, &across.interfaces)
        }
        None => Some(Vec::new()),
    };
    let ports = table.given("opens") || table.given("table");
    let idle = match table.get("idle").filter(|_| ports) {
        Some(field) => opens::idle(reader, &table, &field, across.firewall, action.as_ref()),
        None => Some(None),
    };
    let prefix6 = match table.get("prefix6").filter(|_| ports) {
        Some(field) => {
            let length = reader.count(&field, &bounds::PREFIX6);
            length.and_then(|length| u8::try_from(length).ok())
        }
        None => Some(128),
    };
    across.on = on.clone().unwrap_or_default();
    let keyed = across.opened.contains(&name);
    let knocks = match table.given("knock") || !keyed {
        true => knocks(reader, at, &table, places, across),
        false => Some(Vec::new()),
    };
    let opens = table
        .get("opens")
        .or_else(|| table.get("table"))
        .map(|field| (name.clone(), field.span.clone()));
    let called = name.clone();
    let whole = || {
        Some(Door {
            name,
            action: action?,
            knocks: knocks?,
            max_leases: max_leases?,
            on: on?,
            idle: idle?,
            prefix6: prefix6?,
        })
    };
    Read {
        name: called,
        door: if named { whole() } else { None },
        opens,
    }
}

fn action(
    reader: &Reader<'_>,
    at: usize,
    table: &Table<'_, '_>,
    places: &mut Places,
    across: &mut Across,
) -> Option<Action> {
    let opens = table.given("opens") || table.given("table");
    match (opens, table.given("start_command")) {
        (true, false) => {
            table.refuse(
                reader,
                &OF_COMMANDS,
                "the key has no meaning in a door that opens ports",
                "leave it out, or make a door with start_command",
            );
            let (firewall, numbers) = (across.firewall, &mut across.numbers);
            opens::read(reader, at, table, firewall, places, numbers).map(Action::Open)
        }
        (false, true) => {
            table.refuse(
                reader,
                &OF_OPENS,
                "the key has no meaning in a door with start_command",
                "leave it out, or make a door with opens",
            );
            commands(reader, table).map(Action::Command)
        }
        (true, true) => {
            table.refuse(
                reader,
                &["start_command"],
                "a door either opens ports or runs commands",
                "make two doors",
            );
            None
        }
        (false, false) => {
            let wrong = Wrong::new(
                "nothing happens at this door",
                "write opens = [\"22/tcp\"], or a start_command",
            );
            reader.note_absent(&table.span, table.name.clone(), wrong);
            None
        }
    }
}

/// `numbers`: how many rules there may be, where each lease takes one.
fn max_leases(reader: &Reader<'_>, field: &Field<'_, '_>, numbers: Option<usize>) -> Option<usize> {
    let count = reader.count(field, &bounds::LEASES)?;
    if let Some(numbers) = numbers.filter(|&numbers| count > numbers) {
        let what = format!("rules has {numbers} numbers, one for each lease");
        let right = format!("write {numbers} at most, or more numbers");
        reader.refuse(field, Wrong::new(what, right));
        return None;
    }
    Some(count)
}

fn commands(reader: &Reader<'_>, table: &Table<'_, '_>) -> Option<Commands> {
    let command = |key, may_be_empty| match table.get(key) {
        Some(field) => reader.command(&field, may_be_empty).map(Some),
        None => Some(None),
    };
    let start = command("start_command", false);
    let start_6 = command("start_command_6", true);
    let stop = command("stop_command", false);
    let stop_6 = command("stop_command_6", true);
    if !table.given("stop_command") {
        table.refuse(
            reader,
            &["stop_command_6", "cmd_timeout", "max_leases"],
            "the key has no meaning without stop_command: the door has no lease",
            "add stop_command, or leave it out",
        );
    }
    if let (Some(Some(start)), Some(Some(stop))) = (&start_6, &stop_6)
        && start.is_empty()
        && !stop.is_empty()
    {
        table.refuse(
            reader,
            &["stop_command_6"],
            "it would never be run: start_command_6 is empty",
            "leave it out, or write a start_command_6",
        );
    }
    let duration = |key, bounds, default| match table.get(key) {
        Some(field) => reader.duration(&field, bounds),
        None => Some(default),
    };
    let cmd_timeout = duration("cmd_timeout", &bounds::OPEN_FOR, bounds::CMD_TIMEOUT);
    let run_limit = duration("run_limit", &bounds::RUN_LIMITS, bounds::RUN_LIMIT);
    Some(Commands {
        start: start??,
        start_6: start_6?,
        stop: stop?,
        stop_6: stop_6?,
        cmd_timeout: cmd_timeout?,
        run_limit: run_limit?,
    })
}

fn knocks(
    reader: &Reader<'_>,
    at: usize,
    table: &Table<'_, '_>,
    places: &mut Places,
    across: &mut Across,
) -> Option<Vec<Knock>> {
    let right = format!("write [[{}]], in double brackets", table.dotted("knock"));
    let Some(field) = table.get("knock") else {
        if !table.given("knock") {
            let wrong = Wrong::new(
                "nobody can knock at this door",
                format!(
                    "add [[{}]] with a sequence or a ping, or a [key.NAME] that opens it",
                    table.dotted("knock")
                ),
            );
            reader.note_absent(&table.span, table.name.clone(), wrong);
        }
        return None;
    };
    if let DeValue::Table(entries) = field.value {
        let what = "a door may have several knocks, so they are a list of tables";
        reader.refuse(&field, Wrong::new(what, right));
        let spot = Spot::door(at).knock(0);
        let table = Table::new(reader, field.key, field.span, Kind::Knock, entries);
        knock::read(reader, spot, &table, places, across);
        return None;
    }
    let items = reader.list(&field, &right)?;
    if !bounds::KNOCKS.contains(&items.len()) {
        let what = length(items.len(), "knocks");
        let right = format!(
            "write {} to {}",
            bounds::KNOCKS.start(),
            bounds::KNOCKS.end()
        );
        reader.refuse(&field, Wrong::new(what, right));
        return None;
    }
    let mut knocks = Vec::new();
    for (knock_at, item) in items.iter().enumerate() {
        let spot = Spot::door(at).knock(knock_at);
        places.set(spot, reader.place(&item.span));
        let DeValue::Table(entries) = item.value else {
            let what = format!("{} cannot stand here", item.kind());
            reader.refuse(item, Wrong::new(what, right.clone()));
            continue;
        };
        let (key, span) = (item.key.clone(), item.span.clone());
        let table = Table::new(reader, key, span, Kind::Knock, entries);
        knocks.extend(knock::read(reader, spot, &table, places, across));
    }
    (knocks.len() == items.len()).then_some(knocks)
}
