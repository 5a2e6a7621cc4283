//! Rules for iptables and ip6tables: a shell script.
//!
//! Attempts at sequences are kept as in nftables, in lists of the `recent` match: see
//! [`super::nft`].

use std::net::IpAddr;
use std::time::Duration;

use super::plan::{How, NETWORKS, Opening, Plan, Way, all, seconds};
use crate::config::{Network, Pattern, Port, Protocol, TcpFlags};
use crate::firewall::numbers;

/// The most ports of one `-m multiport`.
const PORTS: usize = 15;
const BOTH: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];
/// The first chain. The others' names begin with a door's and go on with a dot.
const CHAIN: &str = "postern-knock";
const LOG: &str = "-j LOG --log-prefix \"KNOCK-OK: \" --log-level 5";

/// IPv6 sources in 2000::/3 and fc00::/7, by their first 7 bits, but not in 2001::/32.
const SITES: &str = "-m u32 --u32 \"8>>25=0x10:0x1f,0x7e&&8=0:0x2000ffff,0x20010001:0xffffffff\"";

/// One of the two programs.
#[derive(Clone, Copy)]
struct Tool {
    name: &'static str,
    v4: bool,
    icmp: &'static str,
    /// Bits of an address.
    bits: u8,
}

const TOOLS: [Tool; 2] = [
    Tool {
        name: "iptables",
        v4: true,
        icmp: "-p icmp --icmp-type echo-request",
        bits: 32,
    },
    Tool {
        name: "ip6tables",
        v4: false,
        icmp: "-p icmpv6 --icmpv6-type echo-request",
        bits: 128,
    },
];

/// The rules of one of the tools.
struct Rules {
    tool: Tool,
    /// Chains of ours but the first.
    chains: Vec<String>,
    lines: Vec<String>,
}

/// The whole script.
pub fn rules(plan: &Plan<'_>) -> String {
    let all: Vec<Rules> = TOOLS.map(|tool| Rules::new(plan, tool)).into();
    let mut text = format!("#!/bin/sh\n{}", head(plan));
    text += "\nremove() {\n";
    for rules in &all {
        let name = rules.tool.name;
        for jump in jumps(plan) {
            text += &format!("\t{name} -D INPUT {jump} 2>/dev/null\n");
        }
        let chains = || {
            [CHAIN]
                .into_iter()
                .chain(rules.chains.iter().map(String::as_str))
        };
        for (verb, chain) in chains()
            .map(|c| ("-F", c))
            .chain(chains().map(|c| ("-X", c)))
        {
            text += &format!("\t{name} {verb} {chain} 2>/dev/null\n");
        }
    }
    text += "\treturn 0\n}\n\nremove\n[ \"$1\" = remove ] && exit 0\nset -e\n";
    for rules in &all {
        let name = rules.tool.name;
        text += &format!("\n{name} -N {CHAIN}\n");
        for chain in &rules.chains {
            text += &format!("{name} -N {chain}\n");
        }
        for line in &rules.lines {
            text += &format!("{name} -A {line}\n");
        }
        for jump in jumps(plan) {
            text += &format!("{name} -I INPUT {jump}\n");
        }
    }
    text
}

fn head(plan: &Plan<'_>) -> String {
    let mut lines = vec![String::new()];
    let mut say = |text: &str| lines.extend(text.lines().map(str::to_owned));
    say(
        "No posternd is needed. Its guard in nftables drops whatever these rules let in.\n\
         \n\
         To load it, again too (nothing is guarded meanwhile):\n\
         \x20   sh FILE\n\
         To take it away:\n\
         \x20   sh FILE remove\n\
         \n\
         A connection to a guarded port that runs while this is loaded, and that connection\n\
         tracking does not know, goes on once this machine has sent something on it.\n\
         A list of the recent match has room for 100 addresses unless xt_recent was loaded with\n\
         another ip_list_tot; the one longest in it gives way.",
    );
    let ways = || plan.doors.iter().flat_map(|door| &door.ways);
    if ways().any(|way| matches!(way.how, How::Sequence { .. })) {
        say("\n\
             Not as with posternd: whoever forges the first step of a sequence from more addresses\n\
             than a list has room for ends the attempts of others; each sequence is attempted\n\
             by itself; seq_timeout goes by whole seconds.");
    }
    if plan.by_networks() {
        say(NETWORKS);
    }
    if ways().any(|way| matches!(way.how, How::Ping { loose: true, .. })) {
        say("\n\
             offsets: before Linux 6.7 a secret may also begin up to 16 bytes behind the last.");
    }
    plan.head(&lines)
}

