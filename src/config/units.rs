//! Durations (`"1h30m"`), ports (`"22/tcp"`) and sequences of them, read and shown.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::mistake::{Wrong, quote};
use super::{Port, Protocol, bounds, services};

/// Units of a duration in milliseconds, longest first.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Reads a duration: whole numbers with the units `d`, `h`, `m`, `s`, `ms`, longest first, each
/// at most once, such as `30s`, `1h30m`, `500ms`.
pub fn duration(text: &str) -> Result<Duration, Wrong> {
    let wrong = |why: &str| {
        Wrong::new(
            format!("{} {why}", quote(text)),
            "write whole numbers with the units d, h, m, s, ms, such as \"30s\" or \"1h30m\"",
        )
    };
    if text.is_empty() {
        return Err(wrong("is no duration"));
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Wrong::new(
            format!("{} has no unit", quote(text)),
            format!("write {}", quote(&format!("{text}s"))),
        ));
    }
    let mut total: u64 = 0;
    let mut units = UNITS.iter();
    let mut rest = text;
    while !rest.is_empty() {
        let (number, after) = split_where(rest, |c| !c.is_ascii_digit());
        let (unit, after) = split_where(after, |c| !c.is_ascii_alphabetic());
        rest = after;
        if number.is_empty() || unit.is_empty() {
            return Err(wrong("is no duration"));
        }
        let Some(&(_, millis)) = units.find(|(known, _)| *known == unit) else {
            return Err(if UNITS.iter().any(|(known, _)| *known == unit) {
                wrong(&format!("has the unit {unit} twice or out of order"))
            } else {
                wrong(&format!("has the unknown unit {}", quote(unit)))
            });
        };
        total = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(millis))
            .and_then(|part| total.checked_add(part))
            .ok_or_else(|| wrong("is too long"))?;
    }
    Ok(Duration::from_millis(total))
}

fn split_where(text: &str, end: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(end).unwrap_or(text.len()))
}

/// Reads a duration that must lie within `bounds`.
pub fn duration_within(text: &str, bounds: &RangeInclusive<Duration>) -> Result<Duration, Wrong> {
    let read = duration(text)?;
    if bounds.contains(&read) {
        return Ok(read);
    }
    let side = if read < *bounds.start() {
        "short"
    } else {
        "long"
    };
    Err(Wrong::new(
        format!("{} is too {side}", quote(text)),
        format!(
            "write {:?} to {:?}",
            show_duration(*bounds.start()),
            show_duration(*bounds.end())
        ),
    ))
}

/// Shows a duration as [`duration`] reads it, to the millisecond below: `1h30m`, `0s`.
pub fn show_duration(duration: Duration) -> String {
    let mut millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut shown = String::new();
    for (unit, size) in UNITS {
        if millis >= size {
            shown.push_str(&format!("{}{unit}", millis / size));
            millis %= size;
        }
    }
    if shown.is_empty() {
        shown.push_str("0s");
    }
    shown
}

/// Shows a number so that large ones can be read: `1,234,567`.
pub fn show_number(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// Reads a port: `22`, `22/tcp`, `53/udp`, or as knockd writes it `53:udp`; TCP where nothing
/// else is said.
pub fn port(text: &str) -> Result<Port, Wrong> {
    let (number, protocol) = match text.split_once(['/', ':']) {
        None => (text, None),
        Some((number, protocol)) => (number, Some(protocol)),
    };
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        let right = match services::port_of(&number.to_ascii_lowercase()) {
            Some(port) => format!("names of services are not known here, write \"{port}\""),
            None => "write a number from 1 to 65535, such as \"22\" or \"53/udp\"".to_owned(),
        };
        return Err(Wrong::new(format!("{} is no port", quote(text)), right));
    }
    let number = match number.parse::<u16>() {
        Ok(number) if number > 0 => number,
        _ => return Err(no_port(&quote(text))),
    };
    let protocol = match protocol {
        None => Protocol::Tcp,
        Some(known) if known.eq_ignore_ascii_case("tcp") => Protocol::Tcp,
        Some(known) if known.eq_ignore_ascii_case("udp") => Protocol::Udp,
        Some(unknown) => {
            return Err(Wrong::new(
                format!("{}: {} is no protocol", quote(text), quote(unknown)),
                format!("write \"{number}/tcp\" or \"{number}/udp\""),
            ));
        }
    };
    Ok(Port { protocol, number })
}

/// A port given as a bare number: of TCP.
pub(crate) fn port_number(number: i128) -> Option<Port> {
    let number = u16::try_from(number).ok().filter(|&number| number > 0)?;
    let protocol = Protocol::Tcp;
    Some(Port { protocol, number })
}

pub(crate) fn no_port(shown: &str) -> Wrong {
    let what = format!("{shown} is out of range");
    Wrong::new(what, "write a port from 1 to 65535")
}

