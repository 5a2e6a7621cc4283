//! postern.toml -> [`Config`], or every mistake with its place.
//!
//! The keys, their defaults and bounds ([`bounds`] holds the numbers). Durations
//! are whole numbers with units, `"500ms"`, `"30s"`, `"1h30m"`, `"7d"`; ports are `"22/tcp"`,
//! `"53/udp"`, or `"22"` or `22` for TCP; paths are absolute.
//!
//! | at the top | default | what |
//! |---|---|---|
//! | `interface` | none: `posternd -i` must give it | a name or a list of 1 to 64, each 1 to 15 bytes without blanks, `/` and `:` |
//! | `log` | `"syslog"` | `"syslog"`, `"stderr"` or a file |
//! | `firewall` | `"none"`; must be given where a door has `opens` or `table` | `"ipfw"`, `"pf"`, `"nft"`, `"memory"` (nothing is touched, everything shown) or `"none"` (command doors only) |
//! | `drive` | `"in-process"` | how addresses are let in there: `"in-process"`, or by the packet filter's `"command"` |
//! | `user` | `_postern`, or `nobody` where there is none | whom the listener becomes; not root |
//! | `confine` | `"required"` | `"required"`: no listening without all the confinement that this system has; `"try"`: with what can be had |
//! | `pidfile` | none | a file |
//! | `control` | `/var/run/postern.sock` | the socket that posternctl speaks to, at most 103 bytes |
//! | `state` | `/var/db/postern` on FreeBSD, `/var/lib/postern` elsewhere | the directory of the journal |
//! | `always` | none | a list of at most 256 addresses and networks that pass every guard |
//! | `trial` | `"10m"` | when a new guard is withdrawn that nobody has come through, `"1s"` to `"1d"`: time to open a terminal, knock and connect, or `"off"` |
//! | `[key.NAME]` | none | single-packet authorization; at most 1024, NAME as a door's |
//! | `[door.NAME]` | at least one, at most 1024 | NAME: a letter, then letters, digits, `-`, `_`, at most 24; not `always` and `running` |
//!
//! | in `[door.NAME]` | default | what |
//! |---|---|---|
//! | `opens` | | a list of 1 to 64 ports, each once; a door has this, `table` or `start_command` |
//! | `open_for` | must be given with `opens` or `table` | how long, `"1s"` to `"7d"` |
//! | `rule` | must be given with ipfw | the number of the pass rule, 1 to 65534 |
//! | `rules` | | instead: a range of numbers, `"101-199"`, one pass rule for each address |
//! | `table` | | ipfw, pf: a table of the administrator's, whose rules are his own |
//! | `guard` | none | the deny rule of ours that stands behind: its number in ipfw, `true` otherwise; the same for all doors with the port, and above their pass rules |
//! | `to` | `"me"` | ipfw, pf: whom the rules protect: `"me"`, `"any"`, an address or a network; not `rules` with any but `"me"` |
//! | `on` | the listened interfaces | an interface, or a list: where rules and knocks apply |
//! | `connections` | any number | so many at once for each address, 1 to 65535 |
//! | `kill_states` | `false` | pf: whether a lease's end ends the sessions that it let in |
//! | `start_command` | | run at a grant, `%IP%` stands for the address; at most 65536 bytes |
//! | `stop_command` | none: the door has no lease | run `cmd_timeout` after the (last) grant |
//! | `start_command_6` | as `start_command` | the same for IPv6 addresses; empty: nothing is run |
//! | `stop_command_6` | as `stop_command` | the same for IPv6 addresses; empty: nothing is run |
//! | `cmd_timeout` | `"10s"` | from start to stop, `"1s"` to `"7d"`; only with `stop_command` |
//! | `run_limit` | `"60s"` | when a command still running is killed, `"1s"` to `"1h"`; only with `start_command` |
//! | `max_leases` | `1024`, or as many as `rules` has | leases at once, 1 to 65536; not where there is no lease |
//! | `[[door.NAME.knock]]` | at least one, unless a key opens the door; at most 256 | each opens the door |
//!
//! | in `[[door.NAME.knock]]` | default | what |
//! |---|---|---|
//! | `sequence` | | a list of 1 to 32 ports, a step also as knockd writes it, `"2912:udp"`; a knock has this or `one_time_sequences` |
//! | `one_time_sequences` | | a file of sequences, one a line, each used once; every list for one knock only |
//! | `seq_timeout` | `"10s"` | from the first step to the last, `"1s"` to `"10m"` |
//! | `tcpflags` | `["syn", "!ack", "!rst", "!fin"]`, a connection request | a list of `fin` `syn` `rst` `psh` `ack` `urg` that must be set, or unset with `!` before it; others do not matter; `[]`: any segment; not where no step is TCP |
//! | `target` | any address of ours | the destination address instead |
//! | `ping` | | 16 bytes in hexadecimal that an echo request carries; a knock has this, `sequence` or `one_time_sequences`, and with it only `offsets` and `target` |
//! | `offsets` | 8 and 16, where `ping -p` puts it | where in the payload they may begin: a range within `"0-127"` |
//!
//! | in `[key.NAME]` | default | what |
//! |---|---|---|
//! | `owner` | none | whose it is: a line of at most 64 characters |
//! | `cipher_key` | must be given | fwknop's KEY_BASE64, 16 to 128 bytes in base64 |
//! | `hmac_key` | must be given | fwknop's HMAC_KEY_BASE64, the same |
//! | `hmac` | `"sha256"` | fwknop's HMAC_DIGEST_TYPE: `"sha256"` or `"sha512"` |
//! | `doors` | must be given | the doors that it opens, 1 to 32 |
//! | `ports` | those its doors open | the ports that its requests may name, 1 to 64; all that its doors open |
//! | `from` | everybody | for which addresses: 1 to 64 addresses and networks |
//! | `observed` | `false` | whether a request may be for whatever address the packet came from |
//! | `allowance` | `60` | grants an hour, 1 to 100000 |
//! | `carriers` | `["62201/udp"]` | where its packets are heard: 1 to 16 UDP ports or `"icmp"`; at most 16 keys each |
//!
//! A sequence whose every step is the port just above (or just below) the last is refused: a
//! port sweep would open it, since no trap fits between; so is one that knockd's manuals give,
//! 7000 8000 9000 or 2222 3333 4444 in any order, TCP or UDP. Among sequences with the same first
//! step and `target` there may be 4 that differ in `tcpflags`, `seq_timeout` or `on`.

