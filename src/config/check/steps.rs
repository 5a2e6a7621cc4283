//! What is unwise in a sequence by itself.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Port, Protocol, services};
use super::{Check, Fixed};

/// Sequences that knockd's documentation and samples give, by their ports in ascending order.
const TEXTBOOK: [[u16; 3]; 2] = [[7000, 8000, 9000], [2222, 3333, 4444]];

/// The fewest steps that are hard enough to guess.
const ENOUGH: usize = 4;

/// Where the ports begin that systems take for outgoing traffic of their own accord. Linux:
/// 32768 to 60999 (ip-sysctl, ip_local_port_range). FreeBSD: 10000 to 65535 (ip(4),
/// net.inet.ip.portrange.first): there only UDP matters, since what TCP answers is no request
/// for a connection.
const EPHEMERAL_TCP: u16 = 32768;
const EPHEMERAL_UDP: u16 = 10000;

/// Ports below this are privileged.
const PRIVILEGED: u16 = 1024;

const GENERATE: &str = "write four or more, as posternctl keygen --sequence makes them";

/// What is wrong with a sequence that [`is_the_textbooks`], and what would be right. A
/// postern.toml with it is refused, a knockd.conf is warned of.
pub(crate) const KNOWN: &str =
    "the sequence is in every manual of knockd: whoever has read one tries it";
pub(crate) const ANOTHER: &str = "posternctl keygen --sequence makes another";

pub(crate) fn in_a_textbook(port: u16) -> bool {
    TEXTBOOK.iter().flatten().any(|&known| known == port)
}

/// Whether these are a textbook's ports and no others, in any order, TCP or UDP.
pub(crate) fn is_the_textbooks(steps: &[Port]) -> bool {
    let mut sorted: Vec<u16> = steps.iter().map(|step| step.number).collect();
    sorted.sort_unstable();
    TEXTBOOK.iter().any(|known| known[..] == sorted[..])
}

impl<'c> Check<'c> {
    /// `opened`: ports that doors open, and a door that does.
    pub(super) fn steps(
        &mut self,
        fixed: &Fixed<'c>,
        live: &BTreeSet<Port>,
        opened: &BTreeMap<Port, &'c str>,
    ) {
        if is_the_textbooks(fixed.steps) {
            self.warn(fixed.spot(), KNOWN, ANOTHER);
            return;
        }
        if let [only] = fixed.steps {
            let what = format!("whatever touches {only} opens the door, any port scan does");
            self.warn(fixed.spot(), what, GENERATE);
        } else if fixed.steps.len() < ENOUGH {
            let what = format!("{} steps are not much to guess", fixed.steps.len());
            self.warn(fixed.spot(), what, GENERATE);
        }
        if is_a_sweep(fixed.steps) {
            self.warn(
                fixed.spot(),
                "each step is the port next to the last: a port sweep opens the door",
                "leave gaps for traps, as posternctl keygen --sequence does",
            );
        } else if let Some(direction) = direction(fixed.steps) {
            let what = format!(
                "the steps {direction} from first to last: only traps tell a port sweep from them"
            );
            self.warn(fixed.spot(), what, "mix their order");
        }
        for (at, &step) in fixed.steps.iter().enumerate() {
            let before = at.checked_sub(1).map(|before| fixed.steps[before]);
            let found = if before == Some(step) {
                let what = format!(
                    "{step} follows itself: a packet that the network sends again is the next step"
                );
                Some((what, "choose another port".to_owned()))
            } else {
                step_alone(step, live, opened)
            };
            if let Some((what, better)) = found {
                self.warn(fixed.spot().item(at), what, better);
            }
        }
    }
}

/// Whether every step is the port just above, or every one just below, the one before it: then
/// no trap fits between them.
pub(crate) fn is_a_sweep(steps: &[Port]) -> bool {
    let every = |by: i32| {
        steps.windows(2).all(|pair| {
            pair[0].protocol == pair[1].protocol
                && i32::from(pair[1].number) - i32::from(pair[0].number) == by
        })
    };
    steps.len() > 1 && (every(1) || every(-1))
}

/// Which way the steps go if all go the same way. Steps of both protocols are in no one sweep.
fn direction(steps: &[Port]) -> Option<&'static str> {
    let one_protocol = steps
        .windows(2)
        .all(|pair| pair[0].protocol == pair[1].protocol);
    let every = |goes: fn(&Port, &Port) -> bool| {
        steps.len() > 1 && steps.windows(2).all(|pair| goes(&pair[0], &pair[1]))
    };
    if !one_protocol {
        None
    } else if every(Port::lt) {
        Some("rise")
    } else if every(Port::gt) {
        Some("fall")
    } else {
        None
    }
}

/// The gravest that is unwise in a step, and what would be better.
fn step_alone(
    step: Port,
    live: &BTreeSet<Port>,
    opened: &BTreeMap<Port, &str>,
) -> Option<(String, String)> {
    let ephemeral = match step.protocol {
        Protocol::Tcp => EPHEMERAL_TCP,
        Protocol::Udp => EPHEMERAL_UDP,
    };
    let other = "choose another port".to_owned();
    let between = format!("choose a port from {PRIVILEGED} to {}", ephemeral - 1);
    if live.contains(&step) {
        let what =
            format!("a service of this machine listens on {step}: its visitors take the step");
        Some((what, other))
    } else if let Some(door) = opened.get(&step) {
        let what = format!("{step} is what door {door} opens: its visitors take the step");
        Some((what, other))
    } else if let Some(service) = services::at(step.number) {
        Some((format!("scanners look for {service} at {step}"), other))
    } else if step.number < PRIVILEGED {
        let what = format!("{step} is a privileged port: scanners try all of those");
        Some((what, between))
    } else if step.number >= ephemeral {
        let what = match step.protocol {
            Protocol::Tcp => format!(
                "{step} lies where systems put outgoing connections ({EPHEMERAL_TCP} and up)"
            ),
            Protocol::Udp => format!(
                "{step} lies where answers to our own UDP arrive ({EPHEMERAL_UDP} and up on FreeBSD)"
            ),
        };
        Some((what, between))
    } else {
        None
    }
}
