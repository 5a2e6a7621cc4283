//! `[[door.NAME.knock]]`

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::super::check::{ANOTHER, KNOWN, is_a_sweep, is_the_textbooks};
use super::super::mistake::{Places, Spot, Wrong, quote};
use super::super::{
    Knock, Pattern, Ping, Port, Protocol, Sequence, Steps, TcpFlags, bounds, units,
};
use super::Across;
use super::keys::Kind;
use super::reader::{Field, Reader, Table};

/// The knock at `spot`.
pub(super) fn read(
    reader: &Reader<'_>,
    spot: Spot,
    table: &Table<'_, '_>,
    places: &mut Places,
    across: &mut Across,
) -> Option<Knock> {
    for &key in Kind::Knock.keys() {
        if let Some(field) = table.get(key) {
            places.set(spot.key(key), reader.place(&field.span));
        }
    }
    if table.given("ping") {
        return ping(reader, table);
    }
    let without = "the key has no meaning without ping";
    table.refuse(reader, &["offsets"], without, "leave it out");
    let steps = match (table.given("sequence"), table.given("one_time_sequences")) {
        (true, false) => table
            .get("sequence")
            .and_then(|field| sequence(reader, spot, &field, places))
            .map(Steps::Fixed),
        (false, true) => table.get("one_time_sequences").and_then(|field| {
            let path = reader.path(&field, &bounds::PATH)?;
            across.claim(reader, &field, &path);
            Some(Steps::OneTime(path))
        }),
        (true, true) => {
            table.refuse(
                reader,
                &["one_time_sequences"],
                "a knock cannot have both sequence and one_time_sequences",
                "make two knocks",
            );
            None
        }
        (false, false) => {
            let wrong = Wrong::new(
                "the knock has no steps",
                "write sequence = [...] as posternctl keygen --sequence prints it, or ping = \"...\" \
                 as posternctl keygen --ping does",
            );
            reader.note_absent(&table.span, table.name.clone(), wrong);
            None
        }
    };
    let timeout = match table.get("seq_timeout") {
        Some(field) => reader.duration(&field, &bounds::SEQ_TIMEOUTS),
        None => Some(bounds::SEQ_TIMEOUT),
    };
    let flags = match table.get("tcpflags") {
        Some(field) => {
            if let Some(Steps::Fixed(steps)) = &steps
                && steps.iter().all(|step| step.protocol == Protocol::Udp)
            {
                let what = "no step of the sequence is TCP";
                reader.refuse(&field, Wrong::new(what, "leave the key out"));
            }
            tcpflags(reader, &field)
        }
        None => Some(TcpFlags::REQUEST),
    };
    let target = match table.get("target") {
        Some(field) => target(reader, &field).map(Some),
        None => Some(None),
    };
    let sequence = Sequence {
        steps: steps?,
        timeout: timeout?,
        flags: flags?,
        target: target?,
    };
    if let Some(field) = table.get("sequence") {
        across.begin(reader, &field, &sequence);
    }
    Some(Knock::Sequence(sequence))
}

/// A knock with `ping`.
fn ping(reader: &Reader<'_>, table: &Table<'_, '_>) -> Option<Knock> {
    table.refuse(
        reader,
        &["sequence", "one_time_sequences"],
        "a knock cannot have both steps and a ping",
        "make two knocks",
    );
    table.refuse(
        reader,
        &["seq_timeout", "tcpflags"],
        "the key has no meaning with ping",
        "leave it out",
    );
    let secret = table.get("ping").and_then(|field| {
        let text = reader.text(&field, PING)?;
        reader.kept(&field, pattern(text))
    });
    let offsets = match table.get("offsets") {
        Some(field) => offsets(reader, &field).map(Some),
        None => Some(None),
    };
    let target = match table.get("target") {
        Some(field) => target(reader, &field).map(Some),
        None => Some(None),
    };
    Some(Knock::Ping(Ping {
        secret: secret?,
        offsets: offsets?,
        target: target?,
    }))
}

const PING: &str = "write 32 hexadecimal digits as posternctl keygen --ping prints them";