mod door;
pub mod key;
pub(crate) mod keys;
pub mod knock;
pub(super) mod opens;
pub(super) mod reader;
mod syntax;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::bounds;
use super::mistake::{Mistake, Parsed, Places, Spot, Wrong, quote};
use super::{
    Config, Confine, Drive, FirewallKind, LogTo, Port, Protocol, Sequence, Steps, TcpFlags,
};
use keys::Kind;
use reader::{Field, Reader, Table};

/// Packet filters of this system, for messages.
const HERE: &str = if cfg!(target_os = "freebsd") {
    "\"ipfw\" or \"pf\""
} else {
    "\"nft\""
};

/// How many mistakes are reported in one go.
pub const MOST_MISTAKES: usize = 50;

/// The keys that may stand at the top, in a `[door.NAME]`, in a `[[door.NAME.knock]]` and in a
/// `[key.NAME]`, in the order of the manual.
pub fn keys() -> [&'static [&'static str]; 4] {
    keys::ALL.map(Kind::keys)
}

/// Reads a configuration; `file` is its name for messages. Pure: nothing is opened, no name
/// looked up.
///
/// # Errors
/// Every mistake, in the order of the text.
pub fn parse(file: &str, text: &str) -> Result<Config, Vec<Mistake>> {
    read(file, text).map(|parsed| parsed.config)
}

/// [`parse`] that also tells where things stand, for [`check`](super::check::check).
///
/// # Errors
/// Every mistake, in the order of the text.
pub fn read(file: &str, text: &str) -> Result<Parsed, Vec<Mistake>> {
    let (tree, errors) = DeTable::parse_recoverable(text);
    let reader = Reader::new(text, syntax::mistakes(text, tree.get_ref(), &errors));
    let mut places = Places::default();
    let config = top(&reader, tree.get_ref(), &mut places);
    let mistakes = reader.mistakes(file);
    match config {
        Some(config) if mistakes.is_empty() => Ok(Parsed {
            config,
            places,
            warnings: Vec::new(),
        }),
        _ => Err(mistakes),
    }
}

/// Mask and value of the flag condition, timeout, and interfaces.
type Condition = (u8, u8, Duration, Vec<String>);

/// What is looked at across doors.
#[derive(Default)]
struct Across {
    /// Paths and the keys that they were given to: no two keys may name the same.
    paths: BTreeMap<PathBuf, String>,
    /// What `firewall` says, if that is known.
    firewall: Option<FirewallKind>,
    /// What `interface` says; empty if that is not known or all are meant.
    interfaces: Vec<String>,
    /// Doors that keys open.
    opened: BTreeSet<String>,
    /// What `on` says of the door being read.
    on: Vec<String>,
    /// Of rules.
    numbers: Vec<opens::Numbers>,
    /// By first step and target.
    alike: BTreeMap<(Port, Option<IpAddr>), BTreeSet<Condition>>,
}

