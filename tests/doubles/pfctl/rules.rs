//! The few forms of rules that tests write, and how pfctl shows them.

use std::collections::BTreeSet;

use super::table::Entry;

/// /etc/services, of the ports that tests use.
const SERVICES: [(&str, u16); 8] = [
    ("ssh", 22),
    ("smtp", 25),
    ("domain", 53),
    ("gopher", 70),
    ("http", 80),
    ("https", 443),
    ("submission", 587),
    ("mysql", 3306),
];

/// A file of rules.
#[derive(Default)]
pub struct File {
    pub tables: Vec<Table>,
    /// As pfctl shows them.
    pub rules: Vec<String>,
    /// As they were written.
    pub nat: Vec<String>,
}

/// A table's definition.
pub struct Table {
    pub name: String,
    /// `None`: it says nothing of entries, and what is in the table stays.
    pub entries: Option<BTreeSet<Entry>>,
    /// Whether its entries count.
    pub counters: bool,
    /// As `-v` shows it.
    pub shown: String,
}

/// Reads a file; what pfctl complains of.
pub fn read(text: &str) -> Result<File, String> {
    let mut file = File::default();
    for (place, line) in text.lines().enumerate() {
        let complain = |words: Wrong| match words {
            Wrong::Syntax => format!("stdin:{}: syntax error", place + 1),
            Wrong::Host(host) => format!(
                "no IP address found for {host}\nstdin:{}: could not parse host specification",
                place + 1
            ),
        };
        let tokens = tokens(line).ok_or_else(|| complain(Wrong::Syntax))?;
        match tokens.first().map(String::as_str) {
            None => {}
            Some("nat" | "rdr" | "binat") => file.nat.push(line.to_owned()),
            Some("scrub") => file.rules.push(line.to_owned()),
            Some("table") => file.tables.push(table(&tokens).map_err(complain)?),
            Some(_) => file.rules.push(rule(&tokens).map_err(complain)?),
        }
    }
    Ok(file)
}

/// What is wrong with a line.
enum Wrong {
    Syntax,
    Host(String),
}

/// Words, and what is in quotes, parentheses or braces as one.
fn tokens(line: &str) -> Option<Vec<String>> {
    let mut tokens = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => rest[1..].find('"')? + 2,
            '(' => rest.find(')')? + 1,
            '{' => rest.find('}')? + 1,
            '<' => rest.find('>')? + 1,
            '!' | '=' => 1,
            '#' => break,
            _ => rest
                .find(|c: char| c.is_whitespace() || "\"({<!=#".contains(c))
                .unwrap_or(rest.len()),
        };
        tokens.push(rest[..length].to_owned());
        rest = rest[length..].trim_start();
    }
    Some(tokens)
}

fn table(tokens: &[String]) -> Result<Table, Wrong> {
    let mut tokens = tokens.iter().skip(1).map(String::as_str);
    let name = tokens.next().ok_or(Wrong::Syntax)?;
    let mut shown = format!("table {name}");
    let mut entries = None;
    let mut counters = false;
    for token in tokens {
        match token {
            "persist" => shown.push_str(" persist"),
            "counters" => {
                counters = true;
                shown.push_str(" counters");
            }
            list if list.starts_with('{') => {
                let words = list
                    .split(['{', '}', ',', ' '])
                    .filter(|word| !word.is_empty());
                shown.push_str(" {");
                let given = entries.insert(BTreeSet::new());
                for word in words {
                    let entry: Entry = word.parse().map_err(|()| Wrong::Host(word.to_owned()))?;
                    shown.push_str(&format!(" {entry}"));
                    given.insert(entry);
                }
                shown.push_str(" }");
            }
            _ => return Err(Wrong::Syntax),
        }
    }
    Ok(Table {
        name: name.trim_matches(['<', '>']).to_owned(),
        entries,
        counters,
        shown,
    })
}

