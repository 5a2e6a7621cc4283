//! What stands in our table, as `nft -j -a list table` tells it (libnftables-json(5)).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::Value;

use crate::config::Network;

use super::super::sessions::Session;
use super::{CHAIN, COUNTS, KERNEL, MARK, SEEN};

/// The table.
#[derive(Debug, Default)]
pub struct Table {
    /// Whether the table carries flags; ours has none, and a dormant one does nothing.
    pub flagged: bool,
    /// The chain of our name, if there is one.
    pub chain: Option<Chain>,
    /// Our rules in it, in their order.
    pub rules: Vec<Rule>,
    /// All sets by their names.
    pub sets: BTreeMap<String, Set>,
    /// What does not carry our mark, in words.
    pub strangers: Vec<String>,
    /// The rules among those as text, to look for names in.
    pub foreign_rules: String,
    /// Whether one of those rules is in the chain of our name.
    pub foreign_in_chain: bool,
    /// Whether rules stand here that let in without us, as `posternctl render nft --fallback`
    /// writes them. They are no strangers.
    pub kernel: bool,
}

/// A chain.
#[derive(Debug, PartialEq, Eq)]
pub struct Chain {
    /// Whether type, hook and priority are ours.
    pub hooked: bool,
    /// Whether what no rule decides is let through.
    pub accepts: bool,
}

/// A rule of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What the kernel numbers it by.
    pub handle: u64,
    /// Its comment, which begins with our mark.
    pub comment: String,
    /// What it does, in an order that does not depend on the kernel's hashing.
    pub does: Value,
}

/// A set.
#[derive(Debug, Default)]
pub struct Set {
    /// Whether it carries our mark.
    pub ours: bool,
    /// Its comment.
    pub comment: String,
    /// The type, or the types that it joins.
    pub types: Vec<String>,
    /// Its flags.
    pub flags: Vec<String>,
    /// The elements with our mark.
    pub elements: BTreeMap<Key, Element>,
    /// The elements without.
    pub foreign: Vec<Key>,
    /// Those that rules put in which let in without us: the kernel gives an element no mark, but
    /// these have an end.
    pub kernels: Vec<Key>,
    /// In a set that keeps who had traffic: how long ago the last was, in whole seconds.
    pub seen: BTreeMap<IpAddr, Duration>,
    /// How many elements stand there that no element of ours could be like.
    pub odd: usize,
}

/// What an element of one of our sets says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// An address.
    Address(IpAddr),
    /// A network.
    Network(Network),
    /// A running session.
    Session(Session),
}

/// An element of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    /// The whole seconds until its end, rounded down; `None`: it has no end.
    pub expires: Option<u64>,
}

impl Table {
    /// Reads what nft printed; `None` if that is not what it should be.
    pub fn parse(text: &[u8]) -> Option<Table> {
        let whole: Value = serde_json::from_slice(text).ok()?;
        let objects = whole.get("nftables")?.as_array()?;
        let mut chains = objects.iter().filter_map(|object| object.get("chain"));
        let mut table = Table {
            kernel: chains.any(|chain| is_kernels(text_of(chain, "name"))),
            ..Table::default()
        };
        for object in objects {
            let (kind, what) = object.as_object()?.iter().next()?;
            match kind.as_str() {
                "metainfo" => {}
                "table" => table.flagged = what.get("flags").is_some(),
                "chain" if text_of(what, "name") == CHAIN => {
                    table.chain = Some(Chain {
                        hooked: text_of(what, "type") == "filter"
                            && text_of(what, "hook") == "input"
                            && what.get("prio").and_then(Value::as_i64) == Some(super::PRIORITY),
                        accepts: text_of(what, "policy") == "accept",
                    });
                }
                "rule" => table.rule(what)?,
                "chain" if is_kernels(text_of(what, "name")) => {}
                "set" => table.set(what)?,
                other => {
                    let name = text_of(what, "name");
                    table.strangers.push(format!("{other} {}", quoted(name)));
                }
            }
        }
        Some(table)
    }

    fn rule(&mut self, what: &Value) -> Option<()> {
        let handle = what.get("handle")?.as_u64()?;
        let chain = text_of(what, "chain");
        let comment = text_of(what, "comment");
        let mut does = what.get("expr")?.clone();
        if chain == CHAIN && comment.starts_with(MARK) {
            in_order(&mut does);
            self.rules.push(Rule {
                handle,
                comment: comment.to_owned(),
                does,
            });
        } else {
            self.foreign_in_chain |= chain == CHAIN;
            self.foreign_rules.push_str(&does.to_string());
            if is_kernels(chain) {
                return Some(());
            }
            self.strangers.push(format!(
                "rule with handle {handle} in chain {}",
                quoted(chain)
            ));
        }
        Some(())
    }