/// Reads a sequence as knockd writes it: `7143,2912:udp,39001`, 1 to 32 steps, each as
/// [`port`] reads it, blanks around them allowed.
pub fn sequence(text: &str) -> Result<Vec<Port>, Wrong> {
    let steps: Vec<Port> = text
        .split(',')
        .map(|item| port(item.trim()))
        .collect::<Result<_, _>>()?;
    if bounds::STEPS.contains(&steps.len()) {
        Ok(steps)
    } else {
        Err(too_many_steps(steps.len()))
    }
}

pub(crate) fn too_many_steps(given: usize) -> Wrong {
    Wrong::new(
        format!("{given} steps are too many"),
        format!("write {} at most", bounds::STEPS.end()),
    )
}

/// The shortest that [`port`] reads: `22`, `53/udp`.
pub fn short_port(port: Port) -> String {
    match port.protocol {
        Protocol::Tcp => port.number.to_string(),
        Protocol::Udp => port.to_string(),
    }
}

impl FromStr for Port {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Port, Wrong> {
        port(text)
    }
}

/// `22/tcp`
impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol)
    }
}

/// `tcp`
impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers() {
        for (number, shown) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (12_345, "12,345"),
            (1_234_567, "1,234,567"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ] {
            assert_eq!(show_number(number), shown);
        }
    }

    #[test]
    fn durations() {
        let ms = |text| duration(text).map(|d| d.as_millis());
        assert_eq!(ms("30s"), Ok(30_000));
        assert_eq!(ms("5m"), Ok(300_000));
        assert_eq!(ms("1h30m"), Ok(5_400_000));
        assert_eq!(ms("500ms"), Ok(500));
        assert_eq!(ms("1d2h3m4s5ms"), Ok(93_784_005));
        assert_eq!(ms("90m"), Ok(5_400_000));
        assert_eq!(ms("0s"), Ok(0));
        for bad in [
            "",
            "s",
            "30",
            "1.5h",
            "-1s",
            "1h 30m",
            " 1h",
            "30m1h",
            "1s1s",
            "1ms1s",
            "5min",
            "5S",
            "1h30",
            "30 s",
            "\u{661}s",
            "99999999999999999999s",
            "213503982335d",
        ] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
        assert_eq!(duration("30").unwrap_err().right, "write \"30s\"");
    }

    #[test]
    fn ports() {
        let shown = |text| port(text).map(|port| port.to_string()).ok();
        assert_eq!(shown("22").as_deref(), Some("22/tcp"));
        assert_eq!(shown("22/tcp").as_deref(), Some("22/tcp"));
        assert_eq!(shown("53/UDP").as_deref(), Some("53/udp"));
        assert_eq!(shown("53:udp").as_deref(), Some("53/udp"));
        for bad in [
            "",
            "/",
            "/tcp",
            "0",
            "65536",
            "-1",
            "+1",
            "ssh",
            "22/",
            "22/icmp",
            "22/tcp/udp",
            " 22",
            "22 ",
            "7000-7010",
            "99999999999999999999",
            "\u{662}",
        ] {
            assert!(port(bad).is_err(), "{bad:?}");
        }
        assert!(port("ssh").unwrap_err().right.ends_with("write \"22\""));
    }

    #[test]
    fn sequences() {
        let shown = |text| {
            sequence(text).map(|steps| steps.into_iter().map(short_port).collect::<Vec<_>>())
        };
        assert_eq!(
            shown(" 1, 2:udp,3/udp "),
            Ok(vec!["1".into(), "2/udp".into(), "3/udp".into()])
        );
        assert!(shown("").is_err());
        assert!(shown("1,,2").is_err());
        assert!(shown("1,2 # two").is_err());
        assert!(sequence(&["1"; 32].join(",")).is_ok());
        assert!(sequence(&["1"; 33].join(",")).is_err());
    }

    proptest! {
        #[test]
        fn a_duration_shown_reads_the_same(millis in 0..u64::MAX / 2) {
            let whole = Duration::from_millis(millis);
            prop_assert_eq!(duration(&show_duration(whole)), Ok(whole));
        }

        #[test]
        fn a_port_shown_reads_the_same(number in 1..=u16::MAX, udp: bool) {
            let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
            let whole = Port { protocol, number };
            prop_assert_eq!(port(&whole.to_string()), Ok(whole));
            prop_assert_eq!(port(&short_port(whole)), Ok(whole));
        }

        #[test]
        fn no_text_is_too_strange(text: String) {
            let _ = duration(&text);
            let _ = port(&text);
            let _ = sequence(&text);
        }

        #[test]
        fn nearly_durations_are_no_panic(text in "[0-9]{0,25}(d|h|m|s|ms|x|é)?[0-9]{0,3}[dhms]{0,3}") {
            let _ = duration(&text);
        }
    }
}
