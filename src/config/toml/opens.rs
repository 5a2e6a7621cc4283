//! What opens at a door, and the rules that it is made of.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::de::DeValue;

use super::super::mistake::{Places, Spot, Wrong, quote};
use super::super::{Action, FirewallKind, Guard, Network, Opens, Pass, Port, Protocol, To, bounds};
use super::length;
use super::reader::{Field, Reader, Table};

/// Words that pf.conf(5) keeps for itself, and so no table's names.
const PF_WORDS: [&str; 8] = ["all", "any", "nat", "rdr", "binat", "pass", "block", "self"];

/// Numbers that a door's rules take, and where they were written.
pub(super) struct Numbers {
    ports: Vec<Port>,
    /// `rule` or `rules`.
    pass: Option<(RangeInclusive<u16>, String, Range<usize>)>,
    guard: Option<(u16, String, Range<usize>)>,
}

/// The door's `opens` or `table` and all that goes with them. `firewall`: what drives them, if
/// that is known.
pub(super) fn read(
    reader: &Reader<'_>,
    at: usize,
    table: &Table<'_, '_>,
    firewall: Option<FirewallKind>,
    places: &mut Places,
    numbers: &mut Vec<Numbers>,
) -> Option<Opens> {
    let ports = match table.get("opens") {
        Some(field) => ports(reader, at, &field, places),
        None => Some(Vec::new()),
    };
    let open_for = match table.get("open_for") {
        Some(field) => reader.duration(&field, &bounds::OPEN_FOR),
        None => {
            if !table.given("open_for") {
                let wrong = Wrong::new("missing", "write how long, such as open_for = \"30s\"");
                reader.note_absent(&table.span, table.dotted("open_for"), wrong);
            }
            None
        }
    };
    let pass = pass(reader, table, firewall);
    let ours = !table.given("table");
    if !ours {
        table.refuse(
            reader,
            &[
                "rule",
                "rules",
                "guard",
                "to",
                "connections",
                "kill_states",
                "idle",
            ],
            "the key has no meaning with table: the rules that name it are your own",
            "leave it out, or leave out table",
        );
    }
    let guard = match table.get("guard").filter(|_| ours) {
        Some(field) => guard(reader, &field, firewall, ports.as_deref()),
        None => Some(None),
    };
    let to = match table.get("to").filter(|_| ours) {
        Some(field) => to(reader, &field, firewall),
        None => Some(To::Me),
    };
    let connections = match table.get("connections").filter(|_| ours) {
        Some(field) => reader
            .count(&field, &bounds::CONNECTIONS)
            .map(|count| u16::try_from(count).ok()),
        None => Some(None),
    };
    let kill_states = match table.get("kill_states").filter(|_| ours) {
        Some(field) => match firewall {
            Some(FirewallKind::Pf | FirewallKind::Memory) | None => reader.boolean(&field),
            Some(_) => {
                let right = "leave it out: sessions that were let in go on after the lease";
                reader.refuse(&field, Wrong::new("only pf can end sessions", right));
                None
            }
        },
        None => Some(false),
    };
    if let (Some(Pass::Rules(_)), Some(To::Any | To::Network(_)), Some(field)) =
        (&pass, &to, table.get("to"))
    {
        let what = "rules go with this machine's own sessions only: what goes through it would \
                    be cut at each lease's end";
        reader.refuse(&field, Wrong::new(what, "write rule in place of rules"));
    }
    let opens = Opens {
        ports: ports?,
        open_for: open_for?,
        pass: pass?,
        guard: guard?,
        to: to?,
        connections: connections?,
        kill_states: kill_states?,
    };
    note_numbers(table, &opens, numbers);
    Some(opens)
}

