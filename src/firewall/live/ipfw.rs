//! ipfw: what `ipfw -S list` and sysctl(8) say.

use std::ops::RangeInclusive;

use super::{Remark, SECURELEVEL, Sysctls, TCP_BLACKHOLE, UDP_BLACKHOLE, blackholes, openers};
use crate::config::mistake::Spot;
use crate::config::{Config, Door, Opens, Pass, Port, Protocol, To};

/// Whether ipfw filters IPv4; there is none where it is not loaded.
pub const ENABLE: &str = "net.inet.ip.fw.enable";
const ENABLE_6: &str = "net.inet6.ip6.fw.enable";
const ONE_PASS: &str = "net.inet.ip.fw.one_pass";

/// What is asked of sysctl(8).
pub const SYSCTLS: [&str; 6] = [
    ENABLE,
    ENABLE_6,
    ONE_PASS,
    SECURELEVEL,
    TCP_BLACKHOLE,
    UDP_BLACKHOLE,
];

/// The set of our rules.
const OURS: u8 = 31;

/// What the kernel's settings do to us.
pub fn system(config: &Config, sysctls: &Sysctls) -> Vec<Remark> {
    let is = |name: &str, value: i64| sysctls.get(name) == Some(&value);
    let mut remarks = Vec::new();
    if !sysctls.contains_key(ENABLE) {
        remarks.push(Remark::top(
            "ipfw is not loaded: nothing is filtered, no door opens",
            "write firewall_enable=\"YES\" and a firewall_type in /etc/rc.conf, then service ipfw \
             start; loaded bare, by kldload, it denies everything, your session too",
        ));
    }
    if is(ENABLE, 0) {
        remarks.push(Remark::top(
            format!("ipfw is not enabled ({ENABLE} is 0): nothing is filtered"),
            "write firewall_enable=\"YES\" in /etc/rc.conf, then service ipfw start",
        ));
    }
    if is(ENABLE_6, 0) && !is(ENABLE, 0) {
        remarks.push(Remark::top(
            format!("IPv6 is not filtered ({ENABLE_6} is 0): guards do not stand there"),
            format!("sysctl {ENABLE_6}=1"),
        ));
    }
    if sysctls.get(SECURELEVEL).is_some_and(|&level| level >= 3) {
        remarks.push(Remark::top(
            format!("{SECURELEVEL} is 3: ipfw takes no rule and no table entry any more"),
            "lower kern_securelevel in /etc/rc.conf to 2, or use pf with a table of its own",
        ));
    }
    remarks.extend(blackholes(config, sysctls));
    remarks
}

/// A table of the administrator's that is not there.
pub fn no_table(spot: Spot, name: &str) -> Remark {
    Remark::new(
        spot,
        format!("there is no table {name}"),
        format!("ipfw table {name} create type addr, where your rules are made"),
    )
}

/// What the rules that stand do to our doors. `listing`: as `ipfw -S list` prints it.
pub fn rules(config: &Config, listing: &str, sysctls: &Sysctls) -> Vec<Remark> {
    let rules: Vec<Rule> = listing.lines().filter_map(Rule::parse).collect();
    let mut remarks = Vec::new();
    for (spot, door, opens) in openers(config) {
        if let Pass::Table(name) = &opens.pass {
            let named = format!("table({name}");
            if !rules.iter().any(|rule| rule.text.contains(&named)) {
                remarks.push(Remark::new(
                    spot.key("table"),
                    format!("no rule names table({name}), so an entry in it opens nothing"),
                    format!("ipfw add 101 allow tcp from 'table({name})' to me 22 in"),
                ));
            }
            continue;
        }
        for &port in &opens.ports {
            let about = About {
                config,
                door,
                opens,
                port,
                one_pass: sysctls.get(ONE_PASS) != Some(&0),
            };
            about.all(spot, &rules, &mut remarks);
        }
    }
    remarks.dedup();
    remarks
}

/// One port of one door.
struct About<'c> {
    config: &'c Config,
    door: &'c Door,
    opens: &'c Opens,
    port: Port,
    one_pass: bool,
}

