//! Command lines that let an address in or out again, recognized: those of ipfw(8), pfctl(8),
//! iptables(8) and nft(8) as people write them into knockd.conf. What is not understood whole
//! is not recognized.

use super::{FirewallKind, Port, Protocol, To};

/// What stands for the address.
const ADDRESS: &str = "%IP%";

/// What a command line does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// A rule is added that lets the address in.
    Add(Rule),
    /// The rule that lets the address in is deleted.
    Delete(Rule),
    /// `ipfw delete`: it reads numbers and nothing behind them. None: nothing is deleted.
    DeleteNumbers(Vec<u16>),
    /// The address is put into a table of ipfw's or pf's.
    TableAdd(FirewallKind, String),
    /// The address is taken out of the table.
    TableDelete(FirewallKind, String),
}

/// A rule that lets the address in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// Whose it is; iptables' are taken for nftables'.
    pub firewall: FirewallKind,
    /// ipfw: its number, where that is given.
    pub number: Option<u16>,
    /// Sorted.
    pub ports: Vec<Port>,
    pub to: To,
    /// At this interface only.
    pub on: Option<String>,
    /// So many connections at once for each address.
    pub connections: Option<u16>,
}

/// What the command line does, if that is recognized.
pub(super) fn recognize(line: &str) -> Option<Deed> {
    let words = words(line)?;
    let (program, args) = words.split_first()?;
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match program.rsplit('/').next()? {
        "ipfw" => ipfw(&args),
        "pfctl" => pfctl(&args),
        "iptables" | "ip6tables" => iptables(&args),
        "nft" => nft(&args),
        _ => None,
    }
}

/// A line's words, if it is one command and nothing in it means more to a shell than quotes do.
fn words(line: &str) -> Option<Vec<String>> {
    if line.contains(|c: char| "&;|<>()$`*?[]!#~\n".contains(c)) {
        return None;
    }
    let plain = line.replace(['\'', '"', '\\'], "");
    let plain = plain.replace('{', " { ").replace('}', " } ");
    Some(plain.split_whitespace().map(str::to_owned).collect())
}

fn ipfw(mut args: &[&str]) -> Option<Deed> {
    while let [flags, rest @ ..] = args
        && flags.starts_with('-')
    {
        // -q quiet, -f no questions, -n nothing is done.
        flags[1..].chars().all(|c| "qf".contains(c)).then_some(())?;
        args = rest;
    }
    match args {
        ["add", rest @ ..] => ipfw_rule(rest).map(Deed::Add),
        ["delete", rest @ ..] => {
            let numbers = rest.iter().map_while(|word| word.parse().ok());
            let numbers: Vec<u16> = numbers.collect();
            // Ranges and sets are read, too.
            let next = rest.get(numbers.len()).copied().unwrap_or_default();
            let more = next == "set" || next.starts_with(|c: char| c.is_ascii_digit());
            (!more && !rest.is_empty()).then_some(Deed::DeleteNumbers(numbers))
        }
        ["table", name, "add", address] if of_one(address) => {
            Some(Deed::TableAdd(FirewallKind::Ipfw, (*name).to_owned()))
        }
        ["table", name, "delete", address] if of_one(address) => {
            Some(Deed::TableDelete(FirewallKind::Ipfw, (*name).to_owned()))
        }
        _ => None,
    }
}