/// How INPUT leads to our chain.
fn jumps(plan: &Plan<'_>) -> Vec<String> {
    let anywhere = plan.doors.iter().any(|door| door.on.is_empty());
    if anywhere {
        return vec![format!("! -i lo -j {CHAIN}")];
    }
    let mut names: Vec<&String> = plan.doors.iter().flat_map(|door| door.on).collect();
    names.sort();
    names.dedup();
    let jump = |name| format!("-i {name} -j {CHAIN}");
    names.into_iter().map(jump).collect()
}

/// What comes before a rule of a door's: its interfaces, one rule each.
fn at(plan: &Plan<'_>, door: &Opening<'_>) -> Vec<String> {
    let same = plan.doors.iter().all(|other| other.on == door.on);
    match door.on {
        // INPUT leads here from those alone.
        _ if same => vec![String::new()],
        [] => vec![String::new()],
        names => names.iter().map(|name| format!("-i {name} ")).collect(),
    }
}

impl Rules {
    fn new(plan: &Plan<'_>, tool: Tool) -> Rules {
        let mut rules = Rules {
            tool,
            chains: Vec::new(),
            lines: Vec::new(),
        };
        for door in &plan.doors {
            for way in &door.ways {
                rules.way(plan, door, way);
            }
        }
        for door in &plan.doors {
            rules.sessions(plan, door);
        }
        for door in &plan.doors {
            rules.passes(plan, door);
        }
        for door in &plan.doors {
            rules.always(plan, door);
        }
        for door in &plan.doors {
            for protocol in BOTH {
                for ports in several(&door.guarded(protocol)) {
                    rules.each(plan, door, &format!("-p {}{ports} -j DROP", protocol));
                }
            }
        }
        rules
    }

    fn add(&mut self, line: String) {
        self.lines.push(line);
    }

    /// A rule of the first chain, at each interface of the door.
    fn each(&mut self, plan: &Plan<'_>, door: &Opening<'_>, rule: &str) {
        for at in at(plan, door) {
            self.add(format!("{CHAIN} {at}{rule}"));
        }
    }

    /// A condition on whether the source is in a list. Each family has lists of its own: a list
    /// has the mask of the first rule that names it, whichever program made that.
    fn recent(&self, list: &str, what: &str) -> String {
        let family = if self.tool.v4 { "" } else { "6" };
        format!("-m recent --name postern{family}.{list} {what}")
    }

    /// Lets the source in: its network only if the first bits of that are somebody's, as
    /// [`Network::of_knocker`] has it; of others nobody.
    fn set(&self, door: &Opening<'_>) -> String {
        let set = self.recent_of(door, door.name, "--set");
        match self.tool.v4 || door.prefix6 == 128 {
            true => set,
            false => format!("{SITES} {set}"),
        }
    }

    /// The same where an IPv6 address stands for its network.
    fn recent_of(&self, door: &Opening<'_>, list: &str, what: &str) -> String {
        let mask = match self.tool.v4 || door.prefix6 == 128 {
            true => String::new(),
            false => {
                let mask = u128::MAX << (128 - u32::from(door.prefix6));
                format!(" --mask {}", std::net::Ipv6Addr::from(mask))
            }
        };
        format!("{}{mask}", self.recent(list, what))
    }

    fn way(&mut self, plan: &Plan<'_>, door: &Opening<'_>, way: &Way<'_>) {
        let to = match way.target {
            None => "-m addrtype --dst-type LOCAL".to_owned(),
            Some(target) if matches!(target, IpAddr::V4(_)) == self.tool.v4 => {
                format!("-d {target}")
            }
            Some(_) => return,
        };
        match &way.how {
            How::Ping {
                secret,
                offsets,
                loose,
            } => self.ping(plan, door, &to, (secret, offsets, *loose)),
            How::Sequence {
                steps,
                timeout,
                flags,
                traps,
            } => {
                let chain = format!("{}.{}", door.name, way.number);
                let all = all(steps, traps);
                for protocol in BOTH {
                    let flags = match protocol {
                        Protocol::Tcp => condition(*flags),
                        Protocol::Udp => String::new(),
                    };
                    for ports in several(&numbers(&all, protocol)) {
                        let rule = format!("-p {protocol}{flags}{ports} {to} -j {chain}");
                        self.each(plan, door, &rule);
                    }
                }
                self.sequence(door, &chain, steps, *timeout);
                self.chains.push(chain);
            }
        }
    }

