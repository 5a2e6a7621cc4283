//! Values as knockd reads them: numbers by atoi(3), which takes what digits it finds and passes
//! over the rest.

use super::super::mistake::{Wrong, quote};
use super::super::{Port, Protocol, TcpFlags, bounds, services, units};
use super::lines::blank;

/// A value, and what knockd passes over in silence: what is unwise and what would be better.
pub(super) type Read<T> = Result<(T, Vec<Wrong>), Wrong>;

/// The number that a text begins with, after blanks and a sign, and what follows it; `None`:
/// atoi(3) finds no digit and gives 0.
fn number(text: &str) -> (Option<i64>, &str) {
    let text = text.trim_start_matches(blank);
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let end = digits.find(|c: char| !c.is_ascii_digit());
    let (digits, rest) = digits.split_at(end.unwrap_or(digits.len()));
    if digits.is_empty() {
        return (None, text);
    }
    // More digits than fit are more than any bound.
    let number = digits.parse::<i64>().unwrap_or(i64::MAX);
    (Some(if negative { -number } else { number }), rest)
}

/// Whole seconds.
pub(super) fn seconds(text: &str) -> Read<i64> {
    const RIGHT: &str = "write whole seconds, such as 10";
    match number(text) {
        (None, _) => Err(Wrong::new(
            format!("{} is no number: knockd reads it as 0", quote(text)),
            RIGHT,
        )),
        (Some(number), rest) => Ok((number, passed_over(rest, &number.to_string(), text))),
    }
}

/// What follows a number and is not read.
fn passed_over(rest: &str, read: &str, whole: &str) -> Vec<Wrong> {
    let rest = rest.trim_matches(blank);
    if rest.is_empty() {
        return Vec::new();
    }
    let better = match rest.starts_with('#') {
        true => "put the comment on a line of its own".to_owned(),
        false => format!("write {read} if that is meant"),
    };
    vec![Wrong::new(
        format!("{} is read as {read}", quote(whole.trim_matches(blank))),
        better,
    )]
}

/// `7000,8000:udp,9000`
pub(super) fn sequence(text: &str) -> Read<Vec<Port>> {
    let items: Vec<&str> = text.split(',').collect();
    if !bounds::STEPS.contains(&items.len()) {
        return Err(units::too_many_steps(items.len()));
    }
    let mut unwise = Vec::new();
    let mut steps = Vec::new();
    for item in items {
        let (step, more) = port(item)?;
        steps.push(step);
        unwise.extend(more);
    }
    Ok((steps, unwise))
}

fn port(item: &str) -> Read<Port> {
    let shown = quote(item.trim_matches(blank));
    let (port, protocol) = match item.split_once(':') {
        None => (item, None),
        Some((port, protocol)) => (port, Some(protocol)),
    };
    let (number, rest) = match number(port) {
        (None, rest) => {
            let name = rest.trim_end_matches(blank).to_ascii_lowercase();
            return Err(match services::port_of(&name) {
                _ if rest.is_empty() => Wrong::new(
                    "between two commas, or at an end, there is no port: knockd reads it as 0, \
                     which nobody can knock at",
                    "write a port there, or leave the comma out",
                ),
                Some(port) => Wrong::new(
                    format!("{shown} is no port: knockd reads it as 0"),
                    format!("names of services are not known here, write {port}"),
                ),
                None => Wrong::new(
                    format!("{shown} is no port: knockd reads it as 0"),
                    "write a number from 1 to 65535",
                ),
            });
        }
        (Some(number), rest) => (number, rest),
    };
    let Some(number) = u16::try_from(number).ok().filter(|&number| number > 0) else {
        let what = match number {
            0 => format!("{shown} is a port that nobody can knock at"),
            1.. => format!("{shown} is out of range"),
            _ => {
                let read = number.rem_euclid(65536);
                format!("{shown} is no port: knockd reads it as {read}")
            }
        };
        return Err(Wrong::new(what, "write a port from 1 to 65535"));
    };
    let (word, more) = match protocol {
        None => ("tcp", None),
        Some(rest) => match rest.split_once(':') {
            None => (rest, None),
            Some((word, more)) => (word, Some(more)),
        },
    };
    let word = word.trim_matches(blank);
    let protocol = match word.to_ascii_lowercase().as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => {
            return Err(Wrong::new(
                format!("{shown}: {} is no protocol", quote(word)),
                format!("write {number}:tcp or {number}:udp"),
            ));
        }
    };
    let read = Port { protocol, number };
    let mut unwise = Vec::new();
    let slash = rest.trim_matches(blank).strip_prefix('/');
    let meant = slash.filter(|word| ["tcp", "udp"].contains(&&*word.to_ascii_lowercase()));
    if let Some(meant) = meant {
        unwise.push(Wrong::new(
            format!("{shown} is read as {number}:{protocol}"),
            format!("write {number}:{}", meant.to_ascii_lowercase()),
        ));
    } else {
        unwise = passed_over(rest, &number.to_string(), item);
    }
    if more.is_some() {
        unwise.push(Wrong::new(
            format!("{shown} is read as {number}:{protocol}"),
            "leave out what follows the second colon",
        ));
    }
    Ok((read, unwise))
}

/// `syn,!ack`, on top of what was said before: of a flag said twice the last counts.
pub(super) fn tcpflags(text: &str, flags: &mut TcpFlags) -> Result<(), Wrong> {
    const RIGHT: &str = "write fin, syn, rst, psh, ack or urg, or one of them after a !";
    for item in text.split(',') {
        let (name, set) = match item.strip_prefix('!') {
            Some(name) => (name, false),
            None => (item, true),
        };
        let Some(bit) = TcpFlags::bit(name) else {
            let blanks = TcpFlags::bit(name.trim_matches(blank)).is_some();
            return Err(match blanks {
                true => Wrong::new(
                    format!("{} has blanks around it, which knockd refuses", quote(item)),
                    "write commas without blanks: syn,!ack",
                ),
                false if item.is_empty() => Wrong::new("a flag is missing", RIGHT),
                false => Wrong::new(format!("{} is no TCP flag known here", quote(item)), RIGHT),
            });
        };
        flags.mask |= bit;
        flags.value = flags.value & !bit | if set { bit } else { 0 };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_atoi_reads_them() {
        let read = |text| number(text).0;
        assert_eq!(read("7000"), Some(7000));
        assert_eq!(number(" \t+12 x"), (Some(12), " x"));
        assert_eq!(read("-1"), Some(-1));
        assert_eq!(read("0x10"), Some(0));
        for none in ["", "abc", "-", "- 1", "+-1", "é", "\u{661}"] {
            assert_eq!(read(none), None, "{none:?}");
        }
        assert_eq!(read("99999999999999999999"), Some(i64::MAX));
        assert_eq!(read("-99999999999999999999"), Some(-i64::MAX));
    }

    #[test]
    fn flags_accumulate() {
        let mut flags = TcpFlags { mask: 0, value: 0 };
        tcpflags("syn,!ACK", &mut flags).unwrap();
        tcpflags("!SYN,urg", &mut flags).unwrap();
        let wanted = TcpFlags {
            mask: 0x32,
            value: 0x20,
        };
        assert_eq!(flags, wanted);
    }
}