/// `idle`, of a door that opens so.
pub(super) fn idle(
    reader: &Reader<'_>,
    table: &Table<'_, '_>,
    field: &Field<'_, '_>,
    firewall: Option<FirewallKind>,
    action: Option<&Action>,
) -> Option<Option<Duration>> {
    if table.given("table") {
        return None; // refused with the others that have no meaning there
    }
    let idle = reader.duration(field, &bounds::IDLE)?;
    if let (Some(FirewallKind::Ipfw), Some(Action::Open(opens))) = (firewall, action) {
        let (what, right) = if opens.to != To::Me {
            (
                "in ipfw it goes by this machine's own TCP connections: of what goes through it \
                 nothing is known",
                "leave it out, or leave out to",
            )
        } else if !opens.ports.iter().any(|p| p.protocol == Protocol::Tcp) {
            (
                "in ipfw it goes by TCP connections, and the door opens no TCP port",
                "leave it out, and write how long in open_for",
            )
        } else {
            return Some(Some(idle));
        };
        reader.refuse(field, Wrong::new(what, right));
        return None;
    }
    Some(Some(idle))
}

fn note_numbers(table: &Table<'_, '_>, opens: &Opens, numbers: &mut Vec<Numbers>) {
    let field = |key| table.get(key).map(|field| (field.key, field.span));
    let pass = match &opens.pass {
        Pass::Ours { rule } => rule.map(|rule| (rule..=rule, "rule")),
        Pass::Rules(range) => Some((range.clone(), "rules")),
        Pass::Table(_) => None,
    };
    let guard = opens.guard.as_ref().and_then(|guard| guard.number);
    numbers.push(Numbers {
        ports: opens.ports.clone(),
        pass: pass.and_then(|(range, key)| field(key).map(|(key, span)| (range, key, span))),
        guard: guard.and_then(|number| field("guard").map(|(key, span)| (number, key, span))),
    });
}

/// Every guard must stand behind all passes to its port, and the numbers of a range must be
/// nobody else's.
pub(super) fn check_numbers(reader: &Reader<'_>, all: &[Numbers]) {
    let mut guards: BTreeMap<Port, (u16, &str)> = BTreeMap::new();
    for numbers in all {
        let Some((number, key, span)) = &numbers.guard else {
            continue;
        };
        for port in &numbers.ports {
            let (first, owner) = *guards.entry(*port).or_insert((*number, key.as_str()));
            if first != *number {
                let what = format!("{owner} puts the guard of {port} at {first}");
                let right = format!("doors that share a port share its guard: write {first}");
                reader.note(span, key, Wrong::new(what, right));
                break;
            }
        }
    }
    for numbers in all {
        let Some((range, key, span)) = &numbers.pass else {
            continue;
        };
        let behind = numbers
            .ports
            .iter()
            .find_map(|port| guards.get(port).filter(|(guard, _)| guard <= range.end()));
        if let Some((guard, owner)) = behind {
            let what = format!("the guard ({owner} = {guard}) would stand before it");
            let right = format!("write a number below {guard}, or a higher one for the guard");
            reader.note(span, key, Wrong::new(what, right));
        }
    }
    for (at, numbers) in all.iter().enumerate() {
        let Some((range, key, span)) = &numbers.pass else {
            continue;
        };
        let mut others = all.iter().enumerate().flat_map(|(other, numbers)| {
            let guard = numbers.guard.as_ref();
            let pass = numbers.pass.as_ref().filter(|_| other != at);
            let guard = guard.map(|(number, key, _)| (*number..=*number, key));
            guard
                .into_iter()
                .chain(pass.map(|(range, key, _)| (range.clone(), key)))
        });
        let overlaps = |other: &RangeInclusive<u16>| {
            other.start() <= range.end() && range.start() <= other.end()
        };
        let taken = others.find(|(other, _)| range.start() != range.end() && overlaps(other));
        if let Some((other, owner)) = taken {
            let what = format!("{owner} has {} already", shown(&other));
            let right = "give each range numbers of its own";
            reader.note(span, key, Wrong::new(what, right));
        }
    }
}

fn shown(range: &RangeInclusive<u16>) -> String {
    match range.start() == range.end() {
        true => range.start().to_string(),
        false => format!("{}-{}", range.start(), range.end()),
    }
}