    /// An echo request. Its payload begins behind the headers of IP and of ICMP, 8 bytes.
    fn ping(
        &mut self,
        plan: &Plan<'_>,
        door: &Opening<'_>,
        to: &str,
        (secret, offsets, loose): (&Pattern, &[u8], bool),
    ) {
        let set = self.set(door);
        let icmp = self.tool.icmp;
        let header = if self.tool.v4 { 20 } else { 40 };
        if let (true, Some(first), Some(last)) = (loose, offsets.first(), offsets.last()) {
            let begin = header + 8 + usize::from(*first);
            let end = header + 8 + usize::from(*last) + secret.0.len();
            let pattern = pattern(secret);
            let rule = format!(
                "{icmp} {to} -m string {pattern} --algo bm --from {begin} --to {end} {set} {LOG}"
            );
            self.each(plan, door, &rule);
            return;
        }
        for &offset in offsets {
            let words = secret.0.chunks_exact(4).zip(0u32..).map(|(word, n)| {
                let word: String = word.iter().map(|byte| format!("{byte:02x}")).collect();
                let at = 8 + u32::from(offset) + 4 * n;
                match self.tool.v4 {
                    // Behind a header as long as it says.
                    true => format!("0>>22&0x3C@{at}=0x{word}"),
                    false => format!("{}=0x{word}", 40 + at),
                }
            });
            // Of IPv6, only what has no header between.
            let first = (!self.tool.v4).then(|| "3&0xFF=58".to_owned());
            let tests: Vec<String> = first.into_iter().chain(words).collect();
            let tests = tests.join("&&");
            let rule = format!("{icmp} {to} -m u32 --u32 \"{tests}\" {set} {LOG}");
            self.each(plan, door, &rule);
        }
    }

    /// What a packet to a step or a trap does to the attempt of its source.
    fn sequence(&mut self, door: &Opening<'_>, chain: &str, steps: &[Port], time: Duration) {
        let hit = |step: &Port| format!("-p {} --dport {}", step.protocol, step.number);
        let open = format!("{} {LOG}", self.set(door));
        let [first, .., last] = steps else {
            for only in steps {
                self.add(format!("{chain} {} {open}", hit(only)));
            }
            return;
        };
        let list = |stage: usize| format!("{chain}.{stage}");
        let within = seconds(time);
        let not_begun = self.recent(&list(1), &format!("! --rcheck --seconds {within}"));
        for stage in 2..steps.len() {
            let forgotten = self.recent(&list(stage), "--remove");
            self.add(format!("{chain} {} {not_begun} {forgotten}", hit(first)));
        }
        let begin = self.recent(&list(1), "--set");
        self.add(format!(
            "{chain} {} {not_begun} {begin} -j RETURN",
            hit(first)
        ));
        self.add(format!("{chain} {not_begun} -j RETURN"));
        for stage in (1..steps.len()).rev() {
            let here = self.recent(&list(stage), "--rcheck");
            let end = self.recent(&list(1), "--remove");
            let next = hit(&steps[stage]);
            if stage + 1 == steps.len() {
                let last = hit(last);
                self.add(format!("{chain} {last} {here} {end} {open}"));
            } else {
                let on = self.recent(&list(stage + 1), "--set");
                self.add(format!("{chain} {next} {here} {on} -j RETURN"));
            }
            for protocol in BOTH {
                for ports in several(&numbers(&steps[..stage], protocol)) {
                    self.add(format!("{chain} -p {protocol}{ports} {here} -j RETURN"));
                }
            }
            self.add(format!("{chain} {here} {end} -j RETURN"));
        }
    }