    fn set(&mut self, what: &Value) -> Option<()> {
        let name = text_of(what, "name");
        let comment = text_of(what, "comment");
        let mut set = Set {
            ours: comment.starts_with(MARK),
            comment: comment.to_owned(),
            types: texts(what.get("type")),
            flags: texts(what.get("flags")),
            ..Set::default()
        };
        let elements = what.get("elem").and_then(Value::as_array);
        let elements = || elements.into_iter().flatten();
        // What the kernel itself puts in.
        let kernels = [COUNTS, SEEN].iter().any(|what| comment.starts_with(what));
        if comment.starts_with(SEEN) {
            set.seen = elements().filter_map(seen).collect();
        }
        for element in elements().filter(|_| !kernels) {
            let inner = element.get("elem");
            let key = inner
                .map_or(Some(element), |inner| inner.get("val"))
                .and_then(key);
            let ours = inner.is_some_and(|inner| text_of(inner, "comment").starts_with(MARK));
            match key {
                Some(key) if ours => {
                    let expires = inner.and_then(|inner| inner.get("expires"));
                    let expires = expires.and_then(Value::as_u64);
                    set.elements.insert(key, Element { expires });
                }
                Some(key) if self.kernel && inner.is_some_and(ends_unmarked) => {
                    set.kernels.push(key);
                }
                Some(key) => set.foreign.push(key),
                None => set.odd += 1,
            }
        }
        match set.foreign.len() + set.odd {
            _ if is_kernels(name) => {}
            _ if !set.ours => self.strangers.push(format!("set {}", quoted(name))),
            0 => {}
            1 => self
                .strangers
                .push(format!("an element of set {}", quoted(name))),
            many => self
                .strangers
                .push(format!("{many} elements of set {}", quoted(name))),
        }
        self.sets.insert(name.to_owned(), set);
        Some(())
    }

    /// Whether a rule that is not ours names this set.
    pub fn foreign_rule_names(&self, set: &str) -> bool {
        self.foreign_rules.contains(&format!("\"@{set}\""))
    }
}

impl Set {
    /// Whether there is an element in it that is not ours.
    pub fn has_foreign(&self) -> bool {
        !self.foreign.is_empty() || self.odd > 0
    }
}

fn text_of<'a>(what: &'a Value, key: &str) -> &'a str {
    what.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Whether a chain or a set is of the rules that let in without us: no door's name has a dot.
fn is_kernels(name: &str) -> bool {
    let rest = name.strip_prefix(KERNEL);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// An element that has an end and no comment.
fn ends_unmarked(element: &Value) -> bool {
    element.get("expires").is_some() && element.get("comment").is_none()
}

/// nft prints a list of one as a list or as the thing itself, according to its age.
fn texts(what: Option<&Value>) -> Vec<String> {
    match what {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(many)) => many
            .iter()
            .map(|v| v.as_str().unwrap_or_default().to_owned())
            .collect(),
        _ => Vec::new(),
    }
}

/// An element that the kernel keeps for so long behind the last packet. The seconds left are
/// rounded down: the packet may be a second younger, and is taken for so.
fn seen(element: &Value) -> Option<(IpAddr, Duration)> {
    let element = element.get("elem")?;
    let seconds = |key| element.get(key).and_then(Value::as_u64);
    let ago = seconds("timeout")?.saturating_sub(seconds("expires")? + 1);
    Some((address(element.get("val")?)?, Duration::from_secs(ago)))
}

fn key(value: &Value) -> Option<Key> {
    if let Some(address) = address(value) {
        return Some(Key::Address(address));
    }
    if let Some(prefix) = value.get("prefix") {
        let length = prefix.get("len")?.as_u64()?;
        let network = format!("{}/{length}", prefix.get("addr")?.as_str()?);
        return network.parse().ok().map(Key::Network);
    }
    let [remote, from, local, to] = value.get("concat")?.as_array()?.as_slice() else {
        return None;
    };
    Some(Key::Session(Session {
        local: SocketAddr::new(address(local)?, port(to)?),
        remote: SocketAddr::new(address(remote)?, port(from)?),
    }))
}

fn address(value: &Value) -> Option<IpAddr> {
    value.as_str()?.parse().ok()
}

fn port(value: &Value) -> Option<u16> {
    u16::try_from(value.as_u64()?).ok()
}

/// Anonymous sets come in the order of the kernel's hashing: another one each time.
fn in_order(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(in_order),
        Value::Object(map) => {
            map.values_mut().for_each(in_order);
            if let Some(Value::Array(items)) = map.get_mut("set") {
                items.sort_by_cached_key(Value::to_string);
            }
        }
        _ => {}
    }
}

/// A name that somebody else chose, fit for a log line.
fn quoted(name: &str) -> String {
    let name: String = name.chars().take(64).collect();
    format!("{name:?}")
}

#[cfg(test)]
mod tests;
