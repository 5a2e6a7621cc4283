//! What our sets are like.

use super::layout::Layout;
use super::script::{Millis, Name, Script};
use super::table::Set;
use super::{ALWAYS_4, ALWAYS_6, COUNTS, RUNNING_4, RUNNING_6, SEEN, TABLE};

/// The most addresses whose connections one set counts, or whose traffic it keeps; these have
/// leases, of which no door has more.
const COUNTED: &str = "65536";

/// What a set of ours is like.
pub struct Kind {
    /// Its name.
    pub name: Name,
    types: &'static [&'static str],
    holds: Holds,
    comment: Script,
}

/// What a set of ours holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// Addresses, each with its end.
    Openings,
    /// The first addresses of IPv6 networks that are let in, each with its end.
    Networks6,
    /// The kernel's count of connections, by address.
    Counts,
    /// What the kernel itself puts in: who had traffic, each for so long.
    Seen,
    /// Running sessions.
    Sessions,
    /// Networks.
    Networks,
}

impl Kind {
    /// All sets that the doors want.
    pub fn all(layout: &Layout) -> Vec<Kind> {
        const ADDRESS_4: &[&str] = &["ipv4_addr"];
        const ADDRESS_6: &[&str] = &["ipv6_addr"];
        let mut kinds = Vec::new();
        let mut add = |name: &Name, types, holds, comment: &Script| {
            kinds.push(Kind {
                name: name.clone(),
                types,
                holds,
                comment: comment.clone(),
            });
        };
        for (_, gate) in layout.gates() {
            let comment = Script::of(&[&"postern: let in at ", &gate.name]);
            add(&gate.set_4, ADDRESS_4, Holds::Openings, &comment);
            add(&gate.set_6, ADDRESS_6, Holds::Openings, &comment);
            if let Some(set) = &gate.set_net {
                // An element is the first address of a network of this length and no other.
                let length = u64::from(gate.prefix6);
                let comment = Script::of(&[&comment, &", networks of /", &length]);
                add(set, ADDRESS_6, Holds::Networks6, &comment);
            }
            if let Some(seen) = &gate.seen {
                // An element is known to be kept for as long as when it was made: where that
                // changes, the set is made anew.
                let idle = Millis::from(seen.idle);
                let comment = Script::of(&[&SEEN, &" at ", &gate.name, &" for ", &idle]);
                add(&seen.set_4, ADDRESS_4, Holds::Seen, &comment);
                add(&seen.set_6, ADDRESS_6, Holds::Seen, &comment);
            }
            if let Some(count) = &gate.count {
                // An element keeps the limit that it was made with: where that changes, the
                // comment does, and the set is made anew.
                let most = u64::from(count.most);
                let comment = Script::of(&[&COUNTS, &" at ", &gate.name, &", at most ", &most]);
                add(&count.set_4, ADDRESS_4, Holds::Counts, &comment);
                add(&count.set_6, ADDRESS_6, Holds::Counts, &comment);
            }
        }
        let mut add = |name: &'static str, types, holds, comment| {
            if let Some(name) = Name::new(name) {
                add(&name, types, holds, &Script::of(&[&comment]));
            }
        };
        for (name, types) in [
            (
                RUNNING_4,
                &["ipv4_addr", "inet_service", "ipv4_addr", "inet_service"],
            ),
            (
                RUNNING_6,
                &["ipv6_addr", "inet_service", "ipv6_addr", "inet_service"],
            ),
        ] {
            add(name, types, Holds::Sessions, "postern: running sessions");
        }
        for (name, types, there) in [
            (
                ALWAYS_4,
                ADDRESS_4,
                layout.always.iter().any(|n| n.address().is_ipv4()),
            ),
            (
                ALWAYS_6,
                ADDRESS_6,
                layout.always.iter().any(|n| n.address().is_ipv6()),
            ),
        ] {
            if there {
                add(name, types, Holds::Networks, "postern: always let in");
            }
        }
        kinds
    }

    /// Whether the set is of this kind.
    pub fn is(&self, set: &Set) -> bool {
        let flags: Vec<&str> = set.flags.iter().map(String::as_str).collect();
        set.types == self.types
            && match self.holds {
                Holds::Openings => flags == ["timeout"],
                Holds::Networks6 => flags == ["timeout"] && set.comment == self.comment.as_str(),
                Holds::Seen => {
                    let ours = |flag: &&str| ["timeout", "dynamic"].contains(flag);
                    flags.contains(&"timeout")
                        && flags.iter().all(ours)
                        && set.comment == self.comment.as_str()
                }
                // nft 1.0.6 does not tell of this flag in JSON.
                Holds::Counts => {
                    (flags.is_empty() || flags == ["dynamic"])
                        && set.comment == self.comment.as_str()
                }
                Holds::Sessions => flags.is_empty(),
                Holds::Networks => flags == ["interval"],
            }
    }

    /// Makes one.
    pub fn add(&self, script: &mut Script) {
        let mut types = Script::default();
        for (place, kind) in self.types.iter().enumerate() {
            types.put(&[if place == 0 { &"" } else { &" . " }, kind]);
        }
        let more = match self.holds {
            Holds::Openings | Holds::Networks6 => Script::of(&[&" flags timeout;"]),
            Holds::Seen => Script::of(&[&" size ", &COUNTED, &"; flags dynamic,timeout;"]),
            Holds::Counts => Script::of(&[&" size ", &COUNTED, &"; flags dynamic;"]),
            Holds::Sessions => Script::default(),
            Holds::Networks => Script::of(&[&" flags interval;"]),
        };
        script.line(&[
            &"add set inet ",
            &TABLE,
            &" ",
            &self.name,
            &" { type ",
            &types,
            &";",
            &more,
            &" comment \"",
            &self.comment,
            &"\"; }",
        ]);
    }
}