impl Across {
    fn claim(&mut self, reader: &Reader<'_>, field: &Field<'_, '_>, path: &PathBuf) {
        if let Some(owner) = self.paths.get(path) {
            let what = format!(
                "{} is given to {owner} already",
                quote(&path.to_string_lossy())
            );
            reader.refuse(field, Wrong::new(what, "name another"));
        } else {
            self.paths.insert(path.clone(), field.key.clone());
        }
    }

    /// Notes a sequence; one packet may not begin too many attempts.
    fn begin(&mut self, reader: &Reader<'_>, field: &Field<'_, '_>, sequence: &Sequence) {
        let Steps::Fixed(steps) = &sequence.steps else {
            return;
        };
        let Some(&first) = steps.first() else {
            return;
        };
        let flags = match steps.iter().any(|step| step.protocol == Protocol::Tcp) {
            true => sequence.flags,
            false => TcpFlags { mask: 0, value: 0 },
        };
        let alike = self.alike.entry((first, sequence.target)).or_default();
        let pair = (flags.mask, flags.value, sequence.timeout, self.on.clone());
        if alike.len() < bounds::ALIKE || alike.contains(&pair) {
            alike.insert(pair);
            return;
        }
        let what = format!(
            "more than {} sequences that begin with {first} differ in tcpflags, seq_timeout or on",
            bounds::ALIKE
        );
        let right = "give it what another has, or begin otherwise";
        reader.refuse(field, Wrong::new(what, right));
    }
}

fn top(reader: &Reader<'_>, tree: &DeTable<'_>, places: &mut Places) -> Option<Config> {
    let table = Table::new(reader, String::new(), 0..0, Kind::Top, tree);
    let mut across = Across::default();
    for &key in Kind::Top.keys() {
        if let Some(field) = table.get(key) {
            places.set(Spot::default().key(key), reader.place(&field.span));
        }
    }
    let mut path = |key, bounds| {
        let field = table.get(key)?;
        let path = reader.path(&field, bounds)?;
        across.claim(reader, &field, &path);
        Some(path)
    };
    let pidfile = path("pidfile", &bounds::PATH);
    let control = path("control", &bounds::CONTROL_PATH);
    let state = path("state", &bounds::PATH);
    let interfaces = match table.get("interface") {
        Some(field) => interfaces(reader, &field, "and say posternd -i NAME", &[]),
        None => Some(Vec::new()),
    };
    let log = match table.get("log") {
        Some(field) => log(reader, &field, &mut across),
        None => Some(LogTo::Syslog),
    };
    let user = table.get("user").and_then(|field| user(reader, &field));
    let confine = match table.get("confine") {
        Some(field) => confine(reader, &field),
        None => Some(Confine::Required),
    };
    let firewall = table.get("firewall").map(|field| {
        let kind = firewall(reader, &field);
        (field, kind)
    });
    across.firewall = firewall.as_ref().and_then(|(_, kind)| *kind);
    across.interfaces = interfaces.clone().unwrap_or_default();
    if across.interfaces.iter().any(|name| name == "any") {
        across.interfaces.clear();
    }
    let drive = match table.get("drive") {
        Some(field) => drive(reader, &field),
        None => Some(Drive::InProcess),
    };
    let always = match table.get("always") {
        Some(field) => opens::networks(reader, &field, &bounds::ALWAYS),
        None => Some(Vec::new()),
    };
    let trial = match table.get("trial") {
        Some(field) => trial(reader, &field),
        None => Some(Some(bounds::TRIAL)),
    };
    across.opened = key::opened(&table);
    let doors = doors(reader, &table, places, &mut across);
    opens::check_numbers(reader, &across.numbers);
    let names: Vec<String> = doors.iter().map(|door| door.name.clone()).collect();
    let read = Vec::from_iter(doors.iter().map(|door| door.door.as_ref()));
    let keys = key::all(reader, &table, &names, &read, places);

    let opening = doors.iter().find_map(|door| door.opens.as_ref());
    match (&firewall, opening) {
        (Some((field, Some(FirewallKind::None))), Some((name, _))) => {
            let what = format!("\"none\" opens no ports, but door {name} has opens");
            reader.refuse(
                field,
                Wrong::new(what, format!("write {HERE} (or \"memory\" to try it out)")),
            );
        }
        (None, Some((name, span))) if !table.given("firewall") => {
            let what = format!("missing, but door {name} has opens");
            let right = format!("write firewall = {HERE} (or \"memory\" to try it out) at the top");
            reader.note_absent(span, "firewall", Wrong::new(what, right));
        }
        _ => {}
    }
    Some(Config {
        interfaces: interfaces?,
        log: log?,
        firewall: match firewall {
            Some((_, kind)) => kind?,
            None => FirewallKind::None,
        },
        drive: drive?,
        user,
        confine: confine?,
        pidfile,
        control: control.unwrap_or_else(|| bounds::CONTROL.into()),
        state: state.unwrap_or_else(|| bounds::STATE.into()),
        always: always?,
        trial: trial?,
        doors: doors
            .into_iter()
            .map(|door| door.door)
            .collect::<Option<_>>()?,
        keys: keys?,
        knockd: None,
    })
}

