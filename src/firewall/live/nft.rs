//! nftables: what `nft -j list ruleset` and /sys/class/net say.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{Remark, openers};
use crate::config::{Config, Pass};

/// What the chains of other tables do to our doors. An accept of ours is the last word of our
/// own chain only.
pub fn chains(config: &Config, ruleset: &str) -> Vec<Remark> {
    let Ok(whole) = serde_json::from_str::<Value>(ruleset) else {
        return vec![Remark::top(
            "nft's listing was not understood",
            "look at nft list ruleset",
        )];
    };
    let objects = whole.get("nftables").and_then(Value::as_array);
    let objects: Vec<(&str, &Value)> = objects
        .into_iter()
        .flatten()
        .filter_map(|object| object.as_object()?.iter().next())
        .map(|(kind, what)| (kind.as_str(), what))
        .collect();
    let of = |what: &Value, key: &str| -> String {
        what.get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let mut remarks = Vec::new();
    for (_, chain) in objects.iter().filter(|(kind, _)| *kind == "chain") {
        let ours = of(chain, "table") == "postern" && of(chain, "family") == "inet";
        if ours || of(chain, "hook") != "input" || of(chain, "policy") != "drop" {
            continue;
        }
        let here = |rule: &Value| {
            ["family", "table"]
                .iter()
                .all(|key| of(rule, key) == of(chain, key))
                && of(rule, "chain") == of(chain, "name")
        };
        let rules = objects
            .iter()
            .filter(|(kind, what)| *kind == "rule" && here(what));
        let rules: Vec<String> = rules
            .filter_map(|(_, what)| what.get("expr"))
            .map(Value::to_string)
            .filter(|text| text.contains("accept") || text.contains("jump"))
            .collect();
        for (spot, _, opens) in openers(config) {
            if matches!(opens.pass, Pass::Table(_)) {
                continue;
            }
            for port in &opens.ports {
                let number = port.number.to_string();
                let told = |rule: &String| {
                    let mut numbers = rule.split(|c: char| !c.is_ascii_digit());
                    numbers.any(|n| n == number) || rule.contains("jump")
                };
                if !rules.iter().any(told) {
                    let name = format!(
                        "{} {} {}",
                        of(chain, "family"),
                        of(chain, "table"),
                        of(chain, "name")
                    );
                    remarks.push(Remark::new(
                        spot.key("opens"),
                        format!(
                            "chain {name} drops what it does not accept, and no rule of it names \
                             {port}: those who knocked stay out too"
                        ),
                        format!(
                            "nft add rule {name} {} dport {} accept: our guard stands before it",
                            port.protocol, port.number
                        ),
                    ));
                }
            }
        }
    }
    remarks
}

/// Whether packets come in by the listened interfaces' own names. `net`: /sys/class/net.
pub fn interfaces(config: &Config, net: &Path) -> Vec<Remark> {
    let mut remarks = Vec::new();
    for name in config.interfaces.iter().filter(|name| *name != "any") {
        let device = net.join(name);
        if let Ok(master) = fs::read_link(device.join("master"))
            && let Some(master) = master.file_name().and_then(|name| name.to_str())
        {
            remarks.push(Remark::top(
                format!("{name} belongs to {master}: rules see {master} and not {name}"),
                format!("write interface = {master:?}"),
            ));
        }
        let entries = fs::read_dir(&device).into_iter().flatten().flatten();
        let mut above: Vec<String> = entries
            .filter_map(|entry| {
                entry
                    .file_name()
                    .to_str()?
                    .strip_prefix("upper_")
                    .map(str::to_owned)
            })
            .filter(|upper| !fs::exists(device.join("master")).unwrap_or(false) && upper != name)
            .collect();
        above.sort();
        for upper in above
            .iter()
            .filter(|upper| !config.interfaces.contains(upper))
        {
            remarks.push(Remark::top(
                format!("{upper} stands above {name}: what comes in by it passes the guards by"),
                format!("add {upper:?} to interface"),
            ));
        }
    }
    remarks
}
