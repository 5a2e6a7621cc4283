//! A rule's words -> its text as `ipfw list` of FreeBSD 12.1 shows it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::table::Kind;
use super::{DATAERR, Error, NOHOST, Result, USAGE, error};

/// The text, and the tables that it names.
pub fn canonical(words: &[&str]) -> Result<(String, Vec<(String, Kind)>)> {
    let mut words = words.iter().copied().peekable();
    let action = match words.next() {
        Some("allow" | "accept" | "pass" | "permit") => "allow",
        Some("deny" | "drop") => "deny",
        Some("count") => "count",
        Some(other) => return error(DATAERR, format!("invalid action {other}\n")),
        None => return error(USAGE, "missing action"),
    };
    let mut text = action.to_owned();
    let mut put = |word: &str| {
        text.push(' ');
        text.push_str(word);
    };
    let protocols = ["ip", "tcp", "udp", "icmp", "ipv6-icmp"];
    let full = words.next_if(|word| protocols.contains(word));
    let mut port = None;
    if let Some(protocol) = full {
        put(protocol);
        expect(&mut words, "from")?;
        put("from");
        put(&address(words.next())?);
        expect(&mut words, "to")?;
        put("to");
        put(&address(words.next())?);
        let is_port = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
        port = words.next_if(is_port).map(ports).transpose()?;
    }
    let (mut options, mut state, mut comment) = (Vec::new(), None, None);
    while let Some(word) = words.next() {
        match word {
            "in" | "out" | "not" | "or" | "{" | "}" | "setup" | "established" => {
                options.push(word.to_owned());
            }
            "recv" | "xmit" | "via" | "icmp6types" | "proto" => {
                options.push(format!("{word} {}", argument(word, words.next())?));
            }
            "src-ip" | "dst-ip" => {
                options.push(format!("{word} {}", address(words.next())?));
            }
            "dst-port" => {
                let list = ports(argument(word, words.next())?)?;
                match full {
                    Some(_) => port = Some(list),
                    None => options.push(format!("dst-port {list}")),
                }
            }
            "flow" => match argument(word, words.next())? {
                table if table.starts_with("table(") => options.push(format!("flow {table}")),
                _ => return error(DATAERR, "enclose table name into \"table()\""),
            },
            "keep-state" => {
                let name = words.next_if(|word| word.starts_with(':'));
                state = Some(format!("keep-state {}", name.unwrap_or(":default")));
            }
            "limit" => {
                let mask = argument(word, words.next())?;
                let most = argument(word, words.next())?;
                let name = words.next_if(|word| word.starts_with(':'));
                state = Some(format!(
                    "limit {mask} {most} {}",
                    name.unwrap_or(":default")
                ));
            }
            "//" => comment = Some(words.by_ref().collect::<Vec<_>>().join(" ")),
            other => return error(USAGE, format!("unrecognised option [-1] {other}\n")),
        }
    }
    port.iter().for_each(|port| put(port));
    options.iter().for_each(|option| put(option));
    state.iter().for_each(|state| put(state));
    match comment {
        Some(comment) if comment.len() > 80 => {
            return error(DATAERR, "comment too long (max 80 chars)");
        }
        Some(comment) => put(&format!("// {comment}")),
        None => {}
    }
    let tables = tables(&text)
        .into_iter()
        .map(|name| {
            let flow = text.contains(&format!("flow table({name})"));
            (name, if flow { Kind::flow() } else { Kind::addr() })
        })
        .collect();
    Ok((text, tables))
}

/// The tables that a rule's text names.
pub fn tables(text: &str) -> Vec<String> {
    let text = text.split(" // ").next().unwrap_or_default();
    text.match_indices("table(")
        .filter_map(|(place, found)| {
            let name = text[place + found.len()..].split([')', ',']).next()?;
            Some(name.to_owned())
        })
        .collect()
}

fn expect<'a>(
    words: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>,
    word: &str,
) -> Result<()> {
    match words.next() {
        Some(found) if found == word => Ok(()),
        _ => error(USAGE, format!("missing ``{word}''")),
    }
}

fn argument<'a>(option: &str, word: Option<&'a str>) -> Result<&'a str> {
    word.ok_or_else(|| Error(USAGE, format!("missing argument for {option}")))
}

fn ports(word: &str) -> Result<String> {
    let port = |word: &str| match word {
        "ssh" => Ok("22".to_owned()),
        _ if word.bytes().all(|b| b.is_ascii_digit() || b == b'-') => Ok(word.to_owned()),
        _ => error(DATAERR, format!("invalid port {word}")),
    };
    let ports: Result<Vec<String>> = word.split(',').map(port).collect();
    Ok(ports?.join(","))
}

/// `any`, `me`, a table, an address or a network.
fn address(word: Option<&str>) -> Result<String> {
    let word = argument("address", word)?;
    if ["any", "me", "me6"].contains(&word) || word.starts_with("table(") {
        return Ok(word.to_owned());
    }
    let unknown = || Error(NOHOST, format!("hostname ``{word}'' unknown"));
    let (address, prefix) = match word.split_once('/') {
        Some((address, prefix)) => (address, prefix.parse::<u32>().map_err(|_| unknown())?),
        None => (word, u32::MAX),
    };
    let (address, bits) = match address.parse().map_err(|_| unknown())? {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - prefix.min(32)).unwrap_or(0);
            (Ipv4Addr::from(u32::from(address) & mask).to_string(), 32)
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - prefix.min(128)).unwrap_or(0);
            (Ipv6Addr::from(u128::from(address) & mask).to_string(), 128)
        }
    };
    Ok(match prefix {
        0 => "any".to_owned(),
        prefix if prefix >= bits => address,
        prefix => format!("{address}/{prefix}"),
    })
}