fn doors(
    reader: &Reader<'_>,
    table: &Table<'_, '_>,
    places: &mut Places,
    across: &mut Across,
) -> Vec<door::Read> {
    const RIGHT: &str = "give every door a table of its own, [door.NAME]";
    let given = match table.get("door") {
        None => Vec::new(),
        Some(field) => match field.value {
            DeValue::Table(doors) => reader::in_order(doors),
            _ => {
                let what = format!("{} cannot stand here", field.kind());
                reader.refuse(&field, Wrong::new(what, RIGHT));
                return Vec::new();
            }
        },
    };
    let misspelt = table.given("door") && table.get("door").is_none();
    if given.is_empty() && !misspelt {
        let right = "add [door.NAME] with opens or start_command, and a [[door.NAME.knock]] to it";
        reader.note_absent(&(0..0), "door", Wrong::new("there is no door", right));
    }
    let most = *bounds::DOORS.end();
    if let Some((key, _)) = given.get(most) {
        let what = format!("{} doors are too many", given.len());
        reader.note(
            &key.span(),
            "door",
            Wrong::new(what, format!("write {most} at most")),
        );
    }
    let mut all = Vec::new();
    for (at, (key, value)) in given.into_iter().take(most).enumerate() {
        all.push(door::read(reader, at, key, value, places, across));
    }
    all
}

/// Names of interfaces; `without`: what happens where there is no such key. `listened`: those
/// that may be named; empty: any.
fn interfaces(
    reader: &Reader<'_>,
    field: &Field<'_, '_>,
    without: &str,
    listened: &[String],
) -> Option<Vec<String>> {
    const RIGHT: &str = "write the name of an interface, or a list of names";
    let items = match field.value {
        DeValue::Array(_) => reader.list(field, RIGHT)?,
        _ => vec![field.clone()],
    };
    if !bounds::INTERFACES.contains(&items.len()) {
        let what = length(items.len(), "interfaces");
        let right = format!(
            "write 1 to {}, or leave the key out {without}",
            bounds::INTERFACES.end()
        );
        reader.refuse(field, Wrong::new(what, right));
        return None;
    }
    let mut names: Vec<String> = Vec::new();
    for item in &items {
        let name = reader.text(item, RIGHT);
        let name = name.and_then(|name| reader.kept(item, interface_name(name).map(|()| name)))?;
        if names.iter().any(|known| known == name) {
            let what = format!("{} stands here twice", quote(name));
            reader.refuse(item, Wrong::new(what, "name each interface once"));
        }
        if !listened.is_empty() && !listened.iter().any(|known| known == name) {
            let what = format!("nobody listens at {}", quote(name));
            let right = "name interfaces that interface names";
            reader.refuse(item, Wrong::new(what, right));
        }
        names.push(name.to_owned());
    }
    Some(names)
}

/// Whether this can be the name of an interface, on FreeBSD and on Linux.
///
/// # Errors
/// What is wrong with it.
pub fn interface_name(name: &str) -> Result<(), Wrong> {
    let odd = |c: char| c.is_control() || c.is_whitespace() || c == '/' || c == ':';
    if bounds::INTERFACE_NAME.contains(&name.len()) && !name.contains(odd) {
        Ok(())
    } else {
        Err(Wrong::new(
            format!("{} cannot be the name of an interface", quote(name)),
            format!(
                "write a name as ifconfig(8) shows it, at most {} characters",
                bounds::INTERFACE_NAME.end()
            ),
        ))
    }
}

