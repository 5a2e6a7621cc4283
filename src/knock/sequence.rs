//! All sequences, compiled: what a port means to whom.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use super::table::LONGEST_MS;
use super::{MAX_ALIKE, MAX_STEPS, Watch, traps};
use crate::config::{Port, Protocol, TcpFlags};

/// Ports of both protocols, numbered: TCP first, then UDP.
pub(super) const KEYS: u32 = 2 << 16;

/// A port's number among both protocols.
pub(super) fn key(port: Port) -> u32 {
    let number = u32::from(port.number);
    match port.protocol {
        Protocol::Tcp => number,
        Protocol::Udp => number | 1 << 16,
    }
}

/// The port of a number.
pub(super) fn port(key: u32) -> Port {
    Port {
        protocol: if key >> 16 == 0 {
            Protocol::Tcp
        } else {
            Protocol::Udp
        },
        number: key as u16,
    }
}

/// A packet as far as sequences look at it.
#[derive(Clone, Copy)]
pub(super) struct Packet {
    pub(super) key: u32,
    /// Of a TCP segment.
    pub(super) flags: Option<u8>,
    pub(super) destination: IpAddr,
    /// The bit of the interface that it came in by.
    pub(super) at: u64,
    /// Whether the destination is an address of ours.
    pub(super) to_us: bool,
}

/// Sequences that share first step, flag condition, target, interfaces and timeout. A source has at most
/// one attempt at a family, which goes on at all its doors at once.
pub(super) struct Family {
    flags: TcpFlags,
    target: Option<IpAddr>,
    on: u64,
    /// Its timeout's place in [`Sequences::timeouts`].
    pub(super) queue: usize,
    members: Span,
}

impl Family {
    /// Whether the packet is one that the family listens to, whatever its port.
    pub(super) fn fits(&self, packet: &Packet) -> bool {
        self.on & packet.at != 0
            && packet.flags.is_none_or(|flags| self.flags.accept(flags))
            && match self.target {
                None => packet.to_us,
                Some(target) => packet.destination == target,
            }
    }
}

/// What a port is to a family that it concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Member {
    Step,
    Trap,
}

/// A point in a family's trie of steps.
#[derive(Clone, Copy)]
pub(super) struct Node {
    pub(super) family: u32,
    /// 0 for a root.
    pub(super) parent: u32,
    /// The step that led here.
    pub(super) key: u32,
    /// How many steps led here.
    pub(super) stage: u8,
    children: Span,
    ends: Span,
    behind: Span,
}

/// A stretch of a vector that many share.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    from: u32,
    to: u32,
}

impl Span {
    fn of<T>(self, all: &[T]) -> &[T] {
        &all[self.from as usize..self.to as usize]
    }

    fn is_empty(self) -> bool {
        self.from == self.to
    }
}

/// Appends and tells where.
fn append<T>(all: &mut Vec<T>, more: impl IntoIterator<Item = T>) -> Span {
    let from = index(all.len());
    all.extend(more);
    Span {
        from,
        to: index(all.len()),
    }
}

fn index(n: usize) -> u32 {
    u32::try_from(n).expect("a configuration of less than 2^32 steps")
}

/// The families that begin with a port, by target.
#[derive(Clone, Copy, Debug, Default)]
struct Begins {
    anywhere: Span,
    targeted: Span,
}

pub(super) struct Sequences {
    pub(super) watches: Vec<Watch>,
    /// By place in `watches`: whether it is listened to.
    pub(super) watched: Vec<bool>,
    /// Family n's root is node n + 1.
    pub(super) families: Vec<Family>,
    /// Different timeouts in milliseconds, the longest first.
    pub(super) timeouts: Vec<u32>,
    nodes: Vec<Node>,
    /// Port and node, sorted within each span.
    children: Vec<(u32, u32)>,
    /// Places in `watches`.
    lists: Vec<u32>,
    /// Port << 1 | whether it is a trap, sorted within each span.
    members: Vec<u32>,
    /// By port: 0, or the place in `begins` + 1 if it concerns any family.
    places: Vec<u32>,
    begins: Vec<Begins>,
    begin_families: Vec<u32>,
    begin_targets: Vec<(IpAddr, Span)>,
    pub(super) ports: Vec<Port>,
    /// The most families that one packet can begin.
    pub(super) most_begun: usize,
}

