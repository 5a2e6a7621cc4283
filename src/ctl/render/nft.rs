//! Rules for nftables: a table of their own, or a chain in posternd's.
//!
//! An attempt at a sequence is an address in the set of the first step, which ends
//! `seq_timeout` after that step, and in those of the later steps that it took. Whoever begins is
//! taken out of the later ones; whoever fails, out of the first. The set of the last step that
//! an address is in tells where it stands.

use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::plan::{How, NETWORKS, Opening, Plan, Way, all};
use crate::config::{Pattern, Port, Protocol, TcpFlags};
use crate::firewall::numbers;

/// The table of rules that stand alone.
const TABLE: &str = "postern-kernel";
/// posternd's table. The chain and sets of ours in it are known there by this name, and by its
/// being followed by a dot: no door's name has one.
const DAEMONS: &str = "postern";
/// The chain of knocks.
const KERNEL: &str = "kernel";
/// How many addresses may be attempting one sequence.
const ATTEMPTS: usize = 65535;

/// Where the first bits of a source are somebody's, as
/// [`Network::of_knocker`](crate::config::Network::of_knocker) has it.
const SITES: &str = "ip6 saddr { 2000::/3, fc00::/7 } ip6 saddr != 2001::/32 ";

/// An address family.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Family {
    /// As rules name it.
    ip: &'static str,
    /// How names of sets end.
    end: &'static str,
    address: &'static str,
}

const FAMILIES: [Family; 2] = [
    Family {
        ip: "ip",
        end: "_4",
        address: "ipv4_addr",
    },
    Family {
        ip: "ip6",
        end: "_6",
        address: "ipv6_addr",
    },
];

/// What will be printed.
struct Table {
    fallback: bool,
    sets: Vec<String>,
    /// Names and lines.
    chains: Vec<(String, Vec<String>)>,
}

/// The whole file.
pub fn rules(plan: &Plan<'_>, fallback: bool) -> String {
    let mut table = Table {
        fallback,
        sets: Vec::new(),
        chains: Vec::new(),
    };
    let mut knocks = vec!["type filter hook input priority -20; policy accept;".to_owned()];
    for door in &plan.doors {
        table.door(door, &mut knocks);
    }
    table.chains.push((KERNEL.to_owned(), knocks));
    if !fallback {
        let guards = guards(plan);
        table.chains.push(("input".to_owned(), guards));
    }
    let mut text = head(plan, fallback);
    text.push('\n');
    table.print(&mut text);
    text
}

fn head(plan: &Plan<'_>, fallback: bool) -> String {
    let mut lines = vec![String::new()];
    let mut say = |text: &str| lines.extend(text.lines().map(str::to_owned));
    if fallback {
        say(
            "For when posternd is dead: a right knock puts its address into the sets that\n\
             posternd's rules let in, in posternd's table. No guard stands here. posternd leaves\n\
             all this alone while it runs, and shows nothing of it in posternctl list.\n\
             \n\
             To load it, again too, once posternd or posternctl guard has made its table:\n\
             \x20   nft -f FILE\n\
             To put it out of force:\n\
             \x20   nft flush chain inet postern kernel",
        );
    } else {
        say(
            "No posternd is needed, and none that opens the same doors may run beside these\n\
             rules: what it lets in they would shut out. For that, write render nft --fallback.\n\
             \n\
             To load it, again too:\n\
             \x20   nft -f FILE\n\
             To take it away:\n\
             \x20   nft delete table inet postern-kernel\n\
             \n\
             A connection to a guarded port that runs while this is loaded, and that connection\n\
             tracking does not know, goes on once this machine has sent something on it.",
        );
    }
    let ways = || plan.doors.iter().flat_map(|door| &door.ways);
    if ways().any(|way| matches!(way.how, How::Sequence { .. })) {
        say("\n\
             Not as with posternd: 65535 addresses at most attempt a sequence at one time, and\n\
             whoever forges that many keeps others from beginning; each sequence is attempted\n\
             by itself.");
    }
    if plan.by_networks() {
        say(NETWORKS);
    }
    if fallback && plan.doors.iter().any(|door| door.idle.is_some()) {
        say("\nTraffic prolongs nothing here: idle is posternd's.");
    }
    plan.head(&lines)
}