fn pass(
    reader: &Reader<'_>,
    table: &Table<'_, '_>,
    firewall: Option<FirewallKind>,
) -> Option<Pass> {
    use FirewallKind::{Ipfw, Memory, Nft, Pf};
    if let Some(field) = table.get("table") {
        if firewall == Some(Nft) {
            let what = "nft has no tables of addresses that rules of yours could name";
            reader.refuse(&field, Wrong::new(what, "write opens and guard = true"));
            return None;
        }
        return named(reader, &field).map(Pass::Table);
    }
    if table.given("table") {
        return None;
    }
    let numbered = matches!(firewall, Some(Ipfw | Memory) | None);
    for key in ["rule", "rules"] {
        if let Some(field) = table.get(key).filter(|_| !numbered) {
            let what = "only ipfw numbers its rules";
            reader.refuse(&field, Wrong::new(what, "leave it out"));
            return None;
        }
    }
    match (table.get("rule"), table.get("rules")) {
        (Some(_), Some(field)) => {
            let what = "a door has one pass rule or one for each address, not both";
            reader.refuse(&field, Wrong::new(what, "leave out rule or rules"));
            None
        }
        (Some(field), None) => {
            let rule = u16::try_from(reader.count(&field, &bounds::RULE)?).ok();
            Some(Pass::Ours { rule })
        }
        (None, Some(field)) => range(reader, &field).map(Pass::Rules),
        (None, None) => {
            let missing = !table.given("rule") && !table.given("rules");
            if firewall == Some(Ipfw) && missing {
                let right = "write the number of the pass rule, such as rule = 101";
                let wrong = Wrong::new("missing", right);
                reader.note_absent(&table.span, table.dotted("rule"), wrong);
            }
            (firewall != Some(Ipfw) || !missing)
                .then_some(Pass::Ours { rule: None })
                .filter(|_| firewall != Some(Pf) || missing)
        }
    }
}

/// `"101-199"`
fn range(reader: &Reader<'_>, field: &Field<'_, '_>) -> Option<RangeInclusive<u16>> {
    const RIGHT: &str = "write the first and the last number, such as \"101-199\"";
    let text = reader.text(field, RIGHT)?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse::<u16>().ok().filter(|_| digits)?;
        bounds::RULE
            .contains(&usize::from(number))
            .then_some(number)
    };
    let range = text.split_once('-').and_then(|(first, last)| {
        let range = number(first)?..=number(last)?;
        (range.start() < range.end()).then_some(range)
    });
    if range.is_none() {
        let what = format!("{} is no range of rule numbers", quote(text));
        reader.refuse(field, Wrong::new(what, RIGHT));
    }
    range
}

fn named(reader: &Reader<'_>, field: &Field<'_, '_>) -> Option<String> {
    const RIGHT: &str = "write the name of a table in your rules, in quotes";
    let name = reader.text(field, RIGHT)?;
    reader
        .kept(field, table_name(name))
        .map(|()| name.to_owned())
}

/// Whether this can be the name of a table of the administrator's.
///
/// # Errors
/// What is wrong with it.
pub(in crate::config) fn table_name(name: &str) -> Result<(), Wrong> {
    let fits = bounds::TABLE.contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let wrong = if !fits {
        Wrong::new(
            format!("{} cannot be the name of a table", quote(name)),
            format!(
                "begin with a letter, go on with letters, digits, -, _ and ., {} characters at \
                 most",
                bounds::TABLE.end()
            ),
        )
    } else if PF_WORDS.contains(&name) || name.starts_with("postern_") {
        let what = format!("{} is kept for others", quote(name));
        Wrong::new(what, "give the table another name")
    } else {
        return Ok(());
    };
    Err(wrong)
}