/// What makes sequences a family: first step, flag condition (mask, value), target, timeout,
/// interfaces.
type Kind = (u32, (u8, u8), Option<IpAddr>, u32, u64);

fn kind(watch: &Watch) -> Option<Kind> {
    let first = key(*watch.steps.first()?);
    if watch.steps.len() > MAX_STEPS {
        return None;
    }
    let flags = if watch.steps.iter().any(|s| s.protocol == Protocol::Tcp) {
        (watch.flags.mask, watch.flags.value)
    } else {
        (0, 0)
    };
    let ms = watch.timeout.as_nanos().div_ceil(1_000_000);
    let ms = u32::try_from(ms).unwrap_or(LONGEST_MS).min(LONGEST_MS);
    Some((first, flags, watch.target, ms, watch.on))
}

impl Sequences {
    pub(super) fn new(watches: Vec<Watch>, avoid: &[Port]) -> Sequences {
        let (kinds, family_of) = families(&watches);
        let mut timeouts: Vec<u32> = kinds.iter().map(|k| k.3).collect();
        timeouts.sort_unstable_by(|a, b| b.cmp(a));
        timeouts.dedup();
        let families = kinds
            .iter()
            .map(|&(_, (mask, value), target, ms, on)| Family {
                flags: TcpFlags { mask, value },
                target,
                on,
                queue: timeouts.partition_point(|&t| t > ms),
                members: Span::default(),
            })
            .collect();
        let mut all = Sequences {
            watched: family_of.iter().map(Option::is_some).collect(),
            watches,
            families,
            timeouts,
            nodes: Vec::new(),
            children: Vec::new(),
            lists: Vec::new(),
            members: Vec::new(),
            places: vec![0; KEYS as usize],
            begins: Vec::new(),
            begin_families: Vec::new(),
            begin_targets: Vec::new(),
            ports: Vec::new(),
            most_begun: 0,
        };
        all.grow(&kinds, &family_of);
        let traps = traps::place(&all, avoid);
        all.learn_members(&traps);
        all.learn_ports(&kinds);
        all
    }

    /// Makes the tries.
    fn grow(&mut self, kinds: &[Kind], family_of: &[Option<u32>]) {
        let blank = Node {
            family: 0,
            parent: 0,
            key: 0,
            stage: 0,
            children: Span::default(),
            ends: Span::default(),
            behind: Span::default(),
        };
        self.nodes.push(blank);
        for (family, kind) in kinds.iter().enumerate() {
            self.nodes.push(Node {
                family: index(family),
                key: kind.0,
                stage: 1,
                ..blank
            });
        }
        let mut edges: HashMap<(u32, u32), u32> = HashMap::new();
        let mut ends = vec![Vec::new(); self.nodes.len()];
        let mut behind = ends.clone();
        for (place, family) in family_of.iter().enumerate() {
            let Some(family) = *family else { continue };
            let mut at = family + 1;
            for step in &self.watches[place].steps[1..] {
                behind[at as usize].push(index(place));
                let next = index(self.nodes.len());
                let step = key(*step);
                let child = *edges.entry((at, step)).or_insert(next);
                if child == next {
                    self.nodes.push(Node {
                        family,
                        parent: at,
                        key: step,
                        stage: self.nodes[at as usize].stage + 1,
                        ..blank
                    });
                    ends.push(Vec::new());
                    behind.push(Vec::new());
                }
                at = child;
            }
            ends[at as usize].push(index(place));
        }
        let mut edges: Vec<(u32, u32, u32)> = edges
            .into_iter()
            .map(|((at, step), to)| (at, step, to))
            .collect();
        edges.sort_unstable();
        for siblings in edges.chunk_by(|a, b| a.0 == b.0) {
            self.nodes[siblings[0].0 as usize].children =
                append(&mut self.children, siblings.iter().map(|e| (e.1, e.2)));
        }
        for (node, (ends, behind)) in self.nodes.iter_mut().zip(ends.into_iter().zip(behind)) {
            node.ends = append(&mut self.lists, ends);
            node.behind = append(&mut self.lists, behind);
        }
    }