impl Table {
    /// The name of something of a door's.
    fn name(&self, door: &Opening<'_>, more: &str) -> String {
        let kernel = if self.fallback { "kernel." } else { "" };
        format!("{kernel}{}{more}", door.name)
    }

    fn set(&mut self, name: &str, family: Family, size: usize, flags: &str) {
        let address = family.address;
        self.sets.push(format!(
            "set {name} {{ type {address}; size {size}; flags {flags}; }}"
        ));
    }

    /// Everything of a door but its guard.
    fn door(&mut self, door: &Opening<'_>, knocks: &mut Vec<String>) {
        let mut open = vec!["log prefix \"KNOCK-OK: \" level notice".to_owned()];
        for family in FAMILIES {
            let end = match (self.fallback, family.ip) {
                (true, "ip6") if door.prefix6 < 128 => "_net6",
                _ => family.end,
            };
            // posternd's own sets, where they are.
            let set = format!("{}{end}", door.name);
            let (who, time) = (source(door, family), timeout(door.opens.open_for));
            let sites = match family.ip == "ip6" && door.prefix6 < 128 {
                true => SITES,
                false => "",
            };
            open.push(format!("{sites}update @{set} {{ {who} timeout {time} }}"));
            if !self.fallback {
                self.set(&set, family, door.most, "dynamic,timeout");
                if door.idle.is_some() {
                    let seen = format!("{}_seen{}", door.name, &family.end[1..]);
                    self.set(&seen, family, door.most, "dynamic,timeout");
                }
                if door.opens.connections.is_some() {
                    let count = format!("{}_now{}", door.name, &family.end[1..]);
                    self.set(&count, family, ATTEMPTS, "dynamic");
                }
            }
        }
        let to_open = self.name(door, ".open");
        self.chains.push((to_open.clone(), open));
        for way in &door.ways {
            match &way.how {
                How::Ping {
                    secret, offsets, ..
                } => self.ping(door, way, secret, offsets, &to_open, knocks),
                How::Sequence {
                    steps,
                    timeout,
                    flags,
                    traps,
                } => {
                    let sequence = (*steps, *timeout, *flags, traps.as_slice());
                    self.sequence(door, way, sequence, &to_open, knocks);
                }
            }
        }
    }

    fn ping(
        &mut self,
        door: &Opening<'_>,
        way: &Way<'_>,
        secret: &Pattern,
        offsets: &[u8],
        to_open: &str,
        knocks: &mut Vec<String>,
    ) {
        let chain = self.name(door, &format!(".{}", way.number));
        let secret = u128::from_be_bytes(secret.0);
        // The payload begins behind a header of 8 bytes (RFC 792, RFC 4443).
        let bits = |offset: u8| (8 + u32::from(offset)) * 8;
        let looks = offsets
            .iter()
            .map(|&offset| format!("@th,{},128 {secret:#034x} goto {to_open}", bits(offset)));
        self.chains.push((chain.clone(), looks.collect()));
        for (family, icmp) in FAMILIES.into_iter().zip(["icmp", "icmpv6"]) {
            if let Some(to) = to(way, family) {
                let on = on(door);
                knocks.push(format!("{on} {to} {icmp} type echo-request jump {chain}"));
            }
        }
    }