/// `00101 pass proto tcp src-ip %IP% dst-port 22`, `101 allow tcp from %IP% to me 22 setup`
fn ipfw_rule(args: &[&str]) -> Option<Rule> {
    let mut args = args.iter().copied().peekable();
    let number = args.peek().and_then(|word| word.parse::<u16>().ok());
    if number.is_some() {
        args.next();
    }
    let action = args.next()?;
    ["pass", "allow", "accept", "permit"]
        .contains(&action)
        .then_some(())?;
    let mut rule = Rule {
        firewall: FirewallKind::Ipfw,
        number,
        ports: Vec::new(),
        to: To::Any,
        on: None,
        connections: None,
    };
    let (mut protocol, mut from, mut ports) = (None, false, None);
    if let Some(first) = args.peek().and_then(|word| transport(word)) {
        args.next();
        protocol = Some(first);
        (args.next()? == "from" && of_one(args.next()?)).then_some(())?;
        (args.next()? == "to").then_some(())?;
        from = true;
        rule.to = match args.next()? {
            "me" => To::Me,
            "any" => To::Any,
            other => To::Network(other.parse().ok()?),
        };
        if let Some(list) = args.peek().and_then(|word| numbers(word)) {
            args.next();
            ports = Some(list);
        }
    }
    while let Some(word) = args.next() {
        match word {
            "proto" if protocol.is_none() => protocol = Some(transport(args.next()?)?),
            "src-ip" if !from => from = of_one(args.next()?),
            "dst-ip" => rule.to = To::Network(args.next()?.parse().ok()?),
            "dst-port" if ports.is_none() => ports = Some(numbers(args.next()?)?),
            "in" | "setup" | "keep-state" => {}
            "via" | "recv" => rule.on = Some(args.next()?.to_owned()),
            "limit" => {
                (args.next()? == "src-addr").then_some(())?;
                rule.connections = Some(args.next()?.parse().ok().filter(|&n: &u16| n > 0)?);
            }
            _ => return None,
        }
    }
    from.then_some(())?;
    rule.ports = of(protocol?, ports?);
    Some(rule)
}

fn pfctl(args: &[&str]) -> Option<Deed> {
    let (mut table, mut deed, mut address) = (None, None, None);
    let mut args = args.iter();
    while let Some(&word) = args.next() {
        match word {
            "-q" => {}
            "-t" => table = Some((*args.next()?).to_owned()),
            "-T" => deed = Some(*args.next()?),
            word if of_one(word) => address = Some(word),
            _ => return None,
        }
    }
    address?;
    match deed? {
        "add" => Some(Deed::TableAdd(FirewallKind::Pf, table?)),
        "delete" => Some(Deed::TableDelete(FirewallKind::Pf, table?)),
        _ => None,
    }
}

/// `-A INPUT -s %IP% -p tcp --dport 22 -j ACCEPT`
fn iptables(args: &[&str]) -> Option<Deed> {
    let (mut add, mut protocol, mut ports) = (None, None, None);
    let (mut from, mut accept, mut on) = (false, false, None);
    let mut args = args.iter().copied().peekable();
    while let Some(word) = args.next() {
        match word {
            "-w" | "--wait" | "--syn" => {}
            "-t" | "--table" => (args.next()? == "filter").then_some(())?,
            "-A" | "--append" | "-D" | "--delete" if add.is_none() => {
                (args.next()? == "INPUT").then_some(())?;
                add = Some(matches!(word, "-A" | "--append"));
            }
            "-I" | "--insert" if add.is_none() => {
                (args.next()? == "INPUT").then_some(())?;
                let place = args.peek().and_then(|word| word.parse::<u32>().ok());
                if place.is_some() {
                    args.next();
                }
                add = Some(true);
            }
            "-s" | "--source" | "--src" => from = of_one(args.next()?),
            "-p" | "--protocol" | "--proto" => protocol = Some(transport(args.next()?)?),
            "--dport" | "--destination-port" | "--dports" if ports.is_none() => {
                ports = Some(numbers(args.next()?)?);
            }
            "-m" | "--match" => {
                let known = ["tcp", "udp", "multiport", "state", "conntrack"];
                known.contains(&args.next()?).then_some(())?;
            }
            "--state" | "--ctstate" => {
                args.next()?.split(',').any(|s| s == "NEW").then_some(())?;
            }
            "-i" | "--in-interface" => on = Some(args.next()?.to_owned()),
            "-j" | "--jump" => accept = args.next()? == "ACCEPT",
            _ => return None,
        }
    }
    (from && accept).then_some(())?;
    let rule = Rule {
        firewall: FirewallKind::Nft,
        number: None,
        ports: of(protocol?, ports?),
        to: To::Me,
        on,
        connections: None,
    };
    Some(match add? {
        true => Deed::Add(rule),
        false => Deed::Delete(rule),
    })
}