/// The secret of a ping, as `ping -p` takes it: 32 hexadecimal digits.
///
/// # Errors
/// What is wrong with it, without a digit of it.
pub fn pattern(text: &str) -> Result<Pattern, Wrong> {
    let digits: Vec<u8> = text
        .chars()
        .map_while(|c| c.to_digit(16))
        .map(|d| d as u8)
        .collect();
    if digits.len() < text.chars().count() {
        return Err(Wrong::new("it holds what is no hexadecimal digit", PING));
    }
    let mut bytes = [0; 16];
    if digits.len() != 2 * bytes.len() {
        let what = format!("it has {} hexadecimal digits", digits.len());
        return Err(Wrong::new(what, PING));
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    // A plain ping carries the first; zeros and the like are what other programs send.
    let plain = bytes
        .windows(2)
        .all(|pair| pair[1].wrapping_sub(pair[0]) == 1);
    let different = BTreeSet::from(bytes).len();
    if plain || different < 8 {
        let what = "it is no secret: others send such bytes, too";
        return Err(Wrong::new(what, PING));
    }
    Ok(Pattern(bytes))
}

/// Where in an echo request's payload a secret may begin: `8-24`, or one place.
fn offsets(reader: &Reader<'_>, field: &Field<'_, '_>) -> Option<RangeInclusive<u8>> {
    let most = bounds::PING_OFFSETS.end();
    let right = format!("write a range of bytes within \"0-{most}\", such as \"0-96\"");
    let text = reader.text(field, &right)?;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse::<u8>().ok().filter(|n| n <= most);
        number.filter(|_| digits)
    };
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Some(first..=last),
        _ => {
            let what = format!("{} is no range of offsets", quote(text));
            reader.refuse(field, Wrong::new(what, right));
            None
        }
    }
}

fn sequence(
    reader: &Reader<'_>,
    spot: Spot,
    field: &Field<'_, '_>,
    places: &mut Places,
) -> Option<Vec<Port>> {
    let items = reader.list(
        field,
        "write a list of ports such as [\"7143\", \"2912/udp\"]",
    )?;
    if items.is_empty() {
        let what = "the list is empty";
        let right = "write what posternctl keygen --sequence prints";
        reader.refuse(field, Wrong::new(what, right));
        return None;
    }
    if !bounds::STEPS.contains(&items.len()) {
        reader.refuse(field, units::too_many_steps(items.len()));
        return None;
    }
    let steps: Vec<Option<Port>> = items.iter().map(|item| reader.port(item)).collect();
    for (at, item) in items.iter().enumerate() {
        places.set(spot.key("sequence").item(at), reader.place(&item.span));
    }
    let steps = steps.into_iter().collect::<Option<Vec<Port>>>()?;
    if is_a_sweep(&steps) {
        let what = "each step is the port next to the last: a port sweep opens the door";
        let right = "leave gaps for traps, as posternctl keygen --sequence does";
        reader.refuse(field, Wrong::new(what, right));
    } else if is_the_textbooks(&steps) {
        reader.refuse(field, Wrong::new(KNOWN, ANOTHER));
    }
    Some(steps)
}

fn tcpflags(reader: &Reader<'_>, field: &Field<'_, '_>) -> Option<TcpFlags> {
    const RIGHT: &str = "write fin, syn, rst, psh, ack or urg, or one of them after a !";
    let items = reader.list(field, "write a list of flags such as [\"syn\"]")?;
    let mut flags = TcpFlags { mask: 0, value: 0 };
    let mut whole = true;
    for item in &items {
        let text = reader.text(item, RIGHT);
        let Some((text, set)) = text.map(|text| match text.strip_prefix('!') {
            Some(name) => (name, false),
            None => (text, true),
        }) else {
            whole = false;
            continue;
        };
        let Some(bit) = TcpFlags::bit(text) else {
            let what = format!("{} is no TCP flag known here", quote(text));
            reader.refuse(item, Wrong::new(what, RIGHT));
            whole = false;
            continue;
        };
        if flags.mask & bit != 0 {
            let right = "write each flag once, with or without the !";
            reader.refuse(
                item,
                Wrong::new(
                    format!("{} stands here twice", text.to_ascii_lowercase()),
                    right,
                ),
            );
        }
        flags.mask |= bit;
        flags.value |= if set { bit } else { 0 };
    }
    whole.then_some(flags)
}

fn target(reader: &Reader<'_>, field: &Field<'_, '_>) -> Option<IpAddr> {
    const RIGHT: &str = "write an address such as \"192.0.2.1\" or \"2001:db8::1\"";
    let text = reader.text(field, RIGHT)?;
    let read = match text.parse::<IpAddr>() {
        Err(_) => Err(Wrong::new(format!("{} is no address", quote(text)), RIGHT)),
        Ok(address) if address.is_unspecified() => Err(Wrong::new(
            format!("no packet is sent to {address}"),
            "leave the key out for every address of ours",
        )),
        Ok(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => Err(Wrong::new(
            format!("no packet is sent to the mapped address {address}"),
            "write the IPv4 address itself",
        )),
        Ok(address) => Ok(address),
    };
    reader.kept(field, read)
}