    fn sequence(
        &mut self,
        door: &Opening<'_>,
        way: &Way<'_>,
        (steps, time, flags, traps): (&[Port], Duration, TcpFlags, &[Port]),
        to_open: &str,
        knocks: &mut Vec<String>,
    ) {
        let all = all(steps, traps);
        for family in FAMILIES {
            let Some(to) = to(way, family) else { continue };
            let chain = self.name(door, &format!(".{}{}", way.number, family.end));
            let set =
                |stage: usize| self.name(door, &format!(".{}.{stage}{}", way.number, family.end));
            let sets: Vec<String> = (1..steps.len()).map(set).collect();
            let lines = attempt(steps, &sets, family, &timeout(time), to_open);
            for set in &sets {
                self.set(set, family, ATTEMPTS, "dynamic,timeout");
            }
            self.chains.push((chain.clone(), lines));
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let ports = numbers(&all, protocol);
                if ports.is_empty() {
                    continue;
                }
                let flags = match protocol {
                    Protocol::Tcp => condition(flags),
                    Protocol::Udp => String::new(),
                };
                knocks.push(format!(
                    "{} {to} {flags}{} dport {} jump {chain}",
                    on(door),
                    protocol,
                    one_of(&ports)
                ));
            }
        }
    }

    fn print(&self, text: &mut String) {
        let table = if self.fallback { DAEMONS } else { TABLE };
        // Writing to a String does not fail.
        if self.fallback {
            for (name, lines) in &self.chains {
                let hook = match name.as_str() {
                    KERNEL => format!(" {{ {} }}", lines[0]),
                    _ => String::new(),
                };
                let _ = writeln!(text, "add chain inet {table} {name}{hook}");
                let _ = writeln!(text, "flush chain inet {table} {name}");
            }
        } else {
            let _ = writeln!(text, "add table inet {table}\ndelete table inet {table}");
        }
        let _ = writeln!(text, "\ntable inet {table} {{");
        for set in &self.sets {
            let _ = writeln!(text, "\t{set}");
        }
        for (name, lines) in &self.chains {
            let _ = writeln!(text, "\n\tchain {name} {{");
            for line in lines {
                let _ = writeln!(text, "\t\t{line}");
            }
            text.push_str("\t}\n");
        }
        text.push_str("}\n");
    }
}

/// What a packet to a step or a trap does to the attempt of its source. `sets`: who has taken
/// the first step, the second, and so on, but for the last.
fn attempt(
    steps: &[Port],
    sets: &[String],
    family: Family,
    time: &str,
    to_open: &str,
) -> Vec<String> {
    let ip = family.ip;
    let hit = |step: &Port| format!("{} dport {}", step.protocol, step.number);
    let Some((first, others)) = sets.split_first() else {
        let hits = steps
            .iter()
            .map(|only| format!("{} goto {to_open}", hit(only)));
        return hits.collect();
    };
    let out = |set: &String| format!("delete @{set} {{ {ip} saddr }} ");
    let forgotten: String = others.iter().map(out).collect();
    let mut lines = vec![
        format!(
            "{ip} saddr != @{first} {} {forgotten}add @{first} {{ {ip} saddr timeout {time} }} \
             return",
            hit(&steps[0])
        ),
        format!("{ip} saddr != @{first} return"),
    ];
    for (place, set) in sets.iter().enumerate().rev() {
        let (taken, next) = (&steps[..=place], &steps[place + 1]);
        // The first set was looked at already.
        let here = match place {
            0 => String::new(),
            _ => format!("{ip} saddr @{set} "),
        };
        lines.push(match sets.get(place + 1) {
            Some(after) => format!(
                "{here}{} add @{after} {{ {ip} saddr timeout {time} }} return",
                hit(next)
            ),
            None => format!("{here}{} {}goto {to_open}", hit(next), out(first)),
        });
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let ports = numbers(taken, protocol);
            if !ports.is_empty() {
                let ports = one_of(&ports);
                lines.push(format!("{here}{protocol} dport {ports} return"));
            }
        }
        lines.push(format!("{here}{}return", out(first)));
    }
    lines
}