fn guard(
    reader: &Reader<'_>,
    field: &Field<'_, '_>,
    firewall: Option<FirewallKind>,
    ports: Option<&[Port]>,
) -> Option<Option<Guard>> {
    use FirewallKind::{Ipfw, Nft, Pf};
    let ports = ports.unwrap_or_default().to_vec();
    let number = match field.value {
        DeValue::Boolean(false) => return Some(None),
        DeValue::Boolean(true) if firewall != Some(Ipfw) => None,
        DeValue::Boolean(true) => {
            let what = "ipfw numbers its rules";
            let right = "write the number of the deny rule, such as guard = 102";
            reader.refuse(field, Wrong::new(what, right));
            return None;
        }
        DeValue::Integer(_) if matches!(firewall, Some(Pf | Nft)) => {
            let what = "only ipfw numbers its rules";
            reader.refuse(field, Wrong::new(what, "write guard = true"));
            return None;
        }
        DeValue::Integer(_) => u16::try_from(reader.count(field, &bounds::RULE)?).ok(),
        _ => {
            let what = format!("{} cannot stand here", field.kind());
            let right = match firewall {
                Some(Ipfw) => "write the number of the deny rule, such as guard = 102",
                _ => "write true or false, without quotes",
            };
            reader.refuse(field, Wrong::new(what, right));
            return None;
        }
    };
    Some(Some(Guard { number, ports }))
}

fn to(reader: &Reader<'_>, field: &Field<'_, '_>, firewall: Option<FirewallKind>) -> Option<To> {
    const RIGHT: &str = "write \"me\", \"any\", an address or a network such as \"192.0.2.0/24\"";
    let text = reader.text(field, RIGHT)?;
    let to = match text {
        "me" => To::Me,
        "any" => To::Any,
        text => match text.parse() {
            Ok(network) => To::Network(network),
            Err(()) => {
                let what = format!("{} is no destination", quote(text));
                reader.refuse(field, Wrong::new(what, RIGHT));
                return None;
            }
        },
    };
    if firewall == Some(FirewallKind::Nft) && to != To::Me {
        let what = "in nftables only this machine itself is guarded";
        reader.refuse(
            field,
            Wrong::new(what, "write \"me\", or leave the key out"),
        );
        return None;
    }
    Some(to)
}

/// Addresses and networks, as many as `bounds` allow: `always`, and `from` of a key.
pub(super) fn networks(
    reader: &Reader<'_>,
    field: &Field<'_, '_>,
    bounds: &RangeInclusive<usize>,
) -> Option<Vec<Network>> {
    const RIGHT: &str = "write a list of addresses and networks such as [\"192.0.2.0/24\"]";
    let items = reader.list(field, RIGHT)?;
    if !bounds.contains(&items.len()) {
        let what = length(items.len(), "networks");
        let right = match items.len() {
            0 => "leave the key out for everybody".to_owned(),
            _ => format!("write {} at most", bounds.end()),
        };
        reader.refuse(field, Wrong::new(what, right));
        return None;
    }
    let mut networks = Vec::new();
    for item in &items {
        let text = reader.text(item, RIGHT)?;
        match text.parse::<Network>() {
            Ok(network) if network.prefix() == 0 => {
                let what = format!("{} is everybody", quote(text));
                reader.refuse(item, Wrong::new(what, "name those whom you mean"));
            }
            Ok(network) => networks.push(network),
            Err(()) => {
                let what = format!("{} is no address and no network", quote(text));
                let right = "write one such as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32, with \
                             zeros behind the prefix";
                reader.refuse(item, Wrong::new(what, right));
                return None;
            }
        }
    }
    networks.sort_unstable();
    networks.dedup();
    Some(networks)
}

fn ports(
    reader: &Reader<'_>,
    at: usize,
    field: &Field<'_, '_>,
    places: &mut Places,
) -> Option<Vec<Port>> {
    let items = reader.list(field, "write a list of ports such as [\"22/tcp\"]")?;
    if !bounds::OPENS.contains(&items.len()) {
        let what = length(items.len(), "ports");
        let right = format!("write {} to {}", bounds::OPENS.start(), bounds::OPENS.end());
        reader.refuse(field, Wrong::new(what, right));
        return None;
    }
    let mut ports: Vec<Port> = Vec::new();
    let mut whole = true;
    for (item_at, item) in items.iter().enumerate() {
        places.set(
            Spot::door(at).key("opens").item(item_at),
            reader.place(&item.span),
        );
        match reader.port(item) {
            Some(port) if ports.contains(&port) => {
                let what = format!("{port} stands here twice");
                reader.refuse(item, Wrong::new(what, "name each port once"));
            }
            Some(port) => ports.push(port),
            None => whole = false,
        }
    }
    whole.then_some(ports)
}