/// `add rule inet filter input ip saddr %IP% tcp dport 22 accept`
fn nft(args: &[&str]) -> Option<Deed> {
    let ["add" | "insert", "rule", rest @ ..] = args else {
        return None;
    };
    let (_, rest) = rest.split_at_checked(match rest.first()? {
        family if ["ip", "ip6", "inet"].contains(family) => 3,
        _ => 2,
    })?;
    let (mut from, mut ports, mut accept) = (false, None, false);
    let mut rest = rest.iter().copied();
    while let Some(word) = rest.next() {
        match word {
            "ip" | "ip6" if !from => {
                from = rest.next()? == "saddr" && of_one(rest.next()?);
                from.then_some(())?;
            }
            "ct" => {
                (rest.next()? == "state" && rest.next()? == "new").then_some(())?;
            }
            "accept" => accept = true,
            word if ports.is_none() => {
                let protocol = transport(word)?;
                (rest.next()? == "dport").then_some(())?;
                let mut list = Vec::new();
                match rest.next()? {
                    "{" => loop {
                        match rest.next()? {
                            "}" => break,
                            word => list.extend(numbers(word.trim_end_matches(','))?),
                        }
                    },
                    word => list = numbers(word)?,
                }
                ports = Some(of(protocol, list));
            }
            _ => return None,
        }
    }
    (from && accept).then_some(())?;
    Some(Deed::Add(Rule {
        firewall: FirewallKind::Nft,
        number: None,
        ports: ports.filter(|ports| !ports.is_empty())?,
        to: To::Me,
        on: None,
        connections: None,
    }))
}

/// Whether this is the address and no network around it.
fn of_one(word: &str) -> bool {
    matches!(word.strip_prefix(ADDRESS), Some("" | "/32" | "/128"))
}

fn transport(word: &str) -> Option<Protocol> {
    match word {
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        _ => None,
    }
}

/// `22`, `80,443`, `ssh`
fn numbers(word: &str) -> Option<Vec<u16>> {
    let number = |word: &str| match word.parse::<u16>() {
        Ok(number) => Some(number).filter(|&number| number > 0),
        Err(_) => super::services::port_of(word),
    };
    word.split(',').map(number).collect()
}