    /// Makes each family's set of ports.
    fn learn_members(&mut self, traps: &[BTreeSet<u32>]) {
        let mut sets: Vec<BTreeSet<u32>> = traps
            .iter()
            .map(|t| t.iter().map(|key| key << 1 | 1).collect())
            .collect();
        for node in &self.nodes[1..] {
            sets[node.family as usize].insert(node.key << 1);
        }
        for (family, set) in self.families.iter_mut().zip(sets) {
            family.members = append(&mut self.members, set);
        }
    }

    /// Makes the direct table of ports.
    fn learn_ports(&mut self, kinds: &[Kind]) {
        let ports: BTreeSet<u32> = self.members.iter().map(|m| m >> 1).collect();
        // Families by first step, those for any address of ours first, then by target.
        let mut firsts: Vec<(u32, Option<IpAddr>, u32)> = kinds
            .iter()
            .enumerate()
            .map(|(family, kind)| (kind.0, kind.2, index(family)))
            .collect();
        firsts.sort_unstable();
        let mut firsts = firsts.chunk_by(|a, b| a.0 == b.0).peekable();
        for key in ports {
            let mut begins = Begins::default();
            if let Some(here) = firsts.next_if(|group| group[0].0 == key) {
                let from = index(self.begin_targets.len());
                let mut most = [0, 0];
                for alike in here.chunk_by(|a, b| a.1 == b.1) {
                    let span = append(&mut self.begin_families, alike.iter().map(|f| f.2));
                    match alike[0].1 {
                        None => begins.anywhere = span,
                        Some(target) => self.begin_targets.push((target, span)),
                    }
                    let which = usize::from(alike[0].1.is_some());
                    most[which] = most[which].max(alike.len());
                }
                begins.targeted = Span {
                    from,
                    to: index(self.begin_targets.len()),
                };
                self.most_begun = self.most_begun.max(most[0] + most[1]);
            }
            self.begins.push(begins);
            self.places[key as usize] = index(self.begins.len());
            self.ports.push(port(key));
        }
    }

    /// Whether the port concerns any family.
    pub(super) fn concerns(&self, key: u32) -> bool {
        self.places[key as usize] != 0
    }

    /// The families that a packet can begin, flags apart: at most twice [`MAX_ALIKE`].
    pub(super) fn begun_by(&self, packet: &Packet) -> impl Iterator<Item = u32> {
        let begins = match self.places[packet.key as usize] {
            0 => Begins::default(),
            place => self.begins[place as usize - 1],
        };
        let anywhere = begins.anywhere.of(&self.begin_families);
        let targets = begins.targeted.of(&self.begin_targets);
        let targeted = match targets.binary_search_by_key(&packet.destination, |t| t.0) {
            Ok(found) => targets[found].1.of(&self.begin_families),
            Err(_) => &[],
        };
        anywhere.iter().chain(targeted).copied()
    }

    /// A node by its number, if there is such a node.
    pub(super) fn node(&self, node: u32) -> Option<&Node> {
        self.nodes.get(node as usize).filter(|_| node != 0)
    }