    /// What traffic prolongs, and connections that run.
    fn sessions(&mut self, plan: &Plan<'_>, door: &Opening<'_>) {
        const RUNS: &str = "-m conntrack --ctstate ESTABLISHED";
        for protocol in BOTH {
            for ports in several(&door.ports(protocol)) {
                let Some(idle) = door.idle else { continue };
                let open = within(door.opens.open_for);
                let open = self.recent_of(door, door.name, &open);
                let list = seen(door);
                let kept = self.recent_of(door, &list, "--set");
                let on = format!("--update --seconds {}", seconds(idle));
                let on = self.recent_of(door, &list, &on);
                for what in [format!("{open} {kept}"), on] {
                    self.each(plan, door, &format!("-p {protocol}{ports} {RUNS} {what}"));
                }
            }
            for ports in several(&door.guarded(protocol)) {
                self.each(
                    plan,
                    door,
                    &format!("-p {protocol}{ports} {RUNS} -j ACCEPT"),
                );
            }
        }
    }

    /// Who has knocked, at the door's ports.
    fn passes(&mut self, plan: &Plan<'_>, door: &Opening<'_>) {
        let chain = format!("{}.ok", door.name);
        let open = self.recent_of(door, door.name, &within(door.opens.open_for));
        self.each(plan, door, &format!("{open} -j {chain}"));
        if let Some(idle) = door.idle {
            let open = self.recent_of(door, &seen(door), &within(idle));
            self.each(plan, door, &format!("{open} -j {chain}"));
        }
        for protocol in BOTH {
            for ports in several(&door.ports(protocol)) {
                if let Some(most) = door.opens.connections {
                    let bits = match self.tool.v4 {
                        true => self.tool.bits,
                        false => door.prefix6,
                    };
                    self.add(format!(
                        "{chain} -p {protocol}{ports} -m connlimit --connlimit-above {most} \
                         --connlimit-mask {bits} -j RETURN"
                    ));
                }
                self.add(format!("{chain} -p {protocol}{ports} -j ACCEPT"));
            }
        }
        self.chains.push(chain);
    }

    /// Who passes every guard.
    fn always(&mut self, plan: &Plan<'_>, door: &Opening<'_>) {
        let here = |network: &&Network| network.address().is_ipv4() == self.tool.v4;
        let networks: Vec<&Network> = plan.always.iter().filter(here).collect();
        for protocol in BOTH {
            for ports in several(&door.guarded(protocol)) {
                for network in &networks {
                    self.each(
                        plan,
                        door,
                        &format!("-p {protocol}{ports} -s {network} -j ACCEPT"),
                    );
                }
            }
        }
    }
}

/// The list of those whose traffic prolongs what they opened.
fn seen(door: &Opening<'_>) -> String {
    format!("{}.seen", door.name)
}

fn within(time: Duration) -> String {
    format!("--rcheck --seconds {}", seconds(time))
}

/// A secret as the `string` match takes it.
pub fn pattern(secret: &Pattern) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"_-.,:;=+/@%^".contains(b);
    match str::from_utf8(&secret.0) {
        Ok(text) if secret.0.iter().all(plain) => format!("--string \"{text}\""),
        _ => {
            let hex: String = secret.0.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("--hex-string \"|{hex}|\"")
        }
    }
}

/// What flags a TCP step must have.
fn condition(TcpFlags { mask, value }: TcpFlags) -> String {
    const FLAGS: [(&str, u8); 6] = [
        ("FIN", 0x01),
        ("SYN", 0x02),
        ("RST", 0x04),
        ("PSH", 0x08),
        ("ACK", 0x10),
        ("URG", 0x20),
    ];
    let names = |bits: u8| {
        let set = FLAGS.iter().filter(|(_, bit)| bits & bit != 0);
        let names: Vec<&str> = set.map(|(name, _)| *name).collect();
        match names.is_empty() {
            true => "NONE".to_owned(),
            false => names.join(","),
        }
    };
    match mask {
        0 => String::new(),
        _ => format!(" --tcp-flags {} {}", names(mask), names(value)),
    }
}

/// Conditions on the destination port that hold together for these.
fn several(ports: &[u16]) -> Vec<String> {
    let text = |ports: &[u16]| {
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        match ports.as_slice() {
            [one] => format!(" --dport {one}"),
            _ => format!(" -m multiport --dports {}", ports.join(",")),
        }
    };
    ports.chunks(PORTS).map(text).collect()
}