impl About<'_> {
    /// The numbers of our pass rules.
    fn pass(&self) -> Option<RangeInclusive<u16>> {
        match &self.opens.pass {
            Pass::Ours { rule } => rule.map(|rule| rule..=rule),
            Pass::Rules(range) => Some(range.clone()),
            Pass::Table(_) => None,
        }
    }

    /// The number of the guard at this port, be it another door's.
    fn guard(&self) -> Option<u16> {
        openers(self.config).find_map(|(_, _, opens)| {
            let guard = opens.guard.as_ref()?;
            guard.ports.contains(&self.port).then_some(guard.number?)
        })
    }

    fn all(&self, spot: Spot, rules: &[Rule], remarks: &mut Vec<Remark>) {
        let Some(pass) = self.pass() else {
            return;
        };
        let key = match self.opens.pass {
            Pass::Rules(_) => "rules",
            _ => "rule",
        };
        let guard = self.guard();
        let port = self.port;
        let interfaces = super::interfaces(self.config, self.door);
        let others = rules
            .iter()
            .filter(|rule| !rule.ours() && !rule.disabled)
            .filter(|rule| rule.may_match(port, interfaces, self.opens.to));
        let mut closed = guard.is_some();
        for rule in others {
            let before = rule.number < *pass.start();
            let before_guard = guard.is_some_and(|guard| rule.number < guard);
            let shown = rule.shown();
            match rule.does {
                Does::Pass if rule.established && before_guard => remarks.push(Remark::new(
                    spot.key("guard"),
                    format!(
                        "{shown} passes segments of {port} that no session sent, so that a scan \
                         with ACK or FIN sees the port in spite of the guard"
                    ),
                    format!("give the guard a number below {}", rule.number),
                )),
                Does::Pass if rule.from_all && !rule.established && before_guard => {
                    remarks.push(Remark::new(
                        spot.key("guard"),
                        format!("{shown} lets everybody in at {port} before the guard"),
                        format!(
                            "ipfw delete {0}, or give the guard a number below {0}",
                            rule.number
                        ),
                    ));
                }
                Does::Pass if rule.from_all && !closed => {
                    remarks.push(Remark::new(
                        spot.key("opens"),
                        format!("{shown} lets everybody in at {port}, and no guard stands"),
                        "write guard with a number between the pass rule and that",
                    ));
                    closed = true;
                }
                Does::Deny if rule.from_all && before => {
                    remarks.push(Remark::new(
                        spot.key(key),
                        format!("{shown} keeps everybody out at {port}, those who knocked too"),
                        format!("give the door numbers below {}", rule.number),
                    ));
                    closed = true;
                }
                Does::Deny if rule.from_all => closed = true,
                Does::Deny if !before && rule.bans() => remarks.push(Remark::new(
                    spot.key(key),
                    format!(
                        "{shown} bans addresses, but our pass comes first: who is banned and \
                         knocks gets in"
                    ),
                    format!("give the door numbers above {}", rule.number),
                )),
                Does::Skip(to) => {
                    let over = |ours: u16| to.is_none_or(|to| to > ours);
                    let past_guard = guard.is_some_and(over) && before_guard;
                    if past_guard || before && over(*pass.start()) {
                        remarks.push(Remark::new(
                            spot.key(key),
                            format!("{shown} leads around our rules"),
                            format!("give the door numbers below {}", rule.number),
                        ));
                    }
                }
                Does::Divert { kept: true } if self.one_pass && (before_guard || before) => {
                    remarks.push(Remark::new(
                        spot.key(key),
                        format!(
                            "what {shown} takes is let in at once and never comes to our rules \
                             ({ONE_PASS} is 1)"
                        ),
                        format!("write {ONE_PASS}=0 in /etc/sysctl.conf"),
                    ));
                }
                Does::Divert { .. } if rule.translates && !before_guard && !before => remarks.push(Remark::new(
                    spot.key(key),
                    format!(
                        "{shown} comes after our rules: what it would have sent on to a machine \
                         behind is denied by the guard first"
                    ),
                    format!("give the door numbers above {}", rule.number),
                )),
                _ => {}
            }
        }
    }
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Pass,
    Deny,
    /// `None`: by tablearg.
    Skip(Option<u16>),
    /// Takes packets out of the list of rules; `kept`: with one_pass they do not come back.
    Divert {
        kept: bool,
    },
    Other,
}