    /// The nodes of all tries.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes[1..].iter()
    }

    /// Where a step leads from a node.
    pub(super) fn child(&self, node: &Node, key: u32) -> Option<u32> {
        let children = node.children.of(&self.children);
        let found = children.binary_search_by_key(&key, |c| c.0).ok()?;
        Some(children[found].1)
    }

    /// Whether a step is among those that led to a node.
    pub(super) fn taken<'a>(&'a self, mut node: &'a Node, key: u32) -> bool {
        loop {
            if node.key == key {
                return true;
            }
            if node.parent == 0 {
                return false;
            }
            node = &self.nodes[node.parent as usize];
        }
    }

    /// Whether sequences end at a node.
    pub(super) fn is_end(&self, node: &Node) -> bool {
        !node.ends.is_empty()
    }

    /// Whether sequences go on behind a node.
    pub(super) fn goes_on(&self, node: &Node) -> bool {
        !node.behind.is_empty()
    }

    /// The sequences that end at a node, by place in `watches`.
    pub(super) fn ends(&self, node: &Node) -> &[u32] {
        node.ends.of(&self.lists)
    }

    /// The sequences that go on behind a node, by place in `watches`.
    pub(super) fn behind(&self, node: &Node) -> &[u32] {
        node.behind.of(&self.lists)
    }

    /// What a port is to a family.
    pub(super) fn member(&self, family: &Family, key: u32) -> Option<Member> {
        let members = family.members.of(&self.members);
        match members.get(members.partition_point(|m| m >> 1 < key)) {
            Some(m) if m >> 1 == key && m & 1 == 0 => Some(Member::Step),
            Some(m) if m >> 1 == key => Some(Member::Trap),
            _ => None,
        }
    }

    /// A family's ports, each with what it is.
    pub(super) fn members(&self, family: &Family) -> impl Iterator<Item = (u32, Member)> {
        family.members.of(&self.members).iter().map(|m| {
            let member = if m & 1 == 0 {
                Member::Step
            } else {
                Member::Trap
            };
            (m >> 1, member)
        })
    }

    /// See [`super::Knocks::ports_of`].
    pub(super) fn ports_of(&self, door: u16, knock: u16) -> Vec<Port> {
        let here = |&place: &u32| {
            let watch = &self.watches[place as usize];
            (watch.door, watch.knock) == (door, knock)
        };
        let ends = |node: &&Node| self.ends(node).iter().any(here);
        let families: BTreeSet<u32> = self.nodes().filter(ends).map(|n| n.family).collect();
        let keys: BTreeSet<u32> = families
            .iter()
            .flat_map(|&family| self.members(&self.families[family as usize]))
            .map(|(key, _)| key)
            .collect();
        keys.into_iter().map(port).collect()
    }

    /// See [`super::Knocks::common_flags`].
    pub(super) fn common_flags(&self) -> Option<TcpFlags> {
        let mut all = self.nodes().filter(|n| n.key >> 16 == 0).map(|n| {
            let family = &self.families[n.family as usize];
            family.flags
        });
        let first = all.next()?;
        all.all(|flags| flags == first).then_some(first)
    }
}

/// The families in configuration order, and which of them each watch is of.
fn families(watches: &[Watch]) -> (Vec<Kind>, Vec<Option<u32>>) {
    let mut kinds: Vec<Kind> = Vec::new();
    let mut known: HashMap<Kind, u32> = HashMap::new();
    let mut alike: HashMap<(u32, Option<IpAddr>), usize> = HashMap::new();
    let mut family_of = Vec::with_capacity(watches.len());
    for watch in watches {
        family_of.push(kind(watch).and_then(|kind| {
            if let Some(&family) = known.get(&kind) {
                return Some(family);
            }
            let alike = alike.entry((kind.0, kind.2)).or_default();
            if *alike == MAX_ALIKE {
                return None;
            }
            *alike += 1;
            let family = index(kinds.len());
            kinds.push(kind);
            known.insert(kind, family);
            Some(family)
        }));
    }
    (kinds, family_of)
}