fn rule(tokens: &[String]) -> Result<String, Wrong> {
    let mut tokens = tokens.iter().map(String::as_str).peekable();
    let action = tokens.next().ok_or(Wrong::Syntax)?;
    let mut shown = action.to_owned();
    match action {
        "anchor" => {
            shown.push_str(&format!(" {} all", tokens.next().ok_or(Wrong::Syntax)?));
            let rest: Vec<&str> = tokens.collect();
            return match rest.as_slice() {
                [] | ["all"] => Ok(shown),
                _ => Err(Wrong::Syntax),
            };
        }
        "block" => {
            let how = tokens.next_if(|word| matches!(*word, "drop" | "return"));
            shown.push_str(&format!(" {}", how.unwrap_or("drop")));
        }
        "pass" => {}
        _ => return Err(Wrong::Syntax),
    }
    for words in [&["in", "out"][..], &["quick"]] {
        if let Some(word) = tokens.next_if(|word| words.contains(word)) {
            shown.push_str(&format!(" {word}"));
        }
    }
    if tokens.next_if_eq(&"on").is_some() {
        let not = tokens.next_if_eq(&"!").map_or("", |_| "! ");
        let interface = tokens.next().ok_or(Wrong::Syntax)?;
        shown.push_str(&format!(" on {not}{interface}"));
    }
    let family = tokens.next_if(|word| matches!(*word, "inet" | "inet6"));
    let mut protocol = None;
    if tokens.next_if_eq(&"proto").is_some() {
        protocol = Some(tokens.next().ok_or(Wrong::Syntax)?);
    }
    let (mut ends, mut family) = (String::new(), family);
    if tokens.next_if_eq(&"all").is_none() {
        for word in ["from", "to"] {
            if tokens.next_if_eq(&word).is_none() {
                ends.push_str(&format!(" {word} any"));
                continue;
            }
            let host = tokens.next_if(|word| *word != "port").unwrap_or("any");
            let host = match host {
                "any" => host.to_owned(),
                _ if host.starts_with(['<', '(']) => host.to_owned(),
                _ => {
                    let entry: Entry = host.parse().map_err(|()| Wrong::Host(host.to_owned()))?;
                    family = Some(if entry.is_ipv4() { "inet" } else { "inet6" });
                    entry.to_string()
                }
            };
            ends.push_str(&format!(" {word} {host}"));
            if tokens.next_if_eq(&"port").is_some() {
                tokens.next_if_eq(&"=");
                ends.push_str(&port(tokens.next().ok_or(Wrong::Syntax)?)?);
            }
        }
    }
    if ends.is_empty() || ends == " from any to any" {
        ends = " all".to_owned();
    }
    shown.extend(family.map(|family| format!(" {family}")));
    shown.extend(protocol.map(|protocol| format!(" proto {protocol}")));
    shown.push_str(&ends);

    let flags = match tokens.next_if_eq(&"flags") {
        Some(_) => tokens.next().ok_or(Wrong::Syntax)?,
        None => "S/SA",
    };
    if action == "pass" && matches!(protocol, None | Some("tcp")) {
        shown.push_str(&format!(" flags {flags}"));
    }
    if tokens.next_if_eq(&"keep").is_some() && tokens.next() != Some("state") {
        return Err(Wrong::Syntax);
    }
    if action == "pass" {
        shown.push_str(" keep state");
        let options = tokens.next_if(|word| word.starts_with('('));
        shown.extend(options.map(|options| format!(" {options}")));
    }
    if tokens.next_if_eq(&"label").is_some() {
        shown.push_str(&format!(" label {}", tokens.next().ok_or(Wrong::Syntax)?));
    }
    match tokens.next() {
        None => Ok(shown),
        Some(_) => Err(Wrong::Syntax),
    }
}

fn port(word: &str) -> Result<String, Wrong> {
    let known = SERVICES.iter().find(|(name, _)| *name == word);
    let number = match known {
        Some((_, number)) => *number,
        None => word.parse().map_err(|_| Wrong::Syntax)?,
    };
    let name = SERVICES.iter().find(|(_, port)| *port == number);
    Ok(match name {
        Some((name, _)) => format!(" port = {name}"),
        None => format!(" port = {number}"),
    })
}