/// A rule as listed, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    number: u16,
    set: u8,
    disabled: bool,
    does: Does,
    /// nat and divert.
    translates: bool,
    protocol: String,
    /// Whether the source is everybody.
    from_all: bool,
    from: String,
    to: String,
    /// Destination ports; empty: all.
    ports: Vec<RangeInclusive<u16>>,
    established: bool,
    out: bool,
    /// `recv` and `via`.
    by: Vec<String>,
    by_not: bool,
    comment: String,
    /// From the action on.
    text: String,
}

impl Rule {
    /// A line of `ipfw -S list`; `None`: it is none of a rule.
    fn parse(line: &str) -> Option<Rule> {
        let (line, disabled) = match line.trim_start().strip_prefix("# DISABLED ") {
            Some(rest) => (rest, true),
            None => (line.trim_start(), false),
        };
        let (number, rest) = line.split_once(' ')?;
        let number = number.parse().ok()?;
        let rest = rest.trim_start();
        let (set, text) = match rest.strip_prefix("set ") {
            Some(rest) => {
                let (set, text) = rest.trim_start().split_once(' ')?;
                (set.parse().ok()?, text.trim_start())
            }
            None => (0, rest),
        };
        let (body, comment) = text.split_once("//").unwrap_or((text, ""));
        let mut words = Words(body.split_ascii_whitespace().collect(), 0);
        let mut rule = Rule {
            number,
            set,
            disabled,
            does: Does::Other,
            translates: false,
            protocol: "ip".to_owned(),
            from_all: true,
            from: "any".to_owned(),
            to: "any".to_owned(),
            ports: Vec::new(),
            established: false,
            out: false,
            by: Vec::new(),
            by_not: false,
            comment: comment.trim().to_owned(),
            text: text.to_owned(),
        };
        if words.eat("prob") {
            words.next();
        }
        let action = words.next()?;
        rule.does = match action {
            "allow" | "pass" | "accept" | "permit" => Does::Pass,
            "deny" | "drop" | "reject" | "reset" | "reset6" => Does::Deny,
            "unreach" | "unreach6" => {
                words.next();
                Does::Deny
            }
            "skipto" => Does::Skip(words.next()?.parse().ok()),
            "nat" | "pipe" | "queue" | "netgraph" | "divert" => {
                words.next();
                rule.translates = matches!(action, "nat" | "divert");
                Does::Divert {
                    kept: action != "divert",
                }
            }
            _ => Does::Other,
        };
        while matches!(
            words.peek(),
            Some("log" | "logamount" | "altq" | "tag" | "untag")
        ) {
            if words.next() != Some("log") {
                words.next();
            }
        }
        rule.body(&mut words);
        Some(rule)
    }

    fn body(&mut self, words: &mut Words) {
        match words.peek() {
            Some("from" | "proto" | "src-ip" | "dst-ip" | "dst-port" | "src-port") | None => {}
            Some(protocol) => {
                self.protocol = protocol.to_owned();
                words.next();
            }
        }
        while let Some(word) = words.next() {
            let negated = word == "not";
            let word = if negated {
                words.next().unwrap_or_default()
            } else {
                word
            };
            match word {
                "from" => {
                    self.from = words.address();
                    self.from_all &= self.from == "any";
                    words.ports();
                }
                "to" => {
                    self.to = words.address();
                    self.ports = words.ports();
                }
                "src-ip" | "src-ip6" => {
                    self.from = words.address();
                    self.from_all = false;
                }
                "dst-ip" | "dst-ip6" => self.to = words.address(),
                "dst-port" => self.ports = words.ports(),
                "src-port" | "flow" | "uid" | "gid" | "jail" | "MAC" | "tagged" => {
                    self.from_all = false;
                    words.next();
                }
                "proto" => self.protocol = words.next().unwrap_or_default().to_owned(),
                "out" => self.out = !negated,
                "in" => self.out = negated,
                "established" => self.established = true,
                "recv" | "via" => {
                    self.by.push(words.next().unwrap_or_default().to_owned());
                    self.by_not = negated;
                }
                "xmit" => self.out = true,
                _ => {}
            }
        }
    }

