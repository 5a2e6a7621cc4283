//! Rules for pf: an anchor.
//!
//! pf looks at no packet's contents, keeps no order of ports and ends no entry of a table by
//! itself. What it can do is count the connections that an address makes to a port; whoever
//! makes more than so many within so many seconds becomes an entry of a table (pf.conf(5),
//! `max-src-conn-rate` and `overload`). Only connections whose handshake was completed count, so
//! pf completes it itself (`synproxy state`): nobody listens at a knock's port.

use super::plan::{How, Opening, Plan, Way, seconds};
use crate::config::{Protocol, To};

/// The anchor.
const ANCHOR: &str = "postern-kernel";

/// The whole file.
pub fn rules(plan: &Plan<'_>, fallback: bool) -> String {
    let mut text = head(plan, fallback);
    text.push('\n');
    for door in &plan.doors {
        text += &format!("table <door_{}> persist\n", door.name);
    }
    if !fallback && !plan.always.is_empty() {
        let networks: Vec<String> = plan.always.iter().map(ToString::to_string).collect();
        text += &format!("table <always> persist {{ {} }}\n", networks.join(", "));
    }
    let (mut knocks, mut passes, mut always, mut guards) = (vec![], vec![], vec![], vec![]);
    for door in &plan.doors {
        let name = door.name;
        let to = match door.opens.to {
            To::Me => "(self)".to_owned(),
            To::Any => "any".to_owned(),
            To::Network(network) => network.to_string(),
        };
        for on in on(door) {
            knocks.extend(door.ways.iter().filter_map(|way| knock(door, way, &on)));
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let flags = match protocol {
                    Protocol::Tcp => " flags S/SA",
                    Protocol::Udp => "",
                };
                let most = door
                    .opens
                    .connections
                    .map(|most| format!(" (source-track rule, max-src-states {most})"));
                let most = most.unwrap_or_default();
                for port in door.ports(protocol) {
                    passes.push(format!(
                        "pass in quick{on} proto {protocol} from <door_{name}> to {to} port {port}{flags} \
                         keep state{most} label \"{ANCHOR}: {name}\""
                    ));
                }
                for port in door.guarded(protocol).into_iter().filter(|_| !fallback) {
                    if !plan.always.is_empty() {
                        always.push(format!(
                            "pass in quick{on} proto {protocol} from <always> to {to} port {port}\
                             {flags} keep state label \"{ANCHOR}: always\""
                        ));
                    }
                    guards.push(format!(
                        "block drop in quick{on} proto {protocol} from any to {to} port {port} \
                         label \"{ANCHOR}: guard\""
                    ));
                }
            }
        }
    }
    always.dedup();
    guards.dedup();
    for line in [knocks, passes, always, guards].concat() {
        text += &line;
        text.push('\n');
    }
    text
}

fn head(plan: &Plan<'_>, fallback: bool) -> String {
    let mut lines = vec![String::new()];
    let mut say = |text: &str| lines.extend(text.lines().map(str::to_owned));
    if fallback {
        say(
            "For when posternd is dead: no guard stands here. In pf.conf, before\n\
             anchor \"postern\":",
        );
    } else {
        say("No posternd is needed. In pf.conf:");
    }
    say("    anchor \"postern-kernel\"\n\
         To load it, again too:\n\
         \x20   pfctl -a postern-kernel -f FILE\n\
         To take it away:\n\
         \x20   pfctl -a postern-kernel -F all\n\
         \n\
         pf cannot do a knock as posternd does. What it does here: who makes two connections to\n\
         the knock's port within seq_timeout is let in. The port answers everybody, and a scan\n\
         that comes by twice gets in. Knock with the port given twice:");
    let ways = plan.doors.iter().flat_map(|door| &door.ways);
    for way in ways {
        if let How::Sequence { steps: [step], .. } = way.how {
            let port = step.number;
            say(&format!("    postern knock HOST {port} {port}"));
        }
    }
    say("\npf ends nothing that it has opened. In crontab(5), every minute:");
    for door in &plan.doors {
        let time = seconds(door.opens.open_for);
        let name = door.name;
        say(&format!(
            "    * * * * * root pfctl -q -a postern-kernel -t door_{name} -T expire {time}"
        ));
    }
    if plan.by_networks() {
        say("\nAddresses alone are let in here: prefix6 is posternd's.");
    }
    if plan.doors.iter().any(|door| door.idle.is_some()) {
        say("\nTraffic prolongs nothing here: idle is posternd's.");
    }
    plan.head(&lines)
}

/// Whoever makes more than one connection to the port becomes an entry of the door's table.
fn knock(door: &Opening<'_>, way: &Way<'_>, on: &str) -> Option<String> {
    let How::Sequence {
        steps: [step],
        timeout,
        ..
    } = way.how
    else {
        return None;
    };
    let to = way
        .target
        .map_or("(self)".to_owned(), |target| target.to_string());
    let (name, port, time) = (door.name, step.number, seconds(timeout));
    Some(format!(
        "pass in quick{on} proto tcp from any to {to} port {port} flags S/SA synproxy state \
         (source-track rule, max-src-conn-rate 1/{time}, overload <door_{name}>) \
         label \"{ANCHOR}: knock {name}\""
    ))
}

/// The interfaces that a door is at.
fn on(door: &Opening<'_>) -> Vec<String> {
    match door.on {
        [] => vec![" on ! lo0".to_owned()],
        names => names.iter().map(|name| format!(" on {name}")).collect(),
    }
}
