//! pf: what pfctl(8) and sysctl(8) say.

use super::{
    Remark, SECURELEVEL, Sysctls, TCP_BLACKHOLE, UDP_BLACKHOLE, blackholes, interfaces, openers,
    tables,
};
use crate::config::{Config, Pass, Port, Protocol};

/// What is asked of sysctl(8).
pub const SYSCTLS: [&str; 3] = [SECURELEVEL, TCP_BLACKHOLE, UDP_BLACKHOLE];

/// What pfctl printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// `-s info`
    pub info: String,
    /// `-s rules`
    pub rules: String,
    /// `-s nat`
    pub nat: String,
    /// `-s Tables`
    pub tables: String,
    /// `-v -s Interfaces`
    pub interfaces: String,
}

/// What pf as it runs does to our doors.
pub fn remarks(config: &Config, seen: &Seen, sysctls: &Sysctls) -> Vec<Remark> {
    let mut remarks = Vec::new();
    if seen.info.trim_start().starts_with("Status: Disabled") {
        remarks.push(Remark::top(
            "pf is disabled: nothing is filtered",
            "write pf_enable=\"YES\" in /etc/rc.conf, then service pf start",
        ));
    }
    let anchored = openers(config).any(|(_, _, opens)| !matches!(opens.pass, Pass::Table(_)));
    if anchored {
        anchor(config, seen, sysctls, &mut remarks);
    }
    for (spot, name) in tables(config) {
        if !seen.tables.lines().any(|line| line.trim() == name) {
            remarks.push(Remark::new(
                spot,
                format!("there is no table <{name}>"),
                format!("write table <{name}> persist in /etc/pf.conf"),
            ));
        } else if !seen.rules.contains(&format!("<{name}>")) {
            remarks.push(Remark::new(
                spot,
                format!("no rule names <{name}>, so an entry in it opens nothing"),
                format!("write pass in quick proto tcp from <{name}> to port 22 in /etc/pf.conf"),
            ));
        }
    }
    for name in config
        .interfaces
        .iter()
        .filter(|name| skipped(&seen.interfaces, name))
    {
        remarks.push(Remark::top(
            format!("pf skips {name}: nothing is filtered there"),
            format!("take {name} out of set skip in /etc/pf.conf"),
        ));
    }
    remarks.extend(blackholes(config, sysctls));
    remarks.dedup();
    remarks
}

/// What concerns doors whose rules stand in our anchor.
fn anchor(config: &Config, seen: &Seen, sysctls: &Sysctls, remarks: &mut Vec<Remark>) {
    if sysctls.get(SECURELEVEL).is_some_and(|&level| level >= 3) {
        remarks.push(Remark::top(
            format!("{SECURELEVEL} is 3: pf takes no rules any more, but entries in tables"),
            "write table = \"NAME\" in place of guard, and rules of your own in /etc/pf.conf",
        ));
    }
    let rules: Vec<&str> = seen.rules.lines().map(str::trim).collect();
    let place = rules.iter().position(|rule| anchored(rule));
    match place.map(|at| rules[at]) {
        None if rules
            .iter()
            .any(|rule| rule.starts_with("anchor \"postern/")) =>
        {
            remarks.push(Remark::top(
                "anchor \"postern/*\" reaches what lies within postern, not postern itself",
                "write anchor \"postern\" in /etc/pf.conf",
            ));
        }
        None => remarks.push(Remark::top(
            "the rules never come to our anchor: no guard stands, no door opens",
            "write anchor \"postern\" in /etc/pf.conf, before the rules that block and pass, then \
             service pf reload",
        )),
        Some(rule) if rule.trim_end_matches(" {") != "anchor \"postern\" all" => {
            remarks.push(Remark::top(
                format!("{rule:?} leads only some packets to our rules"),
                "write anchor \"postern\" and nothing behind it in /etc/pf.conf",
            ));
        }
        Some(_) => {}
    }
    let before = &rules[..place.unwrap_or(rules.len())];
    for (spot, door, opens) in openers(config) {
        if matches!(opens.pass, Pass::Table(_)) {
            continue;
        }
        let interfaces = interfaces(config, door);
        for &port in &opens.ports {
            let quick = before
                .iter()
                .filter(|rule| rule.split(' ').any(|word| word == "quick"));
            for rule in quick.filter(|rule| may_match(rule, port, interfaces)) {
                if !rule.contains(" from any ")
                    && !rule.ends_with(" all")
                    && !rule.contains(" all ")
                {
                    continue;
                }
                let what = match rule.starts_with("block") {
                    true => {
                        format!("{rule:?} keeps everybody out at {port}, those who knocked too")
                    }
                    false => format!("{rule:?} lets everybody in at {port} before the guard"),
                };
                let better = "write anchor \"postern\" before it in /etc/pf.conf";
                remarks.push(Remark::new(spot.key("opens"), what, better));
            }
            let redirected = seen.nat.lines().map(str::trim);
            for rule in redirected.filter(|rule| rule.starts_with("rdr")) {
                if may_match(rule, port, interfaces) {
                    remarks.push(Remark::new(
                        spot.key("opens"),
                        format!("{rule:?} sends {port} elsewhere before any rule sees it"),
                        "leave the port out of it, or write where it goes as to",
                    ));
                }
            }
        }
    }
}