    fn ours(&self) -> bool {
        self.set == OURS && self.comment.starts_with("postern:")
    }

    /// Whether its source is a list that somebody keeps: rules against forged sources are none.
    fn bans(&self) -> bool {
        self.from.starts_with("table(") || !self.ports.is_empty()
    }

    /// Whether it may match a packet that comes in for this port by one of these interfaces
    /// (none: any).
    fn may_match(&self, port: Port, interfaces: &[String], to: To) -> bool {
        let protocol = match port.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        let about = |name: &str| matches!(name, "ip" | "all" | "ip4" | "ip6") || name == protocol;
        let at = self.ports.is_empty() || self.ports.iter().any(|r| r.contains(&port.number));
        let here = interfaces.is_empty()
            || self.by.is_empty()
            || self.by_not
                != self
                    .by
                    .iter()
                    .any(|by| interfaces.iter().any(|i| like(by, i)));
        // Off the loopback, which none of our rules is about.
        let lo = !self.by_not && !self.by.is_empty() && self.by.iter().all(|by| by == "lo0");
        let destined = match (self.to.as_str(), to) {
            ("any" | "me" | "me6" | "me4", _) | (_, To::Any | To::Network(_)) => true,
            (to, To::Me) => !loopback(to) && !multicast(to),
        };
        about(&self.protocol) && at && here && !lo && destined && !self.out
    }

    /// As it is shown to people.
    fn shown(&self) -> String {
        format!("rule {:05} {:?}", self.number, self.text)
    }
}

fn loopback(to: &str) -> bool {
    to.starts_with("127.") || to == "::1"
}

fn multicast(to: &str) -> bool {
    to.starts_with("ff") && to.contains(':')
}

/// Whether an interface's name fits a pattern: `em*`, `em0`.
fn like(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => pattern == name || pattern == "any",
    }
}

/// The words of a rule, and how many have been read.
struct Words<'l>(Vec<&'l str>, usize);

impl<'l> Words<'l> {
    fn peek(&self) -> Option<&'l str> {
        self.0.get(self.1).copied()
    }

    fn next(&mut self) -> Option<&'l str> {
        let word = self.peek()?;
        self.1 += 1;
        Some(word)
    }

    fn eat(&mut self, word: &str) -> bool {
        let here = self.peek() == Some(word);
        self.1 += usize::from(here);
        here
    }

    /// `any`, `me`, `192.0.2.0/24`, `{ a or b }`, `not a`.
    fn address(&mut self) -> String {
        let not = if self.eat("not") { "not " } else { "" };
        let mut text = self.next().unwrap_or_default().to_owned();
        if text.starts_with('{') {
            while !text.ends_with('}') {
                let Some(more) = self.next() else { break };
                text.push(' ');
                text.push_str(more);
            }
        }
        format!("{not}{text}")
    }

    /// `22`, `22,80-90`, `not 22` (any other, taken as all), `dst-port 22`; none: all.
    fn ports(&mut self) -> Vec<RangeInclusive<u16>> {
        if matches!(self.peek(), Some("dst-port" | "src-port")) {
            self.1 += 1;
        }
        let Some(word) = self
            .peek()
            .filter(|w| w.starts_with(|c: char| c.is_ascii_digit()))
        else {
            return Vec::new();
        };
        self.1 += 1;
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.parse().ok()?..=last.parse().ok()?)
        };
        word.split(',').filter_map(range).collect()
    }
}