fn of(protocol: Protocol, numbers: Vec<u16>) -> Vec<Port> {
    let port = |number| Port { protocol, number };
    let mut ports: Vec<Port> = numbers.into_iter().map(port).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> String {
        let rule = |rule: Rule| {
            let ports: Vec<String> = rule.ports.iter().map(Port::to_string).collect();
            format!(
                "{:?} {} to {:?}{}{}{}",
                rule.firewall,
                ports.join(","),
                rule.to,
                rule.number.map_or(String::new(), |n| format!(" at {n}")),
                rule.on.map_or(String::new(), |on| format!(" on {on}")),
                rule.connections
                    .map_or(String::new(), |n| format!(" limit {n}")),
            )
        };
        match recognize(line) {
            None => "-".to_owned(),
            Some(Deed::Add(added)) => format!("add {}", rule(added)),
            Some(Deed::Delete(deleted)) => format!("delete {}", rule(deleted)),
            Some(other) => format!("{other:?}"),
        }
    }

    #[test]
    fn recognized() {
        for (line, deed) in [
            (
                "/sbin/ipfw -q add 00101 pass proto tcp src-ip %IP% dst-port 22",
                "add Ipfw 22/tcp to Any at 101",
            ),
            (
                "ipfw add allow tcp from %IP% to me 443,80 in via em0 setup keep-state",
                "add Ipfw 80/tcp,443/tcp to Me on em0",
            ),
            (
                "ipfw add 9 permit udp from %IP% to 192.0.2.1 dst-port 53 limit src-addr 4",
                "add Ipfw 53/udp to Network(Network { address: 192.0.2.1, prefix: 32 }) at 9 \
                 limit 4",
            ),
            (
                "/sbin/ipfw -q delete 00101 pass proto tcp src-ip %IP% dst-port 22",
                "DeleteNumbers([101])",
            ),
            ("ipfw delete 101 102", "DeleteNumbers([101, 102])"),
            (
                "ipfw -q delete pass proto tcp src-ip %IP% dst-port 22",
                "DeleteNumbers([])",
            ),
            ("ipfw table knock add %IP%", "TableAdd(Ipfw, \"knock\")"),
            ("ipfw -q table 1 delete %IP%/32", "TableDelete(Ipfw, \"1\")"),
            (
                "/sbin/pfctl -t knock -T add %IP%",
                "TableAdd(Pf, \"knock\")",
            ),
            (
                "pfctl -q -T delete -t knock %IP%",
                "TableDelete(Pf, \"knock\")",
            ),
            (
                "/sbin/iptables -A INPUT -s %IP% -p tcp --dport 22 -j ACCEPT",
                "add Nft 22/tcp to Me",
            ),
            (
                "iptables -w -I INPUT 1 -i eth0 -p tcp -m multiport --dports 22,443 -s %IP%/32 \
                 -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT",
                "add Nft 22/tcp,443/tcp to Me on eth0",
            ),
            (
                "ip6tables -D INPUT -s %IP% -p udp -m udp --dport 53 -j ACCEPT",
                "delete Nft 53/udp to Me",
            ),
            (
                "iptables -A INPUT -s %IP% -p tcp --syn --dport ssh -j ACCEPT",
                "add Nft 22/tcp to Me",
            ),
            (
                "nft add rule inet filter input ip saddr %IP% tcp dport { 22, 80 } ct state new \
                 accept",
                "add Nft 22/tcp,80/tcp to Me",
            ),
            (
                "nft 'insert rule filter input ip saddr %IP% tcp dport 22 accept'",
                "add Nft 22/tcp to Me",
            ),
        ] {
            assert_eq!(shown(line), deed, "{line}");
        }
    }

    #[test]
    fn not_recognized() {
        for line in [
            "",
            "/bin/true",
            "/usr/local/sbin/knock_add -i -c INPUT -p tcp -d 443 -f %IP%",
            "ipfw",
            "ipfw -n add 1 pass tcp from %IP% to me 22",
            "ipfw add 1 pass tcp from any to me 22",
            "ipfw add 1 pass ip from %IP% to me",
            "ipfw add 1 pass tcp from %IP% to me",
            "ipfw add 1 pass tcp from %IP% to me 22 out",
            "ipfw add 1 pass tcp from %IP% to me 20-22",
            "ipfw add 1 deny tcp from %IP% to me 22",
            "ipfw delete 100-200",
            "ipfw delete set 3",
            "ipfw delete",
            "ipfw add 1 pass tcp from %IP% to me 22; sleep 10; ipfw delete 1",
            "ipfw table knock add %IP% 7",
            "ipfw table knock flush",
            "pfctl -t knock -T add %IP%/24",
            "pfctl -t knock -T flush",
            "pfctl -a x -t knock -T add %IP%",
            "iptables -A INPUT -s %IP% -p tcp --dport 22 -j DROP",
            "iptables -A INPUT -s %IP% -p tcp -j ACCEPT",
            "iptables -A INPUT -s %IP%/24 -p tcp --dport 22 -j ACCEPT",
            "iptables -A KNOCK -s %IP% -p tcp --dport 22 -j ACCEPT",
            "iptables -t nat -A INPUT -s %IP% -p tcp --dport 22 -j ACCEPT",
            "iptables -A INPUT ! -s %IP% -p tcp --dport 22 -j ACCEPT",
            "iptables -A INPUT -s %IP% -p tcp --dport 22:30 -j ACCEPT",
            "iptables -A INPUT -p tcp --dport 22 -j ACCEPT",
            "nft add element inet filter knock { %IP% }",
            "nft add rule inet filter input ip saddr %IP% accept",
            "nft add rule inet filter input ip daddr %IP% tcp dport 22 accept",
            "nft add rule",
        ] {
            assert_eq!(shown(line), "-", "{line}");
        }
    }
}