fn log(reader: &Reader<'_>, field: &Field<'_, '_>, across: &mut Across) -> Option<LogTo> {
    const RIGHT: &str = "write \"syslog\", \"stderr\" or an absolute path";
    match reader.text(field, RIGHT)? {
        "syslog" => Some(LogTo::Syslog),
        "stderr" => Some(LogTo::Stderr),
        text if text.starts_with('/') => {
            let path = reader.path(field, &bounds::PATH)?;
            across.claim(reader, field, &path);
            Some(LogTo::File(path))
        }
        text => {
            let what = format!("{} is nothing to log to", quote(text));
            reader.refuse(field, Wrong::new(what, RIGHT));
            None
        }
    }
}

/// `Some(None)`: off.
fn trial(reader: &Reader<'_>, field: &Field<'_, '_>) -> Option<Option<Duration>> {
    match field.value {
        DeValue::String(text) if text.as_ref() == "off" => Some(None),
        _ => reader.duration(field, &bounds::TRIALS).map(Some),
    }
}

fn user(reader: &Reader<'_>, field: &Field<'_, '_>) -> Option<String> {
    let name = reader.text(field, "write the name of a user in quotes")?;
    let wrong = if name == "root" || name == "toor" || name == "0" {
        let right = "write a user of its own, such as \"_postern\", or leave the key out";
        Wrong::new("the listener would keep root's privileges", right)
    } else if name.is_empty()
        || name.len() > 32
        || name.starts_with('-')
        || name.contains(|c: char| c.is_control() || c.is_whitespace() || c == ':' || c == '/')
    {
        let what = format!("{} cannot be the name of a user", quote(name));
        Wrong::new(what, "write one as in passwd(5), such as \"_postern\"")
    } else {
        return Some(name.to_owned());
    };
    reader.refuse(field, wrong);
    None
}

fn confine(reader: &Reader<'_>, field: &Field<'_, '_>) -> Option<Confine> {
    const RIGHT: &str = "write \"required\", or \"try\" to listen even where that cannot be had";
    let what = match reader.text(field, RIGHT)? {
        "required" => return Some(Confine::Required),
        "try" => return Some(Confine::Try),
        text => format!("{} is no way to confine the listener", quote(text)),
    };
    reader.refuse(field, Wrong::new(what, RIGHT));
    None
}

fn firewall(reader: &Reader<'_>, field: &Field<'_, '_>) -> Option<FirewallKind> {
    const RIGHT: &str = "write \"ipfw\", \"pf\", \"nft\", \"memory\" or \"none\"";
    let what = match reader.text(field, RIGHT)? {
        "ipfw" => return Some(FirewallKind::Ipfw),
        "pf" => return Some(FirewallKind::Pf),
        "nft" => return Some(FirewallKind::Nft),
        "memory" => return Some(FirewallKind::Memory),
        "none" => return Some(FirewallKind::None),
        text => format!("{} is no packet filter known here", quote(text)),
    };
    reader.refuse(field, Wrong::new(what, RIGHT));
    None
}

fn drive(reader: &Reader<'_>, field: &Field<'_, '_>) -> Option<Drive> {
    const RIGHT: &str =
        "write \"in-process\", or \"command\" to go through the packet filter's own";
    let what = match reader.text(field, RIGHT)? {
        "in-process" => return Some(Drive::InProcess),
        "command" => return Some(Drive::Command),
        text => format!("{} is no way to drive a packet filter", quote(text)),
    };
    reader.refuse(field, Wrong::new(what, RIGHT));
    None
}

/// Names that tables of ours bear which are no door's.
const RESERVED: [&str; 2] = ["always", "running"];

/// Whether this can be the name of a door.
///
/// # Errors
/// What is wrong with it.
pub fn door_name(name: &str) -> Result<(), Wrong> {
    let fits = bounds::DOOR_NAME.contains(&name.chars().count())
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if fits && RESERVED.contains(&name) {
        let what = format!("{} is a table of our own in the packet filter", quote(name));
        Err(Wrong::new(what, "give the door another name"))
    } else if fits {
        Ok(())
    } else {
        Err(Wrong::new(
            format!("{} cannot be the name of a door", quote(name)),
            format!(
                "begin with a letter, go on with letters, digits, - and _, {} characters at most",
                bounds::DOOR_NAME.end()
            ),
        ))
    }
}

/// What is wrong with a list of `given` items.
fn length(given: usize, items: &str) -> String {
    match given {
        0 => "the list is empty".to_owned(),
        _ => format!("{given} {items} are too many"),
    }
}

/// From the beginning of one span to the end of the other.
fn joined(first: &Range<usize>, last: &Range<usize>) -> Range<usize> {
    first.start.min(last.start)..first.end.max(last.end)
}