/// Passes and guards, as posternd makes them.
fn guards(plan: &Plan<'_>) -> Vec<String> {
    const BOTH: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];
    let mut lines = vec!["type filter hook input priority -10; policy accept;".to_owned()];
    let (mut running, mut passes, mut always, mut drops) = (vec![], vec![], vec![], vec![]);
    for door in &plan.doors {
        let on = on(door);
        for protocol in BOTH {
            let (ports, guarded) = (door.ports(protocol), door.guarded(protocol));
            for family in FAMILIES.into_iter().filter(|_| !ports.is_empty()) {
                let (who, ports) = (source(door, family), one_of(&ports));
                let end = &family.end[1..];
                let set = |kind: &str| format!("{}_{kind}{end}", door.name);
                let (open, seen) = (set(""), set("seen"));
                let mut let_in = vec![open.clone()];
                if let Some(idle) = door.idle {
                    for set in [&open, &seen] {
                        lines.push(format!(
                            "{on} {protocol} dport {ports} ct state established {who} @{set} \
                             update @{seen} {{ {who} timeout {} }}",
                            timeout(idle)
                        ));
                    }
                    let_in.push(seen);
                }
                let count = door.opens.connections.map(|most| {
                    let set = set("now");
                    format!("add @{set} {{ {who} ct count {most} }} ")
                });
                let count = count.unwrap_or_default();
                for set in let_in {
                    passes.push(format!(
                        "{on} {who} @{set} {protocol} dport {ports} {count}accept"
                    ));
                }
            }
            if guarded.is_empty() {
                continue;
            }
            let guarded = one_of(&guarded);
            running.push(format!(
                "{on} {protocol} dport {guarded} ct state established accept"
            ));
            drops.push(format!("{on} {protocol} dport {guarded} drop"));
            for family in FAMILIES {
                let v4 = family.ip == "ip";
                let here = plan.always.iter().filter(|n| n.address().is_ipv4() == v4);
                let here: Vec<String> = here.map(ToString::to_string).collect();
                if !here.is_empty() {
                    let ip = family.ip;
                    // One line each: networks within others are no set to nft.
                    always.extend(here.iter().map(|network| {
                        format!("{on} {ip} saddr {network} {protocol} dport {guarded} accept")
                    }));
                }
            }
        }
    }
    for more in [running, passes, always, drops] {
        lines.extend(more);
    }
    lines
}

/// Where a packet must be sent to; `None`: no packet of this family is.
fn to(way: &Way<'_>, family: Family) -> Option<String> {
    match way.target {
        None => Some("fib daddr type local".to_owned()),
        Some(IpAddr::V4(address)) if family.ip == "ip" => Some(format!("ip daddr {address}")),
        Some(IpAddr::V6(address)) if family.ip == "ip6" => Some(format!("ip6 daddr {address}")),
        Some(_) => None,
    }
}

/// What of a packet tells who is let in.
fn source(door: &Opening<'_>, family: Family) -> String {
    match family.ip {
        "ip6" if door.prefix6 < 128 => {
            let mask = Ipv6Addr::from(u128::MAX << (128 - u32::from(door.prefix6)));
            format!("ip6 saddr & {mask}")
        }
        ip => format!("{ip} saddr"),
    }
}

/// The interfaces that a door is at.
fn on(door: &Opening<'_>) -> String {
    let names: Vec<String> = door.on.iter().map(|name| format!("\"{name}\"")).collect();
    match names.is_empty() {
        true => "iifname != \"lo\"".to_owned(),
        false => format!("iifname {}", one_of(&names)),
    }
}

/// What flags a TCP step must have.
fn condition(TcpFlags { mask, value }: TcpFlags) -> String {
    match mask {
        0 => String::new(),
        _ => format!("tcp flags & {mask:#04x} == {value:#04x} "),
    }
}

/// One thing, or an anonymous set of several.
fn one_of<T: ToString>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    match items.as_slice() {
        [one] => one.clone(),
        _ => format!("{{ {} }}", items.join(", ")),
    }
}

/// How long an element stands. The kernel takes 0 for "without end".
fn timeout(time: Duration) -> String {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(50);
    match (millis / 1000, millis % 1000) {
        (seconds, 0) => format!("{seconds}s"),
        (0, millis) => format!("{millis}ms"),
        (seconds, millis) => format!("{seconds}s{millis}ms"),
    }
}