fn anchored(rule: &str) -> bool {
    rule.strip_prefix("anchor \"postern\"")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

/// Whether an interface stands in `set skip` (`pfctl -v -s Interfaces`).
fn skipped(listing: &str, name: &str) -> bool {
    listing
        .lines()
        .any(|line| line.trim() == format!("{name} (skip)"))
}

/// Whether a rule as `pfctl -s rules` prints it may match a packet that comes in for this port
/// by one of these interfaces (none: any).
fn may_match(rule: &str, port: Port, interfaces: &[String]) -> bool {
    let words: Vec<&str> = rule.split_ascii_whitespace().collect();
    let behind = |word: &str| {
        let at = words.iter().position(|w| *w == word)?;
        words.get(at + 1).copied()
    };
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    let incoming = !words.contains(&"out");
    let about = behind("proto").is_none_or(|name| name == protocol);
    let on = words.iter().position(|w| *w == "on");
    let here = match on.and_then(|at| Some((words.get(at + 1)?, words.get(at + 2)))) {
        None => true,
        Some((&"!", name)) => name.is_none_or(|name| interfaces != [(*name).to_owned()]),
        Some((name, _)) => interfaces.is_empty() || interfaces.iter().any(|i| i == name),
    };
    // The destination's port: the last one named.
    let to = words.iter().rposition(|w| *w == "to").unwrap_or(0);
    let ports = words[to..]
        .iter()
        .position(|w| *w == "port")
        .map(|at| &words[to + at + 1..]);
    let at = match ports {
        None => true,
        Some(["=", number, ..]) => named(number, port),
        Some([first, "><", last, ..]) => between(first, last, port.number, false),
        Some([first, ":", last, ..]) => between(first, last, port.number, true),
        Some([range, ..]) if range.contains(':') => range
            .split_once(':')
            .is_some_and(|(first, last)| between(first, last, port.number, true)),
        Some(_) => true,
    };
    incoming && about && here && at
}

fn between(first: &str, last: &str, number: u16, ends: bool) -> bool {
    let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else {
        return true;
    };
    match ends {
        true => first <= number && number <= last,
        false => first < number && number < last,
    }
}

/// A port by its number or by its name in services(5).
fn named(text: &str, port: Port) -> bool {
    match text.parse::<u16>() {
        Ok(number) => number == port.number,
        Err(_) => format!("{text}/{}", port.protocol)
            .parse::<Port>()
            .map_or(true, |known| known == port),
    }
}
